"""What a request means to do with its session outlasts what else it does: a promised handle, a login, an end of its own."""

from coatcheck import SessionManager
from coatcheck.core.ids import Ticket
from coatcheck.core.record import Lifetime
from coatcheck.faces import Session
from tests.web.rig import START, Counted, Time


def begun(sessions: SessionManager) -> Session:
    """A stored session."""
    session = sessions.session()
    session["k"] = 1
    sessions.commit(session)
    return session


def again(sessions: SessionManager, session: Session) -> Session:
    """The next request of the same browser."""
    assert session._record is not None
    assert session._verifier is not None
    return sessions.session(Ticket(session._record.key, session._verifier))


def test_modified_false_takes_back_no_login() -> None:
    sessions = SessionManager(Counted())
    session = again(sessions, begun(sessions))
    session.login("ada")
    session["k"] = 2
    session.modified = False
    sessions.commit(session)
    assert again(sessions, session).user_id == "ada"


def test_the_handle_that_was_asked_for_before_a_new_login_is_the_one_it_gets() -> None:
    sessions = SessionManager(Counted())
    session = again(sessions, begun(sessions))
    session.logout()
    session.login("ada")
    promised = session.handle
    sessions.commit(session)
    assert session.handle == promised
    assert [device.handle for device in sessions.of("ada").list()] == [promised]


def test_an_empty_session_is_stored_if_it_is_to_be() -> None:
    sessions, store = SessionManager(kept := Counted()), kept
    session = sessions.session()
    assert len(session) == 0
    session._kept = session._meant = True
    sessions.commit(session)
    assert store.told() == ["create"]
    assert not again(sessions, session).is_new
    assert session._kept is False


def test_an_end_of_its_own_is_not_moved_by_visits() -> None:
    time = Time()
    sessions = SessionManager(Counted(), clock=time.clock)
    session = again(sessions, begun(sessions))
    session._set_lifetime(Lifetime(idle=None, persistent=True, until=START + 100_000))
    sessions.commit(session)
    time.now += 90_000  # longer than the idle timeout
    visit = again(sessions, session)
    visit["k"] = 2
    sessions.commit(visit)
    assert visit._record is not None
    assert visit._record.deadline == START + 100_000
    time.now += 10_001
    assert again(sessions, session).is_new


def test_an_end_of_its_own_goes_on_through_a_login_and_stays_within_the_absolute_timeout() -> None:
    time = Time()
    sessions = SessionManager(Counted(), clock=time.clock)
    session = sessions.session()
    session._set_lifetime(Lifetime(idle=None, persistent=True, until=START + 1e9))
    session.login("ada")
    sessions.commit(session)
    assert session._record is not None
    assert session._record.deadline == session._record.ends_at == START + 30 * 86_400
    session._set_lifetime(None)
    sessions.commit(session)
    assert session._record.deadline == START + 86_400
