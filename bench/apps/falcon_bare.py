"""Falcon under WSGI without sessions: the same responders, and what they keep is forgotten."""

from typing import Any

from bench.apps.falcon_routes import application


def forgets(environ: dict[str, Any]) -> dict[str, Any]:
    """Return a session that is nobody's."""
    return {"n": 1}


app = application(forgets)
