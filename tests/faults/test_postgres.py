"""PostgreSQL under faults, with work going on over both faces: restarted, cut off, failed over to its standby."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coatcheck.stores.postgres import PostgresStore
from servers import Server, postgres, postgres_replicated
from servers.postgres import hold_back, power_cut, promote
from tests.faults import figures
from tests.faults.sound import RECOVERED, is_honest, now, set_up, under
from tests.faults.workload import Work

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with postgres(tmp_path / "postgres") as server:
        yield server


@pytest.mark.parametrize("end", [Server.stop, power_cut], ids=["fast", "killed"])
def test_a_restart_loses_nothing(server: Server, end: Callable[[Server], None]) -> None:
    async def hurt(work: Work) -> float:
        await asyncio.to_thread(end, server)
        await work.hurt(50)
        await asyncio.to_thread(server.start)
        return now()

    report, took = asyncio.run(under(set_up(PostgresStore.from_url(server.url)), hurt, seed=1))
    how = "stopped" if end is Server.stop else "killed (-9)"
    figures.keep(f"server {how} and started", "PostgreSQL", "one server", report, recovered=took)
    figures.sound(report)
    assert took < RECOVERED


@pytest.mark.parametrize("synchronous", [True, False], ids=["synchronous", "asynchronous"])
@pytest.mark.parametrize("lags", [False, True], ids=["", "lagging"])
def test_a_promoted_standby_takes_over(tmp_path: Path, synchronous: bool, lags: bool) -> None:
    """The primary dies under load. `lags`: its standby heard nothing from it for a while, so there is something to lose."""

    async def hurt(work: Work) -> float:
        if lags:
            await asyncio.to_thread(hold_back, pair.primary)
            await _something_happens(work, synchronous)
        await asyncio.to_thread(power_cut, pair.primary)
        await asyncio.to_thread(promote, pair.replica)
        return now()

    with postgres_replicated(tmp_path / "pair", synchronous=synchronous) as pair:
        report, took = asyncio.run(under(set_up(PostgresStore.from_url(pair.url)), hurt, seed=2))
    fault = "primary killed, standby promoted" + (", after it was cut off for a while" if lags else "")
    setting = "synchronous standby" if synchronous else "asynchronous standby"
    figures.keep(fault, "PostgreSQL", setting, report, recovered=took)
    (figures.sound if synchronous else is_honest)(report)
    assert took < RECOVERED
    if lags and not synchronous:
        assert report.lost > 0, "the checker would have seen a loss"


async def _something_happens(work: Work, synchronous: bool) -> None:
    """Where the primary waits for its standby, nothing is acknowledged any more; else things go on as ever."""
    if not synchronous:
        await work.more(200)
        return
    await work.hurt(50)


def test_a_promoted_standby_takes_over_from_a_primary_that_hangs(tmp_path: Path) -> None:
    """As after a power cut or on a network that swallows packets: nobody says that it is gone."""

    async def hurt(work: Work) -> float:
        await asyncio.to_thread(pair.primary.pause)
        await asyncio.to_thread(promote, pair.replica)
        return now()

    with postgres_replicated(tmp_path / "pair", synchronous=True) as pair:
        report, took = asyncio.run(under(set_up(PostgresStore.from_url(pair.url)), hurt, seed=3))
    figures.keep(
        "primary hangs, standby promoted", "PostgreSQL", "synchronous standby", report, recovered=took
    )
    figures.sound(report)
    assert took < RECOVERED
