"""What a session costs in PostgreSQL by the type of its column and the room in its pages: ``python -m bench.postgres_columns``.

Starts a server of its own. First the data as bytea and as jsonb: microseconds of a read and of a write as a client sees them (one
connection, prepared, nothing synced to the disk), octets a row, and whether what was read is what was written. Then, for tables
with more or less room left in their pages, how many updates stayed within theirs and wrote no index (HOT). Last, octets a session
in the store's own table and indexes, and how fast sessions are counted and expired ones swept.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psycopg

from coatcheck.core.ids import RandomIds
from coatcheck.core.ports import SAVED
from coatcheck.core.record import Login, Record
from coatcheck.core.stepping import run_now
from coatcheck.stores import _postgres_sql
from coatcheck.stores.postgres import PostgresStore
from servers import postgres

NOW = 1_700_000_000.0
IDS = RandomIds()
ROWS = 2_000
STORED = 10_000
CALLS = 2_000
ROUNDS = 5
SIZES = (300, 1_500, 6_000)
FILLFACTORS = (100, 90, 80, 70, 60, 50)


def session_of(size: int) -> bytes:
    """Return JSON of about so many octets, such as a shop's session."""
    items: list[dict[str, object]] = []
    while len(json.dumps({"cart": items})) < size - 80:
        items.append({"sku": IDS.version(), "count": len(items), "price": 9.5})
    return json.dumps(
        {"user": "ada", "seen": 1.0, "csrf": IDS.version(), "cart": items}, separators=(",", ":")
    ).encode()


def timed(call: Callable[[int], object]) -> float:
    """Return the microseconds of one call, the best of some rounds."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for n in range(CALLS):
            call(n)
        rounds.append((time.perf_counter() - began) / CALLS * 1e6)
    return min(rounds)


def column(connection: "psycopg.Connection[tuple[object, ...]]", kind: str, size: int) -> Sequence[object]:
    """Return what the data costs in a column of this type: read, write, octets a row, whether it came back equal."""
    connection.execute("DROP TABLE IF EXISTS one")
    connection.execute(f"CREATE TABLE one (key int PRIMARY KEY, data {kind}) WITH (fillfactor = 80)")
    data = [session_of(size) for _ in range(ROWS)]
    cursor = psycopg.RawCursor(connection)
    cast = "::bytea" if kind == "bytea" else "::text::jsonb"
    out = "data" if kind == "bytea" else "data::text"

    def value(n: int) -> object:
        return data[n % ROWS] if kind == "bytea" else data[n % ROWS].decode()

    for n in range(ROWS):
        cursor.execute(f"INSERT INTO one VALUES ($1::int, $2{cast})", (n, value(n)))

    def write(n: int) -> None:
        cursor.execute(
            f"UPDATE one SET data = $2{cast} WHERE key = $1::int", (n % ROWS, value(n)), binary=True
        )

    def read(n: int) -> object:
        cursor.execute(f"SELECT {out} FROM one WHERE key = $1::int", (n % ROWS,), binary=True)
        return cursor.fetchone()

    found = read(0)
    assert isinstance(found, tuple)
    back = found[0] if isinstance(found[0], bytes) else str(found[0]).encode()
    costs = timed(read), timed(write)
    connection.execute("VACUUM FULL one")
    ((octets,),) = connection.execute("SELECT avg(pg_column_size(data))::int FROM one").fetchall()
    return (*costs, octets, "yes" if back == data[0] else "no")


def hot(url: str, fillfactor: int) -> float:
    """Return the share of updates that stayed within their page, of random sessions' writes."""
    usual, _postgres_sql.FILLFACTOR = _postgres_sql.FILLFACTOR, fillfactor  # type: ignore[misc]  # to compare it with others
    try:
        backend = PostgresStore.from_url(url, table=f"room_{fillfactor}")
    finally:
        _postgres_sql.FILLFACTOR = usual  # type: ignore[misc]  # as it was
    store, chance = backend.blocking(), random.Random(1)
    run_now(store.setup())
    records = []
    for _ in range(ROWS):
        record = Record(
            IDS.locator(), (IDS.version(),), bytes(32), session_of(300), NOW, NOW, NOW + 3_600, NOW + 86_400
        )
        records.append(record)
        run_now(store.create(record, now=NOW))
    for turn in range(4 * ROWS):
        n = chance.randrange(ROWS)
        old = records[n]
        record = Record(
            old.key,
            (IDS.version(), *old.versions[:15]),
            old.verifier,
            old.data,
            NOW,
            NOW,
            NOW + 3_600 + turn,
            NOW + 86_400,
        )
        assert run_now(store.replace(record, expected=old.version, now=NOW)) is SAVED
        records[n] = record
    backend.close()
    with psycopg.connect(url, autocommit=True) as connection:
        while True:  # a connection tells its statistics when it is closed, or a second later
            ((updates, within),) = connection.execute(
                "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = %s",
                (f"room_{fillfactor}",),
            ).fetchall()
            if updates >= 4 * ROWS:
                return float(within / updates)
            time.sleep(0.05)  # statistics come when the server sends them


def stored(url: str, size: int) -> Sequence[object]:
    """Return octets of data, and what a logged-in session with them takes up in the table and in its indexes."""
    table = f"stored_{size}"
    backend, data = PostgresStore.from_url(url, table=table), session_of(size)
    store = backend.blocking()
    run_now(store.setup())
    for n in range(STORED):
        record = Record(
            IDS.locator(), (IDS.version(),), bytes(32), data, NOW, NOW, NOW + 3_600, NOW + 86_400, user_id=f"user-{n}",
            authenticated_at=NOW, login=Login(user_agent="Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101"),
        )  # fmt: skip
        assert run_now(store.create(record, now=NOW)) is SAVED
    began = time.perf_counter()
    assert run_now(store.count(now=NOW)) == STORED
    counted = time.perf_counter()
    with psycopg.connect(url, autocommit=True) as connection:
        sizes = "pg_table_size(%(table)s::regclass) / %(n)s, pg_indexes_size(%(table)s::regclass) / %(n)s"
        ((heap, indexes),) = connection.execute(f"SELECT {sizes}", {"table": table, "n": STORED}).fetchall()
    sweeping = time.perf_counter()
    assert run_now(store.sweep(now=NOW + 3_600, limit=STORED)) == STORED
    swept = time.perf_counter()
    backend.close()
    return len(data), heap, indexes, STORED / (counted - began), STORED / (swept - sweeping)


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print three tables."""
    argparse.ArgumentParser(prog="python -m bench.postgres_columns", description=__doc__).parse_args(
        arguments
    )
    with (
        tempfile.TemporaryDirectory(prefix="coatcheck-columns-", ignore_cleanup_errors=True) as folder,
        postgres(Path(folder), "fsync=off", "synchronous_commit=off") as server,
    ):
        print(f"{'data':>12}{'column':>8}{'read, us':>10}{'write, us':>11}{'octets':>8}{'equal':>7}")
        with psycopg.connect(server.url, autocommit=True, prepare_threshold=0) as connection:
            for size in SIZES:
                for kind in ("bytea", "jsonb"):
                    read, write, octets, equal = column(connection, kind, size)
                    length = len(session_of(size))
                    print(
                        f"{length:>12}{kind:>8}{read:>10.0f}{write:>11.0f}{octets:>8}{equal:>7}", flush=True
                    )
        print(f"\n{'fillfactor':>12}{'updates within their page':>28}")
        for fillfactor in FILLFACTORS:
            print(f"{fillfactor:>12}{hot(server.url, fillfactor):>27.0%}", flush=True)
        print(f"\n{'data':>12}{'table':>8}{'indexes':>9}{'counted/s':>12}{'swept/s':>11}")
        for size in SIZES:
            octets, heap, indexes, counted, swept = stored(server.url, size)
            print(f"{octets:>12}{heap:>8}{indexes:>9}{counted:>12,.0f}{swept:>11,.0f}", flush=True)


if __name__ == "__main__":
    main()
