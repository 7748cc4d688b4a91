"""The store a URL names, in the format of the Node package that belongs to it. A driver is imported only when its URL is used."""

from importlib import import_module
from typing import Final, cast

from coatcheck.core.outage import Outage
from coatcheck.dialects.express.memory import MemoryStore
from coatcheck.dialects.express.ports import Backend
from coatcheck.errors import ConfigurationError
from coatcheck.stores import hide_password

__all__ = ["open_store"]

_REDIS: Final = ("connect_redis", "ConnectRedis", "redis")
_MONGO: Final = ("connect_mongo", "ConnectMongo", "mongo")
_POSTGRES: Final = ("connect_pg_simple", "ConnectPgSimple", "postgres")
_SEQUELIZE: Final = ("connect_session_sequelize", "ConnectSessionSequelize", "sqlalchemy")
_SCHEMES: Final = {
    **dict.fromkeys(("redis", "rediss", "valkey", "valkeys", "unix"), _REDIS),
    **dict.fromkeys(("mongodb",), _MONGO),
    **dict.fromkeys(("postgresql", "postgres"), _POSTGRES),
    **dict.fromkeys(("mysql", "mariadb", "sqlite", "sqlalchemy"), _SEQUELIZE),
}


def open_store(url: str, outage: Outage | None) -> Backend:
    """connect-redis for `redis:`, connect-mongo for `mongodb:`, connect-pg-simple for `postgresql:`; connect-session-sequelize
    for `mysql:`, `mariadb:`, `sqlite:` and `sqlalchemy+…:`; MemoryStore for `memory:`.

    Raises ConfigurationError for a scheme nobody knows, and for one whose extra is not installed.
    """
    scheme = url.partition(":")[0].partition("+")[0].lower()
    if scheme == "memory":
        return MemoryStore()
    if scheme not in _SCHEMES:
        raise ConfigurationError(
            f"store={hide_password(url)!r}: give a URL that begins with redis:, mongodb:, postgresql:, mysql:, mariadb:, sqlite:"
            " or memory:, or a store such as ConnectRedis(…)"
        )
    module, name, extra = _SCHEMES[scheme]
    try:
        found = import_module(f"coatcheck.dialects.express.{module}")
    except ImportError as error:
        raise ConfigurationError(
            f'store={hide_password(url)!r} needs a driver that is not installed ({error}): pip install "coatcheck[{extra}]"'
        ) from error
    return cast(Backend, getattr(found, name).from_url(url, outage=outage or Outage()))
