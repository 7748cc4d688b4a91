"""What becomes of an old session, and of its cookie: adopted once, whatever happens on the way, and never again."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from coatcheck import (
    ConfigurationError,
    CookieSettings,
    Options,
    SessionManager,
    StoreUnavailable,
    Timeouts,
    UserKey,
)
from coatcheck.adoption import FlaskCookie, FlaskSessionInRedis, StarletteCookie
from coatcheck.core.adoption import Claim, Found, Refused
from coatcheck.stores.memory import MemoryStore
from servers import Server
from tests.adoption import olds
from tests.adoption.conftest import MakeSite
from tests.adoption.rig import FACES, NOTHING
from tests.patience import PATIENT
from tests.visits import ByUserVerbs, Line
from tests.web.places import STORES
from tests.web.rig import Counted

OLD = olds.flask({"cart": ["a"], "_user_id": "7"})
ANONYMOUS = olds.flask({"cart": ["a"]})
PAGE = {"user": "7", "data": {"_user_id": "7", "cart": ["a"]}}
"""The key is a view of the login, and not among the data.  See `KEYED`."""


def flask(**fields: Any) -> FlaskCookie:
    return FlaskCookie(secret_key=olds.SECRET, **fields)


KEYED: Any = {"identity": UserKey("_user_id")}
"""As the adapter for Flask-Login has it."""


@pytest.fixture(params=["memory", "sqlite", "redis", "postgres", "mongo", "sqlalchemy_sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store of each kind."""
    if request.param == "memory":
        return "memory:"
    url = STORES[request.param](request, tmp_path)
    with SessionManager(url) as sessions:
        sessions.setup()
    return url


def a_new_cookie(user: str = "7") -> str:
    """One of an old session that no other test has adopted."""
    a_new_cookie.made = getattr(a_new_cookie, "made", 0) + 1  # type: ignore[attr-defined]  # a counter
    return olds.flask({"cart": ["a"], "_user_id": user, "n": a_new_cookie.made})  # type: ignore[attr-defined]  # as above


# -------------------------------------------------------------------------------------------------- once, and only once


@pytest.mark.parametrize("face", FACES)
def test_two_first_requests_arrive_at_one_session_and_one_cookie(
    face: str, url: str, site_of: MakeSite
) -> None:
    old = a_new_cookie()
    site = site_of(face, url, flask(), **KEYED)
    one, other = site.browser(session=old), site.browser(session=old)
    assert one.get("/set?one=1")["user"] == "7"
    assert other.get("/set?other=1")["data"].items() >= {"one": "1", "other": "1"}.items()
    assert one.cookies == other.cookies != {"session": old}
    assert site.ears.heard().count("session.adopted") == 1
    assert one.get()["data"].items() >= {"one": "1", "other": "1"}.items()


@pytest.mark.parametrize("face", FACES)
def test_a_crowd_of_first_requests_arrives_at_one_session(face: str, url: str, site_of: MakeSite) -> None:
    old = a_new_cookie()
    site = site_of(face, url, flask(), **KEYED)
    seen = site.answers(16, "/", f"session={old}")
    assert {answer.status for answer in seen} == {200}, [event.detail for event in site.ears.events]
    assert len({answer.text for answer in seen}) == 1
    assert len({line for answer in seen for line in answer.all("set-cookie")}) == 1
    assert site.ears.heard().count("session.adopted") == 1


@pytest.mark.parametrize("face", FACES)
def test_after_a_logout_the_old_cookie_is_nothing_for_as_long_as_it_is_genuine(
    face: str, url: str, site_of: MakeSite
) -> None:
    old = a_new_cookie()
    site = site_of(face, url, flask(), timeouts=Timeouts(idle=600, absolute=600), **KEYED)
    browser = site.browser(session=old)
    browser.get()
    browser.get("/logout")
    site.ears.heard()
    for later in (0, 30, 61, 601, 86_400, 15 * 86_400, 14 * 86_400):
        site.time.now += later
        replayed = site.browser(session=old)
        assert replayed.get() == NOTHING
        assert replayed.get("/pub") == "public"
    assert "session.adopted" not in site.ears.heard()


def test_a_response_that_is_lost_logs_nobody_out(url: str, site_of: MakeSite) -> None:
    """The browser has never heard of our cookie, and comes with the old one again, much later."""
    old = a_new_cookie()
    site = site_of("asgi", url, flask(), **KEYED)
    first = site.browser(session=old)
    first.get()
    again = first
    for _ in range(3):
        site.time.now += 600
        again = site.browser(session=old)
        assert again.get()["user"] == "7"
        assert again.cookies == first.cookies
    assert again.get()["user"] == "7"
    site.time.now += 9
    assert site.browser(session=old).get()["user"] == "7"
    site.time.now += 2
    assert site.browser(session=old).get() == NOTHING


@pytest.mark.parametrize("path", ["/login?user=8", "/login?user=7", "/rotate", "/logout"])
@pytest.mark.parametrize("face", FACES)
def test_a_late_request_with_the_old_cookie_after_a_login_is_detached(
    face: str, path: str, site_of: MakeSite
) -> None:
    site = site_of(face, "memory:", flask(), **KEYED)
    browser = site.browser(session=OLD)
    browser.get(path)
    late = site.browser(session=OLD)
    assert late.get("/set?k=v") == {"user": None, "data": {"k": "v"}}
    assert late.cookies == {"session": OLD}
    assert "k" not in browser.get()["data"]
    site.time.now += 61
    assert site.browser(session=OLD).get() == NOTHING


@pytest.mark.parametrize("face", FACES)
def test_a_page_that_does_not_look_costs_an_old_cookie_nothing(face: str, site_of: MakeSite) -> None:
    site = site_of(face, "memory:", flask(), **KEYED)
    browser = site.browser(session=OLD)
    assert browser.get("/pub") == "public"
    assert browser.cookies == {"session": OLD}
    assert browser.last is not None
    assert not browser.last.all("vary") + browser.last.all("cache-control")
    assert browser.get() == PAGE
    assert browser.cookies != {"session": OLD}


def test_our_cookie_comes_before_an_old_one(site_of: MakeSite) -> None:
    site = site_of("wsgi", "memory:", flask(name="old"), **KEYED)
    ours = site.browser()
    ours.get("/set?mine=1")
    both = site.browser(**ours.cookies, old=OLD)
    assert both.get() == {"user": None, "data": {"mine": "1"}}
    assert site.ears.heard() == ["session.created"]
    expired = site.browser(**ours.cookies, old=OLD)
    site.time.now += 2 * 86_400
    assert expired.get() == PAGE


def test_a_request_that_needs_no_adoption_costs_no_command_more() -> None:
    """With a cookie of ours, and with none at all."""
    from coatcheck.wsgi import SessionMiddleware
    from tests.adoption.rig import SECRET, wsgi_app
    from tests.web.visitors import WsgiVisitor

    store = Counted()
    browser = WsgiVisitor(SessionMiddleware(wsgi_app, store=store, secret=SECRET, adopt=flask()))
    browser.visit("/")
    assert store.told() == []
    browser.visit("/set?k=v")
    assert store.told() == ["create"]
    browser.visit("/")
    assert store.told() == ["load"]
    browser.visit("/set?k=w")
    assert store.told() == ["load", "replace"]


# ------------------------------------------------------------------------------------------------------------ cookies


def test_the_old_cookie_is_cleared_as_it_was_set(site_of: MakeSite) -> None:
    kind = flask(name="old", path="/app", domain="example.com", partitioned=True)
    site = site_of("wsgi", "memory:", kind, **KEYED)
    browser = site.browser("https", old=OLD)
    browser.get()
    assert browser.last is not None
    ours, clear = browser.last.all("set-cookie")
    assert ours.startswith("__Host-session=")
    assert clear.startswith("old=; Max-Age=0; Domain=example.com; Path=/app; ")
    assert "; Secure; Partitioned" in clear
    assert browser.last.all("cache-control") == ["no-store"]


@pytest.mark.parametrize("face", FACES)
def test_a_logout_clears_an_old_cookie_that_came_along(face: str, site_of: MakeSite) -> None:
    """As an old server that still answers may have set it again beside ours."""
    site = site_of(face, "memory:", flask(name="old"), **KEYED)
    browser = site.browser()
    browser.get("/login?user=7")
    browser.cookies["old"] = OLD
    browser.get()
    assert "old" in browser.cookies
    browser.get("/logout")
    assert browser.cookies == {}


def test_a_cookie_of_the_same_name_is_overwritten_and_is_no_forgery(site_of: MakeSite) -> None:
    site = site_of("wsgi", "memory:", flask(), **KEYED)
    browser = site.browser(session=OLD)
    browser.get()
    assert browser.last is not None
    assert len(browser.last.all("set-cookie")) == 1
    assert site.ears.heard() == ["session.adopted"]
    site.browser(session="no cookie of anybody").get()
    assert site.ears.heard() == ["cookie.forged"]


def test_two_different_genuine_cookies_are_none(site_of: MakeSite) -> None:
    """One of them was planted, and nobody can know which."""
    site = site_of("wsgi", "memory:", flask(name="old"), **KEYED)
    seen = site.answer("/", "http", f"old={OLD}; old={ANONYMOUS}")
    assert '"user": null' in seen.text
    assert site.ears.heard() == ["cookie.duplicate"]
    seen = site.answer("/", "http", f"old={OLD}; old={OLD}; old=junk")
    assert '"user": "7"' in seen.text


def test_nothing_is_adopted_over_plain_http(site_of: MakeSite) -> None:
    site = site_of("wsgi", "memory:", flask(), proxy=True)
    assert site._visitor is not None
    seen = site._visitor.visit("/", Cookie=f"session={OLD}", X_Forwarded_Proto="http")
    assert '"user": null' in seen.text
    assert "session.adopted" not in site.ears.heard()


@pytest.mark.parametrize("face", FACES)
def test_several_kinds_are_tried_in_their_order(face: str, redis_server: Server, site_of: MakeSite) -> None:
    url = f"redis://127.0.0.1:{redis_server.port}/9"
    kinds = [
        FlaskSessionInRedis(server=url, outage=PATIENT),
        flask(),
        StarletteCookie(secret_key=olds.SECRET, user_key="who"),
    ]
    site = site_of(face, "memory:", kinds)
    assert site.browser(session=olds.flask_session(url, {"_user_id": "1"})).get()["user"] == "1"
    assert site.browser(session=olds.flask({"_user_id": "2"})).get()["user"] == "2"
    assert site.browser(session=olds.starlette({"who": 3})).get()["user"] == "3"
    assert site.browser(session="x" * 43).get() == NOTHING


def test_what_the_old_library_writes_late_brings_nothing_back(
    redis_server: Server, site_of: MakeSite
) -> None:
    """It had an end when it was adopted. A request that the old application had under way writes it with a later one."""
    url = f"redis://127.0.0.1:{redis_server.port}/9"
    site = site_of("wsgi", "memory:", FlaskSessionInRedis(server=url, outage=PATIENT))
    old = olds.flask_session(url, {"_user_id": "1"})
    with redis.Redis.from_url(url) as client:
        kept = client.get(f"session:{old}")
        client.expire(f"session:{old}", 600)
        browser = site.browser(session=old)
        assert browser.get()["user"] == "1"
        browser.get("/logout")
        client.set(f"session:{old}", kept, ex=90 * 86_400)
    site.time.now += 2 * 86_400
    assert site.browser(session=old).get() == NOTHING


def test_until_a_date_and_no_longer(site_of: MakeSite) -> None:
    end = datetime.now(UTC) + timedelta(hours=1)
    kind = StarletteCookie(secret_key=olds.SECRET, max_age=None, until=end)
    site = site_of("wsgi", "memory:", kind)
    one, other = olds.starlette({"a": 1}), olds.starlette({"a": 2})
    browser = site.browser(session=one)
    assert browser.get()["data"] == {"a": 1}
    browser.get("/logout")
    site.time.now += 3590
    assert site.browser(session=one).get() == NOTHING
    site.time.now += 20
    assert site.browser(session=other).get() == NOTHING


# -------------------------------------------------------------------------------------------------- who is logged in


@pytest.mark.parametrize("face", FACES)
def test_the_adopted_login_is_a_login_but_no_recent_one(face: str, url: str, site_of: MakeSite) -> None:
    old = a_new_cookie("u-" + face + url[:5])
    site = site_of(face, url, flask(), **KEYED)
    browser = site.browser(session=old)
    user = browser.get()["user"]
    admin = site.admin
    (device,) = admin.of(user).list()
    assert (device.method, device.authenticated_at) == ("adopted", None)
    assert admin.of(user).end_all() == 1
    assert browser.get() == NOTHING


def test_a_page_that_asks_for_a_recent_login_asks_for_the_password() -> None:
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    from coatcheck.fastapi import CurrentUser, RecentLogin, SessionMiddleware
    from tests.adoption.rig import SECRET

    app = FastAPI()
    app.add_middleware(SessionMiddleware, secret=SECRET, adopt=flask())

    @app.get("/me")
    async def me(user: CurrentUser) -> str:
        return user

    @app.get("/email", dependencies=[RecentLogin("10m")])
    async def email() -> str:
        return "changed"

    client = TestClient(app, base_url="http://localhost")
    client.cookies.set("session", OLD, domain="localhost.local")
    assert client.get("/me").json() == "7"
    answer = client.get("/email")
    assert (answer.status_code, answer.json()["detail"]["error"]) == (403, "reauth_required")


@pytest.mark.parametrize("face", FACES)
def test_a_revocation_reaches_old_cookies_issued_before_it(face: str, url: str, site_of: MakeSite) -> None:
    """A password was changed: the browser that has not come back yet is not let in with its old cookie, weeks later."""
    user = f"r-{face}-{url[:5]}"
    first, second = a_new_cookie(user), a_new_cookie(user)
    site = site_of(face, url, flask(), **KEYED)
    site.browser(session=first).get()
    site.time.now += 5
    site.admin.of(user).end_all()
    site.ears.heard()
    for later in (1, 2 * 86_400, 20 * 86_400):
        site.time.now += later
        assert site.browser(session=second).get() == NOTHING
        assert site.browser(session=first).get() == NOTHING
    assert "adoption.refused" in site.ears.heard()


@pytest.mark.parametrize("days", [1, 20])
def test_a_revocation_is_remembered_for_longer_than_the_stores_fence(days: int, site_of: MakeSite) -> None:
    store = MemoryStore(monotonic=lambda: site.time.now)
    site = site_of("wsgi", store, flask(), **KEYED)
    site.admin.of("7").end_all()
    site.time.now += days * 86_400 + 60
    site.admin.sweep()
    assert site.browser(session=OLD).get() == NOTHING


def test_a_revocation_from_elsewhere_holds_for_a_day(site_of: MakeSite) -> None:
    """By a script that does not know of old sessions: the store's own fence knows how old the cookie is."""
    store = MemoryStore(monotonic=lambda: site.time.now)
    site = site_of("wsgi", store, flask(), **KEYED)
    SessionManager(store, clock=site.time.clock).of("7").end_all()
    site.time.now += 3600
    assert site.browser(session=OLD).get() == NOTHING
    assert site.ears.heard() == ["adoption.refused"]


def test_a_cookie_issued_after_the_revocation_is_adopted(site_of: MakeSite) -> None:
    store = MemoryStore(monotonic=lambda: site.time.now)
    site = site_of("wsgi", store, flask(), **KEYED)
    site.time.now -= 3600
    site.admin.of("7").end_all()
    site.time.now += 1
    site.admin.of("7").end_all()
    site.time.now += 3599
    assert site.browser(session=OLD).get() == PAGE


def test_a_password_change_within_the_adopted_session(site_of: MakeSite) -> None:
    """`end_all(); login()` in the request that adopts."""
    store = MemoryStore()
    site = site_of("wsgi", store, flask(), **KEYED)
    from coatcheck.wsgi import SessionMiddleware, get_session
    from tests.adoption.rig import SECRET
    from tests.web.visitors import WsgiVisitor

    def app(environ: Any, start_response: Any) -> list[bytes]:
        session = get_session(environ)
        if environ["PATH_INFO"] == "/password":
            session.end_all()
            session.login("7")
        text = str(session.user_id)
        start_response("200 OK", [])
        return [text.encode()]

    browser = WsgiVisitor(SessionMiddleware(app, store=store, secret=SECRET, adopt=flask()))
    browser.cookies = {"session": OLD}
    assert browser.visit("/password").text == "7"
    assert browser.visit("/").text == "7"
    assert site.browser(session=OLD).get() == NOTHING


def test_a_full_house_is_not_evicted_and_the_old_session_waits(site_of: MakeSite) -> None:
    site = site_of("wsgi", "memory:", flask(name="old"), max_sessions=1, at_limit="deny", **KEYED)
    other = site.browser()
    other.get("/login?user=7")
    browser = site.browser(old=OLD)
    assert browser.get() == NOTHING
    assert "adoption.refused" in site.ears.heard()
    other.get("/logout")
    assert browser.get() == PAGE


def test_the_oldest_login_makes_room(site_of: MakeSite) -> None:
    site = site_of("wsgi", "memory:", flask(name="old"), max_sessions=1, **KEYED)
    other = site.browser()
    other.get("/login?user=7")
    browser = site.browser(old=OLD)
    assert browser.get() == PAGE
    assert other.get() == NOTHING


def test_a_user_of_another_shape(site_of: MakeSite) -> None:
    old = olds.starlette({"user": {"id": 5, "name": "Ada"}})
    plain = StarletteCookie(secret_key=olds.SECRET, user_key="user")
    site = site_of("wsgi", "memory:", plain)
    assert site.browser(session=old).get() == NOTHING
    (event,) = site.ears.events
    assert event.name == "adoption.refused"
    assert "to_user_id" in event.detail
    told = StarletteCookie(secret_key=olds.SECRET, user_key="user", to_user_id=lambda user: user["id"])
    assert site_of("wsgi", "memory:", told).browser(session=old).get()["user"] == "5"
    by_identity = site_of(
        "wsgi",
        "memory:",
        StarletteCookie(secret_key=olds.SECRET),
        identity=UserKey("user", to_user_id=lambda user: user["id"]),
    )
    page = by_identity.browser(session=old).get()
    assert page == {"user": "5", "data": {"user": "5"}}


def test_without_an_identity_the_framework_keeps_its_key(site_of: MakeSite) -> None:
    site = site_of("wsgi", "memory:", flask())
    assert site.browser(session=OLD).get() == {"user": "7", "data": {"_user_id": "7", "cart": ["a"]}}


@pytest.mark.parametrize("face", FACES)
def test_the_application_has_the_last_word(face: str, site_of: MakeSite) -> None:
    def no(data: Any) -> bool:
        assert data["cart"] == ["a"]
        return False

    async def later(data: Any) -> bool:
        await asyncio.sleep(0)
        return no(data)

    site = site_of(face, "memory:", flask(accept=later if face == "asgi" else no))
    assert site.browser(session=OLD).get() == NOTHING
    assert site.ears.heard() == ["adoption.refused"]
    yes = site_of(face, "memory:", flask(accept=lambda data: True))
    assert yes.browser(session=OLD).get()["user"] == "7"


# ------------------------------------------------------------------------------------------------------ what it holds


class Given:
    """An old session that holds what it is told to."""

    kind, user_key, to_user_id, accept, until = "Given", None, None, None, None
    cookie = CookieSettings(name="old")

    def __init__(self, found: Found | Refused | None) -> None:
        self.found = found

    def claim(self, value: str, now: float) -> Claim | None:
        return Claim(value, self.found)

    def blocking(self) -> None:
        return None

    awaiting = blocking


def test_what_we_cannot_store_is_left_behind_key_by_key(site_of: MakeSite) -> None:
    data: Any = {"a": 1, "nan": float("nan"), "deep": {1: 2}, 5: "five", "half \ud800": 1, "object": object()}
    site = site_of("wsgi", "memory:", Given(Found(data)))
    assert site.browser(old="x").get()["data"] == {"a": 1}
    event = next(event for event in site.ears.events if event.name == "adoption.dropped")
    assert event.detail == "'nan', 'deep', 5, 'half \\ud800', 'object'"


def test_a_session_that_is_too_large_is_not_adopted(site_of: MakeSite) -> None:
    site = site_of("wsgi", "memory:", Given(Found({"a": "x" * 2000})), max_size=1000)
    assert site.browser(old="x").get() == NOTHING
    assert site.ears.heard() == ["adoption.refused"]


def test_what_is_adopted_is_shown_nowhere(site_of: MakeSite) -> None:
    site = site_of("wsgi", "memory:", [flask(), StarletteCookie(secret_key=olds.SECRET)])
    site.browser(session=OLD).get()
    shown = f"{site.sessions.flows.options!r} {[event for event in site.ears.events]!r}"
    for secret in (olds.SECRET, OLD, OLD[-27:]):
        assert secret not in shown


# ------------------------------------------------------------------------------------- crashes, outages, lost replies


class Shelf:
    """Old sessions in a dict: an archive that can be away."""

    kind, user_key, to_user_id, accept, until = "Shelf", "user", None, None, None
    cookie = CookieSettings(name="old")

    def __init__(self, **sessions: Any) -> None:
        self.sessions, self.is_away, self.asked = dict(sessions), False, list[str]()

    def claim(self, value: str, now: float) -> Claim | None:
        return Claim(value)

    def blocking(self) -> "Shelf":
        return self

    awaiting = blocking

    async def fetch(self, key: str, now: float) -> Found | None:
        self._ask("fetch")
        return Found(self.sessions[key]) if key in self.sessions else None

    async def end(self, key: str) -> None:
        self._ask("end")
        self.sessions.pop(key, None)

    async def close(self) -> None:
        self.asked.append("close")

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.is_away:
            raise StoreUnavailable("the shelf is away")


def test_what_an_old_cookie_costs(site_of: MakeSite) -> None:
    """An id that nobody knows, or that was adopted before: one look in each place. The adoption itself: seven commands, once."""
    store, shelf = Counted(), Shelf(key={"user": "7"})
    site = site_of("wsgi", store, shelf)
    assert site.browser(old="unknown").get() == NOTHING
    assert (store.told(), shelf.asked) == (["load"], ["fetch"])
    site.browser(old="key").get()
    assert store.told() == [
        "load",
        "load",
        "admit",
        "create",
        "load",
    ]  # marker, revocation; session, marker; session
    assert shelf.asked[1:] == ["fetch", "end"]
    site.browser(old="key").get()
    assert (store.told(), shelf.asked[3:]) == (["load"], ["fetch"])


@pytest.mark.parametrize("face", FACES)
def test_while_the_old_place_is_away_the_request_fails_and_nothing_is_lost(
    face: str, site_of: MakeSite
) -> None:
    shelf = Shelf(key={"user": "7"})
    site = site_of(face, "memory:", shelf)
    browser = site.browser(old="key")
    shelf.is_away = True
    browser.get(status=503)
    assert site.ears.heard() == ["store.down"]
    assert browser.get("/pub") == "public"
    shelf.is_away = False
    assert browser.get()["user"] == "7"
    assert shelf.sessions == {}


@pytest.mark.parametrize("face", FACES)
def test_or_it_goes_on_without_a_session(face: str, site_of: MakeSite) -> None:
    shelf = Shelf(key={"user": "7"})
    site = site_of(face, "memory:", shelf, on_store_error="anonymous")
    browser = site.browser(old="key")
    shelf.is_away = True
    assert browser.get() == NOTHING
    assert browser.cookies == {"old": "key"}
    shelf.is_away = False
    assert browser.get()["user"] == "7"


def test_an_old_session_that_could_not_be_ended_is_ended_by_the_next_request(site_of: MakeSite) -> None:
    class Stubborn(Shelf):
        async def end(self, key: str) -> None:
            if self.is_away:
                raise StoreUnavailable("not now")
            await super().end(key)

    shelf = Stubborn(key={"user": "7"})
    site = site_of("wsgi", "memory:", shelf)
    shelf.is_away = True

    async def fetch(key: str, now: float) -> Found | None:
        return Found(shelf.sessions[key])

    shelf.fetch = fetch  # type: ignore[method-assign]  # it can be read
    browser = site.browser(old="key")
    assert browser.get()["user"] == "7"
    assert site.ears.heard() == ["session.adopted", "store.down"]
    shelf.is_away = False
    site.browser(old="key").get()
    assert shelf.sessions == {}


STEPS = ("load", "create", "admit", "delete")


@pytest.mark.parametrize("carried_out", [True, False])
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("verb", STEPS)
@pytest.mark.parametrize("user", ["7", None])
def test_lost_replies_lose_nothing(
    user: str | None, verb: str, times: int, carried_out: bool, site_of: MakeSite
) -> None:
    """Asked again, or answered 503; whatever had been done, the next request with the old cookie has its session."""
    line = Line(MemoryStore())
    shelf = Shelf(key={"cart": ["a"], **({"user": user} if user else {})})
    site = site_of("wsgi", ByUserVerbs(line), shelf)
    browser = site.browser(old="key")
    line.loses(verb, carried_out=carried_out, times=times)
    seen = site.answer("/", "http", "old=key")
    assert seen.status in (200, 503)
    line.plans.clear()
    page = browser.get()
    assert (page["user"], page["data"]["cart"]) == (user, ["a"])
    assert site.ears.heard().count("session.adopted") <= 1
    assert shelf.sessions == {}


def test_an_archive_is_closed_with_its_manager() -> None:
    shelf = Shelf()
    SessionManager("memory:", options=Options(adopt=shelf)).close()
    assert shelf.asked == ["close"]


def test_an_application_that_is_started_again_finds_its_old_sessions_again(redis_server: Server) -> None:
    """Around a store of its own, which stays open: what was opened for the old sessions is opened anew."""
    from starlette.testclient import TestClient

    from coatcheck.asgi import SessionMiddleware
    from tests.adoption.rig import SECRET, asgi_app

    url = f"redis://127.0.0.1:{redis_server.port}/9"
    kind = FlaskSessionInRedis(server=url, outage=PATIENT)
    app = SessionMiddleware(with_lifespan(asgi_app), store=MemoryStore(), secret=SECRET, adopt=kind)
    for user in ("1", "2"):
        old = olds.flask_session(url, {"_user_id": user})
        with TestClient(app, base_url="http://localhost", cookies={"session": old}) as client:
            assert client.get("/").json()["user"] == user


def with_lifespan(app: Any) -> Any:
    """An application that is glad to start and to end."""

    async def whole(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        for _ in range(2):
            message = await receive()
            await send({"type": f"{message['type']}.complete"})

    return whole


# --------------------------------------------------------------------------------------------------------- wrong uses


@pytest.mark.parametrize("adopt", ["flask", 5, FlaskCookie, [flask(), "x"], {"a": flask()}])
def test_what_is_no_kind_is_refused(adopt: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"adopt=.*coatcheck\.adoption"):
        Options(adopt=adopt)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: StarletteCookie(secret_key=""), "secret_key"),
        (lambda: StarletteCookie(secret_key=None), "secret_key"),
        (lambda: StarletteCookie(secret_key="s", max_age=None), "until"),
        (lambda: StarletteCookie(secret_key="s", max_age=0), "max_age"),
        (lambda: StarletteCookie(secret_key="s", until=datetime(2030, 1, 1)), "until"),
        (lambda: StarletteCookie(secret_key="s", accept=cast(Any, "yes")), "accept"),
        (lambda: StarletteCookie(secret_key="s", user_key=""), "user_key"),
        (lambda: StarletteCookie(secret_key="s", name=""), "name"),
        (lambda: StarletteCookie(secret_key="s", path="here"), "StarletteCookie.*path"),
        (lambda: FlaskCookie(secret_key="s", fallbacks="old"), "fallbacks"),
        (lambda: FlaskCookie(secret_key="s", lifetime=cast(Any, "31 days")), "lifetime"),
        (lambda: FlaskSessionInRedis(server="mysql://").blocking(), "mysql"),
        (lambda: FlaskSessionInRedis(server=5).blocking(), "redis"),
    ],
)
def test_a_wrong_setting_is_named(make: Callable[[], Any], word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        make()


def test_empty_lists_adopt_nothing() -> None:
    assert Options(adopt=[]).olds is None


# ----------------------------------------------------------------------------------------------- Flask, end to end


def test_flask_login_before_and_after() -> None:
    """Its session protection stays bound to the client that had logged in, and the login is not fresh."""
    from flask import Flask
    from flask_login import LoginManager, UserMixin, current_user, login_fresh, login_user

    from coatcheck.flask import CoatCheck

    class User(UserMixin):  # type: ignore[misc]  # has no types
        id = "7"

    def app_of(*, new: bool) -> Flask:
        app = Flask("shop")
        app.config["SECRET_KEY"] = olds.SECRET
        if new:
            CoatCheck(app, adopt=FlaskCookie.of(app))
        manager = LoginManager(app)
        manager.session_protection = "strong"
        manager.user_loader(lambda _: User())

        @app.get("/login")
        def login() -> str:
            return str(login_user(User()))

        @app.get("/")
        def home() -> str:
            return f"{current_user.is_authenticated} {login_fresh()}"

        return app

    before, here = {"User-Agent": "Firefox"}, {"User-Agent": "curl"}
    old = app_of(new=False).test_client()
    old.get("/login", headers=before)
    cookie = old.get_cookie("session")
    assert cookie is not None
    for agent, answer in ((before, "True False"), (here, "False False")):
        client = app_of(new=True).test_client()
        client.set_cookie("session", cookie.value)
        assert client.get("/", headers=agent).text == answer


def test_flask_before_and_after(site_of: MakeSite) -> None:
    """The application of yesterday, with three lines more."""
    from flask import Flask, session

    from coatcheck.flask import CoatCheck

    def app_of(*, new: bool) -> Flask:
        app = Flask("shop")
        app.config.update(SECRET_KEY=olds.SECRET, SESSION_COOKIE_NAME="shop")
        if new:
            CoatCheck(app, adopt=FlaskCookie.of(app))

        @app.get("/add/<item>")
        def add(item: str) -> list[str]:
            session["cart"] = [*session.get("cart", []), item]
            return list(session["cart"])

        return app

    before, after = app_of(new=False).test_client(), app_of(new=True).test_client()
    assert before.get("/add/a").json == ["a"]
    old = before.get_cookie("shop")
    assert old is not None
    after.set_cookie("shop", old.value)
    assert after.get("/add/b").json == ["a", "b"]
    ours = after.get_cookie("shop")
    assert ours is not None
    assert ours.value != old.value
    assert after.get("/add/c").json == ["a", "b", "c"]
