"""Sessions for FastAPI: the middleware, and dependencies that say what a route needs.

`SessionDep`, `Session[Cart]` and `CurrentUser` load the session where they are declared, whether the middleware is eager or lazy,
work in WebSocket routes too, and are shown in OpenAPI as a cookie security scheme.
"""

from datetime import timedelta
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, HTTPException, Security, WebSocketException
from fastapi.requests import HTTPConnection
from fastapi.security import APIKeyCookie

from coatcheck import asgi
from coatcheck._versions import need
from coatcheck.asgi import App, CsrfMiddleware, HttpsMiddleware, Receive, Scope, Send, csrf_field, csrf_token
from coatcheck.bearer.fastapi import Bearer
from coatcheck.core.cookies import SECURE_NAME, names
from coatcheck.core.rates import Rate
from coatcheck.faces import AsyncSession, Model
from coatcheck.starlette import SessionMiddleware as StarletteSessions
from coatcheck.stepup import Needs, by_method, recent
from coatcheck.throttling.route import RateLimit as Limit

__all__ = [
    "AsyncSession",
    "Bearer",
    "CsrfMiddleware",
    "CurrentUser",
    "HttpsMiddleware",
    "RateLimit",
    "RecentLogin",
    "RequireMethod",
    "Session",
    "SessionDep",
    "SessionMiddleware",
    "csrf_field",
    "csrf_token",
    "get_session",
    "require_session",
]

need("fastapi", "0.116")

_SCHEME: Final = "session"


class SessionMiddleware(StarletteSessions):
    """`request.session`, kept on the server, as in `coatcheck.starlette`; and OpenAPI calls the cookie by its name.

    Raises ConfigurationError, WeakSecret or WrongFace when it is built.
    """

    def _bind(self) -> None:
        super()._bind()
        if self._key == "session" and not isinstance(self.app, _Introduction):
            self.app = _Introduction(self, self.app)


class _Introduction:
    """What is inside a middleware, until the first message comes by: that one says which FastAPI application it is in."""

    def __init__(self, middleware: SessionMiddleware, app: App) -> None:
        self._middleware, self.app = middleware, app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app, middleware = scope.get("app"), self._middleware
        if middleware.app is self and isinstance(app, FastAPI):
            _describe(app, *names(middleware.exchange.settings))
        middleware.app = self.app
        await self.app(scope, receive, send)


def _describe(app: FastAPI, name: str, on_loopback: str) -> None:
    """Have OpenAPI say what the cookie is called, in FastAPI's own way to add to it: another function in its place."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        schema = made()
        scheme = schema.get("components", {}).get("securitySchemes", {}).get(_SCHEME)
        if scheme is not None:
            scheme["name"] = name
            if on_loopback != name:
                scheme["description"] = f"The session cookie; over plain HTTP on localhost `{on_loopback}`"
        return schema

    app.openapi = openapi  # type: ignore[method-assign]


class _SessionCookie(APIKeyCookie):
    """A security scheme that yields the session: what OpenAPI shows, and what loads it, in one dependency."""

    def __init__(self) -> None:
        super().__init__(
            name=SECURE_NAME, scheme_name=_SCHEME, description="The session cookie", auto_error=False
        )

    async def __call__(self, connection: HTTPConnection) -> AsyncSession[Any]:  # type: ignore[override]  # also for WebSockets
        return await asgi.get_session(connection)


get_session = _SessionCookie()
"""`await get_session(request)`: the request's session, loaded. A dependency too."""

SessionDep = Annotated[AsyncSession[Any], Security(get_session)]
"""The request's session, as the annotation of a parameter."""

Session = Annotated[AsyncSession[Model], Security(get_session)]
"""The same for typed sessions: `session: Session[Cart]`, where the middleware was given `schema=Cart`."""


async def require_session(connection: HTTPConnection, session: SessionDep) -> AsyncSession[Any]:
    """The session, if something is stored for it; 401 otherwise, and for a WebSocket a handshake that is refused."""
    if session.is_new:
        raise _refusal(connection, 401, "not logged in")
    return session


async def _current_user(connection: HTTPConnection, session: SessionDep) -> str:
    if session.user_id is None:
        raise _refusal(connection, 401, "not logged in")
    return session.user_id


CurrentUser = Annotated[str, Depends(_current_user)]
"""The user id of the login, as text; 401 without one, and for a WebSocket a handshake that is refused."""


def RecentLogin(within: str | timedelta) -> Any:
    """A dependency for sensitive acts (ASVS 7.5.3): who the user is must have been proved within this time, "10m" or
    a timedelta.

    401 without a login; 403 with `{"error": "reauth_required"}` if it was longer ago, or only remembered; a WebSocket's handshake
    is refused. Raises ConfigurationError at start-up for a time it cannot read.
    """
    return _needed(recent(within))


def RequireMethod(*methods: str) -> Any:
    """A dependency: the login was made, or made stronger since, by one of these methods, such as "otp" or "hwk".

    401 without a login; 403 with `{"error": "step_up_required", "methods": […]}` otherwise; a WebSocket's handshake is refused.
    Raises ConfigurationError at start-up without a method.
    """
    return _needed(by_method(*methods))


def _needed(needs: Needs) -> Any:
    async def needed(connection: HTTPConnection, session: SessionDep) -> None:
        refused = needs.refusal(session)
        if refused is not None:
            detail = "not logged in" if refused.status == 401 else dict(refused.detail)
            raise _refusal(connection, refused.status, detail)

    return Depends(needed)


def RateLimit(given: str | Rate, **options: Any) -> Any:
    """A dependency that limits a route: `dependencies=[RateLimit("100/minute")]`; 429 beyond that. `options`: as for
    `coatcheck.throttling.RateLimit`; its `by` may be a function of the connection. Raises ConfigurationError at start-up.
    """
    limit = Limit(given, **options)

    async def limited(connection: HTTPConnection) -> None:
        await limit.acheck(connection)

    return Depends(limited)


def _refusal(
    connection: HTTPConnection, status: int, detail: str | dict[str, Any]
) -> HTTPException | WebSocketException:
    """A WebSocket's handshake is answered like a request, where the server can say more than no."""
    scope = connection.scope
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", ()):
        return WebSocketException(asgi.POLICY_VIOLATION)
    return HTTPException(status, detail, {"WWW-Authenticate": "APIKey"} if status == 401 else None)
