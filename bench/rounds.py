"""The experiment: rounds interleaved over the contestants, A B C A B C, each with a fresh server."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import load, visitors
from bench.contestants import WORKLOADS, Contestant, Workload
from bench.report import Failure, Sample
from bench.server import Server, ServerFailed, cpu_seconds, serving

WARM_UP_SECONDS = 1
TROUBLE = (ServerFailed, load.LoadFailed, visitors.Wrong, OSError)


@dataclass(frozen=True)
class Plan:
    """How long and how hard: rounds, whole seconds of load each, different sessions, the two cores."""

    rounds: int = 7
    seconds: int = 3
    sessions: int = 64
    server_core: int = 0
    load_core: int = 1


@dataclass(frozen=True)
class Stand:
    """A contestant ready to be measured: its server, the sessions' Cookie headers, a directory of its own."""

    contestant: Contestant
    server: Server
    cookies: list[str]
    directory: Path


@dataclass
class Outcome:
    """Everything measured and everything that failed, in order."""

    samples: list[Sample] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def failed(self, contestant: Contestant) -> bool:
        """Tell whether the contestant has failed at everything it was asked."""
        return {f.workload for f in self.failures if f.peer == contestant.peer} == set(WORKLOADS)


def measure(contestants: Sequence[Contestant], plan: Plan, say: Callable[[str], None]) -> Outcome:
    """Run all rounds; a contestant that fails at everything sits out the rest, and loses its own rows only."""
    outcome = Outcome()
    for turn in range(plan.rounds):
        one_round([c for c in contestants if not outcome.failed(c)], turn, plan, outcome)
        say(f"round {turn + 1} of {plan.rounds} done")
    return outcome


def one_round(contestants: Sequence[Contestant], turn: int, plan: Plan, outcome: Outcome) -> None:
    """Start everybody anew, then measure each workload on one after another, seconds apart.

    The servers are new in every round because hash seed and memory layout are drawn when one starts, and two draws
    may differ by more than the figures wanted; kept for the whole run, one lucky draw would be the result. They all
    stand ready before the first is measured, so that a baseline and what is compared with it meet the same machine.
    """
    with ExitStack() as stack:
        ready: list[Stand] = []
        for contestant in contestants:
            try:
                ready.append(stack.enter_context(standing(contestant, plan)))
            except TROUBLE as error:
                outcome.failures += [Failure(contestant.peer, workload, str(error)) for workload in WORKLOADS]
        for workload in WORKLOADS:
            for stand in ready:
                try:
                    outcome.samples.append(sample(stand, workload, turn, plan))
                except TROUBLE as error:
                    outcome.failures.append(Failure(stand.contestant.peer, workload, str(error)))


@contextmanager
def standing(contestant: Contestant, plan: Plan) -> Iterator[Stand]:
    """Run the contestant's server with its sessions logged in and its code warm."""
    with tempfile.TemporaryDirectory(prefix="coatcheck-bench-") as name:
        directory = Path(name)
        with serving(contestant, directory, core=plan.server_core) as server:
            cookies = visitors.log_in(contestant, server.port, plan.sessions)
            stand = Stand(contestant, server, cookies, directory)
            apply_load(stand, "write", seconds=WARM_UP_SECONDS, core=plan.load_core)
            yield stand


def sample(stand: Stand, workload: Workload, turn: int, plan: Plan) -> Sample:
    """Load one workload, and return its CPU per request once the counters have been seen to agree.

    Raises:
        LoadFailed: answers were errors.
        Wrong: the counters are not where the load should have brought them.
    """
    port = stand.server.port
    before = visitors.counters(port, stand.cookies)
    cpu_before = cpu_seconds(stand.server.pid)
    done = apply_load(stand, workload, seconds=plan.seconds, core=plan.load_core)
    cpu = cpu_seconds(stand.server.pid) - cpu_before
    moved = visitors.counters(port, stand.cookies) - before
    kept = visitors.verdict(stand.contestant, workload, moved=moved, requests=done.requests)
    return Sample(stand.contestant.peer, workload, turn, cpu * 1e6 / done.requests, done.rps, kept)


def apply_load(stand: Stand, workload: Workload, *, seconds: int, core: int) -> load.Load:
    """Send the sessions' cookies in turn to one workload."""
    lua = stand.directory / f"{workload}.lua"
    lua.write_text(load.script(f"/{workload}", stand.cookies))
    return load.run(f"http://127.0.0.1:{stand.server.port}", lua, seconds=seconds, core=core)
