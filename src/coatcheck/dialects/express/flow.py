"""Open, commit, regenerate, destroy: the order of the I/O in the express dialect, written once for sync and async.

Every flow is `async def` and awaits nothing but the store (`core/stepping.py`). What express-session does, this does, but that
nothing is written over what was not read: where another writer was first, our changes go on top of what is there now, and what
was destroyed meanwhile stays destroyed. docs/node.md lists where that differs, by express-session's rules.
"""

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Final

from coatcheck.core.events import Event, EventName
from coatcheck.core.origin import Arrival
from coatcheck.dialects.express import plain
from coatcheck.dialects.express.cookie import Cookie
from coatcheck.dialects.express.merging import merge
from coatcheck.dialects.express.options import Options
from coatcheck.dialects.express.ports import GONE, SAVED, TAKEN, Changed, Entry, ExpressStore, Outcome
from coatcheck.dialects.express.rules import Action, Situation, sends, stores
from coatcheck.dialects.express.session import BaseSession, Phase, parted
from coatcheck.errors import CorruptRecord, ReplyLost, SessionGone, StoreError, StoreUnavailable, TooLate

__all__ = ["Flow", "handle_of"]

ATTEMPTS: Final = 1000
"""How often a save starts again because another writer was first. Each time somebody succeeded: it bounds a stampede."""


def handle_of(sid: str) -> str:
    """The public name of a session, for logs: it opens nothing, and the id cannot be told from it."""
    return base64.urlsafe_b64encode(
        hashlib.sha256(b"coatcheck handle " + sid.encode("utf-8")).digest()[:18]
    ).decode("ascii")


class Flow:
    """The flows over one store, under one set of options."""

    def __init__(self, store: ExpressStore, options: Options) -> None:
        self.store, self.options = store, options

    def now(self) -> int:
        """Milliseconds since the epoch, as Date.now() has them."""
        return int(self.options.clock.time() * 1000)

    def new_cookie(self, arrival: Arrival) -> Cookie:
        """The cookie of a session that this request begins."""
        return self.options.cookie_for(arrival).begun(self.now(), secure=self.options.is_secure(arrival))

    # ---- open

    async def open(self, session: BaseSession, sid: str | None, begin: Callable[[], Cookie]) -> None:
        """Be what the request's cookie names (semantics 1.5), or a new session; a client's id is never adopted."""
        if sid is None or not await self._resume(session, sid):
            session._begin(self.options.new_id(), begin())
            session._first_sid = session._sid

    async def _resume(self, session: BaseSession, sid: str) -> bool:
        try:
            entry = await self._get(sid)
            if entry is not None:
                session._resume(sid, entry, resave=self.options.resave)
                return True
            self.tell("session.unknown", sid)
        except CorruptRecord as error:
            self.tell("session.corrupt", sid, str(error))
        return False

    async def _get(self, sid: str) -> Entry | None:
        now = self.options.clock.time()
        try:
            return await self.store.get(sid, now=now)
        except ReplyLost:  # a question may be asked again
            return await self.store.get(sid, now=now)

    # ---- commit

    async def commit(self, session: BaseSession) -> bool:
        """Store what there is to store before the headers leave; returns whether the cookie is sent.

        Raises StoreError and UnstorableValue; then nothing was written.
        """
        if session._is_destroyed:
            return False
        parts = session._parts()
        situation = self._situation(session, parts)
        sending = sends(situation) and (not session._cookie.secure or session._secure)
        action = stores(situation)
        if (sending or action is not Action.NOTHING) and not session._touched:
            session._cookie.touch(self.now())
            session._touched = True
        if action is Action.SET:
            if not await self._save(session):
                return False
        elif action is Action.TOUCH and self.store.touches:
            await self._touch(session)
        session._announced = session._cookie.dump()
        return sending

    async def commit_rest(self, session: BaseSession) -> None:
        """Store what a streamed body has changed since the headers left: the browser can be told nothing any more."""
        if session._is_destroyed or session._entry is None:
            return
        lives_otherwise = session._cookie.dump() != session._announced
        if session._saved != session._parts() or (lives_otherwise and session._is_own):
            await self._save(session)
        elif lives_otherwise and self.store.touches:
            await self._touch(session)

    def _situation(self, session: BaseSession, parts: dict[str, bytes]) -> Situation:
        options = self.options
        # As in Node, one that was regenerated in this request never counts as saved: it is stored at the end (7.4).
        saved = (
            session._sid == session._first_sid and session._saved is not None and _same(session._saved, parts)
        )
        return Situation(
            session._sid == session._cookie_sid, session.modified, saved, session._saved_explicitly,
            session._cookie.expires_at is not None, options.rolling, options.save_uninitialized,
        )  # fmt: skip

    async def _touch(self, session: BaseSession) -> None:
        expires, now = _seconds(session._cookie), self.options.clock.time()
        try:
            await self.store.touch(session._sid, session._text(), expires=expires, now=now)
        except ReplyLost:  # it may have been carried out, and the next request does it again
            pass

    async def _save(self, session: BaseSession) -> bool:
        """Write the session. Where another writer was first, on top of that; where there is nothing any more: False."""
        for _ in range(ATTEMPTS):
            sid, text, parts = session._sid, session._text(), session._parts()
            try:
                outcome = await self._write(session, text)
            except CorruptRecord as error:  # what another writer has left is no session
                self.tell("session.corrupt", session._sid, str(error))
                outcome = GONE
            if (
                session._sid != sid
            ):  # another task of this request has gone on as another session: that one it stores
                return True
            if outcome is SAVED:
                session._settle(text, parts, _seconds(session._cookie))
                return True
            if outcome is TAKEN:
                if (
                    session._entry is None
                ):  # a weak genid: that session is somebody else's. (Else another task was first.)
                    session._sid = self.options.new_id()
            elif outcome is GONE or not await self._rejoin(session, outcome):
                self.tell("session.gone", session._sid)
                session._end()
                return False
        raise StoreUnavailable(f"another writer was first {ATTEMPTS} times in a row; try again later")

    async def _write(self, session: BaseSession, text: bytes) -> Outcome:
        store, sid, over = self.store, session._sid, session._entry
        expires, now = _seconds(session._cookie), self.options.clock.time()
        if over is not None and session._is_own:  # how the store has what we wrote, only the store knows
            return Changed()
        try:
            if over is None:
                return await store.create(sid, text, expires=expires, now=now)
            return await store.replace(sid, text, over=over, expires=expires, now=now)
        except ReplyLost:
            there = await self._get(sid)
        if there is not None and _alike(there.text, text):
            return SAVED
        if over is None:
            return await store.create(sid, text, expires=expires, now=now) if there is None else TAKEN
        return GONE if there is None else Changed(there)

    async def _rejoin(self, session: BaseSession, outcome: object) -> bool:
        """Take what is stored now for the new base, with our changes on top. False: there is nothing, or no session."""
        current, sid = outcome.current if isinstance(outcome, Changed) else None, session._sid
        try:
            current = current or await self._get(sid)
            if session._sid != sid:  # as in `_save`
                return True
            if current is None:
                return False
            theirs = parted(current.text)
            cookie = Cookie.loaded(plain.load(theirs["cookie"]) if "cookie" in theirs else None)
            cookie.believe(current.expires, self.now())
            for part in theirs.values():
                plain.load(part)  # so that none of them fails us half way
        except CorruptRecord as error:
            self.tell("session.corrupt", session._sid, str(error))
            return False
        merged = merge(_data(session._loaded), session._parts(), _data(theirs), self.options.merge)
        if merged.conflicts:
            self.tell("session.conflict", session._sid, ", ".join(merged.conflicts))
        if session._touched:
            cookie.touch(self.now())
        session._rebase(current, theirs, merged.parts, cookie)
        return True

    # ---- at once

    async def save(self, session: BaseSession) -> None:
        """Write it now (semantics 7.4). Raises SessionGone if it was destroyed meanwhile."""
        session._change()
        session._saved_explicitly = True
        if not await self._save(session):
            raise SessionGone(
                "the session was destroyed while this request was at work; its changes were dropped"
            )

    async def reload(self, session: BaseSession) -> None:
        """Read it again: data and cookie (semantics 7.3). Raises SessionGone if nothing is stored of it."""
        session._change()
        entry = await self._get(session._sid)
        if entry is None:
            raise SessionGone("failed to load session: nothing is stored of it")
        session._take_up(entry)

    async def regenerate(self, session: BaseSession, cookie: Callable[[], Cookie]) -> None:
        """Destroy what is stored, and be an empty session with a new id and the configured cookie (semantics 7.1)."""
        if session._phase is not Phase.OPEN:
            raise TooLate(
                "regenerate() after the response's headers have left: call it before you return or stream the response"
            )
        await self._destroy(session._sid)
        session._begin(self.options.new_id(), cookie())

    async def destroy(self, session: BaseSession) -> None:
        """Destroy what is stored; the session is over (semantics 7.2)."""
        session._change()
        session._end()
        await self._destroy(session._sid)

    async def _destroy(self, sid: str) -> None:
        try:
            there = await self.store.destroy(sid)
        except ReplyLost:  # whatever came of it, there must be nothing
            there = await self.store.destroy(sid)
        if there:
            self.tell("session.ended", sid, "destroyed")

    async def unset(self, session: BaseSession) -> None:
        """The handler took the session away from its request (semantics 5.1, 5.2)."""
        gone = session._is_destroyed
        session._end()
        if self.options.unset == "destroy" and not gone:
            await self._destroy(session._sid)

    def failed(self, error: StoreError | TimeoutError) -> None:
        """The store cannot be reached: tell the operator."""
        detail = str(error) or "it did not answer in time"
        self.options.tell(Event("store.down", detail=detail, at=self.options.clock.time()))

    def tell(self, name: EventName, sid: str, detail: str = "") -> None:
        """Tell of an event, without the id, which is the secret of the cookie."""
        self.options.tell(Event(name, handle_of(sid), None, detail, self.options.clock.time()))


def _same(mine: dict[str, bytes], theirs: dict[str, bytes]) -> bool:
    """Whether two are one text: the order counts, as in the hash that express-session takes (semantics 4.2)."""
    return list(mine.items()) == list(theirs.items())


def _alike(a: bytes, b: bytes) -> bool:
    """Whether two bodies say the same to JavaScript, in whatever order and spelling a database has it: 1 is 1.0, but not true.

    Raises CorruptRecord.
    """
    plain.load(a)
    left, right = (json.dumps(json.loads(text, parse_int=float), sort_keys=True) for text in (a, b))
    return left == right


def _seconds(cookie: Cookie) -> float | None:
    return None if cookie.expires_at is None else cookie.expires_at / 1000


def _data(parts: dict[str, bytes]) -> dict[str, bytes]:
    """Without what is no data: `cookie`, and what Node drops when it loads a session."""
    return {key: part for key, part in parts.items() if key not in plain.RESERVED}
