"""The store goes away under a running application, and comes back: what visitors get meanwhile, and that nobody is logged out.

With the time-outs that everybody has who sets none. The stores keep what they have acknowledged, so the sessions must be there.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from coatcheck import SessionManager
from servers import Server, mariadb, mongo, postgres, redis
from tests.web.servers import Browser, Seen, uvicorn
from tests.web.servers import Server as Web
from tests.web.sites import standing

WITHIN = 6.0
"""Seconds. A question is asked twice at most, each in a new connection that may take a second, and twice if it never left; the
machine may be busy."""
BACK = 30.0
"""Seconds in which a store that is back must be found: the circuit stays open for two."""

SERVERS: dict[str, Callable[[Path], Any]] = {
    "redis": lambda folder: redis(folder, "--appendonly", "yes", "--appendfsync", "always"),
    "postgres": postgres,
    "mongo": mongo,
    "mariadb": lambda folder: mariadb(folder, "--innodb-flush-log-at-trx-commit=1"),
}
FAULTS: dict[str, tuple[Callable[[Server], None], Callable[[Server], None]]] = {
    "stopped": (Server.stop, Server.start),
    "killed": (Server.kill, Server.start),
    "paused": (Server.pause, Server.resume),
}
QUICK = {("redis", "killed"), ("redis", "paused"), ("postgres", "stopped")}
CASES = [
    pytest.param(
        (store, fault), id=f"{store}-{fault}", marks=[] if (store, fault) in QUICK else [pytest.mark.slow]
    )
    for store in SERVERS
    for fault in FAULTS
]


@dataclass
class Store:
    """A database that can be hurt, and healed."""

    server: Server
    fault: str
    is_hurt: bool = False

    def hurt(self) -> None:
        self.is_hurt = True
        FAULTS[self.fault][0](self.server)

    def heal(self) -> None:
        if self.is_hurt:
            FAULTS[self.fault][1](self.server)
        self.is_hurt = False


@pytest.fixture(params=CASES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    name, fault = request.param
    with SERVERS[name](tmp_path / name) as server:
        with SessionManager(server.url) as sessions:
            sessions.setup()
        store = Store(server, fault)
        yield store
        store.heal()


@pytest.fixture
def web(store: Store, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Web]:
    policy = "anonymous" if "anonymous" in request.node.name else "fail"
    env = {"STORE": store.server.url, "ON_STORE_ERROR": policy}
    with uvicorn("tests.web.crowd:starlette", folder=tmp_path, env=env) as web:
        yield web
        store.heal()  # or the application waits for its time-outs when it closes


@dataclass
class Visitor:
    """Somebody who is logged in and counts."""

    browser: Browser
    name: str
    acknowledged: int = 0
    unsure: int = 0
    slowest: float = field(default=0.0)

    @property
    def cookies(self) -> dict[str, str]:
        return dict(self.browser.cookies)

    def visit(self, path: str) -> Seen:
        began = time.monotonic()
        seen = self.browser.visit(path)
        self.slowest = max(self.slowest, time.monotonic() - began)
        return seen

    def is_as_before(self) -> None:
        """Still logged in, and nothing that was acknowledged is lost, and nothing counted twice."""
        seen = json.loads(self.browser.visit("/").text)
        assert seen["user"] == self.name
        assert self.acknowledged <= seen["data"]["n"] <= self.acknowledged + self.unsure


def visitors(web: Web, count: int = 3) -> list[Visitor]:
    everybody = [Visitor(Browser(web), f"user{number}") for number in range(count)]
    for one in everybody:
        assert one.visit(f"/?login={one.name}&count=1").status == 200
        one.acknowledged = 1
        one.slowest = 0.0
    return everybody


def is_refused(seen: Seen) -> None:
    assert (seen.status, seen.all("retry-after"), seen.all("set-cookie")) == (503, ["5"], [])


def at_once(asks: Sequence[tuple[Visitor, str]]) -> list[Seen]:
    """What each is answered."""
    with ThreadPoolExecutor(len(asks)) as pool:
        return list(pool.map(lambda ask: ask[0].visit(ask[1]), asks))


def wait_until_back(visitor: Visitor) -> None:
    """Until the application has found its store again; each turn is a request."""
    deadline = time.monotonic() + BACK
    while True:
        seen = visitor.browser.visit("/")
        if seen.status == 200 and json.loads(seen.text)["user"] == visitor.name:
            return
        assert seen.all("set-cookie") == []
        assert time.monotonic() < deadline


def test_fail_is_a_503_in_time_and_nobody_is_logged_out(store: Store, web: Web) -> None:
    everybody = visitors(web)
    before = [one.cookies for one in everybody]
    with standing(web, everybody[0].cookies, "/?count=1") as (gate, answer):  # has loaded, and will commit
        store.hurt()
        gate.open()
        is_refused(answer.result())
        everybody[0].unsure += 1
    stranger = Visitor(Browser(web), "nobody")
    for _ in range(4):
        for seen in at_once([*((one, "/?count=1") for one in everybody), (stranger, "/?login=nobody")]):
            is_refused(seen)
    is_refused(everybody[1].visit("/?logout=1"))
    assert everybody[0].visit("/lazy/untouched").status == 200
    assert [one.cookies for one in everybody] == before
    slowest = max(one.slowest for one in (*everybody, stranger))
    assert slowest < WITHIN
    store.heal()
    wait_until_back(everybody[2])
    for one in everybody:
        one.is_as_before()
        assert one.visit("/?count=1").status == 200
        one.acknowledged += 1
        one.is_as_before()
    assert stranger.cookies == {}
    print(f"slowest 503: {slowest:.2f} s")


def test_anonymous_is_an_empty_session_and_no_cookie(store: Store, web: Web) -> None:
    everybody = visitors(web)
    before = [one.cookies for one in everybody]
    first, second, _ = everybody
    with standing(web, first.cookies, "/?count=1") as (gate, answer):  # has loaded, and will commit
        store.hurt()
        gate.open()
        seen = answer.result()
        assert (seen.status, seen.all("set-cookie")) == (200, [])
        first.unsure += 1
    for _ in range(3):
        for seen in at_once([(one, "/") for one in everybody]):
            assert (seen.status, seen.all("set-cookie")) == (200, [])
            assert json.loads(seen.text) == {"user": None, "data": {}}
        for seen in at_once([(one, "/?count=1&key=k") for one in everybody]):
            assert (seen.status, seen.all("set-cookie")) == (200, [])
    is_refused(second.visit("/?logout=1"))  # never pretended
    is_refused(second.visit("/?login=user1"))
    slowest = max(one.slowest for one in everybody)
    assert slowest < WITHIN
    with standing(web, second.cookies, "/?count=1&key=k") as (
        gate,
        answer,
    ):  # could not load, and will not commit
        store.heal()
        wait_until_back(first)
        gate.open()
        seen = answer.result()
        assert (seen.status, seen.all("set-cookie")) == (200, [])
    assert [one.cookies for one in everybody] == before
    for one in everybody:
        one.is_as_before()
    assert json.loads(second.visit("/").text)["data"] == {"n": 1}
    print(f"slowest answer: {slowest:.2f} s")
