"""The ability `Watches`: who is told of what, and from when on.

Each sentence waits for what a watch must tell, and for nothing else. That it tells no more shows in that a session which is ended
last is told of, and so is nothing that should not be.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from coatcheck.core.ports import ByUser, Notice, Watches
from coatcheck.testing.rig import Rig, fail, same, sentence

PATIENCE = 30.0
"""Seconds until a notice that does not come is given up: long, since the machine may be busy."""


class Ear:
    """What one watch has been told so far."""

    def __init__(self, rig: Rig) -> None:
        self.notices: list[Notice] = []
        self.threads: set[int] = set()
        self._rig = rig
        self._news = threading.Condition()
        self._loop = asyncio.get_running_loop() if rig.mode == "awaiting" else None
        self._event = asyncio.Event()

    def __call__(self, notice: Notice) -> None:
        with self._news:
            self.notices.append(notice)
            self.threads.add(threading.get_ident())
            self._news.notify_all()
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._event.set)

    def keys(self, ours: Iterable[str]) -> list[str]:
        """Those of `ours` that were told of, as often as they were."""
        ours = set(ours)
        return sorted(notice.key for notice in self.notices if notice.kind == "ended" and notice.key in ours)

    async def watches(self) -> None:
        """Wait for its first word."""
        await self._until(lambda: bool(self.notices), "its first notice")
        if self.notices[0].kind != "watching":
            fail(
                f"watch: its first notice was {self.notices[0].kind!r}; where the server cannot tell, leave the ability out:"
                " sentences(without=[Watches])"
            )

    async def beats(self, times: int) -> None:
        """Wait until it has said so often that it works, or once that it always will."""
        await self._until(lambda: self._beats() >= times, f"'watching' {times} times")

    def _beats(self) -> float:
        watching = [notice for notice in self.notices if notice.kind == "watching"]
        return float("inf") if any(notice.for_good for notice in watching) else len(watching)

    async def hears(self, *expected: str, others: Iterable[str] = ()) -> None:
        """Insist on being told of these keys, once each, and of none of the `others`, by the time that a last one is told of."""
        last = await self._rig.saved(self._rig.record())
        await self._rig.delete(last.key)
        ours = {*expected, *others, last.key}
        wanted = {*expected, last.key}
        await self._until(lambda: wanted <= set(self.keys(ours)), f"the end of {len(wanted)} sessions")
        same(self.keys(ours), sorted(wanted), "the keys that were told of")

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        if self._loop is None:
            with self._news:
                came = self._news.wait_for(condition, PATIENCE)
        else:
            came = await self._on_the_loop(condition)
        if not came:
            fail(f"watch: {what} did not come within {PATIENCE:g} s; told: {self._told()}")

    async def _on_the_loop(self, condition: Callable[[], bool]) -> bool:
        try:
            async with asyncio.timeout(PATIENCE):
                while not condition():
                    self._event.clear()
                    await self._event.wait()
        except TimeoutError:
            return False
        return True

    def _told(self) -> str:
        kinds = [notice.kind for notice in self.notices]
        return ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds))) or "nothing"


@contextmanager
def _watching(rig: Rig) -> Iterator[Ear]:
    ear = Ear(rig)
    stop = rig.watches.watch(ear)
    try:
        yield ear
    finally:
        stop()


@sentence(needs=Watches)
async def a_watch_first_says_that_it_watches(rig: Rig) -> None:
    """Before anything counts: what is ended from then on is told."""
    with _watching(rig) as ear:
        await ear.watches()
        await ear.hears()


@sentence(needs=Watches)
async def a_watch_tells_of_a_delete(rig: Rig) -> None:
    """Exactly the key, and once: not of the tombstone that another deletes, nor of what was never there or has changed."""
    with _watching(rig) as ear:
        await ear.watches()
        record, other = await rig.saved(rig.record()), await rig.saved(rig.record())
        same(await rig.delete(record.key), True, "delete")
        same(await rig.delete(record.key), False, "delete of a tombstone")
        unknown = rig.record().key
        same(await rig.delete(unknown), False, "delete of an unknown key")
        changed = await rig.replaced(other)
        same(await rig.delete(changed.key, over=other), False, "delete over a version that has gone")
        await ear.hears(record.key, others=[unknown, changed.key])


@sentence(needs=Watches)
async def a_watch_does_not_tell_of_what_lives_on(rig: Rig) -> None:
    """A session that is written, kept alive or read is not told of."""
    with _watching(rig) as ear:
        await ear.watches()
        record = await rig.replaced(await rig.saved(rig.record()))
        await rig.touch(record, deadline=rig.now + 2_000, seen_at=rig.now + 1)
        await rig.lives(record.key)
        await ear.hears(others=[record.key])


@sentence(needs=Watches)
async def a_watch_does_not_tell_of_what_expires(rig: Rig) -> None:
    """Not when it is found to be over, and not when another takes its place."""
    with _watching(rig) as ear:
        await ear.watches()
        first, second = [await rig.saved(rig.record(deadline=rig.now + 1)) for _ in range(2)]
        rig.now += 2
        await rig.expired(first)
        await rig.saved(rig.record(key=second.key))
        same(await rig.delete(first.key), False, "delete of an expired record")
        await ear.hears(others=[first.key, second.key])


@sentence(needs=Watches)
async def a_watch_tells_of_all_that_are_ended_at_once(rig: Rig) -> None:
    """Twenty sessions deleted by twenty: twenty keys, once each."""
    with _watching(rig) as ear:
        await ear.watches()
        keys = [(await rig.saved(rig.record())).key for _ in range(20)]
        await rig.together([partial(rig.delete, key) for key in keys])
        await ear.hears(*keys)


@sentence(needs=(Watches, ByUser))
async def a_watch_tells_of_an_end_one(rig: Rig) -> None:
    """Of the user's own session only: another's is neither ended nor told of."""
    with _watching(rig) as ear:
        await ear.watches()
        user = rig.user()
        mine, theirs = await rig.admitted(rig.login(user)), await rig.admitted(rig.login(rig.user()))
        same(await rig.end_one(user, mine.key), True, "end_one")
        same(await rig.end_one(user, theirs.key), False, "end_one of another user's")
        await ear.hears(mine.key, others=[theirs.key])


@sentence(needs=(Watches, ByUser))
async def a_watch_tells_of_an_end_user(rig: Rig) -> None:
    """Of every session that is ended, and not of the one that is kept."""
    with _watching(rig) as ear:
        await ear.watches()
        user = rig.user()
        keys = [(await rig.admitted(rig.login(user))).key for _ in range(5)]
        kept, other = keys.pop(2), await rig.admitted(rig.login(rig.user()))
        same((await rig.end_user(user, keep=kept)).count, 4, "how many were ended")
        await ear.hears(*keys, others=[kept, other.key])


@sentence(needs=(Watches, ByUser))
async def a_watch_tells_of_an_eviction(rig: Rig) -> None:
    """Of whom a login at the limit ends, and of no other; a login that is refused ends nobody."""
    with _watching(rig) as ear:
        await ear.watches()
        user = rig.user()
        keys = []
        for _ in range(4):
            keys.append((await rig.admitted(rig.login(user), limit=3)).key)
            rig.now += 1
        refused = rig.login(user)
        await rig.admit(refused, limit=3, evict=False)
        await ear.hears(keys[0], others=[*keys[1:], refused.key])


@sentence(needs=Watches)
async def a_watch_that_is_stopped_tells_nothing(rig: Rig) -> None:
    """And takes none of the others with it. To stop it twice does no harm."""
    stopped = Ear(rig)
    stop = rig.watches.watch(stopped)
    with _watching(rig) as ear:
        await stopped.watches()
        await ear.watches()
        before = await rig.saved(rig.record())
        await rig.delete(before.key)
        await stopped.hears(before.key)
        stop()
        stop()
        after = await rig.saved(rig.record())
        await rig.delete(after.key)
        await ear.hears(before.key, after.key)
        same(
            stopped.keys([before.key, after.key]), [before.key], "the keys that the stopped watch was told of"
        )


@sentence(needs=Watches)
async def a_watch_says_again_that_it_works(rig: Rig) -> None:
    """At least every `HEARTBEAT` seconds, unless it said at once that it always will."""
    with _watching(rig) as ear:
        await ear.beats(2)


@sentence(needs=Watches)
async def a_watch_tells_on_its_event_loop(rig: Rig) -> None:
    """Whoever is told there may touch what belongs to the loop. (A blocking store may tell on any thread.)"""
    with _watching(rig) as ear:
        await ear.watches()
        await ear.hears()
        if rig.mode == "awaiting":
            same(ear.threads, {threading.get_ident()}, "the threads on which it was told")
