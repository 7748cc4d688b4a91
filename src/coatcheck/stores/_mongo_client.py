"""Two ways to send a command to MongoDB: blocking, and on an event loop. And what the driver raises, translated.

Everything goes through the driver's `Database.command`, one document out and one in. It costs less than `find_one` and its like
(`make bench`), and the driver never repeats what is sent that way, whatever `retryWrites` says. That is wanted: a repetition by
the driver would take a second time-out, a standalone server could not tell it from a second write, and `commands.py` recognises
a write of its own by the version it left, on any server.

So: a command that never left is sent again, `outage.retries` times; one that only reads also when the connection broke; one
that was sent and not answered is `ReplyLost`.
"""

import asyncio
import logging
import os
import threading
import time
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError, InvalidBSON
from pymongo import AsyncMongoClient, MongoClient, ReadPreference, timeout
from pymongo import errors as theirs
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.read_concern import ReadConcern

from coatcheck.core.ports import Notice
from coatcheck.errors import (
    ConfigurationError,
    CorruptRecord,
    ReplyLost,
    SessionError,
    StoreError,
    StoreUnavailable,
    UsageError,
)
from coatcheck.stores._health import Health
from coatcheck.stores._loops import take_ended
from coatcheck.stores._mongo_commands import Document

__all__ = ["DOCUMENTS", "Awaiting", "Blocking", "Client", "Codec", "Place", "Tell"]

Tell = Callable[[Notice], None]

_logger: Final = logging.getLogger("coatcheck")
OLDEST: Final = 9
"""The wire version of MongoDB 4.4. Older ones cannot do some of what is asked, and are no longer cared for by anybody."""
DUPLICATE: Final = 11000
_NOT_CARRIED_OUT: Final = frozenset({10058, 10107, 13435, 13436})
"""What a server that is not the primary answers before it looks at a command. Other such errors interrupt one under way."""
_LOGIN_REFUSED: Final = frozenset({18, 8000})
_NOT_ALLOWED: Final = 13
_TOO_LARGE: Final = frozenset({10334, 17280, 17419, 17420})
_TOO_MUCH: Final = "the session is larger than the 16 MB of a document: keep less in it"
_NO_CHANGE_STREAMS: Final = 40573
_NO_SUCH_COMMAND: Final = 59
Codec = CodecOptions[Any]
"""What becomes of BSON in an answer."""
# A stored date beyond Python's must not spoil the document that it stands in.
DOCUMENTS: Final[Codec] = CodecOptions(
    document_class=dict, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)
_FAILURES: Final = (theirs.PyMongoError, BSONError, OverflowError, UnicodeError)
"""What the driver raises. (A RuntimeError is about the event loop: the application's mistake.)"""
_NO_ANSWER: Final = (
    theirs.ConnectionFailure,
    theirs.ExecutionTimeout,
    theirs.WTimeoutError,
    theirs.ProtocolError,  # an answer to something else, or none at all: the driver has closed the connection
)
ENDED: Final[list[Document]] = [
    {"$match": {"operationType": "update", "updateDescription.updatedFields.k": 2}},
    {"$project": {"documentKey": 1}},
]
LONG: Final = 3600.0
"""Seconds for a command that walks along a whole index, or makes one."""
PAUSE: Final = 1.0
"""Seconds until a watch that was lost is tried again."""
LONG_PAUSE: Final = 30.0
"""The same where the server cannot be watched at all: somebody may make it a replica set."""
_WATCHING: Final = Notice("watching")
_LOST: Final = Notice("lost")


class Client(Protocol):
    """What the store asks of a client. Each method raises SessionErrors only."""

    async def run(self, command: Document, reads: bool = False) -> Document:
        """Send a command, and return the server's answer. `reads`: it changes nothing, and may be sent again.

        An insert that found something there is an answer too (`writeErrors`), not an exception.
        """
        ...

    async def run_long(self, command: Document) -> Document:
        """Send a command that may take minutes, and may be sent again."""
        ...

    def watch(self, collection: str, tell: Tell) -> Callable[[], None]:
        """Tell of each tombstone that is put into a collection; returns what stops it."""
        ...


class Place:
    """Where the sessions are, as both clients need to know it: the database, how patient to be, how the server is doing."""

    def __init__(
        self,
        name: str,
        database: str,
        health: Health,
        retries: int,
        command_timeout: float | None,
        codec: Codec = DOCUMENTS,
    ) -> None:
        self.name = name
        """The URL as it may be shown."""
        self.database = database
        self.health = health
        self.attempts = tuple(range(retries, -1, -1))
        """How many are left, at each."""
        self.command_timeout = command_timeout
        self.codec = codec
        """What answers are made of."""

    def failed(self, error: BaseException, reads: bool) -> SessionError:
        """What to raise for what the driver raised."""
        ours = _translated(error, self.name)
        if isinstance(ours, StoreUnavailable):
            if not isinstance(error, theirs.WaitQueueTimeoutError):
                self.health.failed(error)
            if reads and isinstance(ours, ReplyLost):
                return StoreUnavailable(str(ours))
        elif isinstance(error, theirs.OperationFailure):
            self.health.worked()
        return ours

    def checked(self, reply: Document) -> Document:
        """The reply, if the server did what it was told. Raises for a part of it that failed."""
        if not self.health.well:
            self.health.worked()
        if "writeConcernError" in reply:
            said = reply["writeConcernError"].get("errmsg", "")
            raise ReplyLost(
                f"{self.name}: written, and not confirmed by a majority of the replica set: {said}"
            )
        for wrong in reply.get("writeErrors", ()):
            if wrong.get("code") != DUPLICATE:
                # Without errInfo: a validator of the collection's names the document there, and its key may be a secret.
                said = {part: wrong[part] for part in wrong if part != "errInfo"}
                error = theirs.WriteError(str(wrong.get("errmsg")), wrong.get("code"), said)
                raise _translated(error, self.name) from error
        return reply

    def accept(self, hello: Document) -> None:
        """Raise ConfigurationError for a server that is too old."""
        if hello.get("maxWireVersion", 0) < OLDEST:
            raise ConfigurationError(_too_old(self.name))

    def patience(self, socket_timeout: float | None) -> int:
        """Milliseconds for which the server may keep a watch waiting: the driver does not wait longer than for any command."""
        known = self.command_timeout or socket_timeout
        return 2_000 if known is None else max(1, min(2_000, int(known * 500)))


class Blocking:
    """Sends each command from the calling thread, and waits. `make` makes the driver's client, when it is first needed.

    Never suspends.
    """

    def __init__(self, place: Place, make: Callable[[], MongoClient[Document]], *, owns: bool) -> None:
        self._place, self._make, self._owns = place, make, owns
        self._health, self._attempts = place.health, place.attempts
        self._lock = threading.Lock()
        self._client: MongoClient[Document] | None = None
        self._command: Callable[..., Document] | None = None
        self._closed = False
        self._watches: set[threading.Event] = set()
        _tell_of_forks(self)

    def start_afresh(self) -> None:
        """After a fork: connections are the parent's. They are kept, unused, or the driver would complain."""
        self._lock = threading.Lock()
        self._watches = set()
        if self._owns and self._client is not None:
            _parents.append(self._client)
            self._client = self._command = None

    async def run(self, command: Document, reads: bool = False) -> Document:
        """Send a command."""
        for left in self._attempts:
            if not self._health.well:
                self._health.admit()
            try:
                send = self._command or self._opened().command
                reply = send(command, codec_options=self._place.codec)
            except _FAILURES as error:
                if left and _may_go_again(error, reads):
                    continue
                raise self._place.failed(error, reads) from error
            return self._place.checked(reply)
        raise AssertionError("there is at least one attempt")

    async def run_long(self, command: Document) -> Document:
        """Send a command that may take minutes."""
        with timeout(LONG):
            return await self.run(command, True)

    def _opened(self) -> Database[Document]:
        with self._lock:
            if self._closed:
                raise UsageError(f"{self._place.name}: this store is closed")
            if self._client is None:
                self._client = self._make()
            database = self._client[self._place.database]
        try:
            self._place.accept(database.command("hello"))
        except theirs.OperationFailure as error:
            raise _greeted(error, self._place.name) from error
        self._command = database.command
        return database

    def watch(self, collection: str, tell: Tell) -> Callable[[], None]:
        """Watch in a thread."""
        stopped = threading.Event()
        self._watches.add(stopped)
        threading.Thread(
            target=self._follow, args=(collection, tell, stopped), name="coatcheck-watch", daemon=True
        ).start()

        def stop() -> None:
            stopped.set()
            self._watches.discard(stopped)

        return stop

    def _follow(self, collection: str, tell: Tell, stopped: threading.Event) -> None:
        pause = 0.0
        while not stopped.wait(pause):
            try:
                self._listen(_watched(self._opened(), collection), tell, stopped)
                pause = PAUSE
            except (*_FAILURES, SessionError) as error:
                if stopped.is_set():
                    return
                pause = _pause(error, self._place.name)
            if not stopped.is_set():
                tell(_LOST)

    def _listen(self, collection: Collection[Document], tell: Tell, stopped: threading.Event) -> None:
        patience = self._place.patience(collection.database.client.options.pool_options.socket_timeout)
        pulse = _Pulse(tell)
        with collection.watch(ENDED, max_await_time_ms=patience) as stream:
            while stream.alive and not stopped.is_set():
                pulse.beat()
                change = stream.try_next()
                if change is not None and not stopped.is_set():
                    tell(Notice("ended", str(change["documentKey"]["_id"])))

    def close(self) -> None:
        """Stop watching, and close the driver's client if it is ours."""
        for stopped in tuple(self._watches):
            stopped.set()
        with self._lock:
            client, self._client, self._command, self._closed = self._client, None, None, True
        if client is not None and self._owns:
            client.close()


class Awaiting:
    """Sends each command from the running event loop. A driver's client lives on one loop, so each loop has its own.

    A command runs in a task of its own, which goes on when whoever waited for it is cancelled: a request that a browser gave up.
    The driver would close the connection, so that nobody gets a reply that is not theirs, and make another, with TLS and all; and
    it forgets one that was only being made (4.20), or its place in the pool, until that is empty (4.13). The task costs 5 to 10%.
    """

    def __init__(self, place: Place, make: Callable[[], AsyncMongoClient[Document]], *, owns: bool) -> None:
        self._place, self._make, self._owns = place, make, owns
        self._health, self._attempts = place.health, place.attempts
        self._commands: dict[asyncio.AbstractEventLoop, Callable[..., Awaitable[Document]]] = {}
        self._clients: dict[asyncio.AbstractEventLoop, AsyncMongoClient[Document]] = {}
        self._closed = False
        self._watches: dict[asyncio.Task[None], threading.Event] = {}
        _tell_of_forks(self)

    def start_afresh(self) -> None:
        """After a fork: loops and connections are the parent's."""
        if self._owns:
            _parents.extend(self._clients.values())
        self._clients, self._commands, self._watches = {}, {}, {}

    async def run(self, command: Document, reads: bool = False) -> Document:
        """Send a command."""
        for left in self._attempts:
            if not self._health.well:
                self._health.admit()
            try:
                send = self._commands.get(asyncio.get_running_loop()) or (await self._opened()).command
                reply = await asyncio.shield(send(command, codec_options=self._place.codec))
            except _FAILURES as error:
                if left and _may_go_again(error, reads):
                    continue
                raise self._place.failed(error, reads) from error
            except RuntimeError as error:
                if self._owns or isinstance(error, SessionError):
                    raise
                raise UsageError(
                    f"{self._place.name}: an AsyncMongoClient works on one event loop only, and this is another: give each loop"
                    " a store of its own, or use from_url, which does"
                ) from error
            return self._place.checked(reply)
        raise AssertionError("there is at least one attempt")

    async def run_long(self, command: Document) -> Document:
        """Send a command that may take minutes."""
        with timeout(LONG):
            return await self.run(command, True)

    async def _opened(self) -> AsyncDatabase[Document]:
        if self._closed:
            raise UsageError(f"{self._place.name}: this store is closed")
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            self._forget_loops()
            client = self._clients[loop] = self._make()
        database = client[self._place.database]
        try:
            self._place.accept(await database.command("hello"))
        except theirs.OperationFailure as error:
            raise _greeted(error, self._place.name) from error
        self._commands[loop] = database.command
        return database

    def _forget_loops(self) -> None:
        """Those that are closed: what ran on them cannot be closed any more, only dropped."""
        take_ended(self._commands)
        take_ended(self._clients)

    def watch(self, collection: str, tell: Tell) -> Callable[[], None]:
        """Watch in a task of the running loop."""
        stopped = threading.Event()
        task = asyncio.get_running_loop().create_task(
            self._follow(collection, tell, stopped), name="coatcheck-watch"
        )
        self._watches[task] = stopped
        task.add_done_callback(lambda task: self._watches.pop(task, None))

        def stop() -> None:
            stopped.set()  # the driver now and then swallows a cancellation: then the task ends after its next answer
            task.cancel()

        return stop

    async def _follow(self, collection: str, tell: Tell, stopped: threading.Event) -> None:
        while not stopped.is_set():
            try:
                await self._listen(_watched(await self._opened(), collection), tell, stopped)
                pause = PAUSE
            except (*_FAILURES, SessionError) as error:
                if stopped.is_set():
                    return
                pause = _pause(error, self._place.name)
            if not stopped.is_set():
                tell(_LOST)
                await asyncio.sleep(pause)

    async def _listen(
        self, collection: AsyncCollection[Document], tell: Tell, stopped: threading.Event
    ) -> None:
        patience = self._place.patience(collection.database.client.options.pool_options.socket_timeout)
        pulse = _Pulse(tell)
        async with await collection.watch(ENDED, max_await_time_ms=patience) as stream:
            while stream.alive and not stopped.is_set():
                pulse.beat()
                change = await stream.try_next()
                if change is not None and not stopped.is_set():
                    tell(Notice("ended", str(change["documentKey"]["_id"])))

    async def aclose(self) -> None:
        """Stop watching, and close the driver's client of the running loop, and of others that have ended."""
        self._closed = True
        loop = asyncio.get_running_loop()
        watches = [task for task in self._watches if task.get_loop() is loop]
        for task in watches:
            self._watches[task].set()
            task.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
        self._commands = {}
        if self._owns:
            self._forget_loops()
            client = self._clients.pop(loop, None)
            if client is not None:
                await client.close()


class _Pulse:
    """Says that the watch works: at once, and then every second that the server answers."""

    def __init__(self, tell: Tell) -> None:
        self._tell, self._next = tell, 0.0

    def beat(self) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + 1.0
            self._tell(_WATCHING)


# ------------------------------------------------------------------------------------------------------- translation


def _may_go_again(error: BaseException, reads: bool) -> bool:
    """Whether a command can be sent again at once: it never left, or it only reads. Never after a time-out."""
    if isinstance(error, (theirs.NetworkTimeout, theirs.ServerSelectionTimeoutError)):
        return False
    return isinstance(error, theirs.AutoReconnect) and (reads or _never_left(error))


def _never_left(error: theirs.AutoReconnect) -> bool:
    if isinstance(error, theirs.NotPrimaryError):
        return _code(error) in _NOT_CARRIED_OUT
    return isinstance(error.__cause__, ConnectionRefusedError)


def _code(error: theirs.NotPrimaryError) -> object:
    return error.details.get("code") if isinstance(error.details, dict) else None


def _translated(error: BaseException, name: str) -> SessionError:
    """What the driver raised, as ours; in this one place."""
    if isinstance(error, (theirs.ServerSelectionTimeoutError, theirs.WaitQueueTimeoutError)):
        return StoreUnavailable(f"{name}: no server to send to: {_short(error)}")
    if isinstance(error, theirs.AutoReconnect) and _never_left(error):
        return StoreUnavailable(f"{name} is not reached: {_short(error)}")
    if isinstance(error, _NO_ANSWER):
        return ReplyLost(f"{name} did not answer: {_short(error)}")
    if isinstance(error, theirs.ConfigurationError):
        return _misconfigured(error, name)
    if isinstance(error, theirs.OperationFailure):
        return StoreError(_refusal(error, name))
    if isinstance(error, theirs.InvalidOperation):
        return StoreError(f"{name}: {_short(error)}")
    if isinstance(error, theirs.DocumentTooLarge):
        return StoreError(f"{name}: {_TOO_MUCH}")
    if isinstance(error, InvalidBSON):
        return CorruptRecord(f"{name}: what is stored cannot be read: {_short(error)}")
    return StoreError(f"{name} cannot keep this: {type(error).__name__}: {_short(error)}")


def _misconfigured(error: theirs.ConfigurationError, name: str) -> SessionError:
    """The driver looks a `mongodb+srv:` name up as late as this: DNS that does not answer is an outage like any other."""
    if "wire version" in str(error):
        return ConfigurationError(_too_old(name))
    if name.startswith("mongodb+srv:"):
        return StoreUnavailable(f"{name}: its servers are not found: {_short(error)}")
    return ConfigurationError(f"{name}: {_short(error)}")


def _greeted(error: theirs.OperationFailure, name: str) -> SessionError:
    """A server from before `hello` is too old; any other refusal is what it would be at any time."""
    return ConfigurationError(_too_old(name)) if error.code == _NO_SUCH_COMMAND else _translated(error, name)


def _refusal(error: theirs.OperationFailure, name: str) -> str:
    if error.code in _LOGIN_REFUSED:
        return f"{name}: the server knows no such user and password: check the URL, and authSource= in it"
    if error.code == _NOT_ALLOWED:
        return f"{name}: the database user may not do this: give it the role readWrite ({_short(error)})"
    if error.code in _TOO_LARGE:
        return f"{name}: {_TOO_MUCH}"
    return f"{name}: {_short(error)}"


def _too_old(name: str) -> str:
    return f"{name}: this MongoDB is too old: it takes 4.4 or newer"


def _short(error: BaseException) -> str:
    """What it says, without the pages of topology that the driver appends."""
    return str(error).partition(", Timeout:")[0].partition(", full error:")[0][:500]


# ---------------------------------------------------------------------------------------------------------- watching


def _watched(database: Any, collection: str) -> Any:
    """The collection as a watch needs it, whatever the application's client is set to."""
    return database.get_collection(
        collection,
        codec_options=DOCUMENTS,
        read_preference=ReadPreference.PRIMARY,
        read_concern=ReadConcern("majority"),
    )


def _pause(error: BaseException, name: str) -> float:
    """Seconds until it is tried again; says in the log what is wrong if that does not pass by itself."""
    if isinstance(error, theirs.OperationFailure) and error.code == _NO_CHANGE_STREAMS:
        _logger.warning(
            "%s is a standalone server, and cannot tell of ended sessions; make it a replica set, if only of one: start it"
            " with --replSet rs0, and run rs.initiate() once",
            name,
        )
        return LONG_PAUSE
    if isinstance(error, (StoreUnavailable, theirs.ConnectionFailure)):
        return PAUSE
    _logger.warning("%s: ended sessions are not told of: %s", name, _short(error))
    return LONG_PAUSE


# ------------------------------------------------------------------------------------------------------------ forks

_clients: "weakref.WeakSet[Blocking | Awaiting]" = weakref.WeakSet()
_parents: list[object] = []
"""What this process may neither use nor close."""


def _tell_of_forks(client: "Blocking | Awaiting") -> None:
    _clients.add(client)


def _start_afresh() -> None:
    for client in list(_clients):
        client.start_afresh()


os.register_at_fork(after_in_child=_start_afresh)
