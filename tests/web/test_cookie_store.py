"""Sessions in the cookie itself, in every framework: a large one, a small one, a login, a logout, and a copy afterwards."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from fastapi import FastAPI
from flask import Flask
from flask import session as flask_session
from litestar import Litestar, get
from litestar.connection import Request as LitestarRequest
from quart import Quart
from quart import session as quart_session
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from coatcheck import aiohttp as aiohttp_sessions
from coatcheck.fastapi import SessionDep
from coatcheck.flask import CoatCheck
from coatcheck.litestar import CoatCheck as LitestarCoatCheck
from coatcheck.quart import CoatCheck as QuartCoatCheck
from coatcheck.starlette import SessionMiddleware
from coatcheck.stores.cookie import CookieStore
from coatcheck.stores.memory import MemoryStore
from coatcheck.testing.clients import login_as
from tests.web.paths import SECRET

BASE = "https://shop.example"
NAME = "__Host-session"


def store() -> CookieStore:
    return CookieStore(revocation="epoch", store=MemoryStore())


def act(session: Any, page: str) -> dict[str, Any]:
    """What every application does, whatever serves it."""
    if page == "large":
        session["note"] = "x" * 4_500
    elif page == "small":
        session["note"] = "small"
    elif page == "login":
        session.login("ada")
    elif page == "logout":
        session.logout()
    return {"user": session.user_id, "note": len(session.get("note", "")), "handle": session.handle}


def starlette() -> Any:
    async def page(request: Request) -> JSONResponse:
        return JSONResponse(act(request.session, request.path_params["page"]))

    app = Starlette(routes=[Route("/{page}", page)])
    app.add_middleware(SessionMiddleware, store=store(), secret=SECRET)
    return app


def fastapi() -> Any:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, store=store(), secret=SECRET)

    @app.get("/{page}")
    async def page(session: SessionDep, page: str) -> dict[str, Any]:
        return act(session, page)

    return app


def litestar() -> Any:
    @get("/{page:str}")
    async def handler(request: LitestarRequest[Any, Any, Any]) -> dict[str, Any]:
        return act(request.session, request.path_params["page"])

    return Litestar([handler], plugins=[LitestarCoatCheck(store=store(), secret=SECRET)])


def quart() -> Any:
    app = Quart(__name__)
    app.secret_key = SECRET
    QuartCoatCheck(app, store=store())

    @app.get("/<page>")
    async def page(page: str) -> dict[str, Any]:
        return act(quart_session, page)

    return app


def flask() -> Any:
    app = Flask(__name__)
    app.secret_key = SECRET
    CoatCheck(app, store=store())

    @app.get("/<page>")
    def page(page: str) -> dict[str, Any]:
        return act(flask_session, page)

    return app


Ask = Callable[[str, dict[str, str]], Awaitable[httpx.Response]]


@asynccontextmanager
async def asgi(app: Any) -> AsyncIterator[Ask]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE) as client:
        yield lambda page, headers: client.get(f"/{page}", headers=headers)


@asynccontextmanager
async def wsgi(app: Any) -> AsyncIterator[Ask]:
    with httpx.Client(transport=httpx.WSGITransport(app), base_url=BASE) as client:

        async def ask(page: str, headers: dict[str, str]) -> httpx.Response:
            return client.get(f"/{page}", headers=headers)

        yield ask


@asynccontextmanager
async def aiohttp(_: Any) -> AsyncIterator[Ask]:
    async def page(request: web.Request) -> web.Response:
        session = await aiohttp_sessions.get_session(request)
        return web.json_response(act(session, request.match_info["page"]))

    app = web.Application()
    app.add_routes([web.get("/{page}", page)])
    aiohttp_sessions.setup(app, store=store(), secret=SECRET, proxy=True)
    async with TestServer(app) as server, httpx.AsyncClient(base_url=str(server.make_url("/"))) as client:
        yield lambda page, headers: client.get(page, headers=headers | {"x-forwarded-proto": "https"})


class Visitor:
    """A browser, as far as cookies go."""

    def __init__(self, ask: Ask, jar: dict[str, str] | None = None) -> None:
        self.ask, self.jar = ask, dict(jar or {})

    async def get(self, page: str) -> dict[str, Any]:
        header = "; ".join(f"{name}={value}" for name, value in self.jar.items())
        response = await self.ask(page, {"host": "shop.example"} | ({"cookie": header} if header else {}))
        assert response.status_code == 200, response.text
        for field in response.headers.get_list("set-cookie"):
            name, _, value = field.split(";")[0].partition("=")
            if "Max-Age=0" in field:
                self.jar.pop(name, None)
            else:
                self.jar[name] = value
        told: dict[str, Any] = response.json()
        return told


FACES: dict[str, tuple[Any, Any]] = {
    "starlette": (asgi, starlette),
    "fastapi": (asgi, fastapi),
    "litestar": (asgi, litestar),
    "quart": (asgi, quart),
    "flask": (wsgi, flask),
    "aiohttp": (aiohttp, lambda: None),
}


@pytest.mark.parametrize(("serve", "make"), FACES.values(), ids=FACES)
def test_a_session_in_the_cookie_itself(serve: Any, make: Any) -> None:
    async def main() -> None:
        async with serve(make()) as ask:
            visitor = Visitor(ask)
            assert (await visitor.get("read"))["note"] == 0
            assert visitor.jar == {}
            await visitor.get("large")
            assert list(visitor.jar) == [NAME, f"{NAME}.1"]
            assert (await visitor.get("read"))["note"] == 4_500
            await visitor.get("login")
            await visitor.get("small")
            assert list(visitor.jar) == [NAME]
            told = await visitor.get("read")
            assert (told["user"], told["note"]) == ("ada", 5)
            thief = Visitor(ask, visitor.jar)
            await visitor.get("logout")
            assert visitor.jar == {}
            told = await thief.get("read")
            assert (told["user"], told["note"]) == (None, 0)

    asyncio.run(main())


@contextmanager
def a_client(app: Any) -> Iterator[Any]:
    from starlette.testclient import TestClient

    with TestClient(app, base_url=BASE) as client:
        yield client


def test_a_test_client_is_logged_in_over_several_cookies() -> None:
    with a_client(starlette()) as client:
        login_as(client, "ada", data={"note": "x" * 4_500})
        told = client.get("/read").json()
        assert (told["user"], told["note"]) == ("ada", 4_500)
    flask_app = flask()
    client = flask_app.test_client()
    login_as(client, "ada", data={"note": "x" * 4_500}, base_url="https://localhost")
    told = client.get("/read", base_url="https://localhost").get_json()
    assert (told["user"], told["note"]) == ("ada", 4_500)
