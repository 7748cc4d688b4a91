"""Sessions in PostgreSQL: in one table, which `coatcheck setup` makes. asyncpg for the async face, psycopg 3 for the sync one.

Written once, as coroutines that await nothing but a client (`_postgres_client`): one method that carries out one statement, which
commits by itself. Every verb is one statement (`_postgres_sql`), so each is atomic; where it finds nothing to write over, a
second one finds out why. An acknowledged write is as durable as the server's `synchronous_commit` makes it: on its disk, by
default.
"""

import random
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any, Final, cast

from coatcheck.core.outage import Outage
from coatcheck.core.ports import (
    FENCED,
    FULL,
    NO_TALLY,
    SAVED,
    Changed,
    EndedAll,
    Notice,
    Outcome,
    Page,
    Tally,
    Terms,
    Walked,
)
from coatcheck.core.record import Ended, Expired, Record
from coatcheck.errors import ConfigurationError, StoreUnavailable
from coatcheck.stores._alike import cursor_at, not_over, place_of, walked
from coatcheck.stores._postgres_client import Client
from coatcheck.stores._postgres_connect import Target
from coatcheck.stores._postgres_hosts import awaiting_from, blocking_from
from coatcheck.stores._postgres_opening import OnConnection, Opening, target_of
from coatcheck.stores._postgres_sql import Names, Statements
from coatcheck.stores._postgres_watch import watch_in_task, watch_in_thread
from coatcheck.stores._rows import expired, judge, readable, written

__all__ = ["PostgresSessions", "PostgresStore"]

ATTEMPTS: Final = 20
"""How often a write starts again because what was in its way went away meanwhile."""
TEND_EVERY: Final = 100
"""Writes of this process between two sweeps that nobody asked for, on average: at random, so that processes take turns."""
TEND_LIMIT: Final = 200
"""Rows such a sweep may look at: more than were written since the last, so that the expired never pile up."""
SWEEP_STEP: Final = 1000
"""Rows in one statement of a sweep by hand."""

Watch = Callable[[Callable[[Notice], None]], Callable[[], None]]


class PostgresStore:
    """The store around the application's own pool, which stays the application's to close and keeps its own limits.

    `client`: an `asyncpg.Pool` (async face), a `psycopg_pool.ConnectionPool` (sync face), or a function that makes a connection:
    `async def` for asyncpg's, `def` for psycopg's. For a URL: `PostgresStore.from_url(url)`.
    `schema`, `table`: where the sessions are; without `schema` the server's `search_path` says. `coatcheck setup` makes it.
    `pool_size`: connections at most, in each process and event loop, where a function makes them.
    `listen_url`: where to listen for endings (`Watches`): a session of its own, so never through a pooler in transaction mode.
    `outage`: time-outs, retries, circuit breaker. `on_connection`: called with news of the connection.

    Raises ConfigurationError for what cannot work.
    """

    def __init__(
        self,
        client: Any,
        *,
        schema: str | None = None,
        table: str = "coatcheck_session",
        pool_size: int = 10,
        listen_url: str | None = None,
        outage: Outage | None = None,
        on_connection: OnConnection | None = None,
    ) -> None:
        self._names = Names.checked(schema, table)
        self._statements = Statements(self._names)
        outage = outage or Outage()
        self._clients = Opening(client, size=pool_size, outage=outage, on_connection=on_connection)
        self._listens = (
            self._clients.target if listen_url is None else target_of(listen_url, outage, prepared=True)
        )
        self._blocking: PostgresSessions | None = None
        self._awaiting: PostgresSessions | None = None

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prepared_statements: bool = True,
        outage: Outage | None = None,
        **options: Any,
    ) -> "PostgresStore":
        """The store of `postgresql://user:password@host:5432/database`, with the options of the class.

        `prepared_statements`: False behind a pooler in transaction mode that does not keep track of them (PgBouncer before 1.21).
        Raises ConfigurationError for a URL that cannot be one. Connects to nothing.
        """
        outage = outage or Outage()
        return cls(target_of(url, outage, prepared=prepared_statements), outage=outage, **options)

    def __repr__(self) -> str:
        return f"<PostgresStore {self._clients.name} {self._names.quoted()}>"

    def blocking(self) -> "PostgresSessions":
        """The store whose methods never suspend. Raises WrongFace for an awaiting client."""
        if self._blocking is None:
            watch = partial(self._watch, partial(_in_thread, self._statements))
            self._blocking = PostgresSessions(self._clients.blocking(), self._statements, watch)
        return self._blocking

    def awaiting(self) -> "PostgresSessions":
        """The store for event loops; several loops in one process may share it. Raises WrongFace for a blocking client."""
        if self._awaiting is None:
            watch = partial(self._watch, partial(_in_task, self._names))
            self._awaiting = PostgresSessions(self._clients.awaiting(), self._statements, watch)
        return self._awaiting

    def close(self) -> None:
        """Close the connections of the sync face; afterwards it cannot be used. A pool that was handed in is its owner's."""
        self._clients.close()

    async def aclose(self) -> None:
        """Close the connections of all event loops; afterwards the async face cannot be used."""
        await self._clients.aclose()

    def _watch(
        self,
        begin: Callable[[Target, Callable[[Notice], None]], Callable[[], None]],
        tell: Callable[[Notice], None],
    ) -> Callable[[], None]:
        if self._listens is None:
            raise ConfigurationError(
                "watching needs a connection of its own: give listen_url='postgresql://…'"
            )
        return begin(self._listens, tell)


class PostgresSessions:
    """What `PostgresStore` hands to a face: `Store`, and every ability of `coatcheck.core.ports`."""

    def __init__(self, client: Client, statements: Statements, watch: Watch) -> None:
        self._client, self._sql, self._begin_watching = client, statements, watch
        self._until_tended, self._until_tallies_tended = _next_turn(), _next_turn()

    # -------------------------------------------------------------------------------------------- the five verbs

    async def load(self, key: str, *, now: float) -> Record | Ended | Expired | None:
        rows = await self._client.fetch(self._sql.find, key)
        if not rows:
            return None
        there = judge(key, rows[0], now)
        if there is not None:
            return there
        over = expired(key, rows[0])
        if await self._client.fetch(self._sql.purge, key, now):
            return over
        # To be deleted, so that a clock that steps back does not bring back what was answered to be over. It was not: so
        # somebody was quicker, and it lives on, or went.
        rows = await self._client.fetch(self._sql.find, key)
        return (judge(key, rows[0], now) or over) if rows else over

    async def create(self, record: Record, *, now: float) -> Outcome:
        self._tend(now)
        return await self._create(record, now)

    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        self._tend(now)
        return await self._replace(
            self._sql.put_over if may_shorten else self._sql.replace, record, expected, now
        )

    async def touch(self, key: str, *, deadline: float, seen_at: float, expected: str, now: float) -> bool:
        self._tend(now)
        return bool(await self._client.fetch(self._sql.touch, deadline, seen_at, key, expected, now))

    async def delete(self, key: str, *, now: float, token: str, expected: str | None = None) -> bool:
        self._tend(now)
        ended = await self._client.fetch(self._sql.delete, token, now, key, expected)
        return bool(ended) or await self._is_own(key, now, token)

    # --------------------------------------------------------------------------------------------------- by user

    async def admit(self, record: Record, *, expected: str | None, terms: Terms, now: float) -> Outcome:
        """Write a record that begins a login, all or nothing: see `coatcheck.core.ports.ByUser`."""
        self._tend(now)
        if record.user_id is None:  # nobody's: neither fence nor limit
            if expected is None:
                return await self._create(record, now)
            return await self._replace(self._sql.put_over, record, expected, now)
        began: float | None = None
        for _ in range(ATTEMPTS):
            verdict, clock = await self._admit(record, expected, terms, began, now)
            if verdict == "saved":
                return SAVED
            if verdict == "fenced":
                return FENCED
            if verdict == "full":
                return FULL
            if verdict == "when":
                # The server's clock first, then ours: the way back makes the login look older, never younger than the fence.
                began = clock - terms.elapsed
            else:
                there = await self.load(record.key, now=now)
                if (refusal := not_over(there, record, expected)) is not None:
                    return await self._confirmed(refusal, record.key)
        raise _restless()

    async def of_user(self, user_id: str, *, now: float, cursor: str | None = None, limit: int = 100) -> Page:
        """The live sessions of a user, newest login first. Raises UsageError for a cursor that is none of ours."""
        at, key = (inf, "") if cursor is None else place_of(cursor)
        rows = await self._client.fetch(self._sql.list_of, user_id, now, at, key, max(limit, 0) + 1)
        more = len(rows) > limit > 0
        page = list(rows[:limit])
        return Page(readable(page, now), cursor_at(page[-1][1], page[-1][0]) if more else None)

    async def end_user(self, user_id: str, *, keep: str | None, now: float, token: str) -> EndedAll:
        """Raise the user's fence, then end every session of theirs but the one with key `keep`."""
        ((ended, fence),) = await self._client.fetch(self._sql.end_user, user_id, keep, now, token)
        return EndedAll(ended, fence)

    async def end_one(self, user_id: str, key: str, *, now: float, token: str) -> bool:
        """End one session, only while it belongs to this user."""
        self._tend(now)
        ended = await self._client.fetch(self._sql.end_one, token, now, key, user_id)
        return bool(ended) or await self._is_own(key, now, token)

    # -------------------------------------------------------------------------------------------------- counters

    async def tally(
        self, key: str, *, window: float, now: float, amount: int = 1, prolong: bool = False
    ) -> Tally:
        """Add to a counter: see `coatcheck.core.ports.Tallies`."""
        self._until_tallies_tended -= 1
        if self._until_tallies_tended <= 0:
            self._until_tallies_tended = _next_turn()
            self._client.later(self._sql.sweep_tallies, now, TEND_LIMIT)
        ((count, until),) = await self._client.fetch(self._sql.tally, key, amount, now, now + window, prolong)
        return Tally(count, until)

    async def tallied(self, key: str, *, now: float) -> Tally:
        """What a counter says."""
        rows = await self._client.fetch(self._sql.tallied, key, now)
        return Tally(*rows[0]) if rows else NO_TALLY

    async def end_tally(self, key: str) -> None:
        """Forget a counter."""
        await self._client.fetch(self._sql.end_tally, key)

    # ---------------------------------------------------------------------------------------------------- upkeep

    async def sweep(self, *, now: float, limit: int = 1000) -> int:
        """Delete up to `limit` expired records, old tombstones and fences. Returns how many records went.

        In short statements, and passing over what somebody else is at: nobody has to wait for it, and several may sweep at once.
        """
        swept, more = 0, True
        while more and swept < limit:
            ((gone, kept_alive),) = await self._client.aside(
                self._sql.sweep, now, min(SWEEP_STEP, limit - swept)
            )
            swept += gone
            more = gone > 0 or kept_alive > 0
        await self._client.aside(self._sql.sweep_tallies, now, limit)
        return swept

    async def walk(self, *, cursor: object = None, limit: int = 1000) -> Walked:
        """Some of all keys: see `coatcheck.core.ports.Walks`."""
        rows = await self._client.aside(self._sql.walk, str(cursor or ""), limit)
        return walked([key for (key,) in rows], limit)

    async def count(self, *, now: float) -> int:
        """How many sessions live: a walk through an index."""
        ((count,),) = await self._client.aside(self._sql.count, now)
        return int(count)

    async def check(self) -> None:
        """Write nothing, in a way that needs the table and a server that takes writes. Raises StoreUnavailable, StoreError."""
        await self._client.fetch(self._sql.probe)

    async def time(self) -> float:
        """The server's time."""
        ((now,),) = await self._client.fetch("SELECT extract(epoch FROM clock_timestamp())::float8")
        return float(now)

    async def setup(self) -> None:
        """Make the table, its indexes and its two functions, if they are not there: one statement, and one process at a time.

        Raises ConfigurationError for a table of that name that is not ours, or of a newer coatcheck; it is left as it was.
        """
        await self._is_set_up()
        await self._client.aside(self._sql.setup)
        if not await self._is_set_up():
            raise ConfigurationError(
                "setup: the table was made, and is not to be seen; check schema= and search_path"
            )

    def watch(self, tell: Callable[[Notice], None]) -> Callable[[], None]:
        """Have `tell` called with what is ended, by whichever process: see `coatcheck.core.ports.Watches`."""
        return self._begin_watching(tell)

    # --------------------------------------------------------------------------------------------------- helpers

    async def _create(self, record: Record, now: float) -> Outcome:
        version, _, *row = written(record)
        for _ in range(ATTEMPTS):
            if await self._client.fetch(self._sql.create, version, *row, now):
                return SAVED
            there = await self.load(record.key, now=now)
            if (refusal := not_over(there, record, None)) is not None:
                return await self._confirmed(refusal, record.key)
        raise _restless()

    async def _replace(self, statement: str, record: Record, expected: str, now: float) -> Outcome:
        version, _, *row = written(record)
        if await self._client.fetch(statement, version, *row, expected, now):
            return SAVED
        there = await self.load(record.key, now=now)
        refusal = not_over(there, record, expected)
        # None: it came back to life in between (another's clock is behind). Its version is the one expected; say so.
        return Changed(cast(Record, there)) if refusal is None else await self._confirmed(refusal, record.key)

    async def _admit(
        self, record: Record, expected: str | None, terms: Terms, began: float | None, now: float
    ) -> tuple[str, float]:
        version, _, *row = written(record)
        more = (expected, now, began, terms.own_fence, terms.limit, terms.evict)
        ((verdict, clock),) = await self._client.fetch(self._sql.admit, version, *row, *more)
        return verdict, clock

    async def _is_own(self, key: str, now: float, token: str) -> bool:
        """Whether there is a tombstone of this very deleter: a retry. Whoever's it is, it is told when it is durable."""
        there = await self.load(key, now=now)
        if not isinstance(there, Ended):
            return False
        await self._client.fetch(self._sql.confirm, key)
        return there.token == token

    async def _confirmed(self, outcome: Outcome, key: str) -> Outcome:
        """The outcome, when it may be told: that a first try is seen does not mean that it is as durable as it has to be.

        With synchronous replication a commit waits for its standby. What ends the wait (a restart of the server, a cancelled
        command) leaves the write there for everybody to see, on this server alone.
        """
        if outcome is SAVED:
            await self._client.fetch(self._sql.confirm, key)
        return outcome

    async def _is_set_up(self) -> bool:
        ((exists, comment),) = await self._client.aside(self._sql.describe)
        if not exists or comment == self._sql.comment:
            return bool(exists)
        ours, _, version = str(comment or "").rpartition(" ")
        if ours == self._sql.comment.rpartition(" ")[0] and version.isdigit():
            raise ConfigurationError(
                f"setup: the table is of another coatcheck (schema {version}, this one knows"
                f" {self._sql.comment.rpartition(' ')[2]}); upgrade coatcheck, or give another name with table="
            )
        raise ConfigurationError(
            "setup: there is a table of this name already, and it is not coatcheck's; it was left as it is. Give another name"
            " with table=, or another schema with schema="
        )

    def _tend(self, now: float) -> None:
        self._until_tended -= 1
        if self._until_tended <= 0:
            self._until_tended = _next_turn()
            self._client.later(self._sql.sweep, now, TEND_LIMIT)


# ------------------------------------------------------------------------------------------------------------ helpers


def _restless() -> StoreUnavailable:
    return StoreUnavailable(
        f"PostgreSQL: what was in the way went away {ATTEMPTS} times in a row; try again later"
    )


def _next_turn() -> int:
    return random.randint(TEND_EVERY // 2, TEND_EVERY * 3 // 2)


def _in_thread(statements: Statements, place: Target, tell: Callable[[Notice], None]) -> Callable[[], None]:
    return watch_in_thread(blocking_from(place), statements.listen, tell)


def _in_task(names: Names, place: Target, tell: Callable[[Notice], None]) -> Callable[[], None]:
    # asyncpg's, also where statements may not be prepared: here it prepares what asks for a sign of life, on its own session.
    return watch_in_task(awaiting_from(place._replace(prepared=True)), names.channel, tell)
