"""A bar for what takes long: on a terminal it moves, in a file it is a line every tenth."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar

T = TypeVar("T")
WIDTH = 30
EVERY = 0.2
"""Seconds between two pictures on a terminal."""


def bar(
    things: Iterable[T], total: int, label: str, *, to: TextIO | None = None, steps: int = 10
) -> Iterator[T]:
    """Hand the things on, and show how many of ``total`` have been taken, and how long the rest will need."""
    out = to or sys.stderr
    moves = out.isatty()
    began = shown = time.monotonic()
    for done, thing in enumerate(things):
        now = time.monotonic()
        if (moves and now - shown >= EVERY) or (not moves and done and done % -(-total // steps) == 0):
            shown = now
            print(picture(done, total, label, now - began), end="\r" if moves else "\n", file=out, flush=True)
        yield thing
    print(picture(total, total, label, time.monotonic() - began), file=out, flush=True)


def picture(done: int, total: int, label: str, seconds: float) -> str:
    """Return the bar as text."""
    share = done / total if total else 1.0
    marks = "#" * round(share * WIDTH)
    left = f"{seconds / share - seconds:4.0f} s left" if 0 < share < 1 else f"{seconds:4.0f} s     "
    return f"  {label:<44} [{marks:<{WIDTH}}] {share:4.0%} {left}"
