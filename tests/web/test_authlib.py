"""OAuth logins with Authlib's Starlette client, unchanged, against a small provider: its state is in our session.

What the state must survive is two tabs that begin at once, and what it must not survive is its use.
"""

import asyncio
import base64
import hashlib
import secrets
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest
from authlib.integrations.starlette_client import OAuth, OAuthError
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.applications import Starlette
from starlette.routing import Route

from coatcheck.fastapi import SessionDep, SessionMiddleware
from tests.web.paths import SECRET


class Provider:
    """Whoever asks is Ada. A code is good once, and for whoever can show what its challenge was made from (RFC 7636)."""

    def __init__(self) -> None:
        self._codes: dict[str, str] = {}
        self.app = Starlette(
            routes=[
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
                Route("/userinfo", self._userinfo),
            ]
        )

    async def _authorize(self, request: Request) -> Response:
        asked = request.query_params
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(8)
        self._codes[code] = asked["code_challenge"]
        return RedirectResponse(f"{asked['redirect_uri']}?code={code}&state={asked['state']}")

    async def _token(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode()))
        proof = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = self._codes.pop(form["code"], "")
        if base64.urlsafe_b64encode(proof).rstrip(b"=").decode() != challenge:
            return JSONResponse({"error": "invalid_grant"}, 400)
        return JSONResponse({"access_token": "opaque", "token_type": "Bearer", "expires_in": 3600})

    async def _userinfo(self, request: Request) -> Response:
        assert request.headers["authorization"] == "Bearer opaque"
        return JSONResponse({"sub": "ada"})


class Shop:
    """An application that lets people in by the provider, as Authlib's manual shows it."""

    def __init__(self, provider: Provider) -> None:
        self.meeting: AbstractAsyncContextManager[Any] = nullcontext()
        oauth = OAuth()
        oauth.register(
            "provider",
            client_id="shop",
            client_secret="secret",
            authorize_url="http://provider.test/authorize",
            access_token_url="http://provider.test/token",
            api_base_url="http://provider.test/",
            client_kwargs={
                "code_challenge_method": "S256",
                "transport": httpx2.ASGITransport(provider.app),
            },
        )
        self.app = app = FastAPI()
        app.add_middleware(SessionMiddleware, secret=SECRET)

        @app.get("/login")
        async def login(request: Request) -> Any:
            answer = await oauth.provider.authorize_redirect(request, "http://shop.test/callback")
            async with self.meeting:  # every session is loaded, none is saved yet
                return answer

        @app.get("/callback")
        async def callback(request: Request, session: SessionDep) -> Response:
            try:
                token = await oauth.provider.authorize_access_token(request)
            except OAuthError as error:
                return JSONResponse({"error": error.error}, 400)
            user = (await oauth.provider.get("userinfo", token=token)).json()
            session.login(user["sub"], method="oauth")
            return RedirectResponse("/")

        @app.get("/")
        async def home(session: SessionDep) -> Any:
            states = [key for key in session if key.startswith("_state_")]
            return {"user": session.user_id, "visits": session.increment("n"), "states": len(states)}


class Meeting:
    """A place that nobody leaves before all have come."""

    def __init__(self, parties: int) -> None:
        self._barrier = asyncio.Barrier(parties)

    async def __aenter__(self) -> None:
        await self._barrier.wait()

    async def __aexit__(self, *_: object) -> None:
        return None


class Tabs:
    """A browser, and the provider's site in it."""

    def __init__(self, shop: Shop, provider: Provider) -> None:
        self.shop = httpx2.AsyncClient(transport=httpx2.ASGITransport(shop.app), base_url="http://shop.test")
        self._provider = httpx2.AsyncClient(transport=httpx2.ASGITransport(provider.app))

    async def begin(self) -> str:
        """Go to the provider and come back; returns the address at which the shop is called."""
        begun = await self.shop.get("/login")
        back = (await self._provider.get(begun.headers["location"])).headers["location"]
        parts = urlsplit(back)
        return f"{parts.path}?{parts.query}"

    async def close(self) -> None:
        await self.shop.aclose()
        await self._provider.aclose()


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 60))


def test_a_login_goes_there_and_back_and_its_state_is_used_up() -> None:
    async def main() -> None:
        provider = Provider()
        tabs = Tabs(Shop(provider), provider)
        callback = await tabs.begin()
        assert (await tabs.shop.get("/")).json() == {"user": None, "visits": 1, "states": 1}
        assert (await tabs.shop.get(callback)).status_code == 307
        assert (await tabs.shop.get("/")).json() == {"user": "ada", "visits": 2, "states": 0}
        replayed = await tabs.shop.get(callback)
        assert (replayed.status_code, replayed.json()) == (400, {"error": "mismatching_state"})
        await tabs.close()

    run(main())


@pytest.mark.parametrize("first", [0, 1])
def test_two_tabs_that_begin_at_once_both_arrive(first: int) -> None:
    async def main() -> None:
        provider = Provider()
        shop = Shop(provider)
        tabs = Tabs(shop, provider)
        await tabs.shop.get(
            "/"
        )  # the browser has a session; two first visits at once would each have begun their own
        shop.meeting = Meeting(2)
        callbacks = await asyncio.gather(tabs.begin(), tabs.begin())
        assert (await tabs.shop.get("/")).json()["states"] == 2
        for callback in (callbacks[first], callbacks[1 - first]):
            assert (await tabs.shop.get(callback)).status_code == 307
        assert (await tabs.shop.get("/")).json() == {"user": "ada", "visits": 3, "states": 0}
        for callback in callbacks:
            assert (await tabs.shop.get(callback)).status_code == 400
        await tabs.close()

    run(main())


def test_a_callback_in_a_browser_that_did_not_begin_it_is_refused() -> None:
    async def main() -> None:
        provider = Provider()
        shop = Shop(provider)
        attacker, victim = Tabs(shop, provider), Tabs(shop, provider)
        await victim.shop.get("/")
        refused = await victim.shop.get(await attacker.begin())
        assert (refused.status_code, refused.json()) == (400, {"error": "mismatching_state"})
        assert (await victim.shop.get("/")).json()["user"] is None
        await attacker.close()
        await victim.close()

    run(main())
