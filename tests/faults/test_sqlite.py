"""SQLite under faults, with work going on over both faces: no room on the disk, a limit to the file, workers killed."""

import asyncio
import resource
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from tests.faults import figures
from tests.faults.checker import Report
from tests.faults.room import Room
from tests.faults.site import server_site
from tests.faults.sound import RECOVERED, now
from tests.faults.test_workers import kill_one
from tests.faults.workload import Work, at_work
from tests.web.servers import Server, gunicorn, uvicorn

pytestmark = pytest.mark.slow

KILLS = 8
FACES = {"awaiting": "event loop", "blocking": "threads"}

ROOM = "6m"
"""On the small disk: enough for the sessions of a test several times over."""


@contextmanager
def served(face: str, file: Path, folder: Path, *, within: tuple[str, ...] = ()) -> Iterator[Server]:
    """The application over one face, in a process of its own."""
    env = {"STORE": f"sqlite:///{file}"}
    with ExitStack() as stack:
        if face == "awaiting":
            yield stack.enter_context(uvicorn("tests.faults.site:app", folder=folder, env=env, within=within))
        else:
            yield stack.enter_context(
                gunicorn("tests.faults.threads:app", folder=folder, env=env, within=within)
            )


async def worked(server: Server, hurt: Callable[[Work], object], seed: int) -> tuple[Report, float]:
    """Visitors of the server, while `hurt` is done to it. Returns the counts, and the seconds until all were served again."""
    async with at_work([server_site(server.port)], seed=seed) as work:
        await work.more(300)
        await hurt(work)  # type: ignore[misc]  # it is a coroutine
        took = await work.recovered(now())
        await work.more(300)
        return await work.finish(), took


async def everybody_reads(work: Work) -> int:
    """Look at every session that is there: each must be shown. Returns how many lived."""
    lived = 0
    for jar in list(work.jars.values()):
        answer = await work.sites[0].ask(dict(jar))
        assert answer.status == 200, answer.seen.body
        lived += answer.shown.user is not None
    return lived


def is_whole(file: Path) -> None:
    """The file is as SQLite wants it, by SQLite's own word."""
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize("face", FACES)
def test_without_room_on_the_disk_sessions_are_read_and_none_is_lost(tmp_path: Path, face: str) -> None:
    """A disk of its own is really full: writes are refused (503), reads go on; with room again everything does."""
    room, log = tmp_path / "room", tmp_path / "log"
    room.mkdir()
    log.mkdir()
    lived = 0

    async def hurt(work: Work) -> None:
        nonlocal lived
        for _ in range(3):
            await asyncio.to_thread(disk.fill)
            await work.hurt(100)
            lived += await everybody_reads(work)
            disk.clear()
            await work.more(100)

    with served(face, room / "sessions.db", log, within=("tests.faults.room", str(room), ROOM)) as server:
        disk = Room(server.pid, room)
        report, took = asyncio.run(worked(server, hurt, seed=1))
        copy = disk.copy("sessions.db", tmp_path)
        said = server.log.read_text()
    figures.keep(
        "disk full, three times", "SQLite", FACES[face], report, recovered=took, read_meanwhile=lived
    )
    figures.sound(report)
    is_whole(copy)
    assert "the disk is full" in said
    assert lived > 10
    assert took < RECOVERED


@pytest.mark.parametrize("face", FACES)
def test_a_limit_to_the_file_is_no_harm(tmp_path: Path, face: str) -> None:
    """As a quota would: the file may not grow (EFBIG), and SQLite takes that for a disk that fails."""

    async def hurt(work: Work) -> None:
        for worker in workers_of(server):
            resource.prlimit(worker, resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
        await work.hurt(100)
        for worker in workers_of(server):
            resource.prlimit(worker, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    with served(face, tmp_path / "sessions.db", tmp_path) as server:
        report, took = asyncio.run(worked(server, hurt, seed=2))
    figures.keep("file may not grow (EFBIG)", "SQLite", FACES[face], report, recovered=took)
    figures.sound(report)
    is_whole(tmp_path / "sessions.db")
    assert took < RECOVERED


def workers_of(server: Server) -> list[int]:
    """A server's processes, itself among them."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    return [server.pid, *map(int, children)]


def test_killed_workers_lose_nothing(tmp_path: Path) -> None:
    """Two workers of one server on one file; eight times one is killed, in the middle of whatever it does."""

    async def story() -> tuple[Report, float]:
        site = server_site(server.port)
        async with at_work([site], seed=3) as work:
            await work.more(100)
            for _ in range(KILLS):
                await kill_one(work, server, site)
            took = await work.recovered(now())
            return await work.finish(), took

    env = {"STORE": f"sqlite:///{tmp_path / 'sessions.db'}"}
    with uvicorn("tests.faults.site:app", folder=tmp_path, env=env, options=("--workers", "2")) as server:
        report, took = asyncio.run(story())
    figures.keep("workers of uvicorn killed (-9)", "SQLite", "two workers", report, recovered=took)
    figures.sound(report, errors=(0,))
    is_whole(tmp_path / "sessions.db")
    assert took < RECOVERED
