"""The walk through a source: in steps, each of which is written down, so that one that was interrupted goes on where it was."""

import asyncio
import hashlib
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from math import inf
from pathlib import Path
from typing import Any, Final, cast

import msgspec
from msgspec.structs import replace

from coatcheck.core.options import Options
from coatcheck.core.outage import Outage
from coatcheck.core.stepping import run_now
from coatcheck.errors import ConfigurationError
from coatcheck.migration._jobs import Job, Names, Word
from coatcheck.migration._places import Places, job_of

__all__ = ["Progress", "Report", "migrate", "migrate_async"]

BATCH: Final = 200
AT_ONCE: Final = 16
"""How many sessions an event loop has under way: enough to keep two servers busy, and not so many that requests have to wait."""
WALKS: Final = 3
"""How often the source is walked through at most: until one walk finds nothing new."""
Each = Callable[[Sequence[Coroutine[Any, Any, Word]]], Awaitable[list[Word]]]
"""What does so many jobs: one after the other, or some at once."""


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
    """Not brought over; `why` says why."""
    unreadable: int = 0
    late: int = 0
    """Found in a later walk: begun in the source, or changed there, since this began. Somebody still uses it."""
    ended: int = 0
    """Copies that were ended in the target, since their originals had ended."""
    left: int = 0
    """Still in the source and in no target after the last walk, of those that can be read."""
    why: dict[str, int] = {}
    """The reasons of those that were refused in the last walk, and how often each was given."""
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
    found: dict[str, int] = {}
    """How often each word was said in this walk."""
    report: Report = msgspec.field(default_factory=Report)


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
        rate: float | None,
        of: int | None,
        tell: Callable[[Progress], None] | None,
    ) -> None:
        # A dry run notes nothing, and leaves alone what an interrupted one has noted.
        self._file = None if dry else resume
        self._job, self._dry, self._of, self._tell = job, dry, of, tell
        self._few = BATCH if rate is None else max(1, min(BATCH, int(rate)))
        self._state = _load(self._file, named)

    async def run(
        self,
        each: Each,
        pause: Callable[[int], Awaitable[None]],
    ) -> Report:
        state, report = self._state, self._state.report
        while True:
            await self._walk(each, pause)
            found = Counter(state.found)
            report.is_whole = state.walk > 1 and not found["done"] and not found["unreadable"]
            if self._dry or report.is_whole or state.walk == WALKS:
                break
            state.walk, state.cursor, state.found = state.walk + 1, None, {}
            await pause(self._few)
        if not self._dry:
            report.ended += await self._job.tidy(time.time())
        if self._file is not None:
            self._file.unlink(missing_ok=True)
        return report

    async def _walk(self, each: Any, pause: Any) -> None:
        state, why = self._state, getattr(self._job, "why", {})
        why.clear()
        if state.cursor is not None:
            why.update(state.report.why)
        while True:
            step: Names = await self._job.walk(state.cursor, self._few, time.time())
            told = await self._bring(step.names, each, pause)
            self._note(told, step.cursor)
            if self._tell is not None:
                self._tell(Progress(state.walk, sum(state.found.values()), self._of))
            if step.cursor is None:
                return
            await pause(min(len(told), self._few))

    async def _bring(self, names: Sequence[str], each: Any, pause: Any) -> list[Word]:
        """A few at a time: a store may name more at once than it was asked for."""
        told: list[Word] = []
        for start in range(0, len(names), self._few):
            if start:
                await pause(self._few)
            now = time.time()
            few = names[start : start + self._few]
            told += await each([self._job.bring(name, now, dry=self._dry) for name in few])
        return told

    def _note(self, told: Sequence[Word], cursor: object) -> None:
        state, report = self._state, self._state.report
        state.found = found = Counter(state.found) + Counter(told)
        report.why = dict(getattr(self._job, "why", {}))
        if state.walk > 1:
            report.late += told.count("done")
            report.left = found["differs"] + found["refused"]
        else:
            report.seen += len(told)
            for word in told:
                setattr(report, word, getattr(report, word) + 1)
            is_sealed = 0 < report.seen == report.unreadable
            if is_sealed and (cursor is None or report.seen >= BATCH):
                raise ConfigurationError(
                    f"none of the first {report.seen} sessions of FROM can be read: is it encrypted (--from-secret-env), or with"
                    " another secret? Nothing was changed"
                )
        # Redis counts in octets, which JSON has not.
        state.cursor = cursor.decode("ascii") if isinstance(cursor, bytes) else cursor
        if (
            self._file is not None and report.seen > report.unreadable
        ):  # else it may begin anew, with another secret
            # The next walk, when this one is over: begun again, it would count all sessions once more.
            if state.cursor is None:
                state = replace(state, walk=min(state.walk + 1, WALKS), found={})
            _save(self._file, state)


def _load(file: Path | None, named: str) -> _State:
    job = hashlib.sha256(named.encode()).hexdigest()[:16]
    if file is None:
        return _State(job)
    try:
        state = msgspec.json.decode(file.read_bytes(), type=_State)
    except FileNotFoundError:
        state = _State(job)
        _save(file, state)  # what cannot be written is said before anything is changed
    except OSError as error:
        raise ConfigurationError(f"resume={str(file)!r}: it cannot be read ({error.strerror})") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
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
    try:
        beside.unlink(missing_ok=True)
        # For nobody else to read: where the walk is may be the id of a session.
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as written:
            written.write(text)
        os.replace(beside, file)
    except OSError as error:
        raise ConfigurationError(f"resume={str(file)!r}: it cannot be written ({error.strerror})") from error


async def _prepared(
    places: Places,
    *,
    move: bool,
    dry: bool,
    resume: str | Path | None,
    rate: float | None,
    user_id: str | None,
    to_user_id: Callable[[Any], Any] | None,
    options: Options | None,
    tell: Callable[[Progress], None] | None,
) -> _Walk:
    """The walk, once it is known that it can be gone."""
    job, check = job_of(places, move=move, dry=dry, user_id=user_id, to_user_id=to_user_id, options=options)
    await check()
    of = await _count(places.source)
    file = None if resume is None else Path(resume)
    return _Walk(job, f"{places.shown} {move}", dry=dry, resume=file, rate=rate, of=of, tell=tell)


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
    _checked(rate)
    places = Places(source, target, "blocking", outage)
    try:

        async def pause(count: int) -> None:
            if rate:
                time.sleep(count / rate)

        walk = _prepared(
            places, move=move, dry=dry_run, resume=resume, rate=rate, user_id=user_id, to_user_id=to_user_id,
            options=options, tell=on_progress,
        )  # fmt: skip
        return run_now(run_now(walk).run(_one_by_one, pause))
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
    _checked(rate)
    places = Places(source, target, "awaiting", outage)
    try:

        async def pause(count: int) -> None:
            await asyncio.sleep(count / rate if rate else 0)

        walk = _prepared(
            places, move=move, dry=dry_run, resume=resume, rate=rate, user_id=user_id, to_user_id=to_user_id,
            options=options, tell=on_progress,
        )  # fmt: skip
        return await (await walk).run(_at_once, pause)
    finally:
        for close in places.closing("aclose"):
            closing = close()
            if closing is not None:
                await closing


def _checked(rate: object) -> None:
    if rate is not None and (type(rate) not in (int, float) or not 0 < cast(float, rate) < inf):
        raise ConfigurationError(f"rate={rate!r}: give so many sessions a second, more than 0")


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
