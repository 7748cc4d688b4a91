"""One Redis server that is killed, stopped, stands still, or forgets; and what its settings of durability are worth."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

from servers import Server, redis
from servers.redis import cli
from tests.faults import figures
from tests.faults.checker import Report
from tests.faults.redis_stories import KEEPS, redis_at_work
from tests.faults.transports import TRANSPORTS
from tests.faults.workload import Work

pytestmark = pytest.mark.slow
OVER_EACH = pytest.mark.parametrize("transport", TRANSPORTS)


def run(transport: dict[str, Any], server: Server, story: Any) -> tuple[Report, float]:
    """Users at work while the story happens; it returns the moment at which the server was well again."""

    async def within() -> tuple[Report, float]:
        async with redis_at_work(server.url, transport) as work:
            await work.more(300)
            recovered = await work.recovered(await story(work))
            await work.more(300)
            return await work.finish(), recovered

    return asyncio.run(within())


@OVER_EACH
@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_server_that_keeps_what_it_acknowledged_may_be_killed(
    tmp_path: Path, transport: dict[str, Any], how: str
) -> None:
    with redis(tmp_path, *KEEPS) as server:

        async def story(work: Work) -> float:
            well = 0.0
            for _ in range(2):
                await asyncio.to_thread(getattr(server, how))
                await work.hurt(100)
                await asyncio.to_thread(server.start)
                well = time.monotonic()
                await work.more(200)
            return well

        report, recovered = run(transport, server, story)
    figures.keep(
        "killed (-9)" if how == "kill" else "stopped",
        "Redis",
        "one server, appendfsync always",
        report,
        recovered=recovered,
    )
    figures.sound(report)
    assert recovered < 5


@OVER_EACH
def test_a_server_that_stands_still_is_waited_for_by_nobody(
    tmp_path: Path, transport: dict[str, Any]
) -> None:
    with redis(tmp_path) as server:

        async def story(work: Work) -> float:
            well = 0.0
            for _ in range(2):
                server.pause()
                try:
                    await work.hurt(400)
                finally:
                    server.resume()
                well = time.monotonic()
                await work.more(200)
            return well

        report, recovered = run(transport, server, story)
    figures.keep("stands still (SIGSTOP)", "Redis", "one server", report, recovered=recovered)
    figures.sound(report)
    assert recovered < 5


@OVER_EACH
def test_a_server_that_forgets_scripts_and_clients_is_hardly_noticed(
    tmp_path: Path, transport: dict[str, Any]
) -> None:
    with redis(tmp_path) as server:

        async def story(work: Work) -> float:
            for _ in range(10):
                await asyncio.to_thread(cli, server, "SCRIPT", "FLUSH")
                await asyncio.to_thread(cli, server, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                await work.more(60)
            return time.monotonic()

        report, recovered = run(transport, server, story)
    figures.keep("SCRIPT FLUSH, CLIENT KILL", "Redis", "one server", report, recovered=recovered)
    figures.sound(report)


# ------------------------------------------------------------------------- settings that do not keep what was acknowledged


def test_snapshots_alone_bring_back_what_was_before_them(tmp_path: Path) -> None:
    """A fault that is planted for the checker too: were nothing found lost and undone here, it would find nothing anywhere."""
    with redis(tmp_path) as server:

        async def story(work: Work) -> float:
            await asyncio.to_thread(cli, server, "SAVE")
            ends = len(work.finished)
            await work.more(400)
            await work.until(lambda: len(work.finished) > ends + 10, "ends")
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            return time.monotonic()

        report, recovered = run({}, server, story)
    figures.keep("killed (-9)", "Redis", "one server, snapshots only", report, recovered=recovered)
    assert report.lost > 0
    assert report.logged_out > 0
    assert report.undone > 0
    assert report.mixed == 0, report.line()
    assert recovered < 5


def test_everysec_keeps_what_was_written_when_the_process_is_killed_and_not_when_the_power_fails(
    tmp_path: Path,
) -> None:
    """A power cut takes with it what the system had not yet put on disk: with everysec, the last second. Here the file is cut to
    the length that it had a second before.
    """
    with redis(tmp_path, "--appendonly", "yes", "--appendfsync", "everysec") as server:
        (file,) = (tmp_path / "appendonlydir").glob("*.incr.aof")

        async def killed(work: Work) -> float:
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            return time.monotonic()

        async def power_cut(work: Work) -> float:
            size = file.stat().st_size
            second = time.monotonic() + 1
            await work.until(lambda: time.monotonic() > second, "a second to pass")
            await asyncio.to_thread(server.kill)
            os.truncate(file, size)
            await asyncio.to_thread(server.start)
            return time.monotonic()

        report, recovered = run({}, server, killed)
        figures.keep("killed (-9)", "Redis", "one server, appendfsync everysec", report, recovered=recovered)
        assert report.mixed == 0, report.line()
        report, recovered = run({}, server, power_cut)
    figures.keep(
        "power cut, last second", "Redis", "one server, appendfsync everysec", report, recovered=recovered
    )
    assert report.lost > 0
    assert report.mixed == 0, report.line()
    assert recovered < 5
