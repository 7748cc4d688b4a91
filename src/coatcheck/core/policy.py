"""Timeouts, and the arithmetic of deadlines. Pure: `now` comes in, a deadline goes out."""

import math
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NamedTuple

from coatcheck.errors import ConfigurationError

__all__ = ["Seconds", "Timeouts", "duration", "seconds"]

DAY: Final = 86_400.0
MILLISECONDS_FROM: Final = 86_400_000
"""From here on a number of seconds (2.7 years) is far likelier a number of milliseconds."""
_WITH_UNIT: Final = re.compile(r"([0-9]{1,6})([smhd])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(value: float | timedelta, *, setting: str) -> float:
    """A duration in seconds, from seconds or a timedelta.

    Raises ConfigurationError for what is no duration: not positive, not finite, a bool, a text, or so large that it
    looks like milliseconds.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(f"{setting}={value!r}: give seconds (a number) or a timedelta")
    elif value >= MILLISECONDS_FROM:
        raise ConfigurationError(
            f"{setting}={value!r} looks like milliseconds; times are seconds: {value / 1000:g}, or a timedelta"
        )
    if not (math.isfinite(value) and value > 0):
        raise ConfigurationError(f"{setting}={value!r}: a duration must be positive and finite")
    return float(value)


def duration(value: str | float | timedelta, *, setting: str) -> float:
    """The same, also from a number with its unit: "30s", "10m", "12h", "30d"."""
    if not isinstance(value, str):
        return seconds(value, setting=setting)
    found = _WITH_UNIT.fullmatch(value)
    if found is None or int(found[1]) == 0:
        raise ConfigurationError(
            f"{setting}={value!r}: give a number and s, m, h or d, such as '10m', or seconds, or a timedelta"
        )
    return float(int(found[1]) * _UNITS[found[2]])


class Seconds(NamedTuple):
    """Timeouts as the flows use them."""

    idle: float
    absolute: float
    remember: float
    renewal: float | None
    touch: float


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """How long sessions live. Each is seconds or a timedelta.

    Deviations from the presets of NIST SP 800-63B-4 are justified in docs/security.md (checklist 75, ASVS 7.1.1).
    """

    idle: float | timedelta = DAY
    """Ends a session not seen for so long (ASVS 7.3.1)."""
    absolute: float | timedelta = 30 * DAY
    """Ends a session so long after it was created or, once logged in, after the login (ASVS 7.3.2). Nothing extends
    it.
    """
    remember: float | timedelta = 30 * DAY
    """The idle timeout of a login with `remember=True`; its cookie outlives the browser."""
    renewal: float | timedelta | None = 3600.0
    """A logged-in session gets a new verifier at this age of the old one (OWASP "renewal timeout"). None: never."""
    touch: float | timedelta = 60.0
    """A request that only reads moves the deadline at most this often, so that reading costs one command."""

    def __post_init__(self) -> None:
        for name in ("idle", "absolute", "remember", "touch"):
            object.__setattr__(self, name, seconds(getattr(self, name), setting=f"Timeouts.{name}"))
        if self.renewal is not None:
            object.__setattr__(self, "renewal", seconds(self.renewal, setting="Timeouts.renewal"))
        # A deadline that moves in steps longer than the timeout would log out people who are still there.
        object.__setattr__(self, "touch", min(float(self.touch), float(self.idle) / 4))  # type: ignore[arg-type]  # floats by now

    def in_seconds(self) -> Seconds:
        """The same, as plain floats."""
        return Seconds(*(getattr(self, name) for name in Seconds._fields))

    @classmethod
    def aal1(cls) -> "Timeouts":
        """NIST SP 800-63B-4 section 2.1.3: reauthentication at least every 30 days."""
        return cls(idle=30 * DAY, absolute=30 * DAY)

    @classmethod
    def aal2(cls) -> "Timeouts":
        """Section 2.2.3: 24 hours, and one hour of inactivity. Remember-me has no longer idle time than anyone."""
        return cls(idle=3600, absolute=DAY, remember=3600)

    @classmethod
    def aal3(cls) -> "Timeouts":
        """Section 2.3.3: 12 hours, and 15 minutes of inactivity."""
        return cls(idle=900, absolute=DAY / 2, remember=900, renewal=900)
