"""The clients of one store: made for each face when it first asks, and closed together."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from coatcheck.core.outage import Outage
from coatcheck.errors import WrongFace
from coatcheck.stores._health import Health
from coatcheck.stores._redis_awaiting import Awaiting
from coatcheck.stores._redis_client import Blocking, Settings
from coatcheck.stores._redis_cluster import AwaitingCluster, BlockingCluster
from coatcheck.stores._redis_direct import DirectLine
from coatcheck.stores._redis_pooled import PooledLine
from coatcheck.stores._redis_url import Source

__all__ = ["Link"]

Wait = tuple[int, float]
"""Replicas to be waited for, and seconds."""
Clients = tuple[Any, Any]
"""For everything, and for what is to be with the replicas: the same one, unless they are waited for."""


class Link:
    """Two faces' clients over one source of connections."""

    def __init__(self, source: Source, health: Health, outage: Outage, wait: Wait | None = None) -> None:
        self._source = source
        self._outage = outage
        self._health = health
        self._wait = wait
        self._blocking: list[Any] = []
        self._awaiting: list[Any] = []

    def blocking(self) -> Clients:
        """Blocking clients. Raises WrongFace if the application gave an awaiting one."""
        if self._source.blocking is None:
            raise self._wrong_face("of redis.asyncio", "sync", "redis.Redis")
        kind = BlockingCluster if self._source.kind == "cluster" else Blocking
        self._blocking = self._each(kind, self._source.blocking)
        return self._blocking[0], self._blocking[-1]

    def awaiting(self) -> Clients:
        """Awaiting clients. Raises WrongFace if the application gave a blocking one."""
        if self._source.awaiting is None:
            raise self._wrong_face("that blocks", "async", "redis.asyncio.Redis")
        kind = AwaitingCluster if self._source.kind == "cluster" else Awaiting
        line = DirectLine if self._source.is_direct else PooledLine
        self._awaiting = self._each(partial(kind, line), self._source.awaiting)
        return self._awaiting[0], self._awaiting[-1]

    def _wrong_face(self, which: str, face: str, fitting: str) -> WrongFace:
        store, name = self._source.store, self._source.name
        return WrongFace(
            f"{store} around a client {which} ({name}) cannot serve the {face} face: give it a {fitting}, or use"
            f" {store}.from_url(…), which serves both"
        )

    def _each(self, kind: Callable[..., Any], make: Callable[[float], Any]) -> list[Any]:
        waits = [None] if self._wait is None else [None, self._wait]
        return [self._one(kind, make, wait) for wait in waits]

    def _one(self, kind: Callable[..., Any], make: Callable[[float], Any], wait: Wait | None) -> Any:
        outage, owned = self._outage, self._source.owned
        patience = cast(float, outage.command_timeout) + (wait[1] if wait else 0.0)
        settings = Settings(
            self._source.name,
            self._health,
            retries=outage.retries,
            connect_timeout=cast(float, outage.connect_timeout) if owned else None,
            patience=patience if owned else None,
            wait=wait,
            owned=owned,
        )
        return kind(partial(make, patience), settings)

    def close(self) -> None:
        """Close what the sync face opened."""
        for client in self._blocking:
            client.close(owned=self._source.owned)

    async def aclose(self) -> None:
        """Close what event loops opened, and the rest."""
        for client in self._awaiting:
            await client.aclose(owned=self._source.owned)
        self.close()
