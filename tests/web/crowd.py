"""Applications in which many requests of one session meet: each has loaded the session before any of them commits."""

import asyncio
import os
import threading
from collections import defaultdict
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl
from wsgiref.types import StartResponse, WSGIEnvironment

from flask import Flask, request, session
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from coatcheck import wsgi as coatcheck_wsgi
from coatcheck.flask import CoatCheck
from coatcheck.starlette import SessionMiddleware, get_session
from tests.web.apps import SECRET

STORE = os.environ.get("STORE", "memory:")
CROWD = 50
PATIENCE = 60.0

_doors: defaultdict[str, threading.Barrier] = defaultdict(lambda: threading.Barrier(CROWD))
_gates: defaultdict[str, asyncio.Barrier] = defaultdict(lambda: asyncio.Barrier(CROWD))
_one_at_a_time = threading.Lock()


def change(session: Any, key: str) -> None:
    """Count, or set a key of one's own."""
    if key:
        session[key] = key
    else:
        session.increment("n")


async def meet(request: Request) -> Response:
    """Wait for the others of this crowd, if it is one; then change the session."""
    session = await get_session(request)
    session.get("n")
    if crowd := request.query_params.get("crowd"):
        await asyncio.wait_for(_gates[crowd].wait(), PATIENCE)
    change(session, request.query_params.get("key", ""))
    return JSONResponse("done")


async def everything(request: Request) -> Response:
    """All there is in the session."""
    return JSONResponse(dict(await get_session(request)))


starlette = Starlette(routes=[Route("/meet", meet), Route("/", everything)])
starlette.add_middleware(SessionMiddleware, secret=SECRET, store=STORE)


def door(crowd: str | None) -> None:
    """The same for threads."""
    if crowd:
        with _one_at_a_time:
            barrier = _doors[crowd]
        barrier.wait(PATIENCE)


def pages(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The same for WSGI."""
    session, query = environ["coatcheck.session"], dict(parse_qsl(environ["QUERY_STRING"]))
    session.get("n")
    if environ["PATH_INFO"] == "/meet":
        door(query.get("crowd"))
        change(session, query.get("key", ""))
    body = JSONResponse(dict(session)).body
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [bytes(body)]


wsgi = coatcheck_wsgi.SessionMiddleware(pages, secret=SECRET, store=STORE)

flask = Flask(__name__)
flask.config["SECRET_KEY"] = SECRET
CoatCheck(flask, store=STORE)


@flask.get("/meet")
def flask_meet() -> str:
    session.get("n")
    door(request.args.get("crowd"))
    change(session, request.args.get("key", ""))
    return "done"


@flask.get("/")
def flask_everything() -> dict[str, Any]:
    return dict(session)
