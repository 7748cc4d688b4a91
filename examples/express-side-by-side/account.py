"""The FastAPI side: your account. It reads and changes the sessions of the Express side (app.mjs), where they are.

REDIS_URL=redis://… SESSION_SECRET=… uvicorn --app-dir examples/express-side-by-side account:app
"""

import json
import os
import secrets
from hmac import compare_digest
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Form, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.templating import Jinja2Templates

from coatcheck.dialects.express import AsyncExpressSession, CookieOptions, express_sessions, get_session

HERE = Path(__file__).parent
PRODUCTS = json.loads((HERE / "shop.json").read_text())
NAMES = {user["id"]: user["name"] for user in json.loads((HERE / "users.json").read_text())}

# ------------------------------------------------------------------------------------------------------- the sessions

sessions = express_sessions(
    store=os.environ["REDIS_URL"],
    secret=os.environ["SESSION_SECRET"],
    cookie=CookieOptions(max_age=24 * 60 * 60 * 1000, same_site="lax", secure="auto"),
    proxy="127.0.0.1",  # nginx
)


def session_of(request: Request) -> AsyncExpressSession:
    session: AsyncExpressSession = get_session(request)
    return session


Session = Annotated[AsyncExpressSession, Depends(session_of)]


def csrf_token(session: AsyncExpressSession) -> str:
    """What csrf.mjs keeps: a form is good on either side."""
    token: str = session.setdefault("csrfToken", secrets.token_urlsafe(32))
    return token


async def own_forms_only(request: Request, session: Session) -> None:
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    sent, kept = (await request.form()).get("csrf_token"), session.get("csrfToken")
    if not (isinstance(sent, str) and isinstance(kept, str) and compare_digest(sent.encode(), kept.encode())):
        raise HTTPException(
            403, "This form was not ours, or it is an old one. Load the page again, and repeat."
        )


# ---------------------------------------------------------------------------------------------------------- the pages

templates = Jinja2Templates(
    env=Environment(loader=FileSystemLoader(HERE / "views"), autoescape=True, undefined=StrictUndefined)
)
account = APIRouter(prefix="/account", dependencies=[Depends(own_forms_only)])


def go_on(where: str) -> RedirectResponse:
    """coatcheck stores the session before this leaves: the next page, of either side, has it."""
    return RedirectResponse(where, 303)


@account.get("/")
async def show(request: Request, session: Session) -> Response:
    told = [{"kind": kind, "text": text} for kind, text in session.flashes()]
    csrf, cart = csrf_token(session), session.get("cart", {})
    rows = [one | {"quantity": cart[one["id"]]} for one in PRODUCTS if one["id"] in cart]
    values = {
        "told": told,
        "csrf": csrf,
        "user": NAMES.get(session.user_id),
        "user_id": session.user_id,
        "rows": rows,
        "total": sum(row["price"] * row["quantity"] for row in rows),
        "held": json.dumps({**session, "csrfToken": "…"}, indent=2, ensure_ascii=False),
    }
    return _page(request, "account.html", values)


@account.post("/cart")
async def change_cart(
    session: Session, product: Annotated[str, Form()], quantity: Annotated[int, Form(ge=0, le=99)]
) -> RedirectResponse:
    found = next((one for one in PRODUCTS if one["id"] == product), None)
    if found is None:
        raise HTTPException(400, "There is no such thing in the shop.")
    cart = {**session.get("cart", {}), product: quantity}
    session["cart"] = {key: count for key, count in cart.items() if count}
    session.flash(f"{found['name']}: {quantity} in the cart. FastAPI did that.", "info")
    return go_on("/account/")


@account.post("/order")
async def order(session: Session) -> RedirectResponse:
    if session.user_id is None:
        session.flash("To order, log in. FastAPI sent you here, and left this message.", "info")
        return go_on("/login")
    session.pop("cart", None)
    session.flash("Ordered. FastAPI took the order, and left this message.", "info")
    return go_on("/")


@account.post("/logout")
async def logout(session: Session) -> RedirectResponse:
    await session.logout()
    session.flash("You are logged out. FastAPI did that, and left this message.", "info")
    return go_on("/")


async def notice(request: Request, error: Exception) -> Response:
    status, message = 400, "This form was filled in wrongly."
    if isinstance(error, StarletteHTTPException):
        status = error.status_code
        message = "There is no such page." if status == 404 else error.detail
    values: dict[str, Any] = {"told": [], "csrf": "", "user": None, "held": "", "message": message}
    return _page(request, "notice.html", values, status)


def _page(request: Request, template: str, values: dict[str, Any], status: int = 200) -> Response:
    values |= {"side": "FastAPI", "base": "/account", "here": request.url.path}
    return templates.TemplateResponse(
        request, template, values, status_code=status, headers={"Cache-Control": "no-store"}
    )


app = FastAPI(
    openapi_url=None, exception_handlers={StarletteHTTPException: notice, RequestValidationError: notice}
)
app.include_router(account)
app.mount("/account/static", StaticFiles(directory=HERE / "static"))
app.add_middleware(sessions.asgi)
