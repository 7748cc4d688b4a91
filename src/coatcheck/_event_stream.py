"""An event stream of an ASGI application, held to its session as a WebSocket is: it ends with the session (checklist 210).

A stream of `text/event-stream` is meant to stay for days, and tells of what belongs to whoever opened it. Other responses are
long only because they are large, and are left to end by themselves. A browser whose stream ends opens it again, with the
cookie that it has by then: the application then sees nobody, and answers 401 or 204 (which a browser takes for good).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from coatcheck.faces import AsyncSession
from coatcheck.vigil import Vigil

__all__ = ["EventStream", "StreamOver", "is_event_stream"]

_logger: Final = logging.getLogger("coatcheck")
_KIND: Final = b"text/event-stream"

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]


class StreamOver(OSError):
    """What an application gets that sends more: OSError says that the client has gone (ASGI specification 2.4)."""


def is_event_stream(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a response says that it is one."""
    for name, value in headers:
        if name == b"content-type":  # as servers and frameworks write it: no look at the others
            return value[:17].lower() == _KIND
    return any(name.lower() == b"content-type" and value[:17].lower() == _KIND for name, value in headers)


class EventStream:
    """The way of one stream's messages to the server."""

    def __init__(self, send_on: Send) -> None:
        self._send_on = send_on
        self._stop: Callable[[], None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._is_open, self.is_over = True, False

    def hold(self, vigil: Vigil, session: AsyncSession[Any]) -> bool:
        """Hold it to a session. Returns False where it does not depend on one: nothing is stored, or nobody looked."""
        self._stop = vigil.keep(session, self._over)
        return self._stop is not None

    async def send(self, message: Message) -> None:
        """Send, as long as the session lives. To end it once more is well; to send more raises StreamOver."""
        if self.is_over:
            if message.get("more_body"):
                raise StreamOver("the session of this event stream is over, and so the stream was ended")
            return
        if message["type"] != "http.response.start" and not message.get("more_body"):
            self.leave()
        await self._send_on(message)

    def leave(self) -> None:
        """The application is done with it."""
        self._is_open = False
        if self._stop is not None:
            self._stop()

    def explains(self, error: BaseException | None) -> bool:
        """Whether an application failed because its stream was ended under it: that is no failure."""
        while error is not None and not isinstance(error, StreamOver):
            error = error.__cause__ or error.__context__
        return error is not None

    def _over(self) -> None:
        if self._is_open:
            self._is_open, self.is_over = False, True
            self._closing = asyncio.get_running_loop().create_task(self._close())

    async def _close(self) -> None:
        try:
            await self._send_on({"type": "http.response.body", "body": b"", "more_body": False})
        except Exception:  # the client was faster; nothing goes to it any more in any case
            _logger.debug("an event stream whose session is over was closed already", exc_info=True)
