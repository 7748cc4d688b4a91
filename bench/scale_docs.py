"""What ``python -m bench.scale --docs`` writes: the tables in ``docs/stores/scale.md``, the plot, and the figures of both."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.pages import filled, made_on, markdown
from bench.plot import Line, Panel, svg

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "stores" / "scale.md"
PLOT = ROOT / "docs" / "_static" / "scale.svg"
FIGURES = ROOT / "docs" / "_static" / "scale.json"
BEGIN = "<!-- written by python -m bench.scale --docs -->\n"
NAMES = {"memory": "Memory", "sqlite": "SQLite", "redis": "Redis", "postgres": "PostgreSQL"}

Results = Mapping[str, Any]


def write(results: Results) -> None:
    """Write all three."""
    FIGURES.write_text(json.dumps(results, indent=1) + "\n")
    PAGE.write_text(filled(PAGE.read_text(), BEGIN, tables(results)))
    PLOT.write_text(plot(results))


def tables(results: Results) -> str:
    """Return the tables as Markdown."""
    stores = results["stores"]
    sizes = sorted({int(size) for store in stores.values() for size in store["sizes"]})
    head = ["microseconds, p50 (p99)", *(f"{size:,}" for size in sizes)]
    blocks = [
        made_on(results, {"Redis": "redis-server", "PostgreSQL": "postgres"}),
    ]
    for name, store in stores.items():
        rows = [
            [
                verb,
                *(
                    f"{micro(at['us'][verb]['p50'])} ({micro(at['us'][verb]['p99'])})"
                    for at in store["sizes"].values()
                ),
            ]
            for verb in next(iter(store["sizes"].values()))["us"]
        ]
        rows += [
            [f"octets a session: {kind}", *(f"{at['octets'][kind]:,.0f}" for at in store["sizes"].values())]
            for kind in next(iter(store["sizes"].values()))["octets"]
        ]
        rows.append(["filled in, seconds", *(f"{at['fill_seconds']:,.1f}" for at in store["sizes"].values())])
        rows.append(
            ["swept, rows a second", *(f"{at['swept_a_second']:,}" for at in store["sizes"].values())]
        )
        blocks.append(f"**{NAMES.get(name, name)}** ({store['clock']})\n\n" + markdown(head, rows))
    return "\n".join(blocks)


def micro(value: float) -> str:
    """Return microseconds in two digits or more."""
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def plot(results: Results) -> str:
    """Return the plot: a panel a store, a line a verb, dashed where it is the 99th percentile."""
    return svg(
        [
            Panel(
                f"{NAMES.get(name, name)}, {store['clock']}",
                [
                    Line(
                        verb,
                        [(int(size), at["us"][verb][which]) for size, at in store["sizes"].items()],
                        dashed=which == "p99",
                    )
                    for verb in next(iter(store["sizes"].values()))["us"]
                    for which in ("p50", "p99")
                ],
            )
            for name, store in results["stores"].items()
        ],
        x="sessions stored",
        y="microseconds a call",
        note="solid: median; dashed: 99th percentile",
        title="The cost of a call does not grow with the number of sessions stored",
    )
