"""Races of two worker processes, one of each face, on one MongoDB server: whole requests, through the managers."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from coatcheck.core.ids import Ticket
from coatcheck.core.options import Options
from coatcheck.core.stepping import run_now
from coatcheck.flows import Clock
from coatcheck.manager import SessionManager
from coatcheck.stores.mongo import MongoStore
from servers import Server
from tests.stores.mongo_workers import AT_ONCE, NOW, PATIENT

ROOT = Path(__file__).parents[2]


class Races:
    """An application, and workers of it."""

    def __init__(self, server: Server) -> None:
        self.url = server.url
        self.backend = MongoStore.from_url(server.url, outage=PATIENT)
        self.sessions = self.manager(7_200)
        self._workers: list[subprocess.Popen[str]] = []

    def manager(self, later: float) -> SessionManager:
        quiet = Options(on_event=lambda event: None)
        return SessionManager(self.backend, options=quiet, clock=Clock(time=lambda: NOW + later))

    def logged_in(self, **data: Any) -> Ticket:
        """A login of two hours ago."""
        sessions = self.manager(0)
        session = sessions.session()
        session.update(data)
        session.login("ada")
        sessions.commit(session)
        assert session._record is not None
        return Ticket(session._record.key, str(session._verifier))

    def worker(self, what: str, face: str, ticket: Ticket, at_once: int = AT_ONCE, **options: Any) -> None:
        command = [
            sys.executable,
            "-m",
            "tests.stores.mongo_workers",
            what,
            self.url,
            face,
            json.dumps(options),
        ]
        command += [*ticket[:2], str(at_once)]
        self._workers.append(
            subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )

    def start(self) -> None:
        for worker in self._workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in self._workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()

    def are_busy(self) -> bool:
        return all(worker.poll() is None for worker in self._workers)

    def answers(self) -> list[str]:
        answers: list[str] = []
        for worker in self._workers:
            said, _ = worker.communicate(timeout=120)
            assert worker.returncode == 0
            answers += json.loads(said)
        self._workers = []
        return answers

    def run(self) -> list[str]:
        self.start()
        return self.answers()

    def data(self, ticket: Ticket) -> dict[str, Any]:
        return dict(self.sessions.session(ticket))

    def devices(self) -> list[str]:
        return [device.handle for device in self.sessions.of("ada").list()]


@pytest.fixture
def races(mongo_server: Server) -> Iterator[Races]:
    with MongoClient[dict[str, Any]](mongo_server.url) as client:
        for name in ("coatcheck_sessions", "coatcheck_sessions_users"):
            client["coatcheck"][name].delete_many({})
    races = Races(mongo_server)
    run_now(races.backend.blocking().setup())
    with races.backend:
        yield races


NOBODY = Ticket("none", "none")
FACES = ("blocking", "awaiting")


def test_parallel_writers_lose_nothing(races: Races) -> None:
    """Fifty at once, five increments each."""
    ticket = races.logged_in(n=0)
    for face in FACES:
        races.worker("increments", face, ticket, 25)
    races.run()
    assert races.data(ticket) == {"n": 250}


def test_a_logout_among_writers_stays_a_logout(races: Races) -> None:
    ticket = races.logged_in()
    for face in FACES:
        races.worker("writes", face, ticket)
    races.worker("log_out", "blocking", ticket, 1)
    answers = races.run()
    assert answers == ["logged out"] * 20 + ["CLEAR"]
    assert races.data(ticket) == {}
    assert races.devices() == []


def test_parallel_renewals_make_one_new_verifier(races: Races) -> None:
    ticket = races.logged_in()
    for face in FACES:
        races.worker("renewals", face, ticket)
    verifiers = set(races.run())
    assert len(verifiers) == 1
    new = verifiers.pop()
    assert new not in ("no cookie", ticket.verifier)
    for verifier in (ticket.verifier, new):  # nobody is logged out
        assert races.sessions.session(Ticket(ticket.locator, verifier)).user_id == "ada"


@pytest.mark.parametrize("what", ["logins", "logins_over"])
def test_parallel_logins_keep_the_limit(races: Races, what: str) -> None:
    for face in FACES:
        races.worker(what, face, NOBODY, max_sessions=3)
    assert races.run() == ["SEND"] * 20
    assert len(races.devices()) == 3


def test_parallel_logins_are_refused_at_the_limit(races: Races) -> None:
    for face in FACES:
        races.worker("logins", face, NOBODY, max_sessions=3, at_limit="deny")
    answers = races.run()
    assert sorted(answers) == ["NONE"] * 17 + ["SEND"] * 3
    assert len(races.devices()) == 3


def test_no_login_that_began_before_an_end_all_survives_it(races: Races) -> None:
    for face in FACES:
        races.worker("logins_in_a_row", face, NOBODY)
    races.start()
    last = 0.0
    while races.are_busy():
        last = time.time()
        races.sessions.of("ada").end_all()
    began: dict[str, float] = {}
    for answer in races.answers():
        began |= json.loads(answer)
    live = races.devices()
    print(f"{len(began)} logins let in, {len(live)} of them after the last end_all")
    assert all(began[handle] > last for handle in live)
    races.sessions.of("ada").end_all()
    assert races.devices() == []


def test_no_session_survives_an_end_all_by_being_renewed(races: Races) -> None:
    ticket = races.logged_in()
    for face in FACES:
        races.worker("renewals", face, ticket)
    races.start()
    assert races.sessions.of("ada").end_all() == 1
    verifiers = set(races.answers()) - {"no cookie", "logged out"}
    assert races.devices() == []
    for verifier in (ticket.verifier, *verifiers):
        assert races.sessions.session(Ticket(ticket.locator, verifier)).user_id is None
