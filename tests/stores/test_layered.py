"""The cache in front of a store: the contract, how old an answer may be, and that an end always wins."""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace as changed

from coatcheck import AsyncSessionManager, Clock, ConfigurationError, Options, Outage, SessionManager
from coatcheck.core.ids import Ticket
from coatcheck.core.ports import (
    CHANGED,
    HEARTBEAT,
    SAVED,
    ByUser,
    Changed,
    Checks,
    Counts,
    Notice,
    Outcome,
    Remembers,
    SetsUp,
    Sweeps,
    Tallies,
    TellsTime,
    Walks,
    Watches,
)
from coatcheck.core.record import Ended, Expired, Record
from coatcheck.core.session import Standing
from coatcheck.core.stepping import run_now
from coatcheck.stores.layered import LayeredSessions, LayeredStore
from coatcheck.stores.memory import MemoryStore
from coatcheck.stores.sqlite import SQLiteStore
from coatcheck.testing import Sentence, StoreContract
from tests.faulty import faulty

NOW = 1_700_000_000.0


def layered() -> LayeredStore:
    """With an age that no test can outlast: what it gets wrong, it gets wrong every time."""
    return LayeredStore(MemoryStore(), max_age=60)


@pytest.mark.parametrize("sentence", StoreContract.sentences())
def test_contract(sentence: Sentence) -> None:
    StoreContract(layered).run(sentence)


@pytest.mark.parametrize("sentence", StoreContract.sentences(modes=["awaiting"]))
def test_contract_with_room_for_hardly_anything(sentence: Sentence) -> None:
    StoreContract(lambda: LayeredStore(MemoryStore(), max_age=60, max_entries=2)).run(sentence)


# ------------------------------------------------------------------------------------------------------------- the stage


class Server(MemoryStore):
    """The store below: counts what it is asked, speaks when it is told to, and can hold a reply back."""

    def __init__(self) -> None:
        super().__init__()
        self.loads = 0
        self.tells: list[Callable[[Notice], None]] = []
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        """What happens between a load's question and its reply, once."""
        self.is_quiet = False

    async def load(self, key: str, *, now: float) -> Record | Ended | Expired | None:
        self.loads += 1
        found = await super().load(key, now=now)
        if self.meanwhile is not None:
            happens, self.meanwhile = self.meanwhile, None
            await happens()
        return found

    def watch(self, tell: Callable[[Notice], None]) -> Callable[[], None]:
        self.tells.append(tell)
        return lambda: self.tells.remove(tell)

    def say(self, kind: Any, key: str = "") -> None:
        for tell in list(self.tells):
            tell(Notice(kind, key))

    def _tell_of(self, *keys: str) -> None:
        for key in keys:
            if not self.is_quiet:
                self.say("ended", key)

    @property
    def _watchers(self) -> Any:
        return (None,)

    @_watchers.setter
    def _watchers(self, value: Any) -> None: ...


class Stage:
    """A server, two processes with a cache each, and a monotonic clock to move."""

    def __init__(self, *, max_age: float = 1.0, max_entries: int = 100) -> None:
        self.at = 1_000.0
        self.server = Server()
        self.here, self.there = (
            LayeredStore(
                self.server, max_age=max_age, max_entries=max_entries, monotonic=lambda: self.at
            ).blocking()
            for _ in range(2)
        )

    def watching(self) -> "Stage":
        """Both caches are warm, and have been told that the watch works."""
        for process in (self.here, self.there):
            run_now(process.load("nobody", now=NOW))
        self.server.say("watching")
        self.server.loads = 0
        return self

    def load(self, key: str = "a", *, process: LayeredSessions | None = None) -> Any:
        return run_now((process or self.here).load(key, now=NOW))

    def put(self, key: str = "a", **fields: Any) -> Record:
        record = a_record(key, **fields)
        assert run_now(self.server.create(record, now=NOW)) is SAVED
        return record

    def asked(self) -> int:
        """How many loads came through since last asked."""
        loads, self.server.loads = self.server.loads, 0
        return loads


def a_record(key: str = "a", **fields: Any) -> Record:
    values: dict[str, Any] = {
        "key": key, "versions": (f"v-{key}",), "verifier": bytes(32), "data": b"{}", "created_at": NOW, "seen_at": NOW,
        "deadline": NOW + 1_000, "ends_at": NOW + 9_000,
    }  # fmt: skip
    return Record(**(values | fields))


def after(record: Record, data: bytes = b'{"n":2}') -> Record:
    return changed(record, versions=(os.urandom(4).hex(), *record.versions), data=data)


@pytest.fixture
def stage() -> Stage:
    return Stage().watching()


# -------------------------------------------------------------------------------------------------------- how old it may be


def test_what_was_read_is_served_for_so_long_and_no_longer(stage: Stage) -> None:
    record = stage.put()
    assert [stage.load(), stage.load()] == [record, record]
    assert stage.asked() == 1
    stage.at += 0.999
    assert (stage.load(), stage.asked()) == (record, 0)
    stage.at += 0.001
    assert (stage.load(), stage.asked()) == (record, 1)
    assert (stage.load(), stage.asked()) == (record, 0)


def test_its_age_counts_from_before_the_question(stage: Stage) -> None:
    stage.put()

    async def slow() -> None:
        stage.at += 0.9

    stage.server.meanwhile = slow
    stage.load()
    stage.at += 0.1
    stage.load()
    assert stage.asked() == 2


def test_another_process_sees_a_change_within_that_time(stage: Stage) -> None:
    old = stage.put()
    assert stage.load() == stage.load(process=stage.there) == old
    new = after(old)
    assert run_now(stage.there.replace(new, expected=old.version, now=NOW)) is SAVED
    assert stage.load(process=stage.there) == new  # its own change it sees at once
    stage.at += 0.999
    assert stage.load() == old
    stage.at += 0.001
    assert stage.load() == new


def test_absence_is_never_remembered(stage: Stage) -> None:
    assert stage.load() is None
    stage.put()
    assert stage.load() is not None
    assert isinstance(stage.load("b"), type(None))


def test_a_session_past_its_deadline_is_the_stores_to_judge(stage: Stage) -> None:
    stage.put(deadline=NOW + 0.5)
    assert stage.load() is not None
    assert isinstance(run_now(stage.here.load("a", now=NOW + 0.5)), Expired)
    assert stage.load() is None  # for good, though the clock steps back


def test_no_more_is_remembered_than_there_is_room_for() -> None:
    stage = Stage(max_entries=3).watching()
    for key in "abcd":
        stage.put(key)
        stage.load(key)
    stage.asked()
    for key in "dcb":
        stage.load(key)
    assert stage.asked() == 0
    stage.load("a")
    assert stage.asked() == 1


def test_own_writes_are_forgotten_whatever_came_of_them(stage: Stage) -> None:
    """The store may have kept the later of two deadlines, or its reply is lost: only it knows what is there."""
    record = stage.put(deadline=NOW + 5_000)
    stage.load()
    new = changed(after(record), deadline=NOW + 10)
    assert run_now(stage.here.replace(new, expected=record.version, now=NOW)) is SAVED
    assert stage.load().deadline == NOW + 5_000
    assert run_now(
        stage.here.touch("a", deadline=NOW + 6_000, seen_at=NOW + 1, expected=new.version, now=NOW)
    )
    assert stage.load().deadline == NOW + 6_000

    async def broken(*args: Any, **kwargs: Any) -> Outcome:
        await MemoryStore.replace(stage.server, *args, **kwargs)
        raise OSError("the reply is lost")

    stage.server.replace = broken  # type: ignore[method-assign]  # a command whose reply is lost
    newest = after(new)
    with pytest.raises(OSError):
        run_now(stage.here.replace(newest, expected=new.version, now=NOW))
    assert stage.load().version == newest.version


def test_a_load_under_way_does_not_bring_back_what_an_own_write_replaced(stage: Stage) -> None:
    old = stage.put()
    new = after(old)

    async def write() -> None:
        assert await stage.here.replace(new, expected=old.version, now=NOW) is SAVED

    stage.server.meanwhile = write
    assert stage.load() == old  # as of when it was asked
    assert stage.load() == new


# -------------------------------------------------------------------------------------------------------- an end always wins


def test_an_end_elsewhere_is_forgotten_at_once(stage: Stage) -> None:
    stage.put()
    stage.load()
    run_now(stage.there.delete("a", now=NOW, token="t"))
    assert isinstance(stage.load(), Ended)


def test_an_end_between_a_question_and_its_reply_is_not_undone_by_the_reply(stage: Stage) -> None:
    """The race: a load is sent, the session ends and the watch says so, and then the reply comes with what was there before."""
    stage.put()

    async def end() -> None:
        await stage.there.delete("a", now=NOW, token="t")

    stage.server.meanwhile = end
    assert isinstance(stage.load(), Record)  # a reply from before the end, to a request from before the end
    assert isinstance(stage.load(), Ended)


def test_nor_by_the_reply_to_a_second_question(stage: Stage) -> None:
    stage.put()

    async def again() -> None:
        async def end() -> None:
            await stage.there.delete("a", now=NOW, token="t")

        stage.server.meanwhile = end
        await stage.here.load("a", now=NOW)

    stage.server.meanwhile = again
    stage.load()
    assert isinstance(stage.load(), Ended)


@pytest.mark.parametrize("end", ["end_one", "end_user", "admit"])
def test_every_way_to_end_one_here_is_an_end(stage: Stage, end: str) -> None:
    """Even where the watch is late: what this process ended, it knows."""
    stage.put(user_id="ada", authenticated_at=NOW)
    stage.server.is_quiet = True
    stage.load()
    session = SessionManager(stage.here, options=Options(max_sessions=1), clock=Clock(lambda: NOW))
    if end == "end_one":
        assert session.of("ada").end("a")
    elif end == "end_user":
        assert session.of("ada").end_all() == 1
    else:
        new = session.session()
        new.login("ada")
        new.save()
    assert isinstance(stage.load(), Ended)


def test_ending_all_of_a_user_blocks_loads_under_way_too(stage: Stage) -> None:
    stage.put(user_id="ada", authenticated_at=NOW)
    stage.server.is_quiet = True

    async def end() -> None:
        users: Any = stage.here
        await users.end_user("ada", keep=None, now=NOW, token="t")

    stage.server.meanwhile = end
    stage.load()
    assert isinstance(stage.load(), Ended)


# ------------------------------------------------------------------------------------------------------------- the watch


def test_nothing_is_remembered_before_the_watch_has_said_that_it_works() -> None:
    stage = Stage()
    stage.put()
    stage.load()
    stage.load()
    assert stage.asked() == 2
    stage.server.say("watching")
    stage.load()
    stage.load()
    assert stage.asked() == 1


def test_nothing_is_served_after_it_was_lost_until_it_works_again_and_then_nothing_from_before(
    stage: Stage,
) -> None:
    stage.put()
    stage.load()
    stage.server.say("lost")
    stage.asked()
    stage.load()
    stage.load()
    assert stage.asked() == 2
    stage.server.say("watching")
    stage.load()
    assert stage.asked() == 1


def test_nothing_is_served_when_it_has_been_silent_for_two_heartbeats() -> None:
    stage = Stage(max_age=60).watching()
    stage.put()
    stage.load()
    stage.at += HEARTBEAT
    stage.server.say("watching")
    stage.at += 2 * HEARTBEAT - 0.001
    stage.asked()
    assert (stage.load() is not None, stage.asked()) == (True, 0)
    stage.at += 0.001
    stage.load()
    assert stage.asked() == 1
    stage.load()
    assert stage.asked() == 1  # and nothing new is remembered either
    stage.server.say("watching")
    stage.load()
    assert stage.asked() == 1  # what is from before the silence may have ended in it


def test_a_load_from_before_the_watch_began_is_not_remembered() -> None:
    stage = Stage()
    stage.put()

    async def begins() -> None:
        stage.server.say("watching")

    stage.server.meanwhile = begins
    stage.load()
    stage.load()
    assert stage.asked() == 2


def test_a_heartbeat_takes_nothing_away(stage: Stage) -> None:
    stage.put()
    stage.load()
    stage.server.say("watching")
    stage.asked()
    stage.load()
    assert stage.asked() == 0


def test_a_store_in_memory_needs_no_heartbeat() -> None:
    at = 0.0
    store = LayeredStore(MemoryStore(), max_age=60, monotonic=lambda: at).blocking()
    run_now(store.create(a_record(), now=NOW))
    first = run_now(store.load("a", now=NOW))
    at = 59.0
    assert run_now(store.load("a", now=NOW)) is first


def test_after_a_fork_nothing_is_served_that_no_watch_vouches_for() -> None:
    stage = Stage(max_age=60).watching()
    stage.put()
    stage.load()
    stage.asked()
    child = os.fork()
    if child == 0:
        stage.load()
        stage.load()
        os._exit(stage.asked())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    stage.load()
    assert stage.asked() == 0


def test_each_event_loop_has_a_cache_of_its_own() -> None:
    server = Server()
    store = LayeredStore(server, max_age=60).awaiting()

    async def main() -> int:
        await store.load("a", now=NOW)
        server.say("watching")
        server.loads = 0
        for _ in range(3):
            await store.load("a", now=NOW)
        return server.loads

    run_now(server.create(a_record(), now=NOW))
    assert [asyncio.run(main()) for _ in range(3)] == [1, 1, 1]
    assert len(store._caches) == 1  # those of the loops that are over are left behind


def test_after_close_everything_is_asked_and_nobody_is_watched() -> None:
    server = Server()
    backend = LayeredStore(server)
    store = backend.blocking()
    run_now(server.create(a_record(), now=NOW))
    for _ in range(2):
        run_now(store.load("a", now=NOW))
        server.say("watching")
    backend.close()
    assert server.tells == []
    server.loads = 0
    for _ in range(3):
        run_now(store.load("a", now=NOW))
    assert server.loads == 3


def test_a_watch_that_cannot_begin_is_no_quiet_loss_of_the_cache() -> None:
    class Mute(MemoryStore):
        def watch(self, tell: Callable[[Notice], None]) -> Callable[[], None]:
            raise ConfigurationError("change streams need a replica set")

    store = LayeredStore(Mute()).blocking()
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="replica set"):
            run_now(store.load("a", now=NOW))


def test_a_cancelled_load_leaves_nothing_behind() -> None:
    server = Server()
    store = LayeredStore(server).awaiting()

    async def main() -> None:
        async def never() -> None:
            await asyncio.Event().wait()

        for n in range(100):
            server.meanwhile = never
            task = asyncio.ensure_future(store.load(f"k{n}", now=NOW))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        (cache,) = store._caches.values()
        assert cache._questions == {}

    asyncio.run(main())


# -------------------------------------------------------------------------------------------------------------- sessions


def ticket_of(session: Any) -> Ticket:
    assert session._verifier is not None
    return Ticket(session.handle, session._verifier)


@pytest.fixture
def processes() -> tuple[SessionManager, SessionManager]:
    """Two processes with a cache each, that serve what they have read for a minute."""
    below = MemoryStore()
    one, two = (SessionManager(LayeredStore(below, max_age=60)) for _ in range(2))
    return one, two


def test_who_has_just_logged_in_elsewhere_is_no_stranger_here(
    processes: tuple[SessionManager, SessionManager],
) -> None:
    """The redirect after a login often lands on another worker, which has just served the anonymous session."""
    one, two = processes
    session = one.session()
    session["cart"] = 1
    session.save()
    anonymous = ticket_of(session)
    assert two.session(anonymous)["cart"] == 1  # two remembers it now
    session.login("ada")
    session.save()
    there = two.session(ticket_of(session))
    assert (there.user_id, there["cart"]) == ("ada", 1)
    assert two.session(anonymous)._standing is Standing.UNLOADED
    late = two.session(anonymous)
    assert (late.user_id, late.get("cart"), late._standing) == (None, None, Standing.DETACHED)


def test_changes_made_on_an_older_version_are_merged(
    processes: tuple[SessionManager, SessionManager],
) -> None:
    one, two = processes
    session = one.session()
    session.update(a=0, n=0)
    session.save()
    ticket = ticket_of(session)
    assert two.session(ticket)["a"] == 0
    session["a"] = 1
    session.increment("n")
    session.save()
    late = two.session(ticket)
    assert late["a"] == 0  # as old as it may be
    late["b"] = 2
    late.increment("n")
    late.save()
    assert dict(one.session(ticket)) == {"a": 1, "b": 2, "n": 2}


@pytest.mark.parametrize("at_hand", [True, False])
def test_a_refused_write_is_tried_again_over_what_is_there(at_hand: bool) -> None:
    """Also where the store below does not say what that is: it is then read anew, and not out of the cache."""

    class Terse(MemoryStore):
        async def replace(self, *args: Any, **kwargs: Any) -> Outcome:
            outcome = await super().replace(*args, **kwargs)
            return CHANGED if isinstance(outcome, Changed) and not at_hand else outcome

    below = Terse()
    one, two = (SessionManager(LayeredStore(below, max_age=60)) for _ in range(2))
    session = one.session()
    session["n"] = 0
    session.save()
    ticket = ticket_of(session)
    for _ in range(3):
        for sessions in (one, two):
            visit = sessions.session(ticket)
            visit.increment("n")
            visit.save()
    assert one.session(ticket)["n"] == 6


def test_a_logout_on_an_older_version_ends_the_session(
    processes: tuple[SessionManager, SessionManager],
) -> None:
    one, two = processes
    session = one.session()
    session.login("ada")
    session.save()
    ticket = ticket_of(session)
    assert two.session(ticket).user_id == "ada"
    session["a"] = 1
    session.save()
    late = two.session(ticket)
    late.logout()
    two.commit(late)
    assert one.session(ticket).user_id is None


def test_a_crowd_of_both_processes_loses_nothing(processes: tuple[SessionManager, SessionManager]) -> None:
    one, _ = processes
    session = one.session()
    session["n"] = 0
    session.save()
    ticket = ticket_of(session)

    def work(sessions: SessionManager) -> None:
        for _ in range(20):
            visit = sessions.session(ticket)
            visit.increment("n")
            visit.save()

    threads = [threading.Thread(target=work, args=(sessions,)) for sessions in processes * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    session.reload()
    assert one.session(ticket)["n"] == 160


def test_it_serves_an_event_loop_too() -> None:
    async def main() -> None:
        sessions = AsyncSessionManager(LayeredStore(MemoryStore()))
        session = sessions.session()
        session["a"] = 1
        await session.save()
        again = await sessions.session(ticket_of(session)).load()
        assert again["a"] == 1
        assert await sessions.count() == 1

    asyncio.run(main())


# -------------------------------------------------------------------------------------------------- abilities and settings


def test_it_has_the_abilities_of_the_store_below_and_says_the_truth() -> None:
    class Five:
        """Five verbs, and a watch."""

        def __init__(self) -> None:
            self.inner = MemoryStore()
            for verb in ("load", "create", "replace", "touch", "delete", "watch"):
                setattr(self, verb, getattr(self.inner, verb))

    rich, poor = LayeredStore(MemoryStore()).blocking(), LayeredStore(Five()).blocking()  # type: ignore[arg-type]  # by duck
    abilities = (ByUser, Sweeps, Counts, Checks, Tallies, Walks, SetsUp, TellsTime, Watches, Remembers)
    assert {ability for ability in abilities if not isinstance(rich, ability)} == {SetsUp, TellsTime}
    assert {ability for ability in abilities if isinstance(poor, ability)} == {Watches, Remembers}
    StoreContract(lambda: LayeredStore(Five())).run(  # type: ignore[arg-type]  # by duck
        *StoreContract.sentences(without=[ByUser, Sweeps, Counts, Checks])
    )


def test_setup_and_check_are_those_of_the_store_below(monkeypatch: pytest.MonkeyPatch) -> None:
    url, server = faulty(monkeypatch)
    with SessionManager(LayeredStore(url, outage=Outage(retries=0))) as sessions:
        sessions.setup()
        sessions.check()
    assert (server.told(), server.opened) == (["setup", "check"], [Outage(retries=0)])


def test_a_store_that_was_opened_from_a_url_is_closed_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    url, server = faulty(monkeypatch)
    LayeredStore(url).close()
    asyncio.run(LayeredStore(url).aclose())
    asyncio.run(LayeredStore("memory:").aclose())
    asyncio.run(layered().aclose())
    assert server.closed == ["close", "aclose"]


def test_a_store_that_does_not_tell_of_endings_is_refused_when_the_face_is_built(tmp_path: Any) -> None:
    with SQLiteStore(tmp_path / "sessions.db") as below:
        for manager in (SessionManager, AsyncSessionManager):
            with pytest.raises(ConfigurationError, match=r"LayeredStore\(SQLiteStore\).*Watches"):
                manager(LayeredStore(below))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_age": 0}, r"LayeredStore\.max_age=0"),
        ({"max_age": 61}, "at most 60 seconds"),
        ({"max_age": timedelta(minutes=2)}, "at most 60 seconds"),
        ({"max_entries": 0}, "max_entries=0"),
        ({"max_entries": 1.5}, "max_entries=1.5"),
        ({"outage": Outage()}, "given as a URL"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        LayeredStore(MemoryStore(), **settings)


def test_its_repr_names_the_store_below() -> None:
    assert repr(LayeredStore(MemoryStore())) == "<LayeredStore over <MemoryStore, 0 of at most 100000>>"


def test_reload_reads_what_is_stored_now(processes: tuple[SessionManager, SessionManager]) -> None:
    one, two = processes
    session = one.session()
    session["a"] = 1
    session.save()
    there = two.session(ticket_of(session))
    assert there["a"] == 1
    session["a"] = 2
    session.save()
    again = two.session(ticket_of(session))
    assert again["a"] == 1
    again.reload()
    assert again["a"] == 2


def test_threads_that_read_bring_nothing_back_that_ended() -> None:
    """Four threads load what a fifth makes and ends: once its end is known, none of them is served it."""
    below = MemoryStore()
    store = LayeredStore(below, max_age=60).blocking()
    key, wrong, stop = ["k0"], list[str](), threading.Event()

    def read() -> None:
        while not stop.is_set():
            run_now(store.load(key[0], now=NOW))

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for n in range(300):
        key[0] = name = f"k{n}"
        run_now(below.create(a_record(name), now=NOW))
        for _ in range(20):
            run_now(store.load(name, now=NOW))
        run_now(below.delete(name, now=NOW, token="t"))
        wrong += [name for _ in range(20) if not isinstance(run_now(store.load(name, now=NOW)), Ended)]
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []
