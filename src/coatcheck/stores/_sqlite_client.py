"""Two ways to run a job on the SQLite file: blocking, and on an event loop without ever holding it up.

A job is a plain function of a cursor: one statement, or several within `atomically`. It may be run a second time, when the first
found the file busy or was undone with its neighbours: so jobs compare versions, and repeating one that was carried out changes
nothing.
"""

import asyncio
import logging
import os
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol, TypeVar, TypeVarTuple

from coatcheck.errors import UsageError, WrongFace
from coatcheck.stores._sqlite_file import (
    FAILURES,
    PROBE,
    Cursor,
    Synchronous,
    connect,
    is_broken,
    is_busy,
    translated,
)

__all__ = ["Awaiting", "Blocking", "Client", "Pool", "atomically"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

BATCH: Final = 256
"""Writes in one group commit: their waiters wait for the whole group, so not without bound."""
CHECKPOINT_EVERY: Final = 5
"""Rounds of upkeep (of 100 writes each) between two checkpoints: the log then has some 1,000 pages, as is SQLite's own habit."""
IDLE_SECONDS: Final = 10.0
"""The writer thread ends after so long without work; the next job starts another."""

log = logging.getLogger(__name__)


class Client(Protocol):
    """What the store asks of a client. Each method raises SessionErrors only."""

    async def read(self, job: Callable[[Cursor, *Ts], T], *args: *Ts) -> T:
        """Run a job that only reads."""
        ...

    async def write(self, job: Callable[[Cursor, *Ts], T], *args: *Ts) -> T:
        """Run a job that writes; when this returns, it is committed."""
        ...

    async def aside(self, job: Callable[[Cursor, *Ts], T], *args: *Ts) -> T:
        """Run a long job, which commits for itself, where no event loop has to wait for it."""
        ...

    def later(self, job: Callable[[Cursor, *Ts], object], *args: *Ts) -> None:
        """Run a job of upkeep now or soon. Nobody waits for it; a failure is logged."""
        ...

    def close(self) -> None: ...


def atomically(cursor: Cursor, job: Callable[[Cursor, *Ts], T], *args: *Ts) -> T:
    """Run several statements as one transaction, which holds the write lock from the start: what it reads stays true."""
    if cursor.connection.in_transaction:  # in a group, which is one already
        return job(cursor, *args)
    cursor.execute("BEGIN IMMEDIATE")
    result = job(cursor, *args)
    cursor.execute("COMMIT")  # if anything raises before this, Pool.run rolls back
    return result


# -------------------------------------------------------------------------------------------------------- connections


class Pool:
    """Open connections, each lent to one thread at a time: as many as are ever used at once.

    They are kept as cursors: a new one for each statement costs 0.3 us. Taking one is a `list.pop`, which is atomic: no lock on
    the way, and no thread-local, which under gevent would open a connection for each greenlet.
    """

    def __init__(
        self,
        path: str,
        *,
        busy_timeout: float = 0.0,
        synchronous: Synchronous = "normal",
        checkpoints: bool = False,
    ) -> None:
        self._path = path
        self._busy_timeout = busy_timeout
        self._synchronous = synchronous
        self._checkpoints = checkpoints
        self._free: list[Cursor] = []
        self._all: set[Cursor] = set()
        self._opening = threading.Lock()
        self._gated = False
        weakref.finalize(self, _close_each, self._free)
        _POOLS.add(self)

    def run(self, job: Callable[[Cursor, *Ts], T], args: tuple[*Ts]) -> T:
        """Run a job on a connection that nobody else has meanwhile. Raises what sqlite3 raises, and rolls back first."""
        try:
            cursor = self._free.pop()
        except IndexError:
            cursor = self._open()
        try:
            result = job(cursor, *args)
        except BaseException as error:
            self._take_back(cursor, error)
            raise
        self._free.append(cursor)
        return result

    def _open(self) -> Cursor:
        with self._opening:
            db = connect(
                self._path,
                busy_timeout=self._busy_timeout,
                synchronous=self._synchronous,
                checkpoints=self._checkpoints,
            )
            self._all.add(cursor := db.cursor())
            return cursor

    def _take_back(self, cursor: Cursor, error: BaseException) -> None:
        if is_broken(error):
            self._all.discard(cursor)
            cursor.connection.close()
            return
        if cursor.connection.in_transaction:
            cursor.connection.rollback()
        self._free.append(cursor)

    def close(self) -> None:
        """Close every connection, those in use when they come back. Any further job raises UsageError."""
        free, self._free = self._free, _Closed()
        _close_each(free)
        self._all.clear()

    # SQLite keeps, process by process, which locks it has on a file. After a fork the child believes in locks that only its
    # parent has, and even a *new* connection of the child's relies on them: when the parent closes its last connection it finds
    # itself alone, folds the log up and deletes it, and what the child writes from then on is lost. (Tried: it is.)
    # So no connection goes through a fork. They are closed before it, and opened again when they are needed.

    def before_fork(self) -> None:
        """Close every connection, waiting for those in use; one that does not come back in time is left behind."""
        patience = self._busy_timeout + 1.0
        self._gated = self._opening.acquire(timeout=patience)
        give_up = time.monotonic() + patience
        while self._all and time.monotonic() < give_up:
            try:
                cursor = self._free.pop()
            except IndexError:
                time.sleep(0.0005)
            else:
                self._all.discard(cursor)
                cursor.connection.close()

    def after_fork(self, *, in_child: bool) -> None:
        """Let connections be opened again."""
        if in_child:
            _LEFT_BEHIND.extend(self._all)  # to close them here would harm the parent's locks
            self._all.clear()
            self._opening = threading.Lock()  # whoever held it is not here
        elif self._gated:
            self._opening.release()


class _Closed(list[Cursor]):
    """Stands in for the free connections of a pool that was closed, so that one that is open need not ask."""

    def pop(self, index: Any = -1) -> Cursor:
        raise UsageError("this SQLiteStore was closed; make a new one")

    def append(self, cursor: Cursor) -> None:
        cursor.connection.close()


def _close_each(free: list[Cursor]) -> None:
    while free:
        free.pop().connection.close()


_POOLS: "weakref.WeakSet[Pool]" = weakref.WeakSet()
_WRITERS: "weakref.WeakSet[Writer]" = weakref.WeakSet()
_LEFT_BEHIND: list[Cursor] = []


def _before_fork() -> None:
    for pool in list(_POOLS):
        pool.before_fork()


def _after_fork_in_parent() -> None:
    for pool in list(_POOLS):
        pool.after_fork(in_child=False)


def _after_fork_in_child() -> None:
    for pool in list(_POOLS):
        pool.after_fork(in_child=True)
    for writer in list(_WRITERS):
        writer.start_afresh()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)

# ----------------------------------------------------------------------------------------------------------- blocking


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

    def later(self, job: Callable[[Cursor, *Ts], object], *args: *Ts) -> None:
        """Run it now: a thread can afford it, and there is no other that could."""
        try:
            self._pool.run(job, args)
        except FAILURES as error:
            _log_upkeep(error)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()


# ----------------------------------------------------------------------------------------------------------- awaiting


class Awaiting:
    """Runs each job inline, on the event loop's thread, as long as that is a matter of microseconds.

    The inline connections have no busy timeout, move no log into the file and sync nothing. What has to wait goes to the writer
    thread: a job that found the file busy, every write as long as one is there, and with `synchronous="full"` all writes.
    """

    def __init__(self, inline: Pool, patient: Pool, *, syncs: bool = False) -> None:
        self._inline = inline
        self._patient = patient
        self._syncs = syncs
        self._writer = Writer(patient)
        self._rounds = 0

    async def read(self, job: Callable[[Cursor, *Ts], T], *args: *Ts) -> T:
        """Run a job that only reads. Writers do not hinder it; at most somebody who recovers the log after a crash."""
        try:
            return self._inline.run(job, args)
        except FAILURES as error:
            if not is_busy(error):
                raise translated(error) from error
        return await self.aside(job, *args)

    async def write(self, job: Callable[[Cursor, *Ts], T], *args: *Ts) -> T:
        """Run a job that writes."""
        if not (self._writer.pending or self._syncs):
            try:
                return self._inline.run(job, args)
            except FAILURES as error:
                if not is_busy(error):
                    raise translated(error) from error
        result: T = await self._handed_over(_Work(job, args))
        return result

    async def aside(self, job: Callable[[Cursor, *Ts], T], *args: *Ts) -> T:
        """Run a long job on the writer thread, outside of any group."""
        result: T = await self._handed_over(_Work(job, args, alone=True))
        return result

    def later(self, job: Callable[[Cursor, *Ts], object], *args: *Ts) -> None:
        """Let the writer thread run it, and now and then checkpoint, which inline connections do not."""
        self._rounds += 1
        if self._rounds % CHECKPOINT_EVERY:
            self._writer.submit(_Work(job, args, alone=True))
        else:
            self._writer.submit(_Work(_and_checkpoint, (job, args), alone=True))

    async def _handed_over(self, work: "_Work") -> Any:
        try:
            work.future = asyncio.get_running_loop().create_future()
        except RuntimeError:
            raise WrongFace(
                "SQLiteStore.awaiting() needs an event loop; give a sync face .blocking()"
            ) from None
        self._writer.submit(work)
        # A future and nothing else: the caller may go on in another task than the one it began in.
        return await work.future

    def close(self) -> None:
        """Finish what is queued, and close the connections."""
        self._writer.close()
        self._inline.close()
        self._patient.close()


def _and_checkpoint(cursor: Cursor, job: Callable[..., object], args: tuple[Any, ...]) -> None:
    """Do the job, then move the log into the file.

    That syncs, and so does the next write, which begins the log anew: `PROBE` is that write, here rather than on the loop. While
    this is pending the process's writes queue behind it: so the end of the log can be reached, and its length stays bounded.
    """
    job(cursor, *args)
    cursor.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    cursor.execute(PROBE)


def _log_upkeep(error: BaseException) -> None:
    log.warning("upkeep of the SQLite file failed and will be tried again: %s", translated(error))


class _Work:
    """A job on its way to the writer thread, and its outcome on the way back. No future: nobody waits for it."""

    __slots__ = ("alone", "args", "error", "future", "job", "result")

    def __init__(self, job: Callable[..., Any], args: tuple[Any, ...], *, alone: bool = False) -> None:
        self.job, self.args, self.alone = job, args, alone
        self.future: asyncio.Future[Any] | None = None
        self.result: Any = None
        self.error: Exception | None = None

    def run(self, cursor: Cursor) -> None:
        """Do the job, perhaps a second time."""
        self.result, self.error = self.job(cursor, *self.args), None

    def settle(self) -> None:
        """Hand the outcome to the waiter, on its own loop. One who was cancelled is not waiting any more."""
        if self.future is None or self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
            return
        failure = self.error
        if isinstance(failure, FAILURES):
            failure = translated(failure)
            failure.__cause__ = self.error
        self.future.set_exception(failure)


class Writer:
    """One thread that waits so that event loops need not, and commits what piled up meanwhile as one group."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.start_afresh()
        _WRITERS.add(self)

    def start_afresh(self) -> None:
        """As new: after a fork the thread is not there, and what was queued is the parent's."""
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.pending = 0

    def submit(self, work: _Work) -> None:
        """Queue a job. The thread starts with the first."""
        with self._lock:
            self.pending += 1
            self._queue.put(work)
            if self._thread is None:
                self._thread = threading.Thread(target=self._live, name="coatcheck-sqlite", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Return when everything queued is done and the thread has ended."""
        with self._lock:
            thread = self._thread
            if thread is not None:
                self._queue.put(None)
        if thread is not None:
            thread.join()

    def _live(self) -> None:
        while True:
            works = self._gather()
            if works:
                self._carry_out(works)
            elif self._may_end():
                return

    def _gather(self) -> list[_Work]:
        """What has piled up; nothing when it is time to end."""
        works: list[_Work] = []
        try:
            while len(works) < BATCH and (work := self._queue.get(not works, IDLE_SECONDS)):
                works.append(work)
        except Empty:
            pass
        return works

    def _may_end(self) -> bool:
        with self._lock:
            if not self._queue.empty():
                return False
            self._thread = None
            return True

    def _carry_out(self, works: Sequence[_Work]) -> None:
        group = [work for work in works if not work.alone]
        if group:
            self._commit(group)
            self._done(group)
        for work in works:
            if work.alone:
                self._do(work)
                self._done([work])

    def _commit(self, group: Sequence[_Work]) -> None:
        try:
            self._pool.run(_in_one_transaction, (group,))
        except Exception as error:
            if len(group) == 1 or is_busy(error):
                for work in group:
                    work.error = error
            else:  # the disk was full at the end, say, and SQLite undid everybody's: who can be helped alone?
                for work in group:
                    self._commit([work])

    def _do(self, work: _Work) -> None:
        try:
            self._pool.run(work.run, ())
        except Exception as error:
            work.error = error
            if work.future is None:
                _log_upkeep(error)

    def _done(self, works: Sequence[_Work]) -> None:
        with self._lock:
            self.pending -= len(works)
        waiting: dict[asyncio.AbstractEventLoop, list[_Work]] = defaultdict(list)
        for work in works:
            if work.future is not None:
                waiting[work.future.get_loop()].append(work)
        for loop, theirs in waiting.items():
            try:
                loop.call_soon_threadsafe(_settle, theirs)
            except RuntimeError:  # that loop was closed, nobody waits there any more
                continue


def _in_one_transaction(cursor: Cursor, group: Sequence[_Work]) -> None:
    """Commit once for all. Each job has its own savepoint: one that fails takes no neighbour down."""
    cursor.execute("BEGIN IMMEDIATE")
    for work in group:
        cursor.execute("SAVEPOINT work")
        try:
            work.run(cursor)
        except Exception as error:
            if not cursor.connection.in_transaction:  # SQLite undid the whole transaction
                raise
            work.error = error
            cursor.execute("ROLLBACK TO work")
        cursor.execute("RELEASE work")
    cursor.execute("COMMIT")


def _settle(works: Sequence[_Work]) -> None:
    for work in works:
        work.settle()
