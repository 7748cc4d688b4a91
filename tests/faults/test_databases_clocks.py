"""Clocks of applications that step, over each database: two machines' clocks run apart and are set, forth and back.

Sessions are stamped with the application's own clock; what must not depend on it is who is logged in, and what was acknowledged.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coatcheck.core.stepping import run_now
from coatcheck.stores.mongo import MongoStore
from coatcheck.stores.postgres import PostgresStore
from coatcheck.stores.sqlite import SQLiteStore
from servers import Server
from tests.faults import figures
from tests.faults.checker import Report
from tests.faults.site import SteppedClock, asgi_site, wsgi_site
from tests.faults.workload import at_work
from tests.patience import PATIENT

pytestmark = pytest.mark.slow

STEPS = (-3600.0, -300.0, -61.0, -5.0, -0.5, 0.0, 0.5, 5.0, 61.0, 300.0, 3600.0)
"""Seconds that a clock may be off: a tombstone is kept for 60, a session is idle for 86,400 at most."""


async def worked(store: Any, seed: int) -> Report:
    clocks = [SteppedClock(), SteppedClock()]
    sites = [
        make(store, clock=clock.clock) for make, clock in zip((asgi_site, wsgi_site), clocks, strict=True)
    ]
    try:
        async with at_work(sites, seed=seed) as work:
            for _ in range(25):
                await work.more(40)
                work.luck.choice(clocks).by = work.luck.choice(STEPS)
            return await work.finish()
    finally:
        store.close()
        if not isinstance(store, SQLiteStore):
            await store.aclose()


def in_sqlite(request: pytest.FixtureRequest) -> SQLiteStore:
    folder: Path = request.getfixturevalue("tmp_path")
    return SQLiteStore(folder / "sessions.db")


def in_postgres(request: pytest.FixtureRequest) -> PostgresStore:
    server: Server = request.getfixturevalue("postgres_server")
    return PostgresStore.from_url(server.url, table="stepping", outage=PATIENT)


def in_mongo(request: pytest.FixtureRequest) -> MongoStore:
    server: Server = request.getfixturevalue("mongo_server")
    return MongoStore.from_url(server.url, collection="stepping", outage=PATIENT)


@pytest.mark.parametrize("place", [in_sqlite, in_postgres, in_mongo])
def test_clocks_that_step_lose_nothing_and_bring_nobody_back(
    request: pytest.FixtureRequest, place: Callable[[pytest.FixtureRequest], Any]
) -> None:
    store = place(request)
    if hasattr(store.blocking(), "setup"):
        run_now(store.blocking().setup())
    report = asyncio.run(worked(store, seed=5))
    name = (
        type(store)
        .__name__.removesuffix("Store")
        .replace("Postgres", "PostgreSQL")
        .replace("Mongo", "MongoDB")
    )
    figures.keep("clocks of two applications step by up to an hour", name, "one server", report)
    figures.sound(report)
    assert report.refusals == 0
