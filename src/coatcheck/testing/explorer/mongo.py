"""MongoDB under the explorer: the store's own commands to a real server, one at a time.

Before each the two collections are put as they must be; they are ones of their own, with a name drawn at random, and are dropped
at the end. A command of several updates is several commands: MongoDB promises no more. One update of many documents is one, and
that is more than MongoDB promises. Where a command asks for the server's time it is told the explorer's.
"""

import secrets
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from math import inf
from typing import Any, Final, cast

from coatcheck.core.ports import Notice, Store
from coatcheck.core.stepping import run_now
from coatcheck.stores._mongo_commands import Document, Phrases, row_of
from coatcheck.stores._rows import judge
from coatcheck.stores.mongo import MongoSessions, MongoStore
from coatcheck.testing.explorer.database import Command, Database, Provisional, Row, frozen, suspend

__all__ = ["mongo"]

Documents = Mapping[tuple[str, str], Document]
"""By collection and `_id`."""
RAISES: Final = {"$set": {"f": "$t"}}
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
EVERYTHING: Final = 1_000_000
KEPT: Final = 200_000


class _Client:
    """Stops at every command, and at every update of one that has several."""

    async def run(self, command: Document, reads: bool = False) -> Document:
        updates = command.get("updates", ())
        if len(updates) < 2:
            return cast(Document, await suspend(_command(command, reads)))
        number = 0
        for update in updates:
            number += (await suspend(_command({**command, "updates": [update]}, reads)))["n"]
        return {"n": number}

    async def run_long(self, command: Document) -> Document:
        raise NotImplementedError("no request sweeps or counts")

    def watch(self, collection: str, tell: Callable[[Notice], None]) -> Callable[[], None]:
        raise NotImplementedError("no request watches")


def _command(command: Document, reads: bool) -> Command:
    verb, collection = next(iter(command.items()))
    if verb == "findAndModify":
        fences = command["query"]["_id"] if command["update"][-1] == RAISES else None
        return Command("fence of the user" if fences else "stamp", (command,), {}, False, fences, True)
    where: Document = _where(command)
    key = where.get("_id")
    # The session of the request is written over a version; what names the user is about whoever's it is.
    aside = not isinstance(key, str) or ("u" in where and "v" not in where)
    promotes = "c.v" in where and "$set" in (command["updates"][0]["u"] if "updates" in command else ())
    about = key if isinstance(key, str) else collection
    name = f"{'promote' if promotes else verb} {about}"
    return Command(name, (command,), {}, reads, None, aside, promotes)


def _where(command: Document) -> Document:
    if "documents" in command:
        return {"_id": command["documents"][0]["_id"]}
    if "updates" in command or "deletes" in command:
        return cast(Document, (command.get("updates") or command["deletes"])[0]["q"])
    return cast(Document, command.get("filter", {}))


class _Server:
    """One client, and what is known to be in the collections."""

    def __init__(self, url: str) -> None:
        self._store = MongoStore.from_url(url)
        self._client = self._store.blocking()._client
        self.phrases = Phrases(f"explored_{secrets.token_hex(6)}", {"w": 1})
        self._collections = (self.phrases.sessions, self.phrases.users)
        self._there: Documents = {}
        self._known: dict[Hashable, tuple[Any, Documents]] = {}

    def close(self) -> None:
        for collection in self._collections:
            self._say({"delete": collection, "deletes": [{"q": {}, "limit": 0}]})
            self._say({"drop": collection})
        self._store.close()

    def __call__(self, there: Documents, command: Document, clock: float) -> tuple[Any, Documents]:
        """The reply to a command where `there` is all that the server holds, and what it holds afterwards."""
        question = _state(there), frozen(_timeless(command)), clock
        if question not in self._known:
            if len(self._known) > KEPT:
                self._known.clear()
            self._put(there)
            reply = _essence(self._say(_told(command, EPOCH + timedelta(seconds=clock))))
            self._there = there if "find" in command else self._everything()
            self._known[question] = reply, self._there
        return self._known[question]

    def _put(self, wanted: Documents) -> None:
        for collection in self._collections:
            stale = [key for name, key in self._there if name == collection and (name, key) not in wanted]
            if stale:
                self._say({"delete": collection, "deletes": [{"q": {"_id": {"$in": stale}}, "limit": 0}]})
            other = [
                {"q": {"_id": key}, "u": document, "upsert": True}
                for (name, key), document in wanted.items()
                if name == collection and self._there.get((name, key)) != document
            ]
            if other:
                self._say({"update": collection, "updates": other})

    def _everything(self) -> Documents:
        return {
            (collection, document["_id"]): document
            for collection in self._collections
            for document in self._say({"find": collection, "batchSize": EVERYTHING, "singleBatch": True})[
                "cursor"
            ]["firstBatch"]
        }

    def _say(self, command: Document) -> Document:
        return run_now(self._client.run(command))


def _told(part: Any, moment: datetime) -> Any:
    """The same, with the time in place of where the server would look at its clock."""
    if part == "$$NOW":
        return moment
    if isinstance(part, dict):
        return {key: _told(value, moment) for key, value in part.items()}
    return [_told(value, moment) for value in part] if isinstance(part, list) else part


def _essence(reply: Document) -> Document:
    """What the store looks at. The rest is about the server, and different each time."""
    if "cursor" in reply:
        return {"cursor": {"firstBatch": [_timeless(document) for document in reply["cursor"]["firstBatch"]]}}
    return {name: reply[name] for name in ("n", "value") if name in reply}


def _timeless(part: Any) -> Any:
    """Without the time at which the server would throw it away: that is by the true clock."""
    if isinstance(part, dict):
        return {key: _timeless(value) for key, value in part.items() if key != "gc"}
    return [_timeless(value) for value in part] if isinstance(part, list) else part


def _state(there: Documents) -> Hashable:
    return frozenset((key, frozen(_timeless(document))) for key, document in there.items())


@lru_cache(maxsize=50_000)
def _row(key: str, row: tuple[Any, ...]) -> Row | None:
    """The very same for the same row: the oracles look for what has changed."""
    return judge(key, row, -inf)


class MongoDatabase:
    """What the collections hold."""

    def __init__(self, server: _Server, clock: Callable[[], float], there: Documents | None = None) -> None:
        self._server, self._clock = server, clock
        self._there: Documents = there or {}
        self._state: Hashable = None
        self._rows: Mapping[str, Row] | None = None

    def store(self) -> Store:
        return MongoSessions(_Client(), self._server.phrases, "the explorer's MongoDB")

    def run(self, command: Command) -> Any:
        reply, self._there = self._server(self._there, command.args[0], self._clock())
        if not command.reads:
            self._state = self._rows = None
        return reply

    def may_change(self, command: Command) -> bool:
        return not command.reads

    def copy(self) -> Database:
        twin = MongoDatabase(self._server, self._clock, self._there)
        twin._state, twin._rows = self._state, self._rows
        return twin

    def state(self) -> Hashable:
        if self._state is None:
            self._state = _state(self._there)
        return self._state

    def rows(self) -> Mapping[str, Row]:
        if self._rows is None:
            self._rows = dict(self._each_row())
        return self._rows

    def _each_row(self) -> Iterator[tuple[str, Row]]:
        for key, document in self._sessions():
            # Neither a login under way where no session is, nor what has expired and is only waiting to be collected.
            if document["k"] and (document["d"] or "e" in document):
                row = _row(key, row_of(document))
                assert row is not None
                yield key, row

    def _sessions(self) -> Iterator[tuple[str, Document]]:
        name = self._server.phrases.sessions
        return ((key, document) for (where, key), document in self._there.items() if where == name)

    def listed(self, user_id: str) -> frozenset[str]:
        return frozenset(key for key, document in self._sessions() if document.get("u") == user_id)

    def provisional(self) -> Mapping[str, Provisional]:
        return {}


@contextmanager
def mongo(url: str) -> Iterator[Callable[[Callable[[], float]], Database]]:
    """A `MakeStore` on the server at a URL."""
    server = _Server(url)
    try:
        yield partial(MongoDatabase, server)
    finally:
        server.close()
