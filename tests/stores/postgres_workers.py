"""Processes of their own for the tests of the PostgreSQL store: `python -m tests.stores.postgres_workers WHAT URL ...`."""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from coatcheck import AsyncSessionManager
from coatcheck.core.ports import SAVED
from coatcheck.core.record import Login
from coatcheck.core.stepping import run_now
from coatcheck.stores.postgres import PostgresStore
from tests.stores.sqlite_workers import IDS, NOW, increment, record


def setup(url: str, table: str, at: str) -> None:
    """Set up at a moment that the others do too, then use it."""
    backend = PostgresStore.from_url(url, table=table)
    while time.time() < float(at):
        pass
    store = backend.blocking()
    run_now(store.setup())
    assert run_now(store.create(record(), now=NOW)) is SAVED
    backend.close()


def increments(url: str, table: str, key: str, face: str, writers: str) -> None:
    """Add one, `writers` times at once."""
    backend = PostgresStore.from_url(url, table=table)
    if face == "awaiting":

        async def all_of_them() -> None:
            await asyncio.gather(*(increment(backend.awaiting(), key) for _ in range(int(writers))))
            await backend.aclose()

        asyncio.run(all_of_them())
        return
    from concurrent.futures import ThreadPoolExecutor

    store = backend.blocking()
    with ThreadPoolExecutor(int(writers)) as pool:
        list(pool.map(lambda _: run_now(increment(store, key)), range(int(writers))))
    backend.close()


def fork(url: str, table: str, face: str) -> None:
    """Use the store, fork, use it in both, close it in the parent, go on in the child."""
    backend = PostgresStore.from_url(url, table=table)

    def save(key: str) -> None:
        if face == "blocking":
            assert run_now(backend.blocking().create(record(key), now=NOW)) is SAVED
            return

        async def once() -> None:
            assert await backend.awaiting().create(record(key), now=NOW) is SAVED

        asyncio.run(once())

    save("before")
    to_child, to_parent = os.pipe(), os.pipe()
    if (child := os.fork()) == 0:
        save("child-1")
        os.write(to_parent[1], b"1")
        os.read(to_child[0], 1)
        save("child-2")
        os._exit(0)
    os.read(to_parent[0], 1)
    save("parent")
    backend.close()
    os.write(to_child[1], b"1")
    assert os.waitpid(child, 0)[1] == 0


# ------------------------------------------------------------------------------------ races, through the whole library


async def race(url: str, table: str, at: str, what: str, *args: str) -> None:
    """Do `what` ten times at once, beginning at a moment that another process begins, too."""
    backend = PostgresStore.from_url(url, table=table)
    try:
        await backend.awaiting().check()  # connected
        await asyncio.sleep(max(0.0, float(at) - time.time()))
        await RACES[what](backend, *args)
    finally:
        await backend.aclose()


async def logins(backend: PostgresStore, user: str, limit: str) -> None:
    from coatcheck.core.options import Options

    sessions = AsyncSessionManager(backend, options=Options(max_sessions=int(limit) or None))

    async def login() -> None:
        session = sessions.session()
        session.login(user)
        await sessions.commit(session)

    await asyncio.gather(*(login() for _ in range(10)))


async def ending(backend: PostgresStore, user: str, _: str) -> None:
    sessions = AsyncSessionManager(backend)
    await asyncio.sleep(0.02)
    await sessions.of(user).end_all()
    print(time.time(), flush=True)


RACES: dict[str, Callable[..., Awaitable[Any]]] = {"logins": logins, "ending": ending}


if __name__ == "__main__":
    job = globals()[sys.argv[1]]
    done = job(*sys.argv[2:])
    if done is not None:
        asyncio.run(done)

__all__ = ["IDS", "Login"]
