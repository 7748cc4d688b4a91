"""Everybody's sessions ended at once, over every kind of store that a process can have alone (`coatcheck.eras`)."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from coatcheck import AsyncSessionManager, ConfigurationError, LoginRefused, Options, SessionManager
from coatcheck.core.ids import Ticket
from coatcheck.core.ports import EVERYONE, Notice
from coatcheck.core.record import Record
from coatcheck.eras import ERA_KEY, LAG
from coatcheck.flows import Clock
from coatcheck.stores.layered import LayeredStore
from coatcheck.stores.memory import MemoryStore
from coatcheck.stores.sqlite import SQLiteStore


class Times:
    """A clock to move."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now

    monotonic = time

    def __iadd__(self, seconds: float) -> "Times":
        self.now += seconds
        return self


def ticket(session: Any) -> Ticket:
    return Ticket(session._record.key, session._verifier)


def visitor(sessions: SessionManager, user: str | None = None) -> Ticket:
    session = sessions.session()
    session["cart"] = [1]
    if user is not None:
        session.login(user)
    sessions.commit(session)
    return ticket(session)


class Place:
    """Two processes over one store."""

    def __init__(self, store: Any, **options: Any) -> None:
        self.time = Times()
        clock = Clock(self.time.time, self.time.monotonic)
        self.store = store(self.time)
        self.here, self.there = (
            SessionManager(self.store, options=Options(**options), clock=clock) for _ in range(2)
        )

    def user_of(self, sessions: SessionManager, held: Ticket) -> str | None:
        return sessions.session(held).user_id


@pytest.fixture(params=["memory", "sqlite", "layered"])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return {
        "memory": lambda time: MemoryStore(monotonic=time.monotonic),
        "sqlite": lambda time: SQLiteStore(tmp_path / "s.db", monotonic=time.monotonic),
        "layered": lambda time: LayeredStore(MemoryStore(monotonic=time.monotonic), monotonic=time.monotonic),
    }[request.param]


def test_everybody_is_out_here_at_once_and_elsewhere_a_few_seconds_later(kind: Any) -> None:
    place = Place(kind)
    ada, bob, nobody = visitor(place.here, "ada"), visitor(place.here, "bob"), visitor(place.here)
    assert [place.user_of(place.there, one) for one in (ada, bob)] == ["ada", "bob"]
    place.here.end_everyone()
    assert [place.user_of(place.here, one) for one in (ada, bob)] == [None, None]
    assert "cart" not in place.here.session(nobody)
    place.time += LAG
    assert [place.user_of(place.there, one) for one in (ada, bob)] == [None, None]
    assert "cart" not in place.there.session(nobody)
    assert [*place.here.of("ada").list(), *place.there.of("ada").list()] == []
    assert place.there.find(ada.locator) is None


def test_a_login_afterwards_is_a_login_in_every_process(kind: Any) -> None:
    place = Place(kind)
    visitor(place.here, "ada")
    place.here.end_everyone()
    place.time += LAG + 1
    ada = visitor(place.there, "ada")
    session = place.here.session(ada)
    session["more"] = 1
    place.here.commit(session)
    assert (place.user_of(place.here, ada), place.user_of(place.there, ada)) == ("ada", "ada")
    place.here.end_everyone()
    assert place.user_of(place.here, ada) is None


def test_what_was_begun_before_is_not_alive_after_it(kind: Any) -> None:
    """A login under way, a write under way, and a login that another process admits before it has heard."""
    place = Place(kind)
    held = visitor(place.here)
    logging_in, writing = place.here.session(held), place.here.session(visitor(place.here, "ada"))
    elsewhere = place.there.session(visitor(place.there))
    logging_in.login("ada")
    writing["late"] = 1
    elsewhere.login("ada")
    place.time += 1
    place.here.end_everyone()
    with pytest.raises(LoginRefused):
        logging_in.save()
    place.here.commit(writing)
    place.there.commit(elsewhere)
    place.time += LAG
    for process in (place.here, place.there):
        assert place.user_of(process, ticket(writing)) is None
        assert place.user_of(process, ticket(elsewhere)) is None


def test_a_process_that_starts_later_knows(kind: Any) -> None:
    place = Place(kind)
    ada = visitor(place.here, "ada")
    place.here.end_everyone()
    late = SessionManager(place.store, clock=Clock(place.time.time, place.time.monotonic))
    assert place.user_of(late, ada) is None


def test_a_late_request_is_detached_for_a_minute(kind: Any) -> None:
    """It must not put an anonymous cookie in the place of a new login's (rule 4)."""
    place = Place(kind)
    held = visitor(place.here)
    place.here.end_everyone()
    late = place.here.session(held)
    late["x"] = 1
    place.here.commit(late)
    assert late._record is None
    place.time += 61
    later = place.here.session(held)
    later["x"] = 1
    place.here.commit(later)
    assert later._record is not None
    assert later._record.key != held.locator


def test_the_limit_of_sessions_does_not_count_what_is_over(kind: Any) -> None:
    place = Place(kind, max_sessions=1, at_limit="deny")
    visitor(place.here, "ada")
    place.here.end_everyone()
    place.time += LAG + 1
    assert place.user_of(place.here, visitor(place.here, "ada")) == "ada"


def test_who_watches_is_told() -> None:
    place = Place(lambda time: MemoryStore(monotonic=time.monotonic))
    ada = visitor(place.here, "ada")
    everybody: list[Notice] = []
    hers: list[Notice] = []
    place.there.watch(everybody.append)
    place.there.watch(hers.append, handle=ada.locator)
    place.here.end_everyone()
    assert [notice.key.startswith(EVERYONE) for notice in everybody if notice.kind == "ended"] == [True]
    assert Notice("ended", ada.locator) in hers


def test_the_era_is_no_session_and_cannot_be_ended() -> None:
    place = Place(lambda time: MemoryStore(monotonic=time.monotonic, max_sessions=3))
    ada = visitor(place.here, "ada")
    place.here.end_everyone()
    assert place.here.count() == 1  # hers is kept until it expires
    assert not place.here.end(ERA_KEY)
    assert place.here.find(ERA_KEY) is None
    for _ in range(20):  # nor does a full memory forget it
        visitor(place.here)
    late = SessionManager(place.store, clock=Clock(place.time.time, place.time.monotonic))
    assert place.user_of(late, ada) is None
    late.flows.lifecycle.eras.read_at = 0.0
    assert late.session(visitor(late)).get("cart") == [1]
    assert late.flows.lifecycle.eras.number > 0


def test_a_reader_asks_once_in_a_while_and_not_in_every_request() -> None:
    place = Place(lambda time: MemoryStore(monotonic=time.monotonic))
    asked: list[str] = []
    load = place.store.load

    async def counted(key: str, *, now: float) -> Any:
        asked.append(key)
        return await load(key, now=now)

    place.store.load = counted
    sessions = SessionManager(place.store, clock=Clock(place.time.time, place.time.monotonic))
    ada = visitor(sessions, "ada")
    for _ in range(10):
        assert place.user_of(sessions, ada) == "ada"
        place.time += 1
    assert asked.count(ERA_KEY) == 2
    assert asked.count(ada.locator) == 10


class Forgetful(MemoryStore):
    """A store with a format of its own, which has no place for the era."""

    async def create(self, record: Record, *, now: float) -> Any:
        import msgspec

        return await super().create(msgspec.structs.replace(record, era=0), now=now)


def test_a_store_that_does_not_keep_eras_says_so() -> None:
    place = Place(lambda time: Forgetful(monotonic=time.monotonic))
    ada = visitor(place.here, "ada")
    with pytest.raises(ConfigurationError, match="does not keep the era"):
        place.here.end_everyone()
    assert place.user_of(place.here, ada) == "ada"


def test_the_same_for_event_loops() -> None:
    async def work() -> str | None:
        async with AsyncSessionManager(MemoryStore()) as sessions:
            session = sessions.session()
            session.login("ada")
            await sessions.commit(session)
            await sessions.end_everyone()
            return (await sessions.session(ticket(session)).load()).user_id

    assert asyncio.run(work()) is None
