"""``python -m bench``: measure, print the table, write ``bench/results/requests.json``."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace

from bench import command
from bench.contestants import (
    BARS,
    CONTESTANTS,
    CORE,
    REQUESTS_A_CORE,
    WORKLOADS,
    Contestant,
    baseline_of,
    references_of,
    select,
)
from bench.load import LONGEST
from bench.machine import load_average
from bench.report import Row, as_json, summarise, table
from bench.rounds import Outcome, Plan, expected_seconds, measure


def main(arguments: list[str] | None = None) -> int:
    """Run the bench; return 0 when every row has figures, 1 when one failed, 2 when it cannot run."""
    options = parser().parse_args(arguments)
    return command.run(lambda: bench(options))


def bench(options: argparse.Namespace) -> int:
    """Measure what is asked for."""
    contestants = chosen(options)
    plan = command.on_cores(planned(options))
    header = command.header(asdict(plan))
    command.announce(expected_seconds(contestants, plan))
    rows = results(measure(contestants, plan, command.say), contestants)
    print("\n" + table(rows))
    whole = not options.only and not options.quick
    path = command.write("requests", header | {"rows": [as_json(row) for row in rows]}, whole=whole)
    print(
        f"\nMedians of {plan.rounds} rounds of {plan.slices} slices; ratio: added CPU over that of the row named, in the same"
        f" slice. Load average {load_average()} at the end. -> {path}"
    )
    return 1 if any(row.reason for row in rows) else 0


def chosen(options: argparse.Namespace) -> Sequence[Contestant]:
    """Return whom the options mean: the core, everybody, or those whose name matches.

    Raises:
        Unable: nobody.
    """
    if not options.only:
        return CONTESTANTS if options.all else CORE
    if found := select(options.only):
        return found
    raise command.Unable(
        f"--only {options.only}: nobody is called that; there are {', '.join(c.peer for c in CONTESTANTS)}"
    )


def planned(options: argparse.Namespace) -> Plan:
    """Return how long and how hard the options mean."""
    plan = Plan(
        rounds=options.rounds, slices=options.slices, seconds=options.seconds, sessions=options.sessions
    )
    return replace(plan, rounds=1, slices=2, warmth=0.05) if options.quick else plan


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    plan = Plan()
    reader = command.with_rounds(command.reader("bench", __doc__), plan.rounds)
    reader.add_argument(
        "--slices", type=command.positive, default=plan.slices, help="a round, default %(default)s"
    )
    reader.add_argument(
        "--seconds", type=above_zero, default=plan.seconds, help="a slice, default %(default)s"
    )
    reader.add_argument(
        "--sessions", type=command.positive, default=plan.sessions, help="in turn, default %(default)s"
    )
    reader.add_argument("--all", action="store_true", help=command.ALL)
    reader.add_argument("--only", metavar="PATTERN", default="", help="part of a name; peers come along")
    return reader


def above_zero(text: str) -> float:
    """Read a number above zero."""
    number = float(text)
    if not 0 < number < LONGEST:
        raise ValueError(text)
    return number


def results(outcome: Outcome, contestants: Sequence[Contestant]) -> list[Row]:
    """Summarise in the contestants' order, each with its own baseline and reference."""
    baselines = {c.peer: found.peer for c in contestants if (found := baseline_of(c, contestants))}
    references = {
        c.peer: [found.peer for found in references_of(c, contestants)]
        for c in contestants
        if c.library != "bare"
    }
    rows = summarise(
        outcome.samples,
        outcome.failures,
        baselines=baselines,
        references=references,
        bars=BARS,
        requests_a_core=REQUESTS_A_CORE,
    )
    order = [contestant.peer for contestant in contestants]
    return sorted(rows, key=lambda row: (row.workload != WORKLOADS[0], order.index(row.peer)))


if __name__ == "__main__":
    sys.exit(main())
