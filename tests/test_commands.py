"""Questions whose answer was lost are asked once more, and no more often: somebody waits."""

from collections.abc import Callable
from typing import Any

import pytest

from coatcheck import ReplyLost, SessionManager, StoreUnavailable
from coatcheck.core.ids import Ticket
from coatcheck.core.session import Standing
from tests.faulty import FaultyServer, FaultyStore

LOST = ReplyLost("no answer within 0.5 s")


class Place:
    """A store with one session of ada's."""

    def __init__(self) -> None:
        self.server = FaultyServer()
        self.sessions = SessionManager(FaultyStore(self.server))
        session = self.sessions.session()
        session.login("ada")
        session.save()
        assert session._verifier is not None
        self.ticket = Ticket(session.handle, session._verifier)
        self.server.told()

    def open(self) -> str | None:
        """Who comes with the ticket."""
        session = self.sessions.session(self.ticket)
        assert session.user_id is None or session._standing is Standing.LIVE
        return session.user_id

    def reload(self) -> str | None:
        """The same, of a session that is read once more."""
        session = self.sessions.session(self.ticket)
        assert session.user_id == "ada"
        self.server.told()
        self.server.lost = LOST
        session.reload()
        return session.user_id

    def list(self) -> str | None:
        """Whose the listed session is."""
        return self.sessions.of("ada").list()[0].user_id

    def find(self) -> str | None:
        """Whose the session with this handle is."""
        found = self.sessions.find(self.ticket.locator)
        return found.user_id if found else None

    def count(self) -> int:
        """How many there are."""
        return self.sessions.count()


QUESTIONS: list[tuple[str, Callable[[Place], Any], Any]] = [
    ("load", Place.open, "ada"),
    ("load", Place.reload, "ada"),
    ("load", Place.find, "ada"),
    ("of_user", Place.list, "ada"),
    ("count", Place.count, 1),
]


@pytest.mark.parametrize(("verb", "ask", "answer"), QUESTIONS)
def test_a_question_whose_answer_was_lost_is_asked_again(
    verb: str, ask: Callable[[Place], Any], answer: Any
) -> None:
    place = Place()
    place.server.lost = LOST
    assert ask(place) == answer
    assert place.server.told() == [verb, verb]


@pytest.mark.parametrize(("verb", "ask", "answer"), QUESTIONS)
def test_and_once_only(verb: str, ask: Callable[[Place], Any], answer: Any) -> None:
    if ask is Place.reload:
        return  # it has to be opened first
    place = Place()
    place.server.down(LOST, verb)
    with pytest.raises(ReplyLost):
        ask(place)
    assert place.server.told() == [verb, verb]


@pytest.mark.parametrize(("verb", "ask", "answer"), QUESTIONS)
def test_what_was_never_sent_is_the_stores_to_retry(
    verb: str, ask: Callable[[Place], Any], answer: Any
) -> None:
    if ask is Place.reload:
        return
    place = Place()
    place.server.down(StoreUnavailable("connection refused"), verb)
    with pytest.raises(StoreUnavailable):
        ask(place)
    assert place.server.told() == [verb]
