"""Connections to PostgreSQL as our pools want them: from a URL, in time, and with a time limit on every answer.

asyncpg has such limits itself. psycopg's are whole seconds for a connection, two at least, and none for an answer: so a
connection is made step by step on libpq, and a command's own generator is wrapped in one that looks at the clock.
"""

import asyncio
import select
import time
from collections.abc import Callable, Coroutine, Generator, Mapping
from typing import Any, Final, NamedTuple, TypeVar, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg
import psycopg
from psycopg import pq
from psycopg.rows import tuple_row

from coatcheck.errors import ConfigurationError, StoreError
from coatcheck.stores._postgres_pool import has_something_to_say

__all__ = [
    "SLOWLY",
    "Target",
    "Unprepared",
    "Wired",
    "asyncpg_from",
    "is_refused",
    "parameters_of",
    "psycopg_async_from",
    "psycopg_from",
    "shown",
    "target",
]

T = TypeVar("T")

SLOWLY: Final = 60.0
"""Seconds for an answer that no request waits for: a count, a sweep by hand, making the table."""
OLDEST: Final = 12
"""The oldest PostgreSQL that has everything we use."""

_LIBPQ_ONLY: Final = frozenset({
    "connect_timeout", "client_encoding", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count",
    "tcp_user_timeout", "fallback_application_name", "sslcompression", "sslsni", "load_balance_hosts",
    "channel_binding", "gssencmode",
})  # fmt: skip
"""What a URL may say to libpq, and asyncpg would take for a setting of the server."""
_PROTECTING: Final = {"channel_binding": "require", "gssencmode": "require"}
"""Of these, what must not be left out silently."""


class Target(NamedTuple):
    """Where to connect, and how."""

    url: str
    """As libpq and asyncpg take it, password and all: never shown."""
    name: str
    """As it may be shown."""
    connect_timeout: float
    command_timeout: float
    prepared: bool


def target(url: str, *, connect_timeout: float, command_timeout: float, prepared: bool) -> Target:
    """What a URL says. Raises ConfigurationError for one that libpq cannot read; the message never shows the password."""
    scheme, colon, rest = url.partition(":")
    base = scheme.lower().partition("+")[0]  # postgresql+asyncpg, as in a DATABASE_URL
    if base not in ("postgresql", "postgres") or not rest.startswith("//"):
        raise ConfigurationError("store: give postgresql://user:password@host:5432/database")
    plain = f"{base}{colon}{rest}"
    try:
        parameters = psycopg.conninfo.conninfo_to_dict(plain)
        if urlsplit(plain).fragment:
            raise ValueError("libpq takes a # for part of what it stands in, asyncpg for the end")
        if "," not in plain:  # several hosts have a port each, and Python cannot read that
            _ = urlsplit(plain).port
    except (psycopg.Error, ValueError) as error:
        why = str(error).strip()
        # The other messages quote the URL, password and all. Not the cause either, for the same reason.
        detail = f" ({why})" if why.startswith("invalid URI query parameter") else ""
        raise ConfigurationError(
            f"store='{base}://…' is no URL that PostgreSQL's library can read{detail}; in user and password write special"
            " characters as %XX"
        ) from None
    return Target(plain, shown(parameters), connect_timeout, command_timeout, prepared)


def parameters_of(place: Target) -> Mapping[str, Any]:
    """What its URL says, by libpq's names; lists of hosts as they are."""
    return psycopg.conninfo.conninfo_to_dict(place.url)


def shown(parameters: Mapping[str, Any]) -> str:
    """A URL as it may be shown. Made of what may be, and not of the URL less its password: that can stand in several places."""
    user, host, port, database = (parameters.get(name) or "" for name in ("user", "host", "port", "dbname"))
    return f"postgresql://{f'{user}@' if user else ''}{host}{f':{port}' if port else ''}/{database}"


# ----------------------------------------------------------------------------------------------------------- blocking


class _Clocked(psycopg.Connection[Any]):
    """psycopg's connection, which gives up waiting after `patience` seconds. (There is no other way in than to override.)"""

    patience = 0.0
    _pool = None  # what psycopg looks for: one in a pool may be left open when the program ends

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:
        return super().wait(_within(gen, self.patience), *args, **kwargs)


class Wired:
    """One of psycopg's connections, with what it takes to use it quickly: a cursor that takes $1 and answers tuples."""

    __slots__ = ("_connection", "_cursor", "_patience")

    def __init__(self, connection: psycopg.Connection[Any], patience: float | None) -> None:
        self._connection, self._patience = connection, patience
        self._cursor = psycopg.RawCursor(connection, row_factory=tuple_row)

    def fetch(self, statement: str, args: tuple[Any, ...], patience: float | None = None) -> list[Any]:
        """Carry out one statement; `patience`: seconds for the answer, if not the usual."""
        if self._patience is not None:
            self._connection.patience = patience or self._patience  # type: ignore[attr-defined]  # then it is _Clocked
        # Binary: a float comes back to the last bit, whatever the server's extra_float_digits.
        result = self._cursor.execute(statement, args, binary=True).pgresult
        rows: list[Any] = self._cursor.fetchall() if result is not None and result.nfields else []
        if not self._connection.autocommit:
            self._connection.commit()
        return rows

    def fileno(self) -> int:
        return self._connection.pgconn.socket

    def is_idle(self) -> bool:
        """Whether its last command is over: it may go on, or for one that is not ours, its owner takes care."""
        status = self._connection.pgconn.transaction_status
        return status == pq.TransactionStatus.IDLE or (
            not self._connection.autocommit and status == pq.TransactionStatus.INERROR
        )

    def close(self) -> None:
        self._connection.close()

    @property
    def connection(self) -> psycopg.Connection[Any]:
        """psycopg's own."""
        return self._connection


def psycopg_from(place: Target) -> Wired:
    """A new connection. Raises TimeoutError, psycopg.OperationalError, and StoreError for a server that is too old."""
    conninfo = psycopg.conninfo.make_conninfo(
        place.url, client_encoding="utf8", fallback_application_name="coatcheck"
    )
    connection = _Clocked(_connected(conninfo.encode(), place.connect_timeout))
    connection.autocommit = True
    connection.prepare_threshold = 0 if place.prepared else None
    try:
        _insist_on_version(connection.info.server_version // 10_000)
    except StoreError:
        connection.close()
        raise
    return Wired(connection, place.command_timeout)


def _connected(conninfo: bytes, patience: float) -> pq.abc.PGconn:
    deadline = time.monotonic() + patience
    pgconn = pq.PGconn.connect_start(conninfo)
    try:
        while pgconn.status != pq.ConnStatus.BAD:
            state = pgconn.connect_poll()
            if state == pq.PollingStatus.OK:
                pgconn.nonblocking = 1
                return pgconn
            if state == pq.PollingStatus.FAILED:
                break
            _await_socket(pgconn.socket, state == pq.PollingStatus.WRITING, deadline)
        words = pgconn.error_message.decode(errors="replace").strip()
        raise _noted(psycopg.OperationalError(words or "the connection was not made"), pgconn)
    except BaseException:
        pgconn.finish()
        raise


def _noted(error: psycopg.OperationalError, pgconn: Any) -> psycopg.OperationalError:
    """For `is_refused`."""
    error.refused = bool(pgconn and (pgconn.needs_password or pgconn.used_password))  # type: ignore[attr-defined]  # ours
    return error


def is_refused(error: BaseException) -> bool:
    """The server answered, and would not have us: libpq does not tell the server's code of a login."""
    return bool(getattr(error, "refused", False))


def _await_socket(fileno: int, writing: bool, deadline: float) -> None:
    poll = select.poll()
    poll.register(fileno, select.POLLOUT if writing else select.POLLIN)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise TimeoutError("no connection within connect_timeout")


def _within(gen: Generator[Any, Any, T], patience: float) -> Generator[Any, Any, T]:
    """The same generator, until `patience` has run out. The driver resumes it now and then though nothing has come."""
    deadline = time.monotonic() + patience
    ready: Any = None
    while True:
        try:
            wanted = gen.send(ready)
        except StopIteration as done:
            return cast(T, done.value)
        ready = yield wanted
        if not ready and time.monotonic() >= deadline:
            raise TimeoutError("no answer within command_timeout")


# ----------------------------------------------------------------------------------------------------------- awaiting


def asyncpg_from(place: Target) -> Callable[[], Coroutine[Any, Any, Any]]:
    """What makes a new connection of asyncpg's. Raises ConfigurationError for what its URL asks and asyncpg cannot do."""
    url, settings = _for_asyncpg(place)

    async def connect() -> Any:
        link = await asyncpg.connect(
            url,
            timeout=place.connect_timeout,
            command_timeout=place.command_timeout,
            # Our statements are a dozen, and stay the same.
            max_cached_statement_lifetime=0,
            server_settings=settings,
        )
        try:
            _insist_on_version(link.get_server_version().major)
        except StoreError:
            link.terminate()
            raise
        return link

    return connect


def _for_asyncpg(place: Target) -> tuple[str, dict[str, str]]:
    parts = urlsplit(place.url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name, value in _PROTECTING.items():
        if query.get(name) == value:
            raise ConfigurationError(
                f"store={place.name!r}: asyncpg has no {name}; leave it out of the URL (sslmode=verify-full protects as well),"
                " or use prepared_statements=False, which takes psycopg instead"
            )
    settings = {} if "application_name" in query else {"application_name": "coatcheck"}
    rest = urlencode({name: value for name, value in query.items() if name not in _LIBPQ_ONLY})
    return urlunsplit(parts._replace(query=rest)), settings


class _ClockedAsync(psycopg.AsyncConnection[Any]):
    """The same for psycopg's awaiting connection."""

    patience = 0.0
    _pool = None

    async def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:
        return await super().wait(_within(gen, self.patience), *args, **kwargs)


class Unprepared:
    """A connection of psycopg's that looks like one of asyncpg's, and sends each statement together with its values."""

    def __init__(self, connection: _ClockedAsync, patience: float) -> None:
        self._connection, self._patience = connection, patience
        self._cursor = psycopg.AsyncRawCursor(connection, row_factory=tuple_row)

    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[Any]:
        """Carry out one statement; `timeout`: seconds for the answer, if not the usual.

        In a task of its own: psycopg waits by asyncio.wait_for(), which must end in the task that it began in, and a commit goes
        on in another (`flows.shielded`).
        """
        return await asyncio.get_running_loop().create_task(self._fetch(query, args, timeout))

    async def _fetch(self, query: str, args: tuple[Any, ...], timeout: float | None) -> list[Any]:
        self._connection.patience = timeout or self._patience
        result = (await self._cursor.execute(query, args, binary=True)).pgresult
        rows: list[Any] = await self._cursor.fetchall() if result is not None and result.nfields else []
        return rows

    def is_closed(self) -> bool:
        """Whether it can be used no more: also where it is in the midst of something."""
        pgconn = self._connection.pgconn
        return pgconn.transaction_status != pq.TransactionStatus.IDLE or has_something_to_say(pgconn.socket)

    def terminate(self) -> None:
        """Close it at once."""
        self._connection.pgconn.finish()


def psycopg_async_from(place: Target) -> Callable[[], Coroutine[Any, Any, Any]]:
    """What makes a new connection of psycopg's."""
    conninfo = psycopg.conninfo.make_conninfo(
        place.url, client_encoding="utf8", fallback_application_name="coatcheck"
    )

    async def connect() -> Any:
        try:
            async with asyncio.timeout(place.connect_timeout):
                connection = await _ClockedAsync.connect(conninfo, autocommit=True, prepare_threshold=None)
        except psycopg.OperationalError as error:
            raise _noted(error, error.pgconn) from error.__cause__
        try:
            _insist_on_version(connection.info.server_version // 10_000)
        except StoreError:
            connection.pgconn.finish()
            raise
        return Unprepared(connection, place.command_timeout)

    return connect


def _insist_on_version(major: int) -> None:
    if major < OLDEST:
        raise StoreError(f"this PostgreSQL is version {major}; coatcheck needs {OLDEST} or newer")
