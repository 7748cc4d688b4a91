"""The application of `tests.web.crowd` in the other frameworks, each imported only where it is served: `/late` included."""

import functools
import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar, Token
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from coatcheck import Clock
from coatcheck.asgi import App, Receive, Scope, Send
from tests.web.crowd import COMMON, KINDS, TOO_LATE, answer, answer_async, warmed
from tests.web.paths import SECRET, by_path

SERVED = ("main", "late")


def _fastapi(**options: Any) -> Any:
    from fastapi import FastAPI, Request

    from coatcheck.fastapi import SessionDep, SessionMiddleware

    app = FastAPI()
    app.add_middleware(SessionMiddleware, secret=SECRET, **options)

    @app.get("/{path:path}")
    async def page(path: str, session: SessionDep, request: Request) -> dict[str, Any]:
        return await answer_async(session, request.query_params)

    return app


def _quart(**options: Any) -> Any:
    from quart import Quart, request, session

    from coatcheck.quart import CoatCheck

    app = Quart(__name__)
    CoatCheck(app, secret=SECRET, **options)

    @app.get("/")
    @app.get("/<path:path>")
    async def page(path: str = "") -> dict[str, Any]:
        return await answer_async(session, request.args)

    return app


def _litestar(**options: Any) -> Any:
    from litestar import Litestar, Request, get

    from coatcheck.litestar import CoatCheck

    @get(["/", "/{path:path}"])
    async def page(request: Request[Any, Any, Any]) -> dict[str, Any]:
        return await answer_async(request.session, request.query_params)

    return Litestar([page], plugins=[CoatCheck(secret=SECRET, **options)], logging_config=None)


_MAKE: dict[str, Callable[..., Any]] = {"fastapi": _fastapi, "quart": _quart, "litestar": _litestar}


# ----------------------------------------------------- aiohttp and Django: one application, whose clock is told of the path

_ahead = ContextVar("ahead", default=0.0)
CLOCK = Clock(time=lambda: time.time() + _ahead.get())


def _tell(path: str) -> Token[float]:
    return _ahead.set(TOO_LATE if path.startswith("/late") else 0.0)


def _aiohttp() -> Any:
    from aiohttp import web

    from coatcheck.aiohttp import get_session, setup

    @web.middleware
    async def tell(request: web.Request, handler: Any) -> web.StreamResponse:
        _tell(request.path)
        response: web.StreamResponse = await handler(request)
        return response

    async def page(request: web.Request) -> web.Response:
        return web.json_response(await answer_async(await get_session(request), request.query))

    app = web.Application(middlewares=[tell])
    setup(app, secret=SECRET, clock=CLOCK, **COMMON)
    app.router.add_get("/{path:.*}", page)
    return app


def _set_up_django(view: Any) -> None:
    from django import setup
    from django.conf import settings
    from django.urls import re_path

    settings.configure(
        SECRET_KEY=SECRET,
        ALLOWED_HOSTS=["localhost"],
        ROOT_URLCONF=(re_path(".*", view),),
        INSTALLED_APPS=["coatcheck.django"],
        MIDDLEWARE=["coatcheck.django.SessionMiddleware"],
        SESSION_ENGINE="coatcheck.django.engine",
        COATCHECK={name.upper(): value for name, value in COMMON.items()}
        | {"CLOCK": CLOCK, "IDENTITY": None},
    )
    setup()


def _django() -> WSGIApplication:
    from django.core.wsgi import get_wsgi_application
    from django.http import JsonResponse

    def view(request: Any) -> JsonResponse:
        return JsonResponse(answer(request.session, request.GET))

    _set_up_django(view)
    django = get_wsgi_application()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        before = _tell(environ["PATH_INFO"])
        try:
            return django(environ, start_response)
        finally:
            _ahead.reset(before)

    return warmed(app)


def _django_asgi() -> App:
    from django.core.asgi import get_asgi_application
    from django.http import JsonResponse

    async def view(request: Any) -> JsonResponse:
        return JsonResponse(await answer_async(request.session, request.GET))

    _set_up_django(view)
    django: Any = get_asgi_application()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        _tell(scope.get("path", ""))
        await django(scope, receive, send)

    return app


_ALONE: dict[str, Callable[[], Any]] = {"aiohttp": _aiohttp, "django": _django, "django_asgi": _django_asgi}
FACES = (*_MAKE, *_ALONE)


@functools.cache
def made(name: str) -> Any:
    """One of the applications, by the name that a server is told. Made once: uvicorn looks it up twice."""
    if name in _ALONE:
        return _ALONE[name]()
    return by_path(**{kind: _MAKE[name](**COMMON, **KINDS[kind]) for kind in SERVED})


def __getattr__(name: str) -> Any:
    """Only what a server is told to serve is made: each application opens the store."""
    if name in FACES:
        return made(name)
    raise AttributeError(name)
