"""Adopt a session of the library that was here before: the order of the I/O, written once for sync and async.

Theory of operation. `core/adoption.py` says what is derived from the old cookie: where the adopted session lies, and its marker.

    1  fetch the old session  from the cookie itself, or from where it is kept; if it is gone, go to 6
    2  is there a marker?     then the cookie has been used: go to 5
    3  create ours            as a login, if somebody is logged in; TAKEN: another request was quicker, which is as good
    4  create the marker      from here on the old cookie adopts nothing any more
    5  end the old session    where it is kept
    6  open ours              with the verifier that the old cookie is worth, as with any cookie of ours

No handler runs before 4 is done, so nobody can end the session (log out) while its marker is missing. What a crash leaves behind:
after 3, a session nobody knows, which the next request with the old cookie arrives at; after 4, an old session that the next
request ends. A request that was held up between 2 and 3 for so long that the session was adopted, ended and forgotten meanwhile,
finds at 4 a marker that names another session than the one it made, and takes its own back.

A user's revocation reaches old cookies too: `end_all` first writes down when it was, and adopts nothing of this user that was
issued before. (A store's own fence is kept for a day only, and in a clock of its own; it settles what happens at the same time.)
"""

from collections.abc import Awaitable, Mapping, Sequence
from inspect import isawaitable
from typing import Any, Final

from msgspec.structs import replace

from coatcheck.core import codec, drafts
from coatcheck.core.adoption import MARGIN, Archive, Claim, Found, Olds, OldSessions, Refused, revocation_key
from coatcheck.core.events import Event, EventName
from coatcheck.core.identity import Carries, UserKey, identity_of
from coatcheck.core.ids import RandomIds, Ticket
from coatcheck.core.merge import Parts
from coatcheck.core.ports import FENCED, FULL, SAVED, TAKEN, Outcome, Terms
from coatcheck.core.record import Login, Record
from coatcheck.core.session import BaseSession, Standing, user_text
from coatcheck.errors import CorruptRecord, SessionTooLarge, StoreError, StoreUnavailable, UnstorableValue
from coatcheck.lifecycle import ATTEMPTS, Lifecycle

__all__ = ["Adopting", "adopt_with"]

LONG_AGO: Final = 10 * 365 * 86_400.0
"""Seconds since an old session was issued of which nobody knows when that was: before every revocation."""


def adopt_with(lifecycle: Lifecycle, olds: Olds, archives: Sequence[Archive | None]) -> "Adopting":
    """Have this lifecycle adopt old sessions. `archives` are those of `olds.kinds`, as the lifecycle's face reaches them."""
    adopting = Adopting(lifecycle, olds, archives)
    lifecycle.open, lifecycle.revoking = adopting.open, adopting.revoking
    return adopting


class Adopting:
    """The flows of one lifecycle that concern old sessions."""

    def __init__(self, lifecycle: Lifecycle, olds: Olds, archives: Sequence[Archive | None]) -> None:
        self._lifecycle, self._olds, self._archives = lifecycle, olds, archives
        self._commands, self._rules, self._options = lifecycle._commands, lifecycle.rules, lifecycle.options
        self._version = lifecycle._ids.version

    # ---- open

    async def adopt(self, session: BaseSession, claim: Claim, now: float) -> bool:
        """Adopt a session of the first kind as if its browser had come. False: it is not adopted, and why was told."""
        await self._try(session, self._olds.kinds[0], self._archives[0], claim, now)
        return session._standing is not Standing.NEW

    async def open(self, session: BaseSession, ticket: Ticket | None, now: float) -> None:
        """What the request's cookie of ours stands for; where it stands for nothing, what an old one does."""
        await self._lifecycle.look_up(session, ticket, now)
        if session._standing is not Standing.NEW:
            return
        try:
            for number, kind, claim in self._olds.claims(session._cookies(), now):
                if claim is None:
                    self._tell("cookie.duplicate", now, detail=kind.kind)
                    continue
                await self._try(session, kind, self._archives[number], claim, now)
                if session._standing is not Standing.NEW:
                    return
        except StoreError:
            session._standing = Standing.UNLOADED  # nobody knows yet what this request has
            raise

    async def _try(
        self, session: BaseSession, kind: OldSessions, archive: Archive | None, claim: Claim, now: float
    ) -> None:
        """One old cookie: adopted now, adopted before, or nothing."""
        found = claim.found if archive is None else await archive.fetch(claim.key, now)
        if isinstance(found, Refused):
            self._refuse(kind, now, found.reason)
            return
        if found is not None:
            is_used = await self._is_there(claim.marker(kind.kind), now)
            if not is_used and not await self._take_over(session, kind, archive, claim, found, now):
                return
            await self._end(archive, claim, now)
        # Also where nothing was found: another request has adopted it, just now perhaps, and ended it there.
        await self._lifecycle.look_up(session, claim.ticket(kind.kind), now)

    async def _is_there(self, key: str, now: float) -> bool:
        try:
            return await self._commands.load(key, now) is not None
        except CorruptRecord:
            return True  # it says at least that there was one

    async def _end(self, archive: Archive | None, claim: Claim, now: float) -> None:
        """End the old session. What cannot be ended is told, and keeps nobody from going on: the marker has the last word."""
        if archive is None:
            return
        try:
            await archive.end(claim.key)
        except StoreError as error:
            self._tell(
                "store.down", now, detail=f"an adopted session could not be ended at its source: {error}"
            )

    # ---- take over

    async def _take_over(
        self,
        session: BaseSession,
        kind: OldSessions,
        archive: Archive | None,
        claim: Claim,
        found: Found,
        now: float,
    ) -> bool:
        """Make the old session one of ours. False: it is not adopted, and why was told."""
        user_id = _user_of(session, kind, found.data)
        if isinstance(user_id, Refused):
            return self._refuse(kind, now, user_id.reason)
        await self._commands.eras.catch_up(now)
        if (found.issued_at or 0.0) <= self._commands.eras.at + MARGIN:
            return await self._spend(kind, archive, claim, found, user_id, now)
        if not await _is_accepted(kind, found.data):
            return self._refuse(kind, now, "accept= says no", user_id)
        if user_id is not None and await self._is_revoked(user_id, found, now):
            return await self._spend(kind, archive, claim, found, user_id, now)
        record = self._record(session, kind, claim, found, user_id, now)
        if record is None:
            return self._refuse(kind, now, f"it holds more than max_size={self._options.max_size}", user_id)
        record = await self._commands.begun_now(record, now)
        outcome = await self._commands.insert(record, self._terms(session, user_id, found, now), now)
        if outcome is FULL:
            return self._refuse(kind, now, "the user has as many sessions as may be", user_id)
        if outcome is FENCED:
            return await self._spend(kind, archive, claim, found, user_id, now)
        if outcome is SAVED:
            self._tell("session.adopted", now, record.key, user_id, kind.kind)
        await self._mark_as_used(kind, claim, found, record, outcome, now)
        return True

    async def _is_revoked(self, user_id: str, found: Found, now: float) -> bool:
        """Whether all sessions of this user were ended after the old one was issued, or may have been."""
        note = await self._commands.load(revocation_key(user_id), now)
        return isinstance(note, Record) and (found.issued_at or 0.0) <= note.seen_at + MARGIN

    def _record(
        self,
        session: BaseSession,
        kind: OldSessions,
        claim: Claim,
        found: Found,
        user_id: str | None,
        now: float,
    ) -> Record | None:
        """The session as ours, as if it had been renewed just now; None: it is too large."""
        locator, verifier, _ = claim.ticket(kind.kind)
        try:
            data = self._rules.encoded(self._parts(session, found.data, now))
        except SessionTooLarge:
            return None
        first = drafts.first(
            locator, self._version(), verifier, data, now,
            idle=self._rules.idle_of(found.lifetime, now), ends_at=self._rules.ends_at(now), lifetime=found.lifetime,
        )  # fmt: skip
        record, _ = drafts.renewed(first, verifier, self._lifecycle._ids.locator(), now)
        if user_id is None:
            return record
        address, user_agent = session._client()
        # When the user last proved who they are, nobody knows: no page that asks for a recent login may open.
        return replace(
            record,
            user_id=user_id,
            login=Login(method="adopted", address=address, user_agent=user_agent),
        )

    def _parts(self, session: BaseSession, data: Mapping[str, Any], now: float) -> Parts:
        """The data as we store them. What we cannot store is left behind, and told; so is what the record says itself."""
        identity = identity_of(session)
        if identity is not None:
            plain = {key: value for key, value in data.items() if key not in identity.keys}
            data = plain | dict(identity.carried(data)) if isinstance(identity, Carries) else plain
        parts: dict[str, bytes] = {}
        dropped: list[str] = []
        for key, value in data.items():
            try:
                if type(key) is not str:
                    raise UnstorableValue("a key must be a str")
                parts[key] = codec.encode(value, key)
                key.encode()
            except (UnstorableValue, UnicodeEncodeError):
                parts.pop(key, None)
                dropped.append(repr(key))
        if dropped:
            self._tell("adoption.dropped", now, detail=", ".join(dropped))
        return parts

    def _terms(self, session: BaseSession, user_id: str | None, found: Found, now: float) -> Terms | None:
        if user_id is None or self._commands.by_user is None:
            return None
        monotonic, began = self._lifecycle._monotonic, session._began
        age = LONG_AGO if found.issued_at is None else max(now - found.issued_at, 0.0) + MARGIN
        return Terms(
            stopwatch=lambda: monotonic() - began + age,
            limit=self._options.max_sessions,
            evict=self._options.at_limit == "evict_oldest",
        )

    # ---- markers

    async def _mark_as_used(
        self,
        kind: OldSessions,
        claim: Claim,
        found: Found | None,
        record: Record,
        outcome: Outcome,
        now: float,
    ) -> None:
        """From here on the old cookie adopts nothing. `outcome` is that of creating `record`."""
        made = record.versions[0] if outcome is SAVED else await self._version_of(record.key, now)
        marked = await self._commands.insert(self._marker(kind, claim, found, made, now), None, now)
        if marked is not TAKEN or outcome is not SAVED:
            return
        marker = await self._commands.load(claim.marker(kind.kind), now)
        if isinstance(marker, Record) and marker.data != codec.encode({"adopted": made}, ""):
            # It was adopted, and is over, since we looked: ours must not live on.
            await self._commands.delete(record.key, now, self._version(), made)

    async def _version_of(self, key: str, now: float) -> str:
        """What the session was created as by the request that was quicker; "" if it is over."""
        there = await self._commands.load(key, now)
        return there.versions[-1] if isinstance(there, Record) else ""

    def _marker(self, kind: OldSessions, claim: Claim, found: Found | None, made: str, now: float) -> Record:
        """A record that outlives the session. Nobody knows its verifier, so no cookie opens it."""
        until = self._olds.kept_until(kind, found, now)
        return self._note(claim.marker(kind.kind), codec.encode({"adopted": made}, ""), until, now)

    def _note(self, key: str, data: bytes, until: float, now: float) -> Record:
        verifier = RandomIds().verifier()
        return drafts.first(
            key, self._version(), verifier, data, now, idle=until - now, ends_at=until, lifetime=None
        )

    async def _spend(
        self,
        kind: OldSessions,
        archive: Archive | None,
        claim: Claim,
        found: Found,
        user_id: str | None,
        now: float,
    ) -> bool:
        """The user's sessions were all ended: so is this one."""
        await self._commands.insert(self._marker(kind, claim, found, "", now), None, now)
        await self._end(archive, claim, now)
        return self._refuse(kind, now, "the user's sessions were ended after it was issued", user_id)

    # ---- revocation

    async def revoking(self, user_id: str, now: float) -> None:
        """Write down that all sessions of a user are ended now, for as long as an older one may come."""
        key, until = revocation_key(user_id), self._olds.revocations_kept_until(now)
        for _ in range(ATTEMPTS):
            there = await self._commands.load(key, now)
            note = self._note(key, codec.EMPTY, until, now)
            if isinstance(there, Record):
                if there.seen_at >= now:
                    return
                versions = (*note.versions, *there.versions[:1])
                outcome, _ = await self._commands.write(
                    replace(note, versions=versions), there.versions[0], None, False, now
                )
            else:
                outcome = await self._commands.insert(note, None, now)
            if outcome is SAVED:
                return
        raise StoreUnavailable(f"another writer was first {ATTEMPTS} times in a row; try again later")

    # ---- telling

    def _refuse(self, kind: OldSessions, now: float, reason: str, user_id: str | None = None) -> bool:
        self._tell("adoption.refused", now, user_id=user_id, detail=f"{kind.kind}: {reason}")
        return False

    def _tell(
        self,
        name: EventName,
        now: float,
        handle: str | None = None,
        user_id: str | None = None,
        detail: str = "",
    ) -> None:
        self._options.tell(Event(name, handle, user_id, detail, now))


def _user_of(session: BaseSession, kind: OldSessions, data: Mapping[str, Any]) -> str | Refused | None:
    key, make = kind.user_key, kind.to_user_id
    identity = identity_of(session)
    if key is None and isinstance(identity, UserKey):
        key, make = identity.key, make or identity.user_id_of
    value = data.get(key) if key is not None else None
    if value is None:
        return None
    try:
        user = value if make is None else make(value)
        return None if user is None else user_text(user)
    except Exception as error:
        return Refused(f"{key!r} does not say who is logged in ({type(error).__name__}): give to_user_id=")


async def _is_accepted(kind: OldSessions, data: Mapping[str, Any]) -> bool:
    """Whether the application agrees; it may have to ask its own database."""
    if kind.accept is None:
        return True
    answer: bool | Awaitable[bool] = kind.accept(data)
    return bool(await answer if isawaitable(answer) else answer)
