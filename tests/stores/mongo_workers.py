"""Processes of their own for the tests of the MongoDB store: `python -m tests.stores.mongo_workers WHAT URL FACE ...`.

Each says that it is ready, waits to be told to go, does its part with ten requests at once, and says what came of each.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from coatcheck.core.ids import Ticket
from coatcheck.core.options import Options
from coatcheck.core.outage import Outage
from coatcheck.core.stepping import run_now
from coatcheck.faces import AsyncSession, Session
from coatcheck.flows import Clock
from coatcheck.manager import AsyncSessionManager, SessionManager
from coatcheck.stores.mongo import MongoStore

AT_ONCE = 10
NOW = 1_700_000_000.0
PATIENT = Outage(connect_timeout=30, command_timeout=30)
AnySession = Session[Any] | AsyncSession[Any]


class Requests:
    """Requests of one application, whichever face it has."""

    def __init__(self, sessions: SessionManager | AsyncSessionManager) -> None:
        self.sessions = sessions

    async def begin(self, ticket: Ticket | None = None) -> AnySession:
        session = self.sessions.session(ticket)
        if isinstance(session, AsyncSession):
            return await session.load()
        session.get("nothing")
        return session

    async def commit(self, session: AnySession) -> str:
        if isinstance(self.sessions, AsyncSessionManager):
            assert isinstance(session, AsyncSession)
            return (await self.sessions.commit(session)).name
        assert isinstance(session, Session)
        return self.sessions.commit(session).name


async def increments(requests: Requests, ticket: Ticket) -> str:
    """Five requests that count."""
    for _ in range(5):
        session = await requests.begin(ticket)
        session.increment("n", default=0)
        await requests.commit(session)
    return ""


async def writes(requests: Requests, ticket: Ticket) -> str:
    """Requests that write until they find themselves logged out; then two more."""
    late = 0
    for n in range(500):
        session = await requests.begin(ticket)
        if session.user_id is None:
            late += 1
        session["n"] = n
        await requests.commit(session)
        if late == 3:
            return "logged out"
    return "never logged out"


async def log_out(requests: Requests, ticket: Ticket) -> str:
    """A few writes, then the logout."""
    for n in range(5):
        session = await requests.begin(ticket)
        session["m"] = n
        await requests.commit(session)
    session = await requests.begin(ticket)
    session.logout()
    return await requests.commit(session)


async def renewals(requests: Requests, ticket: Ticket) -> str:
    """A request with a verifier that is due for renewal: the one that the browser holds afterwards."""
    session = await requests.begin(ticket)
    if session.user_id is None:
        return "logged out"
    cookie = await requests.commit(session)
    return str(session._verifier) if cookie == "SEND" else "no cookie"


async def logins(requests: Requests, _: Ticket) -> str:
    """A login without a session."""
    session = await requests.begin()
    session.login("ada")
    return await requests.commit(session)


async def logins_over(requests: Requests, _: Ticket) -> str:
    """A visitor who puts something into their cart, and logs in."""
    visitor = await requests.begin()
    visitor["cart"] = [1]
    await requests.commit(visitor)
    assert visitor._record is not None
    session = await requests.begin(Ticket(visitor._record.key, str(visitor._verifier)))
    session.login("ada")
    return await requests.commit(session)


async def logins_in_a_row(requests: Requests, _: Ticket) -> str:
    """Ten logins: which sessions they made, and when each began, by the clock of the machine."""
    made = {}
    for _turn in range(10):
        began = time.time()
        session = await requests.begin()
        session["cart"] = []
        session.login("ada")
        if await requests.commit(session) == "SEND":
            assert session._record is not None
            made[session._record.key] = began
    return json.dumps(made)


WORK: dict[str, Callable[[Requests, Ticket], Awaitable[str]]] = {
    "increments": increments,
    "writes": writes,
    "log_out": log_out,
    "renewals": renewals,
    "logins": logins,
    "logins_over": logins_over,
    "logins_in_a_row": logins_in_a_row,
}


def main(what: str, url: str, face: str, options: str, locator: str, verifier: str, at_once: str) -> None:
    rules = Options(**json.loads(options), on_event=lambda event: None)
    ticket, work, crowd = Ticket(locator, verifier), WORK[what], range(int(at_once))
    backend = MongoStore.from_url(url, outage=PATIENT)
    clock = Clock(time=lambda: NOW + 7_200)

    async def awaiting() -> list[str]:
        sessions = AsyncSessionManager(backend, options=rules, clock=clock)
        await sessions.check()
        ready()
        try:
            return list(await asyncio.gather(*(work(Requests(sessions), ticket) for _ in crowd)))
        finally:
            await backend.aclose()

    def blocking() -> list[str]:
        sessions = SessionManager(backend, options=rules, clock=clock)
        sessions.check()
        with ThreadPoolExecutor(len(crowd)) as pool, backend:
            ready()
            return list(pool.map(lambda _: run_now(_result(work(Requests(sessions), ticket))), crowd))

    print(json.dumps(asyncio.run(awaiting()) if face == "awaiting" else blocking()), flush=True)


async def _result(work: Awaitable[str]) -> str:
    return await work


def ready() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main(*sys.argv[1:])
