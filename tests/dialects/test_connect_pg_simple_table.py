"""connect-pg-simple's table: made as the package makes it, refused where it is another's, and its rows when they are odd."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from coatcheck import Outage
from coatcheck.core.stepping import run_now
from coatcheck.dialects.express.connect_pg_simple import ConnectPgSimple
from coatcheck.dialects.express.ports import SAVED, TAKEN, Changed, Entry
from coatcheck.errors import ConfigurationError, CorruptRecord, StoreError, StoreUnavailable
from servers import Server
from servers.running import free_port
from tests.dialects.connect_pg_simple_help import cookie, database, node, python
from tests.dialects.rig import body, data
from tests.patience import PATIENT
from tests.stores.postgres_tables import sql

AT = 1_790_000_000_000
NOW = AT / 1000
LIFE = 600_000


@pytest.fixture(scope="module")
def module_url(postgres_server: Server) -> Iterator[str]:
    with database(postgres_server) as url:
        yield url


@pytest.fixture
def url(module_url: str) -> str:
    """An empty database."""
    sql(module_url, "DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP SCHEMA IF EXISTS app CASCADE")
    return module_url


@pytest.fixture
def us(url: str) -> Any:
    with python(url, create_table_if_missing=True, prune_session_interval=False) as us:
        us.run(us.store.setup())
        yield us


# ---------------------------------------------------------------------------------------------------------- making it

SHAPE = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attcollation::regcollation::text FROM pg_attribute AS a
WHERE a.attrelid = to_regclass('session') AND a.attnum > 0
UNION ALL SELECT conname, pg_get_constraintdef(oid), condeferrable, contype::text FROM pg_constraint
WHERE conrelid = to_regclass('session')
UNION ALL SELECT indexname, indexdef, true, tablename FROM pg_indexes WHERE tablename = 'session' ORDER BY 1
"""


def test_the_table_is_the_one_that_the_package_makes(url: str) -> None:
    with node(url, createTableIfMissing=True) as app:
        app.run(["set", ["n"], 1])
    theirs = sql(url, SHAPE)
    sql(url, "DROP TABLE session")
    with python(url) as us:
        us.run(us.store.setup())
        us.run(us.store.setup())
    assert sql(url, SHAPE) == theirs
    assert len(theirs) == 6 + len(
        sql(url, "SELECT 1 FROM pg_constraint WHERE contype = 'n' AND conrelid = 'session'::regclass")
    )


def test_a_second_table_in_a_schema_can_be_made_which_the_package_cannot(url: str) -> None:
    for name in ("session", "other", "x" * 63):
        with python(url, table_name=name) as us:
            us.run(us.store.setup())
            us.create("sid", AT, LIFE, of=name)
    with node(url, tableName="other") as app:
        assert app.run(cookie=cookie("sid"), now=AT).data == {"of": "other"}
    assert len(sql(url, "SELECT 1 FROM pg_indexes WHERE schemaname = 'public'")) == 6


def test_several_may_make_it_at_once(url: str) -> None:
    async def work() -> None:
        backends = [ConnectPgSimple.from_url(url, outage=PATIENT) for _ in range(6)]
        await asyncio.gather(*(backend.awaiting().setup() for backend in backends))
        for backend in backends:
            await backend.aclose()

    asyncio.run(work())


def test_a_table_that_is_missing_is_an_error_that_says_so(url: str) -> None:
    with python(url) as us:
        for work in (us.store.check, lambda: us.store.get("sid", now=NOW), lambda: us.store.destroy("sid")):
            with pytest.raises(
                StoreError, match=r"not there.*create_table_if_missing=True.*`coatcheck setup --store express"
            ):
                us.run(work())
        us.run(us.store.setup())
        us.create("sid", AT, LIFE)


@pytest.mark.parametrize("creates", [False, True])
def test_a_table_that_is_dropped_meanwhile(url: str, creates: bool) -> None:
    with python(url, create_table_if_missing=creates) as us:
        us.run(us.store.setup())
        us.create("sid", AT, LIFE)
        sql(url, "DROP TABLE session")
        with pytest.raises(StoreError, match='"session" is gone'):
            us.get("sid", AT)
        if creates:
            assert us.get("sid", AT) is None
            us.create("sid", AT, LIFE)
        else:
            with pytest.raises(StoreError, match="not there"):
                us.get("sid", AT)


def test_a_schema_that_is_missing_is_an_error_that_says_so(url: str) -> None:
    with python(url, schema_name="nowhere", create_table_if_missing=True) as us:
        with pytest.raises(StoreError, match=r"no schema.*CREATE SCHEMA"):
            us.get("sid", AT)
        with pytest.raises(ConfigurationError, match=r"no schema.*CREATE SCHEMA"):
            us.run(us.store.setup())


def test_a_server_that_is_away() -> None:
    backend = ConnectPgSimple.from_url(
        f"postgresql://ada:hush@127.0.0.1:{free_port()}/x", outage=Outage(retries=0, connect_timeout=1)
    )
    with pytest.raises(StoreUnavailable) as caught:
        run_now(backend.blocking().get("sid", now=NOW))
    assert "hush" not in f"{caught.value} {backend!r}"


# --------------------------------------------------------------------------------------------------------- another's


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ("id text PRIMARY KEY, data json", "sid is missing.*sess is missing.*expire is missing"),
        ("sid uuid PRIMARY KEY, sess json, expire timestamp", "sid is uuid, not varchar"),
        ("sid varchar PRIMARY KEY, sess bytea, expire timestamp", "sess is bytea, not json"),
        ("sid varchar PRIMARY KEY, sess json, expire bigint", "expire is bigint, not timestamp"),
        ("sid varchar PRIMARY KEY, sess json, expire date", "expire is date, not timestamp"),
        ("sid varchar, sess json, expire timestamp", "sid has no primary key"),
        ("sid varchar, sess json, expire timestamp, PRIMARY KEY (sid, expire)", "sid has no primary key"),
        ("sid varchar PRIMARY KEY DEFERRABLE, sess json, expire timestamp", "sid has no primary key"),
    ],
)
def test_a_table_of_somebody_else_is_left_as_it_is(url: str, columns: str, words: str) -> None:
    sql(url, f"CREATE TABLE session ({columns})")
    with python(url, create_table_if_missing=True) as us:
        with pytest.raises(StoreError, match=f"not connect-pg-simple's: .*{words}.*table_name="):
            us.create("sid", AT, LIFE)
        with pytest.raises(ConfigurationError, match=words):
            us.run(us.store.setup())
    assert sql(url, "SELECT count(*) FROM session") == [(0,)]


def test_more_columns_are_no_obstacle_and_a_table_that_changes_is_noticed(url: str, us: Any) -> None:
    sql(url, "ALTER TABLE session ADD COLUMN seen_at timestamptz DEFAULT now()")
    us.create("sid", AT, LIFE, n=1)
    sql(url, "ALTER TABLE session RENAME COLUMN sess TO body")
    for words in ("not connect-pg-simple's any more", "sess is missing"):
        with pytest.raises(StoreError, match=words):
            us.get("sid", AT)


# -------------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"table_name": ""}, "table_name=''"),
        ({"table_name": "x" * 64}, "63 octets"),
        ({"table_name": "é" * 32}, "63 octets"),
        ({"table_name": "a\0b"}, "63 octets"),
        ({"table_name": "\ud800"}, "no text"),
        ({"table_name": None}, "table_name=None"),
        ({"table_name": 'app"."session'}, "schema_name= and table_name="),
        ({"schema_name": ""}, "schema_name=''"),
        ({"ttl": 0}, "ttl=0"),
        ({"ttl": 86_400_000}, "ttl.*milliseconds"),
        ({"ttl": "day"}, "ttl='day'"),
        ({"disable_touch": 1}, "disable_touch=1"),
        ({"create_table_if_missing": "yes"}, "create_table_if_missing='yes'"),
        ({"prune_session_interval": 0}, "prune_session_interval.*False.*=0"),
        ({"prune_session_interval": True}, "prune_session_interval.*=True"),
        ({"prune_session_interval": None}, "prune_session_interval.*=None"),
        ({"time_zone": ""}, "time_zone=''"),
        ({"time_zone": 2}, "time_zone=2"),
        ({"pool_size": 0}, "pool_size=0"),
    ],
)
def test_an_option_that_cannot_be_is_refused_at_once(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        ConnectPgSimple("postgresql://127.0.0.1/x", **options)


def test_a_url_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        ConnectPgSimple.from_url("mysql://ada:hush@127.0.0.1/x")
    assert "hush" not in str(caught.value)


def test_a_ttl_may_be_a_timedelta(url: str) -> None:
    with python(url, ttl=timedelta(hours=1), create_table_if_missing=True) as us:
        us.create("sid", AT, None)
        assert us.lives("sid", AT).expires == NOW + 3600


# ----------------------------------------------------------------------------------------------------------------- rows


def put(url: str, sess: str, expire: str = f"to_timestamp({NOW + 60})") -> None:
    sql(url, f"INSERT INTO session VALUES ('sid', %s::json, {expire})", sess)


@pytest.mark.parametrize(
    "sess", ["null", "5", "[]", '[{"cookie":{}}]', '"text"', '"[1]"', '"\\ud83d{"', "true"]
)
def test_what_is_no_object_is_an_error_and_stays(url: str, us: Any, sess: str) -> None:
    put(url, sess)
    with pytest.raises(CorruptRecord) as caught:
        us.get("sid", AT)
    assert "text" not in str(caught.value)
    outcome_of = us.store.replace("sid", b"{}", over=Entry(b"{}"), expires=None, now=NOW)
    with pytest.raises(CorruptRecord):
        us.run(outcome_of)
    assert us.run(us.store.create("sid", b"{}", expires=None, now=NOW)) is TAKEN
    assert sql(url, "SELECT sess::text FROM session") == [(sess,)]
    assert us.destroy("sid")


def test_what_is_an_object_is_given_as_it_stands(url: str, us: Any) -> None:
    odd = ' {"cookie" : {}, "a":1,\n"a":2, "big":12345678901234567890, "half":"\\ud83d", "nul":"\\u0000"}'
    put(url, odd)
    entry = us.lives("sid", AT)
    assert entry.text == odd.encode()
    assert us.run(us.store.replace("sid", b'{"cookie":{}}', over=entry, expires=None, now=NOW)) is SAVED
    assert isinstance(us.run(us.store.replace("sid", b"{}", over=entry, expires=None, now=NOW)), Changed)


@pytest.mark.parametrize("odd", ["\\u0000", "\\ud83d", "\\udead\\ud83d"])
def test_text_that_postgresql_cannot_read_in_one_session_is_no_obstacle_to_all_others(
    url: str, us: Any, odd: str
) -> None:
    """Node stores what a visitor has typed, and PostgreSQL's json keeps it; but its operators refuse it."""
    put(url, f'{{"a":"{odd}","cookie":{{}}}}')
    us.run(us.store.check())
    assert us.lives("sid", AT)
    us.create("another", AT, LIFE, n=1)


def test_half_a_character_in_a_json_text_is_an_error(url: str, us: Any) -> None:
    put(url, '"{\\"a\\":\\"\\ud83d\\"}"')
    with pytest.raises(CorruptRecord):
        us.get("sid", AT)


def test_a_session_in_a_json_text_is_read_as_node_reads_it(url: str, us: Any) -> None:
    put(url, '"{\\"cookie\\":{\\"originalMaxAge\\":null},\\"n\\":1}"')
    entry = us.lives("sid", AT)
    assert data(entry.text) == {"n": 1}
    with node(url) as app:
        assert app.run(cookie=cookie("sid"), now=AT).data == {"n": 1}
    us.change("sid", AT, LIFE, n=2)
    assert data(us.lives("sid", AT).text) == {"n": 2}


def test_an_end_that_never_comes(url: str, us: Any) -> None:
    put(url, '{"cookie":{}}', "'infinity'")
    assert us.lives("sid", AT).expires is None
    us.run(us.store.check())
    us.change("sid", AT, LIFE, n=1)
    assert us.lives("sid", AT).expires == NOW + 600


def test_what_has_expired_is_nothing(url: str, us: Any) -> None:
    us.create("sid", AT, LIFE, n=1)
    entry, later = us.lives("sid", AT), AT + LIFE + 1000
    us.touch("sid", later, LIFE)  # the package's own touch would bring it back to life
    assert us.get("sid", later) is None
    assert us.run(us.store.names(now=later / 1000)).sids == []
    assert us.run(us.store.length(now=later / 1000)) == 0
    assert sql(url, "SELECT count(*) FROM session") == [(1,)]
    us.create("sid", later, LIFE, n=2)
    assert data(us.lives("sid", later).text) == {"n": 2}
    outcome = us.run(us.store.replace("sid", b"{}", over=entry, expires=None, now=later / 1000))
    assert isinstance(outcome, Changed)


@pytest.mark.parametrize("sid", ["a\0b", "\ud800", "'; DROP TABLE session; --", "x" * 3000])
def test_a_hostile_id_harms_nothing(us: Any, sid: str) -> None:
    said = ""
    try:
        assert us.get(sid, AT) is None
    except StoreError as error:
        said = str(error)
    assert sid not in said
    us.run(us.store.check())


# --------------------------------------------------------------------------------------------------------------- pruning


def put_expired(url: str, how_many: int) -> None:
    sql(
        url,
        "INSERT INTO session SELECT 'old' || n, '{\"cookie\":{}}', to_timestamp(%s) FROM generate_series(1, %s) AS n",
        NOW - 10,
        how_many,
    )


def test_pruning_goes_in_steps(url: str, us: Any) -> None:
    put_expired(url, 2_500)
    us.create("sid", AT, LIFE)
    assert us.run(us.store.prune(now=NOW, limit=1_100)) == 1_100
    assert us.run(us.store.prune(now=NOW, limit=5_000)) == 1_400
    assert us.run(us.store.prune(now=NOW, limit=0)) == 0
    assert us.lives("sid", AT)


def test_clearing_goes_in_steps(url: str, us: Any) -> None:
    put_expired(url, 2_500)
    us.run(us.store.clear())
    assert sql(url, "SELECT count(*) FROM session") == [(0,)]


@pytest.fixture
def tidy(url: str, us: Any) -> Any:
    """One that prunes by itself, as is the default."""
    with python(url) as tidy:
        yield tidy


def test_pruning_happens_beside_a_write_after_the_interval(url: str, tidy: Any) -> None:
    put_expired(url, 5)
    tidy.create("sid", AT, None)
    tidy.touch("sid", AT + 449_000, 5 * LIFE)
    assert tidy.run(tidy.store.length(now=NOW - 20)) == 6
    tidy.touch("sid", AT + 1_351_000, 5 * LIFE)
    assert sql(url, "SELECT sid FROM session") == [("sid",)]


def test_pruning_happens_after_many_new_sessions(url: str, tidy: Any) -> None:
    put_expired(url, 5)
    tidy.create("sid", AT, LIFE)
    tidy.store._next_prune._begun = 499  # as if they had been begun
    tidy.create("sid-2", AT, LIFE)
    assert tidy.run(tidy.store.length(now=NOW - 20)) == 2


def test_nothing_is_pruned_without_being_told(url: str) -> None:
    with python(url, create_table_if_missing=True, prune_session_interval=False) as us:
        us.create("sid", AT, None)
        put_expired(url, 5)
        us.store._next_prune._begun = 10_000
        us.touch("sid", AT + 80_000_000, LIFE)
        assert us.run(us.store.length(now=NOW - 20)) == 6


# ---------------------------------------------------------------------------------------------------------------- check


def test_a_server_that_only_reads_fails_the_check(url: str, us: Any, postgres_server: Server) -> None:
    us.create("sid", AT, LIFE)
    name = url.rpartition("/")[2]
    sql(postgres_server.url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    try:
        with python(url) as reader:
            reader.lives("sid", AT)
            with pytest.raises(StoreUnavailable, match="only reads"):
                reader.run(reader.store.check())
    finally:
        sql(postgres_server.url, f"ALTER DATABASE {name} RESET ALL")


def test_a_retry_after_a_lost_answer_is_recognised_by_its_text(us: Any) -> None:
    text = body(NOW + 600, now=NOW, n=1)
    assert us.run(us.store.create("sid", text, expires=NOW + 600, now=NOW)) is SAVED
    assert us.run(us.store.create("sid", text, expires=NOW + 600, now=NOW)) is TAKEN
    assert us.lives("sid", AT).text == text
