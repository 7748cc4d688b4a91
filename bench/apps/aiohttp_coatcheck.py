"""coatcheck under aiohttp, on whichever store the bench names, everything else its default."""

import os
import secrets

from bench.apps.aiohttp_routes import application
from coatcheck.aiohttp import get_session, setup

app = application(get_session)
setup(app, store=os.environ["BENCH_STORE"], secret=secrets.token_urlsafe(32))
