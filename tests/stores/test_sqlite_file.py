"""The SQLite file: made private and once, recognised, and refused with the setting and the fix where it cannot be used."""

import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from coatcheck.core.stepping import run_now
from coatcheck.errors import ConfigurationError, StoreError, StoreUnavailable
from coatcheck.stores import open_store
from coatcheck.stores.sqlite import SQLiteStore
from tests.stores.sqlite_workers import NOW, record

ROOT = Path(__file__).parents[2]
WORKER = [sys.executable, "-m", "tests.stores.sqlite_workers"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


def refused(path: object, *words: str, **options: object) -> None:
    with pytest.raises(ConfigurationError) as caught:
        SQLiteStore(path, **options)  # type: ignore[arg-type]  # that is the point
    for word in words:
        assert word in str(caught.value)


def foreign(path: Path, *statements: str) -> bytes:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)
    return path.read_bytes()


def test_127_the_file_and_its_companions_are_private(path: Path) -> None:
    before = os.umask(0)
    try:
        with SQLiteStore(path) as backend:
            run_now(backend.blocking().create(record(), now=NOW))
            files = sorted(path.parent.iterdir())
            assert [file.name for file in files] == ["sessions.db", "sessions.db-shm", "sessions.db-wal"]
            assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    finally:
        os.umask(before)


def test_a_store_that_was_closed_leaves_one_file(path: Path) -> None:
    with SQLiteStore(path) as backend:
        run_now(backend.blocking().create(record(), now=NOW))
    assert [file.name for file in path.parent.iterdir()] == ["sessions.db"]


def test_a_copy_that_vacuum_made_is_put_into_wal_mode(path: Path) -> None:
    kept = record()
    with SQLiteStore(path) as backend:
        run_now(backend.blocking().create(kept, now=NOW))
    copy = path.with_name("copy.db")
    with closing(sqlite3.connect(path)) as db:
        db.execute("VACUUM INTO ?", (str(copy),))
    with SQLiteStore(copy) as backend, closing(sqlite3.connect(copy)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert run_now(backend.blocking().load(kept.key, now=NOW)) == kept


def test_a_file_that_is_just_being_written_can_be_opened(path: Path) -> None:
    with SQLiteStore(path), closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        SQLiteStore(path).close()
        assert time.monotonic() - began < 5.0
        writer.execute("ROLLBACK")


def test_a_relative_path_stays_where_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    with SQLiteStore.from_url("sqlite:///sessions.db") as backend:
        monkeypatch.chdir("/")
        run_now(backend.blocking().create(record(), now=NOW))
    assert path.exists()


def test_an_absolute_url_has_four_slashes(path: Path) -> None:
    backend = open_store(f"sqlite:///{path}".replace(".db", "%20x.db"))
    assert isinstance(backend, SQLiteStore)
    with backend:
        assert path.with_name("sessions x.db").exists()


@pytest.mark.parametrize(
    "url", ["sqlite://host/a.db", "sqlite:a.db", "sqlite:///a.db?timeout=5", "sqlite:///a.db#x", "sqlite://", "other:///a.db"]
)  # fmt: skip
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"sqlite:///|SQLiteStore"):
        SQLiteStore.from_url(url)


@pytest.mark.parametrize("url", ["sqlite:///:memory:", "sqlite:///"])
def test_memory_is_refused_with_a_hint(url: str) -> None:
    with pytest.raises(ConfigurationError, match="'memory:'"):
        SQLiteStore.from_url(url)


def test_wrong_options_are_refused(path: Path) -> None:
    refused(path, "synchronous='off'", '"normal" or "full"', synchronous="off")
    for wrong in (-1, float("nan"), 5_000, "5", True):
        refused(path, "busy_timeout=", "seconds", busy_timeout=wrong)
    assert not path.exists()


def test_a_missing_directory_is_named(path: Path) -> None:
    refused(path / "missing" / "sessions.db", f"directory {path / 'missing'}", "create it")


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    refused(tmp_path, "is a directory")


def test_a_file_that_is_not_sqlites_is_left_alone(path: Path) -> None:
    path.write_bytes(b"Dear diary, " * 100)
    refused(path, str(path), "not an SQLite database")
    assert path.read_bytes() == b"Dear diary, " * 100


def test_another_applications_file_is_left_alone(path: Path) -> None:
    before = foreign(path, "CREATE TABLE users (id)", "INSERT INTO users VALUES (1)")
    refused(path, str(path), "another application", "path of its own")
    assert path.read_bytes() == before


def test_a_file_with_another_applications_mark_is_left_alone(path: Path) -> None:
    before = foreign(path, "PRAGMA application_id = 7", "PRAGMA user_version = 1")
    refused(path, "another application")
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused(path: Path) -> None:
    SQLiteStore(path).close()
    foreign(path, "PRAGMA user_version = 2")
    refused(path, "newer coatcheck", "schema 2", "upgrade")


def test_an_empty_database_is_taken(path: Path) -> None:
    foreign(path, "PRAGMA journal_mode = WAL")
    with SQLiteStore(path) as backend:
        run_now(backend.blocking().check())


def test_the_file_says_whose_it_is(path: Path) -> None:
    SQLiteStore(path).close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA application_id").fetchone()[0].to_bytes(4, "big") == b"coat"
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A directory that another user may read: pytest's own are private."""
    with tempfile.TemporaryDirectory(prefix="coatcheck-") as name:
        Path(name).chmod(0o755)
        yield Path(name) / "sessions.db"


def as_nobody(path: Path) -> str:
    """What a user without rights is told: root may do anything."""
    done = subprocess.run([*WORKER, "construct_as_nobody", path], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_file_that_may_not_be_written_is_refused(open_to_all: Path) -> None:
    SQLiteStore(open_to_all).close()
    open_to_all.chmod(0o444)
    assert f"{open_to_all} may not be read and written; give the server's user the right" in as_nobody(
        open_to_all
    )


def test_a_directory_that_may_not_be_written_is_refused(open_to_all: Path) -> None:
    SQLiteStore(open_to_all).close()
    open_to_all.chmod(0o666)
    open_to_all.parent.chmod(0o555)
    assert f"SQLite keeps its log beside {open_to_all}" in as_nobody(open_to_all)


def test_a_file_that_cannot_be_created_is_refused(open_to_all: Path) -> None:
    open_to_all.parent.chmod(0o555)
    assert f"{open_to_all} cannot be created (Permission denied); give" in as_nobody(open_to_all)


def test_a_directory_that_may_not_be_entered_is_refused(open_to_all: Path) -> None:
    (within := open_to_all.parent / "within").mkdir(mode=0)
    answer = as_nobody(within / "deeper" / "sessions.db")
    assert f"the directory {within / 'deeper'}" in answer
    assert "may not be entered" in answer


def test_eight_processes_may_make_it_at_once(path: Path) -> None:
    at = str(time.monotonic() + 1.5)
    processes = [subprocess.Popen([*WORKER, "construct", path, at], cwd=ROOT) for _ in range(8)]
    assert [process.wait(timeout=60) for process in processes] == [0] * 8
    with SQLiteStore(path) as backend:
        assert run_now(backend.blocking().count(now=NOW)) == 8


def test_a_file_that_went_away_is_unavailable(path: Path) -> None:
    with SQLiteStore(path) as backend:
        path.rename(path.with_suffix(".old"))
        with pytest.raises(StoreUnavailable, match="moved"):
            run_now(backend.blocking().load("key", now=NOW))


def test_a_damaged_file_is_a_store_error(path: Path) -> None:
    with SQLiteStore(path) as backend:
        for _ in range(100):
            run_now(backend.blocking().create(record(), now=NOW))
    damaged = bytearray(path.read_bytes())
    damaged[2_048:] = b"\xa5" * (len(damaged) - 2_048)
    path.write_bytes(damaged)
    with SQLiteStore(path) as backend, pytest.raises(StoreError, match="damaged") as caught:
        run_now(backend.blocking().load("key", now=NOW))
    assert isinstance(caught.value.__cause__, sqlite3.DatabaseError)
    assert not isinstance(caught.value, StoreUnavailable)


@pytest.mark.slow  # it takes no time, but a mount of its own, as the other tests of a full disk do (tests/faults)
@pytest.mark.parametrize("room", ["8k", "16k", "24k"])
def test_a_full_disk_is_said_to_be_full_at_the_start_too(tmp_path: Path, room: str) -> None:
    """There is no room for the tables, or none for the memory that processes share: another error of SQLite's."""
    setup = ["coatcheck.tools.cli", "setup", "--store", f"sqlite:///{tmp_path}/sessions.db"]
    command = [sys.executable, "-m", "tests.faults.room", str(tmp_path), room, *setup]
    said = subprocess.run(command, capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (3, "")
    assert said.stderr.startswith("Error: SQLite: the disk is full; make room (")
