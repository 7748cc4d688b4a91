"""The stores whose growth is measured: each opened empty, with a way to fill it and to ask how much room it takes."""

import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    closing,
    contextmanager,
)
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import mean
from typing import Protocol

import redis

from coatcheck.core.outage import Outage
from coatcheck.core.ports import ByUser, Store, Sweeps
from coatcheck.core.stepping import run_now
from coatcheck.stores.memory import MemoryStore
from coatcheck.stores.postgres import PostgresStore
from coatcheck.stores.redis import RedisStore
from coatcheck.stores.sqlite import SQLiteStore
from servers import postgres as postgres_server
from servers import redis as redis_server
from servers.postgres import psql

PATIENT = Outage(command_timeout=60.0, connect_timeout=10.0)
"""For filling: many wait for one server, and nobody waits for them."""
SAMPLED = 200


class Stored(Store, ByUser, Sweeps, Protocol):
    """A store with the abilities this asks for."""


@dataclass(frozen=True)
class Site:
    """A store of one size."""

    store: Stored
    """What is timed. It blocks: nothing but the store and its server is in the figures."""
    filling: Callable[[], AbstractAsyncContextManager[Stored]]
    """The same sessions through a store that many can ask at once."""
    octets: Callable[[int], dict[str, float]]
    """Octets a session, when so many are stored, by the way of counting."""
    settle: Callable[[], object] = lambda: None
    """Have the server do now what it would else do while it is timed."""


@dataclass(frozen=True)
class Kind:
    """A kind of store.

    Args:
        opened: an empty one, in a directory that may be used, with room for so many sessions.
        clock: what a call is timed by: CPU seconds of this process, or seconds, where a server works meanwhile.
        walks: its sweep looks at every session there is.
    """

    opened: Callable[[Path, int], AbstractContextManager[Site]]
    clock: Callable[[], float]
    walks: bool = False


@contextmanager
def memory(place: Path, capacity: int) -> Iterator[Site]:
    """A memory store."""
    before = resident()
    store = MemoryStore(max_sessions=capacity).blocking()
    yield Site(store, lambda: itself(store), lambda count: {"resident": (resident() - before) / count})


@contextmanager
def sqlite(place: Path, capacity: int) -> Iterator[Site]:
    """An SQLite store; checkpoints are in the figures."""
    place.mkdir(parents=True)
    file = place / "sessions.db"
    with SQLiteStore(file) as backend:
        store = backend.blocking()
        yield Site(store, lambda: itself(store), lambda count: {"file": size_of(file) / count})


@contextmanager
def redis_store(place: Path, capacity: int) -> Iterator[Site]:
    """A Redis server of its own, nothing kept on disk."""
    with (
        redis_server(place) as server,
        RedisStore.from_url(server.url) as backend,
        redis.Redis(port=server.port) as client,
    ):
        before = int(client.info("memory")["used_memory"])

        def octets(count: int) -> dict[str, float]:
            used = int(client.info("memory")["used_memory"]) - before
            keys = list(islice(client.scan_iter("coatcheck:s:*", count=SAMPLED), SAMPLED))
            return {
                "used_memory": used / count,
                "MEMORY USAGE of the record": mean(client.memory_usage(key, samples=0) or 0 for key in keys),
            }

        yield Site(backend.blocking(), lambda: redis_filling(server.url), octets)


@asynccontextmanager
async def redis_filling(url: str) -> AsyncIterator[Stored]:
    """The awaiting store of a URL, patient."""
    backend = RedisStore.from_url(url, outage=PATIENT)
    yield backend.awaiting()
    await backend.aclose()


@contextmanager
def postgres_store(place: Path, capacity: int) -> Iterator[Site]:
    """A PostgreSQL server of its own. Nothing waits for the disk: it would hide whether anything grows."""
    with (
        postgres_server(place, "fsync=off") as server,
        closing(PostgresStore.from_url(server.url)) as backend,
    ):
        run_now(backend.blocking().setup())

        def octets(count: int) -> dict[str, float]:
            kinds = {"table and indexes": "pg_total_relation_size", "table alone": "pg_table_size"}
            asked = {name: psql(server, f"SELECT {ask}('coatcheck_session')") for name, ask in kinds.items()}
            return {name: int(answer) / count for name, answer in asked.items()}

        yield Site(
            backend.blocking(),
            lambda: postgres_filling(server.url),
            octets,
            lambda: [psql(server, what) for what in ("VACUUM (ANALYZE) coatcheck_session", "CHECKPOINT")],
        )


@asynccontextmanager
async def postgres_filling(url: str) -> AsyncIterator[Stored]:
    """The awaiting store of a URL, patient."""
    backend = PostgresStore.from_url(url, outage=PATIENT)
    yield backend.awaiting()
    await backend.aclose()


@asynccontextmanager
async def itself(store: Stored) -> AsyncIterator[Stored]:
    """A store that needs nobody else to fill it."""
    yield store


# One line a store.
STORES: dict[str, Kind] = {
    "memory": Kind(memory, time.process_time),
    "sqlite": Kind(sqlite, time.process_time),
    "redis": Kind(redis_store, time.perf_counter, walks=True),
    "postgres": Kind(postgres_store, time.perf_counter),
}


def resident() -> int:
    """Return the octets of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def size_of(file: Path) -> int:
    """Return the octets of an SQLite file, its log moved into it."""
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return file.stat().st_size
