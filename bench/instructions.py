"""What a request costs in instructions: ``python -m bench.instructions``.

Counted by callgrind (Debian's package valgrind), in process, without a web server: no neighbour can disturb it, so a change of
one per cent shows on the busiest machine. Instructions are not time (they say nothing of caches, system calls or waiting);
``python -m bench`` is for that. Each figure is the difference of a long run and a short one, divided by the requests between
them. ``--system`` counts system calls instead (Debian's package strace), in the same way.

Flask and Django are called through WSGI. Where sessions are kept in Redis it is a real one, whose own work is not counted.
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
import tempfile
import time
from collections.abc import Callable, Coroutine
from fnmatch import fnmatchcase
from io import BytesIO
from itertools import repeat
from math import nan
from pathlib import Path
from typing import Any

import uvloop

from bench.databases import Databases, databases
from coatcheck.core.stepping import run_now

APPS = {
    "starlette bare": "starlette_bare",
    "starlette starsessions memory": "starlette_starsessions",
    "starlette coatcheck memory": "starlette_coatcheck",
    "starlette starsessions redis": "starlette_starsessions",
    "starlette coatcheck redis": "starlette_coatcheck",
    "litestar bare": "litestar_bare",
    "litestar coatcheck memory": "litestar_coatcheck",
    "flask bare": "flask_bare",
    "flask flask-session redis": "flask_flask_session",
    "flask coatcheck redis": "flask_coatcheck",
    "flask floor redis": "flask_floor",
    "django bare": "django_bare",
    "django cache redis": "django_cache",
    "django coatcheck redis": "django_coatcheck",
    "django floor redis": "django_floor",
}
OVER = {
    "starlette memory": "starlette starsessions memory",
    "starlette redis": "starlette starsessions redis",
    "litestar memory": "starlette coatcheck memory",
    "flask redis": "flask flask-session redis",
    "django redis": "django cache redis",
}
"""Framework and store -> over whose addition that of its rows is shown."""
WSGI = ("flask_", "django_")
"""How the modules begin whose applications are called through WSGI, and have Redis."""
PATHS = ("/write", "/read")
SESSIONS, WARM, SHORT, LONG = 64, 200, 500, 1_500
HOST = (b"host", b"127.0.0.1:8000")
Answer = Callable[[str, bytes], Coroutine[Any, Any, bytes]]
"""One request for a path with a cookie; returns the cookie that was set."""


def main(arguments: list[str] | None = None) -> int:
    """Count every application, or run one (which is what is counted)."""
    reader = argparse.ArgumentParser(prog="python -m bench.instructions", description=__doc__)
    reader.add_argument("--only", default="", metavar="NAME", help="of the rows only these, and bare ones")
    reader.add_argument("--system", action="store_true", help="count system calls, not instructions")
    reader.add_argument("--serve", nargs=3, metavar=("APP", "PATH", "REQUESTS"), help=argparse.SUPPRESS)
    options = reader.parse_args(arguments)
    if options.serve:
        app, path, requests = options.serve
        run(app, path, int(requests))
        return 0
    tool = "strace" if options.system else "valgrind"
    if shutil.which(tool) is None:
        print(f"bench.instructions needs {tool}. As root: apt-get install -y {tool}", file=sys.stderr)
        return 2
    frameworks = {name.split()[0] for name in APPS if fnmatchcase(name, f"*{options.only}*")}
    apps = {name: app for name, app in APPS.items() if name.split()[0] in frameworks}
    with tempfile.TemporaryDirectory() as folder, databases(Path(folder), core=0) as redis:
        counts = {
            (name, path): counted(calls if options.system else instructions, app, path, store_of(name, redis))
            for name, app in apps.items()
            for path in PATHS
        }
    print(table(counts, "system calls a request" if options.system else "instructions a request"))
    return 0


def table(counts: dict[tuple[str, str], float], title: str) -> str:
    """A line for each application and workload: all, what is added to the framework alone, and over what another adds."""
    lines = [f"{title:32}{'':8}{'all':>10}{'added':>10}{'ratio':>7}"]
    names = dict.fromkeys(name for name, _ in counts)
    for path in PATHS:
        added = {name: counts[name, path] - counts[f"{name.split()[0]} bare", path] for name in names}
        lines += [
            f"{name:32}{path[1:]:8}{counts[name, path]:10,.1f}{more:10,.1f}"
            f"{more / (added.get(over(name)) or nan):7.2f}"
            for name, more in added.items()
        ]
    return "\n".join(lines)


def over(name: str) -> str:
    """Over whose addition that of a row is shown; "" for a framework alone."""
    framework, *_, store = name.split()
    return OVER.get(f"{framework} {store}", "")


Tool = Callable[[list[str], dict[str, str]], int]


def store_of(name: str, redis: Databases) -> Callable[[], str]:
    """What makes the URL of a new store for a row."""
    if name.endswith(" redis"):
        return lambda: redis.fresh("redis")
    return lambda: "memory" if "starsessions" in name else "memory:"


def counted(tool: Tool, app: str, path: str, fresh: Callable[[], str]) -> float:
    """How many of what the tool counts one request costs."""
    figures = []
    for requests in (SHORT, LONG):
        environment = os.environ | {"PYTHONHASHSEED": "0", "BENCH_STORE": fresh()}
        command = [sys.executable, "-m", "bench.instructions", "--serve", app, path, str(requests)]
        figures.append(tool(command, environment))
    return (figures[1] - figures[0]) / (LONG - SHORT)


def instructions(command: list[str], environment: dict[str, str]) -> int:
    """Instructions of a whole process."""
    callgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command]
    return figure_of(callgrind, environment, r"Collected : (\d+)")


def calls(command: list[str], environment: dict[str, str]) -> int:
    """System calls of a whole process."""
    return figure_of(["strace", "-f", "-c", *command], environment, r"(\d+)\s+(?:\d+\s+)?total\s*$")


def figure_of(command: list[str], environment: dict[str, str], pattern: str) -> int:
    """What a tool says at its end."""
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    found = re.search(pattern, ended.stderr)
    if ended.returncode or found is None:
        raise RuntimeError(f"{command[-3]} was not counted: {ended.stderr[-500:]}")
    return int(found[1])


# ------------------------------------------------------------------------------------------- the process that is counted


def run(module: str, path: str, requests: int) -> None:
    """Answer so many requests.

    The clock stands still: a session is touched when it is seen after a minute, and a busy machine takes that long.
    """
    time.time = repeat(time.time()).__next__
    app = importlib.import_module(f"bench.apps.{module}").app
    if module.startswith(WSGI):
        run_now(serve(through_wsgi(app), path, requests))  # no event loop, which Django would take notice of
    else:
        with asyncio.Runner(
            loop_factory=uvloop.new_event_loop
        ) as runner:  # as in the servers of `python -m bench`
            runner.run(serve(through_asgi(app), path, requests))


async def serve(answer: Answer, path: str, requests: int) -> None:
    """Answer so many requests of so many sessions, once all is warm. No garbage is collected: when it is depends on chance."""
    jar = [await log_in(answer) for _ in range(SESSIONS)]
    for number in range(WARM):
        await answer(path, jar[number % SESSIONS])
    gc.collect()
    gc.freeze()
    gc.disable()
    for number in range(requests):
        await answer(path, jar[number % SESSIONS])


async def log_in(answer: Answer) -> bytes:
    """The cookie of a new session with one write behind it; of an application without sessions, one of a usual length."""
    cookie = await answer("/login", b"") or b"session=" + b"x" * 101
    return await answer("/write", cookie) or cookie


def through_asgi(app: Any) -> Answer:
    """How to ask an ASGI application."""

    async def answer(path: str, cookie: bytes) -> bytes:
        set_cookie: list[bytes] = []

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                set_cookie.extend(value for name, value in message["headers"] if name == b"set-cookie")

        await app(scope(path, cookie), receive, send)
        return set_cookie[0].partition(b";")[0] if set_cookie else b""

    return answer


async def receive() -> dict[str, Any]:
    """A request without a body."""
    return {"type": "http.request", "body": b"", "more_body": False}


def through_wsgi(app: Any) -> Answer:
    """How to ask a WSGI application."""

    async def answer(path: str, cookie: bytes) -> bytes:
        set_cookie: list[str] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            if not status.startswith("200"):
                raise RuntimeError(f"{path} answered {status}")
            set_cookie.extend(value for name, value in headers if name == "Set-Cookie")

        body = app(environ(path, cookie), start_response)
        for _ in body:
            pass
        if hasattr(body, "close"):
            body.close()
        return set_cookie[0].partition(";")[0].strip().encode() if set_cookie else b""

    return answer


def environ(path: str, cookie: bytes) -> dict[str, Any]:
    """A request as gunicorn describes it."""
    found = {
        "wsgi.errors": sys.stderr,
        "wsgi.version": (1, 0),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "wsgi.input": BytesIO(),
        "wsgi.url_scheme": "http",
        "SERVER_SOFTWARE": "gunicorn",
        "REQUEST_METHOD": "GET",
        "QUERY_STRING": "",
        "RAW_URI": path,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "127.0.0.1:8000",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "4000",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "PATH_INFO": path,
        "SCRIPT_NAME": "",
    }
    return found | {"HTTP_COOKIE": cookie.decode()} if cookie else found


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
