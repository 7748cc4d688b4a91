"""Programs for two implementations of express-session, and what ours makes of one: options, requests, what their handlers do.

A program is made from a seed. Ours runs it first, with a browser that keeps cookies and sometimes tampers with them: that gives
the requests as they are sent, which the real one then gets too. Both draw their ids from one list, and both clocks are set.
"""

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final

from coatcheck import Clock, Event
from coatcheck.dialects.express import CookieOptions, express_sessions
from coatcheck.dialects.express.memory import MemoryStore
from coatcheck.dialects.express.ports import Entry, Outcome
from coatcheck.dialects.express.session import BaseSession
from coatcheck.dialects.express.signed import Secrets
from coatcheck.errors import SessionGone, TooLate

__all__ = ["Outcome", "Program", "Request", "Sent", "made", "ours"]

START: Final = 1_700_000_000_000
SECRETS: Final = ("keyboard cat", "the older one", "sécret ☃")
KEYS: Final = ("a", "b", "cart", "views", "user-id", "ключ")
CANNOT: Final = "cannot"
"""The result of what there is no session, or no such place, for."""
Op = Sequence[Any]


@dataclass(frozen=True)
class Request:
    """One request of a program."""

    ops: tuple[Op, ...] = ()
    cookie: str = "jar"
    """What the browser does with its cookies: see `_Browser.header`."""
    later: int = 0
    """Milliseconds since the one before."""
    path: str = "/"
    secure: bool = False
    forwarded: str | None = None


@dataclass(frozen=True)
class Program:
    """What is run."""

    session: Mapping[str, Any]
    """express-session's options, in its own words."""
    requests: tuple[Request, ...]
    without_touch: bool = False


@dataclass(frozen=True)
class Sent:
    """A request as it is sent."""

    now: int
    path: str
    headers: dict[str, str]


@dataclass
class Seen:
    """What came of one request."""

    status: int
    cookies: list[str]
    body: Any
    asked: list[list[Any]]
    stored: dict[str, str]
    raised: str = ""
    """What only ours refuses."""


# ------------------------------------------------------------------------------------------------------------- made


def made(seed: int) -> Program:
    """The program of a seed."""
    random = Random(seed)
    options: dict[str, Any] = {
        "secret": list(SECRETS[: random.choice((1, 1, 2, 3))]),
        "resave": random.random() < 0.3,
        "saveUninitialized": random.random() < 0.4,
        "rolling": random.random() < 0.3,
        "unset": random.choice(("keep", "keep", "destroy")),
        "cookie": _cookie(random),
    }
    if random.random() < 0.2:
        options["name"] = random.choice(("sid", "app.session", "__Host-s"))
    if random.random() < 0.4:
        options["proxy"] = random.random() < 0.7
    requests = tuple(_request(random, options) for _ in range(random.randint(2, 7)))
    return Program(options, requests, without_touch=random.random() < 0.2)


def _cookie(random: Random) -> dict[str, Any]:
    cookie: dict[str, Any] = {}
    lifetime = random.random()
    if lifetime < 0.4:
        cookie["maxAge"] = random.choice((1, 999, 1000, 60_000, 600_000, 0, -1000, 1500.7))
    elif lifetime < 0.5:
        cookie["expires"] = START + random.choice((-1000, 50_000, 100_000))
    for name, values in (
        ("path", ("/", "/admin", "/app/", "", None)),
        ("httpOnly", (False, True)),
        ("secure", (True, "auto", False)),
        ("sameSite", (True, False, "lax", "strict", "none", "auto")),
        ("domain", ("example.com",)),
        ("partitioned", (True,)),
        ("priority", ("low", "medium", "high")),
    ):
        if random.random() < 0.2:
            cookie[name] = random.choice(values)
    return cookie


def _request(random: Random, options: Mapping[str, Any]) -> Request:
    cookies = ("jar",) * 12 + (
        "none",
        "first",
        "tampered",
        "unsigned",
        "unknown",
        "older",
        "foreign",
        "two",
        "quoted",
        "raw",
        "empty",
    )
    return Request(
        _in_order([_op(random) for _ in range(random.choice((0, 1, 1, 2, 2, 3, 4)))]),
        random.choice(cookies),
        random.choice((0, 1, 500, 1000, 30_000, 59_999, 60_000, 600_000)),
        random.choice(("/", "/", "/", "/admin", "/administrator", "/app", "/app/x", "/admin?x=1")),
        secure="proxy" not in options and random.random() < 0.2,
        forwarded=random.choice((None, "https", "http", "https, http", " HTTPS "))
        if random.random() < 0.3
        else None,
    )


def _in_order(ops: list[Op]) -> tuple[Op, ...]:
    """Without what, after the headers have left, is told otherwise (rules 4.8, 5.6): ours has stored the session by then."""
    begun = ops.index(["write"]) if ["write"] in ops else len(ops)
    return tuple(
        op
        for at, op in enumerate(ops)
        if at <= begun or op[0] in ("set", "delete", "move", "get", "maxAge", "expires")
    )


def _op(random: Random) -> Op:
    key = random.choice(KEYS)
    return random.choice(
        (
            ["set", [key], _value(random)],
            ["set", [key], _value(random)],
            ["set", ["nest"], {"n": random.randint(0, 2), "cookie": 1}],
            ["set", ["nest", "n"], random.randint(0, 2)],
            ["delete", [key]],
            ["move", key],
            ["get", key],
            ["get", key],
            ["regenerate"],
            ["destroy"],
            ["save"],
            ["reload"],
            ["touch"],
            ["maxAge", random.choice((None, 0, 1000, 60_000, 5_000_000))],
            ["expires", random.choice((None, START + 70_000, START - 5))],
            ["cookie", random.choice(("httpOnly", "secure")), random.random() < 0.5],
            ["cookie", "path", random.choice(("/", "/x"))],
            ["forget", random.choice(("null", "delete"))],
            ["status", random.choice((204 + 1, 404, 500))],
            ["header", "Set-Cookie", "mine=1"],
            ["write"],
        )
    )


def _value(random: Random) -> Any:
    return random.choice(
        (
            0,
            1,
            -1,
            2.5,
            1e21,
            9007199254740991,
            True,
            None,
            "",
            "x",
            "Zoë ☃",
            '"\\\n\u2028',
            [],
            [1, [2]],
            {},
            {"k": {"k": 0}},
        )
    )


# ------------------------------------------------------------------------------------------------------------- ours


class _Told:
    """A store that says what it was asked, in express-session's words."""

    def __init__(self, store: MemoryStore, *, touches: bool) -> None:
        self._store, self.touches = store, touches
        self.asked: list[list[Any]] = []

    def blocking(self) -> "_Told":
        return self

    def awaiting(self) -> "_Told":
        return self

    async def get(self, sid: str, *, now: float) -> Entry | None:
        self.asked.append(["get", sid])
        return await self._store.get(sid, now=now)

    async def create(self, sid: str, text: bytes, *, expires: float | None, now: float) -> Outcome:
        self.asked.append(["set", sid, text.decode()])
        return await self._store.create(sid, text, expires=expires, now=now)

    async def replace(
        self, sid: str, text: bytes, *, over: Entry, expires: float | None, now: float
    ) -> Outcome:
        self.asked.append(["set", sid, text.decode()])
        return await self._store.replace(sid, text, over=over, expires=expires, now=now)

    async def touch(self, sid: str, text: bytes, *, expires: float | None, now: float) -> None:
        self.asked.append(["touch", sid])
        await self._store.touch(sid, text, expires=expires, now=now)

    async def destroy(self, sid: str) -> bool:
        self.asked.append(["destroy", sid])
        return await self._store.destroy(sid)


@dataclass
class _Browser:
    """Keeps what it was last sent, and what it was sent first; `header` is what it sends."""

    name: str
    secrets: Sequence[str]
    jar: list[str] = field(default_factory=list)

    def hear(self, cookies: Sequence[str]) -> None:
        for line in cookies:
            pair = line.partition(";")[0]
            if pair.startswith(f"{self.name}="):
                self.jar.append(pair)

    def header(self, how: str) -> str:
        """The Cookie header."""
        last = self.jar[-1] if self.jar else ""
        value = last.partition("=")[2]
        sid = (Secrets(self.secrets).verify(value.encode()) if value else None) or "nobody"
        match how:
            case "none":
                return "other=1"
            case "first":
                return self.jar[0] if self.jar else ""
            case "tampered":
                return last[:-1] + ("A" if last[-1:] != "A" else "B")
            case "unsigned":
                return f"{self.name}={sid}"
            case "unknown":
                return f"{self.name}={Secrets(self.secrets).sign('never-' + sid)}"
            case "older":
                return f"{self.name}={Secrets(self.secrets[-1]).sign(sid)}"
            case "foreign":
                return f"{self.name}={Secrets('somebody else').sign(sid)}"
            case "two":
                return f"{self.name}={Secrets(self.secrets).sign('nobody')}; {last}"
            case "quoted":
                return f'a=b; {self.name}="{value}"'
            case "raw":
                return last.replace("%3A", ":").replace("%2F", "/").replace("%2B", "+")
            case "empty":
                return f"{self.name}={Secrets(self.secrets).sign('')}"
        return last


def ours(program: Program, ids: Sequence[str]) -> tuple[list[Sent], list[Seen]]:
    """What our dialect makes of a program; and its requests, as they were sent."""
    return asyncio.run(_Site(program, ids).run())


class _Site:
    """An ASGI application in our dialect, that does what its requests say."""

    def __init__(self, program: Program, ids: Sequence[str]) -> None:
        given, left = dict(program.session), list(ids)
        self.now, self.program, self.raised = START, program, ""
        self.memory = MemoryStore()
        self.store = _Told(self.memory, touches=not program.without_touch)
        options = {
            "resave": given["resave"], "save_uninitialized": given["saveUninitialized"], "rolling": given["rolling"],
            "unset": given["unset"], "proxy": given.get("proxy"), "name": given.get("name", "connect.sid"),
        }  # fmt: skip
        self.browser = _Browser(options["name"], given["secret"])
        sessions = express_sessions(
            self.store, secret=given["secret"], cookie=_options(given["cookie"]), genid=lambda: left.pop(0),
            clock=Clock(lambda: self.now / 1000), on_event=self._hear, **options,
        )  # fmt: skip
        self.app = sessions.asgi(self._application)

    def _hear(self, event: Event) -> None:
        """Rule 6.7: what was over when it was saved is not revived by the next save."""
        if event.name == "session.gone":
            self.raised = event.name

    async def run(self) -> tuple[list[Sent], list[Seen]]:
        sent: list[Sent] = []
        seen: list[Seen] = []
        for request in self.program.requests:
            self.now += request.later
            headers = {"x-ops": urlsafe_b64encode(json.dumps(request.ops).encode()).decode().rstrip("=")}
            if cookie := self.browser.header(request.cookie):
                headers["cookie"] = cookie
            if request.secure:
                headers["x-secure"] = "yes"
            if request.forwarded is not None:
                headers["x-forwarded-proto"] = request.forwarded
            sent.append(Sent(self.now, request.path, headers))
            seen.append(await self._ask(sent[-1], request))
            self.browser.hear(seen[-1].cookies)
        return sent, seen

    async def _ask(self, sent: Sent, request: Request) -> Seen:
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "query_string": b"",
            "scheme": "https" if request.secure else "http", "path": sent.path.partition("?")[0],
            "raw_path": sent.path.partition("?")[0].encode(), "client": ("127.0.0.1", 1), "ops": request.ops,
            "headers": [(name.encode(), value.strip().encode()) for name, value in sent.headers.items()],
        }  # fmt: skip
        messages: list[Any] = []

        async def send(message: Any) -> None:
            messages.append(message)

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        self.raised = ""
        await self.app(scope, receive, send)
        text = b"".join(message.get("body", b"") for message in messages)
        cookies = [value.decode("latin-1") for name, value in messages[0]["headers"] if name == b"set-cookie"]
        stored = {sid: entry.decode() for sid, entry in self.memory._entries.items()}
        asked, self.store.asked = self.store.asked, []
        return Seen(messages[0]["status"], cookies, json.loads(text), asked, stored, self.raised)

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        results: list[Any] = []
        begun, status, headers = False, 200, list[tuple[bytes, bytes]]()

        async def begin() -> None:
            await send({"type": "http.response.start", "status": status, "headers": headers})

        for name, *given in scope["ops"]:
            if name == "write":
                if not begun:
                    await begin()
                    begun = True
                await send({"type": "http.response.body", "body": b" ", "more_body": True})
            elif name == "status":
                status = given[0]
            elif name == "header":
                headers.append((given[0].lower().encode(), given[1].encode()))
            else:
                results.append(await self._act(scope, name, given))
        here = _here(scope)
        body = {
            "has": here is not None, "results": results, "id": None if here is None else here.id,
            "data": None if here is None else {**here, "cookie": here.cookie.dump()},
            "maxAge": None if here is None else here.cookie.max_age,
        }  # fmt: skip
        if not begun:
            await begin()
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})

    async def _act(self, scope: Any, name: str, given: list[Any]) -> Any:
        if name == "forget":
            scope.pop("session", None) if given[0] == "delete" else scope.update(session=None)
            return None
        session = _here(scope)
        if session is None:
            return CANNOT
        try:
            return await _acted(session, name, given)
        except (KeyError, TypeError, IndexError):
            return None if name == "delete" else CANNOT
        except SessionGone:
            return "failed to load session"
        except TooLate as error:
            self.raised = str(error)
            return None


def _here(scope: Any) -> Any:
    session = scope.get("session")
    return None if session is None or session._is_destroyed else session


async def _acted(session: Any, name: str, given: list[Any]) -> Any:
    match name:
        case "set":
            path, value = given
            place = session
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
        case "delete":
            del session[given[0][0]]
        case "move":
            if given[0] in session:
                session[given[0]] = session.pop(given[0])
        case "get":
            return session.get(given[0])
        case "regenerate" | "destroy" | "save" | "reload":
            await getattr(session, name)()
        case "touch":
            session.touch()
        case "maxAge":
            session.cookie.max_age = given[0]
        case "expires":
            at = given[0]
            session.cookie.expires = (
                None if at is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at)
            )
        case "cookie":
            word = {"httpOnly": "http_only"}.get(given[0], given[0])
            setattr(session.cookie, word, given[1])
    return None


def _options(cookie: Mapping[str, Any]) -> CookieOptions:
    words = {"maxAge": "max_age", "httpOnly": "http_only", "sameSite": "same_site"}
    given = {words.get(name, name): value for name, value in cookie.items()}
    if "expires" in given:
        given["expires"] = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=given["expires"])
    return CookieOptions(**given)


def is_session(value: object) -> bool:
    """Whether it is one of ours."""
    return isinstance(value, BaseSession)
