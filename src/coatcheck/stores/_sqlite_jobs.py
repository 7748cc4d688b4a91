"""What is done on the SQLite file: each a plain function of a cursor, one statement or one transaction."""

from collections.abc import Callable
from math import inf, nextafter
from typing import Final

from coatcheck.core.ports import (
    FENCED,
    FULL,
    SAVED,
    TOMBSTONE,
    EndedAll,
    Outcome,
    Terms,
)
from coatcheck.core.record import Ended, Record
from coatcheck.stores import _sqlite_tallies as tallies
from coatcheck.stores._alike import not_over
from coatcheck.stores._rows import Row, Written, forward, judge
from coatcheck.stores._sqlite_file import PROBE, Cursor
from coatcheck.stores._sqlite_pool import atomically

__all__ = [
    "admit",
    "count",
    "create",
    "delete",
    "end_one",
    "end_user",
    "find",
    "list_of",
    "present",
    "probe",
    "put_over",
    "replace",
    "replaced",
    "sweep",
    "touch",
]

FENCE_KEPT: Final = 86_400.0
"""Seconds after which a fence is forgotten: no request takes a day."""
REBOOTED: Final = 1.0
"""A fence so many seconds ahead of the clock is from before a reboot, which set the clock back to 0."""

# ------------------------------------------------------------------------------------------------------- one session

# What a `load` costs, in us: this statement 4.5, of which 2 are the four system calls that take and return the snapshot's lock;
# the columns 1, unpacking them into a record 1.1, all coroutines together 0.6. A `replace`: 9 in SQLite, 8 of them the commit
# (locks, checksum, two writes to the log); packing 0.8.
FIND: Final = (
    "SELECT version, deadline, seen_at, ends_at, ended_at, user_id, packed FROM session WHERE key = ?"
)
INSERT: Final = (
    "INSERT INTO session (version, due, deadline, seen_at, ends_at, user_id, login_at, packed, key)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING"
)
OVERWRITE: Final = (
    "UPDATE session SET version = ?, due = ?, deadline = ?, seen_at = ?, ends_at = ?, user_id = ?, login_at = ?,"
    " packed = ? WHERE key = ?"
)
# No indexed column is set: one page is written. Where user, login or absolute deadline change, OVERWRITE does it.
REPLACE: Final = (
    "UPDATE session SET version = ?, deadline = min(max(deadline, ?), ends_at), seen_at = max(seen_at, ?), packed = ?"
    " WHERE key = ? AND version = ? AND deadline > ? AND ends_at = ? AND login_at = ? AND user_id IS ?"
)
TOUCH: Final = (
    "UPDATE session SET deadline = min(max(deadline, ?), ends_at), seen_at = max(seen_at, ?)"
    " WHERE key = ? AND version = ? AND deadline > ?"
)
PURGE: Final = "DELETE FROM session WHERE key = ? AND (ended_at IS NULL AND deadline <= ? OR ended_at <= ?)"
# `deadline` 0: neither REPLACE nor TOUCH can apply to a tombstone, whatever its token.
END: Final = (
    "UPDATE session SET version = :token, ended_at = :now, due = NULL, deadline = 0, seen_at = 0, ends_at = 0,"
    " user_id = NULL, login_at = NULL, packed = NULL WHERE ended_at IS NULL AND deadline > :now AND "
)
END_THIS: Final = END + "key = :key AND (:expected IS NULL OR version = :expected)"
END_THEIRS: Final = END + "key = :key AND user_id = :user_id"
END_ALL: Final = END + "user_id = :user_id AND key IS NOT :keep"


def find(cursor: Cursor, key: str) -> Row | None:
    """The row as it is."""
    row: Row | None = cursor.execute(FIND, (key,)).fetchone()
    return row


def present(cursor: Cursor, key: str, now: float) -> Record | Ended | None:
    """What is there, after deleting for good what is past its deadline."""
    cursor.execute(PURGE, (key, now, now - TOMBSTONE))
    row = find(cursor, key)
    return None if row is None else judge(key, row, now)


def create(cursor: Cursor, record: Record, row: Written, now: float) -> Outcome:
    """Write where nothing is."""
    if cursor.execute(INSERT, row).rowcount == 1:
        return SAVED
    return put_over(cursor, record, row, None, now)


def replace(cursor: Cursor, record: Record, row: Written, expected: str, now: float) -> Outcome:
    """Write over `expected`; times only move forward."""
    if replaced(cursor, row, expected, now):
        return SAVED
    return atomically(cursor, _put, record, row, expected, now, True)


def replaced(cursor: Cursor, row: Written, expected: str, now: float) -> bool:
    """The same where it takes one statement: most writes. False: nothing was written."""
    version, _, deadline, seen_at, ends_at, user_id, login_at, packed, key = row
    values = (version, deadline, seen_at, packed, key, expected, now, ends_at, login_at, user_id)
    return cursor.execute(REPLACE, values).rowcount == 1


def put_over(cursor: Cursor, record: Record, row: Written, expected: str | None, now: float) -> Outcome:
    """Write over `expected`, or None: over nothing; the times as they are."""
    return atomically(cursor, _put, record, row, expected, now, False)


def _put(
    cursor: Cursor, record: Record, row: Written, expected: str | None, now: float, only_forward: bool
) -> Outcome:
    """Write over what is expected to be there. `only_forward`: times only move forward. Within a transaction."""
    there = present(cursor, record.key, now)
    if (refusal := not_over(there, record, expected)) is not None:
        return refusal
    if only_forward and isinstance(there, Record):
        row = forward(row, there)
    _write(cursor, row, there)
    return SAVED


def _write(cursor: Cursor, row: Written, there: Record | Ended | None) -> None:
    cursor.execute(INSERT if there is None else OVERWRITE, row)


def touch(cursor: Cursor, values: tuple[float, float, str, str, float]) -> bool:
    """Move `deadline` and `seen_at` forward: (deadline, seen_at, key, expected, now)."""
    return cursor.execute(TOUCH, values).rowcount == 1


def delete(cursor: Cursor, key: str, expected: str | None, now: float, token: str) -> bool:
    """Put a tombstone in place of a live record."""
    ended = _end(cursor, END_THIS, token, now, key=key, expected=expected) == 1
    return ended or _is_own(cursor, key, now, token)


def _end(cursor: Cursor, how: str, token: str, now: float, **of: str | None) -> int:
    """Put a tombstone in place of what is meant; returns of how many."""
    return cursor.execute(how, {"token": token, "now": now, **of}).rowcount


def _is_own(cursor: Cursor, key: str, now: float, token: str) -> bool:
    """Whether there is a tombstone of this very deleter: a retry."""
    there = present(cursor, key, now)
    return isinstance(there, Ended) and there.token == token


# ----------------------------------------------------------------------------------------------------------- by user

FENCE: Final = "SELECT fence FROM fence WHERE user_id = ?"
RAISE: Final = "INSERT INTO fence (user_id, fence) VALUES (?, ?) ON CONFLICT (user_id) DO UPDATE SET fence = excluded.fence"
OLDEST: Final = (
    "SELECT key FROM session WHERE user_id = ? AND deadline > ? AND key <> ?"
    " ORDER BY login_at DESC, key DESC LIMIT -1 OFFSET ?"
)
LIST: Final = (
    "SELECT key, login_at, version, deadline, seen_at, ends_at, ended_at, user_id, packed FROM session"
    " WHERE user_id = ? AND deadline > ? AND (login_at, key) < (?, ?) ORDER BY login_at DESC, key DESC LIMIT ?"
)
PURGE_THEIRS: Final = "DELETE FROM session WHERE user_id = ? AND deadline <= ?"


def admit(
    cursor: Cursor,
    record: Record,
    row: Written,
    expected: str | None,
    terms: Terms,
    began: float,
    now: float,
    monotonic: Callable[[], float],
) -> Outcome:
    """Within a transaction, which holds the write lock: neither a fence nor a login can come in between (rule 24)."""
    there = present(cursor, record.key, now)
    if (refusal := not_over(there, record, expected)) is not None:
        return refusal
    fence = _fence(cursor, record.user_id, monotonic())
    if fence is not None and began <= fence != terms.own_fence:
        return FENCED
    victims = _too_many(cursor, record, terms.limit, now)
    if victims and not terms.evict:
        return FULL
    for victim in victims:
        _end(cursor, END_THIS, record.versions[0], now, key=victim, expected=None)
    _write(cursor, row, there)
    return SAVED


def _too_many(cursor: Cursor, record: Record, limit: int | None, now: float) -> list[str]:
    """The oldest logins that must end for this one to keep the limit."""
    if limit is None or record.user_id is None:
        return []
    others = max(0, limit - 1)
    rows = cursor.execute(OLDEST, (record.user_id, now, record.key, others)).fetchall()
    return [key for (key,) in rows]


def _fence(cursor: Cursor, user_id: str | None, clock: float) -> float | None:
    """The user's fence, unless it is from before a reboot: nobody's request has survived that."""
    for (fence,) in cursor.execute(FENCE, (user_id,)).fetchall():
        if isinstance(fence, float) and fence <= clock + REBOOTED:
            return fence
    return None


def end_user(
    cursor: Cursor,
    user_id: str,
    keep: str | None,
    now: float,
    token: str,
    monotonic: Callable[[], float],
) -> EndedAll:
    """Raise the fence, and put a tombstone in place of each session but `keep`. Within a transaction."""
    fence = monotonic()
    if (before := _fence(cursor, user_id, fence)) is not None:
        # Strictly above: a request that knows its own fence must not pass a later one of the same tick.
        fence = max(fence, nextafter(before, inf))
    cursor.execute(RAISE, (user_id, fence))
    cursor.execute(PURGE_THEIRS, (user_id, now))
    return EndedAll(_end(cursor, END_ALL, token, now, user_id=user_id, keep=keep), fence)


def end_one(cursor: Cursor, user_id: str, key: str, now: float, token: str) -> bool:
    """Put a tombstone in place of a session of this user."""
    ended = _end(cursor, END_THEIRS, token, now, key=key, user_id=user_id) == 1
    return ended or _is_own(cursor, key, now, token)


def list_of(cursor: Cursor, user_id: str, now: float, before: tuple[float, str], limit: int) -> list[Row]:
    """Up to one more than `limit`, to see whether there is another page."""
    return cursor.execute(LIST, (user_id, now, *before, max(limit, 0) + 1)).fetchall()


# ------------------------------------------------------------------------------------------------------------ upkeep

# Of the first rows that are due, those that are over go. (Whatever is no number is over, too.)
SWEEP: Final = (
    "DELETE FROM session WHERE rowid IN (SELECT rowid FROM session WHERE due <= :now ORDER BY due LIMIT :limit)"
    " AND (deadline <= :now OR typeof(deadline) <> 'real')"
)
# The others have been kept alive since: they are due later.
PUT_OFF: Final = (
    "UPDATE session SET due = deadline WHERE rowid IN"
    " (SELECT rowid FROM session WHERE due <= :now ORDER BY due LIMIT :limit) AND deadline > :now"
)
SWEEP_ENDED: Final = (
    "DELETE FROM session WHERE rowid IN (SELECT rowid FROM session WHERE ended_at <= ? LIMIT ?)"
)
# A look takes no write lock, and mostly there is nothing: one statement then, in place of five.
ANY_DUE: Final = (
    "SELECT EXISTS (SELECT 1 FROM session WHERE due <= :now) OR EXISTS (SELECT 1 FROM session WHERE ended_at <= :ended)"
    " OR EXISTS (SELECT 1 FROM fence WHERE fence < :old OR fence > :ahead)"
    " OR EXISTS (SELECT 1 FROM tally WHERE until <= :now)"
)
SWEEP_FENCES: Final = "DELETE FROM fence WHERE fence < ? OR fence > ?"
COUNT: Final = (
    "SELECT (SELECT count(*) FROM session WHERE due > :now)"
    " + (SELECT count(*) FROM session WHERE due <= :now AND deadline > :now)"
)


WALK: Final = "SELECT key FROM session WHERE key > ? AND ended_at IS NULL ORDER BY key LIMIT ?"


def walk(cursor: Cursor, after: str, limit: int) -> list[str]:
    """The next keys, in their order."""
    return [key for (key,) in cursor.execute(WALK, (after, limit)).fetchall()]


def sweep(cursor: Cursor, now: float, limit: int, clock: float) -> tuple[int, bool]:
    """How many records went, and whether there may be more. Each statement is a transaction of its own."""
    ended, old, ahead = now - TOMBSTONE, clock - FENCE_KEPT, clock + REBOOTED
    due = {"now": now, "limit": limit, "ended": ended, "old": old, "ahead": ahead}
    if not cursor.execute(ANY_DUE, due).fetchone()[0]:
        return 0, False
    gone = cursor.execute(SWEEP, due).rowcount
    put_off = cursor.execute(PUT_OFF, due).rowcount
    cursor.execute(SWEEP_ENDED, (ended, limit))
    cursor.execute(SWEEP_FENCES, (old, ahead))
    tallies.sweep(cursor, now, limit)
    return gone, gone > 0 or put_off > 0


def count(cursor: Cursor, now: float) -> int:
    """How many sessions live."""
    return int(cursor.execute(COUNT, {"now": now}).fetchone()[0])


def probe(cursor: Cursor) -> None:
    """Write what is there already, through the log, as any other write."""
    cursor.execute(PROBE)
