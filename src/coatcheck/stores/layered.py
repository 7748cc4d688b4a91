"""A small cache in this process, in front of a store that tells of ended sessions: `LayeredStore(below)`. Off unless asked for.

What it may get wrong, and for how long. A session read here may be up to `max_age` seconds older than what is stored: another
process changed it since. Nothing is lost by that: every write compares versions in the store below, and a request that began from
an older version is merged as any other that came second. A login elsewhere gives the session a new verifier; a browser that
brings it is looked up anew (`Remembers`), so nobody is a stranger for it.

An end always wins. The store below tells of each (`Watches`), and

- what is told to have ended is forgotten, and a load under way at that moment does not bring it back: a reply is remembered only
  if nothing happened to its key since the question was sent;
- the age of what is remembered counts from before the question was sent, on a monotonic clock;
- nothing is served while the watch is not known to work: not before its first word, not after "lost", not when it has been silent
  for two heartbeats, nothing from before such a gap afterwards, and nothing from the other side of a fork.

Where all that fails (a notice that a server drops without a word), `max_age` is still the bound.

Own writes forget what they wrote: a store may have kept the later of two deadlines, so only the store knows what is there now.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Hashable
from datetime import timedelta
from math import inf
from typing import Any, Final, cast

from coatcheck.core.outage import Outage
from coatcheck.core.policy import seconds
from coatcheck.core.ports import (
    HEARTBEAT,
    Backend,
    ByUser,
    Carries,
    EndedAll,
    NeverWaits,
    Notice,
    Outcome,
    Store,
    Terms,
    Watches,
)
from coatcheck.core.record import Ended, Expired, Record
from coatcheck.errors import ConfigurationError
from coatcheck.stores import open_store
from coatcheck.stores._through import pass_through

__all__ = ["LayeredSessions", "LayeredStore"]

SILENCE: Final = 2 * HEARTBEAT
"""Seconds after which a watch that has said nothing is not believed to work."""
OLDEST: Final = 60.0
"""The largest `max_age`: a store remembers for so long that a session has ended, and a cache must not know better."""


class LayeredStore:
    """The store `below`, with a cache in front of it: one for each event loop, and one for all threads of a process.

    below        a store, or its URL. It must tell of ended sessions (Redis, PostgreSQL, MongoDB, memory)
    max_age      seconds, or a timedelta, for which a session may be served as it was; at most 60
    max_entries  how many sessions are remembered; beyond that the one read longest ago is forgotten
    outage       for a store that is given as a URL
    monotonic    what tells seconds

    Raises ConfigurationError for settings that cannot work; the faces raise it for a store that does not tell.
    """

    def __init__(
        self,
        below: str | Backend | Store,
        *,
        max_age: float | timedelta = 1.0,
        max_entries: int = 10_000,
        outage: Outage | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_age = seconds(max_age, setting="LayeredStore.max_age")
        if self._max_age > OLDEST:
            raise ConfigurationError(
                f"LayeredStore(max_age={max_age!r}): at most {OLDEST:g} seconds, for which a store remembers ended sessions"
            )
        if type(max_entries) is not int or max_entries < 1:
            raise ConfigurationError(f"LayeredStore(max_entries={max_entries!r}): give a whole number from 1")
        if outage is not None and not isinstance(below, str):
            raise ConfigurationError("LayeredStore(outage=…) is for a store that is given as a URL")
        self._max_entries, self._monotonic = max_entries, monotonic
        self._owns = isinstance(below, str)
        self._below: Any = open_store(below, outage=outage) if isinstance(below, str) else below
        self._faces: dict[str, LayeredSessions] = {}

    def __repr__(self) -> str:
        return f"<LayeredStore over {self._below!r}>"

    def blocking(self) -> "LayeredSessions":
        """The store whose methods never suspend: for the sync face."""
        return self._face(
            "blocking", os.getpid
        )  # a watch does not go through a fork, so neither does what it vouches for

    def awaiting(self) -> "LayeredSessions":
        """The store for event loops."""
        return self._face("awaiting", asyncio.get_running_loop)

    def _face(self, name: str, where: Callable[[], Hashable]) -> "LayeredSessions":
        face = self._faces.get(name)
        if face is None:
            below: Any = getattr(self._below, name)() if hasattr(self._below, name) else self._below
            if isinstance(below, Carries):
                raise ConfigurationError(
                    "LayeredStore(CookieStore(…)): sessions in cookies come with the request, there is nothing to remember; use"
                    " the cookie store without it"
                )
            if not isinstance(below, Watches):
                raise ConfigurationError(
                    f"LayeredStore({type(self._below).__name__}): a cache needs a store that tells of ended sessions (Watches),"
                    " or it would serve sessions that have ended; use this store without it"
                )
            make = self._cache
            face = self._faces[name] = LayeredSessions(cast(Store, below), below, make, where)
        return face

    def _cache(self) -> "_Cache":
        return _Cache(self._max_age, self._max_entries, self._monotonic)

    def close(self) -> None:
        """Stop watching, and close a store that was opened from a URL. Afterwards nothing is remembered."""
        self._stop("blocking")
        if self._owns and hasattr(self._below, "close"):
            self._below.close()

    async def aclose(self) -> None:
        """The same, for what event loops opened."""
        self._stop("awaiting")
        if not self._owns:
            return
        if hasattr(self._below, "aclose"):
            await self._below.aclose()
        elif hasattr(self._below, "close"):
            self._below.close()

    def _stop(self, name: str) -> None:
        face = self._faces.get(name)
        if face is not None:
            face.stop()


class LayeredSessions:
    """What `LayeredStore` hands to a face. It has the abilities that the store below has, and `Remembers`."""

    def __init__(
        self, below: Store, watches: Watches, make: Callable[[], "_Cache"], where: Callable[[], Hashable]
    ) -> None:
        self._below, self._watches = below, watches
        self._make, self._where = make, where
        self._lock = threading.Lock()
        self._caches: dict[Hashable, _Cache] = {}
        self._stops: dict[Hashable, Callable[[], None]] = {}
        self._stopped = False
        self.watch = watches.watch
        pass_through(self, below, but=(NeverWaits, Watches))
        if isinstance(below, ByUser):
            users = _Users(below, self._here)
            self.of_user = below.of_user
            self.admit, self.end_user, self.end_one = users.admit, users.end_user, users.end_one

    # -------------------------------------------------------------------------------------------- the five verbs

    async def load(self, key: str, *, now: float) -> Record | Ended | Expired | None:
        cache = self._caches.get(self._where()) or self._here()
        record = cache.get(key, now)
        return record if record is not None else await self._fetch(cache, key, now)

    async def load_anew(self, key: str, *, now: float) -> Record | Ended | Expired | None:
        """What is stored, whatever is remembered."""
        return await self._fetch(self._here(), key, now)

    async def _fetch(self, cache: "_Cache", key: str, now: float) -> Record | Ended | Expired | None:
        question = cache.ask(key)
        try:
            found = await self._below.load(key, now=now)
        except BaseException:
            cache.forget(key)
            raise
        if type(found) is Record:
            cache.keep(question, found)
        else:
            cache.forget(key)
        return found

    async def create(self, record: Record, *, now: float) -> Outcome:
        cache = self._here()
        try:
            return await self._below.create(record, now=now)
        finally:  # also when its reply was lost, or nobody waits for it any more
            cache.forget(record.key)

    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        cache = self._here()
        try:
            return await self._below.replace(record, expected=expected, now=now, may_shorten=may_shorten)
        finally:
            cache.forget(record.key)

    async def touch(self, key: str, *, deadline: float, seen_at: float, expected: str, now: float) -> bool:
        cache = self._here()
        try:
            return await self._below.touch(
                key, deadline=deadline, seen_at=seen_at, expected=expected, now=now
            )
        finally:
            cache.forget(key)

    async def delete(self, key: str, *, now: float, token: str, expected: str | None = None) -> bool:
        cache = self._here()
        try:
            return await self._below.delete(key, now=now, token=token, expected=expected)
        finally:
            cache.forget(key)

    # ----------------------------------------------------------------------------------------------------- places

    def _here(self) -> "_Cache":
        """The cache of this event loop, or of this process: its watch begins with it."""
        where = self._where()
        cache = self._caches.get(where)
        return self._begin(where) if cache is None else cache

    def _begin(self, where: Hashable) -> "_Cache":
        with self._lock:
            if where in self._caches:
                return self._caches[where]
            self._leave_places_behind()
            cache = self._caches[where] = self._make()
            if self._stopped:
                return cache  # without a watch nothing is ever remembered
        try:
            stop = self._watches.watch(cache.hear)
        except BaseException:
            del self._caches[where]
            raise
        with self._lock:
            if not self._stopped:
                self._stops[where] = stop
                return cache
        stop()
        cache.hear(Notice("lost"))
        return cache

    def _leave_places_behind(self) -> None:
        """Forget the caches of loops that are over and of a process this one was forked from. Their watches ended with them."""
        for place in list(self._caches):
            if isinstance(place, int) or (isinstance(place, asyncio.AbstractEventLoop) and place.is_closed()):
                del self._caches[place]
                self._stops.pop(place, None)

    def stop(self) -> None:
        """Stop watching. What is asked from now on is asked of the store below."""
        with self._lock:
            self._stopped = True
            stops, self._stops = list(self._stops.values()), {}
            caches = list(self._caches.values())
        for stop in stops:
            stop()
        for cache in caches:
            cache.hear(Notice("lost"))


class _Users:
    """The verbs of `ByUser` that change what may be remembered."""

    def __init__(self, below: ByUser, here: Callable[[], "_Cache"]) -> None:
        self._below, self._here = below, here

    async def admit(self, record: Record, *, expected: str | None, terms: Terms, now: float) -> Outcome:
        """Write a record that begins a login: see `coatcheck.core.ports.ByUser`."""
        cache = self._here()
        try:
            return await self._below.admit(record, expected=expected, terms=terms, now=now)
        finally:
            cache.forget(record.key)
            if terms.limit is not None and record.user_id is not None:
                cache.forget_user(record.user_id)  # others of theirs may have had to make room

    async def end_user(self, user_id: str, *, keep: str | None, now: float, token: str) -> EndedAll:
        """Raise the user's fence, then end every session of theirs but the one with key `keep`."""
        cache = self._here()
        try:
            return await self._below.end_user(user_id, keep=keep, now=now, token=token)
        finally:
            cache.forget_user(user_id)

    async def end_one(self, user_id: str, key: str, *, now: float, token: str) -> bool:
        """End one session, only while it belongs to this user."""
        cache = self._here()
        try:
            return await self._below.end_one(user_id, key, now=now, token=token)
        finally:
            cache.forget(key)


class _Question:
    """A load that is under way: what it answers is remembered only if nothing happened to its key meanwhile."""

    __slots__ = ("key", "until")

    def __init__(self, key: str, until: float) -> None:
        self.key, self.until = key, until


class _Cache:
    """What one watch vouches for. A lock guards what changes; a look-up takes none, since one look at a dict is atomic."""

    def __init__(self, max_age: float, max_entries: int, monotonic: Callable[[], float]) -> None:
        self._max_age, self._max_entries, self._clock = max_age, max_entries, monotonic
        self._lock = threading.Lock()
        self._entries: dict[str, tuple[Record, float]] = {}
        """Key -> record, and until when it may be served; the one read longest ago first."""
        self._questions: dict[str, _Question] = {}
        self._vouched_until = -inf
        """Until when the watch is believed to work, unless it says something before."""

    def get(self, key: str, now: float) -> Record | None:
        """What is remembered, if it may be served."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        record, until = entry
        at = self._clock()
        # Past its deadline it is for the store to say so: it then sees to it that a clock that steps back revives nothing.
        return record if at < until and at < self._vouched_until and now < record.deadline else None

    def ask(self, key: str) -> _Question:
        """A load is about to be sent. Whatever it answers was true no earlier than now."""
        question = _Question(key, self._clock() + self._max_age)
        with self._lock:
            self._questions[key] = question
        return question

    def keep(self, question: _Question, record: Record) -> None:
        """It was answered."""
        key = question.key
        with self._lock:
            if self._questions.get(key) is not question:
                return  # ended, written, or asked again since, or the watch was lost
            del self._questions[key]
            self._entries.pop(key, None)
            if self._clock() >= self._vouched_until:
                return
            self._entries[key] = (record, question.until)
            if len(self._entries) > self._max_entries:
                del self._entries[next(iter(self._entries))]

    def forget(self, key: str) -> None:
        """It may have changed, or ended."""
        with self._lock:
            self._entries.pop(key, None)
            self._questions.pop(key, None)

    def forget_user(self, user_id: str) -> None:
        """All of this user's may have ended. Whose a load under way is about, nobody knows yet."""
        with self._lock:
            for key in [key for key, (record, _) in self._entries.items() if record.user_id == user_id]:
                del self._entries[key]
            self._questions.clear()

    def hear(self, notice: Notice) -> None:
        """What the watch says."""
        if notice.kind == "ended":
            self.forget(notice.key)
            return
        with self._lock:
            at = self._clock()
            if notice.kind == "lost":
                self._vouched_until = -inf
                self._forget_all()
            else:
                if at >= self._vouched_until:
                    self._forget_all()  # endings may have been missed until now
                self._vouched_until = inf if notice.for_good else at + SILENCE

    def _forget_all(self) -> None:
        self._entries.clear()
        self._questions.clear()
