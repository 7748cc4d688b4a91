"""Open, commit, take, end: the order of the I/O, written once for sync and async.

Theory of operation. Every flow is `async def` and awaits nothing but the store (`core/stepping.py` says why). A flow reads what the store
holds, asks a pure function what that means (`decide`, `merge`), and makes one store call over the version it read. If another writer was
first, it starts again from what is there now. Nothing is ever written over what was not read, so nothing that ended comes back, and a
reply that was lost is recognised by the version the write would have left (PROTOCOL rules 7-9).
"""

import hmac
import re
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from coatcheck.core import codec, ids
from coatcheck.core.decide import Action, Decision, Situation, decide
from coatcheck.core.events import Event
from coatcheck.core.merge import MISSING, Changes, Parts, merge, unopposed
from coatcheck.core.options import Options
from coatcheck.core.ports import (
    FENCED,
    FULL,
    GONE,
    SAVED,
    TAKEN,
    ByUser,
    Changed,
    EndedAll,
    Outcome,
    Store,
    Terms,
)
from coatcheck.core.record import VERSIONS_KEPT, Ended, Lifetime, Login, Record, Renewal
from coatcheck.core.session import BaseSession, CookieAction, Phase, Standing
from coatcheck.errors import (
    ConfigurationError,
    CorruptRecord,
    LoginRefused,
    ReplyLost,
    SessionConflict,
    SessionGone,
    SessionTooLarge,
    StoreError,
    StoreUnavailable,
    Uncertain,
)

__all__ = ["DETACHED_FOR", "OVERLAP", "Committed", "Lifecycle"]

OVERLAP: Final = 10.0
"""Seconds for which the previous verifier goes on after its successor was first seen (rule 3)."""
DETACHED_FOR: Final = 60.0
"""Seconds for which a superseded verifier is known to be late, and gets a detached session (rule 4)."""
ATTEMPTS: Final = 1000
"""How often a commit starts again because another writer was first. Each time somebody's commit succeeded, so this bounds a stampede."""
RESENDS: Final = 2
"""How often a command whose reply was lost is sent again."""
_GENID: Final = re.compile(r"[A-Za-z0-9_-]{16,128}")


class Committed(NamedTuple):
    """What a commit came to: what to tell the browser, and why nothing was kept if so."""

    cookie: CookieAction = CookieAction.NONE
    refused: type[SessionGone] | type[LoginRefused] | None = None


_NO_COOKIE: Final = Committed()
_GONE: Final = Committed(refused=SessionGone)
_REFUSED: Final = Committed(refused=LoginRefused)


class _Draft(NamedTuple):
    """What a commit wants to write, on top of what it believes is there."""

    record: Record | None
    parts: Parts
    changed: bool


class Lifecycle:
    """The flows over one store, under one set of options."""

    def __init__(self, store: Store, options: Options, *, source: ids.IdSource | None = None) -> None:
        self.store = store
        self.options = options
        self._by_user = store if isinstance(store, ByUser) else None
        self._ids = source or ids.RandomIds()
        timeouts = options.timeouts
        self._idle, self._absolute = float(timeouts.idle), float(timeouts.absolute)  # type: ignore[arg-type]  # seconds by now
        self._touch_every, self._renewal = float(timeouts.touch), timeouts.renewal  # type: ignore[arg-type]
        self._every_request = options.rolling or options.resave or options.save_uninitialized

    @property
    def every_request(self) -> bool:
        """Whether the options ask for every request's session to be looked at, used or not."""
        return self._every_request

    def new_locator(self) -> str:
        """A fresh locator, from `genid` if one is configured."""
        if self.options.genid is None:
            return self._ids.locator()
        locator = self.options.genid()
        if not isinstance(locator, str) or not _GENID.fullmatch(locator):
            raise ConfigurationError(
                "genid must return 16 to 128 characters of A-Z a-z 0-9 _ -; leave it out for a good default"
            )
        return locator

    # ---- open

    async def open(self, session: BaseSession, ticket: ids.Ticket | None, now: float) -> None:
        """Find out what the request's cookie stands for: one `load`, or none without a cookie."""
        if ticket is None:
            session._standing = Standing.NEW
            return
        try:
            found = await self.store.load(ticket.locator, now=now)
        except CorruptRecord as error:
            session._standing = Standing.NEW
            self._tell("session.corrupt", ticket.locator, detail=str(error), now=now)
            return
        if type(found) is Record:
            self._admit_holder(session, ticket, found, now)
        elif found is None:
            session._standing = Standing.NEW
            self._tell("session.unknown", ticket.locator, now=now)
        else:
            session._standing = Standing.DETACHED

    def _admit_holder(self, session: BaseSession, ticket: ids.Ticket, record: Record, now: float) -> None:
        proof = ids.digest(ticket.verifier)
        if hmac.compare_digest(proof, record.verifier):
            session._standing, session._record, session._verifier = Standing.LIVE, record, ticket.verifier
            return
        renewal = record.renewal
        superseded = record.rotated_at
        if renewal is not None:
            superseded = max(
                superseded or 0.0, renewal.at if renewal.seen_at is None else renewal.seen_at + OVERLAP
            )
            if hmac.compare_digest(proof, renewal.previous) and (
                renewal.seen_at is None or now < renewal.seen_at + OVERLAP
            ):
                session._standing, session._record = Standing.LIVE, record
                session._verifier = ids.successor(ticket.verifier, renewal.nonce)
                session._on_previous = True
                return
        late = superseded is not None and now < superseded + DETACHED_FOR
        session._standing = Standing.DETACHED if late else Standing.NEW
        if not late:
            self._tell("session.superseded", record.key, record.user_id, now=now)

    def corrupted(self, session: BaseSession, detail: str, now: float) -> None:
        """What is stored under this session's key cannot be read."""
        record = session._record
        self._tell(
            "session.corrupt",
            record.key if record else None,
            record.user_id if record else None,
            detail,
            now=now,
        )

    # ---- commit

    async def commit(
        self, session: BaseSession, now: float, *, elapsed: float = 0.0, only_logout: bool = False
    ) -> Committed:
        """Carry out what the request intended; returns what to tell the browser.

        `elapsed` is how long ago the request began, in seconds of a monotonic clock. `only_logout` is for a request that failed: of
        everything it meant to do, only a logout is kept. Raises StoreError, SessionTooLarge, UnstorableValue, SessionConflict; then
        nothing was written.
        """
        if not session._accessed and not self._every_request:
            return _NO_COOKIE
        if only_logout and not session._logout:
            return _NO_COOKIE
        changes = session._changes() if session._base is not None else _NO_CHANGES
        draft = _Draft(session._record, session._base or {}, bool(changes))
        loaded = session._record
        refused_touch = False
        for _ in range(ATTEMPTS):
            decision = decide(self._situation(session, draft, now))
            if decision.action is Action.NOTHING:
                if draft.record is not None and draft.record is not loaded:
                    session._settled(draft.record, draft.parts)
                return Committed(decision.cookie)
            if decision.action is Action.TOUCH:
                refused_touch = not await self._touch(draft.record, now)
                return _NO_COOKIE if refused_touch else self._touched(session, draft.record, decision, now)
            if decision.action is Action.DELETE:
                return await self._logout(session, now, elapsed=elapsed, only_logout=only_logout)
            if decision.action is Action.SWITCH:
                return await self._switch(session, now, elapsed=elapsed)
            if decision.action is Action.CREATE:
                return await self._create(session, now, elapsed=elapsed)
            if draft.record is loaded and changes:
                draft = draft._replace(parts=unopposed(draft.parts, changes))
            if session._login is not None and self.options.login_keeps is not None:
                draft = self._carried_over(draft, changes)
            record, verifier = self._next(session, draft, decision.action, now)
            outcome = await self._replace(session, record, draft, now, elapsed=elapsed)
            if outcome is SAVED:
                self._saved(session, record, draft, verifier, decision, now)
                return Committed(decision.cookie)
            if isinstance(outcome, Changed):
                current = outcome.current or await self.store.load(record.key, now=now)
                if isinstance(current, Record) and loaded is not None and current.epoch == loaded.epoch:
                    self._rejoin(session, loaded, current)
                    draft = self._merged(session, changes, current, now)
                    continue
            if outcome is FENCED or outcome is FULL:
                return self._refuse(session, outcome, now)
            return await self._gone(session, now, elapsed=elapsed)
        raise StoreUnavailable(f"another writer was first {ATTEMPTS} times in a row; try again later")

    def _carried_over(self, draft: _Draft, changes: Changes) -> _Draft:
        """What an anonymous session may bring into a login: the allow-listed keys, and what this request itself set (checklist 55)."""
        if draft.record is None or draft.record.user_id is not None:
            return draft
        kept = {*(self.options.login_keeps or ()), *changes.sets, *changes.estimates}
        parts = {key: part for key, part in draft.parts.items() if key in kept}
        return _Draft(draft.record, parts, draft.changed or len(parts) != len(draft.parts))

    def _situation(self, session: BaseSession, draft: _Draft, now: float) -> Situation:
        record, options = draft.record, self.options
        login = session._login
        if record is None or session._standing is not Standing.LIVE:
            return Situation(
                session._standing if session._standing is not Standing.UNLOADED else Standing.NEW,
                login=login is not None,
                changed=draft.changed,
                save_uninitialized=options.save_uninitialized,
                headers_sent=session._phase is not Phase.OPEN,
            )
        current = not session._on_previous
        lifetime = session._lifetime if session._lifetime_set else record.lifetime
        renewal = record.renewal
        return Situation(
            Standing.LIVE,
            login is not None,
            login is not None and record.user_id is not None and login.user_id != record.user_id,
            session._logout,
            session._regenerate,
            draft.changed or (session._lifetime_set and session._lifetime != record.lifetime),
            options.resave
            or session._forced
            or (current and renewal is not None and renewal.seen_at is None),
            current and self._renewal_due(record, now),
            session._on_previous or session._reissue,
            session._touch or now - record.seen_at >= self._touch_every,
            lifetime is not None and lifetime.persistent,
            options.rolling,
            False,
            session._phase is not Phase.OPEN,
        )

    def _renewal_due(self, record: Record, now: float) -> bool:
        if record.user_id is None or self._renewal is None:
            return False
        since = max(record.rotated_at or record.created_at, record.renewal.at if record.renewal else 0.0)
        return now - since >= self._renewal  # type: ignore[operator]  # seconds by now

    def _next(
        self, session: BaseSession, draft: _Draft, action: Action, now: float
    ) -> tuple[Record, str | None]:
        """The record to write over `draft.record`, and the verifier the browser should hold from then on."""
        record = draft.record
        assert record is not None
        verifier = session._verifier
        lifetime = session._lifetime if session._lifetime_set else record.lifetime
        data = self._join(draft.parts) if draft.changed else record.data
        deadline = min(now + self._idle_of(lifetime), record.ends_at)
        following = replace(
            record,
            versions=(self._ids.version(), *record.versions[: VERSIONS_KEPT - 1]),
            data=data,
            seen_at=now,
            deadline=deadline,
            lifetime=lifetime,
        )
        renewal = record.renewal
        if action is Action.ROTATE:
            verifier = self._ids.verifier()
            following = replace(
                following, verifier=ids.digest(verifier), epoch=record.epoch + 1, rotated_at=now, renewal=None
            )
            if session._login is not None:
                following = self._logged_in(
                    following, session._login.login, session._login.user_id, session, now
                )
        elif action is Action.RENEW:
            assert verifier is not None
            nonce = self._ids.version()
            renewal = Renewal(previous=record.verifier, nonce=nonce, at=now)
            verifier = ids.successor(verifier, nonce)
            following = replace(following, verifier=ids.digest(verifier), renewal=renewal)
        elif renewal is not None and renewal.seen_at is None and not session._on_previous:
            following = replace(following, renewal=replace(renewal, seen_at=now))
        return following, verifier

    def _logged_in(
        self, record: Record, login: Login, user_id: str, session: BaseSession, now: float
    ) -> Record:
        """The same record as that of a user who has just proved who they are: both timeouts begin anew (rule 6)."""
        ends_at = now + self._absolute
        lifetime = record.lifetime
        if session._lifetime_set:
            lifetime = session._lifetime
        elif login.remember:
            lifetime = Lifetime(idle=float(self.options.timeouts.remember), persistent=True)  # type: ignore[arg-type]
        elif record.login is not None and record.login.remember:
            lifetime = None
        return replace(
            record,
            user_id=user_id,
            login=login,
            authenticated_at=now,
            ends_at=ends_at,
            lifetime=lifetime,
            deadline=min(now + self._idle_of(lifetime), ends_at),
        )

    def _idle_of(self, lifetime: Lifetime | None) -> float:
        return self._idle if lifetime is None or lifetime.idle is None else lifetime.idle

    def _join(self, parts: Parts) -> bytes:
        data = codec.join(parts)
        if len(data) > self.options.max_size:
            raise SessionTooLarge(
                f"the session holds {len(data)} octets, max_size={self.options.max_size}: keep large things in your database "
                "and their keys in the session"
            )
        return data

    def _rejoin(self, session: BaseSession, loaded: Record, current: Record) -> None:
        """Another request renewed the verifier first: our browser is owed the very same successor (rule 3)."""
        if current.verifier == loaded.verifier or session._verifier is None:
            return
        if current.renewal is not None and ids.digest(session._verifier) == current.renewal.previous:
            session._verifier, session._on_previous = (
                ids.successor(session._verifier, current.renewal.nonce),
                True,
            )
        elif ids.digest(session._verifier) != current.verifier:
            session._verifier = None

    def _merged(self, session: BaseSession, changes: Changes, current: Record, now: float) -> _Draft:
        """Our changes on top of what another request wrote first."""
        base, theirs = session._base or {}, codec.split(current.data)
        merged = merge(base, changes, theirs, self.options.merge)
        if merged.conflicts:
            self._tell("session.conflict", current.key, current.user_id, ", ".join(merged.conflicts), now=now)
            if self.options.on_conflict == "raise":
                raise SessionConflict(merged.conflicts)
        if merged.dropped:
            self._tell("session.dropped", current.key, current.user_id, ", ".join(merged.dropped), now=now)
        return _Draft(current, merged.parts, bool(changes) and codec.join(merged.parts) != codec.join(theirs))

    def _saved(
        self,
        session: BaseSession,
        record: Record,
        draft: _Draft,
        verifier: str | None,
        decision: Decision,
        now: float,
    ) -> None:
        login, rotated = session._login, decision.action is Action.ROTATE
        session._settled(record, draft.parts)
        session._verifier = verifier
        if rotated or decision.action is Action.RENEW:
            session._on_previous = False
            self._tell(
                "session.rotated" if rotated else "session.renewed", record.key, record.user_id, now=now
            )
        if login is not None:
            self._tell("login", record.key, record.user_id, login.login.method, now=now)

    def _touched(
        self, session: BaseSession, record: Record | None, decision: Decision, now: float
    ) -> Committed:
        assert record is not None
        deadline = max(record.deadline, min(now + self._idle_of(record.lifetime), record.ends_at))
        session._record = replace(record, seen_at=max(record.seen_at, now), deadline=deadline)
        session._touch = False
        return Committed(decision.cookie)

    # ---- the single steps

    async def _touch(self, record: Record | None, now: float) -> bool:
        """Move the deadline. Refused (another writer was first) is fine: that writer has moved it (rule 11)."""
        assert record is not None
        deadline = min(now + self._idle_of(record.lifetime), record.ends_at)
        for _ in range(RESENDS):
            try:
                return await self.store.touch(
                    record.key, deadline=deadline, seen_at=now, expected=record.version, now=now
                )
            except ReplyLost:
                continue
        return await self.store.touch(
            record.key, deadline=deadline, seen_at=now, expected=record.version, now=now
        )

    async def _replace(
        self, session: BaseSession, record: Record, draft: _Draft, now: float, *, elapsed: float
    ) -> Outcome:
        assert draft.record is not None
        expected = draft.record.version
        shorten = session._lifetime_set or session._login is not None
        terms = (
            self._terms(session, elapsed)
            if session._login is not None and self._by_user is not None
            else None
        )
        try:
            return await self._write(record, expected, terms, shorten, now)
        except ReplyLost:
            pass
        for _ in range(RESENDS):
            try:
                outcome = await self._write(record, expected, terms, shorten, now)
            except ReplyLost:
                continue
            return await self._recognise(record, expected, outcome, now)
        raise Uncertain("the store did not answer a write, nor its repetition: it may have been carried out")

    async def _write(
        self, record: Record, expected: str, terms: Terms | None, shorten: bool, now: float
    ) -> Outcome:
        if terms is not None and self._by_user is not None:
            return await self._by_user.admit(record, expected=expected, terms=terms, now=now)
        return await self.store.replace(record, expected=expected, now=now, may_shorten=shorten)

    async def _recognise(self, record: Record, expected: str, outcome: Outcome, now: float) -> Outcome:
        """After a lost reply: was the first try carried out? (rule 7)"""
        if not isinstance(outcome, Changed):
            return outcome
        current = outcome.current or await self.store.load(record.key, now=now)
        if not isinstance(current, Record):
            return GONE
        if record.version in current.versions:
            return SAVED
        if expected in current.versions:
            return Changed(current)
        raise Uncertain(
            "a write's reply was lost, and so many others wrote since that it cannot be told whether it happened"
        )

    def _terms(self, session: BaseSession, elapsed: float) -> Terms:
        return Terms(
            elapsed=elapsed,
            own_fence=session._own_fence,
            limit=self.options.max_sessions,
            evict=self.options.at_limit == "evict_oldest",
        )

    async def _create(self, session: BaseSession, now: float, *, elapsed: float) -> Committed:
        """A session of this request's own: nothing of it is stored yet."""
        if session._standing is Standing.DETACHED:
            session._disown()
        changes = session._changes() if session._base is not None else _NO_CHANGES
        parts = unopposed({}, changes)
        locator = session._locator or self.new_locator()
        for _ in range(ATTEMPTS):
            verifier = self._ids.verifier()
            record = self._first(session, locator, verifier, parts, now)
            outcome = await self._create_once(session, record, now, elapsed=elapsed)
            if outcome is SAVED:
                login = session._login
                session._settled(record, parts)
                session._verifier, session._on_previous = verifier, False
                self._tell("session.created", record.key, record.user_id, now=now)
                if login is not None:
                    self._tell("login", record.key, record.user_id, login.login.method, now=now)
                return Committed(CookieAction.SEND)
            if outcome is FENCED or outcome is FULL:
                return self._refuse(session, outcome, now)
            if outcome is GONE:
                return await self._gone(session, now, elapsed=elapsed)
            # Somebody lives under this locator: a weak genid. Their session is theirs (checklist 3); take another.
            locator = self.new_locator()
        raise StoreError(f"{ATTEMPTS} new session ids in a row were taken: genid does not make unique ids")

    def _first(self, session: BaseSession, locator: str, verifier: str, parts: Parts, now: float) -> Record:
        lifetime = session._lifetime
        ends_at = now + self._absolute
        record = Record(
            key=locator,
            versions=(self._ids.version(),),
            verifier=ids.digest(verifier),
            data=self._join(parts) if parts else codec.EMPTY,
            created_at=now,
            seen_at=now,
            deadline=min(now + self._idle_of(lifetime), ends_at),
            ends_at=ends_at,
            lifetime=lifetime,
        )
        if session._login is not None:
            record = self._logged_in(record, session._login.login, session._login.user_id, session, now)
        return record

    async def _create_once(
        self, session: BaseSession, record: Record, now: float, *, elapsed: float
    ) -> Outcome:
        terms = (
            self._terms(session, elapsed)
            if session._login is not None and self._by_user is not None
            else None
        )
        lost = False
        for _ in range(RESENDS + 1):
            try:
                if terms is not None and self._by_user is not None:
                    outcome = await self._by_user.admit(record, expected=None, terms=terms, now=now)
                else:
                    outcome = await self.store.create(record, now=now)
            except ReplyLost:
                lost = True
                continue
            if lost and outcome is TAKEN:
                # Ours, and ended before we could ask again? Or somebody else's?
                current = await self.store.load(record.key, now=now)
                return GONE if isinstance(current, Ended) else TAKEN
            return outcome
        raise Uncertain("the store did not answer the creation of a session, nor its repetition")

    async def _switch(self, session: BaseSession, now: float, *, elapsed: float) -> Committed:
        """Another user logs in here: a session of their own first, then the end of the old one (rule 5)."""
        old = session._record
        session._disown()
        committed = await self._create(session, now, elapsed=elapsed)
        if old is not None and committed.cookie is CookieAction.SEND:
            await self._end(old, now)
        return committed

    async def _logout(
        self, session: BaseSession, now: float, *, elapsed: float, only_logout: bool
    ) -> Committed:
        """End the session; what the handler set afterwards begins a new one."""
        old = session._record
        assert old is not None
        ended = await self._end(old, now)
        changes = _NO_CHANGES if only_logout else session._changes()
        after = session._login
        if not ended:
            session._reset(Standing.DETACHED)
            if after is None or only_logout:
                return _NO_COOKIE
        else:
            session._reset(Standing.NEW)
        session._login = None if only_logout else after
        if session._login is None and not changes.sets and not changes.estimates:
            return Committed(CookieAction.CLEAR)
        for key, encoded in unopposed({}, changes).items():
            session._live[key], session._pending[key] = codec.decode(encoded), bytes(encoded)
        session._standing = Standing.NEW
        return await self._create(session, now, elapsed=elapsed)

    async def _end(self, record: Record, now: float) -> bool:
        """Delete a session as long as its user is the one we loaded, whatever the epoch (rule 10). False: not ours to end, or gone."""
        token = self._ids.version()
        current = record
        for _ in range(ATTEMPTS):
            if await self._delete(current.key, now, token, current.version):
                self._tell("session.ended", record.key, record.user_id, "logout", now=now)
                return True
            found = await self.store.load(record.key, now=now)
            if not isinstance(found, Record) or found.user_id != record.user_id:
                return False
            current = found
        raise StoreUnavailable(f"another writer was first {ATTEMPTS} times in a row; try again later")

    async def _delete(self, key: str, now: float, token: str, expected: str | None) -> bool:
        for _ in range(RESENDS):
            try:
                return await self.store.delete(key, now=now, token=token, expected=expected)
            except ReplyLost:
                continue
        return await self.store.delete(key, now=now, token=token, expected=expected)

    async def _gone(self, session: BaseSession, now: float, *, elapsed: float) -> Committed:
        """The session ended, or belongs to another login now: our changes are dropped. A login of our own still counts (rule 9)."""
        record = session._record
        if record is not None:
            self._tell("session.gone", record.key, record.user_id, now=now)
        if session._login is None:
            session._reset(Standing.DETACHED)
            return _GONE
        session._disown()
        return await self._create(session, now, elapsed=elapsed)

    def _refuse(self, session: BaseSession, outcome: Outcome, now: float) -> Committed:
        """The login may not be: nothing was written, the session stays as it was before this request (rule 21)."""
        login = session._login
        name = "login.revoked" if outcome is FENCED else "login.refused"
        record = session._record
        self._tell(name, record.key if record else None, login.user_id if login else None, now=now)
        session._reset(Standing.DETACHED)
        return _REFUSED

    # ---- at once

    async def take(self, session: BaseSession, key: str, default: Any, now: float) -> Any:
        """Claim a one-time value: one compare-and-set, at most one taker (rule 16)."""
        parts = session._open()
        record = session._record
        if session._standing is not Standing.LIVE or record is None or key not in parts or session._logout:
            return session.pop(key, default)
        value = session.get(key, MISSING)
        session._forget(key)
        loaded = record
        for _ in range(ATTEMPTS):
            if key not in parts:
                return self._taken(session, key, default)
            rest = {name: part for name, part in parts.items() if name != key}
            draft = _Draft(record, rest, True)
            following = replace(
                record,
                versions=(self._ids.version(), *record.versions[: VERSIONS_KEPT - 1]),
                data=self._join(rest),
            )
            outcome = await self._replace_plain(following, draft, now)
            if outcome is SAVED:
                value = codec.decode(parts[key]) if value is MISSING or record is not loaded else value
                if record is loaded:
                    session._record = following
                return self._taken(session, key, value)
            if not isinstance(outcome, Changed):
                return self._lost(session, default, now)
            current = outcome.current or await self.store.load(record.key, now=now)
            if not isinstance(current, Record) or current.epoch != loaded.epoch:
                return self._lost(session, default, now)
            record, parts = current, codec.split(current.data)
        raise StoreUnavailable(f"another writer was first {ATTEMPTS} times in a row; try again later")

    async def _replace_plain(self, record: Record, draft: _Draft, now: float) -> Outcome:
        assert draft.record is not None
        expected = draft.record.version
        try:
            return await self.store.replace(record, expected=expected, now=now)
        except ReplyLost:
            pass
        for _ in range(RESENDS):
            try:
                outcome = await self.store.replace(record, expected=expected, now=now)
            except ReplyLost:
                continue
            return await self._recognise(record, expected, outcome, now)
        raise Uncertain("the store did not answer a write, nor its repetition: it may have been carried out")

    def _taken(self, session: BaseSession, key: str, value: Any) -> Any:
        """The key is gone from the store, so it is gone from what we compare with too."""
        session._forget(key)
        session._base = {name: part for name, part in (session._base or {}).items() if name != key}
        session._deletes -= {key}
        return value

    def _lost(self, session: BaseSession, default: Any, now: float) -> Any:
        record = session._record
        self._tell(
            "session.gone", record.key if record else None, record.user_id if record else None, now=now
        )
        if session._login is None:
            session._reset(Standing.DETACHED)
        return default

    async def reload(self, session: BaseSession, now: float) -> None:
        """Forget this request's changes and read the session again. Raises SessionGone if it has ended meanwhile."""
        record = session._record
        if session._standing is not Standing.LIVE or record is None:
            raise SessionGone("nothing is stored for this session yet: there is nothing to reload")
        found = await self.store.load(record.key, now=now)
        if not isinstance(found, Record) or found.epoch != record.epoch:
            raise SessionGone("the session ended, or passed to another login, while this request was at work")
        verifier, previous, fence = session._verifier, session._on_previous, session._own_fence
        session._reset(Standing.LIVE)
        session._record, session._verifier, session._on_previous, session._own_fence = (
            found,
            verifier,
            previous,
            fence,
        )
        session._base = codec.split(found.data)

    async def end_user(self, user_id: str, now: float, *, keep: str | None = None) -> EndedAll:
        """End every session of a user, and every login of theirs under way; `keep` is the handle of one to spare."""
        if self._by_user is None:
            raise ConfigurationError(
                "this store has no by-user index: use one that lists sessions by user (ByUser)"
            )
        token = self._ids.version()
        for _ in range(RESENDS):
            try:
                ended = await self._by_user.end_user(user_id, keep=keep, now=now, token=token)
                break
            except ReplyLost:
                continue
        else:
            ended = await self._by_user.end_user(user_id, keep=keep, now=now, token=token)
        self._tell("session.ended", None, user_id, f"{ended.count} sessions of the user", now=now)
        return ended

    async def end_one(self, user_id: str, key: str, now: float) -> bool:
        """End one session by its handle, only while it is this user's (rule 22)."""
        if self._by_user is None:
            raise ConfigurationError(
                "this store has no by-user index: use one that lists sessions by user (ByUser)"
            )
        ended = await self._by_user.end_one(user_id, key, now=now, token=self._ids.version())
        if ended:
            self._tell("session.ended", key, user_id, "by handle", now=now)
        return ended

    async def end(self, key: str, now: float) -> bool:
        """End one session by its handle, whoever's it is: for administrators."""
        ended = await self._delete(key, now, self._ids.version(), None)
        if ended:
            self._tell("session.ended", key, None, "by handle", now=now)
        return ended

    def _tell(
        self, name: str, handle: str | None, user_id: str | None = None, detail: str = "", *, now: float
    ) -> None:
        self.options.on_event(Event(name, handle, user_id, detail, now))


_NO_CHANGES: Final = Changes()
