"""connect-session-sequelize: the contract on three databases, and the same sessions in the real package's hands and in ours."""

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from coatcheck.core.ports import Checks, SetsUp
from coatcheck.core.stepping import run_now
from coatcheck.dialects.express.connect_session_sequelize import ConnectSessionSequelize, SequelizeSessions
from coatcheck.dialects.express.plain import dump, load
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
from servers import Server
from tests.dialects.contract import FACES, SENTENCES, Place, Sentence, keep, named
from tests.dialects.node import Answer, NodeApp, node_app
from tests.dialects.rig import body, data
from tests.dialects.sequelize_places import (
    NAMES,
    SECRET,
    Database,
    cookie_of,
    in_mariadb,
    in_postgres,
    in_sqlite,
)

NOW = 1_764_072_000.25
AGE = 600.0
"""Seconds that a session of these applications lasts."""
Both = tuple[Database, NodeApp, SequelizeSessions]
"""One database in both hands."""


@pytest.fixture(scope="session")
def sequelize_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Database:
    return in_sqlite(tmp_path_factory.mktemp("sequelize") / "sessions.db")


@pytest.fixture(scope="session")
def sequelize_postgres(postgres_server: Server) -> Database:
    return in_postgres(postgres_server)


@pytest.fixture(scope="session")
def sequelize_mariadb(mariadb_server: Server) -> Database:
    return in_mariadb(mariadb_server)


@pytest.fixture(params=NAMES)
def there(request: pytest.FixtureRequest) -> Database:
    """Each of the three databases, without the package's table."""
    database: Database = request.getfixturevalue(f"sequelize_{request.param}")
    database.drop("Sessions")
    return database


@pytest.fixture
def mariadb(sequelize_mariadb: Database) -> Database:
    sequelize_mariadb.drop("Sessions")
    return sequelize_mariadb


@pytest.fixture(scope="module", params=NAMES)
def contract_place(request: pytest.FixtureRequest) -> Place:
    """A table on each of the three for the contract alone."""
    database: Database = request.getfixturevalue(f"sequelize_{request.param}")
    with database.sessions(table_name="contract"):
        return Place(open=lambda: database.store(table_name="contract"))


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("sentence", SENTENCES, ids=named)
def test_contract(sentence: Sentence, face: str, contract_place: Place) -> None:
    keep(sentence, face, contract_place)


WRITES = [sentence for sentence in SENTENCES if "replace" in named(sentence) or "touch" in named(sentence)]


def test_without_touch_and_with_columns_more_it_keeps_the_contract_too(there: Database) -> None:
    options = {"disable_touch": True, "extend_default_fields": with_user}
    with there.sessions():
        there.sql('ALTER TABLE "Sessions" ADD COLUMN "userId" VARCHAR(64)')
        for sentence in WRITES:
            keep(sentence, "blocking", Place(open=lambda: there.store(**options)))


def with_user(defaults: dict[str, Any], session: dict[str, Any]) -> dict[str, Any]:
    return {**defaults, "userId": session.get("passport", {}).get("user")}


# --------------------------------------------------------------------------------------------------------- the real package


def app_on(database: Database, **store: Any) -> AbstractContextManager[NodeApp]:
    cookie = {"maxAge": int(AGE * 1000)}
    session = {"secret": SECRET, "resave": False, "saveUninitialized": False, "cookie": cookie}
    return node_app(database.node(**store), session=session)


def get(sessions: SequelizeSessions, sid: str, now: float = NOW) -> Entry | None:
    return run_now(sessions.get(sid, now=now))


def lives(sessions: SequelizeSessions, sid: str, now: float = NOW) -> Entry:
    entry = get(sessions, sid, now)
    assert entry is not None
    return entry


def changed(entry: Entry, **fields: Any) -> bytes:
    """The body with other data, and the cookie that it had."""
    return dump({"cookie": load(entry.text)["cookie"], **fields})


def replace(sessions: SequelizeSessions, sid: str, over: Entry, text: bytes, now: float = NOW) -> Any:
    return run_now(sessions.replace(sid, text, over=over, expires=now + AGE, now=now))


def create(
    sessions: SequelizeSessions, sid: str, age: float | None = AGE, now: float = NOW, **fields: Any
) -> Any:
    expires = None if age is None else now + age
    return run_now(sessions.create(sid, body(expires, now=now, **fields), expires=expires, now=now))


def new_sid() -> str:
    return secrets.token_urlsafe(24)


def ask(app: NodeApp, *ops: Any, sid: str = "", now: float = NOW) -> Answer:
    return app.run(*ops, cookie=cookie_of(sid) if sid else "", now=round(now * 1000))


def cut(database: Database, moment: float) -> float:
    """A time as the database keeps it: MySQL's DATETIME has no fractions."""
    return float(int(moment)) if database.name == "mariadb" else moment


USERS = "Sessions of users"
OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "disable_touch": ({"options": {"disableTouch": True}}, {"disable_touch": True}),
    "table_name": ({"options": {"tableName": "my_sessions"}}, {"table_name": "my_sessions"}),
    "user_id": (
        {"options": {"tableName": USERS}, "userId": True},
        {"table_name": USERS, "extend_default_fields": with_user},
    ),
}
QUICK = {("disable_touch", "sqlite"), ("table_name", "postgres"), ("user_id", "mariadb")}
SHARED = "Shared"
"""The table of `both`, which Node has made."""


@pytest.fixture(scope="module", params=NAMES)
def both(request: pytest.FixtureRequest) -> Iterator[Both]:
    """Each of the three databases, with an application of Node's and a store of ours on one table."""
    database: Database = request.getfixturevalue(f"sequelize_{request.param}")
    database.drop(SHARED)
    with (
        app_on(database, options={"tableName": SHARED, "expiration": 60_500}) as app,
        database.sessions(table_name=SHARED, expiration=60_500) as sessions,
    ):
        yield database, app, sessions


def test_one_session_in_both_hands(both: Both) -> None:
    begun_by_node(*both, SHARED)
    begun_by_us(*both)


@pytest.mark.parametrize(
    ("option", "name"),
    [
        pytest.param(option, name, marks=() if (option, name) in QUICK else pytest.mark.slow)
        for option in OPTIONS
        for name in NAMES
    ],
)
def test_one_session_in_both_hands_with_each_option(
    option: str, name: str, request: pytest.FixtureRequest
) -> None:
    database: Database = request.getfixturevalue(f"sequelize_{name}")
    theirs, ours = OPTIONS[option]
    table = ours.get("table_name", "Sessions")
    database.drop(table)
    with app_on(database, **theirs) as app, database.sessions(**ours) as sessions:
        begun_by_node(database, app, sessions, table)
        begun_by_us(database, app, sessions)


def begun_by_node(database: Database, app: NodeApp, sessions: SequelizeSessions, table: str) -> None:
    answer = ask(app, ["set", ["n"], 1], ["set", ["passport"], {"user": "ann"}])
    sid = answer.body["id"]
    read = lives(sessions, sid)
    assert data(read.text) == {"n": 1, "passport": {"user": "ann"}}
    assert read.expires == pytest.approx(cut(database, NOW + AGE), abs=0.002)
    if table == USERS:
        assert database.row(sid, table, '"userId"') == ("ann",)
    # We change it, Node goes on, and what we had read is not there any more.
    assert replace(sessions, sid, read, changed(read, n=2, passport={"user": "bea"})) is SAVED
    if table == USERS:
        assert database.row(sid, table, '"userId"') == ("bea",)
    assert ask(app, ["set", ["n"], 3], sid=sid).status == 200
    outcome = replace(sessions, sid, read, changed(read, n=4))
    assert isinstance(outcome, Changed)
    assert outcome.current is not None
    assert data(outcome.current.text) == {"n": 3, "passport": {"user": "bea"}}
    touched_by_both(database, app, sessions, sid, table)
    assert ask(app, ["destroy"], sid=sid).status == 200
    assert get(sessions, sid) is None
    assert replace(sessions, sid, outcome.current, changed(read, n=5)) is GONE
    assert database.row(sid, table) is None


def touched_by_both(
    database: Database, app: NodeApp, sessions: SequelizeSessions, sid: str, table: str
) -> None:
    text, before = database.row(sid, table)
    ask(app, ["get", "n"], sid=sid, now=NOW + 60)
    by_node = database.row(sid, table, '"data", "expires", "updatedAt"')
    database.sql(f'UPDATE "{table}" SET "expires" = %s WHERE "sid" = %s', before, sid)
    run_now(sessions.touch(sid, b"{}", expires=NOW + 60 + AGE, now=NOW + 60))
    by_us = database.row(sid, table, '"data", "expires", "updatedAt"')
    assert by_us == by_node
    assert by_us[0] == text
    assert (by_us[1] == before) is not sessions.touches
    entry = lives(sessions, sid)
    assert entry.expires == pytest.approx(
        cut(database, NOW + AGE + (60 if sessions.touches else 0)), abs=0.002
    )


def begun_by_us(database: Database, app: NodeApp, sessions: SequelizeSessions) -> None:
    sid = new_sid()
    assert create(sessions, sid, n=1) is SAVED
    answer = ask(app, ["get", "n"], ["set", ["n"], 2], sid=sid)
    assert (answer.body["id"], answer.body["results"][0]) == (sid, 1)
    assert data(lives(sessions, sid).text) == {"n": 2}
    assert run_now(sessions.destroy(sid)) is True
    again = ask(app, ["get", "n"], sid=sid)
    assert again.body["id"] != sid
    assert again.data == {}


@pytest.mark.parametrize("age", [AGE, None], ids=["with an end", "while the browser runs"])
def test_the_row_is_the_one_that_node_writes(both: Both, age: float | None) -> None:
    database, app, sessions = both
    columns = '"data", "expires", "createdAt", "updatedAt"'
    text = "é \u2028 𝄞"
    life = [["maxAge", None]] if age is None else []
    theirs = database.row(ask(app, ["set", ["n"], text], *life).body["id"], SHARED, columns)
    sid = new_sid()
    assert create(sessions, sid, age, n=text) is SAVED
    assert database.row(sid, SHARED, columns) == theirs
    # And after a change of each, a while later.
    later = NOW + 30.5
    ask(app, ["set", ["n"], 2], sid=sid, now=later)
    theirs = database.row(sid, SHARED, columns)
    other = new_sid()
    assert create(sessions, other, age, n=text) is SAVED
    end = None if age is None else later + age
    over, written = lives(sessions, other), lives(sessions, sid).text
    outcome = run_now(sessions.replace(other, written, over=over, expires=end, now=later))
    assert outcome is SAVED
    assert database.row(other, SHARED, columns) == theirs


def test_the_table_is_the_one_that_node_makes(both: Both) -> None:
    database, _, sessions = both
    database.drop("Ours")
    by_node = shape(database, SHARED)
    with database.sessions(table_name="Ours"):
        assert shape(database, "Ours") == by_node
    run_now(sessions.setup())  # which lets a table be that is there
    run_now(sessions.check())
    assert shape(database, SHARED) == by_node


def shape(database: Database, table: str) -> list[Any]:
    """What a database says of the table."""
    if database.name == "sqlite":
        # But not that a primary key of Node's may be NULL there, which nobody makes use of.
        return [
            (*row[1:3], row[0] and row[3], *row[4:]) for row in database.sql(f'PRAGMA table_info("{table}")')
        ]
    what = "column_name, data_type, is_nullable, character_maximum_length, datetime_precision, column_default"
    return database.sql(
        f"SELECT {what} FROM information_schema.columns WHERE table_name = %s ORDER BY ordinal_position",
        table,
    )


def test_what_has_expired_is_nothing_to_us_though_node_still_serves_it(both: Both) -> None:
    """The listed deviation (1.5): theirs serves it until its sweeper has passed by."""
    database, app, sessions = both
    database.sql(f'DELETE FROM "{SHARED}"')
    sid = ask(app, ["set", ["n"], 1]).body["id"]
    read, over = lives(sessions, sid), NOW + AGE + 1
    assert get(sessions, sid, over) is None
    assert run_now(sessions.length(now=over)) == 0
    assert run_now(sessions.names(now=over)).sids == []
    assert replace(sessions, sid, read, changed(read, n=2), over) is GONE
    run_now(sessions.touch(sid, read.text, expires=over + AGE, now=over))
    assert get(sessions, sid, over) is None
    assert ask(app, ["get", "n"], sid=sid, now=over).body["results"] == [1]  # and has touched it
    assert data(lives(sessions, sid, over).text) == {"n": 1}
    much_later = over + AGE + 1
    assert create(sessions, sid, now=much_later, n=3) is SAVED
    assert create(sessions, sid, now=much_later, n=4) is TAKEN
    assert ask(app, ["get", "n"], sid=sid, now=much_later).body["results"] == [3]
    assert run_now(sessions.destroy(sid)) is True


def test_a_session_of_node_is_pruned_when_it_has_expired_and_not_before(both: Both) -> None:
    database, app, sessions = both
    database.sql(f'DELETE FROM "{SHARED}"')
    sids = [ask(app, ["set", ["n"], n], now=NOW + n).body["id"] for n in range(3)]
    assert run_now(sessions.prune(now=NOW + AGE - 2)) == 0
    assert run_now(sessions.prune(now=NOW + AGE + 1.5)) == 2
    assert [database.row(sid, SHARED) is not None for sid in sids] == [False, False, True]
    assert run_now(sessions.prune(now=NOW + AGE + 3)) == 1


def test_times_in_another_offset_are_the_same_on_both_sides(mariadb: Database) -> None:
    zone = "+05:30"
    with app_on(mariadb, sequelize={"timezone": zone}) as app, mariadb.sessions(timezone=zone) as sessions:
        sid = ask(app, ["set", ["n"], 1]).body["id"]
        entry = lives(sessions, sid)
        assert entry.expires == cut(mariadb, NOW + AGE)
        assert get(sessions, sid, NOW + AGE + 1) is None
        _, before = mariadb.row(sid)
        assert replace(sessions, sid, entry, entry.text) is SAVED
        assert mariadb.row(sid)[1] == before


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


def refused(there: Database, sessions: SequelizeSessions, sid: str) -> list[str]:
    """What each verb says of it."""
    entry = Entry(b"{}")
    said = []
    for verb in (
        sessions.get(sid, now=NOW),
        sessions.create(sid, b"{}", expires=None, now=NOW),
        sessions.replace(sid, b"{}", over=entry, expires=None, now=NOW),
        sessions.touch(sid, b"{}", expires=None, now=NOW),
        sessions.destroy(sid),
    ):
        with pytest.raises(StoreError) as caught:
            run_now(verb)
        said.append(str(caught.value))
    return said


def test_an_id_that_is_too_long_is_nobodys(there: Database) -> None:
    with there.sessions() as sessions:
        somebody = "a" * 36
        assert create(sessions, somebody, n=1) is SAVED
        for said in refused(there, sessions, somebody + "b"):
            assert "37 characters" in said
            assert "genid" in said
            assert somebody not in said
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


def test_what_sqlite_keeps_that_is_no_text_is_corrupt(sequelize_sqlite: Database) -> None:
    sequelize_sqlite.drop("Sessions")
    with sequelize_sqlite.sessions() as sessions:
        stamp = "2026-01-01 00:00:00.000 +00:00"
        for sid, value in (("blob", b"{}"), ("number", 7)):
            sequelize_sqlite.sql(
                'INSERT INTO "Sessions" VALUES (%s, %s, %s, %s, %s)', sid, stamp, value, stamp, stamp
            )
        with pytest.raises(CorruptRecord):
            get(sessions, "blob", 0.0)
        for text in ("2026-01-01T00:00:00Z", "2026-01-01 00:00:00", "2025-12-31 19:00:00.000 -05:00"):
            sequelize_sqlite.sql('UPDATE "Sessions" SET "expires" = %s', text)
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
def test_what_is_no_dict_of_columns_is_refused(sequelize_sqlite: Database, returned: Any) -> None:
    with sequelize_sqlite.sessions(extend_default_fields=lambda *_: returned) as sessions:
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
