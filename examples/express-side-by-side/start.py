"""Redis, the Express application, the FastAPI application and nginx: started, watched, and stopped together.

make side-by-side PORT=8000       or, with all of that installed:  python examples/express-side-by-side/start.py --port 8000
"""

import argparse
import os
import secrets
import signal
import socket
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # the checkout, which has servers/

from servers import Server, ServerMissing, redis
from servers.nginx import nginx
from servers.running import free_port, listens, serving

HERE = Path(__file__).parent


class Stop:
    """Whether somebody pressed Ctrl-C. Only noted, since what is being started just then must first be known."""

    is_asked = False

    @classmethod
    def note(cls, number: int, frame: object) -> None:
        cls.is_asked = True


def main() -> int:
    """Run until Ctrl-C; returns the exit code."""
    wanted = _arguments()
    for ended in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ended, Stop.note)
    try:
        with tempfile.TemporaryDirectory(prefix="side-by-side-") as folder, ExitStack() as stack:
            _watch(_started(stack, Path(folder), _free(wanted.port)))
    except (OSError, RuntimeError, ServerMissing) as error:
        print(f"side by side: {error}", file=sys.stderr)
        return 1
    print("\nStopped. The sessions are gone: this Redis keeps nothing on disk.")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Express and FastAPI behind one nginx, on one Redis, one login."
    )
    parser.add_argument("--port", type=_port, default=8000, help="where nginx listens (8000; 0: anywhere)")
    return parser.parse_args()


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65_535:
        raise ValueError(text)
    return number


def _free(wanted: int) -> int:
    """Raises OSError for one that somebody has."""
    if wanted == 0:
        return free_port()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError as error:
            text = f"port {wanted}: {error.strerror}; choose another: make side-by-side PORT=…"
            raise OSError(text) from error
    return wanted


def _started(stack: ExitStack, folder: Path, port: int) -> dict[str, Server]:
    """Everything, in its order; returns the two applications."""
    os.environ |= {"SESSION_SECRET": secrets.token_urlsafe(32), "NODE_ENV": "production"}
    kept = stack.enter_context(redis(folder / "redis"))
    _tell("Redis", kept)
    os.environ["REDIS_URL"] = kept.url
    ports = {name: free_port() for name in ("Express", "FastAPI")}
    os.environ["PORT"] = str(ports["Express"])
    commands = {
        "Express": ["node", str(HERE / "app.mjs")],
        "FastAPI": [
            *(sys.executable, "-m", "uvicorn", "--app-dir", str(HERE), "account:app"),
            *(
                "--host",
                "127.0.0.1",
                "--port",
                str(ports["FastAPI"]),
                "--no-proxy-headers",
                "--no-access-log",
            ),
        ],
    }
    applications = {name: _application(stack, folder / name, ports[name], commands[name]) for name in ports}
    for name, application in applications.items():
        _tell(name, application)
    front = stack.enter_context(nginx(folder / "nginx", _rules(port, ports), port))
    _tell("nginx", front)
    _greet(front, applications, folder)
    return applications


def _application(stack: ExitStack, folder: Path, port: int, command: list[str]) -> Server:
    folder.mkdir()
    url = f"http://127.0.0.1:{port}"
    server = stack.enter_context(serving(Server(url, port, folder, command, lambda it: listens(it.port))))
    stack.callback(server.stop)  # by SIGTERM: what is under way is answered
    return server


def _rules(port: int, ports: dict[str, int]) -> str:
    text = (HERE / "nginx.conf").read_text().replace("@PORT@", str(port))
    for name, one in ports.items():
        text = text.replace(f"@{name.upper()}@", str(one))
    return text


def _tell(name: str, server: Server) -> None:
    print(f"  {name:<9}127.0.0.1:{server.port:<8}pid {server.pid}", flush=True)


def _greet(front: Server, applications: dict[str, Server], folder: Path) -> None:
    kills = " or ".join(f"kill {server.pid} ({name})" for name, server in applications.items())
    print(
        f"\n  side by side  {front.url}\n"
        f"  log in as     ada / analytical-engine, or grace / nanoseconds\n"
        f"  try           {kills}: the other goes on\n"
        f"  logs          {folder}/*/server.log\n"
        f"  stop with     Ctrl-C\n",
        flush=True,
    )


def _watch(applications: dict[str, Server]) -> None:
    """Start again whichever of the two has ended, until Ctrl-C."""
    while not Stop.is_asked:
        for name, server in applications.items():
            if server.process is not None and (code := server.process.poll()) is not None:
                print(f"  {name} has ended ({code}): starting it again", flush=True)
                server.start()
                _tell(name, server)
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
