"""Two stores under the explorer: requests over `Moving`, each command of either store a step; the oracles see one store.

Every scenario starts with all sessions in the old store. In a mixed world the first request is in a process that carries, the
others in one that waits: two deploys beside each other.

The end of all sessions of a user is two commands here, one to each store, and the oracles know it as one: it is in test_orders.
"""

from collections.abc import Callable, Coroutine, Generator, Hashable, Mapping
from math import inf
from types import coroutine
from typing import Any, cast

from msgspec.structs import replace as changed

from coatcheck import AsyncSessionManager, Options
from coatcheck.core.ports import Changed, Page, Store
from coatcheck.core.record import Record
from coatcheck.stores._carry import has_moved, is_frozen, thawed
from coatcheck.stores.moving import Moving
from coatcheck.testing.explorer import Command, Database, Provisional, Scenario, World
from coatcheck.testing.explorer.database import Row
from coatcheck.testing.explorer.operations import OPERATIONS
from coatcheck.testing.explorer.requests import State, first
from coatcheck.testing.explorer.world import USERS, Node

Make = Callable[[Callable[[], float]], Database]


Verb = Callable[..., Coroutine[Any, Any, Any]]
VERBS = ("load", "create", "replace", "touch", "delete", "admit", "of_user", "end_user", "end_one")
SIDES = ("new", "old")


class At:
    """A store whose commands say which of the two they are for."""

    def __init__(self, store: Store, side: str) -> None:
        self._side = side
        for name in VERBS:
            setattr(self, name, self._at(getattr(store, name)))

    def _at(self, method: Verb) -> Verb:
        async def command(*args: Any, **given: Any) -> Any:
            return await self._tagged(method(*args, **given))

        return command

    @coroutine
    def _tagged(self, flow: Coroutine[Any, Any, Any]) -> Generator[Command, Any, Any]:
        reply: Any = None
        error: BaseException | None = None
        while True:
            try:
                command = flow.send(reply) if error is None else flow.throw(error)
            except StopIteration as done:
                return done.value
            error = None
            try:
                reply = yield self._of(command)
            except BaseException as thrown:
                error = thrown

    def _of(self, command: Command) -> Command:
        # A plain one: those of a database's own know how to show what they were told, and this is not told in their way.
        told = command.reads, command.fences, command.aside, command.undecided
        return Command(f"{self._side}.{command.name}", (SIDES.index(self._side), command), {}, *told)


class Two:
    """The new database and the old one, seen as one by the oracles."""

    def __init__(
        self, parts: tuple[Database, Database], moving: Callable[[Database, Database], Store]
    ) -> None:
        self.parts, self._moving = parts, moving

    def store(self) -> Store:
        return self._moving(*self.parts)

    def run(self, command: Command) -> Any:
        side, inner = command.args
        return self.parts[side].run(inner)

    def may_change(self, command: Command) -> bool:
        side, inner = command.args
        return self.parts[side].may_change(inner)

    def copy(self) -> "Two":
        return Two((self.parts[0].copy(), self.parts[1].copy()), self._moving)

    def state(self) -> Hashable:
        return self.parts[0].state(), self.parts[1].state()

    def rows(self) -> Mapping[str, Row]:
        old = {key: there for key, row in self.parts[1].rows().items() if (there := _seen(row)) is not None}
        return old | {
            key: row
            for key, row in ((k, _seen(r)) for k, r in self.parts[0].rows().items())
            if row is not None
        }

    def listed(self, user_id: str) -> frozenset[str]:
        return self.parts[0].listed(user_id) | self.parts[1].listed(user_id)

    def provisional(self) -> Mapping[str, Provisional]:
        return {**self.parts[1].provisional(), **self.parts[0].provisional()}


_thawed: dict[Row, Row | None] = {}


def _seen(row: Row) -> Row | None:
    """What a row is to a request: the very same for the same row."""
    if row not in _thawed:
        _thawed[row] = _worked_out(row)
    return _thawed[row]


def _worked_out(row: Row) -> Row | None:
    if not isinstance(row, Record):
        return row
    if has_moved(row):
        return None
    return _bare(thawed(row) if is_frozen(row) else row)


def _bare(there: Any) -> Any:
    """What a request is told, without the mark of its carrier: that one was carried is none of the oracles' concern."""
    if isinstance(there, Record):
        return changed(there, versions=tuple(v for v in there.versions if not v.startswith("carried.")))
    if isinstance(there, Changed):
        return Changed(_bare(there.current))
    return (
        Page([_bare(record) for record in there.records], there.cursor) if isinstance(there, Page) else there
    )


class Bare:
    """The store, telling of no marks."""

    def __init__(self, store: Store) -> None:
        for name in VERBS:
            setattr(self, name, _telling(getattr(store, name)))


def _telling(method: Verb) -> Verb:
    async def verb(*args: Any, **given: Any) -> Any:
        return _bare(await method(*args, **given))

    return verb


class MovingWorld(World):
    """`carry`: for each request whether its process carries; the last one says it of all that follow."""

    def __init__(self, make: Make, *, old: Make | None = None, carry: tuple[bool, ...] = (True,)) -> None:
        self._carry, self._at = carry, 0
        self._kinds: dict[tuple[bool, int | None], AsyncSessionManager] = {}
        moving = self._moving

        def two(monotonic: Callable[[], float]) -> Database:
            return Two((make(monotonic), (old or make)(monotonic)), moving)

        super().__init__(two)

    def _moving(self, new: Database, old: Database, *, carry: bool = True) -> Store:
        stores: Any = At(new.store(), "new"), At(old.store(), "old")
        moving = Moving(
            *stores, carry=carry, tokens=lambda: self.moment.trace.me, monotonic=lambda: self.moment.mono
        )
        bare: Any = Bare(moving.awaiting())
        return cast(Store, bare)

    def manager(self, limit: int | None = None) -> AsyncSessionManager:
        carry = self._carry[min(self._at, len(self._carry) - 1)]
        if (carry, limit) not in self._kinds:
            two = cast(Two, self.empty())
            options = Options(max_sessions=limit, on_event=self.moment.hear)
            manager = AsyncSessionManager(
                self._moving(*two.parts, carry=carry),
                options=options,
                clock=self.moment.clock(),
                ids=self.moment,
            )
            eras = manager.flows.lifecycle.eras
            eras.lag, eras.read_at = inf, 0.0
            self._kinds[carry, limit] = manager
        return self._kinds[carry, limit]

    def begin(self, scenario: Scenario, start: Callable[[World], Node]) -> Node:
        def in_the_old(world: World) -> Node:
            self._at, carry, self._carry = 0, self._carry, (False,)
            try:
                return start(world)
            finally:
                self._carry = carry

        return super().begin(scenario, in_the_old)

    def _root(self, index: int, name: str, actor: str) -> State:
        known = self._roots.get((index, name, actor))
        if known is None:
            operation = OPERATIONS[name]
            self._at = index
            known = first(
                self.manager(operation.limit), operation, f"r{index + 1}", USERS[actor], self.moment
            )
            self._at = 0
            self._roots[index, name, actor] = known
        return known
