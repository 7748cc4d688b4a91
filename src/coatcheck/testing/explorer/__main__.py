"""`python -m coatcheck.testing.explorer`: every order of two and three requests over a store; how many, how long.

    --store memory        what to go over (the default)
    --store sqlite        SQLite's own file
    --store redis-model   Redis, with a model of its scripts in place of a server
    --store redis://…     a real Redis or Valkey; also postgresql://… and mongodb://…. What is written there is deleted at the end
    --store module:make   your own: a `MakeStore` (see docs/testing.md)
    --only pairs          or: happenings, triples; more than one, separated by commas. All of them are the default
    --every 20            a sample: one of so many scenarios. --quick: pairs, and one in 20 of the rest
    --seed 7              which ones: others than with another seed

Exits with 1 if a rule was broken, after showing the shortest schedules.
"""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from random import Random
from typing import Final

from coatcheck.errors import UsageError
from coatcheck.testing.explorer.scenarios import HAPPENINGS, pairs, triples
from coatcheck.testing.explorer.scheduler import Report, survey
from coatcheck.testing.explorer.world import MakeStore, Scenario, World, memory

__all__ = ["main", "opened", "run", "sample"]

SAMPLE = 20
WHAT: Final = ("pairs", "happenings", "triples")


def run(name: str, scenarios: Iterable[Scenario], make: MakeStore = memory) -> Report:
    """Explore these scenarios and print what came of it."""
    began = time.perf_counter()
    report = survey(World(make), scenarios)
    took = time.perf_counter() - began
    print(
        f"{name}: {report.scenarios:,} scenarios, {report.schedules:,} schedules, {report.worlds:,} worlds, {took:.1f} s, "
        f"{len(report.violations)} violations",
        flush=True,
    )
    for violation in report.violations:
        print(violation, flush=True)
    return report


def sample(
    scenarios: Iterator[Scenario], *, every: int = SAMPLE, seed: int | None = None
) -> Iterator[Scenario]:
    """One scenario in so many: always the same ones, or with a seed those that it draws."""
    if seed is None:
        return (scenario for number, scenario in enumerate(scenarios) if number % every == 0)
    chance = Random(seed)
    return (scenario for scenario in scenarios if chance.randrange(every) == 0)


def opened(store: str) -> AbstractContextManager[MakeStore]:
    """What `--store` names, for the length of a `with` block. Raises UsageError, ImportError and what the store raises."""
    # Each where it is needed: the others' drivers need not be installed.
    scheme = store.partition(":")[0].lower()
    if store == "memory":
        return nullcontext(memory)
    if store == "sqlite":
        from coatcheck.testing.explorer.sqlite import sqlite

        return sqlite()
    if store == "redis-model":
        from coatcheck.testing.explorer.redis import model

        return nullcontext(model)
    if scheme in ("redis", "rediss", "valkey", "valkeys", "unix"):
        from coatcheck.testing.explorer.redis_server import redis

        return redis(store)
    if scheme in ("postgresql", "postgres"):
        from coatcheck.testing.explorer.postgres import postgres

        return postgres(store)
    if scheme in ("mongodb", "mongodb+srv"):
        from coatcheck.testing.explorer.mongo import mongo

        return mongo(store)
    return _imported(store)


def _imported(store: str) -> AbstractContextManager[MakeStore]:
    module, colon, name = store.partition(":")
    if not colon:
        raise UsageError(
            f"--store {store}: give memory, sqlite, redis-model, the URL of a server, or module:make"
        )
    found = getattr(import_module(module), name)
    return found if hasattr(found, "__enter__") else nullcontext(found)


def main(words: Sequence[str]) -> int:
    """Explore; the exit status."""
    asked = _read(words)
    every = asked.every or (SAMPLE if asked.quick else 1)
    only = asked.only.split(",")
    if unknown := set(only) - set(WHAT):
        raise UsageError(f"--only {','.join(sorted(unknown))}: give some of {', '.join(WHAT)}")
    with opened(asked.store) as make:
        reports = list(_reports(make, only, every, asked.seed, quick=asked.quick))
    return int(any(report.violations for report in reports))


def _read(words: Sequence[str]) -> argparse.Namespace:
    reader = argparse.ArgumentParser(
        "python -m coatcheck.testing.explorer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    reader.add_argument("--store", default="memory")
    reader.add_argument("--only", default=",".join(WHAT))
    reader.add_argument("--every", type=int)
    reader.add_argument("--seed", type=int)
    reader.add_argument("--quick", action="store_true")
    return reader.parse_args(words)


def _reports(
    make: MakeStore, only: Sequence[str], every: int, seed: int | None, *, quick: bool
) -> Iterator[Report]:
    if "pairs" in only:
        yield run("pairs", sample(pairs(((),)), every=1 if quick else every, seed=seed), make)
    if "happenings" in only:
        for happening in HAPPENINGS:
            name = " and ".join(map(str, happening))
            yield run(f"pairs with {name}", sample(pairs((happening,)), every=every, seed=seed), make)
    if "triples" in only:
        yield run("triples", sample(triples(), every=every, seed=seed), make)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
