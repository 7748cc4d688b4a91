"""The SQLAlchemy store among processes: races of real requests through two workers, one in threads and one on an event loop."""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from coatcheck import SessionManager
from coatcheck.core.ids import Ticket
from coatcheck.core.record import Ended, Record
from coatcheck.core.session import CookieAction, Standing
from coatcheck.core.stepping import run_now
from coatcheck.stores.sqlalchemy import SQLAlchemyStore
from tests.stores.sqlalchemy_places import Place
from tests.stores.sqlite_workers import NOW

ROOT = Path(__file__).parents[2]


@contextmanager
def worker(*arguments: str) -> Iterator[Any]:
    command = [sys.executable, "-m", "tests.stores.sqlalchemy_workers", *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=60) == 0


class Workers:
    """Two processes that serve the same orders at the same time."""

    def __init__(self, processes: list[Any]) -> None:
        self._processes = processes
        assert [process.stdout.readline() for process in processes] == ["ready\n"] * len(processes)

    def both(self, **order: Any) -> list[Any]:
        """Have each do `times` of them; all the answers: (what the browser is told, verifier, handle)."""
        self.begin(**order)
        return self.answers()

    def begin(self, **order: Any) -> None:
        for process in self._processes:
            print(json.dumps(order), file=process.stdin, flush=True)

    def answers(self) -> list[Any]:
        return [answer for process in self._processes for answer in json.loads(process.stdout.readline())]


PLACES = ("sqlite", "postgres", "mariadb")


@pytest.fixture(scope="module", params=PLACES)
def arena(request: pytest.FixtureRequest) -> Iterator[tuple[Place, Workers]]:
    place: Place = request.getfixturevalue(f"sqlalchemy_{request.param}")
    place.wipe()
    with ExitStack() as stack:
        processes = [
            stack.enter_context(worker("serve", place.url, face)) for face in ("blocking", "awaiting")
        ]
        yield place, Workers(processes)


@pytest.fixture
def workers(arena: tuple[Place, Workers]) -> Workers:
    return arena[1]


@pytest.fixture
def store(arena: tuple[Place, Workers]) -> Iterator[SQLAlchemyStore]:
    with arena[0].store() as store:
        yield store


@pytest.fixture
def sessions(store: SQLAlchemyStore) -> SessionManager:
    return SessionManager(store)


def begun(sessions: SessionManager, user: str | None = None) -> Ticket:
    """A session, and what its browser holds."""
    session = sessions.session()
    session["n"] = 0
    if user is not None:
        session.login(user)
    assert sessions.commit(session) is CookieAction.SEND
    assert session._record is not None
    assert session._verifier is not None
    return Ticket(session._record.key, session._verifier)


def test_fifty_writers_lose_nothing(workers: Workers, sessions: SessionManager) -> None:
    ticket = begun(sessions)
    answers = workers.both(what="increment", times=25, ticket=[ticket.locator, ticket.verifier])
    assert [told for told, _, _ in answers] == ["NONE"] * 50
    assert sessions.session(ticket)["n"] == 50


def test_a_logout_stays_though_a_slow_request_writes(workers: Workers, sessions: SessionManager) -> None:
    ticket = begun(sessions, "ada")
    slow = sessions.session(ticket)
    slow["n"] = 7
    answers = workers.both(what="logout", times=1, ticket=[ticket.locator, ticket.verifier])
    assert "CLEAR" in [told for told, _, _ in answers]
    assert sessions.commit(slow) is CookieAction.NONE  # no error, and no cookie
    assert isinstance(run_now(sessions.flows.store.load(ticket.locator, now=NOW)), Ended)


def test_twenty_renewals_make_one_verifier(workers: Workers, sessions: SessionManager) -> None:
    ticket = begun(sessions, "ada")
    order = {"ticket": [ticket.locator, ticket.verifier], "later": 3_700.0}
    answers = workers.both(what="increment", times=10, **order)
    assert {told for told, _, _ in answers} == {"SEND"}
    (verifier,) = {verifier for _, verifier, _ in answers}
    assert verifier != ticket.verifier
    session = sessions.session(Ticket(ticket.locator, verifier))
    assert session["n"] == 20
    assert session._standing is Standing.LIVE


def test_twenty_logins_with_a_limit_of_three_leave_three(workers: Workers, sessions: SessionManager) -> None:
    answers = workers.both(what="login", user="bob", times=10, limit=3)
    assert {told for told, _, _ in answers} == {"SEND"}
    live = {device.handle for device in sessions.of("bob").list()}
    assert len(live) == 3
    assert live <= {handle for _, _, handle in answers}


def test_no_login_begun_before_the_end_of_all_survives_it(workers: Workers, sessions: SessionManager) -> None:
    for turn in range(3):
        user = f"eve-{turn}"
        older = [begun(sessions, user) for _ in range(3)]
        workers.begin(what="login", user=user, times=10, began=60.0)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(sessions.of(user).end_all).result()
        answers = workers.answers()
        assert sessions.of(user).list() == []
        for ticket in older:
            assert dict(sessions.session(ticket)) == {}
        assert len(answers) == 20


@pytest.mark.parametrize("face", ["blocking", "awaiting"])
def test_a_fork_loses_nothing_though_the_parent_closes(place: Place, face: str) -> None:
    with worker("fork", place.url, face):
        pass
    with place.store() as store:
        for key in ("before", "child-1", "parent", "child-2"):
            assert isinstance(run_now(store.blocking().load(key, now=NOW)), Record), key


@pytest.mark.slow
def test_eight_processes_set_up_at_once(place: Place) -> None:
    prefix = "eight_"
    with ExitStack() as stack:
        processes = [stack.enter_context(worker("setup", place.url, prefix)) for _ in range(8)]
        assert [process.stdout.readline() for process in processes] == ["ready\n"] * 8
        for process in processes:
            print(file=process.stdin, flush=True)
    with place.store(prefix=prefix) as store:
        assert run_now(store.blocking().count(now=NOW)) == 8
