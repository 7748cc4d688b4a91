"""The application under faults, over either face, and the ways to ask it: in this process, in threads, and through a server.

A page is `tests.web.crowd`'s: the query says what it does, and it answers all there is in the session. Every answer of a handler
that had its session carries `x-handled`: a 503 without it came before anything could be written, so it is surely a refusal.
"""

import asyncio
import json
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from urllib.parse import parse_qsl
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import httpx
from starlette.responses import JSONResponse

from coatcheck import Clock, asgi, wsgi
from coatcheck.asgi import App, Receive, Scope, Send
from coatcheck.stores.redis import RedisStore
from tests.faults.checker import ACKNOWLEDGED, IN_DOUBT, REFUSED, Outcome, Shown
from tests.web.crowd import answer, answer_async
from tests.web.paths import SECRET
from tests.web.servers import Seen, keep

__all__ = ["Answer", "Site", "SteppedClock", "asgi_site", "server_site", "wsgi_site"]

PATIENCE: Final = 30.0
"""Seconds that a visitor waits for a server: longer than any time-out of a store."""
THREADS: Final = 64
"""Enough that no request waits for a thread, only for the store."""
NEVER: Final = Seen(0, ())
"""What a visitor has who got no answer."""


class Answer:
    """What came of a request."""

    def __init__(self, seen: Seen, *, left: bool) -> None:
        """`left`: whether the request may have reached the application."""
        self.seen, self.status, self._left = seen, seen.status, left

    @property
    def outcome(self) -> Outcome:
        """What the visitor knows."""
        if self.status == 200:
            return ACKNOWLEDGED
        if self.status == 503:
            return IN_DOUBT if self.seen.all("x-handled") else REFUSED
        return IN_DOUBT if self._left else REFUSED

    @property
    def shown(self) -> Shown:
        """What it shows of the session."""
        if self.status != 200:
            return Shown(None)
        page = json.loads(self.seen.body)
        count = page["data"].pop("n", 0)
        return Shown(page["user"], frozenset(page["data"]), count)

    @property
    def gives_cookie(self) -> bool:
        """Whether it begins a session for the browser."""
        return any("Max-Age=0" not in line for line in self.seen.all("set-cookie"))


class Site:
    """An application that can be asked. `cookies` of a browser are changed as the answer says."""

    def __init__(self, transport: httpx.AsyncBaseTransport, origin: str = "http://localhost") -> None:
        self._transport, self._origin = transport, origin
        self.workers: set[int] = set()
        """The processes that have answered."""

    async def ask(self, cookies: dict[str, str], **query: str) -> Answer:
        """Ask for the page; see `tests.web.crowd` for the query."""
        headers = (
            {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())} if cookies else {}
        )
        waits = {"connect": PATIENCE, "read": PATIENCE, "write": PATIENCE, "pool": PATIENCE}
        request = httpx.Request(
            "GET", self._origin, params=query, headers=headers, extensions={"timeout": waits}
        )
        try:
            response = await self._transport.handle_async_request(request)
            body = await response.aread()
        except httpx.ConnectError:
            return Answer(NEVER, left=False)
        except httpx.TransportError:
            return Answer(NEVER, left=True)
        pairs = tuple((name.lower(), value) for name, value in response.headers.multi_items())
        seen = Seen(response.status_code, pairs, body)
        keep(seen, cookies)
        self.workers.update(map(int, seen.all("x-worker")))
        return Answer(seen, left=True)

    async def aclose(self) -> None:
        """Close its connections, not its store."""
        await self._transport.aclose()


class SteppedClock:
    """An application's clock, which its operator sets: `by` seconds ahead of the true one."""

    def __init__(self) -> None:
        self.by = 0.0
        self.clock = Clock(time=lambda: time.time() + self.by)


# ---------------------------------------------------------------------------------------------------- event loops


async def _page(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    session, query = scope["session"], dict(parse_qsl(scope["query_string"].decode()))
    len(session)  # raises what kept it from being loaded
    scope["faults.handled"] = True
    await JSONResponse(await answer_async(session, query))(scope, receive, send)


def asgi_app(store: Any, **options: Any) -> App:
    """The application; `options` as of `coatcheck.asgi.SessionMiddleware`."""
    inside = asgi.SessionMiddleware(_page, store=store, secret=SECRET, **options)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def marked(message: Any) -> None:
            if message["type"] == "http.response.start":
                more = [(b"x-worker", b"%d" % os.getpid())]
                more += [(b"x-handled", b"1")] if "faults.handled" in scope else []
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        await inside(scope, receive, marked)

    return app


def asgi_site(store: Any, **options: Any) -> Site:
    """The application in this process, on the running event loop. The store is its maker's to close."""
    return Site(httpx.ASGITransport(asgi_app(store, **options), raise_app_exceptions=False))


# -------------------------------------------------------------------------------------------------------- threads


def wsgi_app(store: Any, **options: Any) -> WSGIApplication:
    """The same application over the sync face."""

    def page(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        session = environ["coatcheck.session"]
        len(session)
        environ["faults.handled"] = True
        body = JSONResponse(answer(session, dict(parse_qsl(environ["QUERY_STRING"])))).body
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [bytes(body)]

    inside = wsgi.SessionMiddleware(page, store=store, secret=SECRET, **options)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def marked(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            more = [("x-handled", "1")] if "faults.handled" in environ else []
            return start_response(status, [*headers, *more], *rest)

        try:
            return inside(environ, marked)
        except Exception:  # what every WSGI server makes of it
            start_response("500 Internal Server Error", [("Content-Length", "0")])
            return [b""]

    return app


class _InThreads(httpx.AsyncBaseTransport):
    """Asks a WSGI application, each time in a thread."""

    def __init__(self, app: WSGIApplication) -> None:
        self._transport = httpx.WSGITransport(app, raise_app_exceptions=False)
        self._threads = ThreadPoolExecutor(THREADS)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._ask, request)

    def _ask(self, request: httpx.Request) -> httpx.Response:
        answer = self._transport.handle_request(request)
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.read())

    async def aclose(self) -> None:
        self._threads.shutdown()


def wsgi_site(store: Any, **options: Any) -> Site:
    """The application over the sync face, in threads of this process."""
    return Site(_InThreads(wsgi_app(store, **options)))


# -------------------------------------------------------------------------------------------------------- servers


def server_site(port: int) -> Site:
    """The application behind a server: a connection a request, so that all of its workers get some."""
    limits = httpx.Limits(max_keepalive_connections=0)
    return Site(httpx.AsyncHTTPTransport(limits=limits), f"http://127.0.0.1:{port}")


def __getattr__(name: str) -> Any:
    """`uvicorn tests.faults.site:app`, over the store that the environment names, with options of RedisStore as JSON."""
    if name != "app":
        raise AttributeError(name)
    options = json.loads(os.environ.get("STORE_OPTIONS", "{}"))
    url = os.environ["STORE"]
    return asgi_app(RedisStore.from_url(url, **options) if options else url)
