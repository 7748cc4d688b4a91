"""connect-pg-simple's sessions in PostgreSQL: its table read and written in place (wire formats 1.4 and 1.6).

Every verb is one statement (`_pg_simple_sql`), which commits by itself. Before the first, the table and the time zone that Node
writes it in are looked at (`_pg_simple_table`); what does not fit is an error that says what to change, and nothing is read or
written. What our rules do otherwise than the package: `replace` writes only over what was read, nothing that is over is touched
back to life, and a body that cannot be read is an error and not a reason to delete it.
"""

import json
import random
from collections.abc import Sequence
from datetime import timedelta
from math import ceil, inf, isfinite
from typing import Any, Final, Literal

from coatcheck.core.outage import Outage
from coatcheck.core.policy import seconds
from coatcheck.dialects.express import _pg_simple_sql as sql
from coatcheck.dialects.express._pg_simple_table import Missing, Unfit, examine
from coatcheck.dialects.express.ports import GONE, SAVED, TAKEN, Changed, Entry, Named, Outcome, Verdict
from coatcheck.errors import ConfigurationError, CorruptRecord, StoreError
from coatcheck.stores._postgres_client import Client
from coatcheck.stores._postgres_errors import sqlstate
from coatcheck.stores._postgres_opening import OnConnection, Opening, target_of

__all__ = ["ConnectPgSimple", "PgSimpleSessions"]

TTL: Final = 86_400
PRUNE_EVERY: Final = 900
PRUNE_STEP: Final = 1_000
"""Rows in one statement."""
BEGUN_AT_MOST: Final = PRUNE_STEP // 2
"""Sessions that this process may begin before it prunes again: so what expires never piles up."""
_CHANGED: Final = frozenset({"42703", "42804", "42809", "42P10", "42846", "42883"})
"""What happens where a table has other columns than it had when it was looked at."""


class ConnectPgSimple:
    """The store of an Express application that uses connect-pg-simple, with that package's options.

    `url_or_pool`: `postgresql://user:password@host:5432/database`, an `asyncpg.Pool` (async face), a
    `psycopg_pool.ConnectionPool` (sync face), or a function that makes a connection, as `PostgresStore` takes them.
    `schema_name`, `table_name`: where the sessions are; without a schema the server's `search_path` says.
    `create_table_if_missing`: make the table, as the package does, at first use. `coatcheck setup` makes it in any case.
    `ttl`: for how long a session is kept whose cookie the browser forgets; seconds, or a timedelta.
    `disable_touch`: never move the end of a session that has not changed.
    `prune_session_interval`: delete what has expired beside the first write after so long (seconds, or a timedelta; half to half
    as much again, at random), or after 500 new sessions; False: only when `prune` is called. There is no timer.
    `time_zone`: the TimeZone of Node's connections, where it is not the one that the server gives to all.
    `pool_size`: connections at most, in each process and event loop, where the pool is ours. `prepared_statements`: of a URL, as
    in `PostgresStore.from_url`. `outage`: time-outs, retries, circuit breaker. `on_connection`: called with news of it.

    Raises ConfigurationError for what cannot work. Connects to nothing.
    """

    def __init__(
        self,
        url_or_pool: Any,
        *,
        schema_name: str | None = None,
        table_name: str = "session",
        create_table_if_missing: bool = False,
        ttl: float | timedelta = TTL,
        disable_touch: bool = False,
        prune_session_interval: float | timedelta | Literal[False] = PRUNE_EVERY,
        time_zone: str | None = None,
        pool_size: int = 10,
        prepared_statements: bool = True,
        outage: Outage | None = None,
        on_connection: OnConnection | None = None,
    ) -> None:
        self._options = _Options(
            name=sql.TableName.checked(schema_name, table_name),
            creates=_switch("create_table_if_missing", create_table_if_missing),
            ttl=seconds(ttl, setting="ttl"),
            touches=not _switch("disable_touch", disable_touch),
            prune_every=_interval(prune_session_interval),
            time_zone=_zone(time_zone),
        )
        outage = outage or Outage()
        given = (
            target_of(url_or_pool, outage, prepared=prepared_statements)
            if isinstance(url_or_pool, str)
            else url_or_pool
        )
        self._clients = Opening(given, size=pool_size, outage=outage, on_connection=on_connection)
        self._blocking: PgSimpleSessions | None = None
        self._awaiting: PgSimpleSessions | None = None

    @classmethod
    def from_url(cls, url: str, *, outage: Outage | None = None, **options: Any) -> "ConnectPgSimple":
        """The store of a URL, with the options of the class."""
        return cls(url, outage=outage, **options)

    def __repr__(self) -> str:
        return f"<ConnectPgSimple {self._clients.name} {self._options.name.quoted()}>"

    def blocking(self) -> "PgSimpleSessions":
        """The store whose methods never suspend. Raises WrongFace for an awaiting client."""
        if self._blocking is None:
            self._blocking = PgSimpleSessions(self._clients.blocking(), self._options)
        return self._blocking

    def awaiting(self) -> "PgSimpleSessions":
        """The store for event loops; several loops in one process may share it. Raises WrongFace for a blocking client."""
        if self._awaiting is None:
            self._awaiting = PgSimpleSessions(self._clients.awaiting(), self._options)
        return self._awaiting

    def close(self) -> None:
        """Close the connections of the sync face; afterwards it cannot be used. A pool that was handed in is its owner's."""
        self._clients.close()

    async def aclose(self) -> None:
        """Close the connections of all event loops; afterwards the async face cannot be used."""
        await self._clients.aclose()
