"""coatcheck on whichever store the bench names, everything else its default."""

import os
import secrets

from bench.apps.starlette_routes import application
from coatcheck.core.ports import Backend, SetsUp
from coatcheck.core.stepping import run_now
from coatcheck.starlette import SessionMiddleware
from coatcheck.stores import open_store

URL = os.environ["BENCH_STORE"]


def set_up(backend: Backend) -> None:
    """Make its tables, if it has such."""
    store = backend.blocking()
    if isinstance(store, SetsUp):
        run_now(store.setup())


set_up(open_store(URL))

app = application()
app.add_middleware(SessionMiddleware, store=URL, secret=secrets.token_urlsafe(32))
