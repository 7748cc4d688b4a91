"""Redis."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers.running import Server, binary, free_port, serving

__all__ = ["redis"]


@contextmanager
def redis(folder: Path, *options: str) -> Iterator[Server]:
    """One Redis server, nothing kept on disk; `options` as on its command line, later ones count."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [binary("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    command += ["--save", "", "--appendonly", "no", *options]
    with serving(Server(f"redis://127.0.0.1:{port}/0", port, folder, command, answers)) as server:
        yield server


def answers(server: Server) -> bool:
    """Whether it is up: PING is answered, if only by a demand for a password."""
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=1.0) as probe:
            probe.sendall(b"PING\r\n")
            return probe.recv(64)[:5] in (b"+PONG", b"-NOAU")
    except OSError:
        return False
