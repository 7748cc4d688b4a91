"""Run every fuzz target for its share of the time; print the seed first, and the case that broke a promise last."""

import argparse
import random
import secrets
import sys
import time
import traceback
from typing import Any, Protocol, cast

from fuzz import cookies, requests, stored

BATCH = 500  # cases between two looks at the clock


class Target(Protocol):
    def generate(self, rng: random.Random) -> Any: ...
    def check(self, case: Any) -> None: ...


TARGETS: dict[str, Target] = {
    "cookies": cast(Target, cookies),
    "requests": cast(Target, requests),
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
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together (default 60)")
    parser.add_argument("--seed", type=int, default=None, help="a printed seed: the same cases again")
    parser.add_argument("--only", choices=sorted(TARGETS), help="one target instead of all")
    options = parser.parse_args()
    seed = secrets.randbits(32) if options.seed is None else options.seed
    chosen = [options.only] if options.only else sorted(TARGETS)
    print(f"seed {seed}", flush=True)
    for name in chosen:
        try:
            done = run(TARGETS[name], random.Random(f"{seed}/{name}"), options.seconds / len(chosen))
        except Exception:
            traceback.print_exc()
            print(f"{name}: broken; again with: python -m fuzz --only {name} --seed {seed}", file=sys.stderr)
            return 1
        print(f"{name}: {done:,} cases, every promise held", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
