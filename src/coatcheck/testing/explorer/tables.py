"""What a store with rows in tables holds, as a `Database`: what SQLite and PostgreSQL have in common under the explorer.

A command is one job on the SQLite file, or one statement to PostgreSQL: each commits by itself, so nothing comes between its
parts. (Where others would wait for its locks, they wait; that it takes its time is no order of its own.)
"""

from collections.abc import Callable, Hashable, Mapping
from functools import lru_cache
from math import inf
from typing import Any, NamedTuple, Protocol

from coatcheck.core.ports import Store
from coatcheck.stores._rows import judge
from coatcheck.testing.explorer.database import Command, Database, Provisional, Row

__all__ = ["CarryOut", "Stored", "TableDatabase", "Tables"]


class Stored(NamedTuple):
    """A row of the table of sessions."""

    version: str
    due: float | None
    deadline: float
    seen_at: float
    ends_at: float
    ended_at: float | None
    user_id: str | None
    login_at: float | None
    packed: bytes | None


class Tables(NamedTuple):
    """Everything there is."""

    sessions: Mapping[str, Stored]
    fences: Mapping[str, float]


class CarryOut(Protocol):
    """A server, given all that it holds."""

    def __call__(self, there: Tables, command: Command, clock: float) -> tuple[Any, Tables]:
        """The reply to a command at that time of the server's clock, and what it holds afterwards."""
        ...


@lru_cache(maxsize=50_000)
def _row(key: str, row: Stored) -> Row | None:
    """The very same for the same row: the oracles look for what has changed."""
    version, _, deadline, seen_at, ends_at, ended_at, user_id, _, packed = row
    return judge(key, (version, deadline, seen_at, ends_at, ended_at, user_id, packed), -inf)


class TableDatabase:
    """What the tables hold. `make_store` makes the store under test, `carry_out` is the server."""

    def __init__(
        self,
        make_store: Callable[[], Store],
        carry_out: CarryOut,
        clock: Callable[[], float],
        there: Tables | None = None,
    ) -> None:
        self._make_store, self._carry_out, self._clock = make_store, carry_out, clock
        self._there = there or Tables({}, {})
        self._state: Hashable = None
        self._rows: Mapping[str, Row] | None = None

    def store(self) -> Store:
        return self._make_store()

    def run(self, command: Command) -> Any:
        reply, self._there = self._carry_out(self._there, command, self._clock())
        if not command.reads:
            self._state = self._rows = None
        return reply

    def may_change(self, command: Command) -> bool:
        return not command.reads

    def copy(self) -> Database:
        twin = TableDatabase(self._make_store, self._carry_out, self._clock, self._there)
        twin._state, twin._rows = self._state, self._rows
        return twin

    def state(self) -> Hashable:
        if self._state is None:
            # Not `due`: only a sweep goes by it.
            sessions = frozenset((key, row._replace(due=None)) for key, row in self._there.sessions.items())
            self._state = sessions, frozenset(self._there.fences.items())
        return self._state

    def rows(self) -> Mapping[str, Row]:
        if self._rows is None:
            found = {key: _row(key, row) for key, row in self._there.sessions.items()}
            self._rows = {key: row for key, row in found.items() if row is not None}
        return self._rows

    def listed(self, user_id: str) -> frozenset[str]:
        return frozenset(key for key, row in self._there.sessions.items() if row.user_id == user_id)

    def provisional(self) -> Mapping[str, Provisional]:
        return {}
