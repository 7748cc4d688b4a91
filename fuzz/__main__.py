"""Run every fuzz target for its share of the time; print the seed first, what was found last.

A quarter of the time is for cases made at random, the rest for octets that atheris steers by what code they reach. Before that:
that each reader takes time in proportion to its input.
"""

import argparse
import random
import secrets
import sys
import time
import traceback
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Protocol, cast

from fuzz import cookies, guided, linear, requests, sealed, stored
from fuzz.octets import OCTETS

BATCH = 500  # cases between two looks at the clock
MADE_SHARE = 0.25


class Target(Protocol):
    def generate(self, rng: random.Random) -> Any: ...
    def check(self, case: Any) -> None: ...


TARGETS: dict[str, Target] = {
    "cookies": cast(Target, cookies),
    "requests": cast(Target, requests),
    "sealed": cast(Target, sealed),
    "stored": cast(Target, stored),
}


def run(target: Target, rng: random.Random, seconds: float) -> int:
    """Check cases until `seconds` are over and return how many; print and raise the first that breaks a promise."""
    end = time.monotonic() + seconds
    done = 0
    while time.monotonic() < end:
        for _ in range(BATCH):
            case = target.generate(rng)
            try:
                target.check(case)
            except Exception:
                print(f"case {done}: {case!r}", file=sys.stderr)
                raise
            done += 1
    return done


def main() -> int:
    """Return 0 if every promise held, 1 at the first that did not."""
    options = _arguments()
    seed = secrets.randbits(31) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    made = [name for name in TARGETS if options.only in (None, name)]
    octets = [name for name in OCTETS if options.only in (None, name)]
    if octets and not guided.available():
        print("atheris is not installed here: octets are left out (pip install atheris)")
        octets = []
    share = MADE_SHARE if made and octets else 1.0
    return (
        _linear(octets)
        or _made(made, seed, options.seconds * share)
        or _guided(octets, seed, options.seconds * (1.0 - share if made else 1.0), options.corpus)
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together (default 60)")
    parser.add_argument("--seed", type=int, default=None, help="a printed seed: the same cases again")
    parser.add_argument("--only", choices=[*TARGETS, *OCTETS], help="one target instead of all")
    parser.add_argument(
        "--corpus", type=Path, help="where inputs that led further are kept, for the next time"
    )
    return parser.parse_args()


def _linear(names: list[str]) -> int:
    for name in names:
        grown = linear.measure(name)
        print(
            f"{name}: {grown.size:,} octets in {1e6 * grown.seconds:,.0f} us, twice as many in {grown.ratio:.2f} times that"
            f" (worst: {grown.family})",
            flush=True,
        )
        if grown.ratio > linear.LIMIT:
            print(f"{name}: not linear", file=sys.stderr)
            return 1
    return 0


def _made(names: list[str], seed: int, seconds: float) -> int:
    for name in names:
        try:
            done = run(TARGETS[name], random.Random(f"{seed}/{name}"), seconds / len(names))
        except Exception:
            traceback.print_exc()
            print(f"{name}: broken; again with: python -m fuzz --only {name} --seed {seed}", file=sys.stderr)
            return 1
        print(f"{name}: {done:,} cases, every promise held", flush=True)
    return 0


def _guided(names: list[str], seed: int, seconds: float, corpus: Path | None) -> int:
    folder = corpus or Path(mkdtemp(prefix="fuzz-"))
    for name in names:
        came = guided.run(name, seconds / len(names), folder, seed=seed)
        if came.finding:
            print(f"{came.finding}\n{name}: broken; the input is in {folder}", file=sys.stderr)
            return 1
        print(
            f"{name}: {came.executions:,} executions, {came.edges} branches, {came.features} features,"
            f" slowest {1000 * came.slowest:.1f} ms ({came.slowest_input[:40]}), every promise held",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
