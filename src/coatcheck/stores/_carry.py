"""One session, carried from an old store to a new one while requests are at work on it: for `Moving` and `coatcheck migrate`.

No transaction spans two stores, so this is a series of single writes, each over what was read, and a process may stop after any
of them. At every moment exactly one store has the last word about a session: the old one until step 3, then the new one.

    1  read    the session in the old store
    2  freeze  write over that version, and only over it: the same session, packed into a record that nobody can open. From here
               on no write reaches it there. Read again: a touch may have come in between.
    3  put     create it in the new store, from what is frozen, under its own version: a request that has loaded it goes on
    4  leave   write over the frozen one that it has moved: a note without a user and without data, kept for `NOTED` seconds

At 3 a copy from a rehearsal may be there: if nobody has used it, it is written over (`is_copy`).

Whoever finds a session frozen goes on from there, so it does not matter who began, nor that somebody stopped: of several that go
on at once one creates it at 3, and one leaves the note at 4. What ended stays ended:

- A session that is ended in the old store is not there to be frozen; one that is ended while it is frozen is not there to be gone
  on with. One that was ended in the new store has a tombstone there, which refuses 3.
- 3 is an `admit` where somebody is logged in, as of when 2 was read. Whoever ends all sessions of a user does so in the old store
  first and then in the new: either the frozen one is found there, or the fence of the new store was raised after 3 began, or the
  session is found in the new store.
- A carrier that is held up before 3 for so long that the session was carried, ended and forgotten meanwhile makes it anew. It
  then finds that it cannot leave the note, and takes it back. For that, one command must have been under way for longer than half
  a `TOMBSTONE`: a carrier that knows that so much time has passed begins again.
"""

import hashlib
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec.structs import replace as changed

from coatcheck.core.ports import FENCED, SAVED, TOMBSTONE, ByUser, NeverWaits, Outcome, Store, Terms
from coatcheck.core.record import VERSIONS_KEPT, Ended, Expired, Record
from coatcheck.errors import ConfigurationError, CorruptRecord, StoreUnavailable
from coatcheck.stores import hide_password

__all__ = [
    "ATTEMPTS",
    "Carrier",
    "as_copy",
    "copied_from",
    "frozen",
    "has_moved",
    "is_copy",
    "is_frozen",
    "is_plain",
    "plain",
    "thawed",
]

ATTEMPTS: Final = 1000
"""How often carrying starts again because another writer was first: as in `lifecycle`, it bounds a stampede."""
NOTED: Final = 600.0
"""Seconds for which the old store says that a session has moved: longer than any request that looked for it takes."""
_FROZEN: Final = "frozen."
_MOVED: Final = "moved."
_CARRIED: Final = "carried."
_NOBODYS: Final = bytes(32)
"""In place of a digest. Nobody knows what has this one."""


class _Frozen(msgspec.Struct, frozen=True, rename={"record": "coatcheck.frozen"}):
    """The data of a frozen record: the session as it was."""

    record: Record


class _Moved(msgspec.Struct, frozen=True, rename={"token": "coatcheck.moved"}):
    """The data of the note: what its copy in the new store can be told by."""

    token: str


_pack: Final = msgspec.json.Encoder().encode
_unpack: Final = msgspec.json.Decoder(_Frozen).decode
_unpack_note: Final = msgspec.json.Decoder(_Moved).decode


def copied_from(store: Any) -> str:
    """How the mark of a session begins that `coatcheck migrate` has copied from this store, or from that of this URL."""
    # What is in this process cannot be in two places; how much it holds is in its name.
    shown = hide_password(store) if isinstance(store, str) else repr(store)
    if isinstance(store, NeverWaits):
        shown = type(store).__name__
    return f"copied.{hashlib.sha256(shown.encode()).hexdigest()[:8]}."


def as_copy(record: Record, copies: str, token: str) -> Record:
    """As `coatcheck migrate` copies it: behind its own version a mark that says where from, and when it was last seen there."""
    version, *older = record.versions
    return changed(
        record, versions=(version, f"{_copy_mark(record, copies)}{token}", *older[: VERSIONS_KEPT - 2])
    )


def is_copy(record: Record, copies: str) -> bool:
    """Whether this is a copy of what is, or was, in that store, and nobody has used it since: the original has the last word.
    (The first request that uses it writes it, or moves when it was seen.)
    """
    return len(record.versions) > 1 and record.versions[1].startswith(_copy_mark(record, copies))


def _copy_mark(record: Record, copies: str) -> str:
    return f"{copies}{record.seen_at!r}."


def is_frozen(record: Record) -> bool:
    """Whether this is a session on its way."""
    return record.versions[0].startswith(_FROZEN)


def has_moved(record: Record) -> bool:
    """Whether this says that a session has moved."""
    return record.versions[0].startswith(_MOVED)


def is_plain(record: Record) -> bool:
    """Whether this is a session, and not a step of carrying one."""
    return not is_frozen(record) and not has_moved(record)


def frozen(record: Record, token: str, now: float) -> Record:
    """The session on its way: of the same user, with the same deadlines, and opened by no cookie. Who comes with one to a process
    that knows only the old store is late, as after a login (rule 4).
    """
    return changed(
        record,
        versions=(f"{_FROZEN}{token}", *record.versions[: VERSIONS_KEPT - 1]),
        verifier=_NOBODYS,
        data=_pack(_Frozen(record)),
        rotated_at=now,
        renewal=None,
        pending=None,
    )


def thawed(found: Record) -> Record:
    """The session as it was when it was frozen, with what a touch has moved since it was read. Raises CorruptRecord."""
    try:
        record = _unpack(found.data).record
    except msgspec.MsgspecError as error:
        raise CorruptRecord(f"what is stored for session {found.key} is not a record of ours") from error
    if record.key != found.key or record.user_id != found.user_id:
        raise CorruptRecord(f"what is stored for session {found.key} is another's")
    deadline = min(max(record.deadline, found.deadline), record.ends_at)
    return changed(record, deadline=deadline, seen_at=max(record.seen_at, found.seen_at))


def plain(record: Record) -> Record:
    """The session that this record stands for, whether it is frozen or not."""
    return thawed(record) if is_frozen(record) else record


def _note(found: Record, carried: str, token: str, now: float) -> Record:
    until = now + NOTED
    return Record(
        found.key, (f"{_MOVED}{token}",), _NOBODYS, _pack(_Moved(carried)), now, now, until, until, rotated_at=now,
        era=found.era,
    )  # fmt: skip


def _noted(note: Record) -> str:
    try:
        return _unpack_note(note.data).token
    except msgspec.MsgspecError as error:
        raise CorruptRecord(f"what is stored for session {note.key} is not a record of ours") from error


def _marked(record: Record, mark: str) -> Record:
    """As it is put into the new store: behind its own version one that tells who put it there."""
    version, *older = record.versions
    return changed(record, versions=(version, mark, *older[: VERSIONS_KEPT - 2]))


def _mark_of(record: Record) -> str:
    """The newest such version that it remembers; "" if it has been written too often since."""
    return next((version for version in record.versions if version.startswith(_CARRIED)), "")


class Carrier:
    """Carries sessions from the old store to the new one. `tokens` makes what is unique to each; `monotonic` tells seconds;
    `copies` is how the marks of earlier copies begin (`copied_from(old)`).
    """

    def __init__(
        self,
        new: Store,
        old: Store,
        *,
        tokens: Callable[[], str],
        monotonic: Callable[[], float],
        copies: str,
    ) -> None:
        self._new, self._old, self._tokens, self._monotonic = new, old, tokens, monotonic
        self._copies = copies
        self._users: Any = new if isinstance(new, ByUser) else None

    async def carry(self, key: str, now: float) -> Record | Ended | Expired | None:
        """Have what the old store has of a session in the new one. Returns what is there then; or what the old store said, if it
        had no session to carry. Raises StoreError, and ConfigurationError for two names of one store.
        """
        there, _ = await self.carried(key, now)
        return there

    async def carried(self, key: str, now: float) -> tuple[Record | Ended | Expired | None, float]:
        """The same, and what time it is by the latest clock of those that carried it. Whoever then ends the session does so by
        that clock: by an earlier one the tombstone could be over for a carrier that is still at work.
        """
        for _ in range(ATTEMPTS):
            began = self._monotonic()
            found = await self._old.load(key, now=now)
            if type(found) is not Record:
                return found, now
            if not is_plain(found):
                now = max(now, found.rotated_at or now)
            if has_moved(found):
                return await self._new.load(key, now=now), now
            if not is_frozen(found):
                # Whatever comes of it: what is there now is read again, and says how to go on.
                await self._old.replace(
                    frozen(found, self._tokens(), now), expected=found.versions[0], now=now
                )
                continue
            mark = _CARRIED + self._tokens()
            record = _marked(thawed(found), mark)
            outcome = await self._put(record, None, began, now)
            if outcome is FENCED:
                continue
            there = await self._new.load(key, now=now)
            if type(there) is Record and there.versions[0] == found.versions[0]:
                await self._old.replace(thawed(found), expected=found.versions[0], now=now)
                raise ConfigurationError("Moving(new, old): these are the same store, under two names")
            if type(there) is Record and is_copy(there, self._copies):
                if await self._put(record, there, began, now) is not SAVED:
                    continue
                there = await self._new.load(key, now=now)
            return await self._leave(found, there, mark, now), now
        raise StoreUnavailable(f"another writer was first {ATTEMPTS} times in a row; try again later")

    async def _put(self, record: Record, over: Record | None, began: float, now: float) -> Outcome:
        """Create it, or write it over an earlier copy, unless its user's sessions were all ended since it was found frozen."""
        passed = self._monotonic() - began
        if passed > TOMBSTONE / 2:
            return FENCED  # so long ago that it may have ended since, and nobody remember it: begin again
        expected = None if over is None else over.versions[0]
        if (
            expected == record.versions[0]
        ):  # it is admitted already; what is new is the mark, and how long it lives
            return await self._new.replace(record, expected=expected, now=now)
        if record.user_id is not None and self._users is not None:
            terms = Terms(stopwatch=lambda: self._monotonic() - began)
            outcome: Outcome = await self._users.admit(record, expected=expected, terms=terms, now=now)
            return outcome
        if expected is None:
            return await self._new.create(record, now=now)
        return await self._new.replace(record, expected=expected, now=now, may_shorten=True)

    async def _leave(
        self, found: Record, there: Record | Ended | Expired | None, mark: str, now: float
    ) -> Record | Ended | Expired | None:
        """Note in the old store that it has moved. If that cannot be: whether ours is the one that somebody else noted."""
        ours = type(there) is Record and mark in there.versions
        carried = _mark_of(there) if type(there) is Record else ""
        note = _note(found, carried, self._tokens(), now)
        if await self._old.replace(note, expected=found.versions[0], now=now, may_shorten=True) is SAVED:
            return there
        if not ours:
            return there
        left = await self._old.load(found.key, now=now)
        if type(left) is Record and (not has_moved(left) or _noted(left) == mark):
            return there
        # It was ended where it lay frozen, or carried and ended before we came: ours must not live on.
        await self._new.delete(found.key, now=now, token=self._tokens(), expected=found_version(there))
        return left if type(left) is Ended else await self._new.load(found.key, now=now)


def found_version(there: Record | Ended | Expired | None) -> str:
    """The version of what was just created."""
    return there.versions[0] if type(there) is Record else ""
