"""Sessions outside a request, and for adapters: sync and async, one line a method over the same flows.

`SessionManager` runs every flow to its end (`core/stepping.py`); `AsyncSessionManager` awaits it. A store that cannot
serve a face says so when the face is built (`WrongFace`).
"""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, cast

from coatcheck.core.identity import identified
from coatcheck.core.ids import IdSource, Ticket
from coatcheck.core.options import Options
from coatcheck.core.outage import Outage
from coatcheck.core.ports import Backend, Notice, Resealed, Store
from coatcheck.core.session import CookieAction, Standing, UserId, user_text
from coatcheck.core.stepping import run_now
from coatcheck.errors import ConfigurationError
from coatcheck.faces import AsyncSession, Session
from coatcheck.flows import Clock, Device, Flows, shielded
from coatcheck.stores import open_store
from coatcheck.watching import Watching

__all__ = ["AsyncSessionManager", "AsyncUserSessions", "SessionManager", "UserSessions"]


def _backend_of(store: str | Backend | Store, outage: Outage | None) -> Backend | Store:
    """The store a user meant. `outage` goes with a URL; one of a kind that has no server has no use for it, so that an
    application may read its store from the environment, and keep its sessions in memory in tests.
    """
    if isinstance(store, str):
        return open_store(store, outage=outage)
    if outage is not None:
        name = type(store).__name__
        raise ConfigurationError(
            f"outage=Outage(…) is for a store that is given as a URL; {name} keeps its own: give it there, if it has a server"
        )
    return store


class UserSessions:
    """The sessions of one user."""

    def __init__(self, flows: Flows, user_id: str) -> None:
        self._flows, self.user_id = flows, user_id

    def list(self) -> list[Device]:
        """The live sessions, newest login first."""
        return run_now(self._flows.devices(self.user_id))

    def end_all(self, *, keep: str | None = None) -> int:
        """End them all, and every login under way; `keep` is the handle of one to spare. Returns how many.

        Within a request use `session.end_all()`: it lets that request's own `login()` through.
        """
        return run_now(self._flows.end_user(self.user_id, keep)).count

    def export(self) -> dict[str, Any]:
        """Everything that is kept of this user, as JSON can say it (GDPR article 15). `end_all()` erases it."""
        return run_now(self._flows.export(self.user_id))

    def end(self, handle: str) -> bool:
        """End one, if it is this user's. Returns whether it was there."""
        return run_now(self._flows.end_one(self.user_id, handle))


class AsyncUserSessions:
    """The sessions of one user."""

    def __init__(self, flows: Flows, user_id: str) -> None:
        self._flows, self.user_id = flows, user_id

    async def list(self) -> list[Device]:
        """The live sessions, newest login first."""
        return await self._flows.devices(self.user_id)

    async def end_all(self, *, keep: str | None = None) -> int:
        """End them all, and every login under way; `keep` is the handle of one to spare. Returns how many.

        Within a request use `session.end_all()`: it lets that request's own `login()` through.
        """
        return (await shielded(self._flows.end_user(self.user_id, keep))).count

    async def export(self) -> dict[str, Any]:
        """Everything that is kept of this user, as JSON can say it (GDPR article 15). `end_all()` erases it."""
        return await self._flows.export(self.user_id)

    async def end(self, handle: str) -> bool:
        """End one, if it is this user's. Returns whether it was there."""
        return await shielded(self._flows.end_one(self.user_id, handle))


class SessionManager:
    """Sessions outside a request, in sync code. `store` is a URL or a store; `outage` says what one that is opened from a URL
    does when its server is slow or away; `kind` is the class of the sessions it makes, where a framework has one of its own.

    Raises ConfigurationError or WrongFace when it is built.
    """

    def __init__(
        self,
        store: str | Backend | Store,
        *,
        options: Options | None = None,
        outage: Outage | None = None,
        clock: Clock | None = None,
        ids: IdSource | None = None,
        kind: type[Session[Any]] = Session,
    ) -> None:
        self._url, self._outage = store if isinstance(store, str) else None, outage
        self._backend = _backend_of(store, outage)
        face = cast(Store, self._backend.blocking() if hasattr(self._backend, "blocking") else self._backend)
        options = options or Options()
        archives = options.olds.blocking() if options.olds is not None else ()
        self.flows = Flows(face, options, clock or Clock(), ids, archives)
        self._kind = identified(kind, self.flows.options.identity)
        self._watching = Watching(face)

    def session(self, ticket: Ticket | None = None) -> Session[Any]:
        """A session for one request, from the ticket of its cookie; loaded on first access."""
        session = self._kind()
        session._flows, session._ticket, session._began = self.flows, ticket, self.flows.clock.monotonic()
        if ticket is None:
            session._standing = Standing.NEW
        return session

    def commit(self, session: Session[Any], *, only_logout: bool = False) -> CookieAction:
        """Commit a request's session; returns what to tell the browser."""
        run_now(self.flows._commit_logout(session) if only_logout else self.flows._commit(session))
        return session._owed

    def of(self, user_id: UserId) -> UserSessions:
        """The sessions of one user. Raises UsageError for what names nobody, such as None."""
        return UserSessions(self.flows, user_text(user_id))

    def find(self, handle: str) -> Device | None:
        """One session by its handle; None if it is gone."""
        return run_now(self.flows.find(handle))

    def end(self, handle: str) -> bool:
        """End one session by its handle, whoever's it is. Returns whether it was there."""
        return run_now(self.flows.end(handle))

    def end_everyone(self) -> None:
        """End every session of everybody, anonymous ones and tokens too, and every login under way: one write, however many
        there are. Every process knows within 5 seconds (`coatcheck.eras.LAG`); those logins are refused, or end with
        the rest.
        """
        run_now(self.flows.end_everyone())

    def count(self) -> int:
        """How many sessions the store keeps. After `end_everyone()` those it ended are counted until they expire."""
        return run_now(self.flows.count())

    def sweep(self, limit: int = 1000) -> int:
        """Delete up to `limit` expired sessions. Returns how many."""
        return run_now(self.flows.sweep(limit))

    def reseal(self, cursor: object = None, *, limit: int = 1000) -> Resealed:
        """Encrypt about `limit` records anew, with the newest secret of `Encrypted(…, secret=[NEW, OLD])`. Go on with the
        `cursor` of what it returns until that is None; then OLD can go. An interrupted one is begun again.
        """
        return run_now(self.flows.reseal(cursor, limit))

    def check(self) -> None:
        """Return if the store works; raise StoreUnavailable if not."""
        run_now(self.flows.check())

    def setup(self) -> None:
        """Make the tables and indexes that the store needs; nothing happens with one that needs none, or has them. Safe to call
        again, and from several processes at once.
        """
        run_now(self.flows.setup())

    def watch(self, tell: Callable[[Notice], None], *, handle: str | None = None) -> Callable[[], None]:
        """Have `tell` called when a session is ended, whichever process ends it; returns what stops it. See `Watching`."""
        return self._watching.listen(tell, handle)

    def close(self) -> None:
        """Close a store that was opened from a URL; one that was handed in is its owner's to close."""
        self._watching.stop()
        run_now(self.flows.close())
        if self._url is not None and hasattr(self._backend, "close"):
            self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncSessionManager:
    """Sessions outside a request, in async code. `store` is a URL or a store; `outage` says what one that is opened from a URL
    does when its server is slow or away; `kind` is the class of the sessions it makes, where a framework has one of its own.

    Raises ConfigurationError or WrongFace when it is built.
    """

    def __init__(
        self,
        store: str | Backend | Store,
        *,
        options: Options | None = None,
        outage: Outage | None = None,
        clock: Clock | None = None,
        ids: IdSource | None = None,
        kind: type[AsyncSession[Any]] = AsyncSession,
    ) -> None:
        self._store, self._url, self._outage = store, store if isinstance(store, str) else None, outage
        self._settings = (options or Options(), clock or Clock(), ids)
        self._kind = identified(kind, self._settings[0].identity)
        self._begin()

    def _begin(self) -> None:
        self._backend, self._closed = _backend_of(self._store, self._outage), False
        face = cast(Store, self._backend.awaiting() if hasattr(self._backend, "awaiting") else self._backend)
        options, clock, ids = self._settings
        archives = options.olds.awaiting() if options.olds is not None else ()
        self.flows = Flows(face, options, clock, ids, archives)
        self._monotonic = self.flows.clock.monotonic
        self._watching = Watching(face)

    def session(self, ticket: Ticket | None = None) -> AsyncSession[Any]:
        """A session for one request, from the ticket of its cookie; `await session.load()` loads it."""
        kind, monotonic = self._kind, self._monotonic
        session = kind()
        session._flows, session._ticket, session._began = self.flows, ticket, monotonic()
        if ticket is None:
            session._standing = Standing.NEW
        return session

    async def commit(self, session: AsyncSession[Any], *, only_logout: bool = False) -> CookieAction:
        """Commit a request's session; returns what to tell the browser. Once a command was sent, not cancelled (rule
        12).
        """
        await shielded(self.flows.commit(session, only_logout=only_logout))
        return session._owed

    def of(self, user_id: UserId) -> AsyncUserSessions:
        """The sessions of one user. Raises UsageError for what names nobody, such as None."""
        return AsyncUserSessions(self.flows, user_text(user_id))

    async def find(self, handle: str) -> Device | None:
        """One session by its handle; None if it is gone."""
        return await self.flows.find(handle)

    async def end(self, handle: str) -> bool:
        """End one session by its handle, whoever's it is. Returns whether it was there."""
        return await shielded(self.flows.end(handle))

    async def end_everyone(self) -> None:
        """End every session of everybody, anonymous ones and tokens too, and every login under way: one write, however many
        there are. Every process knows within 5 seconds (`coatcheck.eras.LAG`); those logins are refused, or end with
        the rest.
        """
        await shielded(self.flows.end_everyone())

    async def count(self) -> int:
        """How many sessions the store keeps. After `end_everyone()` those it ended are counted until they expire."""
        return await self.flows.count()

    async def sweep(self, limit: int = 1000) -> int:
        """Delete up to `limit` expired sessions. Returns how many."""
        return await self.flows.sweep(limit)

    async def reseal(self, cursor: object = None, *, limit: int = 1000) -> Resealed:
        """Encrypt about `limit` records anew, with the newest secret of `Encrypted(…, secret=[NEW, OLD])`. Go on with the
        `cursor` of what it returns until that is None; then OLD can go. An interrupted one is begun again.
        """
        return await self.flows.reseal(cursor, limit)

    async def check(self) -> None:
        """Return if the store works; raise StoreUnavailable if not."""
        await self.flows.check()

    async def setup(self) -> None:
        """Make the tables and indexes that the store needs; nothing happens with one that needs none, or has them. Safe to call
        again, and from several processes at once.
        """
        await self.flows.setup()

    def watch(self, tell: Callable[[Notice], None], *, handle: str | None = None) -> Callable[[], None]:
        """Have `tell` called when a session is ended, whichever process ends it; returns what stops it. See `Watching`."""
        return self._watching.listen(tell, handle)

    async def close(self) -> None:
        """Close a store that was opened from a URL; one that was handed in is its owner's to close."""
        self._watching.stop()
        await self.flows.close()
        self._closed = self.flows.options.olds is not None
        if self._url is None:
            return
        if hasattr(self._backend, "aclose"):
            self._closed = True
            await self._backend.aclose()
        elif hasattr(self._backend, "close"):
            self._closed = True
            self._backend.close()

    def _reopen(self) -> bool:
        """Open the store again, after `close()` has closed it: an application may be started anew in the same process. Returns
        whether that was so.
        """
        closed = self._closed
        if closed:
            self._begin()
        return closed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
