"""What every request must pass, and what every response says: same origin, small body, strict headers."""

from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Guard", "same_origin"]

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
LARGEST_BODY = 16 * 1024
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """Pure ASGI middleware around the whole application."""

    coatcheck_provides = "csrf"  # so that `coatcheck doctor` finds who refuses cross-site requests

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif scope["method"] not in SAFE and not same_origin(Headers(scope=scope)):
            refusal = PlainTextResponse("This request came from another site.\n", status_code=403)
            await refusal(scope, receive, _dressed(send))
        else:
            await self.app(scope, _limited(receive), _dressed(send))


def same_origin(headers: Headers) -> bool:
    """Whether a request that changes something was made by our own pages.

    Browsers say so themselves (Fetch Metadata), older ones name the origin. A request with neither header does not come from a
    browser, so nobody's cookies were added to it behind their back: that is how scripts use the JSON routes.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")


def _limited(receive: Receive) -> Receive:
    seen = 0

    async def limited() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > LARGEST_BODY:
            raise HTTPException(413, "That is more than any form here sends.")
        return message

    return limited


def _dressed(send: Send) -> Callable[[Message], Awaitable[None]]:
    async def dressed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
        await send(message)

    return dressed
