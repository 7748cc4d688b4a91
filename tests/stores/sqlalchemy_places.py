"""What the tests of the SQLAlchemy store share: three databases, and a way behind the store's back."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pymysql  # type: ignore[import-untyped]  # it has no types

from coatcheck.core.outage import Outage
from coatcheck.core.record import Login, Record
from coatcheck.core.stepping import run_now
from coatcheck.stores.sqlalchemy import SQLAlchemyStore
from servers import Server
from tests.databases import own_database
from tests.stores.sqlite_workers import NOW, record

PATIENT = Outage(connect_timeout=20.0, command_timeout=20.0)
"""The machine may be busy."""


@dataclass(frozen=True)
class Place:
    """A database with the store's tables in it."""

    name: str
    url: str
    connect: Callable[[], Any]
    """A connection of the driver's own, in autocommit."""
    server: Server | None = None

    def store(self, **options: Any) -> SQLAlchemyStore:
        return SQLAlchemyStore.from_url(self.url, **({"outage": PATIENT} | options))

    def sql(self, statement: str, *values: Any) -> list[Any]:
        """Do something behind the store's back. `%s` stands for a value."""
        with closing(self.connect()) as connection:
            cursor = connection.cursor()
            cursor.execute(statement.replace("%s", "?") if self.name == "sqlite" else statement, values)
            rows = list(cursor.fetchall()) if cursor.description else []
            cursor.close()
            return rows

    def wipe(self) -> None:
        for table in ("coatcheck_session", "coatcheck_user"):
            self.sql(f"DELETE FROM {table}")

    def set_up(self) -> "Place":
        with self.store() as store:
            run_now(store.blocking().setup())
        return self


def in_sqlite(path: Path) -> Place:
    return Place(
        "sqlite",
        f"sqlalchemy+sqlite:///{path}",
        lambda: sqlite3.connect(path, isolation_level=None, timeout=30),
    )


def in_postgres(server: Server) -> Place:
    url = own_database(server, "alchemy")
    return Place("postgresql", f"sqlalchemy+{url}", lambda: psycopg.connect(url, autocommit=True), server)


def in_mariadb(server: Server) -> Place:
    def connect() -> Any:
        return pymysql.connect(
            host="127.0.0.1", port=server.port, user="root", database="coatcheck", autocommit=True
        )

    return Place("mariadb", server.url, connect, server)


def login(user_id: str = "ada", **fields: Any) -> Record:
    values = {"user_id": user_id, "authenticated_at": NOW, "login": Login(), "epoch": 1}
    return msgspec.structs.replace(record(), **(values | fields))


@contextmanager
def silent(server: Server) -> Iterator[None]:
    """Nothing answers, connections and all: the server's own process and what it has forked for its clients."""
    server.pause()
    try:
        yield
    finally:
        server.resume()
