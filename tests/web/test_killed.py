"""Workers killed with SIGKILL under load, on one SQLite file: what was acknowledged is there, the file is sound,
sessions go on.
"""

import json
import os
import signal
import sqlite3
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.web.servers import Browser, Server, gunicorn, uvicorn

VISITORS = 6
KILLS = 4
BETWEEN_KILLS = 60
"""Acknowledged writes that are awaited before the next worker is killed."""


@dataclass
class Tally:
    """What the visitors heard back."""

    acknowledged: list[int] = field(default_factory=lambda: [0] * VISITORS)
    unanswered: list[int] = field(default_factory=lambda: [0] * VISITORS)
    moved: threading.Condition = field(default_factory=threading.Condition)
    over: threading.Event = field(default_factory=threading.Event)

    def note(self, number: int, answered: bool) -> None:
        """Count one request."""
        with self.moved:
            (self.acknowledged if answered else self.unanswered)[number] += 1
            self.moved.notify_all()

    def wait_for_more(self, count: int) -> None:
        """Wait until so many more writes were acknowledged."""
        with self.moved:
            enough = sum(self.acknowledged) + count
            assert self.moved.wait_for(lambda: sum(self.acknowledged) >= enough, timeout=120)


def keep_counting(visitor: Browser, number: int, tally: Tally) -> None:
    """Count in one's own session, until told to stop; a connection that breaks is nobody's acknowledgement."""
    while not tally.over.is_set():
        try:
            answered = visitor.visit("/?count=1").status == 200
        except (OSError, AssertionError):
            answered = False
        tally.note(number, answered)


def children(pid: int) -> list[int]:
    """The worker processes of a gunicorn master."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


def check(file: Path, kept: list[int], tally: Tally) -> None:
    """Every acknowledged write is there; of the unanswered ones any may be."""
    print(f"acknowledged {sum(tally.acknowledged)}, unanswered {sum(tally.unanswered)}, kept {sum(kept)}")
    for count, sure, maybe in zip(kept, tally.acknowledged, tally.unanswered, strict=True):
        assert 1 + sure <= count <= 1 + sure + maybe
    connection = sqlite3.connect(file)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        connection.close()


def count_of(visitor: Browser) -> int:
    """What the visitor's session has counted so far."""
    return int(json.loads(visitor.visit("/").text)["data"]["n"])


def begin(server: Server) -> list[Browser]:
    """Visitors whose sessions are stored."""
    visitors = [Browser(server) for _ in range(VISITORS)]
    for visitor in visitors:
        assert visitor.visit("/?count=1").status == 200
    return visitors


def test_killed_workers_lose_no_acknowledged_write(file: Path, tmp_path: Path) -> None:
    tally = Tally()
    with gunicorn(
        "tests.web.crowd:wsgi", folder=tmp_path, env={"STORE": f"sqlite:///{file}"}, workers=2, threads=4
    ) as server:
        visitors = begin(server)
        threads = [
            threading.Thread(target=keep_counting, args=(visitor, number, tally))
            for number, visitor in enumerate(visitors)
        ]
        for thread in threads:
            thread.start()
        try:
            for _ in range(KILLS):
                tally.wait_for_more(BETWEEN_KILLS)
                os.kill(children(server.pid)[0], signal.SIGKILL)
            tally.wait_for_more(BETWEEN_KILLS)
        finally:
            tally.over.set()
            for thread in threads:
                thread.join()
        check(file, [count_of(visitor) for visitor in visitors], tally)


def test_a_killed_server_started_again_goes_on_with_every_session(file: Path, tmp_path: Path) -> None:
    tally, env = Tally(), {"STORE": f"sqlite:///{file}"}
    with uvicorn("tests.web.crowd:starlette", folder=tmp_path, env=env) as server:
        visitors = begin(server)
        threads = [
            threading.Thread(target=keep_counting, args=(visitor, number, tally))
            for number, visitor in enumerate(visitors)
        ]
        for thread in threads:
            thread.start()
        try:
            tally.wait_for_more(5 * BETWEEN_KILLS)
            os.kill(server.pid, signal.SIGKILL)
        finally:
            tally.over.set()
            for thread in threads:
                thread.join()
    with uvicorn("tests.web.crowd:starlette", folder=tmp_path, env=env) as again:
        back = [Browser(again, cookies=visitor.cookies) for visitor in visitors]
        check(file, [count_of(visitor) for visitor in back], tally)
        before = count_of(back[0])
        back[0].visit("/?count=1")
        assert count_of(back[0]) == before + 1
