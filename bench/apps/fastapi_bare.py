"""FastAPI without sessions: the baseline that is subtracted from every other FastAPI row.

Its routes ask for the request, as those with sessions do: to make one is no cost of sessions.
"""

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse


async def ok(request: Request) -> str:
    """Answer as the other applications do, having kept nothing."""
    return "ok"


async def read(request: Request) -> str:
    """Answer a number as the other applications do."""
    return str(1)


app = FastAPI(default_response_class=PlainTextResponse)
for path, route in (("/login", ok), ("/write", ok), ("/read", read)):
    app.get(path)(route)
