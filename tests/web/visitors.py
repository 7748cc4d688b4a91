"""Visitors of an application in this process, through the framework's own test client, in the shape of `servers.Browser`."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from aiohttp import DummyCookieJar, web
from aiohttp.test_utils import TestClient as AiohttpClient
from aiohttp.test_utils import TestServer
from starlette.testclient import TestClient
from werkzeug.test import Client

from coatcheck.asgi import App
from tests.web.servers import Seen, keep


class AsgiVisitor:
    """Visits an ASGI application with Starlette's TestClient; an exception of the application is a 500."""

    def __init__(self, app: App, base: str = "http://localhost") -> None:
        self.client = TestClient(app, base_url=base, raise_server_exceptions=False, follow_redirects=False)

    def visit(self, path: str, method: str = "GET", **headers: str) -> Seen:
        """Ask for a page; header names have `_` for `-`."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        response = self.client.request(method, path, headers=fields)
        return Seen(response.status_code, tuple(response.headers.multi_items()), response.content)

    @property
    def cookies(self) -> dict[str, str]:
        """What the browser holds."""
        return dict(self.client.cookies)

    @cookies.setter
    def cookies(self, cookies: dict[str, str]) -> None:
        self.client.cookies.clear()
        for name, value in cookies.items():
            self.client.cookies.set(name, value, domain="localhost.local")


class AiohttpVisitor:
    """Visits an aiohttp application with aiohttp's TestClient. It is made anew for each visit, over a store that stays."""

    def __init__(self, make: Callable[[], web.Application], base: str = "http://localhost") -> None:
        self._make, self._host, self.cookies = make, urlsplit(base).netloc, dict[str, str]()

    def visit(self, path: str, method: str = "GET", **headers: str) -> Seen:
        """Ask for a page; header names have `_` for `-`."""
        fields = {"Host": self._host, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if self.cookies:
            fields.setdefault("Cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()))
        seen = asyncio.run(self._visit(path, method, fields))
        keep(seen, self.cookies)
        return seen

    async def _visit(self, path: str, method: str, headers: dict[str, str]) -> Seen:
        async with AiohttpClient(TestServer(self._make()), cookie_jar=DummyCookieJar()) as client:
            response = await client.request(method, path, headers=headers, allow_redirects=False)
            pairs = tuple((name.lower(), value) for name, value in response.headers.items())
            return Seen(response.status, pairs, await response.read())


class WsgiVisitor:
    """Visits a WSGI application with Werkzeug's client, which is Flask's; an exception of the application is a 500."""

    def __init__(self, app: WSGIApplication, base: str = "http://localhost") -> None:
        self.client, self._base = Client(_guarded(app)), base

    def visit(self, path: str, method: str = "GET", **headers: str) -> Seen:
        """Ask for a page; header names have `_` for `-`."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        client = Client(self.client.application, use_cookies=False) if "Cookie" in fields else self.client
        with client.open(path, method=method, base_url=self._base, headers=fields) as response:
            # servers trim what they are given: Django writes a space before a cookie
            pairs = tuple((name.lower(), value.strip()) for name, value in response.headers)
            return Seen(response.status_code, pairs, response.get_data())

    @property
    def cookies(self) -> dict[str, str]:
        """What the browser holds."""
        jar: Any = self.client._cookies
        return {cookie.key: cookie.value for cookie in jar.values()}

    @cookies.setter
    def cookies(self, cookies: dict[str, str]) -> None:
        jar: Any = self.client._cookies
        jar.clear()
        for name, value in cookies.items():
            self.client.set_cookie(name, value)


def _guarded(app: WSGIApplication) -> WSGIApplication:
    """What every WSGI server does with an exception: a 500."""

    def guarded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            return app(environ, start_response)
        except Exception:
            start_response("500 Internal Server Error", [("Content-Length", "0")])
            return [b""]

    return guarded
