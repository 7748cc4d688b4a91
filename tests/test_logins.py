"""Logins of several factors, step-up: what a session says of them, and wrong uses that say what to do."""

from typing import Any

import pytest

from coatcheck import LoginRefused, SessionManager, UsageError
from coatcheck.core.ids import Ticket
from coatcheck.core.record import PENDING_FOR
from coatcheck.flows import Clock


class Rig:
    """Requests of one visitor."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self.sessions = SessionManager("memory:", clock=Clock(lambda: self.now, lambda: self.now))
        self.ticket: Ticket | None = None

    def request(self) -> Any:
        return self.sessions.session(self.ticket)

    def commit(self, session: Any) -> None:
        self.sessions.commit(session)
        self.ticket = Ticket(session._record.key, session._verifier) if session._record else None


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_login_by_two_methods_says_both(rig: Rig) -> None:
    session = rig.request()
    session.login("ada", method=("pwd", "otp"))
    assert session.amr == ("pwd", "otp")
    rig.commit(session)
    assert rig.request().amr == ("pwd", "otp")
    (device,) = rig.sessions.of("ada").list()
    assert (device.method, device.amr) == ("pwd", ("pwd", "otp"))


def test_what_was_only_remembered_proves_nothing(rig: Rig) -> None:
    session = rig.request()
    session.login("ada", method="remembered", remember=True)
    rig.commit(session)
    assert (rig.request().amr, rig.request().authenticated_at) == ((), None)
    session = rig.request()
    session.reauthenticate()
    rig.commit(session)
    session = rig.request()
    assert session.amr == ("pwd",)
    assert session.authenticated_at is not None
    assert session.cookie.max_age is not None  # remember-me outlives the step-up


@pytest.mark.parametrize("method", ["", (), ("pwd", ""), ("pwd", 1), "x" * 65])
def test_a_method_has_a_name(rig: Rig, method: Any) -> None:
    with pytest.raises(UsageError, match="give a name such as"):
        rig.request().login("ada", method=method)


def test_a_first_factor_where_somebody_is_logged_in_is_refused(rig: Rig) -> None:
    session = rig.request()
    session.login("ada")
    with pytest.raises(UsageError, match="logout\\(\\) first"):
        session.begin_login("bob")


def test_a_second_factor_needs_a_first(rig: Rig) -> None:
    with pytest.raises(LoginRefused, match="no login is pending"):
        rig.request().complete_login()
    session = rig.request()
    session.begin_login("ada")
    rig.commit(session)
    rig.now += PENDING_FOR
    with pytest.raises(LoginRefused, match="ten minutes"):
        rig.request().complete_login()


def test_a_step_up_needs_a_login(rig: Rig) -> None:
    session = rig.request()
    session.begin_login("ada")
    with pytest.raises(UsageError, match="nobody is logged in"):
        session.reauthenticate()


def test_both_factors_may_come_in_one_request(rig: Rig) -> None:
    session = rig.request()
    session.begin_login("ada", remember=True)
    assert session.user_id is None
    session.complete_login(method="hwk")
    rig.commit(session)
    assert (rig.request().user_id, rig.request().amr) == ("ada", ("pwd", "hwk"))


def test_a_login_by_other_means_ends_the_wait(rig: Rig) -> None:
    session = rig.request()
    session.begin_login("ada")
    rig.commit(session)
    session = rig.request()
    session.login("bob", method="hwk")
    rig.commit(session)
    assert (rig.request().pending_login, rig.request().user_id) == (None, "bob")


def test_a_pending_login_does_not_show_in_the_data(rig: Rig) -> None:
    session = rig.request()
    session.begin_login("ada")
    rig.commit(session)
    session = rig.request()
    assert (len(session), dict(session), session.user_id) == (0, {}, None)
    pending = session.pending_login
    assert (pending.user_id, pending.methods) == ("ada", ("pwd",))
    session["x"] = 1
    rig.commit(session)
    assert rig.request().pending_login.user_id == "ada"
