"""PostgreSQL: one server, or a primary with a streaming replica that can be promoted."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from servers.running import PATIENCE, Server, binary, free_port, serving, unprivileged

__all__ = ["PostgresPair", "hold_back", "postgres", "postgres_replicated", "power_cut", "promote", "psql"]

PLACES = "/usr/lib/postgresql/*/bin"


@contextmanager
def postgres(folder: Path, *options: str) -> Iterator[Server]:
    """One PostgreSQL server with an empty database; `options` are settings, `name=value`. Every local user is let in."""
    folder.mkdir(parents=True, exist_ok=True)
    data, as_user = folder / "data", unprivileged(folder)
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
    with serving(_server(folder, *options)) as server:
        psql(server, "CREATE DATABASE coatcheck", database="postgres")
        yield server


def _server(folder: Path, *options: str) -> Server:
    """The server of the data in a folder, not started."""
    port = free_port()
    settings = ["listen_addresses=127.0.0.1", f"port={port}", f"unix_socket_directories={folder}"]
    settings += ["max_connections=200", "shared_buffers=64MB", *options]
    command = [*unprivileged(folder), binary("postgres", PLACES), "-D", str(folder / "data")]
    command += [word for setting in settings for word in ("-c", setting)]
    url = f"postgresql://coatcheck@127.0.0.1:{port}/coatcheck"
    return Server(url, port, folder, command, answers, signal.SIGINT)


def answers(server: Server) -> bool:
    """Whether it lets clients in."""
    ready = [binary("pg_isready", PLACES), "-q", "-h", "127.0.0.1", "-p", str(server.port)]
    return subprocess.run(ready).returncode == 0


def psql(server: Server, statement: str, *, database: str = "coatcheck") -> str:
    """Do something behind the store's back; returns the rows, fields separated by `|`."""
    command = [binary("psql", PLACES), "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1"]
    command += ["-p", str(server.port), "-U", "coatcheck", "-d", database, "-c", statement]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


# ---------------------------------------------------------------------------------------------------------- replication


@dataclass
class PostgresPair:
    """A primary and its streaming replica, a hot standby. `url` names both: what `store=` takes."""

    url: str
    primary: Server
    replica: Server


@contextmanager
def postgres_replicated(folder: Path, *, synchronous: bool = False) -> Iterator[PostgresPair]:
    """A primary and a replica that follows it. `synchronous`: a commit is acknowledged when the replica has it on its disk."""
    with postgres(folder / "primary") as primary:
        copy = folder / "replica"
        copy.mkdir()
        backup = [
            binary("pg_basebackup", PLACES),
            "-h",
            "127.0.0.1",
            "-p",
            str(primary.port),
            "-U",
            "coatcheck",
        ]
        backup += ["-D", str(copy / "data"), "--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
        subprocess.run([*unprivileged(copy), *backup], check=True, capture_output=True, cwd=copy)
        with serving(_server(copy)) as replica:
            until(lambda: _follows(primary), "the replica")
            if synchronous:  # only now: the copy must not wait for a replica of its own when it is promoted
                psql(primary, "ALTER SYSTEM SET synchronous_standby_names = '*'")
                psql(primary, "SELECT pg_reload_conf()")
                until(lambda: _follows(primary, "sync"), "the synchronous replica")
            hosts = f"127.0.0.1:{primary.port},127.0.0.1:{replica.port}"
            yield PostgresPair(f"postgresql://coatcheck@{hosts}/coatcheck", primary, replica)


def hold_back(primary: Server) -> None:
    """Have a primary send nothing more to its standby, as on a network that swallows packets."""
    for sender in psql(primary, "SELECT pid FROM pg_stat_replication").splitlines():
        os.kill(int(sender), signal.SIGSTOP)


def promote(replica: Server) -> None:
    """Make a replica a primary; returns when it takes writes."""
    psql(replica, "SELECT pg_promote(wait => true)")


def _follows(primary: Server, how: str = "async") -> bool:
    return psql(primary, "SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'") == how


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for what a server tells nobody of. Raises RuntimeError when it takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not come up in {PATIENCE:.0f} s")
        time.sleep(0.05)  # a server offers nothing better to wait on


def power_cut(server: Server) -> None:
    """End the server and its processes for connections all at once. (Those may finish what they are at if it alone dies.)"""
    server.pause()
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    server.kill()
    until(lambda: not any(_lives(child) for child in children), "the end of all its processes")


def _lives(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
