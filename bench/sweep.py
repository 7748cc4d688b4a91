"""The same contestants at several values of one thing: how large a session is, or over how many connections requests come.

Each value is measured as a contestant of its own, ``starlette coatcheck redis @ 4096``, on the one server that the contestant has
in a round: in short slices, in random order, with counters that must have moved, all as in ``python -m bench``.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from bench import command
from bench.contestants import CONTESTANTS, WORKLOADS, Contestant, baseline_of
from bench.report import Row, as_json, summarise
from bench.rounds import Outcome, Plan, Stand, expected_seconds, measure

PEERS = (
    "starlette bare",
    "starlette coatcheck memory",
    "starlette coatcheck redis",
    "starlette starsessions memory",
    "starlette starsessions redis",
    "express bare",
    "express express-session redis",
)
"""In the order of the tables; the bare ones are what is subtracted."""
AT = " @ "


@dataclass(frozen=True)
class Sweep:
    """What is varied.

    Args:
        name: of the command and of its results.
        unit: what the values count.
        values: that are measured.
        at: a stand at a value, its name still the contestant's.
        figures: those of a row that are printed.
        plan: how long and how hard.
    """

    name: str
    unit: str
    values: Sequence[int]
    at: Callable[[Stand, int], Stand]
    figures: Sequence[str]
    plan: Plan


def main(sweep: Sweep, words: str | None, arguments: list[str] | None = None) -> int:
    """Measure, print a table a figure and workload, write the results."""
    reader = command.with_rounds(command.reader(f"bench.{sweep.name}", words), sweep.plan.rounds)
    options = reader.parse_args(arguments)
    return command.run(lambda: swept(sweep, options))


def swept(sweep: Sweep, options: argparse.Namespace) -> int:
    """Do what the options ask for; return 1 when somebody failed."""
    plan = command.on_cores(replace(sweep.plan, rounds=options.rounds))
    if options.quick:
        plan = replace(plan, rounds=1, slices=1, warmth=0.05)
    header = command.header(asdict(plan))
    contestants = [c for peer in PEERS for c in CONTESTANTS if c.peer == peer]
    command.announce(expected_seconds(contestants, plan, variants=len(sweep.values)))
    outcome = measure(contestants, plan, command.say, lambda stand: variants(sweep, stand))
    rows = summarised(sweep, contestants, outcome)
    print("\n" + tables(sweep, rows))
    path = command.write(
        sweep.name, header | {"rows": [placed(row) for row in rows]}, whole=not options.quick
    )
    print(f"\nMedians of {plan.rounds} rounds of {plan.slices} slices of {plan.seconds} s. -> {path}")
    return 1 if any(row.reason for row in rows) else 0


def variants(sweep: Sweep, stand: Stand) -> list[Stand]:
    """Return a stand for each value, with a name and a directory of its own."""
    found = []
    for value in sweep.values:
        directory = stand.directory / str(value)
        directory.mkdir()
        renamed = replace(stand.contestant, peer=f"{stand.contestant.peer}{AT}{value}")
        found.append(replace(sweep.at(stand, value), contestant=renamed, directory=directory))
    return found


def summarised(sweep: Sweep, contestants: Sequence[Contestant], outcome: Outcome) -> list[Row]:
    """Return a row a contestant, value and workload; the baseline is the bare framework at the same value."""
    baselines = {
        f"{c.peer}{AT}{value}": f"{baseline.peer}{AT}{value}"
        for c in contestants
        for value in sweep.values
        if (baseline := baseline_of(c, contestants))
    }
    rows = summarise(outcome.samples, outcome.failures, baselines=baselines, references={}, bars={})
    order = [c.peer for c in contestants]
    # Who failed to start failed under its own name, at no value.
    return sorted(
        rows, key=lambda row: (row.workload != WORKLOADS[0], order.index(peer_of(row)), value_of(row))
    )


def peer_of(row: Row) -> str:
    """Return whose row it is."""
    return row.peer.partition(AT)[0]


def value_of(row: Row) -> int:
    """Return at which value, 0 for none."""
    return int(row.peer.partition(AT)[2] or 0)


def placed(row: Row) -> dict[str, object]:
    """Return the row as it is written down, the value apart from the name."""
    return as_json(row) | {"peer": peer_of(row), "at": value_of(row)}


def tables(sweep: Sweep, rows: Sequence[Row]) -> str:
    """Return a block a figure and workload: a line a contestant, a column a value."""
    blocks = [
        block(sweep, [row for row in rows if row.workload == workload], workload, figure)
        for figure in sweep.figures
        for workload in dict.fromkeys(row.workload for row in rows)
    ]
    failed = [f"FAILED {row.peer}, {row.workload}: {row.reason}" for row in rows if row.reason]
    return "\n\n".join([*blocks, *failed])


def block(sweep: Sweep, rows: Sequence[Row], workload: str, figure: str) -> str:
    """Return one of them."""
    lines = [f"{f'{workload}, {figure} by {sweep.unit}':<40}" + "".join(f"{v:>10,}" for v in sweep.values)]
    for peer in dict.fromkeys(peer_of(row) for row in rows):
        found = {value_of(row): getattr(row, figure) for row in rows if peer_of(row) == peer}
        cells = (f"{at.median:>10,.1f}" if (at := found.get(v)) else f"{'-':>10}" for v in sweep.values)
        lines.append(f"{peer:<40}" + "".join(cells))
    return "\n".join(lines)
