"""Races over the Redis store between processes, each with threads or an event loop of its own; and forks."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coatcheck import SessionManager
from coatcheck.core.ids import Ticket
from coatcheck.core.session import CookieAction
from coatcheck.stores.redis import RedisStore
from servers import Server
from tests.stores.redis_help import fresh
from tests.stores.redis_workers import PATIENT

FACES = ("blocking", "awaiting")
ROOT = Path(__file__).parents[2]


class Worker:
    """One process that waits to begin."""

    def __init__(self, what: str, face: str, *arguments: object) -> None:
        command = [sys.executable, "-m", "tests.stores.redis_workers", what, face, *map(str, arguments)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def is_ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def begin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def lines(self) -> list[str]:
        out, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0
        return out.splitlines()


def race(what: str, *arguments: object) -> list[str]:
    """Two processes at once, one of threads and one of tasks; what their requests said."""
    workers = [Worker(what, face, *arguments) for face in FACES]
    for worker in workers:
        worker.is_ready()
    for worker in workers:
        worker.begin()
    return [line for worker in workers for line in worker.lines()]


class Site:
    """The store as this process sees it, and the ticket of a visitor."""

    def __init__(self, server: Server) -> None:
        self.prefix = fresh()
        self.url = server.url
        self.backend = RedisStore.from_url(server.url, prefix=self.prefix, outage=PATIENT)
        self.manager = SessionManager(self.backend)

    def visitor(self, user_id: str | None = None, **data: Any) -> Ticket:
        session = self.manager.session()
        session.update(data)
        if user_id is not None:
            session.login(user_id)
        assert self.manager.commit(session) is CookieAction.SEND
        assert session._record is not None
        assert session._verifier is not None
        return Ticket(session._record.key, session._verifier)


@pytest.fixture
def site(redis_server: Server) -> Iterator[Site]:
    site = Site(redis_server)
    yield site
    site.backend.close()


def test_fifty_parallel_writers_lose_nothing(site: Site) -> None:
    ticket = site.visitor(n=0)
    race("increment", site.url, site.prefix, ticket.locator, ticket.verifier, 25)
    assert site.manager.session(ticket)["counted"] == 50


def test_a_logout_while_a_slow_request_writes_stays_a_logout(site: Site) -> None:
    for _ in range(5):
        ticket = site.visitor("ada", n=0)
        slow, logout = site.manager.session(ticket), site.manager.session(ticket)
        slow["n"] += 1
        logout.destroy()
        assert site.manager.commit(logout) is CookieAction.CLEAR
        assert site.manager.commit(slow) is CookieAction.NONE  # no error, no cookie
        assert dict(site.manager.session(ticket)) == {}
        assert site.manager.of("ada").list() == []


def test_a_logout_among_writers_of_two_processes_stays_a_logout(site: Site) -> None:
    ticket = site.visitor("ada", n=0)
    workers = [
        Worker("increment", face, site.url, site.prefix, ticket.locator, ticket.verifier, 20)
        for face in FACES
    ]
    for worker in workers:
        worker.is_ready()
    workers[0].begin()
    logout = site.manager.session(ticket)
    logout.destroy()
    assert site.manager.commit(logout) is CookieAction.CLEAR
    workers[1].process.terminate()
    workers[1].process.communicate()
    workers[0].process.communicate(timeout=60)  # those that came late found nobody, and say so as KeyErrors
    assert dict(site.manager.session(ticket)) == {}
    assert site.manager.of("ada").list() == []


def test_twenty_parallel_renewals_make_one_new_verifier(site: Site) -> None:
    ticket = site.visitor("ada", n=1)
    lines = [
        line.split() for line in race("renew", site.url, site.prefix, ticket.locator, ticket.verifier, 10)
    ]
    assert len(lines) == 20
    assert {user for _, user, _ in lines} == {"ada"}  # nobody was logged out
    told = {verifier for cookie, _, verifier in lines if cookie == "SEND"}
    assert len(told) == 1
    assert told != {ticket.verifier}
    assert site.manager.session(Ticket(ticket.locator, told.pop())).user_id == "ada"


def test_twenty_parallel_logins_with_a_limit_of_three_leave_three(site: Site) -> None:
    lines = race("log_in", site.url, site.prefix, "ada", 3, 10)
    assert len(lines) == 20
    listed = {device.handle for device in site.manager.of("ada").list()}
    alive = {line.split()[1] for line in lines if site.manager.find(line.split()[1])}
    assert len(alive) == 3
    assert listed == alive


def test_no_login_begun_before_an_end_all_survives_it(site: Site) -> None:
    for _ in range(3):
        workers = [Worker("log_in", face, site.url, site.prefix, "ada", 0, 15) for face in FACES]
        for worker in workers:
            worker.is_ready()
        for worker in workers:
            worker.begin()
        began = time.time()
        while not site.manager.of("ada").list():
            assert time.time() - began < 30
        before = {device.handle for device in site.manager.of("ada").list()}
        site.manager.of("ada").end_all()
        for worker in workers:
            worker.lines()
        assert before
        assert not before & {device.handle for device in site.manager.of("ada").list()}
        site.manager.of("ada").end_all()
        assert site.manager.of("ada").list() == []


@pytest.mark.parametrize("face", FACES)
def test_a_fork_uses_none_of_its_parents_connections(site: Site, face: str) -> None:
    worker = Worker("fork", face, site.url, site.prefix)
    assert worker.lines() == ["both went on"]
