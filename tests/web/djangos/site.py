"""The tests' Django project as applications for servers: `wsgi` and `asgi`, and the scenarios as other faces have them.

Three homes side by side, by the first part of the path, as in `tests.web.apps`: `/` keeps its sessions in `STORE`, `/down` has a
store that cannot be reached, `/limited` has a cookie of that path only.
"""

import os
from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from django import setup

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.web.djangos.settings")
setup()

from django.conf import settings  # noqa: E402  # Django is set up first
from django.core.handlers.asgi import ASGIHandler  # noqa: E402
from django.core.handlers.wsgi import WSGIHandler  # noqa: E402
from django.http import HttpRequest  # noqa: E402
from django.test import override_settings  # noqa: E402

from coatcheck import CookieSettings  # noqa: E402
from coatcheck.asgi import App, Receive, Scope, Send  # noqa: E402
from coatcheck.django.home import Home  # noqa: E402
from coatcheck.django.middleware import SessionMiddleware  # noqa: E402
from tests.web.apps import DownStore  # noqa: E402

HOMES = "tests.homes"
_OF_PATH = "tests.path"


class ByPath(SessionMiddleware):
    """Has several homes, chosen by the path."""

    def _home(self, request: HttpRequest) -> Home:
        where: Any = getattr(request, "environ", None) or getattr(request, "scope", {})
        homes: dict[str, Home] = where[HOMES]
        return homes.get(where[_OF_PATH].split("/")[1], homes["main"])


def homes(store: Any) -> dict[str, Home]:
    """The three of them."""
    kinds: dict[str, dict[str, Any]] = {
        "main": {"STORE": store},
        "down": {"STORE": DownStore()},
        "limited": {"STORE": store, "COOKIE": CookieSettings(path="/limited")},
    }
    made = {}
    for name, given in kinds.items():
        with override_settings(COATCHECK=given):
            made[name] = Home()
            made[name].open()
    return made


def _middleware() -> list[str]:
    return [f"{__name__}.ByPath" if "SessionMiddleware" in path else path for path in settings.MIDDLEWARE]


def make_django(store: Any = None) -> WSGIApplication:
    """The scenarios under WSGI."""
    places = homes(store or settings.COATCHECK["STORE"])
    with override_settings(MIDDLEWARE=_middleware()):
        handler = WSGIHandler()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        page = "/scenario/" + path.rpartition("/")[2]
        more = {HOMES: places, _OF_PATH: path, "PATH_INFO": page, "SCRIPT_NAME": _prefix(path)}
        environ.update(more)
        return handler(environ, start_response)

    return app


def make_djangoasgi(store: Any = None) -> App:
    """The scenarios under ASGI, in async views."""
    places = homes(store or settings.COATCHECK["STORE"])
    with override_settings(MIDDLEWARE=_middleware()):
        handler: Any = ASGIHandler()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # Django knows no lifespan
            return
        path, prefix = scope["path"], _prefix(scope["path"])
        page = f"{prefix}/ascenario/{path.rpartition('/')[2]}"
        more = {HOMES: places, _OF_PATH: path, "path": page, "root_path": prefix}
        await handler({**scope, **more}, receive, send)

    return app


def _prefix(path: str) -> str:
    return "/limited" if path.startswith("/limited") else ""


def __getattr__(name: str) -> Any:
    """Only what a server is told to serve is made."""
    makers: dict[str, Any] = {
        "wsgi": WSGIHandler,
        "asgi": ASGIHandler,
        "django": make_django,
        "djangoasgi": make_djangoasgi,
    }
    if name not in makers:
        raise AttributeError(name)
    made = globals()[name] = makers[name]()
    return made
