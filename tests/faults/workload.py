"""Users at work on the product, while a test hurts what is below it.

    async with at_work([asgi_site(store)], seed=7) as work:
        await work.more(200)                       # until so many more operations were acknowledged
        await asyncio.to_thread(server.kill)
        ...
        report = await work.finish()               # users stop; every session is looked at; the counts

Each user has several browsers, which log in, write unique keys, count, read, log out, and now and then end all sessions of their
user; several requests of one browser meet in one session. Somebody keeps the cookies of sessions that are over, and tries them.
Each request goes to one of the sites at random: they share a store.

Nothing here knows a store: `sites` may be over any of them, and of either face (see `tests.faults.site`).
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Final

from tests.faults.checker import ACKNOWLEDGED, IN_DOUBT, REFUSED, Asked, Checker, Report, key_of
from tests.faults.site import Answer, Site

__all__ = ["Work", "at_work", "until"]

PAUSE: Final = 0.03
"""Seconds that a visitor thinks before the next click, at most. Without, twenty of them were a load test."""
SOON: Final = 0.1
"""Seconds after which a visitor who was refused tries again."""
LOOKS: Final = 20
"""Sessions that are looked at together in the end."""
HABITS: Final = {"write": 50, "count": 15, "read": 20, "logout": 4, "end_all": 1, "replay": 10}
"""What a visitor does next, and how often in a hundred."""
WITHIN: Final = 60.0
"""Seconds that anything which is waited for may take: long, since the machine may be busy."""


async def until(condition: Callable[[], bool], what: str, within: float = WITHIN) -> None:
    """Wait for something that other tasks or a server bring about."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"waited {within:.0f} s for {what}"
        await asyncio.sleep(0.02)  # there is nothing better to wait on


class Work:
    """What all visitors share."""

    def __init__(self, sites: Sequence[Site], seed: int) -> None:
        self.checker, self.sites = Checker(), sites
        self.luck = random.Random(seed)
        self.over = False
        self.stopped_at = 0.0
        self.jars: dict[str, dict[str, str]] = {}
        """By session: the cookies that open it, or did."""
        self.finished: list[str] = []
        """Sessions whose end was acknowledged."""
        self.renewals = 0
        """Cookies that came without a login."""
        self.tasks: list[asyncio.Task[None]] = []

    async def ask(self, who: str, cookies: dict[str, str], **query: str) -> tuple[Asked, Answer]:
        """One request, and what came of it."""
        began = time.monotonic()
        answer = await self.luck.choice(self.sites).ask(cookies, **query)
        return Asked(who, began, time.monotonic(), answer.outcome, answer.status), answer

    def acknowledged(self) -> int:
        """Operations so far that were."""
        return self.checker.how_many(ACKNOWLEDGED)

    def failures(self) -> int:
        """Operations so far that were not."""
        return self.checker.how_many(REFUSED) + self.checker.how_many(IN_DOUBT)

    async def until(self, condition: Callable[[], bool], what: str, within: float = WITHIN) -> None:
        """Wait for something that the visitors bring about. What a visitor met and does not know is raised at once."""
        await until(lambda: self._goes_on() and condition(), what, within)

    async def more(self, count: int, within: float = WITHIN) -> None:
        """Wait until so many more operations were acknowledged."""
        enough = self.acknowledged() + count
        await self.until(lambda: self.acknowledged() >= enough, f"{count} more", within)

    async def hurt(self, count: int, within: float = WITHIN) -> None:
        """Wait until so many more operations were refused or are in doubt."""
        enough = self.failures() + count
        await self.until(lambda: self.failures() >= enough, f"{count} failures", within)

    async def recovered(self, at: float, within: float = WITHIN) -> float:
        """Wait until every browser has had a success since `at` (of time.monotonic); returns the seconds that took."""
        await self.until(lambda: self.checker.recovered(at) < within, "recovery", within)
        return self.checker.recovered(at)

    def _goes_on(self) -> bool:
        for task in self.tasks:
            if task.done():
                task.result()
        return True

    async def finish(self) -> Report:
        """Have the visitors stop, wait until the sites are well, look at every session. Returns the counts."""
        self.stopped_at, self.over = time.monotonic(), True
        await asyncio.gather(*self.tasks)
        for site in self.sites:
            await self._well(site)
        everything = list(self.checker.sessions())
        for start in range(0, len(everything), LOOKS):
            await asyncio.gather(*(self._look(name) for name in everything[start : start + LOOKS]))
        return self.checker.report(self.stopped_at)

    async def _well(self, site: Site) -> None:
        """Until a session can be stored: three times in a row, since each of a cluster's nodes has to be."""
        deadline, row = time.monotonic() + WITHIN, 0
        while row < 3:
            row = row + 1 if (await site.ask({}, key="well")).status == 200 else 0
            assert time.monotonic() < deadline, "the site does not get well"
            await asyncio.sleep(0 if row else SOON)

    async def _look(self, session: str) -> None:
        deadline = time.monotonic() + WITHIN
        while True:
            answer = await self.sites[0].ask(dict(self.jars[session]))
            if answer.status == 200:
                self.checker.found(session, answer.shown)
                return
            assert time.monotonic() < deadline, f"{answer.status} for {session}, when everything was well"
            await asyncio.sleep(SOON)


class _Browser:
    """One browser of one user."""

    def __init__(self, work: Work, user: str, name: str) -> None:
        self._work, self._checker, self._user, self._name = work, work.checker, user, name
        self._luck = random.Random(f"{name} {work.luck.random()}")
        self._sessions, self._keys = count(), count()
        self._session = ""
        """The name of its session; "" while it is logged out."""
        self._cookies: dict[str, str] = {}

    async def live(self) -> None:
        """Until everything is over."""
        while not self._work.over:
            served = await (self._act() if self._session else self._login())
            await asyncio.sleep(self._luck.uniform(0, PAUSE) if served else SOON)

    async def _act(self) -> bool:
        habit = self._luck.choices(list(HABITS), list(HABITS.values()))[0]
        if habit in ("write", "count", "read"):
            verb = {"write": self._write, "count": self._count, "read": self._read}[habit]
            session, cookies = self._session, self._cookies
            answers = await asyncio.gather(*(verb(session, cookies) for _ in range(self._luck.randint(1, 3))))
            return all(answers)
        if habit == "replay":
            return await self._replay()
        return await (self._logout() if habit == "logout" else self._end_all())

    async def _login(self) -> bool:
        name, self._cookies = f"{self._name}.{next(self._sessions)}", {}
        asked, answer = await self._work.ask(self._name, self._cookies, login=self._user)
        if asked.outcome is ACKNOWLEDGED and not answer.gives_cookie:
            # It was fenced, by an end of all sessions that came in between: the page was made, and no session.
            asked = asked._replace(outcome=REFUSED)
        self._checker.login(name, self._user, asked, answer.shown)
        if asked.outcome is ACKNOWLEDGED:
            self._session, self._work.jars[name] = name, dict(self._cookies)
        return asked.status == 200

    async def _write(self, session: str, cookies: dict[str, str]) -> bool:
        key = key_of(session, next(self._keys))
        asked, answer = await self._work.ask(self._name, cookies, key=key)
        self._checker.wrote(session, key, asked, answer.shown)
        return self._served(session, cookies, answer)

    async def _count(self, session: str, cookies: dict[str, str]) -> bool:
        asked, answer = await self._work.ask(self._name, cookies, count="1")
        self._checker.counted(session, asked, answer.shown)
        return self._served(session, cookies, answer)

    async def _read(self, session: str, cookies: dict[str, str]) -> bool:
        asked, answer = await self._work.ask(self._name, cookies)
        self._checker.read(session, asked, answer.shown)
        return self._served(session, cookies, answer)

    def _served(self, session: str, cookies: dict[str, str], answer: Answer) -> bool:
        """Keep a cookie that was renewed, and see whether the session is over."""
        if answer.status != 200:
            return False
        if answer.shown.user is None:
            self._session = ""
        elif answer.gives_cookie:  # this one, and not one that another answer put there meanwhile
            self._work.renewals += 1
            self._work.jars[session] = dict(cookies)
        return True

    async def _logout(self) -> bool:
        session = self._session
        self._checker.logout_begins(session)
        asked, answer = await self._work.ask(self._name, self._cookies, logout="1")
        self._checker.logout(session, asked, answer.shown)
        return self._ended(asked)

    async def _end_all(self) -> bool:
        self._checker.end_all_begins(self._user)
        asked, _ = await self._work.ask(self._name, self._cookies, end_all=self._user)
        self._checker.end_all(self._user, asked)
        return self._ended(asked)

    def _ended(self, asked: Asked) -> bool:
        if asked.outcome is ACKNOWLEDGED:
            self._work.finished.append(self._session)
            self._session = ""
        return asked.status == 200

    async def _replay(self) -> bool:
        """Try the cookie of a session that is over, as whoever stole it would."""
        if not self._work.finished:
            return True
        session = self._luck.choice(self._work.finished[-50:])
        asked, answer = await self._work.ask(self._name, dict(self._work.jars[session]))
        self._checker.read(session, asked, answer.shown)
        return asked.status == 200


@asynccontextmanager
async def at_work(
    sites: Sequence[Site], *, seed: int, users: int = 8, browsers: int = 2
) -> AsyncIterator[Work]:
    """So many users at work, until `finish()` or the end of the block."""
    work = Work(sites, seed)
    for user in range(users):
        for browser in range(browsers):
            visitor = _Browser(work, f"user{user}", f"user{user}-{browser}")
            work.tasks.append(asyncio.create_task(visitor.live()))
    try:
        yield work
    finally:
        work.over = True
        for task in work.tasks:
            task.cancel()
        await asyncio.gather(*work.tasks, return_exceptions=True)
        for site in sites:
            await site.aclose()
