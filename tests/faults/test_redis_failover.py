"""Redis that is replaced by its replica, under load: in a Cluster, by Sentinel, and by whoever moves the address.

Replication is asynchronous, so a failover may lose the last moments' writes: what is promised is that nobody is mixed up, that
service is back in time, and, with `durability="replicated"`, that logins and ends which were acknowledged are kept.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from servers import RedisGroup, Server, redis, redis_cluster, redis_sentinel
from servers.redis import QUICK, cli
from tests.faults import figures
from tests.faults.checker import Report
from tests.faults.proxy import FaultProxy
from tests.faults.redis_stories import has_primaries, named, names_in_sentinels, redis_at_work
from tests.faults.transports import TRANSPORTS
from tests.faults.workload import Work

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("transport", TRANSPORTS)]

Durability = Literal["normal", "replicated"]


def run(
    url: str, transport: dict[str, Any], durability: Durability, story: Callable[[Work], Any]
) -> tuple[Report, float]:
    """Users at work while the story happens; it returns the moment at which there was a primary again."""

    async def within() -> tuple[Report, float]:
        async with redis_at_work(url, transport, durability=durability) as work:
            await work.more(300)
            recovered = await work.recovered(await story(work))
            await work.more(200)
            return await work.finish(), recovered

    return asyncio.run(within())


def judged(fault: str, store: str, durability: Durability, outcome: tuple[Report, float]) -> None:
    report, recovered = outcome
    figures.keep(fault, store, f'durability="{durability}"', report, recovered=recovered)
    assert report.mixed == 0, report.line()
    assert report.errors == {}, report.line()
    assert report.slowest_refusal < figures.WITHIN, report.line()
    assert recovered < 5, report.line()
    if durability == "replicated":
        assert report.undone == 0, report.line()
        assert report.logged_out == 0, report.line()


@pytest.mark.parametrize("durability", ["normal", "replicated"])
def test_a_primary_of_a_cluster_is_killed(
    tmp_path: Path, transport: dict[str, Any], durability: Durability
) -> None:
    with redis_cluster(tmp_path) as group:
        victim = group.primaries()[0]
        others = [node for node in group.servers if node is not victim]

        async def story(work: Work) -> float:
            await asyncio.to_thread(victim.kill)
            await named(lambda: has_primaries(group, others), "the cluster")
            if durability == "replicated":
                # Its shard has no replica, and takes nothing that it could not keep, until the node is back.
                await asyncio.to_thread(victim.start)
                await named(lambda: "master_link_status:up" in cli(victim, "INFO", "replication"), "the node")
            return time.monotonic()

        outcome = run(group.url, transport, durability, story)
    judged("a primary killed (-9)", "Redis Cluster of six", durability, outcome)


@pytest.mark.parametrize("fault", ["kill", "pause"])
def test_sentinels_replace_a_primary(tmp_path: Path, transport: dict[str, Any], fault: str) -> None:
    with redis_sentinel(tmp_path) as group:
        primary, replica = group.servers

        async def story(work: Work) -> float:
            await asyncio.to_thread(getattr(primary, fault))
            await named(lambda: replica.port in names_in_sentinels(group), "the sentinels")
            at = time.monotonic()
            if fault == "pause":  # it comes back, and takes itself for the primary until it is told
                primary.resume()
            return at

        try:
            outcome = run(group.url, transport, "normal", story)
        finally:
            if fault == "pause":
                primary.resume()
    what = "primary killed (-9)" if fault == "kill" else "primary stands still, is replaced, comes back"
    judged(what, "Redis behind Sentinel", "normal", outcome)


# --------------------------------------------------------------------------------------------------- a floating address


@contextmanager
def linked(folder: Path) -> Iterator[tuple[Server, Server, FaultProxy, FaultProxy]]:
    """A primary, its replica, the proxy between the two, and the proxy that users come by: the floating address."""
    with (
        redis(folder / "primary", *QUICK) as primary,
        redis(folder / "replica", *QUICK) as replica,
        FaultProxy(primary.port, seed=1) as link,
        FaultProxy(primary.port, seed=2) as address,
    ):
        cli(replica, "REPLICAOF", "127.0.0.1", str(link.port))
        group = RedisGroup(f"redis://127.0.0.1:{address.port}/0", (primary, replica))
        asyncio.run(named(lambda: "state=online" in cli(primary, "INFO", "replication"), "the replica"))
        assert group.primaries() == [primary]
        yield primary, replica, link, address


@pytest.mark.parametrize("durability", ["normal", "replicated"])
def test_what_was_acknowledged_after_wait_survives_the_loss_of_the_primary(
    tmp_path: Path, transport: dict[str, Any], durability: Durability
) -> None:
    """The link to the replica is cut for a moment, then the primary is killed: what it acknowledged meanwhile is nowhere else.

    With "normal" that are ends and logins too, which plants the fault that "replicated" must not have.
    """
    with linked(tmp_path) as (primary, replica, link, address):

        async def story(work: Work) -> float:
            link.be("drops")
            ends = len(work.finished)
            if durability == "normal":
                await work.until(lambda: len(work.finished) > ends + 10, "ends")
            else:
                await work.more(100)  # ordinary writes do not wait
                await work.hurt(20)
            await asyncio.to_thread(primary.kill)
            await asyncio.to_thread(cli, replica, "REPLICAOF", "NO", "ONE")
            address.target = replica.port
            at = time.monotonic()
            if durability == "replicated":  # the new primary takes logins when it has a replica
                link.target = replica.port
                link.be("well")
                await asyncio.to_thread(primary.start)
                await asyncio.to_thread(cli, primary, "REPLICAOF", "127.0.0.1", str(link.port))
                await named(lambda: "state=online" in cli(replica, "INFO", "replication"), "the replica")
                at = time.monotonic()
            return at

        outcome = run(f"redis://127.0.0.1:{address.port}/0", transport, durability, story)
    judged("replication cut, then primary killed (-9)", "Redis and a replica", durability, outcome)
    report, _ = outcome
    if durability == "normal":
        assert report.undone > 0
        assert report.logged_out > 0
