"""A process of an application with tokens: `python -m tests.tokens.workers FACE URL`. Orders come in and answers go out as lines.

    {"do": "refresh", "token": …, "times": 50}  -> [what each of so many at once got: its refresh token, or "!reason"]
    {"do": "verify", "token": …}                -> ["ada"], or ["!reason"]: as the feed knows it; `authenticate` asks the store
    {"do": "events"}                            -> [the names of what happened here]

FACE is blocking (threads) or awaiting (tasks).
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from coatcheck import AsyncSessionManager, Clock, Event, InvalidToken, Options, Outage, SessionManager
from coatcheck.stores import has_server
from coatcheck.tokens import AsyncTokens, Key, KeyRing, Tokens

PATIENT = Outage(connect_timeout=20.0, command_timeout=20.0)
"""The machine may be busy."""
KEYS = KeyRing([Key.from_secret("pZ3sVq8LtR5nXw1YbK7mCd2GfJ9hTe4U", kid="k1")])


def service(
    kind: Any, manager: Any, url: str, tell: Callable[[Event], None], ahead: float, **terms: Any
) -> Any:
    """The tokens of one process over a store, in one face."""
    clock = Clock(time=lambda: time.time() + ahead)
    outage = {"outage": PATIENT} if has_server(url) else {}
    sessions = manager(url, options=Options(on_event=tell), clock=clock, **outage)
    return kind(sessions, keys=KEYS, issuer="i", audience="a", **terms)


def here(url: str, tell: Callable[[Event], None] = lambda _: None, ahead: float = 0.0, **terms: Any) -> Any:
    """The same in the test's own process; its clock is by so many seconds later."""
    return service(Tokens, SessionManager, url, tell, ahead, **terms)


def _said(act: Callable[[], str]) -> str:
    try:
        return act()
    except InvalidToken as error:
        return f"!{error.reason}"


def blocking(url: str) -> None:
    events = list[str]()
    tokens = service(Tokens, SessionManager, url, lambda event: events.append(event.name), 0.0)
    acts: dict[str, Callable[[str], str]] = {
        "refresh": lambda token: tokens.refresh(token).refresh_token,
        "verify": lambda token: tokens.verify(token).sub,
        "authenticate": lambda token: tokens.authenticate(token).sub,
    }
    with ThreadPoolExecutor(50) as pool:
        for order in _orders():
            if order["do"] == "events":
                _answer(events)
                continue
            act = acts[order["do"]]
            _answer(
                list(
                    pool.map(
                        lambda _, act=act, token=order["token"]: _said(lambda: act(token)),
                        range(order.get("times", 1)),
                    )
                )
            )
    tokens.sessions.close()


def awaiting(url: str) -> None:
    asyncio.run(_awaiting(url))


async def _awaiting(url: str) -> None:
    events = list[str]()
    tokens = service(AsyncTokens, AsyncSessionManager, url, lambda event: events.append(event.name), 0.0)

    async def act(what: str, token: str) -> str:
        try:
            if what == "refresh":
                return str((await tokens.refresh(token)).refresh_token)
            return str(
                tokens.verify(token).sub if what == "verify" else (await tokens.authenticate(token)).sub
            )
        except InvalidToken as error:
            return f"!{error.reason}"

    orders = _orders()
    while (order := await asyncio.to_thread(next, orders, None)) is not None:
        if order["do"] == "events":
            _answer(events)
            continue
        _answer(
            await asyncio.gather(*(act(order["do"], order["token"]) for _ in range(order.get("times", 1))))
        )
    await tokens.sessions.close()


def _orders() -> Any:
    _answer("ready")
    return map(json.loads, iter(sys.stdin.readline, ""))


def _answer(answer: Any) -> None:
    os.write(1, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    {"blocking": blocking, "awaiting": awaiting}[sys.argv[1]](sys.argv[2])
