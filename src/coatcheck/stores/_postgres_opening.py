"""From what a user configured to a client of PostgreSQL: a URL, a pool of the application's own, or what makes connections."""

import inspect
from collections.abc import Callable
from typing import Any, Final, cast

import asyncpg
import psycopg

from coatcheck.core.outage import Outage
from coatcheck.errors import ConfigurationError, WrongFace
from coatcheck.stores._health import ConnectionEvent, Health
from coatcheck.stores._postgres_client import Awaiting, AwaitingTheirs, Blocking, TheirThreads
from coatcheck.stores._postgres_connect import Target, Wired, target
from coatcheck.stores._postgres_hosts import awaiting_from, blocking_from
from coatcheck.stores._postgres_pool import ThreadPool

__all__ = ["OnConnection", "Opening", "target_of"]

OnConnection = Callable[[ConnectionEvent], None]
MOST: Final = 10_000


class Opening:
    """What makes the clients of one store, a blocking and an awaiting one, and closes what it opened itself.

    `given`: a `Target`, an `asyncpg.Pool`, a `psycopg_pool.ConnectionPool`, or a function that makes a connection. `size`:
    connections at most, in each process and event loop, where a pool is ours. Raises ConfigurationError for a size that is none.
    """

    def __init__(
        self, given: Any, *, size: int, outage: Outage, on_connection: OnConnection | None = None
    ) -> None:
        if type(size) is not int or not 1 <= size <= MOST:
            raise ConfigurationError(f"pool_size={size!r}: give a whole number, 1 or more")
        self._given, self._size, self._outage, self._on_connection = given, size, outage, on_connection
        self.target = given if isinstance(given, Target) else None
        """Of a URL: where to connect. None: the connections are the application's."""
        self.name = f"PostgreSQL by {_kind(given)}" if self.target is None else self.target.name
        """As it may be shown."""
        self._threads: ThreadPool | None = None
        self.loops: Awaiting | None = None
        """Our own connections of event loops, once there are any."""

    def blocking(self) -> Blocking:
        """A client for threads. Raises WrongFace for one that awaits."""
        given, retries = self._given, self._outage.retries
        if self.target is not None:
            pool: Any = self._pool_of(blocking_from(self.target))
        elif _is_theirs(given, "psycopg_pool.pool", "psycopg_pool.null_pool"):
            pool, retries = TheirThreads(given), 0
        elif callable(given) and not inspect.iscoroutinefunction(given):
            pool = self._pool_of(lambda: _autocommitting(given()))
        else:
            raise WrongFace(
                f"store: the sync face cannot use {_kind(given)}; give it a psycopg_pool.ConnectionPool, a function that"
                " makes a psycopg connection, or a URL; or use the async face"
            )
        return Blocking(pool, self._health(), self.name, retries)

    def awaiting(self) -> Awaiting | AwaitingTheirs:
        """A client for event loops. Raises WrongFace for one that blocks."""
        given = self._given
        if isinstance(given, asyncpg.Pool):
            return AwaitingTheirs(given, self._health(), self.name)
        if self.target is not None:
            connect = awaiting_from(self.target)
        elif inspect.iscoroutinefunction(given):
            connect = given
        else:
            raise WrongFace(
                f"store: the async face cannot use {_kind(given)}; give it an asyncpg.Pool, an `async def` that makes an"
                " asyncpg connection, or a URL; or use the sync face"
            )
        self.loops = Awaiting(
            connect,
            self._health(),
            self.name,
            size=self._size,
            patience=cast(float, self._outage.connect_timeout),
            retries=self._outage.retries,
        )
        return self.loops

    def close(self) -> None:
        """Close our connections of threads."""
        if self._threads is not None:
            self._threads.close()

    async def aclose(self) -> None:
        """Close our connections of all event loops."""
        if self.loops is not None:
            await self.loops.aclose()

    def _pool_of(self, connect: Callable[[], Wired]) -> ThreadPool:
        self._threads = ThreadPool(connect, self._size, cast(float, self._outage.connect_timeout))
        return self._threads

    def _health(self) -> Health:
        return Health(self.name, self._outage, on_connection=self._on_connection)


def target_of(url: str, outage: Outage, *, prepared: bool) -> Target:
    """What a URL says, with the time-outs of an `Outage`. Raises ConfigurationError."""
    return target(
        url,
        connect_timeout=cast(float, outage.connect_timeout),
        command_timeout=cast(float, outage.command_timeout),
        prepared=prepared,
    )


def _kind(client: object) -> str:
    kind = client if inspect.isroutine(client) else type(client)
    return f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}"


def _is_theirs(client: object, *modules: str) -> bool:
    """Whether it is of psycopg_pool, which need not be installed."""
    return any(base.__module__ in modules for base in type(client).__mro__)


def _autocommitting(connection: "psycopg.Connection[Any]") -> Wired:
    connection.autocommit = True
    return Wired(connection, None)
