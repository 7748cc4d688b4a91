"""starsessions, in memory or on Redis, loaded by its autoload middleware, all else its default."""

import os

from redis.asyncio import Redis
from starsessions import InMemoryStore, SessionAutoloadMiddleware, SessionMiddleware, SessionStore
from starsessions.stores.redis import RedisStore

from bench.apps.starlette_routes import application


def store(where: str) -> SessionStore:
    """Return the store of a URL of Redis, or of ``memory``."""
    return InMemoryStore() if where == "memory" else RedisStore(connection=Redis.from_url(where))


app = application()
# The middleware added last runs first: sessions are set up before they are loaded.
app.add_middleware(SessionAutoloadMiddleware)
app.add_middleware(SessionMiddleware, store=store(os.environ["BENCH_STORE"]))
