"""What the documentation shows of the bench: ``python -m bench.docs`` fills ``docs/performance.md`` and draws its plots.

Every figure comes from a file of a whole run in ``bench/results``; a part whose file is not there says so. The prose of the page,
and the order of its parts, are nobody's but its writer's.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.command import ROOM
from bench.docs_parts import (
    Results,
    both,
    latency_plot,
    latency_tables,
    memory_tables,
    requests_plot,
    requests_tables,
    startup_tables,
    sweep_plot,
    sweep_tables,
)
from bench.pages import filled, made_on

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "performance.md"
PLOTS = ROOT / "docs" / "_static"
SHOWN = {
    "Starlette": "starlette",
    "starsessions": "starsessions",
    "FastAPI": "fastapi",
    "Litestar": "litestar",
    "Quart": "quart",
    "Quart-Session": "quart-session",
    "aiohttp": "aiohttp",
    "aiohttp-session": "aiohttp-session",
    "Flask": "flask",
    "Flask-Session": "flask-session",
    "Django": "django",
    "uvicorn": "uvicorn",
    "gunicorn": "gunicorn",
    "redis-py": "redis",
    "Node": "node",
    "express": "npm express",
    "express-session": "npm express-session",
    "connect-redis": "npm connect-redis",
    "connect-pg-simple": "npm connect-pg-simple",
    "connect-mongo": "npm connect-mongo",
    "Redis": "redis-server",
    "PostgreSQL": "postgres",
    "MongoDB": "mongod",
}


@dataclass(frozen=True)
class Plot:
    """A picture: the end of its file's name, what it shows in words (a text alternative), and how it is drawn."""

    name: str
    words: str
    draw: Callable[[Results], str]


@dataclass(frozen=True)
class Part:
    """A part of the page: of which results, its tables, its plots."""

    name: str
    tables: Callable[[Results], str]
    plots: Sequence[Plot] = ()


def main() -> int:
    """Write the page and its plots from what results there are."""
    page = PAGE.read_text()
    for part in PARTS:
        found = results(part)
        page = filled(page, begin(part), words(part, found))
        if found is not None:
            for plot in part.plots:
                (PLOTS / file_name(part, plot)).write_text(plot.draw(found))
        print(f"{part.name}: {'written' if found is not None else 'not measured yet'}")
    PAGE.write_text(page)
    return 0


def results(part: Part) -> Results | None:
    """Return what a whole run found, or None."""
    path = ROOM / f"{part.name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def begin(part: Part) -> str:
    """Return the mark in the page."""
    return f"<!-- written by python -m bench.docs: {part.name} -->\n"


def file_name(part: Part, plot: Plot) -> str:
    """Return the name of a plot's file."""
    return f"bench-{part.name}{plot.name}.svg"


def words(part: Part, found: Results | None) -> str:
    """Return what stands between the marks."""
    if found is None:
        return "No figures of a whole run yet.\n"
    pictures = [f"![{plot.words}](_static/{file_name(part, plot)})\n" for plot in part.plots]
    return "\n".join([*pictures, part.tables(found), made_on(found, SHOWN)])


# One line a part of the page.
PARTS = (
    Part(
        "requests",
        requests_tables,
        [Plot("", "Bars: microseconds of CPU that each session library adds to a write and to a read", requests_plot)],
    ),
    Part(
        "latency",
        latency_tables,
        [
            Plot("-asgi", "Latency over requests a second, median and 99th percentile, of four ASGI and Node libraries",
                 latency_plot("ASGI and Node")),
            Plot("-wsgi", "Latency over requests a second, median and 99th percentile, of four WSGI libraries",
                 latency_plot("WSGI")),
        ],
    ),
    Part(
        "payload",
        sweep_tables("added_cpu_us", "microseconds added, by octets of JSON in the session"),
        [
            Plot("", "Microseconds that sessions add to a request over the octets in a session, a line a library",
                 sweep_plot("added_cpu_us", x="octets of JSON in the session", y="microseconds added",
                            title="CPU that sessions add to a request"))
        ],
    ),
    Part(
        "concurrency",
        both(
            sweep_tables("rps", "requests a second, by connections"),
            sweep_tables("added_cpu_us", "microseconds added, by connections"),
        ),
        [
            Plot("", "Requests a second over the number of connections, a line a library",
                 sweep_plot("rps", x="connections", y="requests a second", title="Requests a second"))
        ],
    ),
    Part("memory", memory_tables),
    Part("startup", startup_tables),
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(main())
