"""A session as a BSON subdocument (connect-mongo with `stringify: false`), and the JSON text that Node would make of it.

To read is to do what JSON.stringify does with what Node's driver makes of BSON: a date becomes text, an ObjectId its hex digits.
That cannot be undone, so nothing is written back that was not changed: `composed` takes the value of a top-level key from the
document that was read, octet for octet, wherever the text says the same as before.

What is new is written as Node's driver writes a value of JSON: a whole number as int32 if it fits, any other as a double; half a
surrogate pair as U+FFFD. The cookie is the exception on both sides: `expires` is a BSON date in it, and attributes that are not
there are null (wire formats 1.3); null attributes are left out of the text again, as Node leaves undefined ones.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from bson import Binary, Decimal128, Int64, ObjectId, Timestamp
from bson.binary import UUID_SUBTYPE
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument

from coatcheck.dialects.express.plain import dump
from coatcheck.errors import CorruptRecord, UnstorableValue

__all__ = [
    "CODEC",
    "UNREADABLE",
    "Subdocument",
    "composed",
    "date",
    "iso",
    "milliseconds",
    "plain",
    "seconds",
]

CODEC: Final[CodecOptions[Any]] = CodecOptions(
    document_class=RawBSONDocument, datetime_conversion=DatetimeConversion.DATETIME_MS
)
"""Subdocuments as they are in the server, octet for octet; dates as milliseconds, of any year."""
UNREADABLE: Final = (BSONError, RecursionError)
"""What is raised by looking into a document that is none."""
Subdocument = RawBSONDocument

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_INT32: Final = range(-(2**31), 2**31)
_COOKIE: Final = (
    "originalMaxAge", "partitioned", "priority", "expires", "secure", "httpOnly", "domain", "path", "sameSite",
)  # fmt: skip
"""The attributes that express-session's Cookie has, in its order (session/cookie.js, `data`)."""
_OPTIONAL: Final = frozenset({"partitioned", "priority", "secure", "domain", "sameSite"})
"""Those that it leaves undefined unless they are asked for."""


# ----------------------------------------------------------------------------------------------------------------- times


def date(seconds: float) -> DatetimeMS:
    """A BSON date, of seconds since the epoch."""
    return DatetimeMS(round(seconds * 1000))


def seconds(value: object) -> float | None:
    """Seconds since the epoch, of a BSON date; None of anything else."""
    return int(value) / 1000.0 if isinstance(value, DatetimeMS) else None


def iso(value: DatetimeMS) -> str | None:
    """What JavaScript's Date.toJSON says. None beyond the years that Python knows."""
    try:
        moment = _EPOCH + timedelta(milliseconds=int(value))
    except OverflowError:
        return None
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def milliseconds(text: object) -> int | None:
    """Milliseconds since the epoch, of such a text; None of anything else."""
    try:
        moment = datetime.fromisoformat(text)  # type: ignore[arg-type]  # anything else is refused by it
    except (TypeError, ValueError):
        return None
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - _EPOCH) // _MILLISECOND


# --------------------------------------------------------------------------------------------------------------- reading


def plain(session: Subdocument) -> dict[str, Any]:
    """The session as its JSON says it. Raises CorruptRecord for BSON that is none."""
    try:
        said: dict[str, Any] = _plain(session)
    except UNREADABLE as error:
        raise CorruptRecord(f"what is stored is not BSON ({type(error).__name__})") from None
    cookie = said.get("cookie")
    if isinstance(cookie, dict):
        said["cookie"] = {
            name: value for name, value in cookie.items() if value is not None or name not in _OPTIONAL
        }
    return said


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind in (str, bool, int, type(None)):
        return value
    if kind is RawBSONDocument:
        return {key: _plain(item) for key, item in value.items()}
    if kind is list:
        return [_plain(item) for item in value]
    convert: Callable[[Any], Any] = _OTHERS.get(kind, _nothing)
    return convert(value)


def _double(value: float) -> float | int | None:
    """JSON has no NaN, and JavaScript no difference between 1 and 1.0."""
    if value != value or value in (float("inf"), float("-inf")):
        return None
    return int(value) if value.is_integer() and abs(value) < 1e21 else value


def _binary(value: Binary) -> str:
    return str(value.as_uuid()) if value.subtype == UUID_SUBTYPE and len(value) == 16 else _base64(value)


def _base64(value: bytes) -> str:
    return b64encode(value).decode()


def _nothing(value: object) -> dict[str, Any]:
    """What JSON.stringify makes of all the rest: regular expressions, code, the least and the greatest key."""
    return {}


_OTHERS: Final[dict[type, Callable[[Any], Any]]] = {
    float: _double,
    Int64: int,
    DatetimeMS: iso,
    ObjectId: str,
    bytes: _base64,
    Binary: _binary,
    Decimal128: lambda value: {"$numberDecimal": str(value)},
    Timestamp: lambda value: {"$timestamp": str(value.time << 32 | value.inc)},
}


# --------------------------------------------------------------------------------------------------------------- writing


def composed(body: Mapping[str, Any], over: Subdocument | None) -> dict[str, Any]:
    """The subdocument to write for a body, over the one that was read, whose unchanged values it keeps.

    Raises UnstorableValue for a key that BSON does not take.
    """
    before = plain(over) if over is not None else {}
    document = {}
    for key, value in body.items():
        if over is not None and key in before and dump(before[key]) == dump(value):
            document[key] = over[key]
        else:
            document[_key(key)] = _cookie(value) if key == "cookie" else _stored(value)
    return document


def _cookie(cookie: Any) -> Any:
    if not isinstance(cookie, dict):
        return _stored(cookie)
    stored = {name: _stored(cookie.get(name)) for name in _COOKIE}
    ends = milliseconds(stored["expires"])
    if ends is not None:
        stored["expires"] = DatetimeMS(ends)
    return stored | {name: _stored(value) for name, value in cookie.items() if name not in stored}


def _stored(value: Any) -> Any:
    kind = type(value)
    if kind is str:
        return _text(value)
    if kind is dict:
        return {_key(key): _stored(item) for key, item in value.items()}
    if kind is list:
        return [_stored(item) for item in value]
    return _number(value) if kind in (int, float) else value


def _number(value: float) -> float | int | None:
    if type(value) is float and value.is_integer() and str(value) != "-0.0":
        value = int(value)
    if type(value) is int and value in _INT32:
        return value
    try:
        return float(value)
    except OverflowError:  # which JavaScript reads as Infinity, and writes as null
        return None


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def _key(key: str) -> str:
    if "\0" in key:
        raise UnstorableValue(
            f"session[{key[:100]!r}]: with stringify=False a key has no NUL in it: name it otherwise"
        )
    return _text(key)
