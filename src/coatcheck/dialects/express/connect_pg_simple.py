"""connect-pg-simple's sessions in PostgreSQL: its table read and written in place (wire formats 1.4 and 1.6).

Every verb is one statement (`_pg_simple_sql`), which commits by itself. Before the first, the table and the time zone that Node
writes it in are looked at (`_pg_simple_table`); what does not fit is an error that says what to change, and nothing is read or
written. What our rules do otherwise than the package: `replace` writes only over what was read, nothing that is over is touched
back to life, and a body that cannot be read is an error and not a reason to delete it.
"""

import json
from collections.abc import Sequence
from datetime import timedelta
from math import ceil, inf, isfinite
from typing import Any, Final, Literal, NamedTuple

from coatcheck.core.outage import Outage
from coatcheck.core.policy import seconds
from coatcheck.core.ports import Verdict
from coatcheck.dialects.express import _pg_simple_sql as sql
from coatcheck.dialects.express._pg_simple_table import Missing, Unfit, examine
from coatcheck.dialects.express._pruning import Turn
from coatcheck.dialects.express.ports import GONE, SAVED, Changed, Entry, Named, Outcome
from coatcheck.errors import ConfigurationError, CorruptRecord, StoreError
from coatcheck.stores._postgres_client import Client
from coatcheck.stores._postgres_errors import sqlstate
from coatcheck.stores._postgres_opening import OnConnection, Opening, target_of

__all__ = ["ConnectPgSimple", "PgSimpleSessions"]

TTL: Final = 86_400
PRUNE_EVERY: Final = 900
PRUNE_STEP: Final = 1_000
"""Rows in one statement."""
_CHANGED: Final = frozenset({"42703", "42804", "42809", "42P10", "42846", "42883"})
"""What happens where a table has other columns than it had when it was looked at."""


class _Options(NamedTuple):
    """What the package's options say, checked."""

    name: sql.TableName
    creates: bool
    ttl: float
    touches: bool
    prune_every: float
    time_zone: str | None


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


class PgSimpleSessions:
    """What `ConnectPgSimple` hands to a face: `ExpressStore`, `Lists`, `Prunes`, `Checks` and `SetsUp`."""

    def __init__(self, client: Client, options: _Options) -> None:
        self._client, self._options = client, options
        self.touches = options.touches
        self._statements: sql.Statements | None = None
        self._next_prune = Turn(options.prune_every)

    # ------------------------------------------------------------------------------------------------------ the verbs

    async def get(self, sid: str, *, now: float) -> Entry | None:
        """What is there, and lives by its `expire`. Raises CorruptRecord for what is no JSON object."""
        known = await self._known()
        rows = await self._ask(known.get, sid, _second(now))
        return _entry(*rows[0]) if rows else None

    async def create(
        self, sid: str, text: bytes, *, expires: float | None, now: float
    ) -> Literal[Verdict.SAVED, Verdict.TAKEN]:
        """Write where nothing lives: also over a row that has expired, and is still there."""
        known = await self._known()
        self._tend(known, now, begins=True)
        end = self._end(expires, now)
        if await self._ask(known.create, sid, text.decode(), end, _second(now)):
            return Verdict.SAVED
        return Verdict.TAKEN

    async def replace(
        self, sid: str, text: bytes, *, over: Entry, expires: float | None, now: float
    ) -> Outcome:
        """Write over exactly what was read, if it still lives."""
        known = await self._known()
        self._tend(known, now)
        read = over.text.decode() if over.stored is None else over.stored
        end = self._end(expires, now)
        if await self._ask(known.replace, sid, text.decode(), end, _second(now), read):
            return SAVED
        there = await self.get(sid, now=now)
        return GONE if there is None else Changed(there)

    async def touch(self, sid: str, text: bytes, *, expires: float | None, now: float) -> None:
        """Move `expire` of what lives; the body stays as it is."""
        if not self.touches:
            return
        known = await self._known()
        self._tend(known, now)
        await self._ask(known.touch, sid, self._end(expires, now), _second(now))

    async def destroy(self, sid: str) -> bool:
        """Delete the row. Whether there was one."""
        known = await self._known()
        return bool(await self._ask(known.destroy, sid))

    # ---------------------------------------------------------------------------------------------- lists and upkeep

    async def names(self, *, now: float, cursor: object = None, limit: int = 1000) -> Named:
        """Ids that live, in their order: see `Lists`."""
        known, limit = await self._known(), max(limit, 1)
        rows = await self._aside(known.names, str(cursor or ""), _second(now), limit)
        sids = [sid for (sid,) in rows]
        return Named(sids, sids[-1] if len(sids) == limit else None)

    async def length(self, *, now: float) -> int:
        """How many sessions live."""
        known = await self._known()
        ((count,),) = await self._aside(known.length, _second(now))
        return int(count)

    async def clear(self) -> None:
        """Delete every session, in short statements."""
        known = await self._known()
        while await self._count(known.clear, PRUNE_STEP) == PRUNE_STEP:
            pass

    async def prune(self, *, now: float, limit: int = 1000) -> int:
        """Delete up to `limit` rows that have expired, in short statements that wait for nobody. Returns how many."""
        known, pruned = await self._known(), 0
        while pruned < limit:
            step = min(PRUNE_STEP, limit - pruned)
            gone = await self._count(known.prune, _second(now), step)
            pruned += gone
            if gone < step:
                break
        return pruned

    async def check(self) -> None:
        """Look at the table and the time zone anew, and write nothing in a way that needs a server that takes writes."""
        self._statements = None
        known = await self._known()
        await self._ask(known.probe)

    async def setup(self) -> None:
        """Make the table as the package does, if nothing of that name is there.

        Raises ConfigurationError for a table that is not the package's, and for a time zone that cannot be: left as it was.
        """
        try:
            await self._make()
            await self.check()
        except Unfit as error:
            raise ConfigurationError(str(error)) from None

    # ------------------------------------------------------------------------------------------------------- helpers

    async def _known(self) -> sql.Statements:
        """The statements that fit. Looked for at first use: an answer that cannot be is not remembered."""
        if self._statements is None:
            name, zone = self._options.name, self._options.time_zone
            try:
                self._statements = await examine(self._client, name, zone)
            except Missing:
                if not self._options.creates:
                    raise
                await self._make()
                self._statements = await examine(self._client, name, zone)
        return self._statements

    async def _make(self) -> None:
        await self._aside(sql.setup(self._options.name))

    async def _ask(self, statement: str, *args: Any) -> Sequence[Any]:
        try:
            return await self._client.fetch(statement, *args)
        except StoreError as error:
            raise self._in_words(error) from error.__cause__

    async def _aside(self, statement: str, *args: Any) -> Sequence[Any]:
        try:
            return await self._client.aside(statement, *args)
        except StoreError as error:
            raise self._in_words(error) from error.__cause__

    async def _count(self, statement: str, *args: Any) -> int:
        ((count,),) = await self._aside(statement, *args)
        return int(count)

    def _in_words(self, error: StoreError) -> StoreError:
        """The same, in the words of this store's options, where the table is not what it was: it is looked at anew."""
        code, table = sqlstate(error.__cause__ or error), self._options.name.quoted()
        if code == "3F000":
            return Unfit(
                f"connect-pg-simple: there is no schema for {table}: CREATE SCHEMA, or check schema_name="
            )
        if code == "42P01":
            self._statements = None
            return Missing(
                f"connect-pg-simple: the table {table} is gone: give create_table_if_missing=True, or run"
                " `coatcheck setup --store express+URL`"
            )
        if code in _CHANGED:
            self._statements = None
            return Unfit(
                f"the table {table} is not connect-pg-simple's any more ({str(error.__cause__).partition(chr(10))[0]})"
            )
        return error

    def _end(self, expires: float | None, now: float) -> float:
        """The whole second that `expire` says (wire formats 1.4)."""
        return _second(now + self._options.ttl if expires is None else expires)

    def _tend(self, known: sql.Statements, now: float, *, begins: bool = False) -> None:
        if self._next_prune.has_come(now, begins=begins):
            self._client.later(known.prune, _second(now), PRUNE_STEP)


# ------------------------------------------------------------------------------------------------------------ helpers


def _second(moment: float) -> float:
    """As the package rounds: a session lives through the second in which it ends."""
    return float(ceil(moment))


def _entry(stored: str, expires: float) -> Entry:
    text = _unwrapped(stored) if stored.startswith('"') else stored
    if not text.lstrip(" \t\r\n").startswith("{"):
        raise CorruptRecord(
            "connect-pg-simple: `sess` is no JSON object, so not a session; it was left as it is"
        )
    return Entry(text.encode(), expires if isfinite(expires) else None, stored)


def _unwrapped(stored: str) -> str:
    """The text in a JSON text: Node reads a session that somebody has put there as one (wire formats 1.4)."""
    try:
        text = str(json.loads(stored))
        text.encode()  # half a surrogate pair is no text
    except ValueError:
        return ""
    return text


def _switch(setting: str, value: object) -> bool:
    if type(value) is not bool:
        raise ConfigurationError(f"{setting}={value!r}: give True or False")
    return value


def _interval(value: float | timedelta | bool) -> float:
    """In seconds; infinite: never."""
    return inf if value is False else seconds(value, setting="prune_session_interval (seconds, or False)")


def _zone(value: object) -> str | None:
    if value is not None and (type(value) is not str or not value.strip() or "\0" in value):
        raise ConfigurationError(
            f"time_zone={value!r}: give a name such as 'UTC' or 'America/New_York', or None for what the server gives to all"
        )
    return value
