"""The SQLAlchemy store's ways to its databases: URLs and faces, set-up, outages, conflicts, cancellation, loops, closing."""

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, TypeVar

import pymysql  # type: ignore[import-untyped]  # there are no types for it
import pytest
from sqlalchemy import Connection, MetaData, create_engine, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from coatcheck.core.outage import Outage
from coatcheck.core.ports import SAVED, EndedAll, Terms
from coatcheck.core.stepping import run_now
from coatcheck.errors import (
    ConfigurationError,
    ReplyLost,
    StoreError,
    StoreUnavailable,
    UsageError,
    WrongFace,
)
from coatcheck.stores import open_store
from coatcheck.stores._health import ConnectionEvent
from coatcheck.stores._sqlalchemy_errors import translated
from coatcheck.stores._sqlalchemy_runner import READ
from coatcheck.stores._sqlalchemy_url import parsed
from coatcheck.stores.sqlalchemy import SQLAlchemySessions, SQLAlchemyStore, tables
from servers.running import free_port
from tests.stores.sqlalchemy_places import PATIENT, Place, login, silent
from tests.stores.sqlite_workers import NOW, after, record

T = TypeVar("T")
Run = Callable[[Callable[[SQLAlchemySessions], Coroutine[Any, Any, T]]], T]
FACES = ("blocking", "awaiting")


def running(store: SQLAlchemyStore, face: str) -> Run[Any]:
    """A way to run something on either face, many times over: on one event loop, if on any."""
    if face == "blocking":
        return lambda work: run_now(work(store.blocking()))
    return lambda work: _LOOP.run_until_complete(work(store.awaiting()))


_LOOP: asyncio.AbstractEventLoop


@pytest.fixture(autouse=True)
def loop() -> Iterator[None]:
    global _LOOP
    with asyncio.Runner() as runner:
        _LOOP = runner.get_loop()
        yield


def ended(store: SQLAlchemyStore) -> None:
    store.close()
    _LOOP.run_until_complete(store.aclose())


@pytest.fixture(params=["postgres", "mariadb"])
def served(request: pytest.FixtureRequest) -> Place:
    """The databases that have a server."""
    place: Place = request.getfixturevalue(f"sqlalchemy_{request.param}")
    place.wipe()
    return place


# ---------------------------------------------------------------------------------------------------------------- URLs


@pytest.mark.parametrize(
    ("url", "blocking", "awaiting"),
    [
        ("mysql://h/d", "mysql+pymysql", "mysql+asyncmy"),
        ("mariadb://h/d", "mariadb+pymysql", "mariadb+asyncmy"),
        ("mysql+pymysql://h/d", "mysql+pymysql", "mysql+asyncmy"),
        ("mysql+aiomysql://h/d", "mysql+pymysql", "mysql+aiomysql"),
        ("sqlalchemy+mysql+asyncmy://h/d", "mysql+pymysql", "mysql+asyncmy"),
        ("sqlalchemy+postgresql://h/d", "postgresql+psycopg", "postgresql+asyncpg"),
        ("sqlalchemy+postgres://h/d", "postgresql+psycopg", "postgresql+asyncpg"),
        ("sqlalchemy+postgresql+psycopg://h/d", "postgresql+psycopg", "postgresql+psycopg"),
        ("sqlalchemy+postgresql+psycopg2://h/d", "postgresql+psycopg2", "postgresql+asyncpg"),
        ("sqlalchemy+sqlite:///d.db", "sqlite+pysqlite", "sqlite+aiosqlite"),
        ("SQLAlchemy+sqlite+aiosqlite:///d.db", "sqlite+pysqlite", "sqlite+aiosqlite"),
        ("sqlalchemy+oracle://h/d", "oracle", None),
        ("sqlalchemy+mssql+aioodbc://h/d", None, "mssql+aioodbc"),
    ],
)
def test_each_face_has_a_driver(url: str, blocking: str | None, awaiting: str | None) -> None:
    pair = parsed(url)
    assert (pair.blocking and pair.blocking.drivername) == blocking
    assert (pair.awaiting and pair.awaiting.drivername) == awaiting


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlalchemy+sqlite://", "memory:"),
        ("sqlalchemy+sqlite:///:memory:", "memory:"),
        ("mysql+nonsense://ada:s3cret@h/d", "no such dialect or driver"),
        ("sqlalchemy+nonsense://ada:s3cret@h/d", "no such dialect or driver"),
        ("mysql://ada:s3cret@h:port/d", "URL of SQLAlchemy"),
        ("sqlalchemy+oracle://ada:s3cret@h/d", "clock="),
    ],
)
def test_a_url_that_cannot_work_is_refused_and_its_password_not_repeated(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        open_store(url)
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in str(caught.value.__cause__)


def test_a_driver_that_is_not_installed_is_named_with_the_command() -> None:
    store = SQLAlchemyStore.from_url("mysql+mysqldb://h/d")
    with pytest.raises(ConfigurationError, match="pip install mysqlclient"):
        store.blocking()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"pool_size": 0}, "pool_size"),
        ({"prefix": "a-b"}, "prefix"),
        ({"prefix": 'x"; DROP TABLE'}, "prefix"),
        ({"schema": "a.b"}, "schema"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        SQLAlchemyStore.from_url("mysql://h/d", **options)


def test_what_is_no_engine_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no engine"):
        SQLAlchemyStore("mysql://h/d")  # type: ignore[arg-type]  # the mistake that is meant


def test_an_engine_serves_the_face_it_can() -> None:
    blocking = SQLAlchemyStore(create_engine("mysql+pymysql://h/d"))
    awaiting = SQLAlchemyStore(create_async_engine("mysql+asyncmy://h/d"))
    blocking.blocking(), awaiting.awaiting()
    with pytest.raises(WrongFace, match="AsyncEngine"):
        blocking.awaiting()
    with pytest.raises(WrongFace, match="an Engine"):
        awaiting.blocking()


def test_a_face_without_a_driver_is_refused() -> None:
    store = SQLAlchemyStore.from_url("sqlalchemy+oracle://h/d", clock="SELECT 1 FROM dual")
    with pytest.raises(WrongFace, match="no driver that awaits"):
        store.awaiting()


def test_nothing_is_sent_before_the_first_command_and_the_password_never_shown() -> None:
    store = SQLAlchemyStore.from_url(f"mysql://ada:s3cret@127.0.0.1:{free_port()}/d")
    store.blocking(), store.awaiting()
    assert "s3cret" not in repr(store)
    assert repr(store).startswith("<SQLAlchemyStore mysql://ada:***@")
    engine = create_engine("mysql+pymysql://ada:s3cret@h/d")
    assert "s3cret" not in repr(SQLAlchemyStore(engine))


def test_an_awaiting_store_needs_a_loop() -> None:
    store = SQLAlchemyStore.from_url("mysql://h/d")
    with pytest.raises(WrongFace, match="event loop"):
        run_now(store.awaiting().load("key", now=NOW))


# -------------------------------------------------------------------------------------------------------------- tables


def test_set_up_is_safe_when_eight_do_it_at_once(place: Place) -> None:
    prefix = f"race_{random.randrange(10**9)}_"
    start = threading.Barrier(8)

    def work(_: int) -> None:
        with place.store(prefix=prefix) as store:
            store.blocking()
            start.wait(timeout=60)
            run_now(store.blocking().setup())
            assert run_now(store.blocking().create(record(), now=NOW)) is SAVED

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    with place.store(prefix=prefix) as store:
        assert run_now(store.blocking().count(now=NOW)) == 8


def test_set_up_by_an_event_loop(place: Place) -> None:
    store = place.store(prefix="loop_")
    run = running(store, "awaiting")
    run(lambda s: s.setup())
    run(lambda s: s.setup())
    run(lambda s: s.check())
    ended(store)


def test_set_up_makes_an_index_that_is_missing(place: Place) -> None:
    on = " ON coatcheck_session" if place.name == "mariadb" else ""
    place.sql(f"DROP INDEX coatcheck_session_due{on}")
    place.set_up()
    engine = create_engine(parsed(place.url).blocking or "")
    names = {index["name"] for index in inspect(engine).get_indexes("coatcheck_session")}
    engine.dispose()
    assert names >= {"coatcheck_session_due", "coatcheck_session_user"}


def test_a_table_of_somebody_elses_is_refused_and_left_as_it_is(place: Place) -> None:
    place.sql("CREATE TABLE foreign_session (id INTEGER PRIMARY KEY, user_id INTEGER)")
    try:
        with place.store(prefix="foreign_") as store:
            with pytest.raises(
                ConfigurationError, match=r"foreign_session is another application's.*prefix="
            ):
                run_now(store.blocking().setup())
            with pytest.raises(StoreError, match="not coatcheck's"):
                run_now(store.blocking().load("key", now=NOW))
        assert place.sql("SELECT count(*) FROM foreign_session")[0][0] == 0
    finally:
        place.sql("DROP TABLE foreign_session")


def test_the_tables_made_by_a_migration_are_as_good(place: Place) -> None:
    """What Alembic does: `create_all` over the application's own metadata."""
    metadata = MetaData()
    made = tables(metadata, prefix="app_")
    assert tables(metadata, prefix="app_") == made
    assert set(metadata.tables) == {"app_session", "app_tally", "app_user"}
    engine = create_engine(parsed(place.url).blocking or "")
    metadata.create_all(engine)
    with place.store(prefix="app_", metadata=metadata) as store:
        assert store.tables == made
        run_now(store.blocking().setup())
        assert run_now(store.blocking().admit(login(), expected=None, terms=Terms(), now=NOW)) is SAVED
    metadata.drop_all(engine)
    engine.dispose()


def test_tables_in_a_schema(sqlalchemy_postgres: Place) -> None:
    place = sqlalchemy_postgres
    place.sql("CREATE SCHEMA IF NOT EXISTS apart")
    with place.store(schema="apart") as store:
        run_now(store.blocking().setup())
        assert run_now(store.blocking().create(record(), now=NOW)) is SAVED
    assert place.sql("SELECT count(*) FROM apart.coatcheck_session") == [(1,)]
    place.sql("DROP SCHEMA apart CASCADE")


# ------------------------------------------------------------------------------------------------------------- outages


def nowhere() -> str:
    return f"mysql://ada:s3cret@127.0.0.1:{free_port()}/d"


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("scheme", ["mysql", "sqlalchemy+postgresql"])
def test_a_server_that_is_not_there_is_unavailable_and_said_so(
    face: str, scheme: str, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[ConnectionEvent] = []
    url = nowhere().replace("mysql", scheme, 1)
    store = SQLAlchemyStore.from_url(url, outage=Outage(break_after=3), on_connection=events.append)
    run = running(store, face)
    for attempt in range(4):
        with pytest.raises(
            StoreUnavailable, match="nothing is sent" if attempt == 3 else "reached"
        ) as caught:
            run(lambda s: s.load("key", now=NOW))
        assert not isinstance(caught.value, ReplyLost)
        assert "s3cret" not in str(caught.value)
        assert attempt == 3 or caught.value.__cause__ is not None
    ended(store)
    assert [event.state for event in events] == ["lost"]
    assert "lost" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_wrong_password_is_said(sqlalchemy_mariadb: Place) -> None:
    sqlalchemy_mariadb.sql("CREATE OR REPLACE USER guarded IDENTIFIED BY 'right-one'")
    url = sqlalchemy_mariadb.url.replace("root@", "guarded:wr0ng@")
    for face in FACES:
        store = SQLAlchemyStore.from_url(url, outage=PATIENT)
        run = running(store, face)
        with pytest.raises(StoreUnavailable, match="check the user and the password") as caught:
            run(lambda s: s.load("key", now=NOW))
        assert "wr0ng" not in str(caught.value)
        ended(store)


@pytest.mark.parametrize("face", FACES)
def test_a_database_that_is_not_there_is_said(served: Place, face: str) -> None:
    store = SQLAlchemyStore.from_url(served.url.removesuffix("coatcheck") + "nonesuch", outage=PATIENT)
    with pytest.raises(StoreUnavailable, match="create the database"):
        running(store, face)(lambda s: s.load("key", now=NOW))
    ended(store)


def test_an_option_that_the_driver_does_not_know_is_said(sqlalchemy_mariadb: Place) -> None:
    store = SQLAlchemyStore.from_url(sqlalchemy_mariadb.url + "?sslmode=require", outage=PATIENT)
    with pytest.raises(StoreUnavailable, match="sslmode"):
        run_now(store.blocking().load("key", now=NOW))
    store.close()


@pytest.mark.parametrize("face", FACES)
def test_a_server_that_was_restarted_is_found_again_at_once(served: Place, face: str) -> None:
    """Neither a read nor a write is lost to a connection that lay idle meanwhile."""
    assert served.server is not None
    store, there = served.store(), record()
    run = running(store, face)
    assert run(lambda s: s.create(there, now=NOW)) is SAVED
    served.server.stop()
    served.server.start()
    new = after(there, b"1")
    assert run(lambda s: s.replace(new, expected=there.version, now=NOW)) is SAVED
    served.server.kill()
    served.server.start()
    assert run(lambda s: s.load(there.key, now=NOW)) == new
    assert run(lambda s: s.admit(login(), expected=None, terms=Terms(), now=NOW)) is SAVED
    ended(store)


@pytest.mark.parametrize("face", FACES)
def test_an_application_engine_loses_no_read_to_a_restart(served: Place, face: str) -> None:
    """It has no eye on what lies idle; but a read may be run again."""
    assert served.server is not None
    pair = parsed(served.url)
    engine: Any = (
        create_engine(pair.blocking or "") if face == "blocking" else create_async_engine(pair.awaiting or "")
    )
    store, there = SQLAlchemyStore(engine, outage=PATIENT), record()
    run = running(store, face)
    assert run(lambda s: s.create(there, now=NOW)) is SAVED
    served.server.stop()
    served.server.start()
    assert run(lambda s: s.load(there.key, now=NOW)) == there
    ended(store)
    if face == "blocking":
        engine.dispose()
    else:
        _LOOP.run_until_complete(engine.dispose())


DRIVERS = {"postgresql": ("psycopg", "asyncpg", "psycopg_async"), "mariadb": ("pymysql", "asyncmy")}


@pytest.mark.parametrize("driver", [driver for drivers in DRIVERS.values() for driver in drivers])
def test_a_server_that_falls_silent_is_given_up_in_time(driver: str, request: pytest.FixtureRequest) -> None:
    name = "postgres" if driver in DRIVERS["postgresql"] else "mariadb"
    place: Place = request.getfixturevalue(f"sqlalchemy_{name}")
    assert place.server is not None
    url = place.url.replace(":", f"+{driver}:", 1)
    store, there = SQLAlchemyStore.from_url(url, outage=Outage(break_after=2)), record()
    run = running(store, "blocking" if driver in ("psycopg", "pymysql") else "awaiting")
    place.wipe()
    with place.store() as other:  # so that the first command has all the time in the world
        run_now(other.blocking().create(there, now=NOW))
    until = time.monotonic() + 30
    while True:  # the server must be known, or nothing is sent to it: on a busy machine that takes its time
        try:
            assert run(lambda s: s.load(there.key, now=NOW)) == there
            break
        except StoreUnavailable:
            assert time.monotonic() < until
    with silent(place.server):
        began = time.monotonic()
        with pytest.raises(ReplyLost) as caught:
            run(lambda s: s.create(record(), now=NOW))
        assert 0.4 < time.monotonic() - began < 1.5
        assert caught.value.__cause__ is not None
        with pytest.raises(StoreUnavailable):
            run(lambda s: s.load(there.key, now=NOW))
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="nothing is sent"):
            run(lambda s: s.load(there.key, now=NOW))
        assert time.monotonic() - began < 0.4  # a try would take half a second
    ended(store)


@pytest.mark.parametrize("face", FACES)
def test_a_server_that_takes_no_writes_is_left(sqlalchemy_postgres: Place, face: str) -> None:
    """As after a failover: the connection is of no use any more, and the next may lead elsewhere."""
    place = sqlalchemy_postgres
    place.sql("ALTER DATABASE alchemy SET default_transaction_read_only = on")
    store = place.store()
    run = running(store, face)
    try:
        for job in (
            lambda s: s.create(record(), now=NOW),
            lambda s: s.end_user("ada", keep=None, now=NOW, token="t"),
            lambda s: s.check(),
        ):
            with pytest.raises(StoreUnavailable, match="takes no writes") as caught:
                run(job)
            assert not isinstance(caught.value, ReplyLost)
    finally:
        with closing(place.connect()) as other:
            other.execute("SET default_transaction_read_only = off")
            other.execute("ALTER DATABASE alchemy RESET default_transaction_read_only")
    assert run(lambda s: s.create(record(), now=NOW)) is SAVED
    ended(store)


@pytest.mark.parametrize("face", FACES)
def test_a_pool_that_is_used_up_is_unavailable_and_no_outage(served: Place, face: str) -> None:
    events: list[ConnectionEvent] = []
    store = served.store(
        pool_size=1,
        outage=Outage(connect_timeout=0.3, command_timeout=20.0),
        on_connection=events.append,
    )
    run = running(store, face)
    there = login()
    run(lambda s: s.admit(there, expected=None, terms=Terms(), now=NOW))
    with closing(served.connect()) as other:
        cursor = other.cursor()
        cursor.execute("BEGIN")
        cursor.execute("SELECT fence FROM coatcheck_user WHERE user_id = 'ada' FOR UPDATE")

        def admit(s: SQLAlchemySessions) -> Coroutine[Any, Any, Any]:
            return s.admit(login(), expected=None, terms=Terms(), now=NOW)

        if face == "blocking":
            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(run, admit)
                locked_out(served)
                with pytest.raises(StoreUnavailable, match="pool_size"):
                    run(lambda s: s.load(there.key, now=NOW))
                cursor.execute("COMMIT")
                assert waiting.result() is SAVED
        else:

            async def both(s: SQLAlchemySessions) -> None:
                waiting = asyncio.ensure_future(admit(s))
                await asyncio.to_thread(locked_out, served)
                with pytest.raises(StoreUnavailable, match="pool_size"):
                    await s.load(there.key, now=NOW)
                cursor.execute("COMMIT")
                assert await waiting is SAVED

            run(both)
    ended(store)
    assert [event.state for event in events] == ["connected"]


def locked_out(place: Place) -> None:
    """Return when somebody waits for a lock."""
    query = (
        "SELECT count(*) FROM pg_locks WHERE NOT granted"
        if place.name == "postgresql"
        else "SELECT count(*) FROM information_schema.innodb_lock_waits"
    )
    give_up = time.monotonic() + 60
    while not place.sql(query)[0][0]:
        assert time.monotonic() < give_up


@pytest.mark.parametrize("before", ["", "ANSI_QUOTES"])
@pytest.mark.parametrize("face", FACES)
def test_a_connection_of_our_own_has_nothing_cut_off(
    sqlalchemy_mariadb: Place, face: str, before: str
) -> None:
    """MySQL and MariaDB shorten what is too long for its column, where somebody has told them to."""
    ((mode,),) = sqlalchemy_mariadb.sql("SELECT @@GLOBAL.sql_mode")
    sqlalchemy_mariadb.sql("SET GLOBAL sql_mode = %s", before)
    store = sqlalchemy_mariadb.store()
    try:
        said = running(store, face)(lambda s: s._client.run(READ, _mode))
    finally:
        sqlalchemy_mariadb.sql("SET GLOBAL sql_mode = %s", mode)
        ended(store)
    assert set(said.split(",")) == {"STRICT_TRANS_TABLES", before} - {""}


def _mode(db: Connection) -> str:
    return str(db.exec_driver_sql("SELECT @@sql_mode").scalar())


# ----------------------------------------------------------------------------------------------------------- conflicts


def test_a_deadlock_is_begun_anew(served: Place) -> None:
    """The other transaction has a session's row and wants the user's; ending all sessions has them the other way round."""
    with served.store() as store:
        there = login()
        run_now(store.blocking().admit(there, expected=None, terms=Terms(), now=NOW))
        outcome: EndedAll | None = None
        for _ in range(20):
            outcome = deadlocked(served, store.blocking())
            if outcome is not None:
                break
        assert isinstance(outcome, EndedAll)
        assert outcome.count == 1


def deadlocked(place: Place, store: SQLAlchemySessions) -> EndedAll | None:
    """What `end_user` answers after a deadlock whose victim it was; None if it was not."""
    with closing(place.connect()) as other, ThreadPoolExecutor(1) as pool:
        cursor = other.cursor()
        if place.name == "postgresql":
            cursor.execute(
                "SET deadlock_timeout = '30s'"
            )  # the victim is who notices first, after waiting so long
        cursor.execute("BEGIN")
        # Heavy: MySQL's victim is who has done less.
        users = ",".join(f"('heavy-{n}', 1e300)" for n in range(500))
        cursor.execute(f"INSERT INTO coatcheck_user (user_id, since) VALUES {users}")
        cursor.execute("UPDATE coatcheck_session SET seen_at = seen_at + 1")
        waiting = pool.submit(run_now, store.end_user("ada", keep=None, now=NOW, token="t"))
        locked_out(place)
        if place.name == "postgresql" and place.sql("SELECT max(now() - query_start) > '0.8s' FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock'")[0][0]:  # fmt: skip
            cursor.execute("ROLLBACK")  # it may have looked for a deadlock already: the machine is busy
            waiting.result()
            run_now(store.admit(login(), expected=None, terms=Terms(), now=NOW))
            return None
        cursor.execute("SELECT fence FROM coatcheck_user WHERE user_id = 'ada' FOR UPDATE")
        cursor.execute("COMMIT")
        return waiting.result()


@pytest.mark.parametrize("face", FACES)
def test_a_lock_that_is_kept_for_long_is_given_up_and_not_carried_out(served: Place, face: str) -> None:
    store = served.store(outage=Outage(connect_timeout=20, command_timeout=0.5))
    run = running(store, face)
    run(lambda s: s.end_user("ada", keep=None, now=NOW, token="t"))
    late = login()
    with closing(served.connect()) as other:
        cursor = other.cursor()
        cursor.execute("BEGIN")
        cursor.execute("SELECT fence FROM coatcheck_user WHERE user_id = 'ada' FOR UPDATE")
        with pytest.raises(StoreUnavailable):
            run(lambda s: s.admit(late, expected=None, terms=Terms(), now=NOW))
        cursor.execute("COMMIT")
    assert run(lambda s: s.load(late.key, now=NOW)) is None
    ended(store)


# -------------------------------------------------------------------------------------------------------- cancellation


async def cancelled_at_random(s: SQLAlchemySessions, times: int, seed: int) -> int:
    """Load under load, cancelled at any moment. Every answer must be the one that was asked for."""
    chance = random.Random(seed)
    sessions = [record(data=b"%d" % n) for n in range(40)]
    for there in sessions:
        assert await s.create(there, now=NOW) is SAVED
    cancelled = 0

    async def one() -> None:
        nonlocal cancelled
        there = chance.choice(sessions)
        task = asyncio.ensure_future(s.load(there.key, now=NOW))
        for _ in range(chance.randrange(12)):
            await asyncio.sleep(0)
        task.cancel()
        try:
            assert await task == there
        except asyncio.CancelledError:
            cancelled += 1

    async def some() -> None:
        for _ in range(times // 20):
            await one()

    await asyncio.gather(*(some() for _ in range(20)))
    for there in sessions:
        assert await s.load(there.key, now=NOW) == there
    return cancelled


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg", "asyncmy", "aiosqlite"])
def test_cancelled_callers_leave_no_reply_behind(driver: str, request: pytest.FixtureRequest) -> None:
    store = driven(driver, request)
    count = running(store, "awaiting")(lambda s: cancelled_at_random(s, 1_000, 7))
    ended(store)
    assert count > 300


@pytest.mark.slow
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg", "asyncmy", "aiosqlite"])
def test_ten_thousand_cancelled_callers_leave_no_reply_behind(
    driver: str, request: pytest.FixtureRequest
) -> None:
    store = driven(driver, request)
    count = running(store, "awaiting")(lambda s: cancelled_at_random(s, 25_000, 8))
    ended(store)
    assert count > 10_000


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg", "asyncmy", "aiosqlite"])
def test_jobs_that_are_cancelled_themselves_leave_no_reply_behind(
    driver: str, request: pytest.FixtureRequest
) -> None:
    """As a loop does that is shut down: the driver itself is stopped, at any await."""
    store = driven(driver, request)

    async def work(s: SQLAlchemySessions) -> int:
        chance, client = random.Random(9), s._client
        sessions = [record(data=b"%d" % n) for n in range(20)]
        for there in sessions:
            assert await s.create(there, now=NOW) is SAVED
        cancelled = 0
        for turn in range(120):
            loads = [asyncio.ensure_future(s.load(there.key, now=NOW)) for there in sessions[:5]]
            admits = asyncio.ensure_future(s.admit(login(), expected=None, terms=Terms(), now=NOW))
            for _ in range(chance.randrange(40)):
                await asyncio.sleep(0)
            if turn % 3:
                for task in list(client._tasks):  # type: ignore[attr-defined]  # what shuts a loop down sees them too
                    task.cancel()
            for there, load in zip(sessions, loads, strict=False):
                try:
                    assert await load == there
                except asyncio.CancelledError:
                    cancelled += 1
            try:
                assert await admits is SAVED
            except asyncio.CancelledError:
                cancelled += 1
        for there in sessions:
            assert await s.load(there.key, now=NOW) == there
        return cancelled

    assert running(store, "awaiting")(work) > 50
    ended(store)


def driven(driver: str, request: pytest.FixtureRequest) -> SQLAlchemyStore:
    name = {"asyncmy": "mariadb", "aiosqlite": "sqlite"}.get(driver, "postgres")
    place: Place = request.getfixturevalue(f"sqlalchemy_{name}")
    place.wipe()
    return SQLAlchemyStore.from_url(place.url.replace("sqlite:", "sqlite+aiosqlite:").replace(
        "postgresql:", f"postgresql+{driver}:"
    ), outage=PATIENT)  # fmt: skip


# --------------------------------------------------------------------------------------------------- loops, and closing


def test_several_event_loops_one_after_the_other_and_at_once(place: Place) -> None:
    store, there = place.store(), record()
    running(store, "awaiting")(lambda s: s.create(there, now=NOW))
    done: list[object] = []

    def elsewhere() -> None:
        async def work() -> None:
            for _ in range(20):
                assert await store.awaiting().load(there.key, now=NOW) == there
            done.append(there)
            await close_here(store)

        asyncio.run(work())

    threads = [threading.Thread(target=elsewhere) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [there] * 3
    assert running(store, "awaiting")(lambda s: s.load(there.key, now=NOW)) == there
    ended(store)


async def close_here(store: SQLAlchemyStore) -> None:
    """What this loop opened, the others going on."""
    for engines in store._faces.opened_async:
        engine = engines._engines.pop(asyncio.get_running_loop())
        await engine.dispose()


@pytest.mark.parametrize("face", FACES)
def test_a_closed_store_says_so(place: Place, face: str) -> None:
    store = place.store()
    run = running(store, face)
    run(lambda s: s.check())
    ended(store)
    ended(store)
    for job in (lambda s: s.load("key", now=NOW), lambda s: s.count(now=NOW)):
        with pytest.raises(UsageError, match="closed"):
            run(job)


def test_an_engine_of_the_applications_is_not_closed(place: Place) -> None:
    engine = create_engine(parsed(place.url).blocking or "")
    with SQLAlchemyStore(engine) as store:
        run_now(store.blocking().check())
    assert engine.pool.checkedin() > 0  # type: ignore[attr-defined]  # a QueuePool
    engine.dispose()


def test_a_given_engine_is_left_in_its_own_isolation_level(served: Place) -> None:
    engine = create_engine(make_url(parsed(served.url).blocking or ""), pool_size=1, max_overflow=0)
    with engine.connect() as connection:
        before = connection.get_isolation_level()
    with SQLAlchemyStore(engine) as store:
        run_now(store.blocking().admit(login(), expected=None, terms=Terms(), now=NOW))
    with engine.connect() as connection:
        assert connection.get_isolation_level() == before
    engine.dispose()


@pytest.mark.parametrize("face", FACES)
def test_upkeep_that_fails_is_logged_and_hurts_nobody(
    place: Place, face: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = place.store(prefix="never_made_")

    async def later(s: SQLAlchemySessions) -> None:
        s._until_tended = 1
        s._tend(NOW)

    with caplog.at_level(logging.WARNING, "coatcheck"):
        running(store, face)(later)
        ended(store)
    assert "upkeep" in caplog.text


def test_what_fails_mysqls_disk_is_no_file_of_sqlites() -> None:
    """MySQL numbers what its disk does to it from 1, as SQLite does its results: 6 is a file that it could not delete."""
    theirs = pymysql.err.InternalError(6, "Error on delete of '/tmp/#sql-temptable.MAI' (Errcode: 2)")
    told = str(translated(DBAPIError("DESCRIBE t", None, theirs), "mysql://h/d"))
    assert told.startswith("mysql://h/d: the server cannot serve now (InternalError: (6, ")
