"""What the tests of connect-session-sequelize share: the three databases, a way behind everybody's back, and signed cookies."""

import hmac
import sqlite3
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pymysql  # type: ignore[import-untyped]  # it has no types

from coatcheck.core.stepping import run_now
from coatcheck.dialects.express.connect_session_sequelize import ConnectSessionSequelize, SequelizeSessions
from servers import Server
from tests.databases import own_database
from tests.stores.sqlalchemy_places import PATIENT

__all__ = ["NAMES", "SECRET", "Database", "cookie_of", "in_mariadb", "in_postgres", "in_sqlite"]

NAMES = ("sqlite", "postgres", "mariadb")
SECRET = "squirrel"


@dataclass(frozen=True)
class Database:
    """A database that Node and Python share."""

    name: str
    url: str
    node_url: str
    connect: Callable[[], Any]
    """A connection of the driver's own, in autocommit."""

    def store(self, **options: Any) -> ConnectSessionSequelize:
        return ConnectSessionSequelize.from_url(self.url, **({"outage": PATIENT} | options))

    @contextmanager
    def sessions(self, **options: Any) -> Iterator[SequelizeSessions]:
        """The blocking face, its table made."""
        store = self.store(**options)
        try:
            run_now(store.blocking().setup())
            yield store.blocking()
        finally:
            store.close()

    def node(self, **options: Any) -> dict[str, Any]:
        """The store of a Node application: see `stores.mjs`."""
        return {"kind": "connect-session-sequelize", "url": self.node_url, "sync": True, **options}

    def sql(self, statement: str, *values: Any) -> list[Any]:
        """Do something behind everybody's back. `%s` stands for a value, `"` quotes a name."""
        if self.name == "sqlite":
            statement = statement.replace("%s", "?")
        if self.name == "mariadb":
            statement = statement.replace('"', "`")
        with closing(self.connect()) as connection:
            cursor = connection.cursor()
            cursor.execute(statement, values)
            rows = list(cursor.fetchall()) if cursor.description else []
            cursor.close()
            return rows

    def row(self, sid: str, table: str = "Sessions", columns: str = '"data", "expires"') -> Any:
        """A row as it is stored."""
        rows = self.sql(f'SELECT {columns} FROM "{table}" WHERE "sid" = %s', sid)
        return rows[0] if rows else None

    def drop(self, table: str) -> None:
        self.sql(f'DROP TABLE IF EXISTS "{table}"')


def in_sqlite(path: Path) -> Database:
    return Database(
        "sqlite",
        f"sqlite:///{path}",
        f"sqlite://{path}",
        lambda: sqlite3.connect(path, isolation_level=None, timeout=30),
    )


def in_postgres(server: Server) -> Database:
    url = own_database(server, "sequelize")
    return Database("postgres", url, url, lambda: psycopg.connect(url, autocommit=True))


def in_mariadb(server: Server) -> Database:
    def connect() -> Any:
        return pymysql.connect(
            host="127.0.0.1", port=server.port, user="root", database="coatcheck", autocommit=True
        )

    return Database("mariadb", server.url, server.url.replace("mysql:", "mariadb:"), connect)


def cookie_of(sid: str) -> str:
    """What a browser sends that has this session."""
    signature = b64encode(hmac.digest(SECRET.encode(), sid.encode(), "sha256")).decode().rstrip("=")
    return "connect.sid=" + quote(f"s:{sid}.{signature}", safe="-_.!~*'()")
