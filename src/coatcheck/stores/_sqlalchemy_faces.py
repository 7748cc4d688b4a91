"""What each face of a store runs its jobs on: an engine of the application's, or engines of our own, opened by URL.

Every store on SQLAlchemy has one of these, whatever its tables are.
"""

from collections.abc import Callable
from typing import NoReturn

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from coatcheck.core.outage import Outage
from coatcheck.errors import ConfigurationError, WrongFace
from coatcheck.stores._health import ConnectionEvent, Health
from coatcheck.stores._sqlalchemy_client import Awaiting, Blocking, Engines
from coatcheck.stores._sqlalchemy_engines import AwaitingEngines, BlockingEngines, GivenEngine
from coatcheck.stores._sqlalchemy_runner import Runner, manner_of
from coatcheck.stores._sqlalchemy_url import Pair, parsed

__all__ = ["Faces"]


class Faces:
    """The clients of one store, each made when its face is asked for. `target`: an Engine, an AsyncEngine, or a URL.

    Raises ConfigurationError for a target that is none of these, and for a `pool_size` that is no number.
    """

    def __init__(
        self,
        target: object,
        *,
        outage: Outage | None = None,
        pool_size: int = 10,
        on_connection: Callable[[ConnectionEvent], None] | None = None,
    ) -> None:
        if type(pool_size) is not int or pool_size < 1:
            raise ConfigurationError(f"pool_size={pool_size!r}: give a whole number, 1 or more")
        self._outage, self._on_connection = outage or Outage(), on_connection
        self._pool_size = pool_size
        self._given: Engine | AsyncEngine | None = None
        self._pair: Pair | None = None
        self.opened: list[BlockingEngines] = []
        self.opened_async: list[AwaitingEngines] = []
        self._client: Awaiting | None = None
        if isinstance(target, (Engine, AsyncEngine)):
            self._given = target
            self.shown, self.dialect = target.url.render_as_string(hide_password=True), target.dialect.name
        elif isinstance(target, str):
            self._pair = parsed(target)
            some = self._pair.blocking or self._pair.awaiting
            assert some is not None
            self.shown, self.dialect = self._pair.shown, some.get_dialect().name
        else:
            raise ConfigurationError(
                f"store: a {type(target).__name__} is no engine; give SQLAlchemy's Engine or AsyncEngine, or a URL"
            )

    def blocking(self) -> Blocking:
        """A client whose methods never suspend. Raises WrongFace if there is no blocking driver."""
        engines, runner = self._for_threads()
        return Blocking(runner, engines)

    def _for_threads(self) -> tuple[Engines, Runner]:
        if isinstance(self._given, Engine):
            runner = self._runner(self._given, own=False)
            return GivenEngine(self._given, runner.manner), runner
        url = self._pair and self._pair.blocking
        if url is None:
            self._wrong_face("blocks", "Engine", "AsyncSessionManager")
        engines = BlockingEngines(url, self._outage, self._pool_size)
        self.opened.append(engines)
        return engines, self._runner(engines.engine(), own=True)

    def awaiting(self) -> Awaiting:
        """A client for event loops, any number of them. Raises WrongFace if there is no awaiting driver."""
        engines, runner = self._for_loops()
        # An engine of the application's keeps its own time, and so does an SQLite file.
        limits = self._given is None and self.dialect != "sqlite"
        self._client = Awaiting(runner, engines, limits=limits)
        return self._client

    def _for_loops(self) -> tuple[Engines, Runner]:
        if isinstance(self._given, AsyncEngine):
            runner = self._runner(self._given.sync_engine, own=False)
            return GivenEngine(self._given.sync_engine, runner.manner), runner
        url = self._pair and self._pair.awaiting
        if url is None:
            self._wrong_face("awaits", "AsyncEngine", "SessionManager")
        engines = AwaitingEngines(url, self._outage, self._pool_size)
        self.opened_async.append(engines)
        return engines, self._runner(engines.pattern, own=True)

    def _runner(self, engine: Engine, *, own: bool) -> Runner:
        health = Health(self.shown, self._outage, on_connection=self._on_connection)
        return Runner(self.shown, health, self._outage, manner_of(engine, own=own))

    def _wrong_face(self, does: str, kind: str, other: str) -> NoReturn:
        given = (
            f"there is no driver that {does} for {self.shown}"
            if self._given is None
            else f"a {type(self._given).__name__} was given"
        )
        raise WrongFace(f"store: {given}; give an {kind}, a URL with such a driver, or use {other}")

    def close(self) -> None:
        """Close what the sync face opened by URL."""
        for engines in self.opened:
            engines.close()

    async def aclose(self) -> None:
        """Close what the running event loop opened by URL, once what is under way is done."""
        if self._client is not None:
            await self._client.finish()
        for engines in self.opened_async:
            await engines.aclose()
