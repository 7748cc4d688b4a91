"""How a job is run on an engine, for both faces: connect, do it, try again what may be tried again, and name what went wrong.

A job is a plain function of a Connection. Connections are in autocommit wherever that costs nothing: then one statement is one
round trip. A transaction is begun and committed by name, and a connection on which anything went wrong in between is thrown away.

What never left is sent again over a new connection; a read is, too. What was undone for the sake of another transaction begins
anew. What may have been carried out is `ReplyLost`, and not repeated here.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Engine

from coatcheck.core.outage import Outage
from coatcheck.errors import ReplyLost, SessionError, StoreUnavailable
from coatcheck.stores._health import Health
from coatcheck.stores._sqlalchemy_errors import Trouble, advice, original, said, translated, trouble
from coatcheck.stores._sqlalchemy_jobs import Again

__all__ = ["ASIDE", "READ", "WHOLE", "WRITE", "How", "Manner", "Runner", "Step", "manner_of"]

CONFLICTS: Final = 20
"""How often a job begins anew that others undid. Each time one of them got through."""

Job = Callable[..., Any]


_UNDONE: Final = (Trouble.CONFLICT, Trouble.WAITED, Trouble.BUSY)
"""After these the connection is sound."""


class How(Enum):
    """What kind of job it is."""

    READ = "it only reads: it may be run again where the connection was lost"
    WRITE = "its statements each stand for themselves"
    WHOLE = "it is one transaction"
    ASIDE = "as WRITE, and it may take longer than a command may: making tables, counting all there is"


READ, WRITE, WHOLE, ASIDE = How


class Manner(NamedTuple):
    """How statements become transactions on one engine."""

    autocommit: bool
    """Each statement is a transaction of its own; else SQLAlchemy begins one and the end of a job commits it."""
    begin: str = ""


_BEGIN: Final = {
    "postgresql": "BEGIN ISOLATION LEVEL READ COMMITTED",
    "mysql": "START TRANSACTION",
    "mariadb": "START TRANSACTION",
    # Now, not at the first write: what the transaction reads must stay true.
    "sqlite": "BEGIN IMMEDIATE",
}
_FREE: Final = ("postgresql", "sqlite")
"""Where autocommit is the driver's affair and no command to the server: it can be had for one use of a connection."""


def manner_of(engine: Engine, *, own: bool) -> Manner:
    """How to go about it on this engine. `own`: it was made by us, with autocommit throughout."""
    name = engine.dialect.name
    begin = _BEGIN.get(name)
    always = own or engine.get_execution_options().get("isolation_level") == "AUTOCOMMIT"
    if begin is None or not (always or name in _FREE):
        return Manner(False)
    return Manner(True, begin)


class Step:
    """How far one run of a job has come."""

    __slots__ = ("began", "conflicts", "expired", "lost", "sent")

    def __init__(self) -> None:
        self.sent = self.expired = False
        self.began = 0.0
        self.lost = self.conflicts = 0

    def connecting(self) -> None:
        """Nothing has been sent."""
        self.sent = False
        self.began = time.monotonic()

    def commanding(self, db: Connection) -> None:
        """The next command leaves now."""
        self.sent = True


class Unreachable(Exception):
    """What the log is told of a driver's error: no more than its first line."""


class Runner:
    """Runs jobs on an engine. `name` is its URL as it may be shown."""

    def __init__(self, name: str, health: Health, outage: Outage, manner: Manner) -> None:
        self.name, self.health, self.outage, self.manner = name, health, outage, manner

    def run(self, engine: Engine, how: How, job: Job, args: tuple[Any, ...], step: Step) -> Any:
        """Run a job on a connection of the pool. Raises SessionErrors only."""
        health = self.health
        if not health.well:
            health.admit()
        while True:
            step.connecting()
            try:
                with engine.connect() as db:
                    step.commanding(db)
                    result = self._whole(db, job, args) if how is WHOLE else self._each(db, how, job, args)
            except Exception as error:
                self._go_on(error, how, step)
            else:
                if not health.well:
                    health.worked()
                return result

    # -------------------------------------------------------------------------------------------------- transactions

    def _each(self, db: Connection, how: How, job: Job, args: tuple[Any, ...]) -> Any:
        commits = not (self.manner.autocommit or how is READ)
        try:
            result = job(db, *args)
        except Again:
            if commits:  # what it did so far stands for itself, and is why it can begin anew
                db.commit()
            raise
        if commits:
            db.commit()
        return result

    def _whole(self, db: Connection, job: Job, args: tuple[Any, ...]) -> Any:
        begin = self.manner.begin
        try:
            if begin:
                db.exec_driver_sql(begin)
            result = job(db, *args)
            if begin:
                db.exec_driver_sql("COMMIT")
            else:
                db.commit()
            return result
        except BaseException as error:
            self._undo(db, error)
            raise

    def _undo(self, db: Connection, error: BaseException) -> None:
        """Roll back where the connection is sure to be sound; else throw it away, and the server rolls back."""
        if db.invalidated:
            return
        if isinstance(error, (Again, SessionError)) or trouble(error) in _UNDONE:
            with suppress(Exception):
                if self.manner.begin:
                    db.exec_driver_sql("ROLLBACK")
                else:
                    db.rollback()
                return
        if not db.invalidated:
            db.invalidate()

    # -------------------------------------------------------------------------------------------------- what went wrong

    def _go_on(self, error: Exception, how: How, step: Step) -> None:
        """Return if the job may begin anew; else raise the error by our name for it."""
        if isinstance(error, SessionError):
            self._answered()
            raise error
        kind = Trouble.CONFLICT if isinstance(error, Again) else trouble(error)
        if self._is_outage(kind, step):
            self._outage(error, how, step)
        elif kind is Trouble.CONFLICT or kind is Trouble.WAITED:
            self._answered()
            self._contested(error, CONFLICTS if kind is Trouble.CONFLICT else self.outage.retries, step)
        else:
            if step.sent:
                self._answered()
            raise translated(error, self.name) from original(error)

    @staticmethod
    def _is_outage(kind: Trouble, step: Step) -> bool:
        return kind is Trouble.LOST or (not step.sent and kind is not Trouble.CROWDED)

    def _outage(self, error: Exception, how: How, step: Step) -> None:
        cause = original(error)
        again = how is READ or not step.sent
        if again and not step.expired and step.lost < self.outage.retries and self._was_quick(step):
            step.lost += 1
            return
        self.health.failed(Unreachable(said(cause)))
        if step.sent:
            raise ReplyLost(f"{self.name}: a command was sent and no answer came ({said(cause)})") from cause
        raise StoreUnavailable(f"{self.name}: cannot be reached ({said(cause)}){advice(cause)}") from cause

    def _was_quick(self, step: Step) -> bool:
        """It was refused, or cut, not silence: to wait in silence twice would keep a request twice as long."""
        limit = self.outage.connect_timeout if not step.sent else self.outage.command_timeout
        return time.monotonic() - step.began < limit / 2  # type: ignore[operator]  # seconds by now

    def _contested(self, error: Exception, most: int, step: Step) -> None:
        if step.conflicts >= most:
            raise StoreUnavailable(
                f"{self.name}: other transactions came first {most + 1} times in a row; try again later"
            ) from original(error)
        step.conflicts += 1

    def _answered(self) -> None:
        if not self.health.well:
            self.health.worked()
