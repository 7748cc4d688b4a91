"""A cart that can be edited in two tabs at once.

The quantities are a plain dict inside the session, changed by plain assignment. When two requests overlap, coatcheck merges
what each of them changed; nothing here knows about it, except to tell the visitor.
"""

import asyncio
from typing import Any, NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from coatcheck import AsyncSession, SessionGone
from coatcheck.starlette import get_session
from demo.web import render, see_other, wants_html

__all__ = ["change", "show"]

SLOW = 4.0
"""Seconds that a "slow" request takes: time enough to press a button in another tab."""
MOST = 99


class Item(NamedTuple):
    """Something in the shop; its price is in euros."""

    name: str
    price: int


SHOP = {
    "coat": Item("Wool coat", 189),
    "hat": Item("Felt hat", 64),
    "scarf": Item("Silk scarf", 42),
    "gloves": Item("Leather gloves", 58),
    "umbrella": Item("Umbrella", 35),
}


async def show(request: Request) -> Response:
    """The shop and what is in the cart."""
    session = await get_session(request)
    cart = session.get("cart", {})
    total = sum(SHOP[sku].price * quantity for sku, quantity in cart.items())
    if not wants_html(request):
        return JSONResponse({"cart": cart, "total": total}, headers={"Vary": "Accept"})
    return render(
        request,
        session,
        "cart.html",
        shop=SHOP,
        cart=cart,
        total=total,
        most=MOST,
        seconds=int(SLOW),
    )


async def change(request: Request) -> Response:
    """Set one quantity, at once or slowly."""
    session = await get_session(request)
    sku, quantity, slow = _order(await request.form(max_files=0, max_fields=20))
    before = dict(session.get("cart", {}))

    session.setdefault("cart", {})[sku] = quantity
    if slow:
        await asyncio.sleep(SLOW)  # meanwhile, change something else in the other tab
    try:
        await session.save()
    except SessionGone:  # signed out meanwhile: this change is dropped with the session
        return see_other("/cart")

    session.flash(f"{SHOP[sku].name}: {quantity} in the cart.", "success")
    for line in _others_changed(session, before, besides=sku):
        session.flash(line, "merged")
    return see_other("/cart")


def _order(form: Any) -> tuple[str, int, bool]:
    sku, quantity = str(form.get("sku", "")), str(form.get("quantity", ""))
    if sku not in SHOP or not (quantity.isascii() and quantity.isdigit() and int(quantity) <= MOST):
        raise HTTPException(400, f"Choose something from the shop, and a quantity from 0 to {MOST}.")
    return sku, int(quantity), form.get("pace") == "slow"


def _others_changed(session: AsyncSession[Any], before: dict[str, int], *, besides: str) -> list[str]:
    """What another request put into the same cart while this one was at work."""
    now = session["cart"]
    return [
        f"While this request was at work, another tab set {item.name} to {now.get(sku, 0)}. Both changes are kept."
        for sku, item in SHOP.items()
        if sku != besides and now.get(sku) != before.get(sku)
    ]
