"""A chat over WebSockets for real servers, whose sessions are looked at only when the test says that time has passed."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from coatcheck import Clock, ConfigurationError, Notice, Outage
from coatcheck.starlette import SessionMiddleware, get_session
from tests.web.paths import SECRET

_heard: asyncio.Queue[str] = asyncio.Queue()
_passed = asyncio.Event()
_told = asyncio.Event()
STORE = os.environ.get("STORE", "memory:")


async def sleep(_: float) -> None:
    await _passed.wait()
    _passed.clear()


async def login(request: Request) -> Response:
    (await get_session(request)).login("ada")
    return PlainTextResponse("welcome")


async def logout(request: Request) -> Response:
    (await get_session(request)).logout()
    return PlainTextResponse("bye")


async def time_passes(request: Request) -> Response:
    _passed.set()
    return PlainTextResponse("later")


async def heard(request: Request) -> Response:
    return PlainTextResponse(await asyncio.wait_for(_heard.get(), 30))


async def chat(websocket: WebSocket) -> None:
    user = (await get_session(websocket)).user_id
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(f"{user}: {await websocket.receive_text()}")
    except WebSocketDisconnect as left:
        _heard.put_nowait(f"{left.code}")


async def watching(request: Request) -> Response:
    """Answers when the store tells of ends, to this process too."""
    await asyncio.wait_for(_told.wait(), 30)
    return PlainTextResponse("watching")


def hear(notice: Notice) -> None:
    if notice.kind == "watching":
        _told.set()


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    try:
        stop = app.sessions.watch(hear)
    except ConfigurationError:  # this store does not tell
        yield
    else:
        yield
        stop()


app = SessionMiddleware(
    Starlette(
        routes=[
            Route("/login", login),
            Route("/logout", logout),
            Route("/time-passes", time_passes),
            Route("/heard", heard),
            Route("/watching", watching),
            WebSocketRoute("/ws", chat),
        ],
        lifespan=lifespan,
    ),
    secret=SECRET,
    store=STORE,
    outage=None if STORE == "memory:" else Outage(connect_timeout=20, command_timeout=20),
    clock=Clock(sleep=sleep),
)
