"""A store with a server that fails on demand, for tests of outages: opened by a URL, as a user would open one.

    faulty://app:sesame@host/name

The "server" is a `FaultyServer` in this process, found by the name in the URL; every command of a store goes through its `ask`.
"""

from collections.abc import Callable
from typing import Any

import pytest

from coatcheck import stores
from coatcheck.core.outage import Outage
from coatcheck.eras import ERA_KEY
from coatcheck.errors import StoreError, UsageError
from coatcheck.stores.memory import MemoryStore

VERBS = (
    "load",
    "create",
    "replace",
    "touch",
    "delete",
    "admit",
    "of_user",
    "end_user",
    "end_one",
    "sweep",
    "count",
)


class FaultyServer:
    """What the stores of one name talk to."""

    def __init__(self) -> None:
        self.sessions = MemoryStore()
        self.fault: Callable[[str], StoreError | None] | None = None
        """Asked before each command, with its name: what is to be raised instead. None: nothing is wrong."""
        self.lost: StoreError | None = None
        """What is raised *after* the next command was carried out: its reply is lost."""
        self.commands: list[str] = []
        self.is_set_up = True
        self.opened, self.closed = list[Outage](), list[str]()

    def down(self, error: StoreError | None, *only: str) -> None:
        """Fail these commands, or all of them, from now on; None: be well again."""
        self.fault = None if error is None else lambda verb: error if not only or verb in only else None

    def told(self) -> list[str]:
        """The commands since last asked."""
        commands, self.commands = self.commands, []
        return commands


SERVERS: dict[str, FaultyServer] = {}


class FaultyStore:
    """A store of such a server."""

    load: Any
    create: Any
    replace: Any
    touch: Any
    delete: Any
    admit: Any
    of_user: Any
    end_user: Any
    end_one: Any
    sweep: Any
    count: Any

    def __init__(self, server: FaultyServer) -> None:
        self._server, self._open = server, True

    @classmethod
    def from_url(cls, url: str, *, outage: Outage) -> "FaultyStore":
        """The store a URL names."""
        server = SERVERS[url.rpartition("/")[2]]
        server.opened.append(outage)
        return cls(server)

    def blocking(self) -> "FaultyStore":
        """For the sync face."""
        return self

    def awaiting(self) -> "FaultyStore":
        """For an event loop."""
        return self

    async def ask(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        """One command."""
        server = self._server
        if not self._open:
            raise UsageError("this store is closed")
        if args and args[0] == ERA_KEY:  # now and then, and no part of a request (test_eras)
            return await getattr(server.sessions, verb)(*args, **kwargs)
        server.commands.append(verb)
        if server.fault is not None and (error := server.fault(verb)) is not None:
            raise error
        answer = await getattr(server.sessions, verb)(*args, **kwargs)
        if server.lost is not None:
            lost, server.lost = server.lost, None
            raise lost
        return answer

    async def check(self) -> None:
        """Whether it works."""
        await self.ask("check")
        if not self._server.is_set_up:
            raise StoreError("the table is missing: run `coatcheck setup`")

    async def setup(self) -> None:
        """Make the table."""
        self._server.commands.append("setup")
        self._server.is_set_up = True

    def watch(self, tell: Callable[[Any], None]) -> Callable[[], None]:
        """Endings, from the server."""
        return self._server.sessions.watch(tell)

    def close(self) -> None:
        """Close what the sync face opened."""
        self._open = False
        self._server.closed.append("close")

    async def aclose(self) -> None:
        """Close what event loops opened."""
        self._open = False
        self._server.closed.append("aclose")


def _verb(name: str) -> Any:
    async def command(self: FaultyStore, *args: Any, **kwargs: Any) -> Any:
        return await self.ask(name, *args, **kwargs)

    return command


for _name in VERBS:
    setattr(FaultyStore, _name, _verb(_name))


class PlainStore:
    """A store of such a URL that has the five verbs and no ability; nobody asks it for anything."""

    load = create = replace = touch = delete = MemoryStore.load

    @classmethod
    def from_url(cls, url: str, *, outage: Outage) -> MemoryStore:
        """The store a URL names."""
        return cls()  # type: ignore[return-value]  # only what a face looks at


def faulty(
    monkeypatch: pytest.MonkeyPatch, name: str = "shop", kind: type[Any] = FaultyStore
) -> tuple[str, FaultyServer]:
    """A new server, and the URL of its stores."""
    server = FaultyServer()
    monkeypatch.setitem(SERVERS, name, server)
    monkeypatch.setitem(stores._SCHEMES, "faulty", stores._Kind("tests.faulty", kind.__name__, "redis"))
    return f"faulty://app:sesame@host/{name}", server
