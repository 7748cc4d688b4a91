"""A record as the value of one Redis string, and back, whatever somebody else may have put there.

A string, because a hash of the same fields takes nearly twice the memory (a value over 64 octets makes Redis give up the compact
form) and more CPU to read. What scripts compare stands in front, at fixed places, so that a script reads the first octets, and a
touch overwrites sixteen of them, without the rest being copied:

    R deadline seen_at ends_at  length of version, length of user  version user  packed      (a record)
    E ended_at token                                                                         (a tombstone)

Times are big-endian doubles, lengths two octets; a user of length 65535 is none. `packed` is that of every store with rows.
"""

from struct import Struct, error
from typing import Final

from coatcheck.core.record import Ended, Expired, Record
from coatcheck.stores import _rows
from coatcheck.stores._rows import corrupt, judge, packed, record_of

__all__ = ["decoded", "encoded", "login_at"]

_HEAD: Final = Struct(">cdddHH")
_TOMBSTONE: Final = Struct(">cd")
NOBODY: Final = 0xFFFF

_pack, _unpack, _SIZE = _HEAD.pack, _HEAD.unpack_from, _HEAD.size


def encoded(record: Record) -> bytes:
    """The value to be stored. Raises what Python raises for a value that cannot be: UnicodeError, struct.error, OverflowError."""
    ends_at, user_id, first = record.ends_at, record.user_id, record.versions[0].encode()
    deadline = record.deadline if record.deadline < ends_at else ends_at
    if user_id is None:
        return _pack(b"R", deadline, record.seen_at, ends_at, len(first), NOBODY) + first + packed(record)
    user = user_id.encode()
    if len(user) == NOBODY:
        raise OverflowError("a user id of 65535 octets")
    return (
        _pack(b"R", deadline, record.seen_at, ends_at, len(first), len(user)) + first + user + packed(record)
    )


def decoded(key: str, raw: bytes, now: float) -> Record | Ended | None:
    """What a value says, at this time. None: it is past its deadline. Raises CorruptRecord for what we never wrote."""
    try:
        if raw[:1] == b"R":
            _, deadline, seen_at, ends_at, first, second = _unpack(raw)
            middle = _SIZE + first
            end, user_id = middle, None
            if second != NOBODY:
                end = middle + second
                user_id = raw[middle:end].decode()
            version = raw[_SIZE:middle].decode()
            if not deadline > now:
                return None
            return record_of(key, (version, deadline, seen_at, ends_at, None, user_id, raw[end:]))
        if raw[:1] == b"E":
            at = _TOMBSTONE.unpack_from(raw)[1]
            return judge(key, (raw[_TOMBSTONE.size :].decode(), 0.0, 0.0, 0.0, at, None, None), now)
    except (
        error,
        TypeError,
        UnicodeError,
    ) as problem:  # TypeError: it is no text at all, but another command's reply
        raise corrupt(key) from problem
    raise corrupt(key)


def expired(key: str, raw: bytes) -> Expired | None:
    """What to say of a value that `decoded` found to be over. None: it is an old tombstone's."""
    if raw[:1] != b"R":
        return None
    _, deadline, _, ends_at, first, second = _unpack(raw)
    middle = _SIZE + first
    user_id = None if second == NOBODY else raw[middle : middle + second].decode()
    return _rows.expired(key, ("", deadline, 0.0, ends_at, None, user_id, b""))


def login_at(record: Record) -> float:
    """What lists are ordered by."""
    return record.created_at if record.authenticated_at is None else record.authenticated_at
