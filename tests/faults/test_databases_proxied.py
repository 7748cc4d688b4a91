"""A network that misbehaves, in front of PostgreSQL and MongoDB, with work going on over both faces.

Each fault ends in a page or a 503 within the time-outs; no connection is used again that may still have something to say, so
nobody is shown what is another's; and when the network is well again, so is everybody, without a restart.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from coatcheck.core.stepping import run_now
from coatcheck.stores.mongo import MongoStore
from coatcheck.stores.postgres import PostgresStore
from servers import Server, mongo
from tests.faults import figures
from tests.faults.proxy import FAULTS, Fault, FaultProxy
from tests.faults.site import Site, asgi_site, wsgi_site
from tests.faults.sound import RECOVERED, now, under
from tests.faults.workload import Work

pytestmark = pytest.mark.slow

ODDS = 0.05
DELAY = 0.7
"""Seconds: on either way; an answer may be too late by then."""
SPELL = 3.0
"""Seconds that a fault lasts, at least."""
HITS = 12
"""How often it has to have hit something meanwhile."""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that tells of no other address than it was asked at."""
    with mongo(tmp_path_factory.mktemp("alone"), replica_set=False) as server:
        yield server


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "garbles"])
def test_postgres_behind_a_bad_network(postgres_server: Server, fault: Fault) -> None:
    with FaultProxy(postgres_server.port, seed=6) as proxy:
        behind("PostgreSQL", postgres_behind(proxy, postgres_server), proxy, fault)


def test_postgres_behind_a_network_that_makes_noise(postgres_server: Server) -> None:
    """psycopg alone: noise can crash a process with asyncpg in it (0.32), which reads answers in C. TLS rules noise out."""
    with FaultProxy(postgres_server.port, seed=6) as proxy:
        behind("PostgreSQL", postgres_behind(proxy, postgres_server), proxy, "garbles", (wsgi_site,))


@pytest.mark.parametrize("fault", FAULTS)
def test_mongo_behind_a_bad_network(alone: Server, fault: Fault) -> None:
    with FaultProxy(alone.port, seed=7) as proxy:
        store = MongoStore.from_url(f"mongodb://127.0.0.1:{proxy.port}/proxied")
        run_now(store.blocking().setup())
        behind("MongoDB", store, proxy, fault)


def postgres_behind(proxy: FaultProxy, server: Server) -> PostgresStore:
    """A store that knows the server by the proxy's address."""
    url = server.url.replace(f":{server.port}/", f":{proxy.port}/")
    store = PostgresStore.from_url(url, table="proxied")
    run_now(store.blocking().setup())
    return store


def behind(
    name: str,
    store: Any,
    proxy: FaultProxy,
    fault: Fault,
    faces: Sequence[Callable[[Any], Site]] = (asgi_site, wsgi_site),
) -> None:
    """Work through a proxy that misbehaves for a while."""

    async def hurt(work: Work) -> float:
        proxy.be(fault, odds=ODDS, delay=DELAY)
        over = now() + SPELL
        await work.until(lambda: now() >= over and proxy.hits >= HITS, "the fault to have done its worst")
        proxy.be("well")
        return now()

    report, took = asyncio.run(under(store, hurt, seed=8, faces=faces))
    figures.keep(f"network {fault}", name, "one server", report, recovered=took)
    figures.sound(report)
    assert took < RECOVERED
