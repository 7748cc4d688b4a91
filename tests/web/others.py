"""The application of the stories (`tests/web/stories.py`) in Quart, and in frameworks that need no adapter of ours: Falcon, both
ways, Bottle and Pyramid.

Each reaches the session in its own idiom, by the recipe that is printed in docs/frameworks/falcon-bottle-pyramid.md; what it then
does is written once, in `apps.answer`, and here for what waits.
"""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import bottle
import falcon
import falcon.asgi
import quart as quart_package
from pyramid.config import Configurator
from pyramid.response import Response as PyramidResponse

from coatcheck.asgi import App
from coatcheck.asgi import SessionMiddleware as AsgiSessions
from coatcheck.quart import CoatCheck
from coatcheck.wsgi import SessionMiddleware as WsgiSessions
from tests.docs.test_snippets import ROOT, snippets
from tests.web.apps import SECRET, STORE, answer
from tests.web.rig import Time

TOGETHER = 5
"""So many requests meet: no more than an event loop has threads to wait in, on a machine with one processor."""


def recipe(name: str) -> SimpleNamespace:
    """What is defined by the recipe that has this name in it."""
    page = ROOT / "docs" / "frameworks" / "falcon-bottle-pyramid.md"
    (code,) = [s.parts[0][1] for s in snippets(page, page.read_text()) if f"class {name}" in s.parts[0][1]]
    defined: dict[str, Any] = {"__name__": "recipe"}
    exec(compile(code, page, "exec"), defined)
    return SimpleNamespace(**defined)


FALCON, PYRAMID = recipe("SessionContext"), recipe("PyramidSession")


class Place:
    """What one application has: a clock that can be moved, and a place where requests meet."""

    def __init__(self) -> None:
        self.time, self.barrier = Time(), threading.Barrier(TOGETHER)

    @property
    def options(self) -> dict[str, Any]:
        """For the middleware."""
        return {"store": STORE, "secret": SECRET, "clock": self.time.clock}

    def later(self, s: str) -> str:
        """Let time pass."""
        self.time.now += float(s)
        return ""

    def meet(self) -> None:
        """Wait until all are here."""
        self.barrier.wait(60)

    def act(self, session: Any, page: str, query: dict[str, str]) -> str:
        """What a sync application does."""
        if page == "later":
            return self.later(**query)
        if page == "others":
            return str(session.end_others())
        if page == "meet":
            session[query["key"]] = session.increment("n") > 0
            self.meet()
            return ""
        return text_of(page, query, session)

    async def act_async(self, session: Any, page: str, query: dict[str, str]) -> str:
        """What an async application does."""
        if page == "later":
            return self.later(**query)
        if page == "others":
            return str(await session.end_others())
        if page == "meet":
            session[query["key"]] = session.increment("n") > 0
            await asyncio.to_thread(self.meet)
            return ""
        return text_of(page, query, session)


def text_of(page: str, query: dict[str, str], session: Any) -> str:
    """The text of a page that is nothing but text."""
    _, _, body = answer(page, query, session)
    assert isinstance(body, str)
    return body


def make_quart() -> App:
    """Quart: `quart.session`."""
    place, app = Place(), quart_package.Quart(__name__)
    CoatCheck(app, **place.options)

    @app.get("/<page>")
    async def page(page: str) -> str:
        session: Any = quart_package.session
        return await place.act_async(session, page, quart_package.request.args.to_dict())

    return app


# ----------------------------------------------------------------------------------------------------------- Falcon


def make_falcon_wsgi() -> Any:
    """Falcon under WSGI."""
    place = Place()

    class Page:
        def on_get(self, req: Any, resp: Any, page: str) -> None:
            resp.text = place.act(req.context.session, page, req.params)

    app = falcon.App(middleware=[FALCON.SessionContext()])
    app.add_error_handler(Exception, FALCON.pass_on)
    app.add_route("/{page}", Page())
    return WsgiSessions(app, **place.options)


def make_falcon_asgi() -> Any:
    """Falcon under ASGI."""
    place = Place()

    class Page:
        async def on_get(self, req: Any, resp: Any, page: str) -> None:
            resp.text = await place.act_async(req.context.session, page, req.params)

    app = falcon.asgi.App(middleware=[FALCON.SessionContext()])
    app.add_error_handler(Exception, FALCON.pass_on_async)
    app.add_route("/{page}", Page())
    return AsgiSessions(app, **place.options)


# ----------------------------------------------------------------------------------------------------------- Bottle


def make_bottle() -> Any:
    """Bottle: `request.session`, since it looks for attributes it does not know under this key."""
    place, app = Place(), bottle.Bottle()
    app.catchall = False  # an exception is the middleware's to see

    @app.get("/<page>")
    def page(page: str) -> str:
        return place.act(bottle.request.session, page, dict(bottle.request.query.decode()))

    return WsgiSessions(app, environ_key="bottle.request.ext.session", **place.options)


# ---------------------------------------------------------------------------------------------------------- Pyramid


def make_pyramid() -> Any:
    """Pyramid: `request.session`, as its session factory makes it."""
    place = Place()

    def page(request: Any) -> PyramidResponse:
        return PyramidResponse(place.act(request.session, request.matchdict["page"], dict(request.params)))

    with Configurator() as config:
        PYRAMID.includeme(config)
        config.add_route("page", "/{page}")
        config.add_view(page, route_name="page")
        app = config.make_wsgi_app()
    return PYRAMID.PyramidSessions(app, **place.options)


quart, falcon_asgi = make_quart(), make_falcon_asgi()
falcon_wsgi, bottle_wsgi, pyramid = make_falcon_wsgi(), make_bottle(), make_pyramid()
