"""`coatcheck migrate`, run as a user runs it."""

import gc
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from coatcheck import SessionManager
from coatcheck.stores.sqlite import SQLiteStore
from coatcheck.tools.cli import main
from servers import Server
from servers.postgres import psql

OTHER_SECRET = "vQ0m6nTzKxw3Jr8LdYbPfE5sGh1UaC9oXiR2tWqNyZk"


def run(*arguments: str, code: int = 0, **given: str) -> Result:
    result = CliRunner().invoke(main, ["migrate", *arguments], env=given)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


@pytest.fixture
def urls(tmp_path: Path) -> list[str]:
    """A file with five sessions, and an empty one."""
    for name, count in (("old", 5), ("new", 0)):
        with SQLiteStore(tmp_path / f"{name}.db") as store:
            begin(store, count)
    return [f"sqlite:///{tmp_path}/{name}.db" for name in ("old", "new")]


def begin(store: SQLiteStore, count: int) -> None:
    sessions = SessionManager(store)
    for number in range(count):
        session = sessions.session()
        session.login(f"u{number}")
        session.save()


def test_a_rehearsal_a_copy_and_a_move(urls: list[str]) -> None:
    assert run(*urls, "--dry-run").output == "5 sessions looked at, 5 would be copied\n"
    copied = run(*urls).output
    assert copied.splitlines()[0] == "5 sessions looked at, 5 copied"
    assert copied.splitlines()[-1].startswith("verified: every session")
    assert "5 were in TO already" in run(*urls).output
    moved = run(*urls, "--move").output
    assert "5 sessions looked at, 5 moved" in moved
    assert run(*urls, "--dual-read").output.splitlines()[1] == "5 were in TO already"


def test_the_urls_may_be_in_the_environment(urls: list[str]) -> None:
    assert "5 copied" in run(COATCHECK_FROM=urls[0], COATCHECK_TO=urls[1]).output


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # below: gc.collect
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["sqlite:///{0}/old.db", "sqlite:///{0}/old.db"], 1, "the same store"),
        (["sqlite:///{0}/nowhere.db", "sqlite:///{0}/new.db"], 1, "there is no file"),
        (["memory:", "sqlite:///{0}/new.db"], 1, "nobody else can see it"),
        (["cookie:?revocation=none", "sqlite:///{0}/new.db"], 1, "with their browsers"),
        (["express+memory:", "sqlite:///{0}/new.db"], 1, "nobody else can see it"),
        (["sqlite:///{0}/old.db", "redis://:sesame@127.0.0.1:1/0"], 3, "***@127.0.0.1"),
        (["express+mongodb://u:sesame@127.0.0.1:1/x", "sqlite:///{0}/new.db", "--move"], 3, "***@127.0.0.1"),
        (["sqlite:///{0}/old.db", "sqlite:///{0}/new.db", "--rate", "nan"], 1, "more than 0"),
        (
            ["sqlite:///{0}/old.db", "sqlite:///{0}/new.db", "--resume", "{0}/no/state"],
            1,
            "cannot be written",
        ),
        (
            ["sqlite:///{0}/old.db", "sqlite:///{0}/new.db", "--from-secret-env", "NO_SUCH"],
            2,
            "no such variable",
        ),
        (["sqlite:///{0}/old.db", "sqlite:///{0}/new.db", "--from-secret-env", "OLD"], 1, "can be read"),
        (["sqlite:///{0}/old.db", "sqlite:///{0}/new.db", "--user-id", "user.id"], 1, "know whose they are"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    urls: list[str], tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    output = run(
        *(word.format(tmp_path) for word in arguments),
        code=code,
        OLD="vQ0m6nTzKxw3Jr8LdYbPfE5sGh1UaC9oXiR2tWqNyZk",
    ).output
    assert words in output
    assert "sesame" not in output
    # pymongo closes no socket whose monitor is cancelled while it connects. Collected here, it fails no later test.
    gc.collect()


def test_a_database_without_tables_is_said(urls: list[str], postgres_server: Server) -> None:
    psql(postgres_server, "CREATE DATABASE bare")
    bare = postgres_server.url.removesuffix("coatcheck") + "bare"
    assert "coatcheck setup" in run(urls[0], bare, code=1).output


def test_a_file_of_another_migration_is_refused(urls: list[str], tmp_path: Path) -> None:
    (tmp_path / "state").write_text('{"job":"other"}')
    assert "another migration" in run(*urls, "--resume", str(tmp_path / "state"), code=1).output
    (tmp_path / "state").write_text("shopping")
    assert "no file of a migration" in run(*urls, "--resume", str(tmp_path / "state"), code=1).output


def test_interrupted_it_says_how_to_go_on(urls: list[str], tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "old.db") as store:
        begin(store, 600)
    command = [
        sys.executable,
        "-m",
        "coatcheck.tools.cli",
        "migrate",
        *urls,
        "--resume",
        str(tmp_path / "state"),
    ]
    process = subprocess.Popen([*command, "--rate", "200"], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    first = process.stderr.readline()
    assert "of 605 sessions looked at" in first
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 130, rest
    assert f"--resume {tmp_path / 'state'}" in rest
    assert "605 sessions looked at, 605 copied" in run(*urls, "--resume", str(tmp_path / "state")).output
