"""Sessions in one SQLite file: for one machine, with any number of processes and threads.

Written once, as coroutines that await nothing but a client (`_sqlite_client`): the blocking one never suspends, the awaiting one
only when a write cannot be done at once. What is written is in `_sqlite_jobs`, the file's layout in `_sqlite_file`.

The file is in WAL mode with `synchronous=NORMAL`: an acknowledged write survives the death of every process, kill -9 included; a
power cut may take the last moments' with it, but never harms the file. `synchronous="full"` syncs each commit to the disk first.
"""

import os
import time
from collections.abc import Callable
from math import inf
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from coatcheck.core.ports import EndedAll, Outcome, Page, Tally, Terms, Walked
from coatcheck.core.record import Ended, Expired, Record
from coatcheck.errors import ConfigurationError, CorruptRecord
from coatcheck.stores import _sqlite_jobs as jobs
from coatcheck.stores import _sqlite_tallies as tallies
from coatcheck.stores._alike import cursor_at, place_of, walked
from coatcheck.stores._rows import expired, judge, readable, written
from coatcheck.stores._sqlite_client import Awaiting, Blocking, Client
from coatcheck.stores._sqlite_file import Synchronous, location, prepare
from coatcheck.stores._sqlite_pool import Pool, atomically

__all__ = ["SQLiteSessions", "SQLiteStore"]

TEND_FIRST: Final = 32
TEND_EVERY: Final = 100
"""Writes of this process between two sweeps that nobody asked for; the first comes sooner, in case it does not live long."""
TEND_LIMIT: Final = 200
"""Rows such a sweep may look at: more than were written since the last, so that the expired never pile up."""
SWEEP_STEP: Final = 200
"""Rows in one transaction of a sweep: some 7 ms in which nobody else can write."""


class SQLiteStore:
    """The store in the SQLite file at `path`, which is made if need be, readable and writable by its owner alone.

    `synchronous`: "normal", or "full" to sync each commit to the disk, so that a power cut takes nothing either.
    `busy_timeout`: seconds for which a write waits while another process is writing; then StoreUnavailable. An event loop goes on
    with other things meanwhile.
    `monotonic`: the store's own clock, in seconds, in which fences are kept. All processes that use the file must share it, and
    nobody may set it: CLOCK_MONOTONIC is such a clock, on one machine.

    Expired sessions are swept away a few at a time, along with the writes: no cron job is needed.

    Raises ConfigurationError for a path that cannot be used, naming what is wrong with it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: Synchronous = "normal",
        busy_timeout: float = 5.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if synchronous not in ("normal", "full"):
            raise ConfigurationError(f'synchronous={synchronous!r}: give "normal" or "full"')
        if type(busy_timeout) not in (int, float) or not 0 <= busy_timeout <= 3600:
            raise ConfigurationError(f"busy_timeout={busy_timeout!r}: give seconds, from 0 to 3600")
        self._path = location(path)
        self._synchronous: Synchronous = synchronous
        self._busy_timeout = float(busy_timeout)
        self._monotonic = monotonic
        self._blocking: SQLiteSessions | None = None
        self._awaiting: SQLiteSessions | None = None
        prepare(self._path)

    @classmethod
    def from_url(cls, url: str, **options: Any) -> "SQLiteStore":
        """The store of `sqlite:///relative.db` or `sqlite:////absolute.db`; `options` as for the class.

        Raises ConfigurationError for any other form.
        """
        parts = urlsplit(url)
        if parts.scheme.lower() != "sqlite" or parts.netloc or not parts.path.startswith("/"):
            raise ConfigurationError(
                f"store={url!r}: give sqlite:///relative.db or sqlite:////absolute.db (three slashes or four)"
            )
        if parts.query or parts.fragment:
            raise ConfigurationError(
                f"store={url!r}: a path may hold no ? or #, and options go to SQLiteStore(...)"
            )
        return cls(unquote(parts.path[1:]), **options)

    def __repr__(self) -> str:
        return f"<SQLiteStore {self._path}>"

    def blocking(self) -> "SQLiteSessions":
        """The store whose methods never suspend: for the sync face."""
        if self._blocking is None:
            pool = Pool(
                self._path,
                busy_timeout=self._busy_timeout,
                synchronous=self._synchronous,
                checkpoints=True,
            )
            self._blocking = SQLiteSessions(Blocking(pool), self._monotonic)
        return self._blocking

    def awaiting(self) -> "SQLiteSessions":
        """The store whose methods never hold up the event loop; several loops in one process may share it."""
        if self._awaiting is None:
            patient = Pool(self._path, busy_timeout=self._busy_timeout, synchronous=self._synchronous)
            client = Awaiting(
                Pool(self._path),
                patient,
                busy_timeout=self._busy_timeout,
                syncs=self._synchronous == "full",
            )
            self._awaiting = SQLiteSessions(client, self._monotonic)
        return self._awaiting

    def close(self) -> None:
        """Finish what is queued and close the file; afterwards the store cannot be used. A store left open does no harm."""
        for face in (self._awaiting, self._blocking):
            if face is not None:
                face.close()

    def __enter__(self) -> "SQLiteStore":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class SQLiteSessions:
    """What `SQLiteStore` hands to a face: `Store`, `ByUser`, `Sweeps`, `Counts` and `Checks` of `coatcheck.core.ports`."""

    def __init__(self, client: Client, monotonic: Callable[[], float]) -> None:
        self._client = client
        self._monotonic = monotonic
        self._until_tended = TEND_FIRST

    def close(self) -> None:
        """Close the client."""
        self._client.close()

    # -------------------------------------------------------------------------------------------- the five verbs

    async def load(self, key: str, *, now: float) -> Record | Ended | Expired | None:
        row = await self._client.read(jobs.find, key)
        if row is None:
            return None
        there = judge(key, row, now)
        if there is None:
            # Deleted, so that a clock that steps back does not bring back what was answered to be over.
            return await self._client.write(jobs.present, key, now) or expired(key, row)
        return there

    def load_now(self, key: str, now: float) -> Record | None:
        """The record that lives under a key: see `coatcheck.core.ports.AtOnce`."""
        row = self._client.at_once(jobs.find, key, writes=False)
        try:
            there = None if row is None else judge(key, row, now)
        except CorruptRecord:  # told by `load`
            return None
        return there if type(there) is Record else None

    async def create(self, record: Record, *, now: float) -> Outcome:
        self._tend(now)
        return await self._client.write(jobs.create, record, written(record), now)

    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        self._tend(now)
        job = jobs.put_over if may_shorten else jobs.replace
        return await self._client.write(job, record, written(record), expected, now)

    def replace_now(self, record: Record, expected: str, now: float) -> bool:
        """Write over `expected`: see `coatcheck.core.ports.AtOnce`."""
        self._tend(now)
        return bool(self._client.at_once(jobs.replaced, written(record), expected, now, writes=True))

    async def touch(self, key: str, *, deadline: float, seen_at: float, expected: str, now: float) -> bool:
        self._tend(now)
        return await self._client.write(jobs.touch, (deadline, seen_at, key, expected, now))

    async def delete(self, key: str, *, now: float, token: str, expected: str | None = None) -> bool:
        self._tend(now)
        return await self._client.write(jobs.delete, key, expected, now, token)

    # --------------------------------------------------------------------------------------------------- by user

    async def admit(self, record: Record, *, expected: str | None, terms: Terms, now: float) -> Outcome:
        """Write a record that begins a login, all or nothing: see `coatcheck.core.ports.ByUser`."""
        self._tend(now)
        # Before the job queues: what it waits for the file is no part of `elapsed`.
        began = self._monotonic() - terms.elapsed
        return await self._client.write(
            atomically, jobs.admit, record, written(record), expected, terms, began, now, self._monotonic
        )

    async def of_user(self, user_id: str, *, now: float, cursor: str | None = None, limit: int = 100) -> Page:
        """The live sessions of a user, newest login first. Raises UsageError for a cursor that is none of ours."""
        before = (inf, "") if cursor is None else place_of(cursor)
        rows = await self._client.read(jobs.list_of, user_id, now, before, limit)
        more = len(rows) > limit > 0
        page = rows[:limit]
        return Page(readable(page, now), cursor_at(page[-1][1], page[-1][0]) if more else None)

    async def end_user(self, user_id: str, *, keep: str | None, now: float, token: str) -> EndedAll:
        """Raise the user's fence, then end every session of theirs but the one with key `keep`."""
        return await self._client.aside(atomically, jobs.end_user, user_id, keep, now, token, self._monotonic)

    async def end_one(self, user_id: str, key: str, *, now: float, token: str) -> bool:
        """End one session, only while it belongs to this user."""
        self._tend(now)
        return await self._client.write(jobs.end_one, user_id, key, now, token)

    # -------------------------------------------------------------------------------------------------- counters

    async def tally(
        self, key: str, *, window: float, now: float, amount: int = 1, prolong: bool = False
    ) -> Tally:
        """Add to a counter: see `coatcheck.core.ports.Tallies`."""
        self._tend(now)
        return await self._client.write(tallies.add, key, amount, now, now + window, prolong)

    async def tallied(self, key: str, *, now: float) -> Tally:
        """What a counter says."""
        return await self._client.read(tallies.look, key, now)

    async def end_tally(self, key: str) -> None:
        """Forget a counter."""
        await self._client.write(tallies.end, key)

    # ---------------------------------------------------------------------------------------------------- upkeep

    async def sweep(self, *, now: float, limit: int = 1000) -> int:
        """Delete up to `limit` expired records, old tombstones and fences. Returns how many records went.

        In short transactions, so that nobody's write has to wait for the whole.
        """
        swept, more = 0, True
        while more and swept < limit:
            step = min(SWEEP_STEP, limit - swept)
            gone, more = await self._client.aside(jobs.sweep, now, step, self._monotonic())
            swept += gone
        return swept

    async def walk(self, *, cursor: object = None, limit: int = 1000) -> Walked:
        """Some of all keys: see `coatcheck.core.ports.Walks`."""
        keys = await self._client.read(jobs.walk, str(cursor or ""), limit)
        return walked(keys, limit)

    async def count(self, *, now: float) -> int:
        """How many sessions live: a walk through an index, some 15 ms for a million."""
        return await self._client.aside(jobs.count, now)

    async def check(self) -> None:
        """Write something that changes nothing. Raises StoreUnavailable if that cannot be done."""
        await self._client.write(jobs.probe)

    def _tend(self, now: float) -> None:
        self._until_tended -= 1
        if self._until_tended <= 0:
            self._until_tended = TEND_EVERY
            self._client.later(jobs.sweep, now, TEND_LIMIT, self._monotonic())
