"""A team that leaves Node: its browsers, and the three applications that answer them, one after the other and side by side.

`NodeSite` is express-session over connect-redis, as npm has them; `DialectSite` is ours over the same Redis; `NativeSite` is what
the team goes to. A `Visitor` knows what it was promised: every answer is an acknowledgement.
"""

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from coatcheck.adoption import ExpressSession
from coatcheck.asgi import Receive, Scope, Send, SessionMiddleware
from coatcheck.dialects.express import express_sessions
from coatcheck.dialects.express.signed import Secrets
from tests.adoption.rig import SECRET as OURS
from tests.dialects.live import acted
from tests.dialects.node import NodeApp, Op
from tests.patience import PATIENT
from tests.web.rig import Talk, http_scope

NAME, SECRET = "connect.sid", "keyboard cat"
SIGNED: Final = Secrets(SECRET)
NODE_OPTIONS: Final = {"secret": SECRET, "resave": False, "saveUninitialized": False}
NOBODY: Final = (None, None)


def sid(number: int) -> str:
    return f"s{number:031d}"


@dataclass
class Visitor:
    """A browser, who it is logged in as, and what it was told: how often its session was counted up, and whether it lives."""

    number: int
    cookies: dict[str, str] = field(default_factory=dict)
    n: int = 0
    lives: bool = True
    wrote_late: str | None = None
    """What a request that ended after the switch wrote, and was told that it had."""
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    def of(cls, number: int) -> "Visitor":
        """One whose session was there at the start."""
        return cls(number, {NAME: SIGNED.sign(sid(number))})

    def copy(self) -> "Visitor":
        """Somebody else with the same cookies."""
        return Visitor(self.number, dict(self.cookies), self.n)

    @property
    def sid(self) -> str:
        """What its cookie of Node's names."""
        named = SIGNED.verify(self.cookies[NAME].encode())
        assert named is not None
        return named

    @property
    def user(self) -> str:
        return f"u{self.number}"

    @property
    def body(self) -> bytes:
        cookie = {"originalMaxAge": None, "expires": None, "httpOnly": True, "path": "/"}
        return json.dumps({"cookie": cookie, "passport": {"user": self.user}, "n": 0}).encode()

    @property
    def header(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self.cookies.items())

    def hear(self, lines: Sequence[str]) -> None:
        """Keep the cookies of an answer."""
        for line in lines:
            name, _, value = line.partition(";")[0].partition("=")
            if "Max-Age=0" in line:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value

    @property
    def promised(self) -> tuple[int | None, str | None]:
        """What a request must find."""
        return (self.n, self.user) if self.lives else NOBODY

    @property
    def late(self) -> str | None:
        """What a request must find of what was written late: it ends with the session."""
        return self.wrote_late if self.lives else None


class Site(Protocol):
    """An application of the Node world. `run` answers with what the operations came to."""

    async def run(self, visitor: Visitor, *ops: Op) -> list[Any]: ...

    async def reached(self, name: str) -> None: ...

    async def go(self, name: str) -> None: ...


class NodeSite:
    """The real one, in a process of its own."""

    def __init__(self, app: NodeApp, threads: ThreadPoolExecutor) -> None:
        app.patience = 900
        self._app, self._threads = app, threads

    async def run(self, visitor: Visitor, *ops: Op) -> list[Any]:
        answer = await self._asked(lambda: self._app.run(*ops, cookie=visitor.header))
        assert answer.status == 200, answer
        visitor.hear(answer.set_cookies)
        results: list[Any] = answer.body["results"]
        return results

    async def reached(self, name: str) -> None:
        await self._asked(lambda: self._app.reached(name))

    async def go(self, name: str) -> None:
        await self._asked(lambda: self._app.go(name))

    async def _asked(self, ask: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, ask)


class DialectSite:
    """A Python application in the express dialect."""

    def __init__(self, url: str) -> None:
        self.sessions = express_sessions(
            url, secret=SECRET, resave=False, save_uninitialized=False, outage=PATIENT
        )
        self._app: Any = self.sessions.asgi(self._act)
        self._waits: dict[str, tuple[asyncio.Event, asyncio.Event]] = {}

    async def run(self, visitor: Visitor, *ops: Op) -> list[Any]:
        results: list[Any] = []
        scope = http_scope(cookie=visitor.header) | {"ops": ops, "results": results}
        talk = await Talk(self._app, scope).run()
        assert talk.status == 200
        visitor.hear(talk.all(b"set-cookie"))
        return results

    async def _act(self, scope: Scope, receive: Receive, send: Send) -> None:
        for name, *given in scope["ops"]:
            if name == "wait":
                reached, gone = self._wait(given[0])
                reached.set()
                await gone.wait()
                scope["results"].append(None)
            else:
                scope["results"].append(await acted(scope["session"], name, given))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def _wait(self, name: str) -> tuple[asyncio.Event, asyncio.Event]:
        return self._waits.setdefault(name, (asyncio.Event(), asyncio.Event()))

    async def reached(self, name: str) -> None:
        await self._wait(name)[0].wait()

    async def go(self, name: str) -> None:
        self._wait(name)[1].set()


class NativeSite:
    """What answers after the switch: it adopts the cookie of Node."""

    def __init__(self, new: str, old: str) -> None:
        kind = ExpressSession(store=old, secret=SECRET, outage=PATIENT)
        self._app: Any = SessionMiddleware(
            self._act, store=new, secret=OURS, adopt=kind, startup_check=False, outage=PATIENT
        )
        self.sessions = self._app.sessions

    async def visit(self, visitor: Visitor, path: str = "/") -> tuple[int | None, str | None, str | None]:
        """What the session holds: the count, the user, and what a late request left."""
        talk = await Talk(self._app, http_scope(path, cookie=visitor.header)).run()
        assert talk.status == 200
        visitor.hear(talk.all(b"set-cookie"))
        n, user, late = json.loads(talk.sent[1]["body"])
        return n, user, late

    async def _act(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = scope["session"]
        found = session.get("n"), session.user_id, session.get("late")
        if scope["path"] == "/count" and found[1] is not None:
            session.increment("n")
        elif scope["path"] == "/logout":
            session.logout()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(found).encode()})


@dataclass
class Held:
    """A request that was accepted before the switch, has read its session, and is still at work."""

    visitor: Visitor
    site: Site
    what: str
    name: str
    its_own: Visitor
    """A browser of its own, so that its answer can be told from others."""
    answer: "asyncio.Task[list[Any]]"

    @classmethod
    async def begin(cls, visitor: Visitor, site: Site, what: str, name: str) -> "Held":
        """Begin it, and have it wait."""
        its_own = visitor.copy()
        ends: dict[str, list[Op]] = {
            "write": [["set", ["late"], name]],
            "destroy": [["destroy"]],
            "login": [["regenerate"], *logged_in(visitor)],
        }
        asked = site.run(its_own, ["get", "n"], ["wait", name], *ends[what])
        held = cls(visitor, site, what, name, its_own, asyncio.create_task(asked))
        await site.reached(name)
        return held

    async def end(self) -> None:
        """Let it go on, and wait for its answer."""
        await self.site.go(self.name)
        assert (await self.answer)[0] == self.its_own.n


def logged_in(visitor: Visitor) -> list[Op]:
    """What a handler writes into the session of somebody who is logged in."""
    return [["set", ["passport"], {"user": visitor.user}], ["set", ["n"], visitor.n]]


async def opened(
    stack: AsyncExitStack, node: NodeApp, old: str, new: str
) -> tuple[NodeSite, DialectSite, NativeSite]:
    """The three of them, for the length of the stack."""
    threads = ThreadPoolExecutor(200)
    stack.callback(threads.shutdown, wait=False)  # when something is wrong, some wait on
    dialect, native = DialectSite(old), NativeSite(new, old)
    stack.push_async_callback(dialect.sessions.aclose)
    stack.push_async_callback(native.sessions.close)
    return NodeSite(node, threads), dialect, native
