"""The FastAPI application that every FastAPI contestant runs; only the session middleware differs."""

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse


async def login(request: Request) -> str:
    """Put into the session what a small application keeps there."""
    request.session["user"] = "7d1f2c4e"
    request.session["n"] = 0
    return "ok"


async def write(request: Request) -> str:
    """Load the session, change it, save it."""
    request.session["n"] = request.session.get("n", 0) + 1
    return "ok"


async def read(request: Request) -> str:
    """Load the session and read from it."""
    return str(request.session.get("n"))


def application() -> FastAPI:
    """Return the application, still without sessions."""
    app = FastAPI(default_response_class=PlainTextResponse)
    for route in (login, write, read):
        app.get(f"/{route.__name__}")(route)
    return app
