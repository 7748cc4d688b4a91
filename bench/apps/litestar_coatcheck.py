"""coatcheck's plugin for Litestar on whichever store the bench names, everything else its default."""

import os
import secrets

from litestar import Litestar

from bench.apps.litestar_routes import ROUTES
from coatcheck.litestar import CoatCheck

app = Litestar(
    ROUTES,
    plugins=[CoatCheck(store=os.environ["BENCH_STORE"], secret=secrets.token_urlsafe(32))],
)
