"""How much memory it takes: ``python -m bench.memory``.

**A process**: each contestant's server after its first answers, after a load, and after two more of the same: what it needs, and
whether that is bounded. PSS of its whole process tree: memory that processes share is counted once.

**A session** in the memory store (`bench/idle.py`): 10^5 idle ones, less the JSON in them: under 1 kB each. A store that is full
must not grow.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bench import command, idle
from bench.contestants import CONTESTANTS, CORE, OURS, Contestant
from bench.databases import Databases, databases
from bench.progress import bar
from bench.report import VERDICT
from bench.rounds import TROUBLE, Plan, apply_load, standing
from bench.server import pss

LOADS = 3
LOAD_SECONDS = 2.0
GROWTH = 1.05
"""Of a process of ours from the first load to the last, at most: what a request leaves behind would grow with each."""
SECONDS_EACH = 13.0
"""What one contestant takes, about."""


def main(arguments: list[str] | None = None) -> int:
    """Measure processes and sessions; return 1 when somebody failed or a bar was missed."""
    return command.of_contestants("bench.memory", __doc__, measured, arguments)


def measured(options: argparse.Namespace) -> int:
    """Do what the options ask for."""
    contestants = CONTESTANTS if options.all else CORE
    plan = command.on_cores(Plan(seconds=LOAD_SECONDS, warmth=0.0))
    count = idle.COUNT
    if options.quick:
        contestants, count, plan = contestants[:2], 1_000, replace(plan, seconds=0.5)
    header = command.header(asdict(plan))
    command.announce(len(contestants) * SECONDS_EACH + idle.EXPECTED_SECONDS * count / idle.COUNT)
    processes = of_processes(contestants, plan)
    sessions = [idle.measured(kind, count) for kind in bar(idle.KINDS, len(idle.KINDS), "idle sessions")]
    print("\n" + table(processes) + "\n\n" + idle.table(sessions))
    results = header | {"processes": processes, "sessions": sessions}
    path = command.write("memory", results, whole=not options.quick)
    print(f"\n-> {path}")
    missed = any(one["met"] is False for one in [*processes, *sessions])
    return 1 if missed or any(row["reason"] for row in processes) else 0


def of_processes(contestants: Sequence[Contestant], plan: Plan) -> list[dict[str, Any]]:
    """Return a row a contestant, one server after the other."""
    with (
        tempfile.TemporaryDirectory(prefix="coatcheck-bench-db-") as name,
        databases(Path(name), core=plan.database_core) as rooms,
    ):
        return [of_process(c, plan, rooms) for c in bar(contestants, len(contestants), "memory of processes")]


def of_process(contestant: Contestant, plan: Plan, rooms: Databases) -> dict[str, Any]:
    """Return the octets of one contestant's processes at the start and after each load."""
    row: dict[str, Any] = {"peer": contestant.peer, "start": None, "loaded": [], "requests": 0}
    row |= {"grew": None, "met": None, "reason": None}
    try:
        with standing(contestant, plan, rooms) as stand:
            row["start"] = pss(stand.server.pid)
            for _ in range(LOADS):
                done = apply_load(stand, "write", seconds=plan.seconds, core=plan.load_core)
                row["requests"] += done.requests
                row["loaded"].append(pss(stand.server.pid))
    except TROUBLE as trouble:
        return row | {"reason": str(trouble)}
    return row | judged(contestant, row["loaded"])


def judged(contestant: Contestant, loaded: Sequence[int]) -> dict[str, Any]:
    """Return how much a process has grown since the first load, and, of ours, whether that is within the bound."""
    grew = loaded[-1] / loaded[0]
    return {"grew": round(grew, 4), "met": grew <= GROWTH if contestant.library == OURS else None}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the processes as text."""
    heads = "".join(f"{f'load {turn + 1}':>9}" for turn in range(LOADS))
    lines = [f"{'MB of memory, PSS':<34}{'start':>9}{heads}{'requests':>10}{'grew':>8}"]
    for row in rows:
        if row["reason"]:
            lines.append(f"{row['peer']:<34} FAILED: {row['reason']}")
            continue
        cells = "".join(f"{octets / 1e6:9.1f}" for octets in (row["start"], *row["loaded"]))
        verdict = VERDICT[row["met"]]
        lines.append(
            f"{row['peer']:<34}{cells}{row['requests']:10,}{row['grew'] - 1:8.1%} {verdict}".rstrip()
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
