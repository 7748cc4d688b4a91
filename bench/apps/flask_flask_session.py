"""Flask-Session on Redis, everything else its default."""

import os
import secrets

from flask_session import Session
from redis import Redis

from bench.apps.flask_routes import application

app = application()
app.config.update(
    SECRET_KEY=secrets.token_urlsafe(32),
    SESSION_TYPE="redis",
    SESSION_REDIS=Redis.from_url(os.environ["BENCH_STORE"]),
)
Session(app)
