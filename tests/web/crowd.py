"""Applications in which many requests of one session meet: each has loaded the session before any of them commits.

Starlette, bare WSGI and Flask, each several times side by side, by the first part of the path: `/three` lets a user have three
sessions, `/aged` has a clock that is ahead, so that every login is due for a new verifier, `/late` one that is a day and more
ahead, so that every session has expired; they share a store (`STORE` in the environment, or memory). `PATIENT` has them wait long
for it; `ON_STORE_ERROR` is the option of this name; `WARM` has each answer a visitor before it is served.

The query says what a request does: with `gate=` it waits at a gate of the test (`tests.web.gates`) once its session is loaded;
then `key=`, `count=`, `login=`, `logout=`, `rotate=`, `end_all=`, `end=` (a handle). The answer is all there is in the session,
whose it is, and the handle of a login.
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
from werkzeug.test import Client

from coatcheck import Clock, Outage
from coatcheck import wsgi as coatcheck_wsgi
from coatcheck.asgi import App
from coatcheck.flask import CoatCheck
from coatcheck.starlette import SessionMiddleware, get_session
from tests.web.gates import through, through_in_a_thread
from tests.web.paths import SECRET, by_path, wsgi_by_path

CROWD = 50
AHEAD = 4_000.0
"""Seconds: a verifier is renewed after 3,600."""
TOO_LATE = 90_000.0
"""Seconds: a session is idle for 86,400 at most."""

_PATIENT = Outage(connect_timeout=20, command_timeout=20)
COMMON: dict[str, Any] = {
    "store": os.environ.get("STORE", "memory:"),
    "outage": _PATIENT if "PATIENT" in os.environ else None,
    "on_store_error": os.environ.get("ON_STORE_ERROR", "fail"),
}
KINDS: dict[str, dict[str, Any]] = {
    "main": {},
    "three": {"max_sessions": 3},
    "aged": {"clock": Clock(time=lambda: time.time() + AHEAD)},
    "late": {"clock": Clock(time=lambda: time.time() + TOO_LATE)},
}
FACES = ("starlette", "wsgi", "flask")
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
    if "rotate" in query:
        session.regenerate()


def everything(session: Any) -> dict[str, Any]:
    """What there is to see."""
    data = {key: value for key, value in session.items() if not key.startswith("_")}  # no framework's own
    seen = {"user": session.user_id, "data": data}
    return seen if session.user_id is None else {**seen, "handle": session.handle}


async def answer_async(session: Any, query: Mapping[str, str]) -> dict[str, Any]:
    """What the one page does, on an event loop."""
    session.get("n")
    if gate := query.get("gate"):
        await through(gate)
    change(session, query)
    if user := query.get("end_all"):
        await _awaited(session, "end_all")(user)
    if handle := query.get("end"):
        await _awaited(session, "end_device")(handle)
    return everything(session)


def _awaited(session: Any, verb: str) -> Any:
    """Django's sessions have either form."""
    return getattr(session, f"a{verb}", None) or getattr(session, verb)


async def page(request: Request) -> Response:
    """The page for Starlette; `/untouched` does not look at the session."""
    if request.url.path.endswith("/untouched"):
        return JSONResponse(None)
    return JSONResponse(await answer_async(await get_session(request), request.query_params))


def _starlette(kind: str) -> App:
    app = Starlette(routes=[Route("/{path:path}", page)])
    app.add_middleware(SessionMiddleware, secret=SECRET, **COMMON, **(KINDS | _LAZY)[kind])
    return app


def answer(session: Any, query: Mapping[str, str]) -> dict[str, Any]:
    """The same in a thread."""
    session.get("n")
    if gate := query.get("gate"):
        through_in_a_thread(gate)
    change(session, query)
    if user := query.get("end_all"):
        session.end_all(user)
    if handle := query.get("end"):
        session.end_device(handle)
    return everything(session)


def pages(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The page for WSGI; `/untouched` does not look at the session."""
    if environ["PATH_INFO"].endswith("/untouched"):
        start_response("200 OK", [("Content-Length", "4")])
        return [b"null"]
    body = JSONResponse(answer(environ["coatcheck.session"], dict(parse_qsl(environ["QUERY_STRING"])))).body
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [bytes(body)]


def _wsgi(kind: str) -> WSGIApplication:
    return coatcheck_wsgi.SessionMiddleware(pages, secret=SECRET, **COMMON, **KINDS[kind])


def flask_page(path: str = "") -> dict[str, Any]:
    """The page for Flask."""
    return answer(session, request.args)


def _flask(kind: str) -> WSGIApplication:
    app = Flask(__name__)
    app.config["SECRET_KEY"] = SECRET
    app.add_url_rule("/", view_func=flask_page)
    app.add_url_rule("/<path:path>", view_func=flask_page)
    CoatCheck(app, **COMMON, **KINDS[kind])
    return app


def made(name: str) -> Any:
    """One of the applications. Hypercorn is told to serve `made('starlette')`: it looks up no name that is not there yet."""
    if name == "starlette":
        return by_path(**{kind: _starlette(kind) for kind in KINDS | _LAZY})
    make = {"wsgi": _wsgi, "flask": _flask}[name]
    return wsgi_by_path(**{kind: warmed(make(kind)) for kind in KINDS})


def warmed(app: WSGIApplication) -> WSGIApplication:
    """The application, which has answered a visitor already, where the test wants it."""
    if "WARM" in os.environ:
        assert Client(app).get("/?count=1").status_code == 200
    return app


def __getattr__(name: str) -> Any:
    """Only what a server is told to serve is made: each application opens the store."""
    if name in FACES:
        return made(name)
    raise AttributeError(name)
