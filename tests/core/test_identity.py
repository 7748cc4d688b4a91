"""The keys that stand for the login: a view of `user_id`, never stored among the data."""

from typing import Any

import pytest

from coatcheck import ConfigurationError, Identity, Options, UsageError, UserKey
from coatcheck.core.identity import identified
from coatcheck.core.record import Lifetime, Login
from coatcheck.core.session import Standing
from tests.core.sessions import NOW, Plain, record

PWD = Login(method="pwd", remember=False, user_agent="", address="")


def session_of(user_id: str | None, data: dict[str, Any] | None = None, **key: Any) -> Plain:
    session = identified(Plain, UserKey("user", **key))()
    login = {"user_id": user_id, "login": PWD, "authenticated_at": NOW} if user_id else {}
    session._standing, session._record = Standing.LIVE, record(data, **login)
    return session


def test_the_key_reads_the_login() -> None:
    session = session_of("7", {"cart": 1}, from_user_id=int)
    assert session["user"] == session.get("user") == 7
    assert "user" in session
    assert dict(session) == {"user": 7, "cart": 1}
    assert len(session) == 2
    assert not session._has_changes()


def test_without_a_login_the_key_is_not_there() -> None:
    session = session_of(None, {"cart": 1})
    assert session.get("user", "nobody") == "nobody"
    assert "user" not in session
    assert list(session) == ["cart"]
    with pytest.raises(KeyError):
        session["user"]
    with pytest.raises(KeyError):
        del session["user"]
    assert session.pop("user", None) is None


def test_what_is_stored_under_the_key_counts_for_nothing() -> None:
    """Somebody who can write data cannot write themselves a login."""
    session = session_of(None, {"user": "admin"})
    assert session.get("user") is None
    assert dict(session) == {}


def test_assigning_the_key_logs_in() -> None:
    session = session_of(None, {"cart": 1})
    session["user"] = 7
    assert (session.user_id, session["user"]) == ("7", "7")
    assert session._login is not None
    assert "user" not in session._changes().sets


def test_assigning_the_same_user_again_is_no_login() -> None:
    session = session_of("7")
    session["user"] = 7
    assert session._login is None


def test_deleting_the_key_logs_out_and_keeps_the_rest() -> None:
    session = session_of("7", {"cart": [1]})
    assert session.pop("user") == "7"
    assert session.user_id is None
    assert session._logout
    assert dict(session) == {"cart": [1]}


def test_what_was_remembered_of_the_login_goes_with_it() -> None:
    """A browser at a public desk: the anonymous session after a logout lasts as long as any other, not for 30 days."""
    for remember in (True, False):
        session = session_of("7")
        assert session._record is not None
        login = Login(method="pwd", remember=remember, user_agent="", address="")
        session._record = record(user_id="7", login=login, lifetime=Lifetime(idle=9e5, persistent=True))
        del session["user"]
        assert (session.cookie.max_age is None) == remember


def test_clear_logs_out() -> None:
    session = session_of("7", {"cart": 1})
    session.clear()
    assert session._logout
    assert dict(session) == {}
    anonymous = session_of(None, {"cart": 1})
    anonymous.clear()
    assert not anonymous._logout


def test_an_operation_on_the_key_is_refused() -> None:
    with pytest.raises(UsageError, match=r"call session.login\(\)"):
        session_of("7").increment("user")


def test_no_user_is_no_login() -> None:
    session = session_of(None)
    with pytest.raises(UsageError, match="user id"):
        session["user"] = None


def test_bad_settings_say_what_to_give() -> None:
    with pytest.raises(ConfigurationError, match="give the key"):
        UserKey("")
    with pytest.raises(ConfigurationError, match=r"UserKey\(to_user_id=3\): give a function"):
        UserKey("user", to_user_id=3)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="identity='user': give"):
        Options(identity="user")  # type: ignore[arg-type]
    assert isinstance(UserKey("user"), Identity)
