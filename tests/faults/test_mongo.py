"""MongoDB under faults, with work going on over both faces: a primary that steps down, is killed, hangs; a server by itself."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coatcheck.stores.mongo import MongoStore
from servers import MongoSet, Server, mongo, mongo_replicated
from tests.faults import figures
from tests.faults.sound import RECOVERED, now, set_up, under
from tests.faults.workload import Work

pytestmark = pytest.mark.slow

SET = "replica set of three"


@pytest.fixture
def group(tmp_path: Path) -> Iterator[MongoSet]:
    with mongo_replicated(tmp_path / "set") as group:
        yield group


def test_a_primary_that_steps_down_loses_nothing(group: MongoSet) -> None:
    async def hurt(work: Work) -> float:
        old = await asyncio.to_thread(group.step_down)
        await asyncio.to_thread(lambda: group.await_primary(other_than=old))
        return now()

    report, took = asyncio.run(under(set_up(MongoStore.from_url(group.url)), hurt, seed=1))
    figures.keep("primary steps down", "MongoDB", SET, report, recovered=took)
    figures.sound(report)
    assert took < RECOVERED


@pytest.mark.parametrize("end", [Server.kill, Server.pause], ids=["killed", "hanging"])
def test_a_primary_that_is_gone_loses_nothing(group: MongoSet, end: Callable[[Server], None]) -> None:
    """Killed, or silent as after a power cut. Then it comes back as a secondary, and undoes what no majority had."""

    async def hurt(work: Work) -> float:
        old = await asyncio.to_thread(group.await_primary)
        await asyncio.to_thread(end, old)
        await asyncio.to_thread(lambda: group.await_primary(other_than=old))
        well_at = now()
        await work.recovered(well_at)
        await asyncio.to_thread(old.start if old.process is None else old.resume)
        return well_at

    report, took = asyncio.run(under(set_up(MongoStore.from_url(group.url)), hurt, seed=2))
    how = "killed (-9)" if end is Server.kill else "hangs"
    figures.keep(f"primary {how}, another elected", "MongoDB", SET, report, recovered=took)
    figures.sound(report)
    assert took < RECOVERED


def test_without_a_majority_nothing_is_acknowledged(group: MongoSet) -> None:
    """Both secondaries die: the primary has what was written meanwhile, and steps down, and says nothing of it."""

    async def hurt(work: Work) -> float:
        primary = await asyncio.to_thread(group.await_primary)
        secondaries = [server for server in group.servers if server is not primary]
        for secondary in secondaries:
            await asyncio.to_thread(secondary.kill)
        await work.hurt(50)
        await asyncio.to_thread(primary.kill)
        for secondary in secondaries:
            await asyncio.to_thread(secondary.start)
        await asyncio.to_thread(group.await_primary)
        well_at = now()
        await work.recovered(well_at)
        await asyncio.to_thread(primary.start)
        return well_at

    report, took = asyncio.run(under(set_up(MongoStore.from_url(group.url)), hurt, seed=3))
    figures.keep("two of three killed, then the third", "MongoDB", SET, report, recovered=took)
    figures.sound(report)
    assert took < RECOVERED


@pytest.mark.parametrize("end", [Server.stop, Server.kill], ids=["fast", "killed"])
def test_a_restart_of_a_server_by_itself_loses_nothing(tmp_path: Path, end: Callable[[Server], None]) -> None:
    """What was acknowledged is in its journal."""

    async def hurt(work: Work) -> float:
        await asyncio.to_thread(end, server)
        await work.hurt(50)
        await asyncio.to_thread(server.start)
        return now()

    with mongo(tmp_path / "alone", replica_set=False) as server:
        report, took = asyncio.run(under(set_up(MongoStore.from_url(server.url)), hurt, seed=4))
    how = "stopped" if end is Server.stop else "killed (-9)"
    figures.keep(f"server {how} and started", "MongoDB", "one server", report, recovered=took)
    figures.sound(report)
    assert took < RECOVERED
