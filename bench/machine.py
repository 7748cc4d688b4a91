"""What the figures were measured on and with: they mean little without it."""

import json
import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.server import ROOM_OF_NODE, loop_and_parser
from servers import ServerMissing
from servers.mongo import PLACE
from servers.postgres import PLACES
from servers.running import binary

PACKAGES = (
    "coatcheck",
    "starlette",
    "starsessions",
    "fastapi",
    "litestar",
    "quart",
    "quart-session",
    "aiohttp",
    "aiohttp-session",
    "flask",
    "flask-session",
    "django",
    "falcon",
    "uvicorn",
    "uvloop",
    "httptools",
    "gunicorn",
    "msgspec",
    "cryptography",
    "itsdangerous",
    "redis",
    "hiredis",
    "asyncpg",
    "psycopg",
    "pymongo",
    "sqlalchemy",
)


def machine() -> dict[str, object]:
    """Return the processor, how many cores there are, the system, and how busy it is already."""
    return {
        "cpu": processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "load_average_at_start": load_average(),
    }


def load_average() -> float:
    """Return how many processes wanted to run, on average over the last minute."""
    return round(os.getloadavg()[0], 2)


def processor() -> str:
    """Return the processor's name as Linux tells it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def versions() -> dict[str, str]:
    """Return the version of everything that takes part, and which loop and parser uvicorn runs on."""
    found = {name: installed(name) for name in PACKAGES}
    loop, parser = loop_and_parser()
    return {name: number for name, number in found.items() if number} | {
        **of_node(),
        **of_servers(),
        "wrk": wrk_version(),
        "uvicorn loop": loop,
        "uvicorn parser": parser,
    }


def of_node() -> dict[str, str]:
    """Return the versions of Node and of the packages its rows use, as far as they are there."""
    wanted = json.loads((ROOM_OF_NODE / "package.json").read_text())["dependencies"]
    found = {f"npm {name}": ROOM_OF_NODE / "node_modules" / name / "package.json" for name in wanted}
    there = {name: json.loads(path.read_text())["version"] for name, path in found.items() if path.exists()}
    return ({"node": said("node", "--version")} if shutil.which("node") else {}) | there


def of_servers() -> dict[str, str]:
    """Return what the database servers that are installed say of their versions."""
    found = {}
    for name, place in (("redis-server", ""), ("postgres", PLACES), ("mongod", PLACE)):
        try:
            found[name] = said(binary(name, *[place] if place else []), "--version")
        except ServerMissing:
            continue
    return found


def said(*command: str) -> str:
    """Return the first thing that looks like a version in what a command prints."""
    printed = subprocess.run(command, capture_output=True, text=True).stdout
    match = re.search(r"\d+(\.\d+)+", printed)
    return match[0] if match else "unknown"


def installed(name: str) -> str:
    """Return a package's version, empty when it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def wrk_version() -> str:
    """Return wrk's version; it prints it with its usage and ends with an error."""
    words = subprocess.run(["wrk", "--version"], capture_output=True, text=True).stdout.split()
    return words[1] if len(words) > 1 else "unknown"
