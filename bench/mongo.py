"""What the MongoDB store costs: `python -m bench.mongo`. Time per call, beside the driver alone, and bytes per session."""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from pymongo import MongoClient

from bench.sites import PATIENT
from coatcheck.core.ids import RandomIds
from coatcheck.core.ports import SAVED, Terms
from coatcheck.core.record import Login, Record
from coatcheck.core.stepping import run_now
from coatcheck.stores.mongo import MongoSessions, MongoStore
from servers import mongo

CALLS, AT_ONCE, STORED = 2_000, 32, 20_000
IDS = RandomIds()
DATA = msgspec.json.encode({"cart": list(range(20)), "theme": "dark", "csrf": "x" * 44, "seen": 12})


def record(now: float, user: str | None = None) -> Record:
    login: dict[str, Any] = (
        {"user_id": user, "authenticated_at": now, "login": Login(user_agent="Mozilla/5.0 " * 4)}
        if user
        else {}
    )
    return Record(
        key=IDS.locator(),
        versions=tuple(IDS.version() for _ in range(16)),
        verifier=bytes(32),
        data=DATA,
        created_at=now,
        seen_at=now,
        deadline=now + 86_400,
        ends_at=now + 30 * 86_400,
        **login,
    )


def work(store: MongoSessions) -> dict[str, Callable[[Record], Awaitable[Any]]]:
    async def load(there: Record) -> None:
        await store.load(there.key, now=time.time())

    async def load_and_replace(there: Record) -> None:
        now = time.time()
        old = await store.load(there.key, now=now)
        assert isinstance(old, Record)
        new = msgspec.structs.replace(
            old, versions=(IDS.version(), *old.versions[:15]), seen_at=now, deadline=now + 86_400
        )
        assert await store.replace(new, expected=old.version, now=now) is SAVED

    async def login(there: Record) -> None:
        now = time.time()
        assert await store.admit(record(now, IDS.version()), expected=None, terms=Terms(), now=now) is SAVED

    return {"load": load, "load and replace": load_and_replace, "login": login}


def report(name: str, cpu: float, wall: float) -> None:
    print(f"{name:<42}{cpu * 1e6:8.0f} us CPU {wall * 1e6:8.0f} us each")


def blocking(store: MongoSessions) -> None:
    for name, job in work(store).items():
        there = record(time.time())
        run_now(store.create(there, now=time.time()))
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(CALLS):
            run_now(_await(job(there)))
        report(f"sync, {name}", (time.process_time() - cpu) / CALLS, (time.perf_counter() - wall) / CALLS)


async def _await(job: Awaitable[Any]) -> None:
    await job


async def awaiting(url: str) -> None:
    async with MongoStore.from_url(url, outage=PATIENT) as backend:
        store = backend.awaiting()
        for name, job in work(store).items():
            records = [record(time.time()) for _ in range(AT_ONCE)]
            for there in records:
                await store.create(there, now=time.time())

            async def turns(there: Record, job: Callable[[Record], Awaitable[Any]] = job) -> None:
                for _ in range(CALLS // AT_ONCE):
                    await job(there)

            cpu, wall = time.process_time(), time.perf_counter()
            await asyncio.gather(*map(turns, records))
            report(
                f"async, {AT_ONCE} at once, {name}",
                (time.process_time() - cpu) / CALLS,
                (time.perf_counter() - wall) / CALLS,
            )


def driver(url: str) -> None:
    with MongoClient[dict[str, Any]](url) as client:
        collection = client["coatcheck"]["plain"]
        collection.insert_one({"_id": "k", "v": "v", "data": bytes(700)})
        jobs: dict[str, Callable[[], Any]] = {
            "the driver alone, find_one": lambda: collection.find_one({"_id": "k"}),
            "the driver alone, update_one": lambda: collection.update_one(
                {"_id": "k", "v": "v"}, {"$set": {"data": IDS.version() * 40}}
            ),
        }
        for name, job in jobs.items():
            cpu, wall = time.process_time(), time.perf_counter()
            for _ in range(CALLS):
                job()
            report(f"sync, {name}", (time.process_time() - cpu) / CALLS, (time.perf_counter() - wall) / CALLS)


def bytes_per_session(url: str, store: MongoSessions) -> None:
    with MongoClient[dict[str, Any]](url) as client:
        database = client["coatcheck"]
        database["coatcheck_sessions"].delete_many({})
        now = time.time()
        for _ in range(STORED):
            run_now(store.create(record(now, IDS.version()), now=now))
        client.admin.command("fsync")
        stats = database.command("collStats", "coatcheck_sessions")
        print(f"{stats['count']} sessions of {len(DATA)} bytes of data, logged in, 16 versions remembered:")
        print(
            f"  {stats['avgObjSize']} bytes a document, {stats['storageSize'] / stats['count']:.0f} on disk"
        )
        print(f"  {stats['totalIndexSize'] / stats['count']:.0f} bytes of indexes")
        start = time.perf_counter()
        run_now(store.count(now=now))
        print(f"  count: {(time.perf_counter() - start) * 1e3:.1f} ms")
        start = time.perf_counter()
        assert run_now(store.sweep(now=now + 90_000, limit=STORED)) == STORED
        print(f"  sweep: {STORED / (time.perf_counter() - start):.0f} a second")


def main() -> None:
    for replica_set in (True, False):
        with tempfile.TemporaryDirectory() as folder, mongo(Path(folder), replica_set=replica_set) as server:
            print("replica set of one" if replica_set else "standalone")
            with MongoStore.from_url(server.url, outage=PATIENT) as backend:
                run_now(backend.blocking().setup())
                driver(server.url)
                blocking(backend.blocking())
                asyncio.run(awaiting(server.url))
                bytes_per_session(server.url, backend.blocking())


if __name__ == "__main__":
    main()
