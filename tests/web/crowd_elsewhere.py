"""The application of `tests.web.crowd` in the other frameworks, each imported only where it is served: `/late` included."""

import functools
import time
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any

from coatcheck import Clock
from tests.web.crowd import COMMON, KINDS, TOO_LATE, answer_async
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

    return Litestar([page], plugins=[CoatCheck(secret=SECRET, **options)])


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


_ALONE: dict[str, Callable[[], Any]] = {"aiohttp": _aiohttp}
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
