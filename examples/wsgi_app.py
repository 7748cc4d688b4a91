"""WSGI without a framework: log in, count, see where you are logged in, end one of these logins, log out.

SESSION_SECRET=$(coatcheck secret) gunicorn --threads 4 examples.wsgi_app:app
"""

import os
from collections.abc import Iterable
from urllib.parse import parse_qsl
from wsgiref.types import StartResponse, WSGIEnvironment

from coatcheck.wsgi import SessionMiddleware, get_session
from examples import pages


def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    status, text = act(environ)
    if status == "303 See Other":
        start_response(status, [("Location", text)])
        return []
    start_response(status, [("Content-Type", "text/html; charset=utf-8"), *pages.PRIVATE.items()])
    return [text.encode()]


def act(environ: WSGIEnvironment) -> tuple[str, str]:
    session, form = get_session(environ), read(environ)
    match environ["REQUEST_METHOD"], environ["PATH_INFO"]:
        case "GET", "/":
            return "200 OK", pages.home(session.user_id, session.get("count", 0))
        case "POST", "/login":
            if not pages.is_right(form.get("user", ""), form.get("password", "")):
                return "401 Unauthorized", pages.WRONG
            session.login(form["user"])
        case "POST", "/count":
            session.increment("count")
        case "POST", "/logout":
            session.logout()
        case _, "/devices" | "/devices/end" if session.user_id is None:
            return "401 Unauthorized", "Log in first."
        case "GET", "/devices":
            return "200 OK", pages.devices(session.devices(), session.handle)
        case "POST", "/devices/end":
            session.end_device(form.get("handle", ""))
            return "303 See Other", "/devices"
        case _:
            return "404 Not Found", "Not found."
    return "303 See Other", "/"


def read(environ: WSGIEnvironment) -> dict[str, str]:
    size = int(environ.get("CONTENT_LENGTH") or 0)
    return dict(parse_qsl(environ["wsgi.input"].read(size).decode()))


store = os.environ.get("SESSION_STORE", "sqlite:///sessions.db")
app = SessionMiddleware(answer, store=store, secret=os.environ["SESSION_SECRET"])
