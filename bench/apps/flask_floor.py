"""The least that `flask.session` on Redis can cost under threads: GET, and SET on a write, and Flask's own way to a session.

No signature, no expiry, no merge, no time-out: nothing to use, but what any library's figure is to be held against, since a
thread that waits for Redis costs the server more than the commands do.
"""

import secrets
from typing import Any

import msgspec
from flask.sessions import SessionInterface, SessionMixin

from bench.apps.flask_routes import application
from bench.apps.floor_redis import Session, ask


class Named(Session, SessionMixin):
    """As Flask wants it, with its key."""

    name = ""


class Interface(SessionInterface):
    """Where Flask asks for a session, and gives it back with the response."""

    def open_session(self, app: Any, request: Any) -> Named:
        """What the cookie names, or an empty one."""
        name = request.environ.get("HTTP_COOKIE", "").removeprefix("session=")
        session = Named(msgspec.json.decode(ask("GET", "floor:" + name)) if name else {})
        session.name = name
        return session

    def save_session(self, app: Any, session: Any, response: Any) -> None:
        """Write it back, if it was changed; a cache is told, as by every library."""
        if session.modified:
            name = session.name or secrets.token_urlsafe(32)
            ask("SET", "floor:" + name, msgspec.json.encode(session))
            if not session.name:
                response.set_cookie("session", name)
        response.headers.add("Vary", "Cookie")


app = application()
app.session_interface = Interface()
