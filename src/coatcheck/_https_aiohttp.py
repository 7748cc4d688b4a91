"""Plain HTTP sent on to HTTPS, for aiohttp. What is decided is in `security/https.py`."""

import time
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from coatcheck.arrivals import of_aiohttp
from coatcheck.security.https import HttpsRules

__all__ = ["setup_https"]


def setup_https(app: web.Application, **options: Any) -> None:
    """Answer plain HTTP with a redirect to HTTPS (308), and tell browsers to come over HTTPS from then on (HSTS).

    Call it before anything else that adds middlewares: the first is the outermost. Requests to this very machine go on as
    they are.

    options  `hsts`, `allowed_hosts`, `exempt`, `redirect`, `port`, `proxy`, `on_event`: see docs/https.md
    """
    rules = HttpsRules(**options)

    @web.middleware
    async def https_only(request: web.Request, handler: Handler) -> web.StreamResponse:
        answer = rules.answer(of_aiohttp(request), request.raw_path.encode("utf-8", "replace"), time.time())
        if answer is None:
            return await handler(request)
        headers = [(name, value) for name, value in answer.headers if name != "content-length"]
        return web.Response(status=answer.status, reason=answer.reason, body=answer.body, headers=headers)

    async def tell(request: web.Request, response: web.StreamResponse) -> None:
        hsts = rules.hsts_for(of_aiohttp(request))
        if hsts is not None:
            response.headers.setdefault("Strict-Transport-Security", hsts)

    app.middlewares.append(https_only)
    app.on_response_prepare.append(tell)
