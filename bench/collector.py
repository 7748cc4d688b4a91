"""What the garbage collector does during requests: ``python -m bench.collector``.

In process, without a web server: so many requests at once go through an application on Redis, and the collector's own hooks tell
how often it ran, over which generation, and how long. What is alive while requests wait decides that, hence the number at once.
"""

import argparse
import asyncio
import gc
import importlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.databases import databases
from bench.instructions import PATHS, SESSIONS, WARM, Answer, log_in, through_asgi

APPS = ("starlette_starsessions", "starlette_coatcheck")
AT_ONCE, REQUESTS = 32, 6_400
GENERATIONS = ("  young", " middle", "    all")
"""Which of them were collected, in the order of their numbers."""


class Hooks:
    """How often each generation was collected, and the seconds of all."""

    def __init__(self) -> None:
        self.runs, self.seconds, self._began = [0] * len(GENERATIONS), 0.0, 0.0

    def __call__(self, phase: str, info: Mapping[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self.seconds += time.perf_counter() - self._began
            self.runs[info["generation"]] += 1


async def measured(answer: Answer, path: str) -> tuple[Hooks, float]:
    """Send the requests; return what the collector did, and the CPU of one request in microseconds."""
    jar = [await log_in(answer) for _ in range(SESSIONS)]
    for number in range(WARM):
        await answer(path, jar[number % SESSIONS])
    gc.collect()
    hooks = Hooks()
    gc.callbacks.append(hooks)
    began = time.process_time()
    await asyncio.gather(*(several(answer, path, jar[first::AT_ONCE]) for first in range(AT_ONCE)))
    spent = time.process_time() - began
    gc.callbacks.remove(hooks)
    return hooks, spent / REQUESTS * 1e6


async def several(answer: Answer, path: str, jar: list[bytes]) -> None:
    """One client: its requests come one after the other."""
    for number in range(REQUESTS // AT_ONCE):
        await answer(path, jar[number % len(jar)])


def row(name: str, path: str, hooks: Hooks, cpu: float) -> str:
    """A line of the table."""
    runs = "".join(f"{number:8}" for number in hooks.runs)
    return f"{name:28}{path[1:]:8}{cpu:10.1f}{hooks.seconds / REQUESTS * 1e6:12.1f}{runs}"


def main(arguments: list[str] | None = None) -> int:
    """Measure each application, in a process of its own where there are several."""
    reader = argparse.ArgumentParser(prog="python -m bench.collector", description=__doc__)
    reader.add_argument(
        "app", nargs="?", help="one module of bench/apps; left out: those of ours and starsessions"
    )
    options = reader.parse_args(arguments)
    if options.app is None:
        print(
            f"{f'{REQUESTS:,} requests, {AT_ONCE} at once':36}{'CPU us':>10}{'of it here':>12}", *GENERATIONS
        )
        own = [sys.executable, "-m", "bench.collector"]
        return max(subprocess.run([*own, app], check=False).returncode for app in APPS)
    with tempfile.TemporaryDirectory() as folder, databases(Path(folder), core=0) as servers:
        os.environ["BENCH_STORE"] = servers.fresh("redis")
        app: Any = importlib.import_module(f"bench.apps.{options.app}").app
        with asyncio.Runner() as runner:
            for path in PATHS:
                print(row(options.app, path, *runner.run(measured(through_asgi(app), path))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
