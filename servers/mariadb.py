"""MariaDB."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers.running import Server, binary, free_port, serving

__all__ = ["mariadb"]


@contextmanager
def mariadb(folder: Path, *options: str) -> Iterator[Server]:
    """One MariaDB server with an empty database `coatcheck`; `options` as on its command line."""
    folder.mkdir(parents=True, exist_ok=True)
    port, data, sock = free_port(), folder / "data", folder / "maria.sock"
    as_user = ["--user=root"] if os.geteuid() == 0 else []
    subprocess.run(
        [
            binary("mariadb-install-db"),
            "--no-defaults",
            f"--datadir={data}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            *as_user,
        ],
        check=True,
        capture_output=True,
    )
    command = [binary("mariadbd"), "--no-defaults", f"--datadir={data}", f"--port={port}", f"--socket={sock}"]
    temporary = (
        folder / "tmp"
    )  # of its own: as it starts, a server deletes every `#sql…` there, another one's too
    temporary.mkdir(exist_ok=True)
    command += [
        f"--tmpdir={temporary}",
        "--bind-address=127.0.0.1",
        "--innodb-buffer-pool-size=64M",
        "--innodb-flush-log-at-trx-commit=2",
    ]
    command += ["--skip-log-bin", "--max-connections=200", *as_user, *options]
    url = f"mysql://root@127.0.0.1:{port}/coatcheck"
    with serving(Server(url, port, folder, command, answers)) as server:
        sql(server, "CREATE DATABASE coatcheck CHARACTER SET utf8mb4", database="mysql")
        yield server


def answers(server: Server) -> bool:
    """Whether it lets clients in."""
    return _client(server, "SELECT 1", "mysql").returncode == 0


def sql(server: Server, statement: str, *, database: str = "coatcheck") -> str:
    """Do something behind the store's back; returns the rows, fields separated by tabs."""
    done = _client(server, statement, database)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout.strip()


def _client(server: Server, statement: str, database: str) -> "subprocess.CompletedProcess[str]":
    command = [binary("mariadb"), "--no-defaults", "-h", "127.0.0.1", "-P", str(server.port), "-u", "root"]
    return subprocess.run([*command, "-N", "-B", "-e", statement, database], capture_output=True, text=True)
