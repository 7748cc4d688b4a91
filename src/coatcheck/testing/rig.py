"""What a sentence of the store contract works with: one fresh store, a clock to move, makers of records, and a crowd.

A sentence is an `async def` that takes a `Rig`. In blocking mode it is stepped to its end without an event loop, and a crowd is
threads; in awaiting mode it runs under asyncio, and a crowd is tasks. The sentence cannot tell which.
"""

import asyncio
import reprlib
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn, TypeVar

import msgspec

from coatcheck.core.ids import RandomIds
from coatcheck.core.ports import (
    FENCED,
    SAVED,
    ByUser,
    Checks,
    Counts,
    EndedAll,
    Outcome,
    Page,
    Store,
    Sweeps,
    Terms,
    Watches,
)
from coatcheck.core.record import VERSIONS_KEPT, Ended, Expired, Login, Record
from coatcheck.core.stepping import run_now

__all__ = ["SENTENCES", "Ability", "ContractBroken", "Mode", "Rig", "Sentence", "sentence"]

T = TypeVar("T")
Mode = Literal["blocking", "awaiting"]
Ability = type[Any]
"""One of the runtime-checkable protocols of `coatcheck.core.ports`."""

IDS = RandomIds()
IDLE, ABSOLUTE = 1_000.0, 10_000.0


class ContractBroken(AssertionError):
    """The store does not keep a sentence of the contract. The message has the sentence, and what came instead."""


@dataclass(frozen=True)
class Sentence:
    """One sentence of the contract, in one mode. pytest shows it by its name."""

    name: str
    text: str
    body: Callable[["Rig"], Awaitable[None]] = field(repr=False)
    needs: tuple[Ability, ...] = ()
    mode: Mode = "blocking"

    @property
    def __name__(self) -> str:
        return f"{self.name}-{self.mode}"


SENTENCES: list[Sentence] = []


def sentence(
    *, needs: Ability | tuple[Ability, ...] = ()
) -> Callable[[Callable[["Rig"], Awaitable[None]]], Callable[["Rig"], Awaitable[None]]]:
    """Put an `async def` into the contract, for stores with what it `needs`. Its name and docstring are what a failure shows."""
    abilities = needs if isinstance(needs, tuple) else (needs,)

    def put(body: Callable[["Rig"], Awaitable[None]]) -> Callable[["Rig"], Awaitable[None]]:
        SENTENCES.append(Sentence(body.__name__, " ".join((body.__doc__ or "").split()), body, abilities))
        return body

    return put


@dataclass
class Rig:
    """A store and a clock. The verbs are the store's, with `now` filled in; `rig.now += 60` moves the clock."""

    store: Store
    mode: Mode
    now: float

    # -- the store's verbs

    async def load(self, key: str) -> Record | Ended | Expired | None:
        return await self.store.load(key, now=self.now)

    async def create(self, record: Record) -> Outcome:
        return await self.store.create(record, now=self.now)

    async def replace(self, record: Record, *, over: Record, may_shorten: bool = False) -> Outcome:
        return await self.store.replace(record, expected=over.version, now=self.now, may_shorten=may_shorten)

    async def touch(self, record: Record, *, deadline: float, seen_at: float) -> bool:
        return await self.store.touch(
            record.key, deadline=deadline, seen_at=seen_at, expected=record.version, now=self.now
        )

    async def delete(self, key: str, *, token: str = "", over: Record | None = None) -> bool:
        expected = None if over is None else over.version
        return await self.store.delete(key, now=self.now, token=token or IDS.version(), expected=expected)

    async def admit(
        self, record: Record, *, over: Record | None = None, elapsed: float = 0.0, **terms: Any
    ) -> Outcome:
        expected = None if over is None else over.version
        terms["stopwatch"] = lambda: elapsed
        return await self.users.admit(record, expected=expected, terms=Terms(**terms), now=self.now)

    async def of_user(self, user_id: str, *, cursor: str | None = None, limit: int = 100) -> Page:
        return await self.users.of_user(user_id, now=self.now, cursor=cursor, limit=limit)

    async def end_user(self, user_id: str, *, keep: str | None = None, token: str = "") -> EndedAll:
        return await self.users.end_user(user_id, keep=keep, now=self.now, token=token or IDS.version())

    async def end_one(self, user_id: str, key: str, *, token: str = "") -> bool:
        return await self.users.end_one(user_id, key, now=self.now, token=token or IDS.version())

    # -- abilities

    @property
    def users(self) -> ByUser:
        return self.store if isinstance(self.store, ByUser) else self._lacks("ByUser")

    @property
    def checks(self) -> Checks:
        return self.store if isinstance(self.store, Checks) else self._lacks("Checks")

    @property
    def watches(self) -> Watches:
        return self.store if isinstance(self.store, Watches) else self._lacks("Watches")

    async def sweep(self, *, limit: int = 1000) -> int:
        store = self.store if isinstance(self.store, Sweeps) else self._lacks("Sweeps")
        return await store.sweep(now=self.now, limit=limit)

    async def count(self) -> int:
        store = self.store if isinstance(self.store, Counts) else self._lacks("Counts")
        return await store.count(now=self.now)

    def _lacks(self, ability: str) -> NoReturn:
        fail(
            f"{type(self.store).__name__} does not have the ability {ability}; sentences(without=[{ability}])"
        )

    # -- makers

    def record(self, **fields: Any) -> Record:
        """A record that is a moment old: a new key, one version, alive for 1,000 seconds."""
        values: dict[str, Any] = {
            "key": IDS.locator(),
            "versions": (IDS.version(),),
            "verifier": secrets.token_bytes(32),
            "data": b'{"n":1}',
            "created_at": self.now,
            "seen_at": self.now,
            "deadline": self.now + IDLE,
            "ends_at": self.now + ABSOLUTE,
        }
        return Record(**(values | fields))

    def login(self, user_id: str, **fields: Any) -> Record:
        """A record that belongs to a user who logged in now."""
        login = {"user_id": user_id, "authenticated_at": self.now, "login": Login(), "epoch": 1}
        return self.record(**(login | fields))

    def user(self, name: str = "user") -> str:
        """A user id that no other test in this store has."""
        return f"{name}-{IDS.version()}"

    def after(self, record: Record, **changes: Any) -> Record:
        """What the next writer would put in place of `record`: a new version first, the older ones remembered."""
        versions = (IDS.version(), *record.versions[: VERSIONS_KEPT - 1])
        return msgspec.structs.replace(record, **({"versions": versions} | changes))

    async def saved(self, record: Record) -> Record:
        """Create `record`, and insist that it was saved."""
        same(await self.create(record), SAVED, "create over nothing")
        return record

    async def replaced(self, old: Record, **changes: Any) -> Record:
        """Replace `old` by what comes after it, and insist that it was saved."""
        new = self.after(old, **changes)
        same(await self.replace(new, over=old), SAVED, "replace over the version that is there")
        return new

    async def admitted(self, record: Record, *, over: Record | None = None, **terms: Any) -> Record:
        """Admit a login, and insist that it was saved."""
        same(await self.admit(record, over=over, **terms), SAVED, "admit")
        return record

    async def admitted_anew(self, record: Record) -> Record:
        """Admit a login of a request that began after the user's last fence.

        The fence is in the store's own clock, which may not have ticked since: so ask again until it has.
        """
        outcome = await self.admit(record)
        for _ in range(10_000):
            if outcome is not FENCED:
                break
            outcome = await self.admit(record)
        same(
            outcome, SAVED, "admit of a login that began after the fence (10,000 tries: does its clock move?)"
        )
        return record

    # -- what must be there

    async def holds(self, record: Record) -> None:
        """This very record is there."""
        same(await self.load(record.key), record, "load")

    async def lives(self, key: str) -> Record:
        """Some record is there."""
        found = await self.load(key)
        if not isinstance(found, Record):
            fail(f"load: expected a live record, got {show(found)}")
        return found

    async def unknown(self, key: str) -> None:
        """Nothing is there, not even a tombstone."""
        same(await self.load(key), None, "load")

    async def expired(self, record: Record) -> None:
        """It was there, and is past its deadline: nothing, or `Expired` that says what is true of it."""
        found = await self.load(record.key)
        if found is not None:
            truth = Expired.of(record.key, record.user_id, record.deadline, record.ends_at)
            same(found, truth, "load of an expired record (None would do)")

    async def ended(self, key: str) -> Ended:
        """A tombstone is there."""
        found = await self.load(key)
        if not isinstance(found, Ended):
            fail(f"load: expected a tombstone (Ended), got {show(found)}")
        return found

    async def keys_of(self, user_id: str) -> list[str]:
        """Every session of a user, through all pages."""
        keys: list[str] = []
        cursor = None
        for _ in range(100):
            page = await self.of_user(user_id, cursor=cursor)
            keys += [record.key for record in page.records]
            if (cursor := page.cursor) is None:
                return keys
        fail("of_user: a hundred pages, and still a cursor")

    # -- a crowd

    async def give_way(self) -> None:
        """Let the others of a crowd go on. Without it a store that never suspends would never see two writers at once."""
        if self.mode == "awaiting":
            await asyncio.sleep(0)
        else:
            time.sleep(1e-6)  # 0 would hand this thread the interpreter right back

    async def together(self, jobs: Sequence[Callable[[], Coroutine[Any, Any, T]]]) -> list[T]:
        """Run all jobs at once, threads or tasks, and return their results in order."""
        if self.mode == "awaiting":
            return list(await asyncio.gather(*(job() for job in jobs)))
        start = threading.Barrier(len(jobs))

        def work(job: Callable[[], Coroutine[Any, Any, T]]) -> T:
            start.wait(timeout=30)
            return run_now(job())

        with ThreadPoolExecutor(len(jobs)) as pool:
            return list(pool.map(work, jobs))


def same(actual: object, expected: object, what: str) -> None:
    """Insist on a value; the message says what was asked and what came instead."""
    if isinstance(actual, Record) and isinstance(expected, Record):
        if wrong := difference(actual, expected):
            fail(f"{what}: the record differs: {wrong}")
    elif actual != expected or type(actual) is not type(expected):
        fail(f"{what}: expected {show(expected)}, got {show(actual)}")


def difference(actual: Record, expected: Record) -> str:
    """The fields in which two records differ, expected first."""
    fields = [(f, getattr(expected, f), getattr(actual, f)) for f in Record.__struct_fields__]
    return "; ".join(f"{f} expected {show(e)}, got {show(a)}" for f, e, a in fields if a != e)


def show(value: object) -> str:
    """A short repr: a megabyte of data must not fill the terminal."""
    return repr(value) if isinstance(value, (Record, Ended, Expired, float)) else reprlib.repr(value)


def fail(message: str) -> NoReturn:
    raise ContractBroken(message)
