"""Django without sessions: the same pages, and what they keep is forgotten."""

from collections.abc import Callable
from typing import Any

from bench.apps.django_routes import application


def forgets(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A middleware that gives each request a dict."""

    def middleware(request: Any) -> Any:
        request.session = {"n": 1}
        return get_response(request)

    return middleware


app = application(MIDDLEWARE=[f"{__name__}.forgets"])
