"""Event streams end when their session is over, under ASGI and aiohttp, as WebSockets are closed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import ClientPayloadError, web
from aiohttp.test_utils import TestClient, TestServer
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

from coatcheck.aiohttp import get_session, setup
from coatcheck.asgi import Message, Receive, Scope, Send, SessionMiddleware
from coatcheck.stores.memory import MemoryStore
from coatcheck.vigil import EVERY
from tests.web.paths import SECRET
from tests.web.rig import Ears, Talk, Time, http_scope, page, settled
from tests.web.test_websockets import Silent, run

END = {"type": "http.response.body", "body": b"", "more_body": False}


class Site:
    """An application with pages that act on the session, and a stream that tells what the test puts into `news`."""

    def __init__(
        self, store: Any = None, kind: bytes = b"text/event-stream; charset=utf-8", **options: Any
    ) -> None:
        self.time, self.ears, self.kind, self.looks = Time(), Ears(), kind, True
        self.news: asyncio.Queue[bytes | Exception] = asyncio.Queue()
        self.act: Callable[[Any], Any] = lambda session: ""
        self.app = SessionMiddleware(
            self._answer,
            store=store or MemoryStore(),
            clock=self.time.clock,
            secret=SECRET,
            on_event=self.ears,
            **options,
        )

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/stream":
            await page(lambda session: str(self.act(session)))(scope, receive, send)
            return
        if self.looks:
            scope["session"].get("n")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"Content-Type", self.kind)]})
        while (piece := await self.news.get()) != b"":
            if isinstance(piece, Exception):
                raise piece
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send(dict(END))

    async def visit(self, act: Callable[[Any], Any], cookie: str = "") -> str:
        self.act = act
        return (await Talk(self.app, http_scope(cookie=cookie)).run()).cookie or cookie

    async def login(self, user: str = "ada", cookie: str = "") -> str:
        return await self.visit(lambda session: session.login(user), cookie)

    async def open(self, cookie: str) -> tuple[list[Message], "asyncio.Task[Any]"]:
        talk = Talk(self.app, http_scope("/stream", cookie=cookie))
        task = asyncio.ensure_future(talk.run())
        await settled()
        assert talk.status == 200
        return talk.sent, task

    def seats(self) -> int:
        watches = self.app._vigil._watches.values() if self.app._vigil else ()
        return sum(len(kept.seats) for watch in watches for kept in watch._kept.values())


def test_a_stream_ends_when_its_session_is_ended_and_the_application_hears_of_it() -> None:
    async def main() -> None:
        site = Site()
        cookie = await site.login()
        sent, task = await site.open(cookie)
        site.news.put_nowait(b"data: 1\n\n")
        await settled()
        assert (sent[1]["body"], site.seats()) == (b"data: 1\n\n", 1)
        await site.visit(lambda session: session.logout(), cookie)
        await settled()
        assert (sent[2:], site.seats()) == ([END], 0)
        site.news.put_nowait(b"data: private\n\n")
        await task  # what it raises is no failure
        assert len(sent) == 3

    run(main())


def test_an_application_that_ends_it_too_is_not_told_off() -> None:
    async def main() -> None:
        site = Site()
        cookie = await site.login()
        sent, task = await site.open(cookie)
        await site.visit(lambda session: session.logout(), cookie)
        await settled()
        site.news.put_nowait(b"")
        await task
        assert sent[1:] == [END]

    run(main())


@pytest.mark.parametrize("how", ["ended", "login", "expired"])
def test_without_a_word_from_the_store_it_ends_within_the_same_bound(how: str) -> None:
    async def main() -> None:
        site = Site(Silent(), timeouts=None)
        cookie = await site.login()
        sent, task = await site.open(cookie)
        if how == "ended":
            await site.app.sessions.of("ada").end_all()
        elif how == "login":
            await site.visit(lambda session: session.login("ada"), cookie)
        else:
            site.time.now += 40 * 86_400
        await settled()
        assert len(sent) == 1
        await site.time.passes(EVERY)
        assert sent[1:] == [END]
        site.news.put_nowait(b"")
        await task

    run(main())


def test_a_failure_of_the_applications_own_is_still_one() -> None:
    async def main() -> None:
        site = Site()
        cookie = await site.login()
        _, task = await site.open(cookie)
        await site.visit(lambda session: session.logout(), cookie)
        await settled()
        site.news.put_nowait(ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            await task
        assert site.seats() == 0

    run(main())


def test_what_is_no_event_stream_or_not_of_a_session_is_left_alone() -> None:
    async def main() -> None:
        for site in (Site(kind=b"text/html"), Site(close_websockets=False), Site()):
            cookie = await site.login()
            site.looks = site.kind == b"text/html" or site.app._vigil is None
            sent, task = await site.open(cookie)
            assert site.seats() == 0
            await site.visit(lambda session: session.logout(), cookie)
            await site.time.passes(EVERY)
            site.news.put_nowait(b"more")
            site.news.put_nowait(b"")
            await task
            assert [message.get("body") for message in sent[1:]] == [b"more", b""]

    run(main())


def test_a_stream_that_ended_by_itself_is_forgotten() -> None:
    async def main() -> None:
        site = Site()
        cookie = await site.login()
        sent, task = await site.open(cookie)
        site.news.put_nowait(b"")
        await task
        assert site.seats() == 0
        await site.visit(lambda session: session.logout(), cookie)
        await site.time.passes(EVERY)
        assert sent[1:] == [END]

    run(main())


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
def test_starlettes_streams_end_quietly(spec: str) -> None:
    """It listens for the client's going before 2.4, and waits for OSError since."""

    async def main() -> None:
        news: asyncio.Queue[str] = asyncio.Queue()

        async def stream(request: Any) -> StreamingResponse:
            request.session.get("n")

            async def pieces() -> AsyncIterator[str]:
                while True:
                    yield await news.get()

            return StreamingResponse(pieces(), media_type="text/event-stream")

        async def login(request: Any) -> StreamingResponse:
            request.session.login("ada")
            return StreamingResponse(iter(["in"]))

        inner = Starlette(routes=[Route("/stream", stream), Route("/login", login)])
        app = SessionMiddleware(inner, secret=SECRET)
        cookie = (await Talk(app, http_scope("/login")).run()).cookie
        scope = {**http_scope("/stream", cookie=cookie), "asgi": {"version": "3.0", "spec_version": spec}}
        talk = Talk(app, scope)
        task = asyncio.ensure_future(talk.run())
        await settled()
        await app.sessions.of("ada").end_all()
        await settled()
        assert talk.sent[-1] == END
        news.put_nowait("data: private\n\n")
        await task
        assert talk.body == b""

    run(main())


def test_aiohttp_cuts_the_stream() -> None:
    async def main() -> None:
        news: asyncio.Queue[bytes] = asyncio.Queue()

        async def stream(request: web.Request) -> web.StreamResponse:
            (await get_session(request)).get("n")
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            await response.write(b"data: 1\n\n")
            while True:
                await response.write(await news.get())

        async def login(request: web.Request) -> web.Response:
            (await get_session(request)).login("ada")
            return web.Response()

        app = web.Application()
        sessions = setup(app, secret=SECRET, store=MemoryStore())
        app.router.add_get("/stream", stream)
        app.router.add_get("/login", login)
        async with TestClient(TestServer(app)) as client:
            entered = await client.get("/login", headers={"Host": "localhost"})
            cookie = entered.headers["Set-Cookie"].partition(";")[0]
            response = await client.get("/stream", headers={"Host": "localhost", "Cookie": cookie})
            assert await response.content.readline() == b"data: 1\n"
            await sessions.of("ada").end_all()
            with pytest.raises(ClientPayloadError):
                await response.content.read()
            news.put_nowait(b"data: private\n\n")

    run(main())
