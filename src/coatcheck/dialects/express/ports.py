"""What the dialect asks of a store of the Node world: the verbs of express-session's stores, with nothing overwritten unseen.

express-session's stores have `get`, `set`, `destroy` and `touch`, and their `set` writes over whatever is there. Here it is two
verbs, and both are atomic: `create` writes only where nothing is, `replace` only over exactly what was read. So two requests of
ours never lose each other's changes, and what was destroyed is not written back to life. A Node writer still overwrites
what it did not read: it knows no other way.

- A store keeps text: the JSON body of express-session, data and `cookie` side by side, UTF-8. What it makes of that (a BSON
  document, a ciphertext) is its own affair, and so is how long it keeps it: `expires` is the cookie's, in seconds since the
  epoch, and None where the browser forgets the cookie; then the store's own default counts, from `now`.
- `get` answers None for what is unknown, and for what the store's own mark of expiry says is over at `now`. The body's
  `cookie.expires` is never asked: every store but MemoryStore leaves it stale at a touch (node-wire-formats 1.6).
- `touch` moves that mark of expiry, and leaves the body alone. What is not there is none of its concern.
- A body that is no text of ours to read raises `CorruptRecord`; everything a driver raises becomes `StoreUnavailable` or
  `StoreError`, with the cause kept; `ReplyLost` when the command was sent and may have been carried out. A `replace` or `create`
  whose reply was lost is recognised by its text: the caller reads again and compares.
- All is atomic, and safe to call from several tasks, threads and processes at once.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec

from coatcheck.core.ports import GONE, SAVED, TAKEN, Verdict

__all__ = [
    "GONE",
    "SAVED",
    "TAKEN",
    "Backend",
    "Changed",
    "Entry",
    "ExpressStore",
    "Lists",
    "Named",
    "Outcome",
    "Prunes",
]


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One session, as a store holds it."""

    text: bytes
    """The body of express-session: JSON, UTF-8."""
    expires: float | None = None
    """When the store lets it go, in seconds since the epoch; None: not before it is told to, or it does not say."""
    stored: Any = None
    """What the store itself compares at a `replace`: exactly what was there. For nobody else to look at."""

    def __repr__(self) -> str:
        return f"<Entry of {len(self.text)} octets>"


class Changed(msgspec.Struct, frozen=True):
    """Somebody else wrote first; `current` is what is there now, if the store had it at hand."""

    current: Entry | None = None


Outcome = Verdict | Changed
"""SAVED; TAKEN, of `create`: something is there; GONE, of `replace`: nothing is; Changed, of `replace`: something else is."""


class ExpressStore(Protocol):
    """The verbs of every store. See the module for what each promises."""

    touches: bool
    """Whether it has a `touch` at all: False where the option of its package says so (`disable_touch`)."""

    async def get(self, sid: str, *, now: float) -> Entry | None: ...

    async def create(self, sid: str, text: bytes, *, expires: float | None, now: float) -> Verdict: ...

    async def replace(
        self, sid: str, text: bytes, *, over: Entry, expires: float | None, now: float
    ) -> Outcome: ...

    async def touch(self, sid: str, text: bytes, *, expires: float | None, now: float) -> None:
        """`text` is the session as it stands, its cookie touched, for those who work its lifetime out of it."""
        ...

    async def destroy(self, sid: str) -> bool:
        """Whether it was there."""
        ...


class Backend(Protocol):
    """What a user configures: it hands each face a store whose client suits it, or raises `WrongFace` at once.

    It may also have `close()` and `async aclose()`, which close what it opened itself.
    """

    def blocking(self) -> ExpressStore:
        """A store whose methods never suspend."""
        ...

    def awaiting(self) -> ExpressStore:
        """A store for an event loop."""
        ...


class Named(msgspec.Struct, frozen=True):
    """Some of the ids of a store, and where to go on (`cursor` None: that was all)."""

    sids: Sequence[str]
    cursor: object = None

    def __repr__(self) -> str:
        """Without the ids, which are secrets; the cursor may be one of them."""
        return f"<{len(self.sids)} ids>"


@runtime_checkable
class Lists(Protocol):
    """Can name what it holds: for operators and migrations, never for a request."""

    async def names(self, *, now: float, cursor: object = None, limit: int = 1000) -> Named:
        """About `limit` ids. A whole walk names every session that lives from its beginning to its end, some perhaps twice."""
        ...

    async def length(self, *, now: float) -> int:
        """How many sessions live."""
        ...

    async def clear(self) -> None:
        """Delete every session."""
        ...


@runtime_checkable
class Prunes(Protocol):
    """Deletes what is past its mark of expiry, where no server does that by itself."""

    async def prune(self, *, now: float, limit: int = 1000) -> int:
        """Delete up to `limit` of them. Returns how many."""
        ...
