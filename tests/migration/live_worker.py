"""A process of requests for the live migrations: `python -m tests.migration.live_worker WHAT NUMBER COUNT NEW OLD`.

It says `ready`, visits random sessions of the `COUNT` there are until its standard input ends, and prints what it was promised:
which sessions it counted up and how often, which it logged out, and what was wrong. Both workers count up the same sessions; each
logs out its own.
"""

import asyncio
import json
import random
import sys
import threading
from collections import Counter
from typing import Any

from msgspec.structs import replace as changed

from coatcheck import AsyncSessionManager, Options
from coatcheck.adoption import ExpressSession
from coatcheck.core.drafts import first
from coatcheck.core.ids import Ticket, digest
from coatcheck.core.record import Login, Record
from coatcheck.core.session import Standing
from coatcheck.dialects.express.signed import Secrets
from coatcheck.exchange import Arrival
from coatcheck.stores.moving import Moving
from tests.patience import PATIENT

SECRET = "keyboard cat"
SECRETS = Secrets(SECRET)
TASKS = 4
HOT = 300
"""So many sessions are visited most of the time, by everybody."""


def ticket(number: int) -> Ticket:
    return Ticket(f"s{number:023d}", f"v{number:043d}", digest(f"v{number:043d}"))


def user(number: int) -> str | None:
    """Two sessions a user; every fourth session is nobody's."""
    return None if number % 4 == 3 else f"u{number // 2}"


def record(number: int, now: float) -> Record:
    there = ticket(number)
    made = first(
        there.locator,
        f"v{number}",
        there.verifier,
        b'{"n":0}',
        now,
        idle=86_400,
        ends_at=now + 86_400,
        lifetime=None,
    )
    whose = user(number)
    if whose is None:
        return made
    return changed(made, user_id=whose, authenticated_at=now, login=Login())


def body(number: int, n: int = 0) -> bytes:
    whose = user(number)
    passport = {} if whose is None else {"user": whose}
    return json.dumps(
        {"cookie": {"originalMaxAge": None, "expires": None}, "passport": passport, "n": n}
    ).encode()


class Worker:
    """The requests of one process."""

    def __init__(self, what: str, number: int, count: int, new: str, old: str) -> None:
        self.what, self.number, self.count = what, number, count
        self.counted: Counter[int] = Counter()
        self.ended: set[int] = set()
        self.wrong: list[str] = []
        self.visits = 0
        self.over = threading.Event()
        self.sessions: Any
        if what == "native":
            moving = Moving(new, old, carry=number == 0, outage=PATIENT)
            self.sessions = AsyncSessionManager(moving)
        else:
            kind = ExpressSession(store=old.removeprefix("express+"), secret=SECRET, outage=PATIENT)
            self.sessions = AsyncSessionManager(new, outage=PATIENT, options=Options(adopt=kind))

    def session(self, number: int) -> Any:
        if self.what == "native":
            return self.sessions.session(ticket(number))
        session = self.sessions.session()
        header = f"connect.sid={SECRETS.sign(ticket(number).locator)}".encode()
        session._describe, session._standing = (lambda: Arrival("http", header)), Standing.UNLOADED
        return session

    def mine(self, number: int) -> bool:
        return number >= HOT and number % 40 == self.number

    async def visit(self, number: int, dice: float) -> None:
        """A request: it finds its session as it must be, and counts it up, or logs out."""
        other = number >= HOT and number % 40 < 2 and not self.mine(number)
        if other:
            return  # the other worker's, which may have logged it out
        was_ended = number in self.ended
        session = self.session(number)
        await session.load()
        if was_ended:
            if session.get("n") is not None or session.user_id is not None:
                self.wrong.append(f"{number} was logged out, and is there")
            return
        if session.get("n") is None or session.user_id != user(number):
            if number not in self.ended:  # another task of this process may just have logged it out
                self.wrong.append(f"{number} is {session.user_id} with {session.get('n')}")
            return
        if self.mine(number) and dice < 0.5:
            self.ended.add(number)
            session.logout()
        elif dice < 0.9:
            session.increment("n")
        else:
            return
        await self.sessions.commit(session)
        if not session._logout and number not in self.ended:
            self.counted[number] += 1

    async def task(self, seed: int) -> None:
        dice = random.Random(seed)
        while not self.over.is_set():
            number = dice.randrange(HOT) if dice.random() < 0.5 else dice.randrange(self.count)
            try:
                await self.visit(number, dice.random())
            except Exception as error:
                self.wrong.append(f"{number}: {type(error).__name__}: {error}")
            self.visits += 1
            await asyncio.sleep(0.005)

    def hear(self) -> None:
        """Wait to be told that it is over."""
        sys.stdin.read()
        self.over.set()

    async def run(self) -> None:
        threading.Thread(target=self.hear, daemon=True).start()
        print("ready", flush=True)
        async with self.sessions:
            await asyncio.gather(*(self.task(self.number * 1000 + n) for n in range(TASKS)))
        told = {
            "counted": self.counted,
            "ended": sorted(self.ended),
            "wrong": self.wrong[:20],
            "visits": self.visits,
        }
        print(json.dumps(told))


if __name__ == "__main__":
    what, number, count, new, old = sys.argv[1:]
    asyncio.run(Worker(what, int(number), int(count), new, old).run())
