"""Bottle with the generic middleware: through Werkzeug's client (Bottle has none), and through gunicorn."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bottle import Bottle, abort, redirect, request

from coatcheck.wsgi import SessionMiddleware, get_session
from tests.web import others
from tests.web.apps import SECRET, Boom
from tests.web.rig import Counted
from tests.web.servers import Browser, Server, gunicorn
from tests.web.stories import STORIES
from tests.web.visitors import WsgiVisitor

KEY = "bottle.request.ext.session"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with gunicorn("tests.web.others:bottle_wsgi", folder=tmp_path_factory.mktemp("bottle")) as server:
        yield server


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_a_visitor_of_a_server(server: Server, story: Callable[[Any], None]) -> None:
    story(lambda: Browser(server))


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_a_visitor_through_a_client(story: Callable[[Any], None]) -> None:
    app = others.make_bottle()
    story(lambda: WsgiVisitor(app))


def make(store: Counted, *, passes: bool = True) -> Any:
    """An application that counts; `passes` its exceptions on to the middleware."""
    app = Bottle()
    app.catchall = not passes

    @app.get("/")
    def count() -> str:
        assert get_session(request.environ, key=KEY) is request.session
        return str(request.session.increment("n"))

    @app.get("/answer/<how>")
    def answer(how: str) -> None:
        request.session["n"] = 100
        if how == "abort":
            abort(409)
        redirect("/")

    @app.get("/fail")
    def fail() -> None:
        request.session["n"] = 100
        raise Boom

    return SessionMiddleware(app, store=store, secret=SECRET, environ_key=KEY)


def test_without_a_store_the_answer_is_503_and_never_an_anonymous_page() -> None:
    store = Counted()
    visitor = WsgiVisitor(make(store))
    visitor.visit("/")
    store.down = True
    seen = visitor.visit("/")
    assert (seen.status, seen.all("retry-after"), seen.all("set-cookie")) == (503, ["5"], [])


@pytest.mark.parametrize(("how", "status"), [("abort", 409), ("redirect", 303)])
def test_an_error_that_is_meant_is_an_answer(how: str, status: int) -> None:
    visitor = WsgiVisitor(make(Counted()))
    visitor.visit("/")
    assert visitor.visit(f"/answer/{how}").status == status
    assert visitor.visit("/").text == "101"


@pytest.mark.parametrize("passes", [True, False])
def test_why_exceptions_must_pass(passes: bool) -> None:
    """Bottle's own page for them is a response like others: the middleware cannot know that the request failed."""
    visitor = WsgiVisitor(make(Counted(), passes=passes))
    visitor.visit("/")
    assert visitor.visit("/fail").status == 500
    assert visitor.visit("/").text == ("2" if passes else "101")
