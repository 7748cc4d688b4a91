"""The MongoDB store's clients when things go wrong: replies lost, servers paused, killed and stepped down, commands cancelled,
loops and processes that come and go, clients of the wrong kind, logins refused, servers too old."""

import asyncio
import gc
import os
import queue
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import bson
import msgspec
import pytest
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import AutoReconnect

from coatcheck.core.ids import RandomIds
from coatcheck.core.outage import Outage
from coatcheck.core.ports import GONE, SAVED, Changed, Notice, Terms
from coatcheck.core.record import Login, Record
from coatcheck.core.stepping import run_now
from coatcheck.errors import (
    ConfigurationError,
    ReplyLost,
    StoreError,
    StoreUnavailable,
    UsageError,
    WrongFace,
)
from coatcheck.manager import AsyncSessionManager, SessionManager
from coatcheck.stores._health import ConnectionEvent
from coatcheck.stores.mongo import MongoSessions, MongoStore
from servers import Server, mongo

NOW = 1_700_000_000.0
IDS = RandomIds()
Document = dict[str, Any]
QUICK = Outage(connect_timeout=0.3, command_timeout=0.3, break_for=0.1)
PATIENT = Outage(connect_timeout=30, command_timeout=30, break_after=1_000_000)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A replica set of one, which can be told to fail."""
    with mongo(tmp_path_factory.mktemp("mongo"), "--setParameter", "enableTestCommands=1") as server:
        yield server


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A standalone server, which can be told to fail."""
    folder = tmp_path_factory.mktemp("alone")
    with mongo(folder, "--setParameter", "enableTestCommands=1", replica_set=False) as server:
        yield server


@pytest.fixture
def store(server: Server) -> Iterator[MongoSessions]:
    with MongoStore.from_url(server.url, outage=PATIENT) as backend:
        yield backend.blocking()


@contextmanager
def failing(server: Server, *commands: str, times: int = 1, **how: Any) -> Iterator[None]:
    """The next of these commands of ours fail so."""
    with MongoClient[Document]("127.0.0.1", server.port, directConnection=True) as client:
        data = {"failCommands": commands, "appName": "coatcheck", **how}
        client.admin.command({"configureFailPoint": "failCommand", "mode": {"times": times}, "data": data})
        try:
            yield
        finally:
            client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


def record(**fields: Any) -> Record:
    values: dict[str, Any] = {
        "key": IDS.locator(),
        "versions": (IDS.version(),),
        "verifier": bytes(32),
        "data": b"{}",
        "created_at": NOW,
        "seen_at": NOW,
        "deadline": NOW + 3_600,
        "ends_at": NOW + 86_400,
    }
    return Record(**(values | fields))


def login(user_id: str = "ada") -> Record:
    return record(user_id=user_id, authenticated_at=NOW, login=Login(), epoch=1)


def after(old: Record, data: bytes) -> Record:
    return msgspec.structs.replace(old, versions=(IDS.version(), *old.versions[:15]), data=data)


def run(face: str, url: str, work: Any, outage: Outage = PATIENT) -> Any:
    """Do some work with a store of this face."""

    async def awaiting() -> Any:
        async with MongoStore.from_url(url, outage=outage) as backend:
            return await work(backend.awaiting())

    if face == "awaiting":
        return asyncio.run(awaiting())
    with MongoStore.from_url(url, outage=outage) as backend:
        return run_now(work(backend.blocking()))


FACES = pytest.mark.parametrize("face", ["blocking", "awaiting"])

# ------------------------------------------------------------------------------------------------------ replies lost


@FACES
@pytest.mark.parametrize("kind", ["server", "alone"])
def test_a_connection_that_breaks_under_a_write_is_a_reply_lost(
    request: pytest.FixtureRequest, face: str, kind: str
) -> None:
    """Once, and not repeated by the driver, on a replica set either."""
    place: Server = request.getfixturevalue(kind)

    async def work(store: MongoSessions) -> None:
        there = record()
        await store.create(there, now=NOW)
        new = after(there, b"1")
        with failing(place, "update", closeConnection=True), pytest.raises(ReplyLost):
            await store.replace(new, expected=there.version, now=NOW)
        assert await store.replace(new, expected=there.version, now=NOW) is SAVED

    run(face, place.url, work)


@FACES
def test_a_connection_that_breaks_under_a_read_is_made_up_for(server: Server, face: str) -> None:
    async def work(store: MongoSessions) -> None:
        there = record()
        await store.create(there, now=NOW)
        with failing(server, "find", closeConnection=True):
            assert await store.load(there.key, now=NOW) == there
        with failing(server, "find", times=2, closeConnection=True), pytest.raises(StoreUnavailable):
            await store.load(there.key, now=NOW)

    run(face, server.url, work)


@FACES
@pytest.mark.parametrize(("code", "times"), [(10107, 1), (13435, 1)])
def test_a_server_that_is_not_the_primary_has_not_done_it(
    server: Server, face: str, code: int, times: int
) -> None:
    """So it is sent again, to whichever is."""

    async def work(store: MongoSessions) -> None:
        await store.load("greeted", now=NOW)
        with failing(server, "insert", times=times, errorCode=code):
            assert await store.create(record(), now=NOW) is SAVED

    run(face, server.url, work, PATIENT)


@pytest.mark.parametrize("code", [91, 11600, 11602, 189])
def test_a_write_that_is_interrupted_may_have_been_carried_out(
    server: Server, store: MongoSessions, code: int
) -> None:
    with failing(server, "insert", errorCode=code), pytest.raises(ReplyLost):
        run_now(store.create(record(), now=NOW))


def test_a_write_that_no_majority_confirmed_may_be_lost_again(server: Server, store: MongoSessions) -> None:
    there = record()
    wrong = {"code": 64, "errmsg": "waiting for replication timed out"}
    with failing(server, "insert", writeConcernError=wrong), pytest.raises(ReplyLost, match="majority"):
        run_now(store.create(there, now=NOW))
    assert run_now(store.create(there, now=NOW)) is SAVED  # it is recognised, and confirmed


@pytest.mark.parametrize("command", ["update", "findAndModify"])
def test_a_login_whose_reply_was_lost_is_repeated(server: Server, store: MongoSessions, command: str) -> None:
    there, user = record(), IDS.version()
    run_now(store.create(there, now=NOW))
    new = msgspec.structs.replace(after(there, b"1"), user_id=user, authenticated_at=NOW, login=Login())
    wrong = {"code": 64, "errmsg": "waiting for replication timed out"}
    with failing(server, command, times=2, writeConcernError=wrong):
        for _ in range(2):
            with pytest.raises(ReplyLost):
                run_now(store.admit(new, expected=there.version, terms=Terms(limit=3), now=NOW))
        assert run_now(store.admit(new, expected=there.version, terms=Terms(limit=3), now=NOW)) is SAVED
    assert run_now(store.load(there.key, now=NOW)) == new
    assert len(run_now(store.of_user(user, now=NOW)).records) == 1


def test_a_login_that_could_not_evict_is_not_known_to_be_over(server: Server, store: MongoSessions) -> None:
    user = IDS.version()
    old, new = login(user), login(user)
    run_now(store.create(old, now=NOW))
    with failing(server, "find", times=2, closeConnection=True), pytest.raises(ReplyLost):
        run_now(store.admit(new, expected=None, terms=Terms(limit=1), now=NOW))
    assert run_now(store.admit(new, expected=None, terms=Terms(limit=1), now=NOW)) is SAVED
    assert run_now(store.of_user(user, now=NOW)).records == [new]


@FACES
def test_a_session_survives_every_lost_reply(server: Server, face: str) -> None:
    """Through a manager, which repeats: increments count once, whether the first try was carried out or not."""
    wrong = {"code": 64, "errmsg": "waiting for replication timed out"}

    def blocking() -> int:
        with MongoStore.from_url(server.url, outage=PATIENT) as backend:
            sessions = SessionManager(backend)
            session = sessions.session()
            session["n"] = 0
            session.save()
            for how in ({"closeConnection": True}, {"writeConcernError": wrong}):
                with failing(server, "update", **how):
                    session.increment("n")
                    session.save()
            return int(session["n"])

    async def awaiting() -> int:
        async with MongoStore.from_url(server.url, outage=PATIENT) as backend:
            sessions = AsyncSessionManager(backend)
            session = await sessions.session().load()
            session["n"] = 0
            await session.save()
            for how in ({"closeConnection": True}, {"writeConcernError": wrong}):
                with failing(server, "update", **how):
                    session.increment("n")
                    await session.save()
            return int(session["n"])

    assert (blocking() if face == "blocking" else asyncio.run(awaiting())) == 2


# --------------------------------------------------------------------------------------- servers that do not answer


@FACES
def test_a_paused_server_is_a_reply_lost_in_time_and_then_is_left_alone(server: Server, face: str) -> None:
    async def work(store: MongoSessions) -> float:
        there = record()
        await store.create(there, now=NOW)
        server.pause()
        try:
            before = time.monotonic()
            with pytest.raises(ReplyLost):
                await store.replace(after(there, b"1"), expected=there.version, now=NOW)
            waited = time.monotonic() - before
            for _ in range(4):
                with pytest.raises(StoreUnavailable):
                    await store.load(there.key, now=NOW)
            before = time.monotonic()
            with pytest.raises(StoreUnavailable, match="5 times in a row"):
                await store.load(there.key, now=NOW)
            assert time.monotonic() - before < 0.1
        finally:
            server.resume()
        await until_it_is_back(store)
        assert isinstance(await store.load(there.key, now=NOW), Record)
        return waited

    outage = Outage(connect_timeout=0.3, command_timeout=0.3, break_for=1.0)
    assert 0.25 < run(face, server.url, work, outage) < 0.9


async def until_it_is_back(store: MongoSessions) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            await store.check()
        except StoreUnavailable:
            assert time.monotonic() < deadline
        else:
            return


@FACES
def test_a_server_that_was_killed_is_told_of_and_comes_back_with_everything(tmp_path: Any, face: str) -> None:
    news: list[str] = []

    def hear(event: ConnectionEvent) -> None:
        news.append(event.state)

    async def work(store: MongoSessions, victim: Server) -> None:
        saved = []
        for _ in range(20):
            there = record()
            assert await store.create(there, now=NOW) is SAVED
            saved.append(there)
        ended = saved.pop()
        assert await store.delete(ended.key, now=NOW, token="t")
        victim.kill()
        with pytest.raises(StoreUnavailable):
            await store.load(ended.key, now=NOW)
        with pytest.raises(StoreUnavailable):
            await store.create(record(), now=NOW)
        victim.start()
        await until_it_is_back(store)
        for there in saved:
            assert await store.load(there.key, now=NOW) == there
        assert not isinstance(await store.load(ended.key, now=NOW), Record)

    async def awaiting(backend: MongoStore, victim: Server) -> None:
        async with backend:
            await work(backend.awaiting(), victim)

    with mongo(tmp_path, replica_set=face == "blocking") as victim:
        backend = MongoStore.from_url(victim.url, outage=QUICK, on_connection=hear)
        if face == "awaiting":
            asyncio.run(awaiting(backend, victim))
        else:
            with backend:
                run_now(work(backend.blocking(), victim))
    assert news == ["connected", "lost", "restored"]


def test_a_watch_survives_its_server(tmp_path: Any) -> None:
    notices: queue.Queue[Notice] = queue.Queue()

    def wait_for(kind: str) -> None:
        while notices.get(timeout=60).kind != kind:
            pass

    with mongo(tmp_path) as server, MongoStore.from_url(server.url, outage=QUICK) as backend:
        stop = backend.blocking().watch(notices.put)
        wait_for("watching")
        server.kill()
        wait_for("lost")
        server.start()
        wait_for("watching")
        run_now(until_it_is_back(backend.blocking()))
        there = record()
        run_now(backend.blocking().create(there, now=NOW))
        run_now(backend.blocking().delete(there.key, now=NOW, token="t"))
        wait_for("ended")
        stop()


def test_a_server_that_is_not_there_is_said_with_its_url_and_without_the_password() -> None:
    with MongoStore.from_url("mongodb://ada:hunter2@127.0.0.1:1/shop", outage=QUICK) as backend:
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match=r"mongodb://ada:\*\*\*@127.0.0.1:1/shop") as caught:
                run_now(backend.blocking().load("key", now=NOW))
            assert caught.value.__cause__ is not None
            assert "hunter2" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["step down", "kill"])
def test_what_was_acknowledged_survives(tmp_path: Any, how: str) -> None:
    """Under load, five times: whatever a writer was told was written is there, and whatever was told ended is ended."""
    written: dict[str, int] = {}
    ended: set[str] = set()
    being_ended: set[str] = set()
    stop = threading.Event()

    def work(store: MongoSessions) -> None:
        while not stop.is_set():
            try:
                there = record(data=b"0")
                run_now(store.create(there, now=NOW))
                for n in range(1, 20):
                    new = after(there, b"%d" % n)
                    if run_now(store.replace(new, expected=there.version, now=NOW)) is not SAVED:
                        break
                    there = new
                    written[there.key] = n
                being_ended.add(there.key)
                if run_now(store.delete(there.key, now=NOW, token="t", expected=there.version)):
                    ended.add(there.key)
            except StoreUnavailable:
                continue

    outage = Outage(connect_timeout=1, command_timeout=1, break_for=0.05)
    with mongo(tmp_path, "--setParameter", "enableTestCommands=1") as server:
        backends = [MongoStore.from_url(server.url, outage=outage) for _ in range(2)]
        threads = [threading.Thread(target=work, args=(b.blocking(),)) for b in backends for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(5):
            before = len(written)
            while len(written) < before + 5:
                stop.wait(0.05)
            if how == "kill":
                server.kill()
                server.start()
            else:
                with MongoClient[Document]("127.0.0.1", server.port, directConnection=True) as client:
                    client.admin.command({"replSetStepDown": 1, "force": True})
        before = len(written)
        while len(written) < before + 5:
            stop.wait(0.05)
        stop.set()
        for thread in threads:
            thread.join()
        store = backends[0].blocking()
        run_now(until_it_is_back(store))
        for key, n in written.items():
            there = run_now(store.load(key, now=NOW))
            if key in ended:
                assert not isinstance(there, Record), key
            elif key not in being_ended or isinstance(there, Record):
                assert isinstance(there, Record), key
                assert int(there.data) >= n, key
        print(f"{len(written)} sessions, {sum(written.values())} writes, {len(ended)} ended, none lost")
        for backend in backends:
            backend.close()


# ---------------------------------------------------------------------------------------------------- cancellation


def test_cancelled_commands_take_nobody_elses_reply(server: Server) -> None:
    """Ten thousand at random, under load: whoever goes on gets the answer to their own question."""
    chance = random.Random(7)
    counts = {"cancelled": 0, "answered": 0}

    async def ask(store: MongoSessions, there: Record) -> None:
        assert await store.load(there.key, now=NOW) == there
        counts["answered"] += 1

    async def work() -> None:
        async with MongoStore.from_url(server.url, outage=PATIENT) as backend:
            store = backend.awaiting()
            records = [record(data=b"%d" % n) for n in range(50)]
            for there in records:
                await store.create(there, now=NOW)
            while counts["cancelled"] < 10_000:
                tasks = [asyncio.ensure_future(ask(store, chance.choice(records))) for _ in range(60)]
                for task in tasks[:50]:
                    asyncio.get_running_loop().call_later(chance.random() * 0.02, task.cancel)
                for answer in await asyncio.gather(*tasks, return_exceptions=True):
                    if isinstance(answer, asyncio.CancelledError):
                        counts["cancelled"] += 1
                    elif answer is not None:
                        raise answer
            for there in records:
                await ask(store, there)

    before = len(os.listdir("/proc/self/fd"))
    asyncio.run(work())
    gc.collect()
    print(counts)
    assert counts["answered"] > 500
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_cancelled_write_happened_or_did_not(server: Server) -> None:
    chance = random.Random(11)

    async def work() -> None:
        async with MongoStore.from_url(server.url, outage=PATIENT) as backend:
            store = backend.awaiting()
            there = record(data=b"0")
            await store.create(there, now=NOW)
            for n in range(200):
                new = after(there, b"%d" % n)
                task = asyncio.ensure_future(store.replace(new, expected=there.version, now=NOW))
                asyncio.get_running_loop().call_later(chance.random() * 0.003, task.cancel)
                try:
                    assert await task is SAVED
                except asyncio.CancelledError:
                    # Asked once more, as `commands` would: it is the first try's, or this one's.
                    assert await store.replace(new, expected=there.version, now=NOW) is SAVED
                assert await store.load(new.key, now=NOW) == new
                there = new

    asyncio.run(work())


# --------------------------------------------------------------------------------------------- loops, forks, threads


def test_several_event_loops_one_after_the_other_and_at_once(server: Server) -> None:
    backend = MongoStore.from_url(server.url, outage=PATIENT)
    there = record()

    async def use() -> None:
        await backend.awaiting().create(there, now=NOW)
        for _ in range(20):
            assert await backend.awaiting().load(there.key, now=NOW) == there

    async def use_and_close() -> None:
        await use()
        await backend._link.awaiting()._clients.pop(asyncio.get_running_loop()).close()

    def in_a_thread(answers: "queue.Queue[object]") -> None:
        try:
            answers.put(asyncio.run(use_and_close()))
        except BaseException as error:
            answers.put(error)

    asyncio.run(use_and_close())
    answers: queue.Queue[object] = queue.Queue()
    threads = [threading.Thread(target=in_a_thread, args=(answers,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answers.get_nowait() for _ in threads] == [None] * 4


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_loop_that_went_away_without_closing_does_no_harm(server: Server) -> None:
    backend = MongoStore.from_url(server.url, outage=PATIENT)
    there = record()

    async def use() -> object:
        await backend.awaiting().create(there, now=NOW)
        return await backend.awaiting().load(there.key, now=NOW)

    async def last() -> object:
        found = await use()
        await backend.aclose()
        return found

    assert asyncio.run(use()) == there
    assert asyncio.run(use()) == there
    assert asyncio.run(last()) == there
    gc.collect()


def test_a_fork_leaves_the_parents_connections_alone(server: Server) -> None:
    """The child makes its own; the parent's go on, and each gets the answers to its own questions."""
    with MongoStore.from_url(server.url, outage=PATIENT) as backend:
        store = backend.blocking()
        mine, childs = record(data=b"parent"), record(data=b"child")
        run_now(store.create(mine, now=NOW))
        before = set(os.listdir("/proc/self/fd"))
        child = os.fork()
        if child == 0:
            code = 1
            try:
                run_now(store.create(childs, now=NOW))
                good = all(run_now(store.load(childs.key, now=NOW)) == childs for _ in range(200))
                code = 0 if good else 2
                backend.close()
            finally:
                os._exit(code)
        for _ in range(200):
            assert run_now(store.load(mine.key, now=NOW)) == mine
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert run_now(store.load(childs.key, now=NOW)) == childs
        assert len(set(os.listdir("/proc/self/fd")) - before) <= 2


def test_a_store_made_before_a_fork_and_used_after_it(server: Server) -> None:
    """As with `gunicorn --preload`."""
    backend = MongoStore.from_url(server.url, outage=PATIENT)
    backend.blocking()
    backend.awaiting()

    async def use() -> None:
        await backend.awaiting().create(record(), now=NOW)
        await backend.aclose()

    child = os.fork()
    if child == 0:
        code = 1
        try:
            run_now(backend.blocking().create(record(), now=NOW))
            asyncio.run(use())
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_many_threads_share_one_store(store: MongoSessions) -> None:
    there = record(data=b"0")
    run_now(store.create(there, now=NOW))
    errors: list[BaseException] = []

    async def increment() -> None:
        while True:
            old = await store.load(there.key, now=NOW)
            assert isinstance(old, Record)
            outcome = await store.replace(
                after(old, b"%d" % (int(old.data) + 1)), expected=old.version, now=NOW
            )
            if outcome is SAVED:
                return
            assert isinstance(outcome, Changed)

    def work() -> None:
        try:
            for _ in range(10):
                run_now(increment())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    last = run_now(store.load(there.key, now=NOW))
    assert isinstance(last, Record)
    assert last.data == b"80"


# ---------------------------------------------------------------------------------------------------- faces and ends


def test_making_a_store_connects_to_nothing() -> None:
    backend = MongoStore.from_url("mongodb://127.0.0.1:1/shop")
    backend.blocking()
    backend.awaiting()
    backend.close()


def test_a_client_of_the_wrong_kind_is_refused_when_the_face_is_built(server: Server) -> None:
    async def work() -> None:
        client = AsyncMongoClient[Document](server.url)
        with pytest.raises(WrongFace, match="MongoClient"):
            SessionManager(MongoStore(client))
        await client.close()

    client = MongoClient[Document](server.url, connect=False)
    with client, pytest.raises(WrongFace, match="AsyncMongoClient"):
        AsyncSessionManager(MongoStore(client))
    asyncio.run(work())


def test_an_own_client_stays_open(server: Server) -> None:
    with MongoClient[Document](server.url) as client:
        with MongoStore(client) as backend:
            assert run_now(backend.blocking().create(record(), now=NOW)) is SAVED
        client.admin.command("ping")
        with MongoStore(client) as backend:
            assert run_now(backend.blocking().create(record(), now=NOW)) is SAVED
    with pytest.raises(StoreError, match="after close"):
        run_now(MongoStore(client).blocking().load("key", now=NOW))


def test_an_own_client_on_another_loop_is_a_mistake_that_is_named(server: Server) -> None:
    async def make() -> AsyncMongoClient[Document]:
        client = AsyncMongoClient[Document](server.url)
        await client.admin.command("ping")
        return client

    async def use(backend: MongoStore) -> None:
        with pytest.raises(UsageError, match="event loop"):
            await backend.awaiting().load("key", now=NOW)

    with asyncio.Runner() as runner:
        client = runner.run(make())
        thread = threading.Thread(target=lambda: asyncio.run(use(MongoStore(client))))
        thread.start()
        thread.join()
        runner.run(client.close())


def test_a_closed_store_says_so(server: Server) -> None:
    async def awaiting() -> None:
        backend = MongoStore.from_url(server.url, outage=PATIENT)
        store = backend.awaiting()
        await store.load("key", now=NOW)
        await backend.aclose()
        await backend.aclose()
        with pytest.raises(UsageError, match="closed"):
            await store.load("key", now=NOW)

    backend = MongoStore.from_url(server.url, outage=PATIENT)
    store = backend.blocking()
    run_now(store.load("key", now=NOW))
    backend.close()
    backend.close()
    with pytest.raises(UsageError, match="closed"):
        run_now(store.load("key", now=NOW))
    asyncio.run(awaiting())


def test_reprs_hide_the_password() -> None:
    backend = MongoStore.from_url("mongodb://ada:hunter2@localhost/shop")
    assert repr(backend) == "<MongoStore mongodb://ada:***@localhost/shop coatcheck_sessions>"
    assert "hunter2" not in repr(backend.blocking())


# --------------------------------------------------------------------------------------------------- refused logins


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with mongo(tmp_path_factory.mktemp("guarded"), "--auth", replica_set=False) as server:
        with MongoClient[Document]("127.0.0.1", server.port) as client:
            roles = [{"role": "root", "db": "admin"}]
            client.admin.command({"createUser": "root", "pwd": "right", "roles": roles})
        with MongoClient[Document]("127.0.0.1", server.port, username="root", password="right") as client:
            for name, role in (("writer", "readWrite"), ("reader", "read")):
                roles = [{"role": role, "db": "coatcheck"}]
                client["coatcheck"].command({"createUser": name, "pwd": "right", "roles": roles})
        yield server


@FACES
def test_a_wrong_password_is_named_and_not_shown(guarded: Server, face: str) -> None:
    async def work(store: MongoSessions) -> str:
        with pytest.raises(StoreError, match="no such user and password") as caught:
            await store.load("key", now=NOW)
        return str(caught.value)

    said = run(face, f"mongodb://writer:hunter2@127.0.0.1:{guarded.port}/coatcheck", work, PATIENT)
    assert "hunter2" not in said


def test_the_role_readwrite_is_enough(guarded: Server) -> None:
    async def work(store: MongoSessions) -> None:
        await store.setup()
        await store.check()
        there = login()
        assert await store.admit(there, expected=None, terms=Terms(limit=1), now=NOW) is SAVED
        assert (await store.end_user("ada", keep=None, now=NOW, token="t")).count == 1
        assert await store.sweep(now=NOW) == 0

    run("blocking", f"mongodb://writer:right@127.0.0.1:{guarded.port}/coatcheck", work, PATIENT)


def test_a_user_who_may_only_read_is_named(guarded: Server) -> None:
    async def work(store: MongoSessions) -> None:
        assert await store.load("key", now=NOW) is None
        with pytest.raises(StoreError, match="readWrite"):
            await store.create(record(), now=NOW)
        with pytest.raises(StoreError, match="readWrite"):
            await store.check()

    run("blocking", f"mongodb://reader:right@127.0.0.1:{guarded.port}/coatcheck", work, PATIENT)


# -------------------------------------------------------------------------------------------------- servers too old


class Ancient:
    """Answers every command with the greeting of an old server: all that can be had of one."""

    def __init__(self, wire_version: int, hello: bool) -> None:
        self._greeting = {
            "ok": 1.0,
            "ismaster": True,
            "isWritablePrimary": True,
            "helloOk": hello,
            "maxBsonObjectSize": 16_777_216,
            "maxMessageSizeBytes": 48_000_000,
            "maxWriteBatchSize": 100_000,
            "logicalSessionTimeoutMinutes": 30,
            "minWireVersion": 0,
            "maxWireVersion": wire_version,
        }
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as incoming:
            while header := incoming.read(16):
                length, number, _, code = struct.unpack("<iiii", header)
                incoming.read(length - 16)
                document = bson.encode(self._greeting)
                if code == 2004:  # OP_QUERY, answered by OP_REPLY
                    body, kind = struct.pack("<iqii", 0, 0, 0, 1) + document, 1
                else:  # OP_MSG
                    body, kind = struct.pack("<iB", 0, 0) + document, 2013
                connection.sendall(struct.pack("<iiii", 16 + len(body), 0, number, kind) + body)


@FACES
@pytest.mark.parametrize("wire_version", [6, 8])
def test_a_server_that_is_too_old_is_refused_by_name(face: str, wire_version: int) -> None:
    """3.6 and 4.2: refused by the driver, or by us where an older driver would put up with it."""

    async def work(store: MongoSessions) -> None:
        with pytest.raises(ConfigurationError, match=r"too old: it takes 4\.4 or newer"):
            await store.load("key", now=NOW)

    server = Ancient(wire_version, hello=False)
    try:
        run(face, f"mongodb://127.0.0.1:{server.port}/shop", work, PATIENT)
    finally:
        server.close()


def test_our_own_look_at_the_version() -> None:
    """What `Place.accept` is for: drivers of 4.13 take servers that we do not."""
    backend = MongoStore.from_url("mongodb://127.0.0.1:1/shop")
    place = backend._link._place()
    place.accept({"maxWireVersion": 9})
    with pytest.raises(ConfigurationError, match="too old"):
        place.accept({"maxWireVersion": 8})


def test_no_driver_exception_comes_through(server: Server, store: MongoSessions) -> None:
    """Whatever code the server answers with."""
    run_now(store.load("greeted", now=NOW))
    for code in (2, 13, 18, 50, 112, 11000, 17419):
        for command, coroutine in (
            ("find", store.load("key", now=NOW)),
            ("insert", store.create(record(), now=NOW)),
            ("findAndModify", store.end_user("ada", keep=None, now=NOW, token="t")),
        ):
            with failing(server, command, times=2, errorCode=code), pytest.raises(StoreError) as caught:
                run_now(coroutine)
            assert caught.value.__cause__ is not None
            assert not isinstance(caught.value, AutoReconnect)


def test_gone_is_no_exception(store: MongoSessions) -> None:
    assert run_now(store.replace(record(), expected="v", now=NOW)) is GONE
