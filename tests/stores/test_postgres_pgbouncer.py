"""The PostgreSQL store behind PgBouncer in transaction mode: without track of prepared statements, and with where there is."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from coatcheck.core.ports import SAVED
from coatcheck.core.stepping import run_now
from coatcheck.errors import StoreError
from coatcheck.stores.postgres import PostgresStore
from coatcheck.testing.contract import Sentence, StoreContract
from servers import Server, pgbouncer
from servers.pgbouncer import tracks_statements
from tests.stores.postgres_tables import sql, table_of
from tests.stores.sqlite_workers import NOW, record

pytestmark = pytest.mark.slow

# One that keeps track of statements takes them prepared; without that they must not be.
PREPARED = tracks_statements()
SETTINGS = ("max_prepared_statements=200",) if PREPARED else ()


@pytest.fixture(scope="module")
def table(postgres_server: Server) -> Iterator[str]:
    with table_of(postgres_server) as name:
        yield name


@pytest.fixture(scope="module")
def plain(postgres_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = ("max_prepared_statements=0",) if PREPARED else ()
    with pgbouncer(tmp_path_factory.mktemp("pgbouncer"), postgres_server, *settings) as server:
        yield server


@pytest.fixture(scope="module")
def best(postgres_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with pgbouncer(tmp_path_factory.mktemp("pgbouncer"), postgres_server, *SETTINGS) as server:
        yield server


@pytest.mark.parametrize("sentence", StoreContract.sentences(), ids=lambda s: s.__name__)
def test_contract_without_prepared_statements(
    sentence: Sentence, plain: Server, postgres_server: Server, table: str
) -> None:
    sql(postgres_server.url, f"DELETE FROM {table}")
    StoreContract(
        lambda: PostgresStore.from_url(
            plain.url, table=table, prepared_statements=False, pool_size=30, listen_url=postgres_server.url
        )
    ).run(sentence)


@pytest.mark.parametrize("sentence", StoreContract.sentences(), ids=lambda s: s.__name__)
def test_contract_with_the_best_it_can(
    sentence: Sentence, best: Server, postgres_server: Server, table: str
) -> None:
    sql(postgres_server.url, f"DELETE FROM {table}")
    StoreContract(
        lambda: PostgresStore.from_url(
            best.url, table=table, prepared_statements=PREPARED, listen_url=postgres_server.url
        )
    ).run(sentence)


def test_many_clients_on_few_connections_each_get_their_own_answers(plain: Server, table: str) -> None:
    backend = PostgresStore.from_url(plain.url, table=table, prepared_statements=False, pool_size=40)

    async def visitor(n: int) -> None:
        store, there = backend.awaiting(), record(data=b"%d" % n)
        assert await store.create(there, now=NOW) is SAVED
        for _ in range(20):
            assert await store.load(there.key, now=NOW) == there
            await asyncio.sleep(0)

    async def work() -> None:
        await asyncio.gather(*(visitor(n) for n in range(100)))
        await backend.aclose()

    asyncio.run(work())


def test_prepared_statements_without_tracking_say_which_option_to_set(plain: Server, table: str) -> None:
    """A statement is not there, or is there twice. (One of the same name could be another process's: docs/stores/postgres.md.)"""
    backend = PostgresStore.from_url(plain.url, table=table)
    errors: list[StoreError] = []

    async def visitor(n: int) -> None:
        store: Any = backend.awaiting()
        there = record(data=b"%d" % n)
        try:
            await store.create(there, now=NOW)
            for _ in range(10):
                assert await store.load(there.key, now=NOW) in (there, None)
        except StoreError as error:
            errors.append(error)

    async def work() -> None:
        await asyncio.gather(*(visitor(n) for n in range(30)))
        await backend.aclose()

    asyncio.run(work())
    assert errors
    assert any("prepared_statements=False" in str(error) for error in errors)


def test_endings_are_heard_on_a_url_of_its_own(plain: Server, postgres_server: Server, table: str) -> None:
    backend = PostgresStore.from_url(
        plain.url, table=table, prepared_statements=False, listen_url=postgres_server.url
    )
    heard: list[Any] = []

    async def work() -> None:
        store, there = backend.awaiting(), record()
        stop = store.watch(heard.append)
        while not heard:
            await asyncio.sleep(0.005)
        await store.create(there, now=NOW)
        await store.delete(there.key, now=NOW, token="t")
        while not any(notice.key == there.key for notice in heard):
            await asyncio.sleep(0.005)
        stop()
        await backend.aclose()

    asyncio.run(asyncio.wait_for(work(), 20))


def test_the_sync_face_sets_up_through_it(plain: Server, postgres_server: Server) -> None:
    backend = PostgresStore.from_url(plain.url, table="through", prepared_statements=False)
    run_now(backend.blocking().setup())
    assert run_now(backend.blocking().create(record(), now=NOW)) is SAVED
    backend.close()
    sql(postgres_server.url, "DROP TABLE through")
