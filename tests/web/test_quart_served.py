"""Quart by raw sockets, through hypercorn, which its manual names, and through uvicorn. Streams and WebSockets: test_live.py."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.web import others
from tests.web.places import redis_url
from tests.web.servers import Browser, Server, hypercorn, uvicorn
from tests.web.stories import STORIES
from tests.web.visitors import AsgiVisitor

SERVERS: dict[str, tuple[Any, Any]] = {
    "hypercorn": (hypercorn, None), "uvicorn": (uvicorn, None), "hypercorn-redis": (hypercorn, redis_url),
}  # fmt: skip


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    start, url = SERVERS[request.param]
    folder = tmp_path_factory.mktemp("quart")
    env = {"STORE": url(request, folder)} if url else {}
    with start("tests.web.others:quart", folder=folder, env=env) as server:
        yield server


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_a_visitor_of_a_server(server: Server, story: Callable[[Any], None]) -> None:
    story(lambda: Browser(server))


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_a_visitor_of_the_application_itself(story: Callable[[Any], None]) -> None:
    app = others.make_quart()
    story(lambda: AsgiVisitor(app))
