"""Does the cost grow with the number of sessions stored? ``python -m bench.scale``.

One store is filled to 10^3, 10^4, 10^5 and 10^6 sessions, five to a user, and at each size four things are timed:
load, commit (load, then replace), list-by-user and revoke. The promise is that each is flat.
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

from coatcheck.core.ports import SAVED, ByUser, Store, Terms
from coatcheck.core.record import Record

SIZES = (1_000, 10_000, 100_000, 1_000_000)
SESSIONS_A_USER = 5
VERBS = ("load", "commit", "list by user", "revoke")
BATCHES, BATCH = 40, 25
SPREAD = 0x9E3779B97F4A7C15F39CC0605CEDC835  # odd, so that no two numbers below 2**128 share a key
SPARE = 10_000_000  # numbers from here on are sessions beside the counted ones
NOW = 1_800_000_000.0
DAY = 86_400.0
DATA = b'{"user":"7d1f2c4e","n":0,"cart":[{"sku":"a-1","n":1},{"sku":"b-2","n":2}],"theme":"dark"}'


class Stored(Store, ByUser, Protocol):
    """A store with the ability this asks for."""


class Unavailable(Exception):
    """The store cannot be measured here; the message says why."""


def memory(directory: Path, capacity: int) -> Stored:
    """Return an empty memory store with room for ``capacity`` sessions."""
    raise Unavailable("to be joined up with coatcheck.stores.memory")


def sqlite(directory: Path, capacity: int) -> Stored:
    """Return a new SQLite store, blocking, in ``directory``."""
    raise Unavailable("to be joined up with coatcheck.stores.sqlite")


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


async def fill(store: Stored, numbers: Iterable[int]) -> None:
    """Log sessions in, as real logins do it, so that the index is as a store builds it."""
    for number in numbers:
        outcome = await store.admit(record(number), expected=None, terms=Terms(), now=NOW)
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
    """Return the microseconds of one call: the median over batches, so that a neighbour's burst does not count."""
    took = []
    for start in range(0, len(numbers), BATCH):
        batch = numbers[start : start + BATCH]
        before = time.perf_counter()
        for number in batch:
            await verb(store, number)
        took.append((time.perf_counter() - before) * 1e6 / len(batch))
    return median(took)


async def at_size(store: Stored, size: int, chance: random.Random) -> dict[str, float]:
    """Time each verb on sessions drawn from the ``size`` there are; those revoked are logged in for it, extra."""
    picked = chance.sample(range(size), min(size, BATCHES * BATCH))
    result = {
        "load": await timed(load, store, picked),
        "commit": await timed(commit, store, picked),
        "list by user": await timed(list_by_user, store, picked),
    }
    spare = range(SPARE + size, SPARE + size + BATCHES * BATCH)
    await fill(store, spare)
    result["revoke"] = await timed(revoke, store, spare)
    return result


async def grow(
    store: Stored, sizes: Sequence[int], say: Callable[[str], None]
) -> dict[int, dict[str, float]]:
    """Fill one store to each size in turn and time it there."""
    chance = random.Random(1)
    result: dict[int, dict[str, float]] = {}
    stored = 0
    for size in sizes:
        await fill(store, range(stored, size))
        stored = size
        result[size] = await at_size(store, size, chance)
        say(f"{size:,} sessions stored")
    return result


def growth(costs: dict[int, dict[str, float]], verb: str) -> float:
    """Return what the verb costs at the largest size, as a multiple of its cost at the smallest."""
    return costs[max(costs)][verb] / costs[min(costs)][verb]


def table(name: str, costs: dict[int, dict[str, float]]) -> str:
    """Return one store's costs in microseconds as text, a line a verb."""
    lines = [f"{name + ', us':<16}" + "".join(f"{size:>12,}" for size in costs) + f"{'growth':>10}"]
    for verb in VERBS:
        cells = "".join(f"{costs[size][verb]:>12.1f}" for size in costs)
        lines.append(f"{verb:<16}{cells}{growth(costs, verb):>9.2f}x")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure each store at each size; return 1 when one could not be measured."""
    reader = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    reader.add_argument("--only", choices=STORES, help="one store")
    reader.add_argument("--largest", type=int, default=SIZES[-1], help="sessions, default %(default)s")
    options = reader.parse_args(arguments)
    sizes = [size for size in SIZES if size <= options.largest] or [SIZES[0]]
    failed = False
    for name in [options.only] if options.only else STORES:
        with tempfile.TemporaryDirectory(prefix="coatcheck-scale-") as directory:
            try:
                store = STORES[name](Path(directory), 2 * sizes[-1] + 10_000)
                costs = asyncio.run(grow(store, sizes, lambda line: print(line, file=sys.stderr, flush=True)))
                print(table(name, costs) + "\n", flush=True)
            except Unavailable as why:
                print(f"{name}: FAILED, {why}", flush=True)
                failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
