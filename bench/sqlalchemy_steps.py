"""What the SQLAlchemy store costs on each of its databases, for docs/stores/sqlalchemy.md: `python -m bench.sqlalchemy_steps`.

Servers of its own on loopback, one caller, sessions of 300 octets: CPU of this process a command, and what a session takes up.
"""

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from msgspec.structs import replace as changed

from coatcheck.core.ids import RandomIds
from coatcheck.core.ports import SAVED
from coatcheck.core.record import Login, Record
from coatcheck.core.stepping import run_now
from coatcheck.stores.sqlalchemy import SQLAlchemySessions, SQLAlchemyStore
from servers import mariadb, postgres
from servers.mariadb import sql
from servers.postgres import psql

NOW = 1_700_000_000.0
IDS = RandomIds()
ROUNDS, CALLS = 20, 100
STORED = 5_000


def record() -> Record:
    """A logged-in session."""
    return Record(
        IDS.locator(), (IDS.version(),), bytes(32), b"x" * 300, NOW, NOW, NOW + 3_600, NOW + 86_400, epoch=1,
        user_id=f"user-{IDS.version()[:6]}", authenticated_at=NOW, login=Login("pwd", False, "Mozilla/5.0", "192.0.2.0/24"),
    )  # fmt: skip


async def steps(store: SQLAlchemySessions) -> tuple[float, float]:
    """The least CPU, in microseconds, of a load and of a replace."""
    current = record()
    assert await store.create(current, now=NOW) is SAVED
    load = replace = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(CALLS):
            await store.load(current.key, now=NOW)
        between = time.process_time()
        for _ in range(CALLS):
            new = changed(current, versions=(IDS.version(), *current.versions[:15]))
            assert await store.replace(new, expected=current.version, now=NOW) is SAVED
            current = new
        load = min(load, (between - began) / CALLS * 1e6)
        replace = min(replace, (time.process_time() - between) / CALLS * 1e6)
    return load, replace


async def on_a_loop(store: SQLAlchemyStore) -> tuple[float, float]:
    """The same on an event loop."""
    cost = await steps(store.awaiting())
    await store.aclose()
    return cost


def show(name: str, url: str, octets: Callable[[], int]) -> None:
    """One line of the table."""
    with SQLAlchemyStore.from_url(url) as store:
        blocking = store.blocking()
        run_now(blocking.setup())
        costs = [*run_now(steps(blocking)), *asyncio.run(on_a_loop(store))]
        before = octets()
        for _ in range(STORED):
            run_now(blocking.create(record(), now=NOW))
        each = (octets() - before) / STORED
    print(f"{name:12}" + "".join(f"{cost:10.0f}" for cost in costs) + f"{each:12.0f}", flush=True)


def main() -> None:
    """Print the table."""
    print(" " * 12 + "     sync load / replace   async load / replace   octets a session")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        in_postgres = stack.enter_context(postgres(folder / "postgres"))
        in_mariadb = stack.enter_context(mariadb(folder / "mariadb", "--innodb-stats-persistent=1"))
        show("PostgreSQL", f"sqlalchemy+{in_postgres.url}", lambda: _of_postgres(in_postgres))
        show("MariaDB", in_mariadb.url, lambda: _of_mariadb(in_mariadb))
        file = folder / "sessions.db"
        show("SQLite", f"sqlalchemy+sqlite:///{file}", lambda: _of_sqlite(file))


def _of_postgres(server: Any) -> int:
    return int(psql(server, "SELECT pg_total_relation_size('coatcheck_session')"))


def _of_mariadb(server: Any) -> int:
    sql(server, "ANALYZE TABLE coatcheck_session")
    table = "information_schema.tables WHERE table_name = 'coatcheck_session'"
    return int(sql(server, f"SELECT data_length + index_length FROM {table}"))


def _of_sqlite(file: Path) -> int:
    with closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return file.stat().st_size


if __name__ == "__main__":
    main()
