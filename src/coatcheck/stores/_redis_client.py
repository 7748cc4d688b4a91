"""Two ways to speak to one Redis server: blocking, and on an event loop.

Both lend connections from a redis-py pool, write commands and read replies themselves: so they know what was sent and what was
not, and nothing that may have been carried out is repeated (redis-py's clients repeat whatever a connection failed with).

On an event loop the commands of one turn leave together. A command is put into a queue and its caller waits for a future; a
worker takes all that is in the queue, writes it at once over one connection, and hands out the replies in order. A caller that is
cancelled cancels its future and nothing else: its reply is read and thrown away, so no reply ever reaches another's request.
"""

import asyncio
import os
import weakref
from collections.abc import Callable, Sequence
from contextvars import Context
from copy import copy
from select import POLLIN, poll
from socket import socket
from typing import Any, Final, cast

import hiredis
from redis import ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from coatcheck.core.ports import Notice
from coatcheck.errors import ReplyLost, StoreError, StoreUnavailable, UsageError
from coatcheck.stores._health import Health
from coatcheck.stores._loops import take_ended
from coatcheck.stores._redis_errors import (
    FAILURES,
    is_login,
    last_of,
    may_repeat,
    refused,
    storable,
    translated,
)
from coatcheck.stores._redis_scripts import Script
from coatcheck.stores._redis_version import HELLO, insist
from coatcheck.stores._redis_watch import watch_awaiting, watch_blocking

__all__ = [
    "Awaiting",
    "Blocking",
    "Calls",
    "Line",
    "Settings",
    "Work",
    "answered",
    "leave_behind",
    "pack",
    "quiet",
    "refreshed",
    "tell_of_forks",
]

WORKERS: Final = 4
"""Batches of one event loop that may be under way at once. More, and batches are smaller and dearer; fewer, and one slow command
holds up too many."""
BATCH: Final = 200
"""Commands in one batch at most."""
SCAN_COUNT: Final = 1000
"""Keys that a step of a walk looks at, about."""

pack: Final = cast(Callable[[tuple[Any, ...]], bytes], hiredis.pack_command)
Calls = Sequence[tuple[tuple[str, ...], tuple[Any, ...]]]


class Settings:
    """What both clients go by."""

    __slots__ = ("connect_timeout", "health", "name", "owned", "patience", "replicas", "retries", "wait")

    def __init__(
        self,
        name: str,
        health: Health,
        *,
        retries: int,
        connect_timeout: float | None,
        patience: float | None,
        wait: tuple[int, float] | None = None,
        owned: bool = False,
    ) -> None:
        self.name, self.health, self.retries, self.owned = name, health, retries, owned
        self.connect_timeout, self.patience = connect_timeout, patience
        """Seconds, or None where the application's own client has its own."""
        self.replicas = wait[0] if wait else 0
        self.wait = pack(("WAIT", wait[0], int(wait[1] * 1000))) if wait else b""
        """The command that follows each command, if replicas are to be waited for."""

    def of_node(self, node: str) -> "Settings":
        """The same for one node of a cluster, whose health is its own: one that is away breaks nothing for the others."""
        other = copy(self)
        other.owned = False  # its pools are redis-py's, which gives them up when the cluster changes
        other.name = f"{self.name} ({node})"
        other.health = self.health.of(other.name)
        return other

    def judge(self, reply: Any, waited: Any) -> Any:
        """The reply, if enough replicas have what it tells of."""
        if waited is None or isinstance(reply, ResponseError):
            return reply
        if isinstance(waited, ResponseError):
            raise refused(waited, self.name) from waited
        if waited < self.replicas:
            # Not StoreUnavailable: it was carried out, and a failover may undo it. Asked again, a command recognises itself.
            raise ReplyLost(f"{self.name}: only {waited} of {self.replicas} replicas had this write in time")
        return reply


# ---------------------------------------------------------------------------------------------------------- blocking


class _AtHand:
    """A connection, and the shortest way through it.

    A socket with a time-out is a non-blocking one to the system. Python's own `send` and `recv` ask the system each time whether
    they may, and each question gives other threads a turn; so where nothing but Python is in between (neither TLS nor gevent)
    we write at once, and ask only for the answer.
    """

    __slots__ = ("_file", "_poll", "_socket", "connection")

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._socket: Any = None
        self._file, self._poll = -1, poll()

    def is_quiet(self) -> bool:
        """Whether nothing has come over it that nobody asked for: mostly that is the end."""
        return self.is_known() and not self._poll.poll(0)

    def is_known(self) -> bool:
        """Whether it is connected; what there is to know of its socket is looked up once."""
        current = self.connection._sock
        if current is None:
            return False
        if current is not self._socket:
            self._socket, self._poll = current, poll()
            self._file = current.fileno() if type(current) is socket and current.gettimeout() else -1
            self._poll.register(current, POLLIN)
        return True

    def send(self, packed: bytes) -> None:
        """Send all of it. What fails was not complete."""
        if self._file < 0 or self.connection._sock is not self._socket:
            self.connection.send_packed_command([packed], check_health=False)
            return
        try:
            sent = os.write(self._file, packed)
        except BlockingIOError:
            sent = 0
        if sent < len(packed):
            self._socket.sendall(packed[sent:])

    def receive(self) -> Any:
        """The reply; an error of the server's is one too."""
        if self._file >= 0 and self.connection._sock is self._socket:
            if not self._poll.poll(self._socket.gettimeout() * 1000):
                raise RedisTimeout("Timeout reading from socket")
            octets = os.read(self._file, 65_536)
            if not octets:
                raise RedisConnectionError("Connection closed by server")
            self.connection._parser._reader.feed(octets)
        return _read(self.connection)  # and the rest, if that was not all


class Blocking:
    """Speaks from the calling thread, which waits. Never suspends."""

    def __init__(self, make: Callable[[], Any], settings: Settings) -> None:
        self._pool = make()  # no connection is made yet
        self._settings = settings
        self._health = settings.health
        self._greeted = False
        self._keeps = settings.owned and _is_plain(self._pool)
        self._at_hand: list[_AtHand] = []
        """Connections that worked; the last one is taken first."""
        tell_of_forks(self)

    async def run(self, script: Script, keys: tuple[str, ...], args: tuple[Any, ...] = ()) -> Any:
        return self._run(script, keys, args)

    async def all(self, script: Script, calls: Calls) -> list[Any]:
        answers = [self._caught(script, keys, args) for keys, args in calls]
        if (failure := last_of(answers)) is not None:
            raise failure
        return answers

    async def scan(self, pattern: str, cursor: Any, count: int = SCAN_COUNT) -> tuple[list[bytes], Any]:
        words = ("SCAN", cursor or b"0", "MATCH", pattern, "COUNT", count)
        following, keys = answered(self.exchange(pack(words), True), self._settings.name)
        return keys, None if following == b"0" else following

    async def ask_all(self, *words: str) -> list[Any]:
        return [quiet(self.exchange(pack(words), True))]

    def watch(self, channel: str, tell: Callable[[Notice], None]) -> Callable[[], None]:
        return watch_blocking(self._lent, channel, tell)

    def _lent(self) -> Any:
        return self._open().make_connection()

    def close(self, *, owned: bool) -> None:
        pool, self._pool = self._pool, None
        if pool is not None and owned:
            pool.disconnect()
            for sentinel in _sentinels(pool):
                sentinel.close()

    def _open(self) -> Any:
        if self._pool is None:
            raise UsageError(f"the store {self._settings.name} is closed")
        return self._pool

    def _caught(self, script: Script, keys: tuple[str, ...], args: tuple[Any, ...]) -> Any:
        try:
            return self._run(script, keys, args)
        except StoreError as error:
            return error

    def _run(self, script: Script, keys: tuple[str, ...], args: tuple[Any, ...]) -> Any:
        reply = self.exchange(storable(pack, script.words(keys, args)), script.reads)
        if isinstance(reply, NoScriptError):
            reply = self.exchange(pack(script.in_full(keys, args)), script.reads)
        return answered(reply, self._settings.name)

    def exchange(self, packed: bytes, reads: bool) -> Any:
        """Send, and read the reply (an error of the server's is one too); again where that is allowed."""
        pool, health, left = self._open(), self._health, self._settings.retries
        if not health.well:
            health.admit()
        while True:
            sent: list[bool] = []
            try:
                # A question may be asked again, so the first time it is asked without a look whether the server is there.
                look = not reads or left < self._settings.retries or left == 0
                reply = self._once(pool, packed, sent, look=look)
            except FAILURES as error:
                if left > 0 and may_repeat(error, sent=bool(sent), reads=reads):
                    left -= 1
                    continue
                if not is_login(error):
                    health.failed(error)
                raise translated(error, self._settings.name, sent=bool(sent)) from error
            if not health.well:
                health.worked()
            if not isinstance(reply, ReadOnlyError) or left <= 0:
                return reply
            left -= 1

    def _take(self, pool: Any, *, look: bool) -> _AtHand:
        """A connection that the server has not closed. To lend one from redis-py's pool costs as much as the command."""
        try:
            held = self._at_hand.pop()
        except IndexError:
            return _AtHand(pool.get_connection())
        if not look or held.is_quiet():
            return held
        pool.release(held.connection)
        return _AtHand(pool.get_connection())

    def _give_back(self, pool: Any, held: _AtHand, *, works: bool) -> None:
        if works and self._keeps and not held.connection.should_reconnect() and held.is_known():
            self._at_hand.append(held)
        else:
            pool.release(held.connection)

    def start_afresh(self) -> None:
        """After a fork: the connections are the parent's."""
        leave_behind(self._at_hand)
        self._at_hand = []

    def _once(self, pool: Any, packed: bytes, sent: list[bool], *, look: bool) -> Any:
        held, works = self._take(pool, look=look), False
        connection = held.connection
        try:
            if not self._greeted:
                self._greet(connection)
            # A write that fails was not complete, and the server carries out nothing incomplete: so far nothing was sent.
            held.send(packed + self._settings.wait)
            sent.append(True)
            reply = held.receive()
            waited = _read(connection) if self._settings.wait else None
            works = not isinstance(reply, ReadOnlyError)
        finally:
            if not works:
                connection.disconnect()  # whatever it still has to say is for nobody else
            self._give_back(pool, held, works=works)
        return self._settings.judge(reply, waited)

    def _greet(self, connection: Any) -> None:
        connection.send_packed_command([HELLO], check_health=False)
        insist(_read(connection), self._settings.name)
        self._greeted = True


def _is_plain(pool: Any) -> bool:
    """Whether nothing has to be done with a connection between two commands: no Sentinel to ask, no credentials to renew."""
    return type(pool) is ConnectionPool and not pool.connection_kwargs.get("credential_provider")


def _read(connection: Any) -> Any:
    try:
        return connection.read_response(disable_decoding=True)
    except ResponseError as error:
        return error


def answered(reply: Any, name: str) -> Any:
    """The reply, unless it is an error."""
    if isinstance(reply, ResponseError):
        raise refused(reply, name) from reply
    return reply


def quiet(reply: Any) -> Any:
    """A reply that may be missing: what an ACL forbids."""
    return None if isinstance(reply, ResponseError) else reply


# ---------------------------------------------------------------------------------------------------------- awaiting


class Work:
    """One command on its way."""

    __slots__ = ("args", "future", "keys", "left", "packed", "reads", "script")

    def __init__(self, packed: bytes, reads: bool, left: int, future: "asyncio.Future[Any]") -> None:
        self.packed, self.reads, self.left, self.future = packed, reads, left, future
        self.script: Script | None = None
        self.keys: tuple[str, ...] = ()
        self.args: tuple[Any, ...] = ()

    def succeed(self, reply: Any) -> None:
        if not self.future.done():
            self.future.set_result(reply)

    def fail(self, error: BaseException, cause: BaseException | None = None) -> None:
        if not self.future.done():
            error.__cause__ = cause
            self.future.set_exception(error)


class Line:
    """The commands of one event loop, standing in line for its connections."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: Any, settings: Settings) -> None:
        self._loop = loop
        self.pool = pool
        self._settings = settings
        self._health = settings.health
        self._queue: list[Work] = []
        self._workers = 0
        self._starting = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._greeted = False

    def join(self, work: Work) -> None:
        """Stand in line. What joins in the same turn of the loop leaves in the same batch."""
        self._queue.append(work)
        if not self._starting and self._workers < WORKERS:
            self._starting = True
            self._workers += 1
            # A context of its own: the first request's variables are not for the others' commands.
            task = self._loop.create_task(self._work(), context=Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Let what is under way come to its end."""
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    async def _work(self) -> None:
        connection, batch = None, []
        self._starting = False
        try:
            while self._queue:
                if connection is None and (connection := await self._connection()) is None:
                    continue
                batch, self._queue = self._queue[:BATCH], self._queue[BATCH:]
                batch = [work for work in batch if not work.future.done()]
                if batch and not await self._carry(connection, batch):
                    lost, connection, batch = connection, None, []
                    await self.pool.release(lost)
        except BaseException as error:  # the loop is closing down
            for work in (*batch, *self._queue):
                work.fail(ReplyLost(f"{self._settings.name}: the event loop was stopped meanwhile"), error)
            self._queue.clear()
            if connection is not None:
                await connection.disconnect(nowait=True)
            raise
        finally:
            self._workers -= 1  # before anything is awaited: who joins now starts another
        if connection is not None:
            await self.pool.release(connection)

    async def _connection(self) -> Any:
        """A connection, or None after telling all that are waiting that there is none."""
        settings, tries = self._settings, self._settings.retries + 1
        failure: StoreError | None = None
        while tries and failure is None:
            tries -= 1
            try:
                async with asyncio.timeout(settings.connect_timeout):
                    connection = await self.pool.get_connection()
                    await refreshed(connection)
                    if not self._greeted:
                        await self._greet(connection)
                    return connection
            except StoreError as error:
                failure = error
            except FAILURES as error:
                if tries and may_repeat(error, sent=False, reads=False):
                    continue
                if not is_login(error):
                    self._health.failed(error)
                failure = translated(error, settings.name, sent=False)
                failure.__cause__ = error
        self._give_up(failure or StoreUnavailable(f"{settings.name} cannot be reached"))
        return None

    def _give_up(self, failure: StoreError) -> None:
        waiting, self._queue = self._queue, []
        for work in waiting:
            work.fail(type(failure)(*failure.args), failure.__cause__)

    async def _greet(self, connection: Any) -> None:
        try:
            await connection.send_packed_command([HELLO], check_health=False)
            insist(await _reply(connection), self._settings.name)
        except BaseException:
            await connection.disconnect(nowait=True)
            await self.pool.release(connection)
            raise
        self._greeted = True

    async def _carry(self, connection: Any, batch: list[Work]) -> bool:
        """Send a batch and hand out its replies. False: the connection is of no use any more."""
        settings, replies, waited = self._settings, [], None
        try:
            async with asyncio.timeout(settings.patience):
                packed = b"".join([work.packed for work in batch]) + settings.wait
                await connection.send_packed_command([packed], check_health=False)
                read = _reader(connection)
                for _ in batch:
                    replies.append(await read(disable_decoding=True))
                if settings.wait:
                    waited = await read(disable_decoding=True)
        except FAILURES as error:
            await connection.disconnect(nowait=True)
            if settings.wait:
                replies = []  # none of them is known to be with the replicas
            for work, reply in zip(batch, replies, strict=False):
                self._hand_out(work, reply, None)
            self._lost(batch[len(replies) :], error)
            return False
        if not self._health.well:
            self._health.worked()
        for work, reply in zip(batch, replies, strict=True):
            self._hand_out(work, reply, waited)
        if any(type(reply) is ReadOnlyError for reply in replies):
            await connection.disconnect(nowait=True)
            return False
        return True

    def _hand_out(self, work: Work, reply: Any, waited: Any) -> None:
        if not isinstance(reply, ResponseError):
            if waited is None:
                work.succeed(reply)
                return
            try:
                work.succeed(self._settings.judge(reply, waited))
            except StoreError as error:
                work.fail(error)
        elif isinstance(reply, NoScriptError) and work.script is not None:
            work.packed = pack(work.script.in_full(work.keys, work.args))
            work.script = None
            self._queue.append(work)
        elif isinstance(reply, ReadOnlyError) and work.left > 0:
            work.left -= 1
            self._queue.append(work)
        else:
            work.fail(refused(reply, self._settings.name), reply)

    def _lost(self, works: list[Work], error: BaseException) -> None:
        """No answer came to these. What waits behind them is told so too, if the server did not answer in time."""
        if not is_login(error):
            self._health.failed(error)
        for work in works:
            if work.left > 0 and may_repeat(error, sent=True, reads=work.reads):
                work.left -= 1
                self._queue.append(work)
            else:
                work.fail(translated(error, self._settings.name, sent=True), error)
        if isinstance(error, TimeoutError):
            self._give_up(
                StoreUnavailable(f"{self._settings.name} does not answer in time: this was not sent")
            )


async def refreshed(connection: Any) -> None:
    """Connect again if there is something to be read before anything was asked: mostly it is that the server is gone.

    redis-py's pool looks itself, but not where it expects messages about maintenance, as it does by default in RESP3.
    """
    has_data = getattr(connection, "can_read", None) or connection.can_read_destructive
    if await has_data():
        await connection.disconnect(nowait=True)
        await connection.connect()


def _reader(connection: Any) -> Callable[..., Any]:
    """What reads the replies of a batch: redis-py's parser, which hands out errors as replies. The connection's own method sets a
    time limit for each reply and costs three times as much; a batch has one for all.
    """
    return cast(Callable[..., Any], connection._parser.read_response)


async def _reply(connection: Any) -> Any:
    try:
        return await connection.read_response(disable_decoding=True)
    except ResponseError as error:
        return error


class Awaiting:
    """Speaks from event loops, a line for each."""

    def __init__(self, make: Callable[[], Any], settings: Settings) -> None:
        self._make = make
        self._settings = settings
        self._health = settings.health
        self._retries = settings.retries
        self._lines: dict[asyncio.AbstractEventLoop, Line] = {}
        self._closed = False
        tell_of_forks(self)

    def run(self, script: Script, keys: tuple[str, ...], args: tuple[Any, ...] = ()) -> "asyncio.Future[Any]":
        """Not a coroutine: what waits is the future itself, and there is one object less for the garbage collector to visit."""
        return self._send(script, keys, args)

    async def all(self, script: Script, calls: Calls) -> list[Any]:
        futures = [self._send(script, keys, args) for keys, args in calls]
        answers: list[Any] = []
        try:
            for future in futures:
                try:
                    answers.append(await future)
                except StoreError as error:
                    answers.append(error)
        except asyncio.CancelledError:
            for future in futures:
                future.cancel()  # nobody will ask how these went
            raise
        if (failure := last_of(answers)) is not None:
            raise failure
        return answers

    async def scan(self, pattern: str, cursor: Any, count: int = SCAN_COUNT) -> tuple[list[bytes], Any]:
        words = ("SCAN", cursor or b"0", "MATCH", pattern, "COUNT", count)
        following, keys = await self._join(pack(words), True)
        return keys, None if following == b"0" else following

    async def ask_all(self, *words: str) -> list[Any]:
        try:
            return [await self._join(pack(words), True)]
        except StoreUnavailable:
            raise
        except StoreError:
            return [None]

    def watch(self, channel: str, tell: Callable[[Notice], None]) -> Callable[[], None]:
        return watch_awaiting(self._lent, channel, tell)

    async def _lent(self) -> Any:
        return self._line().pool.make_connection()

    def _send(self, script: Script, keys: tuple[str, ...], args: tuple[Any, ...]) -> "asyncio.Future[Any]":
        future = self._join(storable(pack, script.words(keys, args)), script.reads, script, keys, args)
        return future

    def _join(
        self,
        packed: bytes,
        reads: bool,
        script: Script | None = None,
        keys: tuple[str, ...] = (),
        args: tuple[Any, ...] = (),
    ) -> "asyncio.Future[Any]":
        if not self._health.well:
            self._health.admit()
        loop = asyncio.get_running_loop()
        line = self._lines.get(loop) or self._line()
        work = Work(packed, reads, self._retries, loop.create_future())
        if script is not None and script.source:
            work.script, work.keys, work.args = script, keys, args
        line.join(work)
        return work.future

    def _line(self) -> Line:
        if self._closed:
            raise UsageError(f"the store {self._settings.name} is closed")
        loop = asyncio.get_running_loop()
        if loop not in self._lines:
            take_ended(self._lines)
            self._lines[loop] = Line(loop, self._make(), self._settings)
        return self._lines[loop]

    def start_afresh(self) -> None:
        """After a fork: the connections are the parent's. They are neither used nor closed, which over TLS would be heard."""
        leave_behind(self._lines)
        self._lines = {}

    async def aclose(self, *, owned: bool) -> None:
        """Close the connections of this event loop; those of others go with their loops."""
        self._closed = True
        lines, self._lines = self._lines, {}
        line = lines.get(asyncio.get_running_loop())
        if line is not None:
            await line.close()
            if owned:
                await line.pool.disconnect()
                for sentinel in _sentinels(line.pool):
                    await sentinel.aclose()


def _sentinels(pool: Any) -> list[Any]:
    """The clients with which a pool asks where its server is: it does not close them itself."""
    return list(getattr(getattr(pool, "sentinel_manager", None), "sentinels", ()))


_ALL: "weakref.WeakSet[Any]" = weakref.WeakSet()
_LEFT_BEHIND: list[Any] = []
"""What a child process must not even close."""


def tell_of_forks(client: Any) -> None:
    """Call its `start_afresh` in every child, as long as it lives."""
    _ALL.add(client)


def leave_behind(connections: Any) -> None:
    """Keep the parent's connections from being closed by the garbage collector."""
    _LEFT_BEHIND.append(connections)


def _after_fork() -> None:
    for client in list(_ALL):
        client.start_afresh()


os.register_at_fork(after_in_child=_after_fork)
