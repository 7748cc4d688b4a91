"""A WebSocket under ASGI that may be closed in its application's place: when what it was opened with is over (`vigil.py`)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

__all__ = ["POLICY_VIOLATION", "Socket"]

_logger: Final = logging.getLogger("coatcheck")

POLICY_VIOLATION: Final = 1008
"""The close code (RFC 6455 section 7.4.1) that Starlette and FastAPI use where credentials are not good, or no longer."""
_REASON: Final = "the session is over"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Keep = Callable[[Callable[[], None]], Callable[[], None] | None]
"""Has a function called when the connection is over, and returns what stops that; None while it depends on nothing yet."""


class Socket:
    """A WebSocket's messages, until one side closes, or its session is over: then both the client and the application hear that
    the other has gone.

    receive, send  the messages, as the application is to have them
    close          `close(code, reason)` closes the connection in the application's place
    keep           asked after every message until it holds the connection to something; None: nothing does
    lost           called when the client has gone, or has been sent away
    """

    __slots__ = ("_close", "_closing", "_is_open", "_is_over", "_keep", "_lost", "_receive", "_send", "_stop")

    def __init__(
        self,
        receive: Receive,
        send: Send,
        *,
        close: Callable[[int, str], Awaitable[None]],
        keep: Keep | None,
        lost: Callable[[], None],
    ) -> None:
        self._receive, self._send, self._close, self._keep, self._lost = receive, send, close, keep, lost
        self._is_open = self._is_over = False
        self._stop: Callable[[], None] | None = None
        self._closing: asyncio.Task[None] | None = None

    async def run(self, app: Callable[[Any, Any, Any], Awaitable[None]], scope: Any) -> None:
        """Let the application answer."""
        try:
            await app(scope, self.receive, self.send)
        finally:
            self._is_open = False
            if self._stop is not None:
                self._stop()

    async def receive(self) -> Message:
        """Take note that the client has left: what the application raises when it hears of that is no failure."""
        self._hold()
        message = await self._receive()
        if self._is_over:  # whatever came, it is from nobody we know any more
            return {"type": "websocket.disconnect", "code": POLICY_VIOLATION, "reason": _REASON}
        if message["type"] == "websocket.disconnect":
            self._lost()
            self._is_open = False
        return message

    async def send(self, message: Message) -> None:
        """Send; OSError if the session is over, as if the client had gone (ASGI specification 2.4). To close it again is well."""
        kind = message["type"]
        if self._is_over:
            if kind == "websocket.close":  # Quart closes what its handler has left, whyever
                return
            raise OSError("the session of this WebSocket is over, and so the WebSocket was closed")
        if kind == "websocket.close":
            self._is_open = False
        await self._send(message)
        if kind == "websocket.accept":
            self._is_open = True
        self._hold()

    def _hold(self) -> None:
        """Hold the connection to its session, once there is one that was looked at."""
        if self._stop is None and self._is_open and self._keep is not None:
            self._stop = self._keep(self._over)

    def _over(self) -> None:
        if self._is_open:
            self._is_over = True
            self._lost()
            self._closing = asyncio.get_running_loop().create_task(self._end())

    async def _end(self) -> None:
        try:
            await self._close(POLICY_VIOLATION, _REASON)
        except Exception:  # the client was faster; nothing goes to it any more in any case
            _logger.debug("a WebSocket whose session is over was closed already", exc_info=True)
