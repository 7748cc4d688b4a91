"""What tests of single adapters share: a store that counts, one that fails on demand, a clock, and ASGI spoken by hand."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from coatcheck import Clock, Event, StoreUnavailable
from coatcheck.asgi import App, Message, Receive, Scope, Send
from coatcheck.eras import ERA_KEY
from coatcheck.stores.memory import MemoryStore

START = 1_800_000_000.0


class Counted:
    """A store in memory that writes down each command, and fails while `down`."""

    def __init__(self) -> None:
        self.inner, self.commands, self.down = MemoryStore(), list[str](), False

    def blocking(self) -> "Counted":
        return self

    def awaiting(self) -> "Counted":
        return self

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)
        if name.startswith("_") or not inspect.iscoroutinefunction(method):
            return method

        async def command(*args: Any, **kwargs: Any) -> Any:
            if args and args[0] == ERA_KEY:  # now and then, and no part of a request (test_eras)
                return await method(*args, **kwargs)
            self.commands.append(name)
            if self.down:
                raise StoreUnavailable("no route to the store")
            return await method(*args, **kwargs)

        return command

    def told(self) -> list[str]:
        """The commands since last asked."""
        commands, self.commands = self.commands, []
        return commands


class Time:
    """A clock to move: `clock=time.clock`. Set `now`, or let time pass for those who wait on it too."""

    def __init__(self) -> None:
        self.now = START
        self.clock = Clock(lambda: self.now, lambda: self.now, self._sleep)
        self._asleep: list[tuple[float, asyncio.Future[None]]] = []

    async def _sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self._asleep.append((self.now + seconds, future))
        await future

    async def passes(self, seconds: float) -> None:
        """Let time pass, and whoever waited for it come to their next rest."""
        self.now += seconds
        due = [future for until, future in self._asleep if until <= self.now]
        self._asleep = [(until, future) for until, future in self._asleep if until > self.now]
        for future in due:
            if not future.done():
                future.set_result(None)
        await settled()


class Ears:
    """A listener that remembers the names of events."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def __call__(self, event: Event) -> None:
        self.heard.append(event.name)


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run this to its end in an event loop of its own."""
    return asyncio.run(main)


async def settled() -> None:
    """Let every task that can go on do so, until each waits for something that is yet to come."""
    for _ in range(50):
        await asyncio.sleep(0)


def http_scope(path: str = "/", **fields: str) -> dict[str, Any]:
    """The scope of a GET request to localhost; `fields` are header fields."""
    headers = [(b"host", b"localhost"), *((k.encode(), v.encode()) for k, v in fields.items())]
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http", "path": path,
        "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": headers, "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80), "extensions": {},
    }  # fmt: skip


def websocket_scope(path: str = "/", **fields: str) -> dict[str, Any]:
    """The scope of a WebSocket to localhost."""
    return {**http_scope(path, **fields), "type": "websocket", "scheme": "ws", "subprotocols": []}


class Talk:
    """One conversation with an ASGI application: what it sent, and what it is going to hear."""

    def __init__(self, app: App, scope: Scope, *hears: dict[str, Any]) -> None:
        self.app, self.scope, self.sent = app, scope, list[Message]()
        self._hears = list(hears)
        self.on_send: Callable[[Message], Awaitable[None]] | None = None

    async def receive(self) -> Message:
        """The next of the messages; then silence."""
        if self._hears:
            return self._hears.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, message: Message) -> None:
        """What the server does with a message."""
        if self.on_send is not None:
            await self.on_send(message)
        self.sent.append(dict(message))

    async def run(self) -> "Talk":
        """Let the application answer."""
        await self.app(self.scope, self.receive, self.send)
        return self

    @property
    def status(self) -> int:
        """The status of the response."""
        return int(self.sent[0]["status"])

    def all(self, name: bytes) -> list[str]:
        """The values of a header of the response, or of the accepted handshake."""
        return [v.decode() for k, v in self.sent[0].get("headers", ()) if k == name]

    @property
    def cookie(self) -> str:
        """The Cookie header of a browser after this response; "" if it holds none."""
        pairs = [line.partition(";")[0] for line in self.all(b"set-cookie") if "Max-Age=0" not in line]
        return "; ".join(pairs)

    @property
    def body(self) -> bytes:
        """The body."""
        return b"".join(message.get("body", b"") for message in self.sent)


def page(handle: Callable[[Any], str]) -> App:
    """An ASGI application that answers a GET with what `handle` makes of the session."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        text = handle(scope["session"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": text.encode()})

    return app
