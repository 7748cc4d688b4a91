"""Two ways to carry out a statement: blocking on psycopg, awaiting on asyncpg.

A statement that was answered, if by an error, leaves its connection as good as new. One that was not may have been carried out:
that is `ReplyLost`, and the connection is closed. What the server undid because of another transaction is sent again.

Behind a pooler that lends a server connection for one transaction and keeps no track of prepared statements (PgBouncer before
1.21, or with `max_prepared_statements=0`), a statement must not be prepared in one round trip and used in the next: they may go
to two servers, and the second would carry out whatever was prepared there last. asyncpg cannot do otherwise; psycopg sends text
and values together. So without prepared statements the awaiting client is psycopg's, too.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

import asyncpg

from coatcheck.errors import SessionError, StoreUnavailable, UsageError
from coatcheck.stores._health import Health
from coatcheck.stores._loops import take_ended
from coatcheck.stores._postgres_connect import SLOWLY, Wired, is_refused
from coatcheck.stores._postgres_errors import as_sent, is_answered, is_undone, only_reads, unreachable
from coatcheck.stores._postgres_pool import CLOSED, Link, LoopPool, Row, ThreadLink, tell_of_forks

__all__ = ["Awaiting", "AwaitingTheirs", "Blocking", "Client", "TheirThreads", "Threads"]

log: Final = logging.getLogger("coatcheck")
TURNS: Final = 100
"""How often a statement is sent again that the server undid because of another. Each time some other went through."""


class Client(Protocol):
    """What the store asks of a client. Each method raises SessionErrors only."""

    async def fetch(self, statement: str, *args: Any) -> Sequence[Row]:
        """Carry out one statement, which commits by itself, and return its rows."""
        ...

    async def aside(self, statement: str, *args: Any) -> Sequence[Row]:
        """The same for a statement that no request waits for: it may take its time."""
        ...

    def later(self, statement: str, *args: Any) -> None:
        """Carry out a statement of upkeep now or soon. Nobody waits for it; a failure is logged."""
        ...


# ----------------------------------------------------------------------------------------------------------- blocking


class Threads(Protocol):
    """Lends blocking connections to threads: ours is `ThreadPool`."""

    def take(self) -> ThreadLink: ...

    def give_back(self, link: ThreadLink) -> None: ...

    def drop(self, link: ThreadLink) -> None: ...

    def forget_idle(self) -> None: ...


class Blocking:
    """Carries out each statement in the calling thread. Never suspends."""

    def __init__(self, pool: Threads, health: Health, name: str, retries: int) -> None:
        self._pool, self._health, self._name, self._retries = pool, health, name, retries

    async def fetch(self, statement: str, *args: Any) -> Sequence[Row]:
        """Carry out one statement."""
        return self._fetch(statement, args, None)

    async def aside(self, statement: str, *args: Any) -> Sequence[Row]:
        """Carry out one that may take its time."""
        return self._fetch(statement, args, SLOWLY)

    def later(self, statement: str, *args: Any) -> None:
        """Carry it out now: a thread can afford it, and there is no other that could."""
        try:
            self._fetch(statement, args, None)
        except SessionError as error:
            _log_upkeep(error)

    def _fetch(self, statement: str, args: tuple[Any, ...], patience: float | None) -> Sequence[Row]:
        health, pool = self._health, self._pool
        for turn in range(1, TURNS + 1):
            if not health.well:
                health.admit()
            link = self._take()
            try:
                rows = link.fetch(statement, args, patience)
            except BaseException as error:
                connected = link.is_idle() and not only_reads(error)
                (pool.give_back if connected else pool.drop)(link)
                if not isinstance(error, Exception):
                    raise
                if _told(health, pool, error, connected) and turn < TURNS:
                    continue
                raise as_sent(error, connected=connected) from error
            pool.give_back(link)
            if not health.well:
                health.worked()
            return rows
        raise AssertionError  # the last turn returns or raises

    def _take(self) -> ThreadLink:
        for attempt in range(self._retries + 1):
            try:
                return self._pool.take()
            except SessionError:
                raise
            except Exception as error:
                if (
                    told := _not_reached(error, self._health, self._name, attempt == self._retries)
                ) is not None:
                    raise told from error
        raise AssertionError  # the last attempt returns or raises


class TheirThreads:
    """The application's own psycopg_pool: it decides how many, for how long, and what becomes of a broken one."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def take(self) -> ThreadLink:
        """A connection of theirs."""
        return Wired(self._pool.getconn(), None)

    def give_back(self, link: ThreadLink) -> None:
        """Their pool rolls back what failed."""
        self._pool.putconn(link.connection)  # type: ignore[attr-defined]  # it is the one that `take` made

    def drop(self, link: ThreadLink) -> None:
        """Their pool makes another in its place."""
        link.close()
        self.give_back(link)

    def forget_idle(self) -> None:
        """Those are theirs to look after."""


# ----------------------------------------------------------------------------------------------------------- awaiting


class Awaiting:
    """Carries out statements on the connections of the running event loop: each loop has a pool of its own."""

    def __init__(
        self,
        connect: Callable[[], Coroutine[Any, Any, Link]],
        health: Health,
        name: str,
        *,
        size: int,
        patience: float,
        retries: int,
    ) -> None:
        self._connect, self._health, self._name = connect, health, name
        self._size, self._patience, self._retries = size, patience, retries
        self._pools: dict[asyncio.AbstractEventLoop, LoopPool] = {}
        self._upkeep: asyncio.Task[None] | None = None
        self._closed = False
        tell_of_forks(self)

    async def fetch(self, statement: str, *args: Any) -> Sequence[Row]:
        """Carry out one statement."""
        return await self._fetch(statement, args, None)

    async def aside(self, statement: str, *args: Any) -> Sequence[Row]:
        """Carry out one that may take its time."""
        return await self._fetch(statement, args, SLOWLY)

    def later(self, statement: str, *args: Any) -> None:
        """Carry it out beside the requests, one at a time."""
        if self._upkeep is None or self._upkeep.done():
            self._upkeep = asyncio.get_running_loop().create_task(_quietly(self, statement, args))

    async def aclose(self) -> None:
        """Close the connections of this event loop, and of every other."""
        self._closed = True
        here = asyncio.get_running_loop()
        if self._upkeep is not None and self._upkeep.get_loop() is here:
            self._upkeep.cancel()
            await asyncio.gather(self._upkeep, return_exceptions=True)
        for loop, pool in list(self._pools.items()):
            if loop is here:
                await pool.aclose()
            else:
                with suppress(RuntimeError):  # it has ended meanwhile
                    loop.call_soon_threadsafe(pool.abandon)
        self._pools.clear()

    def start_afresh(self) -> None:
        """After a fork: the loops are the parent's, and so is what they talk to."""
        _inherited.append((self._pools, self._upkeep))
        self._pools, self._upkeep = {}, None

    async def _fetch(self, statement: str, args: tuple[Any, ...], patience: float | None) -> Sequence[Row]:
        health, turn = self._health, 1
        pool = self._pools.get(asyncio.get_running_loop()) or self._new_pool()
        while True:
            if not health.well:
                health.admit()
            link = pool.pop() or await self._obtain(pool)
            try:
                rows: Sequence[Row] = await link.fetch(statement, *args, timeout=patience)
            except asyncio.CancelledError:
                pool.doubt(link)
                raise
            except Exception as error:
                connected = _is_as_new(link, error)
                (pool.give_back if connected else pool.drop)(link)
                if not _told(health, pool, error, connected) or turn == TURNS:
                    raise as_sent(error, connected=connected) from error
                turn += 1
                continue
            except BaseException:
                pool.drop(link)
                raise
            pool.give_back(link)
            if not health.well:
                health.worked()
            return rows

    async def _obtain(self, pool: LoopPool) -> Link:
        for attempt in range(self._retries + 1):
            try:
                return await pool.obtain()
            except SessionError:
                raise
            except Exception as error:
                if (
                    told := _not_reached(error, self._health, self._name, attempt == self._retries)
                ) is not None:
                    raise told from error
        raise AssertionError  # the last attempt returns or raises

    def _new_pool(self) -> LoopPool:
        if self._closed:
            raise UsageError(CLOSED)
        for left in take_ended(self._pools):
            left.abandon()
        pool = LoopPool(self._connect, self._size, self._patience)
        return self._pools.setdefault(asyncio.get_running_loop(), pool)


class AwaitingTheirs:
    """Carries out statements on the application's own asyncpg pool, with that pool's limits and time-outs."""

    def __init__(self, pool: "asyncpg.Pool[Any]", health: Health, name: str) -> None:
        self._pool, self._health, self._name = pool, health, name
        self._upkeep: asyncio.Task[None] | None = None
        self._returning: set[asyncio.Task[None]] = set()
        """Ways back to the pool: an event loop holds tasks only weakly."""

    async def fetch(self, statement: str, *args: Any) -> Sequence[Row]:
        """Carry out one statement."""
        return await self._fetch(statement, args, None)

    async def aside(self, statement: str, *args: Any) -> Sequence[Row]:
        """Carry out one that may take its time."""
        return await self._fetch(statement, args, SLOWLY)

    def later(self, statement: str, *args: Any) -> None:
        """Carry it out beside the requests, one at a time."""
        if self._upkeep is None or self._upkeep.done():
            self._upkeep = asyncio.get_running_loop().create_task(_quietly(self, statement, args))

    async def _fetch(self, statement: str, args: tuple[Any, ...], patience: float | None) -> Sequence[Row]:
        for turn in range(1, TURNS + 1):
            if not self._health.well:
                self._health.admit()
            link = await self._take()
            try:
                rows: Sequence[Row] = await link.fetch(statement, *args, timeout=patience)
                self._health.worked()
                return rows
            except Exception as error:
                if not (connected := _is_as_new(link, error)):
                    link.terminate()
                if not _told(self._health, None, error, connected) or turn == TURNS:
                    raise as_sent(error, connected=connected) from error
            finally:
                await self._pool.release(link)
        raise AssertionError  # the last turn returns or raises

    async def _take(self) -> Any:
        try:
            if self._pool.get_idle_size():
                return await self._pool.acquire()
            # One may have to be made: see `LoopPool`.
            making = asyncio.get_running_loop().create_task(_acquired(self._pool))
            try:
                return await making
            except asyncio.CancelledError:  # perhaps when it had been made, and before we heard of it
                making.add_done_callback(self._give_back)
                raise
        except Exception as error:
            raise _not_reached(error, self._health, self._name, True) or AssertionError() from error

    def _give_back(self, making: "asyncio.Task[Any]") -> None:
        if not making.cancelled() and making.exception() is None:
            back = making.get_loop().create_task(_returned(self._pool, making.result()))
            self._returning.add(back)
            back.add_done_callback(self._returning.discard)


_inherited: list[Any] = []
"""What a parent's event loops had: held for ever, since to let go of a connection is to close it."""


def _is_as_new(link: Any, error: Exception) -> bool:
    """Whether an awaiting connection has been answered and may go on."""
    return is_answered(error) and not link.is_closed() and not only_reads(error)


def _told(health: Health, pool: "Threads | LoopPool | None", error: Exception, connected: bool) -> bool:
    """Tell of how a statement failed. Returns whether the server undid it, so that it may be sent again.

    Where the server only reads, or has not answered several times in a row, the idle connections to it go as well: each would
    cost another request its time-out, long after a standby has been promoted in that server's place.
    """
    if connected:
        health.worked()
    else:
        health.failed(error)
        if pool is not None and (health.is_broken or only_reads(error)):
            pool.forget_idle()
    return connected and is_undone(error)


def _not_reached(error: Exception, health: Health, name: str, is_last: bool) -> SessionError | None:
    """What to raise where no connection could be had; None: try again."""
    told = unreachable(error, name, refused=is_refused(error))
    if not isinstance(told, StoreUnavailable):
        return told
    if not is_last:
        return None
    health.failed(error)
    return told


async def _acquired(pool: "asyncpg.Pool[Any]") -> Any:
    return await pool.acquire()


async def _returned(pool: "asyncpg.Pool[Any]", link: Any) -> None:
    await pool.release(link)


async def _quietly(client: Client, statement: str, args: tuple[Any, ...]) -> None:
    try:
        await client.aside(statement, *args)
    except SessionError as error:
        _log_upkeep(error)


def _log_upkeep(error: SessionError) -> None:
    log.warning("store: upkeep was put off: %s", error)
