"""The Falcon application that every Falcon contestant runs; only how a request comes to its session differs."""

from collections.abc import Callable
from typing import Any

import falcon


class Page:
    """One path, and what is done with the session there."""

    def __init__(self, session_of: Callable[[dict[str, Any]], Any], act: Callable[[Any], str]) -> None:
        self.session_of, self.act = session_of, act

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer GET."""
        resp.text = self.act(self.session_of(req.env))


def login(session: Any) -> str:
    """Put into the session what a small application keeps there."""
    session["user"] = "7d1f2c4e"
    session["n"] = 0
    return "ok"


def write(session: Any) -> str:
    """Load the session, change it, save it."""
    session["n"] = session.get("n", 0) + 1
    return "ok"


def read(session: Any) -> str:
    """Load the session and read from it."""
    return str(session.get("n"))


def application(session_of: Callable[[dict[str, Any]], Any]) -> falcon.App[Any, Any]:
    """Return the application, whose responders find their session in the environ by this."""
    app: falcon.App[Any, Any] = falcon.App(media_type=falcon.MEDIA_TEXT)
    for act in (login, write, read):
        app.add_route(f"/{act.__name__}", Page(session_of, act))
    return app
