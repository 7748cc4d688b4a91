"""An example as its reader runs it: by the command at its top, on a port of the test's."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers.running import Server as Process
from servers.running import free_port, listens
from tests.web.servers import ROOT, Server

EXAMPLES = ROOT / "examples"
APPS = sorted(file.stem for file in EXAMPLES.glob("*_app.py"))

_BIND = "--bind 127.0.0.1:{port}"
_PORT = {"gunicorn": _BIND, "hypercorn": _BIND}
"""Program -> how it is told its port; others take `--port`."""


def command_of(example: str) -> str:
    """The command that its docstring ends with."""
    docstring = (EXAMPLES / f"{example}.py").read_text().split('"""')[1]
    return docstring.strip().splitlines()[-1]


def on_port(command: str, port: int) -> str:
    """The same command on this port, as one process: what sets the environment, then the program."""
    found = re.fullmatch(r"(?P<settings>(?:\w+=(?:\$\([^)]*\)|\S+) )*)(?P<program>\w+)(?P<rest>.*)", command)
    assert found is not None, command
    option = _PORT.get(found["program"], "--port {port}").format(port=port)
    return f"{found['settings']}exec {found['program']}{found['rest']} {option}"


@contextmanager
def running(example: str, folder: Path, **env: str) -> Iterator[Server]:
    """The example, from its start to its end. What it keeps in files, it keeps in `folder`."""
    port = free_port()
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    modules = f"{ROOT / 'src'}:{ROOT}"  # its reader stands in the checkout; here every example has a folder of its own
    settings = {"PATH": programs, "PYTHONPATH": modules, "PYTHONUNBUFFERED": "1", **env}
    command = ["env", f"--chdir={folder}", *(f"{name}={value}" for name, value in settings.items())]
    command += ["bash", "-c", on_port(command_of(example), port)]
    process = Process(f"http://127.0.0.1:{port}", port, folder, command, lambda server: listens(server.port))
    process.start()
    try:
        yield Server(port, process.pid, folder / "server.log")
    finally:
        process.stop()
