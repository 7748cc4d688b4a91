"""Falcon, under WSGI and ASGI, with the generic middlewares: through Falcon's own client, and through gunicorn and uvicorn."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import falcon
import falcon.asgi
import pytest
from falcon.testing import ASGIConductor, TestClient

from coatcheck.asgi import SessionMiddleware as AsgiSessions
from coatcheck.wsgi import SessionMiddleware as WsgiSessions
from tests.web import others
from tests.web.apps import SECRET, Boom
from tests.web.others import FALCON, TOGETHER
from tests.web.rig import Counted, run
from tests.web.servers import Browser, Seen, Server, gunicorn, uvicorn
from tests.web.stories import STORIES, does_things_at_once

STARTS: dict[str, Any] = {"falcon_wsgi": gunicorn, "falcon_asgi": uvicorn}


class FalconVisitor(Browser):
    """Visits an application with Falcon's test client; an exception of the application is a 500."""

    def __init__(self, app: Any) -> None:
        super().__init__(Server(0, 0, Path()))  # there is none
        self.client = TestClient(app)

    def visit(self, path: str, method: str = "GET", **headers: str) -> Seen:
        """Ask for a page."""
        path, _, query = path.partition("?")
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        fields = {"Cookie": cookie} if cookie else {}
        try:
            result = self.client.simulate_request(
                method, path, query_string=query, headers=fields, host="localhost"
            )
        except Boom:
            return Seen(500, ())
        seen = Seen(result.status_code, tuple(result.headers.items()), result.content)
        self.remember(seen)
        return seen


@pytest.fixture(scope="module", params=STARTS)
def face(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(face: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with STARTS[face](f"tests.web.others:{face}", folder=tmp_path_factory.mktemp(face)) as server:
        yield server


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_a_visitor_of_a_server(server: Server, story: Callable[[Any], None]) -> None:
    story(lambda: Browser(server))


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_a_visitor_through_falcons_own_client(face: str, story: Callable[[Any], None]) -> None:
    app = getattr(others, f"make_{face}")()
    if (
        face == "falcon_asgi" and story is does_things_at_once
    ):  # the client has one event loop, which is then busy
        run(at_once(app))
    else:
        story(lambda: FalconVisitor(app))


async def at_once(app: Any) -> None:
    """Requests that overlap, in one event loop."""
    async with ASGIConductor(app) as conductor:

        async def visit(path: str, **fields: str) -> Any:
            return await conductor.simulate_get(path, host="localhost", headers=fields)

        first = await visit("/incr")
        cookie = first.headers["set-cookie"].partition(";")[0]
        keys = [f"k{number}" for number in range(TOGETHER)]
        await asyncio.gather(*(visit(f"/meet?key={key}", Cookie=cookie) for key in keys))
        assert [(await visit(f"/read?k={key}", Cookie=cookie)).text for key in keys] == ["True"] * TOGETHER
        assert (await visit("/incr", Cookie=cookie)).text == str(TOGETHER + 2)


class Page:
    """Counts, and fails if told to."""

    def on_get(self, req: Any, resp: Any) -> None:
        resp.text = str(req.context.session.increment("n"))

    def on_post(self, req: Any, resp: Any) -> None:
        req.context.session["n"] = 100
        raise falcon.HTTPConflict if req.params else Boom


class AsyncPage:
    """The same."""

    async def on_get(self, req: Any, resp: Any) -> None:
        Page().on_get(req, resp)

    async def on_post(self, req: Any, resp: Any) -> None:
        Page().on_post(req, resp)

    async def on_websocket(self, req: Any, ws: Any) -> None:
        req.context.session["n"] = 41
        await ws.accept()
        req.context.session.increment("n", int(await ws.receive_text()))
        await ws.close()


def make(face: str, store: Counted, *, passes: bool = True) -> Any:
    """An application that counts; `passes` its exceptions on to the middleware."""
    app: Any
    if face == "falcon_wsgi":
        app, page, handler, kind = falcon.App, Page, FALCON.pass_on, WsgiSessions
    else:
        app, page, handler, kind = falcon.asgi.App, AsyncPage, FALCON.pass_on_async, AsgiSessions  # type: ignore[assignment]
    app = app(middleware=[FALCON.SessionContext()])
    if passes:
        app.add_error_handler(Exception, handler)
    app.add_route("/", page())
    return kind(app, store=store, secret=SECRET)


def test_without_a_store_the_answer_is_503_and_never_an_anonymous_page(face: str) -> None:
    store = Counted()
    visitor = FalconVisitor(make(face, store))
    visitor.visit("/")
    store.down = True
    seen = visitor.visit("/")
    assert (seen.status, seen.all("retry-after"), seen.all("set-cookie")) == (503, ["5"], [])


def test_an_http_error_is_an_answer(face: str) -> None:
    visitor = FalconVisitor(make(face, Counted()))
    visitor.visit("/")
    assert visitor.visit("/?answer=1", "POST").status == 409
    assert visitor.visit("/").text == "101"


@pytest.mark.parametrize("passes", [True, False])
def test_why_exceptions_must_pass(face: str, passes: bool) -> None:
    """Falcon's own page for them is a response like others: the middleware cannot know that the request failed."""
    visitor = FalconVisitor(make(face, Counted(), passes=passes))
    visitor.visit("/")
    assert visitor.visit("/", "POST").status == 500
    assert visitor.visit("/").text == ("2" if passes else "101")


def test_a_websocket_of_falcons_has_the_session_too() -> None:
    store = Counted()

    async def main() -> None:
        async with ASGIConductor(make("falcon_asgi", store)) as conductor:
            first = await conductor.simulate_get("/", host="localhost")
            fields = {"Cookie": first.headers["set-cookie"].partition(";")[0]}
            async with conductor.simulate_ws("/", host="localhost", headers=fields) as socket:
                await socket.send_text("1")
            again = await conductor.simulate_get("/", host="localhost", headers=fields)
            assert again.text == "43"

    run(main())
