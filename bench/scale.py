"""Does the cost grow with the number of sessions stored? ``python -m bench.scale``, or ``make scale``.

For each size (10^3, 10^4, 10^5 sessions; ``--full``: 10^6 too) a store is filled by that many logins, five to a user. Four
things are timed on sessions drawn at random: load, commit (load, then replace), list-by-user and revoke. Rounds go from size
to size, so that a busy neighbour is in all columns alike; a ratio is taken within a round, and the table has the medians.
The promise is that no cost grows: a verb that passes ``TOLERANCE`` is FAILED.

The time is the process's CPU time, the kernel's work on the file included, waiting for the disk not.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Protocol

from coatcheck.core.ports import SAVED, TOMBSTONE, ByUser, Store, Terms
from coatcheck.core.record import Record
from coatcheck.stores.memory import MemoryStore
from coatcheck.stores.sqlite import SQLiteStore

SIZES = (1_000, 10_000, 100_000)
FULL = (*SIZES, 1_000_000)
SESSIONS_A_USER = 5
VERBS = ("load", "commit", "list by user", "revoke")
TOLERANCE = 3.0
"""Of the cost at the smallest size. A thousand times the sessions make a B-tree one or two levels deeper, and neither it nor
the objects of a dict fit the processor's cache any more; a cost that grew with their number, or its root, would be far beyond."""
ROUNDS = 9
BATCH = 1_000
"""Calls: so many that SQLite's log is moved into the file about once meanwhile, which is then in the mean."""
SPREAD = 0x9E3779B97F4A7C15F39CC0605CEDC835  # odd, so that no two numbers below 2**128 share a key
NOW = 1_800_000_000.0
LATER = NOW + TOMBSTONE + 1.0
"""When a revoked session is forgotten, so that it can be logged in again."""
DAY = 86_400.0
DATA = b'{"user":"7d1f2c4e","n":0,"cart":[{"sku":"a-1","n":1},{"sku":"b-2","n":2}],"theme":"dark"}'


Rounds = list[dict[int, dict[str, float]]]
"""Round after round: size -> verb -> microseconds a call."""


class Stored(Store, ByUser, Protocol):
    """A store with the ability this asks for."""


def memory(place: Path, capacity: int) -> Stored:
    """Return an empty memory store with room for ``capacity`` sessions."""
    return MemoryStore(max_sessions=capacity).blocking()


def sqlite(place: Path, capacity: int) -> Stored:
    """Return a new SQLite store at ``place``, blocking: nothing but the file is timed, checkpoints included."""
    return SQLiteStore(place).blocking()


# One line a store; its methods are awaited, and may as well never suspend.
STORES: dict[str, Callable[[Path, int], Stored]] = {"memory": memory, "sqlite": sqlite}


def key_of(number: int) -> str:
    """Return the locator of session ``number``: spread like a random one, and cheap, since its making is timed too."""
    return f"{(number + 1) * SPREAD % 2**128:032x}"


def user_of(number: int) -> str:
    """Return whose session ``number`` is."""
    return f"user-{number // SESSIONS_A_USER}"


def record(number: int, version: str = "v0") -> Record:
    """Return session ``number`` as it is stored, logged in."""
    return Record(
        key=key_of(number),
        versions=(version,),
        verifier=bytes(32),
        data=DATA,
        created_at=NOW,
        seen_at=NOW,
        deadline=NOW + DAY,
        ends_at=NOW + 30 * DAY,
        user_id=user_of(number),
        authenticated_at=NOW,
    )


async def fill(store: Stored, numbers: Iterable[int], *, now: float = NOW) -> None:
    """Log sessions in, as real logins do it, so that the index is as a store builds it."""
    for number in numbers:
        outcome = await store.admit(record(number), expected=None, terms=Terms(), now=now)
        require(outcome is SAVED, f"login of session {number}: {outcome}")


async def load(store: Stored, number: int) -> None:
    """Load one session."""
    found = await store.load(key_of(number), now=NOW)
    require(isinstance(found, Record), f"load of session {number}: {found!r}")


async def commit(store: Stored, number: int) -> None:
    """Load one session and write it back, as a request that changes it does."""
    found = await store.load(key_of(number), now=NOW)
    assert isinstance(found, Record)
    changed = record(number, f"v{int(found.version[1:]) + 1}")
    outcome = await store.replace(changed, expected=found.version, now=NOW)
    require(outcome is SAVED, f"commit of session {number}: {outcome}")


async def list_by_user(store: Stored, number: int) -> None:
    """List the sessions of one user."""
    page = await store.of_user(user_of(number), now=NOW)
    require(len(page.records) == SESSIONS_A_USER, f"user of session {number} has {len(page.records)}")


async def revoke(store: Stored, number: int) -> None:
    """End one session of a user."""
    ended = await store.end_one(user_of(number), key_of(number), now=NOW, token=f"end-{number}")
    require(ended, f"session {number} was not there to end")


def require(happened: bool, otherwise: str) -> None:
    """Refuse to time what did not do its work."""
    if not happened:
        raise RuntimeError(otherwise)


async def timed(
    verb: Callable[[Stored, int], Awaitable[None]], store: Stored, numbers: Sequence[int]
) -> float:
    """Return the microseconds of one call, a mean over all of these."""
    before = time.process_time()
    for number in numbers:
        await verb(store, number)
    return (time.process_time() - before) * 1e6 / len(numbers)


async def a_round(store: Stored, size: int, batch: int, chance: random.Random) -> dict[str, float]:
    """Time each verb once, on a batch of the ``size`` sessions there are. Those revoked are logged in again, untimed."""
    ended = chance.sample(range(size), min(batch, size // 2))
    took = {
        name: await timed(verb, store, chance.choices(range(size), k=batch))
        for name, verb in (("load", load), ("commit", commit), ("list by user", list_by_user))
    }
    took["revoke"] = await timed(revoke, store, ended)
    await fill(store, ended, now=LATER)
    return took


async def rounds_of(stores: dict[int, Stored], *, batch: int = BATCH) -> Rounds:
    """Time each verb on each store, which holds as many sessions as its key says: round after round, size after size."""
    chance = random.Random(1)
    return [
        {size: await a_round(store, size, batch, chance) for size, store in stores.items()}
        for _ in range(ROUNDS)
    ]


def cost(rounds: Rounds, verb: str, size: int) -> float:
    """Return the microseconds of one call at this size."""
    return median(costs[size][verb] for costs in rounds)


def growth(rounds: Rounds, verb: str, size: int) -> float:
    """Return what the verb costs at this size, as a multiple of its cost at the smallest."""
    return median(costs[size][verb] / costs[min(costs)][verb] for costs in rounds)


def failures(name: str, rounds: Rounds) -> list[str]:
    """Return a line for each verb that grew beyond the tolerance, at its worst size."""
    sizes = list(rounds[0])
    worst = {verb: max((growth(rounds, verb, size), size) for size in sizes) for verb in VERBS}
    return [
        f"{name}: FAILED, {verb} costs {ratio:.1f} times as much with {size:,} sessions stored as with {min(sizes):,};"
        f" the limit is {TOLERANCE:g}"
        for verb, (ratio, size) in worst.items()
        if ratio > TOLERANCE
    ]


def table(name: str, rounds: Rounds) -> str:
    """Return one store's costs in microseconds as text, a line a verb, each beside its ratio to the smallest size."""
    sizes = list(rounds[0])
    lines = [f"{name + ', us':<16}" + "".join(f"{size:>18,}" for size in sizes)]
    for verb in VERBS:
        cells = (f"{cost(rounds, verb, size):>10.1f}{growth(rounds, verb, size):>7.2f}x" for size in sizes)
        lines.append(f"{verb:<16}" + "".join(cells))
    return "\n".join(lines)


async def measured(name: str, sizes: Sequence[int], directory: Path) -> Rounds:
    """Fill a store of this name to each size, and time them."""
    stores = {}
    for size in sizes:
        stores[size] = STORES[name](directory / str(size), 2 * size)
        await fill(stores[size], range(size))
        print(f"  {name}: {size:,} sessions stored", file=sys.stderr)
    return await rounds_of(stores)


def main(arguments: list[str] | None = None) -> int:
    """Measure each store at each size; return 1 when a cost grew."""
    reader = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    reader.add_argument("--only", choices=STORES, help="one store")
    reader.add_argument("--full", action="store_true", help=f"up to {FULL[-1]:,} sessions: some minutes")
    options = reader.parse_args(arguments)
    grown: list[str] = []
    for name in [options.only] if options.only else STORES:
        with tempfile.TemporaryDirectory(prefix="coatcheck-scale-") as directory:
            rounds = asyncio.run(measured(name, FULL if options.full else SIZES, Path(directory)))
        print(table(name, rounds) + "\n", flush=True)
        grown += failures(name, rounds)
    print("\n".join(grown) or f"nothing costs more than {TOLERANCE:g} times what it did at first")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
