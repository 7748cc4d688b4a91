"""What two stores do as one beside the sessions, while these move: upkeep, counters, and telling of what ends."""

from collections.abc import Callable
from typing import Any, Final

from coatcheck.core.ports import (
    NO_TALLY,
    Checks,
    Counts,
    NeverWaits,
    Notice,
    SetsUp,
    Sweeps,
    Tallies,
    Tally,
    TellsTime,
    Watches,
)

__all__ = ["pass_both"]


def pass_both(store: Any, first: Any, second: Any) -> None:
    """Give `store` those of these abilities that both have: as attributes of the object, so that whoever asks is told the truth.
    To be set up is needed where either needs it.

    `first` is the store that sessions begin in.
    """
    both = _Both(first, second)
    if isinstance(first, SetsUp) or isinstance(second, SetsUp):
        store.setup = both.setup
    for ability, names in _ABILITIES.items():
        if isinstance(first, ability) and isinstance(second, ability):
            for name in names:
                setattr(store, name, getattr(both, name))


_ABILITIES: Final[dict[type, tuple[str, ...]]] = {
    Sweeps: ("sweep",),
    Counts: ("count",),
    Checks: ("check",),
    TellsTime: ("time",),
    Tallies: ("tally", "tallied", "end_tally"),
    Watches: ("watch",),
    NeverWaits: ("never_waits",),
}


class _Both:
    never_waits: Final = True

    def __init__(self, first: Any, second: Any) -> None:
        self._first, self._second = first, second

    async def sweep(self, *, now: float, limit: int = 1000) -> int:
        """Delete up to `limit` expired records of either."""
        gone: int = await self._first.sweep(now=now, limit=limit)
        return gone + await self._second.sweep(now=now, limit=limit - gone) if gone < limit else gone

    async def count(self, *, now: float) -> int:
        """How many live in both. One that has just been carried counts twice while the old store notes where it went."""
        first: int = await self._first.count(now=now)
        return first + int(await self._second.count(now=now))

    async def check(self) -> None:
        """Return if both work."""
        await self._first.check()
        await self._second.check()

    async def setup(self) -> None:
        """Make what either needs."""
        for store in (self._first, self._second):
            if isinstance(store, SetsUp):
                await store.setup()

    async def time(self) -> float:
        """What the server that sessions begin in takes for the time."""
        told: float = await self._first.time()
        return told

    async def tally(
        self, key: str, *, window: float, now: float, amount: int = 1, prolong: bool = False
    ) -> Tally:
        """Count in one, and add what the other has counted: a move must not give anybody a second try."""
        there = await self._first.tally(key, window=window, now=now, amount=amount, prolong=prolong)
        return _sum(there, await self._second.tallied(key, now=now))

    async def tallied(self, key: str, *, now: float) -> Tally:
        """What both have counted."""
        return _sum(await self._first.tallied(key, now=now), await self._second.tallied(key, now=now))

    async def end_tally(self, key: str) -> None:
        """Forget it in both."""
        await self._first.end_tally(key)
        await self._second.end_tally(key)

    def watch(self, tell: Callable[[Notice], None]) -> Callable[[], None]:
        """Have `tell` called with what either says; "watching" only while both do."""
        ears = [_Ear(tell), _Ear(tell)]
        ears[0].other, ears[1].other = ears[1], ears[0]
        stops = [self._first.watch(ears[0].hear)]
        try:
            stops.append(self._second.watch(ears[1].hear))
        except BaseException:
            stops[0]()
            raise

        def stop() -> None:
            for one in stops:
                one()

        return stop


class _Ear:
    """One of two watches."""

    other: "_Ear"

    def __init__(self, tell: Callable[[Notice], None]) -> None:
        self._tell = tell
        self.state: Notice | None = None
        self.has_beaten = False
        """Since "watching" was last told."""

    def hear(self, notice: Notice) -> None:
        if notice.kind == "ended":
            self._tell(notice)
            return
        self.state, self.has_beaten = notice, notice.kind == "watching"
        if notice.kind == "lost":
            self.other.has_beaten = False
            self._tell(notice)
        elif self._beats() and self.other._beats():
            # Each has answered since this was last told: were one enough, nobody would notice that the other is silent.
            self.has_beaten = self.other.has_beaten = False
            self._tell(Notice("watching", for_good=self._is_for_good() and self.other._is_for_good()))

    def _beats(self) -> bool:
        return self.has_beaten or self._is_for_good()

    def _is_for_good(self) -> bool:
        return self.state is not None and self.state.for_good


def _sum(one: Tally, other: Tally) -> Tally:
    if other == NO_TALLY or one == NO_TALLY:
        return one if other == NO_TALLY else other
    return Tally(one.total + other.total, max(one.until, other.until))
