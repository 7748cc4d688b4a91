"""JSON as both sides read it alike: what JavaScript's JSON.stringify writes, and nothing that its JSON.parse would change.

The native dialect tags what JSON lacks (dates, UUIDs, Decimal). Here there is nobody on the other side who knows tags: what would
come back as something else is refused when it is written, with the path to it and the fix.
"""

import json
from math import isinf
from typing import Any, Final

from coatcheck.core.codec import MAX_DEPTH
from coatcheck.errors import CorruptRecord, UnstorableValue

__all__ = ["LARGEST", "RESERVED", "check", "dump", "load"]

LARGEST: Final = 2**53 - 1
"""Number.MAX_SAFE_INTEGER: JavaScript's numbers are doubles, and round what is larger."""
RESERVED: Final = frozenset({
    "cookie", "req", "id", "touch", "resetMaxAge", "save", "reload", "destroy", "regenerate",
    "constructor", "toString", "toLocaleString", "valueOf", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable",
    "__proto__", "__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__",
})  # fmt: skip
"""Keys that a Session of express-session has itself or inherits: it drops data under these names when it loads them."""
_ATOMS: Final = (str, bool, type(None))
_ENCODE: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), check_circular=False
).encode


def dump(value: Any) -> bytes:
    """The JSON text of what `check` has let pass, or `load` has read."""
    text = _ENCODE(value)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair, which Node writes as an escape
        return json.dumps(value, separators=(",", ":")).encode("ascii")


def load(text: bytes) -> Any:
    """What a JSON text says. Raises CorruptRecord for what is none."""
    try:
        return json.loads(text.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise CorruptRecord(f"what is stored is not JSON ({type(error).__name__})") from None


def _finite(text: str) -> float:
    value = float(text)
    if isinf(value):  # 1e400, which would be written as no JSON at all
        raise ValueError
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def check(key: str, value: Any) -> None:
    """Raise UnstorableValue for what Node would drop, refuse, or read as something else."""
    if type(key) is not str:
        raise UnstorableValue(f"session[{key!r}]: a key must be a str, not {type(key).__name__}")
    if key in RESERVED:
        raise UnstorableValue(
            f"session[{key!r}]: express-session drops this key when it loads the session, since its own objects have"
            f" something of that name: take another, such as {key.strip('_') + '_'!r}"
        )
    _check(value, f"session[{key!r}]", MAX_DEPTH)


def _check(value: Any, path: str, room: int) -> None:
    kind = type(value)
    if kind in _ATOMS:
        return
    if room == 0:
        raise UnstorableValue(f"{path[:200]}…: more than {MAX_DEPTH} levels deep")
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise UnstorableValue(f"{path}[{key!r}]: a key must be a str: JSON has no other")
            _check(item, f"{path}[{key!r}]", room - 1)
    elif kind is list:
        for index, item in enumerate(value):
            _check(item, f"{path}[{index}]", room - 1)
    else:
        _check_number(value, path)


def _check_number(value: Any, path: str) -> None:
    kind = type(value)
    if kind is int:
        if not -LARGEST <= value <= LARGEST:
            raise UnstorableValue(f"{path}: JavaScript rounds integers beyond 2**53: keep it as text, str(…)")
    elif kind is float:
        if value != value or value in (float("inf"), float("-inf")):
            raise UnstorableValue(
                f"{path}: JSON has no {value}, and Node would answer with an error: keep None"
            )
    else:
        raise UnstorableValue(
            f"{path}: {kind.__name__} is not JSON, which is all that Node reads: {_instead(kind)}"
        )


def _instead(kind: type) -> str:
    match kind.__name__:
        case "datetime" | "date":
            return "keep value.isoformat(), which JavaScript's Date reads"
        case "tuple" | "set" | "frozenset":
            return "keep list(value)"
        case "bytes":
            return "keep base64 text"
    return "keep str(value), or a dict, list, str, int, float, bool or None"
