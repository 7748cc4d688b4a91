"""The application of `tests.web.crowd` in the other frameworks, each imported only where it is served: `/late` included."""

import functools
from collections.abc import Callable
from typing import Any

from tests.web.crowd import COMMON, KINDS, answer_async
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


_MAKE: dict[str, Callable[..., Any]] = {"fastapi": _fastapi, "quart": _quart}


FACES = (*_MAKE,)


@functools.cache
def made(name: str) -> Any:
    """One of the applications, by the name that a server is told. Made once: uvicorn looks it up twice."""
    return by_path(**{kind: _MAKE[name](**COMMON, **KINDS[kind]) for kind in SERVED})


def __getattr__(name: str) -> Any:
    """Only what a server is told to serve is made: each application opens the store."""
    if name in FACES:
        return made(name)
    raise AttributeError(name)
