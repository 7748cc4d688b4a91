"""What is done in the table of connect-session-sequelize: plain functions of a connection, each one conditional statement.

A second statement explains where the first did nothing. A job that finds that somebody else was quicker raises `Again`, and the
client begins it anew. The package's own `set` is a SELECT, then an INSERT or an UPDATE of what differs, in no transaction: that
a row of ours lies in between is nothing it could notice.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeVar, TypeVarTuple

from sqlalchemy import (
    Connection,
    Table,
    and_,
    bindparam,
    delete,
    func,
    insert,
    not_,
    or_,
    select,
    text,
    type_coerce,
    update,
)
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.sql import ColumnElement, Executable
from sqlalchemy.types import NullType, String

from coatcheck.core.ports import GONE, SAVED, Verdict
from coatcheck.dialects.express._sequelize_setup import not_ours
from coatcheck.dialects.express._sequelize_table import exactly
from coatcheck.dialects.express.ports import Changed, Entry
from coatcheck.errors import CorruptRecord, SessionTooLarge, StoreError
from coatcheck.stores._sqlalchemy_errors import Trouble, original, said, trouble
from coatcheck.stores._sqlalchemy_jobs import Again
from coatcheck.stores._sqlalchemy_tables import MYSQL

__all__ = ["Jobs", "Row"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Created = Literal[Verdict.SAVED, Verdict.TAKEN]

TRIES: Final = 3
"""How often a row is inserted: a sweep may take away the one that was in its place."""


class Row(NamedTuple):
    """What is to be written. Times in milliseconds."""

    sid: str
    data: str
    expires: int
    now: int
    more: Mapping[str, Any]
    """Columns of `extend_default_fields`."""

    def __repr__(self) -> str:
        return "<Row>"  # all of it is somebody's


class Writes(NamedTuple):
    """The statements that write a whole row, for one set of columns more."""

    insert: Executable
    renew: Executable
    """Write over what is there and does not live."""
    replace: Executable


class Jobs:
    """The jobs on one table, on one kind of database. `made` makes the table, with columns of these names more in it."""

    def __init__(self, made: Callable[[Sequence[str]], Table], dialect: str) -> None:
        self._make, self._made, self._dialect = made, made(()), dialect
        self._moment = self._made.c.expires.type
        self._writes: dict[tuple[str, ...], Writes] = {}
        self._build_session()
        self._build_upkeep()

    # ----------------------------------------------------------------------------------------------------- statements
    # Parameters begin with `p_`: SQLAlchemy keeps the names of the columns for itself.

    def _build_session(self) -> None:
        c = self._made.c
        this, lives = self._this(self._made), self._lives(self._made)
        moved = {c.expires: self._time("p_expires"), c.updatedAt: self._time("p_now")}
        self._find: Executable = select(type_coerce(c.data, String()), c.expires).where(this)
        self._any: Executable = select(c.sid).where(c.sid == bindparam("p_sid", type_=String()))
        self._touch: Executable = update(self._made).where(this, lives).values(moved)
        self._destroy: Executable = delete(self._made).where(this)

    def _this(self, made: Table) -> ColumnElement[bool]:
        sid = exactly(made.c.sid, "p_sid", self._dialect)
        return and_(made.c.sid == bindparam("p_sid", type_=String()), sid) if self._dialect in MYSQL else sid

    def _lives(self, made: Table) -> ColumnElement[bool]:
        c = made.c  # without data there is no session, to Node neither; without an end there is none
        return and_(c.data.is_not(None), or_(c.expires.is_(None), c.expires > self._time("p_now")))

    def _writing(self, names: tuple[str, ...]) -> Writes:
        made = self._make(names)
        c, now, data = made.c, self._time("p_now"), bindparam("p_data", type_=String())
        whole: dict[Any, Any] = {c.expires: self._time("p_expires"), c.updatedAt: now, c.data: data}
        whole |= {c[name]: bindparam(f"p_more_{n}", type_=NullType()) for n, name in enumerate(names)}
        anew = whole | {c.createdAt: now}
        this, read = self._this(made), exactly(c.data, "p_over", self._dialect)
        return Writes(
            insert(made).values({c.sid: bindparam("p_sid", type_=String()), **anew}),
            update(made).where(this, not_(self._lives(made))).values(anew),
            update(made).where(this, read, self._lives(made)).values(whole),
        )

    def _to_write(self, row: Row) -> Writes:
        names = tuple(row.more)
        if (writes := self._writes.get(names)) is None:
            writes = self._writes[names] = self._writing(names)
        return writes

    def _build_upkeep(self) -> None:
        made, c, lives, now = self._made, self._made.c, self._lives(self._made), self._time("p_now")
        limit: ColumnElement[Any] = bindparam("p_limit")
        expired = c.expires <= now
        these = c.sid.in_(bindparam("p_sids", expanding=True, type_=String()))
        first = select(c.sid).where(lives).order_by(c.sid).limit(limit)
        self._names_first: Executable = first
        self._names: Executable = first.where(c.sid > bindparam("p_after", type_=String()))
        self._length: Executable = select(func.count()).select_from(made).where(lives)
        self._clear: Executable = delete(made)
        self._due: Executable = select(c.sid).where(expired).limit(limit)
        self._prune: Executable = delete(made).where(these, expired)
        self._probe: Executable = update(made).where(c.sid == "").values({c.updatedAt: c.updatedAt})
        self._look: Executable = select(made).where(c.sid == "")

    def _time(self, name: str) -> ColumnElement[Any]:
        return bindparam(name, type_=self._moment)

    # ---------------------------------------------------------------------------------------------------- one session

    def find(self, db: Connection, sid: str, now: int) -> Entry | None:
        """What is there, and lives."""
        row = db.execute(self._find, {"p_sid": sid}).first()
        if row is None or row[0] is None or (row[1] is not None and row[1] <= now):
            return None
        if not isinstance(row[0], str):
            raise CorruptRecord(f"the column data holds a {type(row[0]).__name__}, and no text")
        return Entry(row[0].encode(), None if row[1] is None else row[1] / 1000)

    def create(self, db: Connection, row: Row) -> Created:
        """Write where nothing is, or nothing that lives."""
        writes, values = self._to_write(row), _values(row)
        for left in range(TRIES - 1, -1, -1):
            try:
                db.execute(writes.insert, values)
                return Verdict.SAVED
            except IntegrityError:
                if _count(db.execute(writes.renew, values)):
                    return Verdict.SAVED
                if db.execute(self._any, {"p_sid": row.sid}).first() is not None:
                    return Verdict.TAKEN
                if not left:
                    raise
        raise AssertionError("unreachable")

    def replace(self, db: Connection, row: Row, over: str) -> Verdict | Changed:
        """Write over exactly what was read."""
        if _count(db.execute(self._to_write(row).replace, _values(row) | {"p_over": over})):
            return SAVED
        there = self.find(db, row.sid, row.now)
        if there is None:
            return GONE
        if there.text != over.encode():
            return Changed(there)
        if over == row.data and there.expires == row.expires / 1000:
            return SAVED  # nothing was to change: an engine of the application's may count changes, not rows
        raise Again  # it was written, and written back, meanwhile

    def touch(self, db: Connection, sid: str, expires: int, now: int) -> None:
        """Move the end of what lives."""
        db.execute(self._touch, {"p_sid": sid, "p_expires": expires, "p_now": now})

    def destroy(self, db: Connection, sid: str) -> bool:
        """Delete it, expired or not: Node may still serve it. Whether it was there."""
        return _count(db.execute(self._destroy, {"p_sid": sid})) > 0

    # --------------------------------------------------------------------------------------------------------- upkeep

    def names(self, db: Connection, after: str | None, now: int, limit: int) -> Sequence[str]:
        """The next ids that live, in the order of the index."""
        values = {"p_now": now, "p_limit": limit}
        if after is None:
            return [sid for (sid,) in db.execute(self._names_first, values)]
        return [sid for (sid,) in db.execute(self._names, values | {"p_after": after})]

    def length(self, db: Connection, now: int) -> int:
        """How many live."""
        return int(db.execute(self._length, {"p_now": now}).scalar_one())

    def clear(self, db: Connection) -> None:
        """Delete every row."""
        db.execute(self._clear)

    def prune(self, db: Connection, now: int, limit: int) -> int:
        """Delete some of those that have expired."""
        sids = [sid for (sid,) in db.execute(self._due, {"p_now": now, "p_limit": limit})]
        if not sids:
            return 0
        # Sorted: two that prune lock in the same order.
        return _count(db.execute(self._prune, {"p_sids": sorted(sids), "p_now": now}))

    def probe(self, db: Connection) -> None:
        """Write nothing, where a server that cannot write would refuse. Raises StoreError where text may be cut off."""
        db.execute(self._probe)
        db.execute(self._look)
        if self._dialect in MYSQL and "STRICT_" not in str(db.execute(text("SELECT @@sql_mode")).scalar()):
            raise StoreError(
                "sql_mode is not strict on this engine's connections, so the database cuts off what is too long, a session or its"
                " id: add STRICT_TRANS_TABLES to it"
            )

    # ------------------------------------------------------------------------------------------------ what went wrong

    def known(self, job: Callable[[Connection, *Ts], T]) -> Callable[[Connection, *Ts], T]:
        """The job, with what this table may answer put into words."""

        def run(db: Connection, *args: *Ts) -> T:
            try:
                return job(db, *args)
            except DBAPIError as error:
                self._explain(error)
                raise

        return run

    def _explain(self, error: DBAPIError) -> None:
        cause = original(error)
        if trouble(error) is Trouble.MISSING:
            raise not_ours(self._made, said(cause)) from cause
        if isinstance(error, IntegrityError):
            # Not the driver's own words, nor it as the cause: MySQL's show what the row holds.
            raise StoreError(
                f"the table {self._made.fullname} refused the row ({_code(cause)}): has it a column that must be filled, or be"
                " unique, and does extend_default_fields see to that?"
            ) from None
        match _code(cause):
            case 1406 if "'data'" in str(cause):  # too long for the column
                raise SessionTooLarge(
                    "the session is longer than the column data can hold, 65,535 octets; what was stored is kept. Keep less in"
                    " it, or make the column a MEDIUMTEXT"
                ) from None
            case 1366:  # incorrect string value: not the driver's words, which show some of it
                raise StoreError(
                    f"the session holds a character that the table {self._made.fullname} cannot: convert it to utf8mb4"
                ) from None


def _values(row: Row) -> dict[str, Any]:
    more = {f"p_more_{n}": value for n, value in enumerate(row.more.values())}
    return {"p_sid": row.sid, "p_data": row.data, "p_expires": row.expires, "p_now": row.now, **more}


def _count(result: Any) -> int:
    return int(result.rowcount)


def _code(cause: Any) -> object:
    """The database's own number, state or name for it."""
    if cause.args and isinstance(cause.args[0], int):
        return cause.args[0]
    return getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None)
