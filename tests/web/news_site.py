"""A stream of news for whoever is logged in, for real servers."""

import asyncio
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from coatcheck.starlette import SessionMiddleware


async def login(request: Request) -> Response:
    request.session.login("ada")  # type: ignore[attr-defined]  # Starlette says dict
    return Response("in")


async def logout(request: Request) -> Response:
    request.session.logout()  # type: ignore[attr-defined]  # as above
    return Response("out")


async def news(request: Request) -> Response:
    if not request.session.user_id:  # type: ignore[attr-defined]  # as above
        return Response(status_code=204)

    async def pieces() -> AsyncIterator[str]:
        yield "data: hello\n\n"
        await asyncio.Event().wait()  # there is no more news

    return StreamingResponse(pieces(), media_type="text/event-stream")


app = Starlette(routes=[Route("/login", login), Route("/logout", logout), Route("/news", news)])
app.add_middleware(SessionMiddleware, secret_key="news-only-Zt3xk0VbX1qv8m2LwP5rYd7NfQ9sHc4G")
