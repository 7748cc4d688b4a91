"""`on_store_error`: what becomes of a request when the store cannot be reached, through every adapter alike.

One application, spoken to through ASGI, WSGI and Flask; its store fails on demand.
"""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import flask
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from werkzeug.test import Client

from coatcheck import (
    AsyncSessionManager,
    ConfigurationError,
    Event,
    Options,
    Outage,
    ReplyLost,
    SessionManager,
    StoreError,
    StoreUnavailable,
    Uncertain,
)
from coatcheck.core.ids import Ticket
from coatcheck.fastapi import CurrentUser, get_session
from coatcheck.fastapi import SessionMiddleware as FastApiMiddleware
from coatcheck.flask import CoatCheck
from coatcheck.starlette import SessionMiddleware
from coatcheck.stores.memory import MemoryStore
from coatcheck.wsgi import SessionMiddleware as WsgiMiddleware
from tests.faulty import FaultyServer, FaultyStore

SECRET = "tests-only-Zt3xk0VbX1qv8m2LwP5rYd7NfQ9sHc4G"
AWAY = StoreUnavailable("no route to the store")
BASE = "https://testserver"

# -------------------------------------------------------------------------------------------------- one application


def act(session: Any, what: str) -> str:
    """What the application does, named by the path. It answers what it saw first."""
    user = session.user_id
    match what:
        case "set":
            session["name"] = "set"
        case "login":
            session.login("bob")
        case "logout":
            session.logout()
        case "regenerate":
            session.regenerate()
            session["name"] = "rotated"
        case "gone":
            session.clear()
        case "why":
            return str(session.outage)
    return f"{user} {session.get('name')}"


class Answer(NamedTuple):
    """What came back."""

    status: int
    text: str
    cookies: list[str]
    headers: Any


class Visit(Protocol):
    """A visitor of a site."""

    def __call__(self, path: str, *, keep: bool = True) -> Answer: ...


def by_starlette(**options: Any) -> Visit:
    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse(act(request.session, request.url.path[1:]))

    app = Starlette(routes=[Route("/{what}", page)])
    app.add_middleware(SessionMiddleware, secret=SECRET, **options)
    app.middleware_stack = app.build_middleware_stack()  # now, and not at the first request
    client = TestClient(app, base_url=BASE)

    def visit(path: str, *, keep: bool = True) -> Answer:
        before = dict(client.cookies)
        response = client.get(path)
        if not keep:
            client.cookies.clear()
            client.cookies.update(before)
        return Answer(
            response.status_code, response.text, response.headers.get_list("set-cookie"), response.headers
        )

    return visit


def by_wsgi(**options: Any) -> Visit:
    def app(environ: Any, start_response: Any) -> Any:
        text = act(environ["coatcheck.session"], environ["PATH_INFO"][1:])
        start_response("200 OK", [])
        return [text.encode()]

    return werkzeug(Client(WsgiMiddleware(app, secret=SECRET, **options)))


def by_flask(**options: Any) -> Visit:
    app = flask.Flask(__name__)
    CoatCheck(app, secret=SECRET, **options)

    @app.get("/<what>")
    def page(what: str) -> str:
        return act(flask.session, what)

    return werkzeug(app.test_client())


def werkzeug(client: Any) -> Visit:
    def visit(path: str, *, keep: bool = True) -> Answer:
        response = client.get(path, base_url=BASE)
        return Answer(
            response.status_code, response.text, response.headers.getlist("set-cookie"), response.headers
        )

    return visit


@pytest.fixture(params=[by_starlette, by_wsgi, by_flask])
def site(request: pytest.FixtureRequest) -> Callable[..., Visit]:
    make: Callable[..., Visit] = request.param
    return make


class Scene:
    """A visitor with a session of ada's, and the store she depends on."""

    def __init__(self, site: Callable[..., Visit], **options: Any) -> None:
        self.server, self.events = FaultyServer(), list[Event]()
        self.visit = site(store=FaultyStore(self.server), on_event=self.events.append, **options)

    def known(self) -> "Scene":
        self.visit("/login")
        self.visit("/set")
        self.events.clear()
        self.server.told()
        return self

    @property
    def heard(self) -> list[str]:
        return [event.name for event in self.events if event.name == "store.down"]


@pytest.fixture
def scene(site: Callable[..., Visit]) -> Scene:
    return Scene(site, on_store_error="anonymous")


# ------------------------------------------------------------------------------------------------------- "fail", the default


@pytest.mark.parametrize("path", ["/read", "/set", "/login", "/logout", "/regenerate"])
def test_by_default_a_request_that_needs_its_session_is_503(site: Callable[..., Visit], path: str) -> None:
    scene = Scene(site).known()
    scene.server.down(AWAY)
    answer = scene.visit(path)
    assert (answer.status, answer.headers["retry-after"], answer.cookies) == (503, "5", [])
    assert scene.heard == ["store.down"]
    scene.server.down(None)
    assert scene.visit("/read").text == "bob set"


# ------------------------------------------------------------------------------------------------------------- "anonymous"


def test_the_request_goes_on_with_an_empty_session_and_no_cookie_of_any_kind(scene: Scene) -> None:
    scene.known().server.down(AWAY)
    for path in ("/read", "/set", "/gone"):
        answer = scene.visit(path)
        assert (answer.status, answer.cookies) == (200, [])
        assert answer.text.startswith("None ")
    assert scene.heard == ["store.down"] * 3
    assert scene.server.told() == ["load"] * 3  # asked once a request, and never for a write
    scene.server.down(None)
    assert scene.visit("/read").text == "bob set"


def test_a_page_that_was_made_without_its_session_is_kept_from_shared_caches(scene: Scene) -> None:
    scene.known().server.down(AWAY)
    answer = scene.visit("/read")
    assert (answer.headers["vary"], answer.headers["cache-control"]) == ("Cookie", "private")


def test_nothing_is_stored_also_when_the_store_is_back_before_the_commit(scene: Scene) -> None:
    scene.known().server.down(AWAY, "load")
    answer = scene.visit("/set")
    assert (answer.status, answer.cookies) == (200, [])
    assert scene.server.told() == ["load"]


def test_whoever_comes_without_a_cookie_gets_none_either(scene: Scene) -> None:
    scene.server.down(AWAY)
    answer = scene.visit("/set")
    assert (answer.status, answer.text, answer.cookies) == (200, "None set", [])
    assert scene.heard == ["store.down"]
    assert scene.server.sessions._rows == {}


def test_what_changed_is_dropped_when_the_store_goes_away_before_the_commit(scene: Scene) -> None:
    scene.known().server.down(AWAY, "replace")
    scene.visit("/gone")
    answer = scene.visit("/gone")
    assert (answer.status, answer.cookies, scene.heard) == (200, [], ["store.down"] * 2)
    scene.server.down(None)
    assert scene.visit("/read").text == "bob set"


@pytest.mark.parametrize("lost", [ReplyLost("timed out"), Uncertain("no telling"), StoreError("READONLY")])
@pytest.mark.parametrize("verb", ["load", "replace"])
def test_every_error_of_the_store_counts(scene: Scene, verb: str, lost: StoreError) -> None:
    scene.known().server.down(lost, verb)
    answer = scene.visit("/gone")
    assert (answer.status, answer.cookies, scene.heard) == (200, [], ["store.down"])


def test_the_application_can_ask_why(scene: Scene) -> None:
    scene.known()
    assert scene.visit("/why").text == "None"
    scene.server.down(AWAY)
    assert scene.visit("/why").text == "no route to the store"


@pytest.mark.parametrize("known", [False, True])
def test_a_login_that_cannot_be_stored_is_never_pretended(scene: Scene, known: bool) -> None:
    if known:
        scene.known()
    scene.server.down(AWAY)
    answer = scene.visit("/login")
    assert (answer.status, answer.headers["retry-after"], answer.cookies) == (503, "5", [])
    assert scene.heard == ["store.down"]


def test_a_login_when_the_store_is_back_makes_a_session_of_its_own(scene: Scene) -> None:
    scene.known().server.down(AWAY, "load")
    answer = scene.visit("/login")
    assert (answer.status, len(answer.cookies)) == (200, 1)
    scene.server.down(None)
    assert scene.visit("/read").text == "bob None"
    assert len(scene.server.sessions._known) == 2  # the one before lives on: nobody could say whose it was


@pytest.mark.parametrize("down", [(), ("load",), ("delete",)])
def test_a_logout_that_cannot_be_carried_out_is_never_pretended(scene: Scene, down: tuple[str, ...]) -> None:
    scene.known().server.down(AWAY, *down)
    answer = scene.visit("/logout")
    assert (answer.status, answer.cookies, scene.heard) == (503, [], ["store.down"])
    scene.server.down(None)
    assert scene.visit("/read").text == "bob set"
    assert scene.visit("/logout").status == 200
    assert scene.visit("/read").text == "None None"


def test_a_rotation_that_cannot_be_stored_is_never_pretended(scene: Scene) -> None:
    scene.known().server.down(AWAY, "replace")
    answer = scene.visit("/regenerate")
    assert (answer.status, answer.cookies) == (503, [])


def test_the_policy_is_one_of_two(site: Callable[..., Visit]) -> None:
    with pytest.raises(ConfigurationError, match="on_store_error='ignore': give one of 'fail', 'anonymous'"):
        Scene(site, on_store_error="ignore")


# ------------------------------------------------------------------------------------------------- what acts at once


def sessions(**options: Any) -> tuple[FaultyServer, SessionManager, Ticket]:
    """A store with a session, its manager, and the session's ticket."""
    server = FaultyServer()
    manager = SessionManager(FaultyStore(server), options=Options(on_store_error="anonymous", **options))
    session = manager.session()
    session["a"] = 1
    session.save()
    assert session._verifier is not None
    return server, manager, Ticket(session.handle, session._verifier)


def test_what_acts_at_once_shows_its_errors() -> None:
    server, manager, ticket = sessions()
    server.down(AWAY)
    for verb in ("save", "destroy", "reload", "logout"):
        session = manager.session(ticket)
        with pytest.raises(StoreUnavailable, match="no route"):
            getattr(session, verb)()
    session = manager.session(ticket)
    assert session.take("a", "nothing") == "nothing"  # as empty as all of it
    assert session.outage is AWAY


def test_a_saved_login_ends_the_outage_of_its_session() -> None:
    server, manager, ticket = sessions()
    server.down(AWAY)
    session = manager.session(ticket)
    assert session.outage is AWAY
    session.login("ada")
    with pytest.raises(StoreUnavailable):
        session.save()
    server.down(None)
    session.save()
    assert session.user_id == "ada"
    assert dict(outage=session.outage) == {"outage": None}
    session.logout()
    session.save()


def test_an_async_session_goes_on_too() -> None:
    server, manager, ticket = sessions()

    async def main() -> None:
        faces = AsyncSessionManager(FaultyStore(server), options=manager.flows.options)
        server.down(AWAY)
        session = await faces.session(ticket).load()
        assert (session.get("a"), session.outage) == (None, AWAY)
        with pytest.raises(StoreUnavailable):
            await session.save()
        with pytest.raises(StoreUnavailable):
            await session.destroy()

    asyncio.run(main())


def test_rolling_sessions_that_nobody_used_are_nobodys_concern(site: Callable[..., Visit]) -> None:
    scene = Scene(site, on_store_error="anonymous", rolling=True).known()
    scene.server.down(AWAY)
    answer = scene.visit("/read")
    assert (answer.status, answer.cookies) == (200, [])


# ------------------------------------------------------------------------------------------------------------ streams


def test_a_stream_whose_later_changes_cannot_be_kept_ends_as_it_began() -> None:
    server, events = FaultyServer(), list[Event]()

    async def page(request: Request) -> StreamingResponse:
        request.session["n"] = 1

        async def body() -> Any:
            yield "a"
            server.down(AWAY)
            request.session["n"] = 2
            yield "b"

        return StreamingResponse(body())

    app = Starlette(routes=[Route("/", page)])
    options: dict[str, Any] = {"on_store_error": "anonymous", "on_event": events.append}
    app.add_middleware(SessionMiddleware, store=FaultyStore(server), secret=SECRET, **options)
    client = TestClient(app, base_url=BASE)
    assert client.get("/").text == "ab"
    assert [event.name for event in events] == ["session.created", "store.down"]


def test_a_wsgi_stream_likewise() -> None:
    server, events = FaultyServer(), list[Event]()

    def app(environ: Any, start_response: Any) -> Any:
        session = environ["coatcheck.session"]
        session["n"] = 1
        start_response("200 OK", [])

        def body() -> Any:
            yield b"a"
            server.down(AWAY)
            session["n"] = 2
            yield b"b"

        return body()

    options: dict[str, Any] = {"on_store_error": "anonymous", "on_event": events.append}
    client = Client(WsgiMiddleware(app, store=FaultyStore(server), secret=SECRET, **options))
    assert client.get("/", base_url=BASE).text == "ab"
    assert [event.name for event in events] == ["session.created", "store.down"]


def test_fastapi_takes_an_anonymous_visitor_for_one() -> None:
    app, server = FastAPI(), FaultyServer()
    app.add_middleware(
        FastApiMiddleware, store=FaultyStore(server), secret=SECRET, on_store_error="anonymous", lazy=True
    )

    @app.get("/me")
    async def me(user: CurrentUser) -> str:
        return user

    @app.get("/login")
    async def login(request: Request) -> None:
        (await get_session(request)).login("ada")

    client = TestClient(app, base_url=BASE)
    client.get("/login")
    assert client.get("/me").json() == "ada"
    server.down(AWAY)
    answer = client.get("/me")
    assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)


# ------------------------------------------------------------------------------------------------------ the setting's place


def test_outage_is_for_stores_that_are_opened_from_a_url(site: Callable[..., Visit]) -> None:
    with pytest.raises(ConfigurationError, match="MemoryStore keeps its own"):
        site(store=MemoryStore(), outage=Outage())
    with pytest.raises(ConfigurationError, match=r"outage=5: give coatcheck\.Outage"):
        site(store="memory:", outage=5)
    site(store="memory:", outage=Outage())  # a test's store, in place of the one the setting is for


def test_a_setting_of_it_that_stands_alone_is_shown_its_place(site: Callable[..., Visit]) -> None:
    with pytest.raises(ConfigurationError, match=r"give outage=Outage\(command_timeout=…\)"):
        site(store="memory:", command_timeout=5)
