"""The inspector: what the server keeps, and what the browser holds. Nothing that would open a session is shown."""

import json
import time
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from coatcheck import AsyncSession, CookieSettings
from coatcheck.core import cookies
from coatcheck.core.ids import VERIFIER_CHARS
from coatcheck.core.record import Record
from coatcheck.core.signing import MAC_CHARS
from coatcheck.starlette import get_session
from demo.web import house, render

__all__ = ["COOKIE", "show"]

COOKIE = CookieSettings()
"""The application's cookie settings: the defaults."""


class Held(NamedTuple):
    """A cookie as its owner may see it."""

    name: str
    locator: str
    verifier: int
    mac: int
    """How many characters these two have: what they are is nobody's business."""
    attributes: list[str]


async def show(request: Request) -> Response:
    """Both halves, side by side."""
    session = await get_session(request)
    record = None if session.is_new else await house(request).store.load(session.handle, now=time.time())
    page = render(
        request,
        session,
        "inspector.html",
        held=_held(request),
        record=record if isinstance(record, Record) else None,
        data=_readable(session),
    )
    page.headers["Cache-Control"] = "no-store"
    return page


def _held(request: Request) -> Held | None:
    https = request.url.scheme == "https"
    name = cookies.names(COOKIE)[0 if https else 1]
    value = request.cookies.get(name, "")
    locator, dot, rest = value.partition(".")
    if not dot or len(rest) != VERIFIER_CHARS + MAC_CHARS:
        return None
    return Held(name, locator, VERIFIER_CHARS, MAC_CHARS, _attributes(name, https))


def _attributes(name: str, https: bool) -> list[str]:
    """What our Set-Cookie says, read from one that the library writes: a browser never sends the attributes back."""
    written = cookies.build(COOKIE, name, b"-", secure=https, max_age=None).decode("ascii")
    return written.split("; ")[1:]


def _readable(session: AsyncSession[Any]) -> str:
    return json.dumps(dict(session), indent=2, default=str, ensure_ascii=False)
