"""SQLite under the explorer: the store's own jobs on a real file, one at a time. Before each its rows are put as they must be."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar, TypeVarTuple, cast

from coatcheck.core.ports import Store
from coatcheck.stores import _sqlite_jobs as jobs
from coatcheck.stores._sqlite_file import Cursor
from coatcheck.stores._sqlite_pool import Pool, atomically
from coatcheck.stores.sqlite import SQLiteSessions, SQLiteStore
from coatcheck.testing.explorer.database import Command, Database, suspend
from coatcheck.testing.explorer.tables import Stored, TableDatabase, Tables

__all__ = ["sqlite"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Job = Callable[..., Any]

ASIDE: Final = (jobs.list_of, jobs.end_user, jobs.end_one)
PUT: Final = (
    "INSERT OR REPLACE INTO session"
    " (key, version, due, deadline, seen_at, ends_at, ended_at, user_id, login_at, packed)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
ALL: Final = (
    "SELECT key, version, due, deadline, seen_at, ends_at, ended_at, user_id, login_at, packed FROM session"
)


class _Client:
    """Stops at every job."""

    async def read(self, job: Callable[[Cursor, *Ts], T], *args: *Ts) -> T:
        return cast(T, await suspend(_command(job, args, reads=True)))

    async def write(self, job: Callable[[Cursor, *Ts], T], *args: *Ts) -> T:
        return cast(T, await suspend(_command(job, args, reads=False)))

    aside = write

    def at_once(self, job: Callable[[Cursor, *Ts], T], *args: *Ts, writes: bool) -> T | None:
        """Nothing is: where nobody can come in between there is nothing to explore."""
        return None

    def later(self, job: Callable[[Cursor, *Ts], object], *args: *Ts) -> None:
        """Upkeep: that it changes nothing for anybody is not for the explorer to show."""

    def close(self) -> None:
        """There is nothing to close."""


def _command(job: Job, args: tuple[Any, ...], *, reads: bool) -> Command:
    what: Job = args[0] if job is atomically else job
    fences = args[1] if what is jobs.end_user else None
    return Command(what.__name__, (job, args), {}, reads, fences, what in ASIDE)


class _File:
    """A file, and what is known to be in it."""

    def __init__(self, path: Path) -> None:
        SQLiteStore(path).close()
        self._pool = Pool(str(path), busy_timeout=5.0)
        self._there = Tables({}, {})

    def close(self) -> None:
        self._pool.close()

    def __call__(self, there: Tables, command: Command, clock: float) -> tuple[Any, Tables]:
        job, args = command.args
        self._pool.run(_put, (self._there, there))
        reply = self._pool.run(job, args)
        self._there = there if command.reads else self._pool.run(_everything, ())
        return reply, self._there


def _put(cursor: Cursor, there: Tables, wanted: Tables) -> None:
    if there is wanted:
        return
    cursor.execute("BEGIN")
    for key in there.sessions.keys() - wanted.sessions.keys():
        cursor.execute("DELETE FROM session WHERE key = ?", (key,))
    for key, row in wanted.sessions.items():
        if there.sessions.get(key) != row:
            cursor.execute(PUT, (key, *row))
    if there.fences != wanted.fences:
        cursor.execute("DELETE FROM fence")
        cursor.executemany("INSERT INTO fence (user_id, fence) VALUES (?, ?)", wanted.fences.items())
    cursor.execute("COMMIT")


def _everything(cursor: Cursor) -> Tables:
    sessions = cursor.execute(ALL).fetchall()
    fences = cursor.execute("SELECT user_id, fence FROM fence").fetchall()
    return Tables({key: Stored(*row) for key, *row in sessions}, dict(fences))


@contextmanager
def sqlite() -> Iterator[Callable[[Callable[[], float]], Database]]:
    """A `MakeStore` on a file of its own."""
    with TemporaryDirectory() as folder:
        file = _File(Path(folder) / "explored.db")

        def make(monotonic: Callable[[], float]) -> Database:
            def store() -> Store:
                return SQLiteSessions(_Client(), monotonic)

            return TableDatabase(store, file, monotonic)

        try:
            yield make
        finally:
            file.close()
