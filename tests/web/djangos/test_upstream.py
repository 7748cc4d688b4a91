"""Django's own tests of sessions, over our engine, sync and async.

Read from upstream, `tests/sessions_tests/tests.py`; every assertion of `SessionTestsMixin` and of `SessionMiddlewareTests` was
looked at. **As they are**: new_session, get_empty, store, pop, pop_default (three), setdefault, update, has_key, values, keys,
items, save, delete, flush, cycle, cycle_with_no_session_cache, save_doesnt_clear_data, invalid_key, session_key_is_read_only,
custom_expiry_seconds, _timedelta, _datetime, _reset, decode, decode_failure_logged_to_security,
session_load_does_not_create_record, session_save_does_not_resurrect_session_logged_out_in_other_context,
clearsessions_command, and of the middleware: httponly_session_cookie, no_httponly_session_cookie, secure_session_cookie,
session_save_on_500, session_delete_on_end, session_delete_on_end_with_custom_domain_and_path,
flush_empty_without_session_cookie_doesnt_set_cookie, empty_session_saved.

**Adapted.** A change stays a change when `modified` is set to False, so where upstream resets it, a fresh object is asked.
default_expiry: what is not set is our default, a day. get_expire_at_browser_close: likewise, and by SESSION_COOKIE_AGE.
actual_expiry: a moment that has passed ends the session in the request that sets it. session_update_error_redirect: a logout
race is no error here (test_races.py). samesite: our default is Lax as well. Cookie values are compared by what they open.

**Not applicable.** session_key_empty_string_invalid, _too_short_, _valid_string_saved: `_session_key` is not set by anybody
here, a key of one's own choosing opens nothing. session_str, session_get_decoded, sessionmanager_save, create_model_instance:
of the database's model. load_overlong_key, non_default_cache, exists_searches_cache_first, file paths, unpickling: of the other
engines. empty_session_saved's "still sends the cookie": ours is sent when it changes.
"""

import base64
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.sessions.backends.base import SessionBase, UpdateError
from django.core.management import call_command
from django.http import HttpResponse
from django.test import RequestFactory, override_settings

from coatcheck.django import SessionMiddleware
from coatcheck.django.engine import SessionStore
from coatcheck.django.home import current
from tests.web.rig import Time


class Face:
    """A session whose methods are called, or awaited."""

    def __init__(self, session: SessionStore, *, awaits: bool) -> None:
        self.session, self.awaits = session, awaits

    def __getattr__(self, name: str) -> Any:
        if not self.awaits:
            return {"aset": self.session.__setitem__}.get(name) or getattr(self.session, name)
        if name in ("modified", "accessed", "session_key", "is_empty", "encode", "decode"):
            return getattr(self.session, name)
        method = getattr(self.session, name if name == "aset" else f"a{name}")

        def called(*args: Any, **named: Any) -> Any:
            return async_to_sync(method)(*args, **named)

        return called


NewFace = Callable[..., Face]


@pytest.fixture(params=["sync", "async"])
def new(request: pytest.FixtureRequest) -> NewFace:
    return lambda key=None: Face(SessionStore(key), awaits=request.param == "async")


@pytest.fixture
def session(new: NewFace) -> Face:
    return new()


def again(session: Face) -> Face:
    """Another object of the same session."""
    return Face(SessionStore(session.session_key), awaits=session.awaits)


# -------------------------------------------------------------------------------------------------------- the engine


def test_it_is_a_session_of_djangos(session: Face) -> None:
    assert isinstance(session.session, SessionBase)
    assert (session.modified, session.accessed) == (False, False)


def test_get_and_set(session: Face) -> None:
    assert session.get("cat") is None
    session.aset("cat", "dog")
    assert session.modified is True
    assert session.pop("cat") == "dog"
    assert session.get("cat") is None


def test_pop(session: Face) -> None:
    assert session.pop("some key", "does not exist") == "does not exist"
    assert session.pop("some key", default="does not exist") == "does not exist"
    assert (session.accessed, session.modified) == (True, False)
    with pytest.raises(KeyError):
        session.pop("some key")


def test_setdefault_and_update(session: Face) -> None:
    assert session.setdefault("foo", "bar") == "bar"
    assert session.setdefault("foo", "baz") == "bar"
    session.update({"update key": 1})
    assert (session.accessed, session.modified, session.get("update key")) == (True, True, 1)


def test_reading_modifies_nothing(session: Face) -> None:
    session.aset("x", 1)
    session.save()
    other = again(session)
    assert other.has_key("x")
    assert list(other.keys()) == ["x"]
    assert list(other.values()) == [1]
    assert list(other.items()) == [("x", 1)]
    assert (other.accessed, other.modified) == (True, False)


def test_clear(session: Face) -> None:
    session.aset("x", 1)
    session.session.clear()
    assert list(session.items()) == []
    assert (session.accessed, session.modified) == (True, True)


def test_test_cookies(session: Face) -> None:
    session.set_test_cookie()
    assert session.test_cookie_worked()
    session.delete_test_cookie()
    assert not session.test_cookie_worked()


def test_save_and_delete(session: Face) -> None:
    session.save()
    key = session.session_key
    assert session.exists(key) is True
    assert again(session).session.exists(key) is True
    session.delete(key)
    assert session.exists(key) is False


def test_flush(session: Face) -> None:
    session.aset("foo", "bar")
    session.save()
    before = session.session_key
    session.flush()
    assert session.exists(before) is False
    assert session.session_key is None
    assert (session.modified, session.accessed) == (True, True)
    assert session.is_empty()


def test_cycle(session: Face) -> None:
    session.update({"a": "c", "b": "d"})
    session.save()
    before, data = session.session_key, list(session.items())
    session.cycle_key()
    assert session.exists(before) is False
    assert session.session_key != before
    assert list(session.items()) == data


def test_cycle_with_nothing_loaded(session: Face) -> None:
    session.update({"a": "c", "b": "d"})
    session.save()
    other = again(session)
    other.cycle_key()
    assert dict(other.items()) == {"a": "c", "b": "d"}


def test_save_clears_no_data(session: Face) -> None:
    session.aset("a", "b")
    session.save()
    assert session.get("a") == "b"


@pytest.mark.parametrize("key", ["1", "someunknownkey", "A" * 24, "A" * 101, "", "é" * 101, "x." * 50])
def test_a_key_of_ones_own_choosing_opens_nothing_and_is_never_adopted(new: NewFace, key: str) -> None:
    session = new(key)
    assert session.load() == {}
    assert session.exists(key) is False
    session.save()
    assert session.session_key != key
    assert session.get("cat") is None
    session.delete()
    assert new(key).exists(key) is False


def test_loading_creates_no_record(new: NewFace) -> None:
    session = new("someunknownkey")
    session.load()
    assert session.session_key is None
    assert current().sessions.count() == 0


def test_the_key_is_read_only(session: Face) -> None:
    with pytest.raises(AttributeError):
        session.session.session_key = session.session._get_new_session_key()  # type: ignore[misc]  # that is the test


def test_a_session_that_was_ended_elsewhere_is_not_resurrected(session: Face) -> None:
    session.aset("test_data", "value1")
    session.save(must_create=True)
    again(session).delete()
    session.aset("test_data", "value2")
    with pytest.raises(UpdateError):
        session.save()
    assert session.load() == {}


def test_expiry_as_configured(session: Face) -> None:
    assert session.get_expiry_age() == 86_400
    session.set_expiry(0)
    assert session.get_expiry_age() == 86_400


def test_expiry_in_seconds(session: Face) -> None:
    moment = datetime.now(UTC)
    session.set_expiry(10)
    assert session.get_expiry_date(modification=moment) == moment + timedelta(seconds=10)
    assert session.get_expiry_age(modification=moment) == 10
    session.set_expiry(None)
    assert session.get_expiry_age() == 86_400


@pytest.mark.parametrize("spelling", ["timedelta", "datetime"])
@pytest.mark.parametrize("zones", [True, False])
def test_expiry_at_a_moment(new: NewFace, spelling: str, zones: bool) -> None:
    time = Time()
    with override_settings(USE_TZ=zones, COATCHECK={"STORE": "memory:", "CLOCK": time.clock}):
        session = new()
        moment = datetime.fromtimestamp(time.now, UTC if zones else None)
        later = moment + timedelta(seconds=10)
        session.set_expiry(timedelta(seconds=10) if spelling == "timedelta" else later)
        assert session.get_expiry_date(modification=moment) == later
        assert session.get_expiry_age(modification=moment) == 10
        session.aset("foo", "bar")
        session.save()
        time.now += 9.5
        assert again(session).load() == {"foo": "bar"}
        other = again(session)
        other.aset("foo", "seen")
        other.save()  # a visit moves no moment
        time.now += 1
        assert again(session).load() == {}


def test_expiry_in_the_past(session: Face) -> None:
    session.aset("foo", "bar")
    session.set_expiry(-timedelta(seconds=10))
    session.save()
    assert again(session).load() == {}


def test_for_ever_is_as_long_as_a_browser_keeps_a_cookie(session: Face) -> None:
    session.set_expiry(10 * 365 * 86_400)
    assert session.get_expiry_age() == 400 * 86_400


@pytest.mark.parametrize(("settings", "unset"), [({"SESSION_COOKIE_AGE": 3600}, False), ({}, True)])
def test_whether_it_expires_when_the_browser_closes(
    new: NewFace, settings: dict[str, Any], unset: bool
) -> None:
    with override_settings(**settings):
        session = new()
        told = []
        for value in (10, 0, None):
            session.set_expiry(value)
            told.append(session.get_expire_at_browser_close())
        assert told == [False, True, unset]
    with override_settings(**settings, SESSION_EXPIRE_AT_BROWSER_CLOSE=True):
        assert new().get_expire_at_browser_close() is True


def test_encode_and_decode(session: Face, caplog: pytest.LogCaptureFixture) -> None:
    data = {"a test key": "a test value"}
    assert session.decode(session.encode(data)) == data
    with caplog.at_level(logging.WARNING, "django.security.SuspiciousSession"):
        assert session.decode(base64.b64encode(b"flaskdj:alkdjf").decode()) == {}
    assert "corrupted" in caplog.text


@pytest.mark.parametrize("way", ["command", "method", "awaited"])
def test_clear_expired(way: str) -> None:
    time = Time()
    with override_settings(COATCHECK={"STORE": "memory:", "CLOCK": time.clock}):
        kept, gone = SessionStore(), SessionStore()
        for session, seconds in ((kept, 3600), (gone, 60)):
            session["foo"] = "bar"
            session.set_expiry(seconds)
            session.save()
        time.now += 600
        if way == "command":
            call_command("clearsessions")
        elif way == "method":
            SessionStore.clear_expired()
        else:
            async_to_sync(SessionStore.aclear_expired)()
        assert current().sessions.count() == 1
        assert SessionStore(kept.session_key).exists(kept.session_key)


# ---------------------------------------------------------------------------------------------------- the middleware


def respond(
    do: Callable[[Any], object], *, cookie: str = "", status: int = 200, awaits: bool = False
) -> tuple[Any, Any]:
    """Send a request through the middleware to a view that does this with the session: (request, response)."""
    request: Any = RequestFactory().get("/", headers={"Cookie": cookie} if cookie else None)

    def view(request: Any) -> HttpResponse:
        do(request.session)
        return HttpResponse("Session test", status=status)

    if awaits:
        middleware: Any = SessionMiddleware(sync_to_async(view))
        return request, async_to_sync(middleware)(request)
    return request, SessionMiddleware(view)(request)


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def awaits(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def hello(session: Any) -> None:
    session["hello"] = "world"


@pytest.mark.parametrize("name", ["secure", "httponly"])
@pytest.mark.parametrize("value", [True, False])
def test_flags_of_the_cookie(awaits: bool, name: str, value: bool) -> None:
    with override_settings(**{f"SESSION_COOKIE_{name.upper()}": value}):
        _, response = respond(hello, awaits=awaits)
    assert bool(response.cookies["sessionid"][name]) is value
    assert (name in str(response.cookies["sessionid"]).lower()) is value


def test_same_site(awaits: bool) -> None:
    with override_settings(SESSION_COOKIE_SAMESITE="Strict"):
        _, response = respond(hello, awaits=awaits)
    assert response.cookies["sessionid"]["samesite"] == "Strict"


def test_of_a_500_nothing_is_saved(awaits: bool) -> None:
    request, response = respond(hello, status=500, awaits=awaits)
    assert "sessionid" not in response.cookies
    assert request.session.load() == {}


def test_a_logout_deletes_the_cookie(awaits: bool) -> None:
    _, first = respond(hello, awaits=awaits)
    line = f"sessionid={first.cookies['sessionid'].value}"
    _, response = respond(lambda session: session.flush(), cookie=line, awaits=awaits)
    assert str(response.cookies["sessionid"]).startswith(
        "Set-Cookie: sessionid=; Max-Age=0; Path=/; Expires="
    )
    assert response["Vary"] == "Cookie"


def test_a_logout_deletes_the_cookie_where_it_was_set(awaits: bool) -> None:
    with override_settings(SESSION_COOKIE_DOMAIN=".example.local", SESSION_COOKIE_PATH="/"):
        _, first = respond(hello, awaits=awaits)
        line = f"sessionid={first.cookies['sessionid'].value}"
        _, response = respond(lambda session: session.flush(), cookie=line, awaits=awaits)
    assert "Domain=.example.local; Path=/;" in str(response.cookies["sessionid"])


def test_without_a_cookie_a_flush_sets_none(awaits: bool) -> None:
    _, response = respond(lambda session: session.flush(), awaits=awaits)
    assert response.cookies == {}
    assert response["Vary"] == "Cookie"


def test_a_session_that_has_become_empty_lives_on(awaits: bool) -> None:
    _, first = respond(hello, awaits=awaits)
    line = f"sessionid={first.cookies['sessionid'].value}"
    request, response = respond(lambda session: session.pop("hello"), cookie=line, awaits=awaits)
    assert "sessionid" not in response.cookies
    assert response["Vary"] == "Cookie"
    assert request.session.load() == {}
    assert SessionStore(first.cookies["sessionid"].value).exists(first.cookies["sessionid"].value)
