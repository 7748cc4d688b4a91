"""`python -m coatcheck.testing.explorer`: all pairs, all pairs with all that can go wrong, all triples; how many, how long.

With `--quick`: pairs, and a sample of the rest. Exits with 1 if a rule was broken, after showing the shortest schedules.
"""

import sys
import time
from collections.abc import Iterable, Iterator

from coatcheck.testing.explorer.scenarios import HAPPENINGS, pairs, triples
from coatcheck.testing.explorer.scheduler import Report, survey
from coatcheck.testing.explorer.world import Scenario, World

__all__ = ["main", "run"]

SAMPLE = 20


def run(name: str, scenarios: Iterable[Scenario]) -> Report:
    """Explore these scenarios and print what came of it."""
    began = time.perf_counter()
    report = survey(World(), scenarios)
    took = time.perf_counter() - began
    print(
        f"{name}: {report.scenarios:,} scenarios, {report.schedules:,} schedules, {report.worlds:,} worlds, {took:.1f} s, "
        f"{len(report.violations)} violations",
        flush=True,
    )
    for violation in report.violations:
        print(violation, flush=True)
    return report


def sample(scenarios: Iterator[Scenario], *, every: int = SAMPLE) -> Iterator[Scenario]:
    """Every so manieth scenario: always the same ones."""
    return (scenario for number, scenario in enumerate(scenarios) if number % every == 0)


def main(quick: bool) -> int:
    """Explore; the exit status."""
    every = SAMPLE if quick else 1
    reports = [run("pairs", pairs(((),)))]
    for happening in HAPPENINGS:
        name = " and ".join(map(str, happening))
        reports.append(run(f"pairs with {name}", sample(pairs((happening,)), every=every)))
    reports.append(run("triples", sample(triples(), every=every)))
    return int(any(report.violations for report in reports))


if __name__ == "__main__":
    sys.exit(main("--quick" in sys.argv[1:]))
