"""Speaking to one Redis server from event loops: a line of commands for each (`_redis_direct`, `_redis_pooled`)."""

import asyncio
from collections.abc import Callable
from typing import Any

from coatcheck.core.ports import Notice
from coatcheck.errors import StoreError, StoreUnavailable, UsageError
from coatcheck.stores._loops import take_ended
from coatcheck.stores._redis_client import (
    SCAN_COUNT,
    Calls,
    Settings,
    command,
    leave_behind,
    pack,
    sentinels_of,
    tell_of_forks,
)
from coatcheck.stores._redis_errors import last_of
from coatcheck.stores._redis_scripts import ANYTHING, Script
from coatcheck.stores._redis_watch import watch_awaiting
from coatcheck.stores._redis_work import Line, LineOf, Work

__all__ = ["Awaiting"]


class Awaiting:
    """Speaks from event loops, a line for each."""

    def __init__(self, line_of: LineOf, make: Callable[[], Any], settings: Settings) -> None:
        """`make` makes a pool of redis-py's, and `line_of` a line over it."""
        self._line_of, self._make = line_of, make
        self._settings = settings
        self._health = settings.health
        self._retries = settings.retries
        self._lines: dict[asyncio.AbstractEventLoop, Line] = {}
        self._closed = False
        tell_of_forks(self)

    def run(self, script: Script, keys: tuple[str, ...], args: tuple[Any, ...] = ()) -> "asyncio.Future[Any]":
        """Not a coroutine: what waits is the future itself, and there is one object less for the garbage collector to visit."""
        packed = command(script.words(keys, args))
        return self._join(packed, script.reads, script.answers, script if script.source else None, keys, args)

    async def all(self, script: Script, calls: Calls) -> list[Any]:
        futures = [self.run(script, keys, args) for keys, args in calls]
        answers: list[Any] = []
        try:
            for future in futures:
                try:
                    answers.append(await future)
                except StoreError as error:
                    answers.append(error)
        except asyncio.CancelledError:
            for future in futures:
                future.cancel()  # nobody will ask how these went
            raise
        if (failure := last_of(answers)) is not None:
            raise failure
        return answers

    async def scan(self, pattern: str, cursor: Any, count: int = SCAN_COUNT) -> tuple[list[bytes], Any]:
        words = ("SCAN", cursor or b"0", "MATCH", pattern, "COUNT", count)
        following, keys = await self._join(pack(words), True)
        return keys, None if following == b"0" else following

    async def ask_all(self, *words: str) -> list[Any]:
        try:
            return [await self._join(pack(words), True)]
        except StoreUnavailable:
            raise
        except StoreError:
            return [None]

    def watch(self, channel: str, tell: Callable[[Notice], None]) -> Callable[[], None]:
        return watch_awaiting(self._lent, channel, tell)

    async def _lent(self) -> Any:
        return self._line().pool.make_connection()

    def _join(
        self,
        packed: bytes,
        reads: bool,
        answers: frozenset[type] = ANYTHING,
        script: Script | None = None,
        keys: tuple[str, ...] = (),
        args: tuple[Any, ...] = (),
    ) -> "asyncio.Future[Any]":
        if not self._health.well:
            self._health.admit()
        loop = asyncio.get_running_loop()
        line = self._lines.get(loop) or self._line()
        future = loop.create_future()
        line.join(Work(packed, reads, self._retries, future, answers, script, keys, args))
        return future

    def _line(self) -> Line:
        if self._closed:
            raise UsageError(f"the store {self._settings.name} is closed")
        loop = asyncio.get_running_loop()
        if loop not in self._lines:
            take_ended(self._lines)
            self._lines[loop] = self._line_of(loop, self._make(), self._settings)
        return self._lines[loop]

    def start_afresh(self) -> None:
        """After a fork: the connections are the parent's. They are neither used nor closed, which over TLS would be heard."""
        leave_behind(self._lines)
        self._lines = {}

    async def aclose(self, *, owned: bool) -> None:
        """Close the connections of this event loop; those of others go with their loops."""
        self._closed = True
        lines, self._lines = self._lines, {}
        line = lines.get(asyncio.get_running_loop())
        if line is not None:
            await line.close()
            if owned:
                await line.pool.disconnect()
                for sentinel in sentinels_of(line.pool):
                    await sentinel.aclose()
