"""What redis-py raises, as what a store raises: the one place where it is translated."""

import struct
from collections.abc import Callable
from typing import Any, Final, TypeVar, TypeVarTuple

from redis import exceptions as theirs

from coatcheck.errors import CorruptRecord, ReplyLost, StoreError, StoreUnavailable

__all__ = [
    "FAILURES",
    "UNSTORABLE",
    "insist_on_answer",
    "is_login",
    "last_of",
    "may_repeat",
    "refused",
    "storable",
    "translated",
    "unstorable",
    "was_not_done",
]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

FAILURES: Final = (theirs.RedisError, OSError)
"""What a driver raises. Python's own TimeoutError is an OSError."""
_LATER: Final = (
    theirs.BusyLoadingError,
    theirs.ClusterDownError,
    theirs.MasterDownError,
    theirs.OutOfMemoryError,
    theirs.ReadOnlyError,
    theirs.TryAgainError,
)
_LATER_WORDS: Final = ("OOM ", "READONLY ", "MASTERDOWN ", "MISCONF ", "NOREPLICAS ", "BUSY ", "UNBLOCKED ")
"""What redis-py has no exception for, and what an old server puts into the text of a script's error."""
_FORBIDDEN_WORDS: Final = ("NOPERM", "The user executing the script can't")
UNSTORABLE: Final = (struct.error, ValueError, TypeError, AttributeError, OverflowError)
"""UnicodeError is a ValueError."""
_LOGIN: Final = (theirs.AuthenticationError, theirs.AuthorizationError, theirs.NoPermissionError)


def is_login(error: BaseException) -> bool:
    """Whether the server knows us and will not have us: no reason to try again."""
    return isinstance(error, _LOGIN)


def was_not_done(error: BaseException) -> bool:
    """Whether the server answered that it cannot do this now: so it has not done it."""
    return isinstance(error, _LATER) or (
        isinstance(error, theirs.ResponseError) and any(word in str(error) for word in _LATER_WORDS)
    )


def insist_on_answer(answers: frozenset[type], reply: Any) -> None:
    """Raise what is wrong with a connection whose reply cannot be that to what was asked: it is of none of these types."""
    if type(reply) not in answers and not isinstance(reply, theirs.ResponseError):
        raise theirs.ConnectionError("its replies are those to something else")


def may_repeat(error: BaseException, *, sent: bool, reads: bool) -> bool:
    """Whether a command that failed may be sent again over a new connection: it never left, or it changes nothing."""
    if is_login(error):
        return False
    if isinstance(error, theirs.ReadOnlyError):
        return True  # a primary that was demoted: the new connection finds the new one
    timeout = isinstance(error, (theirs.TimeoutError, TimeoutError))
    return not sent or (reads and not timeout and not was_not_done(error))


def translated(error: BaseException, name: str, *, sent: bool) -> StoreError:
    """The store's exception for a connection that failed."""
    if is_login(error):
        return StoreError(f"{name} refuses this user or password: {error}")
    if was_not_done(error):
        return StoreUnavailable(f"{name} cannot do this now: {type(error).__name__}: {error}")
    if isinstance(error, theirs.ResponseError):
        return refused(error, name)
    if sent:
        return ReplyLost(f"{name} did not answer: {type(error).__name__}: {error}")
    return StoreUnavailable(f"{name} cannot be reached: {type(error).__name__}: {error}")


def refused(error: theirs.ResponseError, name: str) -> StoreError:
    """The store's exception for an error that the server answered."""
    if was_not_done(error):
        return StoreUnavailable(f"{name} cannot do this now: {error}")
    if "WRONGTYPE" in str(error) or "wrong kind of value" in str(error):
        return CorruptRecord(f"what {name} holds under this key is not ours: {error}")
    if isinstance(error, theirs.NoPermissionError) or any(word in str(error) for word in _FORBIDDEN_WORDS):
        return StoreError(
            f"{name} does not allow this user that: {error}; docs/stores/redis.md has the ACL rule that suffices"
        )
    return StoreError(f"{name} answered: {error}")


def storable(make: Callable[[*Ts], T], *args: *Ts) -> T:
    """What `make` makes of a value. Raises StoreError for one that cannot be stored."""
    try:
        return make(*args)
    except UNSTORABLE as error:
        raise unstorable(error) from error


def unstorable(error: Exception) -> StoreError:
    """The store's exception for a value that cannot be written down: one of `UNSTORABLE` was raised."""
    return StoreError(f"a value cannot be stored: {error}")


def last_of(answers: list[Any]) -> StoreError | None:
    """The failure to tell of among many answers: one that may have been carried out comes first."""
    failures = [answer for answer in answers if isinstance(answer, StoreError)]
    return next((f for f in failures if isinstance(f, ReplyLost)), failures[0] if failures else None)
