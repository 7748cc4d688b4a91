"""A clock that stands still until a test moves it."""

import re
import time
from datetime import timedelta
from typing import Final

from coatcheck.errors import UsageError
from coatcheck.flows import Clock

__all__ = ["FrozenClock", "duration"]

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def duration(value: float | timedelta | str) -> float:
    """Seconds, from seconds, a timedelta or a text such as "90s", "10m", "2h", "30d". Raises UsageError for anything else."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", value) if isinstance(value, str) else None
    if found is None:
        raise UsageError(f'{value!r}: give seconds, a timedelta or a text such as "90s", "10m", "2h", "30d"')
    return float(found[1]) * _UNITS[found[2]]


class FrozenClock(Clock):
    """Give it to an application as `clock=`; sessions then age by `tick()` alone.

    `start` is in seconds since the epoch, by default now. The monotonic half goes on by itself: it only measures how long a
    request takes, against a store's own clock.
    """

    _held: list[float]

    def __new__(cls, start: float | None = None) -> "FrozenClock":
        held = [float(int(time.time())) if start is None else start]
        clock = super().__new__(cls, time=lambda: held[0])
        clock._held = held
        return clock

    def tick(self, seconds: float | timedelta | str) -> float:
        """Let time pass: seconds, a timedelta or "2h". Returns the new time."""
        self._held[0] += duration(seconds)
        return self._held[0]

    def __repr__(self) -> str:
        return f"<FrozenClock at {self._held[0]}>"
