"""The aiohttp application that every aiohttp contestant runs; only how a request comes to its session differs."""

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

GetSession = Callable[[web.Request], Awaitable[Any]]


def application(get_session: GetSession) -> web.Application:
    """Return the application, whose handlers ask this for their session."""

    async def login(request: web.Request) -> web.Response:
        """Put into the session what a small application keeps there."""
        session = await get_session(request)
        session["user"] = "7d1f2c4e"
        session["n"] = 0
        return web.Response(text="ok")

    async def write(request: web.Request) -> web.Response:
        """Load the session, change it, save it."""
        session = await get_session(request)
        session["n"] = session.get("n", 0) + 1
        return web.Response(text="ok")

    async def read(request: web.Request) -> web.Response:
        """Load the session and read from it."""
        session = await get_session(request)
        return web.Response(text=str(session.get("n")))

    app = web.Application()
    app.add_routes([web.get("/login", login), web.get("/write", write), web.get("/read", read)])
    return app
