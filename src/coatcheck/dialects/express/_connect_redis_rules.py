"""The options of connect-redis: for how long each session is kept, and as what text. Pure."""

import re
from collections.abc import Callable
from math import ceil, isfinite
from typing import Any, Final, Protocol

from coatcheck.dialects.express.plain import dump, load
from coatcheck.errors import ConfigurationError, CorruptRecord, UsageError

__all__ = ["DAY", "Rules", "Serializer", "Ttl"]

DAY: Final = 86_400
Ttl = int | Callable[[dict[str, Any]], float]


class Serializer(Protocol):
    """What writes a session as text, and reads it: the same as the Node application's `stringify` and `parse`."""

    def dumps(self, session: dict[str, Any], /) -> str: ...

    def loads(self, text: str, /) -> Any: ...


class Rules:
    """connect-redis's options, and what follows from them for one session."""

    def __init__(
        self,
        prefix: str,
        ttl: Ttl,
        disable_ttl: bool,
        disable_touch: bool,
        scan_count: int,
        serializer: Serializer | None,
    ) -> None:
        self.prefix = _checked_prefix(prefix)
        self._ttl = _checked_ttl(ttl)
        self.endless = _checked_flag("disable_ttl", disable_ttl)
        self.touches = not (_checked_flag("disable_touch", disable_touch) or disable_ttl)
        if type(scan_count) is not int or scan_count < 1:
            raise ConfigurationError(f"scan_count={scan_count!r}: give a whole number, 1 or more")
        self.scan_count = scan_count
        self._serializer = _checked_serializer(serializer)
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

    def stored(self, text: bytes) -> bytes:
        """What Redis is to hold of this body."""
        if self._serializer is None:
            return text
        value = self._serializer.dumps(load(text))
        if type(value) is not str:
            raise UsageError(f"serializer.dumps() answered a {type(value).__name__}: let it answer text")
        return value.encode()

    def body(self, stored: bytes) -> bytes:
        """The body that Redis holds as this. Raises CorruptRecord for what is no text, or none of the serializer's."""
        try:
            text = stored.decode()
            return stored if self._serializer is None else dump(self._serializer.loads(text))
        except Exception as error:  # whatever a serializer raises. Its message may show what is stored
            raise CorruptRecord(
                f"what is stored is not connect-redis's text ({type(error).__name__})"
            ) from None


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


def _checked_serializer(serializer: Serializer | None) -> Serializer | None:
    if serializer is None or (
        callable(getattr(serializer, "dumps", None)) and callable(getattr(serializer, "loads", None))
    ):
        return serializer
    raise ConfigurationError(
        "serializer=…: give an object with dumps(session) and loads(text), as the module json is one"
    )


def _whole(seconds: object) -> int:
    """What an application's function answered, rounded up: Redis would refuse the half seconds that Node sends it."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not isfinite(seconds):
        said = seconds if isinstance(seconds, float) else f"a {type(seconds).__name__}"
        raise UsageError(f"the function ttl=… answered {said}: let it answer seconds")
    return ceil(seconds)
