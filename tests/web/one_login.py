"""One application in several frameworks, over one store: each logs in and out in the framework's own words.

`/login?user=…` and `/logout` are the framework's (Flask-Login's, Django's), where it has such; `/me` says whom it takes the
visitor for. `/count`, `/keep`, `/devices` and `/end?handle=…` are alike.
"""

import datetime
import os
from collections.abc import Mapping
from inspect import isawaitable
from typing import Any

from tests.web.paths import SECRET

USERS = range(1, 400)
"""Whom Django has in its table of users."""
MOMENT = datetime.datetime(2026, 11, 25, 18, 30, tzinfo=datetime.UTC)
COMMON: dict[str, Any] = {"store": os.environ.get("STORE", "memory:"), "secret": SECRET}


def act(session: Any, page: str, query: Mapping[str, str]) -> Any:
    """What all pages do alike; awaitable in an asynchronous framework."""
    match page:
        case "count":
            return session.increment("n")
        case "keep":
            session["kept"] = {"at": MOMENT, "of": ("a", "tuple")}
        case "kept":
            return session.get("kept") == {"at": MOMENT, "of": ("a", "tuple")}
        case "devices":
            return session.devices()
        case "end":
            return session.end_device(query["handle"])
    return None


def shown(session: Any, user: Any, result: Any) -> dict[str, Any]:
    """The answer: whom the framework, and whom the session takes the visitor for, and what there is to see."""
    if isinstance(result, list):
        result = sorted(device.handle for device in result)
    handle = session.handle if session.user_id is not None else None
    who = {"user": user, "user_id": session.user_id, "handle": handle}
    return {**who, "n": session.get("n", 0), "result": result}


async def answer(session: Any, user: Any, page: str, query: Mapping[str, str]) -> dict[str, Any]:
    """The same, awaited."""
    result = act(session, page, query)
    return shown(session, user, await result if isawaitable(result) else result)


def make_fastapi() -> Any:
    from fastapi import FastAPI, Request

    from coatcheck.fastapi import SessionDep, SessionMiddleware

    app = FastAPI()
    app.add_middleware(SessionMiddleware, **COMMON)

    @app.get("/{page}")
    async def page(page: str, session: SessionDep, request: Request) -> dict[str, Any]:
        if page == "login":
            session.login(request.query_params["user"])
        elif page == "logout":
            session.logout()
        return await answer(session, session.user_id, page, request.query_params)

    return app


def make_flask() -> Any:
    from flask import Flask, request, session
    from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user

    from coatcheck.flask import CoatCheck

    class Person(UserMixin):  # type: ignore[misc]  # it has no types
        def __init__(self, user_id: str) -> None:
            self.id = user_id

    app = Flask(__name__)
    app.config["SECRET_KEY"] = SECRET
    CoatCheck(app, **COMMON)
    LoginManager(app).user_loader(Person)

    @app.get("/<page>")
    def page(page: str) -> dict[str, Any]:
        if page == "login":
            login_user(Person(request.args["user"]))
        elif page == "logout":
            logout_user()
        return shown(session, current_user.get_id(), act(session, page, request.args))

    return app


def make_quart() -> Any:
    from quart import Quart, request, session

    from coatcheck.quart import CoatCheck

    app = Quart(__name__)
    app.config["SECRET_KEY"] = SECRET
    CoatCheck(app, **COMMON)

    @app.get("/<page>")
    async def page(page: str) -> dict[str, Any]:
        current: Any = session
        if page == "login":
            current.login(request.args["user"])
        elif page == "logout":
            current.logout()
        return await answer(current, current.user_id, page, request.args)

    return app


def make_litestar() -> Any:
    from litestar import Litestar, Request, get

    from coatcheck.litestar import CoatCheck

    @get("/{page:str}")
    async def page(page: str, request: Request[Any, Any, Any]) -> dict[str, Any]:
        session: Any = request.session
        if page == "login":
            session.login(request.query_params["user"])
        elif page == "logout":
            session.logout()
        return await answer(session, session.user_id, page, request.query_params)

    return Litestar([page], plugins=[CoatCheck(**COMMON)], logging_config=None)


def make_aiohttp() -> Any:
    from aiohttp import web

    from coatcheck.aiohttp import get_session, setup

    async def page(request: web.Request) -> web.Response:
        name, session = request.match_info["page"], await get_session(request)
        if name == "login":
            session.login(request.query["user"])
        elif name == "logout":
            session.logout()
        return web.json_response(await answer(session, session.user_id, name, request.query))

    app = web.Application()
    setup(app, **COMMON)
    app.router.add_get("/{page}", page)
    return app


def make_django() -> Any:
    from django import setup
    from django.conf import settings
    from django.contrib.auth import get_user_model, login, logout
    from django.core.management import call_command
    from django.core.wsgi import get_wsgi_application
    from django.http import JsonResponse
    from django.urls import path

    database = os.path.join(os.environ["FOLDER"], "people.sqlite3")
    settings.configure(
        SECRET_KEY=SECRET,
        ALLOWED_HOSTS=["localhost"],
        ROOT_URLCONF=(),
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": database}},
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "coatcheck.django"],
        MIDDLEWARE=[
            "coatcheck.django.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        SESSION_ENGINE="coatcheck.django.engine",
        COATCHECK={"STORE": COMMON["store"]},
    )
    setup()
    people = get_user_model().objects

    def page(request: Any, page: str) -> JsonResponse:
        if page == "login":
            login(request, people.get(pk=request.GET["user"]))
        elif page == "logout":
            logout(request)
        user = None if request.user.is_anonymous else str(request.user.pk)
        return JsonResponse(shown(request.session, user, act(request.session, page, request.GET)))

    settings.ROOT_URLCONF = (path("<page>", page),)
    call_command("migrate", verbosity=0)
    people.bulk_create([get_user_model()(pk=number, username=f"user{number}") for number in USERS])
    return get_wsgi_application()


APPS = {
    "django": make_django,
    "aiohttp": make_aiohttp,
    "flask": make_flask,
    "fastapi": make_fastapi,
    "quart": make_quart,
    "litestar": make_litestar,
}


def __getattr__(name: str) -> Any:
    """Only what a server is told to serve is made."""
    if name in APPS:
        return APPS[name]()
    raise AttributeError(name)
