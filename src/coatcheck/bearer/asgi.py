"""The token endpoints as an ASGI application, and what an ASGI application does with its tokens when it starts and ends.

app.mount("/auth", TokenEndpoints(tokens, public_clients=["web"]))          # Starlette, FastAPI
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from coatcheck.bearer.desk import Desk
from coatcheck.bearer.forms import MAX_BODY
from coatcheck.bearer.http import Answer, from_scope

__all__ = ["TokenEndpoints", "listening", "read_body", "send_answer"]


class TokenEndpoints:
    """The endpoints, to be mounted where they shall be. Takes what `coatcheck.bearer.desk.Desk` takes; `tokens` are AsyncTokens.

    Raises ConfigurationError or WrongFace.
    """

    def __init__(self, tokens: Any, **options: Any) -> None:
        self.desk = Desk(tokens, awaits=True, **options)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        asked = from_scope(scope)
        body = await read_body(receive) if self.desk.wants_body(asked) else b""
        await send_answer(await self.desk.answer(asked, body), asked.method, send)


async def read_body(receive: Any) -> bytes | None:
    """The body, as far as anybody needs it; None if it is longer, or the client left before its end."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY:
            return None
    return body


async def send_answer(answer: Answer, method: str, send: Any) -> None:
    """Send an answer of ours."""
    headers = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in answer.headers]
    if answer.status != 304:
        headers.append((b"content-length", str(len(answer.body)).encode("ascii")))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else answer.body})


async def _lifespan(receive: Any, send: Any) -> None:
    """Served by itself: there is nothing to do at either end."""
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


def listening(*tokens: Any) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """A lifespan: `FastAPI(lifespan=listening(tokens))`, in Litestar `lifespan=[listening(tokens)]`.

    From start-up the store tells this process of logins that end, so that their access tokens are refused without asking; at the
    end that stops. In a lifespan of your own: `async with listening(tokens)(app): yield`. Raises ConfigurationError at start-up
    if the store does not tell.
    """

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        stops = [each.listen() for each in tokens]
        try:
            yield
        finally:
            for stop in stops:
                stop()

    return lifespan
