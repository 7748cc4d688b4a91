"""Plain HTTP sent on to HTTPS, for any ASGI application. What is decided is in `security/https.py`."""

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from coatcheck.arrivals import of_scope, target_of_scope
from coatcheck.security.https import Answer, HttpsRules

__all__ = ["HttpsMiddleware"]

_HSTS = b"strict-transport-security"


class HttpsMiddleware:
    """Answers plain HTTP with a redirect to HTTPS (308), and tells browsers to come over HTTPS from then on (HSTS).

    Put it around everything else. Requests to this very machine go on as they are. A WebSocket over plain HTTP is refused, since
    browsers follow no redirect there.

    options  `hsts`, `allowed_hosts`, `exempt`, `redirect`, `port`, `proxy`, `on_event`: see docs/https.md
    """

    def __init__(self, app: Callable[[Any, Any, Any], Awaitable[None]], **options: Any) -> None:
        self.app, self.rules = app, HttpsRules(**options)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        arrival = of_scope(scope)
        answer = self.rules.answer(arrival, target_of_scope(scope), time.time())
        if answer is not None:
            await _give(answer, scope, send)
            return
        hsts = self.rules.hsts_for(arrival)
        await self.app(scope, receive, send if hsts is None else _telling(hsts.encode("ascii"), send))


async def _give(answer: Answer, scope: MutableMapping[str, Any], send: Any) -> None:
    if scope["type"] == "websocket":
        await send(
            {"type": "websocket.close", "code": 1008, "reason": "HTTPS only"}
        )  # before it is accepted: 403
        return
    headers = [(name.encode("ascii"), value.encode("ascii")) for name, value in answer.headers]
    body = b"" if scope["method"] == "HEAD" else answer.body
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _telling(hsts: bytes, send: Any) -> Callable[[MutableMapping[str, Any]], Awaitable[None]]:
    """A `send` that adds the header, unless the application says something of it itself."""

    async def telling(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers") or ())
            if not any(name.lower() == _HSTS for name, _ in headers):
                message = {**message, "headers": [*headers, (_HSTS, hsts)]}
        await send(message)

    return telling
