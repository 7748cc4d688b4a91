"""Quart-Session on Redis, everything else its default."""

import os
import secrets

from quart_session import Session

from bench.apps.quart_routes import application

app = application()
app.config.update(
    SECRET_KEY=secrets.token_urlsafe(32), SESSION_TYPE="redis", SESSION_URI=os.environ["BENCH_STORE"]
)
Session(app)
