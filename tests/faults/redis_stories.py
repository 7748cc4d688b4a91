"""What the fault tests of Redis share: a store over a transport, both faces of it at work, and the wait for servers."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Final

from coatcheck.stores.redis import RedisStore
from servers import RedisGroup
from servers.redis import cli
from servers.running import Server
from tests.faults.site import asgi_site, wsgi_site
from tests.faults.workload import WITHIN, Work, at_work

__all__ = ["KEEPS", "has_primaries", "named", "names_in_sentinels", "redis_at_work"]

KEEPS: Final = ("--appendonly", "yes", "--appendfsync", "always")
"""A server that has on disk what it has acknowledged."""
_seeds: Final = count(1)


@asynccontextmanager
async def redis_at_work(url: str, transport: dict[str, Any], **options: Any) -> AsyncIterator[Work]:
    """Users over both faces of a store; `options` as of `RedisStore.from_url`. With the time-outs of who sets none."""
    store = RedisStore.from_url(url, **transport, **options)
    try:
        async with at_work([asgi_site(store), wsgi_site(store)], seed=next(_seeds)) as work:
            yield work
    finally:
        await store.aclose()


async def named(condition: Callable[[], bool], what: str) -> None:
    """Until servers say something, asked in a thread: that starts a process each time."""
    deadline = time.monotonic() + WITHIN
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, f"waited {WITHIN:.0f} s for {what}"
        await asyncio.sleep(0.02)  # servers offer nothing better to wait on


def has_primaries(group: RedisGroup, alive: list[Server]) -> bool:
    """Whether a Cluster, as far as it is alive, has a primary for every slot."""
    return len([node for node in group.primaries() if node in alive]) == 3


def names_in_sentinels(group: RedisGroup) -> set[int]:
    """The ports of the primaries that the sentinels name."""
    told = (cli(one, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster") for one in group.sentinels)
    return {int(words.split()[-1]) for words in told}
