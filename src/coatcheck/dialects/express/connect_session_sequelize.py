"""connect-session-sequelize's sessions, in place, on PostgreSQL, MySQL, MariaDB and SQLite (wire formats 1.5 and 1.6).

What the package does and we do not: it serves a session that has expired until its sweeper has passed by; here it has ended. And
its `set` writes over what it has not read; here a `replace` compares the whole text in `data` first. A Node writer still
overwrites what it did not read, and brings back, by a `set`, what was destroyed while its request was under way.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Literal

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from coatcheck.core.outage import Outage
from coatcheck.core.ports import Verdict
from coatcheck.dialects.express._sequelize_jobs import Jobs, Row
from coatcheck.dialects.express._sequelize_setup import set_up
from coatcheck.dialects.express._sequelize_table import (
    DATABASES,
    LONGEST,
    milliseconds,
    offset_of,
    table,
)
from coatcheck.dialects.express.plain import load
from coatcheck.dialects.express.ports import Entry, Named, Outcome
from coatcheck.errors import ConfigurationError, CorruptRecord, StoreError, UnstorableValue
from coatcheck.stores._health import ConnectionEvent
from coatcheck.stores._sqlalchemy_client import Client
from coatcheck.stores._sqlalchemy_faces import Faces
from coatcheck.stores._sqlalchemy_runner import ASIDE, READ, WRITE
from coatcheck.stores._sqlalchemy_tables import MYSQL

__all__ = ["ConnectSessionSequelize", "SequelizeSessions"]

PRUNE_STEP: Final = 500
"""Rows that one statement deletes."""
OURS: Final = ("sid", "data", "expires", "createdAt", "updatedAt")
Extend = Callable[[dict[str, Any], dict[str, Any]], Mapping[str, Any]]


class ConnectSessionSequelize:
    """The sessions that connect-session-sequelize keeps in a table, shared with its Node application.

    url_or_engine              a URL, as the SQLAlchemy store's: `postgresql:`, `mysql:`, `mariadb:`, `sqlite:`, `sqlalchemy+…`;
                               or the application's own Engine (sync face) or AsyncEngine (event loops), which stays its own
    table_name                 the model's `tableName`
    schema                     the model's. To MySQL and SQLite it begins one long name, `schema.table`, as Sequelize has it; to
                               a URL that begins with `mariadb:` it is a database, as to Sequelize's dialect of that name
    expiration                 milliseconds for which a session is kept whose cookie has no end
    check_expiration_interval  milliseconds between two sweeps, or 0: kept for whoever calls `prune`. Nothing here sweeps by
                               itself, and the sweeper of the Node application goes on
    disable_touch              leave a session's end alone while nothing but that would change
    extend_default_fields      called with `defaults` (`data`, text, and `expires`, a datetime) and the session as a dict,
                               `cookie` included; answers a dict of the columns to write, `defaults` with more in it, such as
                               `userId`. What it says of the model's own columns is not taken
    timezone                   Sequelize's option of that name, an offset: in it MySQL's times are written
    outage                     what to do when the server is slow or away; an engine of the application's keeps its time-outs
    pool_size                  at most so many connections a process and face, of a store that was opened by URL
    on_connection              called with a `ConnectionEvent` when the server is first reached, lost, and back

    The options are the package's, with its defaults and its units: give both applications the same (wire formats 1.5). Raises
    ConfigurationError for a setting that cannot be, naming it.
    """

    def __init__(
        self,
        url_or_engine: str | Engine | AsyncEngine,
        *,
        table_name: str = "Sessions",
        schema: str | None = None,
        expiration: int = 86_400_000,
        check_expiration_interval: int = 900_000,
        disable_touch: bool = False,
        extend_default_fields: Extend | None = None,
        timezone: str = "+00:00",
        outage: Outage | None = None,
        pool_size: int = 10,
        on_connection: Callable[[ConnectionEvent], None] | None = None,
    ) -> None:
        self._faces = Faces(url_or_engine, outage=outage, pool_size=pool_size, on_connection=on_connection)
        dialect = self._faces.dialect
        if dialect not in DATABASES:
            raise ConfigurationError(
                f"store={self._faces.shown!r}: connect-session-sequelize is shared on PostgreSQL, MySQL, MariaDB and SQLite, not"
                f" on {dialect}"
            )
        made = partial(table, table_name, schema, dialect, offset_of(timezone, dialect))
        self._table = made()
        self.check_expiration_interval = _whole(
            "check_expiration_interval", check_expiration_interval, least=0
        )
        self._jobs = Jobs(made, dialect)
        self._rules = _Rules(
            _whole("expiration", expiration, least=1), disable_touch, extend_default_fields, dialect in MYSQL
        )
        self._blocking: SequelizeSessions | None = None
        self._awaiting: SequelizeSessions | None = None

    @classmethod
    def from_url(cls, url: str, *, outage: Outage | None = None, **options: Any) -> "ConnectSessionSequelize":
        """The store of a URL, as `open_store` asks for it."""
        return cls(url, outage=outage, **options)

    def __repr__(self) -> str:
        return f"<ConnectSessionSequelize {self._table.fullname} in {self._faces.shown}>"

    def blocking(self) -> "SequelizeSessions":
        """The store whose methods never suspend: for the sync face. Raises WrongFace if there is no blocking driver."""
        if self._blocking is None:
            self._blocking = self._on(self._faces.blocking())
        return self._blocking

    def awaiting(self) -> "SequelizeSessions":
        """The store for event loops, any number of them. Raises WrongFace if there is no awaiting driver."""
        if self._awaiting is None:
            self._awaiting = self._on(self._faces.awaiting())
        return self._awaiting

    def _on(self, client: Client) -> "SequelizeSessions":
        return SequelizeSessions(client, self._jobs, self._rules, lambda db: set_up(db, self._table))

    def close(self) -> None:
        """Close what the sync face opened by URL; afterwards the store cannot be used there."""
        self._faces.close()

    async def aclose(self) -> None:
        """Close what the running event loop opened by URL; afterwards the store cannot be used there.

        Waits for what is under way, on an engine of yours too: so close that afterwards.
        """
        await self._faces.aclose()


class _Rules:
    """What the options say of a row."""

    def __init__(self, expiration: int, disable_touch: bool, extend: Extend | None, seconds: bool) -> None:
        self.touches = not disable_touch
        self._expiration, self._extend, self._seconds = expiration, extend, seconds

    def mark(self, expires: float | None, now: int) -> int:
        """The end to be stored. Where the column keeps whole seconds, cut off as Sequelize cuts them off."""
        end = now + self._expiration if expires is None else milliseconds(expires)
        return end // 1000 * 1000 if self._seconds else end

    def row(self, sid: str, text: bytes, expires: float | None, now: float) -> Row:
        """The row of a session. Raises what `extend_default_fields` raises."""
        at = milliseconds(now)
        end, data = self.mark(expires, at), text.decode()
        return Row(sid, data, end, at, self._more(data, end) if self._extend else {})

    def _more(self, data: str, end: int) -> Mapping[str, Any]:
        assert self._extend is not None
        session = load(data.encode())
        if not isinstance(session, dict):
            raise CorruptRecord("the body of the session is no object")
        fields: object = self._extend(
            {"data": data, "expires": datetime.fromtimestamp(end / 1000, UTC)}, session
        )
        if not isinstance(fields, Mapping) or not all(isinstance(name, str) for name in fields):
            raise UnstorableValue(
                f"extend_default_fields returned a {type(fields).__name__}: return a dict, the names of columns as its keys"
            )
        return {name: value for name, value in fields.items() if name not in OURS}


def _whole(name: str, value: object, *, least: int) -> int:
    if type(value) is not int or value < least:
        raise ConfigurationError(f"{name}={value!r}: give whole milliseconds, {least} or more")
    return value


class SequelizeSessions:
    """What `ConnectSessionSequelize` hands to a face: an `ExpressStore` that Lists, Prunes, Checks and SetsUp."""

    def __init__(self, client: Client, jobs: Jobs, rules: _Rules, make: Callable[[Any], None]) -> None:
        self._client, self._rules, self._make = client, rules, make
        self.touches = rules.touches
        self._jobs, self._known = jobs, jobs.known

    # -------------------------------------------------------------------------------------------------------- the verbs

    async def get(self, sid: str, *, now: float) -> Entry | None:
        """The session, if it has not expired at `now`: unlike the package, which serves it until it was swept away (1.5)."""
        return await self._client.run(READ, self._known(self._jobs.find), sid, milliseconds(now))

    async def create(
        self, sid: str, text: bytes, *, expires: float | None, now: float
    ) -> Literal[Verdict.SAVED, Verdict.TAKEN]:
        """Write where nothing is; what has expired is nothing."""
        row = self._rules.row(_checked(sid), text, expires, now)
        return await self._client.run(WRITE, self._known(self._jobs.create), row)

    async def replace(
        self, sid: str, text: bytes, *, over: Entry, expires: float | None, now: float
    ) -> Outcome:
        """Write over exactly the text of `over`."""
        row = self._rules.row(sid, text, expires, now)
        return await self._client.run(WRITE, self._known(self._jobs.replace), row, over.text.decode())

    async def touch(self, sid: str, text: bytes, *, expires: float | None, now: float) -> None:
        """Move `expires` and `updatedAt`. With `disable_touch`: nothing."""
        at = milliseconds(now)
        if self.touches:
            end = self._rules.mark(expires, at)
            await self._client.run(WRITE, self._known(self._jobs.touch), sid, end, at)

    async def destroy(self, sid: str) -> bool:
        """Delete it. Whether it was there."""
        return await self._client.run(WRITE, self._known(self._jobs.destroy), sid)

    # ----------------------------------------------------------------------------------------------------------- upkeep

    async def names(self, *, now: float, cursor: object = None, limit: int = 1000) -> Named:
        """Up to `limit` ids."""
        after = None if cursor is None else str(cursor)
        sids = await self._client.run(
            ASIDE, self._known(self._jobs.names), after, milliseconds(now), max(limit, 1)
        )
        return Named(sids, sids[-1] if len(sids) >= max(limit, 1) else None)

    async def length(self, *, now: float) -> int:
        """How many sessions live. (The package's own counts those too that have expired.)"""
        return await self._client.run(ASIDE, self._known(self._jobs.length), milliseconds(now))

    async def clear(self) -> None:
        """Delete every session."""
        await self._client.run(ASIDE, self._known(self._jobs.clear))

    async def prune(self, *, now: float, limit: int = 1000) -> int:
        """Delete up to `limit` sessions that have expired, in short transactions. Returns how many."""
        gone = 0
        while gone < limit:
            step = min(PRUNE_STEP, limit - gone)
            went = await self._client.run(ASIDE, self._known(self._jobs.prune), milliseconds(now), step)
            gone += went
            if went < step:
                break
        return gone

    async def check(self) -> None:
        """Ask for a write that changes nothing. Raises StoreUnavailable, or StoreError for a table that is not Sequelize's."""
        await self._client.run(WRITE, self._known(self._jobs.probe))

    async def setup(self) -> None:
        """Make the table as `sequelize.sync()` would, if it is missing; safe to call again. Raises StoreError for another's."""
        await self._client.run(ASIDE, self._make)


def _checked(sid: str) -> str:
    """Raise StoreError for an id that the column cannot hold: cut off, it would be somebody else's."""
    if len(sid) > LONGEST:
        raise StoreError(
            f"a session id of {len(sid)} characters: connect-session-sequelize's column sid holds {LONGEST}; have genid make"
            " shorter ones (express-session's own have 32)"
        )
    return sid
