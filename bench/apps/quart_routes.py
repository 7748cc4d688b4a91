"""The Quart application that every Quart contestant runs; only the session extension differs."""

from quart import Quart, session


async def login() -> str:
    """Put into the session what a small application keeps there."""
    session["user"] = "7d1f2c4e"
    session["n"] = 0
    return "ok"


async def write() -> str:
    """Load the session, change it, save it."""
    session["n"] = session.get("n", 0) + 1
    return "ok"


async def read() -> str:
    """Load the session and read from it."""
    return str(session.get("n"))


def application() -> Quart:
    """Return the application, still with Quart's own sessions."""
    app = Quart("bench")
    for view in (login, write, read):
        app.add_url_rule(f"/{view.__name__}", view_func=view)
    return app
