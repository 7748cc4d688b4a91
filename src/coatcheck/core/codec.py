"""How a session's data becomes bytes and comes back: equal, and of the same type.

The data is one JSON object. It is taken apart without decoding the values (`split`), each value is decoded when it is read
(`decode`), what was written is encoded by itself (`encode`), and all is put back together (`join`).

Plain JSON values are stored as plain JSON; `tagged.py` has the few other types, and every refusal. Here is the fast path, which
never copies a value that is plain already.

Strict on the way in, because msgspec alone is not: NaN becomes null, tuples lists, `{1: …}` string keys and enums their values.
Strict on the way out: anything that is not JSON of bounded depth is `CorruptRecord` (checklist 111, 112).
"""

import re
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from coatcheck.core.tagged import (
    ATOMS,
    FIX_SURROGATE,
    HIGHEST,
    LOWEST,
    MAX_DEPTH,
    is_text,
    lift,
    lower,
    refusal,
)
from coatcheck.errors import CorruptRecord, UnstorableValue

__all__ = [
    "EMPTY",
    "MALFORMED",
    "MAX_DEPTH",
    "decode",
    "encode",
    "finished",
    "join",
    "join_raw",
    "quick_decode",
    "quick_join",
    "quick_split",
    "raw",
    "same",
    "split",
]

EMPTY: Final = b"{}"

Part: TypeAlias = bytes | msgspec.Raw
"""One value, encoded."""

T = TypeVar("T")

quick_split: Final[Callable[[bytes], dict[str, msgspec.Raw]]] = msgspec.json.Decoder(
    dict[str, msgspec.Raw]
).decode
"""`split` as far as nothing is wrong; raises one of `MALFORMED`. For the hot path: a function around it costs 300
instructions more.
"""
quick_decode: Final[Callable[[Part], Any]] = msgspec.json.Decoder().decode
"""`decode` of a value that is no container, as far as nothing is wrong; what is one needs `finished` besides."""
quick_join: Final = msgspec.json.Encoder().encode
"""`join_raw` as far as nothing is wrong; raises UnicodeEncodeError."""
_ENCODE: Final = msgspec.json.Encoder().encode
_SORTED: Final = msgspec.json.Encoder(order="sorted").encode
MALFORMED: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_DOLLAR, _BACKSLASH = b"$\\"


# ------------------------------------------------------------------------------------------------ one object, many values


def split(data: bytes) -> dict[str, msgspec.Raw]:
    """Take the stored object apart; the values stay encoded, as views into `data`.

    Of a key that occurs twice the last one counts. Raises CorruptRecord if `data` is not a JSON object; what is wrong inside a
    value may first be seen by `decode`.
    """
    try:
        return quick_split(data)
    except MALFORMED as error:
        return _again(quick_split, _mended(data), error)


def raw(parts: Mapping[str, Part]) -> dict[str, msgspec.Raw]:
    """The same parts, as `split` gives them."""
    return {key: part if type(part) is msgspec.Raw else msgspec.Raw(part) for key, part in parts.items()}


def join(parts: Mapping[str, Part]) -> bytes:
    """Put encoded values back together: the JSON object to store. Keys are str, as the session has made sure.

    Raises UnstorableValue for a key with half a surrogate pair.
    """
    return join_raw(raw(parts))


def join_raw(parts: Mapping[str, msgspec.Raw]) -> bytes:
    """The same, of parts that are raw already, every one: the hot path. (Bytes would be taken for text to be encoded.)"""
    try:
        return _ENCODE(parts)
    except UnicodeEncodeError:
        key = next(key for key in parts if not is_text(key))
        raise refusal((None, key), "is a key with half a surrogate pair", FIX_SURROGATE) from None


# ------------------------------------------------------------------------------------------------ bytes to value


def decode(raw: Part) -> Any:
    """The value behind the bytes of `encode`, or behind any JSON another writer left there.

    Raises CorruptRecord if it is malformed, nested deeper than MAX_DEPTH, holds a number out of range, or a tag whose payload is
    not what the tag says. Never RecursionError.
    """
    try:
        value = quick_decode(raw)
    except MALFORMED as error:
        raw = _mended(bytes(raw))
        value = _again(quick_decode, raw, error)
    kind = type(value)
    if kind is dict or kind is list:
        return finished(value, bytes(raw))
    return value


def finished(value: Any, data: bytes) -> Any:
    """Check the depth of a container and bring its tags to life: both only if the bytes say it can be needed."""
    if len(data) > 2 * MAX_DEPTH and data.count(b"[") + data.count(b"{") > MAX_DEPTH:
        _check_depth(value, MAX_DEPTH)
    return lift(value) if _may_hold_tags(data) else value


def _may_hold_tags(data: bytes) -> bool:
    # Looking for one byte is memchr, five times as fast as looking for two. `\\u0024` is how a foreign writer may spell "$".
    return _DOLLAR in data or (_BACKSLASH in data and b"\\u0024" in data)


def _check_depth(value: Any, room: int) -> None:
    if room == 0:
        raise CorruptRecord(f"stored session data is nested deeper than {MAX_DEPTH} levels")
    for item in value.values() if type(value) is dict else value:
        if type(item) is dict or type(item) is list:
            _check_depth(item, room - 1)


_ESCAPES: Final = re.compile(
    rb"""\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}  # a whole pair
       | (\\u[dD][89a-fA-F][0-9a-fA-F]{2})                           # half of one
       | \\.                                                         # any other escape, two backslashes among them
    """,
    re.VERBOSE | re.DOTALL,
)


def _mended(data: bytes) -> bytes:
    """The data with U+FFFD for half surrogate pairs: JSON.stringify writes one where an app cut a string through an emoji."""
    return _ESCAPES.sub(lambda found: rb"\ufffd" if found[1] else found[0], data)


def _again(decoder: Callable[[bytes], T], mended: bytes, error: Exception) -> T:
    """Decode once more after mending; if it was not that, raise what was wrong at first."""
    try:
        return decoder(mended)
    except MALFORMED:
        # Not chained: a UnicodeDecodeError carries the data itself.
        deep = isinstance(error, RecursionError)
        reason = f"nested deeper than {MAX_DEPTH} levels" if deep else str(error)
        raise CorruptRecord(f"stored session data cannot be read: {reason}") from None


# ------------------------------------------------------------------------------------------------ value to bytes


def encode(value: Any, key: str) -> bytes:
    """The bytes to store for `session[key] = value`; `decode` gives back an equal value of the same type, all the way down.

    Storable are, as exact types: None, bool, int, float, str, list, dict with str keys; datetime (naive, or with a `timezone` or
    `ZoneInfo`), date, UUID, Decimal, bytes, tuple, set and Markup. An int must fit 64 bits or be exactly a double (JavaScript
    and jsonb write such ints, and reading a session must not make it unstorable).

    Raises UnstorableValue for everything else (NaN, subclasses, other keys, half surrogate pairs, more than MAX_DEPTH levels),
    with the path to it and the fix.
    """
    kind = type(value)
    try:
        if (
            kind in ATOMS
            or (kind is int and LOWEST <= value <= HIGHEST)
            or ((kind is dict or kind is list) and _is_plain(value, MAX_DEPTH))
            or (kind is float and isfinite(value))
        ):
            return _ENCODE(value)
    except UnicodeEncodeError:
        pass  # half a surrogate pair somewhere: found, with its path, below
    return _ENCODE(lower(value, (None, key)))


def _is_plain(container: Any, room: int) -> bool:
    """Whether msgspec writes this list or dict as it stands: nothing to tag, to escape or to refuse. Copies nothing."""
    items = container
    if type(container) is dict:
        key = ""
        for key in container:
            if type(key) is not str:
                return False
        if len(container) == 1 and key.startswith("$"):
            return False
        items = container.values()
    for item in items:  # the commonest types first: this loop is most of what encoding costs
        kind = type(item)
        if kind is str:
            continue
        if kind is int:
            if not LOWEST <= item <= HIGHEST:
                return False
        elif kind is float:
            if not isfinite(item):
                return False
        elif kind not in ATOMS and (
            room == 1 or not (kind is dict or kind is list) or not _is_plain(item, room - 1)
        ):
            return False
    return True


# ------------------------------------------------------------------------------------------------ comparing


def same(a: Part, b: Part) -> bool:
    """Whether two encodings are one value as we would write it: jsonb and Node spell the same data differently (PROTOCOL 17).

    The order of an object's keys does not count; 1, 1.0 and true are three values. Raises CorruptRecord as `decode` does.
    """
    a, b = bytes(a), bytes(b)
    return a == b or _canonical(a) == _canonical(b)


def _canonical(data: bytes) -> bytes:
    value = decode(data)
    if not _may_hold_tags(data):
        return _SORTED(value)
    try:
        return _SORTED(lower(value, (None, "")))
    except UnstorableValue:  # a foreign writer's number beside a tag: compared as it is written
        return _SORTED(quick_decode(data))
