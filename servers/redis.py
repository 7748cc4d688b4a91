"""Redis: one server, one with a replica, a Cluster of six nodes, and a primary watched by three sentinels."""

import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from servers.running import Server, binary, free_port, serving

__all__ = ["RedisGroup", "cli", "redis", "redis_cluster", "redis_replicated", "redis_sentinel"]

PATIENCE = 60.0
"""Seconds until several servers must have found each other: long, since the machine may be busy."""


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


@dataclass
class RedisGroup:
    """Several servers that belong together. `url` is what `store=` takes."""

    url: str
    servers: Sequence[Server]
    """Those that hold data."""
    sentinels: Sequence[Server] = field(default=())

    def primaries(self) -> list[Server]:
        """Those that take writes now."""
        return [
            server
            for server in self.servers
            if server.process and "role:master" in cli(server, "INFO", "replication")
        ]

    def primary_of(self, key: str) -> Server:
        """The node of a cluster that a key is on."""
        slot = cli(self.primaries()[0], "CLUSTER", "KEYSLOT", key)
        for line in cli(self.primaries()[0], "CLUSTER", "NODES").splitlines():
            words = line.split()
            ranges = [part.partition("-") for part in words[8:] if not part.startswith("[")]
            if any(int(first) <= int(slot) <= int(last or first) for first, _, last in ranges):
                port = int(words[1].partition("@")[0].rpartition(":")[2])
                return next(server for server in self.servers if server.port == port)
        raise RuntimeError(f"no node has slot {slot}")


def cli(server: Server, *words: str) -> str:
    """Say something to a server behind the store's back; returns what it answers."""
    command = [binary("redis-cli"), "-h", "127.0.0.1", "-p", str(server.port), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()


@contextmanager
def redis_replicated(folder: Path) -> Iterator[RedisGroup]:
    """A primary (the first of the servers) and its replica."""
    with redis(folder / "primary", *QUICK) as primary, redis(folder / "replica", *QUICK) as replica:
        cli(replica, "REPLICAOF", "127.0.0.1", str(primary.port))
        _until(lambda: "state=online" in cli(primary, "INFO", "replication"), "the replica")
        yield RedisGroup(primary.url, (primary, replica))


@contextmanager
def redis_cluster(folder: Path) -> Iterator[RedisGroup]:
    """Six nodes, three of them primaries, one replica each."""
    with ExitStack() as stack:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", *QUICK)
        nodes = [stack.enter_context(_cluster_node(folder / str(n), options)) for n in range(6)]
        places = [f"127.0.0.1:{node.port}" for node in nodes]
        create = [
            binary("redis-cli"),
            "--cluster",
            "create",
            *places,
            "--cluster-replicas",
            "1",
            "--cluster-yes",
        ]
        subprocess.run(create, check=True, capture_output=True, timeout=PATIENCE)
        group = RedisGroup(f"redis+cluster://{places[0]},{places[1]}", nodes)
        _until(lambda: _is_whole(group), "the cluster")
        yield group


@contextmanager
def _cluster_node(folder: Path, options: Sequence[str]) -> Iterator[Server]:
    # The port of the cluster's bus is 10,000 higher unless it is told: that may be taken, or none.
    with redis(folder, "--cluster-port", str(free_port()), *options) as node:
        yield node


def _is_whole(group: RedisGroup) -> bool:
    states = [cli(node, "CLUSTER", "INFO") for node in group.servers]
    links = [cli(node, "INFO", "replication") for node in group.servers]
    return (
        all("cluster_state:ok" in state for state in states)
        and sum("master_link_status:up" in link for link in links) == 3
    )


@contextmanager
def redis_sentinel(folder: Path) -> Iterator[RedisGroup]:
    """A primary named `mymaster`, its replica, and three sentinels that put the replica in its place after a second."""
    with redis_replicated(folder) as group, ExitStack() as stack:
        sentinels = [
            stack.enter_context(_sentinel(folder / f"sentinel-{n}", group.servers[0])) for n in range(3)
        ]
        for sentinel in sentinels:
            _until(partial(_knows_all, sentinel), "the sentinels")
        places = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
        yield RedisGroup(f"redis+sentinel://{places}/mymaster/0", group.servers, sentinels)


@contextmanager
def _sentinel(folder: Path, primary: Server) -> Iterator[Server]:
    folder.mkdir(parents=True, exist_ok=True)
    port, file = free_port(), folder / "sentinel.conf"
    file.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
        f"sentinel monitor mymaster 127.0.0.1 {primary.port} 2\n"
        "sentinel down-after-milliseconds mymaster 1000\n"
        "sentinel failover-timeout mymaster 5000\n"
    )
    command = [binary("redis-server"), str(file), "--sentinel"]
    with serving(Server("", port, folder, command, answers)) as server:
        yield server


def _knows_all(sentinel: Server) -> bool:
    words = cli(sentinel, "SENTINEL", "MASTER", "mymaster").split()
    known = dict(zip(words[::2], words[1::2], strict=False))
    return (known.get("num-slaves"), known.get("num-other-sentinels")) == ("1", "2")


QUICK = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
"""So that a replica is there at once."""


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not come up in {PATIENCE:.0f} s")
        time.sleep(0.05)  # a server offers nothing better to wait on
