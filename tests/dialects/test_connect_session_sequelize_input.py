"""connect-session-sequelize: ids and tables that are not what they seem, settings, columns of the application's, its engines."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import create_engine, event
from sqlalchemy.ext.asyncio import create_async_engine

from coatcheck.core.ports import Checks, SetsUp
from coatcheck.core.stepping import run_now
from coatcheck.dialects.express.connect_session_sequelize import ConnectSessionSequelize, SequelizeSessions
from coatcheck.dialects.express.ports import GONE, SAVED, TAKEN, Changed, Entry, Lists, Prunes
from coatcheck.errors import (
    ConfigurationError,
    CorruptRecord,
    SessionError,
    SessionTooLarge,
    StoreError,
    UnstorableValue,
    WrongFace,
)
from tests.dialects.contract import Place, keep
from tests.dialects.rig import data
from tests.dialects.sequelize_places import (
    AGE,
    NAMES,
    NOW,
    WRITES,
    Database,
    changed,
    create,
    cut,
    get,
    lives,
    new_sid,
    opened,
    replace,
)


@pytest.fixture(params=NAMES)
def there(request: pytest.FixtureRequest) -> Database:
    """Each of the databases, without the package's table."""
    return opened(request.param, request)


@pytest.fixture
def mariadb(request: pytest.FixtureRequest) -> Database:
    return opened("mariadb", request)


@pytest.fixture
def sqlite(request: pytest.FixtureRequest) -> Database:
    return opened("sqlite", request)


# ------------------------------------------------------------------------------------------------------- somebody else's row


@pytest.mark.parametrize("other", ["SID-OF-ann", "sid-of-ann ", "sid-of-änn"])
def test_an_id_that_only_the_collation_takes_for_another_is_another(mariadb: Database, other: str) -> None:
    sid = "sid-of-ann"
    with mariadb.sessions() as sessions:
        mariadb.sql('ALTER TABLE "Sessions" CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci')
        assert create(sessions, sid, n=1) is SAVED
        read, before = lives(sessions, sid), mariadb.sql('SELECT * FROM "Sessions"')
        assert get(sessions, other) is None
        assert replace(sessions, other, read, changed(read, n=2)) is GONE
        run_now(sessions.touch(other, read.text, expires=NOW + 2 * AGE, now=NOW))
        assert run_now(sessions.destroy(other)) is False
        assert create(sessions, other, n=3) is TAKEN  # there is no room for both, and never one for the other
        late = NOW + 2 * AGE
        assert create(sessions, other, now=late, n=3) is TAKEN
        assert mariadb.sql('SELECT * FROM "Sessions"') == before


@pytest.mark.parametrize("charset", ["latin1", "utf8mb3", "ucs2", "utf8mb4"])
def test_whatever_the_character_set_an_id_finds_its_row(mariadb: Database, charset: str) -> None:
    with mariadb.sessions() as sessions:
        mariadb.sql(f'ALTER TABLE "Sessions" CONVERT TO CHARACTER SET {charset}')
        sid = new_sid()
        assert create(sessions, sid, n="é") is SAVED
        entry = lives(sessions, sid)
        assert replace(sessions, sid, entry, changed(entry, n="è")) is SAVED
        assert data(lives(sessions, sid).text) == {"n": "è"}
        assert run_now(sessions.destroy(sid)) is True


@pytest.mark.parametrize("others", ["Tea", "tea ", "téa"])
def test_a_replace_compares_octets_and_not_what_the_collation_takes_for_the_same(
    there: Database, others: str
) -> None:
    with there.sessions() as sessions:
        sid = new_sid()
        assert create(sessions, sid, drink="tea") is SAVED
        read = lives(sessions, sid)
        there.sql('UPDATE "Sessions" SET "data" = %s', changed(read, drink=others).decode())
        outcome = replace(sessions, sid, read, changed(read, drink="water"))
        assert isinstance(outcome, Changed)
        there.sql('UPDATE "Sessions" SET "data" = %s', read.text.decode() + " ")
        assert isinstance(replace(sessions, sid, read, changed(read, drink="water")), Changed)


def test_an_id_that_is_too_long_is_nobodys(there: Database) -> None:
    with there.sessions() as sessions:
        somebody = "a" * 36
        assert create(sessions, somebody, n=1) is SAVED
        with pytest.raises(StoreError, match=r"37 characters.*genid") as caught:
            create(sessions, somebody + "b", n=2)
        assert somebody not in str(caught.value)
        # A browser may have a cookie of another store's days: there is no such session, as the column says to Node.
        assert get(sessions, somebody + "b") is None
        outcome = sessions.replace(somebody + "b", b"{}", over=Entry(b"{}"), expires=None, now=NOW)
        assert run_now(outcome) is GONE
        run_now(sessions.touch(somebody + "b", b"{}", expires=None, now=NOW))
        assert run_now(sessions.destroy(somebody + "b")) is False
        assert there.sql('SELECT count(*) FROM "Sessions"') == [(1,)]


def test_a_session_too_long_for_the_column_is_refused_whatever_the_server_would_cut_off(
    mariadb: Database,
) -> None:
    before = mariadb.sql("SELECT @@GLOBAL.sql_mode")[0][0]
    mariadb.sql("SET GLOBAL sql_mode = ''")
    try:
        with mariadb.sessions() as sessions:
            sid = new_sid()
            assert create(sessions, sid, n=1) is SAVED
            entry = lives(sessions, sid)
            with pytest.raises(SessionTooLarge, match="MEDIUMTEXT"):
                replace(sessions, sid, entry, changed(entry, n="x" * 70_000))
            assert lives(sessions, sid).text == entry.text
            run_now(sessions.check())
        engine = create_engine(mariadb.url.replace("mysql:", "mysql+pymysql:"))
        with pytest.raises(StoreError, match="STRICT_TRANS_TABLES"):
            run_now(ConnectSessionSequelize(engine).blocking().check())
        engine.dispose()
    finally:
        mariadb.sql("SET GLOBAL sql_mode = %s", before)


def test_a_character_that_the_table_cannot_hold_is_refused_and_not_shown(mariadb: Database) -> None:
    with mariadb.sessions() as sessions:
        mariadb.sql('ALTER TABLE "Sessions" CONVERT TO CHARACTER SET utf8mb3')
        with pytest.raises(StoreError, match="utf8mb4") as caught:
            create(sessions, new_sid(), n="𝄞 sesame")
        assert caught.value.__cause__ is None


@pytest.mark.parametrize("sid", ["", "%s", ":p_sid", "' OR '1'='1", "\\", "a\x00b", "𝄞", "%", "_" * 3])
def test_whatever_an_id_is_it_finds_itself_or_nothing(there: Database, sid: str) -> None:
    with there.sessions() as sessions:
        assert create(sessions, "abc", n=1) is SAVED
        if "\x00" in sid and there.name == "postgres":
            with pytest.raises(StoreError, match="NUL"):
                get(sessions, sid)
            return
        assert get(sessions, sid) is None
        assert run_now(sessions.destroy(sid)) is False
        assert create(sessions, sid, n=2) is SAVED
        assert data(lives(sessions, sid).text) == {"n": 2}
        assert data(lives(sessions, "abc").text) == {"n": 1}


# ------------------------------------------------------------------------------------------------------------ bad input


def test_a_table_that_is_not_there_or_another_is_said_to_be_so(there: Database) -> None:
    store = there.store()
    sessions = store.blocking()
    for made in (None, 'CREATE TABLE "Sessions" ("sid" VARCHAR(36) PRIMARY KEY, "sess" TEXT)'):
        if made:
            there.sql(made)
            with pytest.raises(
                StoreError, match=r"not connect-session-sequelize's: it has no column expires, data"
            ):
                run_now(sessions.setup())
        for verb in (
            sessions.get("s", now=NOW),
            sessions.check(),
            sessions.destroy("s") if not made else sessions.prune(now=NOW),
        ):
            with pytest.raises(StoreError, match="the table Sessions is not connect-session-sequelize's"):
                run_now(verb)
    store.close()


@pytest.mark.parametrize(("kind", "says"), [("timestamp", "TIMESTAMP"), ("bigint", "BIGINT")])
def test_times_that_are_none_of_sequelizes_are_refused(there: Database, kind: str, says: str) -> None:
    if there.name == "sqlite":
        kind = "bigint"
    there.sql(
        f'CREATE TABLE "Sessions" ("sid" VARCHAR(36) PRIMARY KEY, "expires" {kind} NULL, "data" TEXT,'
        f' "createdAt" {kind} NULL, "updatedAt" {kind} NULL)'
    )
    store = there.store()
    if there.name != "sqlite":
        with pytest.raises(StoreError, match=rf"column expires is {says}.*DataTypes.DATE"):
            run_now(store.blocking().setup())
    value = "2026-11-23 10:00:00" if kind == "timestamp" else "1764072000000"
    there.sql(f"""INSERT INTO "Sessions" ("sid", "expires", "data") VALUES ('s', '{value}', '{{}}')""")
    if (there.name, kind) != ("mariadb", "timestamp"):  # of which only the declaration tells
        with pytest.raises(StoreError, match="not Sequelize's"):
            get(store.blocking(), "s")
    store.close()


def test_rows_that_nobody_wrote_so(there: Database) -> None:
    with there.sessions() as sessions:
        insert = 'INSERT INTO "Sessions" ("sid", "data", "expires", "createdAt", "updatedAt") VALUES (%s, %s, {}, {}, {})'
        stamp = "'2026-01-01 00:00:00'"
        there.sql(insert.format(stamp, stamp, stamp), "no data", None)
        there.sql(insert.format("NULL", stamp, stamp), "no end", "not json")
        assert get(sessions, "no data", 0.0) is None
        assert create(sessions, "no data", now=0.0, n=1) is SAVED  # as Node would write over it
        assert lives(sessions, "no end", 1e11) == Entry(b"not json", None)
        assert run_now(sessions.prune(now=1e9)) == 1
        assert run_now(sessions.destroy("no end")) is True


def test_what_sqlite_keeps_that_is_no_text_is_corrupt(sqlite: Database) -> None:
    with sqlite.sessions() as sessions:
        stamp = "2026-01-01 00:00:00.000 +00:00"
        for sid, value in (("blob", b"{}"), ("number", 7)):
            sqlite.sql('INSERT INTO "Sessions" VALUES (%s, %s, %s, %s, %s)', sid, stamp, value, stamp, stamp)
        with pytest.raises(CorruptRecord):
            get(sessions, "blob", 0.0)
        for text in ("2026-01-01T00:00:00Z", "2026-01-01 00:00:00", "2025-12-31 19:00:00.000 -05:00"):
            sqlite.sql('UPDATE "Sessions" SET "expires" = %s', text)
            assert lives(sessions, "number", 0.0).expires == 1_767_225_600.0


@pytest.mark.parametrize("age", [1e15, 8.64e12, -5.0, 0.0])
def test_an_end_beyond_all_calendars_is_kept_as_far_as_it_goes(there: Database, age: float) -> None:
    with there.sessions() as sessions:
        sid = new_sid()
        assert run_now(sessions.create(sid, b"{}", expires=NOW + age, now=NOW)) is SAVED
        assert (get(sessions, sid) is not None) is (age > 0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"table_name": ""}, "table_name=''"),
        ({"table_name": 'a"b'}, "table_name="),
        ({"schema": 7}, "schema=7"),
        ({"expiration": 0}, "expiration=0"),
        ({"expiration": 1.5}, "whole milliseconds"),
        ({"check_expiration_interval": -1}, "check_expiration_interval=-1"),
        ({"timezone": "Europe/Berlin"}, "summer time"),
        ({"timezone": 2}, "timezone=2"),
        ({"timezone": "+25:00"}, "offset"),
        ({"pool_size": 0}, "pool_size=0"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_at_once(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        ConnectSessionSequelize("mysql://u:sesame@127.0.0.1/db", **options)


def test_what_is_no_database_of_the_packages_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="not on oracle"):
        ConnectSessionSequelize("sqlalchemy+oracle://u:sesame@127.0.0.1/db")
    with pytest.raises(ConfigurationError, match="Sequelize has none"):
        ConnectSessionSequelize("sqlite:///sessions.db", timezone="+01:00")
    with pytest.raises(ConfigurationError, match="no engine"):
        ConnectSessionSequelize(7)  # type: ignore[arg-type]  # that is the test
    shown = repr(ConnectSessionSequelize("mysql://u:sesame@127.0.0.1/db", schema="s"))
    assert "sesame" not in shown
    assert "s.Sessions" in shown


# ------------------------------------------------------------------------------------------------- what happens in between


@contextmanager
def in_between(database: Database, statement: str, act: Callable[[], Any]) -> Iterator[SequelizeSessions]:
    """A store that has something happen once, after it asked for a first statement that begins so."""
    engine = create_engine(database.url.replace("postgresql:", "postgresql+psycopg:"))
    acts = [act]

    def asked(db: Any, cursor: Any, asked: str, *_: Any) -> None:
        if asked.startswith(statement) and acts:
            acts.pop()()

    event.listen(engine, "after_cursor_execute", asked)
    with database.sessions():
        yield ConnectSessionSequelize(engine).blocking()
    engine.dispose()
    assert acts == []


def test_what_is_touched_while_it_is_pruned_lives_on(request: pytest.FixtureRequest) -> None:
    database, sid = opened("postgres", request), new_sid()

    def touched() -> None:
        database.sql("""UPDATE "Sessions" SET "expires" = '2099-01-01Z'""")

    with in_between(database, "SELECT", touched) as sessions:
        assert create(sessions, sid, n=1) is SAVED
        assert run_now(sessions.prune(now=NOW + AGE)) == 0
        assert data(lives(sessions, sid).text) == {"n": 1}


def test_what_is_written_and_written_back_is_written_over_in_the_end(request: pytest.FixtureRequest) -> None:
    database, sid = opened("postgres", request), new_sid()
    with database.sessions() as sessions:
        assert create(sessions, sid, n=1) is SAVED
        read = lives(sessions, sid)
        database.sql('UPDATE "Sessions" SET "data" = %s', "{}")
    database_text = read.text.decode()

    def written_back() -> None:
        database.sql('UPDATE "Sessions" SET "data" = %s', database_text)

    with in_between(database, "UPDATE", written_back) as sessions:
        assert replace(sessions, sid, read, changed(read, n=2)) is SAVED
        assert data(lives(sessions, sid).text) == {"n": 2}


def test_where_a_row_is_swept_away_meanwhile_a_new_one_is_made(request: pytest.FixtureRequest) -> None:
    database, sid = opened("postgres", request), new_sid()
    with database.sessions() as sessions:
        assert create(sessions, sid, n=1) is SAVED

    def swept() -> None:
        database.sql('DELETE FROM "Sessions"')

    with in_between(database, "UPDATE", swept) as sessions:  # which finds that the other lives
        assert create(sessions, sid, n=2) is SAVED
        assert data(lives(sessions, sid).text) == {"n": 2}


# ------------------------------------------------------------------------------------------------------- columns more, engines


def test_a_column_of_the_applications_is_filled_and_follows(there: Database) -> None:
    seen: list[Any] = []

    def extend(defaults: dict[str, Any], session: dict[str, Any]) -> dict[str, Any]:
        seen.append((sorted(defaults), defaults["expires"].timestamp()))
        return {**defaults, "data": "not taken", "sid": "nor this", "userId": session["user"], "visits": 2}

    with there.sessions(extend_default_fields=extend) as sessions:
        there.sql(
            'ALTER TABLE "Sessions" ADD COLUMN "userId" VARCHAR(64) UNIQUE'
            if there.name != "sqlite"
            else 'ALTER TABLE "Sessions" ADD COLUMN "userId" VARCHAR(64)'
        )
        there.sql('ALTER TABLE "Sessions" ADD COLUMN "visits" INTEGER')
        sid = new_sid()
        assert create(sessions, sid, user="ann") is SAVED
        assert seen == [(["data", "expires"], cut(there, NOW + AGE))]
        assert there.row(sid, columns='"userId", "visits"') == ("ann", 2)
        entry = lives(sessions, sid)
        assert data(entry.text) == {"user": "ann"}
        assert replace(sessions, sid, entry, changed(entry, user="bea")) is SAVED
        assert there.row(sid, columns='"userId", "visits"') == ("bea", 2)
        if there.name != "sqlite":
            with pytest.raises(StoreError, match="refused the row") as caught:
                create(sessions, new_sid(), user="bea")
            assert "bea" not in str(caught.value)


@pytest.mark.parametrize("returned", [None, [], {1: 2}])
def test_what_is_no_dict_of_columns_is_refused(sqlite: Database, returned: Any) -> None:
    with sqlite.sessions(extend_default_fields=lambda *_: returned) as sessions:
        with pytest.raises(UnstorableValue, match="extend_default_fields"):
            create(sessions, new_sid())
        with pytest.raises(SessionError):
            run_now(sessions.create(new_sid(), b"[]", expires=None, now=NOW))


def test_on_engines_of_the_applications(there: Database) -> None:
    driver = {
        "sqlite": ("sqlite", "sqlite+aiosqlite"),
        "postgres": ("postgresql+psycopg", "postgresql+asyncpg"),
        "mariadb": ("mysql+pymysql", "mysql+asyncmy"),
    }[there.name]
    rest = there.url[there.url.index(":") :]
    engine = create_engine(driver[0] + rest)
    store = ConnectSessionSequelize(engine, table_name="contract")
    with pytest.raises(WrongFace):
        store.awaiting()
    with there.sessions(table_name="contract"):
        for sentence in WRITES:
            keep(sentence, "blocking", Place(open=lambda: store))
    engine.dispose()
    asyncio.run(on_an_async_engine(there, driver[1] + rest))


async def on_an_async_engine(database: Database, url: str) -> None:
    engine = create_async_engine(url)
    store = ConnectSessionSequelize(engine, table_name="contract")
    with pytest.raises(WrongFace):
        store.blocking()
    sessions, sid = store.awaiting(), new_sid()
    assert await sessions.create(sid, b'{"cookie":{}}', expires=NOW + AGE, now=NOW) is SAVED
    entry = await sessions.get(sid, now=NOW)
    assert entry is not None
    assert await sessions.replace(sid, b"{}", over=entry, expires=NOW + AGE, now=NOW) is SAVED
    assert await sessions.destroy(sid) is True
    await store.aclose()
    await engine.dispose()


def test_it_can_what_it_says() -> None:
    sessions = ConnectSessionSequelize("mysql://u@127.0.0.1/db").blocking()
    for ability in (Lists, Prunes, Checks, SetsUp):
        assert isinstance(sessions, ability)
