"""A site that is served over HTTPS only, behind a proxy: what it is asked, and from where as far as it knows, is its page."""

import json
import os
from typing import Any

from coatcheck.arrivals import of_environ, of_scope
from coatcheck.asgi import HttpsMiddleware as AsgiHttps
from coatcheck.asgi import SessionMiddleware as AsgiSessions
from coatcheck.wsgi import HttpsMiddleware as WsgiHttps
from coatcheck.wsgi import SessionMiddleware as WsgiSessions

SECRET = "behind-nginx-only-Zt3xk0VbX1qv8m2LwP5rYd7NfQ9sHc4G"
PROXY = os.environ.get("PROXY") or None
PORT = int(os.environ.get("HTTPS_PORT", "443"))


async def _asgi_page(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    scope["session"].login("ada")
    arrival = of_scope(scope)
    exchange = asgi_sessions.exchange
    page = {"address": exchange.address(arrival), "channel": exchange.channel(arrival).value}
    body = json.dumps(page).encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}
    )
    await send({"type": "http.response.body", "body": body})


def _wsgi_page(environ: Any, start_response: Any) -> Any:
    environ["coatcheck.session"].login("ada")
    arrival = of_environ(environ)
    exchange = wsgi_sessions.exchange
    page = {"address": exchange.address(arrival), "channel": exchange.channel(arrival).value}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(page).encode()]


asgi_sessions = AsgiSessions(_asgi_page, secret=SECRET, proxy=PROXY)
asgi = AsgiHttps(asgi_sessions, proxy=PROXY, port=PORT)
wsgi_sessions = WsgiSessions(_wsgi_page, secret=SECRET, proxy=PROXY)
wsgi = WsgiHttps(wsgi_sessions, proxy=PROXY, port=PORT)
