"""Sessions without a store: what the pure tests of core work with."""

from typing import Any

from coatcheck.core import codec
from coatcheck.core.merge import Changes, Parts, unopposed
from coatcheck.core.record import Record
from coatcheck.core.session import BaseSession, Standing

NOW = 1_800_000_000.0


class Plain(BaseSession):
    """A session of no request: it makes its locators by counting."""

    def _new_locator(self) -> str:
        return "locator-of-something-new"


def parts_of(data: dict[str, Any]) -> Parts:
    """Plain values, as a record keeps them."""
    return {key: codec.encode(value, key) for key, value in data.items()}


def values_of(parts: Parts) -> dict[str, Any]:
    return {key: codec.decode(part) for key, part in parts.items()}


def record(data: dict[str, Any] | bytes | None = None, **fields: Any) -> Record:
    """A record that is a moment old."""
    given: dict[str, Any] = {
        "key": "locator-of-what-is-stored",
        "versions": ("version-1",),
        "verifier": b"",
        "data": data if isinstance(data, bytes) else codec.join(parts_of(data or {})),
        "created_at": NOW,
        "seen_at": NOW,
        "deadline": NOW + 3600,
        "ends_at": NOW + 86_400,
    }
    return Record(**(given | fields))


def live(data: dict[str, Any] | bytes | None = None, **fields: Any) -> Plain:
    """A session that was loaded with this data."""
    session = Plain()
    session._standing, session._record = Standing.LIVE, record(data, **fields)
    return session


def new() -> Plain:
    """A session of a visitor without a cookie."""
    session = Plain()
    session._standing = Standing.NEW
    return session


def settled(session: Plain) -> dict[str, Any]:
    """Commit a session that nobody opposed; returns what is stored then."""
    changes: Changes = session._changes()
    parts = unopposed(session._base or {}, changes)
    session._settle(record(values_of(parts)), parts)
    return values_of(parts)
