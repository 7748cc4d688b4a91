"""The Django application every Django contestant runs; only the sessions differ."""

import secrets
from typing import Any

from django import setup
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.urls import path


def login(request: HttpRequest) -> HttpResponse:
    """Put into the session what a small application keeps there."""
    request.session["user"] = "7d1f2c4e"
    request.session["n"] = 0
    return HttpResponse("ok")


def write(request: HttpRequest) -> HttpResponse:
    """Load the session, change it, save it."""
    request.session["n"] = request.session.get("n", 0) + 1
    return HttpResponse("ok")


def read(request: HttpRequest) -> HttpResponse:
    """Load the session and read from it."""
    return HttpResponse(str(request.session.get("n")))


urlpatterns = [path("login", login), path("write", write), path("read", read)]


def application(**words: Any) -> WSGIHandler:
    """Return the application, with these settings."""
    words["MIDDLEWARE"].append("django.middleware.common.CommonMiddleware")  # it says how long the body is
    settings.configure(
        SECRET_KEY=secrets.token_urlsafe(50),
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        USE_I18N=False,
        **words,
    )
    setup()
    return WSGIHandler()
