"""starsessions under FastAPI, on Redis, loaded by its autoload middleware, all else its default."""

import os

from redis.asyncio import Redis
from starsessions import SessionAutoloadMiddleware, SessionMiddleware
from starsessions.stores.redis import RedisStore

from bench.apps.fastapi_routes import application

app = application()
# The middleware added last runs first: sessions are set up before they are loaded.
app.add_middleware(SessionAutoloadMiddleware)
app.add_middleware(SessionMiddleware, store=RedisStore(connection=Redis.from_url(os.environ["BENCH_STORE"])))
