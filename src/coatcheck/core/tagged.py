"""The types beyond JSON that web code stores every day, and the refusal of all others.

A tagged value is an object with one key that begins with a dollar sign. tests/data/codec.json pins every form: it is for ever.

    {"$datetime":"2026-10-25T02:30:00+01:00[Europe/Berlin][_fold=1]"}   RFC 9557: the instant, its offset, its zone
    {"$date":"2026-10-25"}   {"$uuid":"…"}   {"$decimal":"1.10"}   {"$bytes":"<base64>"}   {"$markup":"<b>…</b>"}
    {"$tuple":[…]}   {"$set":[…]}, sorted by encoded bytes, so that equal sets have equal bytes
    {"$dict":{"$date":1}}    the escape: a user's own dict that looks like a tag

`lower` turns values into JSON's own types, `lift` turns them back. A tag this release does not know reads as the plain dict it
is, so that the older of two releases in a rolling deploy can read what the newer wrote.
"""

import re
import sys
from base64 import b64encode
from binascii import a2b_base64
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from math import isfinite
from types import NoneType
from typing import Any, Final, TypeAlias
from uuid import UUID

import msgspec

from coatcheck.errors import CorruptRecord, UnstorableValue

MAX_DEPTH: Final = 64
"""Levels of arrays and objects in one stored value. A tuple, a set and an escaped dict count twice."""

ATOMS: Final = frozenset({str, bool, NoneType})
"""Types every value of which is stored as it is (of str, all but half surrogate pairs, at which msgspec itself stops)."""

LOWEST: Final = -(2**63)
HIGHEST: Final = 2**64 - 1

Path: TypeAlias = tuple[Any, object]
"""Where a value stands: (the path of its container, its key or index there); the session's own path is None."""

_ENCODE: Final = msgspec.json.Encoder().encode


# ------------------------------------------------------------------------------------------------ JSON's types to ours


def lift(value: Any) -> Any:
    """Bring every tagged object inside to life. Raises CorruptRecord for a tag whose payload is not what the tag says."""
    kind = type(value)
    if kind is list:
        return _lift_items(value)
    if kind is not dict:
        return value
    if len(value) == 1:
        ((tag, payload),) = value.items()
        if tag in _READERS:
            return _read(tag, payload)
    return _lift_entries(value)


def _lift_items(items: list[Any]) -> list[Any]:
    return [lift(item) if type(item) in _NESTING else item for item in items]


def _lift_entries(value: dict[str, Any]) -> dict[str, Any]:
    return {key: lift(item) if type(item) in _NESTING else item for key, item in value.items()}


_NESTING: Final = frozenset({dict, list})


def _read(tag: str, payload: Any) -> Any:
    shape, make = _READERS[tag]
    try:
        if type(payload) is shape:
            return make(payload)
    except (ValueError, TypeError, ArithmeticError):
        pass
    raise CorruptRecord(f"stored session data holds a {tag} that is none")


_SECOND: Final = timedelta(seconds=1)
_ZONE: Final = re.compile(r"[A-Za-z0-9+][A-Za-z0-9._+/-]*")
_DATETIME: Final = re.compile(rf"([^\[]+)(?:\[({_ZONE.pattern})\])?(\[_fold=1\])?")


def _read_datetime(text: str) -> datetime:
    found = _DATETIME.fullmatch(text)
    if found is None:
        raise ValueError
    moment = datetime.fromisoformat(found[1])
    offset = moment.utcoffset()
    if offset is not None and offset % _SECOND:  # which could not be written again
        raise ValueError
    if found[3]:
        moment = moment.replace(fold=1)
    return _in_zone(moment, found[2]) if found[2] else moment


def _in_zone(moment: datetime, name: str) -> datetime:
    """The moment in its zone; at its bare offset if the zone's rules have changed, or are not installed here (RFC 9557, 3.4)."""
    from zoneinfo import ZoneInfo  # with what it looks for and reads it takes 2 ms to import

    try:
        there = moment.replace(tzinfo=ZoneInfo(name))
    except (OSError, ValueError, LookupError):
        return moment
    return there if there.utcoffset() == moment.utcoffset() else moment


def _read_decimal(text: str) -> Decimal:
    number = Decimal(text)
    if number.is_nan():
        raise ValueError
    return number


def _read_markup(text: str) -> str:
    """Markup again, as it was when it was stored; where markupsafe is not installed, a str."""
    try:
        from markupsafe import Markup
    except ImportError:
        return text
    return Markup(text)


_READERS: Final[dict[str, tuple[type, Callable[[Any], Any]]]] = {
    "$datetime": (str, _read_datetime),
    "$date": (str, date.fromisoformat),
    "$uuid": (str, UUID),
    "$decimal": (str, _read_decimal),
    "$bytes": (str, lambda text: a2b_base64(text, strict_mode=True)),
    "$markup": (str, _read_markup),
    "$tuple": (list, lambda items: tuple(_lift_items(items))),
    "$set": (list, lambda items: set(_lift_items(items))),
    "$dict": (dict, _lift_entries),
}


# ------------------------------------------------------------------------------------------------ our types to JSON's


def lower(value: Any, path: Path, room: int = MAX_DEPTH) -> Any:
    """A copy of `value` in JSON's own types; `room` is how many levels it may take.

    Raises UnstorableValue, with the path and the fix, for what would not come back equal and of the same type.
    """
    kind = type(value)
    atom = _ATOM_WRITERS.get(kind)
    if atom is not None:
        return atom(value, path)
    if room < _LEVELS.get(kind, 1):
        raise _too_deep(path)
    container = _CONTAINER_WRITERS.get(kind)
    if container is not None:
        return container(value, path, room - _LEVELS.get(kind, 1))
    tagged = _TAGGERS.get(kind)
    if tagged is not None:
        return tagged(value, path)
    if kind is _markup():
        return {"$markup": _write_str(str(value), path)}
    raise refusal(path, *_why_not(kind))


_LEVELS: Final[dict[type, int]] = {tuple: 2, set: 2}


def _write_list(value: list[Any], path: Path, room: int) -> list[Any]:
    return [lower(item, (path, index), room) for index, item in enumerate(value)]


def _write_tuple(value: tuple[Any, ...], path: Path, room: int) -> dict[str, Any]:
    return {"$tuple": [lower(item, (path, index), room) for index, item in enumerate(value)]}


def _write_set(value: set[Any], path: Path, room: int) -> dict[str, Any]:
    return {"$set": sorted((lower(item, (path, _ELEMENT), room) for item in value), key=_ENCODE)}


def _write_dict(value: dict[Any, Any], path: Path, room: int) -> dict[str, Any]:
    for key in value:
        if type(key) is not str:
            raise refusal(path, f"has a key of type {_name(type(key))}", "use str keys, such as str(key)")
        if not key.isascii():
            _write_str(key, (path, key))
    escaped = len(value) == 1 and next(iter(value)).startswith("$")
    if escaped and room == 0:
        raise _too_deep(path)
    own = {
        key: item if type(item) is str and item.isascii() else lower(item, (path, key), room - escaped)
        for key, item in value.items()
    }
    return {"$dict": own} if escaped else own


def _write_str(value: str, path: Path) -> str:
    if not is_text(value):
        raise refusal(path, "holds half a surrogate pair, which is not text", FIX_SURROGATE)
    return value


def is_text(value: str) -> bool:
    """Whether the str is Unicode text, without halves of surrogate pairs."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _write_int(value: int, path: Path) -> int:
    if LOWEST <= value <= HIGHEST or _is_double(value):
        return value
    raise refusal(path, "is an int that does not fit 64 bits", "store str(value) or Decimal(value)")


def _is_double(value: int) -> bool:
    """Whether every reader of JSON gives this int back exactly. JavaScript writes 1e20 with 21 digits, jsonb 1e300 with 301."""
    try:
        return float(value) == value
    except OverflowError:
        return False


def _write_float(value: float, path: Path) -> float:
    if not isfinite(value):
        raise refusal(path, "is not a finite number", "store None, or Decimal(value) for infinity")
    return value


def _write_datetime(value: datetime, path: Path) -> dict[str, str]:
    zone = value.tzinfo
    text = value.isoformat()
    if zone is not None:
        text += _zone_name(value, path)
    if value.fold:
        text += "[_fold=1]"
    return {"$datetime": text}


def _zone_name(value: datetime, path: Path) -> str:
    """What follows the offset. Refuses zones that would come back as something else.

    Only `timezone` and `ZoneInfo` come back as they were. Of other zones only the offset could be kept, and then a value from an
    hour that occurs twice would not even equal itself (PEP 495, "Inter-zone comparison"): an error that shows once a year.
    """
    zone = value.tzinfo
    if type(zone) is timezone:
        # datetime.fromisoformat reads an offset below a second as UTC (Python 3.11 to 3.13 at least).
        if value.utcoffset() % _SECOND:  # type: ignore[operator]  # aware, so not None
            raise refusal(path, "has a UTC offset with a fraction of a second", _FIX_ZONE)
        return ""
    from zoneinfo import ZoneInfo

    if type(zone) is not ZoneInfo:
        raise refusal(path, f"is in a time zone of type {_name(type(zone))}", _FIX_ZONE)
    if _ZONE.fullmatch(zone.key or "") is None:  # made from a file
        raise refusal(path, "is in a time zone without a name of the tz database", _FIX_ZONE)
    return f"[{zone.key}]"


def _write_decimal(value: Decimal, path: Path) -> dict[str, str]:
    if value.is_nan():
        raise refusal(path, "is a Decimal NaN, which equals nothing", "store None")
    return {"$decimal": str(value)}


_ATOM_WRITERS: Final[dict[type, Callable[[Any, Path], Any]]] = {
    NoneType: lambda value, path: value,
    bool: lambda value, path: value,
    int: _write_int,
    float: _write_float,
    str: _write_str,
}
_CONTAINER_WRITERS: Final[dict[type, Callable[[Any, Path, int], Any]]] = {
    list: _write_list,
    dict: _write_dict,
    tuple: _write_tuple,
    set: _write_set,
}
_TAGGERS: Final[dict[type, Callable[[Any, Path], dict[str, str]]]] = {
    datetime: _write_datetime,
    date: lambda value, path: {"$date": value.isoformat()},
    UUID: lambda value, path: {"$uuid": str(value)},
    Decimal: _write_decimal,
    bytes: lambda value, path: {"$bytes": b64encode(value).decode()},
}


def _markup() -> type | None:
    """markupsafe.Markup if anybody has imported it; otherwise no value can be one."""
    return getattr(sys.modules.get("markupsafe"), "Markup", None)


# ------------------------------------------------------------------------------------------------ refusing


FIX_SURROGATE: Final = 'clean it with text.encode("utf-8", "replace").decode()'
_FIX_ZONE: Final = "store value.astimezone(timezone.utc), or use zoneinfo.ZoneInfo"
_ELEMENT: Final = object()
"""Stands in a path for an element of a set, which has neither key nor index."""


def refusal(path: Path, problem: str, fix: str) -> UnstorableValue:
    """The error for one value: where it is, what is wrong, what to do. The value may be private and is not shown."""
    return UnstorableValue(f"{_spell(path)} {problem}: {fix}")


def _too_deep(path: Path) -> UnstorableValue:
    return refusal(path, f"is nested deeper than {MAX_DEPTH} levels, or contains itself", "store it flatter")


def _spell(path: Path) -> str:
    """The path as Python, such as session["cart"]["items"][2]."""
    from json import dumps as quote  # for an error's text only

    parts: list[str] = []
    here: Any = path
    while here is not None:
        here, part = here
        parts.append("{…}" if part is _ELEMENT else f"[{quote(part)}]")
    return "session" + "".join(reversed(parts))


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _why_not(kind: type) -> tuple[str, str]:
    """What is wrong with a type outside the closed set, and the fix."""
    fix = next((fix for base, fix in _FIXES if issubclass(kind, base)), _FIX_OTHER)
    if hasattr(kind, "_asdict"):
        fix = "store value._asdict() or tuple(value)"
    return f"is of type {_name(kind)}, which would not come back as it is", fix


_FIX_OTHER: Final = "store its id, or its fields as str, numbers, lists and dicts"
_FIXES: Final[list[tuple[type | tuple[type, ...], str]]] = [
    (Enum, "store value.value"),
    (datetime, "store value.isoformat(), or a plain datetime"),
    (date, "store value.isoformat(), or a plain date"),
    (time, "store value.isoformat()"),
    (timedelta, "store value.total_seconds()"),
    (dict, "store dict(value)"),
    (list, "store list(value)"),
    (tuple, "store tuple(value)"),
    ((set, frozenset), "store set(value)"),
    ((bytes, bytearray, memoryview), "store bytes(value)"),
    (str, "store str(value)"),
    (int, "store int(value)"),
    (float, "store float(value)"),
    (Decimal, "store Decimal(value)"),
    (UUID, "store UUID(int=value.int)"),
]
