"""What a sentence of the contract has at hand: a store, ids, a clock, several writers at once. And what is special to a store."""

import asyncio
import secrets
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from coatcheck.core.stepping import run_now
from coatcheck.dialects.express.plain import dump, load
from coatcheck.dialects.express.ports import SAVED, Backend, Entry, ExpressStore, Outcome

__all__ = ["FACES", "HOUR", "WRITERS", "Place", "Rig", "body", "data", "iso", "on"]

FACES: Final = ("blocking", "awaiting")
WRITERS: Final = 4
HOUR: Final = 3_600.0
T = TypeVar("T")


def _no_clock(_sid: str, _seconds: float) -> None:
    """Of a store that goes by `now`."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A store to be tested, and what is special about it."""

    open: Callable[[], Any]
    """A backend, a new one each time, all over the same sessions. It may have `close` and `aclose`."""
    later: Callable[[str, float], None] = _no_clock
    """Let so many seconds pass for this session, where the server counts them and not the caller's `now`."""
    slack: float = 1.0
    """Seconds by which `Entry.expires` may differ from what was asked for. Where a server counts: as long as a test may take."""
    default: float = 86_400.0
    """For how many seconds a session is kept whose cookie has no end."""
    ends: bool = True
    """Whether the store forgets what has expired, at `get` already."""
    alone: bool = True
    """Whether nothing else is in it: else lists are not tried."""


class Rig:
    """One sentence's store, ids and clock."""

    def __init__(self, store: ExpressStore, face: str, place: Place) -> None:
        self.store, self.face, self.place = store, face, place
        self.now = float(int(time.time()))

    def sid(self) -> str:
        """An id that nobody has, as uid-safe makes them."""
        return secrets.token_urlsafe(24)

    async def get(self, sid: str) -> Entry | None:
        return await self.store.get(sid, now=self.now)

    async def lives(self, sid: str) -> Entry:
        """What is there, which must be there."""
        entry = await self.get(sid)
        assert entry is not None, "nothing is there"
        return entry

    async def create(self, sid: str, life: float | None = HOUR, **fields: Any) -> Outcome:
        """A session whose cookie has so many seconds to live (None: the browser forgets it)."""
        return await self.store.create(sid, self.text(life, **fields), expires=self.end(life), now=self.now)

    async def made(self, life: float | None = HOUR, **fields: Any) -> str:
        """A session that is there. Returns its id."""
        sid = self.sid()
        assert await self.create(sid, life, **fields) is SAVED
        return sid

    async def replace(self, sid: str, over: Entry, life: float | None = HOUR, **fields: Any) -> Outcome:
        text = self.text(life, **fields)
        return await self.store.replace(sid, text, over=over, expires=self.end(life), now=self.now)

    async def touch(self, sid: str, life: float | None = HOUR, **fields: Any) -> None:
        await self.store.touch(sid, self.text(life, **fields), expires=self.end(life), now=self.now)

    def text(self, life: float | None, **fields: Any) -> bytes:
        return body(self.end(life), now=self.now, **fields)

    def end(self, life: float | None) -> float | None:
        return None if life is None else self.now + life

    def later(self, seconds: float, *sids: str) -> None:
        """Let time pass."""
        self.now += seconds
        for sid in sids:
            self.place.later(sid, seconds)

    async def holds(self, sid: str, **fields: Any) -> Entry:
        """Insist on the data that are there."""
        entry = await self.lives(sid)
        assert data(entry.text) == fields
        return entry

    def ends_in(self, entry: Entry, life: float) -> None:
        """Insist on when the store lets it go."""
        if self.place.ends:
            assert entry.expires is not None
            assert abs(entry.expires - self.now - life) <= self.place.slack

    async def together(
        self, job: Callable[[ExpressStore, Callable[[], None]], Coroutine[Any, Any, T]]
    ) -> list[T]:
        """What several writers answer who do the same at once, each a thread with a store of its own. `job` gets what lets them
        wait for each other: between a read and a write, say."""
        barrier = threading.Barrier(WRITERS, timeout=240)  # as long as a busy machine needs

        def wait() -> None:
            barrier.wait()

        answers: list[Any] = [None] * WRITERS

        def write(n: int) -> None:
            try:
                answers[n] = on(self.face, self.place, lambda store: job(store, wait))
            except BaseException as error:
                answers[n] = error
                barrier.abort()

        threads = [threading.Thread(target=write, args=(n,)) for n in range(WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        # Whoever fails breaks the barrier for the others: that is not what went wrong.
        for failure in sorted(failures, key=lambda one: isinstance(one, threading.BrokenBarrierError)):
            raise failure
        return answers


def on(face: str, place: Place, work: Callable[[Any], Any]) -> Any:
    """Do something with one face of a store, and close it."""
    backend: Backend = place.open()
    if face == "blocking":
        try:
            return run_now(work(backend.blocking()))
        finally:
            getattr(backend, "close", lambda: None)()

    async def within() -> Any:
        try:
            return await work(backend.awaiting())
        finally:
            if aclose := getattr(backend, "aclose", None):
                await aclose()

    return asyncio.run(within())


def body(expires: float | None, *, now: float, **fields: Any) -> bytes:
    """The body of express-session: its cookie, and the data."""
    life = None if expires is None else round((expires - now) * 1000)
    end = None if expires is None else iso(expires)
    return dump({"cookie": {"originalMaxAge": life, "expires": end, "httpOnly": True, "path": "/"}, **fields})


def iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def data(text: bytes) -> dict[str, Any]:
    """The data of a body, without its cookie."""
    return {key: value for key, value in load(text).items() if key != "cookie"}
