"""What the commands of the bench share: cores, a header, progress, results on disk, an end that leaves nothing running."""

import argparse
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.machine import machine, versions
from bench.rounds import Plan

ROOM = Path(__file__).resolve().parent / "results"
"""What whole runs found, one file a command: what the documentation shows is made of these and of nothing else."""

ALL = "the rows without bars too"


class Unable(Exception):
    """The command cannot run here; the message says how it could."""


def run(body: Callable[[], int]) -> int:
    """Run a command; return its exit code, 2 when it cannot run at all."""
    try:
        with ended_politely():
            return body()
    except Unable as trouble:
        print(trouble, file=sys.stderr)
        return 2


@contextmanager
def ended_politely() -> Iterator[None]:
    """Have SIGTERM end the block as Ctrl-C does: everything that it started is stopped on the way out."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def of_contestants(
    name: str,
    words: str | None,
    body: Callable[[argparse.Namespace], int],
    arguments: list[str] | None,
) -> int:
    """Run a command that measures the core of the contestants, or with ``--all`` everybody; return its exit code."""
    asked = reader(name, words)
    asked.add_argument("--all", action="store_true", help=ALL)
    options = asked.parse_args(arguments)
    return run(lambda: body(options))


def reader(name: str, words: str | None) -> argparse.ArgumentParser:
    """Return a command line that knows ``--quick``."""
    found = argparse.ArgumentParser(prog=f"python -m {name}", description=words)
    found.add_argument(
        "--quick", action="store_true", help="as little as shows whether it works; no figures to keep"
    )
    return found


def with_rounds(found: argparse.ArgumentParser, rounds: int) -> argparse.ArgumentParser:
    """Have it read ``--rounds`` too: fewer where the time is short, and the results say so."""
    found.add_argument("--rounds", type=positive, default=rounds, help="default %(default)s")
    return found


def positive(text: str) -> int:
    """Read a whole number above zero."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def on_cores(plan: Plan) -> Plan:
    """Return the plan with cores of its own for the server, the load, and where there is a third the databases.

    Raises:
        Unable: this process may use one core only, or there is no load generator.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise Unable("bench needs two CPU cores, for the server and for the load; this process has one")
    if shutil.which("wrk") is None:
        raise Unable("bench needs wrk, the load generator. As root: apt-get install -y wrk")
    return replace(
        plan, server_core=cores[0], load_core=cores[1], database_core=cores[min(2, len(cores) - 1)]
    )


def header(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return what figures are worth little without, and print it."""
    found: dict[str, Any] = {"machine": machine(), "versions": versions(), "plan": dict(plan)}
    for topic, facts in found.items():
        print(f"{topic}: " + ", ".join(f"{name} {fact}" for name, fact in facts.items()), flush=True)
    return found


def write(name: str, results: Mapping[str, Any], *, whole: bool) -> Path:
    """Write results; those of a part of a run, or of a quick one, apart, where no documentation takes them from."""
    path = ROOM / (f"{name}.json" if whole else f"{name}.part.json")
    ROOM.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    return path


def say(line: str) -> None:
    """Show progress, apart from the results."""
    print(line, file=sys.stderr, flush=True)


def announce(seconds: float) -> None:
    """Say how long it will take, about."""
    say(
        f"this takes about {seconds / 60:.0f} minutes"
        if seconds > 90
        else f"this takes about {seconds:.0f} s"
    )
