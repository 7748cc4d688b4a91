"""What the command line does to a store, run as a user runs it: on an SQLite file, and on a store that fails on demand."""

import json
import logging
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from coatcheck import Clock, ReplyLost, SessionManager, StoreError, StoreUnavailable
from coatcheck.core.ports import Resealed
from coatcheck.stores.encrypted import Encrypted
from coatcheck.stores.sqlite import SQLiteStore
from coatcheck.tools import housekeeping
from coatcheck.tools.cli import main
from servers.running import free_port
from tests.faulty import FaultyServer, faulty

LONG_AGO = 1_700_000_000.0


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COATCHECK_STORE", raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
def url(file: Path) -> str:
    """A file with two sessions of ada's, one of bob's, and one of nobody's."""
    with SessionManager(f"sqlite:///{file}") as sessions:
        for user in ("ada", "ada", "bob", None):
            session = sessions.session()
            session["a"] = 1
            if user:
                session.login(user)
            session.save()
    return f"sqlite:///{file}"


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> tuple[str, FaultyServer]:
    return faulty(monkeypatch)


def run(*arguments: str, code: int = 0, **given: Any) -> Result:
    result = CliRunner().invoke(main, arguments, **given)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def expired(url: str, count: int) -> None:
    """Sessions that are long over, in a file."""
    with SQLiteStore(url.partition(":///")[2]) as store:
        sessions = SessionManager(store, clock=Clock(lambda: LONG_AGO))
        for _ in range(count):
            session = sessions.session()
            session["a"] = 1
            session.save()


# ------------------------------------------------------------------------------------------------------------- the store


@pytest.mark.parametrize("command", ["sweep", "stats"])
def test_the_store_is_an_option_or_a_variable(url: str, command: str) -> None:
    one = run(command, "--store", url).output
    other = run(command, env={"COATCHECK_STORE": url}).output
    assert one.splitlines()[0] == other.splitlines()[0]


def test_for_sweep_it_may_be_an_argument_too_which_is_what_cron_jobs_have(url: str) -> None:
    assert run("sweep", url).output == "0 expired sessions deleted\n"


@pytest.mark.parametrize(
    "command", [["sweep"], ["stats"], ["setup"], ["list", "--user", "ada"], ["show", "x"], ["end", "x"]]
)
def test_without_a_store_the_variable_is_named(command: list[str]) -> None:
    assert "COATCHECK_STORE" in run(*command, code=2).output


@pytest.mark.parametrize(
    "command", [["sweep"], ["stats"], ["list", "--user", "ada"], ["show", "x"], ["end", "x"]]
)
def test_a_mistyped_file_is_not_made(command: list[str], file: Path) -> None:
    output = run(*command, "--store", f"sqlite:///{file}", code=1).output
    assert output.startswith("Error: ")
    assert "there is no file" in output
    assert not file.exists()


def test_the_memory_of_another_process_is_out_of_reach() -> None:
    assert "nobody else can see it" in run("stats", "--store", "memory:", code=1).output


def test_an_unknown_scheme_is_one_line() -> None:
    output = run("stats", "--store", "redys://:sesame@cache", code=1).output
    assert output.startswith("Error: store='redys://:***@cache': no store for this")
    assert output.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [(StoreUnavailable("away"), 3), (ReplyLost("no answer"), 3), (StoreError("no such table"), 1)],
)
@pytest.mark.parametrize(
    "command", [["sweep"], ["stats"], ["list", "--user", "ada"], ["show", "x"], ["end", "x"], ["setup"]]
)
def test_what_goes_wrong_is_one_line_and_an_exit_code(
    command: list[str], error: StoreError, code: int, place: tuple[str, FaultyServer]
) -> None:
    url, server = place
    server.down(error)
    output = run(*command, "--store", url, code=code).output
    assert (output.count("\n"), server.closed) == (1, ["close"])
    assert (
        output == f"Error: {error}\n" or "nor its repetition" in output
    )  # what may have been carried out says more


def test_021_a_password_in_a_drivers_words_is_hidden(place: tuple[str, FaultyServer]) -> None:
    url, server = place
    server.down(StoreUnavailable(f"could not connect\nto {url} with password 'sesame'"))
    output = run("stats", "--store", url, code=3).output
    assert output == "Error: could not connect to faulty://app:***@host/shop with password '***'\n"


def test_the_line_is_not_in_the_log_too(
    place: tuple[str, FaultyServer], capfd: pytest.CaptureFixture[str]
) -> None:
    url, server = place
    server.down(StoreUnavailable("away"))
    run("stats", "--store", url, code=3)
    logging.getLogger("coatcheck").error("store %s lost", url)
    assert capfd.readouterr().err == ""
    logging.getLogger("coatcheck").warning("store %s has no index", "x")
    assert capfd.readouterr().err == "Warning: store x has no index\n"


# -------------------------------------------------------------------------------------------------------------- sweep


def test_sweep_deletes_what_is_over_and_nothing_else(url: str) -> None:
    expired(url, 25)
    assert run("sweep", url).output == "25 expired sessions deleted\n"
    assert run("sweep", url).output == "0 expired sessions deleted\n"
    assert json.loads(run("stats", "--store", url, "--json").output)["sessions"] == 4


def test_sweep_goes_on_in_batches_and_keeps_to_its_limit(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "BATCH", 10)
    expired(url, 25)
    assert (
        run("sweep", url, "--limit", "12").output
        == "12 expired sessions deleted; there may be more (--limit 12)\n"
    )
    assert run("sweep", url).output == "13 expired sessions deleted\n"
    assert run("sweep", url, "--limit", "0", code=2).exit_code == 2


def test_a_long_sweep_says_how_far_it_is(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "BATCH", 10)
    monkeypatch.setattr(housekeeping, "REPORT_EVERY", 0.0)
    expired(url, 25)
    result = run("sweep", url)
    assert result.stdout == "25 expired sessions deleted\n"
    assert result.stderr.splitlines() == [f"{n} expired sessions deleted so far" for n in (10, 20, 25)]


def test_on_a_terminal_the_line_is_written_over(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("click.echo", lambda text, **_: said.append(text))
    progress = housekeeping._Progress("swept")
    progress._is_watched, progress._said_at = True, 0.0
    progress.at(1_000)
    progress.at(2_000)  # too soon to be read
    progress.end()
    assert said == ["\r1,000 swept", "\r\033[K"]


def test_a_sweep_that_breaks_off_has_done_what_it_did(place: tuple[str, FaultyServer]) -> None:
    url, server = place
    server.down(StoreUnavailable("away"), "sweep")
    assert run("sweep", url, code=3).output == "Error: away\n"


# ------------------------------------------------------------------------------------------------------- setup and stats


def test_setup_makes_what_is_missing_and_may_be_run_again(place: tuple[str, FaultyServer]) -> None:
    url, server = place
    server.is_set_up = False
    assert run("stats", "--store", url, code=1).output.startswith("Error: the table is missing")
    for _ in range(2):
        assert run("setup", "--store", url).output == "faulty://app:***@host/shop is set up, and works\n"
    run("stats", "--store", url)


def test_setup_of_a_store_that_needs_none_makes_its_file(file: Path) -> None:
    assert (
        run("setup", "--store", f"sqlite:///{file}").output
        == f"sqlite:///{file} needs no tables, and works\n"
    )
    assert file.exists()


def test_setup_makes_the_table_of_an_express_application(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/node.db"
    for _ in range(2):
        assert run("setup", "--store", f"express+{url}").output == f"express+{url} is set up, and works\n"
    with closing(sqlite3.connect(tmp_path / "node.db")) as file:
        assert file.execute("SELECT count(*) FROM Sessions").fetchone() == (0,)
    away = f"express+redis://ada:secret-word@127.0.0.1:{free_port()}"
    assert "secret-word" not in run("setup", "--store", away, code=3).output
    assert "own process" in run("setup", "--store", "express+memory:", code=1).output


def test_stats_are_for_people_and_for_programs(url: str) -> None:
    lines = run("stats", "--store", url).output.splitlines()
    assert [line.split()[0] for line in lines] == ["store", "sessions", "check"]
    assert lines[1].split()[1] == "4"
    found = json.loads(run("stats", "--store", url, "--json").output)
    assert (found["store"], found["sessions"]) == (url, 4)
    assert found["check_ms"] >= 0


def test_stats_of_a_store_that_does_not_count(
    place: tuple[str, FaultyServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    from coatcheck import ConfigurationError

    def count(self: SessionManager) -> int:
        raise ConfigurationError("this needs a store that counts its sessions")

    monkeypatch.setattr(SessionManager, "count", count)
    assert "does not count" in run("stats", "--store", place[0]).output
    assert json.loads(run("stats", "--store", place[0], "--json").output)["sessions"] is None


# ------------------------------------------------------------------------------------------------------ list, show, end


def handles(url: str, user: str = "ada") -> list[str]:
    return [
        device["handle"]
        for device in json.loads(run("list", "--store", url, "--user", user, "--json").output)
    ]


def test_list_shows_a_users_sessions(url: str) -> None:
    lines = run("list", "--store", url, "--user", "ada").output.splitlines()
    assert [line.split()[0] for line in lines] == handles(url)
    assert len(lines) == 2
    assert run("list", "--store", url, "--user", "eve").output == "eve has no sessions\n"
    assert run("list", "--store", url, "--user", "eve", "--json").output == "[]\n"


def test_show_is_one_session_without_what_is_in_it(url: str) -> None:
    handle = handles(url)[0]
    lines = dict(
        line.split(maxsplit=1)
        for line in run("show", "--store", url, handle).output.splitlines()
        if " " in line
    )
    assert (lines["handle"], lines["user_id"], lines["method"]) == (handle, "ada", "pwd")
    assert json.loads(run("show", "--store", url, handle, "--json").output)["handle"] == handle
    assert "no session nobody" in run("show", "--store", url, "nobody", code=1).output


def test_end_is_by_handle_or_by_user(url: str) -> None:
    handle = handles(url)[0]
    assert run("end", "--store", url, handle).output == f"{handle} ended\n"
    assert "there is no session" in run("end", "--store", url, handle, code=1).output
    assert len(handles(url)) == 1
    assert run("end", "--store", url, "--user", "ada", "--yes").output == "1 sessions of ada ended\n"
    assert handles(url) == []
    assert len(handles(url, "bob")) == 1


def test_end_asks_before_it_ends_them_all(url: str) -> None:
    assert "Aborted" in run("end", "--store", url, "--user", "ada", input="n\n", code=1).output
    assert len(handles(url)) == 2
    run("end", "--store", url, "--user", "ada", input="y\n")
    assert handles(url) == []


@pytest.mark.parametrize("arguments", [[], ["x", "--user", "ada"]])
def test_end_wants_one_of_the_two(url: str, arguments: list[str]) -> None:
    assert "either a handle or --user" in run("end", "--store", url, *arguments, code=2).output


def test_203_what_a_browser_says_of_itself_moves_no_cursor(url: str) -> None:
    with SessionManager(url) as sessions:
        session = sessions.session()
        session._client = lambda: ("", "\x1b[2J evil\n")  # type: ignore[method-assign]  # as a request would say it
        session.login("eve")
        session.save()
    for command in (["list", "--user", "eve"], ["show", session.handle]):
        output = run(*command, "--store", url).output
        assert "\x1b" not in output
        assert r"\x1b[2J evil\n" in output


# --------------------------------------------------------------------------------------------------------- for real


@pytest.fixture
def command() -> list[str]:
    return [sys.executable, "-m", "coatcheck.tools.cli"]


def test_as_cron_runs_it(url: str, command: list[str], file: Path) -> None:
    expired(url, 3)
    swept = subprocess.run([*command, "sweep", url], capture_output=True, text=True)
    assert (swept.returncode, swept.stdout, swept.stderr) == (0, "3 expired sessions deleted\n", "")
    file.write_bytes(b"not a database, but long enough to be looked at" * 100)
    failed = subprocess.run([*command, "sweep", url], capture_output=True, text=True)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("Error: ")
    assert failed.stderr.count("\n") == 1


# ------------------------------------------------------------------------------------------------------------ resealing

NEW, OLD = "xW4m9qTbR7vKz2LhYc6NfJ8sPd3GgU5aEoXi1tVnCy0", "bQ8rJ2kZs6VfT1pMxH9wDy4LcN7gEo5UaKi3XtRvWn0"
SECRETS = {"NEW": NEW, "OLD": OLD}
BOTH = ("--secret-env", "NEW", "--secret-env", "OLD")


@pytest.fixture
def sealed(file: Path) -> str:
    """A file with five sessions under OLD."""
    with SQLiteStore(file) as store:
        sessions = SessionManager(Encrypted(store, secret=OLD))
        for _ in range(5):
            session = sessions.session()
            session["a"] = 1
            session.save()
    return f"sqlite:///{file}"


def opens(url: str, secret: str) -> Resealed:
    """What is left to be sealed with one secret."""
    with SQLiteStore(url.partition(":///")[2]) as store:
        return SessionManager(Encrypted(store, secret=secret)).reseal()


def test_reseal_seals_all_with_the_newest_secret(sealed: str) -> None:
    assert (
        run("reseal", "--store", sealed, *BOTH, env=SECRETS).output == "5 sessions looked at, 5 sealed anew\n"
    )
    assert opens(sealed, NEW) == Resealed(5, 0, 0, None)
    assert (
        run("reseal", "--store", sealed, *BOTH, env=SECRETS).output == "5 sessions looked at, 0 sealed anew\n"
    )


def test_reseal_says_what_it_could_not_read(sealed: str, url: str) -> None:
    assert sealed == url  # four of the nine were never sealed
    output = run("reseal", "--store", url, *BOTH, env=SECRETS, code=1).output
    assert "9 sessions looked at, 5 sealed anew\nError: 4 could not be read" in output
    assert "--allow-plaintext" in output
    output = run("reseal", "--store", url, *BOTH, "--allow-plaintext", env=SECRETS).output
    assert output == "9 sessions looked at, 4 sealed anew\n"
    wrong = run("reseal", "--store", url, "--secret-env", "OLD", env=SECRETS, code=1).output
    assert "9 could not be read: they were sealed with none of these secrets" in wrong


def test_an_interrupted_reseal_says_where_to_go_on(sealed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reseal, steps = SessionManager.reseal, iter([True, True, False])

    def sometimes(self: SessionManager, cursor: object = None, *, limit: int = 1000) -> Resealed:
        if not next(steps):
            raise StoreUnavailable("away")
        return reseal(self, cursor, limit=limit)

    monkeypatch.setattr(housekeeping, "BATCH", 2)
    monkeypatch.setattr(SessionManager, "reseal", sometimes)
    said = run("reseal", "--store", sealed, *BOTH, env=SECRETS, code=3).output
    assert "stopped after 4; to go on: --after " in said
    assert said.endswith("Error: away\n")
    (after,) = shlex.split(said.partition("--after ")[2].splitlines()[0])
    monkeypatch.setattr(SessionManager, "reseal", reseal)
    rest = run("reseal", "--store", sealed, *BOTH, "--after", after, env=SECRETS).output
    assert rest == "1 sessions looked at, 1 sealed anew\n"
    assert opens(sealed, NEW) == Resealed(5, 0, 0, None)


def test_a_long_reseal_says_how_far_it_is(sealed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "BATCH", 2)
    monkeypatch.setattr(housekeeping, "REPORT_EVERY", 0.0)
    output = run("reseal", "--store", sealed, *BOTH, env=SECRETS).output
    assert output.splitlines()[:2] == ["2 sessions looked at so far", "4 sessions looked at so far"]


def test_reseal_without_its_secrets_says_what_to_give(sealed: str) -> None:
    assert "--secret-env" in run("reseal", "--store", sealed, code=2).output
    assert "no such variable" in run("reseal", "--store", sealed, "--secret-env", "NEWER", code=2).output
    weak = run("reseal", "--store", sealed, "--secret-env", "NEW", env={"NEW": "weak-secret"}, code=1).output
    assert weak.startswith("Error: ")
    assert "weak-secret" not in weak
    wrong = run("reseal", "--store", sealed, *BOTH, "--after", "{", env=SECRETS, code=2).output
    assert "give what the interrupted one printed" in wrong
