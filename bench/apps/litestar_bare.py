"""Litestar without sessions: the baseline that is subtracted from every other Litestar row."""

from litestar import Litestar, MediaType, get


@get(["/login", "/write"], media_type=MediaType.TEXT)
async def ok() -> str:
    """Answer as the other applications do, having kept nothing."""
    return "ok"


@get("/read", media_type=MediaType.TEXT)
async def read() -> str:
    """Answer a number as the other applications do."""
    return str(1)


app = Litestar([ok, read])
