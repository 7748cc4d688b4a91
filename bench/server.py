"""A contestant's server: started on its own core, and asked how much CPU its process tree has used."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.contestants import Contestant

ROOT = Path(__file__).resolve().parent.parent
ROOM_OF_NODE = ROOT / "bench" / "node"
START_SECONDS = 20.0
LOOK = 0.005
"""Seconds between two looks whether a server listens yet."""


class ServerFailed(Exception):
    """The server ended or never listened; the message is the last line it wrote."""


@dataclass(frozen=True)
class Server:
    """A running server: the root of its process tree and the port it listens on, on 127.0.0.1."""

    pid: int
    port: int


def loop_and_parser() -> tuple[str, str]:
    """Return the event loop and the HTTP parser uvicorn will use: the fast ones where they are installed."""
    loop = "uvloop" if importlib.util.find_spec("uvloop") else "asyncio"
    parser = "httptools" if importlib.util.find_spec("httptools") else "h11"
    return loop, parser


def uvicorn(app: str, port: int) -> list[str]:
    """Return the command of one uvicorn worker that writes no access log, for a module in ``bench/apps``."""
    loop, parser = loop_and_parser()
    options = ["--loop", loop, "--http", parser, "--no-access-log", "--log-level", "warning"]
    return [sys.executable, "-m", "uvicorn", f"bench.apps.{app}:app", "--port", str(port), *options]


def gunicorn(app: str, port: int) -> list[str]:
    """Return the command of one gunicorn worker with threads, for WSGI applications."""
    options = ["--workers", "1", "--worker-class", "gthread", "--threads", "4", "--keep-alive", "60"]
    options += ["--bind", f"127.0.0.1:{port}", "--log-level", "warning"]
    return [sys.executable, "-m", "gunicorn", f"bench.apps.{app}:app", *options]


def node(app: str, port: int) -> list[str]:
    """Return the command of one Node process, for a module in ``bench/node``."""
    return ["node", str(ROOM_OF_NODE / f"{app}.mjs"), str(port)]


def aiohttp(app: str, port: int) -> list[str]:
    """Return the command of one process of aiohttp's own server, for a module in ``bench/apps``."""
    return [sys.executable, "-m", "bench.apps.aiohttp_server", app, str(port)]


SERVERS: dict[str, Callable[[str, int], list[str]]] = {
    "uvicorn": uvicorn,
    "gunicorn": gunicorn,
    "aiohttp": aiohttp,
    "node": node,
}


@contextmanager
def serving(contestant: Contestant, directory: Path, *, core: int, url: str = "") -> Iterator[Server]:
    """Run the contestant's application on ``core`` for the length of the block.

    Args:
        contestant: whose application.
        directory: an empty directory for its store and the server's output.
        url: an empty database, if it needs one.
        core: the only CPU core the server and its children may use.

    Raises:
        ServerFailed: it ended, or did not listen within ``START_SECONDS``.
    """
    port = free_port()
    command = SERVERS[contestant.server](contestant.app, port)
    store = (contestant.store or "{url}").format(dir=directory, url=url)
    # NODE_ENV is for express, whose routes are slower without it.
    environment = os.environ | {
        "BENCH_STORE": store,
        "BENCH_SERVER": contestant.server,
        "NODE_ENV": "production",
    }
    log = directory / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        wait_until_listening(process, port, log)
        yield Server(process.pid, port)
    finally:
        stop(process)


def free_port() -> int:
    """Return a port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_listening(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    """Return when the port accepts connections; raise ServerFailed when it never will."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            said = last_line(log.read_text(errors="replace"))
            raise ServerFailed(said or f"it ended with exit code {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        # Other people's servers do not say that they listen, and to look without a pause would take CPU from their start.
        time.sleep(LOOK)
    raise ServerFailed(f"not listening after {START_SECONDS:.0f} s")


def last_line(text: str) -> str:
    """Return the last line that says something: of a traceback, the exception."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End the server politely, then firmly."""
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def cpu_seconds(root: int) -> float:
    """Return the CPU seconds, user and system, of a process and all its descendants, the ended ones too.

    Of those that run by their CPU clocks, to the nanosecond: a slice of load is a few dozen ticks only, in which
    ``/proc/PID/stat`` counts. From there come the descendants, and what the ended ones used.
    """
    stats = process_stats()
    everybody = descendants(root, stats)
    ended = sum(stats[pid][1] for pid in everybody if pid in stats) / os.sysconf("SC_CLK_TCK")
    return ended + sum(cpu_clock(pid) for pid in everybody)


def descendants(root: int, stats: Mapping[int, tuple[int, int]]) -> set[int]:
    """Return a process and all that it has started, and these, and so on."""
    tree = {root}
    grown = True
    while grown:
        children = {pid for pid, (parent, _) in stats.items() if parent in tree} - tree
        tree |= children
        grown = bool(children)
    return tree


def pss(root: int) -> int:
    """Return the octets of memory that a process and its descendants have, those that processes share counted once.

    Source: proc(5), smaps_rollup: Pss, in kB.
    """
    total = 0
    for pid in descendants(root, process_stats()):
        try:
            words = Path(f"/proc/{pid}/smaps_rollup").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        total += int(words[words.index("Pss:") + 1]) * 1024
    return total


def cpu_clock(pid: int) -> float:
    """Return the CPU seconds of all threads of a process, the ended ones too; 0 when it has just ended.

    Source: clock_getcpuclockid(3); Linux makes the clock's number of the process id so, 2 being CPUCLOCK_SCHED.
    """
    try:
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:
        return 0.0


def process_stats() -> dict[int, tuple[int, int]]:
    """Return each process's parent, and the clock ticks of its children that have ended, by process id."""
    stats = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            stats[int(path.parent.name)] = parse_stat(path.read_text(errors="replace"))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended between the listing and the reading
    return stats


def parse_stat(line: str) -> tuple[int, int]:
    """Return (ppid, cutime + cstime) of one ``/proc/PID/stat`` line: see proc(5)."""
    # The second field is the command in parentheses and may itself hold spaces and parentheses.
    fields = line[line.rindex(")") + 2 :].split()
    return int(fields[1]), int(fields[13]) + int(fields[14])
