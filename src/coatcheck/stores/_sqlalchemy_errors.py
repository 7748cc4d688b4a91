"""What went wrong, in one word for every driver: by SQLSTATE, by MySQL's number, by SQLite's code."""

from enum import Enum
from typing import Any, Final

from sqlalchemy.exc import DBAPIError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from coatcheck.errors import CorruptRecord, SessionError, StoreError, StoreUnavailable

__all__ = ["Trouble", "advice", "original", "said", "translated", "trouble"]


class Trouble(Enum):
    """What an exception of a driver's, or of SQLAlchemy's, means."""

    LOST = "no answer came: the connection is gone"
    CROWDED = "no connection of the pool came free in time"
    CONFLICT = "undone in favour of another transaction"
    WAITED = "somebody kept a row locked for too long"
    BUSY = "the file stayed locked; is another program writing to it?"
    DOWN = "the server cannot serve now"
    READ_ONLY = "the server takes no writes: is it a replica?"
    MISSING = "the tables are missing, or not ours"
    CORRUPT = "what is stored is not text"
    OTHER = "anything else"


# MySQL's are its error numbers, PostgreSQL's are texts.
_CODES: Final[dict[object, Trouble]] = {
    **dict.fromkeys(("40001", "40P01", 1213, 1020), Trouble.CONFLICT),
    **dict.fromkeys(("55P03", 1205), Trouble.WAITED),
    **dict.fromkeys(("42P01", "42703", "3F000", 1146, 1054), Trouble.MISSING),
    **dict.fromkeys(("25006", 1290, 1792, 1836), Trouble.READ_ONLY),
    **dict.fromkeys(("57014", "57P01", "57P02", "57P03", "57P05"), Trouble.DOWN),
    **dict.fromkeys((1021, 1040, 1041, 1053, 1114, 1203, 1226, 1317, 1969, 3024), Trouble.DOWN),
    **dict.fromkeys(
        range(1, 200), Trouble.DOWN
    ),  # its disk (EE_…) or its storage engine (HA_ERR_…) failed it
}
_SQLITE: Final = {
    5: Trouble.BUSY,
    6: Trouble.BUSY,
    8: Trouble.READ_ONLY,
    **dict.fromkeys((3, 7, 10, 13, 14, 15), Trouble.DOWN),
}
"""By primary result code."""
_SHORTAGE: Final = "53"
"""The class of SQLSTATEs that say that the server lacks something: disk, memory, connections."""


def trouble(error: BaseException) -> Trouble:
    """The one word for it."""
    if isinstance(error, PoolTimeout):
        return Trouble.CROWDED
    cause = original(error)
    code = _code(cause)
    kind = _of_sqlite(cause) or _CODES.get(code)
    if kind is Trouble.READ_ONLY:
        return kind
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return Trouble.LOST
    if isinstance(cause, UnicodeDecodeError):
        return Trouble.CORRUPT
    if isinstance(cause, (OSError, EOFError)):  # TimeoutError is one
        return Trouble.LOST
    if isinstance(code, str) and code.startswith(_SHORTAGE):
        return Trouble.DOWN
    return kind or _by_words(str(cause))


def original(error: BaseException) -> BaseException:
    """The driver's own exception. SQLAlchemy's would show the parameters, and they are somebody's session."""
    return error.orig or error if isinstance(error, StatementError) else error


def _of_sqlite(cause: Any) -> Trouble | None:
    """By its number, which means something else where MySQL says it."""
    code = getattr(cause, "sqlite_errorcode", None)
    return None if code is None else _SQLITE.get(code & 0xFF)


def _code(cause: Any) -> object:
    if cause.args and isinstance(
        cause.args[0], int
    ):  # before MySQL's SQLSTATEs, which are coarse and not PostgreSQL's
        return cause.args[0]
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)


def _by_words(message: str) -> Trouble:
    """For SQLite, which has one code for much."""
    if message.startswith(("no such table", "no such column")) or "has no column named" in message:
        return Trouble.MISSING
    return Trouble.CORRUPT if "decode to UTF-8" in message else Trouble.OTHER


def said(cause: BaseException) -> str:
    """The first line of what a driver says: others may show the row. Of Python's own errors the name: they repeat the value."""
    line = (str(cause).splitlines() or [""])[0][:300]
    if type(cause).__module__ == "builtins" and not isinstance(cause, OSError):
        return type(cause).__name__
    return f"{type(cause).__name__}: {line}" if line else type(cause).__name__


def translated(error: BaseException, store: str) -> SessionError:
    """What coatcheck calls an error that the server answered, or that came up before anything was sent."""
    kind, cause = trouble(error), original(error)
    match kind:
        case Trouble.MISSING:
            return StoreError(
                f"{store}: the tables are missing, or are not coatcheck's ({said(cause)}): run `coatcheck setup --store URL`,"
                " the manager's setup(), or your migration"
            )
        case Trouble.CORRUPT:
            return CorruptRecord(f"{store}: a text in the row is not UTF-8")
        case Trouble.CROWDED:
            return StoreUnavailable(
                f"{store}: {kind.value}; give the store more (pool_size=), or the server less to do"
            )
        case Trouble.OTHER:
            return StoreError(f"{store}: {said(cause)}")
    return StoreUnavailable(f"{store}: {kind.value} ({said(cause)})")


def advice(cause: BaseException) -> str:
    """What to do where a connection could not be made, if it is plain."""
    words = str(cause).lower()
    if isinstance(cause, TypeError):
        return f": the driver does not know an option of the URL ({cause}); use the driver's own names"
    if "password" in words or "access denied" in words or "authentication" in words:
        return ": check the user and the password in the URL"
    if "unknown database" in words or ("database" in words and "does not exist" in words):
        return ": create the database, or name another in the URL"
    return ""
