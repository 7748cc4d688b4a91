"""PostgreSQL under the explorer: the store's own statements to a real server, one at a time.

Before each the table is put as it must be, all in one round trip. The table is one of its own, with a name drawn at random, and
is dropped at the end. The functions are the store's own; only, where they ask for the time, they are told the explorer's.
"""

import secrets
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast

from coatcheck.core.ports import Notice, Store
from coatcheck.stores._postgres_connect import psycopg_from, target
from coatcheck.stores._postgres_sql import FENCE_KEPT, Names, Statements
from coatcheck.stores.postgres import PostgresSessions
from coatcheck.testing.explorer.database import Command, Database, suspend
from coatcheck.testing.explorer.tables import Stored, TableDatabase, Tables

__all__ = ["postgres"]

Rows = Sequence[tuple[Any, ...]]
VERBS: Final = (
    "find",
    "purge",
    "create",
    "replace",
    "put_over",
    "touch",
    "delete",
    "admit",
    "end_user",
    "end_one",
    "list_of",
    "confirm",
)
READS: Final = ("find", "list_of")
ASIDE: Final = ("list_of", "end_user", "end_one")
COLUMNS: Final = ", ".join(("key", *Stored._fields))
CLOCK: Final = "extract(epoch FROM clock_timestamp())"
TOLD: Final = "current_setting('coatcheck.explored')"
FENCE: Final = "\x01"
"""A fence is a row whose key begins so."""
KEPT: Final = 200_000


class _Client:
    """Stops at every statement."""

    def __init__(self, statements: Statements) -> None:
        self._names = {getattr(statements, name): name for name in VERBS}

    async def fetch(self, statement: str, *args: Any) -> Rows:
        name = self._names[statement]
        fences = args[0] if name == "end_user" else None
        command = Command(name, (statement, args), {}, name in READS, fences, name in ASIDE)
        return cast(Rows, await suspend(command))

    async def aside(self, statement: str, *args: Any) -> Rows:
        raise NotImplementedError("no request sweeps or counts")

    def later(self, statement: str, *args: Any) -> None:
        """Upkeep: that it changes nothing for anybody is not for the explorer to show."""


class _Server:
    """One connection, and what is known to be in the table."""

    def __init__(self, url: str) -> None:
        self._wired = psycopg_from(target(url, connect_timeout=10.0, command_timeout=60.0, prepared=True))
        self._names = Names.checked(None, f"explored_{secrets.token_hex(6)}")
        self.statements = Statements(self._names)
        table = self._names.quoted()
        values = ", ".join(f"${n}" for n in range(1, len(Stored._fields) + 2))
        self._delete = f"DELETE FROM {table} WHERE key = $1"
        self._insert = f"INSERT INTO {table} ({COLUMNS}) VALUES ({values})"
        self._everything = f"SELECT {COLUMNS} FROM {table}"
        self._there: dict[str, Stored] = {}
        self._known: dict[Hashable, tuple[Any, Tables]] = {}
        self._wired.fetch(self.statements.setup.replace(CLOCK, TOLD), ())

    def close(self) -> None:
        for kind, tail in (
            ("FUNCTION", "_admit_1"),
            ("FUNCTION", "_end_user_1"),
            ("TABLE", "_tally"),
            ("TABLE", ""),
        ):
            self._wired.fetch(f"DROP {kind} {self._names.quoted(tail)}", ())
        self._wired.close()

    def __call__(self, there: Tables, command: Command, clock: float) -> tuple[Any, Tables]:
        """The reply to a statement where `there` is all that the table holds, and what it holds afterwards."""
        statement, args = command.args
        wanted = dict(_flat(there))
        question = frozenset(wanted.items()), command.name, args, clock
        if question not in self._known:
            if len(self._known) > KEPT:
                self._known.clear()
            self._known[question] = self._ask(wanted, statement, args, clock)
        return self._known[question]

    def _ask(
        self, wanted: dict[str, Stored], statement: str, args: tuple[Any, ...], clock: float
    ) -> tuple[Any, Tables]:
        connection = self._wired.connection
        with connection.pipeline():
            for key, row in self._there.items():
                if wanted.get(key) != row:
                    self._say(self._delete, (key,))
            for key, row in wanted.items():
                if self._there.get(key) != row:
                    self._say(self._insert, (key, *row))
            self._say("SELECT set_config('coatcheck.explored', $1, false)", (repr(clock),))
            answer = self._say(statement, args)
            everything = self._say(self._everything, ())
        self._there = {key: Stored(*row) for key, *row in everything.fetchall()}
        return tuple(answer.fetchall()), _apart(self._there)

    def _say(self, statement: str, args: tuple[Any, ...]) -> Any:
        cursor = type(self._wired._cursor)(
            self._wired.connection, row_factory=self._wired._cursor.row_factory
        )
        return cursor.execute(statement, args, binary=True)


def _flat(there: Tables) -> Iterator[tuple[str, Stored]]:
    """Sessions and fences as rows of the one table."""
    yield from there.sessions.items()
    for user, fence in there.fences.items():
        yield FENCE + user, Stored("", fence + FENCE_KEPT, 0.0, 0.0, 0.0, fence, None, None, None)


def _apart(rows: Mapping[str, Stored]) -> Tables:
    sessions = {key: row for key, row in rows.items() if not key.startswith(FENCE)}
    fences = {
        key[1:]: row.ended_at
        for key, row in rows.items()
        if key.startswith(FENCE) and row.ended_at is not None
    }
    return Tables(sessions, fences)


@contextmanager
def postgres(url: str) -> Iterator[Callable[[Callable[[], float]], Database]]:
    """A `MakeStore` on the server at a URL."""
    server = _Server(url)

    def make(monotonic: Callable[[], float]) -> Database:
        def store() -> Store:
            return PostgresSessions(_Client(server.statements), server.statements, _unwatched)

        return TableDatabase(store, server, monotonic)

    try:
        yield make
    finally:
        server.close()


def _unwatched(tell: Callable[[Notice], None]) -> Callable[[], None]:
    raise NotImplementedError("no request watches")
