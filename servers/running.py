"""A server process: started, waited for, stopped, killed, and started again in its place."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path

__all__ = ["Server", "ServerMissing", "binary", "free_port", "listens", "serving", "unprivileged"]

PATIENCE = 60.0
"""Seconds until a server must answer: long, since the machine may be busy."""
LOWEST, PORTS = 12_000, 20_000
"""Below what Linux gives to outgoing connections (32768 and up), and above what services are known by."""


class ServerMissing(Exception):
    """A server that tests need is not on this machine."""


@dataclass
class Server:
    """A running server. `url` is what `store=` takes."""

    url: str
    port: int
    folder: Path
    command: Sequence[str]
    is_ready: Callable[["Server"], bool]
    stop_signal: signal.Signals = signal.SIGTERM
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    @property
    def pid(self) -> int:
        """The process id. Raises RuntimeError while it is stopped."""
        if self.process is None:
            raise RuntimeError(f"{self.command[0]} is not running")
        return self.process.pid

    @property
    def log(self) -> str:
        """What it has written so far."""
        return (self.folder / "server.log").read_text(errors="replace")

    def start(self) -> None:
        """Start it, and return when it answers."""
        with (self.folder / "server.log").open("ab") as output:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        deadline = time.monotonic() + PATIENCE
        while not self.is_ready(self):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self.command[0]} did not start:\n{self.log[-2000:]}")
            time.sleep(0.02)  # a server offers nothing better to wait on

    def stop(self) -> None:
        """End it as an operator would, and wait."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Keep it from answering, connections and all, until `resume`: when this returns, all of it stands still."""
        for process in self._signal(signal.SIGSTOP):
            # On a busy machine it answers a command in between; and the system tells nobody but its parent, so it is asked.
            while not _stands(process):
                time.sleep(0.001)  # a look, not a delay: it ends with the condition

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, what: signal.Signals) -> list[int]:
        """To the server, which then makes no more, and the processes it has for its connections, if it has such: these."""
        os.kill(self.pid, what)
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        for child in children:
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(int(child), what)
        return [self.pid, *map(int, children)]

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Run a server for the length of the block."""
    server.start()
    try:
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.resume()  # what a paused one has for its connections would stand still for ever
        server.kill()  # nothing in its folder is wanted any more


def binary(name: str, *places: str) -> str:
    """The path of a server's program. `places` are patterns of folders to look into first; the last match counts."""
    for place in places:
        if found := sorted(glob(f"{place}/{name}")):
            return found[-1]
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if path is None:
        raise ServerMissing(f"{name} is not installed: run `bash scripts/servers` (make test does)")
    return path


def _stands(process: int) -> bool:
    """Whether every thread of a process has been stopped, or is gone."""
    for thread in Path(f"/proc/{process}/task").glob("*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            # What follows the name, which stands in brackets and may hold anything.
            if thread.read_text().rpartition(")")[2].split()[0] not in "TtZX":
                return False
    return True


def free_port() -> int:
    """A port that nobody listens on now, and that no connection will be given before somebody does.

    The system's own choice is one of those that it gives to outgoing connections, of which a run of tests makes thousands.
    """
    while True:
        port = LOWEST + secrets.randbelow(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def listens(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def unprivileged(folder: Path) -> list[str]:
    """What to put before a command that refuses to run as root: the user `postgres`, who gets the folder. Else nothing."""
    if os.geteuid() != 0:
        return []
    shutil.chown(folder, "postgres", "postgres")
    for parent in folder.parents:  # pytest makes its folders 0700
        if parent.stat().st_uid == 0 and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    return [binary("setpriv"), "--reuid=postgres", "--regid=postgres", "--clear-groups", "--inh-caps=-all"]
