"""Connections to the SQLite file, lent to one job at a time, and none of them through a fork."""

import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, TypeVarTuple

from coatcheck.errors import UsageError
from coatcheck.stores._sqlite_file import Cursor, Synchronous, connect, is_broken

__all__ = ["Fresh", "Pool", "atomically", "tell_of_forks"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def atomically(cursor: Cursor, job: Callable[[Cursor, *Ts], T], *args: *Ts) -> T:
    """Run several statements as one transaction, which holds the write lock from the start: what it reads stays true."""
    if cursor.connection.in_transaction:  # in a group, which is one already
        return job(cursor, *args)
    cursor.execute("BEGIN IMMEDIATE")
    result = job(cursor, *args)
    cursor.execute("COMMIT")  # if anything raises before this, Pool.run rolls back
    return result


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
_OTHERS: "weakref.WeakSet[Fresh]" = weakref.WeakSet()
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
    for other in list(_OTHERS):
        other.start_afresh()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)


class Fresh(Protocol):
    """Something that must begin anew in a forked child."""

    def start_afresh(self) -> None: ...


def tell_of_forks(other: Fresh) -> None:
    """Call its `start_afresh` in every child, as long as it lives."""
    _OTHERS.add(other)
