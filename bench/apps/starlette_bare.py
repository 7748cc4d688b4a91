"""Starlette without sessions: the baseline that is subtracted from every other Starlette row."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route


async def ok(request: Request) -> PlainTextResponse:
    """Answer as the other applications do, having kept nothing."""
    return PlainTextResponse("ok")


async def read(request: Request) -> PlainTextResponse:
    """Answer a number as the other applications do."""
    return PlainTextResponse(str(1))


app = Starlette(routes=[Route("/login", ok), Route("/write", ok), Route("/read", read)])
