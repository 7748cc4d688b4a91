"""What two stores do as one beside the sessions: counters, upkeep, and telling of what ends."""

from collections.abc import Callable
from typing import Any

import pytest

from coatcheck import SessionManager
from coatcheck.core.ports import NO_TALLY, Notice, SetsUp, Tally, TellsTime, Watches
from coatcheck.core.stepping import run_now
from coatcheck.stores.memory import MemoryStore
from coatcheck.stores.moving import Moving
from coatcheck.stores.sqlite import SQLiteStore

NOW = 1_700_000_000.0


class Told(MemoryStore):
    """A store whose watch says what a test tells it to."""

    def __init__(self) -> None:
        super().__init__()
        self.tells: list[Callable[[Notice], None]] = []

    def watch(self, tell: Callable[[Notice], None]) -> Callable[[], None]:
        self.tells.append(tell)
        return lambda: self.tells.remove(tell)

    def say(self, kind: Any, key: str = "") -> None:
        for tell in self.tells:
            tell(Notice(kind, key))


def moving(new: Any, old: Any, **given: Any) -> Any:
    return Moving(new, old, **given).blocking()


def test_watching_is_said_while_both_are() -> None:
    new, old, heard = Told(), Told(), list[Notice]()
    stop = moving(new, old).watch(heard.append)
    new.say("watching")
    assert heard == []
    old.say("watching")
    assert [notice.kind for notice in heard] == ["watching"]
    new.say("lost")
    old.say("watching")
    assert [notice.kind for notice in heard] == ["watching", "lost"]
    new.say("watching")
    for store in (new, old):
        store.say("ended", "k")
    assert [notice.kind for notice in heard[2:]] == ["watching", "ended", "ended"]
    stop()
    assert (new.tells, old.tells) == ([], [])


def test_when_one_of_two_falls_silent_so_do_both() -> None:
    """A server that hangs says nothing, not even "lost". Whoever relies on a watch knows it by its silence."""
    new, old, heard = Told(), Told(), list[Notice]()
    moving(new, old).watch(heard.append)
    for _ in range(3):
        new.say("watching")
        old.say("watching")
    assert len(heard) == 3
    for _ in range(3):
        new.say("watching")
    assert len(heard) == 3
    old.say("watching")
    assert len(heard) == 4


def test_one_that_watches_for_good_leaves_it_to_the_other() -> None:
    old, heard = Told(), list[Notice]()
    moving(MemoryStore(), old).watch(heard.append)
    assert heard == []
    old.say("watching")
    old.say("watching")
    assert heard == [Notice("watching"), Notice("watching")]
    old.say("lost")
    old.say("watching")
    assert [notice.kind for notice in heard[2:]] == ["lost", "watching"]


def test_two_in_this_process_watch_for_good() -> None:
    heard: list[Notice] = []
    moving(MemoryStore(), MemoryStore()).watch(heard.append)
    assert heard == [Notice("watching", for_good=True)]


def test_carrying_a_session_tells_nobody_that_it_ended() -> None:
    new, old, heard = MemoryStore(), MemoryStore(), list[Notice]()
    with SessionManager(old) as before:
        session = before.session()
        session["n"] = 1
        session.save()
    assert session._record is not None
    both = moving(new, old)
    both.watch(heard.append)
    run_now(both.load(session._record.key, now=session._record.seen_at))
    assert [notice.kind for notice in heard] == ["watching"]


@pytest.mark.parametrize("carry", [True, False])
def test_counters_go_on_where_they_were(carry: bool) -> None:
    new, old = MemoryStore(), MemoryStore()
    both = moving(new, old, carry=carry)
    for store in (new, old):
        run_now(store.tally("k", window=60, now=NOW, amount=2))
    assert run_now(both.tallied("k", now=NOW)) == Tally(4, NOW + 60)
    assert run_now(both.tally("k", window=60, now=NOW + 1)) == Tally(5, NOW + 60)
    run_now(both.end_tally("k"))
    assert run_now(both.tallied("k", now=NOW)) == NO_TALLY


def test_it_has_what_both_have() -> None:
    class Plain:
        """Five verbs and no ability."""

        load = create = replace = touch = delete = MemoryStore.load

    assert isinstance(moving(MemoryStore(), MemoryStore()), Watches)
    assert not isinstance(moving(MemoryStore(), Plain()), Watches)
    assert not hasattr(moving(MemoryStore(), Plain()), "of_user")
    assert not isinstance(moving(MemoryStore(), MemoryStore()), TellsTime | SetsUp)


def test_upkeep_reaches_both(tmp_path: Any) -> None:
    with SQLiteStore(tmp_path / "old.db") as old:
        both = moving(MemoryStore(), old)
        run_now(both.check())
        assert run_now(both.sweep(now=NOW)) == 0
        assert run_now(both.count(now=NOW)) == 0


@pytest.mark.parametrize("carry", [True, False])
@pytest.mark.parametrize("which", ["new", "old"])
def test_the_one_that_needs_tables_is_given_them(which: str, carry: bool) -> None:
    made: list[str] = []

    class Needy(MemoryStore):
        async def setup(self) -> None:
            made.append(which)

    stores = (Needy(), MemoryStore()) if which == "new" else (MemoryStore(), Needy())
    SessionManager(Moving(*stores, carry=carry)).setup()
    assert made == [which]
