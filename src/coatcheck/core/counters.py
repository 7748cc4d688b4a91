"""Counters in memory, within a bound that no flood of keys can break (checklist 198). Pure: whoever has threads has a lock.

At the bound, what is over goes first; then the counters with the least in them. So a flood of new keys, each counted once or
twice, pushes itself out, and not the counters of those who are blocked.
"""

from heapq import nsmallest
from typing import Final

from coatcheck.core.ports import NO_TALLY, Tally
from coatcheck.errors import ConfigurationError

__all__ = ["Counters"]

MOST: Final = 100_000
SHARE: Final = 10
"""One in so many goes when there is no room, so that the walk over all of them is paid for by as many new ones."""


class Counters:
    """At most `most` counters. Raises ConfigurationError for a bound below 1."""

    __slots__ = ("_most", "_tallies")

    def __init__(self, most: int = MOST) -> None:
        if type(most) is not int or most < 1:
            raise ConfigurationError(f"most={most!r}: give a whole number, 1 or more")
        self._most = most
        self._tallies: dict[str, Tally] = {}

    def __len__(self) -> int:
        return len(self._tallies)

    def __repr__(self) -> str:
        return f"<Counters, {len(self._tallies)} of at most {self._most}>"

    def add(self, key: str, *, window: float, now: float, amount: int = 1, prolong: bool = False) -> Tally:
        """Add to a counter: see `coatcheck.core.ports.Tallies`."""
        there = self._tallies.get(key)
        if there is None and len(self._tallies) >= self._most:
            self._make_room(now)
        if there is None or there.until <= now:
            there = Tally(0, now + window)
        elif prolong:
            there = there._replace(until=max(there.until, now + window))
        tally = self._tallies[key] = there._replace(total=max(0, there.total + amount))
        return tally

    def look(self, key: str, *, now: float) -> Tally:
        """What a counter says."""
        there = self._tallies.get(key)
        return NO_TALLY if there is None or there.until <= now else there

    def end(self, key: str) -> None:
        """Forget a counter."""
        self._tallies.pop(key, None)

    def sweep(self, now: float) -> None:
        """Forget those that are over."""
        self._forget([key for key, there in self._tallies.items() if there.until <= now])

    def _make_room(self, now: float) -> None:
        self.sweep(now)
        if len(self._tallies) >= self._most:
            tallies = self._tallies
            self._forget(nsmallest(max(1, self._most // SHARE), tallies, key=lambda key: tallies[key].total))

    def _forget(self, keys: list[str]) -> None:
        for key in keys:
            self._tallies.pop(key, None)
