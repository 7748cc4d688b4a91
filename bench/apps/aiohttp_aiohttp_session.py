"""aiohttp-session on Redis, everything else its default."""

import os

from aiohttp_session import get_session, setup
from aiohttp_session.redis_storage import RedisStorage
from redis.asyncio import Redis

from bench.apps.aiohttp_routes import application

app = application(get_session)
setup(app, RedisStorage(Redis.from_url(os.environ["BENCH_STORE"])))
