"""The first page, and the visit counter."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from coatcheck.starlette import get_session
from demo.web import render

__all__ = ["healthz", "home", "visits"]


async def healthz(request: Request) -> Response:
    """For load balancers. Nobody's session is loaded."""
    return JSONResponse({"status": "ok"})


async def home(request: Request) -> Response:
    """Count a visit, and show the way."""
    session = await get_session(request)
    count = session.increment("visits")
    return render(
        request, session, "home.html", visits=count, handle=session.handle, began=session.created_at
    )


async def visits(request: Request) -> Response:
    """Count a visit, for scripts. Of a hundred at the same time each gets a number of its own."""
    session = await get_session(request)
    session.increment("visits")
    await session.save()  # now the number is the one that was stored, not this request's own idea of it
    return JSONResponse({"visits": session["visits"]}, headers={"Cache-Control": "no-store"})
