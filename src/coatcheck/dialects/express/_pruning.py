"""When a store of the Node world deletes by itself what has expired: beside a write, since nothing of ours runs by a timer."""

import random
from math import inf
from typing import Final

__all__ = ["Turn"]

BEGUN_AT_MOST: Final = 500
"""Sessions that this process may begin before it prunes again, fewer than one pruning takes: so what expires never piles up."""


class Turn:
    """When it is time to prune: after a while, or after many new sessions. `every`: seconds; infinite: never."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._at: float | None = None
        self._begun = 0

    def has_come(self, now: float, *, begins: bool) -> bool:
        """Whether it is time, at a write that `begins` a session or does not. True begins to count anew."""
        self._begun += begins
        if self._at is None:
            self._at = self._next(now)
        if self._every == inf or (now < self._at and self._begun < BEGUN_AT_MOST):
            return False
        self._at, self._begun = self._next(now), 0
        return True

    def _next(self, now: float) -> float:
        """Half to half as much again, as the package has it: processes take turns."""
        return now + self._every * (0.5 + random.random())
