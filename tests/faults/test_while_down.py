"""While Redis is away and requests keep coming at a fixed rate: each is answered 503 in time, and they do not pile up."""

import asyncio
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from coatcheck.stores.redis import RedisStore
from servers import Server, redis
from tests.faults import figures
from tests.faults.site import Site, asgi_site
from tests.faults.transports import TRANSPORTS
from tests.faults.workload import until

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("transport", TRANSPORTS)]

RATE = 150
"""Requests a second, whatever becomes of those before: no closed loop, in which nothing could pile up."""
TOTAL = 1_000
GROWTH = 24
"""Megabytes that the process may grow meanwhile. A thousand requests that wait take 30 to 40."""


class Requests:
    """Requests that come whether or not those before were answered."""

    def __init__(self, site: Site, cookies: list[dict[str, str]]) -> None:
        self._site, self._cookies = site, cookies
        self._tasks: set[asyncio.Task[None]] = set()
        self.statuses: Counter[int] = Counter()
        self.slowest, self.most = 0.0, 0

    async def come(self) -> None:
        """All of them, at the rate; returns when the last was answered."""
        began = time.monotonic()
        for number in range(TOTAL):
            await asyncio.sleep(
                max(0.0, began + number / RATE - time.monotonic())
            )  # it is the rate that is asked for
            task = asyncio.create_task(self._one(number))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            self.most = max(self.most, len(self._tasks))
        await asyncio.gather(*self._tasks)

    async def _one(self, number: int) -> None:
        began = time.monotonic()
        query = {"count": "1"} if number % 2 else {}
        answer = await self._site.ask(dict(self._cookies[number % len(self._cookies)]), **query)
        self.statuses[answer.status] += 1
        self.slowest = max(self.slowest, time.monotonic() - began)


def resident() -> float:
    """Megabytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def visitors(site: Site) -> list[dict[str, str]]:
    """Twenty who are logged in."""
    everybody: list[dict[str, str]] = [{} for _ in range(20)]
    for number, cookies in enumerate(everybody):
        assert (await site.ask(cookies, login=f"user{number}")).status == 200
    return everybody


async def story(store: Any, server: Server, fault: str) -> tuple[Requests, float, float]:
    """Over any store of one server. Returns what came of the requests, megabytes more meanwhile, seconds until it was back."""
    site = asgi_site(store, on_event=lambda event: None)  # the tests' own log of events would be what grows
    try:
        requests = Requests(site, await visitors(site))
        getattr(server, fault)()
        before = resident()
        try:
            await requests.come()
        finally:
            server.resume() if fault == "pause" else server.start()
        growth, well = resident() - before, time.monotonic()
        statuses: list[int] = []

        async def try_it() -> None:
            while statuses[-1:] != [200]:
                statuses.append((await site.ask({}, key="back")).status)
                await asyncio.sleep(0.02)

        trying = asyncio.create_task(try_it())
        await until(trying.done, "recovery")
        return requests, growth, time.monotonic() - well
    finally:
        await store.aclose()


@pytest.mark.parametrize("fault", ["pause", "kill"])
def test_requests_do_not_pile_up(tmp_path: Path, transport: dict[str, Any], fault: str) -> None:
    with redis(tmp_path) as server:
        is_borne("Redis", RedisStore.from_url(server.url, **transport), server, fault)


def is_borne(name: str, store: Any, server: Server, fault: str) -> None:
    """The requests come, and none of them waits long or takes room."""
    requests, growth, recovered = asyncio.run(story(store, server, fault))
    print(
        f"\n{TOTAL} requests at {RATE}/s while {name} is away ({fault}): {dict(requests.statuses)}, slowest"
        f" {requests.slowest:.2f} s, at most {requests.most} at once, {growth:.1f} MB more; back after {recovered:.1f} s"
    )
    assert requests.statuses == {503: TOTAL}
    assert requests.slowest < figures.WITHIN
    assert requests.most < RATE * figures.WITHIN
    assert growth < GROWTH
    assert recovered < 5
