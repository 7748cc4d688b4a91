"""A store's commands, made sure of: what was sent and not answered is sent again, and recognised if it had been carried out.

A store raises `ReplyLost` when a command left and no answer came. Writes carry their own version, deletions their own token,
so a repetition can be told from a second write (PROTOCOL rules 7 and 8). No store repeats commands itself: it is done here.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

from coatcheck.core.ports import (
    FENCED,
    FULL,
    GONE,
    SAVED,
    TAKEN,
    ByUser,
    Carries,
    Changed,
    EndedAll,
    Outcome,
    Remembers,
    Store,
    Terms,
)
from coatcheck.core.record import Ended, Expired, Record
from coatcheck.eras import Eras
from coatcheck.errors import ConfigurationError, ReplyLost, Uncertain

__all__ = ["Commands", "asked"]

T = TypeVar("T")

RESENDS: Final = 2
"""How often a command whose reply was lost is sent again."""


async def asked(question: Callable[[], Awaitable[T]]) -> T:
    """The answer to a question, which changes nothing: asked once more if no answer came, and no more often, since somebody
    waits for it.
    """
    try:
        return await question()
    except ReplyLost:
        return await question()


class Commands:
    """The commands of one store."""

    def __init__(self, store: Store, eras: Eras | None = None) -> None:
        """`eras`: what is known already of when everybody's sessions were ended, to be known once in a process."""
        self.store = store
        self.by_user = store if isinstance(store, ByUser) else None
        self.remembers = store if isinstance(store, Remembers) else None
        self.eras = eras or Eras(store)

    async def load(self, key: str, now: float) -> Record | Ended | None:
        """What is stored under a key now, whatever the store may remember of it. What is past its deadline is nothing."""
        found = await self.look(key, now)
        return None if isinstance(found, Expired) else found

    async def look(self, key: str, now: float) -> Record | Ended | Expired | None:
        """The same, as the store says it."""
        remembers = self.remembers
        if remembers is not None:
            return await asked(lambda: remembers.load_anew(key, now=now))
        return await asked(lambda: self.store.load(key, now=now))

    async def session(self, key: str, now: float) -> Record | Ended | None:
        """The session under a key, if everybody's sessions were not ended since it began."""
        found = await self.load(key, now)
        if isinstance(found, Record):
            await self.eras.catch_up(now)
            if self.eras.is_over(found):
                return None
        return found

    async def begun_now(self, record: Record, now: float) -> Record:
        """The record of a session that begins now, or is logged in, as it is to be written: it is of the present era."""
        await self.eras.catch_up(now)
        return self.eras.stamped(record)

    async def write(
        self, record: Record, expected: str, terms: Terms | None, shorten: bool, now: float
    ) -> tuple[Outcome, bool]:
        """Write over `expected`; with `terms` as a login.

        The second value is False if the write was repeated, and superseded meanwhile: its cookie would take the place of
        a newer one.
        """
        try:
            return await self._write(record, expected, terms, shorten, now), True
        except ReplyLost:
            return await self.write_again(record, expected, terms, shorten, now)

    async def write_again(
        self, record: Record, expected: str, terms: Terms | None, shorten: bool, now: float
    ) -> tuple[Outcome, bool]:
        """The same, after a first try whose reply was lost."""
        outcome = await self._again(lambda: self._write(record, expected, terms, shorten, now))
        outcome = await self.recognise(record, expected, outcome, now)
        return outcome, outcome is not SAVED or await self.lasts(record, now)

    async def _write(
        self, record: Record, expected: str, terms: Terms | None, shorten: bool, now: float
    ) -> Outcome:
        if terms is not None and self.by_user is not None:
            return await self._admit(self.by_user, record, expected, terms, now)
        return await self.store.replace(record, expected=expected, now=now, may_shorten=shorten)

    async def recognise(self, record: Record, expected: str, outcome: Outcome, now: float) -> Outcome:
        """After a lost reply: was the first try carried out? (rule 7)"""
        if not isinstance(outcome, Changed):
            return outcome
        current = await self.current(record.key, outcome, now)
        if current is None:
            return GONE
        if record.versions[0] in current.versions:
            return SAVED
        if expected in current.versions:
            return Changed(current)
        raise Uncertain(
            "a write's reply was lost, and so many others wrote since that it cannot be told apart"
        )

    async def lasts(self, record: Record, now: float) -> bool:
        """Whether what was written is still of the session's present epoch."""
        current = await self.load(record.key, now)
        return isinstance(current, Record) and current.epoch == record.epoch

    async def current(self, key: str, outcome: Outcome, now: float) -> Record | None:
        """What is there after another writer was first; None if the session is gone."""
        if not isinstance(outcome, Changed):
            return None
        current = outcome.current or await self.load(key, now)
        return current if isinstance(current, Record) else None

    async def insert(self, record: Record, terms: Terms | None, now: float) -> Outcome:
        """Write where nothing is; with `terms` as a login."""

        def insert() -> Awaitable[Outcome]:
            if terms is not None and self.by_user is not None:
                return self._admit(self.by_user, record, None, terms, now)
            return self.store.create(record, now=now)

        try:
            return await insert()
        except ReplyLost:
            outcome = await self._again(insert)
        if outcome is TAKEN and isinstance(await self.load(record.key, now), Ended):
            return GONE  # it was created, and ended before we could ask again
        return outcome

    async def _admit(
        self, by_user: ByUser, record: Record, expected: str | None, terms: Terms, now: float
    ) -> Outcome:
        """Write a login; FENCED also if everybody's sessions were ended after its request began."""
        await self.eras.catch_up(now)
        if self.eras.refuses(now - terms.elapsed):
            return FENCED
        outcome = await by_user.admit(record, expected=expected, terms=terms, now=now)
        if outcome is FULL and await self._make_room(by_user, record.user_id or "", now):
            outcome = await by_user.admit(record, expected=expected, terms=terms, now=now)
        return outcome

    async def _make_room(self, by_user: ByUser, user_id: str, now: float) -> bool:
        """End for good the sessions of a user that are over, but count with the store: those of an earlier era. Returns whether
        there were any.
        """
        over = [record for record in await self.all_of_user(user_id, now) if self.eras.is_over(record)]
        for record in over:
            await by_user.end_one(user_id, record.key, now=now, token=record.versions[0])
        return bool(over)

    async def all_of_user(self, user_id: str, now: float) -> list[Record]:
        """Every session that the store has of a user, newest login first, those of an earlier era too."""
        by_user, found, cursor = self._index(), list[Record](), None
        while True:
            page = await asked(partial(by_user.of_user, user_id, now=now, cursor=cursor))
            found += page.records
            cursor = page.cursor
            if cursor is None:
                return found

    async def touch(self, record: Record, deadline: float, now: float) -> bool:
        """Move the deadline of the record that was read. False: another writer was first."""
        key, expected = record.key, record.versions[0]

        def touch() -> Awaitable[bool]:
            return self.store.touch(key, deadline=deadline, seen_at=now, expected=expected, now=now)

        return await self._surely(touch)

    async def delete(self, key: str, now: float, token: str, expected: str | None) -> bool:
        """Delete; with `expected` only that version."""
        return await self._surely(lambda: self.store.delete(key, now=now, token=token, expected=expected))

    async def end_user(self, user_id: str, now: float, token: str, keep: str | None) -> EndedAll:
        """End a user's sessions, and their logins under way."""
        by_user = self._index()
        return await self._surely(lambda: by_user.end_user(user_id, keep=keep, now=now, token=token))

    async def end_one(self, user_id: str, key: str, now: float, token: str) -> bool:
        """End one session while it is this user's."""
        by_user = self._index()
        return await self._surely(lambda: by_user.end_one(user_id, key, now=now, token=token))

    async def _surely(self, call: Callable[[], Awaitable[T]]) -> T:
        """A command that may be repeated as it is."""
        try:
            return await call()
        except ReplyLost:
            return await self._again(call)

    async def _again(self, call: Callable[[], Awaitable[T]]) -> T:
        for _ in range(RESENDS):
            try:
                return await call()
            except ReplyLost:
                continue
        raise Uncertain(
            "the store did not answer a command, nor its repetition: it may have been carried out"
        )

    def _index(self) -> ByUser:
        if self.by_user is None:
            if isinstance(self.store, Carries):
                raise self.store.lacks("lists sessions by user")
            raise ConfigurationError(
                "this store has no by-user index: use one that lists sessions by user (ByUser)"
            )
        return self.by_user
