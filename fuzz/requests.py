"""Whole requests: hostile headers through the ASGI middleware, over a store whose every use is counted.

Whatever comes in: an answer, no exception, no session but our own, and no look into the store without a cookie that we signed
(checklist 6, 13, 41-52, 209).
"""

import asyncio
import random
from dataclasses import dataclass
from typing import Any

from coatcheck.asgi import SessionMiddleware
from coatcheck.core.record import Ended, Expired, Record
from coatcheck.stores.memory import MemoryStore
from fuzz.cookies import ATOMS, NAMES

SECRET = "u3Jq8Zt1pXv5LrWc7KdYb2HnMs9GfEa4QwTzRxCoViB"
HOSTS = (b"localhost", b"app.example", b"127.0.0.1:80", b"[::1]", b"", b"a/b?c#", b"evil@app", b"\xff\xfe")


class Counting(MemoryStore):
    """Memory that counts how often it is asked."""

    looks = 0

    async def load(self, key: str, *, now: float) -> Record | Ended | Expired | None:
        """Count, and load."""
        Counting.looks += 1
        return await super().load(key, now=now)


@dataclass(frozen=True)
class Case:
    """One request's headers, its scheme, and whether our own genuine cookie is among them."""

    scheme: str
    headers: list[tuple[bytes, bytes]]
    genuine: bool


async def _application(scope: Any, receive: Any, send: Any) -> None:
    session = scope["session"]
    _SEEN.append(session.get("mine"))
    if scope["path"] == "/set":
        session["mine"] = True
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


_SEEN: list[Any] = []
_MIDDLEWARE = SessionMiddleware(_application, store=Counting(), secret=SECRET, on_event=lambda event: None)


async def _ask(scheme: str, path: str, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "scheme": scheme, "path": path, "headers": headers, "client": ("127.0.0.1", 1)}
    await _MIDDLEWARE(scope, _never, send)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    found: list[tuple[bytes, bytes]] = sent[0]["headers"]
    return found


async def _never() -> Any:
    raise AssertionError("nobody reads the body")


def _own_cookie() -> bytes:
    headers = asyncio.run(_ask("https", "/set", [(b"host", b"app.example")]))
    return next(value for name, value in headers if name == b"set-cookie").partition(b";")[0]


_OWN = _own_cookie()


def _mutated(rng: random.Random, value: bytes) -> bytes:
    """A near miss of a genuine cookie: cut, doubled, or with an octet changed."""
    at = rng.randrange(len(value))
    kinds = (
        value[:at],
        value + value[at:],
        value[:at] + bytes([rng.randrange(256)]) + value[at + 1 :],
        value.swapcase(),
    )
    return rng.choice(kinds)


def generate(rng: random.Random) -> Case:
    """A request as a browser, a broken client or an attacker might send it."""
    genuine = rng.random() < 0.2
    pieces = [rng.choice(ATOMS + NAMES) for _ in range(rng.randrange(8))]
    pieces += [_mutated(rng, _OWN) for _ in range(rng.randrange(3))]
    rng.shuffle(pieces)
    cookies = [rng.choice((b"; ", b";", b"", b"=")).join(pieces)]
    if genuine:
        cookies = [_OWN]
    headers = [(b"host", rng.choice(HOSTS)), *((b"cookie", cookie) for cookie in cookies)]
    if not genuine and rng.random() < 0.3:
        headers.append((b"x-forwarded-proto", rng.choice((b"https", b"http", b"", b"\xff, https"))))
    return Case("https" if genuine else rng.choice(("http", "https")), headers, genuine)


def check(case: Case) -> None:
    """Ask once; raise AssertionError if a promise does not hold."""
    looks = Counting.looks
    _SEEN.clear()
    headers = asyncio.run(_ask(case.scheme, "/", case.headers))
    assert not any(name == b"set-cookie" for name, _ in headers)
    signed = any(_OWN.partition(b"=")[2] in value for name, value in case.headers if name == b"cookie")
    if case.genuine:
        assert _SEEN == [True]
    elif not signed:
        assert _SEEN == [None]
        assert Counting.looks == looks
