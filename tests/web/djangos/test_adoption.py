"""The sessions of Django's own engines go on, in the very project that had them: COATCHECK["ADOPT"]."""

from importlib import import_module
from typing import Any

import pytest
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.test import Client, override_settings
from werkzeug.test import Client as Browser

from coatcheck.adoption import DjangoCookie, DjangoEngine
from coatcheck.stores.memory import MemoryStore

DJANGOS = "django.contrib.sessions.backends."
ENGINES = ["db", "cache", "cached_db", "file", "signed_cookies"]


def before(engine: str, user: Any) -> str:
    """The cookie of somebody who logged in to the project as it was."""
    theirs = [
        "django.contrib.sessions.middleware.SessionMiddleware" if name.startswith("coatcheck") else name
        for name in settings.MIDDLEWARE
    ]
    with override_settings(SESSION_ENGINE=DJANGOS + engine, MIDDLEWARE=theirs):
        client = Client()
        client.force_login(user)
        session = client.session
        session["cart"] = ["a"]
        session.save()
        return str(session.session_key)


def adopting(engine: str) -> Any:
    if engine == "signed_cookies":
        return DjangoCookie(secret_key=settings.SECRET_KEY)
    return DjangoEngine(engine=DJANGOS + engine)


class Visitor:
    """A browser that brings the cookie of before."""

    def __init__(self, cookie: str) -> None:
        self._client = Browser(WSGIHandler())
        self._client.set_cookie("sessionid", cookie, domain="shop.example")

    def get(self, path: str) -> Any:
        return self._client.get(path, base_url="https://shop.example")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_login_of_before_goes_on_and_the_old_cookie_ends(engine: str, ada: Any) -> None:
    cookie = before(engine, ada)
    with override_settings(COATCHECK={"STORE": MemoryStore(), "ADOPT": adopting(engine)}):
        visitor = Visitor(cookie)
        first = visitor.get("/whoami")
        assert first.json["user"] == "ada"
        sent = {line.partition("=")[0].strip(): line for line in first.headers.getlist("Set-Cookie")}
        assert sent.keys() == {"__Host-session", "sessionid"}
        assert "Max-Age=0" in sent["sessionid"]
        second = visitor.get("/whoami")
        assert (second.json["user"], second.json["key"]) == ("ada", first.json["key"])
        assert visitor.get("/out").status_code == 200
        assert Visitor(cookie).get("/whoami").json["user"] == ""
    if engine != "signed_cookies":
        assert not import_module(DJANGOS + engine).SessionStore(cookie).exists(cookie)


def test_without_adopt_an_old_cookie_is_nobodys(ada: Any) -> None:
    cookie = before("db", ada)
    with override_settings(COATCHECK={"STORE": MemoryStore()}):
        assert Visitor(cookie).get("/whoami").json["user"] == ""


def test_a_changed_password_ends_the_old_session_too(ada: Any) -> None:
    cookie = before("db", ada)
    ada.set_password("another horse")
    ada.save()
    with override_settings(COATCHECK={"STORE": MemoryStore(), "ADOPT": adopting("db")}):
        assert Visitor(cookie).get("/whoami").json["user"] == ""
