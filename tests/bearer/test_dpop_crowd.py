"""Many users at once on a real ASGI server, each challenged for a nonce: each gets their own results only (checklist 184)."""

import asyncio
import os
from pathlib import Path
from time import time
from typing import Any

import httpx
import pytest

from coatcheck.tokens import Key
from tests.bearer.test_frameworks import private_jwk
from tests.tokens.test_dpop import ath, proof
from tests.web.servers import uvicorn

URL = "https://api.example"


class User:
    """One of the crowd, with a key of their own. Counts how often a nonce was asked for."""

    def __init__(self, name: str, web: httpx.AsyncClient) -> None:
        self.name, self._web, self.key = name, web, Key.generate("ES256")
        self.nonce: str | None = None
        self.asked, self.token = 0, ""

    async def send(self, method: str, path: str, **claims: str) -> httpx.Response:
        """A request with a proof; again with a nonce, where one is asked for."""
        about: dict[str, Any] = {
            "htm": method,
            "htu": URL + path.partition("?")[0],
            "iat": int(time()),
            **claims,
        }
        headers = {"DPoP": proof(self.key, nonce=self.nonce, jti=os.urandom(9).hex(), **about)}
        if self.token:
            headers["Authorization"] = f"DPoP {self.token}"
        got = await self._web.request(method, path, headers=headers)
        if got.status_code in (400, 401) and "use_dpop_nonce" in got.text:
            self.asked, self.nonce = self.asked + 1, got.headers["dpop-nonce"]
            assert self.asked < 5
            return await self.send(method, path, **claims)
        return got

    async def log_in(self) -> None:
        got = await self.send("POST", f"/login?user={self.name}&scope=orders:read")
        self.token = got.json()["access_token"]

    async def orders(self) -> str:
        """Whose orders they are given, having forgotten the nonce."""
        self.nonce = None
        got = await self.send("GET", "/orders", ath=ath(self.token))
        assert got.status_code == 200, got.text
        return str(got.json()["user"])

    async def orders_of(self, other: "User") -> int:
        """What somebody else's token is worth with this user's key."""
        mine, self.token = self.token, other.token
        got = await self.send("GET", "/orders", ath=ath(other.token))
        self.token = mine
        return got.status_code


async def crowd(port: int, size: int) -> None:
    limits = httpx.Limits(max_connections=50)
    async with httpx.AsyncClient(base_url=f"http://localhost:{port}", limits=limits, timeout=60) as web:
        users = [User(f"user{n}", web) for n in range(size)]
        await asyncio.gather(*(user.log_in() for user in users))
        for _ in range(2):
            owners = await asyncio.gather(*(user.orders() for user in users))
            assert owners == [user.name for user in users]
        pairs = zip(users, users[1:] + users[:1], strict=True)
        mixed = await asyncio.gather(*(user.orders_of(other) for user, other in pairs))
        assert mixed == [401] * size
        assert [user.asked for user in users] == [3] * size


@pytest.mark.parametrize("size", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_line_184_many_users_challenged_at_once_over_http_get_their_own_results(
    tmp_path: Path, size: int
) -> None:
    env = {**os.environ, "JWT_KEYS": private_jwk(), "STORE": "memory:", "URL": URL}
    with uvicorn("tests.bearer.sites:fastapi", folder=tmp_path, env=env) as server:
        asyncio.run(crowd(server.port, size))
    assert "Traceback" not in server.log.read_text()
