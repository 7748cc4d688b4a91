"""Processes of their own for the tests of the SQLite store: `python -m tests.stores.sqlite_workers WHAT PATH ...`."""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec

from coatcheck.core.ids import RandomIds
from coatcheck.core.ports import SAVED, Changed, Store
from coatcheck.core.record import Record
from coatcheck.core.stepping import run_now
from coatcheck.errors import ConfigurationError
from coatcheck.stores.sqlite import SQLiteStore

NOW = 1_700_000_000.0
IDS = RandomIds()
T = TypeVar("T")


def record(key: str = "", data: bytes = b"0") -> Record:
    return Record(
        key=key or IDS.locator(),
        versions=(IDS.version(),),
        verifier=bytes(32),
        data=data,
        created_at=NOW,
        seen_at=NOW,
        deadline=NOW + 3_600,
        ends_at=NOW + 86_400,
    )


def after(old: Record, data: bytes) -> Record:
    return msgspec.structs.replace(old, versions=(IDS.version(), *old.versions[:15]), data=data)


async def increment(store: Store, key: str) -> None:
    """Add one, as often as it takes."""
    while True:
        old = await store.load(key, now=NOW)
        assert isinstance(old, Record)
        outcome = await store.replace(after(old, b"%d" % (int(old.data) + 1)), expected=old.version, now=NOW)
        if outcome is SAVED:
            return
        assert isinstance(outcome, Changed)


async def _acknowledging(store: Store) -> None:
    """Write for ever; say each write only when it has been acknowledged."""
    current = record()
    assert await store.create(current, now=NOW) is SAVED
    n = 0
    while True:
        os.write(1, b"%s %d\n" % (current.key.encode(), n))
        n += 1
        new = after(current, b"%d" % n)
        assert await store.replace(new, expected=current.version, now=NOW) is SAVED
        current = new


def acknowledge_blocking(path: str) -> None:
    store = SQLiteStore(path).blocking()
    for _ in range(2):
        threading.Thread(target=lambda: run_now(_acknowledging(store)), daemon=True).start()
    run_now(_acknowledging(store))


def acknowledge_awaiting(path: str) -> None:
    store = SQLiteStore(path).awaiting()

    async def all_of_them() -> None:
        await asyncio.gather(*(_acknowledging(store) for _ in range(3)))

    asyncio.run(all_of_them())


def increment_blocking(path: str, key: str, times: str) -> None:
    with SQLiteStore(path) as backend:
        store = backend.blocking()

        def work() -> None:
            for _ in range(int(times)):
                run_now(increment(store, key))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def increment_awaiting(path: str, key: str, times: str) -> None:
    async def work(store: Store) -> None:
        for _ in range(int(times)):
            await increment(store, key)
            await asyncio.sleep(0)

    async def all_of_them(store: Store) -> None:
        await asyncio.gather(*(work(store) for _ in range(4)))

    with SQLiteStore(path) as backend:
        asyncio.run(all_of_them(backend.awaiting()))


def construct(path: str, at: str) -> None:
    """Make the store at a moment that the others make it too."""
    while time.monotonic() < float(at):
        pass
    with SQLiteStore(path) as backend:
        assert run_now(backend.blocking().create(record(), now=NOW)) is SAVED


def construct_as_nobody(path: str) -> None:
    """Say why a user without rights cannot."""
    if os.geteuid() == 0:
        os.seteuid(65_534)
    try:
        SQLiteStore(path)
    except ConfigurationError as error:
        print(error)


def fork(path: str, face: str) -> None:
    """Use the store, fork, use it in both, close it in the parent, go on in the child."""
    with SQLiteStore(path) as backend:
        store: Store = backend.blocking() if face == "blocking" else backend.awaiting()

        def save(key: str) -> None:
            assert _run(store.create(record(key), now=NOW)) is SAVED

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
    os.write(to_child[1], b"1")
    assert os.waitpid(child, 0)[1] == 0


def fork_under_load(path: str) -> None:
    """Fork five times while four threads and the writer thread write; each child writes too."""
    backend = SQLiteStore(path)
    blocking, awaiting, stop = backend.blocking(), backend.awaiting(), threading.Event()

    def work() -> None:
        while not stop.is_set():
            assert run_now(blocking.create(record(), now=NOW)) is SAVED
            _run(awaiting.sweep(now=NOW))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        time.sleep(0.05)
        if (child := os.fork()) == 0:
            assert run_now(blocking.create(record(), now=NOW)) is SAVED
            _run(awaiting.sweep(now=NOW))
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    stop.set()
    for thread in threads:
        thread.join()
    backend.close()
    print("parent and 5 children went on")


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    async def once() -> T:
        return await coroutine

    return asyncio.run(once())


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
