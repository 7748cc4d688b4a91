"""What a sensitive view asks of a login, as decorators: `recent_login("10m")`, `require_method("otp")`; `async def` views too."""

from collections.abc import Callable
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, TypeVar, cast

from django.http import HttpRequest, JsonResponse

from coatcheck import stepup
from coatcheck.django.middleware import get_session

__all__ = ["recent_login", "require_method"]

V = TypeVar("V", bound=Callable[..., Any])


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


recent_login, require_method = stepup.decorators(_needing)
