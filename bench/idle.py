"""How much memory an idle session takes in a memory store: ``python -m bench.idle``, a part of ``python -m bench.memory``.

Each session is made by a request of its own through the real middleware, and left alone. Two processes count, both new: one by
``tracemalloc`` (the objects that are left), one by the growth of RSS (what the system gave for them, gaps included). What the
session holds, as JSON, is taken off. A store with room for a tenth is filled on and on: once full it must not grow.
"""

import argparse
import asyncio
import gc
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from starsessions import InMemoryStore, SessionAutoloadMiddleware
from starsessions import SessionMiddleware as Starsessions

from bench.instructions import receive, scope
from bench.report import VERDICT
from bench.server import ROOT
from bench.sites import resident
from coatcheck.asgi import SessionMiddleware
from coatcheck.stores.memory import MemoryStore

COUNT = 100_000
BAR = 1_000
"""Octets a session besides its JSON, at most."""
GROWTH = 1.1
"""Of a full store, at most: a dict that loses as much as it gets has now more room to spare, now less."""
EXPECTED_SECONDS = 150.0
SECRET = "u3Jq8Zt1pXv5LrWc7KdYb2HnMs9GfEa4QwTzRxCoViB"
BROWSERS = [
    f"Mozilla/5.0 (X11; Linux x86_64; rv:{140 + n}.0) Gecko/20100101 Firefox/{140 + n}.0" for n in range(5)
]
"""One for each of a user's five sessions, which come from five networks: no two logins of a user are equal."""
KINDS = ("coatcheck anonymous", "coatcheck logged in", "starsessions anonymous")


def data(number: int) -> dict[str, Any]:
    """Return what session ``number`` holds, made anew: no two sessions share a string."""
    cart = [{"sku": f"a-{number}", "n": 1}, {"sku": f"b-{number}", "n": 2}]
    return {"user": f"{number:08x}", "n": number, "cart": cart, "theme": "dark"}


async def page(scope: Scope, receive: Receive, send: Send) -> None:
    """Put into the session what it is to hold; its number is in the path, with ``in`` before it for a login."""
    _, way, number = scope["path"].split("/")
    scope["session"].update(data(int(number)))
    if way == "in":
        scope["session"].login(f"user-{int(number) // 5}")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def application(library: str, room: int) -> ASGIApp:
    """Return the page behind a library's sessions in memory, with room for so many where it has a limit."""
    if library == "coatcheck":
        return SessionMiddleware(page, store=MemoryStore(max_sessions=room), secret=SECRET)
    return Starsessions(SessionAutoloadMiddleware(page), store=InMemoryStore())


async def visits(app: ASGIApp, way: str, numbers: range) -> None:
    """Make a session for each of these numbers."""
    for number in numbers:
        asked = scope(f"/{way}/{number}", b"")
        asked["headers"].append((b"user-agent", BROWSERS[number % 5].encode()))
        asked["client"] = (f"{10 + (number >> 16)}.{number >> 8 & 255}.{number & 255}.1", 40_000)
        await app(asked, receive, quiet)


async def quiet(message: Any) -> None:
    """Nobody listens."""


def traced() -> int:
    """Return the octets of the objects there are."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def given() -> int:
    """Return the octets the system has given."""
    gc.collect()
    return resident()


WAYS: dict[str, Callable[[], int]] = {"objects": traced, "resident": given}


async def filled(kind: str, count: int, octets: Callable[[], int]) -> dict[str, float]:
    """Return octets a session, when ``count`` of them are there."""
    library, way = kind.split()[0], kind.split()[-1]
    app = application(library, 2 * count)
    await visits(app, way, range(count, count + 500))  # whatever is made once
    before = octets()
    await visits(app, way, range(count))
    return {"octets": (octets() - before) / count}


async def overfilled(kind: str, count: int, octets: Callable[[], int]) -> dict[str, float]:
    """Return what a store with room for a tenth of ``count`` grows by when it is filled on and on: four times again, over once
    again (a dict that loses as much as it gets makes itself a new table, once).
    """
    library, way = kind.split()[0], kind.split()[-1]
    room = max(count // 10, 100)
    empty = octets()
    app = application(library, room)
    await visits(app, way, range(2 * room))
    full = octets() - empty
    await visits(app, way, range(2 * room, 6 * room))
    return {"growth": (octets() - empty) / full}


def counted(kind: str, count: int, way: str, what: str) -> float:
    """Return the figure of a new process."""
    command = [sys.executable, "-m", "bench.idle", "--child", kind, str(count), way, what]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{kind} was not counted: {done.stderr[-500:]}")
    (figure,) = json.loads(done.stdout).values()
    return float(figure)


def payload(count: int) -> float:
    """Return the octets of JSON in a session, on average."""
    sampled = range(0, count, max(count // 1_000, 1))
    return sum(len(json.dumps(data(number), separators=(",", ":"))) for number in sampled) / len(sampled)


def measured(kind: str, count: int = COUNT) -> dict[str, Any]:
    """Return one row: octets a session by both ways of counting, less its JSON, and how much a full store grew."""
    within = payload(count)
    found = {way: round(counted(kind, count, way, "filled") - within, 1) for way in WAYS}
    ours = kind.startswith("coatcheck")
    growth = round(counted(kind, count, "objects", "overfilled"), 3) if ours else None
    met = all(octets <= BAR for octets in found.values()) and (growth or 0.0) <= GROWTH if ours else None
    row = {"kind": kind, "sessions": count, "json": round(within, 1), **found, "growth_when_full": growth}
    return row | {"bar": BAR if ours else None, "met": met}


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as text."""
    lines = [f"{'octets a session besides its JSON':<34}{'objects':>9}{'resident':>10}{'JSON':>7}{'bar':>7}"]
    for row in rows:
        cells = f"{row['objects']:9,.0f}{row['resident']:10,.0f}{row['json']:7,.0f}{row['bar'] or '':>7}"
        verdict = VERDICT[row["met"]]
        growth = f", refilled on and on: {row['growth_when_full']:.3f} times" if row["bar"] else ""
        lines.append(f"{row['kind']:<34}{cells} {verdict}{growth}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the table, or count one thing, which is what is run in a process of its own."""
    reader = argparse.ArgumentParser(prog="python -m bench.idle", description=__doc__)
    reader.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = reader.parse_args(arguments)
    if options.child:
        kind, count, way, what = options.child
        if way == "objects":
            tracemalloc.start()
        work = {"filled": filled, "overfilled": overfilled}[what]
        print(json.dumps(asyncio.run(work(kind, int(count), WAYS[way]))))
        return 0
    rows = [measured(kind) for kind in KINDS]
    print(table(rows))
    return 1 if any(row["met"] is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
