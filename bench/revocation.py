"""How long after a logout its tokens are refused elsewhere: `python -m bench.revocation`.

Four processes listen on one store. Each revokes its share of the logins, one after the other, and writes down when it hears of
those of all. The lag is from the call of `revoke()` in one process until another refuses the token; all read the same clock of
the machine. Redis and PostgreSQL; nobody waits for a disk.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.databases import STARTED
from coatcheck import AsyncSessionManager, Notice, Outage, SessionManager
from coatcheck.tokens import AsyncTokens, Key, KeyRing, Tokens

__all__ = ["lags", "main"]

PROCESSES = 4
STATED = 15.0
"""Seconds: the default of `max_lag`, past which nothing unsure is let in."""
KEYS = KeyRing([Key.from_secret("mV4sNq8LtR5nXw1YbK7pCd2GfJ9hTe3U", kid="k1")])
PATIENT = Outage(connect_timeout=20.0, command_timeout=20.0)
TERMS: dict[str, Any] = {"keys": KEYS, "issuer": "i", "audience": "a"}


async def work(url: str) -> None:
    """One of the processes: it is told the pairs, and which of them it is to revoke."""
    async with AsyncSessionManager(url, outage=PATIENT) as sessions:
        tokens: AsyncTokens = AsyncTokens(sessions, **TERMS)
        heard, began, watching = dict[str, float](), dict[str, float](), asyncio.Event()
        tokens.listen()

        def hear(notice: Notice) -> None:
            watching.set()
            if notice.kind == "ended":
                heard.setdefault(notice.key, time.monotonic())

        sessions.watch(hear)
        await asyncio.wait_for(watching.wait(), 60)
        order = await told("ready")
        for refresh in order["mine"]:
            began[refresh.partition(".")[0]] = time.monotonic()
            await tokens.revoke(refresh)
            await asyncio.sleep(0)
        until = time.monotonic() + 60
        while len(heard) < len(order["all"]) and time.monotonic() < until:
            await asyncio.sleep(
                0.01
            )  # when it was heard is written down by `hear`: this only waits for the last
        refused = sum(refuses(tokens, token) for token in order["all"])
        await told({"heard": heard, "began": began, "refused": refused})


def refuses(tokens: Any, token: str) -> bool:
    """Whether it is known here, without asking anybody, that this token was revoked."""
    try:
        tokens.verify(token)
    except Exception as error:
        return getattr(error, "reason", "") == "revoked"
    return False


async def told(answer: Any) -> Any:
    """What comes after this was said."""
    print(json.dumps(answer), flush=True)
    return json.loads(await asyncio.to_thread(sys.stdin.readline) or "null")


def lags(url: str, revocations: int) -> list[float]:
    """The seconds from each revocation until each of the other processes knew. Raises AssertionError if one never did."""
    with SessionManager(url, outage=PATIENT) as sessions:
        sessions.setup()
        tokens: Tokens = Tokens(sessions, **TERMS)
        pairs = [tokens.issue(f"u{n}") for n in range(revocations)]
        command = [sys.executable, "-m", "bench.revocation", "--worker", url]
        workers = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(PROCESSES)
        ]
        try:
            return _raced(workers, pairs)
        finally:
            for worker in workers:
                worker.kill()
                worker.communicate()


def _raced(workers: list[Any], pairs: list[Any]) -> list[float]:
    for worker in workers:
        assert json.loads(worker.stdout.readline()) == "ready"
    access = [pair.access_token for pair in pairs]
    for n, worker in enumerate(workers):
        mine = [pair.refresh_token for pair in pairs[n::PROCESSES]]
        print(json.dumps({"mine": mine, "all": access}), file=worker.stdin, flush=True)
    answers = [json.loads(worker.stdout.readline()) for worker in workers]
    assert [answer["refused"] for answer in answers] == [len(pairs)] * PROCESSES
    return [
        answer["heard"][handle] - began
        for revoker in answers
        for handle, began in revoker["began"].items()
        for answer in answers
        if answer is not revoker
    ]


def shown(found: list[float]) -> str:
    """The figures of a row, in milliseconds."""
    found = sorted(found)
    p50, p99 = (found[int(len(found) * part)] for part in (0.5, 0.99))
    return f"p50 {1000 * p50:6.1f} ms   p99 {1000 * p99:6.1f} ms   max {1000 * found[-1]:6.1f} ms"


def main(arguments: list[str] | None = None) -> int:
    """Print a row for each store. Returns 1 if a lag was longer than the stated one."""
    reader = argparse.ArgumentParser(prog="python -m bench.revocation", description=__doc__)
    reader.add_argument("--revocations", type=int, default=1000)
    reader.add_argument("--worker", metavar="URL", help=argparse.SUPPRESS)
    given = reader.parse_args(arguments)
    if given.worker:
        asyncio.run(work(given.worker))
        return 0
    worst = 0.0
    for kind in ("redis", "postgres"):
        with (
            tempfile.TemporaryDirectory(prefix="coatcheck-bench-") as folder,
            STARTED[kind](Path(folder) / kind) as server,
        ):
            found = lags(server.url, given.revocations)
        worst = max(worst, *found)
        print(
            f"{kind:<9} {given.revocations} revocations, {PROCESSES} processes   {shown(found)}", flush=True
        )
    return int(worst > STATED)


if __name__ == "__main__":
    raise SystemExit(main())
