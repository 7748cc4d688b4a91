"""Real database servers for tests and benches: on private loopback ports, in a temporary folder, stopped by process id.

with postgres(folder) as server:
    server.url          # postgresql://coatcheck@127.0.0.1:40123/coatcheck

`scripts/servers` installs them. One that is missing is an error that says so, never a skip.
"""

from servers.mariadb import mariadb
from servers.mongo import mongo
from servers.pgbouncer import pgbouncer
from servers.postgres import postgres
from servers.redis import RedisGroup, redis, redis_cluster, redis_replicated, redis_sentinel
from servers.running import Server, ServerMissing

__all__ = [
    "RedisGroup",
    "Server",
    "ServerMissing",
    "mariadb",
    "mongo",
    "pgbouncer",
    "postgres",
    "redis",
    "redis_cluster",
    "redis_replicated",
    "redis_sentinel",
]
