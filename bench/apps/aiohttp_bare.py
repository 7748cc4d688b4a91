"""aiohttp without sessions: the same handlers, and what they keep is forgotten."""

from typing import Any

from aiohttp import web

from bench.apps.aiohttp_routes import application


async def forgets(request: web.Request) -> dict[str, Any]:
    """Return a session that is nobody's."""
    return {"n": 1}


app = application(forgets)
