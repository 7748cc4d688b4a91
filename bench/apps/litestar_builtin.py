"""Litestar's own server-side sessions on its Redis store, everything else its default."""

import os

from litestar import Litestar
from litestar.middleware.session.server_side import ServerSideSessionConfig
from litestar.stores.redis import RedisStore

from bench.apps.litestar_routes import ROUTES

app = Litestar(
    ROUTES,
    middleware=[ServerSideSessionConfig().middleware],
    stores={"sessions": RedisStore.with_client(os.environ["BENCH_STORE"])},
)
