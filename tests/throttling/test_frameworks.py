"""A throttled login and a limited route in each framework, driven by that framework's own client.

Everywhere alike: 429 with Retry-After and the RateLimit fields, no session stored for it, the device cookie after a login.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from coatcheck.throttling import LoginThrottle
from tests.security.rig import SECRET

RIGHT = "correct horse"


class Answer(NamedTuple):
    status: int
    headers: Any
    """Of whichever kind the framework's client has: by name, whatever its case."""
    cookies: list[str]
    text: str


class Ask:
    """Asks for a page of one application."""

    def __init__(self, fetch: Callable[[str], Answer], *closes: Callable[[], object]) -> None:
        self._fetch, self._closes = fetch, closes

    def __call__(self, path: str) -> Answer:
        return self._fetch(path)

    def close(self) -> None:
        for close in self._closes:
            close()


def throttle() -> LoginThrottle:
    return LoginThrottle(by_account="3/minute", by_address="100/minute")


def asgi_client(app: Any) -> Ask:
    import httpx2

    client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="https://shop.example")
    runner = asyncio.Runner()

    def ask(path: str) -> Answer:
        response = runner.run(client.get(path))
        return Answer(
            response.status_code, response.headers, response.headers.get_list("set-cookie"), response.text
        )

    return Ask(ask, lambda: runner.run(client.aclose()), runner.close)


def with_fastapi() -> Ask:
    from fastapi import FastAPI, Request

    from coatcheck.fastapi import RateLimit, SessionDep, SessionMiddleware

    app, logins = FastAPI(), throttle()
    app.add_middleware(SessionMiddleware, secret=SECRET)

    @app.get("/login")
    async def login(request: Request, session: SessionDep, password: str) -> str:
        async with logins.attempt(request, account="ada") as attempt:
            attempt.succeeded = password == RIGHT
        if attempt.succeeded:
            session.login("ada")
        return "in" if attempt.succeeded else "wrong"

    @app.get("/limited", dependencies=[RateLimit("2/minute")])
    async def limited() -> str:
        return "limited"

    return asgi_client(app)


def with_starlette() -> Ask:
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route

    from coatcheck.starlette import RateLimit, SessionMiddleware

    logins = throttle()

    async def login(request: Request) -> Response:
        async with logins.attempt(request, account="ada") as attempt:
            attempt.succeeded = request.query_params["password"] == RIGHT
        if attempt.succeeded:
            request.session.login("ada")  # type: ignore[attr-defined]  # ours
        return PlainTextResponse("in" if attempt.succeeded else "wrong")

    @RateLimit("2/minute")
    async def limited(request: Request) -> Response:
        return PlainTextResponse("limited")

    routes = [Route("/login", login), Route("/limited", limited)]
    return asgi_client(Starlette(routes=routes, middleware=[Middleware(SessionMiddleware, secret=SECRET)]))


def with_litestar() -> Ask:
    from litestar import Litestar, Request, get

    from coatcheck.litestar import CoatCheck, RateLimit

    logins = throttle()

    @get("/login")
    async def login(request: Request[Any, Any, Any]) -> str:
        async with logins.attempt(request, account="ada") as attempt:
            attempt.succeeded = request.query_params["password"] == RIGHT
        if attempt.succeeded:
            request.session.login("ada")  # type: ignore[attr-defined]  # ours
        return "in" if attempt.succeeded else "wrong"

    @get("/limited", guards=[RateLimit("2/minute")])
    async def limited() -> str:
        return "limited"

    return asgi_client(Litestar(route_handlers=[login, limited], plugins=[CoatCheck(secret=SECRET)]))


def with_quart() -> Ask:
    from quart import Quart, request, session

    from coatcheck.quart import CoatCheck, RateLimit

    app, logins = Quart(__name__), throttle()
    app.secret_key = SECRET
    CoatCheck(app)

    @app.get("/login")
    async def login() -> str:
        async with logins.attempt(request, account="ada") as attempt:
            attempt.succeeded = request.args["password"] == RIGHT
        if attempt.succeeded:
            session.login("ada")  # type: ignore[attr-defined]  # ours
        return "in" if attempt.succeeded else "wrong"

    @app.get("/limited")
    @RateLimit("2/minute")
    async def limited() -> str:
        return "limited"

    return asgi_client(app)


def with_flask() -> Ask:
    from flask import Flask, request, session

    from coatcheck.flask import CoatCheck, RateLimit

    app, logins = Flask(__name__), throttle()
    app.secret_key = SECRET
    CoatCheck(app)

    @app.get("/login")
    def login() -> str:
        with logins.attempt(request, account="ada") as attempt:
            attempt.succeeded = request.args["password"] == RIGHT
        if attempt.succeeded:
            session.login("ada")  # type: ignore[attr-defined]  # ours
        return "in" if attempt.succeeded else "wrong"

    @app.get("/limited")
    @RateLimit("2/minute")
    def limited() -> str:
        return "limited"

    client = app.test_client()

    def ask(path: str) -> Answer:
        response = client.get(path, base_url="https://shop.example")
        return Answer(
            response.status_code, response.headers, response.headers.getlist("Set-Cookie"), response.text
        )

    return Ask(ask)


def with_wsgi() -> Ask:
    from urllib.parse import parse_qs

    from werkzeug.test import Client

    from coatcheck.throttling import RateLimit
    from coatcheck.wsgi import SessionMiddleware, get_session

    logins, limit = throttle(), RateLimit("2/minute")

    def app(environ: Any, start_response: Any) -> Any:
        text = "limited"
        if environ["PATH_INFO"] == "/login":
            with logins.attempt(environ, account="ada") as attempt:
                attempt.succeeded = parse_qs(environ["QUERY_STRING"])["password"] == [RIGHT]
            text = "in" if attempt.succeeded else "wrong"
            if attempt.succeeded:
                get_session(environ).login("ada")
        else:
            limit.check(environ)
        start_response("200 OK", [("content-type", "text/plain")])
        return [text.encode()]

    client = Client(SessionMiddleware(app, secret=SECRET))

    def ask(path: str) -> Answer:
        response = client.get(path, base_url="https://shop.example")
        return Answer(
            response.status_code, response.headers, response.headers.getlist("Set-Cookie"), response.text
        )

    return Ask(ask)


def with_aiohttp() -> Ask:
    from aiohttp import web
    from aiohttp.test_utils import TestClient, TestServer

    from coatcheck.aiohttp import RateLimit, get_session, setup

    logins = throttle()
    app = web.Application()
    setup(app, secret=SECRET)

    async def login(request: web.Request) -> web.Response:
        async with logins.attempt(request, account="ada") as attempt:
            attempt.succeeded = request.query["password"] == RIGHT
        if attempt.succeeded:
            (await get_session(request)).login("ada")
        return web.Response(text="in" if attempt.succeeded else "wrong")

    @RateLimit("2/minute")
    async def limited(request: web.Request) -> web.Response:
        return web.Response(text="limited")

    app.router.add_get("/login", login)
    app.router.add_get("/limited", limited)
    runner = asyncio.Runner()

    async def begin() -> TestClient[Any, Any]:
        client = TestClient(TestServer(app))
        await client.start_server()
        return client

    client = runner.run(begin())

    async def fetch(path: str) -> Answer:
        response = await client.get(path)
        cookies = response.headers.getall("Set-Cookie", [])
        return Answer(response.status, response.headers, list(cookies), await response.text())

    def ask(path: str) -> Answer:
        return runner.run(fetch(path))

    return Ask(ask, lambda: runner.run(client.close()), runner.close)


FRAMEWORKS = {
    "fastapi": with_fastapi,
    "starlette": with_starlette,
    "litestar": with_litestar,
    "quart": with_quart,
    "flask": with_flask,
    "wsgi": with_wsgi,
    "aiohttp": with_aiohttp,
}


@pytest.fixture(params=FRAMEWORKS)
def ask(request: pytest.FixtureRequest) -> Iterator[Ask]:
    ask = FRAMEWORKS[request.param]()
    yield ask
    ask.close()


def test_a_login_is_throttled_and_the_owner_is_known(ask: Ask) -> None:
    answer = ask("/login?password=correct%20horse")
    assert (answer.status, answer.text.strip('"')) == (200, "in")
    (device,) = [line for line in answer.cookies if "device=" in line]
    assert "HttpOnly" in device
    assert "SameSite=Lax" in device
    assert answer.headers["cache-control"] == "no-store"
    for _ in range(10):  # this browser is known, and has its own count
        assert ask("/login?password=guess").text.strip('"') == "wrong"
    for _ in range(3):  # it is known no more, and counts with the strangers
        assert ask("/login?password=guess").text.strip('"') == "wrong"
    blocked = ask("/login?password=correct%20horse")
    assert blocked.status == 429
    assert 1 <= int(blocked.headers["retry-after"]) <= 60
    assert blocked.text == "Too many attempts. Please try again later.\n"
    assert blocked.headers["cache-control"] == "no-store"
    assert blocked.cookies == []


def test_a_route_is_limited_and_says_so(ask: Ask) -> None:
    for left in (1, 0):
        answer = ask("/limited")
        assert (answer.status, answer.text.strip('"')) == (200, "limited")
        assert answer.headers["ratelimit-policy"] == '"default";q=2;w=60'
        assert answer.headers["ratelimit"].startswith(f'"default";r={left};t=')
        assert answer.cookies == []
        assert "vary" not in answer.headers
    blocked = ask("/limited")
    assert blocked.status == 429
    assert 1 <= int(blocked.headers["retry-after"]) <= 60
    assert blocked.headers["ratelimit"].startswith('"default";r=0;t=')
    assert blocked.headers["ratelimit-policy"] == '"default";q=2;w=60'
