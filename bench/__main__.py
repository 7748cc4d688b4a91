"""``python -m bench``: measure, print the table, write ``bench/results.json``."""

import argparse
import json
import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from bench.contestants import BARS, CONTESTANTS, WORKLOADS, Contestant, baseline_of, references_of, select
from bench.load import LONGEST
from bench.machine import load_average, machine, versions
from bench.report import Row, as_json, summarise, table
from bench.rounds import Outcome, Plan, measure

RESULTS = Path(__file__).resolve().parent / "results.json"


def main(arguments: list[str] | None = None) -> int:
    """Run the bench; return 0 when every row has figures, 1 when one failed, 2 when it cannot run."""
    options = parser().parse_args(arguments)
    contestants = select(options.only)
    if not contestants:
        return refuse(f"--only {options.only}: nobody is called that; there are {', '.join(everybody())}")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return refuse("bench needs two CPU cores, for the server and for the load; this process has one")
    if shutil.which("wrk") is None:
        return refuse("bench needs wrk, the load generator. As root: apt-get install -y wrk")
    plan = Plan(
        rounds=1 if options.quick else options.rounds,
        slices=2 if options.quick else options.slices,
        seconds=options.seconds,
        sessions=options.sessions,
        server_core=cores[0],
        load_core=cores[1],
        database_core=cores[min(2, len(cores) - 1)],
        warmth=0.05 if options.quick else 1.0,
    )
    header: dict[str, dict[str, object]] = {
        "machine": machine(),
        "versions": dict(versions()),
        "plan": asdict(plan),
    }
    print(preamble(header), flush=True)
    rows = results(measure(contestants, plan, say), contestants)
    print("\n" + table(rows))
    RESULTS.write_text(json.dumps(header | {"rows": [as_json(row) for row in rows]}, indent=1) + "\n")
    print(
        f"\nMedians of {plan.rounds} rounds of {plan.slices} slices; ratio: added CPU over that of the row named, in the same"
        f" slice. Load average {load_average()} at the end. -> {RESULTS}"
    )
    return 1 if any(row.reason for row in rows) else 0


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    plan = Plan()
    reader = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    reader.add_argument("--rounds", type=positive, default=plan.rounds, help="default %(default)s")
    reader.add_argument("--slices", type=positive, default=plan.slices, help="a round, default %(default)s")
    reader.add_argument(
        "--seconds", type=above_zero, default=plan.seconds, help="a slice, default %(default)s"
    )
    reader.add_argument(
        "--sessions", type=positive, default=plan.sessions, help="in turn, default %(default)s"
    )
    reader.add_argument("--only", metavar="PATTERN", default="", help="part of a name; peers come along")
    reader.add_argument("--quick", action="store_true", help="one round of two slices: does it work at all?")
    return reader


def everybody() -> list[str]:
    """Return all names there are."""
    return [contestant.peer for contestant in CONTESTANTS]


def positive(text: str) -> int:
    """Read a whole number above zero."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def above_zero(text: str) -> float:
    """Read a number above zero."""
    number = float(text)
    if not 0 < number < LONGEST:
        raise ValueError(text)
    return number


def results(outcome: Outcome, contestants: list[Contestant]) -> list[Row]:
    """Summarise in the contestants' order, each with its own baseline and reference."""
    baselines = {c.peer: found.peer for c in contestants if (found := baseline_of(c, contestants))}
    references = {
        c.peer: [found.peer for found in references_of(c, contestants)]
        for c in contestants
        if c.library != "bare"
    }
    rows = summarise(outcome.samples, outcome.failures, baselines=baselines, references=references, bars=BARS)
    order = [contestant.peer for contestant in contestants]
    return sorted(rows, key=lambda row: (row.workload != WORKLOADS[0], order.index(row.peer)))


def preamble(header: dict[str, dict[str, object]]) -> str:
    """Return the header as text, a line a topic."""
    return "\n".join(
        f"{topic}: " + ", ".join(f"{k} {v}" for k, v in facts.items()) for topic, facts in header.items()
    )


def say(line: str) -> None:
    """Show progress, apart from the results."""
    print(line, file=sys.stderr, flush=True)


def refuse(reason: str) -> int:
    """Say why it cannot run, and how it could."""
    print(reason, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
