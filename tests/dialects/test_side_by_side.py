"""examples/express-side-by-side in a real Chromium, as its reader runs it: one login for an Express and a FastAPI application."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.demo.chromium import need_chromium

ROOT = Path(__file__).parents[2]
START = ROOT / "examples" / "express-side-by-side" / "start.py"
PATIENCE = 60.0
"""Seconds to start or to stop: long, since the machine may be busy."""


class Running:
    """`make side-by-side`, from its start to its end by Ctrl-C."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, START, "--port", "0"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.output = ""
        for line in self._process.stdout:
            self.output += line
            if "Ctrl-C" in line:
                break
        else:
            raise AssertionError(f"it ended with {self._process.wait(PATIENCE)}:\n{self.output}")
        self.url = self._found(r"(http://\S+)")[-1]
        self.logs = Path(self._found(r"logs\s+(\S+)/\*/server\.log")[0])

    def pids(self) -> dict[str, int]:
        """By name, as they are now."""
        of = {
            name: int(self._found(rf"{name} .*pid (\d+)")[-1])
            for name in ("Redis", "Express", "FastAPI", "nginx")
        }
        return of | {"start": self._process.pid}

    def log(self, name: str) -> str:
        """What one of them has written."""
        return (self.logs / name / "server.log").read_text()

    def stop(self) -> int:
        """Press Ctrl-C; the exit code."""
        self._process.send_signal(signal.SIGINT)
        self._process.send_signal(signal.SIGCONT)  # where a test ended that had stopped it for a moment
        self.output += self._process.communicate(timeout=PATIENCE)[0]
        return self._process.returncode

    def _found(self, pattern: str) -> list[str]:
        found = re.findall(pattern, self.output)
        assert found, self.output
        return found


@pytest.fixture(scope="module")
def example() -> Iterator[Running]:
    need_chromium()
    running = Running()
    try:
        yield running
        written = running.log("Express") + running.log("FastAPI")
    finally:
        assert running.stop() == 0, running.output
    assert "Stopped." in running.output
    assert not running.logs.exists()
    for pid in running.pids().values():
        assert not Path(f"/proc/{pid}").exists(), "nothing is left running"
    assert not re.search("Traceback|Error|Warning", written), written


@pytest.mark.parametrize("scenarios", ["together,out,forgery,keyboard", "accessibility,restarts"])
def test_in_the_browser(example: Running, scenarios: str) -> None:
    command = ["node", "side_by_side.mjs", example.url, scenarios, json.dumps(example.pids())]
    done = subprocess.run(
        command, cwd=Path(__file__).parent, env=os.environ, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_shows_the_code_that_runs() -> None:
    """What the README has of app.mjs and account.py is what is in them, block by block."""
    blocks = re.findall(r"```(js|python)\n(.*?)```", (START.parent / "README.md").read_text(), re.DOTALL)
    assert [language for language, _ in blocks] == ["js", "python"]
    for language, block in blocks:
        code = (START.parent / {"js": "app.mjs", "python": "account.py"}[language]).read_text()
        for line in filter(None, block.splitlines()):
            assert line in code.splitlines(), line
