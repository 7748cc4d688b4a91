"""Sessions in this process's memory, as express-session's MemoryStore keeps them: text by id, for development and tests."""

from threading import Lock

from coatcheck.core.ports import Verdict
from coatcheck.dialects.express import plain
from coatcheck.dialects.express.cookie import Cookie
from coatcheck.dialects.express.ports import GONE, SAVED, TAKEN, Changed, Entry, Named, Outcome
from coatcheck.errors import CorruptRecord

__all__ = ["MemoryStore"]


class MemoryStore:
    """The one store whose touch rewrites the body's `cookie`, and whose expiry is the one that stands there."""

    def __init__(self) -> None:
        self.touches = True
        self._entries: dict[str, bytes] = {}
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"<MemoryStore of {len(self._entries)} sessions>"

    def blocking(self) -> "MemoryStore":
        """Itself: it never waits."""
        return self

    def awaiting(self) -> "MemoryStore":
        """Itself."""
        return self

    async def get(self, sid: str, *, now: float) -> Entry | None:
        """The session; None for what is unknown or over, which goes."""
        with self._lock:
            return self._look(sid, now)

    def _look(self, sid: str, now: float) -> Entry | None:
        text = self._entries.get(sid)
        if text is None:
            return None
        expires = _expires(text)
        if expires is not None and expires <= now:
            del self._entries[sid]
            return None
        return Entry(text, expires, text)

    async def create(self, sid: str, text: bytes, *, expires: float | None, now: float) -> Verdict:
        """Where nothing is."""
        with self._lock:
            if self._look(sid, now) is not None:
                return TAKEN
            self._entries[sid] = text
            return SAVED

    async def replace(
        self, sid: str, text: bytes, *, over: Entry, expires: float | None, now: float
    ) -> Outcome:
        """Over exactly what was read."""
        with self._lock:
            there = self._look(sid, now)
            if there is None:
                return GONE
            if there.stored != over.stored:
                return Changed(there)
            self._entries[sid] = text
            return SAVED

    async def touch(self, sid: str, text: bytes, *, expires: float | None, now: float) -> None:
        """Put the session's cookie in the place of the one that is stored, and leave the data alone."""
        with self._lock:
            there = self._look(sid, now)
            if there is not None:
                body = plain.load(there.text)
                self._entries[sid] = plain.dump({**body, "cookie": plain.load(text)["cookie"]})

    async def destroy(self, sid: str) -> bool:
        """Whether it was there."""
        with self._lock:
            return self._entries.pop(sid, None) is not None

    async def names(self, *, now: float, cursor: object = None, limit: int = 1000) -> Named:
        """All of them."""
        with self._lock:
            return Named([sid for sid in list(self._entries) if self._look(sid, now) is not None])

    async def length(self, *, now: float) -> int:
        """How many live."""
        return len((await self.names(now=now)).sids)

    async def clear(self) -> None:
        """Delete every session."""
        with self._lock:
            self._entries.clear()


def _expires(text: bytes) -> float | None:
    """When the body says that it is over. A body that is none is the reader's to refuse."""
    try:
        at = Cookie.loaded(plain.load(text).get("cookie")).expires_at
    except (CorruptRecord, AttributeError):
        return None
    return None if at is None else at / 1000
