"""WebSockets that were opened with an access token: closed when it expires or its login ends (checklist 210)."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any

import pytest
from fastapi import FastAPI, Security, WebSocket, WebSocketDisconnect

from coatcheck import AsyncSessionManager, ConfigurationError
from coatcheck.bearer import TokenCookies
from coatcheck.bearer.sockets import TokenSockets
from coatcheck.fastapi import Bearer
from coatcheck.stores.memory import MemoryStore
from coatcheck.stores.sqlite import SQLiteStore
from coatcheck.tokens import AccessClaims, AsyncTokens, Key, KeyRing
from tests.bearer.rig import ISSUER
from tests.web.rig import Time, settled

CLOSED = {"type": "websocket.close", "code": 1008, "reason": "the session is over"}
COOKIES = TokenCookies(path="/auth", trusted_origins=["https://app.example"])


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(main, 60))


class Room:
    """A FastAPI application with a WebSocket, and its tokens."""

    def __init__(self, store: Any = None) -> None:
        self.time, self.left = Time(), list[int]()
        self.sessions = AsyncSessionManager(MemoryStore() if store is None else store, clock=self.time.clock)
        keys = KeyRing([Key.generate("HS256")])
        self.tokens = AsyncTokens(self.sessions, keys=keys, issuer=ISSUER, audience="api")
        bearer = Bearer(self.tokens, cookies=COOKIES)
        app = FastAPI()
        app.add_middleware(TokenSockets, tokens=self.tokens)

        @app.websocket("/ws")
        async def talk(
            websocket: WebSocket, claims: Annotated[AccessClaims, Security(bearer, scopes=["talk"])]
        ) -> None:
            await websocket.accept()
            try:
                while True:
                    await websocket.send_text(f"{claims.sub}: {await websocket.receive_text()}")
            except WebSocketDisconnect as gone:
                self.left.append(gone.code)

        self.app = app

    async def line(self, *headers: tuple[bytes, bytes]) -> "Line":
        line = Line(self.app, headers)
        await settled()
        return line


class Line:
    """The server's end of one WebSocket."""

    def __init__(self, app: Any, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        self.sent: list[Any] = []
        self.hears: asyncio.Queue[Any] = asyncio.Queue()
        self.hears.put_nowait({"type": "websocket.connect"})
        scope = {
            "type": "websocket", "path": "/ws", "headers": list(headers), "query_string": b"", "root_path": "",
            "scheme": "wss", "subprotocols": [], "asgi": {"spec_version": "2.4", "version": "3.0"}, "extensions": {},
        }  # fmt: skip
        self.task = asyncio.create_task(app(scope, self.hears.get, self._send))

    async def _send(self, message: Any) -> None:
        self.sent.append(message)

    async def says(self, text: str) -> None:
        self.hears.put_nowait({"type": "websocket.receive", "text": text})
        await settled()

    async def ends(self) -> None:
        """What a server does after it has closed."""
        self.hears.put_nowait({"type": "websocket.disconnect", "code": 1006})
        await self.task


def bearer(token: str) -> tuple[bytes, bytes]:
    return b"authorization", f"Bearer {token}".encode()


def test_it_is_closed_when_its_login_ends() -> None:
    async def main() -> None:
        room, before = Room(), len(asyncio.all_tasks())
        pair, other = [await room.tokens.issue("ada", scope="talk") for _ in range(2)]
        line, stays = await room.line(bearer(pair.access_token)), await room.line(bearer(other.access_token))
        await line.says("hello")
        assert line.sent[-1]["text"] == "ada: hello"
        await room.tokens.revoke(pair.refresh_token)
        await settled()
        assert line.sent[-1] == CLOSED
        await line.says("still there?")
        assert line.sent[-1] == CLOSED
        await line.ends()
        assert room.left == [1008]
        await stays.says("me too")
        assert stays.sent[-1]["text"] == "ada: me too"
        await stays.ends()
        await settled()
        assert len(asyncio.all_tasks()) == before

    run(main())


def test_it_is_closed_when_its_token_expires() -> None:
    async def main() -> None:
        room = Room()
        pair = await room.tokens.issue("ada", scope="talk")
        line = await room.line(bearer(pair.access_token))
        await room.tokens.refresh(
            pair.refresh_token
        )  # which gives the client a token for its next connection
        await room.time.passes(599)
        assert line.sent[-1] != CLOSED
        await room.time.passes(1)
        assert line.sent[-1] == CLOSED
        await line.ends()

    run(main())


def test_where_the_store_does_not_tell_it_is_asked(tmp_path: Any) -> None:
    async def main() -> None:
        room = Room(SQLiteStore(tmp_path / "sessions.db"))
        pair = await room.tokens.issue("ada", scope="talk")
        line = await room.line(bearer(pair.access_token))
        await room.time.passes(30)
        assert line.sent[-1] != CLOSED
        await room.sessions.of("ada").end_all()
        await settled()
        await room.time.passes(30)
        for _ in range(50):
            await settled()
        assert line.sent[-1] == CLOSED
        await line.ends()
        await room.sessions.close()

    run(main())


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"Bearer x")],
        [(b"origin", b"https://evil.example"), (b"cookie", b"COOKIE")],
        [(b"cookie", b"COOKIE")],
    ],
)
def test_nobody_else_is_let_in(headers: list[tuple[bytes, bytes]]) -> None:
    async def main() -> None:
        room = Room()
        (access, _) = COOKIES.set(await room.tokens.issue("ada", scope="talk"))
        cookie = access.partition(";")[0].encode()
        line = await room.line(*((name, value.replace(b"COOKIE", cookie)) for name, value in headers))
        assert [message["type"] for message in line.sent] == ["websocket.close"]
        assert line.sent[0]["code"] == 1008
        await line.task

    run(main())


def test_a_page_of_ours_is_let_in_by_its_cookie() -> None:
    async def main() -> None:
        room = Room()
        (access, _) = COOKIES.set(await room.tokens.issue("ada", scope="talk"))
        line = await room.line(
            (b"cookie", access.partition(";")[0].encode()), (b"origin", b"https://app.example")
        )
        await line.says("hello")
        assert line.sent[-1]["text"] == "ada: hello"
        await line.ends()

    run(main())


def test_a_verifier_hears_of_no_end() -> None:
    with pytest.raises(ConfigurationError, match="hears of no login that ends"):
        TokenSockets(None, Room().tokens.verifier)
