"""Stores: one file a backend. `open_store` turns a URL into one; a driver is imported only when its URL is used."""

import re
from importlib import import_module
from typing import Final, NamedTuple

from coatcheck.core.outage import Outage
from coatcheck.core.ports import Backend
from coatcheck.errors import ConfigurationError

__all__ = ["carried", "has_server", "hide_password", "open_store"]


class _Kind(NamedTuple):
    """Where the store of a URL scheme lives."""

    module: str
    name: str
    """A class with `from_url(url)`; with an extra, `from_url(url, outage=…)`."""
    extra: str = ""
    """What `pip install "coatcheck[…]"` needs."""


_REDIS: Final = _Kind("coatcheck.stores.redis", "RedisStore", "redis")
_POSTGRES: Final = _Kind("coatcheck.stores.postgres", "PostgresStore", "postgres")
_MONGO: Final = _Kind("coatcheck.stores.mongo", "MongoStore", "mongo")
_SQLALCHEMY: Final = _Kind("coatcheck.stores.sqlalchemy", "SQLAlchemyStore", "sqlalchemy")
_COOKIE: Final = _Kind("coatcheck.stores.cookie", "CookieStore", "encryption")
_SCHEMES: Final = {
    "memory": _Kind("coatcheck.stores.memory", "MemoryStore"),
    "sqlite": _Kind("coatcheck.stores.sqlite", "SQLiteStore"),
    "redis": _REDIS,
    "rediss": _REDIS,
    "valkey": _REDIS,
    "valkeys": _REDIS,
    "unix": _REDIS,
    "redis+sentinel": _REDIS,
    "rediss+sentinel": _REDIS,
    "redis+cluster": _REDIS,
    "rediss+cluster": _REDIS,
    "postgresql": _POSTGRES,
    "postgres": _POSTGRES,
    "mongodb": _MONGO,
    "mongodb+srv": _MONGO,
    "mysql": _SQLALCHEMY,
    "mariadb": _SQLALCHEMY,
    "cookie": _COOKIE,
}
_AFTER_HOST: Final = re.compile("([^/?#]*)(.*)", re.DOTALL)
_SECRET: Final = re.compile("pass|pwd|secret|token|credential", re.IGNORECASE)


def open_store(url: str, *, outage: Outage | None = None) -> Backend:
    """The store a URL names: `memory:`, `sqlite:///relative.db`, `redis://host:6379/0`, `postgresql://…`, `mongodb://…`, and with
    `sqlalchemy+` before it any URL of SQLAlchemy's.

    A driver's name after a `+`, as in a `DATABASE_URL`, is accepted: `postgresql+asyncpg://…`. `outage` is for stores that have a
    server. Raises ConfigurationError for a scheme nobody knows, and for one whose extra is not installed.
    """
    kind = _kind(url)
    try:
        module = import_module(kind.module)
    except ImportError as error:
        if not kind.extra:
            raise
        raise ConfigurationError(
            f'store={hide_password(url)!r} needs a driver that is not installed ({error}): pip install "coatcheck[{kind.extra}]"'
        ) from error
    store = getattr(module, kind.name)
    backend: Backend = store.from_url(url, outage=outage or Outage()) if kind.extra else store.from_url(url)
    return backend


def _kind(url: str) -> _Kind:
    scheme = url.partition(":")[0].lower() if ":" in url else ""
    base, _, driver = scheme.partition("+")
    kind = _SCHEMES.get(scheme)
    if kind is None and driver and base in ("postgresql", "postgres", "mysql", "mariadb"):
        kind = _SCHEMES[base]
    if kind is None and base == "sqlalchemy" and driver:
        kind = _SQLALCHEMY
    if kind is None and base == "cookie":
        kind = _COOKIE  # and behind the + the URL of the store that knows which sessions have ended
    if kind is None:
        known = ", ".join(f"{name}:" for name in _SCHEMES)
        raise ConfigurationError(
            f"store={hide_password(url)!r}: no store for this; give a URL that begins with {known}, or sqlalchemy+…:"
        )
    return kind


def has_server(url: str) -> bool:
    """Whether the store of this URL is a server that may be away, and not this process or one file. Raises ConfigurationError
    for a scheme nobody knows.
    """
    kind = _kind(url)
    if kind is _COOKIE:
        below = url.partition(":")[0].partition("+")[2]
        return bool(below) and has_server(below + url[url.index(":") :])
    return bool(kind.extra)


def carried(store: object, *, outage: Outage | None = None) -> int | None:
    """In how many octets of cookie the sessions of this store are; None: they are not in a cookie. Raises ConfigurationError."""
    if isinstance(store, str) and store.partition(":")[0].partition("+")[0].lower() == "cookie":
        store = open_store(store, outage=outage)
    inside = getattr(store, "_inside", None)  # of what observes a store
    if inside is not None:
        return carried(inside)
    octets: int | None = store.octets if getattr(store, "carries", False) is True else None  # type: ignore[attr-defined]
    return octets


def hide_password(url: str) -> str:
    """The URL as it may be shown: without its password, wherever in it that is (checklist 21)."""
    scheme, slashes, rest = url.partition("://")
    if not slashes:
        return url
    where, path = _AFTER_HOST.match(rest).groups()  # type: ignore[union-attr]  # it matches anything
    if (
        "@" in path
    ):  # a password with a / ? or # in it that nobody has escaped: all up to the last @ may be part of it
        where, path = rest, ""
    credentials, _, host = where.rpartition("@")
    user, colon, _ = credentials.partition(":")
    shown = f"{user}:***@{host}" if colon else where
    path, question, query = path.partition("?")
    return f"{scheme}://{shown}{path}{question}{'&'.join(map(_hide_value, query.split('&')))}"


def _hide_value(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    return f"{name}=***" if equals and _SECRET.search(name) else parameter
