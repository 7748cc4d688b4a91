"""Encryption at rest: the contract over every store, what is in clear, rotation, resealing, and rows that were tampered with."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as changed

from coatcheck import Clock, ConfigurationError, Options, Outage, SessionManager, WeakSecret
from coatcheck.core.events import Event
from coatcheck.core.ids import Ticket
from coatcheck.core.ports import (
    SAVED,
    ByUser,
    Changed,
    Checks,
    Counts,
    NeverWaits,
    Remembers,
    Reseals,
    SetsUp,
    Sweeps,
    Tallies,
    TellsTime,
    Terms,
    Walks,
    Watches,
)
from coatcheck.core.record import Ended, Expired, Lifetime, Login, PendingLogin, Record, Renewal
from coatcheck.core.stepping import run_now
from coatcheck.errors import CorruptRecord
from coatcheck.stores.encrypted import Encrypted, EncryptedSessions
from coatcheck.stores.layered import LayeredStore
from coatcheck.stores.memory import MemoryStore
from coatcheck.stores.mongo import MongoStore
from coatcheck.stores.postgres import PostgresStore
from coatcheck.stores.redis import RedisStore
from coatcheck.stores.sqlalchemy import SQLAlchemyStore
from coatcheck.stores.sqlite import SQLiteStore
from coatcheck.testing import Sentence, StoreContract
from servers import Server
from tests.patience import PATIENT

NEW = "xW4m9qTbR7vKz2LhYc6NfJ8sPd3GgU5aEoXi1tVnCy0"
OLD = "bQ8rJ2kZs6VfT1pMxH9wDy4LcN7gEo5UaKi3XtRvWn0"
NOW = 1_700_000_000.0


def a_record(key: str = "a", **fields: Any) -> Record:
    values: dict[str, Any] = {
        "key": key, "versions": (f"v-{key}",), "verifier": bytes(range(32)), "data": b'{"marker":"plaintext-marker"}',
        "created_at": NOW, "seen_at": NOW, "deadline": NOW + 1_000, "ends_at": NOW + 9_000,
    }  # fmt: skip
    return Record(**(values | fields))


def a_login(key: str = "a", user_id: str = "ada", **fields: Any) -> Record:
    return a_record(
        key,
        user_id=user_id,
        authenticated_at=NOW,
        epoch=3,
        rotated_at=NOW,
        login=Login("otp", True, "marker-of-a-browser", "192.0.2.0/24"),
        lifetime=Lifetime(60.0, True, NOW + 60),
        renewal=Renewal(bytes(32), "nonce-marker", NOW, NOW),
        era=7,
        pending=PendingLogin("pending-marker", ("pwd",), False, NOW, 2),
        **fields,
    )


def after(record: Record, **fields: Any) -> Record:
    return changed(
        record, versions=(f"{record.version}'", *record.versions), **({"data": b'{"n":2}'} | fields)
    )


class Row:
    """A memory store, and sessions encrypted in it, with either secret."""

    def __init__(self, *secrets: str, **options: Any) -> None:
        self.below = MemoryStore()
        self.sessions = self.over(*(secrets or (NEW,)), **options)

    def over(self, *secrets: str, **options: Any) -> EncryptedSessions:
        return Encrypted(self.below, secret=list(secrets), **options).blocking()

    def raw(self, key: str = "a") -> Record:
        row = self.below._rows[key]
        assert isinstance(row, Record)
        return row

    def put(self, row: Record) -> None:
        """As somebody would who can write to the database."""
        self.below._rows[row.key] = row

    def load(self, key: str = "a", now: float = NOW) -> Any:
        return run_now(self.sessions.load(key, now=now))


def create(sessions: Any, record: Record) -> None:
    assert run_now(sessions.create(record, now=NOW)) is SAVED


# ---------------------------------------------------------------------------------------------------------- contract


def memory() -> Encrypted:
    return Encrypted(MemoryStore(), secret=NEW)


@pytest.mark.parametrize("sentence", StoreContract.sentences())
def test_contract_over_memory(sentence: Sentence) -> None:
    StoreContract(memory).run(sentence)


# The rest of the contract is about what the store below does alone, and is in its own tests.
SHARED = [
    sentence
    for sentence in StoreContract.sentences(without=[Counts, Sweeps, Watches])
    if "crowds" not in sentence.body.__module__
]
BLOCKING, AWAITING = (
    [sentence for sentence in SHARED if sentence.mode == mode] for mode in ("blocking", "awaiting")
)


@pytest.mark.parametrize("sentence", BLOCKING)
def test_contract_over_sqlite(sentence: Sentence, tmp_path: Path) -> None:
    StoreContract(lambda: Encrypted(f"sqlite:///{tmp_path / 's.db'}", secret=NEW)).run(sentence)


@pytest.mark.parametrize("sentence", AWAITING)
def test_contract_with_a_cache_on_either_side(sentence: Sentence) -> None:
    StoreContract(lambda: LayeredStore(memory(), max_age=60)).run(sentence)
    StoreContract(lambda: Encrypted(LayeredStore(MemoryStore(), max_age=60), secret=NEW)).run(sentence)


@pytest.mark.parametrize("sentence", AWAITING)
def test_contract_over_redis(sentence: Sentence, redis_server: Server) -> None:
    StoreContract(lambda: Encrypted(redis_server.url, secret=NEW, outage=PATIENT)).run(sentence)


@pytest.fixture(scope="module")
def postgres_url(postgres_server: Server) -> str:
    with SessionManager(postgres_server.url, outage=PATIENT) as manager:
        manager.setup()
    return postgres_server.url


@pytest.mark.parametrize("sentence", BLOCKING)
def test_contract_over_postgres(sentence: Sentence, postgres_url: str) -> None:
    StoreContract(lambda: Encrypted(postgres_url, secret=NEW, outage=PATIENT)).run(sentence)


@pytest.mark.parametrize("sentence", AWAITING)
def test_contract_over_mongo(sentence: Sentence, mongo_server: Server) -> None:
    StoreContract(lambda: Encrypted(mongo_server.url, secret=NEW, outage=PATIENT)).run(sentence)


@pytest.mark.parametrize(
    ("below", "has"),
    [
        (MemoryStore, {ByUser, Sweeps, Counts, Watches, Checks, NeverWaits, Tallies, Walks, Reseals}),
        (lambda: LayeredStore(MemoryStore()), {ByUser, Sweeps, Counts, Watches, Checks, Remembers, Tallies, Walks, Reseals}),
        (lambda: SQLiteStore("s.db"), {ByUser, Sweeps, Counts, Checks, Tallies, Walks, Reseals}),
        (
            lambda: PostgresStore.from_url("postgresql://u@h/d"),
            {ByUser, Sweeps, Counts, Checks, Watches, SetsUp, Tallies, Walks, Reseals, TellsTime},
        ),
    ],
)  # fmt: skip
def test_it_has_the_abilities_of_the_store_below(
    below: Callable[[], Any], has: set[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sessions = Encrypted(below(), secret=NEW).blocking()
    abilities = (
        ByUser,
        Sweeps,
        Counts,
        Watches,
        Checks,
        SetsUp,
        Tallies,
        TellsTime,
        Remembers,
        NeverWaits,
        Walks,
        Reseals,
    )
    assert {ability for ability in abilities if isinstance(sessions, ability)} == has


def test_it_can_be_logged_in_again_once_everybody_was_logged_out() -> None:
    """What a session began in is sealed with it: read as 0, every session would be of an earlier era for ever."""
    time = [NOW]
    with SessionManager(
        Encrypted(MemoryStore(), secret=NEW), clock=Clock(lambda: time[0], lambda: time[0])
    ) as manager:
        before = manager.session()
        before["a"] = 1
        before.save()
        time[0] += 10
        manager.end_everyone()
        assert manager.find(str(before.handle)) is None
        time[0] += 10
        after = manager.session()
        after["a"] = 1
        after.save()
        assert manager.find(str(after.handle)) is not None


def test_what_is_told_of_an_expired_record_is_what_the_row_says() -> None:
    """It is not opened for that; and where the row and the seal differ, the seal has the last word."""
    row = Row()
    create(row.sessions, a_login("a"))
    create(row.sessions, a_login("b"))
    assert row.load("a", NOW + 1_000) == Expired("a", "ada", "idle")
    row.put(changed(row.raw("b"), deadline=NOW + 99_000, ends_at=NOW + 99_000))
    assert row.load("b", NOW + 9_000) == Expired("b", "ada", "absolute")


# ------------------------------------------------------------------------------------------------- what is in the row


def test_what_is_in_clear_and_what_is_not() -> None:
    row = Row()
    record = a_login()
    create(row.sessions, record)
    raw = row.raw()
    assert (raw.verifier, raw.login, raw.lifetime, raw.renewal, raw.epoch, raw.rotated_at, raw.era, raw.pending) == (
        b"", None, None, None, 0, None, 0, None,
    )  # fmt: skip
    clear = ("key", "versions", "user_id", "created_at", "seen_at", "deadline", "ends_at", "authenticated_at")
    assert {name: getattr(raw, name) for name in clear} == {name: getattr(record, name) for name in clear}
    for secret in (b"marker", b"192.0.2", record.verifier, b"otp"):
        assert secret not in raw.data
    assert row.load() == record


def test_the_file_on_disk_shows_no_plaintext(tmp_path: Path) -> None:
    with SessionManager(Encrypted(SQLiteStore(tmp_path / "s.db"), secret=NEW)) as manager:
        session = manager.session()
        session["note"] = "a-marker-nobody-may-see"
        session.save()
    on_disk = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert session.handle.encode() in on_disk
    assert b"a-marker-nobody-may-see" not in on_disk


def test_the_same_record_is_never_the_same_row() -> None:
    row = Row()
    envelopes = {row.sessions.sealed(a_record(), NOW).data for _ in range(1_000)}
    assert len(envelopes) == 1_000


def test_a_write_is_one_command_and_so_is_a_read() -> None:
    asked: list[str] = []

    class Told(MemoryStore):
        async def load(self, key: str, *, now: float) -> Record | Ended | Expired | None:
            asked.append("load")
            return await super().load(key, now=now)

        async def replace(self, record: Record, **how: Any) -> Any:
            asked.append("replace")
            return await super().replace(record, **how)

    sessions = Encrypted(Told(), secret=NEW).blocking()
    create(sessions, a_record())
    run_now(sessions.load("a", now=NOW))
    run_now(sessions.replace(after(a_record()), expected="v-a", now=NOW))
    assert asked == ["load", "replace"]


def test_two_requests_at_once_are_merged_as_ever() -> None:
    manager = SessionManager(Encrypted(MemoryStore(), secret=NEW))
    first = manager.session()
    first["a"] = 1
    first.save()
    assert first._record is not None
    assert first._verifier is not None
    tabs = [manager.session(Ticket(first.handle, first._verifier)) for _ in range(2)]
    for number, tab in enumerate(tabs):
        tab.increment("n")
        tab[f"tab {number}"] = True
    for tab in tabs:
        tab.save()
    seen = dict(manager.session(Ticket(first.handle, first._verifier)))
    assert seen == {"a": 1, "n": 2, "tab 0": True, "tab 1": True}


# ---------------------------------------------------------------------------------------------------------- tampering


def swapped(one: Record, other: Record) -> Record:
    """Row `one` with the envelope of `other`."""
    return changed(one, data=other.data)


TAMPERED: dict[str, Callable[[Record, Record], Record]] = {
    "the envelope of another row": swapped,
    "another user's name": lambda row, other: changed(row, user_id="eve"),
    "nobody's name": lambda row, other: changed(row, user_id=None),
    "the version of another write": lambda row, other: changed(row, versions=("v-other",)),
    "plaintext": lambda row, other: changed(row, data=b'{"admin":true}', verifier=bytes(32)),
    "nothing": lambda row, other: changed(row, data=b""),
    "one octet less": lambda row, other: changed(row, data=row.data[:-1]),
    "one octet more": lambda row, other: changed(row, data=row.data + b"\0"),
}


@pytest.mark.parametrize("how", TAMPERED.values(), ids=TAMPERED)
def test_a_row_that_was_tampered_with_is_corrupt(how: Callable[[Record, Record], Record]) -> None:
    row = Row()
    create(row.sessions, a_login("a"))
    create(row.sessions, a_login("b"))
    row.put(how(row.raw("a"), row.raw("b")))
    with pytest.raises(CorruptRecord):
        row.load("a")
    assert row.load("b") == a_login("b")
    page = run_now(row.sessions.of_user("ada", now=NOW))
    assert [record.key for record in page.records] == ["b"]


def test_an_envelope_of_the_version_before_does_not_open_in_the_present_row() -> None:
    row = Row()
    create(row.sessions, a_record())
    before = row.raw()
    run_now(row.sessions.replace(after(a_record()), expected="v-a", now=NOW))
    row.put(changed(row.raw(), data=before.data))
    with pytest.raises(CorruptRecord):
        row.load()


def test_nobody_prolongs_a_session_beyond_its_sealed_end() -> None:
    row = Row()
    create(row.sessions, a_record())
    row.put(changed(row.raw(), deadline=NOW + 1e6, ends_at=NOW + 1e6))
    assert row.load(now=NOW + 8_999).ends_at == NOW + 9_000
    assert row.load(now=NOW + 9_000) == Expired("a", None, "absolute")


def test_a_login_survives_no_forged_login_time() -> None:
    row = Row()
    create(row.sessions, a_login())
    row.put(changed(row.raw(), authenticated_at=NOW + 500, created_at=NOW + 500))
    assert row.load() == a_login()


def test_a_visitor_of_a_corrupt_row_has_no_session_and_the_operator_hears_of_it() -> None:
    events: list[Event] = []
    below = MemoryStore()
    manager = SessionManager(
        Encrypted(below, secret=NEW), options=Options(on_event=events.append), clock=Clock(time=lambda: NOW)
    )
    one, other = manager.session(), manager.session()
    for session, name in ((one, "one"), (other, "other")):
        session["whose"] = name
        session.login(name)
        session.save()
    below._rows[one.handle] = swapped(below._rows[one.handle], below._rows[other.handle])  # type: ignore[arg-type]
    assert one._verifier is not None
    later = manager.session(Ticket(one.handle, one._verifier))
    assert dict(later) == {}
    assert later.user_id is None
    assert [event.name for event in events][-1] == "session.corrupt"


def test_a_row_that_became_corrupt_meanwhile_is_told_by_the_write_too() -> None:
    row = Row()
    create(row.sessions, a_record())
    row.put(changed(row.raw(), versions=("v-else",), data=b"\x01 rubbish"))
    with pytest.raises(CorruptRecord):
        run_now(row.sessions.replace(after(a_record()), expected="v-a", now=NOW))


def test_a_record_that_is_there_comes_back_opened() -> None:
    row = Row()
    create(row.sessions, a_login())
    first = after(a_login())
    assert run_now(row.sessions.replace(first, expected="v-a", now=NOW)) is SAVED
    again = run_now(row.sessions.replace(changed(first, versions=("z", "v-a")), expected="v-a", now=NOW))
    assert again == Changed(first)
    login = changed(first, versions=("y", "v-a"))
    admitted = run_now(row.sessions.admit(login, expected="v-a", terms=Terms(), now=NOW))
    assert admitted == Changed(first)


# ----------------------------------------------------------------------------------------------------------- rotation


def test_an_old_secret_reads_and_the_next_write_uses_the_new_one() -> None:
    row = Row(OLD)
    create(row.sessions, a_login())
    both = row.over(NEW, OLD)
    assert run_now(both.load("a", now=NOW)) == a_login()
    assert run_now(both.replace(after(a_login()), expected="v-a", now=NOW)) is SAVED
    assert run_now(row.over(NEW).load("a", now=NOW)) == after(a_login())
    with pytest.raises(CorruptRecord):
        run_now(row.over(OLD).load("a", now=NOW))


def resealing(sessions: Any, **how: Any) -> Any:
    numbers = iter(range(10_000))
    return run_now(sessions.reseal(now=NOW, version=lambda: f"r-{next(numbers)}", **how))


def test_resealing_leaves_nothing_under_the_old_secret() -> None:
    row = Row(OLD)
    records = [a_login(f"k{n}") for n in range(5)]
    for record in records:
        create(row.sessions, record)
    create(row.over(NEW), a_record("new"))
    row.put(changed(row.raw("k3"), data=b"\x01 rubbish"))
    told = resealing(row.over(NEW, OLD))
    assert (told.seen, told.resealed, told.unreadable, told.cursor) == (6, 4, 1, None)
    newest = row.over(NEW)
    for record in records:
        if record.key != "k3":
            found = run_now(newest.load(record.key, now=NOW))
            assert changed(found, versions=()) == changed(record, versions=())  # type: ignore[type-var]
            assert found.versions[1:] == record.versions  # type: ignore[union-attr]
    assert resealing(row.over(NEW, OLD)).resealed == 0


def test_resealing_brings_nothing_back_and_overwrites_nobody() -> None:
    row = Row(OLD)
    for key in ("ended", "changed", "expired"):
        create(row.sessions, a_record(key, deadline=NOW + 10 if key == "expired" else NOW + 1_000))
    both = row.over(NEW, OLD)

    class Meanwhile:
        """The store below, where others are quicker between a load and the write."""

        def __init__(self) -> None:
            self.load, self.walk, self.create = row.below.load, row.below.walk, row.below.create
            self.touch, self.delete = row.below.touch, row.below.delete

        async def replace(self, record: Record, **how: Any) -> Any:
            if record.key == "ended":
                await row.below.delete("ended", now=NOW, token="logout")
            if record.key == "changed":
                await both.replace(after(a_record("changed")), expected="v-changed", now=NOW)
            return await row.below.replace(record, **how)

    slow = Encrypted(Meanwhile(), secret=[NEW, OLD]).blocking()
    numbers = iter("abc")
    told = run_now(slow.reseal(now=NOW + 10, version=lambda: next(numbers)))
    assert told.resealed == 0
    assert isinstance(run_now(both.load("ended", now=NOW)), Ended)
    assert run_now(both.load("changed", now=NOW)) == after(a_record("changed"))


def test_an_interrupted_resealing_goes_on_where_it_was(tmp_path: Path) -> None:
    below = SQLiteStore(tmp_path / "s.db")
    old, both = Encrypted(below, secret=OLD).blocking(), Encrypted(below, secret=[NEW, OLD])
    for n in range(7):
        create(old, a_record(f"k{n}"))
    manager = SessionManager(both, clock=Clock(time=lambda: NOW))
    first = manager.reseal(limit=3)
    assert (first.resealed, first.cursor) == (3, "k2")
    assert manager.reseal(limit=3).resealed == 0  # begun anew: those are done
    second = manager.reseal(first.cursor, limit=3)
    last = manager.reseal(second.cursor, limit=3)
    assert (second.resealed, last.resealed, last.cursor) == (3, 1, None)


@pytest.fixture(params=["redis", "postgres", "mongo", "sqlalchemy"])
def below(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A store in a place of its own."""
    url = "" if request.param == "sqlalchemy" else request.getfixturevalue(f"{request.param}_server").url
    makes: dict[str, Callable[[], Any]] = {
        "redis": lambda: RedisStore.from_url(url, outage=PATIENT, prefix="walked:"),
        "postgres": lambda: PostgresStore.from_url(url, outage=PATIENT, table="walked"),
        "mongo": lambda: MongoStore.from_url(url, outage=PATIENT, collection="walked"),
        "sqlalchemy": lambda: SQLAlchemyStore.from_url(f"sqlite:///{tmp_path / 'w.db'}", outage=PATIENT),
    }
    store = makes[request.param]()
    yield store
    store.close()


def key(n: int) -> str:
    return f"key-{n:020d}"


def test_every_store_can_be_walked_and_resealed(below: Any) -> None:
    old = SessionManager(Encrypted(below, secret=OLD), clock=Clock(time=lambda: NOW))
    old.setup()
    store: Any = old.flows.store
    for n in range(25):
        create(store, a_login(key(n), user_id=f"user-{n}"))
    for ended in (3, 4):
        run_now(store.delete(key(ended), now=NOW, token="t"))
    manager = SessionManager(Encrypted(below, secret=[NEW, OLD]), clock=Clock(time=lambda: NOW))
    told = [manager.reseal(limit=10)]
    while told[-1].cursor is not None:
        told.append(manager.reseal(told[-1].cursor, limit=10))
    assert (sum(step.resealed for step in told), sum(step.unreadable for step in told)) == (23, 0)
    newest: Any = Encrypted(below, secret=NEW).blocking()
    for n in range(25):
        found = run_now(newest.load(key(n), now=NOW))
        assert isinstance(found, Ended) if n in (3, 4) else found.login == a_login().login


def test_a_secret_in_a_file_is_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "secret"
    file.write_text(OLD)
    row = Row()
    sessions = Encrypted(row.below, secret=file).blocking()
    create(sessions, a_record())
    file.write_text(f"{NEW}\n{OLD}")
    later = NOW + 60
    assert isinstance(run_now(sessions.load("a", now=later)), Record)
    run_now(sessions.replace(after(a_record()), expected="v-a", now=later))
    assert isinstance(row.load("a", later), Record)
    file.unlink()
    assert isinstance(run_now(sessions.load("a", now=later + 60)), Record)
    assert "the last good one stays" in caplog.text


# ------------------------------------------------------------------------------------------------------- switching on


def test_rows_from_before_are_read_only_where_that_was_said() -> None:
    row = Row()
    create(row.below, a_login())
    with pytest.raises(CorruptRecord, match="allow_plaintext=True"):
        row.load()
    lenient = row.over(NEW, allow_plaintext=True)
    assert run_now(lenient.load("a", now=NOW)) == a_login()
    assert resealing(lenient).resealed == 1
    assert b"marker" not in row.raw().data
    assert row.load().login == a_login().login


# --------------------------------------------------------------------------------------------------------- wrong use


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Encrypted(MemoryStore()), "secret"),
        (lambda: Encrypted(MemoryStore(), secret="changeme"), "secret"),
        (lambda: Encrypted(MemoryStore(), secret=[]), "secret"),
        (lambda: Encrypted(MemoryStore(), secret=NEW, allow_plaintext="yes"), "True or False"),  # type: ignore[arg-type]
        (lambda: Encrypted(MemoryStore(), secret=NEW, outage=Outage()), "URL"),
        (lambda: Encrypted(memory(), secret=NEW), "once is enough"),
        (lambda: Encrypted("nonsense:", secret=NEW), "no store for this"),
    ],
)
def test_what_cannot_be_is_refused_at_once(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        make()


def test_a_weak_secret_passes_where_a_developer_says_so() -> None:
    with pytest.raises(WeakSecret):
        Encrypted(MemoryStore(), secret="dev")
    assert isinstance(Encrypted(MemoryStore(), secret="dev", insecure_dev=True).blocking(), EncryptedSessions)


def test_resealing_what_is_not_encrypted_says_what_is_missing() -> None:
    with pytest.raises(ConfigurationError, match="Encrypted"):
        SessionManager(MemoryStore()).reseal()


def test_nothing_shows_the_secret_or_the_password(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    store = Encrypted("redis://:hunter22@localhost/0", secret=NEW)
    shown = f"{store!r} {store.blocking()!r} {store.blocking()._at!r} {json.dumps(str(vars(store)))} {caplog.text}"
    assert NEW not in shown
    assert "hunter22" not in shown
