"""The least that `request.session` of Django on Redis can cost under threads: GET, and SET on a write.

No signature, no expiry, no merge, no time-out: nothing to use, but what any library's figure is to be held against, since a
thread that waits for Redis costs the server more than the commands do.
"""

import secrets
from collections.abc import Callable
from typing import Any

import msgspec
from django.utils.cache import patch_vary_headers

from bench.apps.django_routes import application
from bench.apps.floor_redis import Session, ask


def sessions(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A middleware that gives each request one; a cache is told, as by every library."""

    def middleware(request: Any) -> Any:
        name = request.META.get("HTTP_COOKIE", "").removeprefix("session=")
        request.session = session = Session(msgspec.json.decode(ask("GET", "floor:" + name)) if name else {})
        response = get_response(request)
        if session.modified:
            key = name or secrets.token_urlsafe(32)
            ask("SET", "floor:" + key, msgspec.json.encode(session))
            if not name:
                response.set_cookie("session", key)
        patch_vary_headers(response, ("Cookie",))
        return response

    return middleware


app = application(MIDDLEWARE=[f"{__name__}.sessions"])
