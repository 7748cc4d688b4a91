"""Server-sent events and a WebSocket over real sockets: what the client has when, and what is kept when it leaves."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.web.servers import Browser, Server, Wire, gunicorn, uvicorn


@pytest.fixture(params=["asgi", "wsgi"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    start = uvicorn if request.param == "asgi" else gunicorn
    with start(f"tests.web.live:{request.param}", folder=tmp_path) as server:
        yield server


def test_a_stream_is_not_held_back_and_keeps_its_changes_when_the_client_leaves(server: Server) -> None:
    visitor = Browser(server)
    with Wire(server) as wire:
        wire.send(visitor.request("/stream"))
        head = wire.head()
        pieces = wire.pieces()
        assert next(pieces) == b"data: begun\n\n"
        visitor.remember(head)
        assert (head.all("cache-control"), visitor.visit("/read").text) == (["no-store"], "begun")
        visitor.visit("/open")
        assert next(pieces) == b"data: more\n\n"
        assert visitor.visit("/read").text == "begun"
    for _ in range(10_000):  # until the server notices; each turn is a request
        if visitor.visit("/read").text == "opened":
            break
    else:
        pytest.fail("what the stream changed was not kept")


def test_a_websocket_brings_its_cookie_with_the_handshake(tmp_path: Path) -> None:
    with uvicorn("tests.web.live:asgi", folder=tmp_path) as server:
        visitor = Browser(server)
        handshake = {
            "Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13",
            "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }  # fmt: skip
        with Wire(server) as wire:
            wire.send(visitor.request("/ws", **handshake))
            head = wire.head()
            visitor.remember(head)
            assert (head.status, visitor.visit("/read").text) == (101, "handshake")
            wire.send(b"\x81\x84\0\0\0\0told")  # one text frame, masked with zeros (RFC 6455 section 5.2)
            assert (
                wire.exactly(1) == b"\x88"
            )  # its answer is the close frame, which is not sent before the commit
            assert visitor.visit("/read").text == "told"
