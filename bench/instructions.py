"""What a request costs in instructions: ``python -m bench.instructions``.

Counted by callgrind (Debian's package valgrind), in process, without a server: no neighbour can disturb it, so a change of one
per cent shows on the busiest machine. Instructions are not time (they say nothing of caches, system calls or waiting); ``python
-m bench`` is for that. Each figure is the difference of a long run and a short one, divided by the requests between them.
"""

import argparse
import asyncio
import gc
import importlib
import os
import re
import shutil
import subprocess
import sys
from typing import Any

APPS = {
    "starlette bare": "starlette_bare",
    "starlette starsessions memory": "starlette_starsessions",
    "starlette coatcheck memory": "starlette_coatcheck",
    "litestar bare": "litestar_bare",
    "litestar coatcheck memory": "litestar_coatcheck",
}
OVER = {"starlette": "starlette starsessions memory", "litestar": "starlette coatcheck memory"}
"""Framework -> over whose addition that of its rows is shown."""
PATHS = ("/write", "/read")
SESSIONS, WARM, SHORT, LONG = 64, 200, 500, 1_500
HOST = (b"host", b"127.0.0.1:8000")


def main(arguments: list[str] | None = None) -> int:
    """Count every application, or run one (which is what is counted)."""
    reader = argparse.ArgumentParser(prog="python -m bench.instructions", description=__doc__)
    reader.add_argument("--serve", nargs=3, metavar=("APP", "PATH", "REQUESTS"), help=argparse.SUPPRESS)
    options = reader.parse_args(arguments)
    if options.serve:
        app, path, requests = options.serve
        asyncio.run(serve(importlib.import_module(f"bench.apps.{app}").app, path, int(requests)))
        return 0
    if shutil.which("valgrind") is None:
        print(
            "bench.instructions needs valgrind. As root: apt-get install -y valgrind",
            file=sys.stderr,
        )
        return 2
    print(table({(name, path): counted(app, path) for name, app in APPS.items() for path in PATHS}))
    return 0


def table(counts: dict[tuple[str, str], float]) -> str:
    """A line for each application and workload: all, what is added to the framework alone, and over what another adds."""
    lines = [f"{'instructions a request':32}{'':8}{'all':>10}{'added':>10}{'ratio':>7}"]
    for path in PATHS:
        added = {name: counts[name, path] - counts[f"{name.split()[0]} bare", path] for name in APPS}
        lines += [
            f"{name:32}{path[1:]:8}{counts[name, path]:10,.0f}{more:10,.0f}"
            f"{more / added[OVER[name.split()[0]]]:7.2f}"
            for name, more in added.items()
        ]
    return "\n".join(lines)


def counted(app: str, path: str) -> float:
    """Instructions of one request."""
    return (collected(app, path, LONG) - collected(app, path, SHORT)) / (LONG - SHORT)


def collected(app: str, path: str, requests: int) -> int:
    """Instructions of a whole process that answers so many."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable]
    command += ["-m", "bench.instructions", "--serve", app, path, str(requests)]
    store = "memory" if "starsessions" in app else "memory:"
    environment = os.environ | {"PYTHONHASHSEED": "0", "BENCH_STORE": store}
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    found = re.search(r"Collected : (\d+)", run.stderr)
    if run.returncode or found is None:
        raise RuntimeError(f"{app} was not counted: {run.stderr[-500:]}")
    return int(found[1])


async def serve(app: Any, path: str, requests: int) -> None:
    """Answer so many requests of so many sessions, once all is warm. No garbage is collected: when it is depends on chance."""
    jar = [await log_in(app) for _ in range(SESSIONS)]
    for number in range(WARM):
        await answer(app, path, jar[number % SESSIONS])
    gc.collect()
    gc.freeze()
    gc.disable()
    for number in range(requests):
        await answer(app, path, jar[number % SESSIONS])


async def log_in(app: Any) -> bytes:
    """The cookie of a new session with one write behind it; of an application without sessions, one of a usual length."""
    cookie = await answer(app, "/login", b"") or b"session=" + b"x" * 101
    return await answer(app, "/write", cookie) or cookie


async def answer(app: Any, path: str, cookie: bytes) -> bytes:
    """One request; returns the cookie it set."""
    set_cookie: list[bytes] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            set_cookie.extend(value for name, value in message["headers"] if name == b"set-cookie")

    await app(scope(path, cookie), receive, send)
    return set_cookie[0].partition(b";")[0] if set_cookie else b""


async def receive() -> dict[str, Any]:
    """A request without a body."""
    return {"type": "http.request", "body": b"", "more_body": False}


def scope(path: str, cookie: bytes) -> dict[str, Any]:
    """A request as uvicorn describes it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [HOST, (b"cookie", cookie)] if cookie else [HOST],
        "client": ("127.0.0.1", 4000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }


if __name__ == "__main__":
    sys.exit(main())
