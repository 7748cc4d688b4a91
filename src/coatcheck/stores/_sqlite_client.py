"""Two ways to run a job on the SQLite file: blocking, and on an event loop without ever holding it up.

A job is a plain function of a cursor: one statement, or several within `atomically`. It may be run a second time, when the first
found the file busy or was undone with its neighbours: so jobs compare versions, and repeating one that was carried out changes
nothing.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol, TypeVar, TypeVarTuple, cast

from coatcheck.stores._loops import take_ended
from coatcheck.stores._sqlite_file import FAILURES, PROBE, Cursor, busy, is_busy, translated
from coatcheck.stores._sqlite_pool import Pool, tell_of_forks
from coatcheck.stores._sqlite_waiting import Line, Work, Writer, commit, log_upkeep, promise

__all__ = ["Awaiting", "Blocking", "Client"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

CHECKPOINT_EVERY: Final = 10
"""Rounds of upkeep (of 100 writes each) between two checkpoints: the log then has a few thousand pages."""
CHECKPOINT_PATIENCE: Final = 20
"""Milliseconds for which a checkpoint holds writers up where a reader in another process is in its way; next time, then."""
PAUSED: Final = busy("a checkpoint is under way")


class Client(Protocol):
    """What the store asks of a client. Each method raises SessionErrors only."""

    async def read(self, job: Callable[[Cursor, *Ts], T], *args: *Ts) -> T:
        """Run a job that only reads."""
        ...

    async def write(self, job: Callable[[Cursor, *Ts], T], *args: *Ts) -> T:
        """Run a job that writes; when this returns, it is committed."""
        ...

    def at_once(self, job: Callable[[Cursor, *Ts], T], *args: *Ts, writes: bool) -> T | None:
        """Run a job of one statement without a coroutine. None: it was not done, and one of the others is to do it."""
        ...

    async def aside(self, job: Callable[[Cursor, *Ts], T], *args: *Ts) -> T:
        """Run a long job, which commits for itself, where no event loop has to wait for it."""
        ...

    def later(self, job: Callable[[Cursor, *Ts], object], *args: *Ts) -> None:
        """Run a job of upkeep now or soon. Nobody waits for it; a failure is logged."""
        ...

    def close(self) -> None: ...


class Blocking:
    """Runs each job in the calling thread, which waits for the file as long as its busy timeout. Never suspends."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def write(self, job: Callable[[Cursor, *Ts], T], *args: *Ts) -> T:
        """Run a job of any kind."""
        try:
            return self._pool.run(job, args)
        except FAILURES as error:
            raise translated(error) from error

    read = aside = write

    def at_once(self, job: Callable[[Cursor, *Ts], T], *args: *Ts, writes: bool) -> T | None:
        """Run it, if the file lets us."""
        try:
            return self._pool.run(job, args)
        except FAILURES:  # told by whoever does it again
            return None

    def later(self, job: Callable[[Cursor, *Ts], object], *args: *Ts) -> None:
        """Run it now: a thread can afford it, and there is no other that could."""
        try:
            self._pool.run(job, args)
        except FAILURES as error:
            log_upkeep(error)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()


class Awaiting:
    """Runs each job inline, on the event loop's thread, as long as that is a matter of microseconds.

    The inline connections never wait: they have no busy timeout, move no log into the file and sync nothing. A write that finds
    the file busy stands in line, and what piles up there is committed as one group as soon as the file is free, still on the
    loop's thread. (A thread that commits for the loop must win the interpreter back after every statement, with the file locked;
    under load everything queued up behind that, and stayed queued up: 237 us of CPU a write under Starlette.)

    What takes long by itself goes to the writer thread: `aside`, upkeep, and with `synchronous="full"` every write.
    """

    def __init__(
        self, inline: Pool, patient: Pool, *, busy_timeout: float = 5.0, syncs: bool = False
    ) -> None:
        self._inline = inline
        self._patient = patient
        self._busy_timeout = busy_timeout
        self._syncs = syncs
        self._rounds = 0
        self._writer = Writer(patient)
        self._paused = False
        self._lines: dict[asyncio.AbstractEventLoop, Line] = {}
        tell_of_forks(self)

    def start_afresh(self) -> None:
        """After a fork: what waited, waits in the parent."""
        self._writer.start_afresh()
        self._paused = False
        self._lines.clear()

    async def read(self, job: Callable[[Cursor, *Ts], T], *args: *Ts) -> T:
        """Run a job that only reads. Writers do not hinder it; at most somebody who recovers the log after a crash."""
        try:
            return self._inline.run(job, args)
        except FAILURES as error:
            if not is_busy(error):
                raise translated(error) from error
        return await self.aside(job, *args)

    def at_once(self, job: Callable[[Cursor, *Ts], T], *args: *Ts, writes: bool) -> T | None:
        """Run it inline, if it is a read, or nobody stands in line."""
        if writes and (self._lines or self._paused or self._syncs):
            return None
        try:
            return self._inline.run(job, args)
        except FAILURES:  # told by whoever does it again
            return None

    async def write(self, job: Callable[[Cursor, *Ts], T], *args: *Ts) -> T:
        """Run a job that writes."""
        if not (self._lines or self._paused or self._syncs):
            try:
                return self._inline.run(job, args)
            except FAILURES as error:
                if not is_busy(error):
                    raise translated(error) from error
        work = Work(job, args, promise())
        if self._syncs:
            self._writer.submit(work)
        else:
            self._stand_in_line(work)
        return cast(T, await _kept(work))

    async def aside(self, job: Callable[[Cursor, *Ts], T], *args: *Ts) -> T:
        """Run a long job on the writer thread, outside of any group."""
        work = Work(job, args, promise(), alone=True)
        self._writer.submit(work)
        return cast(T, await _kept(work))

    def later(self, job: Callable[[Cursor, *Ts], object], *args: *Ts) -> None:
        """Let the writer thread run it, and now and then checkpoint, which inline connections do not."""
        self._rounds += 1
        if self._rounds % CHECKPOINT_EVERY:
            self._writer.submit(Work(job, args, alone=True))
        else:
            self._writer.submit(Work(self._and_checkpoint, (job, args), alone=True))

    def close(self) -> None:
        """Finish what the writer thread has to do, and close the connections. Whoever stands in line gets UsageError."""
        self._writer.close()
        self._inline.close()
        self._patient.close()

    def _stand_in_line(self, work: Work) -> None:
        loop = asyncio.get_running_loop()
        if loop not in self._lines:
            take_ended(self._lines)
            self._lines[loop] = Line(loop, self._attempt, partial(self._lines.pop, loop, None))
        self._lines[loop].join(work, self._busy_timeout)

    def _attempt(self, group: Sequence[Work]) -> Exception | None:
        return PAUSED if self._paused else commit(self._inline, group)

    def _and_checkpoint(self, cursor: Cursor, job: Callable[..., object], args: tuple[Any, ...]) -> None:
        """Do the job, then move the log into the file and begin it anew.

        The bulk goes while others write; for the rest and for the new beginning our own writes pause. All of it syncs, even the
        first write after a new beginning: `PROBE` is that write, here rather than on the loop.
        """
        job(cursor, *args)
        (timeout,) = cursor.execute("PRAGMA busy_timeout").fetchone()
        cursor.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        self._paused = True
        try:
            cursor.execute(f"PRAGMA busy_timeout = {CHECKPOINT_PATIENCE}").fetchall()
            cursor.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
            cursor.execute(PROBE)
        finally:
            self._paused = False
            cursor.execute(f"PRAGMA busy_timeout = {timeout}").fetchall()


async def _kept(work: Work) -> Any:
    # A future and nothing else is awaited: the caller may go on in another task than the one it began in.
    assert work.future is not None
    return await work.future
