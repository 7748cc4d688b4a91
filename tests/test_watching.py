"""Being told of endings: `sessions.watch()`, shared by all who listen in one process."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from coatcheck import AsyncSessionManager, ConfigurationError, Notice, SessionManager
from coatcheck.core.ports import Watches
from coatcheck.core.stepping import run_now
from coatcheck.stores.memory import MemoryStore
from coatcheck.stores.sqlite import SQLiteStore

FOR_GOOD = Notice("watching", for_good=True)


class Radio(MemoryStore):
    """A store in memory whose watch speaks when it is told to, and counts who listens."""

    def __init__(self) -> None:
        super().__init__()
        self.on_air: list[Callable[[Notice], None]] = []

    def watch(self, tell: Callable[[Notice], None]) -> Callable[[], None]:
        self.on_air.append(tell)
        return lambda: self.on_air.remove(tell)

    def say(self, kind: Any, key: str = "") -> None:
        for tell in self.on_air:
            tell(Notice(kind, key))


def login(sessions: SessionManager, user: str = "ada") -> str:
    session = sessions.session()
    session.login(user)
    session.save()
    return session.handle


def test_every_way_to_end_a_session_is_told_and_nothing_else() -> None:
    sessions, heard = SessionManager(MemoryStore()), list[Notice]()
    stop = sessions.watch(heard.append)
    assert heard == [FOR_GOOD]
    handles = [login(sessions) for _ in range(4)]
    assert heard == [FOR_GOOD]
    sessions.end(handles[0])
    sessions.of("ada").end(handles[1])
    sessions.of("ada").end_all()
    assert sorted(notice.key for notice in heard[1:]) == sorted(handles)
    assert {notice.kind for notice in heard[1:]} == {"ended"}
    stop()
    sessions.end(login(sessions))
    assert len(heard) == 5


def test_a_login_that_makes_room_tells_whom_it_ended() -> None:
    from coatcheck import Options

    sessions, heard = SessionManager(MemoryStore(), options=Options(max_sessions=1)), list[Notice]()
    sessions.watch(heard.append)
    first = login(sessions)
    login(sessions)
    assert heard[1:] == [Notice("ended", first)]


def test_one_session_can_be_watched() -> None:
    sessions, heard = SessionManager(MemoryStore()), list[Notice]()
    mine, other = login(sessions), login(sessions)
    stop = sessions.watch(heard.append, handle=mine)
    sessions.end(other)
    sessions.end(mine)
    stop()
    assert heard == [FOR_GOOD, Notice("ended", mine)]


def test_who_is_told_may_ask_the_store() -> None:
    sessions, seen = SessionManager(MemoryStore()), list[Any]()
    handle = login(sessions)
    sessions.watch(lambda notice: seen.append(sessions.find(handle)), handle=handle)
    sessions.end(handle)
    assert seen[-1] is None


def test_all_who_listen_share_one_watch_which_ends_with_the_last() -> None:
    radio = Radio()
    sessions = SessionManager(radio)
    heard: dict[str, list[str]] = {"all": [], "a": [], "b": []}
    stops = [sessions.watch(lambda n: heard["all"].append(n.kind))]
    stops += [sessions.watch(lambda n, k=key: heard[k].append(n.kind), handle=key) for key in ("a", "b")]  # type: ignore[misc]
    assert len(radio.on_air) == 1
    for notice in (("watching",), ("ended", "a"), ("ended", "c"), ("lost",)):
        radio.say(*notice)
    assert heard == {
        "all": ["watching", "ended", "ended", "lost"],
        "a": ["watching", "ended", "lost"],
        "b": ["watching", "lost"],
    }
    for stop in stops:
        assert len(radio.on_air) == 1
        stop()
        stop()  # a second time does no harm
    assert radio.on_air == []
    sessions.watch(heard["all"].append)  # type: ignore[arg-type]  # a list of anything
    assert len(radio.on_air) == 1
    sessions.close()
    assert radio.on_air == []


def test_a_listener_that_raises_keeps_no_other_from_hearing(caplog: pytest.LogCaptureFixture) -> None:
    radio, heard = Radio(), list[Notice]()
    sessions = SessionManager(radio)

    def broken(notice: Notice) -> None:
        raise RuntimeError("a bug of the application's")

    sessions.watch(broken)
    sessions.watch(heard.append)
    radio.say("ended", "a")
    assert heard == [Notice("ended", "a")]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_each_event_loop_has_its_own_watch() -> None:
    radio = Radio()
    sessions = AsyncSessionManager(radio)

    async def listen() -> int:
        sessions.watch(lambda notice: None)
        sessions.watch(lambda notice: None)
        return len(radio.on_air)

    assert [asyncio.run(listen()) for _ in range(2)] == [1, 2]
    asyncio.run(sessions.close())
    assert radio.on_air == [radio.on_air[0]] * len(radio.on_air)  # of a loop that is over nobody can be told


def test_a_store_that_tells_nothing_is_refused_and_can_be_asked_again(tmp_path: Any) -> None:
    with SQLiteStore(tmp_path / "sessions.db") as store:
        sessions = SessionManager(store)
        for _ in range(2):
            with pytest.raises(ConfigurationError, match=r"SQLiteSessions.*tells of ended sessions"):
                sessions.watch(lambda notice: None)
        assert not isinstance(store.blocking(), Watches)


def test_the_memory_store_watches_once_for_each_time_it_is_asked() -> None:
    store, heard = MemoryStore(), list[Notice]()
    assert isinstance(store, Watches)
    stops = [store.watch(heard.append), store.watch(heard.append)]
    heard.clear()
    stops[0]()
    stops[0]()
    sessions = SessionManager(store)
    sessions.end(login(sessions))
    assert len(heard) == 1
    assert run_now(store.delete("nothing", now=1.0, token="t")) is False
    assert len(heard) == 1


def test_who_joins_while_the_last_one_leaves_is_heard_by_a_watch_of_its_own() -> None:
    """The store's `stop` is where another thread gets its turn."""
    radio, heard = Radio(), list[Notice]()
    sessions = SessionManager(radio)
    plain = radio.watch

    def watch(tell: Callable[[Notice], None]) -> Callable[[], None]:
        stop = plain(tell)

        def stop_late() -> None:
            sessions.watch(heard.append)
            stop()

        radio.watch = plain  # type: ignore[method-assign]  # once
        return stop_late

    radio.watch = watch  # type: ignore[method-assign]  # a store whose watch ends slowly
    sessions.watch(lambda notice: None)()
    radio.say("ended", "a")
    assert heard == [Notice("ended", "a")]


def test_a_watch_that_is_stopped_by_its_first_word_is_stopped() -> None:
    class Hasty(Radio):
        def watch(self, tell: Callable[[Notice], None]) -> Callable[[], None]:
            stop = super().watch(tell)
            self.say("watching")
            return stop

    radio = Hasty()
    sessions = SessionManager(radio)
    sessions.watch(lambda notice: sessions.close())
    assert radio.on_air == []
