"""An application whose sessions are in cookies, behind ASGI or WSGI, and browsers that keep them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from coatcheck import Clock, Timeouts
from coatcheck.asgi import SessionMiddleware as AsgiSessions
from coatcheck.core.events import Event
from coatcheck.stores.cookie import LONGEST, CookieStore
from coatcheck.stores.memory import MemoryStore
from coatcheck.wsgi import SessionMiddleware as WsgiSessions

SECRET = "vQ0m6nTzKxw3Jr8LdYbPfE5sGh1UaC9oXiR2tWqNyZk"
OTHER = "oJ5yR1uWq8ZbN3xT7cVfK9sLdM2gHpA4eXiU6wBnYtE"
NAME = "__Host-session"
NOON = 1_800_000_000.0
SHORT = Timeouts(idle=3_600, absolute=LONGEST)
MISSING = object()

Jar = dict[str, str]


class Site:
    """One application whose sessions are in cookies, behind ASGI or WSGI: its handler is the function of the request at hand."""

    def __init__(self, face: str, **options: Any) -> None:
        self.now, self.events, self.face = NOON, list[Event](), face
        self.handler: Callable[[Any], Any] = dict
        settings: dict[str, Any] = {
            "secret": SECRET, "clock": Clock(lambda: self.now, lambda: self.now), "on_event": self.events.append,
            "timeouts": SHORT,
        }  # fmt: skip
        settings |= options
        self.app: Any = (
            AsgiSessions(self._asgi, **settings) if face == "asgi" else WsgiSessions(self._wsgi, **settings)
        )
        self.answer: Any = None

    async def _asgi(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        self.answer = self.handler(scope["session"])
        if isinstance(self.answer, Awaitable):
            self.answer = await self.answer
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    def _wsgi(self, environ: Any, start_response: Any) -> list[bytes]:
        self.answer = self.handler(environ["coatcheck.session"])
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]

    def names(self) -> list[str]:
        """Of the events since last asked."""
        names: list[str] = [event.name for event in self.events]
        self.events.clear()
        return names

    def send(self, header: str, handler: Callable[[Any], Any] = dict) -> httpx.Response:
        """One request; the handler's answer is in `answer`."""
        self.handler, self.answer = handler, MISSING
        headers = {"host": "shop.example"} | ({"cookie": header} if header else {})
        if self.face == "wsgi":
            with httpx.Client(
                transport=httpx.WSGITransport(self.app), base_url="https://shop.example"
            ) as client:
                return client.get("/", headers=headers)

        async def get() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="https://shop.example") as client:
                return await client.get("/", headers=headers)

        return asyncio.run(get())


class Browser:
    """Keeps cookies as browsers do: each by its name, and drops those that are too large."""

    def __init__(self, site: Site) -> None:
        self.site, self.jar = site, Jar()
        self.fields: list[str] = []

    @property
    def header(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self.jar.items())

    def do(self, handler: Callable[[Any], Any] = dict) -> Any:
        """Send the cookies, take what comes, and return what the handler did."""
        self.response = self.site.send(self.header, handler)
        self.take(self.response)
        return self.site.answer

    def take(self, response: httpx.Response) -> None:
        self.fields = response.headers.get_list("set-cookie")
        for field in self.fields:
            name, _, value = field.split(";")[0].partition("=")
            assert len(name) + len(value) <= 4096, "browsers drop this"
            if "Max-Age=0" in field:
                self.jar.pop(name, None)
            else:
                self.jar[name] = value

    def copy(self) -> "Browser":
        """Somebody who has stolen the cookies."""
        thief = Browser(self.site)
        thief.jar = dict(self.jar)
        return thief


def puts(**values: Any) -> Callable[[Any], None]:
    return lambda session: session.update(values)


def logs_in(user: str = "ada") -> Callable[[Any], None]:
    return lambda session: session.login(user)


def logs_out(session: Any) -> None:
    session.logout()


def who(session: Any) -> str | None:
    user: str | None = session.user_id
    return user


KINDS: dict[str, Callable[[], Any]] = {
    "none": lambda: "cookie:?revocation=none",
    "epoch": lambda: CookieStore(revocation="epoch", store=MemoryStore()),
}
