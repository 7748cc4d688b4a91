"""The verbs of a store over connect-mongo's documents: what both faces run."""

import logging
from typing import Any, Final, Literal

from coatcheck.core.ports import Verdict
from coatcheck.dialects.express._connect_mongo_documents import Document, Documents, touched_at
from coatcheck.dialects.express.ports import GONE, SAVED, Changed, Entry, Named, Outcome
from coatcheck.errors import ConfigurationError, CorruptRecord, StoreError, UsageError
from coatcheck.stores._mongo_client import Client
from coatcheck.stores._mongo_commands import changed, found, many

__all__ = ["ConnectMongoSessions"]

_logger: Final = logging.getLogger("coatcheck")

_PRUNE_STEP: Final = 1000
_NO_COLLECTION: Final = 26
_OTHER_INDEXES: Final = (85, 86)


class ConnectMongoSessions:
    """What `ConnectMongo` hands to a face: `ExpressStore`, `Lists`, `Prunes`, `Checks` and `SetsUp`."""

    touches = True

    def __init__(self, client: Client, say: Documents, name: str, *, native: bool) -> None:
        self._client, self._say, self._form = client, say, say.form
        self._name, self._native = name, native

    # -------------------------------------------------------------------------------------------------------- the verbs

    async def get(self, sid: str, *, now: float) -> Entry | None:
        document = found(await self._client.run(self._say.find(sid, now), True))
        try:
            return None if document is None else self._form.entry(document)
        except CorruptRecord as error:
            raise CorruptRecord(f"{self._name} {self._say.collection}: {error}") from None

    async def create(
        self, sid: str, text: bytes, *, expires: float | None, now: float
    ) -> Literal[Verdict.SAVED, Verdict.TAKEN]:
        reply = await self._client.run(self._say.create(sid, text, expires, now))
        if changed(reply):
            return Verdict.SAVED
        self._insist_on_id(reply)
        return Verdict.TAKEN

    async def replace(
        self, sid: str, text: bytes, *, over: Entry, expires: float | None, now: float
    ) -> Outcome:
        reply = await self._client.run(self._say.replace(sid, text, over, expires, now))
        if changed(reply):
            return SAVED
        self._insist_on_id(reply)
        current = await self.get(sid, now=now)
        return GONE if current is None else Changed(current)

    async def touch(self, sid: str, text: bytes, *, expires: float | None, now: float) -> None:
        after = self._form.touch_after
        last = touched_at(text) if after else None
        if last is None or round(now * 1000) - last >= after * 1000:
            await self._client.run(self._say.touch(sid, expires, now, last=last is not None))

    async def destroy(self, sid: str) -> bool:
        return changed(await self._client.run(self._say.destroy(sid)))

    # ------------------------------------------------------------------------------------------------------------ lists

    async def names(self, *, now: float, cursor: object = None, limit: int = 1000) -> Named:
        """About `limit` ids. Raises UsageError where `transform_id` hides them."""
        if self._form.transform_id is not None:
            raise UsageError("transform_id: what is stored are not the session ids, so nobody can list them")
        after = None if cursor is None else str(cursor)
        documents = many(await self._client.run_long(self._say.names(after, now, limit)))
        sids = [document["_id"] for document in documents]
        return Named(sids, sids[-1] if len(sids) == limit else None)

    async def length(self, *, now: float) -> int:
        """How many sessions live. (The package counts those that are over too.)"""
        return int((await self._client.run_long(self._say.length(now)))["n"])

    async def clear(self) -> None:
        """Delete every session."""
        await self._client.run_long(self._say.clear())

    # ----------------------------------------------------------------------------------------------------------- upkeep

    async def prune(self, *, now: float, limit: int = 1000) -> int:
        """Delete up to `limit` sessions that are over. Returns how many."""
        pruned = 0
        while pruned < limit:
            due = many(await self._client.run(self._say.over(now, min(_PRUNE_STEP, limit - pruned)), True))
            gone = (await self._pruned(due, now)) if due else 0
            pruned += gone
            if not gone:
                break
        return pruned

    async def _pruned(self, due: list[Document], now: float) -> int:
        keys = [document["_id"] for document in due]
        return int((await self._client.run(self._say.prune(keys, now)))["n"])

    async def check(self) -> None:
        """Write something that changes nothing. Raises StoreUnavailable if it cannot; logs that the index is missing."""
        await self._client.run(self._say.probe())
        if self._native and not any(index["key"].get("expires") for index in await self._indexes()):
            _logger.warning(
                "%s: %s has no index on expires: run setup() once; until then nothing deletes sessions that are over",
                self._name,
                self._say.collection,
            )

    async def setup(self) -> None:
        """Make the index by which MongoDB deletes what is over, with `auto_remove="native"`; safe to call again.

        Raises ConfigurationError for a collection that holds something else: what has `expires` there would be deleted.
        """
        somebody: Any = found(await self._client.run(self._say.any_one(), True))
        if somebody is not None and "session" not in somebody:
            raise ConfigurationError(
                f"{self._name}: collection_name={self._say.collection!r} holds documents of somebody else: name another"
            )
        if self._native:
            await self._make_index()

    async def _make_index(self) -> None:
        try:
            await self._client.run_long(self._say.index())
        except StoreError as error:
            if _code(error) in _OTHER_INDEXES:
                raise ConfigurationError(
                    f'{self._name}: {error}: drop that index, or give auto_remove="disabled"'
                ) from error
            raise

    async def _indexes(self) -> list[Document]:
        try:
            return many(await self._client.run(self._say.indexes(), True))
        except StoreError as error:
            if _code(error) != _NO_COLLECTION:
                raise
            return []

    def _insist_on_id(self, reply: Any) -> None:
        """A duplicate that is not of `_id`, but of an index of somebody's own, is an error and says nothing of this session."""
        for wrong in reply.get("writeErrors", ()):
            pattern = wrong.get("keyPattern")
            if pattern is not None and "_id" not in pattern:
                raise StoreError(
                    f"{self._name}: {self._say.collection} has a unique index on {', '.join(pattern)}"
                )


def _code(error: StoreError) -> object:
    return getattr(error.__cause__, "code", None)
