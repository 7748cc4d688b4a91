"""Where the sites of the tests keep their sessions: a database of their own on the one server of each kind that a run has."""

from collections.abc import Callable
from pathlib import Path

import pytest

from servers import Server
from servers.mariadb import sql as mariadb_sql
from tests.databases import own_database


def sqlite_url(request: pytest.FixtureRequest, folder: Path) -> str:
    return f"sqlite:///{folder}/sessions.db"


def sqlalchemy_sqlite_url(request: pytest.FixtureRequest, folder: Path) -> str:
    return f"sqlalchemy+sqlite:///{folder}/sessions.db"


def redis_url(request: pytest.FixtureRequest, folder: Path) -> str:
    server: Server = request.getfixturevalue("redis_server")
    return f"redis://127.0.0.1:{server.port}/7"


def cluster_url(request: pytest.FixtureRequest, folder: Path) -> str:
    return str(request.getfixturevalue("cluster").url)


def mongo_url(request: pytest.FixtureRequest, folder: Path) -> str:
    server: Server = request.getfixturevalue("mongo_server")
    return server.url.replace("/coatcheck?", "/races?")


def postgres_url(request: pytest.FixtureRequest, folder: Path) -> str:
    return own_database(request.getfixturevalue("postgres_server"), "races")


def sqlalchemy_postgres_url(request: pytest.FixtureRequest, folder: Path) -> str:
    return f"sqlalchemy+{own_database(request.getfixturevalue('postgres_server'), 'races_sqlalchemy')}"


def mariadb_url(request: pytest.FixtureRequest, folder: Path) -> str:
    server: Server = request.getfixturevalue("mariadb_server")
    mariadb_sql(server, "CREATE DATABASE IF NOT EXISTS races CHARACTER SET utf8mb4", database="mysql")
    return f"{server.url.removesuffix('/coatcheck')}/races"


STORES: dict[str, Callable[[pytest.FixtureRequest, Path], str]] = {
    "sqlite": sqlite_url,
    "redis": redis_url,
    "postgres": postgres_url,
    "mongo": mongo_url,
    "sqlalchemy_postgres": sqlalchemy_postgres_url,
    "sqlalchemy_mariadb": mariadb_url,
    "sqlalchemy_sqlite": sqlalchemy_sqlite_url,
    "redis_cluster": cluster_url,
}
