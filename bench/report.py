"""From samples to rows: pure statistics, and the table that is printed.

Every derived figure is computed inside a round, where all contestants met the same machine, and only then is
the median over the rounds taken: a neighbour who was busy for one round moves that round's figures together.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

Key = tuple[str, str]  # peer, workload


@dataclass(frozen=True)
class Sample:
    """One contestant under one workload in one round; ``kept`` is the fraction of writes found afterwards."""

    peer: str
    workload: str
    round: int
    cpu_us: float
    rps: float
    kept: float | None = None


@dataclass(frozen=True)
class Failure:
    """One contestant that could not be measured, and why."""

    peer: str
    workload: str
    reason: str


@dataclass(frozen=True)
class Figure:
    """The median over the rounds, and the extremes."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """What is reported of one contestant under one workload; a figure that could not be had is None."""

    peer: str
    workload: str
    reason: str | None = None
    cpu_us: Figure | None = None
    added_cpu_us: Figure | None = None
    rps: Figure | None = None
    ratio: Figure | None = None
    ratio_to: str | None = None
    bar: float | None = None
    kept: float | None = None
    rounds: int = 0


def figure(values: Iterable[float]) -> Figure | None:
    """Return median and extremes, None of nothing."""
    numbers = list(values)
    return Figure(median(numbers), min(numbers), max(numbers)) if numbers else None


def differences(ours: Mapping[int, float], baseline: Mapping[int, float]) -> dict[int, float]:
    """Return ``ours - baseline`` for each round that has both."""
    return {turn: ours[turn] - baseline[turn] for turn in ours if turn in baseline}


def ratios(ours: Mapping[int, float], reference: Mapping[int, float]) -> dict[int, float]:
    """Return ``ours / reference`` for each round that has both and whose reference added anything at all."""
    return {turn: ours[turn] / reference[turn] for turn in ours if reference.get(turn, 0.0) > 0.0}


def summarise(
    samples: Sequence[Sample],
    failures: Sequence[Failure],
    *,
    baselines: Mapping[str, str],
    references: Mapping[str, str],
    bars: Mapping[Key, float],
) -> list[Row]:
    """Return one row a contestant and workload, in the order they first appear.

    Args:
        samples: all that was measured.
        failures: who failed once under a workload has no figures for it, whatever the other rounds said.
        baselines: by peer, the peer whose cost is subtracted.
        references: by peer, the peer it is compared with.
        bars: the highest ratio promised, by peer and workload.
    """
    reasons = {(f.peer, f.workload): f.reason for f in reversed(failures)}
    good: dict[Key, dict[int, Sample]] = {}
    for sample in samples:
        if (sample.peer, sample.workload) not in reasons:
            good.setdefault((sample.peer, sample.workload), {})[sample.round] = sample

    def cpu(key: Key) -> dict[int, float]:
        return {turn: sample.cpu_us for turn, sample in good.get(key, {}).items()}

    def added(key: Key) -> dict[int, float]:
        return differences(cpu(key), cpu((baselines.get(key[0], ""), key[1])))

    def row(key: Key) -> Row:
        peer, workload = key
        if key in reasons:
            return Row(peer, workload, reason=reasons[key], bar=bars.get(key))
        measured = good[key].values()
        reference = references.get(peer)
        return Row(
            peer,
            workload,
            cpu_us=figure(cpu(key).values()),
            added_cpu_us=figure(added(key).values()),
            rps=figure(sample.rps for sample in measured),
            ratio=figure(ratios(added(key), added((reference, workload))).values()) if reference else None,
            ratio_to=reference,
            bar=bars.get(key),
            kept=min((s.kept for s in measured if s.kept is not None), default=None),
            rounds=len(measured),
        )

    everything: list[Sample | Failure] = [*samples, *failures]
    return [row(key) for key in dict.fromkeys((one.peer, one.workload) for one in everything)]


def as_json(row: Row) -> dict[str, object]:
    """Return the row, figures flattened: ``cpu_us`` is the median, ``cpu_us_min`` and ``_max`` the extremes."""
    flat: dict[str, object] = {
        "peer": row.peer,
        "workload": row.workload,
        "status": "failed" if row.reason else "ok",
        "reason": row.reason,
    }
    for name in ("cpu_us", "added_cpu_us", "rps", "ratio"):
        value: Figure | None = getattr(row, name)
        flat[name] = round(value.median, 3) if value else None
        flat[f"{name}_min"] = round(value.low, 3) if value else None
        flat[f"{name}_max"] = round(value.high, 3) if value else None
    return flat | {"ratio_to": row.ratio_to, "bar": row.bar, "kept": row.kept, "rounds": row.rounds}


def table(rows: Sequence[Row]) -> str:
    """Return the rows as text, one block a workload."""
    head = ("", "cpu us", "added us", "min..max", "ratio", "min..max", "bar", "", "req/s", "kept")
    blocks = []
    for workload in dict.fromkeys(row.workload for row in rows):
        block = [row for row in rows if row.workload == workload]
        lines = [(workload, *head[1:]), *map(cells, block)]
        width = [max(len(line[i]) for line in lines) for i in range(len(head))]
        text = [" ".join((line[0].ljust(width[0]), *map(str.rjust, line[1:], width[1:]))) for line in lines]
        text += [f"  FAILED {row.peer}: {row.reason}" for row in block if row.reason]
        blocks.append("\n".join(line.rstrip() for line in text))
    return "\n\n".join(blocks)


def cells(row: Row) -> tuple[str, ...]:
    """Return the table's cells of one row."""
    if row.reason:
        return (row.peer, "failed", *[""] * 8)
    ratio = row.ratio
    met = "" if ratio is None or row.bar is None else "met" if ratio.median <= row.bar else "MISSED"
    return (
        row.peer,
        number(row.cpu_us, 1),
        number(row.added_cpu_us, 1),
        span(row.added_cpu_us, 1),
        number(ratio, 2),
        span(ratio, 2),
        f"{row.bar:.2f}" if row.bar is not None else "",
        met,
        number(row.rps, 0),
        f"{row.kept:.1%}" if row.kept is not None else "",
    )


def number(value: Figure | None, digits: int) -> str:
    """Return the median, or a dash."""
    return f"{value.median:.{digits}f}" if value else "-"


def span(value: Figure | None, digits: int) -> str:
    """Return the extremes, or nothing."""
    return f"{value.low:.{digits}f}..{value.high:.{digits}f}" if value else ""
