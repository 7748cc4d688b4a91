"""How visitors are served: what they are answered, how long they wait for a refusal, how long they go without a page. Pure."""

from bisect import bisect_left
from collections import Counter, defaultdict
from itertools import pairwise
from math import inf

from tests.faults.told import Asked, Outcome

__all__ = ["Service"]


class Service:
    """Told of every operation when it has ended."""

    def __init__(self) -> None:
        self.outcomes: Counter[Outcome] = Counter()
        self.errors: Counter[int] = Counter()
        """Answers by status, but 200 and 503."""
        self.refusals, self.slowest_refusal = 0, 0.0
        self._successes: defaultdict[str, list[float]] = defaultdict(list)
        """By browser: when each page came."""

    def took(self, asked: Asked) -> None:
        """One operation."""
        self.outcomes[asked.outcome] += 1
        if asked.status == 200:
            self._successes[asked.who].append(asked.ended)
        elif asked.status == 503:
            self.refusals += 1
            self.slowest_refusal = max(self.slowest_refusal, asked.ended - asked.began)
        else:
            self.errors[asked.status] += 1

    def recovered(self, at: float) -> float:
        """Seconds from a moment until every browser had its first success after it; infinite if one has none yet."""
        firsts = ((times, bisect_left(times, at)) for times in self._successes.values())
        return max((times[n] - at if n < len(times) else inf for times, n in firsts), default=inf)

    def unavailable(self, until: float | None = None) -> float:
        """Seconds that the least lucky browser went from one success to the next, or to the end."""
        last = [] if until is None else [until]
        ways = ([*times, *last] for times in self._successes.values())
        return max((later - earlier for way in ways for earlier, later in pairwise(way)), default=0.0)
