"""From a URL to the URLs of two drivers, one a face."""

from typing import Final, NamedTuple

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from coatcheck.errors import ConfigurationError
from coatcheck.stores import hide_password

__all__ = ["Pair", "parsed"]

_DRIVERS: Final = {
    "postgresql": ("psycopg", "asyncpg"),
    "mysql": ("pymysql", "asyncmy"),
    "mariadb": ("pymysql", "asyncmy"),
    "sqlite": ("pysqlite", "aiosqlite"),
}
"""The driver of each face, where the URL names none for it."""
_BOTH: Final = ("psycopg", "oracledb")
"""Drivers that serve both faces under one name."""
_OURS: Final = "sqlalchemy+"


class Pair(NamedTuple):
    """What each face connects to. None: there is no driver for it."""

    blocking: URL | None
    awaiting: URL | None
    shown: str
    """The URL as it was given, without its password."""


def parsed(url: str) -> Pair:
    """The URLs for both faces. Raises ConfigurationError for what is no URL of SQLAlchemy's, and for SQLite in memory."""
    shown = hide_password(url)
    try:
        made = make_url(url[len(_OURS) :] if url.lower().startswith(_OURS) else url)
        base, _, driver = made.drivername.lower().partition("+")
        base = "postgresql" if base == "postgres" else base
        made = made.set(drivername=f"{base}+{driver}" if driver else base)
        blocking, awaiting = _drivers(made, base, driver)
    except NoSuchModuleError as error:
        raise ConfigurationError(
            f"store={shown!r}: SQLAlchemy has no such dialect or driver ({error}); is its package installed?"
        ) from error
    except (ArgumentError, ValueError):
        # Not SQLAlchemy's own message, nor it as the cause: it repeats the URL.
        raise ConfigurationError(
            f"store={shown!r}: give a URL of SQLAlchemy's, such as mysql://user:password@host/database"
        ) from None
    if base == "sqlite" and made.database in (None, "", ":memory:"):
        raise ConfigurationError(f"store={shown!r}: for sessions in memory give the store as 'memory:'")
    return Pair(_with(made, base, blocking), _with(made, base, awaiting), shown)


def _drivers(url: URL, base: str, driver: str) -> tuple[str | None, str | None]:
    """The driver that was named for the face it can, its sibling for the other; "" is SQLAlchemy's default."""
    blocking, awaiting = _DRIVERS.get(base, ("", None))
    if not driver:
        url.set(drivername=f"{base}+{blocking}" if blocking else base).get_dialect()
        return blocking, awaiting
    dialect = url.get_dialect()
    if driver in _BOTH:
        return driver, driver
    if dialect.is_async:
        return (blocking if base in _DRIVERS else None), driver
    return driver, awaiting


def _with(url: URL, base: str, driver: str | None) -> URL | None:
    return None if driver is None else url.set(drivername=f"{base}+{driver}" if driver else base)
