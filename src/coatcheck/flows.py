"""What both faces do, as coroutines over one store and one clock; and how an event loop's face runs them to their end."""

import time as system
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from datetime import UTC, datetime
from functools import partial
from types import coroutine
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast

import msgspec

from coatcheck._eventloop import is_cancellation, sleep
from coatcheck.adopting import adopt_with
from coatcheck.commands import asked
from coatcheck.core.adoption import Archive
from coatcheck.core.clients import described
from coatcheck.core.ids import IdSource, Ticket
from coatcheck.core.options import Options
from coatcheck.core.ports import ByUser, Checks, Counts, EndedAll, Resealed, Reseals, SetsUp, Store, Sweeps
from coatcheck.core.record import Record
from coatcheck.core.session import BaseSession, CookieAction, UserId, user_text
from coatcheck.errors import ConfigurationError, LoginRefused, SessionGone, UsageError
from coatcheck.lifecycle import Committed, Lifecycle

if TYPE_CHECKING:
    import asyncio

__all__ = ["Clock", "Device", "Flows", "begun", "shielded", "started"]

T = TypeVar("T")

_WHY: Final = {
    SessionGone: "the session ended, or passed to another login, while this request was at work; its changes were dropped",
    LoginRefused: "this login may not be: the user's sessions were ended meanwhile, or the limit of sessions is reached",
}


class Clock(NamedTuple):
    """Where the time comes from. Tests inject their own."""

    time: Callable[[], float] = system.time
    monotonic: Callable[[], float] = system.monotonic
    sleep: Callable[[float], Awaitable[None]] = sleep
    """How an event loop waits so many seconds: for what is done now and then, never for a request."""


class Device(msgspec.Struct, frozen=True):
    """One of a user's sessions, for a device list. Nothing here opens anything."""

    handle: str
    user_id: str | None
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    authenticated_at: datetime | None
    """When the user proved who they are; None if the login was only remembered (`method="remembered"`)."""
    method: str
    user_agent: str
    address: str
    """The network it was last seen from, not the full address."""
    amr: tuple[str, ...] = ()
    """By which methods the user has proved who they are, all of them (RFC 8176)."""
    browser: str = ""
    """What the user agent says it is, for people: "Firefox on Windows"; "" if it says nothing we know."""
    provider_session: str = ""
    """The session of a provider that it was logged in from (`sid` of OpenID Connect); "" if there is none."""


def _device(record: Record, *, is_forgotten: bool) -> Device:
    login, authenticated = record.login, record.proved_at
    client = None if is_forgotten else login
    return Device(
        handle=str(record.key),
        user_id=record.user_id,
        created_at=datetime.fromtimestamp(record.created_at, UTC),
        last_seen_at=datetime.fromtimestamp(record.seen_at, UTC),
        expires_at=datetime.fromtimestamp(record.deadline, UTC),
        authenticated_at=None if authenticated is None else datetime.fromtimestamp(authenticated, UTC),
        method=login.method if login else "",
        user_agent=client.user_agent if client else "",
        address=client.address if client else "",
        amr=login.methods if login else (),
        browser=described(client.user_agent) if client else "",
        provider_session=login.provider_session if login else "",
    )


class Flows:
    """What both faces do, as coroutines over one store and one clock."""

    def __init__(
        self,
        store: Store,
        options: Options,
        clock: Clock,
        source: IdSource | None,
        archives: Sequence[Archive | None] = (),
    ) -> None:
        """`archives`: where the old sessions are that are to be adopted, as this face reaches them."""
        self.lifecycle = Lifecycle(store, options, source=source, monotonic=clock.monotonic)
        self.store, self.options, self.clock, self._archives = store, options, clock, archives
        self.rules, self._time = self.lifecycle.rules, clock.time
        if options.olds is not None:
            adopt_with(self.lifecycle, options.olds, archives)

    def open(self, session: BaseSession, ticket: Ticket | None) -> Coroutine[Any, Any, None]:
        time = self._time
        return self.lifecycle.open(session, ticket, time())

    async def commit(self, session: BaseSession, *, only_logout: bool = False) -> CookieAction:
        """Commit; returns what the browser must be told, also of earlier `save()`s of this request."""
        await (self._commit_logout(session) if only_logout else self._commit(session))
        return session._owed

    def _commit(self, session: BaseSession) -> Coroutine[Any, Any, Committed]:
        time = self._time
        return self.lifecycle.commit(session, time())

    def _commit_logout(self, session: BaseSession) -> Coroutine[Any, Any, Committed]:
        return self.lifecycle.commit_logout(session, self.clock.time())

    async def save(self, session: BaseSession) -> None:
        session._may_store()
        if session.is_new:
            session._announce("save() of a new session")
        committed = await self._commit(session)
        if committed.is_full:
            raise LoginRefused("the limit of sessions of this user is reached (max_sessions)", "limit")
        if committed.refused is not None:
            raise committed.refused(_WHY[committed.refused])

    async def destroy(self, session: BaseSession) -> None:
        session.logout()
        await self.save(session)

    async def reload(self, session: BaseSession) -> None:
        await self.lifecycle.reload(session, self.clock.time())

    async def take(self, session: BaseSession, key: str, default: Any) -> Any:
        return await self.lifecycle.take(session, key, default, self.clock.time())

    async def end_all(self, session: BaseSession, user_id: UserId | None, *, others_only: bool) -> int:
        """End the user's sessions from within a request: its own later login is then not caught by the fence it
        raised itself.
        """
        user = _user_of(session) if user_id is None else user_text(user_id)
        keep = session.handle if others_only else None
        ended = await self.lifecycle.end_user(user, self.clock.time(), keep=keep)
        session._own_fence = ended.fence
        return ended.count

    async def try_factor(self, session: BaseSession, limit: int) -> bool:
        return await self.lifecycle.try_factor(session, limit, self.clock.time())

    async def own_devices(self, session: BaseSession) -> list[Device]:
        return await self.devices(_user_of(session))

    async def end_device(self, session: BaseSession, handle: str) -> bool:
        return await self.end_one(_user_of(session), handle)

    async def devices(self, user_id: str) -> list[Device]:
        self._ability(ByUser, "lists sessions by user")
        return [self._device(record) for record in await self.lifecycle.of_user(user_id, self.clock.time())]

    async def export(self, user_id: str) -> dict[str, Any]:
        sessions = await self.lifecycle.of_user(user_id, self.clock.time())
        return {"user_id": user_id, "sessions": [self._exported(record) for record in sessions]}

    def _exported(self, record: Record) -> dict[str, Any]:
        """Everything that is kept of a session, but for what only proves who holds it: the verifier's digest, and versions."""
        plain: dict[str, Any] = msgspec.to_builtins(self._device(record))
        lifetime = None if record.lifetime is None else msgspec.to_builtins(record.lifetime)
        return {**plain, "lifetime": lifetime, "data": msgspec.json.decode(record.data)}

    def _device(self, record: Record) -> Device:
        return _device(record, is_forgotten=self.rules.forgets(record, self.clock.time()))

    async def end_user(self, user_id: str, keep: str | None) -> EndedAll:
        return await self.lifecycle.end_user(user_id, self.clock.time(), keep=keep)

    async def end_one(self, user_id: str, handle: str) -> bool:
        return await self.lifecycle.end_one(user_id, handle, self.clock.time())

    async def end_everyone(self) -> None:
        await self.lifecycle.end_everyone(self.clock.time())

    async def end(self, handle: str) -> bool:
        return await self.lifecycle.end(handle, self.clock.time())

    async def find(self, handle: str) -> Device | None:
        found = await self.lifecycle.stored(handle, self.clock.time())
        return None if found is None else self._device(found)

    async def count(self) -> int:
        store: Counts = self._ability(Counts, "counts its sessions")
        now, eras = self.clock.time(), self.lifecycle.eras
        number = await asked(lambda: store.count(now=now))
        await eras.catch_up(now)
        return number - (eras.number > 0)  # the era is kept beside the sessions, and is none

    async def sweep(self, limit: int) -> int:
        store: Sweeps = self._ability(Sweeps, "sweeps expired sessions")
        return await store.sweep(now=self.clock.time(), limit=limit)

    async def reseal(self, cursor: object, limit: int) -> Resealed:
        """Seal some records with the newest key."""
        store: Reseals = self._ability(Reseals, "encrypts its records: Encrypted(…, secret=[NEW, OLD])")
        now, version = self.clock.time(), self.lifecycle._ids.version
        return await store.reseal(now=now, version=version, cursor=cursor, limit=limit)

    async def check(self) -> None:
        await self._ability(Checks, "can be checked").check()

    async def setup(self) -> None:
        if isinstance(self.store, SetsUp):
            await self.store.setup()

    async def close(self) -> None:
        """Close what was opened for old sessions."""
        for archive in self._archives:
            if archive is not None:
                await archive.close()

    def _ability(self, ability: Any, what: str) -> Any:
        if not isinstance(self.store, ability):
            if self.lifecycle.carrier is not None:
                raise self.lifecycle.carrier.lacks(what)
            raise ConfigurationError(f"store={type(self.store).__name__}: this needs a store that {what}")
        return self.store


def _user_of(session: BaseSession) -> str:
    if session.user_id is None:
        raise UsageError("nobody is logged in here: log in first, or say whose sessions are meant")
    return session.user_id


_running: "set[asyncio.Task[Any]]" = set()
"""Flows whose request was cancelled: an event loop holds tasks only weakly."""


@coroutine
def shielded(flow: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Await a flow that must not stop half way: cancelling the caller leaves it running to its end (PROTOCOL rule
    12).

    A store that answers inline (memory, an idle SQLite file) never suspends, and then this is a function call. Otherwise the
    caller waits for a future that only stands for the one the flow waits for, so that cancelling it cancels nothing else; the
    rest of the flow moves into a task of its own when that happens, and not before: a task for each commit, and a shield around
    it, were a tenth of a write on Redis.
    """
    try:
        waiting = flow.send(None)
        while True:
            try:
                yield from _deputy(waiting)
            except BaseException as error:
                if is_cancellation(error):
                    _go_on(_resumed(flow, waiting))
                else:  # the loop is closing down
                    flow.close()
                raise
            waiting = flow.send(None)
    except StopIteration as done:
        return cast(T, done.value)


def begun(flow: Coroutine[Any, Any, object]) -> Awaitable[object] | None:
    """The same, begun at once: the flow has run to its end (None), or this may be awaited, or not."""
    rest = started(flow)
    if rest is None:
        return None
    import asyncio

    return asyncio.shield(_go_on(rest))


def started(flow: Coroutine[Any, Any, object]) -> Awaitable[object] | None:
    """Begin a flow. None: it has run to its end; else the rest of it, for one task to await, and no matter which."""
    try:
        waiting = flow.send(None)
    except StopIteration:
        return None
    _set_aside(waiting)
    return _resumed(flow, waiting)


def _set_aside(waiting: Any) -> bool:
    """Take back that a task is to wait for this. False: it is nothing that can be waited for in another's place."""
    if not getattr(waiting, "_asyncio_future_blocking", False):
        return False
    waiting._asyncio_future_blocking = False
    return True


def _deputy(waiting: Any) -> Generator[Any, Any, None]:
    """Wait until what the flow waits for is done, without letting a cancellation through to it."""
    if not _set_aside(waiting):
        yield waiting  # a bare yield: somebody gives way
        return
    deputy = waiting.get_loop().create_future()
    waiting.add_done_callback(partial(_wake, deputy))
    yield from deputy


def _wake(deputy: "asyncio.Future[None]", _: object) -> None:
    if not deputy.done():
        deputy.set_result(None)


def _go_on(rest: Awaitable[T]) -> "asyncio.Task[T]":
    """The rest of a flow, in a task of its own."""
    import asyncio

    task = asyncio.ensure_future(rest)
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task


@coroutine
def _resumed(flow: Coroutine[Any, Any, T], waiting: Any) -> Generator[Any, Any, T]:
    """Go on with a flow that has yielded `waiting`, as `yield from` would."""
    try:
        while True:
            if getattr(waiting, "_asyncio_future_blocking", None) is False:  # it was set aside
                waiting._asyncio_future_blocking = True
            try:
                sent = yield waiting
            except BaseException as error:  # thrown in by the loop: the flow's to handle
                waiting = flow.throw(error)
            else:
                waiting = flow.send(sent)
    except StopIteration as done:
        return cast(T, done.value)
