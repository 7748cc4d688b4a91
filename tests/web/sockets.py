"""A chat over WebSockets for real servers, whose sessions are looked at when the test says that time has passed."""

import asyncio
import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from coatcheck import Clock
from coatcheck.starlette import SessionMiddleware, get_session
from tests.web.apps import SECRET

_heard: asyncio.Queue[str] = asyncio.Queue()
_passed = asyncio.Event()


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


app = Starlette(
    routes=[
        Route("/login", login),
        Route("/logout", logout),
        Route("/time-passes", time_passes),
        Route("/heard", heard),
        WebSocketRoute("/ws", chat),
    ]
)
app.add_middleware(
    SessionMiddleware,
    secret=SECRET,
    store=os.environ.get("STORE", "memory:"),
    clock=Clock(sleep=sleep),
)
