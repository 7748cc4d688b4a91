"""Lines over logarithmic axes as an SVG picture, a panel beside the other.

Colours of middling lightness on no background: the same picture can be read on a light page and on a dark one. Lines differ by
the shape of their marks too.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 360, 250
LEFT, RIGHT, TOP, BOTTOM = 62, 34, 28, 42
LEGEND, LEGEND_LINE = 46, 18
INK = "#7a7a7a"
# After Okabe and Ito: told apart by the colour-blind, and three times as light or dark as white and near-black pages.
COLOURS = ("#0f7fc4", "#d1600a", "#0b9270", "#bf5f97", "#8a7a00", "#777777")
MARKS = ("circle", "square", "up", "down", "diamond", "circle")


@dataclass(frozen=True)
class Line:
    """Points (x, y) of one name; the same name has the same colour everywhere."""

    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """Axes of their own, with a title."""

    title: str
    lines: Sequence[Line]


def svg(panels: Sequence[Panel], *, x: str, y: str, note: str, title: str, columns: int = 2) -> str:
    """Return the picture; axes reach from the power of ten below the least value to the one above the greatest."""
    names = list(dict.fromkeys(line.name for panel in panels for line in panel.lines))
    rows = math.ceil(len(panels) / columns)
    width = WIDTH * min(columns, len(panels))
    top = LEGEND + (len(placed(names, width)) - 1) * LEGEND_LINE
    height = HEIGHT * rows + top
    parts = [legend(names, note, width)]
    for number, panel in enumerate(panels):
        right, down = number % columns * WIDTH, number // columns * HEIGHT + top
        parts.append(f'<g transform="translate({right} {down})">{drawn(panel, names, x, y)}</g>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" font-family="sans-serif"'
        f' font-size="11" fill="{INK}"><title>{escape(title)}</title>' + "\n".join(parts) + "</svg>\n"
    )


def placed(names: Sequence[str], width: int) -> list[Sequence[str]]:
    """Return the names in lines, as many in each as there is room for."""
    several = max(1, (width - 12) // step_of(names))
    return [names[first : first + several] for first in range(0, len(names), several)]


def step_of(names: Sequence[str]) -> int:
    """Return how far apart the names of a legend are."""
    return max(120, 40 + 6 * max(map(len, names), default=0))


def legend(names: Sequence[str], note: str, width: int) -> str:
    """Return a mark and a name for each line, and the note."""
    lines = placed(names, width)
    parts = [text(12, 38 + (len(lines) - 1) * LEGEND_LINE, note, anchor="start")]
    number = 0
    for down, line in enumerate(lines):
        for across, name in enumerate(line):
            left, middle = 12 + across * step_of(names), 14 + down * LEGEND_LINE
            colour = COLOURS[number % len(COLOURS)]
            parts.append(
                f'<path d="M{left} {middle}h22" stroke="{colour}" stroke-width="2"/>{mark(number, left + 11, middle)}'
            )
            parts.append(text(left + 28, middle + 4, name, anchor="start"))
            number += 1
    return "".join(parts)


def drawn(panel: Panel, names: Sequence[str], x: str, y: str) -> str:
    """Return one panel: axes, powers of ten, lines."""
    points = [point for line in panel.lines for point in line.points]
    across = Axis.over([point[0] for point in points], LEFT, WIDTH - RIGHT)
    upward = Axis.over([point[1] for point in points], HEIGHT - BOTTOM, TOP)
    parts = [text((LEFT + WIDTH - RIGHT) / 2, 18, panel.title, bold=True)]
    for power in across.powers():
        parts.append(rule(across.at(10**power), TOP, across.at(10**power), HEIGHT - BOTTOM))
        parts.append(text(across.at(10**power), HEIGHT - BOTTOM + 14, f"{10**power:,}"))
    for power in upward.powers():
        parts.append(rule(LEFT, upward.at(10**power), WIDTH - RIGHT, upward.at(10**power)))
        parts.append(text(LEFT - 6, upward.at(10**power) + 4, f"{10**power:,}", anchor="end"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x))
    parts.append(
        f'<g transform="translate(14 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)">{text(0, 0, y)}</g>'
    )
    for line in panel.lines:
        parts.append(curve(line, names.index(line.name), across, upward))
    return "".join(parts)


@dataclass(frozen=True)
class Axis:
    """Whole powers of ten laid over a length of the picture."""

    low: int
    high: int
    begin: float
    end: float

    @classmethod
    def over(cls, values: Sequence[float], begin: float, end: float) -> "Axis":
        """Return the axis that has room for these, all above zero."""
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        return cls(low, max(high, low + 1), begin, end)

    def powers(self) -> range:
        """Return the powers of ten on it."""
        return range(self.low, self.high + 1)

    def at(self, value: float) -> float:
        """Return where a value lies."""
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return round(self.begin + share * (self.end - self.begin), 1)


def curve(line: Line, number: int, across: Axis, upward: Axis) -> str:
    """Return a line with its marks."""
    places = [(across.at(x), upward.at(y)) for x, y in line.points]
    path = " ".join(f"{'L' if n else 'M'}{x} {y}" for n, (x, y) in enumerate(places))
    dash = ' stroke-dasharray="3 3"' if line.dashed else ""
    colour = COLOURS[number % len(COLOURS)]
    stroke = (
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{1.2 if line.dashed else 2}"{dash}/>'
    )
    return stroke + "".join(mark(number, x, y) for x, y in places)


def mark(number: int, x: float, y: float) -> str:
    """Return the mark of a line at a place."""
    shape = {
        "circle": "m-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0z",
        "square": "m-3-3h6v6h-6z",
        "up": "m0-4l4 7h-8z",
        "down": "m0 4l4-7h-8z",
        "diamond": "m0-4.5l4.5 4.5l-4.5 4.5l-4.5-4.5z",
    }[MARKS[number % len(MARKS)]]
    return f'<path d="M{x} {y}{shape}" fill="{COLOURS[number % len(COLOURS)]}"/>'


def rule(x1: float, y1: float, x2: float, y2: float) -> str:
    """Return a thin line."""
    return f'<path d="M{x1} {y1}L{x2} {y2}" stroke="{INK}" stroke-opacity="0.35" stroke-width="1"/>'


def text(x: float, y: float, words: str, *, anchor: str = "middle", bold: bool = False) -> str:
    """Return words at a place."""
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}"{weight}>{escape(words)}</text>'
