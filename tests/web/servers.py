"""Real servers for tests, and a client that sends exactly the bytes it is told to.

    with uvicorn("tests.web.apps:asgi", folder=tmp_path) as server:
        seen = exchange(server, b"GET / HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")

A server inherits a socket that already listens on a free loopback port: there is no port to race for and nothing to poll, since
a connection made too early waits in the backlog (granian takes none, and is waited for). It is ended by its own process id; its
output is in `folder`.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

from servers.running import free_port, listens
from tests.canaries import said

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
"""Seconds to wait for a byte: long, since the machine may be busy; a test that needs it has failed anyway."""


@dataclass(frozen=True)
class Server:
    """A running server: where it listens, its process id, and its output so far."""

    port: int
    pid: int
    log: Path


@contextmanager
def uvicorn(
    app: str,
    *,
    folder: Path,
    env: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
    within: Sequence[str] = (),
) -> Iterator[Server]:
    """Serve an ASGI application, given as `module:name`, with one process. `within`: a module that starts it, and arguments."""
    with _listening() as listener:
        command = [*within, "uvicorn", app, "--fd", str(listener.fileno()), "--no-access-log", *options]
        with _running(command, listener, folder, env) as server:
            yield server


@contextmanager
def gunicorn(
    app: str,
    *,
    folder: Path,
    env: Mapping[str, str] | None = None,
    workers: int = 1,
    threads: int = 8,
    kind: str = "gthread",
    options: Sequence[str] = (),
    within: Sequence[str] = (),
) -> Iterator[Server]:
    """Serve a WSGI application, given as `module:name`, with threads; `kind` is another class of workers."""
    with _listening() as listener:
        command = [*within, "gunicorn", app, "--bind", f"fd://{listener.fileno()}", "--worker-class", kind]
        if kind == "gthread":
            command += ["--threads", str(threads)]
        command += ["--workers", str(workers), "--worker-tmp-dir", str(folder), *options]
        with _running(command, listener, folder, env) as server:
            yield server


@contextmanager
def hypercorn(
    app: str, *, folder: Path, env: Mapping[str, str] | None = None, options: Sequence[str] = ()
) -> Iterator[Server]:
    """Serve an ASGI application, given as `module:name`, with one process."""
    with _listening() as listener:
        command = ["hypercorn", app, "--bind", f"fd://{listener.fileno()}", "--workers", "0", *options]
        with _running(command, listener, folder, env) as server:
            yield server


@contextmanager
def aiohttp(app: str, *, folder: Path, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Serve an aiohttp application, given as `module:name`, with aiohttp's own runner."""
    with _listening() as listener:
        command = ["tests.web.run_aiohttp", app, str(listener.fileno())]
        with _running(command, listener, folder, env) as server:
            yield server


@contextmanager
def granian(
    app: str,
    *,
    folder: Path,
    interface: str,
    env: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
) -> Iterator[Server]:
    """Serve an application, given as `module:name`, with one worker. It takes no socket, so it is waited for."""
    command = ["granian", app, "--interface", interface, *options]
    with _waited_for(command, folder, env, lambda port: ["--port", str(port)]) as server:
        yield server


@contextmanager
def _listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        listener.set_inheritable(True)
        yield listener


@contextmanager
def _running(
    command: list[str], listener: socket.socket, folder: Path, env: Mapping[str, str] | None
) -> Iterator[Server]:
    port = listener.getsockname()[1]
    process, log = _start(command, port, folder, env, listener.fileno())
    listener.close()  # the server's alone now: if it dies, clients hear of it
    try:
        yield Server(port, process.pid, log)
    finally:
        _stop(process)
    _listen_to(log)


@contextmanager
def _waited_for(
    command: list[str],
    folder: Path,
    env: Mapping[str, str] | None,
    on_port: Callable[[int], Sequence[str]],
) -> Iterator[Server]:
    port = free_port()
    process, log = _start([*command, *on_port(port)], port, folder, env)
    try:
        deadline = time.monotonic() + PATIENCE
        while not listens(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)  # a server offers nothing better to wait on
        yield Server(port, process.pid, log)
    finally:
        _stop(process)
    _listen_to(log)


def _listen_to(log: Path) -> None:
    """Of a server whose test has passed: it may not have written a secret, or met an exception that is not documented."""
    wrong = said(log.read_text(errors="replace"))
    assert wrong == [], wrong


def _start(
    command: Sequence[str], port: int, folder: Path, env: Mapping[str, str] | None, *inherited: int
) -> tuple["subprocess.Popen[bytes]", Path]:
    log = folder / f"{command[0]}-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=inherited,
        )
    return process, log


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# ------------------------------------------------------------------------------------------------------- the client


@dataclass(frozen=True)
class Seen:
    """A response as it came. Header names are in lower case, every field on its own."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        """The values of every field of this name."""
        return [value for header, value in self.headers if header == name]

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


class Wire:
    """One connection. Sends what it is given, and reads one response; knows no cookies, normalises nothing."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
        self._server, self._read = server, b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send these bytes."""
        self._socket.sendall(data)

    def until(self, mark: bytes) -> bytes:
        """Read up to and including `mark`."""
        while mark not in self._read:
            self._more()
        found, _, self._read = self._read.partition(mark)
        return found + mark

    def exactly(self, size: int) -> bytes:
        """Read so many octets."""
        while len(self._read) < size:
            self._more()
        found, self._read = self._read[:size], self._read[size:]
        return found

    def to_the_end(self) -> bytes:
        """Read until the server closes."""
        while piece := self._socket.recv(65_536):
            self._read += piece
        found, self._read = self._read, b""
        return found

    def _more(self) -> None:
        piece = self._socket.recv(65_536)
        if not piece:
            raise AssertionError(
                f"the server closed after {self._read!r}; it said:\n{self._server.log.read_text()}"
            )
        self._read += piece

    def head(self) -> Seen:
        """Read the head of a response."""
        first, *fields = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")[:-2]
        pairs = (field.partition(":") for field in fields)
        headers = tuple((name.lower(), value.strip()) for name, _, value in pairs)
        return Seen(int(first.split(" ")[1]), headers)

    def pieces(self) -> Iterator[bytes]:
        """Read the chunks of a chunked body, as they come."""
        while size := int(self.until(b"\r\n"), 16):
            yield self.exactly(size + 2)[:-2]
        self.until(b"\r\n")

    def response(self, *, of_head: bool = False) -> Seen:
        """Read a whole response; `of_head` if it answers a HEAD request."""
        head = self.head()
        length = head.all("content-length")
        if of_head or head.status in (204, 304) or head.status < 200:
            body = b""
        elif head.all("transfer-encoding") == ["chunked"]:
            body = b"".join(self.pieces())
        else:
            body = self.exactly(int(length[0])) if length else self.to_the_end()
        return Seen(head.status, head.headers, body)


def exchange(server: Server, request: bytes) -> Seen:
    """Send one request, byte for byte, on a connection of its own; return the response."""
    with Wire(server) as wire:
        wire.send(request)
        return wire.response(of_head=request.startswith(b"HEAD "))


@dataclass
class Browser:
    """A visitor of a real server: keeps cookies by name, and nothing else."""

    server: Server
    host: str = "localhost"
    cookies: dict[str, str] = field(default_factory=dict)

    def visit(self, path: str, method: str = "GET", **headers: str) -> Seen:
        """Ask for a page; header names have `_` for `-`."""
        seen = exchange(self.server, self.request(path, method, **headers))
        self.remember(seen)
        return seen

    def post(self, path: str, **fields: str) -> Seen:
        """Send a form."""
        body = urlencode(fields).encode()
        kind = "application/x-www-form-urlencoded"
        head = self.request(path, "POST", Content_Type=kind, Content_Length=str(len(body)))
        seen = exchange(self.server, head + body)
        self.remember(seen)
        return seen

    def request(self, path: str, method: str = "GET", **headers: str) -> bytes:
        """The bytes of a request with our cookies."""
        fields = {"Host": self.host, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if self.cookies:
            fields["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def remember(self, seen: Seen) -> None:
        """Keep, or throw away, the cookies a response sets."""
        keep(seen, self.cookies)


def keep(seen: Seen, cookies: dict[str, str]) -> None:
    """Change what a browser holds as a response says."""
    for line in seen.all("set-cookie"):
        name, _, value = line.partition(";")[0].partition("=")
        if "Max-Age=0" in line:
            cookies.pop(name, None)
        else:
            cookies[name] = value
