"""Everybody's sessions ended at once: a number that is raised, and that every session carries from its beginning.

Theory of operation. `Record.era` is written when a session begins or is logged in. A session of an earlier era than the present
one is over, whatever else its record says. So to end a million sessions is to write one record: the present era, under `ERA_KEY`,
with the five verbs that every store has. Nothing is searched, and no session has to be found (checklist 71, 177: a counter, not
seconds).

What it costs, and what it cannot do. A process asks for the present era again when what it knows is `LAG` seconds old: one small
command now and then, none in a request otherwise. So an end of all sessions is known everywhere `LAG` seconds later, and at once
in the process that called for it. A login that a process admits before it knows belongs to the old era, and is over with it. One
whose request began less than `LAG` seconds after the end is refused, so far may the clocks of application servers be apart. So no
login from before survives, without a second look at a store; the price is those few seconds.

Who watches the store is told at once: of the end of a session whose key begins with `EVERYONE`.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import inf
from typing import Final, TypeVar

from msgspec.structs import replace

from coatcheck.core.ports import EVERYONE, SAVED, Remembers, Store
from coatcheck.core.record import Record
from coatcheck.errors import ConfigurationError, ReplyLost, StoreError, StoreUnavailable

__all__ = ["ERA_KEY", "LAG", "Eras"]

T = TypeVar("T")

LAG: Final = 5.0
"""Seconds until every process knows that everybody's sessions were ended."""
ERA_KEY: Final = "coatcheck-present-era"
"""No session can have this key: ours have 24 characters, and a `genid` that makes it is told that it is taken."""
_CENTURY: Final = 100 * 365 * 86_400.0
"""Seconds for which an era is kept. Nothing may forget it: what it ended would live again."""
_ATTEMPTS: Final = 100


class Eras:
    """The present era of one store, as this process knows it.

    `lag` is how long what is known is relied upon, in seconds; 0 asks each time.
    """

    def __init__(self, store: Store, *, lag: float = LAG) -> None:
        self._store, self.lag = store, lag
        self._remembers = store if isinstance(store, Remembers) else None
        self.number = 0
        """0: nobody has ever ended everybody's sessions."""
        self.at = -inf
        """When the present era began."""
        self.read_at = -inf

    async def catch_up(self, now: float) -> None:
        """Know the present era, no more than `lag` seconds late. Raises StoreError."""
        if not 0 <= now - self.read_at < self.lag:
            found = await self._asked(now)
            self._learn(found, now)

    def doubt(self) -> None:
        """Ask anew at the next look: the store told that everybody's sessions were ended."""
        self.read_at = -inf

    def is_over(self, record: Record) -> bool:
        """Whether this session is of an earlier era."""
        return record.era < self.number

    def stamped(self, record: Record) -> Record:
        """The record of a session that begins now."""
        return record if record.era == self.number else replace(record, era=self.number)

    def refuses(self, began: float) -> bool:
        """Whether a login may not be: its request began before the present era, or so soon after that nobody can tell."""
        return began <= self.at + LAG

    async def begin(self, now: float, new_version: Callable[[], str]) -> None:
        """Begin the next era: every session there is, is over. Raises StoreError, and ConfigurationError for a store that
        keeps only some of a record.
        """
        version = new_version()
        for _ in range(_ATTEMPTS):
            found = await self._asked(now)
            if found is not None and version in found.versions:
                return await self._known(found, now, new_version)
            with suppress(ReplyLost):  # it is seen at the next look whether it was written
                await self._write(found, version, now)
        raise StoreUnavailable(f"another process was first {_ATTEMPTS} times in a row; try again later")

    async def _write(self, found: Record | None, version: str, now: float) -> None:
        # By the clock, so that it is higher than any before it, even where a store has lost what it kept.
        number = max((found.era if found else 0) + 1, self.number + 1, int(now))
        latest = now + _CENTURY
        record = Record(ERA_KEY, (version,), b"", b"{}", now, now, latest, latest, rotated_at=now, era=number)
        if found is None:
            await self._store.create(record, now=now)
        else:
            record = replace(record, versions=(version, *found.versions[:8]))
            await self._store.replace(record, expected=found.versions[0], now=now)

    async def _known(self, found: Record, now: float, new_version: Callable[[], str]) -> None:
        if found.era == 0:
            await self._store.delete(ERA_KEY, now=now, token=new_version())
            raise ConfigurationError(
                f"store={type(self._store).__name__}: it does not keep the era of a session (Record.era), so everybody's sessions"
                " cannot be ended at once; change the secret instead"
            )
        self._learn(found, now)
        with suppress(StoreError):  # it has happened; who is not told, sees it after LAG
            await self._ring(f"{EVERYONE}{new_version()}", now, new_version())

    async def _ring(self, key: str, now: float, token: str) -> None:
        """Have the store tell those who watch it, by the end of a session that nobody had."""
        bell = Record(key, (token,), b"", b"{}", now, now, now + 60, now + 60, era=self.number)
        if await self._store.create(bell, now=now) is SAVED:
            await self._store.delete(key, now=now, token=token)

    def _learn(self, found: Record | None, now: float) -> None:
        number, at = (0, -inf) if found is None else (found.era, found.rotated_at or found.created_at)
        if number >= self.number or not self.lag:
            self.number, self.at = number, at
        self.read_at = now

    async def _asked(self, now: float) -> Record | None:
        """What is stored as the present era, whatever the store may remember of it."""
        load = self._store.load if self._remembers is None else self._remembers.load_anew
        found = await _asked(lambda: load(ERA_KEY, now=now))
        return found if isinstance(found, Record) else None


async def _asked(question: Callable[[], Awaitable[T]]) -> T:
    try:
        return await question()
    except ReplyLost:  # a question may be asked again
        return await question()
