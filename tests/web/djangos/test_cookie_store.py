"""Sessions in the cookie itself, in Django: through its middleware, and in its test client."""

from typing import Any

from asgiref.sync import async_to_sync
from django.test import AsyncClient, Client, override_settings

from coatcheck.stores.cookie import CookieStore
from coatcheck.stores.memory import MemoryStore


def store() -> CookieStore:
    return CookieStore(revocation="epoch", store=MemoryStore())


def test_a_login_and_a_logout(ada: Any) -> None:
    with override_settings(COATCHECK={"STORE": store()}):
        browser = Client()
        assert browser.get("/scenario/set?v=kept").status_code == 200
        assert browser.get("/scenario/read").content == b"kept"
        browser.get("/in/ada")
        assert browser.get("/whoami").json()["user"] == "ada"
        copied = {name: morsel.value for name, morsel in browser.cookies.items()}
        browser.get("/out")
        assert browser.get("/whoami").json()["user"] == ""
        thief = Client()
        for name, value in copied.items():
            thief.cookies[name] = value
        assert thief.get("/whoami").json()["user"] == ""


def test_async_views_too(ada: Any) -> None:
    with override_settings(COATCHECK={"STORE": store()}):
        browser = AsyncClient()
        get = async_to_sync(browser.get)
        get("/ascenario/set?v=kept")
        assert get("/ascenario/read").content == b"kept"
        get("/ain/ada")
        assert get("/awhoami").json()["user"] == "ada"


def test_the_test_clients_own_ways(ada: Any) -> None:
    with override_settings(COATCHECK={"STORE": store()}):
        browser = Client()
        browser.force_login(ada)
        assert browser.get("/whoami").json()["user"] == "ada"
        assert browser.session["_auth_user_id"] == str(ada.pk)
        browser.logout()
        assert browser.get("/whoami").json()["user"] == ""
