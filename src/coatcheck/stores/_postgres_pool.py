"""Connections to PostgreSQL, each lent to one command at a time; one pool for threads, one for each event loop.

Our own pools, because of what they leave out: asyncpg's resets a connection after each use, which is a second round trip to one
command, and there is nothing to reset here, as every verb is a single statement.

A connection comes back only when its answer has been read to the end. After anything else it is closed, or, where a request was
cancelled, first made to answer something new (`LoopPool.doubt`): no answer ever reaches the wrong request.
"""

import asyncio
import os
import select
import threading
import weakref
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, Protocol

from coatcheck.errors import StoreUnavailable, UsageError

__all__ = ["Link", "LoopPool", "Row", "ThreadLink", "ThreadPool", "has_something_to_say", "tell_of_forks"]

Row = tuple[Any, ...]
"""Of asyncpg it is a Record, which unpacks, slices and counts like one."""
CLOSED: Final = (
    "the PostgreSQL store is closed: it was used after close(), or after its manager had closed it"
)


class ThreadLink(Protocol):
    """A blocking connection."""

    def fetch(self, statement: str, args: tuple[Any, ...], patience: float | None = None) -> list[Any]:
        """Carry out one statement; `patience`: seconds for the answer, if not the usual."""
        ...

    def fileno(self) -> int: ...

    def is_idle(self) -> bool:
        """Whether it is open and waits for a command."""
        ...

    def close(self) -> None: ...


class Link(Protocol):
    """An awaiting connection; asyncpg's is one."""

    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[Any]:
        """Carry out one statement."""
        ...

    def is_closed(self) -> bool: ...

    def terminate(self) -> None:
        """Close it at once."""
        ...


class ThreadPool:
    """At most `size` connections for any number of threads. `patience`: seconds for which one waits for its turn."""

    def __init__(self, connect: Callable[[], ThreadLink], size: int, patience: float) -> None:
        self._connect, self._size, self._patience = connect, size, patience
        self._turns = threading.BoundedSemaphore(size)
        self._idle: list[ThreadLink] = []
        self._closed = False
        tell_of_forks(self)

    def take(self) -> ThreadLink:
        """A connection that nobody else has meanwhile."""
        if self._closed:
            raise UsageError(CLOSED)
        turns = self._turns
        if not turns.acquire(timeout=self._patience):
            raise _busy(self._size, self._patience)
        try:
            return self._open_one() or self._connect()
        except BaseException:
            turns.release()
            raise

    def give_back(self, link: ThreadLink) -> None:
        """After its answer has been read."""
        if self._closed:
            link.close()
        else:
            self._idle.append(link)
        self._turns.release()

    def drop(self, link: ThreadLink) -> None:
        """Whatever it still has to say."""
        link.close()
        self._turns.release()

    def forget_idle(self) -> None:
        """Close what is not in use: the next command is given a new connection."""
        with suppress(IndexError):  # another thread may take the last
            while True:
                self._idle.pop().close()

    def close(self) -> None:
        """Close what is not in use; the rest when it comes back."""
        self._closed = True
        self.forget_idle()

    def start_afresh(self) -> None:
        """After a fork: what is open belongs to the parent, who must not be told that it is over."""
        _inherited.append(self._idle)
        self._idle = []
        self._turns = threading.BoundedSemaphore(self._size)

    def _open_one(self) -> ThreadLink | None:
        while True:
            try:
                link = (
                    self._idle.pop()
                )  # the one used last: the others may stay idle and be closed by the server
            except IndexError:
                return None
            if not has_something_to_say(link.fileno()):
                return link
            link.close()  # the server has, or is about to


def has_something_to_say(fileno: int) -> bool:
    """Between commands a server speaks up only to say that it closes the connection. A microsecond that spares an error."""
    poll = select.poll()
    poll.register(fileno, select.POLLIN)
    return bool(poll.poll(0))


class LoopPool:
    """At most `size` connections for one event loop."""

    def __init__(self, connect: Callable[[], Coroutine[Any, Any, Link]], size: int, patience: float) -> None:
        self._connect, self._size, self._patience = connect, size, patience
        self._loop = asyncio.get_running_loop()
        self._idle: list[Link] = []
        self._made = 0
        self._waiting: deque[asyncio.Future[Link | None]] = deque()
        self._promised = 0
        """How many have been told that they may make a connection, or ask a doubtful one, and have not heard of it yet."""
        self._doubtful: list[Link] = []
        self._closed = False

    @property
    def is_over(self) -> bool:
        """Its loop has ended."""
        return self._loop.is_closed()

    def pop(self) -> Link | None:
        """A connection that is open and idle, if there is one."""
        while self._idle:
            link = self._idle.pop()
            if not link.is_closed():
                return link
            self._made -= 1
        return None

    async def obtain(self) -> Link:
        """A connection, made or waited for. Raises what making one raises, and StoreUnavailable when none becomes free."""
        while True:
            if self._closed:
                raise UsageError(CLOSED)
            if (link := self.pop()) is not None:
                return link
            if len(self._doubtful) + self._size - self._made <= self._promised:  # first come, first served
                if (link := await self._turn()) is not None:
                    self._idle.append(link)  # for a look at whether it is still open
            elif self._doubtful:
                if await self._answers(link := self._doubtful.pop()):
                    return link
            else:
                return await self._make()

    def give_back(self, link: Link) -> None:
        """After its answer has been read: to whoever has waited longest."""
        if self._closed or link.is_closed():
            self.drop(link)
        elif not self._hand_on(link):
            self._idle.append(link)

    def drop(self, link: Link) -> None:
        """Whatever it still has to say."""
        with suppress(RuntimeError):  # the loop may have been closed
            link.terminate()
        self._made -= 1
        self._hand_on(None)

    def doubt(self, link: Link) -> None:
        """After the request that used it was cancelled: nobody uses it before it has answered a question of our own.

        The driver asks the server to cancel the command, and that request may arrive when the command is over: then it is our
        question that it cancels, and nobody else's.
        """
        self._doubtful.append(link)
        self._hand_on(None)

    def forget_idle(self) -> None:
        """Close what is not in use, and what is in doubt: the next command is given a new connection."""
        while links := self._idle or self._doubtful:
            self.drop(links.pop())

    async def aclose(self) -> None:
        """Close what is not in use; the rest when it comes back."""
        self.abandon()
        await asyncio.sleep(0)  # the transports close in the loop's next turn

    def abandon(self) -> None:
        """Close at once, from wherever."""
        self._closed = True
        self.forget_idle()

    async def _make(self) -> Link:
        self._made += 1
        # In a task of its own: drivers limit it by asyncio.timeout(), which must end in the task that it began in, and a commit
        # goes on in another (`flows.shielded`).
        making = self._loop.create_task(self._connect())
        try:
            return await making
        except BaseException:
            if making.done() and not making.cancelled() and making.exception() is None:
                making.result().terminate()  # it was made, and we were cancelled before we heard of it
            self._made -= 1
            self._hand_on(None)
            raise

    async def _turn(self) -> Link | None:
        """Wait for a connection; None: one may be made."""
        turn: asyncio.Future[Link | None] = self._loop.create_future()
        self._waiting.append(turn)
        timer = self._loop.call_later(self._patience, _expire, turn, self._size, self._patience)
        try:
            link = await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                # It was our turn when we were cancelled: somebody else's now.
                link = turn.result()
                self._promised -= link is None
                self._hand_on(None) if link is None else self.give_back(link)
            raise
        else:
            self._promised -= link is None
            return link
        finally:
            timer.cancel()

    def _hand_on(self, link: Link | None) -> bool:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                self._promised += link is None
                turn.set_result(link)
                return True
        return False

    async def _answers(self, link: Link) -> bool:
        """Whether a doubtful connection is as good as new; if not, it is closed."""
        try:
            for _ in range(2):  # the first question may be cancelled in the cancelled command's place
                try:
                    await link.fetch("SELECT 1", timeout=self._patience)
                    return True
                except TimeoutError:
                    break
                except Exception:
                    if link.is_closed():
                        break
        except BaseException:
            self.doubt(link)
            raise
        self.drop(link)
        return False


def _busy(size: int, patience: float) -> StoreUnavailable:
    return StoreUnavailable(
        f"PostgreSQL: all {size} connections were busy for {patience:g} s; raise pool_size, or look for what takes so long"
    )


def _expire(turn: "asyncio.Future[Link | None]", size: int, patience: float) -> None:
    if not turn.done():
        turn.set_exception(_busy(size, patience))


class _Forks(Protocol):
    def start_afresh(self) -> None: ...


_told: "weakref.WeakSet[Any]" = weakref.WeakSet()
_inherited: list[Any] = []
"""Connections that a parent made: held for ever, since to let go of one is to close it."""


def tell_of_forks(whom: _Forks) -> None:
    """Have `start_afresh` called in a child process, as long as it lives."""
    _told.add(whom)


def _after_fork() -> None:
    for each in list(_told):
        each.start_afresh()


os.register_at_fork(after_in_child=_after_fork)
