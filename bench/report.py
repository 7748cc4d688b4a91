"""From samples to rows: pure statistics, and the table that is printed.

Every derived figure is computed inside a slice, in which all contestants met the same machine within seconds, and only then
is the median over all slices taken: a neighbour who was busy for a while moves the figures of that slice together.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any, Literal, TypeVar

Key = tuple[str, str]  # peer, workload
Turn = TypeVar("Turn", bound=Hashable)
VERDICT: Mapping[bool | None, str] = {True: "met", False: "MISSED", None: ""}
"""What a table says of a bar; None: there is none."""


@dataclass(frozen=True)
class Sample:
    """One contestant under one workload in one slice; ``kept`` is the fraction of the round's writes found afterwards."""

    peer: str
    workload: str
    round: int
    cpu_us: float
    rps: float
    kept: float | None = None
    piece: int = 0
    """Which slice of the round."""

    @property
    def busy(self) -> float:
        """The share of the slice in which the application had its core."""
        return self.cpu_us * self.rps / 1e6


@dataclass(frozen=True)
class Failure:
    """One contestant that could not be measured, and why."""

    peer: str
    workload: str
    reason: str


@dataclass(frozen=True)
class Figure:
    """The median over all slices, the quartiles between which half of them lie, and the extremes."""

    median: float
    q1: float
    q3: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """A figure of a row over that of another in the same slice.

    ``added CPU`` is what sessions add to a request; ``bar`` is the most that is promised. ``requests a core`` are those that a
    core does in a second that it works for nothing else, framework and all; ``bar`` is the fewest.
    """

    to: str
    ratio: Figure | None
    bar: float | None = None
    of: Literal["added CPU", "requests a core"] = "added CPU"

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None: there is none, or no figure."""
        if self.ratio is None or self.bar is None:
            return None
        return self.ratio.median <= self.bar if self.of == "added CPU" else self.ratio.median >= self.bar


@dataclass(frozen=True)
class Row:
    """What is reported of one contestant under one workload; a figure that could not be had is None."""

    peer: str
    workload: str
    reason: str | None = None
    cpu_us: Figure | None = None
    added_cpu_us: Figure | None = None
    rps: Figure | None = None
    busy: Figure | None = None
    comparisons: tuple[Comparison, ...] = ()
    kept: float | None = None
    rounds: int = 0
    slices: int = 0


def figure(values: Iterable[float]) -> Figure | None:
    """Return median, quartiles and extremes, None of nothing."""
    numbers = sorted(values)
    if not numbers:
        return None
    q1, _, q3 = quantiles(numbers, n=4, method="inclusive") if len(numbers) > 1 else numbers * 3
    return Figure(median(numbers), q1, q3, numbers[0], numbers[-1])


def differences(ours: Mapping[Turn, float], baseline: Mapping[Turn, float]) -> dict[Turn, float]:
    """Return ``ours - baseline`` for each slice that has both."""
    return {turn: ours[turn] - baseline[turn] for turn in ours if turn in baseline}


def ratios(ours: Mapping[Turn, float], reference: Mapping[Turn, float]) -> dict[Turn, float]:
    """Return ``ours / reference`` for each slice that has both and whose reference added anything at all."""
    return {turn: ours[turn] / reference[turn] for turn in ours if reference.get(turn, 0.0) > 0.0}


def summarise(
    samples: Sequence[Sample],
    failures: Sequence[Failure],
    *,
    baselines: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    bars: Mapping[tuple[str, str, str], float],
    requests_a_core: Mapping[tuple[str, str, str], float] | None = None,
) -> list[Row]:
    """Return one row a contestant and workload, in the order they first appear.

    Args:
        samples: all that was measured.
        failures: who failed once under a workload has no figures for it, whatever the other rounds said.
        baselines: by peer, the peer whose cost is subtracted.
        references: by peer, the peers it is compared with.
        bars: the highest ratio promised, by peer, reference and workload.
        requests_a_core: the lowest ratio promised of requests that a core does, likewise.
    """
    reasons = {(f.peer, f.workload): f.reason for f in reversed(failures)}
    good: dict[Key, dict[tuple[int, int], Sample]] = {}
    for sample in samples:
        if (sample.peer, sample.workload) not in reasons:
            good.setdefault((sample.peer, sample.workload), {})[sample.round, sample.piece] = sample

    def cpu(key: Key) -> dict[tuple[int, int], float]:
        return {turn: sample.cpu_us for turn, sample in good.get(key, {}).items()}

    def added(key: Key) -> dict[tuple[int, int], float]:
        return differences(cpu(key), cpu((baselines.get(key[0], ""), key[1])))

    def comparison(key: Key, reference: str) -> Comparison:
        ratio = figure(ratios(added(key), added((reference, key[1]))).values())
        return Comparison(reference, ratio, bars.get((key[0], reference, key[1])))

    def requests(key: Key) -> list[Comparison]:
        # A core that does nothing else does 10^6 / cpu_us requests a second, so their ratio is that of CPU the other way round.
        return [
            Comparison(to, figure(ratios(cpu((to, workload)), cpu(key)).values()), bar, "requests a core")
            for (peer, to, workload), bar in (requests_a_core or {}).items()
            if (peer, workload) == key and to in references.get(peer, ())
        ]

    def row(key: Key) -> Row:
        peer, workload = key
        if key in reasons:
            return Row(peer, workload, reason=reasons[key])
        measured = good[key].values()
        return Row(
            peer,
            workload,
            cpu_us=figure(cpu(key).values()),
            added_cpu_us=figure(added(key).values()),
            rps=figure(sample.rps for sample in measured),
            busy=figure(sample.busy for sample in measured),
            comparisons=(*(comparison(key, other) for other in references.get(peer, ())), *requests(key)),
            kept=min((s.kept for s in measured if s.kept is not None), default=None),
            rounds=len({sample.round for sample in measured}),
            slices=len(measured),
        )

    everything: list[Sample | Failure] = [*samples, *failures]
    return [row(key) for key in dict.fromkeys((one.peer, one.workload) for one in everything)]


def as_json(row: Row) -> dict[str, Any]:
    """Return the row, figures flattened: ``cpu_us`` is the median, ``cpu_us_q1`` and ``_q3`` the quartiles, ``_min`` and
    ``_max`` the extremes; ``ratio`` is that of the first comparison."""
    first = row.comparisons[0] if row.comparisons else Comparison("", None)
    flat: dict[str, Any] = {
        "peer": row.peer,
        "workload": row.workload,
        "status": "failed" if row.reason else "ok",
        "reason": row.reason,
    }
    for name in ("cpu_us", "added_cpu_us", "rps", "busy"):
        flat |= flattened(name, getattr(row, name))
    flat |= flattened("ratio", first.ratio) | {"ratio_to": first.to or None, "bar": first.bar}
    flat["comparisons"] = [
        {"of": one.of, **flattened("ratio", one.ratio), "ratio_to": one.to, "bar": one.bar}
        for one in row.comparisons
    ]
    return flat | {"kept": row.kept, "rounds": row.rounds, "slices": row.slices}


def flattened(name: str, value: Figure | None) -> dict[str, object]:
    """Return a figure as numbers with names."""
    parts = {"": "median", "_q1": "q1", "_q3": "q3", "_min": "low", "_max": "high"}
    return {name + tail: round(getattr(value, part), 3) if value else None for tail, part in parts.items()}


def table(rows: Sequence[Row]) -> str:
    """Return the rows as text, one block a workload; a further comparison has a line of its own below its row."""
    head = (
        "",
        "cpu us",
        "added us",
        "half in",
        "ratio",
        "half in",
        "bar",
        "",
        "req/s",
        "busy",
        "kept",
        "ratio to",
    )
    blocks = []
    for workload in dict.fromkeys(row.workload for row in rows):
        block = [row for row in rows if row.workload == workload]
        lines = [(workload, *head[1:]), *(line for row in block for line in cells(row))]
        width = [max(len(line[i]) for line in lines) for i in range(len(head))]
        text = [
            " ".join((line[0].ljust(width[0]), *map(str.rjust, line[1:-1], width[1:-1]), " " + line[-1]))
            for line in lines
        ]
        text += [f"  FAILED {row.peer}: {row.reason}" for row in block if row.reason]
        blocks.append("\n".join(line.rstrip() for line in text))
    return "\n\n".join(blocks)


def cells(row: Row) -> list[tuple[str, ...]]:
    """Return the table's cells of one row, in a line, and a line more for each comparison after the first."""
    if row.reason:
        return [(row.peer, "failed", *[""] * 10)]
    first, *others = row.comparisons or (Comparison("", None),)
    kept = f"{row.kept:.1%}" if row.kept is not None else ""
    costs = number(row.cpu_us, 1), number(row.added_cpu_us, 1), span(row.added_cpu_us, 1)
    busy = f"{row.busy.median:.0%}" if row.busy else ""
    line = (row.peer, *costs, *compared(first), number(row.rps, 0), busy, kept, named(first))
    return [line, *(("", "", "", "", *compared(other), "", "", "", named(other)) for other in others)]


def compared(one: Comparison) -> tuple[str, str, str, str]:
    """Return the cells of a comparison: ratio, its spread, the bar, and whether it is met."""
    sign = "" if one.of == "added CPU" else ">="
    bar = f"{sign}{one.bar:.2f}" if one.bar is not None else ""
    return number(one.ratio, 2), span(one.ratio, 2), bar, VERDICT[one.met]


def named(one: Comparison) -> str:
    """Return whom a comparison is with, and of what, where it is not what is usual."""
    return one.to if one.of == "added CPU" else f"{one.to}: {one.of}"


def number(value: Figure | None, digits: int) -> str:
    """Return the median, or a dash."""
    return f"{value.median:.{digits}f}" if value else "-"


def span(value: Figure | None, digits: int) -> str:
    """Return the quartiles, or nothing."""
    return f"{value.q1:.{digits}f}..{value.q3:.{digits}f}" if value else ""
