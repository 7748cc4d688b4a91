"""The SQLite store among processes: killed, racing, forking. What was acknowledged is there."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from coatcheck.core.ports import SAVED
from coatcheck.core.record import Record
from coatcheck.core.stepping import run_now
from coatcheck.stores.sqlite import SQLiteStore
from tests.stores.sqlite_workers import NOW, after, record

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


def worker(*arguments: object) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.stores.sqlite_workers", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)


def killed_after(seconds: float, workers: "list[subprocess.Popen[bytes]]") -> dict[str, int]:
    """Let them work, kill -9 all at once, and return what they had been told was written: key -> last number."""
    acknowledged: dict[str, int] = {}
    said = b""
    for process in workers:
        assert process.stdout is not None
        said += process.stdout.readline()  # it is at work
        os.set_blocking(process.stdout.fileno(), False)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for process in workers:
            assert process.stdout is not None
            said += process.stdout.read() or b""
        time.sleep(0.01)
    for process in workers:
        process.send_signal(signal.SIGKILL)
    for process in workers:
        assert process.wait() == -signal.SIGKILL
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), True)
        said += process.stdout.read()
        process.stdout.close()
    for line in said.splitlines():
        key, n = line.decode().split()
        acknowledged[key] = max(int(n), acknowledged.get(key, 0))
    return acknowledged


def test_kill_9_under_load_loses_no_acknowledged_write(path: Path) -> None:
    SQLiteStore(path).close()
    acknowledged: dict[str, int] = {}
    for _ in range(3):
        workers = [worker("acknowledge_blocking", path), worker("acknowledge_awaiting", path)]
        acknowledged |= killed_after(0.7, workers)
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        with SQLiteStore(path) as backend:
            store = backend.blocking()
            for key, n in acknowledged.items():
                there = run_now(store.load(key, now=NOW))
                assert isinstance(there, Record)
                assert int(there.data) >= n
                new = after(there, there.data)  # and the session goes on
                assert run_now(store.replace(new, expected=there.version, now=NOW)) is SAVED
    assert len(acknowledged) == 3 * 6
    writes = sum(acknowledged.values())
    print(f"{len(acknowledged)} sessions, {writes} acknowledged writes, none lost")
    assert writes > 100


def test_increments_of_several_processes_lose_nothing(path: Path) -> None:
    with SQLiteStore(path) as backend:
        there = record()
        assert run_now(backend.blocking().create(there, now=NOW)) is SAVED
        workers = [
            worker(f"increment_{face}", path, there.key, 60) for face in ("blocking", "awaiting", "blocking")
        ]
        for process in workers:
            assert process.stdout is not None
            with process.stdout:
                assert process.wait(timeout=60) == 0
        after_all = run_now(backend.blocking().load(there.key, now=NOW))
        assert isinstance(after_all, Record)
        assert after_all.data == b"%d" % (3 * 4 * 60)


@pytest.mark.parametrize("face", ["blocking", "awaiting"])
def test_a_fork_loses_nothing_though_the_parent_closes(path: Path, face: str) -> None:
    """With connections carried through the fork, what the child writes last goes into a log that was deleted."""
    process = worker("fork", path, face)
    assert process.stdout is not None
    with process.stdout:
        assert process.wait(timeout=60) == 0
    with SQLiteStore(path) as backend:
        for key in ("before", "child-1", "parent", "child-2"):
            assert isinstance(run_now(backend.blocking().load(key, now=NOW)), Record), key
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_fork_while_other_threads_write_waits_for_them(path: Path) -> None:
    process = worker("fork_under_load", path)
    assert process.stdout is not None
    with process.stdout:
        assert process.wait(timeout=60) == 0
        assert process.stdout.read() == b"parent and 5 children went on\n"
