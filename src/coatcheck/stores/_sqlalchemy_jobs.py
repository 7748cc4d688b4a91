"""What is done in the database: plain functions of a connection, each one conditional statement, or a transaction.

A job is stepped by a client (`_sqlalchemy_client`), in a thread as it is or on an event loop within a greenlet. A job that finds
that somebody else was quicker raises `Again`, and the client begins it anew. So no job locks a session's row: it reads, and
writes under the condition that what it read is still there. Only a login and the end of all of a user's sessions take a lock,
the user's row, and take it first (PROTOCOL rule 24).

Statements are built once. SQLAlchemy compiles each once per engine and finds it again by a key that is kept with it.
"""

import time
from collections.abc import Callable, Sequence
from math import inf, nextafter
from sys import float_info
from typing import Any, Final

from sqlalchemy import (
    Connection,
    CursorResult,
    Double,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    text,
    type_coerce,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql import ColumnElement, Executable
from sqlalchemy.types import LargeBinary

from coatcheck.core.ports import (
    FENCED,
    FULL,
    SAVED,
    TOMBSTONE,
    EndedAll,
    Outcome,
    Terms,
)
from coatcheck.core.record import Ended, Record
from coatcheck.stores._alike import not_over
from coatcheck.stores._rows import Row, Written, judge
from coatcheck.stores._sqlalchemy_tables import Exact, Tables

__all__ = ["FIRST", "Again", "Clock", "Jobs", "clock_of"]

FENCE_KEPT: Final = 86_400.0
"""Seconds after which a fence is forgotten: no request takes a day."""
REBOOTED: Final = 1.0
"""A fence so many seconds ahead of CLOCK_MONOTONIC is from before a reboot, which set that clock back to 0."""
FIRST: Final = (float_info.max, "")
"""The place before the newest login. (Not infinity: MySQL has none.)"""

Clock = Callable[[Connection], float]
"""The store's own clock, in which fences are kept: seconds, finer than a millisecond, from whenever."""

_CLOCKS: Final = {
    "postgresql": "SELECT CAST(EXTRACT(epoch FROM clock_timestamp()) AS DOUBLE PRECISION)",
    # Not UNIX_TIMESTAMP: it goes through local time, which has one hour twice.
    "mysql": "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) / 1e6",
}
_CLOCKS["mariadb"] = _CLOCKS["mysql"]


def clock_of(dialect: str, given: str | None) -> Clock | None:
    """The clock of a database; None: nobody knows it. `given` is a SELECT that answers it.

    A SQLite file has no server: its clock is CLOCK_MONOTONIC, which all processes of the machine share and nobody can set.
    """
    if given is None and dialect == "sqlite":
        return _monotonic
    statement = given or _CLOCKS.get(dialect)
    if statement is None:
        return None
    ask = text(statement)
    return lambda connection: float(connection.execute(ask).scalar_one())


def _monotonic(connection: Connection) -> float:
    return time.monotonic()


class Again(Exception):
    """Somebody else was quicker: begin anew. Never seen outside of a client."""


def _text(name: str) -> ColumnElement[Any]:
    return bindparam(name, type_=Exact())


def _time(name: str) -> ColumnElement[Any]:
    return bindparam(name, type_=Double())


def _later(there: ColumnElement[Any], given: ColumnElement[Any]) -> ColumnElement[Any]:
    return case((there < given, given), else_=there)


def _sooner(there: ColumnElement[Any], given: ColumnElement[Any]) -> ColumnElement[Any]:
    return case((there > given, given), else_=there)


class Jobs:
    """The jobs on one pair of tables. `clock` is the store's own."""

    def __init__(self, made: Tables, clock: Clock) -> None:
        self._clock = clock
        self._build_session(made)
        self._build_by_user(made)
        self._build_upkeep(made)

    # ------------------------------------------------------------------------------------------------ statements
    # Parameters begin with `p_`: SQLAlchemy keeps the names of the columns for itself.

    def _build_session(self, made: Tables) -> None:
        t = made.session
        c = t.c
        this, live = c.key == _text("p_key"), c.deadline > _time("p_now")
        self._row = [type_coerce(c.version, Exact()), c.deadline, c.seen_at, c.ends_at, c.ended_at]
        self._row += [type_coerce(c.user_id, Exact()), c.packed]
        self._find: Executable = select(*self._row).where(this)
        whole: dict[Any, Any] = {
            c.version: _text("p_version"),
            c.due: _time("p_due"),
            c.deadline: _time("p_deadline"),
            c.seen_at: _time("p_seen_at"),
            c.ends_at: _time("p_ends_at"),
            c.user_id: _text("p_user"),
            c.login_at: _time("p_login_at"),
            c.packed: bindparam("p_packed", type_=LargeBinary()),
        }
        self._insert: Executable = insert(t).values({c.key: _text("p_key"), **whole})
        # Each value is of its own column and of parameters alone: MySQL sets them one after the other.
        forward = whole | {
            c.due: _sooner(c.due, _time("p_due")),
            c.deadline: _sooner(_later(c.deadline, _time("p_deadline")), _time("p_ends_at")),
            c.seen_at: _later(c.seen_at, _time("p_seen_at")),
        }
        # `deadline` is 0 in a tombstone: neither these nor a touch can apply to one, whatever its token.
        expected = and_(this, c.version == _text("p_expected"), live)
        self._replace: Executable = update(t).where(expected).values(forward)
        self._overwrite: Executable = update(t).where(expected).values(whole)
        self._touch: Executable = (
            update(t)
            .where(expected)
            .values(
                {
                    c.deadline: _sooner(_later(c.deadline, _time("p_deadline")), c.ends_at),
                    c.seen_at: _later(c.seen_at, _time("p_seen_at")),
                }
            )
        )
        over = or_(
            and_(c.ended_at.is_(None), c.deadline <= _time("p_now")), c.ended_at <= _time("p_minute_ago")
        )
        self._purge: Executable = delete(t).where(this, over)
        tombstone: dict[Any, Any] = dict.fromkeys((c.user_id, c.login_at, c.packed))
        tombstone |= {c.version: _text("p_token"), c.ended_at: _time("p_now"), c.due: _time("p_due")}
        tombstone |= dict.fromkeys((c.deadline, c.seen_at, c.ends_at), 0.0)
        theirs = c.user_id == _text("p_user")
        end = update(t).where(c.ended_at.is_(None), live).values(tombstone)
        self._end: Executable = end.where(this)
        self._end_expected: Executable = end.where(this, c.version == _text("p_expected"))
        self._end_theirs: Executable = end.where(this, theirs)
        self._end_all: Executable = end.where(theirs)
        self._end_others: Executable = end.where(theirs, c.key != _text("p_key"))

    def _build_by_user(self, made: Tables) -> None:
        c = made.session.c
        key, at = type_coerce(c.key, Exact()), c.login_at
        theirs = and_(c.user_id == _text("p_user"), c.deadline > _time("p_now"))
        before = or_(at < _time("p_at"), and_(at == _time("p_at"), c.key < _text("p_key")))
        newest = (at.desc(), c.key.desc())
        limit: ColumnElement[Any] = bindparam("p_limit")
        self._list: Executable = (
            select(key, at, *self._row).where(theirs, before).order_by(*newest).limit(limit)
        )
        self._others: Executable = select(key).where(theirs, c.key != _text("p_key")).order_by(*newest)
        self._purge_theirs: Executable = delete(made.session).where(
            c.user_id == _text("p_user"), c.deadline <= _time("p_now")
        )
        u = made.user
        him = u.c.user_id == _text("p_user")
        self._lock: Executable = select(u.c.fence).where(him).with_for_update()
        row: dict[Any, Any] = {u.c.user_id: _text("p_user"), u.c.since: _time("p_since")}
        self._enrol: Executable = insert(u).values(row)
        raised: dict[Any, Any] = {u.c.fence: _time("p_fence"), u.c.since: _time("p_fence")}
        self._raise: Executable = update(u).where(him).values(raised)

    def _build_upkeep(self, made: Tables) -> None:
        t, u = made.session, made.user
        c = t.c
        due, gone = c.due <= _time("p_now"), c.deadline <= _time("p_now")
        alive = and_(c.ended_at.is_(None), c.deadline > _time("p_now"))
        key = type_coerce(c.key, Exact())
        limit: ColumnElement[Any] = bindparam("p_limit")
        these = c.key.in_(bindparam("p_keys", expanding=True, type_=Exact()))
        self._due: Executable = select(key).where(due).order_by(c.due).limit(limit)
        self._sweep: Executable = delete(t).where(these, due, c.ended_at.is_(None), gone)
        self._sweep_ended: Executable = delete(t).where(these, due, c.ended_at.is_not(None))
        self._put_off: Executable = update(t).where(these, due, alive).values({c.due: c.deadline})
        old = or_(u.c.since < _time("p_from"), u.c.since > _time("p_to"))
        them = u.c.user_id.in_(bindparam("p_users", expanding=True, type_=Exact()))
        self._old_users: Executable = select(type_coerce(u.c.user_id, Exact())).where(old).limit(limit)
        self._sweep_users: Executable = delete(u).where(them, old)
        not_ended = c.ended_at.is_(None)
        self._walk: Executable = (
            select(key).where(c.key > _text("p_key"), not_ended).order_by(c.key).limit(limit)
        )
        fresh = select(func.count()).select_from(t).where(c.due > _time("p_now"), not_ended)
        kept = select(func.count()).select_from(t).where(due, alive)
        self._count: Executable = select(fresh.scalar_subquery() + kept.scalar_subquery())
        self._probe: Executable = (
            update(u).where(u.c.user_id == _text("p_user")).values({u.c.since: u.c.since})
        )

    # ----------------------------------------------------------------------------------------------- one session

    def find(self, db: Connection, key: str) -> Row | None:
        """The row as it is."""
        row: Any = db.execute(self._find, {"p_key": key}).first()
        return row  # type: ignore[no-any-return]  # a Row of SQLAlchemy's is a tuple

    def present(self, db: Connection, key: str, now: float) -> Record | Ended | None:
        """What is there; what is past its deadline is deleted for good. Raises Again if it was somebody else who did."""
        row = self.find(db, key)
        there = None if row is None else judge(key, row, now)
        if row is not None and there is None and not self._purged(db, key, now):
            raise Again
        return there

    def _purged(self, db: Connection, key: str, now: float) -> bool:
        values = {"p_key": key, "p_now": now, "p_minute_ago": now - TOMBSTONE}
        return _count(db.execute(self._purge, values)) == 1

    def create(self, db: Connection, record: Record, row: Written, now: float) -> Outcome:
        """Write where nothing is."""
        if self._inserted(db, row):
            return SAVED
        return self._why_not(db, record, None, now)

    def _inserted(self, db: Connection, row: Written) -> bool:
        try:
            db.execute(self._insert, _values(row))
        except IntegrityError:
            return False
        return True

    def replace(
        self, db: Connection, record: Record, row: Written, expected: str, now: float, exactly: bool
    ) -> Outcome:
        """Write over `expected`; times only move forward, unless `exactly`."""
        if self._replaced(db, row, expected, now, exactly):
            return SAVED
        return self._why_not(db, record, expected, now)

    def _replaced(self, db: Connection, row: Written, expected: str, now: float, exactly: bool) -> bool:
        values = _values(row)
        values["p_expected"], values["p_now"] = expected, now
        return _count(db.execute(self._overwrite if exactly else self._replace, values)) == 1

    def _why_not(self, db: Connection, record: Record, expected: str | None, now: float) -> Outcome:
        """Why it was not written. Raises Again if it could be now."""
        refusal = not_over(self.present(db, record.key, now), record, expected)
        if refusal is None:
            raise Again
        return refusal

    def touch(
        self, db: Connection, key: str, deadline: float, seen_at: float, expected: str, now: float
    ) -> bool:
        """Move `deadline` and `seen_at` forward."""
        values = {"p_key": key, "p_deadline": deadline, "p_seen_at": seen_at, "p_expected": expected}
        return _count(db.execute(self._touch, values | {"p_now": now})) == 1

    def delete(self, db: Connection, key: str, expected: str | None, now: float, token: str) -> bool:
        """Put a tombstone in place of a live record."""
        values = _ending(key, now, token)
        if expected is None:
            ended = _count(db.execute(self._end, values))
        else:
            ended = _count(db.execute(self._end_expected, values | {"p_expected": expected}))
        return ended == 1 or self._is_own(db, key, now, token)

    def _is_own(self, db: Connection, key: str, now: float, token: str) -> bool:
        """Whether there is a tombstone of this very deleter: a retry."""
        there = self.present(db, key, now)
        return isinstance(there, Ended) and there.token == token

    # --------------------------------------------------------------------------------------------------- by user

    def admit(
        self, db: Connection, record: Record, row: Written, expected: str | None, terms: Terms, now: float
    ) -> Outcome | None:
        """In a transaction that holds the user's row: neither a fence nor a login can come in between. None: no such row."""
        user_id, fence = record.user_id, None
        if user_id is not None:
            fence, enrolled = self._locked(db, user_id)
            if not enrolled:
                return None
        there = self.present(db, record.key, now)
        if (refusal := not_over(there, record, expected)) is not None:
            return refusal
        if fence is not None and fence != terms.own_fence and self._is_fenced(db, fence, terms):
            return FENCED
        victims = self._too_many(db, record, terms.limit, now)
        if victims and not terms.evict:
            return FULL
        for victim in victims:
            ending = _ending(victim, now, record.versions[0])
            db.execute(self._end_theirs, ending | {"p_user": user_id})
        # The condition is what was read: a session that changed since is read anew.
        if not (
            self._inserted(db, row) if expected is None else self._replaced(db, row, expected, now, True)
        ):
            raise Again
        return SAVED

    def _locked(self, db: Connection, user_id: str) -> tuple[float | None, bool]:
        """Lock the user's row: their fence, and whether they have a row."""
        found = db.execute(self._lock, {"p_user": user_id}).first()
        return (None, False) if found is None else (found[0], True)

    def _is_fenced(self, db: Connection, fence: float, terms: Terms) -> bool:
        # First the clock, then how long ago the request began: what passes in between makes it older, never younger.
        clock = self._clock(db)
        if self._clock is _monotonic and fence > clock + REBOOTED:
            return False  # from before a reboot, which nobody's request has survived
        return clock - terms.elapsed <= fence

    def _too_many(self, db: Connection, record: Record, limit: int | None, now: float) -> Sequence[str]:
        """The oldest logins that must end for this one to keep the limit."""
        if limit is None or record.user_id is None:
            return ()
        values = {"p_user": record.user_id, "p_now": now, "p_key": record.key}
        keys = [key for (key,) in db.execute(self._others, values)]
        return keys[max(0, limit - 1) :]

    def enrol(self, db: Connection, user_id: str) -> None:
        """Give the user a row to lock, if nobody has meanwhile."""
        try:
            db.execute(self._enrol, {"p_user": user_id, "p_since": self._clock(db)})
        except IntegrityError:
            pass

    def end_user(
        self, db: Connection, user_id: str, keep: str | None, now: float, token: str
    ) -> EndedAll | None:
        """In a transaction that holds the user's row: raise the fence, end each session but `keep`. None: no such row."""
        before, enrolled = self._locked(db, user_id)
        if not enrolled:
            return None
        fence = self._clock(db)
        if before is not None and not (self._clock is _monotonic and before > fence + REBOOTED):
            # Strictly above: a request that knows its own fence must not pass a later one of the same tick.
            fence = max(fence, nextafter(before, inf))
        db.execute(self._raise, {"p_user": user_id, "p_fence": fence})
        db.execute(self._purge_theirs, {"p_user": user_id, "p_now": now})
        values = _ending(keep, now, token)
        values["p_user"] = user_id
        ended = db.execute(self._end_all if keep is None else self._end_others, values)
        return EndedAll(_count(ended), fence)

    def end_one(self, db: Connection, user_id: str, key: str, now: float, token: str) -> bool:
        """Put a tombstone in place of a session of this user."""
        ended = _count(db.execute(self._end_theirs, _ending(key, now, token) | {"p_user": user_id}))
        return ended == 1 or self._is_own(db, key, now, token)

    def list_of(
        self, db: Connection, user_id: str, now: float, before: tuple[float, str], limit: int
    ) -> Sequence[Any]:
        """Up to one more than `limit`, to see whether there is another page."""
        values = {"p_user": user_id, "p_now": now, "p_at": before[0], "p_key": before[1]}
        return db.execute(self._list, values | {"p_limit": max(limit, 0) + 1}).all()

    # ---------------------------------------------------------------------------------------------------- upkeep

    def sweep(self, db: Connection, now: float, limit: int) -> tuple[int, bool]:
        """How many records went, and whether there may be more. Each statement is a transaction of its own."""
        self._forget_users(db, limit)
        keys = [key for (key,) in db.execute(self._due, {"p_now": now, "p_limit": limit})]
        if not keys:
            return 0, False
        values = {"p_keys": sorted(keys), "p_now": now}  # sorted: two sweepers lock in the same order
        gone = _count(db.execute(self._sweep, values))
        others = len(keys) - gone
        if others:
            others = _count(db.execute(self._sweep_ended, values)) + _count(db.execute(self._put_off, values))
        return gone, gone + others > 0

    def _forget_users(self, db: Connection, limit: int) -> None:
        clock = self._clock(db)
        ahead = REBOOTED if self._clock is _monotonic else FENCE_KEPT
        old = {"p_from": clock - FENCE_KEPT, "p_to": clock + ahead, "p_limit": limit}
        users = [user_id for (user_id,) in db.execute(self._old_users, old)]
        if users:
            db.execute(self._sweep_users, old | {"p_users": sorted(users)})

    def walk(self, db: Connection, after: str, limit: int) -> list[str]:
        """The next keys, in their order."""
        return [key for (key,) in db.execute(self._walk, {"p_key": after, "p_limit": limit})]

    def count(self, db: Connection, now: float) -> int:
        """How many sessions live."""
        return int(db.execute(self._count, {"p_now": now}).scalar_one())

    def probe(self, db: Connection) -> None:
        """Write nothing, where a server that cannot write would refuse."""
        db.execute(self._probe, {"p_user": ""})
        self.find(db, "")


def _count(result: Any) -> int:
    done: CursorResult[Any] = result
    return done.rowcount


def _values(row: Written) -> dict[str, Any]:
    version, due, deadline, seen_at, ends_at, user_id, login_at, packed, key = row
    return {
        "p_version": version,
        "p_due": due,
        "p_deadline": deadline,
        "p_seen_at": seen_at,
        "p_ends_at": ends_at,
        "p_user": user_id,
        "p_login_at": login_at,
        "p_packed": packed,
        "p_key": key,
    }


def _ending(key: str | None, now: float, token: str) -> dict[str, Any]:
    return {"p_key": key, "p_now": now, "p_token": token, "p_due": now + TOMBSTONE}
