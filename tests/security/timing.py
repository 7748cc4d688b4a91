"""Whether two actions take the same time: Welch's t-test, made to stand a noisy machine.

The two are measured turn by turn in random order, so that what the machine does meanwhile falls on both; the slowest half of each
is left out, since it measures the machine. A real leak shows in every attempt, noise in some: so only a leak that shows in all
attempts counts.
"""

import random
from collections.abc import Callable
from math import sqrt
from statistics import fmean, variance
from time import perf_counter_ns
from typing import Any

__all__ = ["growth", "is_level"]

Action = Callable[[], Any]
LIMIT = 4.5
"""The checklist's |t|."""
ATTEMPTS = 6


def is_level(one: Action, other: Action, *, rounds: int) -> bool:
    """Whether there is an attempt in which no difference shows."""
    return any(abs(_welch(one, other, rounds, attempt)) < LIMIT for attempt in range(ATTEMPTS))


def _welch(one: Action, other: Action, rounds: int, seed: int) -> float:
    rng, actions = random.Random(seed), (one, other)
    times: tuple[list[int], list[int]] = ([], [])
    for _ in range(rounds):
        order = rng.random() < 0.5
        for which in (order, not order):
            began = perf_counter_ns()
            actions[which]()
            times[which].append(perf_counter_ns() - began)
    first, second = (sorted(each)[: rounds // 2] for each in times)
    spread = sqrt(variance(first) / len(first) + variance(second) / len(second))
    return (fmean(first) - fmean(second)) / spread if spread else 0.0


def growth(action: Callable[[int], Any], small: int, times: int) -> float:
    """How much longer `action(small * times)` takes than `action(small)`, by the best of several tries each."""

    def best(size: int) -> float:
        tries = []
        for _ in range(7):
            began = perf_counter_ns()
            action(size)
            tries.append(perf_counter_ns() - began)
        return min(tries)

    return best(small * times) / max(best(small), 1)
