"""The ready-made devices page, under ASGI and WSGI: who sees what, who may end what, and whose form it is."""

import asyncio
import re
from typing import Any

import httpx
import pytest

from coatcheck import ConfigurationError
from coatcheck.asgi import CsrfMiddleware as AsgiCsrf
from coatcheck.asgi import SessionMiddleware as AsgiSessions
from coatcheck.devices import TEXTS, DevicesApp, DevicesPage, DevicesWsgiApp
from coatcheck.testing.frozen import FrozenClock
from coatcheck.wsgi import CsrfMiddleware as WsgiCsrf
from coatcheck.wsgi import SessionMiddleware as WsgiSessions

SECRET = "vQ0m6nTzKxw3Jr8LdYbPfE5sGh1UaC9oXiR2tWqNyZk"
MOUNT = "/account/devices"
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; rv:140.0) Gecko/20100101 Firefox/140.0"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) Version/18.5 Safari/604.1"
JSON = {"accept": "application/json"}


class AsgiSite:
    """A login, and the page mounted."""

    def __init__(self, clock: FrozenClock, *, guarded: bool = False, **options: Any) -> None:
        page = DevicesApp(**options)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"].startswith(MOUNT):
                await page({**scope, "root_path": MOUNT}, receive, send)
                return
            user = scope["path"].removeprefix("/login/")
            scope["session"].login(user)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        inner: Any = AsgiCsrf(app, exempt=["/login/*"]) if guarded else app
        self.app = AsgiSessions(inner, secret=SECRET, clock=clock, startup_check=False)

    def send(self, request: httpx.Request) -> httpx.Response:
        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, client=("203.0.113.9", 1))
            response = await transport.handle_async_request(request)
            await response.aread()
            return response

        return asyncio.run(go())


class WsgiSite:
    """The same for WSGI."""

    def __init__(self, clock: FrozenClock, *, guarded: bool = False, **options: Any) -> None:
        page = DevicesWsgiApp(**options)

        def app(environ: Any, start_response: Any) -> Any:
            path = environ["PATH_INFO"]
            if path.startswith(MOUNT):
                environ = {**environ, "SCRIPT_NAME": MOUNT, "PATH_INFO": path.removeprefix(MOUNT)}
                return page(environ, start_response)
            environ["coatcheck.session"].login(path.removeprefix("/login/"))
            start_response("200 OK", [])
            return [b""]

        inner: Any = WsgiCsrf(app, exempt=["/login/*"]) if guarded else app
        self.app = WsgiSessions(inner, secret=SECRET, clock=clock, startup_check=False)

    def send(self, request: httpx.Request) -> httpx.Response:
        transport = httpx.WSGITransport(app=self.app, remote_addr="203.0.113.9")
        response = transport.handle_request(request)
        response.read()
        return response


class Visitor:
    """A browser: sends what browsers send with a form of the same page."""

    def __init__(self, site: Any, user: str | None = "ada", agent: str = FIREFOX) -> None:
        self.site, self.agent, self.cookie = site, agent, ""
        if user is not None:
            self.ask("POST", f"/login/{user}")

    def ask(self, method: str, path: str, **given: Any) -> httpx.Response:
        headers = {"user-agent": self.agent, **given.pop("headers", {})}
        if self.cookie:
            headers["cookie"] = self.cookie
        request = httpx.Request(method, f"https://shop.example{path}", headers=headers, **given)
        response: httpx.Response = self.site.send(request)
        for line in response.headers.get_list("set-cookie"):
            pair, _, attributes = line.partition(";")
            self.cookie = "" if "Max-Age=0" in attributes else pair
        return response

    def page(self) -> str:
        return self.ask("GET", f"{MOUNT}/").text

    def listed(self) -> dict[str, Any]:
        listed: dict[str, Any] = self.ask("GET", f"{MOUNT}/", headers=JSON).json()
        return listed

    def form(self, action: str, headers: dict[str, str] | None = None, **fields: str) -> httpx.Response:
        data = {"csrf_token": self.listed()["csrf_token"], **fields}
        sent = (
            {"sec-fetch-site": "same-origin", "origin": "https://shop.example"}
            if headers is None
            else headers
        )
        return self.ask("POST", f"{MOUNT}/{action}", data=data, headers=sent)


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock(1_800_000_000.0)


@pytest.fixture(params=[AsgiSite, WsgiSite], ids=["asgi", "wsgi"])
def site(request: pytest.FixtureRequest, clock: FrozenClock) -> Any:
    return request.param(clock, login_url="/sign-in", reauth_url="/confirm")


def test_line_70_the_page_lists_a_users_sessions_and_marks_this_one(site: Any, clock: FrozenClock) -> None:
    phone = Visitor(site, agent=IPHONE)
    clock.tick("1h")
    laptop = Visitor(site)
    Visitor(site, "bob")
    page = laptop.page()
    assert re.findall(r"<h2>(.*?)</h2>", page) == ["Firefox on Windows", "Safari on iPhone"]
    assert page.count("This device") == 1
    assert "2027-01-15 08:00 UTC" in page
    assert "203.0.113.0/24" in page
    (first, second) = laptop.listed()["devices"]
    assert [first["this_device"], second["this_device"]] == [True, False]
    assert [one["this_device"] for one in phone.listed()["devices"]] == [False, True]
    for visitor in (phone, laptop):
        assert visitor.cookie[-76:-32] not in page


def test_line_70_a_session_is_ended_from_the_page(site: Any) -> None:
    phone, laptop = Visitor(site, agent=IPHONE), Visitor(site)
    (other,) = [one for one in laptop.listed()["devices"] if not one["this_device"]]
    done = laptop.form("end", handle=other["handle"])
    assert (done.status_code, done.headers["location"]) == (303, f"{MOUNT}/?done=1")
    assert "One device was signed out." in laptop.ask("GET", done.headers["location"]).text
    assert phone.ask("GET", f"{MOUNT}/").headers["location"] == "/sign-in"
    assert len(laptop.listed()["devices"]) == 1


def test_line_70_all_others_are_ended_and_one_stays(site: Any) -> None:
    others = [Visitor(site, agent=IPHONE) for _ in range(3)]
    laptop, bob = Visitor(site), Visitor(site, "bob")
    assert laptop.form("end-others").headers["location"].endswith("?done=3")
    assert [one.ask("GET", f"{MOUNT}/", headers=JSON).status_code for one in (*others, laptop, bob)] == [
        401, 401, 401, 200, 200,
    ]  # fmt: skip
    assert "not signed in anywhere else" in laptop.page()


def test_line_70_to_end_sessions_needs_a_recent_login(site: Any, clock: FrozenClock) -> None:
    Visitor(site, agent=IPHONE)
    laptop = Visitor(site)
    clock.tick("11m")
    refused = laptop.form("end-others")
    assert (refused.status_code, "/confirm" in refused.text) == (403, True)
    token = laptop.listed()["csrf_token"]
    as_json = laptop.ask(
        "POST",
        f"{MOUNT}/end-others",
        json={},
        headers={**JSON, "x-csrf-token": token, "sec-fetch-site": "same-origin"},
    )
    assert (as_json.status_code, as_json.json()["error"]) == (403, "reauth_required")
    assert len(laptop.listed()["devices"]) == 2


def test_line_70_another_users_session_cannot_be_ended(site: Any) -> None:
    bob = Visitor(site, "bob")
    handle = bob.listed()["devices"][0]["handle"]
    ada = Visitor(site)
    assert ada.form("end", handle=handle).headers["location"].endswith("?done=0")
    assert bob.ask("GET", f"{MOUNT}/", headers=JSON).status_code == 200
    assert "already signed out" in ada.ask("GET", f"{MOUNT}/?done=0").text


def test_line_70_to_end_this_session_is_to_sign_out(site: Any) -> None:
    ada = Visitor(site)
    copy = ada.cookie
    done = ada.form("end", handle=ada.listed()["devices"][0]["handle"])
    assert (done.headers["location"], ada.cookie) == ("/sign-in", "")
    ada.cookie = copy
    assert ada.ask("GET", f"{MOUNT}/", headers=JSON).status_code == 401


FORGED: dict[str, dict[str, str]] = {
    "cross-site": {"sec-fetch-site": "cross-site"},
    "same-site": {"sec-fetch-site": "same-site"},
    "typed in": {"sec-fetch-site": "none"},
    "another origin": {"origin": "https://evil.example"},
    "another port": {"origin": "https://shop.example:8443"},
    "plain": {"origin": "http://shop.example"},
    "null": {"origin": "null"},
    "longer": {"origin": "https://shop.example.evil.example"},
}


@pytest.mark.parametrize("headers", FORGED.values(), ids=FORGED)
def test_line_92_a_form_of_another_site_ends_nothing(site: Any, headers: dict[str, str]) -> None:
    Visitor(site, agent=IPHONE)
    ada = Visitor(site)
    assert ada.form("end-others", headers).status_code == 403
    assert len(ada.listed()["devices"]) == 2


@pytest.mark.parametrize("token", ["", "x", "A" * 32, "bob's", "from before the login"])
def test_line_95_a_form_carries_a_token_of_this_session(site: Any, token: str) -> None:
    Visitor(site, agent=IPHONE)
    ada = Visitor(site)
    if token == "bob's":
        token = Visitor(site, "bob").listed()["csrf_token"]
    elif token.startswith("from"):
        token = ada.listed()["csrf_token"]
        ada.ask("POST", "/login/ada")
    assert ada.form("end-others", csrf_token=token).status_code == 403
    assert ada.form("end-others").status_code == 303


@pytest.mark.parametrize("kind", [AsgiSite, WsgiSite], ids=["asgi", "wsgi"])
def test_line_95_an_old_browsers_form_passes_the_middleware_too(kind: Any, clock: FrozenClock) -> None:
    """It says nothing of where the form is from: both ask for the token, and it is one token."""
    site = kind(clock, guarded=True, login_url="/sign-in")
    Visitor(site, agent=IPHONE)
    ada = Visitor(site)
    assert ada.form("end-others", {}).status_code == 303
    assert len(ada.listed()["devices"]) == 1
    assert ada.form("end-others", {}, csrf_token="x" * 64).status_code == 403


def test_line_99_a_token_in_the_address_is_none(site: Any) -> None:
    ada = Visitor(site)
    token = ada.listed()["csrf_token"]
    assert ada.ask("POST", f"{MOUNT}/end-others?csrf_token={token}").status_code == 403


def test_line_101_nothing_is_ended_by_a_get(site: Any) -> None:
    ada = Visitor(site)
    answer = ada.ask("GET", f"{MOUNT}/end-others")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert ada.ask("GET", f"{MOUNT}/nowhere").status_code == 404
    assert ada.ask("HEAD", f"{MOUNT}/").text == ""


def test_line_57_no_cache_keeps_the_page_and_nothing_runs_in_it(site: Any) -> None:
    answer = Visitor(site).ask("GET", f"{MOUNT}/")
    assert answer.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "<script" not in answer.text


def test_what_a_browser_says_of_itself_is_not_shown(site: Any) -> None:
    page = Visitor(site, agent="<script>alert(1)</script>").page()
    assert "alert" not in page
    assert "Unknown browser" in page


@pytest.mark.parametrize(
    "body", [b"x" * 5000, b"\xff\xfe", b"csrf_token=a&csrf_token=b", b"&" * 4000, b"[1]"]
)
@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "application/json", "text/plain", ""])
def test_a_form_that_is_none_ends_nothing(site: Any, body: bytes, kind: str) -> None:
    answer = Visitor(site).ask(
        "POST", f"{MOUNT}/end", content=body, headers={"content-type": kind, "sec-fetch-site": "same-origin"}
    )
    assert answer.status_code == 403


def test_another_language(clock: FrozenClock) -> None:
    german = {**TEXTS, "title": "Wo Sie angemeldet sind", "end": "Abmelden"}
    page = Visitor(WsgiSite(clock, lang="de", texts=german)).page()
    assert ('<html lang="de">' in page, "Wo Sie angemeldet sind" in page, ">Abmelden<" in page) == (
        True,
        True,
        True,
    )
    with pytest.raises(ConfigurationError, match="is missing"):
        DevicesPage(lang="de", texts={"title": "x"})
    with pytest.raises(ConfigurationError, match="is no text of the page"):
        DevicesPage(texts={"titel": "x"})
    with pytest.raises(ConfigurationError, match="unit"):
        DevicesPage(within=600)  # type: ignore[arg-type]  # what is tested
