"""What goes wrong at PostgreSQL, in coatcheck's words. Both drivers tell the server's own code (SQLSTATE); the rest is a matter
of whether the command had been sent."""

from typing import Final

from coatcheck.errors import ReplyLost, SessionError, StoreError, StoreUnavailable

__all__ = ["UNREACHABLE", "as_sent", "is_answered", "is_undone", "only_reads", "sqlstate", "unreachable"]

SETUP: Final = (
    "run `coatcheck setup --store URL` (or `setup()` of a manager), as a user who may create tables"
)
UNREACHABLE: Final = "PostgreSQL cannot be reached at "
_UNDONE: Final = frozenset({"40001", "40P01"})
"""Another transaction was in the way, and everything was undone: serialization failure, deadlock."""
_ONLY_READS: Final = "25006"
_POOLER: Final = (
    "a pooler loses track of prepared statements: use prepared_statements=False, or one that tracks them"
)
_STATES: Final = {
    "42P01": f"the table is not there: {SETUP}",
    "42883": f"a function of the table's is not there: {SETUP}",
    "3F000": "the schema is not there: CREATE SCHEMA, or leave out schema=",
    "42501": "the user of the URL lacks the right to do this: GRANT it",
    "55000": "it is set up in a way that does not work",
    "26000": _POOLER,
    "42P05": _POOLER,
}
_FOREIGN: Final = frozenset({"42703", "42804", "42809", "42P10", "23502", "42846", "22P02"})
"""What happens where the table has other columns than ours, or is no table."""
_UNAVAILABLE: Final = {
    _ONLY_READS: "the server only reads; is it a standby?",
    "57014": "the server's own statement_timeout cancelled the command",
    "55P03": "the server's own lock_timeout cancelled the command",
    "53100": "the server's disk is full",
}
_UNAVAILABLE_CLASSES: Final = ("08", "53", "57P", "58")
_REFUSED: Final = ("28", "3D000", "42704")
"""At the door: password, role or database."""


def sqlstate(error: BaseException) -> str:
    """The server's code for an error; empty for one that is not the server's."""
    return str(getattr(error, "sqlstate", None) or "")


def is_undone(error: BaseException) -> bool:
    """The server undid the command because of another: it may be sent again as if it never had been."""
    return sqlstate(error) in _UNDONE


def is_answered(error: BaseException) -> bool:
    """The server answered with this, or nothing was sent since a value cannot be: the connection may go on.

    Anything else that a driver raises, it raises in the middle of something: an answer that it cannot read, say.
    """
    return bool(sqlstate(error)) or _is_our_values(error)


def only_reads(error: BaseException) -> bool:
    """The server is a standby, or was made to stand back: nothing was done, and its connections are of no use any more."""
    return sqlstate(error) == _ONLY_READS


def as_sent(error: BaseException, *, connected: bool) -> SessionError:
    """What an error of a command is; the caller keeps the original as the cause. `connected`: the connection outlived it."""
    code = sqlstate(error)
    if not code and connected and _is_our_values(error):
        # Not the message: it would repeat the value.
        return StoreError(f"PostgreSQL cannot keep one of the values ({type(error).__name__})")
    if not connected and code != _ONLY_READS:
        return ReplyLost(f"PostgreSQL: the connection was lost before the answer came ({_words(error)})")
    if code in _UNAVAILABLE or code.startswith(_UNAVAILABLE_CLASSES) or code in _UNDONE:
        return StoreUnavailable(f"PostgreSQL: {_UNAVAILABLE.get(code, _words(error))}")
    if code in _FOREIGN:
        return StoreError(
            f"PostgreSQL: the table is not one of coatcheck's ({_words(error)}); give another name with table=, and {SETUP}"
        )
    return StoreError(f"PostgreSQL: {_STATES[code]} ({_words(error)})" if code in _STATES else _plain(error))


def unreachable(error: BaseException, name: str, *, refused: bool = False) -> SessionError:
    """What it is that no connection could be made: nothing was sent. `refused`: because of who asks."""
    if refused or sqlstate(error).startswith(_REFUSED):
        return StoreError(
            f"PostgreSQL refuses the login to {name}: {_words(error)}; check user, password and database"
        )
    return StoreUnavailable(f"{UNREACHABLE}{name}: {_words(error)}")


def _is_our_values(error: BaseException) -> bool:
    """The driver could not even encode them: nothing was sent. (A DataError of either driver, or one of Python's.)"""
    if isinstance(error, UnicodeDecodeError):  # of an answer
        return False
    return isinstance(error, (ValueError, TypeError, OverflowError)) or type(error).__name__ == "DataError"


def _plain(error: BaseException) -> str:
    return f"PostgreSQL: {_words(error)}"


def _words(error: BaseException) -> str:
    """The first line: what follows may quote values (DETAIL)."""
    text = str(error).strip().partition("\n")[0]
    return text or type(error).__name__
