"""`AtOnce`: what a store does in a plain call is what its verbs do, or nothing."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as changed

from coatcheck.core import drafts
from coatcheck.core.ports import SAVED, AtOnce, Changed, at_once
from coatcheck.core.record import Ended, Record
from coatcheck.core.stepping import run_now
from coatcheck.stores.memory import MemoryStore
from coatcheck.stores.sqlite import SQLiteStore
from coatcheck.telemetry.observed import Observed

NOW = 1_700_000_000.0
KEY = "k" * 24


@pytest.fixture(params=["memory", "sqlite blocking", "sqlite awaiting"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "memory":
        yield MemoryStore()
        return
    with SQLiteStore(tmp_path / "sessions.db") as backend:
        yield backend.blocking() if "blocking" in request.param else backend.awaiting()


def record(version: str = "one", data: bytes = b"{}", **more: Any) -> Record:
    first = drafts.first(KEY, version, "x" * 44, data, NOW, idle=100.0, ends_at=NOW + 500, lifetime=None)
    return changed(first, **more) if more else first


def following(before: Record, version: str, data: bytes, now: float) -> Record:
    return drafts.following(before, version, data, now, 100.0, None)


def test_a_live_record_is_found(store: Any) -> None:
    ready: Any = at_once(store)
    assert ready is store
    assert store.load_now(KEY, NOW) is None
    run_now(store.create(record(), now=NOW))
    assert store.load_now(KEY, NOW + 1) == run_now(store.load(KEY, now=NOW + 1)) == record()


def test_what_is_over_or_ended_is_left_to_load(store: Any) -> None:
    run_now(store.create(record(), now=NOW))
    assert store.load_now(KEY, NOW + 100) is None  # at its deadline
    assert store.load_now(KEY, NOW + 99)  # that was no answer, so nothing is over yet
    run_now(store.delete(KEY, now=NOW, token="ended"))
    assert store.load_now(KEY, NOW) is None
    assert isinstance(run_now(store.load(KEY, now=NOW)), Ended)


def test_it_writes_over_the_version_that_was_read(store: Any) -> None:
    before = record()
    run_now(store.create(before, now=NOW))
    after = following(before, "two", b'{"n":1}', NOW + 5)
    assert store.replace_now(after, "one", NOW + 5) is True
    assert run_now(store.load(KEY, now=NOW + 5)) == after


@pytest.mark.parametrize("spoil", ["another writer", "over", "ended", "nothing"])
def test_where_it_may_not_it_writes_nothing_and_replace_says_why(store: Any, spoil: str) -> None:
    before = record()
    now = NOW + (100 if spoil == "over" else 5)
    if spoil != "nothing":
        run_now(store.create(before, now=NOW))
    if spoil == "another writer":
        assert (
            run_now(store.replace(following(before, "other", b"[]", now), expected="one", now=now)) is SAVED
        )
    if spoil == "ended":
        run_now(store.delete(KEY, now=NOW, token="ended"))
    there = run_now(store.load(KEY, now=NOW + 5))
    late = following(before, "two", b'{"n":1}', now)
    assert store.replace_now(late, "one", now) is False
    assert run_now(store.load(KEY, now=NOW + 5)) == there
    outcome = run_now(store.replace(late, expected="one", now=now))
    assert isinstance(outcome, Changed) if spoil == "another writer" else outcome is not SAVED


def test_times_only_move_forward(store: Any) -> None:
    before = record(deadline=NOW + 300, seen_at=NOW + 50)
    run_now(store.create(before, now=NOW))
    assert store.replace_now(following(before, "two", b"{}", NOW + 5), "one", NOW + 5)
    there = run_now(store.load(KEY, now=NOW + 5))
    assert (there.deadline, there.seen_at) == (NOW + 300, NOW + 50)


class OwnLoad(MemoryStore):
    """A user's store with a `load` of its own."""

    async def load(self, key: str, *, now: float) -> Any:
        return await super().load(key, now=now)


class OwnReplace(MemoryStore):
    """A user's store with a `replace` of its own."""

    async def replace(self, *args: Any, **words: Any) -> Any:
        return await super().replace(*args, **words)


class Wrapped:
    """A store around another, whatever that can do."""

    def __init__(self) -> None:
        self._inside = MemoryStore()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inside, name)


def patched() -> MemoryStore:
    store = MemoryStore()
    store.load = store.load  # type: ignore[method-assign]  # that is the point
    return store


def observed() -> Any:
    class Nobody:
        def began(self, command: str) -> None: ...

        def ended(self, *answer: object) -> None: ...

    return Observed(MemoryStore(), Nobody()).awaiting()


@pytest.mark.parametrize("make", [OwnLoad, OwnReplace, Wrapped, patched, observed])
def test_nobodys_verbs_are_gone_past(make: Callable[[], Any]) -> None:
    """A subclass, a wrapper or an observer must be asked: they may refuse, count or answer otherwise."""
    assert at_once(make()) is None


def test_a_subclass_that_changes_neither_is_as_good() -> None:
    class Named(MemoryStore):
        name = "mine"

    store = Named()
    assert isinstance(store, AtOnce)
    assert at_once(store) is store


def test_a_busy_file_is_left_to_the_verb(tmp_path: Path) -> None:
    """A write that finds the file locked stands in line, as ever."""
    with SQLiteStore(tmp_path / "sessions.db") as backend:
        store = backend.awaiting()
        run_now(store.create(record(), now=NOW))
        other = SQLiteStore(tmp_path / "sessions.db").blocking()
        cursor = other._client._pool._open()  # type: ignore[attr-defined]  # a client that blocks
        cursor.execute("BEGIN IMMEDIATE")
        assert store.replace_now(following(record(), "two", b"{}", NOW), "one", NOW) is False
        assert store.load_now(KEY, NOW) == record()
        cursor.execute("ROLLBACK")
        assert store.replace_now(following(record(), "two", b"{}", NOW), "one", NOW) is True
        other.close()
