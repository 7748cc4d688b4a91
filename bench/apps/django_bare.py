"""Django without sessions: the same pages, and what they keep is forgotten."""

from collections.abc import Callable
from typing import Any

from django.utils.decorators import sync_and_async_middleware

from bench.apps.django_routes import ASYNC, application


class Forgets(dict[str, Any]):
    """A session that is nobody's, with the awaited words of Django's."""

    async def aget(self, key: str, default: Any = None) -> Any:
        """Return a value."""
        return self.get(key, default)

    async def aset(self, key: str, value: Any) -> None:
        """Set a value."""
        self[key] = value


@sync_and_async_middleware
def forgets(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A middleware that gives each request one of them."""

    def middleware(request: Any) -> Any:
        request.session = Forgets(n=1)
        return get_response(request)

    async def amiddleware(request: Any) -> Any:
        request.session = Forgets(n=1)
        return await get_response(request)

    return amiddleware if ASYNC else middleware


app = application(MIDDLEWARE=[f"{__name__}.forgets"])
