"""What is said and done when an application starts and ends: is the store there; and its connections are closed.

A store that cannot be reached is told in one line (event `store.down`) when the application starts, rather than by the first
visitor. The application starts all the same: the store may come back, and pages that need no session need no store.

Under ASGI the moment is the end of the application's own start-up, which may have opened a pool or made the tables; at the end of
its own shutdown the store is closed. WSGI has no such moments: there the store is asked when the middleware is made. That may be
in a process that is forked later (`gunicorn --preload`): so it is asked over a connection of its own, closed again at once.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from coatcheck.core.events import Event
from coatcheck.core.ports import Checks
from coatcheck.flows import Flows
from coatcheck.manager import AsyncSessionManager, SessionManager
from coatcheck.stores import has_server, hide_password

__all__ = ["Lifespan", "announce", "ask", "close"]

PATIENCE: Final = 10.0
"""Seconds an application's start is held up at most, where a client of its own has no time-outs."""

Message = MutableMapping[str, Any]


def announce(sessions: SessionManager) -> None:
    """Say it if the store that was opened from a URL cannot be reached. Never raises.

    A store that was handed in is left alone: whether its client may be used before a fork, only its owner knows. One without a
    server was found to work when it was opened.
    """
    if sessions._url is None or not has_server(sessions._url):
        return
    try:
        with SessionManager(sessions._url, outage=sessions._outage) as asking:
            if isinstance(asking.flows.store, Checks):
                asking.check()
    except Exception as error:
        _say(sessions.flows, _name(sessions), error)


class Lifespan:
    """The `send` of an ASGI application's lifespan, with what we have to do at both ends.

    `reopened` is called where the store had to be opened again: `sessions.flows` are others then.
    """

    def __init__(
        self,
        sessions: AsyncSessionManager,
        send: Callable[[Message], Awaitable[None]],
        *,
        check: bool,
        reopened: Callable[[], None],
    ) -> None:
        self._sessions, self._send, self._check = sessions, send, check
        if sessions._reopen():  # a test client starts the same application again and again
            reopened()

    async def send(self, message: Message) -> None:
        """Pass a message on, and before that do what it is the moment for."""
        kind = message["type"]
        if kind == "lifespan.startup.complete":
            if self._check:
                await ask(self._sessions)
        elif kind in ("lifespan.shutdown.complete", "lifespan.shutdown.failed", "lifespan.startup.failed"):
            await close(self._sessions)
        await self._send(message)


async def ask(sessions: AsyncSessionManager) -> None:
    """Say it if the store cannot be reached, when the application has started. Never raises."""
    if not isinstance(sessions.flows.store, Checks):
        return
    import asyncio  # see `_eventloop`

    try:
        async with asyncio.timeout(PATIENCE):
            await sessions.check()
    except Exception as error:
        _say(sessions.flows, _name(sessions), error)


async def close(sessions: AsyncSessionManager) -> None:
    """Close the store when the application ends: what goes wrong now is said, and keeps nobody from ending."""
    try:
        await sessions.close()
    except Exception as error:
        _say(sessions.flows, _name(sessions), error)


def _name(sessions: SessionManager | AsyncSessionManager) -> str:
    url = sessions._url
    return type(sessions._backend).__name__ if url is None else hide_password(url)


def _say(flows: Flows, name: str, error: Exception) -> None:
    text = f"{type(error).__name__}: {str(error) or f'no answer within {PATIENCE:g} s'}"
    detail = text if name in text else f"{name}: {text}"
    flows.options.tell(Event("store.down", detail=detail, at=flows.clock.time()))
