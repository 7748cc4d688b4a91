"""How long the event loop stands still while an SQLite file is busy: ``python -m bench.stall``.

A second process takes the file's write lock again and again; this one runs the work under test and, beside it, a
heartbeat of one millisecond. What the heartbeat is late by, every other request of the application would be too.
"""

import argparse
import asyncio
import math
import secrets
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from coatcheck.core.ports import SAVED
from coatcheck.core.record import Record
from coatcheck.stores.sqlite import SQLiteStore

BEAT_SECONDS = 0.001
Work = Callable[[Path, asyncio.Event], Awaitable[None]]


async def heartbeat(stop: asyncio.Event) -> list[float]:
    """Sleep one millisecond at a time until ``stop`` is set; return how many seconds late each waking was."""
    late = []
    while not stop.is_set():
        before = time.perf_counter()
        await asyncio.sleep(BEAT_SECONDS)
        late.append(max(0.0, time.perf_counter() - before - BEAT_SECONDS))
    return late


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least ``share`` (0 to 1) of the values do not exceed (nearest rank).

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values to take a quantile of")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


async def stalls(work: Work, path: Path, seconds: float) -> list[float]:
    """Run ``work`` for ``seconds`` beside the heartbeat; return the heartbeat's delays in seconds.

    ``work`` gets the file and an event, and returns soon after the event is set.
    """
    stop = asyncio.Event()
    beat = asyncio.create_task(heartbeat(stop))
    working = asyncio.ensure_future(work(path, stop))
    await asyncio.sleep(seconds)
    stop.set()
    await working
    return await beat


@contextmanager
def busy(path: Path, *, hold: float, rest: float) -> Iterator[None]:
    """Keep the file busy from a second process: lock it for ``hold`` seconds, leave it for ``rest``, and again."""
    command = [
        sys.executable,
        "-m",
        "bench.stall",
        "--lock",
        str(path),
        "--hold",
        str(hold),
        "--rest",
        str(rest),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        if not process.stdout.readline():  # its first line says that the file has been locked once
            raise RuntimeError(f"the locking process ended with exit code {process.wait()}")
        yield
    finally:
        process.terminate()
        process.communicate()


def lock_repeatedly(path: Path, *, hold: float, rest: float) -> None:
    """Hold the write lock, let go, and again until the process is ended: the second process's whole life."""
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        print("locked", flush=True)
        while True:
            time.sleep(hold)
            connection.execute("COMMIT")
            time.sleep(rest)
            connection.execute("BEGIN IMMEDIATE")


async def idle(path: Path, stop: asyncio.Event) -> None:
    """Do nothing: what the loop and this machine are late by on their own."""
    await stop.wait()


async def waiting_inline(path: Path, stop: asyncio.Event) -> None:
    """Write on the event loop and let SQLite wait there for the lock: the mistake to be compared with."""
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS bench (n INTEGER)")
        while not stop.is_set():
            connection.execute("INSERT INTO bench VALUES (1)")
            await asyncio.sleep(0.005)


async def coatcheck_sqlite(path: Path, stop: asyncio.Event) -> None:
    """Write sessions through coatcheck: inline while the file is free, else through its writer thread."""
    with await asyncio.to_thread(SQLiteStore, path, busy_timeout=30) as backend:
        store = backend.awaiting()
        while not stop.is_set():
            now = time.time()
            record = Record(
                secrets.token_urlsafe(18), ("v",), bytes(32), b"{}", now, now, now + 60, now + 600
            )
            if await store.create(record, now=now) is not SAVED:
                raise RuntimeError("a new session was not saved")
            await asyncio.sleep(0.005)


# One line a way of working.
WORK: dict[str, Work] = {
    "idle": idle,
    "sqlite3 waiting inline": waiting_inline,
    "coatcheck SQLite": coatcheck_sqlite,
}


def report(name: str, late: Sequence[float]) -> str:
    """Return one line: p50, p99 and maximum in milliseconds."""
    p50, p99, worst = (1000 * quantile(late, share) for share in (0.5, 0.99, 1.0))
    return f"{name:<28} p50 {p50:8.2f} ms   p99 {p99:8.2f} ms   max {worst:8.2f} ms   ({len(late)} beats)"


def main(arguments: list[str] | None = None) -> int:
    """Measure each way of working on a busy file, or be the second process (``--lock``)."""
    reader = argparse.ArgumentParser(prog="python -m bench.stall", description=__doc__)
    reader.add_argument("--seconds", type=float, default=3.0)
    reader.add_argument(
        "--hold", type=float, default=0.05, help="seconds a lock is held, default %(default)s"
    )
    reader.add_argument("--rest", type=float, default=0.01, help="seconds between locks, default %(default)s")
    reader.add_argument("--lock", type=Path, help=argparse.SUPPRESS)
    options = reader.parse_args(arguments)
    if options.lock is not None:
        lock_repeatedly(options.lock, hold=options.hold, rest=options.rest)
    for name, work in WORK.items():
        with tempfile.TemporaryDirectory(prefix="coatcheck-stall-") as directory:
            path = Path(directory) / "sessions.db"
            SQLiteStore(path).close()  # the file, with a write-ahead log, for whoever works on it
            with busy(path, hold=options.hold, rest=options.rest):
                print(report(name, asyncio.run(stalls(work, path, options.seconds))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
