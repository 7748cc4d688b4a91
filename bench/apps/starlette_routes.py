"""The Starlette application every Starlette contestant runs; only the session middleware differs."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from bench.apps.payload import cart


async def login(request: Request) -> PlainTextResponse:
    """Put into the session what a small application keeps there, and a cart of so many octets if it is asked for one."""
    request.session["user"] = "7d1f2c4e"
    request.session["n"] = 0
    if octets := request.query_params.get("octets"):
        request.session["cart"] = cart(int(octets))
    return PlainTextResponse("ok")


async def write(request: Request) -> PlainTextResponse:
    """Load the session, change it, save it."""
    request.session["n"] = request.session.get("n", 0) + 1
    return PlainTextResponse("ok")


async def read(request: Request) -> PlainTextResponse:
    """Load the session and read from it."""
    return PlainTextResponse(str(request.session.get("n")))


def application() -> Starlette:
    """Return the application, still without sessions."""
    return Starlette(routes=[Route("/login", login), Route("/write", write), Route("/read", read)])
