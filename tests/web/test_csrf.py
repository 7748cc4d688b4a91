"""CSRF protection in every framework, through that framework's own client: the same questions, the same answers."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, cast

import pytest
from aiohttp import WSServerHandshakeError, web
from aiohttp.test_utils import TestClient as AiohttpClient
from aiohttp.test_utils import TestServer as AiohttpServer
from click.testing import CliRunner
from fastapi import FastAPI, Request
from flask import Blueprint, Flask, render_template_string
from flask import session as flask_session
from litestar import Litestar
from litestar import Request as LitestarRequest
from litestar import get as litestar_get
from litestar import post as litestar_post
from litestar.middleware.base import DefineMiddleware
from litestar.testing import TestClient as LitestarClient
from quart import Quart
from quart import render_template_string as quart_render
from quart import session as quart_session
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse

from coatcheck import (
    ConfigurationError,
    OutsideRequest,
    asgi,
    fastapi,
    flask,
    litestar,
    quart,
    starlette,
    wsgi,
)
from coatcheck import aiohttp as for_aiohttp
from coatcheck.security.csrf import NON_BROWSERS
from coatcheck.tools.cli import main

SECRET = "vQ0m6nTzKxw3Jr8LdYbPfE5sGh1UaC9oXiR2tWqNyZk"
APP, EVIL = "https://shop.example", "https://evil.example"
URL = "https://testserver.local"
PROMISE = "__Host-session-csrf"
Answer = tuple[int, str, dict[str, str]]


class Site(NamedTuple):
    """An application with `GET /token`, `POST /act`, `POST /login`, `POST /logout` and an exempt `POST /hook`."""

    ask: Callable[..., Answer]
    """Method, path, form and headers; keeps cookies."""

    def token(self) -> str:
        status, text, headers = self.ask("GET", "/token")
        assert (status, len(text.strip('"'))) == (200, 64), text
        assert "cookie" in headers["vary"].lower()
        assert headers["cache-control"] in ("no-store", "private")
        return text.strip('"')


def by_client(client: Any) -> Site:
    """Over a client with the words of httpx."""

    def ask(method: str, path: str, form: dict[str, str] | None = None, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        seen = client.request(method, URL + path, data=form, headers=named)
        return seen.status_code, seen.text, {name.lower(): value for name, value in seen.headers.items()}

    return Site(ask)


def by_werkzeug(client: Any) -> Site:
    def ask(method: str, path: str, form: dict[str, str] | None = None, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        seen = client.open(path, method=method, data=form, headers=named, base_url=URL)
        return seen.status_code, seen.text, {name.lower(): value for name, value in seen.headers.items()}

    return Site(ask)


# ------------------------------------------------------------------------------------------------- the applications


def a_fastapi(**options: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(fastapi.CsrfMiddleware, exempt=["/hook"], **options)
    app.add_middleware(fastapi.SessionMiddleware, secret=SECRET)

    @app.get("/token")
    async def token(request: Request) -> str:
        return fastapi.csrf_token(request)

    @app.post("/act")
    async def act(request: Request) -> int:
        return len(await request.form())

    @app.post("/hook")
    def hook() -> None: ...

    @app.post("/login")
    def login(session: fastapi.SessionDep) -> None:
        session.login("ada")

    @app.post("/logout")
    def logout(session: fastapi.SessionDep) -> None:
        session.logout()

    return app


@contextmanager
def on_fastapi(**options: Any) -> Iterator[Site]:
    with TestClient(a_fastapi(**options), base_url=URL) as client:
        yield by_client(client)


@contextmanager
def on_starlette_lazily(**options: Any) -> Iterator[Site]:
    async def token(request: Any) -> PlainTextResponse:
        await starlette.get_session(request)
        field = starlette.csrf_field(request)
        return PlainTextResponse(field.partition('value="')[2].partition('"')[0])

    async def act(request: Any) -> PlainTextResponse:
        return PlainTextResponse(str(len(await request.form())))

    async def login(request: Any) -> PlainTextResponse:
        (await starlette.get_session(request)).login("ada")
        return PlainTextResponse("")

    async def logout(request: Any) -> PlainTextResponse:
        (await starlette.get_session(request)).logout()
        return PlainTextResponse("")

    routes = [
        Route("/token", token), Route("/act", act, methods=["POST"]), Route("/hook", act, methods=["POST"]),
        Route("/login", login, methods=["POST"]), Route("/logout", logout, methods=["POST"]),
    ]  # fmt: skip
    middleware = [
        Middleware(starlette.SessionMiddleware, secret=SECRET, lazy=True),
        Middleware(starlette.CsrfMiddleware, exempt=["/hook"], **options),
    ]
    with TestClient(Starlette(routes=routes, middleware=middleware), base_url=URL) as client:
        yield by_client(client)


@contextmanager
def on_litestar(**options: Any) -> Iterator[Site]:
    @litestar_get("/token", media_type="text/plain")
    async def token(request: LitestarRequest[Any, Any, Any]) -> str:
        return litestar.csrf_token(request)

    @litestar_post("/act", media_type="text/plain")
    async def act(request: LitestarRequest[Any, Any, Any]) -> str:
        return str(len(await request.form()))

    @litestar_post("/hook", skip_csrf=True)
    async def hook() -> None: ...

    @litestar_post("/sessionless", skip_session=True)
    async def sessionless() -> None: ...

    @litestar_post("/login")
    async def login(session: litestar.SessionDep) -> None:
        session.login("ada")

    @litestar_post("/logout")
    async def logout(session: litestar.SessionDep) -> None:
        session.logout()

    app = Litestar(
        [token, act, hook, sessionless, login, logout],
        plugins=[litestar.CoatCheck(secret=SECRET)],
        middleware=[DefineMiddleware(litestar.CsrfMiddleware, **options)],
    )
    with LitestarClient(app, base_url=URL) as client:
        site = by_client(client)
        assert site.ask("POST", "/sessionless")[0] == 201  # nothing of a session's to protect
        yield site


@contextmanager
def on_flask(**options: Any) -> Iterator[Site]:
    app = Flask(__name__)
    app.config["SECRET_KEY"] = SECRET
    flask.CoatCheck(app)
    csrf = flask.Csrf(app, **options)
    hooks = Blueprint("hooks", __name__)
    csrf.exempt(hooks)

    @app.get("/token")
    def token() -> str:
        field = render_template_string("{{ csrf_field() }}")
        assert field.startswith('<input type="hidden" name="csrf_token" value="')
        return render_template_string("{{ csrf_token() }}")

    @app.post("/act")
    def act() -> str:
        from flask import request

        return str(len(request.form))

    @csrf.exempt
    @app.post("/hook")
    def hook() -> str:
        return ""

    @hooks.post("/of-the-blueprint")
    def of_the_blueprint() -> str:
        return ""

    @app.post("/login")
    def login() -> str:
        flask_session.login("ada")  # type: ignore[attr-defined]
        return ""

    @app.post("/logout")
    def logout() -> str:
        flask_session.logout()  # type: ignore[attr-defined]
        return ""

    app.register_blueprint(hooks)
    site = by_werkzeug(app.test_client())
    assert site.ask("POST", "/of-the-blueprint")[0] == 200
    assert [name.rpartition(".")[2] for name in csrf.exempted][-2:] == ["hook", "blueprint hooks"]
    yield site


@contextmanager
def on_quart(**options: Any) -> Iterator[Site]:
    app = Quart(__name__)
    app.config["SECRET_KEY"] = SECRET
    quart.CoatCheck(app)
    csrf = quart.Csrf(app, **options)

    @app.get("/token")
    async def token() -> str:
        return await quart_render("{{ csrf_token() }}")

    @app.post("/act")
    async def act() -> str:
        from quart import request

        return str(len(await request.form))

    @csrf.exempt
    @app.post("/hook")
    async def hook() -> str:
        return ""

    @app.post("/login")
    async def login() -> str:
        quart_session.login("ada")  # type: ignore[attr-defined]
        return ""

    @app.post("/logout")
    async def logout() -> str:
        quart_session.logout()  # type: ignore[attr-defined]
        return ""

    client: Any = app.test_client()
    with Loop() as loop:

        def ask(method: str, path: str, form: dict[str, str] | None = None, **headers: str) -> Answer:
            named = {name.replace("_", "-"): value for name, value in headers.items()}

            async def asked() -> Answer:
                seen = await client.open(path, method=method, form=form, headers=named, scheme="https")
                text = await seen.get_data(as_text=True)
                return (
                    seen.status_code,
                    str(text),
                    {name.lower(): value for name, value in seen.headers.items()},
                )

            return cast(Answer, loop.run(asked()))

        yield Site(ask)


@contextmanager
def on_aiohttp(**options: Any) -> Iterator[Site]:
    app = web.Application()
    for_aiohttp.setup(app, secret=SECRET)
    for_aiohttp.setup_csrf(app, **options)

    async def token(request: web.Request) -> web.Response:
        return web.Response(text=await for_aiohttp.csrf_token(request))

    async def act(request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.post())))

    @for_aiohttp.csrf_exempt
    async def hook(request: web.Request) -> web.Response:
        return web.Response()

    async def login(request: web.Request) -> web.Response:
        (await for_aiohttp.get_session(request)).login("ada")
        return web.Response()

    async def logout(request: web.Request) -> web.Response:
        (await for_aiohttp.get_session(request)).logout()
        return web.Response()

    app.add_routes([
        web.get("/token", token), web.post("/act", act), web.post("/hook", hook),
        web.post("/login", login), web.post("/logout", logout),
    ])  # fmt: skip
    with Loop() as loop:
        server = AiohttpServer(app)
        client: Any = loop.run(_started(server))

        def ask(method: str, path: str, form: dict[str, str] | None = None, **headers: str) -> Answer:
            named = {name.replace("_", "-"): value for name, value in headers.items()}

            async def asked() -> Answer:
                async with client.request(method, path, data=form, headers=named) as seen:
                    return seen.status, await seen.text(), {n.lower(): v for n, v in seen.headers.items()}

            return cast(Answer, loop.run(asked()))

        try:
            yield Site(ask)
        finally:
            loop.run(client.close())


async def _started(server: AiohttpServer) -> Any:
    import aiohttp

    client = AiohttpClient(server, cookie_jar=aiohttp.CookieJar(unsafe=True))
    await client.start_server()
    return client


class Loop:
    """An event loop on a thread of its own."""

    def __enter__(self) -> "Loop":
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        return self

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


FRAMEWORKS = [on_fastapi, on_starlette_lazily, on_litestar, on_flask, on_quart, on_aiohttp]


# ------------------------------------------------------------------------------------------------------ the questions


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_same_story_in_every_framework(framework: Any) -> None:
    with framework(trusted_origins=[APP]) as site:
        same = {"sec_fetch_site": "same-origin"}
        status, text, headers = site.ask("POST", "/act", {"a": "b"})
        assert (status, "nothing shows that it comes from this site" in text) == (403, True)
        assert headers["cache-control"] == "no-store"
        for good in (same, {"origin": APP}, {"referer": f"{APP}/page"}):
            status, _, headers = site.ask("POST", "/act", {"a": "b"}, **good)
            assert status in (200, 201)
            assert "sec-fetch-site, origin" in headers["vary"].lower()
        for bad in (
            {"origin": EVIL}, {"sec_fetch_site": "cross-site"}, {"origin": "null"}, {"origin": ""},
            {"sec_fetch_site": "same-site", "origin": EVIL},
        ):  # fmt: skip
            assert site.ask("POST", "/act", {"a": "b"}, **bad)[0] == 403
            status, _, headers = site.ask("POST", "/login", **bad)
            assert (status, "set-cookie" in headers) == (403, False)
        assert site.ask("POST", "/hook", sec_fetch_site="cross-site")[0] in (200, 201)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_scripts_pass_where_they_are_let_and_marks_of_a_browser_do_not(framework: Any) -> None:
    with framework(allow_non_browsers=True) as site:
        assert site.ask("POST", "/login", accept="*/*")[0] in (200, 201)
        assert site.ask("POST", "/act", {"a": "b"}, accept="*/*")[0] in (200, 201)
        for mark in ({"origin": EVIL}, {"sec_fetch_site": "cross-site"}, {"accept": "text/html,*/*"}):
            assert site.ask("POST", "/logout", **{"accept": "*/*", **mark})[0] == 403
        assert site.ask("POST", "/logout", accept="*/*")[0] in (200, 201)
    with framework() as site:
        assert site.ask("POST", "/login", accept="*/*")[0] == 403


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_token_of_a_visitor_a_login_and_nobody(framework: Any) -> None:
    with framework() as site:
        before = site.token()
        good = site.ask("POST", "/act", {"a": "b", "csrf_token": before})
        assert (good[0] in (200, 201), good[1].strip('"')) == (True, "2")
        assert site.ask("POST", "/act", {"a": "b"}, x_csrf_token=before)[0] in (200, 201)
        assert site.ask("POST", "/act?csrf_token=" + before, {"a": "b"})[0] == 403
        assert site.ask("POST", "/login", {"csrf_token": before})[0] in (200, 201)
        assert site.ask("POST", "/act", {"csrf_token": before})[0] == 403
        after = site.token()
        assert site.ask("POST", "/act", {"csrf_token": after})[0] in (200, 201)
        assert site.ask("POST", "/act", {"csrf_token": site.token()})[0] in (200, 201)
        assert site.ask("POST", "/logout", {"csrf_token": "x" * 64})[0] == 403
        assert site.ask("POST", "/logout", {"csrf_token": after})[0] in (200, 201)
        assert [site.ask("POST", "/act", {"csrf_token": one})[0] for one in (before, after)] == [403, 403]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_wrong_origins_keep_every_application_from_starting(framework: Any) -> None:
    with (
        pytest.raises(Exception, match="trusted_origins") as failure,
        framework(trusted_origins=["shop.example"]),
    ):
        pass
    assert any(isinstance(error, ConfigurationError) for error in _all_of(failure.value))


def _all_of(error: BaseException) -> Iterator[BaseException]:
    yield error
    for inner in (*getattr(error, "exceptions", ()), error.__cause__, error.__context__):
        if inner is not None:
            yield from _all_of(inner)


# ------------------------------------------------------------------------------------------------------ missing sessions


def test_the_wrong_order_keeps_an_application_from_starting() -> None:
    app = FastAPI()
    app.add_middleware(fastapi.SessionMiddleware, secret=SECRET)
    app.add_middleware(fastapi.CsrfMiddleware)
    with (
        pytest.raises(ConfigurationError, match="add CsrfMiddleware first, then SessionMiddleware"),
        TestClient(app),
    ):
        pass
    alone = FastAPI()
    alone.add_middleware(fastapi.CsrfMiddleware)
    with (
        pytest.raises(ConfigurationError, match="put coatcheck's SessionMiddleware around"),
        TestClient(alone),
    ):
        pass
    named = FastAPI()
    named.add_middleware(fastapi.CsrfMiddleware)
    named.add_middleware(fastapi.SessionMiddleware, secret=SECRET, scope_key="staff", name="staff")
    with pytest.raises(ConfigurationError, match="SessionMiddleware around"), TestClient(named):
        pass


def test_a_server_hears_that_it_must_not_start() -> None:
    told = list[Any]()

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        told.append(message)

    with pytest.raises(ConfigurationError):
        asyncio.run(asgi.CsrfMiddleware(a_fastapi())({"type": "lifespan"}, receive, send))
    assert told[0]["type"] == "lifespan.startup.failed"
    assert "SessionMiddleware around" in told[0]["message"]


def test_an_extension_without_sessions_says_what_comes_first() -> None:
    extensions: list[tuple[Any, Any]] = [(flask.Csrf, Flask("app")), (quart.Csrf, Quart("app"))]
    for csrf, app in extensions:
        with pytest.raises(
            ConfigurationError, match=r"CoatCheck\(app\) of coatcheck\.(flask|quart) comes first"
        ):
            csrf(app)
    with pytest.raises(ConfigurationError, match=r"coatcheck.aiohttp.setup\(app, …\) comes first"):
        for_aiohttp.setup_csrf(web.Application())
    twice = Flask("app")
    twice.config["SECRET_KEY"] = SECRET
    flask.CoatCheck(twice)
    flask.Csrf(twice)
    with pytest.raises(ConfigurationError, match="twice"):
        flask.Csrf(twice)
    with pytest.raises(ConfigurationError, match="give a view function or a blueprint"):
        flask.Csrf().exempt("/hook")

    @litestar_post("/act")
    async def act() -> None: ...

    bare = Litestar([act], middleware=[DefineMiddleware(litestar.CsrfMiddleware)])
    with LitestarClient(bare) as client:
        assert client.post("/act").status_code == 500


def test_a_token_without_protection_is_an_error_that_says_so() -> None:
    with pytest.raises(OutsideRequest, match="add coatcheck's CsrfMiddleware"):
        asgi.csrf_token({"type": "http"})
    with pytest.raises(OutsideRequest, match=r"coatcheck\.wsgi\.CsrfMiddleware"):
        wsgi.csrf_field({})
    for csrf_token in (flask.csrf_token, quart.csrf_token):
        with pytest.raises(OutsideRequest, match=r"Csrf\(app\), after CoatCheck\(app\)"):
            csrf_token()


def test_flasks_configuration_and_error_pages_are_heard() -> None:
    app = Flask(__name__)
    app.config.update(SECRET_KEY=SECRET, CSRF_TRUSTED_ORIGINS=[APP])
    flask.CoatCheck(app)
    flask.Csrf(app)
    app.register_error_handler(403, lambda error: (f"in our words: {error.description}", 403))
    app.add_url_rule("/act", view_func=lambda: "done", methods=["POST"])
    client = app.test_client()
    assert client.post("/act", headers={"Origin": APP}).text == "done"
    assert client.post("/act").text.startswith("in our words: This request was refused")


# ---------------------------------------------------------------------------------------------------------- WebSockets


def test_a_websocket_is_refused_before_it_is_accepted() -> None:
    async def talk(websocket: Any) -> None:
        await websocket.accept()
        await websocket.send_text("welcome")
        await websocket.close()

    app = starlette.SessionMiddleware(
        starlette.CsrfMiddleware(Starlette(routes=[WebSocketRoute("/ws", talk)]), trusted_origins=[APP]),
        secret=SECRET,
    )
    client: Any = TestClient(app, base_url=URL)
    cookie = {"cookie": "__Host-session=anything"}
    for good in ({"origin": APP}, {"sec-fetch-site": "same-origin"}, {}):
        with client.websocket_connect("/ws", headers=good) as websocket:
            assert websocket.receive_text() == "welcome"
    for bad in (
        {"origin": EVIL, **cookie}, {"origin": EVIL}, {"origin": "null", **cookie}, cookie, {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": "https://blog.shop.example"},
    ):  # fmt: skip
        with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/ws", headers=bad):
            pass
        assert refused.value.status_code == 403


def test_quart_and_aiohttp_refuse_handshakes_too() -> None:
    asyncio.run(_handshakes())


async def _handshakes() -> None:
    app = Quart(__name__)
    app.config["SECRET_KEY"] = SECRET
    quart.CoatCheck(app)
    quart.Csrf(app, trusted_origins=[APP])
    accepted = list[str]()

    @app.websocket("/ws")
    async def talk() -> None:
        from quart import websocket

        await websocket.accept()
        accepted.append(websocket.headers.get("Origin", ""))
        await websocket.send("welcome")

    client = app.test_client()
    async with client.websocket("/ws", headers={"Origin": APP}, scheme="wss") as websocket:
        assert await websocket.receive() == "welcome"
    with pytest.raises(Exception, match="403"):
        async with client.websocket("/ws", headers={"Origin": EVIL}, scheme="wss") as websocket:
            await websocket.receive()
    assert accepted == [APP]

    other = web.Application()
    for_aiohttp.setup(other, secret=SECRET)
    for_aiohttp.setup_csrf(other, trusted_origins=[APP])

    async def answer(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse()
        await response.prepare(request)
        await response.send_str("welcome")
        await response.close()
        return response

    other.router.add_get("/ws", answer)
    async with AiohttpClient(AiohttpServer(other)) as asking:
        async with asking.ws_connect("/ws", headers={"Origin": APP}) as socket:
            assert await socket.receive_str() == "welcome"
        with pytest.raises(WSServerHandshakeError, match="403"):
            await asking.ws_connect("/ws", headers={"Origin": EVIL})


# ------------------------------------------------------------------------------------------------------- the inventory


def app_of_flask() -> Any:
    app = Flask("inventory")
    app.config["SECRET_KEY"] = SECRET
    flask.CoatCheck(app)
    csrf = flask.Csrf(app, exempt=["/hooks/*"], allow_non_browsers=True)
    app.add_url_rule("/hook", view_func=csrf.exempt(hook_of_flask), methods=["POST"])
    return app


def hook_of_flask() -> str:
    return ""


def app_of_litestar() -> Any:
    @litestar_post("/hook", skip_csrf=True)
    async def hook() -> None: ...

    plugins = [litestar.CoatCheck(secret=SECRET)]
    return Litestar(
        [hook],
        plugins=plugins,
        middleware=[DefineMiddleware(litestar.CsrfMiddleware, exempt=["/x"], allow_non_browsers=True)],
    )


def app_of_aiohttp() -> Any:
    app = web.Application()
    for_aiohttp.setup(app, secret=SECRET)
    for_aiohttp.setup_csrf(app, exempt=["/x"], allow_non_browsers=True)

    @for_aiohttp.csrf_exempt
    async def hook(request: web.Request) -> web.Response:
        return web.Response()

    app.router.add_post("/hook", hook)
    return app


def app_of_asgi() -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    return asgi.SessionMiddleware(
        asgi.CsrfMiddleware(app, exempt=["/hooks/*"], allow_non_browsers=True), secret=SECRET
    )


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (a_fastapi, ["/hook"]),
        (app_of_asgi, ["/hooks/*", NON_BROWSERS]),
        (app_of_flask, ["/hooks/*", NON_BROWSERS, f"{__name__}.hook_of_flask"]),
        (app_of_litestar, ["/x", NON_BROWSERS, "/hook"]),
        (app_of_aiohttp, ["/x", NON_BROWSERS, "POST /hook"]),
    ],
)
def test_the_command_lists_what_is_exempt(
    make: Any, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("an_application")
    module.app = make()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "an_application", module)
    listed = CliRunner().invoke(main, ["exempt", "an_application:app"])
    assert listed.exit_code == 0, listed.output
    lines = listed.output.splitlines()
    assert [any(line.startswith(one) for line in lines) for one in expected] == [True] * len(expected)
    assert len(lines) == len(expected)


def test_the_command_lists_what_is_exempt_where_django_is_only_imported(tmp_path: Path) -> None:
    (tmp_path / "moving.py").write_text(
        "import coatcheck.django.csrf, django.urls\n"
        "from flask import Flask\n"
        "from coatcheck.flask import CoatCheck, Csrf\n"
        "app = Flask('moving')\n"
        f"app.config['SECRET_KEY'] = {SECRET!r}\n"
        "CoatCheck(app)\n"
        "Csrf(app, exempt=['/hooks/*'])\n"
    )
    command = [sys.executable, "-m", "coatcheck.tools.cli", "exempt", "moving:app"]
    ours = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    listed = subprocess.run(command, cwd=tmp_path, env=ours, capture_output=True, text=True)
    assert (listed.returncode, listed.stdout) == (0, "/hooks/*\n"), listed.stderr


@pytest.mark.parametrize("name", ["no.such:app", "json:app", "json"])
def test_the_command_says_what_it_could_not_find(name: str) -> None:
    failed = CliRunner().invoke(main, ["exempt", name])
    assert (failed.exit_code, "give it as for a server, module:name" in failed.output) == (1, True)
    assert "has no CSRF protection" in CliRunner().invoke(main, ["exempt", "json:loads"]).output
