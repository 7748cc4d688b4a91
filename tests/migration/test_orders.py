"""Processes that carry a session meet, and one of them may die: orders of their commands, over two stores in memory.

Each is a coroutine that stops before every command. A walk lets each command be the next in turn, or has its process killed
there. What must hold is asked when all are done, of a process that comes later, and again when the stores have
forgotten what they may.
"""

from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace as changed

from coatcheck.core.ports import SAVED, Outcome, Terms
from coatcheck.core.record import Ended, Record
from coatcheck.core.stepping import run_now
from coatcheck.stores._carry import is_plain
from coatcheck.stores.memory import MemoryStore
from coatcheck.stores.moving import Moving, MovingSessions
from tests.adoption.test_orders import Stopping
from tests.visits import ByUserVerbs

START = 1_800_000_000.0
DAY = 86_400.0
KEY, USER = "k" * 24, "ada"
KEPT = "kept" * 6


def session(key: str = KEY, user: str | None = USER) -> Record:
    at = None if user is None else START - 50
    return Record(
        key, ("v0",), b"d" * 32, b'{"n":0}', START - 100, START - 50, START + DAY, START + DAY, user_id=user, authenticated_at=at
    )  # fmt: skip


class World:
    """Two stores, and processes of either deploy in front of them."""

    def __init__(self, *there: Record) -> None:
        self.now, self.tokens = START, 0
        self.new, self.old = (MemoryStore(monotonic=lambda: self.now) for _ in range(2))
        for record in there:
            # As a login, so that the index knows it.
            run_now(self.old.admit(record, expected=None, terms=Terms(), now=START))
        self.now += 1
        self.done: dict[str, Any] = {}

    def process(self, *, carry: bool = True, stops: bool = True) -> MovingSessions:
        ends: Any = [ByUserVerbs(Stopping(store)) if stops else store for store in (self.new, self.old)]
        return Moving(*ends, carry=carry, tokens=self.token, monotonic=lambda: self.now).awaiting()

    def token(self) -> str:
        self.tokens += 1
        return f"t{self.tokens}"

    def found(self, key: str = KEY) -> Any:
        """What a later request finds."""
        self.now += 0.125  # a fence counts for what began in the same tick, too
        return run_now(self.process(stops=False).load(key, now=self.now))

    def later(self, seconds: float) -> None:
        """Time passes, and the stores forget what they may."""
        self.now += seconds
        for store in (self.new, self.old):
            run_now(store.sweep(now=self.now))


Flow = Coroutine[Any, Any, Any]


class Walk(NamedTuple):
    world: World
    results: list[Any]
    order: tuple[int, ...]
    killed: int | None


def orders(
    make: Callable[[], tuple[World, list[Flow]]], *, kill: int | None = None, switches: int = 1
) -> Iterator[Walk]:
    """Every order, one by one: the choices made so far are taken again, and the last that has another is changed.

    `kill`: this one of them is killed before one of its commands, each in turn; what it had sent stays sent. `switches`: how
    often at most one gives way to another before it is done.
    """
    choices: list[tuple[int, int]] = []
    while True:
        world, flows = make()
        results: list[Any] = [None] * len(flows)
        left, step, killed, room = list(range(len(flows))), 0, None, switches
        taken: list[int] = []
        while left:
            last = taken[-1] if taken and taken[-1] in left else None
            options = list(left) if room or last is None else [last]
            if kill in options and killed is None and kill in taken:
                options.append(-1)
            if step == len(choices):
                choices.append((0, len(options)))
            choice = options[choices[step][0]]
            step += 1
            if choice == -1:
                assert kill is not None
                flows[kill].close()
                left.remove(kill)
                killed = kill
                continue
            room -= last not in (None, choice)
            taken.append(choice)
            try:
                flows[choice].send(None)
            except StopIteration as done:
                results[choice] = done.value
                left.remove(choice)
        yield Walk(world, results, tuple(taken), killed)
        while choices and choices[-1][0] + 1 == choices[-1][1]:
            choices.pop()
        if not choices:
            return
        choices[-1] = (choices[-1][0] + 1, choices[-1][1])


# -------------------------------------------------------------------------------------------------- what processes do


async def look(store: MovingSessions) -> Any:
    return await store.load(KEY, now=START + 1)


async def write(store: MovingSessions, version: str) -> Outcome:
    """A request that counts: it writes over what it read, until nobody comes between."""
    for attempt in range(9):
        found = await store.load(KEY, now=START + 1)
        if not isinstance(found, Record):
            return found  # type: ignore[return-value]
        n = int(found.data[5:-1]) + 1
        following = changed(
            found,
            versions=(f"{version}{attempt}", *found.versions[:15]),
            data=b'{"n":%d}' % n,
            seen_at=START + 1,
        )
        outcome = await store.replace(following, expected=found.versions[0], now=START + 1)
        if outcome is SAVED:
            return outcome
    raise AssertionError


async def log_out(store: MovingSessions) -> bool:
    return await store.delete(KEY, now=START + 1, token="logout")


async def end_one(store: MovingSessions) -> bool:
    return await store.end_one(USER, KEY, now=START + 1, token="end")


async def end_all(store: MovingSessions) -> int:
    return (await store.end_user(USER, keep=KEPT, now=START + 1, token="all")).count


# One is ended as by a logout, but for whose it must be.
ENDS = pytest.mark.parametrize("over", [log_out, pytest.param(end_one, marks=pytest.mark.slow), end_all])
PROCESSES = pytest.mark.parametrize(
    "carry", [(True, True), (True, False), (False, True)], ids=["both-carry", "one-waits", "the-other-waits"]
)
SWITCHES = pytest.mark.parametrize("switches", [1, pytest.param(3, marks=pytest.mark.slow)])
DEATHS = pytest.mark.parametrize("kill", [None, 0], ids=["all-live", "one-is-killed"])


@SWITCHES
@PROCESSES
@DEATHS
@pytest.mark.parametrize("user", [USER, None])
def test_a_session_is_carried_once_and_as_it_was(
    switches: int, carry: tuple[bool, bool], kill: int | None, user: str | None
) -> None:
    def make() -> tuple[World, list[Flow]]:
        world = World(session(user=user))
        return world, [look(world.process(carry=who)) for who in carry]

    count = 0
    for end in orders(make, kill=kill, switches=switches):
        count += 1
        found = end.world.found()
        assert isinstance(found, Record), end.order
        marks = [version for version in found.versions if version.startswith("carried.")]
        assert len(marks) <= 1, end.order
        assert changed(found, versions=("v0",)) == session(user=user), end.order
        for index, result in enumerate(end.results):
            assert index == end.killed or isinstance(result, Record), end.order
        end.world.later(3600)
        assert isinstance(end.world.found(), Record), end.order
        if user is not None:
            page = run_now(end.world.process(stops=False).of_user(USER, now=end.world.now))
            assert [record.key for record in page.records] == [KEY], end.order
    assert count > 1


@SWITCHES
@PROCESSES
@DEATHS
def test_no_write_is_lost(switches: int, carry: tuple[bool, bool], kill: int | None) -> None:
    def make() -> tuple[World, list[Flow]]:
        world = World(session())
        return world, [write(world.process(carry=who), "ab"[n]) for n, who in enumerate(carry)]

    for end in orders(make, kill=kill, switches=switches):
        found = end.world.found()
        assert isinstance(found, Record), end.order
        told = sum(result is SAVED for result in end.results)
        n = int(found.data[5:-1])
        # Of one that was killed nobody knows whether its last command was carried out.
        assert told <= n <= told + (end.killed is not None), end.order


@SWITCHES
@PROCESSES
@DEATHS
@ENDS
@pytest.mark.parametrize(
    "other",
    # Whoever writes has looked before.
    [pytest.param(look, marks=pytest.mark.slow), lambda store: write(store, "w")],
    ids=["look", "write"],
)
def test_what_ended_stays_ended(
    switches: int, carry: tuple[bool, bool], kill: int | None, over: Any, other: Any
) -> None:
    def make() -> tuple[World, list[Flow]]:
        world = World(session(), session(KEPT))
        return world, [other(world.process(carry=carry[0])), over(world.process(carry=carry[1]))]

    for end in orders(make, kill=kill, switches=switches):
        assert end.results[1], end.order
        assert isinstance(end.world.found(), Ended), end.order
        kept = end.world.found(KEPT)
        assert isinstance(kept, Record), end.order
        end.world.later(61)
        assert not isinstance(end.world.found(), Record), end.order
        end.world.later(3600)
        assert not isinstance(end.world.found(), Record), end.order
        assert isinstance(end.world.found(KEPT), Record), end.order
        page = run_now(end.world.process(stops=False).of_user(USER, now=end.world.now))
        assert [record.key for record in page.records] == [KEPT], end.order


@SWITCHES
@PROCESSES
@ENDS
def test_two_that_carry_and_one_that_ends(switches: int, carry: tuple[bool, bool], over: Any) -> None:
    def make() -> tuple[World, list[Flow]]:
        world = World(session(), session(KEPT))
        carriers = [look(world.process()) for _ in range(1)]
        return world, [*carriers, look(world.process(carry=carry[0])), over(world.process(carry=carry[1]))]

    for end in orders(make, switches=switches):
        assert isinstance(end.world.found(), Ended), end.order
        end.world.later(3600)
        assert not isinstance(end.world.found(), Record), end.order


async def log_in(store: MovingSessions, began: float, clock: Callable[[], float]) -> Outcome:
    login = changed(session("l" * 24), authenticated_at=START + 1)
    return await store.admit(
        login, expected=None, terms=Terms(stopwatch=lambda: clock() - began), now=START + 1
    )


@SWITCHES
@PROCESSES
def test_no_login_older_than_the_end_of_all_outlives_it(switches: int, carry: tuple[bool, bool]) -> None:
    def make() -> tuple[World, list[Flow]]:
        world = World(session())
        login = log_in(world.process(carry=carry[0]), world.now - 0.5, lambda: world.now)
        return world, [login, end_all(world.process(carry=carry[1]))]

    for end in orders(make, switches=switches):
        assert not isinstance(end.world.found("l" * 24), Record), end.order


@pytest.mark.parametrize("carry", [True, False])
def test_who_ends_all_and_logs_in_is_let_in(carry: bool) -> None:
    world = World(session())
    world.new._clock = lambda: world.now + 100  # each store has a clock of its own
    store = world.process(carry=carry, stops=False)
    fence = run_now(store.end_user(USER, keep=None, now=world.now, token="all")).fence
    login = changed(session("l" * 24), authenticated_at=world.now)
    terms = Terms(stopwatch=lambda: 1.0, own_fence=fence)
    assert run_now(store.admit(login, expected=None, terms=terms, now=world.now)) is SAVED
    assert is_plain(world.found("l" * 24))


def test_one_that_was_held_up_for_long_takes_back_what_it_made() -> None:
    """It stops before it creates; the session is carried, ended and forgotten; then its command arrives."""
    world = World(session())
    slow = look(world.process())
    for _ in range(5):
        slow.send(None)  # new.load, old.load, freeze, old.load; it waits before its create
    assert run_now(log_out(world.process(stops=False)))
    world.later(3600)
    world.now = (
        START + 1.5
    )  # on its own clock, next to nothing has passed: its one command was under way for an hour
    assert not isinstance(_finished(slow), Record)
    world.later(3600)
    assert not isinstance(world.found(), Record)


def test_a_touch_that_comes_in_between_counts() -> None:
    world = World(changed(session(), deadline=START + 9))
    carrier = look(world.process())
    for _ in range(3):
        carrier.send(None)  # it has read the session, and is about to freeze it
    assert run_now(
        world.old.touch(KEY, deadline=START + DAY, seen_at=START + 0.5, expected="v0", now=START + 1)
    )
    found = _finished(carrier)
    assert (found.deadline, found.seen_at) == (START + DAY, START + 0.5)


def _finished(flow: Flow) -> Any:
    while True:
        try:
            flow.send(None)
        except StopIteration as done:
            return done.value
