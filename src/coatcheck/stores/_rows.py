"""A record as a row of a table, and a row as a record: whatever somebody else may have put there.

What statements look at has columns; the rest of a record is packed into one value (MessagePack). Every store that has rows or
something like them packs it the same way, so a record's format is written down once.
"""

from math import isfinite
from typing import Any, Final

import msgspec

from coatcheck.core.ports import TOMBSTONE
from coatcheck.core.record import Ended, Expired, Lifetime, Login, PendingLogin, Record, Renewal
from coatcheck.errors import CorruptRecord

__all__ = [
    "Row",
    "Written",
    "corrupt",
    "expired",
    "forward",
    "judge",
    "packed",
    "readable",
    "record_of",
    "written",
]

Row = tuple[Any, ...]
"""(version, deadline, seen_at, ends_at, ended_at, user_id, packed), as found: nothing in it can be relied upon."""
Written = tuple[str, float, float, float, float, str | None, float, bytes, str]
"""(version, due, deadline, seen_at, ends_at, user_id, login_at, packed, key), as INSERT and OVERWRITE take it."""

LATEST: Final = 253_402_300_800.0
"""The year 10000. A stored time beyond it is none (milliseconds, 2**63, infinity)."""


class _Rest(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What of a record no statement looks at. An older release ignores what a newer one appends."""

    format: int
    versions: tuple[str, ...]
    verifier: bytes
    data: bytes
    created_at: float
    epoch: int
    rotated_at: float | None
    authenticated_at: float | None
    login: Login | None
    renewal: Renewal | None
    lifetime: Lifetime | None
    era: int = 0
    pending: PendingLogin | None = None


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(_Rest).decode


def packed(r: Record) -> bytes:
    """What of a record no statement looks at, in one value."""
    return _pack((
        r.format,
        r.versions,
        r.verifier,
        r.data,
        r.created_at,
        r.epoch,
        r.rotated_at,
        r.authenticated_at,
        r.login,
        r.renewal,
        r.lifetime,
        r.era,
        r.pending,
    ))  # fmt: skip


def written(r: Record) -> Written:
    """The row to be written for a record."""
    deadline = min(r.deadline, r.ends_at)
    return (
        r.versions[0],
        deadline,
        deadline,
        r.seen_at,
        r.ends_at,
        r.user_id,
        _login_at(r),
        packed(r),
        r.key,
    )


def _login_at(record: Record) -> float:
    """What lists are ordered by."""
    return record.created_at if record.authenticated_at is None else record.authenticated_at


def judge(key: str, row: Row, now: float) -> Record | Ended | None:
    """What a row says, at this time. None: it is past its deadline. Raises CorruptRecord for what we never wrote."""
    ended_at = row[4]
    if ended_at is not None:
        return _tombstone(key, row, now)
    deadline = row[1]
    if type(deadline) is not float:
        raise corrupt(key)
    return record_of(key, row) if deadline > now else None


def expired(key: str, row: Row) -> Expired | None:
    """What to say of a row that `judge` found to be over. None: it never was a session (0, or no number), or was ended."""
    _, deadline, _, ends_at, ended_at, user_id, _ = row
    return Expired.of(key, user_id, deadline, ends_at) if ended_at is None and deadline > 0 else None


def _tombstone(key: str, row: Row, now: float) -> Ended | None:
    token, ended_at = row[0], row[4]
    if type(token) is not str or type(ended_at) is not float or ended_at >= LATEST:
        raise corrupt(key)
    return Ended(key, token, ended_at) if ended_at + TOMBSTONE > now else None


def record_of(key: str, row: Row) -> Record:
    """The record in a row that was not ended, and is not over. Raises CorruptRecord for what we never wrote."""
    version, deadline, seen_at, ends_at, _, user_id, packed = row
    try:
        rest = _unpack(packed)
        sound = (
            rest.versions[0] == version
            and deadline <= ends_at < LATEST
            and isfinite(
                seen_at + rest.created_at + (rest.rotated_at or 0.0) + (rest.authenticated_at or 0.0)
            )
            and (user_id is None or type(user_id) is str)
            and ((rest.renewal is None and rest.lifetime is None) or _finite(rest.renewal, rest.lifetime))
            and (
                rest.login is None
                or (0 <= (rest.login.auth_time or 0) < LATEST and isfinite(rest.login.ends_by or 0))
            )
            and (rest.pending is None or isfinite(rest.pending.at))
        )
    except (msgspec.MsgspecError, TypeError, ValueError, LookupError, RecursionError) as error:
        raise corrupt(key) from error
    if not sound:
        raise corrupt(key)
    return Record(
        key,
        rest.versions,
        rest.verifier,
        rest.data,
        rest.created_at,
        seen_at,
        deadline,
        ends_at,
        rest.epoch,
        rest.rotated_at,
        user_id,
        rest.authenticated_at,
        rest.login,
        rest.renewal,
        rest.lifetime,
        rest.format,
        rest.era,
        rest.pending,
    )


def _finite(renewal: Renewal | None, lifetime: Lifetime | None) -> bool:
    times = (renewal.at, renewal.seen_at) if renewal else ()
    own = (lifetime.idle, lifetime.until) if lifetime else ()
    return all(isfinite(t or 0.0) for t in (*times, *own))


def corrupt(key: str) -> CorruptRecord:
    """The error for stored data that is none of ours."""
    return CorruptRecord(f"what is stored for session {key} is not a record of ours")


def readable(rows: list[Row], now: float) -> list[Record]:
    """The records. A corrupt row is left out: it opens nothing, and must not take the list with it."""
    records = []
    for key, _, *row in rows:
        try:
            there = judge(key, tuple(row), now)
        except CorruptRecord:
            continue
        if isinstance(there, Record):
            records.append(there)
    return records


def forward(row: Written, there: Record) -> Written:
    """The row with the times of the record that is there where those are later, and never past its absolute deadline."""
    version, _, deadline, seen_at, ends_at, user_id, login_at, packed, key = row
    deadline = min(max(deadline, there.deadline), ends_at)
    return (version, deadline, deadline, max(seen_at, there.seen_at), ends_at, user_id, login_at, packed, key)
