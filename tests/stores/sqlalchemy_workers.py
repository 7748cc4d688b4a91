"""Processes of their own for the tests of the SQLAlchemy store: `python -m tests.stores.sqlalchemy_workers WHAT URL FACE`.

`serve` takes requests of one session or one user, one kind a line, as JSON, does `times` of them at once and answers in one line.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from coatcheck import AsyncSessionManager, Clock, Options, SessionManager
from coatcheck.core.ids import Ticket
from coatcheck.core.ports import SAVED
from coatcheck.core.session import BaseSession
from coatcheck.core.stepping import run_now
from coatcheck.stores.sqlalchemy import SQLAlchemyStore
from tests.stores.sqlalchemy_places import PATIENT
from tests.stores.sqlite_workers import NOW, record

Handler = Callable[[Any], Any]


def handler_of(what: str, user: str) -> Handler:
    """What a request does with its session."""
    return {
        "increment": lambda session: session.increment("n"),
        "logout": lambda session: session.logout(),
        "login": lambda session: session.login(user),
        "read": lambda session: session.get("n"),
    }[what]


def ticket_of(order: dict[str, Any]) -> Ticket | None:
    return Ticket(*order["ticket"]) if "ticket" in order else None


def answer(session: BaseSession, told: Any) -> list[Any]:
    return [told.name, session._verifier, session.handle]


class Blocking:
    """Requests in threads."""

    def __init__(self, store: SQLAlchemyStore) -> None:
        self._store = store

    def serve(self, order: dict[str, Any]) -> list[Any]:
        clock = Clock(lambda: time.time() + order.get("later", 0.0))
        sessions = SessionManager(self._store, options=Options(max_sessions=order.get("limit")), clock=clock)
        handle = handler_of(order["what"], order.get("user", ""))

        def one(_: int) -> list[Any]:
            session = sessions.session(ticket_of(order))
            session._began -= order.get("began", 0.0)
            handle(session)
            return answer(session, sessions.commit(session))

        with ThreadPoolExecutor(order["times"]) as pool:
            return list(pool.map(one, range(order["times"])))


class Awaiting:
    """Requests as tasks."""

    def __init__(self, store: SQLAlchemyStore) -> None:
        self._store = store
        self._runner = asyncio.Runner()

    def serve(self, order: dict[str, Any]) -> list[Any]:
        return self._runner.run(self._serve(order))

    async def _serve(self, order: dict[str, Any]) -> list[Any]:
        clock = Clock(lambda: time.time() + order.get("later", 0.0))
        options = Options(max_sessions=order.get("limit"))
        sessions = AsyncSessionManager(self._store, options=options, clock=clock)
        handle = handler_of(order["what"], order.get("user", ""))

        async def one() -> list[Any]:
            session = sessions.session(ticket_of(order))
            session._began -= order.get("began", 0.0)
            await session.load()
            handle(session)
            return answer(session, await sessions.commit(session))

        return list(await asyncio.gather(*(one() for _ in range(order["times"]))))


def serve(url: str, face: str) -> None:
    store = SQLAlchemyStore.from_url(url, outage=PATIENT)
    server = (Blocking if face == "blocking" else Awaiting)(store)
    server.serve({"what": "read", "times": 1})
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(server.serve(json.loads(line))), flush=True)


def setup(url: str, prefix: str) -> None:
    """Set up when told to, at the same moment as others, and use it."""
    store = SQLAlchemyStore.from_url(url, outage=PATIENT, prefix=prefix)
    sessions = store.blocking()
    print("ready", flush=True)
    sys.stdin.readline()
    run_now(sessions.setup())
    assert run_now(sessions.create(record(), now=NOW)) is SAVED


def fork(url: str, face: str) -> None:
    """Use the store, fork, use it in both, close it in the parent, go on in the child."""
    store = SQLAlchemyStore.from_url(url, outage=PATIENT)

    def save(key: str) -> None:
        async def once() -> None:
            assert await store.awaiting().create(record(key), now=NOW) is SAVED

        if face == "awaiting":
            asyncio.run(once())
        else:
            assert run_now(store.blocking().create(record(key), now=NOW)) is SAVED

    save("before")
    to_child, to_parent = os.pipe(), os.pipe()
    if (child := os.fork()) == 0:
        save("child-1")
        os.write(to_parent[1], b"1")
        os.read(to_child[0], 1)
        save("child-2")
        os._exit(0)
    os.read(to_parent[0], 1)
    save("parent")
    store.close()
    os.write(to_child[1], b"1")
    assert os.waitpid(child, 0)[1] == 0


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
