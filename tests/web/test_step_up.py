"""What a sensitive act asks of a login, in every framework's own way: a recent proof, a strong method. Django's: `djangos`."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient as AiohttpClient
from aiohttp.test_utils import TestServer
from fastapi import FastAPI
from fastapi.testclient import TestClient
from flask import Flask
from flask import session as flask_session
from litestar import Litestar, get, post
from litestar.testing import TestClient as LitestarClient
from quart import Quart
from quart import session as quart_session
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from coatcheck import ConfigurationError
from coatcheck import aiohttp as on_aiohttp
from coatcheck import fastapi as on_fastapi
from coatcheck import flask as on_flask
from coatcheck import litestar as on_litestar
from coatcheck import quart as on_quart
from coatcheck import starlette as on_starlette
from coatcheck.testing.frozen import FrozenClock
from tests.web.apps import SECRET

Ask = Callable[[str], int]
"""A path -> the status of a POST to it, by one browser."""


def act(path: str, session: Any) -> None:
    """What the pages that are not guarded do."""
    if path == "login":
        session.login("ada")
    else:
        session.reauthenticate(method="otp")


def in_fastapi(clock: FrozenClock) -> Iterator[Ask]:
    app = FastAPI()
    app.add_middleware(on_fastapi.SessionMiddleware, secret=SECRET, clock=clock)

    @app.post("/recent", dependencies=[on_fastapi.RecentLogin("10m")])
    async def recent() -> None: ...

    @app.post("/strong", dependencies=[on_fastapi.RequireMethod("otp", "hwk")])
    async def strong() -> None: ...

    @app.post("/{path}")
    async def other(path: str, session: on_fastapi.SessionDep) -> None:
        act(path, session)

    client = TestClient(app)
    yield lambda path: client.post(f"/{path}").status_code


def in_starlette(clock: FrozenClock) -> Iterator[Ask]:
    @on_starlette.recent_login("10m")
    async def recent(request: Request) -> PlainTextResponse:
        return PlainTextResponse("done")

    @on_starlette.require_method("otp", "hwk")
    async def strong(request: Request) -> PlainTextResponse:
        return PlainTextResponse("done")

    async def other(request: Request) -> PlainTextResponse:
        act(request.path_params["path"], request.session)
        return PlainTextResponse("done")

    pages = {"/recent": recent, "/strong": strong, "/{path}": other}
    app = Starlette(routes=[Route(path, page, methods=["POST"]) for path, page in pages.items()])
    app.add_middleware(on_starlette.SessionMiddleware, secret=SECRET, clock=clock)
    client = TestClient(app)
    yield lambda path: client.post(f"/{path}").status_code


def in_litestar(clock: FrozenClock) -> Iterator[Ask]:
    @post("/recent", guards=[on_litestar.RecentLogin("10m")], status_code=200)
    async def recent() -> None: ...

    @post("/strong", guards=[on_litestar.RequireMethod("otp", "hwk")], status_code=200)
    async def strong() -> None: ...

    @post("/login", status_code=200)
    async def login(session: on_litestar.SessionDep) -> None:
        act("login", session)

    @post("/otp", status_code=200)
    async def otp(session: on_litestar.SessionDep) -> None:
        act("otp", session)

    @get("/")
    async def home() -> None: ...

    plugin = on_litestar.CoatCheck(secret=SECRET, clock=clock)
    with LitestarClient(Litestar([recent, strong, login, otp, home], plugins=[plugin])) as client:
        yield lambda path: client.post(f"/{path}").status_code


def in_flask(clock: FrozenClock) -> Iterator[Ask]:
    app = Flask(__name__)
    on_flask.CoatCheck(app, secret=SECRET, clock=clock)

    @app.post("/recent")
    @on_flask.recent_login("10m")
    def recent() -> str:
        return "done"

    @app.post("/strong")
    @on_flask.require_method("otp", "hwk")
    async def strong() -> str:
        return "done"

    @app.post("/<path>")
    def other(path: str) -> str:
        act(path, flask_session)
        return "done"

    client = app.test_client()
    yield lambda path: client.post(f"/{path}").status_code


def in_quart(clock: FrozenClock) -> Iterator[Ask]:
    app = Quart(__name__)
    on_quart.CoatCheck(app, secret=SECRET, clock=clock)

    @app.post("/recent")
    @on_quart.recent_login("10m")
    async def recent() -> str:
        return "done"

    @app.post("/strong")
    @on_quart.require_method("otp", "hwk")
    async def strong() -> str:
        return "done"

    @app.post("/<path>")
    async def other(path: str) -> str:
        act(path, quart_session)
        return "done"

    client = app.test_client()
    with asyncio.Runner() as runner:

        async def status(path: str) -> int:
            return (await client.post(f"/{path}")).status_code

        yield lambda path: runner.run(status(path))


def in_aiohttp(clock: FrozenClock) -> Iterator[Ask]:
    @on_aiohttp.recent_login("10m")
    async def recent(request: web.Request) -> web.Response:
        return web.Response()

    @on_aiohttp.require_method("otp", "hwk")
    async def strong(request: web.Request) -> web.Response:
        return web.Response()

    async def other(request: web.Request) -> web.Response:
        act(request.match_info["path"], await on_aiohttp.get_session(request))
        return web.Response()

    app = web.Application()
    on_aiohttp.setup(app, store="memory:", secret=SECRET, clock=clock)
    app.router.add_post("/recent", recent)
    app.router.add_post("/strong", strong)
    app.router.add_post("/{path}", other)
    with asyncio.Runner() as runner:
        client: Any = None

        async def begin() -> Any:
            made = AiohttpClient(TestServer(app))
            await made.start_server()
            return made

        client = runner.run(begin())

        async def status(path: str) -> int:
            async with client.post(f"/{path}") as response:
                return int(response.status)

        yield lambda path: runner.run(status(path))
        runner.run(client.close())


@pytest.mark.parametrize("framework", [in_fastapi, in_starlette, in_litestar, in_flask, in_quart, in_aiohttp])
def test_a_sensitive_act_asks_for_a_proof(framework: Callable[[FrozenClock], Iterator[Ask]]) -> None:
    clock = FrozenClock()
    rig = framework(clock)
    ask = next(rig)
    assert (ask("recent"), ask("strong")) == (401, 401)
    assert ask("login") in (200, 201)
    assert (ask("recent"), ask("strong")) == (200, 403)
    clock.tick("11m")
    assert (ask("recent"), ask("strong")) == (403, 403)
    assert ask("otp") in (200, 201)
    assert (ask("recent"), ask("strong")) == (200, 200)
    assert next(rig, None) is None


@pytest.mark.parametrize("decorate", [on_flask, on_quart, on_starlette, on_aiohttp])
def test_a_guard_that_cannot_work_is_refused_at_start_up(decorate: Any) -> None:
    with pytest.raises(ConfigurationError, match="RecentLogin"):
        decorate.recent_login(600)
    with pytest.raises(ConfigurationError, match="one or several names"):
        decorate.require_method()
    with pytest.raises(ConfigurationError, match="async def"):
        on_starlette.recent_login("10m")(lambda request: request)
