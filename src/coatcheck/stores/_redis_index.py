"""A user's index as it comes out of Redis: entries, their order, and which of them are dead. Pure.

An entry may name a session that is gone, and none that lives is missing (PROTOCOL rules 18 and 19). What is found to be dead is
removed by whoever finds it: at once where the session has ended, otherwise only a minute after its index write, since the record
of a login is written after its entry.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from struct import Struct, error
from typing import Any, Final, NamedTuple

from coatcheck.core.ports import TOMBSTONE
from coatcheck.core.record import Ended, Record
from coatcheck.errors import StoreError

__all__ = [
    "Entry",
    "entries",
    "flat",
    "indexes",
    "is_dead",
    "keys_of",
    "packed_time",
    "removable",
    "user_keys",
]

_ENTRY: Final = Struct(">cdd")
packed_time: Final = Struct(">d").pack
"""A time as scripts get it and entries hold it."""
Found = Record | Ended | None


class Entry(NamedTuple):
    """One session in the index of a user."""

    login_at: float
    key: str
    written_us: float
    """Of the index write, in microseconds of the server's clock."""
    raw: bytes
    """As it is stored: it is removed only if it is still this."""


def user_keys(prefix: str, user_id: str) -> tuple[str, str, str]:
    """Index, what is beside it, and fence. The braces put all three into one slot of a cluster, whatever the user id holds."""
    user = blake2b(user_id.encode(), digest_size=16).hexdigest()
    return f"{prefix}u:{{{user}}}:index", f"{prefix}u:{{{user}}}:beside", f"{prefix}u:{{{user}}}:fence"


def indexes(prefix: str) -> str:
    """The pattern of every index."""
    return f"{prefix}u:{{*}}:index"


def keys_of(index: bytes) -> tuple[str, str, str]:
    """The keys that belong to an index that was found: the same three as `user_keys`, which knows the user."""
    stem = index.decode().removesuffix("index")
    return f"{stem}index", f"{stem}beside", f"{stem}fence"


def entries(pairs: Sequence[bytes]) -> list[Entry]:
    """The entries of a reply, newest login first. Raises StoreError for an index that is none of ours."""
    try:
        return sorted(_parsed(pairs), reverse=True)
    except (error, UnicodeError, TypeError) as problem:
        raise StoreError("what is stored as a user's index is not ours") from problem


def _parsed(pairs: Sequence[bytes]) -> Iterator[Entry]:
    for key, raw in zip(pairs[::2], pairs[1::2], strict=True):
        _, written_us, login_at = _ENTRY.unpack(raw)
        yield Entry(login_at, key.decode(), written_us, raw)


def is_dead(found: Found, user_id: str) -> bool:
    """Whether what is there is no session of this user."""
    return not isinstance(found, Record) or found.user_id != user_id


def removable(entry: Entry, found: Found, clock_us: float) -> bool:
    """Whether a dead entry may go already."""
    return isinstance(found, Ended) or clock_us - entry.written_us > TOMBSTONE * 1e6


def flat(some: Sequence[Entry]) -> tuple[Any, ...]:
    """Entries as a script takes them."""
    return tuple(part for entry in some for part in (entry.key, entry.raw))
