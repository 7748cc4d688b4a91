"""The SQLite store's clients: a busy file, group commit, cancelled waiters, several loops, a full disk."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from bench.stall import busy, coatcheck_sqlite, quantile, stalls
from coatcheck.core.ports import SAVED
from coatcheck.core.record import Record
from coatcheck.core.stepping import run_now
from coatcheck.errors import CorruptRecord, StoreError, StoreUnavailable, UsageError, WrongFace
from coatcheck.stores._sqlite_client import Awaiting, Blocking
from coatcheck.stores._sqlite_pool import Pool, atomically
from coatcheck.stores.sqlite import SQLiteStore
from tests.stores.sqlite_workers import NOW, record

T = TypeVar("T")
Cursor = sqlite3.Cursor


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "sessions.db"
    SQLiteStore(path).close()
    return path


@pytest.fixture
def holder(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program's connection, which has the file locked."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as db:
        db.execute("CREATE TABLE note (text TEXT NOT NULL UNIQUE)")
        db.execute("BEGIN IMMEDIATE")
        yield db


def awaiting(path: Path, **options: Any) -> Awaiting:
    options = {"busy_timeout": 30.0} | options
    return Awaiting(Pool(str(path)), Pool(str(path), **options))


def note(cursor: Cursor, text: str | None) -> bool:
    """Write something. Answers whether that was in a group."""
    grouped = cursor.connection.in_transaction
    cursor.execute("INSERT INTO note VALUES (?)", (text,))
    return grouped


def nothing(cursor: Cursor) -> None:
    pass


def notes(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        return [text for (text,) in db.execute("SELECT text FROM note ORDER BY rowid")]


def within(path: Path, work: Callable[[Awaiting], Any], **options: Any) -> Any:
    """Run a coroutine function with an awaiting client, in a loop of its own."""

    async def run() -> Any:
        client = awaiting(path, **options)
        try:
            return await work(client)
        finally:
            client.close()

    return asyncio.run(run())


# ---------------------------------------------------------------------------------------------------------- busy files


def test_a_free_file_is_written_inline(path: Path, holder: sqlite3.Connection) -> None:
    holder.execute("COMMIT")

    async def work(client: Awaiting) -> None:
        thread = threading.get_ident()
        assert await client.write(lambda cursor: threading.get_ident()) == thread
        assert await client.read(lambda cursor: threading.get_ident()) == thread
        assert await client.aside(lambda cursor: threading.get_ident()) != thread

    within(path, work)


def test_a_free_file_never_suspends(path: Path) -> None:
    with SQLiteStore(path) as backend:
        there = record()
        assert run_now(backend.awaiting().create(there, now=NOW)) is SAVED
        assert run_now(backend.awaiting().load(there.key, now=NOW)) == there


def test_a_busy_file_is_waited_for_off_the_loop_and_read_meanwhile(
    path: Path, holder: sqlite3.Connection
) -> None:
    async def work(client: Awaiting) -> None:
        waiting = asyncio.ensure_future(client.write(note, "waited"))
        for _ in range(50):
            await asyncio.sleep(0.001)
            assert await client.read(lambda cursor: cursor.execute("SELECT * FROM note").fetchall()) == []
        assert not waiting.done()
        holder.execute("COMMIT")
        assert await waiting is True
        assert notes(path) == ["waited"]

    within(path, work)


def test_afterwards_it_is_written_inline_again(path: Path, holder: sqlite3.Connection) -> None:
    async def work(client: Awaiting) -> None:
        waiting = asyncio.ensure_future(client.write(note, "waited"))
        await asyncio.sleep(0)
        holder.execute("COMMIT")
        await waiting
        assert await client.write(note, "inline") is False

    within(path, work)


def test_the_loop_is_not_stalled_by_a_busy_file(path: Path) -> None:
    with busy(path, hold=0.1, rest=0.01):
        late = asyncio.run(stalls(coatcheck_sqlite, path, 1.0))
    milliseconds = [1000 * quantile(late, share) for share in (0.5, 0.99, 1.0)]
    print(
        "event-loop stall under a busy file: p50 {:.2f} ms, p99 {:.2f} ms, max {:.2f} ms".format(
            *milliseconds
        )
    )
    assert milliseconds[1] < 50  # waiting inline: a hundred


@pytest.mark.parametrize("face", ["blocking", "awaiting"])
def test_a_file_busy_for_too_long_is_unavailable(path: Path, holder: sqlite3.Connection, face: str) -> None:
    with SQLiteStore(path, busy_timeout=0.05) as backend:
        store = backend.blocking() if face == "blocking" else backend.awaiting()

        async def work() -> None:
            with pytest.raises(StoreUnavailable, match="busy_timeout") as caught:
                await store.create(record(), now=NOW)
            assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
            assert await store.load("key", now=NOW) is None
            holder.execute("COMMIT")
            assert await store.create(record(), now=NOW) is SAVED

        asyncio.run(work())


def test_an_awaiting_store_without_a_loop_says_so(path: Path, holder: sqlite3.Connection) -> None:
    with SQLiteStore(path) as backend, pytest.raises(WrongFace, match="blocking"):
        run_now(backend.awaiting().create(record(), now=NOW))


# -------------------------------------------------------------------------------------------------------- group commit


def in_a_group(path: Path, holder: sqlite3.Connection, *jobs: Callable[..., Any]) -> list[Any]:
    """Let these pile up behind a busy file; then what each answered or raised."""

    async def work(client: Awaiting) -> list[Any]:
        group = asyncio.gather(*(client.write(job) for job in jobs), return_exceptions=True)
        await asyncio.sleep(0.05)
        holder.execute("COMMIT")
        return await group

    outcomes: list[Any] = within(path, work)
    return outcomes


def test_what_piles_up_is_committed_once(path: Path, holder: sqlite3.Connection) -> None:
    seen: list[list[str]] = []

    def look_and_note(text: str, cursor: Cursor) -> None:
        seen.append(notes(path))
        note(cursor, text)

    in_a_group(path, holder, *(partial(look_and_note, f"{n}") for n in range(20)))
    assert notes(path) == [f"{n}" for n in range(20)]
    # The first may have gone alone, before the others came; those were nowhere to be seen until all were.
    assert {len(notes) for notes in seen} <= {0, 1}


def test_a_write_that_fails_takes_no_neighbour_down(path: Path, holder: sqlite3.Connection) -> None:
    def half(cursor: Cursor) -> None:
        note(cursor, "half of a job that fails")
        raise CorruptRecord("as if found")

    def a_bug(cursor: Cursor) -> None:
        raise ZeroDivisionError

    outcomes = in_a_group(
        path,
        holder,
        lambda cursor: note(cursor, "a"),
        lambda cursor: note(cursor, None),
        lambda cursor: note(cursor, "b"),
        half,
        lambda cursor: note(cursor, "a"),
        a_bug,
        lambda cursor: note(cursor, "c"),
    )
    assert notes(path) == ["a", "b", "c"]
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [bool, StoreError, bool, CorruptRecord, StoreError, ZeroDivisionError, bool]
    assert isinstance(outcomes[1].__cause__, sqlite3.IntegrityError)


def test_if_sqlite_undoes_the_whole_group_the_others_are_written_singly(
    path: Path, holder: sqlite3.Connection
) -> None:
    def undo_all(cursor: Cursor) -> None:
        cursor.execute("ROLLBACK")  # as SQLite does by itself when the disk is full or does not answer
        raise sqlite3.OperationalError("disk I/O error")

    outcomes = in_a_group(
        path, holder, lambda cursor: note(cursor, "a"), undo_all, lambda cursor: note(cursor, "b")
    )
    assert notes(path) == ["a", "b"]
    assert [type(outcome) for outcome in outcomes] == [bool, StoreError, bool]


def test_a_cancelled_waiter_hurts_nobody(path: Path, holder: sqlite3.Connection) -> None:
    async def work(client: Awaiting) -> None:
        tasks = [asyncio.ensure_future(client.write(note, f"{n}")) for n in range(5)]
        await asyncio.sleep(0.01)
        tasks[0].cancel()
        tasks[3].cancel()
        holder.execute("COMMIT")
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(o, asyncio.CancelledError) for o in outcomes] == [True, False, False, True, False]
        assert await client.write(note, "inline again") is False
        # Nothing had been sent for those that were cancelled in line.
        assert notes(path) == ["1", "2", "4", "inline again"]

    within(path, work)


def test_a_coroutine_may_go_on_in_another_task(path: Path, holder: sqlite3.Connection) -> None:
    async def work(client: Awaiting) -> None:
        coroutine = client.write(note, "begun here")
        future = coroutine.send(None)  # the first step, in this task

        async def go_on() -> Any:
            await asyncio.wait([future])
            with pytest.raises(StopIteration) as done:
                coroutine.send(None)
            return done.value.value

        future._asyncio_future_blocking = False  # as an awaiting task does when it takes a future over
        waiting = asyncio.ensure_future(go_on())
        holder.execute("COMMIT")
        assert await waiting is True

    within(path, work)


# --------------------------------------------------------------------------------------------------------- several loops


def test_several_loops_share_a_store(path: Path) -> None:
    with SQLiteStore(path) as backend:
        store = backend.awaiting()

        async def work() -> None:
            for _ in range(100):
                there = record()
                assert await store.create(there, now=NOW) is SAVED
                assert await store.load(there.key, now=NOW) == there
                await asyncio.sleep(0)

        threads = [threading.Thread(target=lambda: asyncio.run(work())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert asyncio.run(store.count(now=NOW)) == 400


def left_behind(job: Coroutine[Any, Any, Any]) -> None:
    """Begin this in a loop that is closed while it waits."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(job)
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's own complaint, deserved here


def test_a_loop_that_was_closed_holds_nobody_up(path: Path, holder: sqlite3.Connection) -> None:
    client, go = awaiting(path), threading.Event()
    left_behind(client.write(note, "nobody waits for this"))
    left_behind(client.aside(lambda cursor: go.wait(10)))
    go.set()

    async def another() -> None:
        waiting = asyncio.ensure_future(client.write(note, "somebody waits for this"))
        await asyncio.sleep(0.01)
        holder.execute("COMMIT")
        await waiting
        await client.aside(nothing)
        assert await client.write(note, "inline again") is False

    asyncio.run(another())
    client.close()
    assert notes(path) == ["somebody waits for this", "inline again"]


def test_closing_finishes_what_was_begun(path: Path, holder: sqlite3.Connection) -> None:
    client = awaiting(path)

    async def work() -> None:
        begun = asyncio.ensure_future(client.aside(note, "begun"))
        in_line = asyncio.ensure_future(client.write(note, "in line"))
        await asyncio.sleep(0.01)
        holder.execute("COMMIT")
        client.close()
        await begun
        with pytest.raises(UsageError, match="closed"):
            await in_line

    asyncio.run(work())
    assert notes(path) == ["begun"]
    with pytest.raises(UsageError, match="closed"):
        asyncio.run(client.write(note, "too late"))
    assert not [thread for thread in threading.enumerate() if thread.name == "coatcheck-sqlite"]


@pytest.mark.parametrize("syncs", [False, True])
def test_a_pause_for_a_checkpoint_is_waited_for(path: Path, syncs: bool) -> None:
    """Every write of a long run is there, through a dozen checkpoints."""
    with SQLiteStore(path, synchronous="full" if syncs else "normal") as backend:
        store = backend.awaiting()

        async def work(times: int) -> None:
            for _ in range(times):
                assert await store.create(record(), now=NOW) is SAVED

        async def all_of_them() -> None:
            await asyncio.gather(*(work(20 if syncs else 300) for _ in range(40)))

        asyncio.run(all_of_them())
        assert asyncio.run(store.count(now=NOW)) == 40 * (20 if syncs else 300)


def test_the_writer_thread_ends_when_there_is_nothing_to_do(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coatcheck.stores._sqlite_waiting.IDLE_SECONDS", 0.01)

    async def work(client: Awaiting) -> None:
        for _ in range(3):
            await client.aside(nothing)
            (thread,) = [thread for thread in threading.enumerate() if thread.name == "coatcheck-sqlite"]
            thread.join(timeout=10)
            assert not thread.is_alive()

    within(path, work)


# ------------------------------------------------------------------------------------------------------- failing disks


def fill(cursor: Cursor) -> None:
    """Let the file not grow any more."""
    (pages,) = cursor.execute("PRAGMA page_count").fetchone()
    cursor.execute(f"PRAGMA max_page_count = {pages}").fetchall()


def big(cursor: Cursor) -> None:
    cursor.execute("INSERT INTO fence VALUES (zeroblob(100000), 0)")


def test_a_full_disk_is_unavailable_and_nothing_is_half_written(path: Path) -> None:
    pool = Pool(str(path), checkpoints=True)
    client = Blocking(pool)
    run_now(client.write(fill))
    with pytest.raises(StoreUnavailable, match="full") as caught:
        run_now(client.write(atomically, big))
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    run_now(client.write(lambda cursor: cursor.execute("INSERT INTO fence VALUES ('small', 1)")))
    rows = run_now(client.read(lambda cursor: cursor.execute("SELECT user_id FROM fence").fetchall()))
    assert rows == [("small",)]
    client.close()


def test_in_a_group_a_full_disk_refuses_only_what_does_not_fit(
    path: Path, holder: sqlite3.Connection
) -> None:
    holder.execute("COMMIT")

    async def work(client: Awaiting) -> list[Any]:
        await client.write(fill)
        holder.execute("BEGIN IMMEDIATE")
        jobs = [lambda cursor: note(cursor, "a"), big, lambda cursor: note(cursor, "b")]
        group = asyncio.gather(*(client.write(job) for job in jobs), return_exceptions=True)
        await asyncio.sleep(0.05)
        holder.execute("COMMIT")
        return await group

    outcomes = within(path, work)
    assert [type(outcome) for outcome in outcomes] == [bool, StoreUnavailable, bool]
    assert notes(path) == ["a", "b"]


def test_a_failing_upkeep_is_logged_and_fails_nobody(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fails(cursor: Cursor) -> None:
        cursor.execute("SELECT nonsense")

    client = Blocking(Pool(str(path)))
    client.later(fails)
    client.close()

    async def work(client: Awaiting) -> None:
        client.later(fails)
        await client.aside(nothing)

    within(path, work)
    assert [r.message.partition(":")[0] for r in caplog.records] == [
        "upkeep of the SQLite file failed and will be tried again"
    ] * 2


def test_a_reader_in_another_process_does_not_hinder_writers(path: Path) -> None:
    with SQLiteStore(path) as backend, closing(sqlite3.connect(path, isolation_level=None)) as reader:
        there = record()
        run_now(backend.blocking().create(there, now=NOW))
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM session").fetchall()
        assert run_now(backend.awaiting().create(record(), now=NOW)) is SAVED
        assert run_now(backend.blocking().sweep(now=NOW + 9_999)) == 2
        assert len(reader.execute("SELECT * FROM session").fetchall()) == 1


def test_a_load_leaves_no_statement_open(path: Path) -> None:
    """Else it would hold its snapshot, and the log could never be moved into the file as a whole."""
    with SQLiteStore(path) as backend, closing(sqlite3.connect(path, isolation_level=None)) as other:
        there = record()
        run_now(backend.blocking().create(there, now=NOW))
        assert isinstance(run_now(backend.blocking().load(there.key, now=NOW)), Record)
        assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)


@pytest.mark.parametrize("face", ["blocking", "awaiting"])
def test_a_transaction_that_fails_halfway_leaves_nothing(path: Path, face: str) -> None:
    def half(cursor: Cursor) -> None:
        cursor.execute("INSERT INTO fence VALUES ('half', 1)")
        raise CorruptRecord("as if found")

    pool = Pool(str(path))
    client = Blocking(pool) if face == "blocking" else Awaiting(pool, Pool(str(path)))
    with pytest.raises(CorruptRecord):
        run_now(client.write(atomically, half))
    run_now(client.write(lambda cursor: cursor.execute("INSERT INTO fence VALUES ('whole', 1)")))
    client.close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT user_id FROM fence").fetchall() == [("whole",)]
