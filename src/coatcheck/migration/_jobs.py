"""What is done to one session, for each pair of dialects. A job can be done again, at any time, by anybody, and does no harm.

Each answers with one word:

    done        it is in the target now, and was not before
    there       it was in the target, as it is in the source or changed since
    over        it ended or expired
    differs     both have one of this id, and each has something that the other has not: the target's stays
    refused     it is not brought over, and the reason was told
    unreadable  what is stored cannot be read
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from math import inf
from typing import Any, Final, Literal, NamedTuple, Protocol, cast

from msgspec.structs import replace as changed

from coatcheck.adopting import Adopting
from coatcheck.core.adoption import Claim
from coatcheck.core.ports import SAVED, ByUser, Outcome, Store, Terms, Walks
from coatcheck.core.record import Ended, Record
from coatcheck.eras import ERA_KEY
from coatcheck.errors import CorruptRecord
from coatcheck.stores._carry import Carrier, as_copy, has_moved, is_copy, plain

__all__ = ["HEARD", "WORDS", "Adopt", "Copy", "CopyText", "Job", "Move", "Names", "Word"]

Word = Literal["done", "there", "over", "differs", "refused", "unreadable"]
WORDS: Final[tuple[Word, ...]] = ("done", "there", "over", "differs", "refused", "unreadable")
HEARD: Final[ContextVar[dict[str, str]]] = ContextVar("HEARD")
"""The events of the session that this task has under way, and what each said."""


class Names(NamedTuple):
    """Some of the names of a source, and where to go on."""

    names: Sequence[str]
    cursor: object


class Job(Protocol):
    """Sessions of one dialect on their way to another. `dry`: say what would be done, and do nothing."""

    async def walk(self, cursor: object, limit: int, now: float) -> Names: ...

    async def bring(self, name: str, now: float, *, dry: bool) -> Word: ...

    async def tidy(self, now: float) -> int:
        """After the last walk: end in the target what was copied, never used there, and has ended in the source since."""
        ...


class _Native:
    """From one native store to another."""

    def __init__(self, source: Store, target: Store, tokens: Callable[[], str], copies: str) -> None:
        self._source, self._target, self._tokens, self._copies = source, target, tokens, copies

    async def walk(self, cursor: object, limit: int, now: float) -> Names:
        step = await cast(Walks, self._source).walk(cursor=cursor, limit=limit)
        return Names(step.keys, step.cursor)

    async def bring(self, name: str, now: float, *, dry: bool) -> Word:
        try:
            found = await self._source.load(name, now=now)
            if type(found) is not Record:
                return "over"
            if name == ERA_KEY:
                return await self._era(found, now, dry=dry)
            return await self._one(found, now, dry=dry)
        except CorruptRecord:
            return "unreadable"

    async def _era(self, found: Record, now: float, *, dry: bool) -> Word:
        """When everybody's sessions were ended: also in the target, and never taken from the source."""
        there = await self._target.load(name := found.key, now=now)
        if type(there) is Record and there.era >= found.era:
            return "there"
        if not dry and type(there) is Record:
            versions = (found.versions[0], *there.versions[:8])
            await self._target.replace(
                changed(found, key=name, versions=versions), expected=there.versions[0], now=now
            )
        elif not dry:
            await self._target.create(found, now=now)
        return "done"

    async def _one(self, found: Record, now: float, *, dry: bool) -> Word:
        raise NotImplementedError

    async def tidy(self, now: float) -> int:
        if not isinstance(self._target, Walks):
            return 0
        ended, cursor = 0, None
        while True:
            step = await self._target.walk(cursor=cursor)
            for key in step.keys:
                ended += await self._end_orphan(key, now)
            cursor = cast(Any, step.cursor)
            if cursor is None:
                return ended

    async def _end_orphan(self, key: str, now: float) -> bool:
        try:
            there = await self._target.load(key, now=now)
            if type(there) is not Record or not is_copy(there, self._copies):
                return False
            original = await self._source.load(key, now=now)
        except CorruptRecord:
            return False
        if type(original) is Record:
            return False
        return await self._target.delete(key, now=now, token=self._tokens(), expected=there.versions[0])


class Move(_Native):
    """Each is carried, as a request would carry it."""

    def __init__(
        self,
        source: Store,
        target: Store,
        tokens: Callable[[], str],
        copies: str,
        monotonic: Callable[[], float],
    ) -> None:
        super().__init__(source, target, tokens, copies)
        self._carrier = Carrier(target, source, tokens=tokens, monotonic=monotonic, copies=copies)

    async def _one(self, found: Record, now: float, *, dry: bool) -> Word:
        if has_moved(found):
            return "there" if type(await self._target.load(found.key, now=now)) is Record else "over"
        if dry:
            return "done"
        return "done" if type(await self._carrier.carry(found.key, now)) is Record else "over"


class Copy(_Native):
    """Each is written to the target as it is. A copy that was never used there follows its original."""

    async def _one(self, found: Record, now: float, *, dry: bool) -> Word:
        if has_moved(found):
            return "over"
        record = plain(found)
        there = await self._target.load(record.key, now=now)
        if type(there) is Ended:
            return "over"
        if type(there) is not Record:
            return "done" if dry or await self._put(record, None, now) is SAVED else "over"
        if record.versions[0] in there.versions:
            is_older = there.versions[0] == record.versions[0] and there.seen_at < record.seen_at
            if is_older and not dry:
                copy = as_copy(record, self._copies, self._tokens())
                await self._target.replace(copy, expected=record.versions[0], now=now)
            return "there"
        if there.versions[0] not in record.versions:
            return "differs"
        return "done" if dry or await self._put(record, there.versions[0], now) is SAVED else "differs"

    async def _put(self, record: Record, expected: str | None, now: float) -> Outcome:
        copy = as_copy(record, self._copies, self._tokens())
        if record.user_id is not None and isinstance(self._target, ByUser):
            return await self._target.admit(copy, expected=expected, terms=Terms(), now=now)
        if expected is None:
            return await self._target.create(copy, now=now)
        return await self._target.replace(copy, expected=expected, now=now, may_shorten=True)


class CopyText:
    """From one store of the Node world to another: text, id and expiry as they are. `move`: then destroyed in the source."""

    def __init__(self, source: Any, target: Any, *, move: bool) -> None:
        self._source, self._target, self._move = source, target, move

    async def walk(self, cursor: object, limit: int, now: float) -> Names:
        step = await self._source.names(now=now, cursor=cursor, limit=limit)
        return Names(step.sids, step.cursor)

    async def bring(self, name: str, now: float, *, dry: bool) -> Word:
        try:
            entry = await self._source.get(name, now=now)
            if entry is None:
                return "over"
            word = await self._one(name, entry, now, dry=dry)
        except CorruptRecord:
            return "unreadable"
        if self._move and not dry and word in ("done", "there"):
            await self._source.destroy(name)
        return word

    async def _one(self, name: str, entry: Any, now: float, *, dry: bool) -> Word:
        there = await self._target.get(name, now=now)
        if there is not None and there.text != entry.text:
            return "differs"
        if there is not None:
            # A touch moves the end, and in some stores leaves the text alone.
            if not dry and entry.expires is not None and (there.expires or inf) < entry.expires:
                await self._target.touch(name, entry.text, expires=entry.expires, now=now)
            return "there"
        if dry or await self._target.create(name, entry.text, expires=entry.expires, now=now) is SAVED:
            return "done"
        return "differs"

    async def tidy(self, now: float) -> int:
        return 0


class Adopt:
    """From a store of the Node world to a native one: each is adopted, as if its browser had come, and destroyed there. What a
    browser brings later is its old cookie, which then opens the session (`coatcheck.adopting`).
    """

    def __init__(self, source: Any, adopting: Adopting, session: Callable[[], Any]) -> None:
        self._source, self._adopting, self._session = source, adopting, session
        self.why = Counter[str]()
        """Why some were refused, and how often each was the reason."""

    async def walk(self, cursor: object, limit: int, now: float) -> Names:
        step = await self._source.names(now=now, cursor=cursor, limit=limit)
        return Names(step.sids, step.cursor)

    async def bring(self, name: str, now: float, *, dry: bool) -> Word:
        try:
            entry = await self._source.get(name, now=now)
        except CorruptRecord:
            return "unreadable"
        if entry is None:
            return "over"
        if dry:
            return "done"
        heard: dict[str, str] = {}
        HEARD.set(heard)
        is_there = await self._adopting.adopt(self._session(), Claim(name), now)
        if "session.adopted" in heard:
            return "done"
        if "adoption.refused" in heard:
            self.why[heard["adoption.refused"]] += 1
            return "refused"
        return "there" if is_there else "over"

    async def tidy(self, now: float) -> int:
        return 0
