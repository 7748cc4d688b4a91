"""The world in which requests meet: one database, browsers with their cookie jars, a clock, and what may go wrong.

A `Node` is the world at one moment, a value. `World.choices` says what may happen next, `World.step` makes it happen
and answers the next node. Nothing else moves: not even the clock, which ticks when a session was written or a fence raised (two
reads in a row may well see the same time on a real clock; `every_step` makes it tick at each step instead, which tells all
moments apart and merges next to nothing).
"""

from collections.abc import Callable, Hashable, Iterator
from math import inf
from typing import Any, Final, NamedTuple

from coatcheck.core.ids import Ticket
from coatcheck.core.options import Options
from coatcheck.core.record import Record
from coatcheck.core.session import CookieAction
from coatcheck.manager import AsyncSessionManager
from coatcheck.stores.memory import MemoryStore
from coatcheck.testing.explorer.database import Command, Database, MemoryDatabase, settle
from coatcheck.testing.explorer.operations import OPERATIONS
from coatcheck.testing.explorer.requests import DELIVER, LEAVE, Fault, Moment, State, Trace, first

__all__ = [
    "ATTACKER",
    "DAWN",
    "TICK",
    "VICTIM",
    "Choice",
    "Drop",
    "Faults",
    "Fence",
    "Happening",
    "Node",
    "Pass",
    "Scenario",
    "Skew",
    "Step",
    "World",
]

DAWN: Final = 1_700_000_000.0
TICK: Final = 2.0**-3
"""Seconds: well below every threshold, exact in a float, and a whole number of milliseconds, in which servers tell the time."""
VICTIM: Final = "victim"
ATTACKER: Final = "attacker"
USERS: Final = {VICTIM: "alice", ATTACKER: "mallory"}


class Pass(NamedTuple):
    """So many seconds pass."""

    seconds: float


class Skew(NamedTuple):
    """The application server's clock is stepped; the store's is not."""

    seconds: float


class Fence(NamedTuple):
    """An administrator ends all sessions of a user."""

    user: str


class Drop(NamedTuple):
    """One response is lost on its way."""


class Faults(NamedTuple):
    """One command meets one of these."""

    kinds: tuple[Fault, ...]


Happening = Pass | Skew | Fence | Drop | Faults


class Choice(NamedTuple):
    """What happens next: `request` moves on (or something happens to it); where it is None, `happening` comes about by itself."""

    request: int | None
    happening: Happening | None = None
    fault: Fault | None = None


class Scenario(NamedTuple):
    """Who does what, from which start, and what may happen meanwhile: each happening at most once, at any moment."""

    start: str
    requests: tuple[tuple[str, str], ...]
    """(operation, actor) of each."""
    happenings: tuple[Happening, ...] = ()

    def __str__(self) -> str:
        doers = ", ".join(name if actor == VICTIM else f"{actor}'s {name}" for name, actor in self.requests)
        more = "".join(f" + {happening}" for happening in self.happenings)
        return f"{self.start}: [{doers}]{more}"


class Node(NamedTuple):
    """The world at one moment."""

    database: Database
    requests: tuple[State, ...]
    jars: tuple[tuple[str, Ticket | None], ...]
    wall: float
    mono: float
    left: tuple[Happening, ...]
    """What may still happen."""
    ever: frozenset[str]
    """Every locator and every version that was ever stored."""
    fenced: tuple[frozenset[tuple[str, int | None]], ...]
    """For each request: whose sessions others ended since it left, or since it last did so itself, and who did."""
    told: tuple[int, ...] = ()
    """The requests that have a cookie to send or clear, in the order in which they committed."""
    arrived: tuple[int, ...] = ()
    """Those of `told` whose response has arrived, or was lost, in that order."""
    dropped: frozenset[int] = frozenset()
    raised: tuple[tuple[str, float], ...] = ()
    """Whose sessions were all ended, and when: where a login is about that began in an earlier request."""
    watched: tuple[tuple[frozenset[str], frozenset[str]] | None, ...] = ()
    """For each request that lists alice's sessions: which have lived ever since it left, and which at any moment."""

    @property
    def key(self) -> Hashable:
        """Equal keys, equal futures, and equal verdicts of every oracle (rule 29)."""
        return (self.database.state(), tuple(map(id, self.requests)), *self[2:])

    @property
    def done(self) -> bool:
        return all(state.pending is None for state in self.requests)

    def live(self, key: str, now: float | None = None) -> Record | None:
        """The record under this key, if it is one that a request of that moment would be shown."""
        row = self.database.rows().get(key)
        return row if isinstance(row, Record) and row.deadline > (self.wall if now is None else now) else None

    def is_fenced(self, index: int, user: str | None) -> bool:
        """Whether a login of this user, begun when the request left, may not be any more."""
        return any(whose == user for whose, _ in self.fenced[index])

    def overtaken(self) -> bool:
        """Whether a response with a cookie arrived after one that was committed later (rule 25)."""
        return self.arrived != tuple(sorted(self.arrived, key=self.told.index))


class Step(NamedTuple):
    """One move: from where, what, to where. `command` is what was carried out or sent, None if nothing was."""

    before: Node
    choice: Choice
    command: Command | None
    after: Node


MakeStore = Callable[[Callable[[], float]], Database]


def memory(monotonic: Callable[[], float]) -> Database:
    """The memory store on the explorer's clock."""
    return MemoryDatabase(MemoryStore(monotonic=monotonic))


class World:
    """Everything that stays the same while scenarios are explored."""

    def __init__(self, make: MakeStore = memory, *, every_step: bool = False, leaps: bool = True) -> None:
        self._make, self._every_step, self._leaps = make, every_step, leaps
        self.moment = Moment()
        self._managers: dict[int | None, AsyncSessionManager] = {}
        self._roots: dict[tuple[int, str, str], State] = {}
        self._starts: dict[str, Node] = {}
        self._kind = self.empty().store()

    def empty(self) -> Database:
        return self._make(lambda: self.moment.mono)

    def manager(self, limit: int | None = None) -> AsyncSessionManager:
        if limit not in self._managers:
            options = Options(max_sessions=limit, on_event=self.moment.hear)
            manager = self._managers[limit] = AsyncSessionManager(
                self._kind, options=options, clock=self.moment.clock(), ids=self.moment
            )
            # A process asks for the era now and then; here nobody ends everybody's sessions, and every request would ask.
            eras = manager.flows.lifecycle.eras
            eras.lag, eras.read_at = inf, 0.0
        return self._managers[limit]

    # ---- a scenario's beginning

    def begin(self, scenario: Scenario, start: Callable[["World"], Node]) -> Node:
        """The first node of a scenario."""
        if scenario.start not in self._starts:
            self._starts[scenario.start] = start(self)
        node = self._starts[scenario.start]
        requests = tuple(self._root(i, name, actor) for i, (name, actor) in enumerate(scenario.requests))
        return node._replace(
            requests=requests,
            left=scenario.happenings,
            fenced=tuple(frozenset() for _ in requests),
            watched=tuple(None for _ in requests),
        )

    def _root(self, index: int, name: str, actor: str) -> State:
        known = self._roots.get((index, name, actor))
        if known is None:
            operation = OPERATIONS[name]
            manager = self.manager(operation.limit)
            known = first(manager, operation, f"r{index + 1}", USERS[actor], self.moment)
            self._roots[index, name, actor] = known
        return known

    def forget(self) -> None:
        """Let go of all histories, so that memory does not grow with the number of scenarios."""
        self._roots.clear()

    # ---- what may happen

    def choices(self, node: Node) -> Iterator[Choice]:
        """What may happen next. Nothing: the scenario is over."""
        for index, state in enumerate(node.requests):
            if state.pending is not None:
                yield Choice(index)
        for happening in node.left:
            if isinstance(happening, Drop):
                yield from (
                    Choice(i, happening) for i, state in enumerate(node.requests) if state.pending is DELIVER
                )
            elif isinstance(happening, Faults):
                yield from self._faults(node, happening)
            else:
                yield Choice(None, happening)

    def _faults(self, node: Node, faults: Faults) -> Iterator[Choice]:
        for index, state in enumerate(node.requests):
            command = state.pending
            if command is not None and command is not LEAVE and command is not DELIVER:
                for kind in faults.kinds:
                    if kind is Fault.OUTAGE or not command.reads:
                        yield Choice(index, faults, kind)

    # ---- making it happen

    def step(self, scenario: Scenario, node: Node, choice: Choice) -> Step:
        """The world after this choice."""
        self.moment.wall, self.moment.mono = node.wall, node.mono
        if choice.happening is not None:
            node = node._replace(left=tuple(h for h in node.left if h is not choice.happening))
        if choice.request is None:
            command, after = self._happen(node, choice.happening)
        else:
            command = node.requests[choice.request].pending
            assert command is not None
            actor = scenario.requests[choice.request][1]
            if command is LEAVE:
                after = self._leave(scenario, node, choice.request, dict(node.jars)[actor])
            elif command is DELIVER:
                after = self._arrive(node, choice, actor)
            else:
                after = self._run(node, choice.request, command, choice.fault)
        carried_out = choice.fault in (None, Fault.REPLY_LOST)
        if command is not None and command.fences is not None and carried_out and _completes(scenario):
            after = after._replace(raised=(*after.raised, (command.fences, node.wall)))
        after = self._tick(node, command, after)
        if any(OPERATIONS[name].lists for name, _ in scenario.requests):
            after = after._replace(watched=_watched(scenario, after))
        return Step(node, choice, command, after)

    def _leave(self, scenario: Scenario, node: Node, index: int, ticket: Ticket | None) -> Node:
        """Send a request; if `leaps`, have its session loaded in the same step.

        What comes about between the two is also seen by a request that has yet to leave, with the cookie that its jar
        then holds; except that a login began before, which is what fences are about. So requests that log in never
        leap.
        """
        after = self._resume(node, index, ticket)
        command = after.requests[index].pending
        if not self._leaps or command is None or not command.reads:
            return after
        if OPERATIONS[scenario.requests[index][0]].login:
            return after
        return self._run(after, index, command, None)

    def _tick(self, before: Node, command: Command | None, after: Node) -> Node:
        wrote = False
        if after.database is not before.database:
            rows = after.database.rows()
            wrote = rows != before.database.rows() or (command is not None and command.fences is not None)
            ever = after.ever.union(rows, (row.version for row in rows.values() if isinstance(row, Record)))
            after = after._replace(ever=ever) if len(ever) > len(after.ever) else after
        if wrote or self._every_step:
            return after._replace(wall=after.wall + TICK, mono=after.mono + TICK)
        return after

    def _happen(self, node: Node, happening: Happening | None) -> tuple[Command | None, Node]:
        if isinstance(happening, Pass):
            return None, node._replace(wall=node.wall + happening.seconds, mono=node.mono + happening.seconds)
        if isinstance(happening, Skew):
            return None, node._replace(wall=node.wall + happening.seconds)
        assert isinstance(happening, Fence)
        database = node.database.copy()
        self.moment.trace = Trace("admin")
        settle(self.manager().flows.end_user(happening.user, None), database)
        after = node._replace(database=database, fenced=_fence(node, happening.user, None))
        return Command("end_user", fences=happening.user), after

    def _arrive(self, node: Node, choice: Choice, actor: str) -> Node:
        index = choice.request
        assert index is not None
        trace = node.requests[index].trace
        jars = dict(node.jars)
        if choice.happening is None:
            jars[actor] = trace.sent if trace.action is CookieAction.SEND else None
        else:
            node = node._replace(dropped=node.dropped | {index})
        node = node._replace(jars=tuple(jars.items()), arrived=(*node.arrived, index))
        return self._resume(node, index, None)

    def _run(self, node: Node, index: int, command: Command, fault: Fault | None) -> Node:
        reply: Any = fault
        if fault is None or fault is Fault.REPLY_LOST:
            changes = node.database.may_change(command)
            database = node.database.copy() if changes else node.database
            carried_out = database.run(command)
            reply = carried_out if fault is None else fault
            if changes and database.state() != node.database.state():
                node = node._replace(database=database)
            if command.fences is not None:
                node = node._replace(fenced=_fence(node, command.fences, index))
        return self._resume(node, index, reply)

    def _resume(self, node: Node, index: int, reply: Any) -> Node:
        state = node.requests[index].resume(reply, node.wall, node.mono)
        requests = (*node.requests[:index], state, *node.requests[index + 1 :])
        if state.pending is DELIVER:
            return node._replace(requests=requests, told=(*node.told, index))
        return node._replace(requests=requests)


def _completes(scenario: Scenario) -> bool:
    return any(name == "complete_login" for name, _ in scenario.requests)


def _watched(scenario: Scenario, node: Node) -> tuple[tuple[frozenset[str], frozenset[str]] | None, ...]:
    rows = node.database.rows()
    living = frozenset(key for key in rows if (r := node.live(key)) is not None and r.user_id == "alice")
    watched: list[tuple[frozenset[str], frozenset[str]] | None] = []
    for (name, _), state, known in zip(scenario.requests, node.requests, node.watched, strict=True):
        if not OPERATIONS[name].lists or state.pending is LEAVE or state.trace.finished:
            watched.append(None)
        else:
            always, ever = known or (living, living)
            watched.append((always & living, ever | living))
    return tuple(watched)


def _fence(node: Node, user: str, by: int | None) -> tuple[frozenset[tuple[str, int | None]], ...]:
    """Who has to reckon with this fence: whoever has left by now, but not who raised it."""
    return tuple(
        fences
        if state.pending is LEAVE
        else frozenset(fence for fence in fences if fence[0] != user)
        if i == by
        else fences | {(user, by)}
        for i, (fences, state) in enumerate(zip(node.fenced, node.requests, strict=True))
    )
