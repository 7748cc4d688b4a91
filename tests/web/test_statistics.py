"""Promise 3, through a real application, counted by the server: what a request costs in commands."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from pymongo import MongoClient

from coatcheck import SessionManager
from servers import Server
from servers.mariadb import sql
from servers.postgres import psql
from tests.databases import own_database
from tests.web.places import mariadb_url
from tests.web.servers import Browser, uvicorn

Cost = Callable[[Callable[[], object]], object]
"""What a request was to the server."""


class Visits:
    """The requests of one visitor, in this order."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser

    def first_save(self) -> None:
        self._ask("/?count=1")

    def untouched(self) -> None:
        self._ask("/lazy/untouched")

    def untouched_but_loaded(self) -> None:
        """Without `lazy=True`: `request.session` cannot wait, so a session is loaded when a genuine cookie comes."""
        self._ask("/untouched")

    def read(self) -> None:
        self._ask("/")

    def write(self) -> None:
        self._ask("/?count=1")

    def login(self) -> None:
        self._ask("/?login=ada")

    def logout(self) -> None:
        self._ask("/?logout=1")

    def _ask(self, path: str) -> None:
        assert self._browser.visit(path).status == 200


NAMES = ("first_save", "untouched", "untouched_but_loaded", "read", "write", "login", "logout")


def costs(url: str, folder: Path, cost: Cost) -> dict[str, object]:
    """What each kind of request costs, once the server has seen each: scripts loaded, statements prepared."""
    with SessionManager(url) as sessions:
        sessions.setup()
    with uvicorn("tests.web.crowd:starlette", folder=folder, env={"STORE": url, "PATIENT": "yes"}) as server:
        before, visits = Visits(Browser(server)), Visits(Browser(server))
        for name in NAMES:
            getattr(before, name)()
        return {name: cost(getattr(visits, name)) for name in NAMES}


def test_redis(redis_server: Server, tmp_path: Path) -> None:
    """By MONITOR, which tells what clients send from what scripts do; and as many scripts by INFO commandstats."""
    with redis_py.Redis(port=redis_server.port) as client, client.monitor() as monitor:

        def cost(request: Callable[[], object]) -> list[str]:
            client.config_resetstat()
            client.echo("from here on")
            _until(monitor, "from here on")
            request()
            stats: Any = client.info("commandstats")
            client.echo("that was it")
            said = _until(monitor, "that was it")
            sent = [str(one["command"]).split()[0].upper() for one in said if one["client_type"] != "lua"]
            sent = [name for name in sent if name not in ("CONFIG", "INFO", "ECHO")]
            assert sent.count("EVALSHA") == stats.get("cmdstat_evalsha", {"calls": 0})["calls"]
            return sent

        assert costs(f"redis://127.0.0.1:{redis_server.port}/8", tmp_path, cost) == {
            "first_save": ["EVALSHA"],
            "untouched": [],
            "untouched_but_loaded": ["GET"],
            "read": ["GET"],
            "write": ["GET", "EVALSHA"],
            "login": ["GET", "EVALSHA", "EVALSHA", "EVALSHA"],
            "logout": ["GET", "EVALSHA"],
        }


def _until(monitor: Any, mark: str) -> list[dict[str, Any]]:
    said = []
    while mark not in (one := monitor.next_command())["command"]:
        said.append(one)
    return said


@pytest.mark.parametrize("scheme", ["postgresql", "sqlalchemy+postgresql"])
def test_postgres(postgres_server: Server, tmp_path: Path, scheme: str) -> None:
    """By the server's log of statements."""
    database = f"counted_{scheme.partition('+')[0]}"
    url = own_database(postgres_server, database).replace("postgresql", scheme, 1)
    psql(postgres_server, f"ALTER DATABASE {database} SET log_statement = 'all'")

    def cost(request: Callable[[], object]) -> int:
        before = _logged(postgres_server)
        request()
        return _logged(postgres_server) - before

    assert costs(url, tmp_path, cost) == {
        "first_save": 1,
        "untouched": 0,
        "untouched_but_loaded": 1,
        "read": 1,
        "write": 2,
        "login": 2 if scheme == "postgresql" else 6,
        "logout": 2,
    }


def _logged(server: Server) -> int:
    log = server.log
    return log.count("LOG:  execute ") + log.count("LOG:  statement: ")


def test_mongo(mongo_server: Server, tmp_path: Path) -> None:
    """By the operation counters of serverStatus."""
    with MongoClient[dict[str, Any]](mongo_server.url) as client:

        def counters() -> dict[str, int]:
            counted: dict[str, int] = client.admin.command("serverStatus")["opcounters"]
            return counted

        def cost(request: Callable[[], object]) -> dict[str, int]:
            before = counters()
            request()
            after = counters()
            kinds = ("insert", "query", "update", "delete")
            return {kind: after[kind] - before[kind] for kind in kinds if after[kind] != before[kind]}

        assert costs(mongo_server.url.replace("/coatcheck?", "/counted?"), tmp_path, cost) == {
            "first_save": {"insert": 1},
            "untouched": {},
            "untouched_but_loaded": {"query": 1},
            "read": {"query": 1},
            "write": {"query": 1, "update": 1},
            "login": {"query": 1, "update": 2},  # and a findAndModify, which is counted with "command"
            "logout": {"query": 1, "update": 1},
        }


def test_mariadb(mariadb_server: Server, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """By its counter of questions."""

    def questions() -> int:
        return int(sql(mariadb_server, "SHOW GLOBAL STATUS LIKE 'Questions'").split()[1])

    own = -questions() + questions()

    def cost(visit: Callable[[], object]) -> int:
        before = questions()
        visit()
        return questions() - before - own

    assert costs(mariadb_url(request, tmp_path), tmp_path, cost) == {
        "first_save": 1,
        "untouched": 0,
        "untouched_but_loaded": 1,
        "read": 1,
        "write": 2,
        "login": 6,
        "logout": 2,
    }
