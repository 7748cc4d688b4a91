"""Litestar without sessions: the baseline that is subtracted from every other Litestar row.

Its handlers ask for the request, as those with sessions do: to make one is no cost of sessions.
"""

from litestar import Litestar, MediaType, Request, get


@get(["/login", "/write"], media_type=MediaType.TEXT)
async def ok(request: Request) -> str:
    """Answer as the other applications do, having kept nothing."""
    return "ok"


@get("/read", media_type=MediaType.TEXT)
async def read(request: Request) -> str:
    """Answer a number as the other applications do."""
    return str(1)


app = Litestar([ok, read])
