"""The Django application every Django contestant runs; only the sessions differ. Under uvicorn its views are async."""

import os
import secrets
from typing import Any

from django import setup
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.urls import path

ASYNC = os.environ.get("BENCH_SERVER") == "uvicorn"


def text(words: str) -> HttpResponse:
    """Return a response that says how long its body is, as a middleware of Django's would at the cost of a thread under ASGI."""
    return HttpResponse(words, headers={"Content-Length": len(words)})


def login(request: HttpRequest) -> HttpResponse:
    """Put into the session what a small application keeps there."""
    request.session["user"] = "7d1f2c4e"
    request.session["n"] = 0
    return text("ok")


def write(request: HttpRequest) -> HttpResponse:
    """Load the session, change it, save it."""
    request.session["n"] = request.session.get("n", 0) + 1
    return text("ok")


def read(request: HttpRequest) -> HttpResponse:
    """Load the session and read from it."""
    return text(str(request.session.get("n")))


async def alogin(request: HttpRequest) -> HttpResponse:
    """The same in an async view, by the words that Django has for it."""
    await request.session.aset("user", "7d1f2c4e")
    await request.session.aset("n", 0)
    return text("ok")


async def awrite(request: HttpRequest) -> HttpResponse:
    """Load the session, change it, save it."""
    await request.session.aset("n", await request.session.aget("n", 0) + 1)
    return text("ok")


async def aread(request: HttpRequest) -> HttpResponse:
    """Load the session and read from it."""
    return text(str(await request.session.aget("n")))


views: dict[str, Any] = {"login": alogin, "write": awrite, "read": aread}
if not ASYNC:
    views = {"login": login, "write": write, "read": read}
urlpatterns = [path(name, view) for name, view in views.items()]


def application(**words: Any) -> WSGIHandler | ASGIHandler:
    """Return the application, with these settings."""
    settings.configure(
        SECRET_KEY=secrets.token_urlsafe(50),
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        USE_I18N=False,
        **words,
    )
    setup()
    return ASGIHandler() if ASYNC else WSGIHandler()
