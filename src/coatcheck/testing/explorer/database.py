"""What concurrent requests share: a store that can be copied, compared and stopped at each of its commands.

A `Database` is the server side of a store. It carries out one *command* at a time, whole. `MemoryDatabase` makes a command of
each store method, because each method of the memory store is atomic. A store that needs several commands a method has its real
code run with a client whose commands are `await suspend(command)`; its Database then carries out those.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Generator, Hashable, Mapping
from types import coroutine
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from coatcheck.core.ports import TOMBSTONE, Page, Store
from coatcheck.core.record import Ended, Record
from coatcheck.core.stepping import run_now
from coatcheck.stores.memory import MemoryStore

__all__ = [
    "Command",
    "Database",
    "MemoryDatabase",
    "Provisional",
    "Row",
    "frozen",
    "settle",
    "suspend",
    "suspending",
]

T = TypeVar("T")
Row = Record | Ended

METHODS: Final = ("load", "create", "replace", "touch", "delete", "admit", "of_user", "end_user", "end_one")
READS: Final = frozenset({"load", "of_user"})
ASIDE: Final = frozenset({"of_user", "end_user", "end_one"})


class Command(NamedTuple):
    """One driver command on its way to the database."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}
    reads: bool = False
    """It changes nothing, so a lost reply to it is no more than an outage."""
    fences: str | None = None
    """The user whose fence it raises: every login of theirs that has begun is over."""
    aside: bool = False
    """It is not about the session that the request came with."""
    undecided: bool = False
    """A login that it writes may have been begun before a fence: then whoever raised that is still about to end it."""

    def __str__(self) -> str:
        return self.name


class Provisional(NamedTuple):
    """A record that a login has written and may yet take back: nobody has its cookie."""

    version: str
    before: Row | None
    """What was there."""


class Database(Protocol):
    """The shared state, from which alone the requests learn of each other."""

    def store(self) -> Store:
        """The store under test, with a client that suspends at every command. It must keep no state of its own."""
        ...

    def run(self, command: Command) -> Any:
        """Carry the command out and return the reply, or raise what the driver would."""
        ...

    def may_change(self, command: Command) -> bool:
        """Whether carrying this command out could change anything. True is always right, False saves a copy."""
        ...

    def copy(self) -> "Database":
        """The same state once more, to go another way from here."""
        ...

    def state(self) -> Hashable:
        """Equal exactly if no command could ever tell the difference."""
        ...

    def rows(self) -> Mapping[str, Row]:
        """Every row there is, past its deadline or not: for the oracles."""
        ...

    def listed(self, user_id: str) -> frozenset[str]:
        """The keys that the by-user index names for this user."""
        ...

    def provisional(self) -> Mapping[str, Provisional]:
        """The records of logins that are not decided yet, by key. None ever where a login is one command."""
        ...


@coroutine
def suspend(command: Command) -> Generator[Command, Any, Any]:
    """Send a command: the scheduler decides when it is carried out, and whether its reply arrives."""
    return (yield command)


def settle(flow: Coroutine[Any, Any, T], database: Database) -> T:
    """Run a flow to its end with nobody in between."""
    reply: Any = None
    while True:
        try:
            command = flow.send(reply)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]  # StopIteration is not generic
        reply = database.run(command)


def suspending(kind: type) -> Store:
    """A store of the abilities of `kind`, each of whose methods is one command."""
    methods = {name: _method(name) for name in METHODS if hasattr(kind, name)}
    return type(f"Suspending{kind.__name__}", (), methods)()  # type: ignore[no-any-return]  # made here


def _method(name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def method(self: object, *args: Any, **kwargs: Any) -> Any:
        fences = args[0] if name == "end_user" else None
        return await suspend(Command(name, args, kwargs, name in READS, fences, name in ASIDE))

    return method


class MemoryDatabase:
    """The memory store, or one like it: every method is atomic."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._state: Hashable = None

    def store(self) -> Store:
        return suspending(type(self._store))

    def run(self, command: Command) -> Any:
        if self.may_change(command):
            self._state = None
        return run_now(getattr(self._store, command.name)(*command.args, **command.kwargs))

    def may_change(self, command: Command) -> bool:
        # A read drops what it finds past its deadline.
        if not command.reads:
            return True
        now = command.kwargs["now"]
        return any(
            (r.deadline if isinstance(r, Record) else r.at + TOMBSTONE) <= now for r in self.rows().values()
        )

    def copy(self) -> "MemoryDatabase":
        twin = MemoryDatabase(_twin(self._store))
        twin._state = self._state
        return twin

    def state(self) -> Hashable:
        if self._state is None:
            store = self._store
            users = frozenset((user, frozenset(store._keys_of(user))) for user in store._users)
            self._state = (frozenset(store._rows.items()), users, tuple(store._fences.items()))
        return self._state

    def rows(self) -> Mapping[str, Row]:
        return self._store._rows

    def listed(self, user_id: str) -> frozenset[str]:
        return frozenset(self._store._keys_of(user_id))

    def provisional(self) -> Mapping[str, Provisional]:
        return {}


def _twin(store: MemoryStore) -> MemoryStore:
    """A copy as deep as the store changes things in place: its containers, and dicts in dicts. Records are values, and
    what it shares between them (`_sharing`) is equal, so that twins can share it too.
    """
    twin = object.__new__(type(store))
    attributes = vars(twin)
    for name, value in vars(store).items():
        kind = type(value)
        if name in ("_users", "_buckets"):
            value = {key: item.copy() if type(item) is dict else item for key, item in value.items()}
        elif kind is dict or kind is list or kind is OrderedDict:
            value = value.copy()
        attributes[name] = value
    twin._lock = threading.Lock()
    return twin


def frozen(reply: Any) -> Hashable:
    """A reply as a key: two equal ones have told the request the same."""
    if isinstance(reply, Page):
        return tuple(reply.records), reply.cursor
    if isinstance(reply, (list, tuple)):
        return tuple(map(frozen, reply))
    if isinstance(reply, dict):
        return frozenset((key, frozen(value)) for key, value in reply.items())
    return reply  # type: ignore[no-any-return]  # of a database's own making, and hashable
