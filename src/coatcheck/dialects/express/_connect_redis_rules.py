"""The options of connect-redis, and for how long each session is kept. Pure."""

import re
from collections.abc import Callable
from math import ceil, isfinite
from typing import Any, Final

from coatcheck.dialects.express.plain import load
from coatcheck.errors import ConfigurationError, UsageError

__all__ = ["DAY", "Rules", "Ttl"]

DAY: Final = 86_400
Ttl = int | Callable[[dict[str, Any]], float]


class Rules:
    """connect-redis's options, and what follows from them for one session."""

    def __init__(
        self, prefix: str, ttl: Ttl, disable_ttl: bool, disable_touch: bool, scan_count: int
    ) -> None:
        self.prefix = _checked_prefix(prefix)
        self._ttl = _checked_ttl(ttl)
        self.endless = _checked_flag("disable_ttl", disable_ttl)
        self.touches = not (_checked_flag("disable_touch", disable_touch) or disable_ttl)
        if type(scan_count) is not int or scan_count < 1:
            raise ConfigurationError(f"scan_count={scan_count!r}: give a whole number, 1 or more")
        self.scan_count = scan_count
        self.pattern = re.sub(r"([\\*?\[\]])", r"\\\1", self.prefix) + "*"

    def seconds(self, text: bytes, expires: float | None, now: float) -> int:
        """For how many seconds this session is kept; 0 or less: not at all.

        In connect-redis's order: what the function says, the end of the cookie, the default. Both sides round up, from
        milliseconds, which is all that JavaScript's dates have.
        """
        if not isinstance(self._ttl, int):
            return _whole(self._ttl(load(text)))
        if expires is None:
            return self._ttl
        left: int = round((expires - now) * 1000)
        return -(-left // 1000)


def _checked_prefix(prefix: str) -> str:
    try:
        prefix.encode()
    except (AttributeError, UnicodeError):
        raise ConfigurationError(
            f'prefix={prefix!r}: give the text that keys begin with, as in "sess:"'
        ) from None
    return prefix


def _checked_ttl(ttl: Ttl) -> Ttl:
    if callable(ttl) or (type(ttl) is int and ttl > 0):
        return ttl
    raise ConfigurationError(
        f"ttl={ttl!r}: give whole seconds, 1 or more ({DAY} is connect-redis's default), or a function of the session"
    )


def _checked_flag(name: str, value: bool) -> bool:
    if type(value) is not bool:
        raise ConfigurationError(f"{name}={value!r}: give True or False")
    return value


def _whole(seconds: object) -> int:
    """What an application's function answered, rounded up: Redis would refuse the half seconds that Node sends it."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not isfinite(seconds):
        said = seconds if isinstance(seconds, float) else f"a {type(seconds).__name__}"
        raise UsageError(f"the function ttl=… answered {said}: let it answer seconds")
    return ceil(seconds)
