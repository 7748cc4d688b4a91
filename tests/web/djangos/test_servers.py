"""Django under gunicorn (WSGI) and uvicorn (ASGI), by raw sockets: log in, work, race, rotate, expire, be revoked."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from coatcheck import Clock, SessionManager
from tests.web.gates import Gate
from tests.web.places import STORES
from tests.web.servers import Browser, Seen, Server, gunicorn, uvicorn

CROWD = 50


@dataclass
class Place:
    """A running project, and its store as a script sees it."""

    server: Server
    sessions: SessionManager
    a: str
    """What the awaited pages' names begin with."""

    def browser(self, cookies: dict[str, str] | None = None) -> Browser:
        return Browser(self.server, cookies=dict(cookies or {}))

    def whoami(self, browser: Browser) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(browser.visit(f"/{self.a}whoami").text)
        return found

    def crowd(self, browser: Browser, asks: list[str]) -> list[Seen]:
        """Ask all this at once: each has loaded the session before any of them commits."""
        with Gate() as gate, ThreadPoolExecutor(len(asks)) as pool:
            paths = [f"/{self.a}crowd/?{ask}&gate={gate.number}" for ask in asks]
            answers = [pool.submit(self.browser(browser.cookies).visit, path) for path in paths]
            gate.for_all(len(asks))
            gate.open()
            return [answer.result() for answer in answers]


PLACES = [
    "wsgi-sqlite",
    "asgi-sqlite",
    *(pytest.param(f"{face}-redis", marks=pytest.mark.slow) for face in ("wsgi", "asgi")),
]


def environment(store: str) -> dict[str, str]:
    """What a server of the project is told."""
    return {"STORE": store, "DATABASE": str(settings.DATABASES["default"]["NAME"])}


@pytest.fixture(scope="module", params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    face, kind = request.param.split("-")
    folder = tmp_path_factory.mktemp(request.param)
    store = STORES[kind](request, folder)
    env = environment(store)
    name = f"tests.web.djangos.site:{face}"
    awaits = face == "asgi"
    served = (
        uvicorn(name, folder=folder, env=env, options=["--lifespan", "off"])
        if awaits
        else gunicorn(name, folder=folder, env=env, threads=CROWD)
    )
    with served as server, SessionManager(store) as sessions:
        yield Place(server, sessions, "a" if awaits else "")


def test_log_in_work_and_log_out(place: Place, ada: Any) -> None:
    browser = place.browser()
    browser.visit(f"/{place.a}scenario/set?v=cart")
    before = dict(browser.cookies)
    browser.visit(f"/{place.a}in/ada")
    assert browser.cookies != before
    assert place.whoami(browser)["user"] == "ada"
    assert browser.visit(f"/{place.a}scenario/read").text == "cart"
    assert place.browser(before).visit(f"/{place.a}scenario/read").text == "None"
    thief = place.browser(browser.cookies)
    browser.visit(f"/{place.a}out")
    assert set(browser.cookies) == {"csrftoken"}
    assert place.whoami(thief)["user"] == ""


def test_fifty_increments_and_twenty_keys_lose_nothing(place: Place) -> None:
    browser = place.browser()
    browser.visit(f"/{place.a}crowd/?count=1")
    keys = {f"key{number}": f"key{number}" for number in range(20)}
    seen = place.crowd(browser, ["count=1"] * (CROWD - 20) + [f"count=1&key={key}" for key in keys])
    assert {one.status for one in seen} == {200}
    assert not any(one.all("set-cookie") for one in seen)
    assert json.loads(browser.visit(f"/{place.a}crowd/?").text)["data"] == {"n": CROWD + 1, **keys}


def test_a_logout_while_slow_requests_write_stays_a_logout_and_is_no_error(place: Place) -> None:
    browser = place.browser()
    browser.visit(f"/{place.a}crowd/?login=grace&count=1")
    thief = place.browser(browser.cookies)
    seen = place.crowd(browser, ["logout=1", *["count=1"] * 9])
    assert {one.status for one in seen} == {200}
    cookies = [line for one in seen for line in one.all("set-cookie")]
    assert ["Max-Age=0" in line for line in cookies] == [True]
    assert json.loads(thief.visit(f"/{place.a}crowd/?").text) == {"user": None, "data": {}}
    assert place.sessions.of("grace").list() == []


def test_a_session_ended_from_another_device_is_over_at_once(place: Place, ada: Any) -> None:
    phone, laptop = place.browser(), place.browser()
    for one in (phone, laptop):
        one.visit(f"/{place.a}in/ada")
    handle = place.whoami(phone)["key"]
    assert {device.handle for device in place.sessions.of(ada.pk).list()} > {handle}
    assert place.sessions.of(ada.pk).end(handle)
    assert [place.whoami(one)["user"] for one in (phone, laptop)] == ["", "ada"]


def test_an_expired_session_is_over(place: Place, ada: Any) -> None:
    browser = place.browser()
    browser.visit(f"/{place.a}in/ada")
    (device,) = place.sessions.of(ada.pk).list()
    # A clock that is ahead ends it for everybody, as the store has only one opinion.
    later = device.expires_at.timestamp() + 1
    with SessionManager(str(place.sessions._url), clock=Clock(lambda: later, lambda: later)) as ahead:
        assert ahead.find(device.handle) is None
        ahead.sweep()
    assert place.whoami(browser) == {"user": "", "user_id": None, "key": None}


def test_a_changed_password_ends_the_other_session(place: Place, ada: Any) -> None:
    browser, other = place.browser(), place.browser()
    for one in (browser, other):
        one.visit(f"/{place.a}in/ada")
    browser.visit("/change/battery")
    assert [place.whoami(one)["user"] for one in (browser, other)] == ["ada", ""]


def test_the_admin_is_entered_and_left(place: Place, ada: Any) -> None:
    ada.is_staff = ada.is_superuser = True
    ada.save()
    browser = place.browser()
    browser.visit(f"/{place.a}in/ada")
    page = browser.visit("/admin/")
    assert (page.status, "Site administration" in page.text) == (200, True)
    assert page.all("cache-control")[0].startswith("max-age=0")
    assert browser.visit("/admin/auth/user/").status == 200
    browser.visit(f"/{place.a}out")
    assert browser.visit("/admin/").status == 302


def test_a_shop_gets_a_key_for_who_has_no_account(place: Place) -> None:
    browser = place.browser()
    key = browser.visit(f"/{place.a}cart").text
    assert browser.visit(f"/{place.a}cart").text == key
    assert place.sessions.find(key) is not None
    assert place.browser({"session": key}).visit(f"/{place.a}cart").text != key  # it opens nothing


def test_a_browser_of_a_test_may_be_given_what_a_script_has_made(place: Place, ada: Any) -> None:
    """As with Selenium: a session is made in the test, and its key put under SESSION_COOKIE_NAME."""
    script = """
import tests.web.djangos.site
from django.contrib.auth import BACKEND_SESSION_KEY, SESSION_KEY, HASH_SESSION_KEY
from django.contrib.auth.models import User
from coatcheck.django.engine import SessionStore
user, session = User.objects.get(username="ada"), SessionStore()
session[SESSION_KEY] = user.pk
session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session[HASH_SESSION_KEY] = user.get_session_auth_hash()
session.save()
print(session.session_key)
"""
    env = {**os.environ, **environment(str(place.sessions._url))}
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env, check=True)
    browser = place.browser({"sessionid": made.stdout.strip()})
    assert place.whoami(browser)["user"] == "ada"
    browser.visit(f"/{place.a}in/ada")
    assert (set(browser.cookies), place.whoami(browser)["user"]) == ({"sessionid", "csrftoken"}, "ada")
    foreign = place.browser({"sessionid": "x" * 32})
    foreign.visit(f"/{place.a}in/ada")
    assert place.whoami(foreign)["user"] == "ada"
    assert len(foreign.cookies["session"]) == 101


def test_responses_that_are_errors(place: Place) -> None:
    browser = place.browser()
    assert browser.visit("/missing").status == 404
    assert browser.visit(f"/{place.a}scenario/read?k=seen").text == "not found"
    assert browser.visit("/error").status == 502
    assert browser.visit(f"/{place.a}scenario/read?k=seen").text == "not found"


def test_an_async_view_under_either_server(place: Place) -> None:
    browser = place.browser()
    assert [browser.visit("/awaits").text for _ in range(3)] == ["1", "2", "3"]
    saved = browser.visit("/saves")
    assert saved.status == (500 if place.a else 200)  # under ASGI Django refuses to block the loop


def test_django_starlette_and_flask_share_a_login(tmp_path: Path, ada: Any) -> None:
    env = environment(f"sqlite:///{tmp_path}/sessions.db")
    with (
        gunicorn("tests.web.djangos.site:wsgi", folder=tmp_path, env=env) as django,
        uvicorn("tests.web.apps:starlette", folder=tmp_path, env=env) as starlette,
        gunicorn("tests.web.apps:flask", folder=tmp_path, env=env) as flask,
    ):

        def there(server: Server, browser: Browser, path: str) -> str:
            return Browser(server, cookies=dict(browser.cookies)).visit(path).text

        browser = Browser(django)
        browser.visit("/in/ada")
        assert [there(one, browser, "/user") for one in (starlette, flask)] == [str(ada.pk)] * 2
        assert there(flask, browser, "/read?k=_auth_user_hash") == "None"  # Django's own affair
        assert there(starlette, browser, "/logout") == "bye"
        assert json.loads(there(django, browser, "/whoami"))["user"] == ""

        for other in (starlette, flask):
            browser = Browser(other)
            browser.visit(f"/login?user={ada.pk}")
            assert json.loads(there(django, browser, "/whoami"))["user"] == "ada"
            assert there(django, browser, "/scenario/set?k=cart&v=tea") == "kept"
            assert there(other, browser, "/read?k=cart") == "tea"
            django_browser = Browser(django, cookies=dict(browser.cookies))
            assert django_browser.visit("/out").text == "bye"
            assert browser.visit("/user").text == "None"

        browser = Browser(starlette)
        browser.visit("/login?user=grace")  # no user of Django's
        assert json.loads(there(django, browser, "/whoami")) | {"key": 0} == {
            "user": "",
            "user_id": "grace",
            "key": 0,
        }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "redis"])
@pytest.mark.parametrize("way", [["--preload"], ["--worker-class", "gevent"], ["--worker-class", "sync"]])
def test_other_ways_to_serve_it(
    way: list[str], kind: str, request: pytest.FixtureRequest, tmp_path: Path, ada: Any
) -> None:
    env = environment(STORES[kind](request, tmp_path))
    with gunicorn(
        "tests.web.djangos.site:wsgi", folder=tmp_path, env=env, workers=2, threads=4, options=way
    ) as server:
        browser = Browser(server)
        browser.visit("/in/ada")
        with ThreadPoolExecutor(8) as pool:
            visits = [Browser(server, cookies=dict(browser.cookies)) for _ in range(40)]
            seen = list(pool.map(lambda visitor: visitor.visit("/crowd/?count=1"), visits))
        assert {one.status for one in seen} == {200}
        assert json.loads(browser.visit("/crowd/?").text)["data"]["n"] == 40
        assert json.loads(browser.visit("/whoami").text)["user"] == "ada"
        browser.visit("/out")
        assert json.loads(visits[0].visit("/whoami").text)["user"] == ""
