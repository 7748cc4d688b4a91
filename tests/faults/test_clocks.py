"""Clocks that are set forward and back while users are at work: the applications', each by itself, and the server's."""

import asyncio
import random
from pathlib import Path

import pytest

from coatcheck.stores.redis import RedisStore
from servers import redis
from tests.faults import figures
from tests.faults.checker import Report
from tests.faults.site import SteppedClock, asgi_site, wsgi_site
from tests.faults.workload import at_work

pytestmark = pytest.mark.slow

SECONDS = (0.0, 0.3, -0.3, 5.0, -5.0, 90.0, -90.0)
HOURS = (0.0, 3_700.0, -3_700.0, 9_000.0, -9_000.0)
"""Beyond the age at which a verifier is renewed (3,600 s), and within the idle time-out, after which sessions end rightly."""


async def story(url: str, steps: tuple[float, ...]) -> tuple[Report, int]:
    store, luck = RedisStore.from_url(url), random.Random(3)
    clocks = [SteppedClock() for _ in range(3)]
    makes = (asgi_site, asgi_site, wsgi_site)
    sites = [make(store, clock=clock.clock) for make, clock in zip(makes, clocks, strict=True)]
    try:
        async with at_work(sites, seed=11) as work:
            for _ in range(25):
                await work.more(60)
                luck.choice(clocks).by = luck.choice(steps)
            for clock in clocks:
                clock.by = 0.0
            await work.more(100)
            return await work.finish(), work.renewals
    finally:
        await store.aclose()


@pytest.mark.parametrize("steps", [SECONDS, HOURS], ids=["seconds", "hours"])
def test_clocks_of_applications_that_step_and_disagree(tmp_path: Path, steps: tuple[float, ...]) -> None:
    with redis(tmp_path) as server:
        report, renewals = asyncio.run(story(server.url, steps))
    what = "minutes" if steps is SECONDS else "hours"
    figures.keep(f"clocks of three workers step by {what}", "Redis", "one server", report, renewals=renewals)
    figures.sound(report)
    assert (renewals > 0) == (steps is HOURS)
