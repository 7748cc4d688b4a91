"""What every store decides alike, whatever its server: whether a write may go over what is there, and places in a list."""

from collections.abc import Sequence
from math import isfinite

from coatcheck.core.ports import GONE, SAVED, TAKEN, Changed, Outcome, Walked
from coatcheck.core.record import Ended, Expired, Record
from coatcheck.errors import UsageError

__all__ = ["cursor_at", "not_over", "place_of", "walked"]


def not_over(there: Record | Ended | Expired | None, record: Record, expected: str | None) -> Outcome | None:
    """Why `record` cannot be written over what is there: SAVED if it already was. None: it can."""
    if isinstance(there, Record) and record.versions[0] in there.versions:
        return SAVED
    if expected is None:
        return None if there is None or isinstance(there, Expired) else TAKEN
    if not isinstance(there, Record):
        return GONE
    return None if there.versions[0] == expected else Changed(there)


def cursor_at(login_at: float, key: str) -> str:
    """The cursor of a page that ends with this session. Lists go by login, and the key makes that order total."""
    return f"{login_at!r} {key}"


def place_of(cursor: str) -> tuple[float, str]:
    """The place a cursor names. Raises UsageError for one that is none of ours."""
    at, _, key = cursor.partition(" ")
    try:
        login_at = float(at)
    except ValueError:
        login_at = float("nan")
    if not isfinite(login_at):
        raise UsageError(f"cursor={cursor[:200]!r}: pass the cursor of the page before, unchanged, or None")
    return login_at, key


def walked(keys: Sequence[str], limit: int) -> Walked:
    """A step of a walk in the order of the keys: the last one is where the next step goes on."""
    return Walked(keys, keys[-1] if keys and len(keys) >= limit else None)
