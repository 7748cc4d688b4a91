"""Open, commit, take, end: the order of the I/O, written once for sync and async.

Theory of operation. Every flow is `async def` and awaits nothing but the store (`core/stepping.py` says why). A flow
reads what the store holds, asks pure functions what that means (`decide`, `drafts`, `merge`), and makes one store
call over the version it read. If another writer was first, it starts again from what is there now. Nothing is ever
written over what was not read, so nothing that ended comes back; and a reply that was lost is made up for by asking
again, since a write is recognised by the version it would have left (PROTOCOL rules 7-9).
"""

import logging
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from hmac import compare_digest
from typing import Any, Final, NamedTuple

from msgspec import Raw
from msgspec.structs import replace

from coatcheck.commands import Commands
from coatcheck.core import codec, drafts, ids
from coatcheck.core.clients import NewDevice, changes, described
from coatcheck.core.decide import Action, Decision, decide
from coatcheck.core.drafts import following
from coatcheck.core.events import Event, EventName
from coatcheck.core.merge import NO_CHANGES, Changes, Parts, merge, unopposed
from coatcheck.core.options import Options
from coatcheck.core.ports import (
    FENCED,
    FULL,
    GONE,
    SAVED,
    TOMBSTONE,
    Carries,
    EndedAll,
    Outcome,
    Store,
    Tallies,
    Terms,
    at_once,
)
from coatcheck.core.rates import Rate
from coatcheck.core.record import REMEMBERED, Ended, Expired, Record
from coatcheck.core.rules import Rules
from coatcheck.core.session import BaseSession, CookieAction, Intent, Standing
from coatcheck.eras import ERA_KEY
from coatcheck.errors import (
    ConfigurationError,
    CorruptRecord,
    LoginRefused,
    ReplyLost,
    SessionConflict,
    SessionGone,
    StoreError,
    StoreUnavailable,
    Throttled,
    TooLate,
)

__all__ = ["Committed", "Lifecycle"]

ATTEMPTS: Final = 1000
"""How often a commit starts again because another writer was first. Each time somebody succeeded: it bounds a
stampede.
"""
Opens = Callable[[BaseSession, ids.Ticket | None, float], Coroutine[Any, Any, None]]
_logger: Final = logging.getLogger("coatcheck")
_GENID: Final = re.compile(r"[A-Za-z0-9_-]{16,128}")


class Committed(NamedTuple):
    """What a commit came to: what to tell the browser, and why nothing was kept if so."""

    cookie: CookieAction = CookieAction.NONE
    refused: type[SessionGone] | type[LoginRefused] | None = None
    is_full: bool = False
    """The login was refused because the user has as many sessions as may be."""


_NO_COOKIE: Final = Committed()
_SEND: Final = Committed(CookieAction.SEND)
_CLEAR: Final = Committed(CookieAction.CLEAR)
_REWRITES: Final = (Action.REPLACE, Action.ROTATE, Action.RENEW)
# An enum's member costs 50 ns to look up, a global 2.
_LIVE, _NONE, _REPLACE, _ROTATE, _RENEW = Standing.LIVE, CookieAction.NONE, *_REWRITES
_TOLD: Final[dict[Action, EventName]] = {Action.CREATE: "session.created", Action.ROTATE: "session.rotated"}
_GONE: Final = Committed(refused=SessionGone)
_REFUSED: Final = Committed(refused=LoginRefused)
_FULL: Final = Committed(refused=LoginRefused, is_full=True)


class _Draft(NamedTuple):
    """What a commit wants to write, over what it believes is there."""

    record: Record | None
    parts: Parts
    changed: bool


def _told(session: BaseSession, cookie: CookieAction) -> Committed:
    """What a commit came to, remembered for the response."""
    if cookie is _NONE:
        return _NO_COOKIE
    session._owed = cookie
    return _SEND if cookie is CookieAction.SEND else _CLEAR


async def _nothing() -> Committed:
    return _NO_COOKIE


def _fits(found: Record | Ended | Expired | None, ticket: ids.Ticket, now: float) -> bool:
    """Whether what a store remembered can be what this ticket is about. Only a record is ever remembered."""
    if type(found) is not Record or (
        ticket.proof is not None and compare_digest(ticket.proof, found.verifier)
    ):
        return True
    return drafts.holding(found, ticket.verifier, now).standing is _LIVE


class Lifecycle:
    """The flows over one store, under one set of options."""

    def __init__(
        self,
        store: Store,
        options: Options,
        *,
        source: ids.IdSource | None = None,
        monotonic: Callable[[], float] = float,
    ) -> None:
        """`monotonic` tells seconds, on the clock that `session._began` was read from."""
        self.store = store
        self._monotonic = monotonic
        self.options = options
        self.carrier = store if isinstance(store, Carries) else None
        """The store, if its sessions are in the cookie itself."""
        if self.carrier is not None:
            self.carrier.accepts(options)
        self.rules = Rules(options, carried=self.carrier is not None)
        self._commands = Commands(store)
        if options.max_sessions is not None and self._commands.by_user is None:
            raise ConfigurationError(
                f"max_sessions={options.max_sessions}: {type(store).__name__} has no by-user index to count in; use a store that "
                "lists sessions by user (ByUser), or leave max_sessions out"
            )
        self._max_created: Rate | None = options.max_created  # type: ignore[assignment]  # read by now
        self._tallies = store if isinstance(store, Tallies) else None
        if self._max_created is not None and self._tallies is None:
            raise ConfigurationError(
                f"max_created={self._max_created}: {type(store).__name__} has no counters (Tallies); use a store"
                " that has, or leave max_created out"
            )
        self._ids = source or ids.RandomIds()
        # What every request asks for, without a look-up; and called by a name of its own, since what is called as an attribute is
        # looked up as a method first.
        self._version, self._load, self._replace = self._ids.version, store.load, store.replace
        ready = at_once(store)
        self._replace_now = None if ready is None or self.rules.sends else ready.replace_now
        self.writes_now = self._replace_now is not None
        """Whether the store mostly does the usual write in a plain call."""
        self._remembers = self._commands.remembers is not None
        self.eras = self._commands.eras
        self._suspects = options.client_change != "tell"
        self.open: Opens = self.look_up
        """What a request's cookies stand for: the session of ours or, where others are adopted, of theirs (`Adopting`)."""
        self.revoking: Callable[[str, float], Awaitable[None]] | None = None
        """What must be written down before all sessions of a user are ended, and when."""

    def new_locator(self) -> str:
        """A fresh locator, from `genid` if one is configured. Raises ConfigurationError for one that is none."""
        locator = self._ids.locator() if self.options.genid is None else self._given_locator()
        return locator if self.carrier is None else self.carrier.began(locator)

    def _given_locator(self) -> str:
        assert self.options.genid is not None
        locator = self.options.genid()
        if not _GENID.fullmatch(locator):
            raise ConfigurationError(
                "genid must return 16 to 128 of A-Z a-z 0-9 _ -; leave it out for a good default"
            )
        return locator

    # ---- open

    def finds_now(self) -> Callable[[BaseSession, ids.Ticket, float], object] | None:
        """What finds a session that lives without a coroutine, where the store can do that, and leaves every other as it is, for
        `look_up`.
        """
        ready, eras = at_once(self.store), self.eras
        if ready is None or self._suspects:
            return None
        load = ready.load_now

        def find(session: BaseSession, ticket: ids.Ticket, now: float) -> None:
            found, proof = load(ticket[0], now), ticket[2]
            if (
                found is not None
                and found.era == eras.number
                and 0 <= now - eras.read_at < eras.lag
                and proof is not None
                and compare_digest(proof, found.verifier)
            ):
                session._standing, session._record, session._verifier = _LIVE, found, ticket[1]

        return find

    async def look_up(self, session: BaseSession, ticket: ids.Ticket | None, now: float) -> None:
        """Find out what the request's cookie stands for: one `load`, or none without a cookie."""
        if ticket is None:
            session._standing = Standing.NEW
            return
        locator, verifier, proof = ticket
        load = self._load
        try:
            try:
                found = await load(locator, now=now)
            except ReplyLost:  # a question may be asked again
                found = await load(locator, now=now)
            if self._remembers and not _fits(found, ticket, now):
                found = await self._commands.look(locator, now)
        except CorruptRecord as error:
            session._standing = Standing.NEW
            self._tell("session.corrupt", locator, detail=str(error), now=now)
            return
        if type(found) is Record:
            eras = self.eras
            if not 0 <= now - eras.read_at < eras.lag:
                await eras.catch_up(now)
            if found.era < eras.number:
                self._of_an_earlier_era(session, found, now)
                return
            if proof is not None and compare_digest(proof, found.verifier):
                session._standing, session._record, session._verifier = _LIVE, found, verifier
                if self._suspects:
                    await self._suspect(session, found, now)
                return
            held = drafts.holding(found, verifier, now)
            session._standing, session._verifier, session._on_previous = held
            session._meant |= held.on_previous
            if held.standing is Standing.LIVE:
                session._record = found
                if self._suspects:
                    await self._suspect(session, found, now)
            elif held.standing is Standing.NEW:
                self._tell("session.superseded", found.key, found.user_id, now=now)
        elif isinstance(found, Ended):
            session._standing, session._over = Standing.DETACHED, locator
        else:  # nothing, or what is over: told apart here, and nowhere that a client could see
            session._standing = Standing.NEW
            if isinstance(found, Expired):
                self._tell("session.expired", locator, found.user_id, found.why, now=now)
            else:
                self._tell("session.unknown", locator, now=now)
            session._strange(now)

    def _of_an_earlier_era(self, session: BaseSession, found: Record, now: float) -> None:
        """Everybody's sessions were ended: just now (then a request may be late, rule 4), or long ago."""
        session._standing = Standing.DETACHED if now < self.eras.at + TOMBSTONE else Standing.NEW
        self._tell("session.unknown", found.key, found.user_id, "everybody's sessions were ended", now=now)

    async def _suspect(self, session: BaseSession, found: Record, now: float) -> None:
        """Whether the client is the one that logged in, where the application wants more than to be told (checklist 206)."""
        if found.login is None or found.user_id is None or self.rules.forgets(found, now):
            return
        changed = changes(found.login, *session._client())
        if not changed:
            return
        self._tell("client.changed", found.key, found.user_id, ", ".join(changed), now=now)
        if self.options.client_change == "reauthenticate":
            session._doubted = True
        else:
            await self._end(found, now)
            session._reset(Standing.DETACHED)

    # ---- commit

    def commit(self, session: BaseSession, now: float) -> Coroutine[Any, Any, Committed]:
        """Carry out what the request intended; returns what to tell the browser.

        Raises StoreError, SessionTooLarge, UnstorableValue and SessionConflict; then nothing was written.
        """
        usual = self.usual(session, now)
        if usual is not None:
            return usual
        if not session._accessed and not self.rules.every_request:
            return _nothing()
        return self._carry_out(session, None, now, only_logout=False)

    def usual(self, session: BaseSession, now: float) -> Coroutine[Any, Any, Committed] | None:
        """The commit of a request that assigned keys and did nothing else. What it writes is settled, whenever it is begun. None:
        the request did something else, or nothing. Raises what `commit` raises.
        """
        loaded = session._record
        if loaded is None or session._meant or not self.rules.is_usual(loaded, now):
            return None
        parts = session._assigned_parts()
        return None if parts is None else self._write(session, loaded, parts, now)

    def commit_now(self) -> Callable[[BaseSession, float], Coroutine[Any, Any, Committed] | None]:
        """What does the same without a coroutine where that can be: the request did the usual, which is to assign keys, and the
        store could write at once. It returns None: it is done; else nothing is yet, and this is to be awaited.
        """
        replace, rules = self._replace_now, self.rules
        if replace is None:
            return self.commit
        matters, encoded, idle_for = rules.renewal_matters, rules.encoded_raw, rules.idle_for
        new_version = self._version

        def commit(session: BaseSession, now: float) -> Coroutine[Any, Any, Committed] | None:
            loaded = session._record
            if (
                loaded is None
                or loaded.lifetime is not None
                # `rules.is_usual`, of a session without a lifetime of its own
                or ((loaded.user_id is not None or loaded.renewal is not None) and matters(loaded, now))
            ):
                return self.commit(session, now)
            parts = session._assigned_parts()
            if parts is None:
                return self.commit(session, now)
            expected = loaded.versions[0]
            record = following(loaded, new_version(), encoded(parts), now, idle_for, None)
            if not replace(record, expected, now):
                return self._write_over(session, record, expected, parts, now)
            session._settle(record, parts)
            return None

        return commit

    def commit_logout(self, session: BaseSession, now: float) -> Coroutine[Any, Any, Committed]:
        """The same for a request that failed: of all it meant to do, only a logout is kept."""
        return self._carry_out(session, None, now, only_logout=True) if session._logout else _nothing()

    def _write(
        self, session: BaseSession, loaded: Record, parts: Mapping[str, Raw], now: float
    ) -> Coroutine[Any, Any, Committed]:
        """The usual write: keys were assigned, and nothing else is to be done. A third of the cost of the general way."""
        rules, new_version, lifetime = self.rules, self._version, loaded.lifetime
        idle = rules.idle_for if lifetime is None else rules.idle_of(lifetime, now)
        record = following(loaded, new_version(), rules.encoded_raw(parts), now, idle, lifetime)
        return self._write_over(session, record, loaded.versions[0], parts, now)

    async def _write_over(
        self, session: BaseSession, record: Record, expected: str, parts: Mapping[str, Raw], now: float
    ) -> Committed:
        replace = self._replace
        try:
            outcome = await replace(record, expected=expected, now=now)
        except ReplyLost:
            outcome, lasts = await self._commands.write_again(record, expected, None, False, now)
            if not lasts:  # superseded since: not even the cookie that a save() owes is sent
                session._verifier = None
        if outcome is SAVED:
            session._settle(record, parts)
            return _NO_COOKIE
        again = await self._contested(session, session._changes(), record.key, outcome, now)
        if isinstance(again, Committed):
            return again
        return await self._carry_out(session, again, now, only_logout=False)

    async def _carry_out(
        self,
        session: BaseSession,
        draft: _Draft | None,
        now: float,
        *,
        only_logout: bool,
    ) -> Committed:
        """Decide and act, and decide again on what is there now, until nobody comes between."""
        changes = NO_CHANGES if session._base is None else session._changes()
        if draft is None:
            parts = session._base or {}
            changed = changes is not NO_CHANGES
            draft = _Draft(session._record, unopposed(parts, changes) if changed else parts, changed)
        loaded = session._record
        for _ in range(ATTEMPTS):
            decision = decide(self.rules.situation(session, draft.record, draft.parts, draft.changed, now))
            if decision.action in _REWRITES:
                again = await self._rewrite(session, draft, changes, decision, now)
                if isinstance(again, Committed):
                    return again
                draft = again
            elif decision.action is Action.NOTHING:
                if draft.record is not None and draft.record is not loaded:
                    session._settle(draft.record, draft.parts)
                return _told(session, decision.cookie)
            elif decision.action is Action.TOUCH:
                return await self._touch(session, draft, decision, now)
            elif decision.action is Action.DELETE:
                return await self._logout(session, now, only_logout=only_logout)
            elif decision.action is Action.DELETE_AGAIN:
                assert session._over is not None
                await self._commands.delete(session._over, now, self._ids.version(), None)
                return _told(session, decision.cookie)
            elif decision.action is Action.SWITCH:
                return await self._switch(session, now)
            else:
                return await self._create(session, now)
        raise StoreUnavailable(f"another writer was first {ATTEMPTS} times in a row; try again later")

    async def _rewrite(
        self,
        session: BaseSession,
        draft: _Draft,
        changes: Changes,
        decision: Decision,
        now: float,
    ) -> Committed | _Draft:
        """Write over the record of `draft`. If another writer was first: the draft to try next."""
        if self.carrier is not None and session._headers_left():
            raise TooLate(
                "the session changed after the response's headers had left, and with them the cookie that it is kept in: change"
                " it before you stream"
            )
        record, verifier, parts = self._following(session, draft, changes, decision.action, now)
        expected = draft.record.versions[0] if draft.record is not None else ""
        if session._login is not None:
            record = await self._commands.begun_now(record, now)
        shorten = session._lifetime_set or session._login is not None
        terms = self._terms(session, now)
        outcome, lasts = await self._commands.write(record, expected, terms, shorten, now)
        if not lasts:
            decision, verifier = decision._replace(cookie=CookieAction.NONE), None
        if outcome is SAVED:
            before, intent = draft.record, session._login
            self._saved(session, record, parts, verifier, decision.action, now)
            self._tell_of_change(before, record, intent, now)
            await self._welcome(record, intent, now)
            return _told(session, decision.cookie)
        return await self._contested(session, changes, record.key, outcome, now)

    def _tell_of_change(
        self, before: Record | None, record: Record, intent: Intent | None, now: float
    ) -> None:
        """The session came from another browser or network than before (checklist 206)."""
        old, new = before.login if before is not None else None, record.login
        if intent is None and old is not new and old is not None and new is not None:
            changed = changes(old, new.address, new.user_agent)
            if changed:
                self._tell("client.changed", record.key, record.user_id, ", ".join(changed), now=now)

    async def _welcome(self, record: Record, intent: Intent | None, now: float) -> None:
        """After a login: have the user told, if it came from a browser or a network that none of their sessions has."""
        tell, login, user_id = self.options.on_new_device, record.login, record.user_id
        if tell is None or intent is None or login is None or user_id is None or intent.is_step_up:
            return
        if self._commands.by_user is None or login.method == REMEMBERED:
            return
        try:
            others = [other for other in await self.of_user(user_id, now) if other.key != record.key]
        except StoreError:  # the login stands
            return
        if any(o.login is not None and not changes(o.login, login.address, login.user_agent) for o in others):
            return
        browser = described(login.user_agent)
        self._tell(
            "device.new", record.key, user_id, f"{browser or 'unknown browser'}, {login.address}", now=now
        )
        try:
            tell(NewDevice(user_id, record.key, browser, login.address, now))
        except Exception:  # the login is done, and its answer must not fail for want of a letter
            _logger.exception("on_new_device raised")

    async def _contested(
        self,
        session: BaseSession,
        changes: Changes,
        key: str,
        outcome: Outcome,
        now: float,
    ) -> Committed | _Draft:
        """A write did not go through: what came of it, or the draft to try next."""
        if outcome is FENCED or outcome is FULL:
            return self._refuse(session, outcome, now)
        loaded = session._record
        try:
            current = await self._commands.current(key, outcome, now)
            if current is not None and loaded is not None and current.epoch == loaded.epoch:
                self._rejoin(session, loaded, current)
                return self._merged(session, changes, current, now)
        except CorruptRecord as error:  # nothing to merge with, and never an error page (checklist 112)
            self.corrupted(session, str(error), now)
        return await self._gone(session, now)

    def _following(
        self, session: BaseSession, draft: _Draft, changes: Changes, action: Action, now: float
    ) -> tuple[Record, str | None, Parts]:
        """The record to write over `draft.record`, what verifier the browser should hold then, and the data as
        parts.
        """
        record, parts, verifier, login = draft.record, draft.parts, session._verifier, session._login
        assert record is not None
        lifetime = session._lifetime if session._lifetime_set else record.lifetime
        data = self.rules.encoded(parts) if draft.changed else record.data
        if login is not None and self.options.login_keeps is not None and record.user_id is None:
            kept = {*self.options.login_keeps, *changes.sets, *changes.estimates}
            parts = {key: part for key, part in draft.parts.items() if key in kept}
            data = self.rules.encoded(parts)
        following = drafts.following(
            record, self._ids.version(), data, now, idle=self.rules.idle_of(lifetime, now), lifetime=lifetime
        )
        if action is _ROTATE:
            verifier = self._ids.verifier()
            following = self.rules.logged_in(session, drafts.rotated(following, verifier, now), now)
        elif action is _RENEW and verifier is not None:
            following, verifier = drafts.renewed(following, verifier, self._ids.locator(), now)
        elif record.renewal is not None and record.renewal.seen_at is None and not session._on_previous:
            following = drafts.seen(following, now)
        if session._label is not None and login is None:
            following = replace(following, login=session._label)
        return following, verifier, parts

    def _merged(self, session: BaseSession, changes: Changes, current: Record, now: float) -> _Draft:
        """Our changes on top of what another request wrote first."""
        theirs = codec.split(current.data)
        merged = merge(session._base or {}, changes, theirs, self.options.merge)
        if merged.conflicts:
            self._tell("session.conflict", current.key, current.user_id, ", ".join(merged.conflicts), now=now)
            if self.options.on_conflict == "raise":
                raise SessionConflict(merged.conflicts)
        if merged.dropped:
            self._tell("session.dropped", current.key, current.user_id, ", ".join(merged.dropped), now=now)
        changed = bool(changes) and codec.join(merged.parts) != codec.join(theirs)
        return _Draft(current, merged.parts, changed)

    def _rejoin(self, session: BaseSession, loaded: Record, current: Record) -> None:
        """Another request renewed the verifier first: our browser is owed the very same successor (rule 3)."""
        verifier = session._verifier
        if current.verifier == loaded.verifier or verifier is None:
            return
        proof = ids.digest(verifier)
        if current.renewal is not None and proof == current.renewal.previous:
            session._verifier, session._on_previous = ids.successor(verifier, current.renewal.nonce), True
            session._meant = True
        elif proof != current.verifier:
            session._verifier = None

    def _saved(
        self,
        session: BaseSession,
        record: Record,
        parts: Parts,
        verifier: str | None,
        action: Action,
        now: float,
    ) -> None:
        login = session._login
        session._settle(record, parts)
        session._verifier = verifier
        if action is _REPLACE:
            return
        # After its own renewal a request is still one that came with the previous verifier: the new one is yet to be
        # seen (rule 3).
        session._on_previous = action is Action.RENEW
        name = _TOLD.get(action, "session.renewed")
        self._tell(name, record.key, record.user_id, now=now)
        if login is not None:
            self._tell(
                "login",
                record.key,
                record.user_id,
                " ".join(login.login.methods) or login.login.method,
                now=now,
            )

    # ---- the single steps

    async def _touch(self, session: BaseSession, draft: _Draft, decision: Decision, now: float) -> Committed:
        """Move the deadline. Refused (another writer was first) is fine: that writer has moved it (rule 11)."""
        record = draft.record
        assert record is not None
        deadline = min(now + self.rules.idle_of(record.lifetime, now), record.ends_at)
        moved = await self._commands.touch(record, deadline, now)
        if not moved:
            return _NO_COOKIE
        if record is not session._record:
            # A merge left nothing to write: what it gave is what later changes are changes of.
            session._settle(record, draft.parts)
        session._touched(record, now, deadline)
        return _told(session, decision.cookie)

    def _terms(self, session: BaseSession, now: float) -> Terms | None:
        if session._login is None or self._commands.by_user is None:
            return None
        monotonic, began, since = self._monotonic, session._began, session._login.since
        if since is not None:  # its first factor was proved in an earlier request
            began -= max(0.0, now - since)
        return Terms(
            stopwatch=lambda: monotonic() - began,
            own_fence=session._own_fence,
            limit=self.options.max_sessions,
            evict=self.options.at_limit == "evict_oldest",
        )

    async def _create(self, session: BaseSession, now: float) -> Committed:
        """A session of this request's own: nothing of it is stored yet."""
        if session._standing is Standing.DETACHED:
            session._disown()
        if self._max_created is not None and session._login is None:
            await self._count_new(session, self._max_created, now)
        changes = session._changes() if session._base is not None else NO_CHANGES
        parts = unopposed({}, changes)
        locator = session._locator or self.new_locator()
        for _ in range(ATTEMPTS):
            verifier = self._ids.verifier()
            record = self._first(session, locator, verifier, parts, now)
            record = await self._commands.begun_now(record, now)
            outcome = await self._commands.insert(record, self._terms(session, now), now)
            if outcome is SAVED:
                intent = session._login
                self._saved(session, record, parts, verifier, Action.CREATE, now)
                await self._welcome(record, intent, now)
                return _told(session, CookieAction.SEND)
            if outcome is FENCED or outcome is FULL:
                return self._refuse(session, outcome, now)
            if outcome is GONE:
                return await self._gone(session, now)
            # Somebody lives under this locator: a weak genid. Their session is theirs (checklist 3); take another.
            locator = self.new_locator()
        raise StoreError(f"{ATTEMPTS} new session ids in a row were taken: genid does not make unique ids")

    async def _count_new(self, session: BaseSession, limit: Rate, now: float) -> None:
        """Raise Throttled if too many anonymous sessions were begun from where this request comes from (checklist 123)."""
        place, tallies = session._place(), self._tallies
        if not place or tallies is None:
            return
        there = await tallies.tally(f"sessions:{place}", window=limit.window, now=now)
        if there.total > limit.limit:
            error = Throttled(there.until - now)
            detail = f"new sessions for {error.retry_after} s"
            self._tell("request.throttled", None, detail=detail, now=now)
            raise error

    def _first(self, session: BaseSession, locator: str, verifier: str, parts: Parts, now: float) -> Record:
        lifetime = session._lifetime
        record = drafts.first(
            locator, self._ids.version(), verifier, self.rules.encoded(parts) if parts else codec.EMPTY, now,
            idle=self.rules.idle_of(lifetime, now), ends_at=self.rules.ends_at(now), lifetime=lifetime,
        )  # fmt: skip
        return self.rules.logged_in(session, record, now)

    async def _switch(self, session: BaseSession, now: float) -> Committed:
        """Another user logs in here: a session of their own first, then the end of the old one (rule 5)."""
        old = session._record
        session._disown()
        committed = await self._create(session, now)
        if old is not None and committed.cookie is CookieAction.SEND:
            await self._end(old, now)
        return committed

    async def _logout(self, session: BaseSession, now: float, *, only_logout: bool) -> Committed:
        """End the session; what the handler set afterwards begins a new one."""
        old = session._record
        assert old is not None
        ended = await self._end(old, now)
        if only_logout:
            session._reset(Standing.NEW)
            return _told(session, CookieAction.CLEAR) if ended else _NO_COOKIE
        session._disown()
        if not ended and session._login is None:
            session._reset(Standing.DETACHED)
            return _NO_COOKIE
        if session._login is None and not session._pending:
            return _told(session, CookieAction.CLEAR)
        return await self._create(session, now)

    async def _end(self, record: Record, now: float) -> bool:
        """Delete a session as long as its user is the one we loaded, whatever the epoch (rule 10).

        False: it is not ours to end, or was gone.
        """
        token, key, expected = self._ids.version(), record.key, record.versions[0]
        for _ in range(ATTEMPTS):
            if await self._commands.delete(key, now, token, expected):
                self._tell("session.ended", key, record.user_id, "logout", now=now)
                return True
            found = await self._commands.load(key, now)
            if not isinstance(found, Record) or found.user_id != record.user_id:
                return False
            expected = found.versions[0]
        raise StoreUnavailable(f"another writer was first {ATTEMPTS} times in a row; try again later")

    async def _gone(self, session: BaseSession, now: float) -> Committed:
        """The session ended, or belongs to another login now: our changes are dropped, a login of our own counts
        (rule 9).
        """
        record = session._record
        if record is not None:
            self._tell("session.gone", record.key, record.user_id, now=now)
        if session._login is None or session._login.goes_on:
            session._reset(Standing.DETACHED)
            return _GONE
        session._disown()
        return await self._create(session, now)

    def _refuse(self, session: BaseSession, outcome: Outcome, now: float) -> Committed:
        """The login may not be: nothing was written, the session stays as it was before this request (rule 21)."""
        name: EventName = "login.revoked" if outcome is FENCED else "login.refused"
        record, login = session._record, session._login
        self._tell(name, record.key if record else None, login.user_id if login else None, now=now)
        if record is not None and session._standing is Standing.LIVE:
            session._reload(record)  # under the cookie that a save() of this request may have announced
        else:
            session._reset(Standing.DETACHED)
        return _FULL if outcome is FULL else _REFUSED

    # ---- at once

    async def take(self, session: BaseSession, key: str, default: Any, now: float) -> Any:
        """Claim a one-time value: one compare-and-set now, at most one taker (rule 16)."""
        if self.carrier is not None:
            raise self.carrier.lacks("gives a value to one taker at most (take)")
        parts, record = session._open(), session._record
        if (
            session._standing is not Standing.LIVE
            or record is None
            or key not in parts
            or session._overrides(key)
        ):
            return session.pop(key, default)
        loaded = record
        for _ in range(ATTEMPTS):
            if key not in parts:
                session._taken(key)
                return default
            rest = {name: part for name, part in parts.items() if name != key}
            following = drafts.following(
                record, self._ids.version(), self.rules.encoded(rest), now,
                idle=self.rules.idle_of(record.lifetime, now), lifetime=record.lifetime,
            )  # fmt: skip
            outcome, lasts = await self._commands.write(following, record.versions[0], None, False, now)
            if not lasts:
                session._verifier = None
            if outcome is SAVED:
                session._taken(key)
                if record is loaded:
                    session._record = following
                return codec.decode(parts[key])
            current = await self._commands.current(record.key, outcome, now)
            if current is None or current.epoch != loaded.epoch:
                self._tell("session.gone", loaded.key, loaded.user_id, now=now)
                if session._login is None or session._login.goes_on:
                    session._reset(Standing.DETACHED)
                else:
                    session._taken(key)
                return default
            record, parts = current, codec.split(current.data)
        raise StoreUnavailable(f"another writer was first {ATTEMPTS} times in a row; try again later")

    async def try_factor(self, session: BaseSession, limit: int, now: float) -> bool:
        """Count one try of a pending login's next factor: a compare-and-set now, so that no more than `limit` get through."""
        if self.carrier is not None:
            raise self.carrier.lacks("counts the tries of a factor (try_factor)")
        pending, record = session.pending_login, session._record
        if pending is None or record is None:
            return False
        loaded = record
        for _ in range(ATTEMPTS):
            tried = record.pending
            if tried is None or tried.tries >= limit:
                self._tell(
                    "login.refused", record.key, pending.user_id, "too many tries of a factor", now=now
                )
                return False
            following = replace(
                drafts.following(
                    record, self._ids.version(), record.data, now,
                    idle=self.rules.idle_of(record.lifetime, now), lifetime=record.lifetime,
                ),
                pending=replace(tried, tries=tried.tries + 1),
            )  # fmt: skip
            outcome, lasts = await self._commands.write(following, record.versions[0], None, False, now)
            if not lasts:
                session._verifier = None
            if outcome is SAVED:
                if record is loaded:
                    session._record = following
                return True
            current = await self._commands.current(record.key, outcome, now)
            if current is None or current.epoch != loaded.epoch:
                return False
            record = current
        raise StoreUnavailable(f"another writer was first {ATTEMPTS} times in a row; try again later")

    async def reload(self, session: BaseSession, now: float) -> None:
        """Forget this request's changes and read the session again. Raises SessionGone if it has ended meanwhile."""
        session._open()
        record = session._record
        if session._standing is not Standing.LIVE or record is None:
            raise session._outage or SessionGone(
                "nothing is stored for this session: there is nothing to reload"
            )
        found = await self._commands.session(record.key, now)
        if not isinstance(found, Record) or found.epoch != record.epoch:
            raise SessionGone("the session ended, or passed to another login, while this request was at work")
        self._rejoin(session, record, found)
        session._reload(found)

    async def stored(self, key: str, now: float) -> Record | None:
        """The session that lives under a handle now, whatever the store may remember of it; None if it is gone."""
        if key == ERA_KEY:
            return None
        try:
            found = await self._commands.session(key, now)
        except CorruptRecord:  # nobody can be let in by it
            return None
        return found if isinstance(found, Record) else None

    async def of_user(self, user_id: str, now: float) -> list[Record]:
        """The live sessions of a user, newest login first."""
        found = await self._commands.all_of_user(user_id, now)
        await self.eras.catch_up(now)
        return [record for record in found if not self.eras.is_over(record)]

    async def end_user(self, user_id: str, now: float, *, keep: str | None = None) -> EndedAll:
        """End every session of a user, and every login of theirs under way; `keep` is the handle of one to spare."""
        if self.revoking is not None:
            await self.revoking(user_id, now)
        ended = await self._commands.end_user(user_id, now, self._ids.version(), keep)
        self._tell("session.ended", None, user_id, f"{ended.count} sessions of the user", now=now)
        return ended

    async def end_one(self, user_id: str, key: str, now: float) -> bool:
        """End one session by its handle, only while it is this user's (rule 22)."""
        ended = await self._commands.end_one(user_id, key, now, self._ids.version())
        if ended:
            self._tell("session.ended", key, user_id, "by handle", now=now)
        return ended

    async def end_everyone(self, now: float) -> None:
        """End every session there is, and every login under way, by beginning a new era (`coatcheck.eras`)."""
        await self.eras.begin(now, self._ids.version)
        self._tell("session.ended", None, None, "everybody's sessions", now=now)

    async def end(self, key: str, now: float) -> bool:
        """End one session by its handle, whoever's it is: for administrators."""
        if key == ERA_KEY:
            return False
        ended = await self._commands.delete(key, now, self._ids.version(), None)
        if ended:
            self._tell("session.ended", key, None, "by handle", now=now)
        return ended

    def corrupted(self, session: BaseSession, detail: str, now: float) -> None:
        """What is stored under this session's key cannot be read: tell the operator."""
        record = session._record
        self._tell("session.corrupt", record.key if record else None, detail=detail, now=now)

    def _tell(
        self, name: EventName, handle: str | None, user_id: str | None = None, detail: str = "", *, now: float
    ) -> None:
        handle = handle and str(handle)  # a key may be more than a text: `stores/cookie.py`
        self.options.tell(Event(name, handle, user_id, detail, now))
