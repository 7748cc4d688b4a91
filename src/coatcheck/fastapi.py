"""Sessions for FastAPI: the middleware, and dependencies that say what a route needs.

`SessionDep` and `CurrentUser` load the session where they are declared, whether the middleware is eager or lazy, work
in WebSocket routes too, and are shown in OpenAPI as a cookie security scheme.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Security
from fastapi.requests import HTTPConnection
from fastapi.security import APIKeyCookie

from coatcheck import asgi
from coatcheck.core.cookies import SECURE_NAME
from coatcheck.errors import ConfigurationError
from coatcheck.faces import AsyncSession
from coatcheck.faces import AsyncSession as Session
from coatcheck.starlette import SessionMiddleware

__all__ = [
    "CurrentUser",
    "RecentLogin",
    "Session",
    "SessionDep",
    "SessionMiddleware",
    "get_session",
    "require_session",
]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class _SessionCookie(APIKeyCookie):
    """A security scheme that yields the session: what OpenAPI shows, and what loads it, in one dependency."""

    def __init__(self) -> None:
        super().__init__(
            name=SECURE_NAME, scheme_name="session", description="The session cookie", auto_error=False
        )

    async def __call__(self, connection: HTTPConnection) -> AsyncSession[Any]:  # type: ignore[override]  # also for WebSockets
        return await asgi.get_session(connection)


get_session = _SessionCookie()
"""`await get_session(request)`: the request's session, loaded. A dependency too."""

SessionDep = Annotated[AsyncSession[Any], Security(get_session)]
"""The request's session. For a typed one: `Annotated[Session[Cart], Depends(get_session)]`."""


async def require_session(session: SessionDep) -> AsyncSession[Any]:
    """The session, if something is stored for it; 401 otherwise."""
    if session.is_new:
        raise _unauthorized()
    return session


async def _current_user(session: SessionDep) -> str:
    if session.user_id is None:
        raise _unauthorized()
    return session.user_id


CurrentUser = Annotated[str, Depends(_current_user)]
"""The user id of the login, as text; 401 without one."""


def RecentLogin(within: str | timedelta) -> Any:
    """A dependency for sensitive acts (ASVS 7.5.3): who the user is must have been proved within this time, "10m" or
    a timedelta.

    401 without a login; 403 with `{"error": "reauth_required"}` if it was longer ago, or only remembered. Raises
    ConfigurationError at start-up for a time it cannot read.
    """
    limit = _duration(within)

    async def recent(session: SessionDep) -> None:
        if session.user_id is None:
            raise _unauthorized()
        now, proved = datetime.fromtimestamp(session._flows.clock.time(), UTC), session.authenticated_at
        if proved is None or now - proved > limit:
            raise HTTPException(403, {"error": "reauth_required", "max_age": int(limit.total_seconds())})

    return Depends(recent)


def _duration(within: str | timedelta) -> timedelta:
    if isinstance(within, timedelta) and within > timedelta(0):
        return within
    found = re.fullmatch(r"(\d{1,6})([smhd])", within) if isinstance(within, str) else None
    if found is None or int(found[1]) == 0:
        raise ConfigurationError(
            f"RecentLogin({within!r}): give a number and s, m, h or d, such as '10m', or a timedelta"
        )
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _unauthorized() -> HTTPException:
    return HTTPException(401, "not logged in", {"WWW-Authenticate": "APIKey"})
