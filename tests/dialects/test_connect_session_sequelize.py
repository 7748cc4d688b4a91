"""connect-session-sequelize: the contract on three databases, and the same sessions in the real package's hands and in ours."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace as replaced
from typing import Any

import pytest

from coatcheck.core.stepping import run_now
from coatcheck.dialects.express.connect_session_sequelize import SequelizeSessions
from coatcheck.dialects.express.ports import GONE, SAVED, TAKEN, Changed
from tests.dialects.contract import FACES, SENTENCES, Place, Sentence, keep, named
from tests.dialects.node import Answer, NodeApp, node_app
from tests.dialects.rig import data
from tests.dialects.sequelize_places import (
    AGE,
    NAMES,
    NOW,
    SECRET,
    WRITES,
    Database,
    changed,
    cookie_of,
    create,
    cut,
    get,
    lives,
    new_sid,
    opened,
    replace,
    with_user,
)

Both = tuple[Database, NodeApp, SequelizeSessions]
"""One database in both hands."""


@pytest.fixture(params=NAMES)
def there(request: pytest.FixtureRequest) -> Database:
    """Each of the databases, without the package's table."""
    return opened(request.param, request)


@pytest.fixture(scope="module", params=NAMES)
def contract_place(request: pytest.FixtureRequest) -> Place:
    """A table on each of the three for the contract alone."""
    database = opened(request.param, request)
    with database.sessions(table_name="contract"):
        return Place(open=lambda: database.store(table_name="contract"))


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("sentence", SENTENCES, ids=named)
def test_contract(sentence: Sentence, face: str, contract_place: Place) -> None:
    keep(sentence, face, contract_place)


def test_without_touch_and_with_columns_more_it_keeps_the_contract_too(there: Database) -> None:
    options = {"disable_touch": True, "extend_default_fields": with_user}
    with there.sessions():
        there.sql('ALTER TABLE "Sessions" ADD COLUMN "userId" VARCHAR(64)')
        for sentence in WRITES:
            keep(sentence, "blocking", Place(open=lambda: there.store(**options)))


# --------------------------------------------------------------------------------------------------------- the real package


def app_on(database: Database, **store: Any) -> AbstractContextManager[NodeApp]:
    cookie = {"maxAge": int(AGE * 1000)}
    session = {"secret": SECRET, "resave": False, "saveUninitialized": False, "cookie": cookie}
    return node_app(database.node(**store), session=session)


def ask(app: NodeApp, *ops: Any, sid: str = "", now: float = NOW) -> Answer:
    return app.run(*ops, cookie=cookie_of(sid) if sid else "", now=round(now * 1000))


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


@pytest.fixture(scope="module", params=(*NAMES, "mysql"))
def both(request: pytest.FixtureRequest) -> Iterator[Both]:
    """Each of the three databases, with an application of Node's and a store of ours on one table."""
    database = opened(request.param, request)
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
    database = opened(name, request)
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
    created = database.row(sid, table, '"createdAt"')[0]
    database.sql(
        f'UPDATE "{table}" SET "expires" = %s, "updatedAt" = %s WHERE "sid" = %s', before, created, sid
    )
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


def test_times_in_another_offset_are_the_same_on_both_sides(request: pytest.FixtureRequest) -> None:
    mariadb, zone = opened("mariadb", request), "+05:30"
    with app_on(mariadb, sequelize={"timezone": zone}) as app, mariadb.sessions(timezone=zone) as sessions:
        sid = ask(app, ["set", ["n"], 1]).body["id"]
        entry = lives(sessions, sid)
        assert entry.expires == cut(mariadb, NOW + AGE)
        assert get(sessions, sid, NOW + AGE + 1) is None
        _, before = mariadb.row(sid)
        assert replace(sessions, sid, entry, entry.text) is SAVED
        assert mariadb.row(sid)[1] == before


@pytest.mark.parametrize("name", ["postgres", "mariadb", "mysql"])
def test_a_schema_is_what_sequelize_makes_of_it(name: str, request: pytest.FixtureRequest) -> None:
    """A schema on PostgreSQL, a database to `mariadb:`, and elsewhere the beginning of a long name."""
    database = opened(name, request)
    if name == "mysql":
        database.drop("coats.Sessions")
    else:
        database.sql(f"DROP SCHEMA IF EXISTS coats {'CASCADE' if name == 'postgres' else ''}")
        database.sql("CREATE SCHEMA coats")
        database = replaced(database, url=database.url.replace("mysql:", "mariadb:"))
    with (
        app_on(database, sequelize={"define": {"schema": "coats"}}) as app,
        database.sessions(schema="coats") as sessions,
    ):
        sid = ask(app, ["set", ["n"], 1]).body["id"]
        assert data(lives(sessions, sid).text) == {"n": 1}
        assert run_now(sessions.destroy(sid)) is True
