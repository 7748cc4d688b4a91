"""Several PostgreSQL servers behind one URL: each new connection goes to the one that takes writes.

Both drivers can look through several hosts themselves, within one time-out for all: a first host that is down without saying so
(a power cut, a network that swallows packets) takes the whole of it, and the promoted standby behind it is never asked. So each
host is asked by itself, with its share of the time, and the one that was last found is asked first.
"""

import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from coatcheck.core.stepping import run_now
from coatcheck.errors import StoreUnavailable
from coatcheck.stores._postgres_connect import (
    Target,
    Wired,
    asyncpg_from,
    is_refused,
    parameters_of,
    psycopg_async_from,
    psycopg_from,
    shown,
)
from coatcheck.stores._postgres_errors import UNREACHABLE, unreachable

__all__ = ["awaiting_from", "blocking_from", "each_host"]

T = TypeVar("T")


def blocking_from(place: Target) -> Callable[[], Wired]:
    """What makes a blocking connection to the server that takes writes. Raises what `psycopg_from` raises."""
    turns = _Turns(place)
    if turns.is_one:
        return partial(psycopg_from, place)
    return lambda: run_now(turns.first_of(_at_once))


def awaiting_from(place: Target) -> Callable[[], Coroutine[Any, Any, Any]]:
    """The same for event loops: of asyncpg's, or of psycopg's without prepared statements. Raises ConfigurationError."""
    make = asyncpg_from if place.prepared else psycopg_async_from
    turns = _Turns(place)
    if turns.is_one:
        return make(place)
    makers = {each: make(each) for each in turns.places}
    return lambda: turns.first_of(lambda each: makers[each]())


class _Turns:
    """The hosts of a URL, and which of them to ask first."""

    def __init__(self, place: Target) -> None:
        self.places = each_host(place)
        self._name = place.name
        self._found = self.places[0]

    @property
    def is_one(self) -> bool:
        return len(self.places) == 1

    async def first_of(self, connect: Callable[[Target], Awaitable[T]]) -> T:
        """A connection to the first that lets us in and takes writes. One that refuses the login refuses it for all."""
        found, failures, cause = self._found, list[str](), None
        for place in (found, *(each for each in self.places if each is not found)):
            try:
                link = await connect(place)
            except Exception as error:
                told = unreachable(error, place.name, refused=is_refused(error))
                if not isinstance(told, StoreUnavailable):
                    raise
                failures.append(str(told).removeprefix(UNREACHABLE))
                cause = error
            else:
                self._found = place
                return link
        raise ConnectionError("; ".join(failures)) from cause


async def _at_once(place: Target) -> Wired:
    return psycopg_from(place)


def each_host(place: Target) -> Sequence[Target]:
    """One target for each host of a URL; with a single host the same. Each has its share of `connect_timeout`.

    Of several hosts the one that takes writes is wanted (`target_session_attrs=read-write`), unless the URL says otherwise: a
    session store writes.
    """
    said = parameters_of(place)
    hosts, addresses, ports = (str(said.get(name) or "").split(",") for name in ("host", "hostaddr", "port"))
    count = max(len(hosts), len(addresses))
    if count == 1 or "" in hosts or len(addresses) not in (1, count) or len(ports) not in (1, count):
        return [place]  # libpq takes no such list either, and says why
    ports, addresses = (each * count if len(each) == 1 else each for each in (ports, addresses))
    share = place.connect_timeout / count
    places = []
    for host, port, address in zip(hosts, ports, addresses, strict=True):
        url = _url_of(place.url, {"host": host, "port": port, "hostaddr": address})
        places.append(
            place._replace(url=url, name=shown({**said, "host": host, "port": port}), connect_timeout=share)
        )
    if said.get("load_balance_hosts") == "random":
        random.shuffle(places)
    return places


def _url_of(url: str, one: dict[str, str]) -> str:
    """The same URL with one host. The rest as it is written: libpq takes a + for itself, Python for a blank."""
    parts = urlsplit(url)
    given = [pair for pair in parts.query.split("&") if pair and pair.partition("=")[0] not in one]
    if not any(pair.startswith("target_session_attrs=") for pair in given):
        given.append("target_session_attrs=read-write")
    user, at, _ = parts.netloc.rpartition("@")
    if one["host"].startswith("/"):  # a socket's folder: both drivers take it here
        place, asked = "", one
    else:
        name = f"[{one['host']}]" if ":" in one["host"] else one["host"]
        place, asked = (f"{name}:{one['port']}" if one["port"] else name), {"hostaddr": one["hostaddr"]}
    query = "&".join(given + [f"{name}={quote(value)}" for name, value in asked.items() if value])
    return f"{parts.scheme}://{user}{at}{place}{parts.path}?{query}"
