"""Quart by raw sockets, through hypercorn, which its manual names, and through uvicorn."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.web import others
from tests.web.places import redis_url
from tests.web.servers import Browser, Server, Wire, hypercorn, uvicorn
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


# --------------------------------------------------------------------------------------------- streams and WebSockets

HANDSHAKE = {
    "Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
}  # fmt: skip


@pytest.fixture(params=[hypercorn, uvicorn], ids=lambda start: start.__name__)
def live(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with request.param("tests.web.live:quart", folder=tmp_path) as server:
        yield server


def test_a_stream_is_not_held_back_and_keeps_its_changes_when_the_client_leaves(live: Server) -> None:
    visitor = Browser(live)
    with Wire(live) as wire:
        wire.send(visitor.request("/stream"))
        visitor.remember(wire.head())
        pieces = wire.pieces()
        assert next(pieces) == b"data: begun\n\n"
        assert visitor.visit("/read").text == "begun"
        visitor.visit("/open")
        assert next(pieces) == b"data: more\n\n"
    for _ in range(10_000):  # until the server notices; each turn is a request
        if visitor.visit("/read").text == "opened":
            break
    else:
        pytest.fail("what the stream changed was not kept")


def test_a_websocket_brings_its_cookie_with_the_handshake(live: Server) -> None:
    visitor = Browser(live)
    with Wire(live) as wire:
        wire.send(visitor.request("/ws", **HANDSHAKE))
        head = wire.head()
        visitor.remember(head)
        assert (head.status, visitor.visit("/read").text) == (101, "handshake")
        wire.send(b"\x81\x84\0\0\0\0told")  # one text frame, masked with zeros (RFC 6455 section 5.2)
        assert (
            wire.exactly(1) == b"\x88"
        )  # its answer is the close frame, which is not sent before the commit
        assert visitor.visit("/read").text == "told"


def test_a_handshake_that_is_answered_with_a_page_brings_its_cookie_too(live: Server) -> None:
    visitor = Browser(live)
    with Wire(live) as wire:
        wire.send(visitor.request("/refused", **HANDSHAKE))
        head = wire.head()
    visitor.remember(head)
    assert (head.status, visitor.visit("/read").text) == (403, "refused")


def test_a_websocket_is_closed_when_its_session_is_over(live: Server) -> None:
    visitor = Browser(live)
    visitor.visit("/login")
    elsewhere = Browser(live, cookies=dict(visitor.cookies))
    with Wire(live) as wire:
        wire.send(visitor.request("/chat", **HANDSHAKE))
        assert wire.head().status == 101
        wire.send(b"\x81\x85\0\0\0\0hello")
        assert wire.exactly(12) == b"\x81\x0aada: hello"
        elsewhere.visit("/logout")
        assert wire.exactly(23) == b"\x88\x15" + (1008).to_bytes(2, "big") + b"the session is over"
        wire.send(b"\x88\x82\0\0\0\0\x03\xf0")  # the client agrees to close
        assert wire.to_the_end() == b""
    assert "Exception" not in live.log.read_text()
