"""The rig of the security checklist (section 0): one small application, behind ASGI and WSGI, over memory and SQLite.

A `Site` is one worker: the middleware over a store that counts its commands and fails on demand, with a clock to move. Its client
sends the header bytes it is given and parses nothing on the way. A request can be held at a `Gate` half way through its handler,
so that concurrency is an order of steps and not a matter of luck. Everything reads like sync code; the ASGI half runs in an event
loop on a thread of its own.
"""

import asyncio
import base64
import io
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from http.cookies import CookieError
from pathlib import Path
from typing import Any, NamedTuple, Self, cast
from urllib.parse import parse_qsl, unquote_to_bytes

from msgspec.structs import replace

from coatcheck import Clock, Event, SessionManager, StoreUnavailable
from coatcheck.asgi import Message, Receive, Scope, Send
from coatcheck.asgi import SessionMiddleware as AsgiSessions
from coatcheck.core.events import log
from coatcheck.core.ids import RandomIds
from coatcheck.core.ports import SAVED, Backend
from coatcheck.core.record import Record
from coatcheck.core.signing import KeyRing, normalise
from coatcheck.core.stepping import run_now
from coatcheck.eras import ERA_KEY
from coatcheck.stores.memory import MemoryStore
from coatcheck.stores.sqlite import SQLiteStore
from coatcheck.wsgi import SessionMiddleware as WsgiSessions
from tests.canaries import CANARIES
from tests.security.pages import Call, answer

__all__ = [
    "HOST",
    "MATRIX",
    "NAME",
    "OTHER_SECRET",
    "SECRET",
    "Browser",
    "Gate",
    "Pending",
    "Response",
    "Site",
    "Stock",
]

MATRIX = [(face, kind) for face in ("asgi", "wsgi") for kind in ("memory", "sqlite")]
SECRET = "vQ0m6nTzKxw3Jr8LdYbPfE5sGh1UaC9oXiR2tWqNyZk"
OTHER_SECRET = "oJ5yR1uWq8ZbN3xT7cVfK9sLdM2gHpA4eXiU6wBnYtE"
NAME = "__Host-session"
HOST = b"shop.example"
NOON = 1_800_000_000.0
PATIENCE = 30.0
"""Seconds after which a test that waits for something has failed. Nothing here waits for time to pass."""
COMMANDS = (
    "load", "create", "replace", "touch", "delete", "admit", "of_user", "end_user", "end_one", "sweep", "count", "check",
    "tally", "tallied", "end_tally",
)  # fmt: skip
WRITES = frozenset({"create", "replace", "touch", "delete", "admit", "end_user", "end_one"})

Headers = Sequence[tuple[bytes, bytes]]
Run = Callable[[Coroutine[Any, Any, Any]], Any]


# -------------------------------------------------------------------------------------------------------------- stores


class Stock:
    """A backend that writes down each command, and fails those in `down`."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.commands, self.down = inner, list[str](), frozenset[str]()

    def blocking(self) -> Any:
        return Watched(self, self.inner.blocking())

    def awaiting(self) -> Any:
        return Watched(self, self.inner.awaiting())

    def told(self) -> list[str]:
        """The commands since last asked."""
        commands, self.commands = self.commands, []
        return commands

    def fail(self, *commands: str) -> None:
        """From now on these commands fail; without a name, all do."""
        self.down = frozenset(commands or COMMANDS)

    def recover(self) -> None:
        """The store is back."""
        self.down = frozenset()


class Watched:
    """One face of a `Stock`: every verb and every ability, counted."""

    def __init__(self, stock: Stock, face: Any) -> None:
        self.stock, self.face = stock, face


def _command(name: str) -> Any:
    async def command(self: Watched, *args: Any, **kwargs: Any) -> Any:
        if args and args[0] == ERA_KEY:  # now and then, and no part of a request (test_eras)
            return await getattr(self.face, name)(*args, **kwargs)
        self.stock.commands.append(name)
        if name in self.stock.down:
            raise StoreUnavailable("no route to the store")
        return await getattr(self.face, name)(*args, **kwargs)

    return command


for _name in COMMANDS:
    setattr(Watched, _name, _command(_name))


# --------------------------------------------------------------------------------------------------- time, order, ids


class Time:
    """A clock to move."""

    def __init__(self) -> None:
        self.now = NOON
        self.clock = Clock(lambda: self.now, lambda: self.now)

    def __iadd__(self, seconds: float) -> Self:
        self.now += seconds
        return self


class Gate:
    """Where handlers wait for the test."""

    def __init__(self) -> None:
        self._open: Future[None] = Future()
        self._arrived = threading.Semaphore(0)

    def wait_for(self, visitors: int = 1) -> None:
        """Return when so many (more) handlers stand here."""
        for _ in range(visitors):
            assert self._arrived.acquire(timeout=PATIENCE), "a request did not reach its gate"

    def open(self) -> None:
        """Let everybody through, now and later."""
        if not self._open.done():
            self._open.set_result(None)

    async def stand(self, face: str) -> None:
        """What a handler does here."""
        self._arrived.release()
        if face == "asgi":
            await asyncio.shield(asyncio.wrap_future(self._open))
        else:
            self._open.result(PATIENCE)


class Ids(RandomIds):
    """Random ids, after those that a test has put on top."""

    def __init__(self, *locators: str) -> None:
        self.next = list(locators)

    def locator(self) -> str:
        return self.next.pop(0) if self.next else super().locator()


# ---------------------------------------------------------------------------------------------------------- responses


class Response(NamedTuple):
    """What came back, headers in their order."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        """The values of every field of this name."""
        return [value for field, value in self.headers if field.lower() == name]

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    @property
    def cookies(self) -> list[str]:
        """The Set-Cookie fields."""
        return self.all("set-cookie")

    @property
    def retry_after(self) -> int:
        """Retry-After, in seconds; 0 if there is none."""
        return int(next(iter(self.all("retry-after")), 0))

    @property
    def vary(self) -> set[str]:
        """What the response varies by, in lower case."""
        return {word.strip().lower() for value in self.all("vary") for word in value.split(",")}

    @property
    def cache(self) -> str:
        """Cache-Control."""
        return ", ".join(self.all("cache-control"))

    @property
    def cookie(self) -> bytes:
        """The Cookie header of a browser that had none before: b"" if it still has none."""
        pairs = [line.partition(";")[0] for line in self.cookies if "Max-Age=0" not in line]
        return "; ".join(pairs).encode("latin-1")

    @property
    def value(self) -> str:
        """The value of the cookie that was set."""
        return self.cookie.decode("latin-1").partition("=")[2]


class Pending:
    """A request that is on its way."""

    def __init__(self, future: "Future[Response]") -> None:
        self._future = future

    def result(self) -> Response:
        """The response, when it is there."""
        return self._future.result(PATIENCE)

    def cancel(self) -> bool:
        """The server gives the request up, wherever it is. False: it was over already."""
        return self._future.cancel()


def verifier_of(value: str) -> str:
    """The secret part of a cookie's value."""
    return value[-76:-32]


def locator_of(value: str) -> str:
    """The public part of a cookie's value."""
    return value[:-77]


def forge(locator: str, verifier: str, *, name: str = NAME, secret: str = SECRET) -> bytes:
    """A cookie as only the holder of the secret can sign one."""
    text = f"{locator}.{verifier}"
    return f"{name}={text}{KeyRing(normalise(secret), purpose=f'cookie:{name}').sign(text)}".encode()


def stranger(*, name: str = NAME) -> bytes:
    """A cookie that is genuine and unknown: signed by us, in nobody's store."""
    ids = RandomIds()
    return forge(ids.locator(), ids.verifier(), name=name)


def decoded(text: str) -> bytes:
    """The bytes behind a part of an id."""
    return base64.urlsafe_b64decode(text)


# --------------------------------------------------------------------------------------------------------------- site


@dataclass
class Sent:
    """One request, byte by byte."""

    method: str
    target: str
    cookie: bytes | tuple[bytes, ...] = b""
    """The Cookie field, or several."""
    headers: Headers = ()
    body: bytes = b""
    scheme: str = "https"
    host: bytes = HOST
    peer: str = "203.0.113.9"
    lost: bool = False
    """The client goes away before the first byte of the response arrives."""

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        several = (self.cookie,) if isinstance(self.cookie, bytes) else self.cookie
        cookies = [(b"cookie", one) for one in several if one]
        return [(b"host", self.host), *cookies, *self.headers]

    @property
    def path(self) -> str:
        return unquote_to_bytes(self.target.partition("?")[0]).decode("utf-8", "replace")

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]


class Site:
    """One worker that serves the application. `time += 60` moves its clock; `events` is what an operator heard."""

    def __init__(
        self,
        face: str,
        kind: str,
        file: Path,
        *,
        share: "Site | None" = None,
        inner: Any = None,
        within: Callable[[str, Any], Any] = lambda face, pages: pages,
        **options: Any,
    ) -> None:
        """`within` puts another middleware between the sessions and the pages."""
        self.face, self.kind = face, kind
        self.file: Path = share.file if share else file
        self.time: Time = share.time if share else Time()
        self.events: list[Event] = []
        self.gates: dict[str, Gate] = {}
        self.mount = ""
        """The path under which the application is mounted."""
        self.expected: tuple[type[BaseException], ...] = ()
        """What the application is expected to fail with, in this test."""
        self.store = Stock(inner or self._backend(share))
        self._threads = ThreadPoolExecutor(128)
        self._loop = Loop() if face == "asgi" else None
        options = {"secret": SECRET, "clock": self.time.clock, "on_event": self._hear, **options}
        if face == "asgi":
            self.app: Any = AsgiSessions(
                within(face, self._asgi_pages), store=cast(Backend, self.store), **options
            )
        else:
            self.app = WsgiSessions(
                within(face, self._wsgi_pages), store=cast(Backend, self.store), **options
            )
        self.exchange = self.app.exchange
        # What an administrator uses, elsewhere: its commands are not this worker's.
        self.admin = SessionManager(
            self.store.inner, options=self.app.sessions.flows.options, clock=self.time.clock
        )

    def _backend(self, share: "Site | None") -> Any:
        if self.kind == "memory":
            return share.store.inner if share else MemoryStore(monotonic=lambda: self.time.now)
        return SQLiteStore(self.file, monotonic=lambda: self.time.now)

    def _hear(self, event: Event) -> None:
        self.events.append(event)
        log(event)

    def close(self) -> None:
        """Stop the worker. A test that failed half way may have left requests behind."""
        for gate in self.gates.values():
            gate.open()
        self._threads.shutdown()
        if hasattr(self.store.inner, "close"):
            self.store.inner.close()
        if self._loop is not None:
            self._loop.stop()

    # ---- asking

    def send(
        self, method: str, target: str, cookie: bytes | tuple[bytes, ...] = b"", **more: Any
    ) -> Response:
        """One request, to its end."""
        return self._one(Sent(method, target, cookie, **more))

    def get(self, target: str, cookie: bytes | tuple[bytes, ...] = b"", **more: Any) -> Response:
        return self.send("GET", target, cookie, **more)

    def post(self, target: str, cookie: bytes | tuple[bytes, ...] = b"", **more: Any) -> Response:
        return self.send("POST", target, cookie, **more)

    def browser(self) -> "Browser":
        """A visitor with a cookie jar of their own."""
        return Browser(self)

    def begin(self, method: str, target: str, cookie: bytes = b"", **more: Any) -> Pending:
        """Start a request; it goes on while the test does other things."""
        sent = Sent(method, target, cookie, **more)
        if self._loop is not None:
            return Pending(self._loop.start(self._over_asgi(sent)))
        return Pending(self._threads.submit(self._over_wsgi, sent))

    def hold(self, name: str) -> Gate:
        """A gate for requests with `gate=name`."""
        self.gates[name] = Gate()
        return self.gates[name]

    def held(self, method: str, target: str, cookie: bytes = b"") -> tuple[Pending, Gate]:
        """A request that has loaded its session and stands at a gate of its own."""
        name = f"gate{len(self.gates)}"
        gate = self.hold(name)
        joint = "&" if "?" in target else "?"
        pending = self.begin(method, f"{target}{joint}gate={name}", cookie)
        gate.wait_for()
        return pending, gate

    def together(self, requests: Iterable[tuple[str, str, bytes]]) -> list[Response]:
        """All these requests at once: every one has loaded its session before any goes on."""
        name = f"gate{len(self.gates)}"
        gate = self.hold(name)
        pending = [
            self.begin(method, f"{target}{'&' if '?' in target else '?'}gate={name}", cookie)
            for method, target, cookie in requests
        ]
        gate.wait_for(len(pending))
        gate.open()
        return [one.result() for one in pending]

    def flood(self, requests: Iterable[Sent]) -> list[Response]:
        """Many requests, one after the other, without the cost of a thread's turn for each."""
        if self._loop is None:
            return [self._over_wsgi(sent) for sent in requests]

        async def all_of_them() -> list[Response]:
            return [await self._over_asgi(sent) for sent in requests]

        return cast("list[Response]", self._loop.run(all_of_them()))

    def _one(self, sent: Sent) -> Response:
        return (
            self._over_wsgi(sent)
            if self._loop is None
            else cast(Response, self._loop.run(self._over_asgi(sent)))
        )

    # ---- the store, looked at from outside

    def rows(self) -> int:
        """How many sessions live."""
        return self.admin.count()

    def is_stored(self, handle: str) -> bool:
        """Whether this session is in the store, alive."""
        return self.admin.find(handle) is not None

    def plant(self, handle: str, **fields: Any) -> None:
        """Write into a stored record as no session would: behind our back, in the store."""
        store, now = self.admin.flows.store, self.time.now
        record = run_now(store.load(handle, now=now))
        assert isinstance(record, Record)
        changed = replace(record, versions=("planted", *record.versions), **fields)
        assert run_now(store.replace(changed, expected=record.version, now=now, may_shorten=True)) is SAVED

    def heard(self, *names: str) -> list[Event]:
        """The events of these names."""
        return [event for event in self.events if event.name in names]

    def dump(self) -> bytes:
        """Everything that somebody who steals the store gets."""
        if self.kind == "memory":
            inner = self.store.inner
            return repr([_plain(row) for row in inner._rows.values()]).encode() + repr(inner._users).encode()
        files = [self.file, *(Path(f"{self.file}{end}") for end in ("-wal", "-shm"))]
        return b"".join(file.read_bytes() for file in files if file.exists())

    # ---- the two servers

    async def _asgi_pages(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = self._call(
            scope["method"], scope["path"], scope["query_string"].decode("latin-1"), scope["session"]
        )
        call.inside = scope
        call.body = b""
        while (message := await receive())["type"] == "http.request":
            call.body += message.get("body", b"")
            if not message.get("more_body"):
                break
        status, headers, body = await answer(call)
        raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        if isinstance(body, str):
            await send({"type": "http.response.body", "body": body.encode()})
            return
        for piece in body:
            await send({"type": "http.response.body", "body": piece.encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    def _wsgi_pages(self, environ: Any, start_response: Any) -> Any:
        call = self._call(
            environ["REQUEST_METHOD"],
            environ["PATH_INFO"],
            environ["QUERY_STRING"],
            environ["coatcheck.session"],
        )
        call.inside = environ
        source = environ["wsgi.input"]
        call.body = (
            source.read()
            if isinstance(source, io.BufferedReader)
            else source.read(int(environ["CONTENT_LENGTH"]))
        )
        status, headers, body = run_now(answer(call))
        start_response(f"{status} Whatever", list(headers))
        return [body.encode()] if isinstance(body, str) else (piece.encode() for piece in body)

    def _call(self, method: str, path: str, query: str, session: Any) -> Call:
        words = dict(parse_qsl(query, keep_blank_values=True))
        gates, name = self.gates, words.get("gate")
        gate = None if name is None else (lambda: gates[name].stand(self.face))
        return Call(method, path.removeprefix(self.mount), words, session, self.app.sessions, self.time, gate)

    async def _over_asgi(self, sent: Sent) -> Response:
        parts = Parts(sent)
        try:
            await self.app(_scope(sent), parts.receive, parts.send)
        except BaseException as error:
            return self._failed(error)
        return _noted(Response(parts.status, parts.headers, b"".join(parts.body)))

    def _over_wsgi(self, sent: Sent) -> Response:
        heads: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            heads.append((status, headers))
            if sent.lost:
                raise OSError("the client has gone")

        try:
            pieces = self.app(_environ(sent), start_response)
            body = b"".join(pieces)
            if hasattr(pieces, "close"):
                pieces.close()
        except BaseException as error:
            return self._failed(error)
        status, headers = heads[-1]
        return _noted(Response(int(status.split()[0]), headers, body))

    def _failed(self, error: BaseException) -> Response:
        """What a server does with an exception: a bare 500 of its own."""
        if not isinstance(error, self.expected):
            CANARIES.unhandled.append(error)
        return Response(500, [], b"")


@dataclass
class Parts:
    """The server's half of one ASGI conversation."""

    sent: Sent
    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: list[bytes] = field(default_factory=list)
    _asked: bool = False

    async def receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": self.sent.body, "more_body": False}
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self.sent.lost:
            raise OSError("the client has gone")
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = [
                (name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]
            ]
        else:
            self.body.append(message.get("body", b""))


def _scope(sent: Sent) -> dict[str, Any]:
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": sent.method, "scheme": sent.scheme,
        "path": sent.path, "raw_path": sent.target.partition("?")[0].encode("latin-1"), "root_path": "",
        "query_string": sent.query.encode("latin-1"), "headers": sent.fields, "client": (sent.peer, 4711),
        "server": ("127.0.0.1", 443), "extensions": {},
    }  # fmt: skip


def _environ(sent: Sent) -> dict[str, Any]:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": sent.method, "SCRIPT_NAME": "", "PATH_INFO": sent.path.encode().decode("latin-1"),
        "QUERY_STRING": sent.query, "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "443", "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": sent.peer, "wsgi.version": (1, 0), "wsgi.url_scheme": sent.scheme, "wsgi.multithread": True,
        "wsgi.multiprocess": True, "wsgi.run_once": False, "wsgi.input": io.BytesIO(sent.body + b"of the next request"),
        "CONTENT_LENGTH": str(len(sent.body)),
    }  # fmt: skip
    for name, value in sent.fields:
        if name == b"content-type":
            environ["CONTENT_TYPE"] = value.decode("latin-1")
            continue
        key = f"HTTP_{name.decode().upper().replace('-', '_')}"
        # A server has joined the fields by now (RFC 9113 section 8.2.3: Cookie by "; "; RFC 9110 section 5.3: others by ", ").
        joint = "; " if name == b"cookie" else ", "
        text = value.decode("latin-1")
        environ[key] = f"{environ[key]}{joint}{text}" if key in environ else text
    return environ


def _noted(response: Response) -> Response:
    """Tell the canaries what was issued, and look for earlier secrets where none may be (checklist 37)."""
    for name, value in response.headers:
        if any(char in "\r\n\0" for char in name + value):
            raise CookieError(f"a control character in {name}")
        if name.lower() != "set-cookie":
            CANARIES.leaks += [name] * bool(CANARIES.found_in(value))
    CANARIES.leaks += ["body"] * bool(CANARIES.found_in(response.body.decode("latin-1")))
    for line in response.cookies:
        name, _, value = line.partition(";")[0].partition("=")
        if not name.endswith("-csrf"):  # which holds what is to be a public name
            CANARIES.issued(value)
    return response


def _plain(row: Any) -> Any:
    return {name: getattr(row, name) for name in row.__struct_fields__}


# ------------------------------------------------------------------------------------------------------------ visitors


class Browser:
    """Keeps what it is told to keep, and sends it again."""

    def __init__(self, site: Site) -> None:
        self.site, self.jar = site, dict[str, str]()

    @property
    def cookie(self) -> bytes:
        """Its Cookie header."""
        return "; ".join(f"{name}={value}" for name, value in self.jar.items()).encode("latin-1")

    @property
    def value(self) -> str:
        """The value of our cookie."""
        return self.jar[NAME]

    @property
    def handle(self) -> str:
        """The public name of its session."""
        return locator_of(self.value)

    def send(self, method: str, target: str, **more: Any) -> Response:
        return self.heed(self.site.send(method, target, self.cookie, **more))

    def get(self, target: str, **more: Any) -> Response:
        return self.send("GET", target, **more)

    def post(self, target: str, **more: Any) -> Response:
        return self.send("POST", target, **more)

    def heed(self, response: Response) -> Response:
        """Do what Set-Cookie says."""
        for line in response.cookies:
            name, _, value = line.partition(";")[0].partition("=")
            if "Max-Age=0" in line:
                self.jar.pop(name, None)
            else:
                self.jar[name] = value
        return response


class Loop:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def start(self, coroutine: Coroutine[Any, Any, Response]) -> "Future[Response]":
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE * 4)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()
