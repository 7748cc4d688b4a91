"""What the figures were measured on and with: they mean little without it."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.server import loop_and_parser

PACKAGES = (
    "coatcheck",
    "starlette",
    "starsessions",
    "uvicorn",
    "uvloop",
    "httptools",
    "gunicorn",
    "msgspec",
    "cryptography",
    "itsdangerous",
)


def machine() -> dict[str, object]:
    """Return the processor, how many cores there are, the system, and how busy it is already."""
    return {
        "cpu": processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "load_average_at_start": round(os.getloadavg()[0], 2),
    }


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
        "wrk": wrk_version(),
        "uvicorn loop": loop,
        "uvicorn parser": parser,
    }


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
