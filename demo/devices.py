""" "Your devices": every session of a user, each of which they can end."""

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from coatcheck import AsyncSession, Device
from coatcheck.starlette import get_session
from demo.web import problem, render, see_other, wants_html

__all__ = ["end", "end_others", "named", "show"]


async def show(request: Request) -> Response:
    """The list, as a page or as JSON."""
    session = await get_session(request)
    if session.user_id is None:
        return see_other("/login?next=/devices") if wants_html(request) else problem(401, "Not signed in.")
    devices = await session.devices()
    if not wants_html(request):
        return JSONResponse({"devices": [_plain(device, session) for device in devices]}, headers=PRIVATE)
    page = render(
        request,
        session,
        "devices.html",
        devices=devices,
        current=session.handle,
        named=named,
    )
    page.headers["Cache-Control"] = "no-store"
    return page


async def end(request: Request) -> Response:
    """End one of the user's own sessions. The handle opens nothing, so it may travel in a form."""
    session = await get_session(request)
    form = await request.form(max_files=0, max_fields=20)
    if session.user_id is None:
        return see_other("/login?next=/devices")
    ended = await session.end_device(str(form.get("handle", "")))
    session.flash("That device is signed out." if ended else "That device was signed out already.", "success")
    return see_other("/devices")


async def end_others(request: Request) -> Response:
    """Log out everywhere else."""
    session = await get_session(request)
    if session.user_id is None:
        return see_other("/login?next=/devices")
    count = await session.end_others()
    noun = "other device is" if count == 1 else "other devices are"
    session.flash(f"{count or 'No'} {noun} signed out." if count else "There was no other device.", "success")
    return see_other("/devices")


def named(device: Device) -> str:
    """What people call this browser: "Firefox on Linux". A script's own name otherwise."""
    script = re.match(r"[\w.-]{1,30}", device.user_agent)
    return device.browser or (script[0] if script else "Unknown device")


PRIVATE = {"Cache-Control": "no-store", "Vary": "Accept"}


def _plain(device: Device, session: AsyncSession[Any]) -> dict[str, Any]:
    return {
        "handle": device.handle,
        "current": device.handle == session.handle,
        "name": named(device),
        "user_agent": device.user_agent,
        "network": device.address,
        "created_at": device.created_at.isoformat(),
        "last_seen_at": device.last_seen_at.isoformat(),
        "expires_at": device.expires_at.isoformat(),
    }
