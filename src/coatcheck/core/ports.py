"""What the rooms ask of each other: the store contract, and the abilities a store may have beside it.

The contract, sentence by sentence (`coatcheck.testing.StoreContract` has a test for each):

- Every method is atomic, and safe to call from several tasks, threads and processes at once.
- Absence is a value: `load` answers None for a key that is unknown or past its deadline, `Ended` for one that was deleted
  less than `TOMBSTONE` seconds ago. `now` and the record's deadline decide; the server's own TTL only collects garbage.
  For one past its deadline it may answer `Expired`, if it knows without another round trip: None is always right, `Expired`
  never for a record that lives, that never was, or that was deleted.
  Once a store has answered that a record is past its deadline, a clock that steps back does not bring it back.
- `create` writes only where nothing is: TAKEN over a live record or a tombstone, SAVED over nothing, over an expired
  record, and over its own version (a retry whose first reply was lost).
- `replace` writes only over version `expected`: SAVED. Over another version: CHANGED with the record that is there (or
  None where fetching it would cost another round trip). Over nothing, a tombstone or an expired record: GONE. If the record
  there remembers this very version, the write had already happened: SAVED.
  Deadlines and `seen_at` only move forward, unless `may_shorten` (this request changed the lifetime itself).
- `touch` moves `deadline` and `seen_at` forward over version `expected`, never the version. False: refused; that is fine.
- `delete` removes the record and leaves a tombstone. With `expected`: only over that version. False: there was nothing
  (more) to delete, or it had changed; that is fine too. A tombstone with the same `token` answers True.
- Malformed stored data raises `CorruptRecord`; everything a driver raises becomes `StoreUnavailable` or `StoreError` with the
  cause kept; `ReplyLost` when the command was sent and may have been carried out.

An own store needs these five methods and nothing else; abilities are asked for one by one, never by class name.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Final, Literal, NamedTuple, Protocol, runtime_checkable

import msgspec

from coatcheck.core.record import Ended, Expired, Record

__all__ = [
    "CHANGED",
    "EVERYONE",
    "FENCED",
    "FULL",
    "GONE",
    "HEARTBEAT",
    "NO_TALLY",
    "SAVED",
    "TAKEN",
    "TOMBSTONE",
    "AtOnce",
    "Backend",
    "ByUser",
    "Carries",
    "Changed",
    "Checks",
    "Counts",
    "EndedAll",
    "NeverWaits",
    "Notice",
    "Outcome",
    "Page",
    "Remembers",
    "Resealed",
    "Reseals",
    "SetsUp",
    "Store",
    "Sweeps",
    "Tallies",
    "Tally",
    "TellsTime",
    "Terms",
    "Verdict",
    "Walked",
    "Walks",
    "Watches",
    "at_once",
]

TOMBSTONE: Final = 60.0
"""Seconds for which a deleted session is remembered as deleted (rule 4)."""


class Verdict(Enum):
    """How a write ended, where there is nothing more to say about it."""

    SAVED = "saved"
    TAKEN = "taken"
    GONE = "gone"
    FENCED = "fenced"
    """The user's sessions were all ended after this login's request began; nothing was written (rule 21)."""
    FULL = "full"
    """The user already has as many sessions as the limit allows; nothing was written (rule 23)."""


SAVED, TAKEN, GONE, FENCED, FULL = Verdict


class Changed(msgspec.Struct, frozen=True):
    """Another writer was first; `current` is what is there now, if the store had it at hand."""

    current: Record | None = None


CHANGED: Final = Changed()
Outcome = Verdict | Changed


class Store(Protocol):
    """The five verbs every store has. See the module for each sentence of the contract."""

    async def load(self, key: str, *, now: float) -> Record | Ended | Expired | None: ...

    async def create(self, record: Record, *, now: float) -> Outcome: ...

    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome: ...

    async def touch(
        self, key: str, *, deadline: float, seen_at: float, expected: str, now: float
    ) -> bool: ...

    async def delete(self, key: str, *, now: float, token: str, expected: str | None = None) -> bool: ...


class Terms(msgspec.Struct, frozen=True):
    """On what terms a login is admitted (rules 20-23)."""

    stopwatch: Callable[[], float] = float
    """Seconds since this request began, on a monotonic clock, each time it is called. (`float()` is 0.0: it begins now.)"""
    own_fence: float | None = None
    """The fence this request raised itself: `end_all(); login()` in a password change must work."""
    limit: int | None = None
    """At most so many sessions of this user, this one included."""
    evict: bool = True
    """At the limit: end the oldest logins (True), or answer FULL (False)."""

    @property
    def elapsed(self) -> float:
        """Seconds since this request began. A store reads its own clock first and this second, so that what passes in between
        (a queue, a round trip, a first try that another writer beat) makes a login look older than it is, never younger than a
        fence."""
        return self.stopwatch()


class Page(msgspec.Struct, frozen=True):
    """Some of a user's sessions, and where to go on (`cursor` None: that was all)."""

    records: Sequence[Record]
    cursor: str | None = None


class EndedAll(msgspec.Struct, frozen=True):
    """How many sessions an `end_user` ended, and the fence it raised (in the store's own clock)."""

    count: int
    fence: float


@runtime_checkable
class ByUser(Protocol):
    """The by-user index and the fence. The index may name a session that is gone, it never misses one that lives."""

    async def admit(self, record: Record, *, expected: str | None, terms: Terms, now: float) -> Outcome:
        """Write a record that begins a login: `create` where `expected` is None, else `replace`, and in the same breath
        index it under its user, compare the fence, and keep the limit. FENCED or FULL: nothing was written.

        A login sets its session's lifetime anew, so its deadline is written as it is, as with `may_shorten`: what an
        anonymous session was granted does not pass to the login. A record there that remembers this version: SAVED."""
        ...

    async def of_user(self, user_id: str, *, now: float, cursor: str | None = None, limit: int = 100) -> Page:
        """The live sessions of a user, newest login first."""
        ...

    async def end_user(self, user_id: str, *, keep: str | None, now: float, token: str) -> EndedAll:
        """Raise the user's fence, then end every session of theirs but the one with key `keep`."""
        ...

    async def end_one(self, user_id: str, key: str, *, now: float, token: str) -> bool:
        """End one session, only while it belongs to this user (rule 22)."""
        ...


@runtime_checkable
class Sweeps(Protocol):
    """Deletes what is past its deadline."""

    async def sweep(self, *, now: float, limit: int = 1000) -> int:
        """Delete up to `limit` expired records, old tombstones and fences. Returns how many records went."""
        ...


@runtime_checkable
class Counts(Protocol):
    """Knows how many sessions live."""

    async def count(self, *, now: float) -> int: ...


class Walked(msgspec.Struct, frozen=True):
    """Some of the keys of a store, and where to go on (`cursor` None: that was all)."""

    keys: Sequence[str]
    cursor: object = None
    """For the next call on the same store, and for nothing else."""


@runtime_checkable
class Walks(Protocol):
    """Can name every session it holds: for what an operator does to all of them, never for a request."""

    async def walk(self, *, cursor: object = None, limit: int = 1000) -> Walked:
        """About `limit` keys. A whole walk names every session that lives from its beginning to its end, some perhaps twice, and
        may name what has ended or expired: `load` tells."""
        ...


class Resealed(msgspec.Struct, frozen=True):
    """How far a resealing is: how many records were looked at, sealed anew and found unreadable, and where to go on."""

    seen: int
    resealed: int
    unreadable: int
    cursor: object = None


@runtime_checkable
class Reseals(Protocol):
    """Encrypts its records, and can do so anew."""

    async def reseal(
        self, *, now: float, version: Callable[[], str], cursor: object = None, limit: int = 1000
    ) -> Resealed:
        """Seal about `limit` records with the newest key. `version` makes the token of each write; `cursor` is that of the call
        before. What another writer changes meanwhile is sealed by that writer, and what ended stays ended."""
        ...


@runtime_checkable
class Checks(Protocol):
    """Can say whether it works."""

    async def check(self) -> None:
        """Return if the store answers and can be written to; raise StoreUnavailable if not."""
        ...


@runtime_checkable
class TellsTime(Protocol):
    """Has a server with a clock of its own. No deadline depends on it, but what the server cleans up by itself does."""

    async def time(self) -> float:
        """What the server takes for the time, in seconds since the epoch. Raises StoreUnavailable."""
        ...


EVERYONE: Final = "coatcheck-everyone-"
"""How the key of a notice begins that tells of the end of every session there was."""


class Tally(NamedTuple):
    """What a counter says: how much was counted, and when it begins anew (seconds since the epoch)."""

    total: int
    until: float


NO_TALLY: Final = Tally(0, 0.0)
"""A counter that nobody has begun."""


@runtime_checkable
class Tallies(Protocol):
    """Counters, for limits. They are no sessions: no list, count or `end` knows of them."""

    async def tally(
        self, key: str, *, window: float, now: float, amount: int = 1, prolong: bool = False
    ) -> Tally:
        """Add to a counter, atomically, and say what it has come to.

        One that nobody has begun, or that is past its `until`, begins at 0 and lasts for `window` seconds from `now`. `prolong`:
        also one that is under way lasts at least that long from `now`. `amount` may be negative; a count never falls below 0.
        """
        ...

    async def tallied(self, key: str, *, now: float) -> Tally:
        """What a counter says, which is left alone; `NO_TALLY` if there is none."""
        ...

    async def end_tally(self, key: str) -> None:
        """Forget a counter."""
        ...


class Notice(msgspec.Struct, frozen=True):
    """What a store tells those who watch it."""

    kind: Literal["ended", "watching", "lost"]
    """ended: the session `key` was ended (not: it expired); every one, if `key` begins with `EVERYONE`. watching: from here on no
    ending is missed; repeated at least every `HEARTBEAT` seconds, each time as the answer of the server. lost: endings may be
    missed until the next "watching"."""
    key: str = ""
    for_good: bool = False
    """Of a "watching" that is said once and not repeated: the sessions are in this process, there is no connection that could be
    lost. Silence is fine then."""


HEARTBEAT: Final = 5.0
"""Seconds at most between two notices "watching" of a watch that works: longer silence means that it does not."""


@runtime_checkable
class Watches(Protocol):
    """Tells of sessions that are ended, whichever process ends them."""

    def watch(self, tell: Callable[[Notice], None]) -> Callable[[], None]:
        """Have `tell` called with every notice from now on; returns what stops it.

        An awaiting store watches in a task of the running event loop, and calls `tell` there; a blocking store in a thread of
        its own. A connection that is lost is made again, with pauses, until stopped. `tell` must be quick and not raise.
        """
        ...


@runtime_checkable
class SetsUp(Protocol):
    """Needs tables or indexes made before the first session: by `setup()` of a manager, or `coatcheck setup`, never by itself."""

    async def setup(self) -> None:
        """Make what is missing; safe to call again, and from several processes at once."""
        ...


@runtime_checkable
class Remembers(Protocol):
    """Answers `load` from a memory of its own for a while: what it says may have been overtaken."""

    async def load_anew(self, key: str, *, now: float) -> Record | Ended | Expired | None:
        """What `load` answers when nothing is remembered.

        Asked for where a remembered record does not fit: a login elsewhere has just given the session a new verifier, and the
        browser that brings it is no stranger.
        """
        ...


@runtime_checkable
class NeverWaits(Protocol):
    """Has every answer at once, whichever face asks: a commit cannot be cancelled half way, and needs no shield (rule 12)."""

    never_waits: Literal[True]


@runtime_checkable
class AtOnce(Protocol):
    """Can do the usual in a plain call: a coroutine costs 700 instructions, as much as all of a look-up in memory.

    It may decline at any time, and nothing was done then: its verbs are asked, and say why or wait. Neither raises StoreError.
    """

    def load_now(self, key: str, now: float) -> Record | None:
        """The record that lives under a key; None: `load` tells what is there."""
        ...

    def replace_now(self, record: Record, expected: str, now: float) -> bool:
        """Write over `expected`, as `replace` does: True. False: nothing was written."""
        ...


def at_once(store: Store) -> AtOnce | None:
    """The store, if it has the two, and they are its verbs' own: whoever subclasses a store to give it a `load` of their own
    must be asked.
    """
    if not isinstance(store, AtOnce):
        return None
    kin = all(_maker(store, verb) is _maker(store, f"{verb}_now") is not None for verb in ("load", "replace"))
    return store if kin else None


def _maker(store: object, name: str) -> type | None:
    """The class that a method is from; None: it is from nowhere we know."""
    if name in getattr(store, "__dict__", ()):
        return None
    return next((kind for kind in type(store).__mro__ if name in vars(kind)), None)


@runtime_checkable
class Carries(Protocol):
    """Keeps less than a session: its data travel in the visitor's cookie, and come to the store with the key."""

    carries: Literal[True]

    def began(self, locator: str) -> str:
        """The key of a session that begins with this request."""
        ...

    def accepts(self, options: Any) -> None:
        """Raise ConfigurationError for `Options` whose promises need the data on a server."""
        ...

    def lacks(self, what: str) -> Exception:
        """What to raise where a store is needed that does this."""
        ...


class Backend(Protocol):
    """What a user configures: it hands each face a store whose client suits it, or raises `WrongFace` at once.

    It may also have `close()`, which closes what the sync face opened, and `async aclose()`, which closes what event loops
    opened. Both close only what the backend opened itself: a client that was handed in is its owner's.
    """

    def blocking(self) -> Store:
        """A store whose methods never suspend: for the sync face."""
        ...

    def awaiting(self) -> Store:
        """A store for an event loop: it waits without blocking it."""
        ...
