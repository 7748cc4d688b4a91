"""How long a visitor waits: ``python -m bench.latency``, latency at fixed rates, coatcheck and its peers on Redis.

First the capacity of each contestant is measured, by ``wrk`` as in ``python -m bench``: requests a second when there are always
requests waiting. Then requests arrive at 25, 50 and 75 % **of the least capacity** in the field, so that all do the same
work: those under ASGI and Node in one field, those under WSGI in another. They arrive at random and wait for nobody, and each is
timed from its arrival (``bench/arrivals.py``): coordinated omission hides nothing. All meet the same arrivals, in an order drawn
anew.

A load in which the generator itself was held up, by whatever else the machine does, is done again, twice at most. A percentile
is of all requests of all rounds; beside the 99th the least and the greatest that a round had: noise moves it first.
"""

import argparse
import random
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import arrivals, command, visitors
from bench.contestants import CONTESTANTS, WORKLOADS, Contestant, Workload
from bench.databases import Databases, databases
from bench.rounds import START_SECONDS, TROUBLE, Plan, Stand, apply_load, standing
from bench.stall import quantile

FIELDS = {
    "ASGI and Node": (
        "starlette coatcheck redis",
        "starlette starsessions redis",
        "litestar builtin redis",
        "express express-session redis",
    ),
    "WSGI": (
        "flask coatcheck redis",
        "flask flask-session redis",
        "django coatcheck redis",
        "django cache redis",
    ),
}
SHARES = (0.25, 0.5, 0.75)
LATE = 0.002
"""Seconds: a generator that is later than this with one request in a hundred was held up."""
PERCENTILES = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
Key = tuple[str, Workload, float]
"""Peer, workload, share of the least capacity."""


@dataclass(frozen=True)
class Length:
    """How long it goes on: rounds, seconds of each load in them, seconds in which a capacity is measured, attempts at a load."""

    rounds: int = 3
    seconds: float = 6.0
    capacity_seconds: float = 2.0
    attempts: int = 3

    def expected_seconds(self, contestants: Sequence[Contestant]) -> float:
        """Return about how long it takes."""
        loads = len(contestants) * len(WORKLOADS) * len(SHARES) * (self.seconds + 0.5)
        starts = sum(START_SECONDS[contestant.server] for contestant in contestants)
        return self.rounds * (loads + starts) + len(contestants) * len(WORKLOADS) * self.capacity_seconds


@dataclass
class Field:
    """Those who meet the same arrivals, and what has been found of them."""

    contestants: Sequence[Contestant]
    capacity: dict[tuple[str, Workload], float] = field(default_factory=dict)
    rounds: dict[Key, list[arrivals.Timed]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def rate(self, workload: Workload, share: float) -> float:
        """Return the requests a second that are this share of the least capacity."""
        return share * min(rps for (_, of), rps in self.capacity.items() if of == workload)


def main(arguments: list[str] | None = None) -> int:
    """Measure both fields; return 1 when somebody failed."""
    options = command.with_rounds(command.reader("bench.latency", __doc__), Length().rounds).parse_args(
        arguments
    )
    return command.run(lambda: measured(options))


def measured(options: argparse.Namespace) -> int:
    """Do what the options ask for."""
    plan = command.on_cores(Plan(sessions=256, warmth=0.05 if options.quick else 1.0))
    length = (
        Length(rounds=1, seconds=0.5, capacity_seconds=0.5, attempts=1)
        if options.quick
        else Length(rounds=options.rounds)
    )
    header = command.header(asdict(plan) | asdict(length))
    fields = {name: Field([c for c in CONTESTANTS if c.peer in peers]) for name, peers in FIELDS.items()}
    command.announce(sum(length.expected_seconds(one.contestants) for one in fields.values()))
    with (
        tempfile.TemporaryDirectory(prefix="coatcheck-bench-db-") as name,
        databases(Path(name), core=plan.database_core) as rooms,
    ):
        for title, one in fields.items():
            for turn in range(length.rounds):
                command.say(f"{title}: round {turn + 1} of {length.rounds}")
                one_round(one, turn, plan, length, rooms)
    rows = [row for title, one in fields.items() for row in rows_of(title, one)]
    print("\n" + table(rows))
    failures = {peer: reason for one in fields.values() for peer, reason in one.failures.items()}
    print("".join(f"FAILED {peer}: {reason}\n" for peer, reason in failures.items()))
    path = command.write("latency", header | {"rows": rows, "failures": failures}, whole=not options.quick)
    print(f"Milliseconds from the arrival. -> {path}")
    return 1 if failures else 0


def one_round(one: Field, turn: int, plan: Plan, length: Length, rooms: Databases) -> None:
    """Start everybody anew, and let the same visitors come to each at each rate, in random order."""
    with ExitStack() as stack:
        ready: list[Stand] = []
        for contestant in one.contestants:
            if contestant.peer not in one.failures:
                try:
                    ready.append(stack.enter_context(standing(contestant, plan, rooms)))
                except TROUBLE as trouble:
                    one.failures[contestant.peer] = str(trouble)
        for workload in WORKLOADS:
            if turn == 0:
                find_capacity(one, ready, workload, plan, length)
            visits = [(stand, share) for stand in ready for share in SHARES]
            for stand, share in random.Random(f"{workload} {turn}").sample(visits, len(visits)):
                visit(one, stand, workload, share, turn, plan, length)


def find_capacity(one: Field, ready: Sequence[Stand], workload: Workload, plan: Plan, length: Length) -> None:
    """Measure how many requests a second each can answer."""
    for stand in ready:
        load = apply_load(stand, workload, seconds=length.capacity_seconds, core=plan.load_core)
        one.capacity[stand.contestant.peer, workload] = load.rps


def visit(
    one: Field, stand: Stand, workload: Workload, share: float, turn: int, plan: Plan, length: Length
) -> None:
    """Load one contestant at one rate; see that its writes were kept."""
    peer = stand.contestant.peer
    if peer in one.failures:
        return
    order = arrivals.Order(
        port=stand.server.port,
        path=f"/{workload}",
        cookies=stand.cookies,
        rate=one.rate(workload, share),
        seconds=length.seconds,
        seed=turn,
    )
    try:
        before = visitors.counters(stand.server.port, stand.cookies)
        timed = undisturbed(order, plan, length)
        moved = visitors.counters(stand.server.port, stand.cookies) - before
        visitors.verdict(stand.contestant, workload, moved=moved, requests=len(timed.latencies))
    except TROUBLE as trouble:
        one.failures[peer] = str(trouble)
        return
    one.rounds.setdefault((peer, workload, share), []).append(timed)


def undisturbed(order: arrivals.Order, plan: Plan, length: Length) -> arrivals.Timed:
    """Carry out the order until the generator was not held up, or no attempt is left."""
    timed = arrivals.sent(order, core=plan.load_core)
    for _ in range(length.attempts - 1):
        if not timed.late or quantile(timed.late, 0.99) <= LATE:
            break
        timed = arrivals.sent(order, core=plan.load_core)
    return timed


def rows_of(title: str, one: Field) -> list[dict[str, Any]]:
    """Return a row a workload, share and contestant that did not fail."""
    return [
        row_of(title, one, contestant.peer, workload, share)
        for workload in WORKLOADS
        for share in SHARES
        for contestant in one.contestants
        if contestant.peer not in one.failures
    ]


def row_of(title: str, one: Field, peer: str, workload: Workload, share: float) -> dict[str, Any]:
    """Return what is written down of one contestant at one rate; times in milliseconds."""
    rounds = one.rounds[peer, workload, share]
    latencies = [seconds for timed in rounds for seconds in timed.latencies]
    late = [seconds for timed in rounds for seconds in timed.late]
    p99s = [quantile(timed.latencies, 0.99) for timed in rounds]
    return {
        "field": title,
        "peer": peer,
        "workload": workload,
        "share": share,
        "rate": round(one.rate(workload, share)),
        "capacity": round(one.capacity[peer, workload]),
        "requests": len(latencies),
        **{name: milli(quantile(latencies, at)) for name, at in PERCENTILES.items()},
        "p99_min": milli(min(p99s)),
        "p99_max": milli(max(p99s)),
        "max": milli(max(latencies)),
        "generator_late_p50": milli(quantile(late, 0.5)) if late else None,
        "generator_late_p99": milli(quantile(late, 0.99)) if late else None,
    }


def milli(seconds: float) -> float:
    """Return milliseconds, to the microsecond."""
    return round(seconds * 1e3, 3)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as text, a block a field, workload and rate."""
    lines: list[str] = []
    title = None
    for row in rows:
        if (now := (row["field"], row["workload"], row["share"])) != title:
            title = now
            lines += [
                "",
                f"{row['field']}, {row['workload']}, {row['rate']} a second ({row['share']:.0%} of the least capacity)",
            ]
            lines.append(
                f"{'':34}{'p50':>9}{'p99':>9}{'rounds':>16}{'p99.9':>9}{'max':>9}{'capacity':>10}{'late':>8}"
            )
        span = f"{row['p99_min']:.2f}..{row['p99_max']:.2f}"
        lines.append(
            f"{row['peer']:34}{row['p50']:9.2f}{row['p99']:9.2f}{span:>16}{row['p999']:9.2f}{row['max']:9.2f}"
            f"{row['capacity']:10,}{row['generator_late_p50'] or 0:8.3f}"
        )
    return "\n".join(lines[1:])


if __name__ == "__main__":
    sys.exit(main())
