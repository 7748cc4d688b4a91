"""What `Moving` hands to a face: the store that carries sessions, and the one of the deploy before, which finds what was carried.

A verb that ends a session has it in the new store first, or ends it in the old one as it was read. Whatever ends all sessions of
a user does so in the old store, then in the new one.
"""

from collections.abc import Callable
from math import inf
from typing import Any, Final, cast

from msgspec.structs import replace as changed

from coatcheck.core.ports import (
    CHANGED,
    GONE,
    SAVED,
    TAKEN,
    ByUser,
    Changed,
    EndedAll,
    Outcome,
    Page,
    Store,
    Terms,
)
from coatcheck.core.record import Ended, Expired, Record
from coatcheck.eras import ERA_KEY
from coatcheck.errors import StoreUnavailable
from coatcheck.stores._alike import cursor_at, place_of
from coatcheck.stores._carry import ATTEMPTS, Carrier, has_moved, is_copy, is_plain, plain
from coatcheck.stores._carry_aside import pass_both

__all__ = ["Carrying", "MovingSessions", "Waiting"]

Found = Record | Ended | Expired | None


class _Fences(float):
    """The fence that was raised in the store that logins go to, and the one in the other."""

    other: float

    @classmethod
    def of(cls, own: float, other: float) -> "_Fences":
        fence = cls(own)
        fence.other = other
        return fence


class MovingSessions:
    """What `Moving` hands to a face: what both ways of it have in common. It has the abilities that both stores have."""

    moves: Final = True

    def __init__(
        self,
        new: Store,
        old: Store,
        *,
        tokens: Callable[[], str],
        monotonic: Callable[[], float],
        copies: str,
    ) -> None:
        self._new, self._old, self._tokens, self._copies = new, old, tokens, copies
        self._carrier = Carrier(new, old, tokens=tokens, monotonic=monotonic, copies=copies)
        self._new_users, self._old_users = cast(ByUser, new), cast(ByUser, old)
        pass_both(self, *self._first_and_second())
        if isinstance(new, ByUser) and isinstance(old, ByUser):
            self.admit, self.of_user = self._admit, self._of_user
            self.end_user, self.end_one = self._end_user, self._end_one

    def _first_and_second(self) -> tuple[Store, Store]:
        """The store that sessions begin in, and the other."""
        raise NotImplementedError

    async def load(self, key: str, *, now: float) -> Found:
        raise NotImplementedError

    async def create(self, record: Record, *, now: float) -> Outcome:
        raise NotImplementedError

    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        raise NotImplementedError

    async def touch(self, key: str, *, deadline: float, seen_at: float, expected: str, now: float) -> bool:
        raise NotImplementedError

    async def delete(self, key: str, *, now: float, token: str, expected: str | None = None) -> bool:
        raise NotImplementedError

    async def _admit(self, record: Record, *, expected: str | None, terms: Terms, now: float) -> Outcome:
        raise NotImplementedError

    async def _end_one(self, user_id: str, key: str, *, now: float, token: str) -> bool:
        raise NotImplementedError

    async def _of_user(
        self, user_id: str, *, now: float, cursor: str | None = None, limit: int = 100
    ) -> Page:
        """The live sessions of a user in either store, newest login first. Raises UsageError for a foreign cursor."""
        before = (inf, "") if cursor is None else place_of(cursor)
        # The old one first: what is carried in between is then found in the new one.
        there = {record.key: plain(record) for record in await _all(self._old_users, user_id, now)}
        there |= {record.key: record for record in await self._all_new(user_id, now)}
        records = sorted((r for r in there.values() if _order(r) < before), key=_order, reverse=True)
        page = records[:limit]
        more = len(records) > len(page) and page
        return Page(page, cursor_at(*_order(page[-1])) if more else None)

    async def _end_user(self, user_id: str, *, keep: str | None, now: float, token: str) -> EndedAll:
        """Raise the user's fence in both stores, then end every session of theirs but the one with key `keep`: in the old store
        first, so that what is carried meanwhile meets a fence, or is found, in the new one.
        """
        old = await self._old_users.end_user(user_id, keep=keep, now=now, token=token)
        new = await self._new_users.end_user(user_id, keep=keep, now=now, token=token)
        first, second = (new, old) if self._first_and_second()[0] is self._new else (old, new)
        return EndedAll(new.count + old.count, _Fences.of(first.fence, second.fence))

    async def _all_new(self, user_id: str, now: float) -> list[Record]:
        """A user's sessions in the new store; not those of a rehearsal."""
        found = await _all(self._new_users, user_id, now)
        return [record for record in found if not is_copy(record, self._copies)]

    def _is_copy(self, found: Found) -> bool:
        """Whether it was copied into the new store, for a rehearsal perhaps: then the old one has the last word."""
        return type(found) is Record and is_copy(found, self._copies)

    async def _carry_all(self, user_id: str, now: float) -> None:
        """For a limit of sessions: they are counted where the login goes."""
        for record in await _all(self._old_users, user_id, now):
            await self._carrier.carry(record.key, now)

    # -------------------------------------------------------------------------------------------------- eras

    async def _era(self, now: float) -> Record | None:
        """The present era, as either store knows it: the later one."""
        found = [await store.load(ERA_KEY, now=now) for store in (self._new, self._old)]
        eras = [record for record in found if type(record) is Record]
        return max(eras, key=lambda record: record.era, default=None)

    async def _begin_era(self, record: Record, now: float) -> Outcome:
        """Write the next era into both stores. It is never carried, since what is left in the old store must know it."""
        outcomes = [await _raise_era(store, record, now) for store in (self._old, self._new)]
        return next((outcome for outcome in outcomes if outcome is not SAVED), SAVED)


async def _raise_era(store: Store, record: Record, now: float) -> Outcome:
    found = await store.load(ERA_KEY, now=now)
    if type(found) is not Record:
        return await store.create(record, now=now)
    if record.versions[0] in found.versions:
        return SAVED
    if found.era >= record.era:
        return Changed(found)
    versions = (record.versions[0], *found.versions[:8])
    return await store.replace(changed(record, versions=versions), expected=found.versions[0], now=now)


class Carrying(MovingSessions):
    """Sessions are in the new store, or will be as soon as somebody asks for them."""

    def _first_and_second(self) -> tuple[Store, Store]:
        return self._new, self._old

    async def load(self, key: str, *, now: float) -> Found:
        if key == ERA_KEY:
            return await self._era(now)
        found = await self._new.load(key, now=now)
        if type(found) is Ended or (type(found) is Record and not self._is_copy(found)):
            return found
        carried = await self._carrier.carry(key, now)
        if type(carried) is Record:
            return await self._new.load(key, now=now)  # as it is now that it has settled
        if type(found) is Record:  # its original is over, and so is the copy
            await self._new.delete(key, now=now, token=self._tokens(), expected=found.versions[0])
            return carried or await self._new.load(key, now=now)
        return carried or found

    async def create(self, record: Record, *, now: float) -> Outcome:
        if record.key == ERA_KEY:
            return await self._begin_era(record, now)
        if type(await self._carrier.carry(record.key, now)) is Ended:
            return TAKEN
        return await self._new.create(record, now=now)

    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        if record.key == ERA_KEY:
            return await self._begin_era(record, now)
        if may_shorten:
            await self._carrier.carry(record.key, now)  # nothing that lives longer may stay frozen behind it
        outcome = await self._new.replace(record, expected=expected, now=now, may_shorten=may_shorten)
        if outcome is not GONE or type(await self._carrier.carry(record.key, now)) is not Record:
            return outcome
        return await self._new.replace(record, expected=expected, now=now, may_shorten=may_shorten)

    async def touch(self, key: str, *, deadline: float, seen_at: float, expected: str, now: float) -> bool:
        return await self._new.touch(key, deadline=deadline, seen_at=seen_at, expected=expected, now=now)

    async def delete(self, key: str, *, now: float, token: str, expected: str | None = None) -> bool:
        there, now = await self._carrier.carried(key, now)
        if await self._new.delete(key, now=now, token=token, expected=expected):
            return True
        return type(there) is Ended and there.token == token

    async def _admit(self, record: Record, *, expected: str | None, terms: Terms, now: float) -> Outcome:
        """Write a record that begins a login: see `coatcheck.core.ports.ByUser`."""
        there = await self._carrier.carry(record.key, now)
        if expected is None and type(there) is Ended:
            return TAKEN
        if terms.limit is not None and record.user_id is not None:
            await self._carry_all(record.user_id, now)
        return await self._new_users.admit(record, expected=expected, terms=_terms(terms), now=now)

    async def _end_one(self, user_id: str, key: str, *, now: float, token: str) -> bool:
        """End one session, only while it belongs to this user."""
        there, now = await self._carrier.carried(key, now)
        if await self._new_users.end_one(user_id, key, now=now, token=token):
            return True
        return type(there) is Ended and there.token == token


class Waiting(MovingSessions):
    """Sessions are in the old store, but for those that another process has carried."""

    def _first_and_second(self) -> tuple[Store, Store]:
        return self._old, self._new

    async def load(self, key: str, *, now: float) -> Found:
        if key == ERA_KEY:
            return await self._era(now)
        found = await self._old.load(key, now=now)
        if type(found) is Record:
            if is_plain(found):
                return found
            carried = await self._carrier.carry(key, now)
            return await self._new.load(key, now=now) if type(carried) is Record else carried
        if type(found) is Ended:
            return found
        there = await self._new.load(key, now=now)
        return found if there is None or self._is_copy(there) else there

    async def create(self, record: Record, *, now: float) -> Outcome:
        if record.key == ERA_KEY:
            return await self._begin_era(record, now)
        if await self._has_left(record.key, now):
            return await self._new.create(record, now=now)
        return await self._old.create(record, now=now)

    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        if record.key == ERA_KEY:
            return await self._begin_era(record, now)
        outcome = await self._old.replace(record, expected=expected, now=now, may_shorten=may_shorten)
        if _is_there(outcome) or not await self._has_left(record.key, now):
            return outcome if outcome is SAVED else _without_steps(outcome)
        return await self._new.replace(record, expected=expected, now=now, may_shorten=may_shorten)

    async def touch(self, key: str, *, deadline: float, seen_at: float, expected: str, now: float) -> bool:
        given: Any = {"deadline": deadline, "seen_at": seen_at, "expected": expected, "now": now}
        return await self._old.touch(key, **given) or await self._new.touch(key, **given)

    async def delete(self, key: str, *, now: float, token: str, expected: str | None = None) -> bool:
        def may_end(there: Record) -> bool:
            return expected is None or expected == there.versions[0]

        ended, now = await self._end(key, may_end, token, now)
        if ended is not None:
            return ended
        return await self._new.delete(key, now=now, token=token, expected=expected)

    async def _end(
        self, key: str, may_end: Callable[[Record], bool], token: str, now: float
    ) -> tuple[bool | None, float]:
        """End it in the old store, as it was read and no other: were a frozen one ended there, whoever carries it might not
        notice. None: it is, or was, in the new store, if anywhere, and is to be ended there by the clock that comes with it.
        """
        for _ in range(ATTEMPTS):
            found = await self._old.load(key, now=now)
            if type(found) is Ended:
                return found.token == token, now
            if type(found) is not Record:
                return None, now
            if not is_plain(found):
                _, now = await self._carrier.carried(key, now)
                return None, now
            if not may_end(found):
                return False, now
            if await self._old.delete(key, now=now, token=token, expected=found.versions[0]):
                return True, now
        raise StoreUnavailable(f"another writer was first {ATTEMPTS} times in a row; try again later")

    async def _has_left(self, key: str, now: float) -> bool:
        """Whether the session is in the new store; one that is on its way is, afterwards."""
        found = await self._old.load(key, now=now)
        if type(found) is Ended or (type(found) is Record and is_plain(found)):
            return False
        there = await (
            self._carrier.carry(key, now) if type(found) is Record else self._new.load(key, now=now)
        )
        if type(found) is not Record and self._is_copy(there):
            return False
        return type(there) is Record or type(there) is Ended or type(found) is Record

    async def _admit(self, record: Record, *, expected: str | None, terms: Terms, now: float) -> Outcome:
        """Write a record that begins a login: see `coatcheck.core.ports.ByUser`."""
        key, user_id = record.key, record.user_id
        if terms.limit is not None and user_id is not None and await self._all_new(user_id, now):
            # Some of theirs have moved, and they can be counted in one store only: so all of them move.
            await self._carrier.carry(key, now)
        elif expected is not None or not await self._has_left(key, now):
            outcome = await self._old_users.admit(record, expected=expected, terms=_terms(terms), now=now)
            is_settled = expected is None or (outcome is not GONE and not isinstance(outcome, Changed))
            if is_settled or not await self._has_left(key, now):
                return _without_steps(outcome)
        if terms.limit is not None and user_id is not None:
            await self._carry_all(user_id, now)
        there = _terms(terms, other=True)
        return await self._new_users.admit(record, expected=expected, terms=there, now=now)

    async def _end_one(self, user_id: str, key: str, *, now: float, token: str) -> bool:
        """End one session, only while it belongs to this user."""
        ended, now = await self._end(key, lambda there: there.user_id == user_id, token, now)
        if ended is not None:
            return ended
        return await self._new_users.end_one(user_id, key, now=now, token=token)


def _is_there(outcome: Outcome) -> bool:
    """Whether the old store settled it: it was written, or somebody else's session data are in the way."""
    return outcome is SAVED or (
        isinstance(outcome, Changed) and outcome.current is not None and is_plain(outcome.current)
    )


def _without_steps(outcome: Outcome) -> Outcome:
    """What a caller may be told is there: a session, and no step of carrying it."""
    return CHANGED if isinstance(outcome, Changed) and not _is_there(outcome) else outcome


def _terms(terms: Terms, *, other: bool = False) -> Terms:
    """With the fence that this request raised, as the store knows it that the login goes to."""
    fence = terms.own_fence
    if type(fence) is not _Fences:
        return terms
    own = fence.other if other else float(fence)
    return changed(terms, own_fence=own)


async def _all(users: ByUser, user_id: str, now: float) -> list[Record]:
    """A user's sessions in one store, those on their way too."""
    found: list[Record] = []
    cursor = None
    while True:
        page = await users.of_user(user_id, now=now, cursor=cursor)
        found += [record for record in page.records if not has_moved(record)]
        cursor = page.cursor
        if cursor is None:
            return found


def _order(record: Record) -> tuple[float, str]:
    return (record.created_at if record.authenticated_at is None else record.authenticated_at, record.key)
