"""Two ways to run a job on a database: in the calling thread, and on an event loop. What they do is written once, in `Runner`.

On an event loop a job runs within a greenlet, as everything does in SQLAlchemy's asyncio extension, and here from the pool's
connection to the commit. Each has a task of its own, which goes on when the caller is cancelled: no driver is stopped half way
through a reply because a browser went away.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol, TypeVar, TypeVarTuple

from sqlalchemy import Connection, Engine
from sqlalchemy.util import greenlet_spawn

from coatcheck.errors import ReplyLost, SessionError, StoreUnavailable
from coatcheck.stores._sqlalchemy_runner import ASIDE, WRITE, How, Runner, Step
from coatcheck.stores._sqlalchemy_sockets import cut

__all__ = ["Awaiting", "Blocking", "Client", "Engines"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

LAST_WAIT: Final = 10.0
"""Seconds for what is still under way when a store is closed."""
log: Final = logging.getLogger("coatcheck")


class Client(Protocol):
    """What the store asks of a client."""

    async def run(self, how: How, job: Callable[[Connection, *Ts], T], *args: *Ts) -> T:
        """Run a job; when this returns, what it wrote is committed. Raises SessionErrors only."""
        ...

    def later(self, job: Callable[[Connection, *Ts], object], *args: *Ts) -> None:
        """Run a job of upkeep now or soon. Nobody waits for it; a failure is logged."""
        ...


class Engines(Protocol):
    """Where a client has its engines from."""

    def engine(self) -> Engine:
        """The engine for commands, of this process (and, awaiting, of this event loop)."""
        ...

    def patient(self) -> Engine:
        """One whose commands may take long."""
        ...


class Blocking:
    """Runs each job in the calling thread. Never suspends."""

    def __init__(self, runner: Runner, engines: Engines) -> None:
        self._runner = runner
        self._engines = engines

    async def run(self, how: How, job: Callable[[Connection, *Ts], T], *args: *Ts) -> T:
        """Run it now."""
        engine = self._engines.patient() if how is ASIDE else self._engines.engine()
        result: T = self._runner.run(engine, how, job, args, Step())
        return result

    def later(self, job: Callable[[Connection, *Ts], object], *args: *Ts) -> None:
        """Run it now: a thread can afford it, and there is no other that could."""
        try:
            self._runner.run(self._engines.engine(), WRITE, job, args, Step())
        except SessionError as error:
            _log_upkeep(error)


class Watch(Step):
    """A step with a time limit, on an event loop. An engine of the application's keeps its own: `limits` is None."""

    __slots__ = ("_limits", "_loop", "_task", "_timer")

    def __init__(self, limits: tuple[float, float] | None) -> None:
        super().__init__()
        self._limits = limits
        self._task: asyncio.Task[Any] = asyncio.current_task()  # type: ignore[assignment]  # there is one
        self._loop = self._task.get_loop()
        self._timer: asyncio.TimerHandle | None = None

    def connecting(self) -> None:
        """Twice the time: for a connection of the pool to come free, and for one to be made."""
        super().connecting()
        self.stop()
        if self._limits is not None:
            self._timer = self._loop.call_later(2 * self._limits[0], self._give_up)

    def commanding(self, db: Connection) -> None:
        """From here on the time of a command counts."""
        self.sent = True
        self.stop()
        if self._limits is not None:
            self._timer = self._loop.call_later(self._limits[1], self._hang_up, db)

    def stop(self) -> None:
        """The time is not counted any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _hang_up(self, db: Connection) -> None:
        """Have the driver find the connection cut: each knows what to do then, and does it at once."""
        if db.closed or db.invalidated or not cut(db.connection.driver_connection):
            self._give_up()
        else:
            self.expired = True

    def _give_up(self) -> None:
        self.expired = True
        self._task.cancel()


class Awaiting:
    """Runs each job in a task of its own. `limits`: whether time-outs are kept here, or by the engine itself."""

    def __init__(self, runner: Runner, engines: Engines, *, limits: bool) -> None:
        self._runner = runner
        self._engines = engines
        outage = runner.outage
        self._limits: Any = (outage.connect_timeout, outage.command_timeout) if limits else None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, how: How, job: Callable[[Connection, *Ts], T], *args: *Ts) -> T:
        """Run it, and see it through whatever becomes of the caller."""
        # A future and nothing else is awaited: the caller may go on in another task than the one it began in.
        engine = self._engines.patient() if how is ASIDE else self._engines.engine()
        result: T = await asyncio.shield(self._start(self._work(engine, how, job, args)))
        return result

    def later(self, job: Callable[[Connection, *Ts], object], *args: *Ts) -> None:
        """Run it beside the request."""
        self._start(self._work(self._engines.engine(), WRITE, job, args)).add_done_callback(_log_task)

    async def finish(self) -> None:
        """Wait for what is still at work on the running loop, though nobody waits for its outcome."""
        loop = asyncio.get_running_loop()
        if at_work := [task for task in list(self._tasks) if task.get_loop() is loop]:
            await asyncio.wait(at_work, timeout=LAST_WAIT)

    def _start(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _work(self, engine: Engine, how: How, job: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        watch = Watch(None if how is ASIDE else self._limits)
        try:
            return await greenlet_spawn(self._runner.run, engine, how, job, args, watch)
        except asyncio.CancelledError as error:
            if not watch.expired:
                raise
            raise self._given_up(watch) from error
        finally:
            watch.stop()

    def _given_up(self, watch: Watch) -> SessionError:
        """The task was stopped by ourselves, since there was no connection to cut."""
        name, health = self._runner.name, self._runner.health
        health.failed(TimeoutError("no answer in time"))
        if watch.sent:
            return ReplyLost(f"{name}: a command was sent and no answer came in time")
        return StoreUnavailable(f"{name}: cannot be reached in time")


def _log_upkeep(error: BaseException) -> None:
    log.warning("upkeep of the sessions' tables failed and will be tried again: %s", error)


def _log_task(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log_upkeep(error)
