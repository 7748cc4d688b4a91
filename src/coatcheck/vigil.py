"""Long connections held to their session: whoever keeps a WebSocket open is called when its session is over.

A request is answered long before the end of its session could matter; a socket may stay for days. So an adapter enters each
socket of a stored session here, and is called when that session is over for it: ended, by whichever process; expired; or passed
on, by a login or `regenerate()`, to a cookie that this socket never saw. That is what makes a late request detached, too
(PROTOCOL rules 2 and 4): a copied cookie must not live on in a socket that was opened with it. A renewal by age ends nothing.

Two things tell. The store's watch, where it has one, tells of an end at once. And every `EVERY` seconds each session is looked up
whatever the store can do, since no watch tells of an expiry or a login, and a watch may be broken without knowing. One
task an event loop does that for all its sockets, and only while there are any.
"""

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final

from coatcheck.core.events import Event
from coatcheck.core.ports import EVERYONE, Notice
from coatcheck.core.session import Standing
from coatcheck.errors import ConfigurationError, StoreError
from coatcheck.faces import AsyncSession
from coatcheck.manager import AsyncSessionManager

__all__ = ["EVERY", "Vigil"]

EVERY: Final = 30.0
"""Seconds between two looks at a session."""
AT_ONCE: Final = 64
"""How many sessions are asked for together: enough to fill a pipeline, too few to stand in a request's way."""

_ANY: Final = -1
"""In place of an epoch: a token is no cookie, and no login passes it on to another."""

_logger: Final = logging.getLogger("coatcheck")
Over = Callable[[], None]


class Vigil:
    """All long connections of one manager in this process, whatever their event loop."""

    def __init__(self, sessions: AsyncSessionManager) -> None:
        self._sessions = sessions
        self._watches: dict[asyncio.AbstractEventLoop, _Watch] = {}

    def keep(self, session: AsyncSession[Any], over: Over) -> Callable[[], None] | None:
        """Have `over` called, once and on this event loop, when the session is over for its connection. Returns what stops it.

        None: the connection does not depend on it. Nothing is stored, or nobody has looked at the session yet: ask again.
        """
        record = session._record
        if record is None or not session._accessed or session._standing is not Standing.LIVE:
            return None
        return self._join(record.key, record.epoch, record.deadline, over)

    def hold(self, key: str, deadline: float, over: Over) -> Callable[[], None]:
        """The same for a connection that is no session's but a token's: `over` is called when the login with this handle ends.

        `deadline` is in seconds since the epoch: when it ends at the latest, as far as anybody knows. Returns what stops it.
        """
        return self._join(key, _ANY, deadline, over)

    def _join(self, key: str, epoch: int, deadline: float, over: Over) -> Callable[[], None]:
        loop = asyncio.get_running_loop()
        watch = self._watches.get(loop)
        if watch is None:
            for gone in [other for other in self._watches if other.is_closed()]:
                del self._watches[gone]
            watch = self._watches[loop] = _Watch(self._sessions, loop)
        seat = watch.join(key, epoch, deadline, over)

        def stop() -> None:
            if watch.leave(key, seat) and self._watches.get(loop) is watch:
                del self._watches[loop]

        return stop


class _Kept:
    """The connections of one session."""

    __slots__ = ("deadline", "seats")

    def __init__(self) -> None:
        self.deadline = 0.0
        """When the session was last known to expire."""
        self.seats: dict[object, tuple[int, Over]] = {}


class _Watch:
    """The connections of one event loop."""

    def __init__(self, sessions: AsyncSessionManager, loop: asyncio.AbstractEventLoop) -> None:
        self._sessions, self._loop = sessions, loop
        self._kept: dict[str, _Kept] = {}
        # What runs for all must not carry the context variables of whoever happened to come first.
        self._task, self._stop = Context().run(self._begin)

    def _begin(self) -> tuple["asyncio.Task[None]", Callable[[], None] | None]:
        try:
            stop = self._sessions.watch(self._hear)
        except (ConfigurationError, StoreError):  # this store does not tell: it is asked
            stop = None
        return self._loop.create_task(self._look_now_and_then()), stop

    def join(self, key: str, epoch: int, deadline: float, over: Over) -> object:
        seat, kept = object(), self._kept.setdefault(key, _Kept())
        kept.seats[seat], kept.deadline = (epoch, over), max(kept.deadline, deadline)
        return seat

    def leave(self, key: str, seat: object) -> bool:
        """Returns whether that was the last: then nothing runs any more."""
        kept = self._kept.get(key)
        if kept is not None and kept.seats.pop(seat, None) is not None and not kept.seats:
            del self._kept[key]
        if self._kept:
            return False
        self._task.cancel()
        stop, self._stop = self._stop, None
        if stop is not None:
            stop()
        return True

    # ---- what tells

    def _hear(self, notice: Notice) -> None:
        """On any thread: a store in memory tells on the one that ends the session."""
        if notice.kind != "ended" or self._loop.is_closed():
            return
        if notice.key.startswith(EVERYONE):
            self._loop.call_soon_threadsafe(self._all_over)
        elif notice.key in self._kept:
            self._loop.call_soon_threadsafe(self._over, notice.key, None)

    def _all_over(self) -> None:
        for key in list(self._kept):
            self._over(key, None)

    async def _look_now_and_then(self) -> None:
        while True:
            await self._sessions.flows.clock.sleep(EVERY)
            try:
                await self._look_at_all()
            except Exception:  # of a listener to events: the sockets are held to their sessions all the same
                _logger.exception("looking at the sessions of open WebSockets failed; it is tried again")

    async def _look_at_all(self) -> None:
        outages: list[Exception] = []
        keys = list(self._kept)
        for first in range(0, len(keys), AT_ONCE):
            await asyncio.gather(*(self._look(key, outages) for key in keys[first : first + AT_ONCE]))
        if outages:
            self._say(outages[0])

    async def _look(self, key: str, outages: list[Exception]) -> None:
        flows = self._sessions.flows
        now = flows.clock.time()
        try:
            record = await flows.lifecycle.stored(key, now)
        except Exception as error:  # whatever it is, it must not end the vigil for everybody
            outages.append(error)
            kept = self._kept.get(key)
            if kept is not None and now >= kept.deadline:  # as far as anybody knows, it has expired
                self._over(key, None)
            return
        if record is None:
            self._over(key, None)
        elif (kept := self._kept.get(key)) is not None:
            kept.deadline = record.deadline
            self._over(key, record.epoch)

    def _over(self, key: str, epoch: int | None) -> None:
        """The session is over, or has come to this epoch: for those of another it is over."""
        kept = self._kept.get(key)
        if kept is None:
            return
        for seat, (began_in, over) in list(kept.seats.items()):
            if epoch is None or began_in not in (epoch, _ANY):
                del kept.seats[seat]
                over()
        if not kept.seats:
            self._kept.pop(key, None)

    def _say(self, error: Exception) -> None:
        flows = self._sessions.flows
        detail = str(error) if isinstance(error, StoreError) else type(error).__name__
        flows.options.tell(Event("store.down", detail=detail, at=flows.clock.time()))
