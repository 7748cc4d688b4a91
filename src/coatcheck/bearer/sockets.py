"""WebSockets that were opened with an access token: closed when the token expires, or its login ends (checklist 210).

    app.add_middleware(TokenSockets, tokens=tokens)          # FastAPI, Starlette; any ASGI application: TokenSockets(app, tokens)

What lets a WebSocket in, a dependency or a decorator of `coatcheck.bearer`, leaves the claims in its scope; this middleware holds
the connection to them.
"""

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final

from coatcheck.bearer.http import fitting
from coatcheck.errors import ConfigurationError
from coatcheck.sockets import POLICY_VIOLATION, Socket
from coatcheck.vigil import Vigil

__all__ = ["POLICY_VIOLATION", "TokenSockets", "can_answer", "tell"]

_SEAT: Final = "coatcheck.bearer.seat"
"""Where in the scope the claims are left: in a list, since a router may hand a copy of the scope on."""


def can_answer(scope: Any) -> bool:
    """Whether the server can answer a WebSocket's handshake like a request (ASGI's `websocket.http.response`)."""
    return "websocket.http.response" in (scope.get("extensions") or ())


def tell(scope: Any, claims: Any) -> None:
    """Leave the claims of whoever was let in, for the middleware, if there is one."""
    seat = scope.get(_SEAT)
    if seat is not None:
        seat[:] = [claims]


class TokenSockets:
    """Closes WebSockets (code 1008) whose access token has expired, or whose login has ended: at once where the store tells, and
    within 30 seconds where it must be asked.

    app     the ASGI application
    tokens  its AsyncTokens

    Raises ConfigurationError or WrongFace.
    """

    def __init__(self, app: Any, tokens: Any) -> None:
        if not hasattr(fitting(tokens, awaits=True), "sessions"):
            raise ConfigurationError("a TokenVerifier hears of no login that ends: give AsyncTokens")
        self.app, self._sessions, self._vigil = app, tokens.sessions, Vigil(tokens.sessions)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            await self.app(scope, receive, send)
            return
        seat: list[Any] = []
        scope[_SEAT] = seat

        async def close(code: int, reason: str) -> None:
            await send({"type": "websocket.close", "code": code, "reason": reason})

        def keep(over: Callable[[], None]) -> Callable[[], None] | None:
            return self._hold(seat[0], over) if seat else None

        await Socket(receive, send, close=close, keep=keep, lost=_nothing).run(self.app, scope)

    def _hold(self, claims: Any, over: Callable[[], None]) -> Callable[[], None]:
        clock = self._sessions.flows.clock
        stop = self._vigil.hold(claims.sid, claims.exp, over)

        async def expire() -> None:
            await clock.sleep(max(0.0, claims.exp - clock.time()))
            over()

        expiry = Context().run(asyncio.get_running_loop().create_task, expire())

        def leave() -> None:
            expiry.cancel()
            stop()

        return leave


def _nothing() -> None: ...
