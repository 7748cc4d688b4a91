"""Engines: of our own, one a process and one an event loop, none of their connections through a fork; or the application's.

An engine of our own is in autocommit throughout, so that neither a use nor its end costs a command beside the statement; what
lies idle in its pool is looked at before it is used, without a ping.
"""

import asyncio
import os
import weakref
from collections.abc import Callable
from contextlib import suppress
from math import ceil
from typing import Any, Final

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool, Pool, QueuePool

from coatcheck.core.outage import Outage
from coatcheck.errors import ConfigurationError, UsageError, WrongFace
from coatcheck.stores._loops import take_ended
from coatcheck.stores._sqlalchemy_errors import Trouble, trouble
from coatcheck.stores._sqlalchemy_runner import Manner
from coatcheck.stores._sqlalchemy_sockets import is_stale
from coatcheck.stores._sqlalchemy_tables import MYSQL

__all__ = ["AwaitingEngines", "BlockingEngines", "GivenEngine"]

PATIENCE: Final = Outage(connect_timeout=10.0, command_timeout=60.0)
"""For making tables, and for counting all there is."""
FILE_BUSY: Final = 5.0
"""Seconds that a write to an SQLite file waits for another's."""

# --------------------------------------------------------------------------------------------------------- the application's


class GivenEngine:
    """An engine of the application's."""

    def __init__(self, engine: Engine, manner: Manner) -> None:
        # Shares the pool. The option is undone as a connection goes back there.
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT") if manner.autocommit else engine

    def engine(self) -> Engine:
        """The engine."""
        return self._engine

    patient = engine


# ------------------------------------------------------------------------------------------------------------- of our own


class BlockingEngines:
    """One engine, shared by all threads."""

    def __init__(self, url: URL, outage: Outage, pool_size: int) -> None:
        self._url = url
        self._engine: Engine | None = _made(create_engine, url, _pooled(url, outage, pool_size, QueuePool))
        _limited(self._engine, outage)
        _ALL.add(self)

    def engine(self) -> Engine:
        """The engine. Raises UsageError once it was closed."""
        if self._engine is None:
            raise _closed()
        return self._engine

    def patient(self) -> Engine:
        """A new one, whose connection is closed as it comes back."""
        if self._engine is None:
            raise _closed()
        engine = create_engine(self._url, **_options(self._url, PATIENCE, poolclass=NullPool))
        _limited(engine, PATIENCE)
        return engine

    def close(self) -> None:
        """Close what lies in the pool; what is in use, when it comes back."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    def before_fork(self) -> None:
        """Close an SQLite file: to a child that had it open, its own locks would seem to be there already."""
        if self._engine is not None and self._engine.dialect.name == "sqlite":
            self._engine.dispose()

    def start_afresh(self) -> None:
        """In a child: the connections are the parent's."""
        if self._engine is not None:
            _LEFT_BEHIND.append(self._engine.pool)
            self._engine.dispose(close=False)


class AwaitingEngines:
    """One engine an event loop: a connection belongs to the loop that opened it."""

    def __init__(self, url: URL, outage: Outage, pool_size: int) -> None:
        self._url, self._outage, self._pool_size = url, outage, pool_size
        self._engines: dict[asyncio.AbstractEventLoop, AsyncEngine] = {}
        self._files: weakref.WeakKeyDictionary[Engine, weakref.WeakSet[Any]] = weakref.WeakKeyDictionary()
        """The connections of each engine, where they are open files of SQLite's."""
        # For the first loop that comes; made now, so that a driver that is not installed is said at start-up.
        self._spare: AsyncEngine | None = self._make()
        self.pattern = self._spare.sync_engine
        """Any of them: they are all alike."""
        self._is_open = True
        _ALL.add(self)

    def _make(self) -> AsyncEngine:
        options = _pooled(self._url, self._outage, self._pool_size, AsyncAdaptedQueuePool)
        engine: AsyncEngine = _made(create_async_engine, self._url, options)
        if self._url.drivername.startswith("sqlite"):
            files = self._files[engine.sync_engine] = weakref.WeakSet()
            event.listen(engine.sync_engine, "connect", lambda _, record: files.add(record.driver_connection))
        return engine

    def engine(self) -> Engine:
        """The engine of the running loop. Raises UsageError once it was closed, WrongFace where no loop runs."""
        try:
            return self._engines[asyncio.get_running_loop()].sync_engine
        except KeyError:
            return self._first(asyncio.get_running_loop()).sync_engine
        except RuntimeError:
            raise WrongFace(
                "SQLAlchemyStore.awaiting() needs an event loop; give a sync face .blocking()"
            ) from None

    def _first(self, loop: asyncio.AbstractEventLoop) -> AsyncEngine:
        if not self._is_open:
            raise _closed()
        self._leave_ended()
        engine, self._spare = self._spare or self._make(), None
        self._engines[loop] = engine
        return engine

    def _leave_ended(self) -> None:
        """Let go of the engines whose loops have ended.

        A server's connections end with their sockets; a file is closed here, since SQLite's locks are the process's: one that
        is closed late drops those of whoever has opened it meanwhile.
        """
        for engine in take_ended(self._engines):
            for connection in self._files.pop(engine.sync_engine, ()):
                connection.stop()
                # Since 0.22 a connection has a thread, before that it was one. There is no other way to wait without a loop.
                getattr(connection, "_thread", connection).join(FILE_BUSY)
            engine.sync_engine.dispose(close=False)

    def patient(self) -> Engine:
        """A new one, whose connection is closed as it comes back."""
        if not self._is_open:
            raise _closed()
        return create_async_engine(self._url, **_options(self._url, PATIENCE, poolclass=NullPool)).sync_engine

    async def aclose(self) -> None:
        """Close what the running loop has opened."""
        self._is_open = False
        engine = self._engines.pop(asyncio.get_running_loop(), None)
        if engine is not None:
            await engine.dispose()

    def before_fork(self) -> None:
        """Close the files of ended loops: to a child that had one open, its own locks would seem to be there already."""
        self._leave_ended()

    def start_afresh(self) -> None:
        """In a child: the connections are the parent's, and so are the loops."""
        _LEFT_BEHIND.extend(engine.sync_engine.pool for engine in self._engines.values())
        self._engines.clear()


def _closed() -> UsageError:
    return UsageError("this SQLAlchemyStore was closed; make a new one")


def _made(make: Callable[..., Any], url: URL, options: dict[str, Any]) -> Any:
    try:
        engine = make(url, **options)
    except ImportError as error:
        raise ConfigurationError(
            f"store: {url.drivername} needs a driver that is not installed ({error}): pip install {_package(url)}"
        ) from error
    synchronous = engine if isinstance(engine, Engine) else engine.sync_engine
    event.listen(synchronous, "checkout", _refuse_stale)
    event.listen(synchronous, "handle_error", _leave_replicas)
    if url.drivername.startswith("sqlite"):
        event.listen(synchronous, "connect", _without_syncs)
        event.listen(synchronous, "close", _let_go)
    return engine


def _package(url: URL) -> str:
    name = url.drivername.partition("+")[2]
    return {"pymysql": "PyMySQL", "psycopg": '"psycopg[binary]"', "mysqldb": "mysqlclient"}.get(name, name)


# ------------------------------------------------------------------------------------------------------------------ settings


def _pooled(url: URL, outage: Outage, size: int, kind: type[Pool]) -> dict[str, Any]:
    # Last in, first out: what is not needed any more lies at the bottom.
    return _options(
        url, outage, poolclass=kind, pool_size=size, max_overflow=0, pool_timeout=outage.connect_timeout,
        pool_use_lifo=True,
    )  # fmt: skip


def _options(url: URL, outage: Outage, **pool: Any) -> dict[str, Any]:
    return pool | {
        "isolation_level": "AUTOCOMMIT",
        "skip_autocommit_rollback": True,
        "pool_reset_on_return": None,
        "hide_parameters": True,
        "connect_args": _connect_args(url, outage),
    }


def _connect_args(url: URL, outage: Outage) -> dict[str, Any]:
    """What each driver calls its time-outs. On an event loop `Watch` keeps the time of commands."""
    connect, command = float(outage.connect_timeout), float(outage.command_timeout)  # type: ignore[arg-type]  # seconds by now
    base, _, driver = url.drivername.partition("+")
    # Somebody keeps a row locked: have the server stop waiting too, soon after we did. And strict, as it is where nobody has
    # changed it: else it cuts off what a column cannot hold.
    lock = {
        "init_command": f"SET SESSION innodb_lock_wait_timeout = {max(1, ceil(command))}"
        ", sql_mode = CONCAT_WS(',', NULLIF(@@sql_mode, ''), 'STRICT_TRANS_TABLES')"
    }
    arguments: dict[str, dict[str, Any]] = {
        "pymysql": {"connect_timeout": connect, "read_timeout": command, "write_timeout": command, **lock},
        "mysqldb": {"connect_timeout": ceil(connect), "read_timeout": ceil(command), **lock},
        "asyncmy": {"connect_timeout": connect, **lock},
        "aiomysql": {"connect_timeout": connect, **lock},
        "psycopg": {"connect_timeout": ceil(connect)},
        "psycopg_async": {"connect_timeout": ceil(connect)},
        "psycopg2": {"connect_timeout": ceil(connect)},
        "asyncpg": {"timeout": connect},
        "pysqlite": {"timeout": max(FILE_BUSY, command)},
        "aiosqlite": {"timeout": max(FILE_BUSY, command)},
    }
    return arguments.get(driver, {}) if base not in MYSQL or driver else lock


def _limited(engine: Engine, outage: Outage) -> None:
    """Have psycopg keep the time of commands: by itself it waits for an answer for ever."""
    if engine.dialect.driver == "psycopg":
        from coatcheck.stores._sqlalchemy_psycopg import limited

        event.listen(engine, "do_connect", limited(float(outage.command_timeout)))  # type: ignore[arg-type]  # seconds by now


def _refuse_stale(dbapi: Any, record: Any, proxy: Any) -> None:
    """Have the pool connect anew instead of lending out what the server has hung up on, and all that is as old."""
    if is_stale(record.driver_connection):
        raise InvalidatePoolError("the server has hung up")


def _leave_replicas(context: Any) -> None:
    """After a failover: a connection to what takes no writes any more is of no use, nor are those beside it."""
    error = context.sqlalchemy_exception
    if error is not None and trouble(error) is Trouble.READ_ONLY:
        context.is_disconnect = True


def _without_syncs(dbapi: Any, record: Any) -> None:
    """As the SQLite store does: a commit does not wait for the disk, and a power cut may take the last moments' writes."""
    cursor = dbapi.cursor()
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.close()


def _let_go(dbapi: Any, record: Any) -> None:
    """Roll back before closing: as long as somebody has a cursor of it, even in a traceback, a connection keeps its locks."""
    with suppress(Exception):
        dbapi.rollback()


# --------------------------------------------------------------------------------------------------------------------- forks

_ALL: "weakref.WeakSet[BlockingEngines | AwaitingEngines]" = weakref.WeakSet()
_LEFT_BEHIND: list[Pool] = []
"""Pools of a parent process: to throw one away would say goodbye on the parent's sockets."""


def _before_fork() -> None:
    for engines in list(_ALL):
        engines.before_fork()


def _after_fork_in_child() -> None:
    for engines in list(_ALL):
        engines.start_afresh()


os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
