"""coatcheck under FastAPI, on whichever store the bench names, everything else its default."""

import os
import secrets

from bench.apps.fastapi_routes import application
from coatcheck.fastapi import SessionMiddleware

app = application()
app.add_middleware(SessionMiddleware, store=os.environ["BENCH_STORE"], secret=secrets.token_urlsafe(32))
