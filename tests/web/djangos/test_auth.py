"""Django's auth, admin, messages and CSRF over our sessions, through Django's own test clients.

Of upstream's `tests/auth_tests` what touches sessions was read: test_login (both tests), test_middleware
(TestAuthenticationMiddleware: no_password_change_doesnt_invalidate_session, changed_password_invalidates_session,
changed_password_invalidates_aclient_session…), test_basic's get_user tests, test_views' SessionAuthenticationTests,
LoginTest.test_login_csrf_rotate, test_session_key_flushed_on_login and …_after_password_change, test_login_session_without_hash,
LogoutTest.test_logout_preserve_language's flush. They are here in our words; RemoteUser's and forms' tests ask nothing of it.
"""

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib import auth
from django.contrib.auth.models import AnonymousUser, User
from django.db import connection
from django.http import HttpRequest
from django.test import AsyncClient, Client, override_settings
from django.test.utils import CaptureQueriesContext

from coatcheck.django import AuthKeys, sessions
from coatcheck.django.engine import SessionStore
from coatcheck.django.home import current
from coatcheck.exchange import Channel
from tests.web.djangos.people.models import Person

OTHER_SECRET = "oJ5yR1uWq8ZbN3xT7cVfK9sLdM2gHpA4eXiU6wBnYtE"


class Visitor:
    """Django's client, or its awaited one."""

    def __init__(self, *, awaits: bool, **options: Any) -> None:
        self.client: Any = AsyncClient(**options) if awaits else Client(**options)
        self.awaits = awaits

    def __getattr__(self, name: str) -> Any:
        if not self.awaits:
            return getattr(self.client, name)
        awaited = name in ("get", "post")
        return async_to_sync(getattr(self.client, name if awaited else f"a{name}"))

    @property
    def session(self) -> Any:
        return async_to_sync(self.client.asession)() if self.awaits else self.client.session

    @property
    def a(self) -> str:
        return "a" if self.awaits else ""

    def whoami(self) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/{self.a}whoami").json()
        return found


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def visitor(request: pytest.FixtureRequest) -> Visitor:
    return Visitor(awaits=request.param)


# -------------------------------------------------------------------------------------------------- Django's clients


def test_the_client_logs_in_and_out(visitor: Visitor, ada: Any) -> None:
    assert visitor.login(username="ada", password="wrong") is False
    assert visitor.login(username="ada", password="correct horse") is True
    assert visitor.whoami()["user"] == "ada"
    assert visitor.session["_auth_user_id"] == str(ada.pk)
    visitor.logout()
    assert visitor.whoami()["user"] == ""
    assert sessions().of(ada.pk).list() == []


def test_the_client_forces_a_login(visitor: Visitor, ada: Any) -> None:
    visitor.force_login(ada)
    seen = visitor.whoami()
    assert (seen["user"], seen["user_id"]) == ("ada", str(ada.pk))
    assert [device.handle for device in sessions().of(ada.pk).list()] == [seen["key"]]


def test_what_a_test_puts_into_the_session_is_there(visitor: Visitor) -> None:
    session = visitor.session
    if visitor.awaits:
        async_to_sync(session.aset)("k", "planted")
        async_to_sync(session.asave)()
    else:
        session["k"] = "planted"
        session.save()
    assert visitor.get(f"/{visitor.a}scenario/read").content == b"planted"


def test_what_a_view_puts_into_the_session_the_test_sees(visitor: Visitor) -> None:
    visitor.get(f"/{visitor.a}scenario/set?v=seen")
    assert visitor.session["k"] == "seen"


@pytest.mark.parametrize("where", [{"secure": True}, {"headers": {"host": "shop.example"}}, {}])
def test_the_client_may_ask_over_https_and_of_any_host(visitor: Visitor, ada: Any, where: Any) -> None:
    if visitor.awaits and "headers" in where:
        return  # Django's AsyncClient sends its own Host too
    visitor.force_login(ada)
    assert visitor.get("/whoami", **where).json()["user"] == "ada"
    visitor.get("/scenario/set?v=1", **where)
    assert visitor.get("/scenario/read", **where).content == b"1"


@pytest.mark.parametrize(
    "words", [{"SESSION_COOKIE_NAME": "mine"}, {"SESSION_COOKIE_SECURE": True}, {"SESSION_COOKIE_AGE": 60}]
)
def test_the_client_works_whatever_the_cookie_is_like(visitor: Visitor, ada: Any, words: Any) -> None:
    with override_settings(**words):
        visitor.force_login(ada)
        assert visitor.whoami()["user"] == "ada"
        assert visitor.client.cookies[settings.SESSION_COOKIE_NAME].value


# ------------------------------------------------------------------------------------------------- login and logout


def test_a_login_keeps_the_data_and_changes_the_cookie(visitor: Visitor, ada: Any) -> None:
    visitor.get(f"/{visitor.a}scenario/set?v=cart")
    before, key = visitor.client.cookies["sessionid"].value, visitor.session._own_handle()
    visitor.get(f"/{visitor.a}in/ada")
    assert visitor.client.cookies["sessionid"].value != before
    assert visitor.get("/scenario/read").content == b"cart"
    assert visitor.whoami()["key"] == key or key is None
    thief = Visitor(awaits=visitor.awaits)
    thief.client.cookies["sessionid"] = before
    assert thief.whoami() == {"user": "", "user_id": None, "key": None}


def test_another_user_gets_a_session_of_their_own(visitor: Visitor, ada: Any, bob: Any) -> None:
    visitor.get(f"/{visitor.a}in/ada")
    visitor.get(f"/{visitor.a}scenario/set?v=adas")
    mine = visitor.whoami()["key"]
    visitor.get(f"/{visitor.a}in/bob")
    seen = visitor.whoami()
    assert (seen["user"], seen["user_id"]) == ("bob", str(bob.pk))
    assert seen["key"] != mine
    assert visitor.get("/scenario/read").content == b"None"
    assert sessions().of(ada.pk).list() == []


def test_the_same_user_again_proves_who_they_are_anew(visitor: Visitor, ada: Any) -> None:
    visitor.get(f"/{visitor.a}in/ada")
    before, key = visitor.client.cookies["sessionid"].value, visitor.whoami()["key"]
    visitor.get(f"/{visitor.a}in/ada")
    assert visitor.client.cookies["sessionid"].value != before
    assert visitor.whoami() == {"user": "ada", "user_id": str(ada.pk), "key": key}


def test_a_logout_ends_the_session_on_the_server(visitor: Visitor, ada: Any) -> None:
    visitor.get(f"/{visitor.a}in/ada")
    thief = Visitor(awaits=visitor.awaits)
    thief.client.cookies["sessionid"] = visitor.client.cookies["sessionid"].value
    visitor.get(f"/{visitor.a}out")
    assert (visitor.whoami()["user"], thief.whoami()["user"]) == ("", "")


def test_the_key_is_known_when_the_signal_of_a_login_is_sent(visitor: Visitor, ada: Any) -> None:
    told: list[Any] = []

    def listen(request: HttpRequest, **_: Any) -> None:
        told.append(request.session.session_key)

    auth.user_logged_in.connect(listen)
    try:
        visitor.get(f"/{visitor.a}in/ada")
    finally:
        auth.user_logged_in.disconnect(listen)
    assert told == [visitor.whoami()["key"]]
    assert len(told[0]) < 40  # what models of other packages have room for


def test_a_session_with_a_user_and_a_backend_and_no_hash_is_no_login(ada: Any) -> None:
    request = HttpRequest()
    request.session = SessionStore()
    auth.login(request, ada)
    assert auth.get_user(request) == ada
    del request.session["_auth_user_hash"]
    assert auth.get_user(request) == AnonymousUser()
    assert request.session.session_key is None


def test_deleting_the_users_key_logs_out_and_keeps_the_rest(ada: Any) -> None:
    request: Any = HttpRequest()
    request.session = SessionStore()
    request.session["cart"] = 1
    auth.login(request, ada)
    request.session.save()
    del request.session["_auth_user_id"]
    request.session.save()
    other = SessionStore(request.session.session_key)
    assert dict(other) == {"cart": 1}
    assert sessions().of(ada.pk).list() == []


def test_members_only(visitor: Visitor, ada: Any) -> None:
    assert visitor.get("/members").status_code == 302
    visitor.force_login(ada)
    assert visitor.get("/members").content == b"members only"


def test_login_required_middleware(ada: Any) -> None:
    middleware = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    with override_settings(MIDDLEWARE=middleware, LOGIN_URL="/accounts/login/"):
        client = Client()
        assert client.get("/scenario/read").status_code == 302
        client.force_login(ada)
        assert client.get("/scenario/read").status_code == 200


# ---------------------------------------------------------------------------------------------------- the password


def test_a_changed_password_ends_the_other_sessions(visitor: Visitor, ada: Any) -> None:
    other = Visitor(awaits=visitor.awaits)
    for one in (visitor, other):
        one.get(f"/{one.a}in/ada")
    before = visitor.client.cookies["sessionid"].value
    visitor.get("/change/battery")
    assert visitor.client.cookies["sessionid"].value != before
    assert visitor.whoami()["user"] == "ada"
    assert other.whoami()["user"] == ""
    assert len(sessions().of(ada.pk).list()) == 1
    assert visitor.whoami()["user"] == "ada"


def test_a_key_among_the_fallbacks_still_verifies_the_password(visitor: Visitor, ada: Any) -> None:
    visitor.get(f"/{visitor.a}in/ada")
    with override_settings(SECRET_KEY=OTHER_SECRET, SECRET_KEY_FALLBACKS=[settings.SECRET_KEY]):
        again = Visitor(awaits=visitor.awaits)  # a client keeps its middleware
        again.client.cookies = visitor.client.cookies
        assert again.whoami()["user"] == "ada"
        first = again.client.cookies["sessionid"].value
    with override_settings(SECRET_KEY=OTHER_SECRET):
        last = Visitor(awaits=visitor.awaits)
        last.client.cookies["sessionid"] = first
        assert last.whoami()["user"] == "ada"


# ------------------------------------------------------------------------------------------------------ one identity


def logged_in_elsewhere(user_id: Any) -> str:
    """The cookie of a login that another framework made; it knows nothing of Django's keys."""
    session = SessionStore._of(current(), None)
    session.login(user_id)
    session.save()
    return current().within.value(session, Channel.HTTPS, current().time()) or ""


def with_cookie(visitor: Visitor, value: str) -> Visitor:
    other = Visitor(awaits=visitor.awaits)
    other.client.cookies["sessionid"] = value
    return other


def test_a_login_made_elsewhere_is_a_login_here_until_the_password_changes(
    visitor: Visitor, ada: Any
) -> None:
    one, other = (with_cookie(visitor, logged_in_elsewhere(ada.pk)) for _ in range(2))
    assert [browser.whoami()["user"] for browser in (one, other, one)] == ["ada"] * 3
    one.get("/change/battery")
    assert [browser.whoami()["user"] for browser in (one, other)] == ["ada", ""]


def test_a_login_elsewhere_is_recognised_once(ada: Any) -> None:
    browser = with_cookie(Visitor(awaits=False), logged_in_elsewhere(ada.pk))
    asked = []
    for _ in range(3):
        with CaptureQueriesContext(connection) as queries:
            browser.whoami()
        asked.append(len(queries))
    assert asked == [2, 1, 1]  # who it is; then only Django's own look at its user


def test_a_new_login_elsewhere_forgets_what_was_said_of_the_old_one(visitor: Visitor, ada: Any) -> None:
    browser = with_cookie(visitor, logged_in_elsewhere(ada.pk))
    assert browser.whoami()["user"] == "ada"
    ada.set_password("battery")
    ada.save()
    session: Any = SessionStore(browser.client.cookies["sessionid"].value)
    session.login(str(ada.pk))  # with the new password, in another framework
    session.save()
    again = with_cookie(visitor, session.session_key)
    assert again.whoami()["user"] == "ada"


def test_a_login_here_is_the_primary_key_elsewhere(visitor: Visitor, ada: Any) -> None:
    visitor.get(f"/{visitor.a}in/ada")
    (device,) = sessions().of(ada.pk).list()
    assert (device.user_id, device.method) == (str(ada.pk), "pwd")
    session: Any = SessionStore(visitor.client.cookies["sessionid"].value)
    assert [key for key in session if not key.startswith("_auth_user")] == []


@pytest.mark.parametrize(
    "user_id", ["grace", "999999999", "1" * 60, "", "٣", "{pk} ", "0{pk}", "é", "-1", "1_0"]
)
def test_whoever_is_no_user_here_is_anonymous(visitor: Visitor, ada: Any, user_id: str) -> None:
    user_id = user_id.format(pk=ada.pk) or "nobody"
    browser = with_cookie(visitor, logged_in_elsewhere(user_id))
    assert [browser.whoami()["user"] for _ in range(2)] == ["", ""]
    assert browser.whoami()["user_id"] == user_id  # the session is theirs all the same
    assert browser.get("/members").status_code == 302
    browser.get(f"/{browser.a}in/ada")
    assert browser.whoami()["user"] == "ada"
    assert sessions().of(user_id).list() == []


def test_a_user_who_may_not_log_in_is_anonymous(visitor: Visitor, ada: Any) -> None:
    ada.is_active = False
    ada.save()
    assert with_cookie(visitor, logged_in_elsewhere(ada.pk)).whoami()["user"] == ""


def test_primary_keys_that_are_uuids(visitor: Visitor) -> None:
    with override_settings(AUTH_USER_MODEL="people.Person"):
        Person.objects.filter(username="eve").delete()
        eve: Any = Person.objects.create_user("eve", password="correct horse")
        visitor.force_login(eve)
        assert (visitor.whoami()["user"], visitor.whoami()["user_id"]) == ("eve", str(eve.pk))
        assert with_cookie(visitor, logged_in_elsewhere(eve.pk)).whoami()["user"] == "eve"
        for stranger in ("1", "not a uuid"):
            assert with_cookie(visitor, logged_in_elsewhere(stranger)).whoami()["user"] == ""


def _to_pk(user_id: str) -> str | None:
    return next((str(user.pk) for user in User.objects.filter(username=user_id)), None)


def _to_user_id(pk: str) -> str:
    return User.objects.get(pk=pk).username


by_name = AuthKeys(to_pk=_to_pk, to_user_id=_to_user_id, method="sso")


@pytest.mark.parametrize("identity", [by_name, f"{__name__}.by_name"])
def test_user_ids_may_be_something_else_than_primary_keys(ada: Any, identity: Any) -> None:
    with override_settings(COATCHECK={"STORE": "memory:", "IDENTITY": identity}):
        visitor = Visitor(awaits=False)
        visitor.get("/in/ada")
        assert (visitor.whoami()["user"], visitor.whoami()["user_id"]) == ("ada", "ada")
        assert [device.method for device in sessions().of("ada").list()] == ["sso"]
        assert with_cookie(visitor, logged_in_elsewhere("ada")).whoami()["user"] == "ada"
        assert with_cookie(visitor, logged_in_elsewhere("nobody")).whoami()["user"] == ""


def test_without_an_identity_djangos_keys_are_data(ada: Any) -> None:
    with override_settings(COATCHECK={"STORE": "memory:", "IDENTITY": None}):
        visitor = Visitor(awaits=False)
        visitor.get("/in/ada")
        assert (visitor.whoami()["user"], visitor.whoami()["user_id"]) == ("ada", None)


# ------------------------------------------------------------------------------------------- admin, messages, CSRF


def test_the_admin(ada: Any) -> None:
    ada.is_staff = ada.is_superuser = True
    ada.save()
    client = Client(enforce_csrf_checks=True)
    page = client.get("/admin/login/?next=/admin/")
    form = {"username": "ada", "password": "correct horse", "next": "/admin/"}
    form["csrfmiddlewaretoken"] = page.context["csrf_token"]
    assert client.post("/admin/login/", form).status_code == 302
    assert b"Site administration" in client.get("/admin/").content
    assert client.get("/admin/auth/user/").status_code == 200
    token = client.get("/admin/").context["csrf_token"]
    assert client.post("/admin/logout/", {"csrfmiddlewaretoken": token}).status_code == 200
    assert client.get("/admin/").status_code == 302
    assert sessions().of(ada.pk).list() == []


def test_changing_the_password_in_the_admin_keeps_this_session_and_ends_the_others(ada: Any) -> None:
    ada.is_staff = ada.is_superuser = True
    ada.save()
    client, other = Client(), Client()
    for one in (client, other):
        one.force_login(ada)
    form = {
        "old_password": "correct horse",
        "new_password1": "battery staple 9",
        "new_password2": "battery staple 9",
    }
    assert client.post("/admin/password_change/", form).status_code == 302
    assert [one.get("/admin/").status_code for one in (client, other)] == [200, 302]


def test_messages_are_shown_once(visitor: Visitor) -> None:
    visitor.get("/leave")
    assert [visitor.get("/messages").content for _ in range(2)] == [b"Saved", b""]


@override_settings(CSRF_USE_SESSIONS=True)
def test_the_csrf_token_in_the_session(ada: Any) -> None:
    client = Client(enforce_csrf_checks=True)
    token = client.get("/admin/login/").context["csrf_token"]
    assert "csrftoken" not in client.cookies
    form = {"username": "ada", "password": "correct horse", "next": "/whoami"}
    ada.is_staff = True
    ada.save()
    assert client.post("/admin/login/", form).status_code == 403
    assert client.post("/admin/login/", {**form, "csrfmiddlewaretoken": token}).status_code == 302
    assert client.get("/whoami").json()["user"] == "ada"
