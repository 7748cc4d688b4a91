"""The Flask application every Flask contestant runs; only the session extension differs."""

from flask import Flask, session


def login() -> str:
    """Put into the session what a small application keeps there."""
    session["user"] = "7d1f2c4e"
    session["n"] = 0
    return "ok"


def write() -> str:
    """Load the session, change it, save it."""
    session["n"] = session.get("n", 0) + 1
    return "ok"


def read() -> str:
    """Load the session and read from it."""
    return str(session.get("n"))


def application() -> Flask:
    """Return the application, still with Flask's own sessions."""
    app = Flask("bench")
    for view in (login, write, read):
        app.add_url_rule(f"/{view.__name__}", view_func=view)
    return app
