"""Bars as an SVG picture, a group below the other: what is compared has its name before it and a number at its end.

As in `bench/plot.py` the picture stands on light and dark pages alike. Those that it is about are full and their names bold, the
others hatched: colour is never the only difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from bench.plot import COLOURS, INK, text

NAMES, BARS, END = 230, 420, 70
"""Widths of the three columns: names, bars, and what the longest bar's number takes."""
LINE, HEAD = 20, 30
HATCH = (
    f'<pattern id="others" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    f'<path d="M0 0V5" stroke="{INK}" stroke-width="4"/></pattern>'
)


@dataclass(frozen=True)
class Bar:
    """One of them; ``ours`` is what the picture is about."""

    name: str
    value: float
    ours: bool = False


@dataclass(frozen=True)
class Group:
    """Bars with a title; all groups have the same scale."""

    title: str
    bars: Sequence[Bar]


def bars(groups: Sequence[Group], *, title: str) -> str:
    """Return the picture; a value that is not above zero has no bar."""
    greatest = max(bar.value for group in groups for bar in group.bars)
    parts, down = [], 0
    for group in groups:
        parts.append(text(NAMES, down + 18, group.title, anchor="start", bold=True))
        parts += [drawn(bar, down + HEAD + number * LINE, greatest) for number, bar in enumerate(group.bars)]
        down += HEAD + len(group.bars) * LINE + 8
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {NAMES + BARS + END} {down}" role="img"'
        f' font-family="sans-serif" font-size="11" fill="{INK}"><title>{escape(title)}</title><defs>{HATCH}</defs>'
        + "\n".join(parts)
        + "</svg>\n"
    )


def drawn(bar: Bar, down: int, greatest: float) -> str:
    """Return a name, a bar and its number."""
    width = round(max(bar.value, 0.0) / greatest * BARS, 1)
    fill = COLOURS[0] if bar.ours else "url(#others)"
    return (
        text(NAMES - 8, down + 12, bar.name, anchor="end", bold=bar.ours)
        + f'<rect x="{NAMES}" y="{down + 2}" width="{width}" height="{LINE - 6}" fill="{fill}"/>'
        + text(NAMES + width + 6, down + 12, f"{bar.value:,.0f}", anchor="start", bold=bar.ours)
    )
