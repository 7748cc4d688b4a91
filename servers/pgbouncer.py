"""PgBouncer, in transaction mode: a server connection is lent for one transaction."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers.running import Server, binary, free_port, listens, serving, unprivileged

__all__ = ["pgbouncer", "tracks_statements"]


@contextmanager
def pgbouncer(folder: Path, behind: Server, *options: str) -> Iterator[Server]:
    """A pooler in front of a PostgreSQL server; `options` are settings, `name=value`. `url` goes through it."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    (folder / "users.txt").write_text('"coatcheck" ""\n')
    settings = [f"listen_port={port}", "listen_addr=127.0.0.1", "unix_socket_dir=", "auth_type=trust"]
    settings += [
        f"auth_file={folder / 'users.txt'}",
        "pool_mode=transaction",
        "default_pool_size=5",
        "max_client_conn=500",
    ]
    settings += [f"logfile={folder / 'pgbouncer.log'}", *options]
    databases = f"coatcheck = host=127.0.0.1 port={behind.port} dbname=coatcheck user=coatcheck"
    ini = folder / "pgbouncer.ini"
    ini.write_text("\n".join(["[databases]", databases, "[pgbouncer]", *settings, ""]))
    as_user = unprivileged(folder)
    command = [*as_user, binary("pgbouncer"), str(ini)]
    url = f"postgresql://coatcheck@127.0.0.1:{port}/coatcheck"
    with serving(Server(url, port, folder, command, lambda server: listens(server.port))) as server:
        yield server


def tracks_statements() -> bool:
    """Whether the installed one can keep track of prepared statements (`max_prepared_statements`, since 1.21)."""
    said = subprocess.run(
        [binary("pgbouncer"), "--version"], capture_output=True, text=True, check=True
    ).stdout
    major, minor = said.split()[1].split(".")[:2]
    return (int(major), int(minor)) >= (1, 21)
