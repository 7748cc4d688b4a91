"""Whether two actions take the same time: Welch's t-test, made to stand a noisy machine.

The two are measured turn by turn in random order, so that what the machine does meanwhile falls on both; the slowest half of each
is left out, since it measures the machine. A real leak shows in every attempt, noise in some: so only a leak that shows in all
attempts counts.
"""

import random
from collections.abc import Callable, Sequence
from math import sqrt
from statistics import fmean, variance
from time import perf_counter_ns
from typing import Any

__all__ = ["is_level", "is_linear"]

LIMIT = 4.5
"""The checklist's |t|."""
ATTEMPTS = 6


def is_level(
    action: Callable[[Any], Any], some: Sequence[Any], others: Sequence[Any], *, rounds: int
) -> bool:
    """Whether `action` takes as long on `some` inputs as on `others`, in at least one attempt.

    Several of each, so that where a single one happens to lie in memory says nothing.
    """
    return any(abs(_welch(action, some, others, rounds, attempt)) < LIMIT for attempt in range(ATTEMPTS))


def _welch(
    action: Callable[[Any], Any], some: Sequence[Any], others: Sequence[Any], rounds: int, seed: int
) -> float:
    rng, inputs = random.Random(seed), (some, others)
    times: tuple[list[int], list[int]] = ([], [])
    for _ in range(rounds):
        order = rng.random() < 0.5
        for which in (order, not order):
            given = rng.choice(inputs[which])
            began = perf_counter_ns()
            action(given)
            times[which].append(perf_counter_ns() - began)
    first, second = (sorted(each)[: rounds // 2] for each in times)
    spread = sqrt(variance(first) / len(first) + variance(second) / len(second))
    return (fmean(first) - fmean(second)) / spread if spread else 0.0


def is_linear(action: Callable[[int], Any], small: int) -> bool:
    """Whether eight times the size takes less than twenty times as long: a quadratic action takes sixty-four times.

    As the checklist has it, 2.5 for each doubling, give or take. One attempt in which the machine kept still is enough.
    """
    return any(_growth(action, small, 8) < 20 for _ in range(ATTEMPTS))


def _growth(action: Callable[[int], Any], small: int, times: int) -> float:
    """How much longer `action(small * times)` takes than `action(small)`, by the best of several tries each."""

    def best(size: int) -> float:
        tries = []
        for _ in range(7):
            began = perf_counter_ns()
            action(size)
            tries.append(perf_counter_ns() - began)
        return min(tries)

    return best(small * times) / max(best(small), 1)
