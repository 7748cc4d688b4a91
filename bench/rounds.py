"""The experiment: in each round everybody is started anew, and then loaded in short slices in turn, A B C, C A B, B C A."""

import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench import load, visitors
from bench.contestants import WORKLOADS, Contestant, Workload
from bench.databases import Databases, databases
from bench.report import Failure, Sample
from bench.server import Server, ServerFailed, cpu_seconds, serving
from servers import ServerMissing

WARM_REQUESTS = {"uvicorn": 1_000, "gunicorn": 1_000, "aiohttp": 1_000, "node": 8_000}
"""Of each workload before anything is measured. V8 compiles what runs often, again and again: express needs thousands of requests
until it is three times as fast as at first."""
WARM_SECONDS = 10
"""At most, for each workload."""
START_SECONDS = {"uvicorn": 4.0, "gunicorn": 6.0, "aiohttp": 4.0, "node": 7.0}
"""What it takes to start one and to warm it, about: for saying how long a run will take."""
SLICE_OVERHEAD = 0.1
"""Seconds that a slice takes longer than it loads."""
TROUBLE = (ServerFailed, ServerMissing, load.LoadFailed, visitors.Wrong, OSError)


@dataclass(frozen=True)
class Plan:
    """How long and how hard: rounds, slices of load in each and their seconds, different sessions, the cores."""

    rounds: int = 5
    slices: int = 6
    seconds: float = 0.5
    sessions: int = 64
    server_core: int = 0
    load_core: int = 1
    database_core: int = 1
    warmth: float = 1.0
    """How much of the usual warm-up there is."""


@dataclass(frozen=True)
class Stand:
    """A contestant ready to be measured: its server, the sessions' Cookie headers, a directory of its own."""

    contestant: Contestant
    server: Server
    cookies: list[str]
    directory: Path
    connections: int = load.CONNECTIONS
    """Over so many it is loaded."""


Variants = Callable[[Stand], Sequence[Stand]]
"""As what a contestant is measured: as it is, or more than once, something else changed each time, under a name of its own."""


@dataclass
class Trial:
    """A contestant under one workload in one round: where its counters stood before, and what was measured since."""

    stand: Stand
    before: int
    samples: list[Sample] = field(default_factory=list)
    requests: int = 0


@dataclass
class Outcome:
    """Everything measured and everything that failed, in order."""

    samples: list[Sample] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def failed(self, contestant: Contestant) -> bool:
        """Tell whether the contestant has failed at everything it was asked."""
        return {f.workload for f in self.failures if f.peer == contestant.peer} == set(WORKLOADS)

    @contextmanager
    def noting(self, contestant: Contestant, *workloads: Workload) -> Iterator[None]:
        """Turn trouble in the block into failures."""
        try:
            yield
        except TROUBLE as error:
            self.failures += [Failure(contestant.peer, workload, str(error)) for workload in workloads]


def as_it_is(stand: Stand) -> Sequence[Stand]:
    """Return the contestant and nothing else."""
    return [stand]


def expected_seconds(contestants: Sequence[Contestant], plan: Plan, *, variants: int = 1) -> float:
    """Return about how long `measure` will take."""
    slices = len(contestants) * variants * len(WORKLOADS) * plan.slices * (plan.seconds + SLICE_OVERHEAD)
    starts = sum(START_SECONDS[contestant.server] for contestant in contestants) * (0.3 + 0.7 * plan.warmth)
    return plan.rounds * (slices + starts)


def measure(
    contestants: Sequence[Contestant], plan: Plan, say: Callable[[str], None], variants: Variants = as_it_is
) -> Outcome:
    """Run all rounds; a contestant that fails at everything sits out the rest, and loses its own rows only."""
    outcome = Outcome()
    with (
        tempfile.TemporaryDirectory(prefix="coatcheck-bench-db-") as name,
        databases(Path(name), core=plan.database_core) as rooms,
    ):
        for turn in range(plan.rounds):
            say(f"round {turn + 1} of {plan.rounds}")
            there = [c for c in contestants if not outcome.failed(c)]
            one_round(there, turn, plan, outcome, rooms, say, variants)
    return outcome


def one_round(
    contestants: Sequence[Contestant],
    turn: int,
    plan: Plan,
    outcome: Outcome,
    rooms: Databases,
    say: Callable[[str], None],
    variants: Variants = as_it_is,
) -> None:
    """Start everybody anew, then measure each workload on all of them, slice after slice, seconds apart.

    The servers are new in every round because hash seed and memory layout are drawn when one starts, and two draws
    may differ by more than the figures wanted; kept for the whole run, one lucky draw would be the result. They all
    stand ready before the first is measured, so that a baseline and what is compared with it meet the same machine.
    """
    with ExitStack() as stack:
        ready: list[Stand] = []
        for contestant in contestants:
            with outcome.noting(contestant, *WORKLOADS):
                ready += variants(stack.enter_context(standing(contestant, plan, rooms)))
        say(f"  {len({stand.server.pid for stand in ready})} servers stand ready")
        for workload in WORKLOADS:
            one_workload(ready, workload, turn, plan, outcome)
            say(f"  {workload} measured")


def one_workload(ready: Sequence[Stand], workload: Workload, turn: int, plan: Plan, outcome: Outcome) -> None:
    """Load everybody in turn, one short slice each, as often as the plan says; then look whether the counters agree.

    The order is drawn anew each time: whatever else the machine does in a rhythm hits everybody alike.
    """
    trials: list[Trial] = []
    for stand in ready:
        with outcome.noting(stand.contestant, workload):
            trials.append(Trial(stand, visitors.counters(stand.server.port, stand.cookies)))
    chance = random.Random(f"{workload} {turn}")
    for piece in range(plan.slices):
        for trial in chance.sample(trials, len(trials)):
            try:
                one_slice(trial, workload, turn, piece, plan)
            except TROUBLE as error:
                outcome.failures.append(Failure(trial.stand.contestant.peer, workload, str(error)))
                trials.remove(trial)
    for trial in trials:
        with outcome.noting(trial.stand.contestant, workload):
            outcome.samples += verified(trial, workload)


def one_slice(trial: Trial, workload: Workload, turn: int, piece: int, plan: Plan) -> None:
    """Load one workload for a moment, and add its CPU per request to the trial.

    Raises:
        LoadFailed: answers were errors.
    """
    stand = trial.stand
    before = cpu_seconds(stand.server.pid)
    done = apply_load(stand, workload, seconds=plan.seconds, core=plan.load_core)
    cpu = cpu_seconds(stand.server.pid) - before
    trial.requests += done.requests
    trial.samples.append(
        Sample(stand.contestant.peer, workload, turn, cpu * 1e6 / done.requests, done.rps, piece=piece)
    )


def verified(trial: Trial, workload: Workload) -> list[Sample]:
    """Return the samples of a trial whose counters are where the load should have brought them.

    Raises:
        Wrong: they are not.
    """
    stand = trial.stand
    moved = visitors.counters(stand.server.port, stand.cookies) - trial.before
    kept = visitors.verdict(stand.contestant, workload, moved=moved, requests=trial.requests)
    return [replace(sample, kept=kept) for sample in trial.samples]


@contextmanager
def standing(contestant: Contestant, plan: Plan, rooms: Databases) -> Iterator[Stand]:
    """Run the contestant's server with its sessions logged in and its code warm."""
    with tempfile.TemporaryDirectory(prefix="coatcheck-bench-") as name:
        directory = Path(name)
        url = rooms.fresh(contestant.database) if contestant.database else ""
        with serving(contestant, directory, core=plan.server_core, url=url) as server:
            cookies = visitors.log_in(contestant, server.port, plan.sessions)
            stand = Stand(contestant, server, cookies, directory)
            warm_up(stand, plan)
            yield stand


def warm_up(stand: Stand, plan: Plan) -> None:
    """Load each workload until the code that it runs is as fast as it gets."""
    for workload in WORKLOADS:
        wanted = WARM_REQUESTS[stand.contestant.server] * plan.warmth
        for _ in range(round(WARM_SECONDS / plan.seconds)):
            if wanted <= 0:
                break
            wanted -= apply_load(stand, workload, seconds=plan.seconds, core=plan.load_core).requests


def apply_load(stand: Stand, workload: Workload, *, seconds: float, core: int) -> load.Load:
    """Send the sessions' cookies in turn to one workload."""
    lua = stand.directory / f"{workload}.lua"
    lua.write_text(load.script(f"/{workload}", stand.cookies))
    url = f"http://127.0.0.1:{stand.server.port}"
    return load.run(url, lua, seconds=seconds, core=core, connections=stand.connections)
