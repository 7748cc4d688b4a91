"""Counters on the SQLite file (`Tallies`): each method is one statement, so each is atomic.

The client may run a job again that found the file busy, and then nothing was counted; never one that was committed.
"""

from typing import Final

from coatcheck.core.ports import NO_TALLY, Tally
from coatcheck.stores._sqlite_file import Cursor

__all__ = ["add", "end", "look", "sweep"]

# On the right of SET, every column is what it was before.
ADD: Final = (
    "INSERT INTO tally (key, count, until) VALUES (:key, max(0, :amount), :until) ON CONFLICT (key) DO UPDATE SET"
    " count = max(0, :amount + CASE WHEN until > :now THEN count ELSE 0 END),"
    " until = CASE WHEN until > :now AND NOT (:prolong AND :until > until) THEN until ELSE :until END"
    " RETURNING count, until"
)
LOOK: Final = "SELECT count, until FROM tally WHERE key = ? AND until > ?"
END: Final = "DELETE FROM tally WHERE key = ?"
SWEEP: Final = (
    "DELETE FROM tally WHERE key IN (SELECT key FROM tally WHERE until <= ? ORDER BY until LIMIT ?)"
)


def add(cursor: Cursor, key: str, amount: int, now: float, until: float, prolong: bool) -> Tally:
    """Add to a counter."""
    values = {"key": key, "amount": amount, "now": now, "until": until, "prolong": prolong}
    return Tally(*cursor.execute(ADD, values).fetchone())


def look(cursor: Cursor, key: str, now: float) -> Tally:
    """What it says."""
    row = cursor.execute(LOOK, (key, now)).fetchone()
    return NO_TALLY if row is None else Tally(*row)


def end(cursor: Cursor, key: str) -> None:
    """Forget it."""
    cursor.execute(END, (key,))


def sweep(cursor: Cursor, now: float, limit: int) -> None:
    """Delete some of those that are over."""
    cursor.execute(SWEEP, (now, limit))
