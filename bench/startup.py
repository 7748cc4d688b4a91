"""How long it takes to start: ``python -m bench.startup``.

**Import**: new processes that import one thing and end, in turn, in an order drawn anew each time, beside one that imports
nothing; the median of the differences, of time and of CPU time. Bytecode is compiled and files are in the system's cache, as on
every start but the first. Which packages `import coatcheck` brings is listed too: no driver may be among them.

**Start**: each contestant's server, from the start of its process until its first answer has been read.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from bench import command, visitors
from bench.contestants import CONTESTANTS, CORE, Contestant
from bench.databases import Databases, databases
from bench.progress import bar
from bench.report import VERDICT, Figure, figure, flattened
from bench.rounds import TROUBLE, Plan
from bench.server import serving

NOTHING = "nothing"
IMPORTS = {
    NOTHING: "pass",
    "coatcheck": "import coatcheck",
    "coatcheck.starlette": "import coatcheck.starlette",
    "starlette alone": "import starlette.applications, starlette.requests, starlette.responses, starlette.routing",
    "starsessions": "import starsessions",
    "coatcheck.flask": "import coatcheck.flask",
    "flask alone": "import flask",
    "flask_session": "import flask_session",
    "coatcheck.django": "import coatcheck.django",
    "django.contrib.sessions": "import django.contrib.sessions.middleware",
}
BARS = {"coatcheck": 60.0}
"""Milliseconds beyond a process that imports nothing, at most."""
DRIVERS = (
    "sqlite3",
    "redis",
    "hiredis",
    "pymongo",
    "bson",
    "psycopg",
    "asyncpg",
    "sqlalchemy",
    "aiosqlite",
    "asyncmy",
    "pymysql",
)
FRAMEWORKS = ("starlette", "fastapi", "flask", "werkzeug", "quart", "litestar", "aiohttp", "django")
TURNS, STARTS = 25, 3
START_SECONDS = 2.0
"""What one start takes, about, its end included."""


def main(arguments: list[str] | None = None) -> int:
    """Measure imports and starts; return 1 when somebody failed or a bar was missed."""
    return command.of_contestants("bench.startup", __doc__, measured, arguments)


def measured(options: argparse.Namespace) -> int:
    """Do what the options ask for."""
    plan = command.on_cores(Plan())
    contestants, turns, starts = CONTESTANTS if options.all else CORE, TURNS, STARTS
    if options.quick:
        contestants, turns, starts = contestants[:2], 2, 1
    header = command.header({"turns": turns, "starts": starts, "core": plan.server_core})
    command.announce(turns * len(IMPORTS) * 0.25 + starts * len(contestants) * START_SECONDS)
    imports = import_rows(import_times(turns, plan.server_core))
    brought = modules("import coatcheck")
    servers = server_rows(contestants, starts, plan)
    print(f"\n{import_table(imports)}\n\n{brought_table(brought)}\n\n{server_table(servers)}")
    results = header | {"imports": imports, "modules": brought, "servers": servers}
    path = command.write("startup", results, whole=not options.quick)
    print(f"\n-> {path}")
    failed = any(row["reason"] for row in servers) or any(row["met"] is False for row in imports)
    return 1 if failed or strangers(brought) else 0


Times = dict[str, list[tuple[float, float]]]
"""Seconds, and seconds of CPU, of each process that imported the thing, turn by turn."""


def import_times(turns: int, core: int) -> Times:
    """Import each thing in a new process, in every turn once."""
    found: Times = {name: [] for name in IMPORTS}
    for name in IMPORTS:
        one_import(name, core)  # bytecode, and the files into the cache
    for turn in bar(range(turns), turns, "imports"):
        for name in random.Random(turn).sample(list(IMPORTS), len(IMPORTS)):
            found[name].append(one_import(name, core))
    return found


def one_import(name: str, core: int) -> tuple[float, float]:
    """Return the seconds, and the seconds of CPU, of a new process that imports it."""
    began = time.perf_counter()
    process = os.posix_spawnp(
        "taskset", ["taskset", "-c", str(core), sys.executable, "-c", IMPORTS[name]], os.environ
    )
    _, status, used = os.wait4(process, 0)
    if status:
        raise command.Unable(f"{IMPORTS[name]!r} ended with {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - began, used.ru_utime + used.ru_stime


def import_rows(times: Times) -> list[dict[str, Any]]:
    """Return a row a thing: milliseconds beyond a process that imports nothing, and of that one altogether."""
    return [import_row(name, times) for name in times]


def import_row(name: str, times: Times) -> dict[str, Any]:
    """Return one of them."""
    wall, cpu = (beyond(name, times, which) for which in (0, 1))
    bar = BARS.get(name)
    met = None if bar is None or wall is None else wall.median <= bar
    return {"name": name, **flattened("ms", wall), **flattened("cpu_ms", cpu), "bar": bar, "met": met}


def beyond(name: str, times: Times, which: int) -> Figure | None:
    """Return the milliseconds of a thing less those of nothing, turn by turn; of nothing, its own."""
    less = [0.0] * len(times[name]) if name == NOTHING else [took[which] for took in times[NOTHING]]
    return figure((took[which] - idle) * 1e3 for took, idle in zip(times[name], less, strict=True))


def modules(statement: str) -> list[str]:
    """Return the packages that a statement brings: drivers, and whatever is not in the standard library."""
    packages = loaded(statement) - loaded("pass")
    mine = {name.partition(".")[0] for name in sys.stdlib_module_names} - set(DRIVERS)
    return sorted(name for name in packages - mine if not name.startswith("_"))


def loaded(statement: str) -> set[str]:
    """Return the top-level packages of a new process that has run this."""
    ask = f"import sys, json; {statement}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def strangers(brought: Sequence[str]) -> list[str]:
    """Return what must not be among them: drivers and frameworks."""
    return [name for name in brought if name in DRIVERS + FRAMEWORKS]


def server_rows(contestants: Sequence[Contestant], starts: int, plan: Plan) -> list[dict[str, Any]]:
    """Return a row a contestant: seconds until the first answer, of so many starts, everybody in turn."""
    rows: dict[str, dict[str, Any]] = {
        c.peer: {"peer": c.peer, "seconds": [], "reason": None} for c in contestants
    }
    todo = [contestant for _ in range(starts) for contestant in contestants]
    with (
        tempfile.TemporaryDirectory(prefix="coatcheck-bench-db-") as name,
        databases(Path(name), core=plan.database_core) as rooms,
    ):
        for contestant in bar(todo, len(todo), "servers started"):
            row = rows[contestant.peer]
            try:
                row["seconds"].append(round(until_first_answer(contestant, plan, rooms), 3))
            except TROUBLE as trouble:
                row["reason"] = str(trouble)
    return [row | flattened("median", figure(row["seconds"])) for row in rows.values()]


def until_first_answer(contestant: Contestant, plan: Plan, rooms: Databases) -> float:
    """Return the seconds from the start of a server's process until it has answered."""
    url = rooms.fresh(contestant.database) if contestant.database else ""
    with tempfile.TemporaryDirectory(prefix="coatcheck-bench-") as name:
        began = time.perf_counter()
        with (
            serving(contestant, Path(name), core=plan.server_core, url=url) as server,
            closing(HTTPConnection("127.0.0.1", server.port, timeout=20)) as http,
        ):
            visitors.get(http, "/read")
            return time.perf_counter() - began


def import_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the imports as text."""
    lines = [f"{'milliseconds beyond nothing':<30}{'time':>8}{'half in':>18}{'CPU':>8}{'bar':>7}"]
    for row in rows:
        span = f"{row['ms_q1']:.1f}..{row['ms_q3']:.1f}"
        verdict = VERDICT[row["met"]]
        bar = f"{row['bar']:.0f}" if row["bar"] else ""
        lines.append(f"{row['name']:<30}{row['ms']:8.1f}{span:>18}{row['cpu_ms']:8.1f}{bar:>7} {verdict}")
    return "\n".join(lines)


def brought_table(brought: Sequence[str]) -> str:
    """Return what `import coatcheck` brings as text."""
    wrong = strangers(brought)
    verdict = (
        f"MISSED: {', '.join(wrong)} must not be among them" if wrong else "no driver, no framework: met"
    )
    return f"import coatcheck brings {', '.join(brought)}; {verdict}"


def server_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the starts as text."""
    lines = [f"{'seconds until the first answer':<34}{'median':>8}{'each':>22}"]
    for row in rows:
        each = "  ".join(f"{seconds:.2f}" for seconds in row["seconds"])
        median = f"{row['median']:8.2f}" if row["seconds"] else f"{'-':>8}"
        lines.append(
            f"{row['peer']:<34}{median}{each:>22}" + (f"  FAILED: {row['reason']}" if row["reason"] else "")
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
