"""A demo of one's own: the real command, on a free port, over a state folder of the test's."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 30.0
"""Seconds for the demo to start or to stop; on an idle machine it takes one."""


class Demo:
    """`python -m demo`, from `with` to its end by Ctrl-C."""

    def __init__(self, state: Path, *, port: int = 0) -> None:
        # A run in a shell's background ignores Ctrl-C, and so would its children, until uvicorn listens to it.
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self.state = state
        self.process = subprocess.Popen(
            [sys.executable, "-m", "demo", "--port", str(port), "--state", str(state)],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "default"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output = ""
        self.url = ""

    def __enter__(self) -> Self:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if found := re.search(r"http://\S+", line):
                self.url = found[0]
                return self
        raise AssertionError(f"the demo ended with {self.process.wait(PATIENCE)}:\n{self.output}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> int:
        """Press Ctrl-C; the exit code. What was printed is in `output`."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGINT)
            rest, _ = self.process.communicate(timeout=PATIENCE)
            self.output += rest
        return self.process.returncode
