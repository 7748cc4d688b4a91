"""The database servers of a run: each started once, when it is first needed, with an empty database for whoever asks."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from bench.contestants import Database
from servers import Server, mongo, postgres, redis
from servers.postgres import psql

ROOM = 10_000
"""Databases that Redis numbers; one for each contestant in each round."""


class Databases:
    """What `databases` hands out."""

    def __init__(self, folder: Path, core: int, stack: ExitStack) -> None:
        self._folder, self._core, self._stack = folder, core, stack
        self._running: dict[Database, Server] = {}
        self._numbers = count(1)

    def fresh(self, kind: Database) -> str:
        """Return the URL of a database that nobody has used, on the server of this kind.

        New ones cost next to nothing, so nobody's are cleared: what one contestant left cannot meet another.

        Raises:
            ServerMissing: it is not installed.
        """
        server = self._server(kind)
        name = f"b{next(self._numbers)}"
        if kind == "redis":
            return placed(server.url, name[1:])
        if kind == "postgres":
            psql(server, f"CREATE DATABASE {name}")
        return placed(server.url, name)

    def _server(self, kind: Database) -> Server:
        if kind not in self._running:
            with on_core(self._core):
                self._running[kind] = self._stack.enter_context(STARTED[kind](self._folder / kind))
        return self._running[kind]


def placed(url: str, database: str) -> str:
    """Return the URL with this database in place of the one it names."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


# One line a server. No disk is waited for: it is the application's CPU that is counted, and a disk would only make the machine
# idle and its figures coarse.
STARTED: dict[Database, Callable[[Path], AbstractContextManager[Server]]] = {
    "redis": lambda folder: redis(folder, "--databases", str(ROOM)),
    "postgres": lambda folder: postgres(folder, "fsync=off"),
    "mongo": mongo,
}


@contextmanager
def databases(folder: Path, *, core: int) -> Iterator[Databases]:
    """Have database servers on ``core`` for the length of the block; those that nobody asks for are not started."""
    with ExitStack() as stack:
        yield Databases(folder, core, stack)


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Have what is started in the block run on this core, with all threads and processes that it will ever have."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
