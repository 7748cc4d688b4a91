"""The figures of the fault tests: printed, and kept for the table in docs/faults.md (`python -m tests.faults`)."""

import json
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, Final

from tests.faults.checker import Report

__all__ = ["FILE", "keep", "sound", "table"]

FILE: Final = "FAULTS_FIGURES"
"""The variable of the environment that names the file which figures are added to, a line of JSON each."""
WITHIN: Final = 6.0
"""Seconds in which a request is answered while its store is away, with the time-outs that everybody has who sets none: a question
is asked twice at most, each time over a connection that may take a second, and twice if it never left; and the machine is busy.
"""
HEAD: Final = (
    "| fault | store, setting | acknowledged | writes lost | logins lost | ends undone | users mixed up | longest unavailable, s"
    " | back after, s | slowest 503, s |\n|---|---|---:|---:|---:|---:|---:|---:|---:|---:|"
)


def keep(
    fault: str, store: str, setting: str, report: Report, *, recovered: float | None = None, **more: Any
) -> None:
    """Print the line of a test, and add it to the file of figures if there is one. `recovered`: seconds from the moment at which
    the server was well again, or had been replaced, until every browser was served.
    """
    after = "" if recovered is None else f"; back after {recovered:.1f} s"
    others = "".join(f"; {name} {value}" for name, value in more.items())
    print(f"\n{fault}, {store}, {setting}: {report.line()}{after}{others}")
    if path := os.environ.get(FILE):
        row = {
            "fault": fault,
            "store": store,
            "setting": setting,
            "acknowledged": report.acknowledged,
            "lost": report.lost,
            "logged_out": report.logged_out,
            "undone": report.undone - report.undone_again,
            "again": report.undone_again,
            "mixed": report.mixed,
            "unavailable": report.unavailable,
            "recovered": recovered,
            "slowest": report.slowest_refusal if report.refusals else None,
        }
        with Path(path).open("a") as file:  # one short line: two workers of pytest-xdist do not mix theirs
            file.write(json.dumps(row) + "\n")


def sound(report: Report, *, errors: Collection[int] = ()) -> None:
    """What a single live primary owes: nothing lost, undone, mixed up, stale or invented, and nothing but 200 and a 503 in time.

    errors  what else visitors may get: 0, no answer, where their own server was killed
    """
    wrong = (report.lost, report.logged_out, report.undone, report.mixed, report.stale, report.invented)
    assert wrong == (0, 0, 0, 0, 0, 0), report.line()
    assert report.slowest_refusal < WITHIN, report.line()
    assert report.errors.keys() <= set(errors), report.line()


def table(rows: Iterable[dict[str, Any]]) -> str:
    """The rows as a table in Markdown, by store and fault; what was run several times is one row, the worst of each."""
    worst: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in rows:
        there = worst.setdefault((row["store"], row["setting"], row["fault"]), row)
        for name in ("lost", "logged_out", "undone", "again", "mixed", "unavailable", "recovered", "slowest"):
            there[name] = max(
                (value for value in (there[name], row[name]) if value is not None), default=None
            )
        there["acknowledged"] = max(there["acknowledged"], row["acknowledged"])
    return "\n".join([HEAD, *(_line(row) for _, row in sorted(worst.items()))])


def _line(row: dict[str, Any]) -> str:
    again = f" (+{row['again']})" if row["again"] else ""
    first = " | ".join(f"{row[name]:,}" for name in ("acknowledged", "lost", "logged_out", "undone"))
    counts = f"{first}{again} | {row['mixed']:,}"
    times = " | ".join(_seconds(row[name]) for name in ("unavailable", "recovered", "slowest"))
    return f"| {row['fault']} | {row['store']}, {row['setting']} | {counts} | {times} |"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
