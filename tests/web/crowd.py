"""Applications in which many requests of one session meet: each has loaded the session before any of them commits.

Starlette, bare WSGI and Flask, each several times side by side, by the first part of the path: `/three` lets a user have three
sessions, `/aged` has a clock that is ahead, so that every login is due for a new verifier; they share a store (`STORE` in the
environment, or memory). `PATIENT` has them wait long for it; `ON_STORE_ERROR` is the option of this name.

The query says what a request does: with `gate=` it waits at a gate of the test (`tests.web.gates`) once its session is loaded;
then `key=`, `count=`, `login=`, `logout=`, `end_all=`. The answer is all there is in the session, and whose it is.
"""

import os
import time
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from flask import Flask, request, session
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from coatcheck import Clock, Outage
from coatcheck import wsgi as coatcheck_wsgi
from coatcheck.asgi import App
from coatcheck.flask import CoatCheck
from coatcheck.starlette import SessionMiddleware, get_session
from tests.web.apps import SECRET, by_path, wsgi_by_path
from tests.web.gates import through, through_in_a_thread

CROWD = 50
AHEAD = 4_000.0
"""Seconds: a verifier is renewed after 3,600."""

_PATIENT = Outage(connect_timeout=20, command_timeout=20)
_COMMON: dict[str, Any] = {
    "store": os.environ.get("STORE", "memory:"),
    "outage": _PATIENT if "PATIENT" in os.environ else None,
    "on_store_error": os.environ.get("ON_STORE_ERROR", "fail"),
}
KINDS: dict[str, dict[str, Any]] = {
    "main": {},
    "three": {"max_sessions": 3},
    "aged": {"clock": Clock(time=lambda: time.time() + AHEAD)},
}
_LAZY: dict[str, Any] = {"lazy": {"lazy": True}}
"""Of Starlette only: the others load a session when it is asked for, and never before."""


def change(session: Any, query: Mapping[str, str]) -> None:
    """What the request does to its session."""
    if key := query.get("key"):
        session[key] = key
    if "count" in query:
        session.increment("n")
    if user := query.get("login"):
        session.login(user)
    if "logout" in query:
        session.logout()


def everything(session: Any) -> dict[str, Any]:
    """What there is to see."""
    return {"user": session.user_id, "data": dict(session)}


async def page(request: Request) -> Response:
    """The one page; `/untouched` does not look at the session."""
    query = request.query_params
    if request.url.path.endswith("/untouched"):
        return JSONResponse(None)
    session = await get_session(request)
    session.get("n")
    if gate := query.get("gate"):
        await through(gate)
    change(session, query)
    if user := query.get("end_all"):
        await session.end_all(user)
    return JSONResponse(everything(session))


def _starlette(kind: str) -> App:
    app = Starlette(routes=[Route("/{path:path}", page)])
    app.add_middleware(SessionMiddleware, secret=SECRET, **_COMMON, **(KINDS | _LAZY)[kind])
    return app


def answer(session: Any, query: Mapping[str, str]) -> dict[str, Any]:
    """The same in a thread."""
    session.get("n")
    if gate := query.get("gate"):
        through_in_a_thread(gate)
    change(session, query)
    if user := query.get("end_all"):
        session.end_all(user)
    return everything(session)


def pages(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The page for WSGI."""
    body = JSONResponse(answer(environ["coatcheck.session"], dict(parse_qsl(environ["QUERY_STRING"])))).body
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [bytes(body)]


def _wsgi(kind: str) -> WSGIApplication:
    return coatcheck_wsgi.SessionMiddleware(pages, secret=SECRET, **_COMMON, **KINDS[kind])


def flask_page(path: str = "") -> dict[str, Any]:
    """The page for Flask."""
    return answer(session, request.args)


def _flask(kind: str) -> WSGIApplication:
    app = Flask(__name__)
    app.config["SECRET_KEY"] = SECRET
    app.add_url_rule("/", view_func=flask_page)
    app.add_url_rule("/<path:path>", view_func=flask_page)
    CoatCheck(app, **_COMMON, **KINDS[kind])
    return app


def __getattr__(name: str) -> Any:
    """Only what a server is told to serve is made: each application opens the store."""
    if name == "starlette":
        return by_path(**{kind: _starlette(kind) for kind in KINDS | _LAZY})
    if name in ("wsgi", "flask"):
        make = _wsgi if name == "wsgi" else _flask
        return wsgi_by_path(**{kind: make(kind) for kind in KINDS})
    raise AttributeError(name)
