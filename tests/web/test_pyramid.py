"""Pyramid with the generic middleware: through Werkzeug's client, through gunicorn, and its own kind of session by the recipe."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pyramid.authentication import SessionAuthenticationHelper
from pyramid.config import Configurator
from pyramid.csrf import get_csrf_token, new_csrf_token
from pyramid.httpexceptions import HTTPConflict
from pyramid.interfaces import ISession
from pyramid.response import Response

from coatcheck import UserKey
from coatcheck.wsgi import SessionMiddleware
from tests.web import others
from tests.web.apps import SECRET, Boom
from tests.web.others import PYRAMID
from tests.web.rig import Counted, Time
from tests.web.servers import Browser, Server, gunicorn
from tests.web.stories import STORIES
from tests.web.visitors import WsgiVisitor


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with gunicorn("tests.web.others:pyramid", folder=tmp_path_factory.mktemp("pyramid")) as server:
        yield server


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_a_visitor_of_a_server(server: Server, story: Callable[[Any], None]) -> None:
    story(lambda: Browser(server))


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_a_visitor_through_a_client(story: Callable[[Any], None]) -> None:
    app = others.make_pyramid()
    story(lambda: WsgiVisitor(app))


class Site:
    """An application whose pages are given as functions of the request."""

    def __init__(self, store: Any = None, **options: Any) -> None:
        self.config = Configurator()
        PYRAMID.includeme(self.config)
        self._store, self._options = store or Counted(), options

    def page(self, path: str, view: Callable[[Any], Any], **options: Any) -> None:
        """Add one."""
        self.config.add_route(path, path)
        text = lambda request: Response(str(view(request)))  # noqa: E731  # a name for it says nothing
        self.config.add_view(text, route_name=path, **options)

    def visitor(self) -> WsgiVisitor:
        """Somebody who visits it."""
        app = self.config.make_wsgi_app()
        return WsgiVisitor(PYRAMID.PyramidSessions(app, store=self._store, secret=SECRET, **self._options))


def test_it_has_all_that_pyramid_says_a_session_has() -> None:
    missing = [name for name in ISession.names(all=True) if not hasattr(PYRAMID.PyramidSession, name)]
    assert missing == []


def test_flash_messages_have_queues() -> None:
    site, said = Site(), list[Any]()

    def leave(request: Any) -> str:
        request.session.flash("one")
        request.session.flash("one", allow_duplicate=False)
        request.session.flash("one")
        request.session.flash("two", "other")
        return ""

    def show(request: Any) -> str:
        session = request.session
        said.append(
            (session.peek_flash(), session.pop_flash(), session.pop_flash("other"), session.pop_flash())
        )
        return ""

    site.page("/leave", leave)
    site.page("/show", show)
    visitor = site.visitor()
    for path in ("/leave", "/show", "/show"):
        visitor.visit(path)
    assert said == [(["one", "one"], ["one", "one"], ["two"], []), ([], [], [], [])]


def test_csrf_tokens_are_those_of_the_session() -> None:
    site = Site()
    site.config.set_default_csrf_options(require_csrf=True)
    site.page("/token", get_csrf_token)
    site.page("/another", new_csrf_token)
    site.page("/act", lambda request: "done", request_method="POST")
    visitor = site.visitor()
    first = visitor.visit("/token").text
    assert visitor.visit("/token").text == first
    assert [visitor.visit("/act", "POST", X_CSRF_Token=token).status for token in ("", "no", first)] == [
        400, 400, 200,
    ]  # fmt: skip
    second = visitor.visit("/another").text
    assert [visitor.visit("/act", "POST", X_CSRF_Token=token).status for token in (first, second)] == [
        400,
        200,
    ]


def test_the_words_of_a_pyramid_session() -> None:
    time = Time()
    site, said = Site(clock=time.clock), list[Any]()

    def look(request: Any) -> str:
        said.append(request.session.new)
        request.session["n"] = 1
        request.session.changed()
        return str(request.session.created)

    site.page("/look", look)
    site.page("/end", lambda request: request.session.invalidate())
    site.page("/read", lambda request: request.session.get("n"))
    visitor = site.visitor()
    visitor.visit("/look")
    time.now += 60
    assert visitor.visit("/look").text == str(int(time.now - 60))
    assert said == [True, False]
    visitor.visit("/end")
    assert (visitor.visit("/read").text, visitor.cookies) == ("None", {})


def test_pyramids_own_login_is_the_one_of_all_frameworks() -> None:
    site, helper = Site(identity=UserKey("auth.userid")), SessionAuthenticationHelper()
    site.page("/remember", lambda request: helper.remember(request, "ada"))
    site.page("/forget", lambda request: helper.forget(request))
    site.page("/set", lambda request: request.session.update(n=1))
    site.page("/read", lambda request: request.session.get("n"))
    site.page("/who", lambda request: f"{helper.authenticated_userid(request)} {request.session.user_id}")
    visitor = site.visitor()
    visitor.visit("/set")
    planted = dict(visitor.cookies)
    visitor.visit("/remember")
    assert (visitor.visit("/who").text, visitor.cookies != planted) == ("ada ada", True)
    logged_in = dict(visitor.cookies)
    visitor.visit("/forget")
    assert (visitor.visit("/who").text, visitor.visit("/read").text) == ("None None", "1")
    for stale in (planted, logged_in):
        visitor.cookies = stale
        assert visitor.visit("/who").text == "None None"


def test_a_request_that_never_looks_costs_nothing() -> None:
    store = Counted()
    site = Site(store)
    site.page("/pub", lambda request: "public")
    site.page("/set", lambda request: request.session.update(n=1))
    visitor = site.visitor()
    told = []
    for path in ("/pub", "/set", "/set", "/pub"):
        visitor.visit(path)
        told.append(store.told())
    assert told == [[], ["create"], ["load"], []]


def test_without_a_store_the_answer_is_503_and_never_an_anonymous_page() -> None:
    store = Counted()
    site = Site(store)
    site.page("/", lambda request: request.session.update(n=1))
    visitor = site.visitor()
    visitor.visit("/")
    store.down = True
    seen = visitor.visit("/")
    assert (seen.status, seen.all("retry-after"), seen.all("set-cookie")) == (503, ["5"], [])


def test_an_exception_without_a_view_passes_and_one_with_a_view_is_an_answer() -> None:
    site = Site()

    def fail(request: Any) -> None:
        request.session["n"] = request.params["how"]
        raise HTTPConflict if request.params["how"] == "meant" else Boom

    site.page("/fail", fail)
    site.page("/read", lambda request: request.session.get("n"))
    visitor = site.visitor()
    assert [visitor.visit(f"/fail?how={how}").status for how in ("meant", "a bug")] == [409, 500]
    assert visitor.visit("/read").text == "meant"


def test_the_plain_middleware_does_for_whoever_needs_none_of_pyramids_words() -> None:
    with Configurator() as config:
        PYRAMID.includeme(config)
        config.add_route("count", "/")
        config.add_view(lambda request: Response(str(request.session.increment("n"))), route_name="count")
        app = config.make_wsgi_app()
    visitor = WsgiVisitor(SessionMiddleware(app, secret=SECRET))
    assert [visitor.visit("/").text for _ in range(2)] == ["1", "2"]
