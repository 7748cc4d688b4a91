"""Applications whose stream stands still until somebody opens a gate, and then never ends by itself."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import quart as quart_package
from aiohttp import web
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from coatcheck.aiohttp import get_session, setup
from coatcheck.quart import CoatCheck
from coatcheck.starlette import SessionMiddleware
from coatcheck.wsgi import SessionMiddleware as WsgiSessions
from tests.web.paths import SECRET

_gate, _door = asyncio.Event(), threading.Event()


async def stream(request: Request) -> Response:
    session = request.session
    session["state"] = "begun"

    async def body() -> AsyncIterator[str]:
        yield "data: begun\n\n"
        await _gate.wait()
        session["state"] = "opened"
        while True:
            await asyncio.sleep(0)  # to the server, which only then hears that the client has gone
            yield "data: more\n\n"

    return StreamingResponse(body(), media_type="text/event-stream")


async def open_gate(request: Request) -> Response:
    _gate.set()
    return PlainTextResponse("")


async def read(request: Request) -> Response:
    return PlainTextResponse(str(request.session.get("state")))


async def echo(websocket: WebSocket) -> None:
    websocket.session["state"] = "handshake"
    await websocket.accept()
    websocket.session["state"] = await websocket.receive_text()
    await websocket.close()


asgi = Starlette(
    routes=[
        Route("/stream", stream),
        Route("/open", open_gate),
        Route("/read", read),
        WebSocketRoute("/ws", echo),
    ]
)
asgi.add_middleware(SessionMiddleware, secret=SECRET)


quart = quart_package.Quart(__name__)
CoatCheck(quart, secret=SECRET)


@quart.get("/stream")
async def quart_stream() -> quart_package.Response:
    session = quart_package.session
    session["state"] = "begun"

    @quart_package.stream_with_context
    async def body() -> AsyncIterator[str]:
        yield "data: begun\n\n"
        await _gate.wait()
        session["state"] = "opened"
        while True:
            await asyncio.sleep(0)
            yield "data: more\n\n"

    response = quart_package.Response(body(), mimetype="text/event-stream")
    response.timeout = None
    return response


@quart.get("/open")
async def quart_open() -> str:
    _gate.set()
    return ""


@quart.get("/read")
async def quart_read() -> str:
    return str(quart_package.session.get("state"))


@quart.websocket("/ws")
async def quart_echo() -> None:
    session = quart_package.session
    session["state"] = "handshake"
    await quart_package.websocket.accept()
    session["state"] = await quart_package.websocket.receive()


@quart.get("/login")
async def quart_login() -> str:
    session: Any = quart_package.session
    session.login("ada")
    return ""


@quart.get("/logout")
async def quart_logout() -> str:
    session: Any = quart_package.session
    session.logout()
    return ""


@quart.websocket("/chat")
async def quart_chat() -> None:
    session: Any = quart_package.session
    while True:
        await quart_package.websocket.receive()
        await quart_package.websocket.send(f"{session.user_id}: hello")


@quart.websocket("/refused")
async def quart_refused() -> tuple[str, int]:
    quart_package.session["state"] = "refused"
    return "not for you", 403


def _pages(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    session, path = environ["coatcheck.session"], environ["PATH_INFO"]
    if path == "/stream":
        return _stream(session, start_response)
    if path == "/open":
        _door.set()
    text = str(session.get("state")).encode()
    start_response("200 OK", [("Content-Length", str(len(text)))])
    return [text]


def _stream(session: dict[str, str], start_response: StartResponse) -> Iterator[bytes]:
    session["state"] = "begun"
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    yield b"data: begun\n\n"
    _door.wait(60)
    session["state"] = "opened"
    while True:
        yield b"data: more\n\n"


wsgi = WsgiSessions(_pages, secret=SECRET)


async def _aiohttp_stream(request: web.Request) -> web.StreamResponse:
    session = await get_session(request)
    session["state"] = "begun"
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b"data: begun\n\n")
    await _gate.wait()
    session["state"] = "opened"
    while True:  # until the server cancels it, or says that the client has gone
        await response.write(b"data: more\n\n")
        await asyncio.sleep(0)


async def _aiohttp_open(request: web.Request) -> web.Response:
    _gate.set()
    return web.Response()


async def _aiohttp_read(request: web.Request) -> web.Response:
    return web.Response(text=str((await get_session(request)).get("state")))


async def _aiohttp_echo(request: web.Request) -> web.StreamResponse:
    session = await get_session(request)
    session["state"] = "handshake"
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    session["state"] = await socket.receive_str()
    return socket


aiohttp = web.Application()
setup(aiohttp, secret=SECRET)
aiohttp.add_routes(
    [
        web.get("/stream", _aiohttp_stream),
        web.get("/open", _aiohttp_open),
        web.get("/read", _aiohttp_read),
        web.get("/ws", _aiohttp_echo),
    ]
)
