"""The walk through a source: in steps, each of which is written down, so that one that was interrupted goes on where it was."""

import asyncio
import hashlib
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from coatcheck.adopting import adopt_with
from coatcheck.core.events import Event
from coatcheck.core.ids import RandomIds
from coatcheck.core.options import Options
from coatcheck.core.outage import Outage
from coatcheck.core.ports import SAVED, Carries, Checks, Remembers, Walks
from coatcheck.core.record import Record
from coatcheck.core.stepping import run_now
from coatcheck.dialects.express.adopted import ExpressSession
from coatcheck.dialects.express.ports import Lists
from coatcheck.dialects.express.stores import open_store as open_express
from coatcheck.eras import ERA_KEY
from coatcheck.errors import ConfigurationError, StoreError
from coatcheck.manager import AsyncSessionManager, SessionManager
from coatcheck.migration._jobs import Adopt, Copy, CopyText, Job, Move, Names, Word
from coatcheck.stores import hide_password, open_store

__all__ = ["Progress", "Report", "migrate", "migrate_async"]

BATCH: Final = 200
AT_ONCE: Final = 16
"""How many sessions an event loop has under way: enough to keep two servers busy, and not so many that requests have to wait."""
WALKS: Final = 3
"""How often the source is walked through at most: until one walk finds nothing new."""
Each = Callable[[Sequence[Coroutine[Any, Any, Word]]], Awaitable[list[Word]]]
"""What does so many jobs: one after the other, or some at once."""
_EXPRESS: Final = "express+"


class Report(msgspec.Struct):
    """What a migration came to."""

    seen: int = 0
    """Sessions looked at in the first walk."""
    done: int = 0
    """Brought to the target, or to be brought: `dry_run`."""
    there: int = 0
    """In the target already."""
    over: int = 0
    """Ended or expired."""
    differs: int = 0
    """In both, and each has changed since: the target's stays."""
    refused: int = 0
    """Not brought over; the log says why."""
    unreadable: int = 0
    late: int = 0
    """Found in a later walk: begun in the source, or changed there, since this began. Somebody still uses it."""
    ended: int = 0
    """Copies that were ended in the target, since their originals had ended."""
    left: int = 0
    """Still in the source and in no target after the last walk, of those that can be read."""
    is_whole: bool = False
    """The last walk found nothing new, and nothing that could not be read."""


class Progress(msgspec.Struct, frozen=True):
    """How far it is."""

    walk: int
    """1: the first; later ones verify."""
    looked_at: int
    """Sessions in this walk."""
    of: int | None
    """About how many there are, where the source can tell."""


class _State(msgspec.Struct):
    """What a file of `resume` says."""

    job: str
    walk: int = 1
    cursor: Any = None
    report: Report = msgspec.field(default_factory=Report)


class _Places:
    """Source and target, opened for one face."""

    def __init__(self, source: Any, target: Any, face: str, outage: Outage | None) -> None:
        if source is target or (isinstance(source, str) and source == target):
            raise ConfigurationError("FROM and TO are the same store")
        self.owned: list[Any] = []
        self.face = face
        self.is_express = [_is_express(source), _is_express(target)]
        self.source, self.target = (self._opened(place, outage) for place in (source, target))
        self.shown = " ".join(hide_password(p) if isinstance(p, str) else repr(p) for p in (source, target))

    def _opened(self, place: Any, outage: Outage | None) -> Any:
        if isinstance(place, str):
            is_express = place.startswith(_EXPRESS)
            url = place.removeprefix(_EXPRESS)
            place = open_express(url, outage) if is_express else open_store(url, outage=outage)
            self.owned.append(place)
        store = getattr(place, self.face)() if hasattr(place, self.face) else place
        if isinstance(store, Carries):
            raise ConfigurationError(
                "sessions in cookies are in no store that could be walked through, or written to: they are with their browsers"
            )
        if getattr(store, "moves", False):
            raise ConfigurationError(
                "Moving(new, old) is for the applications: give the two stores themselves"
            )
        if isinstance(store, Remembers):
            raise ConfigurationError("LayeredStore(…) answers from memory: give the store below it")
        return store

    def closing(self, name: str) -> list[Callable[[], Any]]:
        return [
            close
            for place in self.owned
            if (close := getattr(place, name, None) or getattr(place, "close", None))
        ]


def _is_express(place: Any) -> bool:
    if isinstance(place, str):
        return place.startswith(_EXPRESS)
    return hasattr(place, "destroy") or hasattr(getattr(place, "blocking", lambda: None)(), "destroy")


def _job(
    places: _Places, *, move: bool, dry: bool, user_id: str | None, to_user_id: Any, options: Options | None
) -> tuple[Job, Callable[[], Coroutine[Any, Any, None]]]:
    """The job, and what has to be checked before it begins."""
    match places.is_express:
        case [False, False]:
            if user_id is not None:
                raise ConfigurationError(
                    "user_id=…: sessions of coatcheck know whose they are; it is for those of Express"
                )
            return _native(places, move=move, dry=dry)
        case [True, True]:
            return CopyText(_listing(places.source), places.target, move=move), _nothing
        case [True, False]:
            if not move:
                raise ConfigurationError(
                    "from Express to coatcheck sessions are moved (move=True, --move): of two that both went on, each would be a"
                    " part. For a rehearsal: dry_run=True"
                )
            return _adopt(places, user_id or "passport.user", to_user_id, options), _checks(places.target)
    raise ConfigurationError(
        "from coatcheck to Express nothing can be moved: browsers hold our cookie, and Express finds a session by its own. To"
        " work side by side, let coatcheck speak express-session's dialect: coatcheck.dialects.express"
    )


def _native(places: _Places, *, move: bool, dry: bool) -> tuple[Job, Callable[[], Coroutine[Any, Any, None]]]:
    source, target, tokens = places.source, places.target, RandomIds().version
    store: Any = source
    if not isinstance(source, Walks):
        raise ConfigurationError(
            f"{type(source).__name__} cannot name its sessions (Walks): nobody can walk through it"
        )
    job: Job = Move(store, target, tokens, time.monotonic) if move else Copy(store, target, tokens)

    async def check() -> None:
        for store in (source, target):
            await _checks(store)()
        if not dry:
            await _are_two(source, target, tokens())
        await _same_era(source, target)

    return job, check


def _adopt(places: _Places, user_id: str, to_user_id: Any, options: Options | None) -> Job:
    heard: list[str] = []

    def hear(event: Event) -> None:
        heard.append(event.name)

    # No cookie is looked at here, so no secret of theirs is needed.
    kind = ExpressSession(
        store=_Faces(_listing(places.source)), secret="none", user_id=user_id, to_user_id=to_user_id
    )
    options = replace(options or Options(), adopt=kind, on_event=hear)
    make: Any = SessionManager if places.face == "blocking" else AsyncSessionManager
    manager = make(_Faces(places.target), options=options)
    flows = manager.flows
    assert flows.options.olds is not None
    adopting = adopt_with(flows.lifecycle, flows.options.olds, flows._archives)

    return Adopt(places.source, adopting, manager.session, heard)


class _Faces:
    """A store of one face, where a backend is asked for."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def blocking(self) -> Any:
        """The store."""
        return self._store

    awaiting = blocking


def _listing(store: Any) -> Any:
    if not isinstance(store, Lists):
        raise ConfigurationError(
            f"{type(store).__name__} cannot name its sessions (Lists): nobody can walk through it"
        )
    return store


async def _nothing() -> None:
    """There is nothing to check."""


def _checks(store: Any) -> Callable[[], Coroutine[Any, Any, None]]:
    async def check() -> None:
        if isinstance(store, Checks):
            await store.check()

    return check


async def _are_two(source: Any, target: Any, token: str) -> None:
    """Raise ConfigurationError for one store under two names: what is written to one must not be in the other."""
    now, key = time.time(), f"coatcheck-migrate-{token}"
    bell = Record(key, (token,), b"", b"{}", now, now, now + 60, now + 60)
    if await target.create(bell, now=now) is SAVED:
        try:
            found = await source.load(key, now=now)
        except StoreError:
            found = None
        await target.delete(key, now=now, token=token)
        if found is not None:
            raise ConfigurationError("FROM and TO are the same store, under two names")


async def _same_era(source: Any, target: Any) -> None:
    now = time.time()
    eras = [
        found.era if type(found := await s.load(ERA_KEY, now=now)) is Record else 0 for s in (source, target)
    ]
    if eras[1] > eras[0]:
        raise ConfigurationError(
            "in TO everybody's sessions were ended (end_everyone), and those of FROM would be over there, too: take a store, or a"
            " prefix or table of it, that is new"
        )


# ------------------------------------------------------------------------------------------------------------------- the walk


class _Walk:
    """One migration: where it is, and what it came to."""

    def __init__(
        self,
        job: Job,
        named: str,
        *,
        dry: bool,
        resume: Path | None,
        of: int | None,
        tell: Callable[[Progress], None] | None,
    ) -> None:
        self._job, self._dry, self._file, self._of, self._tell = job, dry, resume, of, tell
        self._state = _load(resume, named)
        self._late = 0

    async def run(
        self,
        each: Each,
        pause: Callable[[int], Awaitable[None]],
    ) -> Report:
        state, report = self._state, self._state.report
        while True:
            found = await self._walk(each, pause)
            if state.walk > 1:
                report.late += found["done"]
                report.left = found["differs"] + found["refused"]
            report.is_whole = state.walk > 1 and not found["done"] and not found["unreadable"]
            if self._dry or report.is_whole or state.walk == WALKS:
                break
            state.walk, state.cursor = state.walk + 1, None
        if not self._dry:
            report.ended += await self._job.tidy(time.time())
        if self._file is not None:
            self._file.unlink(missing_ok=True)
        return report

    async def _walk(self, each: Any, pause: Any) -> Counter[str]:
        state, words = self._state, Counter[str]()
        looked_at = state.report.seen if state.walk == 1 else 0
        while True:
            step: Names = await self._job.walk(state.cursor, BATCH, time.time())
            now = time.time()
            told = await each([self._job.bring(name, now, dry=self._dry) for name in step.names])
            words.update(told)
            looked_at += len(told)
            self._note(told, step.cursor)
            if self._tell is not None:
                self._tell(Progress(state.walk, looked_at, self._of))
            if step.cursor is None:
                return words
            await pause(len(told))

    def _note(self, told: Sequence[Word], cursor: object) -> None:
        state, report = self._state, self._state.report
        if state.walk == 1:
            report.seen += len(told)
            for word in told:
                setattr(report, word, getattr(report, word) + 1)
            if report.seen == report.unreadable == len(told) > 0:
                raise ConfigurationError(
                    f"none of the first {report.seen} sessions of FROM can be read: is it encrypted (--from-secret-env), or with"
                    " another secret? Nothing was changed"
                )
        # Redis counts in octets, which JSON has not.
        state.cursor = cursor.decode("ascii") if isinstance(cursor, bytes) else cursor
        if self._file is not None and not self._dry:
            _save(self._file, state)


def _load(file: Path | None, named: str) -> _State:
    job = hashlib.sha256(named.encode()).hexdigest()[:16]
    if file is None or not file.exists():
        return _State(job)
    try:
        state = msgspec.json.decode(file.read_bytes(), type=_State)
    except msgspec.MsgspecError as error:
        raise ConfigurationError(f"resume={str(file)!r}: this is no file of a migration ({error})") from error
    if state.job != job:
        raise ConfigurationError(
            f"resume={str(file)!r}: this is of another migration: other stores, or not --move"
        )
    return state


def _save(file: Path, state: _State) -> None:
    """Whole or not at all: a process may be killed while it writes."""
    if state.cursor is None or isinstance(state.cursor, str | int):
        text = msgspec.json.encode(state)
    else:  # of a Cluster, which names its nodes: then all is looked at again, and what is done is done
        text = msgspec.json.encode({"job": state.job})
    beside = file.with_name(file.name + ".new")
    beside.write_bytes(text)
    os.replace(beside, file)


# ---------------------------------------------------------------------------------------------------------------- the faces


def migrate(
    source: Any,
    target: Any,
    *,
    move: bool = False,
    dry_run: bool = False,
    resume: str | Path | None = None,
    rate: float | None = None,
    user_id: str | None = None,
    to_user_id: Callable[[Any], Any] | None = None,
    options: Options | None = None,
    outage: Outage | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Bring the live sessions of one store to another.

    source, target  stores, or their URLs; with `express+` before it a URL is that of a store of an Express application
    move            carry them over while requests go on; without it, copy them
    dry_run         look, and write nothing
    resume          a file to note the progress in, and to go on from
    rate            at most so many sessions a second
    user_id         from Express: where a session says who is logged in (`coatcheck.adoption.ExpressSession`)
    to_user_id      from Express: what makes the user id of what is there
    options         from Express: the options of the application that the sessions will be of
    outage          for stores that are given as URLs
    on_progress     called every few hundred sessions

    Raises ConfigurationError for what cannot be done, before anything is changed, and StoreError.
    """
    places = _Places(source, target, "blocking", outage)
    try:
        job, check = _job(
            places, move=move, dry=dry_run, user_id=user_id, to_user_id=to_user_id, options=options
        )
        run_now(check())
        of = run_now(_count(places.source))
        file = None if resume is None else Path(resume)
        walk = _Walk(job, f"{places.shown} {move}", dry=dry_run, resume=file, of=of, tell=on_progress)

        async def pause(count: int) -> None:
            if rate:
                time.sleep(count / rate)

        return run_now(walk.run(_one_by_one, pause))
    finally:
        for close in places.closing("close"):
            close()


async def migrate_async(
    source: Any,
    target: Any,
    *,
    move: bool = False,
    dry_run: bool = False,
    resume: str | Path | None = None,
    rate: float | None = None,
    user_id: str | None = None,
    to_user_id: Callable[[Any], Any] | None = None,
    options: Options | None = None,
    outage: Outage | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Report:
    """The same in an event loop, several sessions at once: see `migrate`."""
    places = _Places(source, target, "awaiting", outage)
    try:
        job, check = _job(
            places, move=move, dry=dry_run, user_id=user_id, to_user_id=to_user_id, options=options
        )
        await check()
        of = await _count(places.source)
        file = None if resume is None else Path(resume)
        walk = _Walk(job, f"{places.shown} {move}", dry=dry_run, resume=file, of=of, tell=on_progress)

        async def pause(count: int) -> None:
            await asyncio.sleep(count / rate if rate else 0)

        each = _one_by_one if isinstance(job, Adopt) else _at_once
        return await walk.run(each, pause)
    finally:
        for close in places.closing("aclose"):
            closing = close()
            if closing is not None:
                await closing


async def _count(source: Any) -> int | None:
    count = getattr(source, "count", None) or getattr(source, "length", None)
    return cast(int, await count(now=time.time())) if count is not None else None


async def _one_by_one(flows: Sequence[Coroutine[Any, Any, Word]]) -> list[Word]:
    left = list(flows)
    told: list[Word] = []
    try:
        while left:
            told.append(await left.pop(0))
    finally:
        for flow in left:
            flow.close()
    return told


async def _at_once(flows: Sequence[Coroutine[Any, Any, Word]]) -> list[Word]:
    """A few of them at a time: each worker takes the next."""
    told: list[Word] = []
    rest = iter(flows)

    async def work() -> None:
        for flow in rest:
            told.append(await flow)

    try:
        done = await asyncio.gather(*(work() for _ in range(AT_ONCE)), return_exceptions=True)
    finally:
        for flow in rest:
            flow.close()
    for outcome in done:
        if isinstance(outcome, BaseException):
            raise outcome
    return told
