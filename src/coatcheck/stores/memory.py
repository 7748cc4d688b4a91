"""Sessions in this process's memory: for development, tests, and applications that run as one process.

Nothing here waits, so the one store serves both faces. Reads take no lock: a record is a frozen value, and looking one up in a
dict is atomic. Writes hold one lock around plain dict work.

It stays within its bound by itself. Rows are filed by deadline in buckets of eight seconds and every write throws away a few that
are past theirs; at the bound the session seen longest ago makes room. No request ever walks over all of them.
"""

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from math import inf, nextafter
from typing import Final, Literal

from msgspec.structs import replace as changed

from coatcheck.core.counters import Counters
from coatcheck.core.ports import (
    FENCED,
    FULL,
    GONE,
    SAVED,
    TOMBSTONE,
    Changed,
    EndedAll,
    Notice,
    Outcome,
    Page,
    Tally,
    Terms,
    Walked,
)
from coatcheck.core.record import Ended, Expired, Record
from coatcheck.eras import ERA_KEY
from coatcheck.errors import ConfigurationError
from coatcheck.stores._alike import cursor_at, not_over, place_of
from coatcheck.stores._memory_sharing import Sharing

__all__ = ["MemoryStore"]

log = logging.getLogger("coatcheck")

Row = Record | Ended
BUCKET: Final = 8.0
"""Seconds of deadlines that are filed together: an expired row may be kept (never shown) that much longer."""
FEW: Final = 8
"""Sessions of one user that are listed in a tuple."""
REAPED_PER_WRITE: Final = 4
"""More than the one row that a write can add, so that the expired never pile up."""
FENCES: Final = 100_000
FENCE_KEPT: Final = 86_400.0
"""Seconds after which a fence is forgotten: no request takes a day."""
LOG_EVERY: Final = 60.0
"""Seconds between two log lines about evicted logins: an overload must not flood the log too."""


class MemoryStore:
    """Sessions in a dict. They end with the process, and **no other process sees them**: with several workers every second
    request would find its session missing. The store logs a warning where it notices (WEB_CONCURRENCY above 1 when it is built,
    or used in a worker that was forked from where it was built); then use `sqlite:` for one machine, or a database for several.

    `max_sessions`: the bound, tombstones included. At the bound the expired go first, then anonymous sessions, seen longest ago
    first, then tombstones, then logged-in sessions, seen longest ago first, with a warning in the log "coatcheck".
    `monotonic`: the store's own clock, in seconds, in which fences are kept.

    Raises ConfigurationError for a bound below 1.
    """

    never_waits: Literal[True] = True

    def __init__(
        self, *, max_sessions: int = 100_000, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        if type(max_sessions) is not int or max_sessions < 1:
            raise ConfigurationError(f"max_sessions={max_sessions!r}: give a whole number, 1 or more")
        self._max = max_sessions
        self._clock = monotonic
        self._lock = threading.Lock()
        self._tallies = Counters()
        self._rows: dict[str, Row] = {}
        # Least recently written first, in each; in the order in which they make room.
        self._anonymous: OrderedDict[str, None] = OrderedDict()
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._known: OrderedDict[str, None] = OrderedDict()
        self._users: dict[str, str | tuple[str, ...] | dict[str, None]] = {}
        """Whose sessions are which, newest last. Most users have one: its key alone. Of a few a tuple, of more a dict, which is
        not copied at each login: for five keys a tuple takes 80 octets, a dict 184, and a set would take 728."""
        self._sharing = Sharing()
        self._fences: OrderedDict[str, float] = OrderedDict()
        # Dicts, not sets: a bucket of nine keys takes 272 octets, and as a set 728.
        self._buckets: dict[int, dict[str, None]] = {}
        self._heap: list[int] = []
        self._due = inf
        """When the first bucket is due as a whole: what a write compares before it looks any further."""
        self._watchers: tuple[Callable[[Notice], None], ...] = ()
        self._evicted, self._logged_at = 0, -inf
        self._pid = os.getpid()
        if (workers := os.environ.get("WEB_CONCURRENCY", "")).isdigit() and int(workers) > 1:
            _warn_of_workers(f"WEB_CONCURRENCY is {workers}")

    def __repr__(self) -> str:
        return f"<MemoryStore, {len(self._rows)} of at most {self._max}>"

    @classmethod
    def from_url(cls, url: str) -> "MemoryStore":
        """The store of `memory:`; its bound is set with `MemoryStore(max_sessions=…)`. Raises ConfigurationError for more."""
        if url.rstrip("/").lower() != "memory:":
            raise ConfigurationError(
                f"store={url!r}: it is `memory:` and nothing more; settings go to MemoryStore(…)"
            )
        return cls()

    def blocking(self) -> "MemoryStore":
        """This store: nothing in it waits."""
        return self

    def awaiting(self) -> "MemoryStore":
        """This store: nothing in it waits, so it never blocks the loop."""
        return self

    # -------------------------------------------------------------------------------------------- the five verbs

    async def load(self, key: str, *, now: float) -> Record | Ended | Expired | None:
        row = self._rows.get(key)
        if row is None:
            return None
        if type(row) is Record and row.deadline > now:
            return row
        with self._lock:
            there = self._live(key, now)
        if there is None and type(row) is Record:
            return Expired.of(key, row.user_id, row.deadline, row.ends_at)
        return there

    def load_now(self, key: str, now: float) -> Record | None:
        """The record that lives under a key: see `coatcheck.core.ports.AtOnce`."""
        row = self._rows.get(key)
        return row if type(row) is Record and row.deadline > now else None

    async def create(self, record: Record, *, now: float) -> Outcome:
        with self._lock:
            there = self._live(record.key, now)
            if (refusal := not_over(there, record, None)) is not None:
                return refusal
            self._write(record, there, now)
            return SAVED

    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        key = record.key
        with self._lock:
            there = self._rows.get(key)
            if type(there) is not Record or there.deadline <= now:
                self._live(key, now)
                return GONE
            if there.versions[0] != expected:
                return SAVED if record.versions[0] in there.versions else Changed(there)
            if not may_shorten and (record.deadline < there.deadline or record.seen_at < there.seen_at):
                record = _forward(record, there.deadline, there.seen_at)
            self._write(record, there, now)
            return SAVED

    def replace_now(self, record: Record, expected: str, now: float) -> bool:
        """Write over `expected`: see `coatcheck.core.ports.AtOnce`."""
        with self._lock:
            there = self._rows.get(record.key)
            if type(there) is not Record or there.deadline <= now or there.versions[0] != expected:
                return False
            if record.deadline < there.deadline or record.seen_at < there.seen_at:
                record = _forward(record, there.deadline, there.seen_at)
            self._write(record, there, now)
            return True

    async def touch(self, key: str, *, deadline: float, seen_at: float, expected: str, now: float) -> bool:
        with self._lock:
            there = self._live(key, now)
            if type(there) is not Record or there.versions[0] != expected:
                return False
            self._write(_forward(there, deadline, seen_at), there, now)
            return True

    async def delete(self, key: str, *, now: float, token: str, expected: str | None = None) -> bool:
        with self._lock:
            there = self._live(key, now)
            if type(there) is Record and expected is not None and there.versions[0] != expected:
                return False
            ended = self._end(key, there, now, token)
        if ended and self._watchers:
            self._tell_of(key)
        return ended

    # --------------------------------------------------------------------------------------------------- by user

    async def admit(self, record: Record, *, expected: str | None, terms: Terms, now: float) -> Outcome:
        """Write a record that begins a login, all or nothing: see `coatcheck.core.ports.ByUser`."""
        with self._lock:
            there = self._live(record.key, now)
            if (refusal := not_over(there, record, expected)) is not None:
                return refusal
            if self._fenced(record.user_id, terms):
                return FENCED
            victims = self._too_many(record, terms, now)
            if victims and not terms.evict:
                return FULL
            for victim in victims:
                self._end(victim.key, victim, now, record.versions[0])
            self._write(self._sharing.spared(record, self._newest_of(record.user_id)), there, now)
        if victims and self._watchers:
            self._tell_of(*(victim.key for victim in victims))
        return SAVED

    async def of_user(self, user_id: str, *, now: float, cursor: str | None = None, limit: int = 100) -> Page:
        """The live sessions of a user, newest login first. Raises UsageError for a cursor that is none of ours."""
        before = None if cursor is None else place_of(cursor)
        with self._lock:
            records = sorted(self._of(user_id, now), key=_order, reverse=True)
        if before is not None:
            records = [record for record in records if _order(record) < before]
        page = records[:limit]
        more = len(records) > len(page) and page
        return Page(page, cursor_at(*_order(page[-1])) if more else None)

    async def end_user(self, user_id: str, *, keep: str | None, now: float, token: str) -> EndedAll:
        """Raise the user's fence, then end every session of theirs but the one with key `keep`."""
        with self._lock:
            fence = self._raise_fence(user_id)
            records = [record for record in self._of(user_id, now) if record.key != keep]
            for record in records:
                self._end(record.key, record, now, token)
        if records and self._watchers:
            self._tell_of(*(record.key for record in records))
        return EndedAll(len(records), fence)

    async def end_one(self, user_id: str, key: str, *, now: float, token: str) -> bool:
        """End one session, only while it belongs to this user."""
        with self._lock:
            there = self._live(key, now)
            if type(there) is Record and there.user_id != user_id:
                return False
            ended = self._end(key, there, now, token)
        if ended and self._watchers:
            self._tell_of(key)
        return ended

    # -------------------------------------------------------------------------------------------------- counters

    async def tally(
        self, key: str, *, window: float, now: float, amount: int = 1, prolong: bool = False
    ) -> Tally:
        """Add to a counter: see `coatcheck.core.ports.Tallies`."""
        with self._lock:
            return self._tallies.add(key, window=window, now=now, amount=amount, prolong=prolong)

    async def tallied(self, key: str, *, now: float) -> Tally:
        """What a counter says."""
        return self._tallies.look(key, now=now)

    async def end_tally(self, key: str) -> None:
        """Forget a counter."""
        with self._lock:
            self._tallies.end(key)

    # ---------------------------------------------------------------------------------------------------- upkeep

    async def sweep(self, *, now: float, limit: int = 1000) -> int:
        """Delete up to `limit` expired records, old tombstones and fences. Returns how many records went."""
        with self._lock:
            self._tallies.sweep(now)
            return self._sweep(now, limit)

    async def walk(self, *, cursor: object = None, limit: int = 1000) -> Walked:
        """The keys of all sessions, at once: they are in memory as it is."""
        with self._lock:
            return Walked([*self._anonymous, *self._known])

    async def count(self, *, now: float) -> int:
        """How many sessions live. What is past its deadline is deleted on the way, so the rest need not be looked at."""
        with self._lock:
            self._sweep(now, len(self._rows))
            return len(self._anonymous) + len(self._known)

    async def check(self) -> None:
        """A dict always works."""

    def watch(self, tell: Callable[[Notice], None]) -> Callable[[], None]:
        """Have `tell` called when a session is ended, on the thread that ends it, once it is; returns what stops it.

        There is no connection to lose: the first notice is "watching", for good.
        """

        def told(notice: Notice) -> None:  # the same function may watch twice, and stop once
            tell(notice)

        with self._lock:
            self._watchers = (*self._watchers, told)
        tell(Notice("watching", for_good=True))

        def stop() -> None:
            with self._lock:
                self._watchers = tuple(one for one in self._watchers if one is not told)

        return stop

    def _tell_of(self, *keys: str) -> None:
        """Outside the lock: who is told may come back with a question."""
        for tell in self._watchers:
            for key in keys:
                tell(Notice("ended", key))

    # ----------------------------------------------------------------------- rows; the lock is held from here on

    def _live(self, key: str, now: float) -> Row | None:
        """What is there. What is past its deadline is dropped for good: a clock that steps back must not revive it."""
        row = self._rows.get(key)
        if row is None or (row.deadline if type(row) is Record else _deadline(row)) > now:
            return row
        self._drop(key, row)
        return None

    def _write(self, record: Record, there: Row | None, now: float) -> None:
        """Put `record` in place of `there`."""
        key, user_id = record.key, record.user_id
        if type(there) is Record and there.user_id == user_id:
            # The common case, an ordinary change: its recency moves, and only if time has passed its deadline.
            self._rows[key] = record
            queue = self._anonymous if user_id is None else self._known
            queue.move_to_end(key)
            if (old := there.deadline // BUCKET) != (new := record.deadline // BUCKET):
                self._unfile(key, int(old))
                self._file(key, int(new))
        else:
            self._put(key, record, there)
            self._make_room(key, now)
        if now >= self._due:
            self._reap(now, REAPED_PER_WRITE)

    def _end(self, key: str, there: Row | None, now: float, token: str) -> bool:
        """Put a tombstone in place of a live record. Over a tombstone: whether it is this deleter's own."""
        if not isinstance(there, Record):
            return there is not None and there.token == token
        self._put(key, Ended(key, token, now), there)
        return True

    def _put(self, key: str, row: Row, there: Row | None) -> None:
        if there is not None:
            self._drop(key, there)
        if self._pid != os.getpid():
            self._pid = os.getpid()
            _warn_of_workers("this process was forked after the store was built")
        self._rows[key] = row
        self._queue(row)[key] = None
        if type(row) is Record and row.user_id is not None:
            self._enlist(row.user_id, key)
        self._file(key, int(_deadline(row) // BUCKET))

    def _drop(self, key: str, row: Row) -> None:
        del self._rows[key], self._queue(row)[key]
        if type(row) is Record and row.user_id is not None:
            self._strike(row.user_id, key)
        self._unfile(key, int(_deadline(row) // BUCKET))

    def _queue(self, row: Row) -> OrderedDict[str, None]:
        if isinstance(row, Ended):
            return self._ended
        return self._anonymous if row.user_id is None else self._known

    # ---------------------------------------------------------------------------------------- expiry and the bound

    def _file(self, key: str, number: int) -> None:
        bucket = self._buckets.get(number)
        if bucket is not None:
            bucket[key] = None
            return
        self._buckets[number] = {key: None}
        heappush(self._heap, number)
        if len(self._heap) > 2 * len(self._buckets) + 64:
            self._heap = list(self._buckets)
            heapify(self._heap)
        self._due = (self._heap[0] + 1) * BUCKET

    def _unfile(self, key: str, number: int) -> None:
        bucket = self._buckets[number]
        bucket.pop(key, None)
        if not bucket:
            # Its number stays in the heap until it is due, or until there are too many such.
            del self._buckets[number]

    def _reap(self, now: float, limit: int) -> int:
        """Drop up to `limit` rows of buckets that are due as a whole, so that nothing needs to be searched. Returns how many."""
        reaped = 0
        while reaped < limit and now >= self._due:
            keys = self._buckets.get(self._heap[0])
            if keys is None:
                heappop(self._heap)
                self._due = (self._heap[0] + 1) * BUCKET if self._heap else inf
                continue
            # Not next(iter()): that would walk over the holes of all that went before.
            key, _ = keys.popitem()
            self._drop(key, self._rows[key])
            reaped += 1
        return reaped

    def _make_room(self, keep: str, now: float) -> None:
        while len(self._rows) > self._max:
            if not self._reap(now, 1):
                self._evict(keep, now)

    def _evict(self, keep: str, now: float) -> None:
        """Drop the row that is missed least, but not `keep`, which is only just being written."""
        for queue in (self._anonymous, self._ended, self._known):
            key = next((key for key in queue if key != keep and key != ERA_KEY), None)
            if key is not None:
                row = self._rows[key]
                self._drop(key, row)
                if queue is self._known and _deadline(row) > now:
                    self._report_eviction()
                return

    def _report_eviction(self) -> None:
        self._evicted += 1
        if (tick := self._clock()) - self._logged_at >= LOG_EVERY:
            log.warning(
                "the memory store is full (max_sessions=%d): %d logged-in session(s) evicted since the last such line; "
                "raise max_sessions, or use a store that keeps sessions on disk or in a database",
                self._max,
                self._evicted,
            )
            self._evicted, self._logged_at = 0, tick

    def _sweep(self, now: float, limit: int) -> int:
        self._forget_fences()
        rows: list[Row] = []
        swept = 0
        for row in self._expired(now):
            if swept == limit:
                break
            rows.append(row)
            swept += isinstance(row, Record)
        for row in rows:
            self._drop(row.key, row)
        return swept

    def _expired(self, now: float) -> Iterator[Row]:
        """What is past its deadline, to the second; only the bucket that is due in part is searched."""
        for number in sorted(number for number in self._buckets if number * BUCKET <= now):
            for key in self._buckets[number]:
                if _deadline(row := self._rows[key]) <= now:
                    yield row

    # ---------------------------------------------------------------------------------------- users and their fences

    def _enlist(self, user_id: str, key: str) -> None:
        keys = self._users.get(user_id)
        if keys is None:
            self._users[user_id] = key
        elif isinstance(keys, dict):
            keys[key] = None
        else:
            several = (keys, key) if isinstance(keys, str) else (*keys, key)
            self._users[user_id] = several if len(several) <= FEW else dict.fromkeys(several)

    def _strike(self, user_id: str, key: str) -> None:
        keys = self._users.get(user_id)
        if isinstance(keys, dict):
            keys.pop(key, None)
        elif isinstance(keys, tuple):
            self._users[user_id] = keys = tuple(other for other in keys if other != key)
        if not keys or keys == key:
            self._users.pop(user_id, None)

    def _keys_of(self, user_id: str) -> tuple[str, ...]:
        keys = self._users.get(user_id, ())
        return (keys,) if isinstance(keys, str) else tuple(keys)

    def _newest_of(self, user_id: str | None) -> Record | None:
        """A session of this user, living or expired: what is kept of it can be shared."""
        keys = None if user_id is None else self._users.get(user_id)
        if keys is None:
            return None
        row = self._rows[keys if isinstance(keys, str) else next(reversed(keys))]
        return row if type(row) is Record else None

    def _of(self, user_id: str, now: float) -> list[Record]:
        """The live sessions of a user; those past their deadline are dropped on the way."""
        rows = [self._live(key, now) for key in self._keys_of(user_id)]
        return [row for row in rows if type(row) is Record]

    def _too_many(self, record: Record, terms: Terms, now: float) -> list[Record]:
        """The oldest logins that must end for this one to keep the limit."""
        if terms.limit is None or record.user_id is None:
            return []
        others = [other for other in self._of(record.user_id, now) if other.key != record.key]
        return sorted(others, key=_order)[: max(0, len(others) - terms.limit + 1)]

    def _fenced(self, user_id: str | None, terms: Terms) -> bool:
        fence = None if user_id is None else self._fences.get(user_id)
        return fence is not None and self._clock() - terms.elapsed <= fence != terms.own_fence

    def _raise_fence(self, user_id: str) -> float:
        """Strictly above any before: a request that knows its own fence must not pass a later one of the same tick."""
        fence = self._clock()
        if (before := self._fences.pop(user_id, None)) is not None:
            fence = max(fence, nextafter(before, inf))
        self._fences[user_id] = fence
        self._forget_fences()
        return fence

    def _forget_fences(self) -> None:
        oldest_kept = self._clock() - FENCE_KEPT
        while self._fences:
            user_id = next(iter(self._fences))
            if self._fences[user_id] > oldest_kept and len(self._fences) <= FENCES:
                return
            del self._fences[user_id]


# ------------------------------------------------------------------------------------------------------------ pure


def _deadline(row: Row) -> float:
    return row.deadline if isinstance(row, Record) else row.at + TOMBSTONE


def _forward(record: Record, deadline: float, seen_at: float) -> Record:
    """`record` with these times where they are later than its own, and never past its absolute deadline."""
    return changed(
        record,
        deadline=max(record.deadline, min(deadline, record.ends_at)),
        seen_at=max(record.seen_at, seen_at),
    )


def _order(record: Record) -> tuple[float, str]:
    """By login, or where there was none by creation; the key makes the order total, so that a cursor can name a place."""
    return (record.created_at if record.authenticated_at is None else record.authenticated_at, record.key)


def _warn_of_workers(sign: str) -> None:
    log.warning(
        "%s, but the memory store is not shared between processes: each worker has its own sessions, and users will "
        "seem to be logged out at random. Run one worker, or use store='sqlite:///sessions.db' or a database",
        sign,
    )
