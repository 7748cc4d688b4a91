"""Starlette's own sessions: the data travels in a signed cookie, nothing is kept on the server."""

import secrets

from starlette.middleware.sessions import SessionMiddleware

from bench.apps.starlette_routes import application

app = application()
app.add_middleware(SessionMiddleware, secret_key=secrets.token_urlsafe(32))
