"""Counters on a database of SQLAlchemy's (`Tallies`): jobs as in `_sqlalchemy_jobs`, in words that every dialect has.

A row is made first, as one that is over, and then counted up in a transaction: so of two that begin a counter at once, one does.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Double,
    Table,
    and_,
    bindparam,
    case,
    delete,
    insert,
    select,
    type_coerce,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql import ColumnElement, Executable

from coatcheck.core.ports import NO_TALLY, Tally
from coatcheck.stores._sqlalchemy_tables import Exact

__all__ = ["TallyJobs"]


class TallyJobs:
    """The jobs, for one table; each a method of a connection."""

    def __init__(self, made: Table) -> None:
        c = made.c
        this = c.key == bindparam("p_key", type_=Exact())
        now: ColumnElement[Any] = bindparam("p_now", type_=Double())
        until: ColumnElement[Any] = bindparam("p_until", type_=Double())
        lives = c.until > now
        total = bindparam("p_amount", type_=BigInteger()) + case((lives, c.count), else_=0)
        count = case((total > 0, total), else_=0)
        later = case((and_(lives, c.until >= until), c.until), else_=until)
        # In this order: MySQL reads a column that was set as what it was set to.
        steps: tuple[tuple[Any, Any], ...] = (
            (c.count, count),
            (c.until, case((lives, c.until), else_=until)),
        )
        self._add: Executable = update(made).where(this).ordered_values(*steps)
        self._add_longer: Executable = (
            update(made).where(this).ordered_values((c.count, count), (c.until, later))
        )
        row: dict[Any, Any] = {c.key: bindparam("p_key", type_=Exact()), c.count: 0, c.until: until}
        self._begin: Executable = insert(made).values(row)
        self._read: Executable = select(c.count, c.until).where(this)
        self._end: Executable = delete(made).where(this)
        over = c.until <= now
        self._due: Executable = (
            select(type_coerce(c.key, Exact())).where(over).order_by(c.until).limit(bindparam("p_limit"))
        )
        these = c.key.in_(bindparam("p_keys", expanding=True, type_=Exact()))
        self._sweep: Executable = delete(made).where(these, over)

    def add(
        self, db: Connection, key: str, amount: int, now: float, until: float, prolong: bool
    ) -> Tally | None:
        """Count up and read, in a transaction: the row is locked in between. None: no such row."""
        values = {"p_key": key, "p_amount": amount, "p_now": now, "p_until": until}
        result: Any = db.execute(self._add_longer if prolong else self._add, values)
        if not result.rowcount:
            return None
        return Tally(*db.execute(self._read, {"p_key": key}).one())

    def begin(self, db: Connection, key: str) -> None:
        """Make the row, if nobody has meanwhile: as one that was over long ago, also for whoever looked at the clock before."""
        try:
            db.execute(self._begin, {"p_key": key, "p_until": 0.0})
        except IntegrityError:
            pass

    def look(self, db: Connection, key: str, now: float) -> Tally:
        """What it says."""
        row = db.execute(self._read, {"p_key": key}).first()
        return NO_TALLY if row is None or row[1] <= now else Tally(*row)

    def end(self, db: Connection, key: str) -> None:
        """Forget it."""
        db.execute(self._end, {"p_key": key})

    def sweep(self, db: Connection, now: float, limit: int) -> None:
        """Delete some of those that are over."""
        keys = [key for (key,) in db.execute(self._due, {"p_now": now, "p_limit": limit})]
        if keys:  # sorted: two sweepers lock in the same order
            db.execute(self._sweep, {"p_keys": sorted(keys), "p_now": now})
