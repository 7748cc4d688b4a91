"""Where jobs wait that cannot be done at once: in line on their event loop, or for the writer thread. Both commit in groups."""

import asyncio
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final

from coatcheck.errors import WrongFace
from coatcheck.stores._sqlite_file import FAILURES, Cursor, is_busy, translated
from coatcheck.stores._sqlite_pool import Pool, atomically

__all__ = ["Line", "Work", "Writer", "commit", "log_upkeep", "promise"]

BATCH: Final = 128
"""Writes in one group commit: a millisecond or two."""
FIRST_RETRY: Final = 0.0005
LAST_RETRY: Final = 0.01
"""Seconds until a busy file is tried again, from the first time on: SQLite's own busy handler sleeps as long, or longer."""
IDLE_SECONDS: Final = 10.0
"""The writer thread ends after so long without work; the next job starts another."""

log = logging.getLogger("coatcheck")


def promise() -> "asyncio.Future[Any]":
    """A future of the running loop. Raises WrongFace where there is none."""
    try:
        return asyncio.get_running_loop().create_future()
    except RuntimeError:
        raise WrongFace("SQLiteStore.awaiting() needs an event loop; give a sync face .blocking()") from None


def log_upkeep(error: BaseException) -> None:
    """Say that a job failed for which nobody waits."""
    log.warning("upkeep of the SQLite file failed and will be tried again: %s", translated(error))


class Work:
    """A job that could not be done at once, and its outcome. No future: nobody waits for it."""

    __slots__ = ("alone", "args", "error", "future", "give_up", "job", "result")

    def __init__(
        self,
        job: Callable[..., Any],
        args: tuple[Any, ...],
        future: "asyncio.Future[Any] | None" = None,
        *,
        alone: bool = False,
    ) -> None:
        self.job, self.args, self.future, self.alone = job, args, future, alone
        self.give_up = 0.0
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


class Line:
    """The writes of one event loop that wait for a busy file. It is tried now and then; the loop goes on meanwhile.

    `attempt` commits a group, or answers with the error if the file is still busy. `leave` is called when nobody waits any more.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        attempt: Callable[[Sequence[Work]], Exception | None],
        leave: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._attempt = attempt
        self._leave = leave
        self._works: list[Work] = []
        self._delay = FIRST_RETRY
        loop.call_later(self._delay, self._turn)

    def join(self, work: Work, busy_timeout: float) -> None:
        """Wait for at most `busy_timeout` seconds."""
        work.give_up = self._loop.time() + busy_timeout
        self._works.append(work)

    def _turn(self) -> None:
        self._works = [work for work in self._works if work.future and not work.future.done()]
        group = self._works[:BATCH]
        error = self._attempt(group)
        if error is None:
            self._works = self._works[BATCH:]
            self._delay = 0.0
            _settle(group)
        else:
            self._give_up(error)
            self._delay = min(LAST_RETRY, max(FIRST_RETRY, 1.5 * self._delay))
        if self._works:
            self._loop.call_later(self._delay, self._turn)
        else:
            self._leave()

    def _give_up(self, error: Exception) -> None:
        now = self._loop.time()
        late = [work for work in self._works if work.give_up <= now]
        self._works = [work for work in self._works if work.give_up > now]
        for work in late:
            work.error = error
        _settle(late)


class Writer:
    """One thread for what takes long, and for commits that sync: what piles up meanwhile is committed as one group."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.start_afresh()

    def start_afresh(self) -> None:
        """As new: after a fork the thread is not there, and what was queued is the parent's."""
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def submit(self, work: Work) -> None:
        """Queue a job. The thread starts with the first."""
        with self._lock:
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

    def _gather(self) -> list[Work]:
        """What has piled up; nothing when it is time to end."""
        works: list[Work] = []
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

    def _carry_out(self, works: Sequence[Work]) -> None:
        group = [work for work in works if not work.alone]
        if group:
            error = commit(self._pool, group)
            for work in group if error else ():
                work.error = error
            _deliver(group)
        for work in works:
            if work.alone:
                _do(self._pool, work.run, work)
                _deliver([work])


def commit(pool: Pool, group: Sequence[Work]) -> Exception | None:
    """Commit a group. Answers with the error if the file was busy and nothing was done."""
    try:
        pool.run(_in_one_transaction, (group,))
    except Exception as error:
        if is_busy(error):
            return error
        for work in (
            group
        ):  # the disk was full at the end, say, and SQLite undid everybody's: who can be helped alone?
            _do(pool, partial(atomically, job=work.run), work)
    return None


def _do(pool: Pool, job: Callable[[Cursor], None], work: Work) -> None:
    try:
        pool.run(job, ())
    except Exception as error:
        work.error = error
        if work.future is None:
            log_upkeep(error)


def _in_one_transaction(cursor: Cursor, group: Sequence[Work]) -> None:
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


def _deliver(works: Sequence[Work]) -> None:
    waiting: dict[asyncio.AbstractEventLoop, list[Work]] = defaultdict(list)
    for work in works:
        if work.future is not None:
            waiting[work.future.get_loop()].append(work)
    for loop, theirs in waiting.items():
        try:
            loop.call_soon_threadsafe(_settle, theirs)
        except RuntimeError:  # that loop was closed, nobody waits there any more
            continue


def _settle(works: Sequence[Work]) -> None:
    for work in works:
        work.settle()
