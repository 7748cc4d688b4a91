"""MongoDB: a replica set of one, a standalone server, or a replica set of three."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from servers.running import PATIENCE, Server, binary, free_port, listens, serving

__all__ = ["MongoSet", "mongo", "mongo_replicated"]

PLACE = str(Path(__file__).resolve().parent.parent / ".servers/mongod/fiftyone/db/bin")


@contextmanager
def mongo(folder: Path, *options: str, replica_set: bool = True) -> Iterator[Server]:
    """One mongod; its TTL monitor looks every second."""
    if replica_set:
        with _mongod(folder, "--replSet", "rs0", *options) as server:
            server.url += "?replicaSet=rs0"
            _initiate([server])
            yield server
    else:
        with _mongod(folder, *options) as server:
            yield server


@contextmanager
def _mongod(folder: Path, *options: str) -> Iterator[Server]:
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [
        binary("mongod", os.environ.get("COATCHECK_MONGOD", PLACE), PLACE),
        "--port",
        str(port),
        "--bind_ip",
        "127.0.0.1",
    ]
    command += [
        "--dbpath",
        str(folder),
        "--setParameter",
        "ttlMonitorSleepSecs=1",
        "--wiredTigerCacheSizeGB",
        "0.25",
    ]
    command += ["--networkMessageCompressors", "snappy,zstd", "--nounixsocket", *options]
    url = f"mongodb://127.0.0.1:{port}/coatcheck"
    with serving(Server(url, port, folder, command, lambda server: listens(server.port))) as server:
        yield server


# ---------------------------------------------------------------------------------------------------------- replication


@dataclass
class MongoSet:
    """Three members of one replica set, each with all data. `url` names all: what `store=` takes."""

    url: str
    servers: Sequence[Server]

    def primary(self) -> Server | None:
        """The one that takes writes now, by its own word, if there is one."""
        return next((server for server in self.servers if server.process and _is_primary(server)), None)

    def await_primary(self, *, other_than: Server | None = None) -> Server:
        """Wait for the end of an election. `other_than`: who may still believe to be it. Raises RuntimeError."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            candidates = [server for server in self.servers if server.process and server is not other_than]
            for server in candidates:
                if _is_primary(server):
                    return server
            time.sleep(0.02)  # there is nothing better to wait on
        raise RuntimeError(f"the replica set elected nobody in {PATIENCE:.0f} s")

    def step_down(self, seconds: int = 30) -> Server:
        """Have the primary stand back for so long, as an operator does for upkeep. Returns it."""
        primary = self.await_primary()
        command(primary, {"replSetStepDown": seconds, "secondaryCatchUpPeriodSecs": 5})
        return primary


# A secondary that follows a member which hangs gives it up as soon as the set does. With mongod's own patience (5 seconds, then
# 7) it was seen to follow the new primary 11 seconds late, and until then no majority acknowledges a write.
_GIVES_UP_SOON: Final = (
    "--setParameter", "oplogNetworkTimeoutBufferSeconds=1", "--setParameter", "oplogRetriedFindMaxSeconds=1",
)  # fmt: skip


@contextmanager
def mongo_replicated(folder: Path) -> Iterator[MongoSet]:
    """A replica set of three, which elects another primary when it has not heard of the old one for a second."""
    with ExitStack() as stack:
        servers = [
            stack.enter_context(_mongod(folder / str(n), "--replSet", "rs0", *_GIVES_UP_SOON))
            for n in range(3)
        ]
        _initiate(servers, heartbeatIntervalMillis=300, electionTimeoutMillis=1000)
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
        group = MongoSet(f"mongodb://{hosts}/coatcheck?replicaSet=rs0", servers)
        _await_members(group)
        yield group


def command(server: Server, what: dict[str, Any]) -> dict[str, Any]:
    """Say something to one server, behind the store's back. Raises PyMongoError."""
    with MongoClient[dict[str, Any]](
        "127.0.0.1", server.port, directConnection=True, serverSelectionTimeoutMS=2000, socketTimeoutMS=20_000
    ) as client:
        return client.admin.command(what)


def _initiate(servers: Sequence[Server], **settings: int) -> None:
    """Make servers a replica set, and wait until it has a primary."""
    members = [{"_id": n, "host": f"127.0.0.1:{server.port}"} for n, server in enumerate(servers)]
    command(servers[0], {"replSetInitiate": {"_id": "rs0", "members": members, "settings": settings}})
    MongoSet("", servers).await_primary()


def _await_members(group: MongoSet) -> None:
    """Until every member has all data: before that the death of one might leave no majority."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        status = command(group.await_primary(), {"replSetGetStatus": 1})
        if sorted(member["stateStr"] for member in status["members"]) == [
            "PRIMARY",
            "SECONDARY",
            "SECONDARY",
        ]:
            return
        time.sleep(0.05)  # there is nothing better to wait on
    raise RuntimeError(f"the replica set did not come up in {PATIENCE:.0f} s")


def _is_primary(server: Server) -> bool:
    try:
        return bool(command(server, {"hello": 1}).get("isWritablePrimary"))
    except PyMongoError:  # it is going down, or paused
        return False
