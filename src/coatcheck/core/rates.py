"""How often something may happen: "100/minute", "5 per 10 minutes", "20/1h". Pure."""

import re
from typing import Final, NamedTuple

from coatcheck.errors import ConfigurationError

__all__ = ["Rate", "rate"]

_UNITS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
_SHORT: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_TEXT: Final = re.compile(
    r"\s*(\d{1,9})\s*(?:/|per)\s*(\d{0,6})\s*(seconds?|minutes?|hours?|days?|[smhd])\s*", re.IGNORECASE
)
LONGEST: Final = 400 * 86_400.0


class Rate(NamedTuple):
    """At most `limit` times in `window` seconds, which begin with the first."""

    limit: int
    window: float

    def __str__(self) -> str:
        return f"{self.limit}/{self.window:g}s"


def rate(given: object, *, setting: str) -> Rate:
    """The rate that a text means, or a `Rate`, checked. Raises ConfigurationError, naming the setting and what to write."""
    made = _read(given) if isinstance(given, str) else given
    if not isinstance(made, Rate):
        raise ConfigurationError(
            f"{setting}={given!r}: give a number and a time, such as '100/minute' or '5 per 10 minutes'"
        )
    limit, window = made
    if type(limit) is not int or limit < 1 or not 0 < window <= LONGEST:
        raise ConfigurationError(f"{setting}={given!r}: give at least 1 in a time from 1 second to 400 days")
    return made


def _read(text: str) -> Rate | None:
    found = _TEXT.fullmatch(text)
    if found is None:
        return None
    unit = found[3].lower()
    one = _SHORT.get(unit) or _UNITS[unit.removesuffix("s")]
    return Rate(int(found[1]), float(int(found[2] or 1) * one))
