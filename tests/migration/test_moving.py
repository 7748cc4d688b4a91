"""Two stores as one: the contract, every order of requests that meet while sessions move, and what cannot be."""

import re
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import islice

import pytest

from coatcheck import ConfigurationError, Options, SessionManager
from coatcheck.core.ids import Ticket
from coatcheck.core.stepping import run_now
from coatcheck.eras import ERA_KEY
from coatcheck.stores import open_store
from coatcheck.stores.encrypted import Encrypted
from coatcheck.stores.layered import LayeredStore
from coatcheck.stores.memory import MemoryStore
from coatcheck.stores.moving import Moving
from coatcheck.testing import Sentence, StoreContract
from coatcheck.testing.explorer import (
    CORE,
    HAPPENINGS,
    OPERATIONS,
    VICTIM,
    Happening,
    Pass,
    Report,
    Scenario,
    explore,
    pairs,
)
from coatcheck.testing.explorer.postgres import postgres
from coatcheck.testing.explorer.redis_server import redis
from coatcheck.testing.explorer.sqlite import sqlite
from coatcheck.testing.explorer.world import memory
from servers import Server
from tests.migration.explored import MovingWorld

BOTH = pytest.mark.parametrize("carry", [True, False], ids=["carrying", "waiting"])


@BOTH
@pytest.mark.parametrize("sentence", StoreContract.sentences())
def test_contract(sentence: Sentence, carry: bool) -> None:
    StoreContract(lambda: Moving(MemoryStore(), MemoryStore(), carry=carry)).run(sentence)


# The end of all sessions is two commands here: see `test_orders`. A deadline that passes between two commands of one request is
# another story: the clock of a request is that of its beginning.
NAMES = [name for name in OPERATIONS if name not in ("end_all", "end_others", "change_password")]
PROCESSES = {"carry": (True,), "wait": (False,), "one-waits": (True, False), "the-other-waits": (False, True)}
WHAT_HAPPENS = [(), HAPPENINGS[0], HAPPENINGS[1], HAPPENINGS[2], HAPPENINGS[3]]


def clean(world: MovingWorld, scenarios: Iterable[Scenario]) -> None:
    report = Report()
    for scenario in scenarios:
        report.add(explore(world, scenario))
        world.forget()
    assert report.scenarios > 0
    assert [str(violation) for violation in report.violations] == []


def core(happening: tuple[Happening, ...] = ()) -> Iterable[Scenario]:
    return pairs((happening,), operations=[name for name in CORE if name in NAMES])


@pytest.mark.parametrize("processes", PROCESSES)
def test_some_pairs(processes: str) -> None:
    clean(MovingWorld(memory, carry=PROCESSES[processes]), islice(core(), 7, None, 167))


@pytest.mark.slow
@pytest.mark.parametrize("processes", PROCESSES)
def test_all_core_pairs(processes: str) -> None:
    clean(MovingWorld(memory, carry=PROCESSES[processes]), core())


@pytest.mark.slow
@pytest.mark.parametrize("processes", PROCESSES)
@pytest.mark.parametrize(
    "happening", WHAT_HAPPENS, ids=lambda h: "-".join(type(x).__name__ for x in h) or "nothing"
)
def test_some_pairs_when_something_happens(processes: str, happening: tuple[Happening, ...]) -> None:
    clean(MovingWorld(memory, carry=PROCESSES[processes]), islice(core(happening), 5, None, 61))


@pytest.mark.parametrize("processes", PROCESSES)
def test_a_logout_by_a_clock_that_is_behind_is_a_logout(processes: str) -> None:
    """A minute passed before its first command: its tombstone must still stand for whoever carries the session at that time."""
    late = [one for one in core((Pass(61),)) if str(one).startswith("logged in: [nested, logout]")]
    assert len(late) == 1
    clean(MovingWorld(memory, carry=PROCESSES[processes]), late)


@pytest.mark.slow
@pytest.mark.parametrize("processes", PROCESSES)
def test_some_of_all_pairs(processes: str) -> None:
    clean(
        MovingWorld(memory, carry=PROCESSES[processes]), islice(pairs(((),), operations=NAMES), 3, None, 97)
    )


@pytest.mark.slow
def test_some_pairs_between_two_kinds_of_store() -> None:
    with sqlite() as old:
        clean(MovingWorld(memory, old=old), islice(core(), 7, None, 41))
        clean(MovingWorld(old, old=memory, carry=(True, False)), islice(core(), 11, None, 41))


@pytest.mark.parametrize("processes", [(True,), (True, False)], ids=["carry", "one-waits"])
def test_requests_that_meet_between_redis_and_postgres(
    processes: tuple[bool, ...], redis_server: Server, postgres_server: Server
) -> None:
    with redis(redis_server.url) as old, postgres(postgres_server.url) as new:
        world = MovingWorld(new, old=old, carry=processes)
        clean(world, [Scenario("logged in", (("logout", VICTIM), ("set_a", VICTIM)))])


@pytest.mark.slow
def test_some_pairs_between_redis_and_postgres(redis_server: Server, postgres_server: Server) -> None:
    with redis(redis_server.url) as one, postgres(postgres_server.url) as other:
        clean(MovingWorld(other, old=one), islice(core(), 9, None, 101))
        # In Redis a login is written, and confirmed by a second command. What is carried in between is confirmed, or belongs to
        # nobody; the oracles know of no such thing.
        decided = (s for s in core() if all(name != "login" for name, _ in s.requests))
        clean(MovingWorld(other, old=one, carry=(True, False)), islice(decided, 13, None, 83))


# ------------------------------------------------------------------------------------------------------ what cannot be


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Moving("sqlite:///a.db", "sqlite:///a.db"), "the same store"),
        (lambda: Moving(MemoryStore(), Moving(MemoryStore(), MemoryStore())), "finish one move"),
        (lambda: Moving(MemoryStore(), MemoryStore(), carry=1), "give True or False"),  # type: ignore[arg-type]
        (lambda: Moving(MemoryStore(), open_store("cookie:?revocation=none")).blocking(), "in no store"),
        (lambda: Moving(LayeredStore(MemoryStore()), MemoryStore()).blocking(), "put the cache around both"),
        (
            lambda: Encrypted(
                Moving(MemoryStore(), MemoryStore()), secret="s3cr" * 11, insecure_dev=True
            ).blocking(),
            "Moving(Enc",
        ),
    ],
)
def test_what_cannot_be_is_said_when_it_is_built(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        make()


class Renamed:
    """The same store, by another name."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> object:
        return (lambda: self) if name in ("blocking", "awaiting") else getattr(self._store, name)


@BOTH
def test_one_store_under_two_names_loses_no_session(carry: bool) -> None:
    store = MemoryStore()
    ticket = begun(SessionManager(store))
    sessions = SessionManager(Moving(store, Renamed(store), carry=carry))  # type: ignore[arg-type]
    with suppress(ConfigurationError):
        session = sessions.session(ticket)
        session.login("ada")
        session.save()
        assert not carry
    assert SessionManager(store).session(ticket).get("n") == (1 if carry else None)
    assert store._rows[ticket.locator].version[:6] != "frozen"  # type: ignore[union-attr]


def test_everybodys_end_reaches_both_stores() -> None:
    new, old = MemoryStore(), MemoryStore()
    moving = SessionManager(Moving(new, old))
    before = SessionManager(old)
    tickets = [begun(before), begun(moving)]
    assert all(moving.session(ticket).get("n") == 1 for ticket in tickets)
    moving.end_everyone()
    assert all(moving.session(ticket).get("n") is None for ticket in tickets)
    assert {run_now(store.load(ERA_KEY, now=time.time())).era for store in (new, old)} == {  # type: ignore[union-attr]
        moving.flows.lifecycle.eras.number
    }


@BOTH
def test_a_limit_counts_what_is_in_either_store(carry: bool) -> None:
    """Also of a login in a session that another process had carried while it was nobody's."""
    new, old = MemoryStore(), MemoryStore()
    options = Options(max_sessions=2)
    for _ in range(2):
        login(SessionManager(old, options=options))
    ticket = begun(SessionManager(old))
    assert SessionManager(Moving(new, old)).session(ticket)["n"] == 1
    sessions = SessionManager(Moving(new, old, carry=carry), options=options)
    login(sessions, ticket)
    assert len(sessions.of("ada").list()) == 2


def login(sessions: SessionManager, ticket: Ticket | None = None) -> None:
    session = sessions.session(ticket)
    session.login("ada")
    session.save()


def test_a_cache_may_stand_around_both() -> None:
    moving = SessionManager(LayeredStore(Moving(MemoryStore(), MemoryStore())))
    ticket = begun(moving)
    assert moving.session(ticket)["n"] == 1


def test_encrypted_stores_may_stand_inside() -> None:
    below, old = MemoryStore(), MemoryStore()
    sealed = Encrypted(below, secret="s3cr" * 11, insecure_dev=True)
    ticket = begun(SessionManager(old))
    assert SessionManager(Moving(sealed, old)).session(ticket)["n"] == 1
    assert SessionManager(sealed).session(ticket)["n"] == 1


def begun(sessions: SessionManager) -> Ticket:
    session = sessions.session()
    session["n"] = 1
    session.save()
    assert session._record is not None
    assert session._verifier is not None
    return Ticket(session._record.key, session._verifier)
