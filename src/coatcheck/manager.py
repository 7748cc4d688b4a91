"""The faces: sessions for scripts and adapters, sync and async, one line a method over the same flows.

`SessionManager` runs every flow to its end (`core/stepping.py`); `AsyncSessionManager` awaits it. A store that cannot
serve a face says so when the face is built (`WrongFace`).
"""

import asyncio
import time as system
from collections.abc import Callable, Coroutine, Generator
from datetime import UTC, datetime
from types import TracebackType, coroutine
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, Self, cast

import msgspec

from coatcheck.core.events import Event
from coatcheck.core.ids import IdSource, Ticket
from coatcheck.core.options import Options
from coatcheck.core.ports import Backend, ByUser, Checks, Counts, EndedAll, Store, Sweeps
from coatcheck.core.record import Record
from coatcheck.core.session import BaseSession, CookieAction, Standing
from coatcheck.core.stepping import run_now
from coatcheck.core.typed import Schema
from coatcheck.errors import (
    ConfigurationError,
    CorruptRecord,
    LoginRefused,
    SessionGone,
    StoreError,
    UsageError,
)
from coatcheck.exchange import Arrival, Channel, Exchange
from coatcheck.lifecycle import Committed, Lifecycle
from coatcheck.stores import open_store

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    Model = TypeVar("Model", default=Any)
    T = TypeVar("T")
    S = TypeVar("S", bound="Session[Any]")
else:
    from typing import TypeVar

    Model, T, S = TypeVar("Model"), TypeVar("T"), TypeVar("S")

__all__ = [
    "AsyncSession",
    "AsyncSessionManager",
    "AsyncUserSessions",
    "Clock",
    "Device",
    "Session",
    "SessionManager",
    "UserSessions",
]

_WHY: Final = {
    SessionGone: "the session ended, or passed to another login, while this request was at work; its changes were dropped",
    LoginRefused: "this login may not be: the user's sessions were ended meanwhile, or the limit of sessions is reached",
}


class Clock(NamedTuple):
    """Where the time comes from. Tests inject their own."""

    time: Callable[[], float] = system.time
    monotonic: Callable[[], float] = system.monotonic


class Device(msgspec.Struct, frozen=True):
    """One of a user's sessions, for a device list. Nothing here opens anything."""

    handle: str
    user_id: str | None
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    authenticated_at: datetime | None
    method: str
    user_agent: str
    address: str
    """The network it logged in from, not the full address."""


def _device(record: Record) -> Device:
    login, authenticated = record.login, record.authenticated_at
    return Device(
        handle=record.key,
        user_id=record.user_id,
        created_at=datetime.fromtimestamp(record.created_at, UTC),
        last_seen_at=datetime.fromtimestamp(record.seen_at, UTC),
        expires_at=datetime.fromtimestamp(record.deadline, UTC),
        authenticated_at=None if authenticated is None else datetime.fromtimestamp(authenticated, UTC),
        method=login.method if login else "",
        user_agent=login.user_agent if login else "",
        address=login.address if login else "",
    )


class _Flows:
    """What both faces do, as coroutines over one store and one clock."""

    def __init__(self, store: Store, options: Options, clock: Clock, source: IdSource | None) -> None:
        self.lifecycle = Lifecycle(store, options, source=source)
        self.store, self.options, self.clock = store, options, clock

    async def open(self, session: BaseSession, ticket: Ticket | None) -> None:
        await self.lifecycle.open(session, ticket, self.clock.time())

    async def commit(self, session: BaseSession, *, only_logout: bool = False) -> CookieAction:
        """Commit; returns what the browser must be told, also of earlier `save()`s of this request."""
        await self._commit(session, only_logout=only_logout)
        return session._owed

    def _commit(self, session: BaseSession, *, only_logout: bool = False) -> Coroutine[Any, Any, Committed]:
        monotonic, began = self.clock.monotonic, session._began
        elapsed = float if session._login is None else lambda: monotonic() - began
        return self.lifecycle.commit(session, self.clock.time(), elapsed=elapsed, only_logout=only_logout)

    async def save(self, session: BaseSession) -> None:
        if session.is_new:
            session._announce("save() of a new session")
        committed = await self._commit(session)
        if committed.refused is not None:
            raise committed.refused(_WHY[committed.refused])

    async def destroy(self, session: BaseSession) -> None:
        session.logout()
        await self.save(session)

    async def reload(self, session: BaseSession) -> None:
        await self.lifecycle.reload(session, self.clock.time())

    async def take(self, session: BaseSession, key: str, default: Any) -> Any:
        return await self.lifecycle.take(session, key, default, self.clock.time())

    async def end_all(self, session: BaseSession, user_id: str | None, *, others_only: bool) -> int:
        """End the user's sessions from within a request: its own later login is then not caught by the fence it
        raised itself.
        """
        user = user_id if user_id is not None else _user_of(session)
        keep = session.handle if others_only else None
        ended = await self.lifecycle.end_user(user, self.clock.time(), keep=keep)
        session._own_fence = ended.fence
        return ended.count

    async def own_devices(self, session: BaseSession) -> list[Device]:
        return await self.devices(_user_of(session))

    async def end_device(self, session: BaseSession, handle: str) -> bool:
        return await self.end_one(_user_of(session), handle)

    async def devices(self, user_id: str) -> list[Device]:
        store: ByUser = self._ability(ByUser, "lists sessions by user")
        found, cursor = list[Device](), None
        while True:
            page = await store.of_user(user_id, now=self.clock.time(), cursor=cursor)
            found += map(_device, page.records)
            cursor = page.cursor
            if cursor is None:
                return found

    async def end_user(self, user_id: str, keep: str | None) -> EndedAll:
        return await self.lifecycle.end_user(user_id, self.clock.time(), keep=keep)

    async def end_one(self, user_id: str, handle: str) -> bool:
        return await self.lifecycle.end_one(user_id, handle, self.clock.time())

    async def end(self, handle: str) -> bool:
        return await self.lifecycle.end(handle, self.clock.time())

    async def find(self, handle: str) -> Device | None:
        found = await self.store.load(handle, now=self.clock.time())
        return _device(found) if isinstance(found, Record) else None

    async def count(self) -> int:
        store: Counts = self._ability(Counts, "counts its sessions")
        return await store.count(now=self.clock.time())

    async def sweep(self, limit: int) -> int:
        store: Sweeps = self._ability(Sweeps, "sweeps expired sessions")
        return await store.sweep(now=self.clock.time(), limit=limit)

    async def check(self) -> None:
        await self._ability(Checks, "can be checked").check()

    def _ability(self, ability: Any, what: str) -> Any:
        if not isinstance(self.store, ability):
            raise ConfigurationError(f"store={type(self.store).__name__}: this needs a store that {what}")
        return self.store


def _user_of(session: BaseSession) -> str:
    if session.user_id is None:
        raise UsageError("nobody is logged in here: log in first, or say whose sessions are meant")
    return session.user_id


class _Served(BaseSession, Generic[Model]):
    """A session that knows the request it belongs to."""

    _flows: _Flows
    _ticket: Ticket | None = None
    _exchange: Exchange | None = None
    _describe: Callable[[], Arrival] | None = None
    _channel: Channel | None = None
    _at = 0.0
    """When the request came, in seconds since the epoch."""
    _failure: Exception | None = None
    """Why there is no session here, or none to commit: told to whoever uses it, and to nobody else (checklist
    117).
    """

    @property
    def _schema(self) -> Schema | None:
        return self._flows.options.typed

    def _new_locator(self) -> str:
        return self._flows.lifecycle.new_locator()

    def _client(self) -> tuple[str, str]:
        return self._exchange.client(self._describe()) if self._exchange and self._describe else ("", "")

    def _failed(self, error: Exception) -> None:
        """This request gets no session, or keeps nothing of it, from here on: a store that is down is asked once."""
        self._failure = error
        if isinstance(error, StoreError):
            self._flows.options.on_event(Event("store.down", detail=str(error), at=self._flows.clock.time()))

    def _corrupted(self, error: CorruptRecord) -> None:
        self._flows.lifecycle.corrupted(self, str(error), self._flows.clock.time())

    if TYPE_CHECKING:

        @property
        def data(self) -> Model: ...


class Session(_Served[Model]):
    """A request's session in sync code. Loads itself on first access."""

    def _load(self) -> None:
        if self._failure is not None:
            raise self._failure
        try:
            run_now(self._flows.open(self, self._ticket))
        except StoreError as error:
            self._failed(error)
            raise

    def save(self) -> None:
        """Commit now. Raises SessionGone, LoginRefused, SessionConflict, StoreError; changes made later are committed
        later.
        """
        run_now(self._flows.save(self))

    def reload(self) -> None:
        """Forget this request's changes and read what is stored now. Raises SessionGone if the session has ended."""
        run_now(self._flows.reload(self))

    def destroy(self) -> None:
        """End the session now, on the server; the response clears the cookie."""
        run_now(self._flows.destroy(self))

    def take(self, key: str, default: Any = None) -> Any:
        """Remove a one-time value and return it: of all requests that try, at most one gets it."""
        return run_now(self._flows.take(self, key, default))

    def devices(self) -> list[Device]:
        """The sessions of this user, newest login first; this one has the same `handle`. Raises UsageError without a
        login.
        """
        return run_now(self._flows.own_devices(self))

    def end_device(self, handle: str) -> bool:
        """End one of this user's sessions, now. Returns whether it was there; another user's is not."""
        return run_now(self._flows.end_device(self, handle))

    def end_others(self) -> int:
        """End every other session of this user, now. Returns how many."""
        return run_now(self._flows.end_all(self, None, others_only=True))

    def end_all(self, user_id: str | None = None) -> int:
        """End every session of this user (or of `user_id`), this one too; `login()` afterwards begins a new one.
        Returns how many.
        """
        return run_now(self._flows.end_all(self, user_id, others_only=False))


class AsyncSession(_Served[Model]):
    """A request's session in async code: what needs the store is awaited."""

    def _load(self) -> None:
        if self._failure is not None:
            raise self._failure
        super()._load()

    async def load(self) -> Self:
        """Load a lazy session; does nothing to one that is loaded. Returns the session."""
        if self._standing is Standing.UNLOADED:
            if self._failure is not None:
                raise self._failure
            try:
                await self._flows.open(self, self._ticket)
            except StoreError as error:
                self._failed(error)
                raise
        return self

    async def save(self) -> None:
        """Commit now. Raises SessionGone, LoginRefused, SessionConflict, StoreError; changes made later are committed
        later.
        """
        await shielded(self._flows.save(self))

    async def reload(self) -> None:
        """Forget this request's changes and read what is stored now. Raises SessionGone if the session has ended."""
        await self._flows.reload(self)

    async def destroy(self) -> None:
        """End the session now, on the server; the response clears the cookie."""
        await shielded(self._flows.destroy(self))

    async def take(self, key: str, default: Any = None) -> Any:
        """Remove a one-time value and return it: of all requests that try, at most one gets it."""
        return await shielded(self._flows.take(self, key, default))

    async def devices(self) -> list[Device]:
        """The sessions of this user, newest login first; this one has the same `handle`. Raises UsageError without a
        login.
        """
        return await self._flows.own_devices(self)

    async def end_device(self, handle: str) -> bool:
        """End one of this user's sessions, now. Returns whether it was there; another user's is not."""
        return await shielded(self._flows.end_device(self, handle))

    async def end_others(self) -> int:
        """End every other session of this user, now. Returns how many."""
        return await shielded(self._flows.end_all(self, None, others_only=True))

    async def end_all(self, user_id: str | None = None) -> int:
        """End every session of this user (or of `user_id`), this one too; `login()` afterwards begins a new one.
        Returns how many.
        """
        return await shielded(self._flows.end_all(self, user_id, others_only=False))


class UserSessions:
    """The sessions of one user."""

    def __init__(self, flows: _Flows, user_id: str) -> None:
        self._flows, self.user_id = flows, user_id

    def list(self) -> list[Device]:
        """The live sessions, newest login first."""
        return run_now(self._flows.devices(self.user_id))

    def end_all(self, *, keep: str | None = None) -> int:
        """End them all, and every login under way; `keep` is the handle of one to spare. Returns how many.

        Within a request use `session.end_all()`: it lets that request's own `login()` through.
        """
        return run_now(self._flows.end_user(self.user_id, keep)).count

    def end(self, handle: str) -> bool:
        """End one, if it is this user's. Returns whether it was there."""
        return run_now(self._flows.end_one(self.user_id, handle))


class AsyncUserSessions:
    """The sessions of one user."""

    def __init__(self, flows: _Flows, user_id: str) -> None:
        self._flows, self.user_id = flows, user_id

    async def list(self) -> list[Device]:
        """The live sessions, newest login first."""
        return await self._flows.devices(self.user_id)

    async def end_all(self, *, keep: str | None = None) -> int:
        """End them all, and every login under way; `keep` is the handle of one to spare. Returns how many.

        Within a request use `session.end_all()`: it lets that request's own `login()` through.
        """
        return (await shielded(self._flows.end_user(self.user_id, keep))).count

    async def end(self, handle: str) -> bool:
        """End one, if it is this user's. Returns whether it was there."""
        return await shielded(self._flows.end_one(self.user_id, handle))


class SessionManager:
    """Sessions outside a request, in sync code. `store` is a URL or a store.

    Raises ConfigurationError or WrongFace when it is built.
    """

    def __init__(
        self,
        store: str | Backend | Store,
        *,
        options: Options | None = None,
        clock: Clock | None = None,
        ids: IdSource | None = None,
    ) -> None:
        self._backend = open_store(store) if isinstance(store, str) else store
        self._owns = isinstance(store, str)
        face = cast(Store, self._backend.blocking() if hasattr(self._backend, "blocking") else self._backend)
        self.flows = _Flows(face, options or Options(), clock or Clock(), ids)

    def session(self, ticket: Ticket | None = None) -> Session[Any]:
        """A session for one request, from the ticket of its cookie; loaded on first access."""
        return self.prepared(Session(), ticket)

    def prepared(self, session: S, ticket: Ticket | None) -> S:
        """The same for a framework's own kind of session."""
        session._flows, session._ticket, session._began = self.flows, ticket, self.flows.clock.monotonic()
        if ticket is None:
            session._standing = Standing.NEW
        return session

    def commit(self, session: Session[Any], *, only_logout: bool = False) -> CookieAction:
        """Commit a request's session; returns what to tell the browser."""
        return run_now(self.flows.commit(session, only_logout=only_logout))

    def of(self, user_id: object) -> UserSessions:
        """The sessions of one user."""
        return UserSessions(self.flows, str(user_id))

    def find(self, handle: str) -> Device | None:
        """One session by its handle; None if it is gone."""
        return run_now(self.flows.find(handle))

    def end(self, handle: str) -> bool:
        """End one session by its handle, whoever's it is. Returns whether it was there."""
        return run_now(self.flows.end(handle))

    def count(self) -> int:
        """How many sessions live."""
        return run_now(self.flows.count())

    def sweep(self, limit: int = 1000) -> int:
        """Delete up to `limit` expired sessions. Returns how many."""
        return run_now(self.flows.sweep(limit))

    def check(self) -> None:
        """Return if the store works; raise StoreUnavailable if not."""
        run_now(self.flows.check())

    def close(self) -> None:
        """Close a store that was opened from a URL; one that was handed in is its owner's to close."""
        if self._owns and hasattr(self._backend, "close"):
            self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncSessionManager:
    """Sessions outside a request, in async code. `store` is a URL or a store.

    Raises ConfigurationError or WrongFace when it is built.
    """

    def __init__(
        self,
        store: str | Backend | Store,
        *,
        options: Options | None = None,
        clock: Clock | None = None,
        ids: IdSource | None = None,
    ) -> None:
        self._backend = open_store(store) if isinstance(store, str) else store
        self._owns = isinstance(store, str)
        face = cast(Store, self._backend.awaiting() if hasattr(self._backend, "awaiting") else self._backend)
        self.flows = _Flows(face, options or Options(), clock or Clock(), ids)

    def session(self, ticket: Ticket | None = None) -> AsyncSession[Any]:
        """A session for one request, from the ticket of its cookie; `await session.load()` loads it."""
        session: AsyncSession[Any] = AsyncSession()
        session._flows, session._ticket, session._began = self.flows, ticket, self.flows.clock.monotonic()
        if ticket is None:
            session._standing = Standing.NEW
        return session

    async def commit(self, session: AsyncSession[Any], *, only_logout: bool = False) -> CookieAction:
        """Commit a request's session; returns what to tell the browser. Once a command was sent, not cancelled (rule
        12).
        """
        await shielded(self.flows._commit(session, only_logout=only_logout))
        return session._owed

    def of(self, user_id: object) -> AsyncUserSessions:
        """The sessions of one user."""
        return AsyncUserSessions(self.flows, str(user_id))

    async def find(self, handle: str) -> Device | None:
        """One session by its handle; None if it is gone."""
        return await self.flows.find(handle)

    async def end(self, handle: str) -> bool:
        """End one session by its handle, whoever's it is. Returns whether it was there."""
        return await shielded(self.flows.end(handle))

    async def count(self) -> int:
        """How many sessions live."""
        return await self.flows.count()

    async def sweep(self, limit: int = 1000) -> int:
        """Delete up to `limit` expired sessions. Returns how many."""
        return await self.flows.sweep(limit)

    async def check(self) -> None:
        """Return if the store works; raise StoreUnavailable if not."""
        await self.flows.check()

    async def close(self) -> None:
        """Close a store that was opened from a URL; one that was handed in is its owner's to close."""
        if self._owns and hasattr(self._backend, "close"):
            self._backend.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


_running: set[asyncio.Task[Any]] = set()
"""Commits whose request was cancelled: an event loop holds tasks only weakly."""


async def shielded(flow: Coroutine[Any, Any, T]) -> T:
    """Await a flow that must not stop half way: cancelling the caller leaves it running to its end (PROTOCOL rule
    12).

    A store that answers inline (memory, an idle SQLite file) never suspends, and then this is a function call: no
    task is made. Otherwise the rest of the flow moves into a task of its own at its first suspension, which is when
    its first command has been sent.
    """
    try:
        waiting = flow.send(None)
    except StopIteration as done:
        return cast(T, done.value)
    task = asyncio.ensure_future(_resumed(flow, waiting))
    _running.add(task)
    task.add_done_callback(_running.discard)
    return await asyncio.shield(task)


@coroutine
def _resumed(flow: Coroutine[Any, Any, T], waiting: Any) -> Generator[Any, Any, T]:
    """Go on with a flow that has yielded `waiting`, as `yield from` would."""
    try:
        while True:
            try:
                sent = yield waiting
            except BaseException as error:  # thrown in by the loop: the flow's to handle
                waiting = flow.throw(error)
            else:
                waiting = flow.send(sent)
    except StopIteration as done:
        return cast(T, done.value)
