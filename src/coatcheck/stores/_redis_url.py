"""What a Redis URL means: how to make connections, and what to call the server in messages, without its password."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Literal, cast
from urllib.parse import SplitResult, unquote, urlsplit

import redis
import redis.asyncio
import redis.asyncio.connection
import redis.asyncio.sentinel
import redis.connection
import redis.sentinel
from redis.backoff import NoBackoff

from coatcheck.core.outage import Outage
from coatcheck.errors import ConfigurationError
from coatcheck.stores import hide_password

__all__ = ["Kind", "Source", "given", "parsed", "shown"]

Kind = Literal["pool", "cluster"]
_redis: Any = redis  # its own annotations are incomplete
_CLUSTER: Final = "the application's Redis Cluster"
TRANSPORTS: Final = ("hiredis", "redis-py")
MANY: Final = 10_000
"""Connections at most: a thread never needs more than one, and it is not for us to count the application's threads."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where connections come from. `blocking` and `awaiting` make a pool, or a client of a cluster; None: wrong face.

    Each takes the seconds to wait for an answer.
    """

    name: str
    kind: Kind
    blocking: Callable[[float], Any] | None
    awaiting: Callable[[float], Any] | None
    owned: bool = True
    """What they make is ours, to be closed by us, and made anew for each event loop."""
    store: str = "RedisStore"
    """The class that was given it, as messages name it."""
    is_direct: bool = False
    """On event loops, commands go over a connection that is ours alone, past redis-py (`_redis_direct`)."""


def shown(url: str) -> str:
    """The URL as it may be shown: without its password, and without its query, where a password may be, too."""
    return hide_password(url).partition("?")[0]


def parsed(url: str, outage: Outage, credentials: Any = None, transport: str = "hiredis") -> Source:
    """What a URL means. Raises ConfigurationError for one that means nothing, and for a setting that redis-py does not know."""
    if transport not in TRANSPORTS:
        raise ConfigurationError(f'transport={transport!r}: give "hiredis" or "redis-py"')
    scheme, _, rest = url.partition(":")
    base, _, how = scheme.lower().replace("valkey", "redis").partition("+")
    form = {"": _alone, "sentinel": _sentinel, "cluster": _cluster}.get(how)
    if form is None or base not in ("redis", "rediss", "unix") or (base == "unix" and how):
        raise _wrong(url, "give redis://host:6379/0, or another form that docs/stores/redis.md shows")
    try:
        source = form(base, rest, url, outage, {"credential_provider": credentials} if credentials else {})
        # Nothing is connected yet; but what redis-py makes of the settings is to be known now.
        if source.kind == "pool" and source.blocking is not None:
            source.blocking(1.0).make_connection()
        return replace(source, is_direct=transport == "hiredis")
    except (ValueError, TypeError, redis.RedisError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise _wrong(url, f"redis-py says: {error}") from error


def _wrong(url: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"store={shown(url)!r}: {why}")


def _database(parts: SplitResult, url: str) -> None:
    if not parts.path.strip("/").isdigit() and parts.path.strip("/"):
        raise _wrong(url, "after the host comes the number of a database, as in redis://host:6379/0")


def _timeouts(outage: Outage) -> dict[str, Any]:
    return {"socket_connect_timeout": outage.connect_timeout, "max_connections": MANY}


def _alone(base: str, rest: str, url: str, outage: Outage, extra: Mapping[str, Any]) -> Source:
    """One server. The awaiting client has its own time-out around a whole batch, so its connections have none."""
    theirs = f"{base}:{rest}"
    if base == "unix":
        if not urlsplit(theirs).path.strip("/"):
            raise _wrong(url, "give unix:///path/to/redis.sock")
    else:
        if not urlsplit(theirs).hostname:
            raise _wrong(url, f"give a host, as in {base}://localhost:6379/0")
        _database(urlsplit(theirs), url)
    more = {**_timeouts(outage), **extra}

    def blocking(patience: float) -> Any:
        return redis.ConnectionPool.from_url(theirs, socket_timeout=patience, **more)

    def awaiting(patience: float) -> Any:
        return redis.asyncio.ConnectionPool.from_url(theirs, socket_timeout=None, **more)

    return Source(name=shown(url), kind="pool", blocking=blocking, awaiting=awaiting)


def _hosts(netloc: str, port: int, url: str) -> list[tuple[str, int]]:
    """Each `host:port` of a list. An IPv6 address stands in brackets."""
    hosts = []
    for one in netloc.rpartition("@")[2].split(","):
        parts = urlsplit(f"//{one}")
        if not parts.hostname:
            raise _wrong(url, "give hosts with commas between them, as in h1:7000,h2:7001")
        hosts.append((parts.hostname, parts.port or port))
    return hosts


def _settings(base: str, parts: SplitResult, database: str) -> dict[str, Any]:
    """Password, TLS and the query's settings, as redis-py reads them from a URL with one host."""
    login, at, _ = parts.netloc.rpartition("@")
    settings = dict(_redis.connection.parse_url(f"{base}://{login}{at}localhost/{database}?{parts.query}"))
    for name in ("host", "port", "connection_class"):
        settings.pop(name, None)
    return settings


def _sentinel(base: str, rest: str, url: str, outage: Outage, extra: Mapping[str, Any]) -> Source:
    parts = urlsplit(f"{base}:{rest}")
    service, _, database = parts.path.strip("/").partition("/")
    if not service or not (database or "0").isdigit():
        raise _wrong(
            url, "after the hosts comes the name of the master, as in redis+sentinel://h1,h2/mymaster/0"
        )
    hosts = _hosts(parts.netloc, 26379, url)
    settings = {**_settings(base, parts, database or "0"), **_timeouts(outage), **extra}
    secure = {"ssl": True} if base == "rediss" else {}
    # A sentinel that does not answer must leave time to ask the next one.
    asking: dict[str, Any] = {
        name: cast(float, outage.connect_timeout) / 2 for name in ("socket_timeout", "socket_connect_timeout")
    }
    for name in ("username", "password"):
        if (value := settings.pop(f"sentinel_{name}", None)) is not None:
            asking[name] = value
    if secure:
        asking |= {"ssl": True} | {name: value for name, value in settings.items() if name.startswith("ssl_")}

    def blocking(patience: float) -> Any:
        sentinel = _redis.sentinel.Sentinel(hosts, sentinel_kwargs={**asking, "retry": _no_retry()})
        return _redis.sentinel.SentinelConnectionPool(
            unquote(service), sentinel, socket_timeout=patience, **settings, **secure
        )

    def awaiting(patience: float) -> Any:
        sentinel = _redis.asyncio.sentinel.Sentinel(
            hosts, sentinel_kwargs={**asking, "retry": _no_waiting_retry()}
        )
        return _redis.asyncio.sentinel.SentinelConnectionPool(
            unquote(service), sentinel, socket_timeout=None, **settings, **secure
        )

    return Source(name=shown(url), kind="pool", blocking=blocking, awaiting=awaiting)


def _cluster(base: str, rest: str, url: str, outage: Outage, extra: Mapping[str, Any]) -> Source:
    parts = urlsplit(f"{base}:{rest}")
    if parts.path.strip("/") not in ("", "0"):
        raise _wrong(url, "a cluster has no numbered databases")
    hosts = _hosts(parts.netloc, 6379, url)
    settings = {**_settings(base, parts, "0"), **_timeouts(outage), **extra}
    settings.pop("db", None)
    if base == "rediss":
        settings["ssl"] = True

    def blocking(patience: float) -> Any:
        nodes = [_redis.cluster.ClusterNode(*host) for host in hosts]
        return redis.RedisCluster(startup_nodes=nodes, socket_timeout=patience, retry=_no_retry(), **settings)

    def awaiting(patience: float) -> Any:
        nodes = [_redis.asyncio.cluster.ClusterNode(*host) for host in hosts]
        return redis.asyncio.RedisCluster(
            startup_nodes=nodes, socket_timeout=patience, retry=_no_waiting_retry(), **settings
        )

    return Source(name=shown(url), kind="cluster", blocking=blocking, awaiting=awaiting)


def _no_retry() -> Any:
    """What may have been carried out is not for the driver to repeat."""
    return redis.retry.Retry(NoBackoff(), 0)


def _no_waiting_retry() -> Any:
    return redis.asyncio.retry.Retry(NoBackoff(), 0)


def given(client: Any, *, store: str = "RedisStore") -> Source:
    """The application's own client, which the store of this name was given. Raises ConfigurationError for what is none of
    redis-py's.
    """
    source = partial(Source, owned=False, store=store)
    if isinstance(client, redis.RedisCluster):
        return source(name=_CLUSTER, kind="cluster", blocking=lambda _: client, awaiting=None)
    if isinstance(client, redis.asyncio.RedisCluster):
        return source(name=_CLUSTER, kind="cluster", blocking=None, awaiting=lambda _: client)
    if isinstance(client, redis.asyncio.Redis):
        pool = client.connection_pool
        return source(name=_named(pool), kind="pool", blocking=None, awaiting=lambda _: pool)
    if isinstance(client, redis.Redis):
        theirs = client.connection_pool
        return source(name=_named(theirs), kind="pool", blocking=lambda _: theirs, awaiting=None)
    raise ConfigurationError(
        f"{store}({type(client).__name__}): give redis-py's Redis or RedisCluster, from redis or redis.asyncio;"
        f" a URL goes to {store}.from_url(…)"
    )


def _named(pool: Any) -> str:
    settings = pool.connection_kwargs
    if service := getattr(pool, "service_name", None):
        return f"redis+sentinel://{service}"
    if path := settings.get("path"):
        return f"unix://{path}"
    return (
        f"redis://{settings.get('host', 'localhost')}:{settings.get('port', 6379)}/{settings.get('db') or 0}"
    )
