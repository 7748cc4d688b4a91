"""Does the cost grow with the number of sessions stored? ``python -m bench.scale``, or ``make scale``.

For each size (10^3, 10^4, 10^5 sessions; ``--full``: 10^6 too) a store is filled by that many logins, five to a user, each store
of each size on a server of its own. Four things are timed on sessions drawn at random: load, commit (load, then replace),
list-by-user and the end of one session; of each the median and the 99th percentile. Rounds go from size to size, so that a busy
neighbour is in all columns alike; a ratio is taken within a round, and the table has the medians. The promise is that no cost
grows: a verb that passes ``TOLERANCE`` is FAILED.

For stores in this process the time is its CPU time, the kernel's work on the file included, waiting for the disk not. For stores
with a server it is the time until the answer is there, over one connection, one call after the other.

Besides: octets a session, how long the filling took, and how fast expired sessions are swept. Results go to ``bench/scale.json``;
``--docs`` puts them into the documentation too.
"""

import argparse
import asyncio
import json
import math
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from bench import scale_docs
from bench.machine import machine, versions
from bench.progress import bar
from bench.sites import STORES, Kind, Site, Stored
from coatcheck.core.ports import SAVED, TOMBSTONE, Terms
from coatcheck.core.record import VERSIONS_KEPT, Login, Record

RESULTS = Path(__file__).resolve().parent / "scale.json"
SIZES = (1_000, 10_000, 100_000)
FULL = (*SIZES, 1_000_000)
SESSIONS_A_USER = 5
VERBS = ("load", "commit", "list by user", "end")
TOLERANCE = {"p50": 3.0, "p99": 5.0}
"""Of the cost at the smallest size. A thousand times the sessions make a B-tree one or two levels deeper, and neither it nor
the objects of a dict fit the processor's cache any more; a cost that grew with their number, or its root, would be far beyond."""
ROUNDS = 9
BATCH = 1_000
"""Calls: so many that SQLite's log is moved into the file about once meanwhile, which is then in the mean."""
AT_ONCE = 64
"""Logins under way while a store is filled."""
SWEPT = 10_000
SPREAD = 0x9E3779B97F4A7C15F39CC0605CEDC835  # odd, so that no two numbers below 2**96 share a key
NOW = 1_800_000_000.0
LATER = NOW + TOMBSTONE + 1.0
"""When an ended session is forgotten, so that it can be logged in again."""
DAY = 86_400.0
DATA = b'{"user":"7d1f2c4e","n":0,"cart":[{"sku":"a-1","n":1},{"sku":"b-2","n":2}],"theme":"dark"}'
LOGIN = Login("pwd", False, "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101", "192.0.2.1")
OLDER = tuple(f"older-{n:010}" for n in range(VERSIONS_KEPT - 1))
"""What a session that has been written to often remembers, as long as real ones."""


@dataclass(frozen=True)
class Took:
    """Microseconds of a call: in the middle, and what one in a hundred exceeds."""

    p50: float
    p99: float


Rounds = list[dict[int, dict[str, Took]]]
"""Round after round: size -> verb -> microseconds a call."""


@dataclass
class Measured:
    """Everything about one store; dicts are by size."""

    clock: str
    rounds: Rounds = field(default_factory=list)
    octets: dict[int, dict[str, float]] = field(default_factory=dict)
    fill_seconds: dict[int, float] = field(default_factory=dict)
    swept_a_second: dict[int, float] = field(default_factory=dict)
    walks: bool = False


def key_of(number: int) -> str:
    """Return the locator of session ``number``: spread like a random one, and cheap, since its making is timed too."""
    return f"{(number + 1) * SPREAD % 2**96:024x}"


def version(number: int) -> str:
    """Return the version that a session has after so many writes, as long as a random one."""
    return f"{number:016}"


def user_of(number: int) -> str:
    """Return whose session ``number`` is."""
    return f"user-{number // SESSIONS_A_USER}"


def record(number: int) -> Record:
    """Return session ``number`` as it is stored, logged in, and as large as if it had been written to often."""
    return Record(
        key=key_of(number),
        versions=(version(0), *OLDER),
        verifier=bytes(32),
        data=DATA,
        created_at=NOW,
        seen_at=NOW,
        deadline=NOW + DAY,
        ends_at=NOW + 30 * DAY,
        user_id=user_of(number),
        authenticated_at=NOW,
        login=LOGIN,
    )


async def log_in(store: Stored, number: int, *, now: float = NOW) -> None:
    """Store one session as a real login does it, so that the index is as a store builds it."""
    outcome = await store.admit(record(number), expected=None, terms=Terms(), now=now)
    require(outcome is SAVED, f"login of session {number}: {outcome}")


async def fill(store: Stored, numbers: Iterable[int], *, now: float = NOW) -> None:
    """Log sessions in, so many at once as a server likes."""
    await together(lambda number: log_in(store, number, now=now), numbers)


async def together(act: Callable[[int], Awaitable[None]], numbers: Iterable[int]) -> None:
    """Do something for each number, ``AT_ONCE`` at a time. A store that blocks does one after the other."""
    left = iter(numbers)

    async def one_of_many() -> None:
        for number in left:
            await act(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one_of_many())


async def load(store: Stored, number: int) -> None:
    """Load one session."""
    found = await store.load(key_of(number), now=NOW)
    require(isinstance(found, Record), f"load of session {number}: {found!r}")


async def commit(store: Stored, number: int) -> None:
    """Load one session and write it back, as a request that changes it does."""
    found = await store.load(key_of(number), now=NOW)
    assert isinstance(found, Record)
    kept = (version(int(found.version) + 1), *found.versions[: VERSIONS_KEPT - 1])
    changed = msgspec.structs.replace(found, versions=kept)
    outcome = await store.replace(changed, expected=found.version, now=NOW)
    require(outcome is SAVED, f"commit of session {number}: {outcome}")


async def list_by_user(store: Stored, number: int) -> None:
    """List the sessions of one user."""
    page = await store.of_user(user_of(number), now=NOW)
    require(len(page.records) == SESSIONS_A_USER, f"user of session {number} has {len(page.records)}")


async def end(store: Stored, number: int) -> None:
    """End one session of a user."""
    ended = await store.end_one(user_of(number), key_of(number), now=NOW, token=f"end-{number}")
    require(ended, f"session {number} was not there to end")


def require(happened: bool, otherwise: str) -> None:
    """Refuse to time what did not do its work."""
    if not happened:
        raise RuntimeError(otherwise)


async def timed(
    verb: Callable[[Stored, int], Awaitable[None]],
    store: Stored,
    numbers: Sequence[int],
    clock: Callable[[], float],
) -> Took:
    """Return the microseconds of one call, for each of these."""
    took = []
    for number in numbers:
        before = clock()
        await verb(store, number)
        took.append(clock() - before)
    took.sort()
    return Took(median(took) * 1e6, took[math.ceil(len(took) * 0.99) - 1] * 1e6)


async def a_round(
    store: Stored, size: int, batch: int, chance: random.Random, clock: Callable[[], float]
) -> dict[str, Took]:
    """Time each verb once, on a batch of the ``size`` sessions there are. Those ended are logged in again, untimed."""
    ended = chance.sample(range(size), min(batch, size // 2))
    took = {
        name: await timed(verb, store, chance.choices(range(size), k=batch), clock)
        for name, verb in (("load", load), ("commit", commit), ("list by user", list_by_user))
    }
    took["end"] = await timed(end, store, ended, clock)
    for number in ended:
        await log_in(store, number, now=LATER)
    return took


async def rounds_of(
    stores: dict[int, Stored],
    *,
    batch: int = BATCH,
    clock: Callable[[], float] = time.process_time,
    label: str = "",
) -> Rounds:
    """Time each verb on each store, which holds as many sessions as its key says: round after round, size after size."""
    chance = random.Random(1)
    turns = range(ROUNDS)
    return [
        {size: await a_round(store, size, batch, chance, clock) for size, store in stores.items()}
        for _ in (bar(turns, ROUNDS, label) if label else turns)
    ]


async def sweep(store: Stored, size: int) -> float:
    """Return how many expired sessions a second are swept out of ``size`` others, by a store that many can ask at once."""
    count = min(size, SWEPT)

    async def store_one(number: int) -> None:
        # Nobody's, and past its deadline a second later.
        expiring = msgspec.structs.replace(
            record(size + number), user_id=None, authenticated_at=None, login=None, deadline=NOW + 1.0
        )
        outcome = await store.create(expiring, now=NOW)
        require(outcome is SAVED, f"session {number}, to be swept: {outcome}")

    await together(store_one, range(count))
    began = time.perf_counter()
    swept = await store.sweep(now=NOW + 2.0, limit=count)
    took = time.perf_counter() - began
    require(swept == count, f"swept {swept} of {count}")
    return count / took


def cost(rounds: Rounds, verb: str, size: int, which: str = "p50") -> float:
    """Return the microseconds of one call at this size."""
    return median(getattr(costs[size][verb], which) for costs in rounds)


def growth(rounds: Rounds, verb: str, size: int, which: str = "p50") -> float:
    """Return what the verb costs at this size, as a multiple of its cost at the smallest."""
    return median(
        getattr(costs[size][verb], which) / getattr(costs[min(costs)][verb], which) for costs in rounds
    )


def failures(name: str, rounds: Rounds) -> list[str]:
    """Return a line for each verb that grew beyond the tolerance, at its worst size."""
    sizes = list(rounds[0])
    worst = {
        (verb, which): max((growth(rounds, verb, size, which), size) for size in sizes)
        for verb in VERBS
        for which in TOLERANCE
    }
    return [
        f"{name}: FAILED, {verb} ({which}) costs {ratio:.1f} times as much with {size:,} sessions stored as with"
        f" {min(sizes):,}; the limit is {TOLERANCE[which]:g}"
        for (verb, which), (ratio, size) in worst.items()
        if ratio > TOLERANCE[which]
    ]


def table(name: str, found: Measured) -> str:
    """Return one store's figures as text: a line a verb with each size's cost beside its ratio to the smallest, then the rest."""
    sizes = list(found.rounds[0])
    lines = [f"{f'{name}, us of {found.clock}':<28}" + "".join(f"{size:>20,}" for size in sizes)]
    for verb in VERBS:
        for which in TOLERANCE:
            cells = (
                f"{cost(found.rounds, verb, size, which):>12.1f}{growth(found.rounds, verb, size, which):>7.2f}x"
                for size in sizes
            )
            lines.append(f"{f'{verb} {which}':<28}" + "".join(cells))
    for kind in found.octets.get(min(sizes), {}):
        lines.append(plain(f"octets: {kind}", (found.octets[size][kind] for size in sizes)))
    lines.append(plain("filled, logins a second", (size / found.fill_seconds[size] for size in sizes)))
    lines.append(plain("swept, rows a second", (found.swept_a_second[size] for size in sizes)))
    return "\n".join(lines)


def plain(name: str, values: Iterable[float]) -> str:
    """Return a line of whole numbers."""
    return f"{name:<28}" + "".join(f"{value:>12,.0f}{'':8}" for value in values)


def as_json(found: Measured) -> dict[str, Any]:
    """Return what is written down of one store."""
    sizes = list(found.rounds[0])
    return {
        "clock": found.clock,
        "sweep_walks": found.walks,
        "sizes": {
            str(size): {
                "octets": {kind: round(octets, 1) for kind, octets in found.octets[size].items()},
                "fill_seconds": round(found.fill_seconds[size], 2),
                "swept_a_second": round(found.swept_a_second[size]),
                "us": {
                    verb: {which: round(cost(found.rounds, verb, size, which), 2) for which in TOLERANCE}
                    for verb in VERBS
                },
                "growth": {
                    verb: {which: round(growth(found.rounds, verb, size, which), 3) for which in TOLERANCE}
                    for verb in VERBS
                },
            }
            for size in sizes
        },
    }


async def measured(name: str, kind: Kind, sizes: Sequence[int], directory: Path) -> Measured:
    """Fill a store of this kind to each size, and time it."""
    found = Measured("CPU time" if kind.clock is time.process_time else "wall clock", walks=kind.walks)
    with ExitStack() as stack:
        sites: dict[int, Site] = {}
        for size in sizes:
            site = sites[size] = stack.enter_context(kind.opened(directory / str(size), 2 * size + SWEPT))
            began = time.perf_counter()
            async with site.filling() as filling:
                await fill(filling, bar(range(size), size, f"{name}: {size:,} logins"))
            found.fill_seconds[size] = time.perf_counter() - began
            found.octets[size] = site.octets(size)
            site.settle()
        stores = {size: site.store for size, site in sites.items()}
        found.rounds = await rounds_of(stores, clock=kind.clock, label=f"{name}: {ROUNDS} rounds")
        for size, site in sites.items():
            async with site.filling() as filling:
                found.swept_a_second[size] = await sweep(filling, size)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Measure each store at each size; return 1 when a cost grew."""
    reader = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    reader.add_argument("--only", choices=STORES, action="append", help="one store; may be given again")
    reader.add_argument(
        "--full", action="store_true", help=f"up to {FULL[-1]:,} sessions: a quarter of an hour"
    )
    reader.add_argument("--docs", action="store_true", help="also write docs/stores/scale.md and its plot")
    options = reader.parse_args(arguments)
    results: dict[str, Any] = {"machine": machine(), "versions": versions(), "stores": {}}
    grown: list[str] = []
    for name in options.only or STORES:
        with tempfile.TemporaryDirectory(prefix="coatcheck-scale-") as directory:
            sizes = FULL if options.full else SIZES
            found = asyncio.run(measured(name, STORES[name], sizes, Path(directory)))
        print(table(name, found) + "\n", flush=True)
        grown += failures(name, found.rounds)
        results["stores"][name] = as_json(found)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    if options.docs:
        scale_docs.write(results)
    print("\n".join(grown) or f"nothing grew beyond its limit: {limits()}")
    return 1 if grown else 0


def limits() -> str:
    """Return the tolerance in words."""
    return ", ".join(f"{which} {ratio:g} times what it was at first" for which, ratio in TOLERANCE.items())


if __name__ == "__main__":
    sys.exit(main())
