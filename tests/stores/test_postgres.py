"""The PostgreSQL store: the contract in both modes; setting up, sweeping and fences in this store's own way; hostile rows."""

import asyncio
import pickle
import re
from collections.abc import Iterator
from typing import Any

import asyncpg
import msgspec
import psycopg
import psycopg_pool
import pytest

from bench.postgres_partitions import recipe
from coatcheck.core.ports import (
    FENCED,
    SAVED,
    ByUser,
    Checks,
    Counts,
    SetsUp,
    Store,
    Sweeps,
    Terms,
    Watches,
)
from coatcheck.core.record import Ended, Record
from coatcheck.core.stepping import run_now
from coatcheck.errors import ConfigurationError, CorruptRecord, StoreError, UsageError, WrongFace
from coatcheck.stores import open_store
from coatcheck.stores._postgres_sql import Names, Statements
from coatcheck.stores.postgres import TEND_EVERY, PostgresStore
from coatcheck.testing.contract import Sentence, StoreContract
from servers import Server
from tests.patience import PATIENT
from tests.stores.postgres_tables import login, sql, table_of
from tests.stores.sqlite_workers import NOW, after, record


@pytest.fixture(scope="module")
def url(postgres_server: Server) -> str:
    return postgres_server.url


@pytest.fixture(scope="module")
def shared(postgres_server: Server) -> Iterator[str]:
    """One table for the contract, emptied before each sentence."""
    with table_of(postgres_server) as name:
        yield name


@pytest.fixture
def table(postgres_server: Server) -> Iterator[str]:
    with table_of(postgres_server) as name:
        yield name


@pytest.fixture
def backend(url: str, table: str) -> Iterator[PostgresStore]:
    backend = PostgresStore.from_url(url, outage=PATIENT, table=table)
    yield backend
    backend.close()


@pytest.fixture
def store(backend: PostgresStore) -> Any:
    return backend.blocking()


# ----------------------------------------------------------------------------------------------------------- contract


@pytest.mark.parametrize("sentence", StoreContract.sentences(), ids=lambda s: s.__name__)
def test_contract(sentence: Sentence, url: str, shared: str) -> None:
    sql(url, f"DELETE FROM {shared}")
    StoreContract(lambda: PostgresStore.from_url(url, outage=PATIENT, table=shared)).run(sentence)


@pytest.mark.parametrize("sentence", StoreContract.sentences(modes=["awaiting"]), ids=lambda s: s.__name__)
def test_contract_without_prepared_statements(sentence: Sentence, url: str, shared: str) -> None:
    sql(url, f"DELETE FROM {shared}")
    StoreContract(
        lambda: PostgresStore.from_url(url, outage=PATIENT, table=shared, prepared_statements=False)
    ).run(sentence)


@pytest.mark.slow
@pytest.mark.parametrize("sentence", StoreContract.sentences(modes=["blocking"]), ids=lambda s: s.__name__)
def test_contract_on_the_applications_own_psycopg_pool(sentence: Sentence, url: str, shared: str) -> None:
    # Not in autocommit, and with rows that are dicts: as an application may have it.
    kwargs = {"row_factory": psycopg.rows.dict_row}
    with psycopg_pool.ConnectionPool(url, min_size=1, max_size=60, kwargs=kwargs, open=True) as pool:
        sql(url, f"DELETE FROM {shared}")
        StoreContract(lambda: PostgresStore(pool, table=shared, listen_url=url)).run(sentence)


@pytest.mark.slow
@pytest.mark.parametrize("sentence", StoreContract.sentences(modes=["awaiting"]), ids=lambda s: s.__name__)
def test_contract_on_connections_that_the_application_makes(
    sentence: Sentence, url: str, shared: str
) -> None:
    async def connect() -> Any:
        return await asyncpg.connect(url)

    sql(url, f"DELETE FROM {shared}")
    StoreContract(lambda: PostgresStore(connect, table=shared, listen_url=url)).run(sentence)


@pytest.mark.parametrize("ability", [ByUser, Sweeps, Counts, Checks, Watches, SetsUp])
def test_has_every_ability(backend: PostgresStore, ability: type) -> None:
    assert isinstance(backend.blocking(), ability)
    assert isinstance(backend.awaiting(), ability)


def test_both_faces_share_the_sessions(backend: PostgresStore) -> None:
    there = login()
    assert run_now(backend.blocking().create(there, now=NOW)) is SAVED

    async def load() -> object:
        found = await backend.awaiting().load(there.key, now=NOW)
        await backend.aclose()
        return found

    assert asyncio.run(load()) == there


def test_the_applications_own_asyncpg_pool(url: str, table: str) -> None:
    async def work() -> None:
        async with asyncpg.create_pool(url, min_size=1, max_size=4) as pool:
            backend = PostgresStore(pool, table=table)
            store = backend.awaiting()
            records = [login(f"user-{n}") for n in range(20)]
            await asyncio.gather(*(store.admit(r, expected=None, terms=Terms(), now=NOW) for r in records))
            assert [await store.load(r.key, now=NOW) for r in records] == records
            with pytest.raises(StoreError):
                await store.create(login("\ud800"), now=NOW)
            await backend.aclose()
            assert await pool.fetchval("SELECT 1") == 1  # still open: it is its owner's
            with pytest.raises(WrongFace, match=r"asyncpg\.Pool.*psycopg_pool"):
                backend.blocking()

    asyncio.run(work())


def test_a_function_that_makes_psycopg_connections(url: str, table: str) -> None:
    backend = PostgresStore(lambda: psycopg.connect(url), table=table, pool_size=2)
    there = login()
    assert run_now(backend.blocking().create(there, now=NOW)) is SAVED
    assert run_now(backend.blocking().load(there.key, now=NOW)) == there
    with pytest.raises(WrongFace, match="asyncpg"):
        backend.awaiting()
    backend.close()


def test_a_schema_of_its_own(url: str) -> None:
    sql(url, 'CREATE SCHEMA "Odd"')
    backend = PostgresStore.from_url(url, outage=PATIENT, schema="Odd", table="select")
    store = backend.blocking()
    run_now(store.setup())
    run_now(store.create(login(), now=NOW))
    assert run_now(store.end_user("ada", keep=None, now=NOW, token="t")).count == 1
    backend.close()
    assert sql(url, 'SELECT count(*) FROM "Odd"."select"') == [(2,)]  # a tombstone and a fence


@pytest.fixture(scope="module")
def partitioned(url: str) -> Iterator[str]:
    """A table made by the text of docs/stores/postgres.md, then set up."""
    sql(url, recipe("parts", 16))
    setting_up = PostgresStore.from_url(url, outage=PATIENT, table="parts")
    run_now(setting_up.blocking().setup())
    setting_up.close()
    yield "parts"
    sql(url, "DROP TABLE parts")


def shape(url: str, table: str) -> list[tuple[object, ...]]:
    """Its columns: name, type, collation, whether it may be null."""
    return sql(
        url,
        "SELECT attname, atttypid::regtype::text, attcollation::regcollation::text, attnotnull FROM pg_attribute"
        f" WHERE attrelid = '{table}'::regclass AND attnum > 0 ORDER BY attnum",
    )


@pytest.mark.slow
@pytest.mark.parametrize("sentence", StoreContract.sentences(), ids=lambda s: s.__name__)
def test_contract_on_a_partitioned_table(sentence: Sentence, url: str, partitioned: str) -> None:
    sql(url, f"DELETE FROM {partitioned}")
    StoreContract(lambda: PostgresStore.from_url(url, outage=PATIENT, table=partitioned)).run(sentence)


@pytest.mark.slow
def test_a_partitioned_table_is_as_one_that_was_set_up(url: str, partitioned: str, table: str) -> None:
    assert shape(url, partitioned) == shape(url, table)
    options = "SELECT reloptions FROM pg_class WHERE oid = '{}'::regclass"
    assert sql(url, options.format(f"{partitioned}_15")) == sql(url, options.format(table))
    indexes = "SELECT count(*) FROM pg_index WHERE indrelid = '{}'::regclass AND indisvalid"
    assert (
        sql(url, indexes.format(partitioned))
        == sql(url, indexes.format(f"{partitioned}_0"))
        == sql(url, indexes.format(table))
        == [(4,)]
    )


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["find", "replace", "touch", "delete", "create"])
def test_a_verb_looks_into_one_partition(verb: str, url: str, partitioned: str) -> None:
    statement = getattr(Statements(Names(None, partitioned)), verb)
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
        connection.execute(f"PREPARE verb AS {statement}")
        ((kinds,),) = connection.execute(
            "SELECT parameter_types::text[] FROM pg_prepared_statements"
        ).fetchall()
        samples = {"text": "'k'", "double precision": "1", "bytea": "'x'"}
        plan = connection.execute(
            f"EXPLAIN (COSTS OFF) EXECUTE verb({', '.join(samples[kind] for kind in kinds)})"
        ).fetchall()
    assert len(set(re.findall(rf" on ({partitioned}_\d+)", str(plan)))) <= 1, plan


# ----------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql:///", None),
        ("postgres+psycopg://u@h/d", None),
        ("postgresql://u:secret@h:5432,i:5433/d?target_session_attrs=any", None),
        ("postgresql://u@h/d?password=secret", None),
        ("postgresql://u:secret#@h,i/d", "special characters"),
        ("postgresql:sessions", "postgresql://user"),
        ("mysql://h/d", "postgresql://user"),
        ("postgresql://u:sec/ret@h/d", "special characters"),
        ("postgresql://u:secret@h/d?nonsense=1", "nonsense"),
        ("postgresql://u:secret@h:port/d", "special characters"),
    ],
)
def test_a_url_is_looked_at_at_once(url: str, words: str | None) -> None:
    if words is None:
        assert "secret" not in repr(PostgresStore.from_url(url, outage=PATIENT))
        return
    with pytest.raises(ConfigurationError, match=words) as caught:
        PostgresStore.from_url(url, outage=PATIENT)
    assert "sec" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "names", [{"table": 't"; DROP'}, {"table": ""}, {"table": "1"}, {"table": "x" * 49}, {"schema": "a.b"}]
)
def test_names_are_identifiers(names: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(names))):
        PostgresStore.from_url("postgresql://h/d", **names)


@pytest.mark.parametrize("size", [0, -1, True, 2.5, "10"])
def test_the_size_of_a_pool_is_a_number(size: Any) -> None:
    with pytest.raises(ConfigurationError, match="pool_size"):
        PostgresStore.from_url("postgresql://h/d", pool_size=size)


def test_what_is_no_client_is_refused() -> None:
    backend = PostgresStore(object())
    for face in (backend.blocking, backend.awaiting):
        with pytest.raises(WrongFace, match=r"builtins\.object"):
            face()


def test_what_asyncpg_cannot_do_is_not_left_out_silently() -> None:
    backend = PostgresStore.from_url("postgresql://u:secret@h/d?channel_binding=require")
    with pytest.raises(ConfigurationError, match="channel_binding") as caught:
        backend.awaiting()
    assert "secret" not in str(caught.value)
    PostgresStore.from_url("postgresql://h/d?channel_binding=prefer&connect_timeout=3").awaiting()


def test_watching_needs_a_url() -> None:
    with pytest.raises(ConfigurationError, match="listen_url"):
        PostgresStore(lambda: psycopg.connect("")).blocking().watch(print)


def test_a_url_opens_one(url: str, table: str) -> None:
    assert isinstance(open_store(url), PostgresStore)
    assert repr(PostgresStore.from_url("postgres://u:secret@h/d")) == (
        '<PostgresStore postgresql://u@h/d "coatcheck_session">'
    )


# ---------------------------------------------------------------------------------------------------------- setting up


def both(backend: PostgresStore, work: Any) -> list[StoreError]:
    """What `work`, which uses a store, raises on either face."""

    async def awaiting() -> None:
        try:
            await work(backend.awaiting())
        finally:
            await backend.aclose()

    caught = []
    for run in (lambda: run_now(work(backend.blocking())), lambda: asyncio.run(awaiting())):
        with pytest.raises(StoreError) as error:
            run()
        assert error.value.__cause__ is not None
        caught.append(error.value)
    backend.close()
    return caught


def test_without_its_table_it_says_what_to_run(url: str) -> None:
    async def load(store: Store) -> None:
        await store.load("key", now=NOW)

    for error in both(PostgresStore.from_url(url, outage=PATIENT, table="nowhere"), load):
        assert "coatcheck setup --store URL" in str(error)


def test_without_its_functions_it_says_what_to_run(url: str, table: str) -> None:
    sql(url, f"DROP FUNCTION {table}_admit_1")

    async def admit(store: Any) -> None:
        await store.admit(login(), expected=None, terms=Terms(), now=NOW)

    for error in both(PostgresStore.from_url(url, outage=PATIENT, table=table), admit):
        assert "coatcheck setup --store URL" in str(error)
    backend = PostgresStore.from_url(url, outage=PATIENT, table=table)
    run_now(backend.blocking().setup())
    run_now(backend.blocking().admit(login(), expected=None, terms=Terms(), now=NOW))
    backend.close()


@pytest.mark.parametrize(
    "make",
    [
        "CREATE TABLE foreign_ (key text PRIMARY KEY, sess json, expire timestamp)",
        "CREATE TABLE foreign_ (key int PRIMARY KEY)",
        "CREATE VIEW foreign_ AS SELECT 1 AS key",
        "CREATE SEQUENCE foreign_",
    ],
)
def test_somebody_elses_table_is_refused_and_left_as_it_was(url: str, make: str) -> None:
    sql(url, make)
    kind = make.split()[1]
    backend = PostgresStore.from_url(url, outage=PATIENT, table="foreign_")
    before = sql(url, "SELECT attname, atttypid FROM pg_attribute WHERE attrelid = 'foreign_'::regclass")
    with pytest.raises(ConfigurationError, match="not coatcheck's"):
        run_now(backend.blocking().setup())

    async def create(store: Store) -> None:
        await store.create(login(), now=NOW)

    for error in both(backend, create):
        assert "not one of coatcheck's" in str(error)
    after_all = sql(url, "SELECT attname, atttypid FROM pg_attribute WHERE attrelid = 'foreign_'::regclass")
    assert before == after_all
    assert sql(url, "SELECT count(*) FROM pg_proc WHERE proname LIKE 'foreign\\_%%'") == [(0,)]
    sql(url, f"DROP {kind} foreign_")


def test_a_newer_schema_is_refused(url: str, table: str, store: Any) -> None:
    sql(url, f"COMMENT ON TABLE {table} IS 'coatcheck sessions, schema 2'")
    with pytest.raises(ConfigurationError, match="schema 2"):
        run_now(store.setup())


def test_setting_up_again_changes_nothing(url: str, table: str, store: Any) -> None:
    there = login()
    run_now(store.create(there, now=NOW))
    run_now(store.setup())
    assert run_now(store.load(there.key, now=NOW)) == there


def test_the_application_needs_no_more_rights_than_the_page_says(url: str, table: str) -> None:
    sql(url, "DO $$ BEGIN CREATE ROLE app LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    sql(url, f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table}, {table}_tally TO app")
    app = url.replace("coatcheck@", "app@")
    contract = StoreContract(lambda: PostgresStore.from_url(app, outage=PATIENT, table=table))
    for sentence in StoreContract.sentences(modes=["blocking"], without=[Counts, Sweeps]):
        if "many" not in sentence.name and "among" not in sentence.name:  # rights do not depend on crowds
            contract.run(sentence)
    backend = PostgresStore.from_url(app, outage=PATIENT, table=table)
    run_now(backend.blocking().sweep(now=NOW))
    run_now(backend.blocking().count(now=NOW))
    backend.close()
    sql(url, "DROP OWNED BY app")


def test_without_a_schema_it_says_so(url: str) -> None:
    backend = PostgresStore.from_url(url, outage=PATIENT, schema="no_such")
    with pytest.raises(StoreError, match="CREATE SCHEMA"):
        run_now(backend.blocking().setup())
    backend.close()


def test_without_the_right_to_it_says_so(url: str, table: str) -> None:
    sql(url, "DO $$ BEGIN CREATE ROLE guest LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")

    async def create(store: Store) -> None:
        await store.create(login(), now=NOW)

    guest = PostgresStore.from_url(url.replace("coatcheck@", "guest@"), table=table)
    for error in both(guest, create):
        assert "GRANT" in str(error)


@pytest.mark.slow
def test_another_isolation_level_is_refused_where_it_matters_and_harmless_elsewhere(
    url: str, table: str
) -> None:
    sql(
        url,
        "DO $$ BEGIN CREATE ROLE strict LOGIN SUPERUSER; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
    )
    sql(url, "ALTER ROLE strict SET default_transaction_isolation = 'serializable'")

    async def admit(store: Any) -> None:
        await store.admit(login(), expected=None, terms=Terms(), now=NOW)

    strict = url.replace("coatcheck@", "strict@")
    for error in both(PostgresStore.from_url(strict, outage=PATIENT, table=table), admit):
        assert "READ COMMITTED" in str(error)
    for sentence in StoreContract.sentences(without=[ByUser, Counts, Sweeps]):
        StoreContract(lambda: PostgresStore.from_url(strict, outage=PATIENT, table=table)).run(sentence)


# ----------------------------------------------------------------------------------------------------------- sweeping


def test_what_was_kept_alive_is_not_swept_until_it_is_over(store: Any) -> None:
    there = record()
    run_now(store.create(there, now=NOW))
    later = there.deadline + 50
    assert run_now(store.touch(there.key, deadline=later, seen_at=NOW, expected=there.version, now=NOW))
    assert run_now(store.sweep(now=there.deadline)) == 0
    assert run_now(store.count(now=there.deadline)) == 1
    assert isinstance(run_now(store.load(there.key, now=there.deadline)), Record)
    assert run_now(store.sweep(now=later)) == 1


def test_count_counts_what_was_kept_alive_since(store: Any) -> None:
    there = record()
    run_now(store.create(there, now=NOW))
    run_now(store.create(record(), now=NOW))
    longer = msgspec.structs.replace(after(there, b"1"), deadline=there.deadline + 50)
    assert run_now(store.replace(longer, expected=there.version, now=NOW)) is SAVED
    assert [run_now(store.count(now=NOW + s)) for s in (3_599, 3_600, 3_649, 3_650)] == [2, 1, 1, 0]


def test_a_life_that_was_shortened_is_swept_in_time(store: Any) -> None:
    there = record()
    run_now(store.create(there, now=NOW))
    shorter = msgspec.structs.replace(after(there, b"1"), deadline=NOW + 5)
    assert run_now(store.replace(shorter, expected=there.version, now=NOW, may_shorten=True)) is SAVED
    sooner = msgspec.structs.replace(after(shorter, b"2"), ends_at=NOW + 4)
    assert run_now(store.replace(sooner, expected=shorter.version, now=NOW)) is SAVED
    assert run_now(store.sweep(now=NOW + 4)) == 1


@pytest.mark.parametrize("face", ["blocking", "awaiting"])
def test_the_expired_are_swept_along_with_the_writes(
    backend: PostgresStore, url: str, table: str, face: str
) -> None:
    async def work() -> None:
        store = backend.blocking() if face == "blocking" else backend.awaiting()
        for _ in range(30):
            await store.create(msgspec.structs.replace(record(), deadline=NOW + 1), now=NOW)
        there = record()
        await store.create(there, now=NOW)
        for _ in range(TEND_EVERY * 2):
            await store.touch(there.key, deadline=NOW + 9, seen_at=NOW, expected=there.version, now=NOW + 2)
        while face == "awaiting" and not backend._clients.loops._upkeep.done():  # type: ignore[union-attr]  # there by now
            await asyncio.sleep(0.001)
        await backend.aclose()

    asyncio.run(work())
    assert sql(url, f"SELECT count(*) FROM {table}") == [(1,)]


def test_a_sweep_that_fails_fails_no_request(backend: PostgresStore, caplog: Any) -> None:
    store = backend.blocking()
    store._sql.sweep = "SELECT 1 / 0"
    store._until_tended = 1
    assert run_now(store.create(record(), now=NOW)) is SAVED
    assert "upkeep" in caplog.text


def test_two_sweeps_take_different_rows_and_wait_for_nobody(
    backend: PostgresStore, url: str, table: str
) -> None:
    store = backend.blocking()
    records = [msgspec.structs.replace(record(), deadline=NOW + 1 + n / 10) for n in range(6)]
    for each in records:
        run_now(store.create(each, now=NOW))
    with psycopg.connect(url) as other:  # somebody is at the first two
        other.execute(f"SELECT 1 FROM {table} WHERE due < {NOW + 1.15} FOR UPDATE")
        assert run_now(store.sweep(now=NOW + 60)) == 4
    assert run_now(store.sweep(now=NOW + 60)) == 2


# ------------------------------------------------------------------------------------------------------------- fences


def test_a_fence_is_in_the_servers_clock_and_kept_for_a_day(store: Any, url: str, table: str) -> None:
    (before,) = sql(url, "SELECT extract(epoch FROM clock_timestamp())::float8")[0]
    fence = run_now(store.end_user("ada", keep=None, now=NOW, token="t")).fence
    (later,) = sql(url, "SELECT extract(epoch FROM clock_timestamp())::float8")[0]
    assert before <= fence <= later
    run_now(store.sweep(now=fence + 86_399))
    assert sql(url, f"SELECT ended_at FROM {table}") == [(fence,)]
    run_now(store.sweep(now=fence + 86_401))
    assert sql(url, f"SELECT ended_at FROM {table}") == []


def test_a_fence_is_no_session(store: Any, url: str, table: str) -> None:
    fence = run_now(store.end_user("ada", keep=None, now=NOW, token="t")).fence
    assert run_now(store.count(now=NOW)) == 0
    assert run_now(store.load("\x01ada", now=fence + 3_600)) is None  # and is not deleted by that
    assert not run_now(store.delete("\x01ada", now=fence + 3_600, token="t"))
    terms = Terms(stopwatch=lambda: 5.0)
    assert run_now(store.admit(login("ada"), expected=None, terms=terms, now=NOW)) is FENCED


def test_a_fence_from_before_the_clock_was_set_back_keeps_nobody_out(
    store: Any, url: str, table: str
) -> None:
    run_now(store.end_user("ada", keep=None, now=NOW, token="t"))
    sql(url, f"UPDATE {table} SET ended_at = ended_at + 3600")
    assert run_now(store.admit(login("ada"), expected=None, terms=Terms(), now=NOW)) is SAVED
    first, second = (run_now(store.end_user("ada", keep=None, now=NOW, token="t")).fence for _ in "12")
    assert second > first
    terms = Terms(stopwatch=lambda: 5.0, own_fence=first)
    assert run_now(store.admit(login("ada"), expected=None, terms=terms, now=NOW)) is FENCED


def test_the_stopwatch_is_read_after_the_servers_clock(store: Any) -> None:
    run_now(store.end_user("ada", keep=None, now=NOW, token="t"))
    asked: list[str] = []
    fetch = store._client.fetch

    async def watched(statement: str, *args: Any) -> Any:
        rows = await fetch(statement, *args)
        asked.append(rows[0][0] if "admit" in statement else "other")
        return rows

    store._client.fetch = watched
    terms = Terms(stopwatch=lambda: [asked.append("stopwatch"), 5.0][1])  # type: ignore[func-returns-value, arg-type, return-value]  # for its effect
    assert run_now(store.admit(login("ada"), expected=None, terms=terms, now=NOW)) is FENCED
    assert asked == ["when", "stopwatch", "fenced"]


def test_a_cursor_of_somebody_elses_is_refused(store: Any) -> None:
    with pytest.raises(UsageError, match="cursor"):
        run_now(store.of_user("ada", now=NOW, cursor="garbage"))


# ------------------------------------------------------------------------------------- hostile rows (checklist 68, 111)

PICKLE = pickle.dumps(print)
DEEP = b"\x91" * 100_000


def packed(**changes: Any) -> bytes:
    """A packed column that is sound but for `changes`."""
    fields: dict[str, Any] = dict(
        format=1, versions=("v",), verifier=bytes(32), data=b"0", created_at=NOW, epoch=0, rotated_at=None,
        authenticated_at=None, login=None, renewal=None, lifetime=None,
        era=0, pending=None,
    )  # fmt: skip
    return msgspec.msgpack.encode(list((fields | changes).values()))


HOSTILE = [
    *[("deadline", value) for value in (float("inf"), 2.0**63, 1.7e12)],
    *[("ends_at", value) for value in (float("nan"), float("inf"), 2.0**63, NOW)],
    *[("seen_at", value) for value in (float("inf"), float("nan"))],
    *[("version", value) for value in ("other", "")],
    *[("ended_at", value) for value in (float("inf"), 2.0**63)],
    *[("packed", value) for value in (None, b"", PICKLE, DEEP, b"\xc0", packed()[:-1], packed(versions=()))],
    ("packed", packed(verifier="text")),
    ("packed", packed(created_at=float("nan"))),
    ("packed", packed(login={"method": 1})),
]


@pytest.mark.parametrize(("column", "value"), HOSTILE)
def test_68_111_what_is_no_record_is_corrupt_and_that_session_only(
    store: Any, url: str, table: str, column: str, value: object
) -> None:
    there, other = msgspec.structs.replace(login(), versions=("v",)), login()
    run_now(store.create(there, now=NOW))
    sql(url, f"UPDATE {table} SET {column} = %s", value)
    run_now(store.create(other, now=NOW))
    with pytest.raises(CorruptRecord, match=there.key):
        run_now(store.load(there.key, now=NOW))
    assert run_now(store.load(other.key, now=NOW)) == other
    assert run_now(store.of_user("ada", now=NOW)).records == [other]
    assert sql(url, f"SELECT count(*) FROM {table} WHERE key = %s", there.key) == [
        (1,)
    ]  # kept for inspection
    if column != "ended_at":
        assert run_now(store.end_one("ada", there.key, now=NOW, token="t"))
        assert run_now(store.load(there.key, now=NOW)) == Ended(there.key, "t", NOW)


def test_68_a_deadline_that_is_no_number_has_expired(store: Any, url: str, table: str) -> None:
    there = login()
    run_now(store.create(there, now=NOW))
    sql(url, f"UPDATE {table} SET deadline = 'NaN'")
    assert run_now(store.load(there.key, now=NOW)) is None


@pytest.mark.parametrize(
    "bad", [{"user_id": "\ud800"}, {"user_id": "a\x00b"}, {"deadline": "soon", "ends_at": "x"}]
)
def test_a_value_that_postgres_cannot_keep_is_a_store_error(
    url: str, table: str, bad: dict[str, Any]
) -> None:
    async def create(store: Store) -> None:
        await store.create(
            msgspec.structs.replace(record(), **bad),
            now=NOW,
        )

    for error in both(PostgresStore.from_url(url, outage=PATIENT, table=table), create):
        assert type(error) is StoreError
        assert "a\x00b" not in str(error)
    assert sql(url, f"SELECT count(*) FROM {table}") == [(0,)]


def test_names_are_quoted() -> None:
    assert Names.checked("Odd", "select").quoted("_x") == '"Odd"."select_x"'
