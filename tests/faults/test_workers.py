"""Workers of uvicorn killed with SIGKILL under load, again and again, over Redis."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers import redis
from tests.faults import figures
from tests.faults.checker import Report
from tests.faults.site import Site, server_site
from tests.faults.workload import Work, at_work
from tests.web.servers import Server, uvicorn

pytestmark = pytest.mark.slow

KILLS = 6
BETWEEN = 150
"""Acknowledged operations between two kills."""


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Server]:
    with redis(tmp_path / "redis") as store:
        options = ["--workers", "2"]
        with uvicorn(
            "tests.faults.site:app", folder=tmp_path, env={"STORE": store.url}, options=options
        ) as web:
            yield web


def workers(web: Server, site: Site) -> set[int]:
    """The processes that have answered, and live."""
    listed = Path(f"/proc/{web.pid}/task/{web.pid}/children").read_text().split()
    return site.workers & {int(child) for child in listed}


async def kill_one(work: Work, web: Server, site: Site) -> None:
    """Kill a worker in the middle of its work, and see that another comes in its place."""
    await work.until(lambda: len(workers(web, site)) == 2, "two workers")
    victim = min(workers(web, site))
    os.kill(victim, signal.SIGKILL)
    await work.more(BETWEEN)


async def story(web: Server) -> tuple[Report, float]:
    site = server_site(web.port)
    async with at_work([site], seed=5) as work:
        await work.more(100)
        for _ in range(KILLS):
            await kill_one(work, web, site)
        recovered = await work.recovered(time.monotonic())
        return await work.finish(), recovered


def test_killed_workers_take_nothing_with_them(web: Server) -> None:
    report, recovered = asyncio.run(story(web))
    figures.keep("workers of uvicorn killed (-9)", "Redis", "one server", report, recovered=recovered)
    figures.sound(report, errors=(0,))
    assert report.errors[0] > 0, "nobody was hurt"
