"""CSRF protection for aiohttp: a middleware that is added after the sessions.

setup(app, store=…, secret=…)
setup_csrf(app, trusted_origins=["https://app.example"])
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from aiohttp import web

from coatcheck._csrf.asgi import accepted
from coatcheck._csrf.guard import FIELD, Guard, Protection, field_of
from coatcheck.errors import OutsideRequest
from coatcheck.faces import AsyncSession
from coatcheck.security.csrf import Finding, Verdict

__all__ = ["Checks", "csrf_exempt", "csrf_field", "csrf_token"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
View = TypeVar("View")
_GUARD: Final[Any] = (
    web.RequestKey("coatcheck.csrf", Guard) if hasattr(web, "RequestKey") else "coatcheck.csrf"
)
_EXEMPT: Final = "_coatcheck_csrf_exempt"


class Checks:
    """The middleware of one application. `find` yields a request's session, not loaded."""

    def __init__(self, protection: Protection, find: Callable[[web.Request], AsyncSession[Any]]) -> None:
        self.protection, self._find = protection, find

    def install(self, app: web.Application) -> None:
        """Add it, and what puts its headers into responses."""
        app.middlewares.append(self.middleware)
        app.on_response_prepare.append(_dress)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Check this request."""
        is_websocket = request.headers.get("Upgrade", "").lower() == "websocket"
        guard = self.protection.guard(
            self._find(request),
            request.method,
            request.query_string,
            lambda name: request.headers.getall(name, ()),
            websocket=is_websocket,
        )
        request[_GUARD] = guard
        finding = guard.judge()
        if not await _may_pass(guard, finding, request):
            refusal = guard.refuse(finding)
            headers = {name: value for name, value in refusal.headers if not name.startswith("content-")}
            raise web.HTTPForbidden(text=refusal.body.decode("ascii"), headers=headers)
        return await handler(request)


async def _may_pass(guard: Guard, finding: Finding, request: web.Request) -> bool:
    if finding.verdict in (Verdict.SAFE, Verdict.PROVED) or _is_exempt(request):
        return True
    if finding.verdict is Verdict.REFUSED:
        return False
    sent = guard.sent
    if sent is not None:
        return await accepted(guard, sent)
    if request.content_type not in ("application/x-www-form-urlencoded", "multipart/form-data"):
        return False
    return await accepted(guard, (await request.post()).get(FIELD))


def _is_exempt(request: web.Request) -> bool:
    handler = request.match_info.handler
    if isinstance(handler, type):  # a class of views: it, or the method that answers
        method = getattr(handler, request.method.lower(), None)
        return hasattr(handler, _EXEMPT) or hasattr(method, _EXEMPT)
    return hasattr(handler, _EXEMPT)


async def _dress(request: web.BaseRequest, response: web.StreamResponse) -> None:
    guard = request.get(_GUARD)
    if guard is None or guard.is_silent:
        return
    headers = response.headers
    said = guard.reply(
        ", ".join(headers.getall("Vary", ())) or None, ", ".join(headers.getall("Cache-Control", ())) or None
    )
    if said.vary is not None:
        headers["Vary"] = said.vary
    if said.cache_control is not None:
        headers["Cache-Control"] = said.cache_control
    if said.set_cookie is not None:
        headers.add("Set-Cookie", said.set_cookie)


def csrf_exempt(handler: View) -> View:
    """Mark a handler that needs no proof: what calls it is no browser."""
    setattr(handler, _EXEMPT, True)
    return handler


async def csrf_token(request: web.Request, form: str | None = None) -> str:
    """A token for a page, as `coatcheck.asgi.csrf_token`; loads the session."""
    guard = request.get(_GUARD)
    if not isinstance(guard, Guard):
        raise OutsideRequest(
            "there is no CSRF token here: setup_csrf(app), after coatcheck.aiohttp.setup(app, …)"
        )
    if guard.needs_session:
        await guard.session.load()  # type: ignore[union-attr]  # an awaiting one
    return guard.token(form)


async def csrf_field(request: web.Request, form: str | None = None) -> str:
    """The hidden field for a form, as HTML."""
    return field_of(await csrf_token(request, form))
