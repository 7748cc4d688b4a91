"""One server of each kind a test run (or each of its workers), started when the first test asks for it."""

import logging
import threading
from collections.abc import Iterator

import pytest

from servers import Server, mariadb, mongo, postgres, redis
from tests.canaries import CANARIES
from tests.stores.sqlalchemy_places import Place, in_mariadb, in_postgres, in_sqlite
from tests.tokens.wycheproof import MISSING, files


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which tests were left out, once: a skipped test would fail the run (conftest.py of the whole). Here, since with several
    workers the one process that talks has not looked into any folder of tests.
    """
    if not files():
        terminalreporter.write_line(MISSING, yellow=True)


@pytest.fixture(scope="session", autouse=True)
def untraced_threads() -> None:
    """Coverage is measured in the main thread alone. While one thread is given a trace function CPython 3.11 lets no other have
    one, and asks the audit hook of the canaries meanwhile, which lets others run: of fifty that began at once one died of it.
    """
    threading.settrace(None)


@pytest.fixture(autouse=True)
def canaries() -> Iterator[None]:
    """Nothing may have gone wrong that the test did not announce; what we log, at DEBUG, is looked at too."""
    root, ours = logging.getLogger(), logging.getLogger("coatcheck")
    level = ours.level
    root.addHandler(CANARIES)
    ours.setLevel(logging.DEBUG)
    CANARIES.reset()
    CANARIES.armed = True
    yield
    CANARIES.armed = False
    root.removeHandler(CANARIES)
    ours.setLevel(level)
    wrong = CANARIES.verdict()
    assert wrong == []


# pytest's own temporary folders, so that what a server wrote is there to look at when a run has failed.


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with mariadb(tmp_path_factory.mktemp("mariadb")) as server:
        yield server


@pytest.fixture(scope="session")
def mongo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with mongo(tmp_path_factory.mktemp("mongo")) as server:
        yield server


# ----------------------------------------------------------------------- the databases that the SQLAlchemy store is tested on


@pytest.fixture(scope="session")
def sqlalchemy_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return in_sqlite(tmp_path_factory.mktemp("sqlalchemy") / "sessions.db").set_up()


@pytest.fixture(scope="session")
def sqlalchemy_postgres(postgres_server: Server) -> Place:
    return in_postgres(postgres_server).set_up()


@pytest.fixture(scope="session")
def sqlalchemy_mariadb(mariadb_server: Server) -> Place:
    place = in_mariadb(mariadb_server)
    place.sql("SET GLOBAL time_zone = '-05:00'")  # no time may pass through the server's own zone
    return place.set_up()


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def place(request: pytest.FixtureRequest) -> Place:
    """Each of the three databases, empty."""
    place: Place = request.getfixturevalue(f"sqlalchemy_{request.param}")
    place.wipe()
    return place
