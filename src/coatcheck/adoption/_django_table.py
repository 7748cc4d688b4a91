"""Rows of Django's session table, over the clients of our own SQLAlchemy store."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, column, delete, select, table

from coatcheck.core.adoption import Found, Refused
from coatcheck.core.outage import Outage
from coatcheck.stores._sqlalchemy_runner import READ, WRITE
from coatcheck.stores.sqlalchemy import SQLAlchemyStore

__all__ = ["Rows"]

Reads = Callable[[str, object, float], Found | Refused | None]


class Rows:
    """The archive of one face: a row for each session."""

    def __init__(self, database: Any, name: str, outage: Outage, read: Reads, *, awaiting: bool) -> None:
        self._store = (
            SQLAlchemyStore.from_url(f"sqlalchemy+{database.removeprefix('sqlalchemy+')}", outage=outage)
            if isinstance(database, str)
            else SQLAlchemyStore(database, outage=outage)
        )
        self._client = (self._store.awaiting() if awaiting else self._store.blocking())._client
        self._read, self._is_awaiting = read, awaiting
        schema, _, short = name.rpartition(".")
        columns: list[Any] = [column(word) for word in ("session_key", "session_data", "expire_date")]
        self._rows = table(short, *columns, schema=schema or None)

    async def fetch(self, key: str, now: float) -> Found | Refused | None:
        """The session; None if there is none. Raises StoreUnavailable."""
        row = await self._client.run(READ, self._find, key)
        return None if row is None else self._read(str(row[0]), row[1], now)

    async def end(self, key: str) -> None:
        """Delete it."""
        await self._client.run(WRITE, self._delete, key)

    async def close(self) -> None:
        """Close what was opened for this; the application's own engine stays open."""
        if self._is_awaiting:
            await self._store.aclose()
        else:
            self._store.close()

    def _find(self, db: Connection, key: str) -> Any:
        rows = self._rows.c
        return db.execute(
            select(rows.session_data, rows.expire_date).where(rows.session_key == key)
        ).one_or_none()

    def _delete(self, db: Connection, key: str) -> None:
        db.execute(delete(self._rows).where(self._rows.c.session_key == key))
