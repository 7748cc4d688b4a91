"""Refresh tokens among processes, on every store that several can share: no fork, no false logout, nothing forgotten."""

import json
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coatcheck import InvalidToken
from coatcheck.core.record import Record
from coatcheck.core.stepping import run_now
from coatcheck.tokens.family import Family, family_of
from tests.databases import own_database
from tests.tokens.workers import here

ROOT = Path(__file__).parents[2]
STORES = ("sqlite", "redis", "postgres", "mongo", "sqlalchemy-sqlite", "sqlalchemy-postgres", "mariadb")


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store of each kind, with its tables."""
    kind: str = request.param
    if kind.endswith("sqlite"):
        found = f"{'sqlalchemy+' if kind.startswith('sqlalchemy') else ''}sqlite:///{tmp_path}/sessions.db"
    else:
        server = request.getfixturevalue(f"{kind.removeprefix('sqlalchemy-')}_server")
        found = (
            f"sqlalchemy+{own_database(server, 'tokens')}" if kind.startswith("sqlalchemy") else server.url
        )
    tokens = here(found)
    tokens.sessions.setup()
    tokens.sessions.close()
    return found


class Worker:
    """One process."""

    def __init__(self, face: str, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.tokens.workers", face, url],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def begin(self, **order: Any) -> None:
        assert self.process.stdin is not None
        print(json.dumps(order), file=self.process.stdin, flush=True)

    def answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def ask(self, **order: Any) -> Any:
        self.begin(**order)
        return self.answer()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


class Site:
    """An application of several processes over one store; this one issues."""

    def __init__(self, url: str) -> None:
        self.url, self.tokens = url, here(url)
        self.workers = list[Worker]()

    def start(self, *faces: str) -> list[Worker]:
        started = [Worker(face, self.url) for face in faces]
        self.workers += started
        assert [worker.answer() for worker in started] == ["ready"] * len(started)
        return started

    def family(self, token: str) -> Family | None:
        found = run_now(self.tokens.sessions.flows.store.load(token.partition(".")[0], now=self.now()))
        return family_of(found) if isinstance(found, Record) else None

    def now(self) -> float:
        return float(self.tokens.sessions.flows.clock.time())

    def close(self) -> None:
        for worker in self.workers:
            worker.end()
        self.tokens.sessions.close()


@pytest.fixture
def site(url: str) -> Iterator[Site]:
    made = Site(url)
    yield made
    made.close()


def both(workers: list[Worker], **order: Any) -> list[str]:
    for worker in workers:
        worker.begin(**order)
    return [answer for worker in workers for answer in worker.answer()]


def test_a_hundred_parallel_refreshes_two_tabs_and_a_thief(site: Site) -> None:
    """Two processes, one of threads and one of tasks. One test, since a process takes its time to start."""
    workers = site.start("blocking", "awaiting")
    make_one_generation(site, workers)
    two_tabs(site, workers, rounds=10)
    end_the_family_everywhere(site, workers)


def make_one_generation(site: Site, workers: list[Worker]) -> None:
    token = site.tokens.issue("ada").refresh_token
    for generation in (1, 2):
        answers = both(workers, do="refresh", token=token, times=50)
        assert len(answers) == 100
        assert len(set(answers)) == 1
        assert answers[0] != token
        token = answers[0]
        family = site.family(token)
        assert family is not None
        assert family.generation == generation


def two_tabs(site: Site, workers: list[Worker], rounds: int) -> None:
    token = site.tokens.issue("ada").refresh_token
    for _ in range(rounds):
        one, other = both(workers, do="refresh", token=token)
        assert one == other  # the same successor: nobody was logged out
        assert not one.startswith("!")
        token = one
    assert [event for worker in workers for event in worker.ask(do="events")].count("tokens.reused") == 0


def end_the_family_everywhere(site: Site, workers: list[Worker]) -> None:
    user = f"u{secrets.token_hex(4)}"
    pair = site.tokens.issue(user)
    (second,) = workers[0].ask(do="refresh", token=pair.refresh_token)
    events = list[str]()
    later = here(site.url, lambda event: events.append(event.name), ahead=11)  # after the window
    with pytest.raises(InvalidToken, match="reused"):
        later.refresh(pair.refresh_token)
    later.sessions.close()
    assert events == ["tokens.reused"]
    for worker in workers:
        assert worker.ask(do="refresh", token=second) == ["!revoked"]
        assert worker.ask(do="authenticate", token=pair.access_token) == ["!revoked"]
    assert site.tokens.sessions.of(user).list() == []


@pytest.mark.slow
def test_two_tabs_in_two_processes_a_thousand_times(site: Site) -> None:
    two_tabs(site, site.start("blocking", "awaiting"), rounds=1000)


@pytest.mark.parametrize(
    "url",
    [kind if kind in ("sqlite", "redis", "postgres") else pytest.param(kind, marks=pytest.mark.slow) for kind in STORES],
    indirect=True,
)  # fmt: skip
def test_a_process_that_is_killed_forgets_nothing(site: Site) -> None:
    """Between two refreshes, and in the midst of fifty."""
    (worker,) = site.start("awaiting")
    token = site.tokens.issue("eve").refresh_token
    (second,) = worker.ask(do="refresh", token=token)
    worker.begin(do="refresh", token=second, times=50)
    worker.process.send_signal(signal.SIGKILL)
    worker.process.wait()
    site.tokens.sessions.close()
    again = site.tokens = here(site.url)
    third = again.refresh(second).refresh_token
    assert again.refresh(second).refresh_token == third
    family = site.family(token)
    assert family is not None
    assert family.generation == 2  # whoever of the fifty was first, and nobody else
    for old, why in ((token, "reused"), (third, "revoked")):
        with pytest.raises(InvalidToken, match=why):
            again.refresh(old)
