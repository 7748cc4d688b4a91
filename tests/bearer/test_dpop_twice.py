"""A proof is good once, and a request may pass several guards; a WebSocket's handshake brings a proof like any request."""

import asyncio
import os
from time import time
from typing import Annotated, Any

import pytest

from coatcheck import AsyncSessionManager
from coatcheck.tokens import AccessClaims, AsyncTokens, DPoP, Key, KeyRing
from tests.tokens.test_dpop import ath, jkt, proof

URL, MINE = "https://api.example", Key.generate("ES256")


class Client:
    """Tokens of one application, and a client with a key."""

    def __init__(self) -> None:
        self.tokens = AsyncTokens(
            AsyncSessionManager("memory:"),
            keys=KeyRing([Key.generate()]),
            issuer="https://id.example",
            audience="api",
            dpop=DPoP(),
        )
        self.token = asyncio.run(self.tokens.issue("ada", scope="a", jkt=jkt(MINE))).access_token

    def headers(self, path: str) -> dict[str, str]:
        """What it brings to this path."""
        about: dict[str, Any] = {"htu": URL + path, "iat": int(time()), "jti": os.urandom(9).hex()}
        return {
            "Authorization": f"DPoP {self.token}",
            "DPoP": proof(MINE, ath=ath(self.token), **about),
        }


@pytest.fixture
def client() -> Client:
    return Client()


def test_litestars_application_and_handler_both_ask(client: Client) -> None:
    from litestar import Litestar, Request, get
    from litestar.testing import TestClient

    from coatcheck.litestar import Bearer

    bearer = Bearer(client.tokens, url=URL)

    @get("/orders", guards=[bearer.requires("a")])
    async def orders(request: Request[Any, Any, Any]) -> str:
        return bearer.claims(request).sub

    with TestClient(Litestar([orders], guards=[bearer.requires()], logging_config=None)) as web:
        brought = client.headers("/orders")
        assert web.get("/orders", headers=brought).text == "ada"
        assert web.get("/orders", headers=brought).status_code == 401


def test_starlettes_middleware_and_decorator_both_ask_below_a_mount(client: Client) -> None:
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.authentication import AuthenticationMiddleware
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount, Route
    from starlette.testclient import TestClient

    from coatcheck.starlette import Bearer, BearerBackend

    bearer, backend = Bearer(client.tokens, url=URL), BearerBackend(client.tokens, url=URL)

    @bearer.requires("a")
    @bearer.requires(recent="1h")
    async def orders(request: Any) -> PlainTextResponse:
        return PlainTextResponse(bearer.claims(request).sub)

    middleware = [Middleware(AuthenticationMiddleware, backend=backend, on_error=backend.on_error)]
    app = Starlette(routes=[Mount("/v1", routes=[Route("/orders", orders)])], middleware=middleware)
    with TestClient(app) as web:
        brought = client.headers("/v1/orders")
        assert web.get("/v1/orders", headers=brought).text == "ada"
        assert web.get("/v1/orders", headers=brought).status_code == 401
        assert web.get("/v1/orders", headers=client.headers("/orders")).status_code == 401


def test_a_websocket(client: Client) -> None:
    from fastapi import FastAPI, Security, WebSocket
    from starlette.testclient import TestClient, WebSocketDenialResponse

    from coatcheck.fastapi import Bearer

    bearer, app = Bearer(client.tokens, url=URL), FastAPI()

    @app.websocket("/ws")
    async def talk(websocket: WebSocket, claims: Annotated[AccessClaims, Security(bearer)]) -> None:
        await websocket.accept()
        await websocket.send_text(claims.sub)

    with TestClient(app) as web:
        brought = client.headers("/ws")
        with web.websocket_connect("/ws", headers=brought) as socket:
            assert socket.receive_text() == "ada"
        with pytest.raises(WebSocketDenialResponse) as caught:
            web.websocket_connect("/ws", headers=brought).__enter__()
        assert caught.value.status_code == 401
