"""Twice the input, about twice the time: measured for each reader on inputs that have made other readers slow."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from fuzz.octets import OCTETS

__all__ = ["LIMIT", "Growth", "measure"]

LIMIT = 2.5
"""t(2n) / t(n): 2 is linear, 4 is quadratic (checklist 46)."""
ENOUGH = 2.2
"""A ratio that is not measured again."""
LEAST = 200e-6
"""Seconds that a measurement takes at least, by repeating: below, the clock and the machine decide."""
ROUNDS = 5
PATIENCE = 6
"""How often a ratio that is too large is measured again: a busy machine makes any ratio, but not every time."""


@dataclass(frozen=True)
class Growth:
    """How one reader's time grows: the worst family, its ratio, and the time of one input of `size` octets."""

    family: str
    ratio: float
    size: int
    seconds: float


def measure(name: str) -> Growth:
    """The worst growth of one target."""
    target = OCTETS[name]
    grown = [_family(target.check, make, family, target.size) for family, make in target.families.items()]
    return max(grown, key=lambda growth: growth.ratio)


def _family(check: Callable[[bytes], None], make: Callable[[int], bytes], family: str, size: int) -> Growth:
    single, double = make(size), make(2 * size)
    best = Growth(family, float("inf"), size, 0.0)
    for _ in range(PATIENCE):
        repeats = max(1, int(LEAST / max(_once(check, single, 1), 1e-9)))
        short = min(_once(check, single, repeats) for _ in range(ROUNDS))
        long = min(_once(check, double, repeats) for _ in range(ROUNDS))
        if long / short < best.ratio:
            best = Growth(family, long / short, size, short)
        if best.ratio <= ENOUGH:
            break
    return best


def _once(check: Callable[[bytes], None], data: bytes, repeats: int) -> float:
    began = time.process_time()
    for _ in range(repeats):
        check(data)
    return (time.process_time() - began) / repeats
