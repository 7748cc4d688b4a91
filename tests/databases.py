"""Databases of their own on a server that tests share: for stores whose tables have the same names."""

from servers import Server
from servers.postgres import psql

__all__ = ["own_database"]


def own_database(server: Server, name: str) -> str:
    """The URL of a database on this PostgreSQL server, made by whoever comes first."""
    if not psql(server, f"SELECT 1 FROM pg_database WHERE datname = '{name}'"):
        psql(server, f"CREATE DATABASE {name}")
    return f"{server.url.removesuffix('/coatcheck')}/{name}"
