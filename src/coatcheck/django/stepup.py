"""What a sensitive view asks of a login, as decorators: `recent_login("10m")`, `require_method("otp")`; `async def` views too."""

from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, TypeVar, cast

from django.http import HttpRequest, JsonResponse

from coatcheck import stepup
from coatcheck.django.middleware import get_session

__all__ = ["recent_login", "require_method"]

V = TypeVar("V", bound=Callable[..., Any])


def recent_login(within: str | timedelta) -> Callable[[V], V]:
    """A decorator for sensitive acts (ASVS 7.5.3): who the user is must have been proved within this time, "10m", say.

    Otherwise the view is not called: 401 without a login, 403 with `{"error": "reauth_required"}` as JSON if it was longer ago,
    or only remembered. Raises ConfigurationError at start-up for a time it cannot read.
    """
    return _needing(stepup.recent(within))


def require_method(*methods: str) -> Callable[[V], V]:
    """A decorator: the login was made, or made stronger since, by one of these methods, such as "otp" or "hwk".

    Otherwise the view is not called: 401 without a login, 403 with `{"error": "step_up_required"}` as JSON.
    """
    return _needing(stepup.by_method(*methods))


def _needing(needs: stepup.Needs) -> Callable[[V], V]:
    def answer(refused: stepup.Refused) -> JsonResponse:
        return JsonResponse(dict(refused.detail), status=refused.status)

    def decorate(view: V) -> V:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **given: Any) -> Any:
            refused = needs.refusal(get_session(request))
            return view(request, *args, **given) if refused is None else answer(refused)

        @wraps(view)
        async def awaited(request: HttpRequest, *args: Any, **given: Any) -> Any:
            session = get_session(request)
            await session._aload()
            refused = needs.refusal(session)
            return await view(request, *args, **given) if refused is None else answer(refused)

        return cast(V, awaited if iscoroutinefunction(view) else guarded)

    return decorate
