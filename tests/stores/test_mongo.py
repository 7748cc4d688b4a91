"""The MongoDB store: the contract in both modes, on a replica set and on a standalone server; what is special in it; hostile
documents; what is collected, counted, listed and watched."""

import asyncio
import logging
import queue
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from bson import Int64
from bson.datetime_ms import DatetimeMS
from pymongo import AsyncMongoClient, MongoClient, monitoring
from pymongo.collection import Collection

from coatcheck.core.ids import RandomIds
from coatcheck.core.ports import (
    FENCED,
    GONE,
    SAVED,
    TAKEN,
    ByUser,
    Checks,
    Counts,
    Notice,
    SetsUp,
    Sweeps,
    Terms,
    Watches,
)
from coatcheck.core.record import Ended, Expired, Login, Record
from coatcheck.core.stepping import run_now
from coatcheck.errors import ConfigurationError, CorruptRecord, StoreError, UsageError
from coatcheck.stores import open_store
from coatcheck.stores._mongo_commands import SLACK, STEPS, Phrases, collected_at
from coatcheck.stores.mongo import MongoSessions, MongoStore
from coatcheck.testing.contract import Sentence, StoreContract
from servers import Server, mongo
from tests.patience import PATIENT

NOW = 1_700_000_000.0
IDS = RandomIds()
Document = dict[str, Any]


@pytest.fixture(scope="module")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with mongo(tmp_path_factory.mktemp("standalone"), replica_set=False) as server:
        yield server


@pytest.fixture(scope="module")
def client(mongo_server: Server) -> Iterator[MongoClient[Document]]:
    with MongoClient[Document](mongo_server.url) as client:
        yield client


@pytest.fixture
def documents(client: MongoClient[Document]) -> Collection[Document]:
    """The sessions' collection, empty, for doing something behind the store's back."""
    database = client["coatcheck"]
    database["coatcheck_sessions_users"].delete_many({})
    database["coatcheck_sessions"].delete_many({})
    return database["coatcheck_sessions"]


@pytest.fixture
def store(mongo_server: Server, documents: Collection[Document]) -> Iterator[MongoSessions]:
    with MongoStore.from_url(mongo_server.url, outage=PATIENT) as backend:
        run_now(backend.blocking().setup())
        yield backend.blocking()


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


def login(user_id: str = "ada", **fields: Any) -> Record:
    values = {"user_id": user_id, "authenticated_at": NOW, "login": Login(), "epoch": 1}
    return record(**(values | fields))


def after(old: Record, **changes: Any) -> Record:
    versions = (IDS.version(), *old.versions[:15])
    return msgspec.structs.replace(old, **({"versions": versions} | changes))


# ----------------------------------------------------------------------------------------------------- the contract


@pytest.mark.parametrize("sentence", StoreContract.sentences(), ids=lambda s: s.__name__)
def test_contract(sentence: Sentence, mongo_server: Server, store: MongoSessions) -> None:
    StoreContract(lambda: MongoStore.from_url(mongo_server.url, outage=PATIENT)).run(sentence)


@pytest.mark.parametrize(
    "sentence", StoreContract.sentences(without=[Watches]), ids=lambda s: s.__name__
)  # it has no change streams
def test_contract_on_a_standalone_server_without_indexes(sentence: Sentence, standalone: Server) -> None:
    with MongoClient[Document](standalone.url) as client:
        for name in ("coatcheck_sessions", "coatcheck_sessions_users"):
            client["coatcheck"][name].delete_many({})
    StoreContract(lambda: MongoStore.from_url(standalone.url, outage=PATIENT)).run(sentence)


@pytest.mark.parametrize("ability", [ByUser, Sweeps, Counts, Checks, Watches, SetsUp])
def test_has_every_ability(store: MongoSessions, ability: type) -> None:
    assert isinstance(store, ability)


def test_a_url_opens_it(mongo_server: Server, store: MongoSessions) -> None:
    backend = open_store(mongo_server.url)
    assert isinstance(backend, MongoStore)
    with backend:
        there = record()
        assert run_now(backend.blocking().create(there, now=NOW)) is SAVED
        assert run_now(store.load(there.key, now=NOW)) == there


def test_both_faces_share_the_sessions(mongo_server: Server, store: MongoSessions) -> None:
    async def read(key: str) -> object:
        async with MongoStore.from_url(mongo_server.url, outage=PATIENT) as backend:
            return await backend.awaiting().load(key, now=NOW)

    there = record()
    assert run_now(store.create(there, now=NOW)) is SAVED
    assert asyncio.run(read(there.key)) == there


def test_the_url_names_the_database_and_an_option_the_collection(
    mongo_server: Server, client: MongoClient[Document]
) -> None:
    url = mongo_server.url.replace("/coatcheck?", "/else_where?")
    with MongoStore.from_url(url, outage=PATIENT, collection="visits") as backend:
        assert run_now(backend.blocking().create(record(), now=NOW)) is SAVED
        run_now(backend.blocking().end_user("ada", keep=None, now=NOW, token="t"))
    assert client["else_where"]["visits"].count_documents({}) == 1
    assert client["else_where"]["visits_users"].count_documents({}) == 1
    client.drop_database("else_where")


# --------------------------------------------------------------------------------------------- commands and indexes


class Sent(monitoring.CommandListener):
    """What the driver has sent."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.commands: list[Document] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self.names.append(event.command_name)
        self.commands.append(dict(event.command))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...
    def failed(self, event: monitoring.CommandFailedEvent) -> None: ...


def test_commands_of_each_method(mongo_server: Server, store: MongoSessions) -> None:
    sent = Sent()

    def of(coroutine: Any) -> list[str]:
        sent.names.clear()
        run_now(coroutine)
        return list(sent.names)

    with MongoClient[Document](mongo_server.url, event_listeners=[sent]) as own:
        mine = MongoStore(own).blocking()
        first, user = record(), login("u")
        second, third = after(first, data=b"2"), after(first, versions=(IDS.version(),), user_id="u")
        run_now(mine.load("greeted", now=NOW))
        assert of(mine.create(first, now=NOW)) == ["insert"]
        assert of(mine.load(first.key, now=NOW)) == ["find"]
        assert of(mine.replace(second, expected=first.version, now=NOW)) == ["update"]
        touch = mine.touch(first.key, deadline=NOW + 4_000, seen_at=NOW, expected=second.version, now=NOW)
        assert of(touch) == ["update"]
        late = mine.replace(after(first), expected=first.version, now=NOW)
        assert of(late) == ["update", "find"]
        login_over = mine.admit(third, expected=second.version, terms=Terms(), now=NOW)
        assert of(login_over) == ["update", "findAndModify", "update"]
        assert of(mine.admit(user, expected=None, terms=Terms(), now=NOW)) == [
            "insert",
            "findAndModify",
            "update",
        ]
        limited = mine.admit(login("u"), expected=None, terms=Terms(limit=3), now=NOW)
        assert of(limited) == ["insert", "findAndModify", "update", "find"]
        limited = mine.admit(login("u"), expected=None, terms=Terms(limit=3), now=NOW)
        assert of(limited) == ["insert", "findAndModify", "update", "find", "update"]
        assert of(mine.of_user("u", now=NOW)) == ["find"]
        assert of(mine.end_one("u", user.key, now=NOW, token="t")) == ["update"]
        assert of(mine.end_user("u", keep=None, now=NOW, token="t")) == ["findAndModify", "update", "update"]
        fourth = record()
        run_now(mine.create(fourth, now=NOW))
        assert of(mine.delete(fourth.key, now=NOW, token="t")) == ["update"]


def test_every_write_asks_for_a_majority_and_no_transaction(
    mongo_server: Server, store: MongoSessions
) -> None:
    """Not even with `w=1&retryWrites=true&readPreference=secondary` in the client's own URL."""
    sent = Sent()
    url = (
        mongo_server.url
        + "&w=1&journal=false&retryWrites=true&readPreference=secondary&readConcernLevel=available"
    )
    with MongoClient[Document](url, event_listeners=[sent]) as own:
        mine = MongoStore(own).blocking()
        there = login()
        assert run_now(mine.admit(there, expected=None, terms=Terms(limit=1), now=NOW)) is SAVED
        assert run_now(mine.load(there.key, now=NOW)) == there
        run_now(mine.end_user("ada", keep=None, now=NOW, token="t"))
        run_now(mine.sweep(now=NOW + 1_000))
        run_now(mine.setup())
    kinds = set()
    for command in sent.commands:
        kinds.add(next(iter(command)))
        assert "txnNumber" not in command
        assert "readConcern" not in command
        if next(iter(command)) in ("insert", "update", "delete", "findAndModify", "createIndexes"):
            assert command["writeConcern"]["w"] == "majority"
            assert command["writeConcern"]["j"] is True
    assert {"insert", "update", "delete", "findAndModify", "find", "createIndexes"} <= kinds


def test_an_ordinary_write_moves_no_index(store: MongoSessions, documents: Collection[Document]) -> None:
    there = record()
    run_now(store.create(there, now=NOW))
    documents.database.command("profile", 2)
    try:
        for n in range(1, 4):
            now = NOW + n * 1.1  # what is left is an hour, and a rounding error
            new = after(there, data=b"%d" % n, seen_at=now, deadline=now + 3_600)
            assert run_now(store.replace(new, expected=there.version, now=now)) is SAVED
            there = new
    finally:
        documents.database.command("profile", 0)
    profile = documents.database["system.profile"]
    writes = list(profile.find({"op": "update", "ns": documents.full_name}))
    profile.drop()
    assert len(writes) == 3
    moved = [write for write in writes if write.get("keysInserted") or write.get("keysDeleted")]
    assert len(moved) <= 1  # at the turn of a step of `gc`


@pytest.mark.parametrize(
    ("command", "index"),
    [
        (Phrases("coatcheck_sessions", {}).list_of("ada", NOW, None, 10), "coatcheck_user"),
        (Phrases("coatcheck_sessions", {}).rivals("ada", NOW), "coatcheck_login"),
        (Phrases("coatcheck_sessions", {}).due(NOW, 10), "coatcheck_due"),
        (Phrases("coatcheck_sessions", {}).count(NOW)[0], "coatcheck_due"),
        (Phrases("coatcheck_sessions", {}).end_all("ada", "k", NOW, "t"), "coatcheck_user"),
        (Phrases("coatcheck_sessions", {}).call_off_all("ada", NOW), "coatcheck_login"),
    ],
    ids=["list_of", "rivals", "due", "count", "end_all", "call_off_all"],
)
def test_what_is_asked_by_user_or_time_has_an_index(
    store: MongoSessions, documents: Collection[Document], command: Document, index: str
) -> None:
    for user in ("ada", "bob", "cleo"):
        run_now(store.create(login(user), now=NOW))
    command = dict(command)
    command.pop("writeConcern", None)
    if "updates" in command:
        command["updates"] = command["updates"][:1]
    plan = str(
        documents.database.command({"explain": command, "verbosity": "queryPlanner"})["queryPlanner"][
            "winningPlan"
        ]
    )
    assert index in plan
    assert "COLLSCAN" not in plan


# ------------------------------------------------------------------------------------------- what the server collects


@pytest.mark.parametrize("left", [-5.0, 0.0, 1.0, 900.0, 86_400.0, 30 * 86_400.0])
def test_the_server_collects_an_hour_after_the_deadline_at_the_earliest(left: float) -> None:
    at = collected_at(NOW + left, NOW).timestamp()
    earliest = time.time() + max(left, 0.0) + SLACK
    assert earliest - 1 <= at <= earliest + STEPS[1] + 1


@pytest.mark.parametrize("left", [1e12, 1e300, float("inf"), float("nan")])
def test_a_deadline_without_end_is_kept_for_long(left: float) -> None:
    assert collected_at(NOW + left, NOW) > datetime(2300, 1, 1, tzinfo=UTC)


def test_a_session_is_collected_by_the_servers_clock_and_not_before(
    store: MongoSessions, documents: Collection[Document]
) -> None:
    """The tests' clock is years behind the server's, so a deadline that the server looked at would be over at once."""
    kept, gone = record(), record()
    for there in (kept, gone):
        run_now(store.create(there, now=NOW))
    with documents.watch([{"$match": {"operationType": "delete"}}]) as deletions:
        documents.update_one({"_id": gone.key}, {"$set": {"gc": datetime.now(UTC) - timedelta(seconds=1)}})
        assert deletions.next()["documentKey"]["_id"] == gone.key  # the server looks every second here
    assert run_now(store.load(kept.key, now=NOW)) == kept
    assert run_now(store.load(gone.key, now=NOW)) is None


def test_the_servers_deadline_follows_the_sessions(
    store: MongoSessions, documents: Collection[Document]
) -> None:
    def gc(key: str) -> datetime:
        at = documents.find_one({"_id": key})
        assert at is not None
        return at["gc"].replace(tzinfo=UTC)

    there = record(deadline=NOW + 60)
    run_now(store.create(there, now=NOW))
    day = timedelta(days=1)
    soon = datetime.now(UTC) + day
    assert gc(there.key) < soon
    run_now(store.touch(there.key, deadline=NOW + 86_400, seen_at=NOW, expected=there.version, now=NOW))
    assert soon + timedelta(minutes=55) < gc(there.key)
    longer = after(there, deadline=NOW + 2 * 86_400, ends_at=NOW + 3 * 86_400)
    assert run_now(store.replace(longer, expected=there.version, now=NOW)) is SAVED
    assert soon + day + timedelta(minutes=55) < gc(there.key)
    shorter = after(longer, deadline=NOW + 10)
    assert run_now(store.replace(shorter, expected=longer.version, now=NOW, may_shorten=True)) is SAVED
    assert gc(there.key) < soon
    run_now(store.delete(there.key, now=NOW, token="t"))
    assert datetime.now(UTC) + timedelta(minutes=59) < gc(there.key) < soon


# -------------------------------------------------------------------------------------------------------- sweeping


def test_what_was_kept_alive_is_not_swept_until_it_is_over(store: MongoSessions) -> None:
    there = record()
    run_now(store.create(there, now=NOW))
    later = there.deadline + 50
    assert run_now(store.touch(there.key, deadline=later, seen_at=NOW, expected=there.version, now=NOW))
    assert run_now(store.sweep(now=there.deadline)) == 0
    assert run_now(store.count(now=there.deadline)) == 1
    assert isinstance(run_now(store.load(there.key, now=there.deadline)), Record)
    assert run_now(store.sweep(now=later)) == 1


def test_count_counts_what_was_kept_alive_since(store: MongoSessions) -> None:
    there = record()
    run_now(store.create(there, now=NOW))
    run_now(store.create(record(), now=NOW))
    longer = after(there, deadline=there.deadline + 50)
    assert run_now(store.replace(longer, expected=there.version, now=NOW)) is SAVED
    assert [run_now(store.count(now=NOW + s)) for s in (3_599, 3_600, 3_649, 3_650)] == [2, 1, 1, 0]


def test_a_sweep_takes_what_died_on_the_way(store: MongoSessions, documents: Collection[Document]) -> None:
    """A login that nobody went on with, and a user's document from before yesterday."""
    run_now(store._client.run(store._say.claim_new("half", "v", "ada", NOW)))
    run_now(store.end_user("old", keep=None, now=NOW, token="t"))
    run_now(store.end_user("new", keep=None, now=NOW, token="t"))
    users = documents.database["coatcheck_sessions_users"]
    users.update_one({"_id": "old"}, {"$set": {"at": datetime.now(UTC) - timedelta(days=1, seconds=9)}})
    assert run_now(store.sweep(now=NOW + 59)) == 0
    assert documents.count_documents({}) == 1
    assert run_now(store.sweep(now=NOW + 60)) == 0
    assert documents.count_documents({}) == 0
    assert [user["_id"] for user in users.find()] == ["new"]


def test_a_login_that_died_on_the_way_is_nowhere_to_be_seen(store: MongoSessions) -> None:
    run_now(store._client.run(store._say.claim_new("half", "v", "ada", NOW)))
    assert run_now(store.count(now=NOW)) == 0
    assert run_now(store.of_user("ada", now=NOW)).records == []
    assert run_now(store.delete("half", now=NOW, token="t")) is False
    assert run_now(store.create(record(key="half"), now=NOW)) is SAVED


def test_logins_under_way_where_there_is_no_session_leave_each_other_alone(
    store: MongoSessions, documents: Collection[Document]
) -> None:
    """Sixteen that cleared each other's claims away would never get on: first requests that adopt one old session do come so."""
    first, second = login(), login()
    second = msgspec.structs.replace(second, key=first.key)
    for claimant in (first, second):
        assert run_now(store._claim(claimant, "ada", None, NOW)) is None
        assert run_now(store.load(first.key, now=NOW)) is None
    claims = documents.find_one({"_id": first.key})
    assert claims is not None
    assert [claim["v"] for claim in claims["c"]] == [first.version, second.version]
    assert run_now(store._call_off(first, None, GONE)) is GONE
    assert run_now(store.admit(first, expected=None, terms=Terms(), now=NOW)) is SAVED
    assert run_now(store.admit(second, expected=None, terms=Terms(), now=NOW)) is TAKEN
    assert "c" not in (documents.find_one({"_id": first.key}) or {"c": ()})


# ------------------------------------------------------------------------------------------------------------ users


def test_fences_go_on_increasing_after_the_server_forgot_them(
    store: MongoSessions, documents: Collection[Document]
) -> None:
    first = run_now(store.end_user("ada", keep=None, now=NOW, token="t")).fence
    documents.database["coatcheck_sessions_users"].delete_many({})
    second = run_now(store.end_user("ada", keep=None, now=NOW, token="t")).fence
    assert second > first
    assert abs(second - time.time()) < 60  # in the server's clock, not in the tests'


def test_a_fence_that_died_half_way_refuses_logins_and_is_raised_again(store: MongoSessions) -> None:
    """`end_user` was cut off after its first command: its caller was told, and calls again."""
    there = login()
    run_now(store.create(there, now=NOW))
    run_now(store._client.run(store._say.raise_fence("ada")))
    old = Terms(stopwatch=lambda: 60.0)
    assert run_now(store.admit(login(), expected=None, terms=old, now=NOW)) is FENCED
    assert run_now(store.end_user("ada", keep=None, now=NOW, token="t")).count == 1
    assert isinstance(run_now(store.load(there.key, now=NOW)), Ended)


def test_an_expired_session_of_the_user_is_not_revived_by_a_clock_that_is_behind(
    store: MongoSessions,
) -> None:
    there = login(deadline=NOW + 10)
    run_now(store.create(there, now=NOW))
    assert run_now(store.end_user("ada", keep=None, now=NOW + 10, token="t")).count == 0
    assert run_now(store.load(there.key, now=NOW)) is None


def test_the_owner_of_nobodys_login_needs_no_fence(store: MongoSessions) -> None:
    there = record()
    assert run_now(store.admit(there, expected=None, terms=Terms(limit=1), now=NOW)) is SAVED
    new = after(there)
    assert run_now(store.admit(new, expected=there.version, terms=Terms(limit=1), now=NOW)) is SAVED
    assert run_now(store.load(there.key, now=NOW)) == new


def test_a_page_ends_before_the_servers_answer_is_too_long(store: MongoSessions) -> None:
    """An answer ends at 16 MB: what did not fit is on the next page, not forgotten."""
    keys = set()
    for _ in range(12):
        there = login(data=bytes(2_000_000))
        run_now(store.create(there, now=NOW))
        keys.add(there.key)
    seen: list[str] = []
    cursor = None
    while True:
        page = run_now(store.of_user("ada", now=NOW, cursor=cursor))
        seen += [there.key for there in page.records]
        if (cursor := page.cursor) is None:
            break
    assert len(seen) == 12
    assert set(seen) == keys


def test_a_cursor_of_somebody_elses_is_refused(store: MongoSessions) -> None:
    with pytest.raises(UsageError, match="cursor"):
        run_now(store.of_user("ada", now=NOW, cursor="garbage"))


# ---------------------------------------------------------------------------------------------------------- watching


def wait_for(notices: "queue.Queue[Notice]", wanted: Notice) -> list[Notice]:
    seen = []
    while wanted not in seen:
        seen.append(notices.get(timeout=30))
    return seen


def test_a_watch_tells_of_what_is_ended_and_of_nothing_else(
    mongo_server: Server, store: MongoSessions
) -> None:
    notices: queue.Queue[Notice] = queue.Queue()
    stop = store.watch(notices.put)
    wait_for(notices, Notice("watching"))
    anonymous, one, two, three = record(), login(), login(), login()
    expired = record(deadline=NOW + 1)
    for there in (anonymous, one, two, expired):
        run_now(store.create(there, now=NOW))
    run_now(store.touch(one.key, deadline=NOW + 4_000, seen_at=NOW, expected=one.version, now=NOW))
    assert run_now(store.load(expired.key, now=NOW + 1)) == Expired(expired.key)
    run_now(store.delete(anonymous.key, now=NOW, token="t"))
    run_now(store.end_one("ada", one.key, now=NOW, token="t"))
    run_now(store.admit(three, expected=None, terms=Terms(limit=1), now=NOW))
    run_now(store.end_user("ada", keep=None, now=NOW, token="t"))
    seen = wait_for(notices, Notice("ended", three.key))
    ended = [notice.key for notice in seen if notice.kind == "ended"]
    assert ended == [anonymous.key, one.key, two.key, three.key]
    assert not [notice for notice in seen if notice.kind == "lost"]
    wait_for(notices, Notice("watching"))  # and again
    stop()


def test_a_watch_on_an_event_loop(mongo_server: Server, store: MongoSessions) -> None:
    async def work() -> list[Notice]:
        async with MongoStore.from_url(mongo_server.url, outage=PATIENT) as backend:
            notices: asyncio.Queue[Notice] = asyncio.Queue()
            stop = backend.awaiting().watch(notices.put_nowait)
            assert await asyncio.wait_for(notices.get(), 30) == Notice("watching")
            there = record()
            await backend.awaiting().create(there, now=NOW)
            await backend.awaiting().delete(there.key, now=NOW, token="t")
            while (notice := await asyncio.wait_for(notices.get(), 30)) != Notice("ended", there.key):
                assert notice == Notice("watching")
            await asyncio.wait_for(notices.get(), 30)
            stop()
            await asyncio.sleep(0)
            backend.awaiting().watch(notices.put_nowait)  # one that is still there when the store is closed
            return []

    assert asyncio.run(work()) == []


def test_a_watch_that_is_stopped_in_the_turn_in_which_the_store_is_closed(mongo_server: Server) -> None:
    """The driver swallowed the cancellation, and closing waited for ever."""

    async def work() -> None:
        backend = MongoStore.from_url(mongo_server.url, outage=PATIENT)
        notices: asyncio.Queue[Notice] = asyncio.Queue()
        stop = backend.awaiting().watch(notices.put_nowait)
        assert await asyncio.wait_for(notices.get(), 30) == Notice("watching")
        stop()
        await asyncio.wait_for(backend.aclose(), 30)

    asyncio.run(work())


@pytest.mark.parametrize("face", ["blocking", "awaiting"])
def test_a_standalone_server_cannot_be_watched_and_that_is_said(
    standalone: Server, caplog: pytest.LogCaptureFixture, face: str
) -> None:
    async def awaiting() -> Notice:
        async with MongoStore.from_url(standalone.url, outage=PATIENT) as backend:
            notices: asyncio.Queue[Notice] = asyncio.Queue()
            backend.awaiting().watch(notices.put_nowait)
            return await asyncio.wait_for(notices.get(), 30)

    with caplog.at_level(logging.WARNING, "coatcheck"):
        if face == "awaiting":
            assert asyncio.run(awaiting()) == Notice("lost")
        else:
            with MongoStore.from_url(standalone.url, outage=PATIENT) as backend:
                notices: queue.Queue[Notice] = queue.Queue()
                backend.blocking().watch(notices.put)
                assert notices.get(timeout=30) == Notice("lost")
    assert "--replSet" in caplog.text


# ------------------------------------------------------------------------------------------------------------ set up


def test_setup_may_be_raced(mongo_server: Server, client: MongoClient[Document]) -> None:
    def work(_: int) -> None:
        with MongoStore.from_url(mongo_server.url, outage=PATIENT, collection="raced") as backend:
            run_now(backend.blocking().setup())
            run_now(backend.blocking().create(record(), now=NOW))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    database = client["coatcheck"]
    names = {index["name"] for index in database["raced"].list_indexes()}
    assert names == {"_id_", "coatcheck_collect", "coatcheck_due", "coatcheck_user", "coatcheck_login"}
    assert database["raced"].count_documents({}) == 8
    database["raced"].drop()
    database["raced_users"].drop()


def test_setup_refuses_a_collection_of_somebody_else(
    mongo_server: Server, client: MongoClient[Document]
) -> None:
    theirs = client["coatcheck"]["sessions"]
    theirs.insert_one({"_id": "sid", "expires": datetime.now(UTC), "session": "{}"})
    with MongoStore.from_url(mongo_server.url, outage=PATIENT, collection="sessions") as backend:
        with pytest.raises(
            ConfigurationError, match="collection='sessions' holds documents of somebody else"
        ):
            run_now(backend.blocking().setup())
        with pytest.raises(CorruptRecord):
            run_now(backend.blocking().load("sid", now=NOW))
    assert [index["name"] for index in theirs.list_indexes()] == ["_id_"]
    theirs.drop()


def test_setup_names_an_index_that_is_in_its_way(mongo_server: Server, client: MongoClient[Document]) -> None:
    theirs = client["coatcheck"]["odd"]
    theirs.create_index([("u", 1)], name="coatcheck_user", unique=True)
    backend = MongoStore.from_url(mongo_server.url, outage=PATIENT, collection="odd")
    with backend, pytest.raises(ConfigurationError, match="coatcheck_user"):
        run_now(backend.blocking().setup())
    theirs.drop()


def test_check_tells_of_missing_indexes(
    mongo_server: Server, client: MongoClient[Document], caplog: pytest.LogCaptureFixture
) -> None:
    with (
        MongoStore.from_url(mongo_server.url, outage=PATIENT, collection="bare") as backend,
        caplog.at_level(logging.WARNING, "coatcheck"),
    ):
        store = backend.blocking()
        run_now(store.check())
        assert "setup()" in caplog.text
        caplog.clear()
        run_now(store.create(record(), now=NOW))
        run_now(store.check())
        assert "coatcheck_collect" in caplog.text
        caplog.clear()
        run_now(store.setup())
        run_now(store.check())
        assert caplog.text == ""
    for name in ("bare", "bare_users"):
        client["coatcheck"][name].drop()


# -------------------------------------------------------------------------------------------------- hostile documents

packer = msgspec.msgpack.Encoder()
TIMES = ["soon", b"\x00", None, True, 7, Int64(2**62), datetime(2030, 1, 1), [NOW], {"a": 1}]
HOSTILE: list[tuple[str, Any]] = [
    *[("d", value) for value in [*TIMES, float("inf")] if not (isinstance(value, int) and value < NOW)],
    *[("x", value) for value in [*TIMES, float("inf"), NOW]],
    *[("s", value) for value in ("soon", b"\x00", None, float("inf"), float("nan"))],
    *[("v", value) for value in ("other", b"v", "", None, 7, ["v"])],
    *[("u", value) for value in (b"ada", 7, {"$gt": ""})],
    *[("e", value) for value in ("soon", b"\x00", 7, float("inf"), 2.0**63)],
    *[("p", value) for value in (None, b"", "text", 7, b"\xc0", b"null", [1], {"a": 1}, b"\x91" * 5_000)],
]


def hostile(store: MongoSessions) -> str:
    there = login(versions=("v",))
    run_now(store.create(there, now=NOW))
    return there.key


@pytest.mark.parametrize(("field", "value"), HOSTILE)
def test_68_111_what_is_no_record_is_corrupt(
    store: MongoSessions, documents: Collection[Document], field: str, value: object
) -> None:
    key = hostile(store)
    documents.update_one({"_id": key}, [{"$set": {field: {"$literal": value}}}])
    with pytest.raises(CorruptRecord, match=key):
        run_now(store.load(key, now=NOW))


# (A list as the deadline is compared element by element, so it is taken to be over. It expires like any other.)
@pytest.mark.parametrize(
    ("field", "value"), [pair for pair in HOSTILE if pair[0] not in ("u", "e") and pair != ("d", [NOW])]
)
def test_a_corrupt_document_can_be_ended_and_does_not_spoil_the_list(
    store: MongoSessions, documents: Collection[Document], field: str, value: object
) -> None:
    key = hostile(store)
    documents.update_one({"_id": key}, [{"$set": {field: {"$literal": value}}}])
    sound = login()
    run_now(store.create(sound, now=NOW))
    assert run_now(store.of_user("ada", now=NOW)).records == [sound]
    assert run_now(store.end_one("ada", key, now=NOW, token="t"))
    assert run_now(store.load(key, now=NOW)) == Ended(key, "t", NOW)


@pytest.mark.parametrize("field", ["d", "s", "x", "l", "p", "v", "k", "gc", "due"])
def test_a_document_without_a_field_is_corrupt_or_does_without(
    store: MongoSessions, documents: Collection[Document], field: str
) -> None:
    key = hostile(store)
    documents.update_one({"_id": key}, {"$unset": {field: ""}})
    if field in ("l", "k", "gc", "due"):  # not part of what is read
        assert isinstance(run_now(store.load(key, now=NOW)), Record)
    else:
        with pytest.raises(CorruptRecord):
            run_now(store.load(key, now=NOW))


def test_a_date_beyond_pythons_does_no_harm(store: MongoSessions, documents: Collection[Document]) -> None:
    key = hostile(store)
    documents.update_one({"_id": key}, {"$set": {"gc": DatetimeMS(2**62)}})
    assert isinstance(run_now(store.load(key, now=NOW)), Record)


def test_a_corrupt_document_is_kept_and_not_written_over(
    store: MongoSessions, documents: Collection[Document]
) -> None:
    key = hostile(store)
    documents.update_one({"_id": key}, {"$set": {"p": b"junk"}})
    with pytest.raises(CorruptRecord):
        run_now(store.create(record(key=key), now=NOW))
    found = documents.find_one({"_id": key})
    assert found is not None
    assert found["p"] == b"junk"


def test_what_the_others_do_with_a_corrupt_rival(
    store: MongoSessions, documents: Collection[Document]
) -> None:
    """A limit must be kept though one of the user's documents makes no sense."""
    key = hostile(store)
    documents.update_one({"_id": key}, {"$set": {"l": "soon", "q": "much"}})
    there = login()
    assert run_now(store.admit(there, expected=None, terms=Terms(limit=1), now=NOW)) is SAVED
    assert [r.key for r in run_now(store.of_user("ada", now=NOW)).records] == [there.key]


@pytest.mark.parametrize(
    "bad", [{"key": "\ud800"}, {"user_id": "\ud800"}, {"user_id": 2**70}, {"data": bytes(17_000_000)}]
)
def test_what_mongodb_cannot_keep_is_a_store_error(store: MongoSessions, bad: dict[str, Any]) -> None:
    with pytest.raises(StoreError) as caught:
        run_now(store.create(record(**bad), now=NOW))
    assert caught.value.__cause__ is not None
    assert run_now(store.count(now=NOW)) == 0


def test_a_session_of_15_mb_fits_and_one_of_17_says_why_it_does_not(store: MongoSessions) -> None:
    there = record(data=bytes(15_000_000))
    assert run_now(store.create(there, now=NOW)) is SAVED
    with pytest.raises(StoreError, match="16 MB"):
        run_now(store.replace(after(there, data=bytes(17_000_000)), expected=there.version, now=NOW))
    assert run_now(store.load(there.key, now=NOW)) == there


@pytest.mark.parametrize("text", ["$where", "$$NOW", "$", "a.b", "\x00", "{'$gt': ''}"])
def test_a_text_is_never_an_operator(store: MongoSessions, text: str) -> None:
    there = login(text, versions=(text,), key=text + "k")
    assert run_now(store.admit(there, expected=None, terms=Terms(limit=2, evict=False), now=NOW)) is SAVED
    new = after(there, ends_at=there.ends_at + 5)
    assert run_now(store.replace(new, expected=text, now=NOW)) is SAVED
    assert run_now(store.of_user(text, now=NOW)).records == [new]
    assert run_now(store.end_user(text, keep=text, now=NOW, token=text)).count == 1
    assert run_now(store.load(there.key, now=NOW)) == Ended(there.key, text, NOW)


# ---------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mongodb://", "mongodb"),
        ("mongodb:///coatcheck", "."),
        ("mongodb://host:port/coatcheck", "."),
        ("mongodb://host/coatcheck?replicaset", "."),
        ("mongodb://host/coat check", "[Bb]ad database name"),
        ("mongodb://u:hunter2:x@host/db", "."),
        ("mongodb://u:hunter2@host/db?authMechanism=magic", "."),
        ("mongodb+srv:///db", "mongodb\\+srv://host/database"),
    ],
)
def test_a_wrong_url_is_refused_at_once_without_its_password(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        open_store(url)
    assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r}"


@pytest.mark.parametrize("name", ["", "a$b", "system.sessions", "x" * 200, "nul\0"])
def test_a_wrong_collection_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="collection="):
        MongoStore.from_url("mongodb://localhost/", collection=name)


def test_a_srv_url_is_looked_up_when_it_is_used() -> None:
    store = MongoStore.from_url("mongodb+srv://u:hunter2@cluster.example/shop")
    assert "hunter2" not in repr(store)
    assert "cluster.example/shop" in repr(store)
    store.close()


def test_the_database_of_an_own_client() -> None:
    for url, database in (("mongodb://localhost/shop", "shop"), ("mongodb://localhost", "coatcheck")):
        with MongoClient[Document](url, connect=False) as client:
            assert (
                repr(MongoStore(client)) == f"<MongoStore MongoDB database '{database}' coatcheck_sessions>"
            )
    client = MongoClient[Document]("mongodb://localhost/shop", connect=False)
    assert "'other'" in repr(MongoStore(client, database="other"))
    with pytest.raises(ConfigurationError, match="database="):
        MongoStore(client, database="a b")
    client.close()


def test_something_else_is_no_client() -> None:
    with pytest.raises(ConfigurationError, match="MongoClient"):
        MongoStore("mongodb://localhost")  # type: ignore[arg-type]


def test_outcomes_over_what_is_in_the_way(store: MongoSessions) -> None:
    """A login over a tombstone, and over what has expired."""
    over, late = login(), login(deadline=NOW + 1)
    for there in (over, late):
        run_now(store.create(there, now=NOW))
    run_now(store.delete(over.key, now=NOW, token="t"))
    for expected, outcome in ((None, TAKEN), (over.version, GONE)):
        admitted = store.admit(after(over), expected=expected, terms=Terms(), now=NOW + 1)
        assert run_now(admitted) is outcome
    gone = store.admit(after(late), expected=late.version, terms=Terms(), now=NOW + 1)
    assert run_now(gone) is GONE
    assert (
        run_now(store.admit(after(late, deadline=NOW + 9), expected=None, terms=Terms(), now=NOW + 1))
        is SAVED
    )


def test_the_faces_of_own_clients(mongo_server: Server, store: MongoSessions) -> None:
    async def work() -> object:
        client = AsyncMongoClient[Document](mongo_server.url)
        async with MongoStore(client) as backend:
            there = login()
            assert await backend.awaiting().create(there, now=NOW) is SAVED
            assert await backend.awaiting().end_one("ada", there.key, now=NOW, token="t")
        await client["coatcheck"].command("ping")  # still open
        await client.close()
        return there.key

    assert isinstance(run_now(store.load(str(asyncio.run(work())), now=NOW)), Ended)


# -------------------------------------------------------------------------------------------- what no error may name


def test_a_validator_of_the_collection_names_no_document(
    mongo_server: Server, store: MongoSessions, documents: Collection[Document]
) -> None:
    """The server's answer does, and the key of a document may be a secret (`dialects`)."""
    database, name = documents.database, documents.name
    database.command("collMod", name, validator={"nobody": {"$exists": True}})
    try:
        there = record()
        with pytest.raises(StoreError, match="failed validation") as refused:
            run_now(store.create(there, now=NOW))
    finally:
        database.command("collMod", name, validator={})
    assert there.key not in f"{refused.value!r} {refused.value.__cause__} {refused.value.__cause__!r}"
