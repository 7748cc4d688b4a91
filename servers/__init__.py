"""Real database servers for tests and benches: on private loopback ports, in a temporary folder, stopped by process id.

with postgres(folder) as server:
    server.url          # postgresql://coatcheck@127.0.0.1:40123/coatcheck

`scripts/servers` installs them. One that is missing is an error that says so, never a skip.
"""

from servers.mariadb import mariadb
from servers.mongo import MongoSet, mongo, mongo_replicated
from servers.pgbouncer import pgbouncer
from servers.postgres import PostgresPair, postgres, postgres_replicated
from servers.redis import RedisGroup, redis, redis_cluster, redis_replicated, redis_sentinel
from servers.running import Server, ServerMissing

__all__ = [
    "MongoSet",
    "PostgresPair",
    "RedisGroup",
    "Server",
    "ServerMissing",
    "mariadb",
    "mongo",
    "mongo_replicated",
    "pgbouncer",
    "postgres",
    "postgres_replicated",
    "redis",
    "redis_cluster",
    "redis_replicated",
    "redis_sentinel",
]
