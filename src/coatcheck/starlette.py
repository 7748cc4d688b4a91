"""Sessions for Starlette: `request.session`, a drop-in for Starlette's own SessionMiddleware.

    -from starlette.middleware.sessions import SessionMiddleware
    +from coatcheck.starlette import SessionMiddleware

Its argument names keep their meaning, only that the data now stays on the server.
"""

from collections.abc import Callable
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, Literal, TypeVar, cast

from starlette.datastructures import Secret as StarletteSecret
from starlette.requests import Request
from starlette.responses import JSONResponse

from coatcheck import stepup
from coatcheck._versions import need
from coatcheck.asgi import App, CsrfMiddleware, HttpsMiddleware, csrf_field, csrf_token, get_session
from coatcheck.asgi import SessionMiddleware as AsgiSessionMiddleware
from coatcheck.bearer.starlette import Bearer, BearerBackend, BearerUser
from coatcheck.core.cookies import CookieSettings
from coatcheck.core.ports import Backend, Store
from coatcheck.core.signing import Secret
from coatcheck.errors import ConfigurationError
from coatcheck.faces import AsyncSession
from coatcheck.throttling.route import RateLimit

__all__ = [
    "AsyncSession",
    "Bearer",
    "BearerBackend",
    "BearerUser",
    "CsrfMiddleware",
    "HttpsMiddleware",
    "RateLimit",
    "SessionMiddleware",
    "csrf_field",
    "csrf_token",
    "get_session",
    "recent_login",
    "require_method",
]

need("starlette", "0.46")

V = TypeVar("V", bound=Callable[..., Any])


class SessionMiddleware(AsgiSessionMiddleware):
    """`request.session`, kept on the server.

    Takes everything `coatcheck.asgi.SessionMiddleware` takes, and Starlette's own names: `secret_key`,
    `session_cookie`, `max_age` (seconds), `path`, `same_site`, `https_only`, `domain`, `partitioned`, in its order.
    Raises ConfigurationError if both spellings of one setting are given.
    """

    def __init__(
        self,
        app: App,
        /,
        secret_key: Secret | StarletteSecret | None = None,
        session_cookie: str | None = None,
        max_age: int | None = None,
        path: str | None = None,
        same_site: Literal["lax", "strict", "none"] | None = None,
        https_only: bool | None = None,
        domain: str | None = None,
        partitioned: bool | None = None,
        *,
        store: str | Backend | Store = "memory:",
        secret: Secret | None = None,
        **options: Any,
    ) -> None:
        if secret_key is not None and secret is not None:
            raise ConfigurationError("secret_key and secret are the same setting: give one of them")
        plain: Secret | None = str(secret_key) if isinstance(secret_key, StarletteSecret) else secret_key
        words = {
            "name": session_cookie,
            "max_age": max_age,
            "path": path,
            "same_site": same_site,
            "domain": domain,
            "partitioned": partitioned,
            "secure": {None: None, True: True, False: "auto"}[https_only],
        }
        given: dict[str, Any] = {word: value for word, value in words.items() if value is not None}
        if given:
            if "cookie" in options:
                raise ConfigurationError(
                    f"cookie=CookieSettings(…) and {', '.join(given)}: put them all into CookieSettings"
                )
            options["cookie"] = CookieSettings(**given)
        super().__init__(app, store=store, secret=secret if plain is None else plain, **options)


# -------------------------------------------------------------------------------------------------- sensitive acts


def _needing(needs: stepup.Needs) -> Callable[[V], V]:
    def decorate(view: V) -> V:
        if not iscoroutinefunction(view):
            raise ConfigurationError(
                f"{view.__name__} is not `async def`: a route that asks for its session has to wait for it"
            )

        @wraps(view)
        async def guarded(request: Request, *args: Any, **given: Any) -> Any:
            refused = needs.refusal(await get_session(request))
            if refused is not None:
                return JSONResponse(dict(refused.detail), refused.status)
            return await view(request, *args, **given)

        return cast(V, guarded)

    return decorate


recent_login, require_method = stepup.decorators(_needing)
