"""One small application for each face: bare ASGI, Starlette, Litestar, Quart, aiohttp, bare WSGI, Flask. What it does is written
once, in `answer`.

Three of them run side by side, by the first part of the path: `/` keeps its sessions in `STORE` (from the environment, or in
memory), `/down` has a store that cannot be reached, `/limited` has a cookie of that path only.
"""

import os
from collections.abc import AsyncIterator, Iterable, Iterator
from functools import partial
from typing import Any, NoReturn
from urllib.parse import parse_qsl
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from aiohttp import web
from aiohttp.web_urldispatcher import Domain, MatchedSubAppResource
from flask import Flask
from flask import Response as FlaskResponse
from flask import request as flask_request
from flask import session as flask_session
from litestar import Litestar
from litestar import Request as LitestarRequest
from litestar import Response as LitestarResponse
from litestar.handlers import HTTPRouteHandler
from litestar.response import Stream
from multidict import CIMultiDict
from quart import Quart
from quart import Response as QuartResponse
from quart import request as quart_request
from quart import session as quart_session
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route

from coatcheck import CookieSettings, StoreUnavailable, TooLate, UnstorableValue
from coatcheck import aiohttp as aiohttp_sessions
from coatcheck.asgi import App, Receive, Scope, Send
from coatcheck.asgi import SessionMiddleware as AsgiSessions
from coatcheck.core.session import BaseSession
from coatcheck.flask import CoatCheck
from coatcheck.litestar import CoatCheck as LitestarCoatCheck
from coatcheck.quart import CoatCheck as QuartCoatCheck
from coatcheck.starlette import SessionMiddleware as StarletteSessions
from coatcheck.wsgi import SessionMiddleware as WsgiSessions
from tests.web.paths import SECRET as SECRET
from tests.web.paths import by_path, wsgi_by_path

STORE = os.environ.get("STORE", "memory:")

Headers = list[tuple[str, str]]
Answer = tuple[int, Headers, str | Iterator[str]]


class Boom(Exception):
    """A bug in the application."""


class DownStore:
    """A store that cannot be reached, for either face."""

    def blocking(self) -> "DownStore":
        return self

    def awaiting(self) -> "DownStore":
        return self

    async def load(self, *_: object, **__: object) -> NoReturn:
        raise StoreUnavailable("no route to the store")

    create = replace = touch = delete = load


def answer(path: str, query: dict[str, str], session: BaseSession) -> Answer:
    """What the application does, whatever serves it."""
    action = getattr(Actions, path.strip("/").replace("-", "_"), None)
    if action is None:
        return 404, [], "not found"
    result = action(session, **query)
    return result if isinstance(result, tuple) else (200, [], result)


class Actions:
    """A page each. They get the session and the query."""

    @staticmethod
    def pub(session: BaseSession) -> str:
        return "public"

    @staticmethod
    def read(session: BaseSession, k: str = "k") -> str:
        return str(session.get(k))

    @staticmethod
    def has(session: BaseSession) -> str:
        return str("k" in session)

    @staticmethod
    def len(session: BaseSession) -> str:
        return str(len(session))

    @staticmethod
    def user(session: BaseSession) -> str:
        return str(session.user_id)

    @staticmethod
    def set(session: BaseSession, v: str, k: str = "k") -> str:
        session[k] = v
        return "kept"

    @staticmethod
    def incr(session: BaseSession) -> str:
        return str(session.increment("n"))

    @staticmethod
    def cart(session: BaseSession, v: str) -> str:
        cart = session.setdefault("cart", {"items": []})
        cart["items"].append(v)
        return " ".join(session["cart"]["items"])

    @staticmethod
    def login(session: BaseSession, user: str) -> str:
        session.login(user)
        return "welcome"

    @staticmethod
    def remember(session: BaseSession, user: str) -> str:
        session.login(user, remember=True)
        return "welcome"

    @staticmethod
    def logout(session: BaseSession) -> str:
        session.logout()
        return "bye"

    @staticmethod
    def rotate(session: BaseSession) -> str:
        session.regenerate()
        return "rotated"

    @staticmethod
    def handle(session: BaseSession) -> str:
        return session.handle

    @staticmethod
    def flash(session: BaseSession) -> str:
        session.flash("Saved", "success")
        return "flashed"

    @staticmethod
    def flashes(session: BaseSession) -> str:
        return str(session.flashes())

    @staticmethod
    def boom(session: BaseSession) -> str:
        session["k"] = "never kept"
        raise Boom

    @staticmethod
    def boom_logout(session: BaseSession) -> str:
        session["k"] = "never kept"
        session.logout()
        raise Boom

    @staticmethod
    def redirect(session: BaseSession) -> Answer:
        session["k"] = "redirected"
        return 303, [("Location", "/read")], ""

    @staticmethod
    def empty(session: BaseSession) -> Answer:
        session["k"] = "empty"
        return 204, [], ""

    @staticmethod
    def unchanged(session: BaseSession) -> Answer:
        session["k"] = "unchanged"
        return 304, [("ETag", '"1"')], ""

    @staticmethod
    def cached(session: BaseSession) -> Answer:
        session.increment("n")
        headers = [("Cache-Control", "public, max-age=60"), ("Vary", "Accept"), ("Vary", "Accept-Language")]
        return 200, headers, "cached"

    @staticmethod
    def private(session: BaseSession) -> Answer:
        session.increment("n")
        return 200, [("Cache-Control", "private, max-age=60"), ("Vary", "cookie")], "private"

    @staticmethod
    def unstorable(session: BaseSession) -> str:
        try:
            session["k"] = object()
        except UnstorableValue as error:
            return str(error)
        return "kept"

    @staticmethod
    def spoilt(session: BaseSession) -> str:
        session["k"] = []
        session["k"].append(object())
        return "kept"

    @staticmethod
    def stream(session: BaseSession) -> Answer:
        session["before"] = "yes"

        def body() -> Iterator[str]:
            for _ in range(3):
                yield f"{session.increment('n')} "

        return 200, [], body()

    @staticmethod
    def late(session: BaseSession) -> Answer:
        def body() -> Iterator[str]:
            for attempt in (
                session.regenerate,
                session.logout,
                lambda: session.login("ada"),
                session.flashes,
            ):
                try:
                    attempt()
                except TooLate:
                    yield "too late. "
                else:
                    yield "done. "

        return 200, [], body()

    @staticmethod
    def break_off(session: BaseSession) -> Answer:
        session["before"] = "yes"

        def body() -> Iterator[str]:
            yield "begun "
            session["after"] = "never kept"
            raise Boom

        return 200, [], body()


# ------------------------------------------------------------------------------------------------------------- ASGI


async def asgi_pages(scope: Scope, receive: Receive, send: Send) -> None:
    """The application for ASGI, without a framework."""
    query = dict(parse_qsl(scope["query_string"].decode()))
    status, headers, body = answer(_last(scope["path"]), query, scope["session"])
    fields = [(name.encode(), value.encode()) for name, value in headers]
    if isinstance(body, str):
        if status not in (204, 304):
            fields.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": body.encode()})
        return
    await send({"type": "http.response.start", "status": status, "headers": fields})
    for piece in body:
        await send({"type": "http.response.body", "body": piece.encode(), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def make_asgi(store: Any = STORE, **options: Any) -> App:
    """The bare ASGI application, and its companions."""
    return by_path(
        AsgiSessions(asgi_pages, store=store, secret=SECRET, **options),
        down=AsgiSessions(asgi_pages, store=DownStore(), secret=SECRET, **options),
        limited=AsgiSessions(asgi_pages, store=store, secret=SECRET, cookie=CookieSettings(path="/limited")),
    )


def make_starlette(store: Any = STORE, **options: Any) -> App:
    """The same in Starlette."""

    async def page(request: Request) -> Response:
        query = dict(request.query_params)
        status, headers, body = answer(_last(request.url.path), query, request.session)  # type: ignore[arg-type]  # says dict
        kind = Response if isinstance(body, str) else StreamingResponse
        response: Response = kind(body, status)
        for name, value in headers:
            response.headers.append(name, value)
        return response

    def sessions(store: Any, **more: Any) -> Starlette:
        app = Starlette(routes=[Route("/{page}", page)])
        app.add_middleware(StarletteSessions, store=store, secret=SECRET, **options, **more)
        return app

    limited = sessions(store, cookie=CookieSettings(path="/limited"))
    return by_path(
        sessions(store),
        down=Starlette(routes=[Mount("/down", sessions(DownStore()))]),
        limited=Starlette(routes=[Mount("/limited", limited)]),
    )


def make_litestar(store: Any = STORE, **options: Any) -> App:
    """The same in Litestar."""

    async def page(request: LitestarRequest[Any, Any, Any]) -> LitestarResponse[Any]:
        query: dict[str, str] = dict(request.query_params)
        session: BaseSession = request.session  # type: ignore[assignment]  # says dict
        status, fields, body = answer(_last(request.scope["path"]), query, session)
        headers = {name: ", ".join(value for other, value in fields if other == name) for name, _ in fields}
        if isinstance(body, str):
            return LitestarResponse(
                body or None, status_code=status, headers=headers, media_type="text/plain"
            )
        return Stream(body, status_code=status, headers=headers)

    def sessions(store: Any, prefix: str = "", **more: Any) -> App:
        route = HTTPRouteHandler(f"{prefix}/{{page:str}}", http_method=["GET", "HEAD"])(page)
        plugin = LitestarCoatCheck(store=store, secret=SECRET, **options, **more)
        return Litestar([route], plugins=[plugin], openapi_config=None, logging_config=None)

    return by_path(
        sessions(store),
        down=sessions(DownStore(), "/down"),
        limited=sessions(store, "/limited", cookie=CookieSettings(path="/limited")),
    )


def make_quart(store: Any = STORE, **options: Any) -> App:
    """The same in Quart."""

    async def page(page: str) -> QuartResponse:
        session: BaseSession = quart_session._get_current_object()  # type: ignore[attr-defined]  # the object behind the proxy
        status, headers, body = answer(page, quart_request.args.to_dict(), session)
        response = QuartResponse(body if isinstance(body, str) else _as_async(body), status)
        for name, value in headers:
            response.headers.add(name, value)
        return response

    def sessions(store: Any, prefix: str = "", **more: Any) -> App:
        app = Quart(__name__)
        app.config["SECRET_KEY"] = SECRET
        app.add_url_rule(f"{prefix}/<page>", view_func=page)
        QuartCoatCheck(app, store=store, **options, **more)
        return app

    return by_path(
        sessions(store),
        down=sessions(DownStore(), "/down"),
        limited=sessions(store, "/limited", cookie=CookieSettings(path="/limited")),
    )


def make_aiohttp(store: Any = STORE, **options: Any) -> web.Application:
    """The same in aiohttp."""

    async def page(request: web.Request) -> web.StreamResponse:
        name = _last(request.path)
        if name == "pub":
            return web.Response(text="public")
        session = await aiohttp_sessions.get_session(request)
        status, headers, body = answer(name, dict(request.query), session)
        fields = CIMultiDict(headers)
        if isinstance(body, str):
            return web.Response(text=body or None, status=status, headers=fields)
        response = web.StreamResponse(status=status, headers=fields)
        await response.prepare(request)
        for piece in body:
            await response.write(piece.encode())
        return response

    def sessions(store: Any, **more: Any) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{page}", page)
        aiohttp_sessions.setup(app, store=store, secret=SECRET, **options, **more)
        return app

    whole, main = web.Application(), sessions(store)
    whole.add_subapp("/down", sessions(DownStore()))
    whole.add_subapp("/limited", sessions(store, cookie=CookieSettings(path="/limited")))
    whole._add_subapp(partial(MatchedSubAppResource, _Rest("localhost"), main), main)
    return whole


class _Rest(Domain):
    """The rule of an application that answers whatever no other does."""

    async def match(self, request: web.Request) -> bool:
        return request.path.split("/")[1] not in ("down", "limited")


async def _as_async(pieces: Iterator[str]) -> AsyncIterator[str]:
    for piece in pieces:
        yield piece


# ------------------------------------------------------------------------------------------------------------- WSGI


def wsgi_pages(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The application for WSGI, without a framework."""
    query = dict(parse_qsl(environ["QUERY_STRING"]))
    status, headers, body = answer(_last(environ["PATH_INFO"]), query, environ["coatcheck.session"])
    if isinstance(body, str):
        if status not in (204, 304):
            headers.append(("Content-Length", str(len(body))))
        start_response(f"{status} Whatever", headers)
        return [body.encode()]
    start_response(f"{status} Whatever", headers)
    return (piece.encode() for piece in body)


def make_wsgi(store: Any = STORE, **options: Any) -> WSGIApplication:
    """The bare WSGI application, and its companions."""
    return wsgi_by_path(
        WsgiSessions(wsgi_pages, store=store, secret=SECRET, **options),
        down=WsgiSessions(wsgi_pages, store=DownStore(), secret=SECRET, **options),
        limited=WsgiSessions(wsgi_pages, store=store, secret=SECRET, cookie=CookieSettings(path="/limited")),
    )


def make_flask(store: Any = STORE, **options: Any) -> WSGIApplication:
    """The same in Flask."""

    def page(page: str) -> FlaskResponse:
        if page == "pub":  # a proxy that is passed on would be looked up, and Flask calls that an access
            return FlaskResponse("public")
        session: BaseSession = flask_session._get_current_object()  # type: ignore[attr-defined]  # the object behind the proxy
        status, headers, body = answer(page, flask_request.args.to_dict(), session)
        response = FlaskResponse(body, status)
        for name, value in headers:
            response.headers.add(name, value)
        return response

    def sessions(store: Any, prefix: str = "", **more: Any) -> Flask:
        app = Flask(__name__)
        app.config["SECRET_KEY"] = SECRET
        app.add_url_rule(f"{prefix}/<page>", view_func=page)
        CoatCheck(app, store=store, **options, **more)
        return app

    return wsgi_by_path(
        sessions(store),
        down=sessions(DownStore(), "/down"),
        limited=sessions(store, "/limited", cookie=CookieSettings(path="/limited")),
    )


def _last(path: str) -> str:
    return path.rpartition("/")[2]


asgi, starlette, litestar, quart = (make() for make in (make_asgi, make_starlette, make_litestar, make_quart))
aiohttp = make_aiohttp()
wsgi, flask = (make() for make in (make_wsgi, make_flask))
