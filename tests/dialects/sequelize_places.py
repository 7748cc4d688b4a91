"""What the tests of connect-session-sequelize share: the three databases, a way behind everybody's back, and signed cookies."""

import hmac
import secrets
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
import pytest

from coatcheck.core.stepping import run_now
from coatcheck.dialects.express.connect_session_sequelize import ConnectSessionSequelize, SequelizeSessions
from coatcheck.dialects.express.plain import dump, load
from coatcheck.dialects.express.ports import Entry
from servers import Server
from tests.databases import own_database
from tests.dialects.contract import SENTENCES, named
from tests.dialects.rig import body
from tests.stores.sqlalchemy_places import PATIENT

__all__ = [
    "AGE",
    "NAMES",
    "NOW",
    "SECRET",
    "WRITES",
    "Database",
    "changed",
    "cookie_of",
    "create",
    "cut",
    "get",
    "lives",
    "new_sid",
    "opened",
    "replace",
    "with_user",
]

NAMES = ("sqlite", "postgres", "mariadb")
SECRET = "squirrel"
NOW = 1_764_072_000.25
AGE = 600.0
"""Seconds that a session of the applications lasts."""
WRITES = [sentence for sentence in SENTENCES if "replace" in named(sentence) or "touch" in named(sentence)]


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


def in_mariadb(server: Server, dialect: str) -> Database:
    def connect() -> Any:
        return pymysql.connect(
            host="127.0.0.1", port=server.port, user="root", database="coatcheck", autocommit=True
        )

    return Database("mariadb", server.url, server.url.replace("mysql:", f"{dialect}:"), connect)


def cookie_of(sid: str) -> str:
    """What a browser sends that has this session."""
    signature = b64encode(hmac.digest(SECRET.encode(), sid.encode(), "sha256")).decode().rstrip("=")
    return "connect.sid=" + quote(f"s:{sid}.{signature}", safe="-_.!~*'()")


def opened(name: str, request: pytest.FixtureRequest) -> Database:
    """One of the databases, without the package's table; `mysql` is MariaDB, and what Sequelize has for MySQL."""
    if name == "sqlite":
        database = in_sqlite(request.getfixturevalue("tmp_path_factory").getbasetemp() / "sequelize.db")
    elif name == "postgres":
        database = in_postgres(request.getfixturevalue("postgres_server"))
    else:
        database = in_mariadb(request.getfixturevalue("mariadb_server"), name)
    database.drop("Sessions")
    return database


# ------------------------------------------------------------------------------------------------------------- what tests say


def get(sessions: SequelizeSessions, sid: str, now: float = NOW) -> Entry | None:
    return run_now(sessions.get(sid, now=now))


def lives(sessions: SequelizeSessions, sid: str, now: float = NOW) -> Entry:
    entry = get(sessions, sid, now)
    assert entry is not None
    return entry


def changed(entry: Entry, **fields: Any) -> bytes:
    """The body with other data, and the cookie that it had."""
    return dump({"cookie": load(entry.text)["cookie"], **fields})


def replace(sessions: SequelizeSessions, sid: str, over: Entry, text: bytes, now: float = NOW) -> Any:
    return run_now(sessions.replace(sid, text, over=over, expires=now + AGE, now=now))


def create(
    sessions: SequelizeSessions, sid: str, age: float | None = AGE, now: float = NOW, **fields: Any
) -> Any:
    expires = None if age is None else now + age
    return run_now(sessions.create(sid, body(expires, now=now, **fields), expires=expires, now=now))


def new_sid() -> str:
    return secrets.token_urlsafe(24)


def cut(database: Database, moment: float) -> float:
    """A time as the database keeps it: MySQL's DATETIME has no fractions."""
    return float(int(moment)) if database.name == "mariadb" else moment


def with_user(defaults: dict[str, Any], session: dict[str, Any]) -> dict[str, Any]:
    return {**defaults, "userId": session.get("passport", {}).get("user")}
