"""The SQLite store: the contract in both modes; expiry, sweeping and fences in this store's own way; hostile rows."""

import asyncio
import pickle
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from coatcheck.core.ids import RandomIds
from coatcheck.core.ports import FENCED, SAVED, ByUser, Checks, Counts, Sweeps, Terms, Watches
from coatcheck.core.record import Ended, Expired, Login, Record
from coatcheck.core.stepping import run_now
from coatcheck.errors import CorruptRecord, StoreError, UsageError
from coatcheck.stores import _sqlite_jobs as jobs
from coatcheck.stores.sqlite import TEND_EVERY, TEND_FIRST, SQLiteStore
from coatcheck.testing.contract import Sentence, StoreContract
from tests.stores.sqlite_workers import NOW, after, record

IDS = RandomIds()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
def backend(path: Path) -> Iterator[SQLiteStore]:
    with SQLiteStore(path) as backend:
        yield backend


def login(user_id: str = "ada", **fields: Any) -> Record:
    values = {"user_id": user_id, "authenticated_at": NOW, "login": Login(), "epoch": 1}
    return msgspec.structs.replace(record(), **(values | fields))


def sql(path: Path, statement: str, *values: object) -> list[Any]:
    """Do something behind the store's back."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as db:
        return db.execute(statement, values).fetchall()


@pytest.mark.parametrize("sentence", StoreContract.sentences(without=[Watches]), ids=lambda s: s.__name__)
def test_contract(sentence: Sentence, path: Path) -> None:
    StoreContract(lambda: SQLiteStore(path)).run(sentence)


@pytest.mark.parametrize(
    "sentence", StoreContract.sentences(modes=["awaiting"], without=[Watches]), ids=lambda s: s.__name__
)
def test_contract_where_every_write_goes_through_the_writer_thread(sentence: Sentence, path: Path) -> None:
    StoreContract(lambda: SQLiteStore(path, synchronous="full")).run(sentence)


@pytest.mark.parametrize("ability", [ByUser, Sweeps, Counts, Checks])
def test_has_every_ability(backend: SQLiteStore, ability: type) -> None:
    assert isinstance(backend.blocking(), ability)
    assert isinstance(backend.awaiting(), ability)


def test_both_faces_share_the_sessions(backend: SQLiteStore) -> None:
    there = record()
    assert run_now(backend.blocking().create(there, now=NOW)) is SAVED
    assert asyncio.run(backend.awaiting().load(there.key, now=NOW)) == there


def test_sessions_survive_a_restart(path: Path) -> None:
    there = login()
    with SQLiteStore(path) as backend:
        run_now(backend.blocking().create(there, now=NOW))
    with SQLiteStore(path) as backend:
        assert run_now(backend.blocking().load(there.key, now=NOW)) == there


def test_a_closed_store_says_so(path: Path) -> None:
    backend = SQLiteStore(path)
    store = backend.blocking()
    backend.close()
    backend.close()
    with pytest.raises(UsageError, match="closed"):
        run_now(store.load("key", now=NOW))


def test_check_writes(backend: SQLiteStore, path: Path) -> None:
    store = backend.blocking()
    run_now(store.check())
    before = path.with_name("sessions.db-wal").stat().st_size
    run_now(store.check())
    assert path.with_name("sessions.db-wal").stat().st_size > before


def test_repr_shows_the_path(backend: SQLiteStore, path: Path) -> None:
    assert repr(backend) == f"<SQLiteStore {path}>"


# ----------------------------------------------------------------------------------------------------------- sweeping


def test_what_was_kept_alive_is_not_swept_until_it_is_over(backend: SQLiteStore) -> None:
    store, there = backend.blocking(), record()
    run_now(store.create(there, now=NOW))
    later = there.deadline + 50
    assert run_now(store.touch(there.key, deadline=later, seen_at=NOW, expected=there.version, now=NOW))
    assert run_now(store.sweep(now=there.deadline)) == 0
    assert run_now(store.count(now=there.deadline)) == 1
    assert isinstance(run_now(store.load(there.key, now=there.deadline)), Record)
    assert run_now(store.sweep(now=later)) == 1


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("session (key, version, due, deadline, seen_at, ends_at)", ("k", "v", NOW, NOW, 1.0, NOW)),
        ("session (key, version, deadline, seen_at, ends_at, ended_at)", ("k", "v", 0.0, 0.0, 0.0, NOW - 61)),
        ("fence (user_id, fence)", ("ada", -1e9)),
        ("fence (user_id, fence)", ("ada", 1e12)),
        ("tally (key, count, until)", ("k", 1, NOW)),
    ],
    ids=["expired", "ended", "old fence", "fence from before a reboot", "counter"],
)
def test_whatever_is_due_is_swept_though_nothing_else_is(
    backend: SQLiteStore, path: Path, table: str, row: tuple[Any, ...]
) -> None:
    sql(path, f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", *row)
    run_now(backend.blocking().sweep(now=NOW))
    assert sql(path, f"SELECT count(*) FROM {table.split()[0]}") == [(0,)]


def test_a_sweep_that_finds_nothing_takes_no_write_lock(path: Path) -> None:
    with SQLiteStore(path, busy_timeout=0) as backend, closing(sqlite3.connect(path)) as other:
        store = backend.blocking()
        run_now(store.create(login(), now=NOW))
        other.execute("BEGIN IMMEDIATE")
        assert run_now(store.sweep(now=NOW)) == 0


def test_the_look_for_what_is_due_walks_through_no_table(backend: SQLiteStore, path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        values = dict.fromkeys(("now", "ended", "old", "ahead"), NOW)
        plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {jobs.ANY_DUE}", values)]
    assert any("SEARCH" in step for step in plan)
    assert not [step for step in plan if step.startswith("SCAN") and "CONSTANT ROW" not in step]


def test_count_counts_what_was_kept_alive_since(backend: SQLiteStore) -> None:
    store, there = backend.blocking(), record()
    run_now(store.create(there, now=NOW))
    run_now(store.create(record(), now=NOW))
    longer = msgspec.structs.replace(after(there, b"1"), deadline=there.deadline + 50)
    assert run_now(store.replace(longer, expected=there.version, now=NOW)) is SAVED
    assert [run_now(store.count(now=NOW + s)) for s in (3_599, 3_600, 3_649, 3_650)] == [2, 1, 1, 0]


@pytest.mark.parametrize("face", ["blocking", "awaiting"])
def test_the_expired_are_swept_along_with_the_writes(path: Path, face: str) -> None:
    async def work(backend: SQLiteStore) -> None:
        store = backend.blocking() if face == "blocking" else backend.awaiting()
        for _ in range(TEND_FIRST - 10):
            await store.create(msgspec.structs.replace(record(), deadline=NOW + 1), now=NOW)
        there = record()
        await store.create(there, now=NOW)
        for _ in range(TEND_EVERY):
            await store.touch(there.key, deadline=NOW + 9, seen_at=NOW, expected=there.version, now=NOW + 2)

    with SQLiteStore(path) as backend:
        asyncio.run(work(backend))
    assert sql(path, "SELECT count(*) FROM session") == [(1,)]


def test_the_log_does_not_grow_without_bound(path: Path) -> None:
    log = path.with_name("sessions.db-wal")

    async def sizes(backend: SQLiteStore) -> AsyncIterator[int]:
        store, current = backend.awaiting(), record()
        await store.create(current, now=NOW)
        while True:
            for n in range(1_000):
                new = after(current, b"%d" % n)
                assert await store.replace(new, expected=current.version, now=NOW) is SAVED
                current = new
            yield log.stat().st_size

    async def work(backend: SQLiteStore) -> None:
        # A thread moves the log into the file and begins it anew, when it gets its turn: then the next thousand writes
        # go over what was written, and the file of the log stays as long as it is.
        before, turns = 0, 0
        async for size in sizes(backend):
            turns += 1
            if size == before:
                return
            assert turns < 200, f"{size} octets after {turns} thousand writes of 2 kB"
            before = size

    with SQLiteStore(path) as backend:
        asyncio.run(work(backend))


# ------------------------------------------------------------------------------------------------------------- fences


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_a_fence_from_before_a_reboot_is_ignored_and_swept(path: Path) -> None:
    with SQLiteStore(path, monotonic=Clock(5_000.0)) as backend:
        assert run_now(backend.blocking().end_user("ada", keep=None, now=NOW, token="t")).fence == 5_000.0
    with SQLiteStore(path, monotonic=Clock(20.0)) as backend:
        store = backend.blocking()
        admitted = store.admit(login("ada"), expected=None, terms=Terms(stopwatch=lambda: 5.0), now=NOW)
        assert run_now(admitted) is SAVED
        run_now(store.sweep(now=NOW))
        assert sql(path, "SELECT * FROM fence") == []


def test_a_fence_is_kept_for_a_day(path: Path) -> None:
    clock = Clock(5_000.0)
    with SQLiteStore(path, monotonic=clock) as backend:
        store = backend.blocking()
        run_now(store.end_user("ada", keep=None, now=NOW, token="t"))
        clock.now += 86_399
        run_now(store.sweep(now=NOW))
        assert sql(path, "SELECT user_id, fence FROM fence") == [("ada", 5_000.0)]
        clock.now += 2
        run_now(store.sweep(now=NOW))
        assert sql(path, "SELECT * FROM fence") == []


def test_fences_increase_though_the_clock_stands_still(path: Path) -> None:
    with SQLiteStore(path, monotonic=Clock(5_000.0)) as backend:
        store = backend.blocking()
        first, second = (run_now(store.end_user("ada", keep=None, now=NOW, token="t")).fence for _ in "12")
        assert second > first
        terms = Terms(own_fence=first)
        assert run_now(store.admit(login("ada"), expected=None, terms=terms, now=NOW)) is FENCED


def test_what_a_login_waits_for_the_file_does_not_make_it_younger(path: Path) -> None:
    async def work(clock: Clock, backend: SQLiteStore, other: sqlite3.Connection) -> object:
        other.execute("BEGIN IMMEDIATE")
        admitted = backend.awaiting().admit(login("ada"), expected=None, terms=Terms(), now=NOW)
        waiting = asyncio.ensure_future(admitted)
        await asyncio.sleep(0)
        clock.now = 200.0
        other.execute("INSERT INTO fence VALUES ('ada', 150.0)")
        other.execute("COMMIT")
        return await waiting

    clock = Clock(100.0)
    other = sqlite3.connect(path, isolation_level=None)
    with SQLiteStore(path, monotonic=clock) as backend, closing(other):
        assert asyncio.run(work(clock, backend, other)) is FENCED


def test_a_cursor_of_somebody_elses_is_refused(backend: SQLiteStore) -> None:
    with pytest.raises(UsageError, match="cursor"):
        run_now(backend.blocking().of_user("ada", now=NOW, cursor="garbage"))


# ------------------------------------------------------------------------------------- hostile rows (checklist 68, 111)

PICKLE = pickle.dumps(print)
DEEP = b"\x91" * 100_000


def packed(**changes: Any) -> bytes:
    """A packed column that is sound but for `changes`."""
    fields: dict[str, Any] = dict(
        format=1, versions=("v",), verifier=bytes(32), data=b"0", created_at=NOW, epoch=0, rotated_at=None,
        authenticated_at=None, login=None, renewal=None, lifetime=None,
        era=0, pending=None,
    )  # fmt: skip
    return msgspec.msgpack.encode(list((fields | changes).values()))


TIMES = ["soon", "", b"\x00", float("inf"), 2.0**63, 1.7e12]
HOSTILE = [
    *[("deadline", value) for value in TIMES],
    *[("ends_at", value) for value in (*TIMES, NOW)],
    *[("seen_at", value) for value in ("soon", b"\x00", float("inf"), float("-inf"))],
    *[("version", value) for value in ("other", b"v", "")],
    *[("user_id", value) for value in (b"ada", b"")],
    *[("ended_at", value) for value in ("soon", b"\x00", float("inf"), 2.0**63)],
    *[("packed", value) for value in (None, b"", "text", 7, PICKLE, DEEP, b"\xc0", packed()[:-1], b"null", b"{}")],
    ("packed", packed(versions=())),
    ("packed", packed(versions="v")),
    ("packed", packed(versions=(1,))),
    ("packed", packed(verifier="text")),
    ("packed", packed(data=[1])),
    ("packed", packed(epoch="1")),
    ("packed", packed(format=None)),
    ("packed", packed(login={"method": 1})),
    ("packed", packed(login=[])),
    *[("packed", packed(created_at=value)) for value in (float("nan"), float("inf"), "soon", None, True)],
    *[("packed", packed(rotated_at=value)) for value in (float("nan"), float("-inf"), "soon", False)],
    *[("packed", packed(authenticated_at=value)) for value in (float("nan"), float("inf"), b"x")],
    ("packed", packed(renewal={"previous": b"", "nonce": "", "at": float("nan")})),
    ("packed", packed(renewal={"previous": b"", "nonce": "", "at": 1.0, "seen_at": float("inf")})),
    ("packed", packed(lifetime={"idle": float("nan"), "persistent": True})),
    ("packed", packed(lifetime={"idle": None, "persistent": 1})),
]  # fmt: skip


def hostile(backend: SQLiteStore, path: Path) -> str:
    there = msgspec.structs.replace(login(), versions=("v",), authenticated_at=NOW)
    run_now(backend.blocking().create(there, now=NOW))
    return there.key


@pytest.mark.parametrize(("column", "value"), HOSTILE)
def test_68_111_what_is_no_record_is_corrupt(
    backend: SQLiteStore, path: Path, column: str, value: object
) -> None:
    key = hostile(backend, path)
    sql(path, f"UPDATE session SET {column} = ?", value)
    with pytest.raises(CorruptRecord, match=key):
        run_now(backend.blocking().load(key, now=NOW))


def test_68_the_row_that_hostile_ones_are_made_from_is_sound(backend: SQLiteStore, path: Path) -> None:
    key = hostile(backend, path)
    sql(path, "UPDATE session SET packed = ?", packed())
    assert isinstance(run_now(backend.blocking().load(key, now=NOW)), Record)


@pytest.mark.parametrize("value", [0, -1, True, float("-inf"), -(2**63)])
def test_68_a_time_long_past_has_expired(backend: SQLiteStore, path: Path, value: object) -> None:
    key = hostile(backend, path)
    sql(path, "UPDATE session SET deadline = ?", value)
    assert isinstance(run_now(backend.blocking().load(key, now=NOW)), Expired | None)


@pytest.mark.parametrize("column", ["version", "user_id", "packed", "deadline", "ended_at"])
def test_68_a_text_that_is_not_utf_8_is_corrupt(backend: SQLiteStore, path: Path, column: str) -> None:
    key = hostile(backend, path)
    sql(path, f"UPDATE session SET {column} = CAST(x'ff' AS TEXT)")
    with pytest.raises(CorruptRecord):
        run_now(backend.blocking().load(key, now=NOW))


@pytest.mark.parametrize(
    ("column", "value"), [pair for pair in HOSTILE if pair[0] not in ("user_id", "ended_at")]
)
def test_a_corrupt_row_can_be_ended_and_does_not_spoil_the_list(
    backend: SQLiteStore, path: Path, column: str, value: object
) -> None:
    store, key = backend.blocking(), hostile(backend, path)
    sql(path, f"UPDATE session SET {column} = ?", value)
    sound = login()
    run_now(store.create(sound, now=NOW))
    assert run_now(store.of_user("ada", now=NOW)).records == [sound]
    assert run_now(store.end_one("ada", key, now=NOW, token="t"))
    assert run_now(store.load(key, now=NOW)) == Ended(key, "t", NOW)


def test_a_newer_releases_row_is_read(backend: SQLiteStore, path: Path) -> None:
    key = hostile(backend, path)
    newer = msgspec.msgpack.encode([*msgspec.msgpack.decode(packed(format=9)), {"something": "new"}])
    sql(path, "UPDATE session SET packed = ?", newer)
    there = run_now(backend.blocking().load(key, now=NOW))
    assert isinstance(there, Record)
    assert there.format == 9


@pytest.mark.parametrize(
    "bad", [{"key": "\ud800"}, {"user_id": "\ud800"}, {"deadline": float("nan")}, {"user_id": 2**70}]
)
def test_a_value_that_sqlite_cannot_keep_is_a_store_error(backend: SQLiteStore, bad: dict[str, Any]) -> None:
    with pytest.raises(StoreError) as caught:
        run_now(backend.blocking().create(msgspec.structs.replace(record(), **bad), now=NOW))
    assert caught.value.__cause__ is not None
    assert run_now(backend.blocking().count(now=NOW)) == 0


def test_no_statement_numbers_its_parameters() -> None:
    """Python 3.12 deprecates `?1` with a sequence, 3.14 refuses it (sqlite3, "placeholders")."""
    statements = [text for text in vars(jobs).values() if isinstance(text, str)]
    assert [text for text in statements if re.search(r"\?\d", text)] == []
