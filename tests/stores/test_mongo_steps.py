"""The MongoDB store's series of commands, in every order: two methods at once on a real server, one command at a time.

The store's own code runs over a client that stops before each command. A schedule says whose command is next; all of them are
run, each with sessions and a user of its own.
"""

import random
from collections.abc import Callable, Coroutine, Generator, Iterator
from itertools import islice
from types import coroutine
from typing import Any

import msgspec
import pytest

from coatcheck.core.ids import RandomIds
from coatcheck.core.ports import FENCED, FULL, GONE, SAVED, Changed, Notice, Outcome, Terms
from coatcheck.core.record import Ended, Expired, Login, Record
from coatcheck.core.stepping import run_now
from coatcheck.stores._mongo_client import Client
from coatcheck.stores._mongo_commands import Document
from coatcheck.stores.mongo import MongoSessions, MongoStore
from servers import Server

NOW = 1_700_000_000.0
IDS = RandomIds()
Job = Callable[[MongoSessions], Coroutine[Any, Any, Any]]
Orders = Iterator[tuple[str, list[Any]]]


@pytest.fixture(scope="module")
def store(mongo_server: Server) -> Iterator[MongoSessions]:
    with MongoStore.from_url(mongo_server.url) as backend:
        store = backend.blocking()
        run_now(store.setup())
        yield store


@coroutine
def stop() -> Generator[None, None, None]:
    yield


class Stepping:
    """Stops before each command."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def run(self, command: Document, reads: bool = False) -> Document:
        await stop()
        return await self.client.run(command, reads)

    async def run_long(self, command: Document) -> Document:
        raise NotImplementedError

    def watch(self, collection: str, tell: Callable[[Notice], None]) -> Callable[[], None]:
        raise NotImplementedError


def in_every_order(
    store: MongoSessions, prepare: Callable[[], tuple[Job, ...]], chance: random.Random | None = None
) -> Orders:
    """Run the jobs that `prepare` makes in every order of their commands: what each returned, and the order.

    With `chance` the orders come mixed, for where there are too many.
    """
    schedules: list[tuple[int, ...]] = [()]
    while schedules:
        number = chance.randrange(len(schedules)) if chance else -1
        order, answers, branches = _one_order(store, prepare(), schedules.pop(number))
        schedules += branches
        yield order, answers


def _one_order(
    store: MongoSessions, jobs: tuple[Job, ...], schedule: tuple[int, ...]
) -> tuple[str, list[Any], list[tuple[int, ...]]]:
    stepping = MongoSessions(Stepping(store._client), store._say, store._name)
    running = {n: job(stepping) for n, job in enumerate(jobs)}
    answers: list[Any] = [None] * len(jobs)
    taken: tuple[int, ...] = ()
    branches = []
    for n in tuple(running):
        running[n].send(None)  # up to its first command
    while running:
        choices = sorted(running)
        if len(taken) < len(schedule):
            chosen = schedule[len(taken)]
        else:
            chosen = choices[0]
            branches += [(*taken, other) for other in choices[1:]]
        taken = (*taken, chosen)
        assert len(taken) < 200, "this does not come to an end"
        try:
            running[chosen].send(None)
        except StopIteration as done:
            answers[chosen] = done.value
            del running[chosen]
    return "".join(map(str, taken)), answers, branches


def record(**fields: Any) -> Record:
    values: dict[str, Any] = {
        "key": IDS.locator(),
        "versions": (IDS.version(),),
        "verifier": bytes(32),
        "data": b"{}",
        "created_at": NOW,
        "seen_at": NOW,
        "deadline": NOW + 3_600,
        "ends_at": NOW + 86_400,
    }
    return Record(**(values | fields))


def logged_in(old: Record, user: str) -> Record:
    return msgspec.structs.replace(
        old,
        versions=(IDS.version(), *old.versions),
        user_id=user,
        authenticated_at=NOW + 1,
        login=Login(),
        epoch=old.epoch + 1,
    )


def login(user: str, **fields: Any) -> Record:
    return logged_in(record(**fields), user)


def admission(new: Record, over: Record | None = None, **terms: Any) -> Job:
    terms = {"stopwatch": lambda: 60.0} | terms
    expected = None if over is None else over.version

    async def admit(store: MongoSessions) -> Outcome:
        return await store.admit(new, expected=expected, terms=Terms(**terms), now=NOW)

    return admit


def ending(user: str, keep: str | None = None) -> Job:
    async def end(store: MongoSessions) -> int:
        return (await store.end_user(user, keep=keep, now=NOW, token=IDS.version())).count

    return end


def load(store: MongoSessions, key: str) -> Record | Ended | Expired | None:
    return run_now(store.load(key, now=NOW))


def listed(store: MongoSessions, user: str) -> list[str]:
    return [r.key for r in run_now(store.of_user(user, now=NOW)).records]


def saved(store: MongoSessions, there: Record) -> Record:
    assert run_now(store.create(there, now=NOW)) is SAVED
    return there


BEFORE = ["nothing", "anonymous", "their own", "somebody else's"]


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize(
    "limit", [{}, {"limit": 2}, {"limit": 2, "evict": False}], ids=["", "evict", "refuse"]
)
def test_no_login_begun_before_an_end_user_survives_it(
    store: MongoSessions, before: str, limit: dict[str, Any]
) -> None:
    state: dict[str, Any] = {}

    def prepare() -> tuple[Job, ...]:
        user, other = IDS.version(), IDS.version()
        old = None
        if before != "nothing":
            owner = {"anonymous": None, "their own": user}.get(before, other)
            old = saved(store, login(owner) if owner else record())
        new = login(user) if old is None else logged_in(old, user)
        state.update(user=user, other=other, old=old, new=new)
        return admission(new, old, **limit), ending(user)

    orders = 0
    for order, (outcome, count) in in_every_order(store, prepare):
        orders += 1
        user, old, new = state["user"], state["old"], state["new"]
        assert listed(store, user) == [], order
        there = load(store, new.key)
        if before == "their own":
            assert isinstance(there, Ended), order
            assert (outcome, count) in [(SAVED, 1), (FENCED, 1), (GONE, 1)], order
        elif outcome is SAVED:
            assert isinstance(there, Ended), order
            assert count == 1, order
        else:
            assert outcome is FENCED, order
            assert count == 0, order
            assert there == old, order
    print(f"{orders} orders")


@pytest.mark.parametrize("before", ["anonymous", "somebody else's"])
def test_a_fence_for_who_was_there_before_leaves_nothing_of_theirs(store: MongoSessions, before: str) -> None:
    """The one who is fenced and the one whose session it was are two: a login that is refused brings nothing back."""
    state: dict[str, Any] = {}

    def prepare() -> tuple[Job, ...]:
        user, other = IDS.version(), IDS.version()
        old = saved(store, login(other) if before == "somebody else's" else record())
        run_now(store.end_user(user, keep=None, now=NOW, token="t"))
        new = logged_in(old, user)
        state.update(old=old, new=new, other=other)
        return admission(new, old), ending(other)

    for order, (outcome, _) in in_every_order(store, prepare):
        assert listed(store, state["other"]) == [], order
        if before == "anonymous":
            assert outcome is FENCED, order
            assert load(store, state["old"].key) == state["old"], order
        else:
            assert outcome in (FENCED, GONE), order
            assert isinstance(load(store, state["old"].key), Ended), order


def test_a_logout_during_a_login_that_is_refused_stays_a_logout(store: MongoSessions) -> None:
    state: dict[str, Any] = {}

    def prepare() -> tuple[Job, ...]:
        user = IDS.version()
        old = saved(store, record())
        run_now(store.end_user(user, keep=None, now=NOW, token="t"))
        state.update(old=old)

        async def log_out(store: MongoSessions) -> bool:
            return await store.delete(old.key, now=NOW, token="t", expected=old.version)

        return admission(logged_in(old, user), old), log_out

    for order, (outcome, ended) in in_every_order(store, prepare):
        assert ended is True, order
        assert outcome in (FENCED, GONE), order
        assert isinstance(load(store, state["old"].key), Ended), order


def test_others_see_the_session_as_it_was_until_it_is_the_logins(store: MongoSessions) -> None:
    state: dict[str, Any] = {}

    def prepare() -> tuple[Job, ...]:
        old = saved(store, record())
        new = logged_in(old, IDS.version())
        state.update(old=old, new=new)

        async def look(store: MongoSessions) -> list[Record | Ended | Expired | None]:
            return [await store.load(old.key, now=NOW) for _ in range(3)]

        return admission(new, old), look

    for order, (outcome, seen) in in_every_order(store, prepare):
        assert outcome is SAVED, order
        assert seen in [[state["old"]] * n + [state["new"]] * (3 - n) for n in range(4)], order


def test_of_two_logins_on_one_session_one_is_saved(store: MongoSessions) -> None:
    state: dict[str, Any] = {}

    def prepare() -> tuple[Job, ...]:
        old = saved(store, record())
        one, two = logged_in(old, IDS.version()), logged_in(old, IDS.version())
        state.update(new=(one, two))
        return admission(one, old), admission(two, old)

    for order, outcomes in in_every_order(store, prepare):
        assert outcomes.count(SAVED) == 1, order
        first = state["new"][outcomes.index(SAVED)]
        assert load(store, first.key) == first, order
        assert outcomes[1 - outcomes.index(SAVED)] == Changed(first), order


def test_a_write_during_a_login_is_never_lost(store: MongoSessions) -> None:
    """One of the two is first, and the other is told."""
    state: dict[str, Any] = {}

    def prepare() -> tuple[Job, ...]:
        old = saved(store, record())
        new = logged_in(old, IDS.version())
        written = msgspec.structs.replace(old, versions=(IDS.version(), *old.versions), data=b"written")
        state.update(old=old, new=new, written=written)

        async def write(store: MongoSessions) -> Outcome:
            return await store.replace(written, expected=old.version, now=NOW)

        return admission(new, old), write

    for order, (admitted, replaced) in in_every_order(store, prepare):
        there = load(store, state["old"].key)
        if admitted is SAVED:
            assert replaced == Changed(state["new"]), order
            assert there == state["new"], order
        else:
            assert (admitted, replaced) == (Changed(state["written"]), SAVED), order
            assert there == state["written"], order


def test_a_touch_during_a_login_does_not_hinder_it(store: MongoSessions) -> None:
    state: dict[str, Any] = {}

    def prepare() -> tuple[Job, ...]:
        old = saved(store, record())
        state.update(new=logged_in(old, IDS.version()))

        async def touch(store: MongoSessions) -> bool:
            return await store.touch(
                old.key, deadline=NOW + 4_000, seen_at=NOW + 5, expected=old.version, now=NOW
            )

        return admission(state["new"], old), touch

    for order, (outcome, _) in in_every_order(store, prepare):
        assert outcome is SAVED, order
        assert load(store, state["new"].key) == state["new"], order


def test_a_login_begun_after_the_fence_passes_though_its_claim_was_called_off(store: MongoSessions) -> None:
    """`end_user` is still busy when it begins: it starts again, and is not refused."""
    state: dict[str, Any] = {}

    def prepare() -> tuple[Job, ...]:
        user = IDS.version()
        state.update(new=login(user), ended=[])

        async def end(store: MongoSessions) -> None:
            await store.end_user(user, keep=None, now=NOW, token="t")

        # Its own fence is what a login that has just begun would be: after this one, before any other.
        fence = run_now(store.end_user(user, keep=None, now=NOW, token="t")).fence

        async def rest_of_end(store: MongoSessions) -> None:
            await store._client.run(store._say.call_off_all(user, NOW))

        return admission(state["new"], own_fence=fence), rest_of_end

    for order, (outcome, _) in in_every_order(store, prepare):
        assert outcome is SAVED, order
        assert load(store, state["new"].key) == state["new"], order


@pytest.mark.parametrize("there_before", [0, 1])
def test_two_logins_at_a_limit_of_one_leave_one(store: MongoSessions, there_before: int) -> None:
    state: dict[str, Any] = {}

    def prepare() -> tuple[Job, ...]:
        user = IDS.version()
        for _ in range(there_before):
            run_now(admission(login(user))(store))
        state.update(user=user, new=[login(user), login(user)])
        return tuple(admission(new, limit=1) for new in state["new"])

    for order, outcomes in in_every_order(store, prepare):
        assert outcomes == [SAVED, SAVED], order
        keys = listed(store, state["user"])
        assert len(keys) == 1, order
        assert keys[0] in [new.key for new in state["new"]], order


@pytest.mark.parametrize("there_before", [0, 1])
def test_two_logins_for_one_place_fill_it(store: MongoSessions, there_before: int) -> None:
    state: dict[str, Any] = {}

    def prepare() -> tuple[Job, ...]:
        user = IDS.version()
        for _ in range(there_before):
            run_now(admission(login(user))(store))
        state.update(user=user, new=[login(user), login(user)])
        return tuple(admission(new, limit=there_before + 1, evict=False) for new in state["new"])

    for order, outcomes in in_every_order(store, prepare):
        assert sorted(map(str, outcomes)) == sorted(map(str, [SAVED, FULL])), order
        assert len(listed(store, state["user"])) == there_before + 1, order
        assert state["new"][outcomes.index(SAVED)].key in listed(store, state["user"]), order
        assert load(store, state["new"][outcomes.index(FULL)].key) is None, order


def test_a_session_that_is_logged_into_again_is_not_evicted_for_its_age(store: MongoSessions) -> None:
    """A newcomer has found it the oldest, and is about to end it: by then it may be the newest."""
    state: dict[str, Any] = {}

    def prepare() -> tuple[Job, ...]:
        user = IDS.version()
        old = login(user)
        assert run_now(admission(old)(store)) is SAVED
        state.update(user=user)
        return admission(login(user), limit=1), admission(logged_in(old, user), old, limit=1)

    for order, (newcomer, again) in in_every_order(store, prepare):
        assert newcomer is SAVED, order
        assert again in (SAVED, GONE), order
        assert len(listed(store, state["user"])) == 1, order


@pytest.mark.slow
def test_three_logins_at_a_limit_of_two_leave_two(store: MongoSessions) -> None:
    state: dict[str, Any] = {}

    def prepare() -> tuple[Job, ...]:
        user = IDS.version()
        state.update(user=user, new=[login(user) for _ in range(3)])
        return tuple(admission(new, limit=2) for new in state["new"])

    orders = in_every_order(store, prepare, random.Random(3))
    for order, outcomes in islice(orders, 1_000):
        assert outcomes == [SAVED] * 3, order
        assert len(listed(store, state["user"])) == 2, order
