"""The published pytest plugin, over the frameworks' own test clients."""

import asyncio
import subprocess
import sys
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import flask
import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from coatcheck import CookieSettings, Options, SessionConflict, Timeouts, UsageError, WrongFace
from coatcheck.asgi import SessionMiddleware as AsgiSessions
from coatcheck.fastapi import CurrentUser, RecentLogin, SessionDep, SessionMiddleware
from coatcheck.flask import CoatCheck
from coatcheck.stores.memory import MemoryStore
from coatcheck.testing.clients import place_of
from coatcheck.testing.frozen import FrozenClock, duration
from coatcheck.testing.races import Race
from coatcheck.wsgi import SessionMiddleware as WsgiSessions

ROOT = Path(__file__).resolve().parents[2]
SECRET = "tests-only-Zt3xk0VbX1qv8m2LwP5rYd7NfQ9sHc4G"
LogIn = Callable[..., str]
Racing = Callable[..., list[Race]]

# ------------------------------------------------------------------------------------------------------ applications


def fastapi_app(**options: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, secret=SECRET, **options)

    @app.get("/me")
    async def me(user: CurrentUser, session: SessionDep) -> dict[str, Any]:
        return {"user": user, "data": dict(session), "since": session.authenticated_at}

    @app.post("/email", dependencies=[RecentLogin("10m")])
    async def email() -> str:
        return "changed"

    @app.post("/count")
    async def count(session: SessionDep) -> int:
        return int(session.increment("n"))

    @app.post("/logout")
    async def logout(session: SessionDep) -> None:
        session.logout()

    @app.post("/again")
    async def again(session: SessionDep) -> None:
        session.regenerate()

    return app


def flask_app(store: Any = "memory:", **options: Any) -> flask.Flask:
    app = flask.Flask(__name__)
    app.config.update(SECRET_KEY=SECRET, TESTING=True)
    CoatCheck(app, store=store, **options)

    @app.get("/me")
    def me() -> Any:
        session: Any = flask.session
        return {"user": session.user_id, "data": dict(session)}

    @app.post("/again")
    def again() -> str:
        session: Any = flask.session
        session.regenerate()
        return ""

    return app


async def whoami(request: Request) -> JSONResponse:
    return JSONResponse({"user": request.session.user_id})  # type: ignore[attr-defined]  # ours, not Starlette's dict


# --------------------------------------------------------------------------------------------------------- login_as


@pytest.mark.parametrize(
    "base", ["http://localhost", "http://testserver", "https://shop.example", "http://127.0.0.1:8000"]
)
def test_a_client_of_fastapi_is_logged_in(login_as: LogIn, base: str) -> None:
    client = TestClient(fastapi_app(), base_url=base)
    assert client.get("/me").status_code == 401
    handle = login_as(client, user_id="42", data={"cart": [1]})
    answer = client.get("/me").json()
    assert (answer["user"], answer["data"]) == ("42", {"cart": [1]})
    assert client.post("/count").json() == 1
    assert (len(client.cookies), len(handle)) == (1, 24)


def test_the_cookie_is_replaced_by_what_the_application_sends_later(login_as: LogIn) -> None:
    """Two of one name would both be sent, and neither believed."""
    client = TestClient(fastapi_app())
    login_as(client, "42")
    before = dict(client.cookies)
    client.post("/again")
    assert (len(client.cookies), dict(client.cookies) != before) == (1, True)
    assert client.get("/me").json()["user"] == "42"
    login_as(client, "43")
    assert client.get("/me").json()["user"] == "43"
    client.post("/logout")
    assert client.get("/me").status_code == 401
    assert len(client.cookies) == 0


@pytest.mark.parametrize("age", ["2h", 7200, timedelta(hours=2)])
def test_a_login_may_be_old(login_as: LogIn, frozen_clock: FrozenClock, age: Any) -> None:
    client = TestClient(fastapi_app(clock=frozen_clock))
    login_as(client, "42", age="5m")
    assert client.post("/email").status_code == 200
    login_as(client, "42", age=age)
    assert client.post("/email").status_code == 403
    since = datetime.fromisoformat(client.get("/me").json()["since"])
    assert since == datetime.fromtimestamp(frozen_clock.time() - 7200, UTC)


def test_an_old_login_has_been_seen_now(login_as: LogIn, frozen_clock: FrozenClock) -> None:
    """Its idle timeout is that of somebody who is there; its absolute one counts from the login."""
    times = Timeouts(idle=900, absolute=7200)
    client = TestClient(fastapi_app(clock=frozen_clock, timeouts=times))
    login_as(client, "42", age="1h")
    frozen_clock.tick(899)
    assert client.get("/me").status_code == 200
    login_as(client, "42", age=7199)
    assert client.get("/me").status_code == 200
    frozen_clock.tick(1)
    assert client.get("/me").status_code == 401
    with pytest.raises(
        UsageError, match=r"age: a login 7200 seconds ago has ended \(Timeouts.absolute=7200\)"
    ):
        login_as(client, "42", age="2h")


def test_remember_me(login_as: LogIn) -> None:
    client = TestClient(fastapi_app())
    login_as(client, "42", remember=True)
    (cookie,) = client.cookies.jar
    assert cookie.expires is not None
    login_as(client, "42")
    (cookie,) = client.cookies.jar
    assert cookie.expires is None


def test_over_sqlite(login_as: LogIn, tmp_path: Path) -> None:
    with TestClient(fastapi_app(store=f"sqlite:///{tmp_path}/s.db")) as client:
        login_as(client, "42")
        assert client.get("/me").json()["user"] == "42"


def test_an_httpx_client_of_an_async_test(login_as: LogIn) -> None:
    async def main() -> None:
        transport = httpx.ASGITransport(fastapi_app())
        async with httpx.AsyncClient(transport=transport, base_url="https://shop.example") as client:
            login_as(client, "42")
            assert (await client.get("/me")).json()["user"] == "42"

    asyncio.run(main())


def test_an_httpx_client_of_a_wsgi_application(login_as: LogIn) -> None:
    with httpx.Client(transport=httpx.WSGITransport(flask_app())) as client:
        login_as(client, "42", base_url="http://localhost:5000")
        assert client.get("http://localhost:5000/me").json()["user"] == "42"


def test_a_client_of_flask(login_as: LogIn) -> None:
    client = flask_app().test_client()
    assert client.get("/me").json == {"user": None, "data": {}}
    login_as(client, user_id="42", data={"cart": [1]})
    assert client.get("/me").json == {"user": "42", "data": {"cart": [1]}}
    client.post("/again")
    assert client.get("/me").json == {"user": "42", "data": {"cart": [1]}}


def test_a_client_of_flask_over_https(login_as: LogIn) -> None:
    client = flask_app().test_client()
    login_as(client, "42", base_url="https://localhost")
    assert client.get("/me", base_url="https://localhost").json == {"user": "42", "data": {}}
    assert client.get("/me").json == {"user": None, "data": {}}


def test_a_client_of_flask_with_a_server_name(login_as: LogIn) -> None:
    app = flask_app()
    app.config["SERVER_NAME"] = "shop.localhost"
    client = app.test_client()
    login_as(client, "42")
    assert client.get("/me").json == {"user": "42", "data": {}}


def test_a_client_without_cookies_is_told(login_as: LogIn) -> None:
    with pytest.raises(UsageError, match=r"plain HTTP to shop.example: .*https://shop.example"):
        login_as(TestClient(fastapi_app(), base_url="http://shop.example"), "42")
    with pytest.raises(UsageError, match="no test client of a known kind"):
        login_as(object(), "42")

    class Keeps:
        app = fastapi_app()

    with pytest.raises(UsageError, match="Keeps keeps no cookies"):
        login_as(Keeps(), "42")


def test_who_must_be_somebody(login_as: LogIn) -> None:
    with pytest.raises(UsageError, match="user_id=None"):
        login_as(TestClient(fastapi_app()), None)


# --------------------------------------------------------------------------------------------- finding the sessions


def wrapped(app: Any) -> Any:
    async def wrapper(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return wrapper


async def passes(request: Request, call_next: Any) -> Any:
    return await call_next(request)


def starlette_app(*middlewares: Middleware, path: str = "/me") -> Starlette:
    return Starlette(routes=[Route(path, whoami)], middleware=middlewares)


OURS = Middleware(SessionMiddleware, secret=SECRET)
BASE = Middleware(BaseHTTPMiddleware, dispatch=passes)


@pytest.mark.parametrize(
    ("app", "path"),
    [
        (starlette_app(OURS), "/me"),
        (starlette_app(BASE, OURS, BASE), "/me"),
        (AsgiSessions(starlette_app(), secret=SECRET), "/me"),
        (wrapped(AsgiSessions(starlette_app(), secret=SECRET)), "/me"),
        (Starlette(routes=[Mount("/sub", app=starlette_app(OURS))]), "/sub/me"),
        (Starlette(routes=[Mount("/sub", routes=[Route("/me", whoami)], middleware=[OURS])]), "/sub/me"),
    ],
    ids=["starlette", "between others", "outside", "in a function", "mounted", "of a mount"],
)
def test_wherever_the_middleware_is(login_as: LogIn, app: Any, path: str) -> None:
    client = TestClient(app)
    login_as(client, "42")
    assert client.get(path).json() == {"user": "42"}


def test_wherever_the_wsgi_middleware_is(login_as: LogIn) -> None:
    def inner(environ: Any, start_response: Any) -> Any:
        user = str(environ["coatcheck.session"].user_id)
        start_response("200 OK", [])
        return [user.encode()]

    def outer(environ: Any, start_response: Any) -> Any:
        return ours(environ, start_response)

    ours = WsgiSessions(inner, secret=SECRET)
    for app in (ours, outer, DispatcherMiddleware(flask.Flask(__name__), {"/x": ours})):
        client: Any = Client(app)
        login_as(client, "42")
        assert client.get("/x/").text == "42"


def test_flask_inside_a_wsgi_middleware(login_as: LogIn) -> None:
    app = flask_app()
    app.wsgi_app = WsgiSessions(app.wsgi_app, secret=SECRET, name="outer", environ_key="other")  # type: ignore[method-assign]  # as Flask documents
    with pytest.raises(UsageError, match=r"several sessions, name=.*'outer'"):
        login_as(app.test_client(), "42")
    client = app.test_client()
    login_as(client, "42", name="__Host-session")
    assert client.get("/me").json == {"user": "42", "data": {}}


def test_where_there_is_no_session_it_says_what_to_do(login_as: LogIn) -> None:
    for client in (TestClient(starlette_app()), flask.Flask(__name__).test_client()):
        with pytest.raises(
            UsageError, match=r"no session of coatcheck was found in .*: add SessionMiddleware"
        ):
            login_as(client, "42")
    with pytest.raises(UsageError, match="whose cookie is called 'other'"):
        login_as(TestClient(starlette_app(OURS)), "42", name="other")


def test_looking_builds_starlettes_middleware_once() -> None:
    app = starlette_app(OURS)
    found = place_of(app)
    assert app.middleware_stack is not None
    assert place_of(app) == found


def test_attributes_that_raise_are_passed_over() -> None:
    class Lazy:
        @property
        def app(self) -> Any:
            raise RuntimeError("outside of application context")

        routes = 5

    with pytest.raises(UsageError, match="found in Lazy"):
        place_of(Lazy())


def test_a_store_for_event_loops_only_is_told(login_as: LogIn) -> None:
    class Awaiting:
        def blocking(self) -> Any:
            raise WrongFace("this client awaits")

        def awaiting(self) -> Any:
            return MemoryStore()

    with pytest.raises(UsageError, match=r"Awaiting cannot: .*memory:"):
        login_as(TestClient(fastapi_app(store=Awaiting())), "42")


def test_path_and_name_of_the_cookie_are_the_applications(login_as: LogIn) -> None:
    app = starlette_app(
        Middleware(SessionMiddleware, secret=SECRET, cookie=CookieSettings(name="sid", path="/sub")),
        path="/sub/me",
    )
    client = TestClient(app)
    login_as(client, "42")
    assert client.get("/sub/me").json() == {"user": "42"}
    (cookie,) = client.cookies.jar
    assert (cookie.name, cookie.path) == ("sid", "/sub")


# ------------------------------------------------------------------------------------------------------ frozen_clock


def test_sessions_age_by_ticks_alone(login_as: LogIn, frozen_clock: FrozenClock) -> None:
    client = TestClient(fastapi_app(clock=frozen_clock))
    login_as(client, "42")
    frozen_clock.tick("23h")
    assert client.get("/me").status_code == 200
    frozen_clock.tick(timedelta(hours=23))
    assert client.get("/me").status_code == 200
    frozen_clock.tick(86_400)
    assert client.get("/me").status_code == 401


def test_the_clock_stands_still_and_begins_now_or_when_it_is_told() -> None:
    clock = FrozenClock(100.0)
    assert (clock.time(), clock.time()) == (100.0, 100.0)
    assert clock.tick("1m") == clock.time() == 160.0
    assert repr(clock) == "<FrozenClock at 160.0>"
    assert clock.monotonic() <= clock.monotonic()
    assert FrozenClock().time() > 1_700_000_000


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("90s", 90),
        ("10m", 600),
        ("1.5h", 5400),
        ("30d", 2_592_000),
        (5, 5),
        (0.5, 0.5),
        (timedelta(minutes=1), 60),
    ],
)
def test_durations(value: Any, seconds: float) -> None:
    assert duration(value) == seconds


@pytest.mark.parametrize("value", ["", "2 h", "h", "2w", "-1h", None, True, []])
def test_what_is_no_duration(value: Any) -> None:
    with pytest.raises(UsageError, match=r'give seconds, a timedelta or a text such as "90s"'):
        duration(value)


# -------------------------------------------------------------------------------------------------------------- race


def test_a_race_finds_what_gets_lost(race: Racing) -> None:
    def add_carelessly(item: str) -> Callable[[Any], None]:
        return lambda session: session.update(cart=[*session["cart"], item])

    def add(item: str) -> Callable[[Any], Any]:
        return lambda session: session.apply("cart", lambda cart: [*cart, item])

    careless = race(add_carelessly("apple"), add_carelessly("pear"), data={"cart": []})
    lost = [run for run in careless if len(run.data["cart"]) < 2]
    assert lost
    assert all("session.conflict" in run.events for run in lost)
    assert any(len(run.data["cart"]) == 2 for run in careless)

    careful = race(add("apple"), add("pear"), data={"cart": []})
    assert {tuple(sorted(run.data["cart"])) for run in careful} == {("apple", "pear")}


def test_every_order_is_run_once(race: Racing) -> None:
    two = race(len, len)
    assert len({run.order for run in two}) == len(two) == 20
    assert two[0].order == "A loads, A runs, A commits, B loads, B runs, B commits"
    three = race(len, len, len)
    assert len({run.order for run in three}) == len(three) == 1680


def test_a_race_goes_by_the_applications_options(race: Racing) -> None:
    def tag(name: str) -> Callable[[Any], None]:
        return lambda session: session.update(tags=[*session["tags"], name])

    options = Options(merge={"tags": lambda base, theirs, mine: sorted({*theirs, *mine})})
    assert all(
        sorted(run.data["tags"]) == ["a", "b"]
        for run in race(tag("a"), tag("b"), data={"tags": []}, options=options)
    )

    strict = race(tag("a"), tag("b"), data={"tags": []}, options=Options(on_conflict="raise"))
    refused = [run for run in strict if any(isinstance(answer, SessionConflict) for answer in run.answers)]
    assert 0 < len(refused) < 20
    assert all(len(run.data["tags"]) == 1 for run in refused)


def test_a_race_against_a_logout(race: Racing) -> None:
    """Nothing comes back, whoever is last."""
    runs = race(lambda s: s.logout(), lambda s: s.update(late=True), data={"a": 1}, user_id="42")
    assert all(run.user_id is None and "a" not in run.data for run in runs)


def test_async_requests_race_too(race: Racing) -> None:
    async def take(session: Any) -> Any:
        return await session.take("state")

    def count(session: Any) -> Any:
        return session.increment("n")

    for run in race(take, take, count, data={"state": "xyz"}):
        assert sorted(run.answers[:2], key=str) == [None, "xyz"]
        assert run.data == {"n": 1}


def test_what_a_request_raises_comes_with_the_order(race: Racing) -> None:
    def fails(session: Any) -> None:
        if session.increment("n") == 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as raised:
        race(fails, fails)
    assert raised.value.__notes__ == ["in the order: A loads, A runs, A commits, B loads, B runs"]


def test_an_async_request_that_waits_for_something_else_is_told(race: Racing) -> None:
    async def waits(session: Any) -> None:
        await asyncio.sleep(0)

    with pytest.raises(WrongFace):
        race(waits, waits)


@pytest.mark.parametrize("number", [0, 1, 4])
def test_two_or_three_can_race(race: Racing, number: int) -> None:
    with pytest.raises(UsageError, match=f"two or three requests, not {number}"):
        race(*[len] * number)


# ------------------------------------------------------------------------------------------------------ as a plugin


def test_it_is_registered_with_pytest() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"coatcheck": "coatcheck.testing.plugin"}


def test_a_test_of_an_application_runs_with_it(tmp_path: Path) -> None:
    """In a pytest of its own, with the fixtures as an application's tests find them."""
    (tmp_path / "test_shop.py").write_text(
        "def test_shop(login_as, frozen_clock, race):\n"
        "    frozen_clock.tick('2h')\n"
        "    assert all(run.data == {'n': 2} for run in race(*[lambda s: s.increment('n')] * 2))\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:coatcheck",
        "-p",
        "coatcheck.testing.plugin",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        [*command, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_no_web_framework_is_imported_for_it() -> None:
    frameworks = [
        "fastapi",
        "starlette",
        "flask",
        "werkzeug",
        "httpx",
        "quart",
        "litestar",
        "aiohttp",
        "django",
    ]
    code = (
        f"import sys, coatcheck.testing.plugin; print([name for name in {frameworks} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
