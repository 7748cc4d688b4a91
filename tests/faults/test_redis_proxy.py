"""Redis behind a network that delays, drops, cuts, halves, holds back, doubles and garbles what it carries."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from servers import redis
from tests.faults import figures
from tests.faults.checker import Report
from tests.faults.proxy import Fault, FaultProxy
from tests.faults.redis_stories import redis_at_work
from tests.faults.transports import TRANSPORTS

pytestmark = pytest.mark.slow

SOUND: list[tuple[Fault, dict[str, float], int, int]] = [
    ("delays", {"delay": 0.25}, 400, 0),
    ("drops", {}, 8, 300),
    ("resets", {"odds": 0.2}, 200, 0),
    ("closes", {"odds": 0.2}, 200, 0),
    ("halves", {"odds": 0.2}, 200, 0),
    ("hangs", {}, 8, 300),
]
"""What a network may do to connections: each with how often it has to have done it, and how many operations must have failed."""


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[FaultProxy]:
    with redis(tmp_path) as server, FaultProxy(server.port, seed=8) as proxy:
        yield proxy


async def story(
    proxy: FaultProxy,
    transport: dict[str, Any],
    fault: Fault,
    how: dict[str, float],
    hits: int,
    failures: int,
) -> tuple[Report, float]:
    async with redis_at_work(f"redis://127.0.0.1:{proxy.port}/0", transport) as work:
        await work.more(300)
        proxy.be(fault, **how)
        await work.until(lambda: proxy.hits >= hits, f"{hits} hits")
        await work.hurt(failures)
        proxy.be("well")
        recovered = await work.recovered(time.monotonic())
        await work.more(300)
        return await work.finish(), recovered


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("fault", "how", "hits", "failures"), SOUND, ids=[case[0] for case in SOUND])
def test_what_was_acknowledged_is_kept_behind_a_bad_network(
    proxy: FaultProxy,
    transport: dict[str, Any],
    fault: Fault,
    how: dict[str, float],
    hits: int,
    failures: int,
) -> None:
    report, recovered = asyncio.run(story(proxy, transport, fault, how, hits, failures))
    figures.keep(f"network {fault}", "Redis", "one server", report, recovered=recovered)
    figures.sound(report)
    assert recovered < 5


async def nonsense(proxy: FaultProxy, transport: dict[str, Any], fault: Fault) -> tuple[Report, float, int]:
    """The third value: how much went wrong when the network had been well again for a while."""
    async with redis_at_work(f"redis://127.0.0.1:{proxy.port}/0", transport) as work:
        await work.more(300)
        proxy.be(fault, odds=0.05)
        await work.until(lambda: proxy.hits >= 60, "60 hits")
        proxy.be("well")
        recovered = await work.recovered(time.monotonic())
        await work.more(300)
        before = work.failures()
        await work.more(300)
        still = work.failures() - before
        return await work.finish(), recovered, still


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("fault", ["doubles", "garbles"])
def test_whatever_a_reply_says_nobody_is_shown_anothers_session(
    proxy: FaultProxy, transport: dict[str, Any], fault: Fault
) -> None:
    """Where a reply comes twice, the second is taken for the next command's, if that was under way already: an acknowledgement
    may be another's, so there is no telling what was lost. But nobody is mixed up, and no connection stays out of step.
    """
    report, recovered, still = asyncio.run(nonsense(proxy, transport, fault))
    figures.keep(f"network {fault} replies", "Redis", "one server", report, recovered=recovered, still=still)
    assert report.mixed == 0, report.line()
    assert report.slowest_refusal < figures.WITHIN, report.line()
    assert recovered < 5
    assert still == 0, "a connection that is out of step is still in use"
