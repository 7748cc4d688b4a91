"""The tables and plots that `bench.docs` puts into the documentation: pure, from the results of a run to Markdown and SVG."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.contestants import OURS
from bench.pages import markdown
from bench.plot import Line, Panel, svg
from bench.plot_bars import Bar, Group, bars

Results = Mapping[str, Any]
Row = Mapping[str, Any]


def ours(row: Row) -> bool:
    """Tell whether it is our row."""
    return str(row["peer"]).split()[1] == OURS


def bold(row: Row) -> str:
    """Return the name for a table, ours bold."""
    return f"**{row['peer']}**" if ours(row) else str(row["peer"])


def blocks(rows: Sequence[Row], *keys: str) -> dict[tuple[Any, ...], list[Row]]:
    """Return the rows apart, by the values of these keys, in the order of their first."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return found


def micro(value: float | None) -> str:
    """Return microseconds in two digits or more."""
    return "-" if value is None else f"{value:.1f}" if value < 10 else f"{value:,.0f}"


# ---------------------------------------------------------------------------------------------------------- requests


def requests_tables(found: Results) -> str:
    """A table a workload: what is added, whole requests, and each comparison."""
    return "\n".join(
        f"**{workload}**\n\n" + requests_table(rows)
        for (workload,), rows in blocks(found["rows"], "workload").items()
    )


def requests_table(rows: Sequence[Row]) -> str:
    """One of them; a further comparison has a line of its own."""
    head = ["", "added us", "half of the slices", "requests a second of a core", "ratio", "to", "bar"]
    lines = []
    for row in rows:
        if row["status"] != "ok":
            lines.append([bold(row), "failed", *[""] * 5])
            continue
        name = str(row["peer"])
        # Whoever is compared with itself is its framework's reference.
        compared = [comparison(one) for one in row["comparisons"] if one["ratio_to"] != name]
        span = f"{micro(row['added_cpu_us_q1'])} to {micro(row['added_cpu_us_q3'])}"
        figures = [micro(row["added_cpu_us"]), span] if name.split()[1] != "bare" else ["", ""]
        first, *others = compared or [["", "", ""]]
        lines.append([bold(row), *figures, f"{1e6 / row['cpu_us']:,.0f}", *first])
        lines += [["", "", "", "", *other] for other in others]
    return markdown(head, lines)


def comparison(one: Row) -> list[str]:
    """Return the cells of a comparison."""
    if one["ratio"] is None:
        return ["-", one["ratio_to"], ""]
    more = one["of"] != "added CPU"
    to = one["ratio_to"] + (", requests" if more else "")
    if one["bar"] is None:
        return [f"{one['ratio']:.2f}", to, ""]
    met = one["ratio"] >= one["bar"] if more else one["ratio"] <= one["bar"]
    bar = f"{'at least' if more else 'at most'} {one['bar']:.2f}: {'met' if met else '**missed**'}"
    return [f"{one['ratio']:.2f}", to, bar]


def requests_plot(found: Results) -> str:
    """What each library adds, a group of bars a workload."""
    groups = [
        Group(
            f"{workload}: microseconds of CPU that sessions add to a request",
            [
                Bar(str(row["peer"]), row["added_cpu_us"], ours(row))
                for row in rows
                if row["added_cpu_us"] is not None and str(row["peer"]).split()[1] != "bare"
            ],
        )
        for (workload,), rows in blocks(found["rows"], "workload").items()
    ]
    return bars(groups, title="CPU that sessions add to a request")


# ---------------------------------------------------------------------------------------------------------- latency


def latency_tables(found: Results) -> str:
    """A table a field, workload and rate."""
    head = ["milliseconds", "p50", "p99", "p99 of the rounds", "p99.9", "greatest", "capacity, a second"]
    return "\n".join(
        f"**{field}, {workload}, {rows[0]['rate']:,} requests a second** ({share:.0%} of the least capacity)\n\n"
        + markdown(head, [latency_cells(row) for row in rows])
        for (field, workload, share), rows in blocks(found["rows"], "field", "workload", "share").items()
    )


def latency_cells(row: Row) -> list[str]:
    """One line of them."""
    span = f"{row['p99_min']:.2f} to {row['p99_max']:.2f}"
    figures = [f"{row[name]:.2f}" for name in ("p50", "p99")]
    return [bold(row), *figures, span, f"{row['p999']:.2f}", f"{row['max']:.1f}", f"{row['capacity']:,}"]


def latency_plot(field: str) -> Callable[[Results], str]:
    """Return what draws the latencies of a field: a panel a workload, a line a contestant, dashed for the 99th percentile."""

    def draw(found: Results) -> str:
        rows = [row for row in found["rows"] if row["field"] == field]
        panels = [
            Panel(
                str(workload), [line for peer in blocks(of, "peer").items() for line in latency_lines(*peer)]
            )
            for (workload,), of in blocks(rows, "workload").items()
        ]
        return svg(
            panels,
            x="requests a second",
            y="milliseconds",
            note="solid: median; dashed: 99th percentile",
            title=f"Latency at fixed rates, {field}",
        )

    return draw


def latency_lines(key: tuple[Any, ...], rows: Sequence[Row]) -> list[Line]:
    """The two lines of a contestant."""
    return [
        Line(str(key[0]), [(row["rate"], row[which]) for row in rows], dashed=which == "p99")
        for which in ("p50", "p99")
    ]


# ------------------------------------------------------------------------------------------------- memory and start


def memory_tables(found: Results) -> str:
    """Processes, then sessions."""
    loads = max(len(row["loaded"]) for row in found["processes"])
    head = ["MB of memory (PSS)", "at the start", *(f"after load {turn + 1}" for turn in range(loads))]
    processes = [
        [bold(row), *(f"{octets / 1e6:.1f}" for octets in (row["start"], *row["loaded"]))]
        for row in found["processes"]
        if not row["reason"]
    ]
    sessions = [
        [row["kind"], *(f"{row[name]:,.0f}" for name in ("objects", "resident", "json")), idle_bar(row)]
        for row in found["sessions"]
    ]
    heads = ["octets a session besides its JSON", "objects", "resident", "JSON", "bar"]
    return markdown(head, processes) + "\n" + markdown(heads, sessions)


def idle_bar(row: Row) -> str:
    """Return what is promised of a session in memory, and whether it is kept."""
    return "" if row["bar"] is None else f"{row['bar']:,}: {'met' if row['met'] else '**missed**'}"


def startup_tables(found: Results) -> str:
    """Imports, then servers."""
    imports = [
        [
            row["name"],
            f"{row['ms']:.0f}",
            f"{row['ms_q1']:.0f} to {row['ms_q3']:.0f}",
            f"{row['cpu_ms']:.0f}",
            import_bar(row),
        ]
        for row in found["imports"]
    ]
    servers = [[bold(row), f"{row['median']:.2f}"] for row in found["servers"] if row["seconds"]]
    head = ["milliseconds beyond `pass`", "time", "half of the starts", "CPU", "bar"]
    brought = ", ".join(f"`{name}`" for name in found["modules"])
    return (
        markdown(head, imports)
        + f"\n`import coatcheck` brings {brought}, and what it needs of the standard library.\n\n"
        + markdown(["seconds until the first answer", "median"], servers)
    )


def import_bar(row: Row) -> str:
    """Return what is promised of an import, and whether it is kept."""
    return "" if row["bar"] is None else f"{row['bar']:.0f}: {'met' if row['met'] else '**missed**'}"


# ---------------------------------------------------------------------------------------------------------- sweeps


def sweep_tables(figure: str, label: str) -> Callable[[Results], str]:
    """Return what makes a table a workload of one figure: a line a contestant, a column a value."""

    def tables(found: Results) -> str:
        return "\n".join(
            f"**{workload}, {label}**\n\n" + sweep_table(rows, figure)
            for (workload,), rows in blocks(measured(found, figure), "workload").items()
        )

    return tables


def sweep_table(rows: Sequence[Row], figure: str) -> str:
    """One of them."""
    values = sorted({row["at"] for row in rows})
    lines = []
    for _, of in blocks(rows, "peer").items():
        found = {row["at"]: row[figure] for row in of}
        lines.append([bold(of[0]), *(micro(found.get(value)) for value in values)])
    return markdown(["", *(f"{value:,}" for value in values)], lines)


def measured(found: Results, figure: str) -> list[Row]:
    """Return the rows that have the figure and are no baseline of it."""
    added = figure == "added_cpu_us"
    return [
        row
        for row in found["rows"]
        if row[figure] is not None and not (added and row["peer"].endswith(" bare"))
    ]


def sweep_plot(figure: str, *, x: str, y: str, title: str) -> Callable[[Results], str]:
    """Return what draws one figure: a panel a workload, a line a contestant."""

    def draw(found: Results) -> str:
        # A logarithm has no place for what noise made zero or less.
        rows = [
            row for row in measured(found, figure) if row[figure] > 0 and not row["peer"].endswith(" bare")
        ]
        panels = [
            Panel(
                str(workload),
                [
                    Line(str(peer), [(row["at"], row[figure]) for row in lines])
                    for (peer,), lines in blocks(of, "peer").items()
                ],
            )
            for (workload,), of in blocks(rows, "workload").items()
        ]
        return svg(panels, x=x, y=y, note=title, title=title)

    return draw


def both(*makers: Callable[[Results], str]) -> Callable[[Results], str]:
    """Return what makes the tables of several makers, one after the other."""
    return lambda found: "\n".join(make(found) for make in makers)
