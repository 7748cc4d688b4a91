"""What a test needs that looks through a real browser."""

import functools
import shutil
import subprocess

import pytest

from tests.demo.running import REPOSITORY

NEEDED = {"node": "nodejs", "npm": "npm", "chromium": "chromium"}
"""Command -> Debian's package of it."""


@functools.cache
def need_chromium() -> None:
    """Node, Chromium and the locked packages. Missing ones fail the tests: a skip would hide that nobody looked."""
    missing = [package for command, package in NEEDED.items() if shutil.which(command) is None]
    if missing:
        pytest.fail(f"apt-get update && apt-get install -y --no-install-recommends {' '.join(missing)}")
    done = subprocess.run(
        ["bash", REPOSITORY / "scripts" / "node"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
