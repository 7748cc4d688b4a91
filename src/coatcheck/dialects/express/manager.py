"""Sessions outside a request, sync and async: one line a method over the same flows."""

from typing import Any

from coatcheck.core.origin import Arrival
from coatcheck.core.ports import Checks, SetsUp
from coatcheck.core.stepping import run_now
from coatcheck.dialects.express import visits
from coatcheck.dialects.express.faces import AsyncExpressSession, ExpressSession
from coatcheck.dialects.express.flow import Flow
from coatcheck.dialects.express.ports import Lists, Prunes
from coatcheck.errors import ConfigurationError

__all__ = ["AsyncExpressManager", "ExpressManager"]

_NOBODY = Arrival("https", b"", b"", "/", "")
"""The request of whoever works outside of one."""


class _Store:
    """What a store can do, as flows of their own."""

    def __init__(self, flow: Flow) -> None:
        self.flow, self.store = flow, flow.store

    def ability(self, kind: Any, what: str) -> Any:
        """The store, if it can. Raises ConfigurationError if not."""
        if not isinstance(self.store, kind):
            raise ConfigurationError(f"store={type(self.store).__name__}: this needs a store that {what}")
        return self.store

    async def all(self) -> list[str]:
        """The id of every session."""
        store, now = self.ability(Lists, "lists its sessions"), self.flow.options.clock.time()
        found = await store.names(now=now)
        sids = list(found.sids)
        while found.cursor is not None:
            found = await store.names(now=now, cursor=found.cursor)
            sids += found.sids
        return list(dict.fromkeys(sids))

    async def length(self) -> int:
        """How many live."""
        store: Lists = self.ability(Lists, "counts its sessions")
        return await store.length(now=self.flow.options.clock.time())

    async def prune(self, limit: int) -> int:
        """Delete some that are over."""
        store: Prunes = self.ability(Prunes, "prunes what is over")
        return await store.prune(now=self.flow.options.clock.time(), limit=limit)


class ExpressManager:
    """Sessions outside a request, in sync code."""

    def __init__(self, flow: Flow) -> None:
        self.flow, self._store = flow, _Store(flow)

    def load(self, sid: str) -> ExpressSession | None:
        """A session by its id, to read, change and `save()`; None if there is none."""
        session = visits.arrive(self.flow, ExpressSession, _NOBODY)
        run_now(self.flow.open(session, sid, session._new_cookie))
        return None if session.is_new else session

    def named(self, cookies: str) -> ExpressSession | None:
        """The session that a Cookie header names; None if there is none, or the cookie is not genuine."""
        sid = visits.named(self.flow, cookies.encode("utf-8"))
        return None if sid is None else self.load(sid)

    def destroy(self, sid: str) -> None:
        """Destroy a session."""
        run_now(self.flow._destroy(sid))

    def all(self) -> list[str]:
        """The ids of all sessions: each is the secret of somebody's cookie."""
        return run_now(self._store.all())

    def length(self) -> int:
        """How many sessions live."""
        return run_now(self._store.length())

    def clear(self) -> None:
        """Destroy every session."""
        run_now(self._store.ability(Lists, "lists its sessions").clear())

    def prune(self, limit: int = 1000) -> int:
        """Delete up to `limit` sessions that are over. Returns how many."""
        return run_now(self._store.prune(limit))

    def check(self) -> None:
        """Return if the store works; raise StoreUnavailable if not."""
        run_now(self._store.ability(Checks, "can be checked").check())

    def setup(self) -> None:
        """Make the table and indexes that the store's package makes; nothing happens with one that needs none, or has them."""
        if isinstance(self._store.store, SetsUp):
            run_now(self._store.store.setup())


class AsyncExpressManager:
    """Sessions outside a request, in async code."""

    def __init__(self, flow: Flow) -> None:
        self.flow, self._store = flow, _Store(flow)

    async def load(self, sid: str) -> AsyncExpressSession | None:
        """A session by its id, to read, change and `save()`; None if there is none."""
        session = visits.arrive(self.flow, AsyncExpressSession, _NOBODY)
        await self.flow.open(session, sid, session._new_cookie)
        return None if session.is_new else session

    async def named(self, cookies: str) -> AsyncExpressSession | None:
        """The session that a Cookie header names; None if there is none, or the cookie is not genuine."""
        sid = visits.named(self.flow, cookies.encode("utf-8"))
        return None if sid is None else await self.load(sid)

    async def destroy(self, sid: str) -> None:
        """Destroy a session."""
        await self.flow._destroy(sid)

    async def all(self) -> list[str]:
        """The ids of all sessions: each is the secret of somebody's cookie."""
        return await self._store.all()

    async def length(self) -> int:
        """How many sessions live."""
        return await self._store.length()

    async def clear(self) -> None:
        """Destroy every session."""
        await self._store.ability(Lists, "lists its sessions").clear()

    async def prune(self, limit: int = 1000) -> int:
        """Delete up to `limit` sessions that are over. Returns how many."""
        return await self._store.prune(limit)

    async def check(self) -> None:
        """Return if the store works; raise StoreUnavailable if not."""
        await self._store.ability(Checks, "can be checked").check()

    async def setup(self) -> None:
        """Make the table and indexes that the store's package makes; nothing happens with one that needs none, or has them."""
        if isinstance(self._store.store, SetsUp):
            await self._store.store.setup()
