"""Requests with one old cookie that meet: every order of their commands, over the real code, one store in memory.

Each request is a coroutine that stops before every command, to the store and to the old place alike. A walk lets each command be
the next in turn. The usual run takes the orders in which one gives way to the other three times at most before it is done, where
nearly all there is to find is found; `make test-all` takes all orders.
"""

import math
from collections.abc import Callable, Coroutine, Iterator
from types import coroutine
from typing import Any, NamedTuple

import pytest

from coatcheck import AsyncSessionManager, Clock, Options
from coatcheck.core.adoption import Claim, Found
from coatcheck.core.cookies import CookieSettings
from coatcheck.core.ids import Ticket
from coatcheck.core.session import CookieAction, Standing
from coatcheck.core.stepping import run_now
from coatcheck.exchange import Arrival
from coatcheck.faces import AsyncSession
from coatcheck.stores.memory import MemoryStore
from tests.visits import ByUserVerbs, Line

START = 1_800_000_000.0


@coroutine
def _stop() -> Iterator[None]:
    yield


class Stopping(Line):
    """The way to a store: whoever comes stops first, and may be made to wait as long as one likes."""

    async def send(self, verb: str, *args: Any, **given: Any) -> Any:
        await _stop()
        return await super().send(verb, *args, **given)


class Shelf:
    """One old session in a dict."""

    kind, user_key, to_user_id, accept, until = "Shelf", "user", None, None, None
    cookie = CookieSettings(name="old")

    def __init__(self) -> None:
        self.sessions: dict[str, Any] = {"key": {"user": "7", "cart": ["a"]}}

    def claim(self, value: str, now: float) -> Claim | None:
        return Claim(value)

    def blocking(self) -> "Shelf":
        return self

    awaiting = blocking

    async def fetch(self, key: str, now: float) -> Found | None:
        await _stop()
        data = self.sessions.get(key)
        return None if data is None else Found(dict(data), issued_at=START - 600)

    async def end(self, key: str) -> None:
        await _stop()
        self.sessions.pop(key, None)

    async def close(self) -> None: ...


class Cookie(Shelf):
    """The same in the cookie itself: nothing can be ended."""

    kind = "Cookie"

    def claim(self, value: str, now: float) -> Claim | None:
        return Claim(value, Found(dict(self.sessions["key"]), issued_at=START - 600, expires_at=START + 9000))

    def blocking(self) -> Any:
        return None

    awaiting = blocking


class World:
    """One site, and browsers of one visitor."""

    def __init__(self, old: Any) -> None:
        self.now, self.events, self.old = START, list[Any](), old
        clock = Clock(lambda: self.now, lambda: self.now)
        options = Options(adopt=old, on_event=self.events.append)
        self.memory = MemoryStore(monotonic=lambda: self.now)
        store = ByUserVerbs(Stopping(self.memory))
        self.sessions = AsyncSessionManager(store, options=options, clock=clock)
        # A process asks for the era now and then; here every request would, and each is an order more.
        eras = self.sessions.flows.lifecycle.eras
        eras.lag, eras.read_at = math.inf, 0.0
        self.told: list[Ticket | None] = []

    async def request(
        self, act: Callable[[AsyncSession], None] | None, ticket: Ticket | None = None
    ) -> AsyncSession:
        """A request with the old cookie, and ours if given; what its browser then holds is noted."""
        session = self.sessions.session(ticket)
        session._describe = lambda: Arrival("http", b"old=key")
        if ticket is None:
            session._standing = Standing.UNLOADED
        await session.load()
        session.get("cart")
        if act is not None:
            act(session)
        told = await self.sessions.flows.commit(session)
        if told is CookieAction.SEND:
            assert session._record is not None
            assert session._verifier is not None
            self.told.append(Ticket(session._record.key, session._verifier))
        elif told is CookieAction.CLEAR:
            self.told.append(None)
        return session

    def later(self, seconds: float) -> None:
        """Time passes, and the store forgets what it may: the ended, and fences."""
        self.now += seconds
        run_now(self.memory.sweep(now=self.now))

    async def revoke(self) -> None:
        await self.sessions.flows.end_user("7", None)

    def names(self) -> list[str]:
        return [event.name for event in self.events]


class Ended(NamedTuple):
    world: World
    results: list[Any]
    order: tuple[int, ...]


def orders(
    make: Callable[[], tuple[World, list[Coroutine[Any, Any, Any]]]], switches: int = 99
) -> Iterator[Ended]:
    """Every order, one by one: the choices made so far are taken again, and the last that has another is changed.

    `switches`: how often at most one may give way to another before it is done.
    """
    choices: list[tuple[int, int]] = []
    while True:
        world, flows = make()
        results: list[Any] = [None] * len(flows)
        left, step, last, room = list(range(len(flows))), 0, -1, switches
        while left:
            others = [who for who in left if who != last]
            turns = [last, *(others if room else ())] if last in left else others
            if step == len(choices):
                choices.append((0, len(turns)))
            who = turns[choices[step][0]]
            room -= last in left and who != last
            step, last = step + 1, who
            try:
                flows[who].send(None)
            except StopIteration as done:
                results[who] = done.value
                left.remove(who)
        yield Ended(world, results, tuple(choice for choice, _ in choices))
        while choices and choices[-1][0] + 1 == choices[-1][1]:
            choices.pop()
        if not choices:
            return
        choices[-1] = (choices[-1][0] + 1, choices[-1][1])


def whole(flow: Coroutine[Any, Any, Any]) -> Any:
    """Run one to its end, by itself."""
    while True:
        try:
            flow.send(None)
        except StopIteration as done:
            return done.value


def write(key: str) -> Callable[[AsyncSession], None]:
    return lambda session: session.__setitem__(key, 1)


def log_out(session: AsyncSession) -> None:
    session.logout()


def log_in(session: AsyncSession) -> None:
    session.login("7")


KINDS = [Shelf, Cookie]
SWITCHES = [3, pytest.param(99, marks=pytest.mark.slow)]


@pytest.mark.parametrize("switches", SWITCHES)
@pytest.mark.parametrize("kind", KINDS)
def test_two_first_requests_adopt_once_in_every_order(kind: Any, switches: int) -> None:
    def make() -> tuple[World, list[Any]]:
        world = World(kind())
        return world, [world.request(write("one")), world.request(write("other"))]

    count = 0
    for end in orders(make, switches):
        count += 1
        world = end.world
        assert world.names().count("session.adopted") == 1, end.order
        assert len(set(world.told)) == 1, end.order
        seen = whole(world.request(None, world.told[0]))
        assert seen.user_id == "7"
        assert dict(seen) == {"user": "7", "cart": ["a"], "one": 1, "other": 1}, end.order
        devices = whole(world.sessions.flows.devices("7"))
        assert len(devices) == 1
        if kind is Shelf:
            assert world.old.sessions == {}
    assert count > 100


@pytest.mark.parametrize("act", [log_out, log_in], ids=["logout", "login"])
@pytest.mark.parametrize("switches", SWITCHES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_logout_or_login_beside_another_first_request_stands_in_every_order(
    kind: Any, act: Any, switches: int
) -> None:
    def make() -> tuple[World, list[Any]]:
        world = World(kind())
        return world, [world.request(act), world.request(write("other"))]

    for end in orders(make, switches):
        world, (acted, other) = end.world, end.results
        assert world.names().count("session.adopted") == 1, end.order
        devices = whole(world.sessions.flows.devices("7"))
        if act is log_out:
            assert devices == [], end.order
            assert other._standing in (Standing.LIVE, Standing.DETACHED), end.order
        else:
            assert len(devices) == 1, end.order
            ticket = Ticket(acted._record.key, acted._verifier)
            assert whole(world.request(None, ticket)).user_id == "7", end.order
        for later in (0, 61, 600):
            world.later(later)
            assert whole(world.request(None)).user_id is None, (end.order, later)
        assert world.names().count("session.adopted") == 1, end.order


@pytest.mark.parametrize("kind", KINDS)
def test_a_revocation_beside_a_first_request_leaves_nothing_in_any_order(kind: Any) -> None:
    """Unless it comes before and the cookie was issued after, which it was not."""

    def make() -> tuple[World, list[Any]]:
        world = World(kind())
        return world, [world.request(write("one")), world.revoke()]

    for end in orders(make):
        world = end.world
        for later in (0, 61, 2 * 86_400 if kind is Shelf else 6000):
            world.later(later)
            assert whole(world.request(None)).user_id is None, end.order
            assert whole(world.sessions.flows.devices("7")) == [], end.order


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", range(1, 12))
def test_a_process_that_dies_on_the_way_loses_nothing_and_brings_nothing_back(kind: Any, steps: int) -> None:
    world = World(kind())
    flow = world.request(write("one"))
    try:
        for _ in range(steps):
            flow.send(None)
    except StopIteration:
        pass
    else:
        flow.close()
    world.later(3600)  # longer than any tombstone, and than any window
    seen = whole(world.request(write("other")))
    assert seen.user_id == "7"
    assert world.told
    assert whole(world.request(None, world.told[-1]))["other"] == 1
    assert len(whole(world.sessions.flows.devices("7"))) == 1
    assert world.names().count("session.adopted") == 1
    whole(world.request(log_out, world.told[-1]))
    world.later(61)
    assert whole(world.request(None)).user_id is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", range(1, 6))
def test_a_request_that_slept_through_it_all_brings_nothing_back(kind: Any, steps: int) -> None:
    """It was about to adopt; another adopted, logged out, and the tombstone is gone."""
    world = World(kind())
    sleeper = world.request(write("late"))
    for _ in range(steps):
        sleeper.send(None)
    whole(world.request(None))
    if kind is Shelf:
        world.old.sessions["key"] = {"user": "7"}  # it lay there still when the sleeper looked
    whole(world.request(log_out, world.told[-1]))
    world.later(3600)
    slept = whole(sleeper)
    assert slept.user_id is None
    assert whole(world.sessions.flows.devices("7")) == []
    world.later(61)
    assert whole(world.request(None)).user_id is None


def test_the_walk_is_over_all_orders() -> None:
    """The machinery itself: two of two steps each have six orders."""

    async def two() -> None:
        await _stop()

    ended = list(orders(lambda: (World(Shelf()), [two(), two()])))
    assert len({end.order for end in ended}) == len(ended) == 6
