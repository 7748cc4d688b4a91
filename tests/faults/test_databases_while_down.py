"""The same as `test_while_down`, of PostgreSQL and MongoDB: requests keep coming while they are away, and do not pile up."""

from pathlib import Path

import pytest

from coatcheck.core.stepping import run_now
from coatcheck.stores.mongo import MongoStore
from coatcheck.stores.postgres import PostgresStore
from servers import mongo, postgres
from tests.faults.test_while_down import is_borne

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("fault", ["pause", "kill"])]


def test_requests_to_postgres_do_not_pile_up(tmp_path: Path, fault: str) -> None:
    with postgres(tmp_path / "postgres") as server:
        store = PostgresStore.from_url(server.url)
        run_now(store.blocking().setup())
        is_borne("PostgreSQL", store, server, fault)
        store.close()


def test_requests_to_mongo_do_not_pile_up(tmp_path: Path, fault: str) -> None:
    with mongo(tmp_path / "mongo", replica_set=False) as server:
        store = MongoStore.from_url(server.url)
        run_now(store.blocking().setup())
        is_borne("MongoDB", store, server, fault)
