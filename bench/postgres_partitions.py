"""What it costs to have sessions in a partitioned table: ``python -m bench.postgres_partitions``.

Starts a PostgreSQL of its own. For each number of partitions a table is made by the recipe of ``docs/stores/postgres.md``, set
up, and filled with logins, five to a user; 1 is the table that ``coatcheck setup`` makes. Then microseconds of a call over one
connection, nothing synced to the disk: the median of rounds that go from table to table. Besides: octets a session, and how many
updates stayed within their page (HOT).
"""

import argparse
import random
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import psycopg

from bench.redis_steps import login
from coatcheck.core.ids import RandomIds
from coatcheck.core.ports import SAVED, Terms
from coatcheck.core.record import VERSIONS_KEPT, Record
from coatcheck.core.stepping import run_now
from coatcheck.stores.postgres import PostgresSessions, PostgresStore
from servers import postgres

PAGE = Path(__file__).resolve().parent.parent / "docs" / "stores" / "postgres.md"
RECIPE = re.compile(r"```postgresql\n(CREATE TABLE coatcheck_session .*?)```", re.DOTALL)
NOW = 1_800_000_000.0
IDS = RandomIds()
COUNTS = (1, 4, 16, 64)
SESSIONS, SESSIONS_A_USER = 10_000, 5
ROUNDS, CALLS, SWEPT = 9, 200, 2_000
Calls = dict[str, Callable[[PostgresSessions, list[Record], int], Any]]


def recipe(table: str, partitions: int) -> str:
    """Return the SQL of the page, for a table of this name with so many partitions."""
    found = RECIPE.search(PAGE.read_text())
    assert found, f"no CREATE TABLE in {PAGE}"
    text = found[1].replace("MODULUS 16", f"MODULUS {partitions}").replace("0..15", f"0..{partitions - 1}")
    return text.replace("coatcheck_session", table)


def filled(url: str, partitions: int) -> tuple[PostgresStore, list[Record]]:
    """Return a store over a table with so many partitions, and the logins in it."""
    table = f"parts_{partitions}"
    if partitions > 1:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(recipe(table, partitions))
    backend = PostgresStore.from_url(url, table=table)
    store = backend.blocking()
    run_now(store.setup())
    records = [login(f"user-{n // SESSIONS_A_USER}") for n in range(SESSIONS)]
    for record in records:
        assert run_now(store.admit(record, expected=None, terms=Terms(), now=NOW)) is SAVED
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"VACUUM (ANALYZE) {table}")
    return backend, records


def load(store: PostgresSessions, records: list[Record], n: int) -> None:
    assert run_now(store.load(records[n].key, now=NOW)) is not None


def replace(store: PostgresSessions, records: list[Record], n: int) -> None:
    old = records[n]
    records[n] = msgspec.structs.replace(old, versions=(IDS.version(), *old.versions[: VERSIONS_KEPT - 1]))
    assert run_now(store.replace(records[n], expected=old.version, now=NOW)) is SAVED


def log_in(store: PostgresSessions, records: list[Record], n: int) -> None:
    record = login(records[n].user_id or "")
    assert run_now(store.admit(record, expected=None, terms=Terms(), now=NOW)) is SAVED


def list_by_user(store: PostgresSessions, records: list[Record], n: int) -> None:
    assert run_now(store.of_user(records[n].user_id or "", now=NOW)).records


def sweep(store: PostgresSessions, records: list[Record], n: int) -> None:
    run_now(store.sweep(now=NOW, limit=200))


VERBS: Calls = {
    "load": load,
    "replace": replace,
    "login": log_in,
    "list by user": list_by_user,
    "sweep, of none": sweep,
}


def timed(
    call: Callable[[PostgresSessions, list[Record], int], Any], store: PostgresSessions, records: list[Record]
) -> float:
    """Return the median microseconds of a call on sessions drawn at random."""
    took = []
    for n in random.choices(range(SESSIONS), k=CALLS):
        began = time.perf_counter()
        call(store, records, n)
        took.append(time.perf_counter() - began)
    return median(took) * 1e6


def swept(store: PostgresSessions) -> float:
    """Return how many expired sessions a second a sweep deletes."""
    for _ in range(SWEPT):
        record = msgspec.structs.replace(
            login(), user_id=None, authenticated_at=None, login=None, deadline=NOW + 1
        )
        assert run_now(store.create(record, now=NOW)) is SAVED
    began = time.perf_counter()
    assert run_now(store.sweep(now=NOW + 2, limit=SWEPT)) == SWEPT
    return SWEPT / (time.perf_counter() - began)


def sizes(url: str, table: str) -> tuple[float, float]:
    """Return octets a session, and the share of updates that stayed within their page."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
        ((octets, rows, updates, within),) = connection.execute(
            "SELECT sum(pg_total_relation_size(relid)), sum(n_live_tup), sum(n_tup_upd), sum(n_tup_hot_upd)"
            f" FROM pg_stat_user_tables WHERE relname ~ '^{table}(_\\d+)?$'"
        ).fetchall()
    return float(octets) / float(rows), float(within) / max(float(updates), 1)


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print the table."""
    argparse.ArgumentParser(prog="python -m bench.postgres_partitions", description=__doc__).parse_args(
        arguments
    )
    with (
        tempfile.TemporaryDirectory(prefix="coatcheck-parts-", ignore_cleanup_errors=True) as folder,
        postgres(Path(folder), "fsync=off", "max_locks_per_transaction=256") as server,
    ):
        stores = {count: filled(server.url, count) for count in COUNTS}
        took: dict[str, dict[int, list[float]]] = {verb: {count: [] for count in COUNTS} for verb in VERBS}
        for _ in range(ROUNDS):
            for verb, call in VERBS.items():
                for count, (backend, records) in stores.items():
                    took[verb][count].append(timed(call, backend.blocking(), records))
        print(f"{'partitions':<26}" + "".join(f"{count:>9}" for count in COUNTS))
        for verb, by_count in took.items():
            print(f"{f'{verb}, us':<26}" + "".join(f"{median(by_count[count]):>9.0f}" for count in COUNTS))
        speeds = [swept(backend.blocking()) for backend, _ in stores.values()]
        print(f"{'swept, rows a second':<26}" + "".join(f"{speed:>9,.0f}" for speed in speeds))
        for backend, _ in stores.values():
            backend.close()
        stored = [sizes(server.url, f"parts_{count}") for count in COUNTS]
        print(f"{'octets a session':<26}" + "".join(f"{octets:>9,.0f}" for octets, _ in stored))
        print(f"{'updates within their page':<26}" + "".join(f"{within:>9.0%}" for _, within in stored))


if __name__ == "__main__":
    main()
