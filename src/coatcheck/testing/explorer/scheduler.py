"""Every order in which a scenario can go, and what is wrong in any of them.

`explore` merges worlds that are equal (rule 29: the store's state, every reply each request has seen, every clock
reading), layer by layer, so that the first violation found is one of the shortest. `exhaust` merges nothing and shares
nothing: each schedule is executed from the beginning. Both must find the same; the tests compare them.
"""

import gc
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from coatcheck.core.ids import Ticket
from coatcheck.core.record import Record
from coatcheck.testing.explorer import oracles
from coatcheck.testing.explorer.requests import DELIVER
from coatcheck.testing.explorer.scenarios import begin
from coatcheck.testing.explorer.world import VICTIM, Choice, Drop, Node, Scenario, Step, World

__all__ = ["Report", "Violation", "exhaust", "explore", "survey"]


Outcome = tuple[Hashable, tuple[tuple[Any, ...], ...], Hashable]
"""The store, what each request was answered (its error first), and the jars."""


class Violation(NamedTuple):
    """A rule that was broken, and the shortest schedule that shows it."""

    scenario: Scenario
    rule: str
    schedule: tuple[str, ...]

    def __str__(self) -> str:
        steps = "".join(f"\n    {number}. {step}" for number, step in enumerate(self.schedule, 1))
        return f"{self.scenario}\n  breaks {self.rule}{steps}"


@dataclass
class Report:
    """What was explored and what came of it."""

    scenarios: int = 0
    schedules: int = 0
    """How many orders there are: each was executed, or shares its parts with others that were."""
    worlds: int = 0
    """How many different worlds were entered."""
    violations: list[Violation] = field(default_factory=list)
    outcomes: set[Outcome] = field(default_factory=set)
    """How the worlds ended."""

    def add(self, other: "Report") -> None:
        self.scenarios += other.scenarios
        self.schedules += other.schedules
        self.worlds += other.worlds
        self.violations += other.violations


class _Path(NamedTuple):
    """How a world was first reached."""

    step: Step | None
    before: "_Path | None"


def explore(world: World, scenario: Scenario, *, outcomes: bool = False) -> Report:
    """Every order of one scenario, equal worlds merged."""
    report, found = Report(scenarios=1), dict[str, Violation]()
    root = begin(world, scenario)
    copied = dict(root.jars)[VICTIM]
    layer: dict[Hashable, tuple[Node, int, _Path]] = {root.key: (root, 1, _Path(None, None))}
    while layer:
        report.worlds += len(layer)
        following: dict[Hashable, tuple[Node, int, _Path]] = {}
        for node, ways, path in layer.values():
            over = True
            for choice in world.choices(node):
                over = False
                step = world.step(scenario, node, choice)
                longer = _Path(step, path)
                if _note(found, scenario, longer, oracles.of_step(scenario, step)):
                    continue
                key = step.after.key
                known = following.get(key)
                following[key] = (
                    (step.after, ways, longer) if known is None else (known[0], known[1] + ways, known[2])
                )
            if node.done:
                _note(found, scenario, path, oracles.at_the_end(scenario, node, copied))
            if over:
                report.schedules += ways
                if outcomes:
                    report.outcomes.add(_outcome(node))
        layer = following
    report.violations = list(found.values())
    return report


def exhaust(make: Callable[[], World], scenario: Scenario) -> Report:
    """Every order of one scenario, each executed from its beginning in a world of its own, nothing merged."""
    report, found = Report(scenarios=1), dict[str, Violation]()
    prefixes: list[tuple[Choice, ...]] = [()]
    while prefixes:
        prefix = prefixes.pop()
        world = make()
        node, path = begin(world, scenario), _Path(None, None)
        copied = dict(node.jars)[VICTIM]
        broken = False
        while not broken:
            depth = _length(path)
            if depth >= len(prefix):
                if node.done:
                    _note(found, scenario, path, oracles.at_the_end(scenario, node, copied))
                choices = list(world.choices(node))
                if not choices:
                    report.schedules += 1
                    report.outcomes.add(_outcome(node))
                    break
                prefixes += [(*_choices(path), choice) for choice in choices[1:]]
                choice = choices[0]
            else:
                choice = prefix[depth]
            step = world.step(scenario, node, choice)
            path = _Path(step, path)
            broken = _note(found, scenario, path, oracles.of_step(scenario, step))
            node = step.after
    report.violations = list(found.values())
    return report


def survey(world: World, scenarios: Iterable[Scenario], *, stop_after: int = 20) -> Report:
    """Explore many scenarios; stops once so many have gone wrong."""
    total = Report()
    # Worlds are values: there is next to nothing for the collector to find, and it would walk over all of them again and again.
    collects = gc.isenabled()
    gc.disable()
    try:
        for scenario in scenarios:
            total.add(explore(world, scenario))
            if total.scenarios % 200 == 0:
                world.forget()
                gc.collect()
            if len(total.violations) >= stop_after:
                break
    finally:
        if collects:
            gc.enable()
    return total


def _note(found: dict[str, Violation], scenario: Scenario, path: _Path, wrong: Iterator[str]) -> bool:
    """Keep the first schedule that shows each violation. Returns whether there was any."""
    any_wrong = False
    for rule in wrong:
        any_wrong = True
        if rule not in found:
            found[rule] = Violation(scenario, rule, tuple(map(_say, _steps(path))))
    return any_wrong


def _steps(path: _Path) -> list[Step]:
    steps: list[Step] = []
    at: _Path | None = path
    while at is not None and at.step is not None:
        steps.append(at.step)
        at = at.before
    return steps[::-1]


def _choices(path: _Path) -> tuple[Choice, ...]:
    return tuple(step.choice for step in _steps(path))


def _length(path: _Path) -> int:
    return len(_steps(path))


def _say(step: Step) -> str:
    choice = step.choice
    if choice.request is None:
        return str(choice.happening)
    name = f"request {choice.request + 1}: {step.command}"
    if step.command is DELIVER and isinstance(choice.happening, Drop):
        return f"request {choice.request + 1}: the response is lost"
    return f"{name}, {choice.fault.value}" if choice.fault else name


def _outcome(node: Node) -> Outcome:
    """How a world ended, in what can be told apart from outside."""
    rows = frozenset(
        (key, record.user_id, record.epoch, record.data)
        for key, record in node.database.rows().items()
        if isinstance(record, Record)
    )
    answers = tuple((t.error, t.action, t.sent, t.taken) for t in (state.trace for state in node.requests))
    jars: tuple[tuple[str, Ticket | None], ...] = node.jars
    return rows, answers, jars
