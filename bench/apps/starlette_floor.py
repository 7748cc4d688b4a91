"""The least that a session can cost: look it up by the cookie, and write it back over what was read; in memory, SQLite or Redis.

No signature, no expiry, no merge, no header, no time-out: nothing to use, but what any library's figure is to be held against.
"""

import asyncio
import os
import secrets
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, cast
from urllib.parse import urlsplit

import hiredis
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

Load = Callable[[bytes], Awaitable[bytes]]
Save = Callable[[bytes, bytes, bytes | None], Awaitable[None]]
"""Under a key, and only if what is there now is what was read (None: nothing)."""


def in_memory() -> tuple[Load, Save]:
    """Return the two verbs over a dict."""
    rows: dict[bytes, bytes] = {}

    async def load(key: bytes) -> bytes:
        return rows[key]

    async def save(key: bytes, data: bytes, before: bytes | None) -> None:
        if rows.get(key) == before:
            rows[key] = data

    return load, save


def in_sqlite(path: str) -> tuple[Load, Save]:
    """Return the two verbs over one table, a statement each."""
    file = sqlite3.connect(path, isolation_level=None)
    file.execute("PRAGMA journal_mode=WAL")
    file.execute("PRAGMA synchronous=NORMAL")
    file.execute("CREATE TABLE IF NOT EXISTS session (key BLOB PRIMARY KEY, data BLOB)")

    async def load(key: bytes) -> bytes:
        return cast(bytes, file.execute("SELECT data FROM session WHERE key = ?", (key,)).fetchone()[0])

    async def save(key: bytes, data: bytes, before: bytes | None) -> None:
        if before is None:
            file.execute("INSERT INTO session VALUES (?, ?)", (key, data))
        else:
            file.execute("UPDATE session SET data = ? WHERE key = ? AND data = ?", (data, key, before))

    return load, save


class Wire(asyncio.Protocol):
    """One connection to Redis; whoever asks waits for a future. What a turn of the loop asks leaves in one write."""

    def __init__(self) -> None:
        self.reader, self.waiting = hiredis.Reader(), deque[asyncio.Future[Any]]()
        self.packed, self.sha = list[bytes](), b""
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: Any) -> None:
        """Keep the way back."""
        self.transport = transport

    def ask(self, *words: Any) -> "asyncio.Future[Any]":
        """Return what the reply will be in."""
        if not self.packed:
            self.loop.call_soon(self.leave)
        self.packed.append(hiredis.pack_command(words))
        future = self.loop.create_future()
        self.waiting.append(future)
        return future

    def leave(self) -> None:
        """Send what was asked in this turn of the loop."""
        packed, self.packed = self.packed, []
        self.transport.write(b"".join(packed))

    def data_received(self, data: bytes) -> None:
        """Hand out the replies."""
        self.reader.feed(data)
        while (reply := self.reader.gets()) is not False:
            self.waiting.popleft().set_result(reply)


SWAP = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2]) end return 1"


def in_redis(url: str) -> tuple[Load, Save]:
    """Return the two verbs over one connection: GET, and a script that compares and sets."""
    wires: list[Wire] = []
    where = urlsplit(url)

    async def wire() -> Wire:
        if not wires:
            loop = asyncio.get_running_loop()
            _, made = await loop.create_connection(Wire, where.hostname or "", where.port or 6379)
            await made.ask("SELECT", where.path.strip("/") or "0")
            made.sha = await made.ask("SCRIPT", "LOAD", SWAP)
            wires.append(made)
        return wires[0]

    async def load(key: bytes) -> bytes:
        return cast(bytes, await (wires[0] if wires else await wire()).ask("GET", key))

    async def save(key: bytes, data: bytes, before: bytes | None) -> None:
        there = wires[0] if wires else await wire()
        if before is None:
            await there.ask("SET", key, data)
        else:
            await there.ask("EVALSHA", there.sha, 1, key, before, data)

    return load, save


URL = os.environ["BENCH_STORE"]
KINDS = {"memory": lambda _: in_memory(), "sqlite": lambda url: in_sqlite(url[10:]), "redis": in_redis}
load, save = KINDS[urlsplit(URL).scheme](URL)


def key_of(request: Request) -> bytes:
    """Return the cookie's value."""
    for name, value in request.scope["headers"]:
        if name == b"cookie":
            return cast(bytes, value[8:])  # session=
    raise LookupError("no cookie")


async def login(request: Request) -> PlainTextResponse:
    """Begin a session with what a small application keeps there."""
    name = secrets.token_urlsafe(32)
    await save(name.encode(), msgspec.json.encode({"user": "7d1f2c4e", "n": 0}), None)
    response = PlainTextResponse("ok")
    response.set_cookie("session", name)
    return response


async def write(request: Request) -> PlainTextResponse:
    """Load the session, change it, save it."""
    key = key_of(request)
    before = await load(key)
    data = msgspec.json.decode(before)
    data["n"] += 1
    await save(key, msgspec.json.encode(data), before)
    return PlainTextResponse("ok")


async def read(request: Request) -> PlainTextResponse:
    """Load the session and read from it."""
    return PlainTextResponse(str(msgspec.json.decode(await load(key_of(request)))["n"]))


app = Starlette(routes=[Route("/login", login), Route("/write", write), Route("/read", read)])
