"""Logins that a provider made: when it was proved, by which of its sessions, and until when it holds."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from coatcheck import LoginRefused, Options, Session, SessionManager, Timeouts, UsageError
from coatcheck.core.ids import Ticket
from coatcheck.stores.cookie import CookieStore
from coatcheck.stores.encrypted import Encrypted
from coatcheck.stores.memory import MemoryStore
from coatcheck.stores.sqlite import SQLiteStore
from coatcheck.testing.frozen import FrozenClock

SECRET = "vQ0m6nTzKxw3Jr8LdYbPfE5sGh1UaC9oXiR2tWqNyZk"


class Place:
    """Sessions, and the next request of each."""

    def __init__(self, store: Any = None, **options: Any) -> None:
        self.clock = FrozenClock()
        self.sessions = SessionManager(store or MemoryStore(), options=Options(**options), clock=self.clock)

    def now(self) -> float:
        return self.clock.time()

    def login(self, **how: Any) -> Session[Any]:
        session = self.sessions.session()
        session.login("ada", **how)
        session.save()
        return session

    def again(self, session: Session[Any]) -> Session[Any]:
        assert session._record is not None
        assert session._verifier is not None
        return self.sessions.session(Ticket(session._record.key, session._verifier))


@pytest.fixture
def place() -> Place:
    return Place()


def test_the_proof_is_as_old_as_the_provider_says(place: Place) -> None:
    session = place.again(place.login(auth_time=place.now() - 3600))
    assert session.authenticated_at == datetime.fromtimestamp(place.now() - 3600, UTC)
    assert place.sessions.of("ada").list()[0].authenticated_at == session.authenticated_at


def test_a_proof_of_tomorrow_is_one_of_now(place: Place) -> None:
    session = place.again(place.login(auth_time=place.now() + 86_400))
    assert session.authenticated_at == datetime.fromtimestamp(place.now(), UTC)


def test_a_session_ends_when_the_providers_does_however_often_it_is_seen() -> None:
    place = Place(timeouts=Timeouts(idle=3600, absolute=86_400))
    ended = datetime.fromtimestamp(place.now() + 5400, UTC)
    session = place.login(ends_by=ended, remember=True)
    for _ in range(5):
        place.clock.tick(1000)
        session = place.again(session)
        assert session.user_id == "ada"
        session["n"] = place.now()
        session.save()
    assert session.expires_at == ended
    place.clock.tick(400)
    assert place.again(session).user_id is None


def test_a_step_up_is_a_new_proof_and_no_longer_session(place: Place) -> None:
    session = place.again(
        place.login(auth_time=place.now() - 600, ends_by=place.now() + 900, provider_session="s1")
    )
    session.reauthenticate(method="otp")
    session.save()
    session = place.again(session)
    assert session.authenticated_at == datetime.fromtimestamp(place.now(), UTC)
    (device,) = place.sessions.of("ada").list()
    assert (device.provider_session, device.expires_at.timestamp()) == ("s1", place.now() + 900)


def test_a_later_login_of_ones_own_is_of_no_provider(place: Place) -> None:
    session = place.again(place.login(ends_by=place.now() + 900, provider_session="s1"))
    session.login("ada")
    session.save()
    (device,) = place.sessions.of("ada").list()
    assert (device.provider_session, device.expires_at.timestamp()) == ("", place.now() + 86_400)


def test_what_has_ended_already_begins_nothing(place: Place) -> None:
    session = place.sessions.session()
    with pytest.raises(LoginRefused) as refused:
        session.login("ada", ends_by=place.now())
    assert (refused.value.reason, session.user_id) == ("ended", None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"auth_time": datetime(2026, 1, 1)},
        {"auth_time": True},
        {"auth_time": "1700000000"},
        {"auth_time": float("nan")},
        {"ends_by": 1e30},
        {"ends_by": timedelta(hours=1)},
        {"provider_session": "x" * 256},
        {"provider_session": None},
    ],
    ids=str,
)
def test_what_is_no_time_and_no_session_is_refused(place: Place, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        place.sessions.session().login("ada", **wrong)


@pytest.mark.parametrize("kind", ["sqlite", "encrypted", "cookie"])
def test_every_store_keeps_it(kind: str, tmp_path: Any) -> None:
    stores: dict[str, Any] = {
        "sqlite": lambda: SQLiteStore(tmp_path / "s.db"),
        "encrypted": lambda: Encrypted(MemoryStore(), secret=SECRET),
        "cookie": lambda: CookieStore(revocation="epoch", store=MemoryStore()),
    }
    place = Place(stores[kind]())
    place.login(auth_time=place.now() - 5, ends_by=place.now() + 900, provider_session="s1")
    (device,) = place.sessions.of("ada").list()
    assert (device.provider_session, device.expires_at.timestamp()) == ("s1", place.now() + 900)
    assert device.authenticated_at == datetime.fromtimestamp(place.now() - 5, UTC)
