"""PostgreSQL."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers.running import Server, binary, free_port, serving, unprivileged

__all__ = ["postgres"]

PLACES = "/usr/lib/postgresql/*/bin"


@contextmanager
def postgres(folder: Path, *options: str) -> Iterator[Server]:
    """One PostgreSQL server with an empty database; `options` are settings, `name=value`. Every local user is let in."""
    folder.mkdir(parents=True, exist_ok=True)
    port, data = free_port(), folder / "data"
    as_user = unprivileged(folder)
    initdb = [binary("initdb", PLACES), "--pgdata", str(data), "--username=coatcheck", "--auth=trust"]
    subprocess.run(
        [*as_user, *initdb, "--encoding=UTF8", "--no-locale", "--no-sync"],
        check=True,
        capture_output=True,
        cwd=folder,
        env={
            **os.environ,
            "TZ": "Etc/UTC",
        },  # the server's zone is the one of who makes it, and Django sets its own
    )
    settings = ["listen_addresses=127.0.0.1", f"port={port}", f"unix_socket_directories={folder}"]
    settings += ["max_connections=200", "shared_buffers=64MB", *options]
    command = [*as_user, binary("postgres", PLACES), "-D", str(data)]
    command += [word for setting in settings for word in ("-c", setting)]
    url = f"postgresql://coatcheck@127.0.0.1:{port}/coatcheck"
    with serving(Server(url, port, folder, command, answers, signal.SIGINT)) as server:
        psql(server, "CREATE DATABASE coatcheck", database="postgres")
        yield server


def answers(server: Server) -> bool:
    """Whether it lets clients in."""
    ready = [binary("pg_isready", PLACES), "-q", "-h", "127.0.0.1", "-p", str(server.port)]
    return subprocess.run(ready).returncode == 0


def psql(server: Server, statement: str, *, database: str = "coatcheck") -> str:
    """Do something behind the store's back; returns the rows, fields separated by `|`."""
    command = [binary("psql", PLACES), "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1"]
    command += ["-p", str(server.port), "-U", "coatcheck", "-d", database, "-c", statement]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
