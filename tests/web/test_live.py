"""Server-sent events and WebSockets over real sockets: what the client has when, and what is kept when it leaves."""

from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest

from coatcheck import SessionManager
from tests.web.places import STORES
from tests.web.servers import Browser, Server, Wire, aiohttp, gunicorn, hypercorn, uvicorn

HANDSHAKE = {
    "Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
}  # fmt: skip
# Each in all the ways it has to speak WebSocket that are installed here.
SPEAKERS = [
    ("uvicorn", "--ws", "wsproto"),
    *(("uvicorn", "--ws", way) for way in ("websockets", "websockets-sansio") if find_spec("websockets")),
    ("hypercorn",),
]
_REASON = b"the session is over"
CLOSED = bytes([0x88, 2 + len(_REASON)]) + (1008).to_bytes(2, "big") + _REASON


def text_frame(text: bytes) -> bytes:
    """A client's frame of text, masked with zeros (RFC 6455 section 5.2)."""
    return b"\x81" + bytes([0x80 | len(text)]) + b"\0\0\0\0" + text


@pytest.fixture(params=["asgi", "aiohttp", "wsgi"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    start = {"asgi": uvicorn, "aiohttp": aiohttp, "wsgi": gunicorn}[request.param]
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


@pytest.mark.parametrize("face", ["asgi", "aiohttp"])
def test_a_websocket_brings_its_cookie_with_the_handshake(face: str, tmp_path: Path) -> None:
    with {"asgi": uvicorn, "aiohttp": aiohttp}[face](f"tests.web.live:{face}", folder=tmp_path) as server:
        visitor = Browser(server)
        with Wire(server) as wire:
            wire.send(visitor.request("/ws", **HANDSHAKE))
            head = wire.head()
            visitor.remember(head)
            assert (head.status, visitor.visit("/read").text) == (101, "handshake")
            wire.send(text_frame(b"told"))
            assert (
                wire.exactly(1) == b"\x88"
            )  # its answer is the close frame, which is not sent before the commit
            assert visitor.visit("/read").text == "told"


@pytest.mark.parametrize("store", ["memory", "sqlite"])
@pytest.mark.parametrize("speaker", SPEAKERS, ids=lambda speaker: "-".join(speaker[::2]))
def test_a_websocket_is_closed_when_its_user_logs_out(
    speaker: tuple[str, ...], store: str, tmp_path: Path
) -> None:
    """Told by the store in memory, and found by a look at the one in SQLite."""
    url = f"sqlite:///{tmp_path}/sessions.db" if store == "sqlite" else "memory:"
    start = uvicorn if speaker[0] == "uvicorn" else hypercorn
    with start("tests.web.sockets:app", folder=tmp_path, env={"STORE": url}, options=speaker[1:]) as server:
        visitor, other = Browser(server), Browser(server)
        visitor.visit("/login")
        other.visit("/login")
        with Wire(server) as wire, Wire(server) as theirs:
            for browser, line in ((visitor, wire), (other, theirs)):
                line.send(browser.request("/ws", **HANDSHAKE))
                assert line.head().status == 101
                line.send(text_frame(b"hello"))
                assert line.exactly(12) == b"\x81\x0aada: hello"
            visitor.visit("/logout")
            if store == "sqlite":
                visitor.visit("/time-passes")
            assert wire.exactly(len(CLOSED)) == CLOSED
            wire.send(b"\x88\x82\0\0\0\0\x03\xf0")  # the client's answer
            assert wire.to_the_end() == b""
            assert visitor.visit("/heard").text in ("1008", "1000")  # hypercorn forgets the code
            theirs.send(text_frame(b"still"))
            assert theirs.exactly(12) == b"\x81\x0aada: still"


@pytest.mark.parametrize(
    "store", ["redis", *(pytest.param(name, marks=pytest.mark.slow) for name in ("postgres", "mongo"))]
)
def test_a_logout_at_one_server_closes_the_websocket_at_another(
    store: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = STORES[store](request, tmp_path)
    with SessionManager(url) as sessions:
        sessions.setup()
    with ExitStack() as stack:
        here, there = (
            stack.enter_context(uvicorn("tests.web.sockets:app", folder=tmp_path, env={"STORE": url}))
            for _ in range(2)
        )
        visitor = Browser(here)
        visitor.visit("/login")
        assert visitor.visit("/watching").text == "watching"
        with Wire(here) as wire:
            wire.send(visitor.request("/ws", **HANDSHAKE))
            assert wire.head().status == 101
            wire.send(text_frame(b"hello"))
            assert wire.exactly(12) == b"\x81\x0aada: hello"
            Browser(there, cookies=visitor.cookies).visit("/logout")
            assert wire.exactly(len(CLOSED)) == CLOSED
