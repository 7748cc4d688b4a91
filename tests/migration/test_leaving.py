"""A team leaves Node with everybody logged in: Node and Python side by side, the switch, and the move, killed and begun again.

Side by side, both write the same sessions; requests of one browser follow each other, since a write of Node's takes back what it
has not read (docs/node.md). At the switch some requests are still at work in either application. They end

    early   before anybody has come by their session: then it is as they left it
    during  while their session is adopted: it is as before or after them, and nothing in between
    late    after it was adopted: what they write is dropped, and opens nothing
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from coatcheck.dialects.express.connect_redis import ConnectRedis, ConnectRedisSessions
from coatcheck.stores.postgres import PostgresStore
from servers import Server
from tests.databases import own_database
from tests.dialects.node import NodeApp, node_app
from tests.migration.leaving import NODE_OPTIONS, Held, NativeSite, Site, Visitor, logged_in, opened
from tests.migration.test_live import killed, resumed, some_at_once
from tests.patience import PATIENT

BESIDE = 8
"""So many requests are under way at once."""


class Story:
    """The visitors, and what was wrong."""

    def __init__(self, count: int) -> None:
        self.visitors = [Visitor.of(number) for number in range(count)]
        self.held: list[Held] = []
        self.dice = random.Random(count)
        self.wrong: list[str] = []
        self.requests = self.recreated = 0

    def must(self, holds: bool, what: str, visitor: Visitor, found: object) -> None:
        if not holds:
            self.wrong.append(
                f"{what}: {visitor.number} found {found}, not {visitor.promised}, {visitor.late}"
            )

    async def some(self, request: Callable[[Visitor], Awaitable[None]], going: Callable[[], bool]) -> None:
        """Requests of some visitors, half of them of the same few: each waits for the answer to their last one."""

        async def task() -> None:
            while going():
                pool = len(self.visitors) if self.dice.random() < 0.5 else 100
                visitor = self.visitors[self.dice.randrange(pool)]
                async with visitor.busy:
                    await request(visitor)
                self.requests += 1

        await asyncio.gather(*(task() for _ in range(BESIDE)))

    # ---------------------------------------------------------------------------------------------------- side by side

    async def beside(self, visitor: Visitor, sites: tuple[Site, Site]) -> None:
        """A request to one of the two; the other is asked what it sees at the same time."""
        site, other = sites if self.dice.random() < 0.5 else sites[::-1]
        look = ["get", "n"], ["get", "passport"]
        dice = self.dice.random()
        if not visitor.lives:
            n, passport = await site.run(visitor, *look)
            self.must(n is None and passport is None, "what was destroyed", visitor, n)
            visitor.cookies.clear()
            await site.run(visitor, *logged_in(visitor))
            visitor.lives = True
        elif dice < 0.5:
            before, (n, passport) = (
                visitor.n,
                (await site.run(visitor, *look, ["set", ["n"], visitor.n + 1]))[:2],
            )
            self.must((n, passport) == (before, {"user": visitor.user}), "side by side", visitor, n)
            visitor.n += 1
        elif dice < 0.8:
            for n, passport in await asyncio.gather(site.run(visitor, *look), other.run(visitor, *look)):
                self.must((n, passport) == (visitor.n, {"user": visitor.user}), "both look", visitor, n)
        elif dice < 0.9:
            await site.run(visitor, ["regenerate"], *logged_in(visitor))
        else:
            await site.run(visitor, ["destroy"])
            visitor.lives = False

    async def hold(self, sites: tuple[Site, Site], each: int) -> None:
        """Begin what will be at work at the switch: of every sort, at either side."""
        free = (visitor for visitor in self.visitors[::-1] if visitor.lives)
        sorts = [
            (when, what) for when in ("early", "during", "late") for what in ("write", "destroy", "login")
        ]
        sorts.remove(
            ("during", "login")
        )  # whether it is the first session of two, or the only one, nobody can say
        sorts.remove(("late", "login"))
        for number in range(each):
            for when, what in sorts:
                for site in sites:
                    visitor = next(free)
                    await visitor.busy.acquire()
                    name = f"{when}-{what}-{number}-{type(site).__name__}"
                    self.held.append(await Held.begin(visitor, site, what, name))

    def those(self, when: str) -> list[Held]:
        return [held for held in self.held if held.name.startswith(when)]

    # ---------------------------------------------------------------------------------------------------- after the switch

    async def early(self) -> None:
        """They end before their session is adopted: it is as they left it."""
        for held in self.those("early"):
            await held.end()
            held.visitor.cookies = held.its_own.cookies
            held.visitor.lives = held.what != "destroy"
            held.visitor.wrote_late = held.name if held.what == "write" else None
            held.visitor.busy.release()

    async def late(self, native: NativeSite, old: ConnectRedisSessions) -> None:
        """Their session was adopted, and some have logged out since."""
        for index, held in enumerate(self.those("late")):
            visitor = held.visitor
            before = visitor.copy()
            await self.visit(visitor, native)
            if index % 4 < 2:
                await native.visit(visitor, "/logout")
                visitor.lives = False
            await held.end()
            self.recreated += await old.get(before.sid, now=time.time()) is not None
            found = await native.visit(before)
            self.must(found in ((*visitor.promised, None), (None, None, None)), "late", visitor, found)
            if not visitor.lives:
                self.must(found == (None, None, None), "logged out, and late", visitor, found)
            visitor.busy.release()

    async def during(self, native: NativeSite) -> None:
        """They end just when their browser comes for the first time."""
        for held in self.those("during"):
            visitor = held.visitor
            found, _ = await asyncio.gather(native.visit(visitor), held.end())
            if held.what == "destroy" and found[1] is None:
                # Gone, or just being made: the browser has a cookie for it no more than before. Nobody can tell which.
                found = await native.visit(visitor)
                visitor.lives = found[1] is not None
            visitor.wrote_late = found[2]
            self.must(
                found[:2] == visitor.promised and found[2] in (None, held.name), "during", visitor, found
            )
            visitor.busy.release()

    async def visit(self, visitor: Visitor, native: NativeSite) -> None:
        """A request to the native application, or two at once."""
        dice = self.dice.random()
        paths = ["/count"] if dice < 0.5 else ["/count", "/count"] if dice < 0.7 else ["/"]
        promised = visitor.promised
        for found in await asyncio.gather(*(native.visit(visitor, path) for path in paths)):
            lies_between = promised[0] is not None and found[0] in range(
                promised[0], promised[0] + len(paths)
            )
            self.must(found[1] == promised[1], "whose", visitor, found)
            self.must(lies_between or found[0] is promised[0], "native", visitor, found)
            self.must(found[2] == visitor.late, "what was late", visitor, found)
        visitor.n += paths.count("/count") if visitor.lives else 0
        if visitor.lives and dice > 0.95:
            await native.visit(visitor, "/logout")
            visitor.lives = False

    async def look(self, visitor: Visitor, native: NativeSite, *, in_lists: bool) -> None:
        """At the end: each session is as promised, and there is no other."""
        found = await native.visit(visitor)
        self.must(found[:2] == visitor.promised, "at the end", visitor, found)
        self.must(found[2] == visitor.late, "late, at the end", visitor, found)
        if in_lists:
            devices = await native.sessions.of(visitor.user).list()
            self.must(len(devices) == int(visitor.lives), "in the list", visitor, len(devices))


async def leave(count: int, node: NodeApp, old: str, new: str, state: Path) -> Story:
    """The whole story. Returns what became of it."""
    story, store, target = (
        Story(count),
        ConnectRedis.from_url(old, outage=PATIENT),
        PostgresStore.from_url(new),
    )
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.aclose)
        stack.push_async_callback(target.aclose)
        await target.awaiting().setup()
        entries, now = store.awaiting(), time.time()
        await some_at_once(
            entries.create(visitor.sid, visitor.body, expires=None, now=now) for visitor in story.visitors
        )
        there, beside, native = await opened(stack, node, old, new)
        both = (there, beside)
        last = 400 if count < 1000 else 10_000
        await story.some(lambda visitor: story.beside(visitor, both), lambda: story.requests < last)
        await story.hold(both, 1 if count < 1000 else 10)

        await story.early()
        source, moving = f"express+{old}", True
        traffic = asyncio.create_task(
            story.some(lambda visitor: story.visit(visitor, native), lambda: moving)
        )
        stack.callback(traffic.cancel)
        await asyncio.gather(
            asyncio.to_thread(killed, source, new, state, count), story.late(native, entries)
        )
        await story.during(native)
        said = await asyncio.to_thread(resumed, source, new, state)
        moving = False
        await traffic
        assert "verified" in said
        assert await entries.length(now=time.time()) == 0
        held = {held.visitor.number for held in story.held}
        await some_at_once(iter(looks(story, native, held)))
    return story


def looks(story: Story, native: NativeSite, held: set[int]) -> Iterable[Awaitable[None]]:
    for visitor in story.visitors:
        number = visitor.number
        yield story.look(visitor, native, in_lists=number < 200 or number in held or number % 50 == 0)


@pytest.mark.parametrize("count", [500, pytest.param(100_000, marks=pytest.mark.slow)])
def test_leaving_node(count: int, redis_server: Server, postgres_server: Server, tmp_path: Path) -> None:
    old = redis_server.url.removesuffix("/0") + ("/5" if count < 1000 else "/6")
    new = own_database(postgres_server, f"leaving_{count}")
    with node_app({"kind": "connect-redis", "url": old, "options": {}}, session=NODE_OPTIONS) as node:
        story = asyncio.run(leave(count, node, old, new, tmp_path / "state"))
    assert story.wrong == []
    assert story.recreated > 0
    assert story.requests > 500
