"""What the steps of a request cost in process, and what docs/why.md says of them: `python -m bench.steps`.

No server and no load: the minimum of many short rounds, in microseconds. `python -m bench` is for a request under a server.
"""

import gc
import time
from collections.abc import Callable
from os import urandom
from typing import Any

from coatcheck.asgi import SessionMiddleware
from coatcheck.core import drafts, ids
from coatcheck.core.session import Standing
from coatcheck.exchange import Arrival, Channel

SECRET = "u3Jq8Zt1pXv5LrWc7KdYb2HnMs9GfEa4QwTzRxCoViB"
HOST = (b"host", b"localhost")
LIVE = Standing.LIVE


def cost(call: Callable[[], Any], *, calls: int = 200, rounds: int = 200) -> float:
    """The least that one call took, in microseconds."""
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(calls):
            call()
        best = min(best, time.perf_counter() - began)
    return best / calls * 1e6


async def page(scope: Any, receive: Any, send: Any) -> None:
    """Read a value, or count."""
    session = scope["session"]
    if scope["path"] == "/write":
        session["n"] = session.get("n", 0) + 1
    else:
        session.get("n")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def ask(app: Any, path: str, *cookie: bytes) -> list[Any]:
    """One request; nothing in it waits."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [HOST, *((b"cookie", value) for value in cookie)]
    scope = {"type": "http", "scheme": "http", "path": path, "headers": headers, "client": ("127.0.0.1", 1)}
    finish(app(scope, None, send))
    return sent


def finish(coroutine: Any) -> None:
    """Step a coroutine that never suspends to its end."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("it waited")


def main() -> None:
    """Print the table."""
    app = SessionMiddleware(page, store="memory:", secret=SECRET)
    cookie = dict(ask(app, "/write")[0]["headers"])[b"set-cookie"].partition(b";")[0]
    arrival = Arrival("http", cookie, HOST[1])
    key = (cookie, HOST[1], "http")
    ask(app, "/", cookie)
    exchange = app.exchange
    record = drafts.first("k" * 24, "v", "x" * 44, b"{}", 0.0, idle=1.0, ends_at=9.0, lifetime=None)
    rows: list[tuple[str, Callable[[], Any]]] = [
        ("a reading request, whole", lambda: ask(app, "/", cookie)),
        ("a writing request, whole", lambda: ask(app, "/write", cookie)),
        ("a cookie found, verified and hashed", lambda: exchange.ticket(arrival, Channel.LOOPBACK, 0.0)),
        ("the same cookie, remembered", lambda: exchange.recent.get(key)),
        ("the next record", lambda: drafts.following(record, "w", b"{}", 1.0, idle=1.0, lifetime=None)),
        ("an enum's member", lambda: Standing.LIVE),
        ("the same as a global", lambda: LIVE),
        ("a version", ids.RandomIds().version),
        ("urandom of it", lambda: urandom(8)),
    ]  # fmt: skip
    nothing = cost(lambda: None)
    for name, call in rows:
        print(f"{name:40} {cost(call) - nothing:7.2f} us")
    gc.collect()
    gc.disable()
    for _ in range(64):
        ask(app, "/", cookie)
    print(f"{'objects left in cycles by 64 requests':40} {gc.collect():7d}")


if __name__ == "__main__":
    main()
