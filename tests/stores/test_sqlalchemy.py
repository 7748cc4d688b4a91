"""The SQLAlchemy store on its three databases: the contract in both modes; expiry, sweeping, fences; hostile rows; commands."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import msgspec
import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from coatcheck.core.ports import (
    FENCED,
    SAVED,
    ByUser,
    Changed,
    Checks,
    Counts,
    SetsUp,
    Sweeps,
    Terms,
    Watches,
)
from coatcheck.core.record import Ended, Record
from coatcheck.core.stepping import run_now
from coatcheck.errors import CorruptRecord, StoreError, StoreUnavailable, UsageError
from coatcheck.stores.sqlalchemy import TEND_EVERY, TEND_FIRST, SQLAlchemySessions, SQLAlchemyStore
from coatcheck.testing.contract import Sentence, StoreContract
from tests.stores.sqlalchemy_places import PATIENT, Place, login
from tests.stores.sqlite_workers import NOW, after, record


@pytest.fixture
def store(place: Place) -> Iterator[SQLAlchemySessions]:
    with place.store() as backend:
        yield backend.blocking()


@pytest.mark.parametrize("sentence", StoreContract.sentences(without=[Watches]), ids=lambda s: s.__name__)
def test_contract(sentence: Sentence, place: Place) -> None:
    StoreContract(place.store).run(sentence)


class Given:
    """Stores around engines as an application makes them, which it closes itself."""

    def __init__(self, url: str, driver: str) -> None:
        url = url.removeprefix("sqlalchemy+").replace(":", f"+{driver}:", 1)
        self._engine: Any = (create_async_engine if driver.startswith("a") else create_engine)(url)
        store = SQLAlchemyStore(self._engine, outage=PATIENT)
        self.blocking, self.awaiting = store.blocking, store.awaiting

    def close(self) -> None:
        self._engine.dispose()

    async def aclose(self) -> None:
        await self._engine.dispose()


GIVEN = {
    "postgresql": ("psycopg", "asyncpg"),
    "mariadb": ("pymysql", "asyncmy"),
    "sqlite": ("pysqlite", "aiosqlite"),
}


def given(place: Place, sentence: Sentence) -> None:
    driver = GIVEN[place.name][sentence.mode == "awaiting"]
    StoreContract(lambda: Given(place.url, driver)).run(sentence)


@pytest.mark.slow
@pytest.mark.parametrize("sentence", StoreContract.sentences(without=[Watches]), ids=lambda s: s.__name__)
def test_contract_on_the_applications_own_engine(sentence: Sentence, place: Place) -> None:
    given(place, sentence)


SOME = [
    s
    for s in StoreContract.sentences(without=[Watches])
    if s.name.startswith(("replace_", "create_", "parallel_", "no_login"))
]


@pytest.mark.parametrize("sentence", SOME, ids=lambda s: s.__name__)
def test_writes_and_logins_on_the_applications_own_engine(
    sentence: Sentence, sqlalchemy_mariadb: Place
) -> None:
    """Of MySQL: there alone statements are not in autocommit."""
    sqlalchemy_mariadb.wipe()
    given(sqlalchemy_mariadb, sentence)


@pytest.mark.parametrize("ability", [ByUser, Sweeps, Counts, Checks, SetsUp])
def test_has_every_ability(place: Place, ability: type) -> None:
    with place.store() as backend:
        assert isinstance(backend.blocking(), ability)
        assert isinstance(backend.awaiting(), ability)


def test_both_faces_share_the_sessions(place: Place) -> None:
    there = login("Zoë ☂")

    async def load(backend: SQLAlchemyStore) -> object:
        try:
            return await backend.awaiting().load(there.key, now=NOW)
        finally:
            await backend.aclose()

    with place.store() as backend:
        assert run_now(backend.blocking().create(there, now=NOW)) is SAVED
        assert asyncio.run(load(backend)) == there


def test_two_prefixes_are_two_stores(place: Place) -> None:
    with place.store(prefix="other_") as other, place.store() as backend:
        run_now(other.blocking().setup())
        there = record()
        run_now(backend.blocking().create(there, now=NOW))
        assert run_now(other.blocking().load(there.key, now=NOW)) is None
        assert run_now(other.blocking().count(now=NOW)) == 0


def test_check_insists_on_the_tables(place: Place) -> None:
    with place.store() as backend:
        run_now(backend.blocking().check())
    with (
        place.store(prefix="never_made_") as backend,
        pytest.raises(StoreError, match="coatcheck setup") as caught,
    ):
        run_now(backend.blocking().check())
    assert not isinstance(caught.value, StoreUnavailable)
    assert caught.value.__cause__ is not None


# ----------------------------------------------------------------------------------------------------------- commands


def test_commands_counted_by_the_server(sqlalchemy_mariadb: Place) -> None:
    place = sqlalchemy_mariadb
    place.wipe()

    def questions() -> int:
        return int(place.sql("SHOW GLOBAL STATUS LIKE 'Questions'")[0][1])

    own = -questions() + questions()  # what asking costs

    def cost(call: Any, outcome: object) -> int:
        before = questions()
        assert run_now(call) == outcome
        return questions() - before - own

    with place.store() as backend:
        store, there = backend.blocking(), record()
        run_now(store.check())
        assert cost(store.create(there, now=NOW), SAVED) == 1
        assert cost(store.load(there.key, now=NOW), there) == 1
        new = after(there, b"1")
        assert cost(store.replace(new, expected=there.version, now=NOW), SAVED) == 1
        late = after(there, b"2")
        assert cost(store.replace(late, expected=there.version, now=NOW), Changed(new)) == 2
        touch = store.touch(new.key, deadline=NOW + 9_000, seen_at=NOW, expected=new.version, now=NOW)
        assert cost(touch, True) == 1
        assert cost(store.delete(there.key, now=NOW, token="t"), True) == 1
        # The first time the user's row is made: the attempt is rolled back.
        assert cost(store.admit(login(), expected=None, terms=Terms(), now=NOW), SAVED) == 10
        assert cost(store.admit(login(), expected=None, terms=Terms(), now=NOW), SAVED) == 5
        assert cost(store.admit(login(), expected=None, terms=Terms(limit=5), now=NOW), SAVED) == 6


# ----------------------------------------------------------------------------------------------------------- sweeping


def test_what_was_kept_alive_is_not_swept_until_it_is_over(store: SQLAlchemySessions) -> None:
    there = record()
    run_now(store.create(there, now=NOW))
    later = there.deadline + 50
    assert run_now(store.touch(there.key, deadline=later, seen_at=NOW, expected=there.version, now=NOW))
    assert run_now(store.sweep(now=there.deadline)) == 0
    assert run_now(store.count(now=there.deadline)) == 1
    assert isinstance(run_now(store.load(there.key, now=there.deadline)), Record)
    assert run_now(store.sweep(now=later)) == 1


def test_count_counts_what_was_kept_alive_since(store: SQLAlchemySessions) -> None:
    there = record()
    run_now(store.create(there, now=NOW))
    run_now(store.create(record(), now=NOW))
    longer = msgspec.structs.replace(after(there, b"1"), deadline=there.deadline + 50)
    assert run_now(store.replace(longer, expected=there.version, now=NOW)) is SAVED
    assert [run_now(store.count(now=NOW + s)) for s in (3_599, 3_600, 3_649, 3_650)] == [2, 1, 1, 0]


def test_a_shortened_life_is_swept_in_time(store: SQLAlchemySessions) -> None:
    there = record()
    run_now(store.create(there, now=NOW))
    short = msgspec.structs.replace(after(there, b"1"), deadline=NOW + 10)
    assert run_now(store.replace(short, expected=there.version, now=NOW, may_shorten=True)) is SAVED
    assert run_now(store.sweep(now=NOW + 10)) == 1


def test_more_than_one_step_is_swept(store: SQLAlchemySessions, place: Place) -> None:
    values = ", ".join(f"('k{n}', 'v', {NOW}, {NOW}, {NOW}, {NOW})" for n in range(1_200))
    names = "version, due, deadline, seen_at, ends_at"
    quoted = "`key`" if place.name == "mariadb" else '"key"'
    place.sql(f"INSERT INTO coatcheck_session ({quoted}, {names}) VALUES {values}")
    assert run_now(store.sweep(now=NOW, limit=1_100)) == 1_100
    assert run_now(store.sweep(now=NOW)) == 100


@pytest.mark.parametrize("face", ["blocking", "awaiting"])
def test_the_expired_are_swept_along_with_the_writes(place: Place, face: str) -> None:
    async def work(backend: SQLAlchemyStore) -> None:
        store = backend.blocking() if face == "blocking" else backend.awaiting()
        for _ in range(TEND_FIRST - 10):
            await store.create(msgspec.structs.replace(record(), deadline=NOW + 1), now=NOW)
        there = record()
        await store.create(there, now=NOW)
        for _ in range(TEND_EVERY):
            await store.touch(there.key, deadline=NOW + 9, seen_at=NOW, expected=there.version, now=NOW + 2)
            if place.sql("SELECT count(*) FROM coatcheck_session") == [(1,)]:
                break
        await backend.aclose()

    with place.store() as backend:
        asyncio.run(work(backend))
    assert [tuple(row) for row in place.sql("SELECT count(*) FROM coatcheck_session")] == [(1,)]


# ------------------------------------------------------------------------------------------------------------- fences


def test_the_fence_is_in_the_servers_clock_whatever_its_time_zone(place: Place) -> None:
    with place.store() as backend:
        before = run_now(backend.blocking().end_user("ada", keep=None, now=NOW, token="t")).fence
        after = run_now(backend.blocking().end_user("ada", keep=None, now=NOW, token="t")).fence
    assert after > before
    here = time.monotonic() if place.name == "sqlite" else time.time()
    assert here - 60 < before < here + 1  # all on one machine


def test_times_do_not_pass_through_a_time_zone(place: Place) -> None:
    there = record()
    with place.store() as backend:
        run_now(backend.blocking().create(there, now=NOW))
    ((deadline,),) = place.sql("SELECT deadline FROM coatcheck_session")
    assert deadline == there.deadline


def test_fences_increase_though_the_clock_stands_still(place: Place) -> None:
    with place.store(clock="SELECT 5000.0") as backend:
        store = backend.blocking()
        first, second = (run_now(store.end_user("ada", keep=None, now=NOW, token="t")).fence for _ in "12")
        assert second > first == 5000.0
        terms = Terms(own_fence=first)
        assert run_now(store.admit(login("ada"), expected=None, terms=terms, now=NOW)) is FENCED


def test_a_user_is_forgotten_after_a_day(place: Place) -> None:
    with place.store(clock="SELECT 100000.0") as backend:
        store = backend.blocking()
        run_now(store.end_user("ada", keep=None, now=NOW, token="t"))
        run_now(store.admit(login("bob"), expected=None, terms=Terms(), now=NOW))
    for clock, left in (("186399", 2), ("186401", 0)):
        with place.store(clock=f"SELECT {clock}.0") as backend:
            run_now(backend.blocking().sweep(now=NOW))
            assert len(place.sql("SELECT user_id FROM coatcheck_user")) == left


def test_a_fence_from_before_a_reboot_is_ignored_and_swept(sqlalchemy_sqlite: Place) -> None:
    place = sqlalchemy_sqlite
    place.wipe()
    ahead = time.monotonic() + 100_000
    place.sql("INSERT INTO coatcheck_user (user_id, fence, since) VALUES ('ada', %s, %s)", ahead, ahead)
    with place.store() as backend:
        store = backend.blocking()
        admitted = store.admit(login("ada"), expected=None, terms=Terms(stopwatch=lambda: 5.0), now=NOW)
        assert run_now(admitted) is SAVED
        assert run_now(store.end_user("ada", keep=None, now=NOW, token="t")).fence < ahead
        place.sql("UPDATE coatcheck_user SET since = %s", ahead)
        run_now(store.sweep(now=NOW))
        assert place.sql("SELECT * FROM coatcheck_user") == []


@pytest.mark.parametrize("cursor", ["garbage", "nan k", "inf k", ""])
def test_a_cursor_of_somebody_elses_is_refused(store: SQLAlchemySessions, cursor: str) -> None:
    with pytest.raises(UsageError, match="cursor"):
        run_now(store.of_user("ada", now=NOW, cursor=cursor))


# ------------------------------------------------------------------------------------- hostile rows (checklist 68, 111)


def packed(**changes: Any) -> bytes:
    """A packed column that is sound but for `changes`."""
    fields: dict[str, Any] = dict(
        format=1, versions=("v",), verifier=bytes(32), data=b"0", created_at=NOW, epoch=0, rotated_at=None,
        authenticated_at=None, login=None, renewal=None, lifetime=None,
        era=0, pending=None,
    )  # fmt: skip
    return msgspec.msgpack.encode(list((fields | changes).values()))


HOSTILE = [
    ("deadline", 1.7e12),
    ("ends_at", 1.7e12),
    ("ends_at", NOW),
    ("seen_at", 1.7e308),
    ("version", "other"),
    ("version", ""),
    ("packed", None),
    ("packed", b""),
    ("packed", b"\xc0"),
    ("packed", packed()[:-1]),
    ("packed", b"\x91" * 100_000),
    ("packed", packed(versions=())),
    ("packed", packed(created_at=float("nan"))),
    ("packed", packed(login={"method": 1})),
]


@pytest.mark.parametrize(("column", "value"), HOSTILE)
def test_68_111_what_is_no_record_is_corrupt_and_spoils_nothing_else(
    store: SQLAlchemySessions, place: Place, column: str, value: object
) -> None:
    there = login(versions=("v",))
    run_now(store.create(there, now=NOW))
    place.sql(f"UPDATE coatcheck_session SET {column} = %s", value)
    sound = login()
    run_now(store.create(sound, now=NOW))
    if column == "seen_at":  # finite, and so large that sums are not
        place.sql(
            "UPDATE coatcheck_session SET packed = %s WHERE seen_at > 1e300", packed(created_at=1.7e308)
        )
    with pytest.raises(CorruptRecord, match=there.key):
        run_now(store.load(there.key, now=NOW))
    assert run_now(store.of_user("ada", now=NOW)).records == [sound]
    with pytest.raises(CorruptRecord):
        run_now(store.admit(after(there, b"1"), expected="v", terms=Terms(), now=NOW))
    assert run_now(store.end_one("ada", there.key, now=NOW, token="t"))
    assert run_now(store.load(there.key, now=NOW)) == Ended(there.key, "t", NOW)


@pytest.mark.parametrize("column", ["version", "user_id"])
def test_68_a_text_that_is_not_utf_8_is_corrupt(column: str, request: pytest.FixtureRequest) -> None:
    for name in ("sqlite", "mariadb"):  # PostgreSQL keeps none
        place: Place = request.getfixturevalue(f"sqlalchemy_{name}")
        place.wipe()
        with place.store() as backend:
            there = login()
            run_now(backend.blocking().create(there, now=NOW))
            value = "CAST(x'ff' AS TEXT)" if name == "sqlite" else "x'ff'"
            place.sql(f"UPDATE coatcheck_session SET {column} = {value}")
            with pytest.raises(CorruptRecord):
                run_now(backend.blocking().load(there.key, now=NOW))


def test_a_newer_releases_row_is_read(store: SQLAlchemySessions, place: Place) -> None:
    there = record()
    run_now(store.create(msgspec.structs.replace(there, versions=("v",)), now=NOW))
    newer = msgspec.msgpack.encode([*msgspec.msgpack.decode(packed(format=9)), {"something": "new"}])
    place.sql("UPDATE coatcheck_session SET packed = %s", newer)
    found = run_now(store.load(there.key, now=NOW))
    assert isinstance(found, Record)
    assert found.format == 9


@pytest.mark.parametrize("bad", [{"user_id": "\ud800"}, {"key": "\ud800"}])
def test_a_value_that_the_database_cannot_keep_is_a_store_error(
    store: SQLAlchemySessions, bad: dict[str, Any]
) -> None:
    with pytest.raises(StoreError) as caught:
        run_now(store.create(msgspec.structs.replace(record(), **bad), now=NOW))
    assert caught.value.__cause__ is not None
    assert run_now(store.count(now=NOW)) == 0


def test_a_row_larger_than_the_server_takes_is_a_store_error(sqlalchemy_mariadb: Place) -> None:
    place = sqlalchemy_mariadb
    place.wipe()
    huge = msgspec.structs.replace(record(), data=b"x" * 17_000_000)
    with place.store() as backend:
        store = backend.blocking()
        with pytest.raises(StoreError):
            run_now(store.create(huge, now=NOW))
        there = record()
        assert run_now(store.create(there, now=NOW)) is SAVED


def test_an_error_shows_nothing_of_the_session(store: SQLAlchemySessions, place: Place) -> None:
    """Not even where a traceback is logged, cause and all."""
    import traceback

    secret = b"the-secret-of-the-session"
    with place.store(prefix="never_made_") as backend:
        try:
            run_now(backend.blocking().create(msgspec.structs.replace(record(), data=secret), now=NOW))
        except StoreError as error:
            text = "".join(traceback.format_exception(error))
            assert "coatcheck setup" in text
            assert secret.decode() not in text
            assert secret.hex() not in text
        else:
            pytest.fail("no error")


def test_what_stands_in_the_tables_can_be_read_by_an_operator(
    store: SQLAlchemySessions, place: Place
) -> None:
    there = login("ada")
    run_now(store.create(there, now=NOW))
    with closing(place.connect()):
        ((user_id,),) = place.sql("SELECT user_id FROM coatcheck_session")
    assert user_id in ("ada", b"ada")
