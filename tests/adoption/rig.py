"""A site of ours that adopts: two faces over one store, a clock to move, and browsers that come with old cookies."""

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

from coatcheck import Clock, Event, SessionManager
from coatcheck.asgi import Receive, Scope, Send
from coatcheck.asgi import SessionMiddleware as AsgiSessions
from coatcheck.core.session import BaseSession
from coatcheck.wsgi import SessionMiddleware as WsgiSessions
from coatcheck.wsgi import get_session
from tests.patience import PATIENT
from tests.web.rig import Talk, http_scope
from tests.web.servers import Seen
from tests.web.visitors import WsgiVisitor

SECRET = "vQ0m6nTzKxw3Jr8LdYbPfE5sGh1UaC9oXiR2tWqNyZk"
FACES = ("asgi", "wsgi")


class Time:
    """A clock that stands still at the real time, since that is what the old packages signed."""

    def __init__(self) -> None:
        self.now = time.time()
        self.clock = Clock(lambda: self.now, lambda: self.now)


class Ears:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def heard(self) -> list[str]:
        """The names since last asked."""
        events, self.events = self.events, []
        return [event.name for event in events]


def act(path: str, query: str, session: BaseSession) -> str:
    """What the application does: what it is told to, and says what it then sees."""
    given = dict(parse_qsl(query))
    if path == "/login":
        session.login(given["user"])
    elif path == "/logout":
        session.logout()
    elif path == "/rotate":
        session.regenerate()
    elif path == "/set":
        session.update(given)
    if path == "/pub":
        return "public"
    return json.dumps({"user": session.user_id, "data": dict(session)}, default=repr, sort_keys=True)


async def asgi_app(scope: Scope, receive: Receive, send: Send) -> None:
    text = act(scope["path"], scope["query_string"].decode(), scope["session"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text.encode()})


def wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
    text = act(environ["PATH_INFO"], environ["QUERY_STRING"], get_session(environ))
    start_response("200 OK", [])
    return [text.encode()]


class Site:
    """The application, and its sessions."""

    def __init__(self, face: str, store: Any, adopt: Any, **options: Any) -> None:
        self.time, self.ears = Time(), Ears()
        given = {
            "store": store,
            "secret": SECRET,
            "adopt": adopt,
            "clock": self.time.clock,
            "on_event": self.ears,
            "startup_check": False,
            "outage": PATIENT if isinstance(store, str) else None,
            **options,
        }
        kind: Any = partial(AsgiSessions, asgi_app) if face == "asgi" else partial(WsgiSessions, wsgi_app)
        self.app: Any = kind(**given)
        self.face, self.sessions = face, self.app.sessions
        self.loop = asyncio.Runner() if face == "asgi" else None
        self._visitor: Any = WsgiVisitor(self.app) if face == "wsgi" else None

    def answer(self, path: str, scheme: str, cookie: str) -> Seen:
        """What the application answers to a request with this Cookie header."""
        if self._visitor is not None:
            self._visitor._base = f"{scheme}://localhost"
            return self._visitor.visit(path, Cookie=cookie)
        assert self.loop is not None
        return self.loop.run(self._ask(path, scheme, cookie))

    async def _ask(self, path: str, scheme: str, cookie: str) -> Seen:
        path, _, query = path.partition("?")
        scope = http_scope(path, cookie=cookie) | {"scheme": scheme, "query_string": query.encode()}
        talk = await Talk(self.app, scope).run()
        headers = ((name.decode(), value.decode()) for name, value in talk.sent[0]["headers"])
        return Seen(talk.status, tuple(headers), talk.body)

    def answers(self, count: int, path: str, cookie: str) -> list[Seen]:
        """What it answers to as many such requests at once."""
        if self.loop is None:
            with ThreadPoolExecutor(count) as pool:
                return list(pool.map(lambda _: self.answer(path, "http", cookie), range(count)))

        async def all_of_them() -> list[Seen]:
            return await asyncio.gather(*(self._ask(path, "http", cookie) for _ in range(count)))

        return self.loop.run(all_of_them())

    def close(self) -> None:
        """Close what it opened."""
        if self.loop is None:
            self.app.sessions.close()
        else:
            with self.loop as loop:
                loop.run(self.app.sessions.close())

    def browser(self, scheme: str = "http", **cookies: str) -> "Browser":
        """Somebody who holds these cookies."""
        return Browser(self, scheme, cookies)

    @property
    def admin(self) -> SessionManager:
        """The sessions as a sync script sees them, with the options of the application."""
        flows = self.sessions.flows
        return SessionManager(self.sessions._backend, options=flows.options, clock=flows.clock)


class Browser:
    """A browser of one site: what it holds, changed as the answers say."""

    def __init__(self, site: Site, scheme: str, cookies: dict[str, str]) -> None:
        self.site, self.scheme, self.cookies = site, scheme, dict(cookies)
        self.last: Seen | None = None

    def get(self, path: str = "/", *, status: int = 200) -> Any:
        """What the page says."""
        header = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        self.last = seen = self.site.answer(path, self.scheme, header)
        assert seen.status == status, seen
        for line in seen.all("set-cookie"):
            pair, _, attributes = line.partition(";")
            name, _, value = pair.partition("=")
            if "Max-Age=0" in attributes:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        return json.loads(seen.text) if seen.text.startswith("{") else seen.text

    def copy(self) -> "Browser":
        """Somebody else who holds the same."""
        return Browser(self.site, self.scheme, self.cookies)


NOTHING: dict[str, Any] = {"user": None, "data": {}}
