"""Where limits count, and what happens when that cannot be reached."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Literal, TypeVar

from coatcheck.core.events import Event, EventName, Listener, listening
from coatcheck.core.outage import Outage
from coatcheck.core.ports import Backend, Store, Tallies
from coatcheck.errors import ConfigurationError, StoreError, UsageError
from coatcheck.faces import AsyncSession
from coatcheck.flows import Clock
from coatcheck.stores import open_store
from coatcheck.stores.memory import MemoryStore
from coatcheck.throttling.visitor import Nobody, Served

__all__ = ["Backing", "WhenDown"]

T = TypeVar("T")
WhenDown = Literal["refuse", "allow", "local"]
_POLICIES: Final = ("refuse", "allow", "local")
_URL_ONLY: Final = "outage=Outage(…) is for a store that is given as a URL"


class Backing:
    """The counters of one limit: those of its own store, or of the store that the request's session is in.

    `when_down`: "refuse" (HTTP 503), "allow", or "local": count in this process, as long as it lasts.
    """

    def __init__(
        self,
        store: str | Backend | Store | None,
        when_down: WhenDown,
        *,
        outage: Outage | None = None,
        clock: Clock | None = None,
        on_event: Listener | Sequence[Listener] | None = None,
    ) -> None:
        if when_down not in _POLICIES:
            raise ConfigurationError(
                f"when_down={when_down!r}: give one of {', '.join(map(repr, _POLICIES))}"
            )
        if outage is not None and not isinstance(store, str):
            raise ConfigurationError(_URL_ONLY)
        self._backend: Any = open_store(store, outage=outage) if isinstance(store, str) else store
        self._owns = isinstance(store, str)
        self._clock, self._when_down = clock, when_down
        self._on_event = None if on_event is None else listening(on_event)
        self._local = MemoryStore() if when_down == "local" else None
        if self._backend is not None and not hasattr(self._backend, "awaiting"):
            _insist(self._backend)

    def __repr__(self) -> str:
        return f"<Backing {self._backend!r}>" if self._backend is not None else "<Backing of each session>"

    def now(self, session: Served | Nobody | None) -> float:
        """What time it is, for this limit."""
        clock = self._clock or (session._flows.clock if session is not None else _SYSTEM)
        return clock.time()

    def tell(self, session: Served | Nobody | None, name: EventName, detail: str) -> None:
        """Tell of an event: to a listener of its own, or to those of the session."""
        event = Event(name, detail=detail, at=self.now(session))
        if self._on_event is not None:
            self._on_event(event)
        elif session is not None:
            session._flows.options.tell(event)

    def tallies(self, session: Served | Nobody | None, *, awaits: bool) -> Tallies:
        """The counters, for one face. Raises ConfigurationError for a store that has none, and UsageError for the wrong face."""
        if self._backend is not None:
            backend = self._backend
            if hasattr(backend, "awaiting"):
                backend = backend.awaiting() if awaits else backend.blocking()
            return _insist(backend)
        if session is None:
            raise UsageError("no request, and no store: give the limit a store of its own")
        if not awaits and isinstance(session, AsyncSession):
            raise UsageError(
                "this session's store is awaited: say `async with`, or `await`, in an `async def`; or give the limit a store="
            )
        flows = getattr(session, "_aflows", session._flows) if awaits else session._flows
        return _insist(flows.store)

    async def count(
        self, session: Served | Nobody | None, *, awaits: bool, flow: Callable[[Tallies], Awaitable[T]]
    ) -> T | None:
        """Do something with the counters. If they cannot be reached, what `when_down` says; None: it was let pass."""
        try:
            return await flow(self.tallies(session, awaits=awaits))
        except StoreError as error:
            self.tell(session, "limiter.down", f"{error} ({self._when_down})")
            if self._when_down == "refuse":
                raise
        return None if self._local is None else await flow(self._local)

    def close(self) -> None:
        """Close what the sync face opened of a store that was given as a URL."""
        if self._owns and hasattr(self._backend, "close"):
            self._backend.close()

    async def aclose(self) -> None:
        """Close what event loops opened of a store that was given as a URL."""
        if self._owns and hasattr(self._backend, "aclose"):
            await self._backend.aclose()
        else:
            self.close()


_SYSTEM: Final = Clock()


def _insist(store: Any) -> Tallies:
    if isinstance(store, Tallies):
        return store
    raise ConfigurationError(
        f"{type(store).__name__} has no counters (Tallies): give the limit a store= of its own, such as 'redis://…', or 'memory:'"
        " for an application of one process"
    )
