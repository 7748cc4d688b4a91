"""Processes of their own for the races over the Redis store: `python -m tests.stores.redis_workers WHAT FACE URL PREFIX …`.

Each runs so many requests at once, in threads or as tasks, over a manager of its own, and prints one line a request.
"""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from coatcheck import AsyncSessionManager, Options, SessionManager
from coatcheck.core.ids import Ticket
from coatcheck.core.outage import Outage
from coatcheck.core.ports import Terms
from coatcheck.core.record import Record
from coatcheck.core.stepping import run_now
from coatcheck.faces import AsyncSession, Session
from coatcheck.flows import Clock
from coatcheck.stores.redis import RedisStore
from tests.stores.redis_help import NOW, record

PATIENT = Outage(connect_timeout=10, command_timeout=10)
AHEAD = 4_000.0
"""Seconds by which a renewal's clock is ahead: older than that a verifier is renewed."""


class Requests:
    """What requests do, in either face: `session` is made from a ticket, `commit` ends the request."""

    def __init__(
        self, face: str, url: str, prefix: str, *, limit: int | None = None, ahead: float = 0.0
    ) -> None:
        self.face = face
        self.backend = RedisStore.from_url(url, prefix=prefix, outage=PATIENT)
        options = Options(max_sessions=limit)
        clock = Clock(time=lambda: time.time() + ahead)
        make: Any = SessionManager if face == "blocking" else AsyncSessionManager
        self.manager = make(self.backend, options=options, clock=clock)

    async def session(self, ticket: Ticket | None) -> Any:
        session = self.manager.session(ticket)
        if isinstance(session, AsyncSession):
            await session.load()
        elif ticket is not None:
            session._open()
        return session

    async def commit(self, session: Any) -> str:
        answer = self.manager.commit(session)
        if not isinstance(session, Session):
            answer = await answer
        return str(answer.name)

    def run(self, request: Callable[[], Coroutine[Any, Any, str]], times: int) -> None:
        """So many requests at once; each may be asked to begin at the same moment as those of the other process."""
        if self.face == "blocking":
            with ThreadPoolExecutor(times) as pool:
                lines = list(pool.map(lambda _: run_now(request()), range(times)))
            self.backend.close()
        else:
            lines = asyncio.run(self._gather(request, times))
        print("\n".join(lines))

    async def _gather(self, request: Callable[[], Coroutine[Any, Any, str]], times: int) -> list[str]:
        try:
            return list(await asyncio.gather(*(request() for _ in range(times))))
        finally:
            await self.backend.aclose()


def ready() -> None:
    """Say so, and wait for the other process."""
    os.write(1, b"ready\n")
    sys.stdin.readline()


def increment(face: str, url: str, prefix: str, locator: str, verifier: str, times: str) -> None:
    requests = Requests(face, url, prefix)

    async def request() -> str:
        session = await requests.session(Ticket(locator, verifier))
        session.increment("counted")
        return await requests.commit(session)

    ready()
    requests.run(request, int(times))


def renew(face: str, url: str, prefix: str, locator: str, verifier: str, times: str) -> None:
    requests = Requests(face, url, prefix, ahead=AHEAD)

    async def request() -> str:
        session = await requests.session(Ticket(locator, verifier))
        user = session.user_id
        told = await requests.commit(session)
        return f"{told} {user} {session._verifier}"

    ready()
    requests.run(request, int(times))


def log_in(face: str, url: str, prefix: str, user_id: str, limit: str, times: str) -> None:
    requests = Requests(face, url, prefix, limit=int(limit) or None)

    async def request() -> str:
        session = await requests.session(None)
        session.login(user_id)
        told = await requests.commit(session)
        return f"{told} {session._record.key if session._record else '-'}"

    ready()
    requests.run(request, int(times))


def fork(face: str, url: str, prefix: str) -> None:
    """Use the store, fork, use it in both at once, again and again: a connection that both used would mix up their replies."""
    backend = RedisStore.from_url(url, prefix=prefix, outage=PATIENT)
    there = [record(data=b"%d" % n) for n in range(2)]
    store = backend.blocking() if face == "blocking" else backend.awaiting()

    async def use(mine: Record, times: int) -> None:
        await store.admit(mine, expected=None, terms=Terms(), now=NOW)
        for _ in range(times):
            assert await store.load(mine.key, now=NOW) == mine

    def go(mine: Record, times: int) -> None:
        if face == "blocking":
            run_now(use(mine, times))
        else:
            asyncio.run(use(mine, times))

    if face == "blocking":
        go(record(), 3)
        child = os.fork()
        go(there[0 if child else 1], 300)
    else:
        child = asyncio.run(_fork_within(use, there))
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    print("both went on")


async def _fork_within(use: Callable[[Record, int], Coroutine[Any, Any, None]], there: list[Record]) -> int:
    """The loop itself is forked: its connections are open in both. The child makes a loop of its own."""
    await use(record(), 3)
    child = os.fork()
    if child == 0:
        status: list[int] = []

        def afresh() -> None:
            asyncio.events._set_running_loop(None)
            asyncio.run(use(there[1], 300))
            status.append(0)

        thread = threading.Thread(target=afresh)
        thread.start()
        thread.join()
        os._exit(0 if status else 1)
    await use(there[0], 300)
    return child


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
