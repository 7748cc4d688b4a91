"""The engine with Django's own middleware: it works, minus what docs/frameworks/django.md says."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpResponse
from django.test import Client, RequestFactory, override_settings

from coatcheck.django import sessions
from coatcheck.django.engine import SessionStore
from tests.web.rig import Counted

THEIRS = "django.contrib.sessions.middleware.SessionMiddleware"
ALONE = [THEIRS if "SessionMiddleware" in path else path for path in settings.MIDDLEWARE]


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    with override_settings(MIDDLEWARE=ALONE):
        yield


def test_work_log_in_and_log_out(ada: Any) -> None:
    client, thief = Client(), Client()
    client.get("/scenario/set?v=cart")
    before = client.cookies["sessionid"].value
    client.get("/in/ada")
    assert client.cookies["sessionid"].value != before
    assert client.get("/whoami").json()["user"] == "ada"
    assert client.get("/scenario/read").content == b"cart"
    thief.cookies["sessionid"] = before
    assert thief.get("/whoami").json()["user"] == ""
    thief.cookies["sessionid"] = client.cookies["sessionid"].value
    client.get("/out")
    assert thief.get("/whoami").json()["user"] == ""
    assert sessions().of(ada.pk).list() == []


def test_another_user_and_a_changed_password(ada: Any, bob: Any) -> None:
    client, other = Client(), Client()
    for one in (client, other):
        one.get("/in/ada")
    client.get("/change/battery")
    assert [one.get("/whoami").json()["user"] for one in (client, other)] == ["ada", ""]
    client.get("/in/bob")
    assert client.get("/whoami").json()["user"] == "bob"


def test_the_cookie_is_signed_and_cannot_be_guessed() -> None:
    client = Client()
    client.get("/scenario/set?v=1")
    value = client.cookies["sessionid"].value
    handle = SessionStore(value).handle
    assert (len(value), value.startswith(handle)) == (101, True)
    for forged in (handle, value[:-1] + ("A" if value[-1] != "A" else "B"), "x" * 32, ""):
        thief = Client()
        thief.cookies["sessionid"] = forged
        assert thief.get("/scenario/read").content == b"None"


def test_a_page_that_never_looks_costs_nothing() -> None:
    store = Counted()
    with override_settings(COATCHECK={"STORE": store}):
        client = Client()
        client.get("/scenario/set?v=1")
        store.told()
        response = client.get("/scenario/pub")
        assert (store.told(), response.cookies, response.has_header("Vary")) == ([], {}, False)
        client.get("/scenario/read")
        assert store.told() == ["load"]


def test_changes_of_two_requests_at_once_both_survive() -> None:
    client = Client()
    client.get("/scenario/set?v=1")
    line = f"sessionid={client.cookies['sessionid'].value}"

    def view(request: Any) -> HttpResponse:
        request.session["outer"] = 1
        client.get("/scenario/set?k=inner&v=2")
        return HttpResponse()

    SessionMiddleware(view)(RequestFactory().get("/", headers={"Cookie": line}))
    assert dict(client.session) == {"k": "1", "inner": "2", "outer": 1}


def test_a_late_request_after_a_logout_brings_nothing_back() -> None:
    client = Client(raise_request_exception=False)
    client.get("/scenario/set?v=1")
    late = Client()
    late.cookies["sessionid"] = client.cookies["sessionid"].value
    client.get("/out")
    response = late.get("/scenario/set?v=2")
    assert response.cookies == {}
    assert late.get("/scenario/read").content == b"None"
    assert sessions().count() == 0


def test_a_key_for_a_cart() -> None:
    client = Client()
    key = client.get("/cart").content
    assert client.cookies["sessionid"].value.encode() == key
    assert client.get("/cart").content == key
