"""What the tests of the PostgreSQL store share: a table of their own on the one server, and a way behind the store's back."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import psycopg

from coatcheck.core.ids import RandomIds
from coatcheck.core.record import Login, Record
from coatcheck.core.stepping import run_now
from coatcheck.stores.postgres import PostgresStore
from servers import Server
from tests.patience import PATIENT
from tests.stores.sqlite_workers import NOW, record

IDS = RandomIds()


def sql(url: str, statement: str, *values: object) -> list[Any]:
    """Do something behind the store's back."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []


@contextmanager
def table_of(server: Server) -> Iterator[str]:
    """The name of a table that has been set up, for the length of the block."""
    name = f"t_{IDS.version()[:12].replace('-', '_').lower()}"
    backend = PostgresStore.from_url(server.url, outage=PATIENT, table=name)
    run_now(backend.blocking().setup())
    backend.close()
    yield name
    sql(server.url, f'DROP TABLE IF EXISTS "{name}", "{name}_tally"')


def login(user_id: str = "ada", **fields: Any) -> Record:
    values = {"user_id": user_id, "authenticated_at": NOW, "login": Login(), "epoch": 1}
    return msgspec.structs.replace(record(), **(values | fields))
