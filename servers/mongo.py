"""MongoDB: a replica set of one, or a standalone server."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from servers.running import Server, binary, free_port, listens, serving

__all__ = ["mongo"]

PLACE = str(Path(__file__).resolve().parent.parent / ".servers/mongod/fiftyone/db/bin")


@contextmanager
def mongo(folder: Path, *options: str, replica_set: bool = True) -> Iterator[Server]:
    """One mongod; its TTL monitor looks every second."""
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
    if replica_set:
        command += ["--replSet", "rs0"]
        url += "?replicaSet=rs0"
    with serving(Server(url, port, folder, command, lambda server: listens(server.port))) as server:
        if replica_set:
            _initiate(port)
        yield server


def _initiate(port: int) -> None:
    """Make the one server a replica set, and wait until it is its primary."""
    import time

    from pymongo import MongoClient

    with MongoClient[dict[str, Any]]("127.0.0.1", port, directConnection=True) as client:
        members = [{"_id": 0, "host": f"127.0.0.1:{port}"}]
        client.admin.command("replSetInitiate", {"_id": "rs0", "members": members})
        for _ in range(3000):
            if client.admin.command("hello").get("isWritablePrimary"):
                return
            time.sleep(0.02)  # there is nothing better to wait on
        raise RuntimeError(f"no primary: {json.dumps(client.admin.command('replSetGetStatus'), default=str)}")
