"""connect-pg-simple's table, shared with the real package: the contract, every option, each side going on with the other's."""

import asyncio
from collections.abc import Iterator
from typing import Any

import asyncpg
import psycopg
import psycopg_pool
import pytest

from coatcheck.core.ports import Checks, SetsUp
from coatcheck.dialects.express.connect_pg_simple import ConnectPgSimple
from coatcheck.dialects.express.ports import ExpressStore, Lists, Prunes
from coatcheck.errors import WrongFace
from servers import Server
from tests.dialects.connect_pg_simple_help import cookie, database, new_name, node, python
from tests.dialects.contract import SENTENCES, Sentence, keep, named
from tests.dialects.rig import FACES, Place, body, data, on
from tests.patience import PATIENT
from tests.stores.postgres_tables import sql

AT = 1_790_000_000_123
"""Milliseconds, and not a whole second."""
LIFE = 600_000
ODD = 'my "odd" {table}; \\ $1 %s'
COLUMNS = {
    "json": "json, timestamp(6)",
    "jsonb": "jsonb, timestamp(6)",
    "text": "text, timestamp",
    "timestamptz": "json, timestamptz(6)",
}


@pytest.fixture(scope="module")
def url(postgres_server: Server) -> Iterator[str]:
    with database(postgres_server) as url:
        yield url


def make(url: str, name: str, columns: str = COLUMNS["json"]) -> str:
    sess, expire = columns.split(", ")
    sql(
        url,
        f'CREATE TABLE "{name}" (sid varchar PRIMARY KEY, sess {sess} NOT NULL, expire {expire} NOT NULL)',
    )
    return name


# ----------------------------------------------------------------------------------------------------------- contract


@pytest.fixture(scope="module")
def shared(url: str) -> str:
    return make(url, new_name())


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("sentence", SENTENCES, ids=named)
def test_contract(sentence: Sentence, face: str, url: str, shared: str) -> None:
    sql(url, f"DELETE FROM {shared}")
    keep(sentence, face, Place(open=lambda: ConnectPgSimple.from_url(url, outage=PATIENT, table_name=shared)))


OTHERS: dict[str, dict[str, Any]] = {
    "unprepared": {"prepared_statements": False},
    "another zone": {"time_zone": "America/New_York"},
    "no touch": {"disable_touch": True, "ttl": 3_600},
    "always pruning": {"prune_session_interval": 0.001},
}


@pytest.mark.slow
@pytest.mark.parametrize("options", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("sentence", SENTENCES, ids=named)
def test_contract_with_other_options(
    sentence: Sentence, options: dict[str, Any], url: str, shared: str
) -> None:
    if "pruning" in sentence.__name__ and "prune_session_interval" in options:
        return  # it counts what is there
    sql(url, f"DELETE FROM {shared}")
    keep(
        sentence,
        "blocking" if "prune_session_interval" in options else "awaiting",
        Place(
            open=lambda: ConnectPgSimple.from_url(url, outage=PATIENT, table_name=shared, **options),
            default=options.get("ttl", 86_400),
        ),
    )


@pytest.fixture(scope="module", params=["jsonb", "text", "timestamptz"])
def altered(request: pytest.FixtureRequest, url: str) -> str:
    return make(url, f"altered_{request.param}", COLUMNS[request.param])


@pytest.mark.slow
@pytest.mark.parametrize("sentence", SENTENCES, ids=named)
def test_contract_on_columns_that_somebody_altered(sentence: Sentence, url: str, altered: str) -> None:
    sql(url, f"DELETE FROM {altered}")
    keep(
        sentence,
        "blocking",
        Place(open=lambda: ConnectPgSimple.from_url(url, outage=PATIENT, table_name=altered)),
    )


@pytest.mark.parametrize("ability", [Lists, Prunes, Checks, SetsUp])
def test_has_every_ability(ability: type) -> None:
    backend = ConnectPgSimple("postgresql://nowhere.invalid/x")
    assert isinstance(backend.blocking(), ability)
    assert isinstance(backend.awaiting(), ability)
    store: ExpressStore = backend.awaiting()
    assert store.touches


# ------------------------------------------------------------------------------------------------------- each other's

OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "defaults": ({}, {}),
    "table_name": ({"tableName": "web_sessions"}, {"table_name": "web_sessions"}),
    "odd name": ({"tableName": ODD}, {"table_name": ODD}),
    "schema_name": ({"schemaName": 'a "schema"'}, {"schema_name": 'a "schema"'}),
    "ttl": ({"ttl": 1_000}, {"ttl": 1_000}),
    "disable_touch": ({"disableTouch": True}, {"disable_touch": True}),
    "no pruning": ({"pruneSessionInterval": False}, {"prune_session_interval": False}),
    "conString": ({"by": "conString"}, {}),
    "conObject": ({"by": "conObject", "zone": "Asia/Kolkata"}, {"time_zone": "Asia/Kolkata"}),
}


def rows() -> Iterator[Any]:
    """Each option with each maker of the table; in the quick run both only where the name is odd."""
    for name, (theirs, ours) in OPTIONS.items():
        for maker in ("node", "python"):
            is_quick = maker == "node" or name == "odd name"
            yield pytest.param(
                theirs, ours, maker, id=f"{name}-{maker}", marks=() if is_quick else pytest.mark.slow
            )


@pytest.mark.parametrize(("theirs", "ours", "maker"), list(rows()))
def test_each_goes_on_with_the_others_sessions(
    theirs: dict[str, Any], ours: dict[str, Any], maker: str, postgres_server: Server
) -> None:
    with database(postgres_server) as url:
        if schema := ours.get("schema_name"):
            sql(url, 'CREATE SCHEMA "{}"'.format(schema.replace('"', '""')))
        theirs = theirs | {"createTableIfMissing": maker == "node"}
        ours = ours | {"create_table_if_missing": maker == "python"}
        with node(url, session={"cookie": {"maxAge": LIFE}}, **theirs) as app, python(url, **ours) as us:
            touches = not ours.get("disable_touch")
            if maker == "node":
                goes_on_with_nodes(app, us, touches)
                goes_on_with_ours(app, us, touches)
            else:
                goes_on_with_ours(app, us, touches)
                goes_on_with_nodes(app, us, touches)
            forgotten_by_the_browser(app, us, ours.get("ttl", 86_400))


def goes_on_with_nodes(app: Any, us: Any, touches: bool) -> None:
    """Node logs in; Python reads, changes, touches and destroys; Node goes on each time."""
    sid = app.run(["set", ["user"], "ada"], ["set", ["n"], 1], now=AT).body["id"]
    entry = us.lives(sid, AT)
    assert data(entry.text) == {"user": "ada", "n": 1}
    assert entry.expires == 1_790_000_601

    at = AT + 60_000
    us.change(sid, at, LIFE, user="ada", n=2)
    answer = app.run(["get", "n"], cookie=cookie(sid), now=at)
    assert (answer.body["id"], answer.body["results"]) == (sid, [2])
    assert us.lives(sid, at).expires == 1_790_000_661  # touched by Node, to the same second

    answer = app.run(["set", ["n"], 3], cookie=cookie(sid), now=at)
    assert data(us.lives(sid, at).text) == {"user": "ada", "n": 3}

    before = us.lives(sid, at)
    us.touch(sid, at + 500_000, LIFE)
    after = us.get(sid, at + 1_000_000)
    assert (after is not None) is touches
    if after is not None:
        assert (after.text, after.expires) == (before.text, 1_790_001_161)
    assert (app.run(cookie=cookie(sid), now=at + 1_000_000).body["id"] == sid) is touches

    at = at + 1_000_000 if touches else at
    renewed = app.run(["regenerate"], ["set", ["n"], 4], cookie=cookie(sid), now=at).body["id"]
    assert us.get(sid, at) is None
    assert data(us.lives(renewed, at).text) == {"n": 4}
    assert us.destroy(renewed)
    assert app.run(cookie=cookie(renewed), now=at).data == {}


def goes_on_with_ours(app: Any, us: Any, touches: bool) -> None:
    """Python logs in; Node reads, changes, touches and destroys; Python goes on each time."""
    sid, at = "from-python" * 3, AT
    us.create(sid, at, LIFE, who="Zoë ☃ 𝄞", list=[1, None, {"cookie": 1}], line="\u2028\0")
    answer = app.run(cookie=cookie(sid), now=at + 1)
    assert answer.body["id"] == sid
    assert answer.data == {"who": "Zoë ☃ 𝄞", "list": [1, None, {"cookie": 1}], "line": "\u2028\0"}
    touched = us.lives(sid, at + 1)
    assert touched.expires == 1_790_000_601
    assert data(touched.text)["who"] == "Zoë ☃ 𝄞"

    app.run(cookie=cookie(sid), now=at + 300_000)
    assert us.lives(sid, at).expires == (1_790_000_901 if touches else 1_790_000_601)
    app.run(["set", ["n"], 1], cookie=cookie(sid), now=at + 300_000)
    assert data(us.lives(sid, at).text)["n"] == 1
    us.change(sid, at + 300_000, LIFE, n=2)
    assert app.run(["destroy"], cookie=cookie(sid), now=at + 300_000).body["has"] is False
    assert us.get(sid, at + 300_000) is None


def forgotten_by_the_browser(app: Any, us: Any, ttl: float) -> None:
    """A cookie without an end: the default of the store, the same second on both sides."""
    sid = app.run(["maxAge", None], ["set", ["n"], 1], now=AT).body["id"]
    theirs = us.lives(sid, AT).expires
    assert theirs == 1_790_000_001 + ttl
    us.change(sid, AT, None, n=2)
    assert us.lives(sid, AT).expires == theirs


def test_both_see_a_session_end_in_the_same_second(url: str) -> None:
    table = make(url, new_name())
    with node(url, tableName=table) as app, python(url, table_name=table) as us:
        for moment in (AT + 10_000, 1_790_000_010_000, 1_790_000_010_001, 1_790_000_009_999):
            sid = app.run(["expires", moment], ["set", ["n"], 1], now=AT).body["id"]
            text = us.lives(sid, AT).text
            end = int(us.lives(sid, AT).expires or 0) * 1000
            assert moment <= end < moment + 1000
            for at, is_there in ((end, True), (end + 1, False)):
                assert (us.get(sid, at) is not None) is is_there
                sql(url, f"UPDATE {table} SET expire = to_timestamp({end / 1000}) WHERE sid = '{sid}'")
                # Node would move its end, so it is asked by what it makes of an id.
                assert (app.run(cookie=cookie(sid), now=at).body["id"] == sid) is is_there
                sql(url, f"UPDATE {table} SET expire = to_timestamp({end / 1000}) WHERE sid = '{sid}'")
            assert text


def test_the_applications_own_psycopg_pool(url: str) -> None:
    table = make(url, new_name())
    kwargs = {"row_factory": psycopg.rows.dict_row}
    with psycopg_pool.ConnectionPool(url, min_size=1, max_size=4, kwargs=kwargs, open=True) as pool:
        backend = ConnectPgSimple(pool, table_name=table)
        place = Place(open=lambda: backend)
        for sentence in SENTENCES[:4]:
            keep(sentence, "blocking", place)
        with pytest.raises(WrongFace, match=r"psycopg_pool\.ConnectionPool.*asyncpg"):
            backend.awaiting()
        assert "psycopg_pool" in repr(backend)
    made = ConnectPgSimple(lambda: psycopg.connect(url), table_name=table)
    on("blocking", Place(open=lambda: made), lambda store: store.check())


def test_the_applications_own_asyncpg_pool(url: str) -> None:
    table = make(url, new_name())

    async def work() -> None:
        async with asyncpg.create_pool(url, min_size=1, max_size=4) as pool:
            backend = ConnectPgSimple(pool, table_name=table)
            store = backend.awaiting()
            await store.create("sid", body(None, now=1.0, n=1), expires=None, now=1.0)
            entry = await store.get("sid", now=1.0)
            assert entry is not None
            assert data(entry.text) == {"n": 1}
            await backend.aclose()
            assert await pool.fetchval("SELECT 1") == 1  # still open: it is its owner's
            with pytest.raises(WrongFace, match=r"asyncpg\.Pool.*psycopg_pool"):
                backend.blocking()

    asyncio.run(work())
