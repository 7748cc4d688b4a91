"""Sessions in any SQL database that SQLAlchemy reaches: PostgreSQL, MySQL, MariaDB and SQLite are tested.

Written once, as coroutines that await nothing but a client (`_sqlalchemy_client`): a blocking one in the calling thread, an
awaiting one on an event loop. What is done is in `_sqlalchemy_jobs`: each verb is one conditional statement, which a second
statement explains where it did nothing; a login and the end of all of a user's sessions are one transaction each.
"""

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Engine, MetaData
from sqlalchemy.ext.asyncio import AsyncEngine

from coatcheck.core.outage import Outage
from coatcheck.core.ports import EndedAll, Outcome, Page, Tally, Terms, Walked
from coatcheck.core.record import Ended, Expired, Record
from coatcheck.errors import ConfigurationError, StoreUnavailable
from coatcheck.stores._alike import cursor_at, place_of, walked
from coatcheck.stores._health import ConnectionEvent
from coatcheck.stores._rows import expired, judge, readable, written
from coatcheck.stores._sqlalchemy_client import Client
from coatcheck.stores._sqlalchemy_faces import Faces
from coatcheck.stores._sqlalchemy_jobs import FIRST, Jobs, clock_of
from coatcheck.stores._sqlalchemy_runner import ASIDE, READ, WHOLE, WRITE
from coatcheck.stores._sqlalchemy_setup import set_up
from coatcheck.stores._sqlalchemy_tables import Tables, tables
from coatcheck.stores._sqlalchemy_tallies import TallyJobs

__all__ = ["SQLAlchemySessions", "SQLAlchemyStore", "tables"]

TEND_FIRST: Final = 64
TEND_EVERY: Final = 400
"""Writes of this process between two sweeps that nobody asked for; the first comes sooner, in case it does not live long."""
TEND_LIMIT: Final = 500
SWEEP_STEP: Final = 500
"""Rows that one statement of a sweep deletes."""
ENROLMENTS: Final = 10
"""How often a user's row is made: a sweep may take it away again just then."""


class SQLAlchemyStore:
    """The store in the application's database: its own `Engine` (for the sync face) or `AsyncEngine` (for event loops).

    `prefix`, `schema`: where the tables are, see `tables`. `metadata`: where their `Table` objects go; your own, if Alembic is to
    see them. `outage`: when to stop asking; an engine of yours keeps its own time-outs. `on_connection`: called with each
    `ConnectionEvent`. `clock`: a SELECT that answers the server's own time, a number of seconds, finer than milliseconds; for
    databases other than PostgreSQL, MySQL, MariaDB and SQLite, of which coatcheck knows it. `pool_size`: at most so many
    connections a process and face, of a store that was opened by URL.

    The tables are made by `coatcheck setup`, a manager's `setup()` or your migrations, never by itself. Raises ConfigurationError
    for a setting that cannot work.
    """

    def __init__(
        self,
        engine: Engine | AsyncEngine,
        *,
        prefix: str = "coatcheck_",
        schema: str | None = None,
        metadata: MetaData | None = None,
        outage: Outage | None = None,
        on_connection: Callable[[ConnectionEvent], None] | None = None,
        clock: str | None = None,
    ) -> None:
        if not isinstance(engine, (Engine, AsyncEngine)):
            raise ConfigurationError(
                f"store: a {type(engine).__name__} is no engine; give SQLAlchemy's Engine or AsyncEngine, or a URL"
            )
        self._prepare(
            Faces(engine, outage=outage, on_connection=on_connection), prefix, schema, metadata, clock
        )

    def _prepare(
        self, faces: Faces, prefix: str, schema: str | None, metadata: MetaData | None, clock: str | None
    ) -> None:
        self._faces = faces
        self.tables: Tables = tables(
            MetaData() if metadata is None else metadata, prefix=prefix, schema=schema
        )
        known = clock_of(faces.dialect, clock)
        if known is None:
            raise ConfigurationError(
                f"store={faces.shown!r}: coatcheck does not know how to ask {faces.dialect} for its time; give "
                "SQLAlchemyStore(…, clock=), a SELECT that answers it in seconds"
            )
        self._jobs = Jobs(self.tables, known)
        self._blocking: SQLAlchemySessions | None = None
        self._awaiting: SQLAlchemySessions | None = None

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        outage: Outage | None = None,
        pool_size: int = 10,
        prefix: str = "coatcheck_",
        schema: str | None = None,
        metadata: MetaData | None = None,
        on_connection: Callable[[ConnectionEvent], None] | None = None,
        clock: str | None = None,
    ) -> "SQLAlchemyStore":
        """The store of `mysql://user:password@host/database`, `mariadb://…`, or `sqlalchemy+` and any URL of SQLAlchemy's.

        A driver that the URL names serves the face it can; the other face, and both where none is named, get PyMySQL and asyncmy,
        psycopg and asyncpg, sqlite3 and aiosqlite. Raises ConfigurationError for what is no such URL.
        """
        faces = Faces(url, outage=outage, pool_size=pool_size, on_connection=on_connection)
        store = cls.__new__(cls)
        store._prepare(faces, prefix, schema, metadata, clock)
        return store

    def __repr__(self) -> str:
        return f"<SQLAlchemyStore {self._faces.shown}>"

    def blocking(self) -> "SQLAlchemySessions":
        """The store whose methods never suspend: for the sync face. Raises WrongFace if there is no blocking driver."""
        if self._blocking is None:
            self._blocking = SQLAlchemySessions(self._faces.blocking(), self._jobs, self.tables)
        return self._blocking

    def awaiting(self) -> "SQLAlchemySessions":
        """The store for event loops, any number of them. Raises WrongFace if there is no awaiting driver."""
        if self._awaiting is None:
            self._awaiting = SQLAlchemySessions(self._faces.awaiting(), self._jobs, self.tables)
        return self._awaiting

    def close(self) -> None:
        """Close what the sync face opened by URL; afterwards the store cannot be used there."""
        self._faces.close()

    async def aclose(self) -> None:
        """Close what the running event loop opened by URL; afterwards the store cannot be used there.

        Waits for what is under way, on an engine of yours too: so close that afterwards.
        """
        await self._faces.aclose()

    def __enter__(self) -> "SQLAlchemyStore":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class SQLAlchemySessions:
    """What `SQLAlchemyStore` hands to a face: every ability of `coatcheck.core.ports` but `Watches`."""

    def __init__(self, client: Client, jobs: Jobs, made: Tables) -> None:
        self._client = client
        self._jobs = jobs
        self._tables, self._tallies = made, TallyJobs(made.tally)
        self._until_tended = self._until_tallies_tended = TEND_FIRST

    # -------------------------------------------------------------------------------------------- the five verbs

    async def load(self, key: str, *, now: float) -> Record | Ended | Expired | None:
        row = await self._client.run(READ, self._jobs.find, key)
        if row is None:
            return None
        there = judge(key, row, now)
        if there is None:
            # Deleted, so that a clock that steps back does not bring back what was answered to be over.
            return await self._client.run(WRITE, self._jobs.present, key, now) or expired(key, row)
        return there

    async def create(self, record: Record, *, now: float) -> Outcome:
        self._tend(now)
        return await self._client.run(WRITE, self._jobs.create, record, written(record), now)

    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        self._tend(now)
        row = written(record)
        return await self._client.run(WRITE, self._jobs.replace, record, row, expected, now, may_shorten)

    async def touch(self, key: str, *, deadline: float, seen_at: float, expected: str, now: float) -> bool:
        self._tend(now)
        return await self._client.run(WRITE, self._jobs.touch, key, deadline, seen_at, expected, now)

    async def delete(self, key: str, *, now: float, token: str, expected: str | None = None) -> bool:
        self._tend(now)
        return await self._client.run(WRITE, self._jobs.delete, key, expected, now, token)

    # --------------------------------------------------------------------------------------------------- by user

    async def admit(self, record: Record, *, expected: str | None, terms: Terms, now: float) -> Outcome:
        """Write a record that begins a login, all or nothing: see `coatcheck.core.ports.ByUser`."""
        self._tend(now)
        row = written(record)
        for _ in range(ENROLMENTS):
            outcome = await self._client.run(WHOLE, self._jobs.admit, record, row, expected, terms, now)
            if outcome is not None:
                return outcome
            await self._client.run(WRITE, self._jobs.enrol, str(record.user_id))
        raise _swept_away()

    async def of_user(self, user_id: str, *, now: float, cursor: str | None = None, limit: int = 100) -> Page:
        """The live sessions of a user, newest login first. Raises UsageError for a cursor that is none of ours."""
        before = FIRST if cursor is None else place_of(cursor)
        rows: Any = await self._client.run(READ, self._jobs.list_of, user_id, now, before, limit)
        more = len(rows) > limit > 0
        page = rows[:limit]
        return Page(readable(page, now), cursor_at(page[-1][1], page[-1][0]) if more else None)

    async def end_user(self, user_id: str, *, keep: str | None, now: float, token: str) -> EndedAll:
        """Raise the user's fence, then end every session of theirs but the one with key `keep`."""
        for _ in range(ENROLMENTS):
            ended = await self._client.run(WHOLE, self._jobs.end_user, user_id, keep, now, token)
            if ended is not None:
                return ended
            await self._client.run(WRITE, self._jobs.enrol, user_id)
        raise _swept_away()

    async def end_one(self, user_id: str, key: str, *, now: float, token: str) -> bool:
        """End one session, only while it belongs to this user."""
        self._tend(now)
        return await self._client.run(WRITE, self._jobs.end_one, user_id, key, now, token)

    # -------------------------------------------------------------------------------------------------- counters

    async def tally(
        self, key: str, *, window: float, now: float, amount: int = 1, prolong: bool = False
    ) -> Tally:
        """Add to a counter: see `coatcheck.core.ports.Tallies`."""
        self._until_tallies_tended -= 1
        if self._until_tallies_tended <= 0:
            self._until_tallies_tended = TEND_EVERY
            self._client.later(self._tallies.sweep, now, TEND_LIMIT)
        until = now + window
        for _ in range(ENROLMENTS):
            counted = await self._client.run(WHOLE, self._tallies.add, key, amount, now, until, prolong)
            if counted is not None:
                return counted
            await self._client.run(WRITE, self._tallies.begin, key)
        raise _swept_away()

    async def tallied(self, key: str, *, now: float) -> Tally:
        """What a counter says."""
        return await self._client.run(READ, self._tallies.look, key, now)

    async def end_tally(self, key: str) -> None:
        """Forget a counter."""
        await self._client.run(WRITE, self._tallies.end, key)

    # ---------------------------------------------------------------------------------------------------- upkeep

    async def sweep(self, *, now: float, limit: int = 1000) -> int:
        """Delete up to `limit` expired records, old tombstones and fences. Returns how many records went.

        In short transactions, so that nobody's write has to wait for the whole.
        """
        swept, more = 0, True
        while more and swept < limit:
            gone, more = await self._client.run(WRITE, self._jobs.sweep, now, min(SWEEP_STEP, limit - swept))
            swept += gone
        await self._client.run(WRITE, self._tallies.sweep, now, limit)
        return swept

    async def walk(self, *, cursor: object = None, limit: int = 1000) -> Walked:
        """Some of all keys: see `coatcheck.core.ports.Walks`."""
        keys = await self._client.run(ASIDE, self._jobs.walk, str(cursor or ""), limit)
        return walked(keys, limit)

    async def count(self, *, now: float) -> int:
        """How many sessions live: a walk through an index."""
        return await self._client.run(ASIDE, self._jobs.count, now)

    async def check(self) -> None:
        """Ask for a write that changes nothing. Raises StoreUnavailable, or StoreError where the tables are missing."""
        await self._client.run(WRITE, self._jobs.probe)

    async def setup(self) -> None:
        """Make the tables and indexes that are missing; safe to call again, and from several processes at once.

        Raises ConfigurationError for a table of that name that is not ours: it is left as it is.
        """
        await self._client.run(ASIDE, set_up, self._tables)

    def _tend(self, now: float) -> None:
        self._until_tended -= 1
        if self._until_tended <= 0:
            self._until_tended = TEND_EVERY
            self._client.later(self._jobs.sweep, now, TEND_LIMIT)


def _swept_away() -> StoreUnavailable:
    return StoreUnavailable("the user's row was swept away again and again; try again later")
