"""Access tokens in Django, for sync and async views.

bearer = Bearer(tokens)                     # Tokens for sync views, AsyncTokens for async ones

@bearer.requires("orders:read")
def orders(request):
    claims = bearer.claims(request)

urlpatterns = [path("orders", orders), path("auth/<path:endpoint>", token_endpoints(tokens))]
"""

from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from django.views.decorators.csrf import csrf_exempt

from coatcheck.bearer.cookies import TokenCookies
from coatcheck.bearer.desk import Desk
from coatcheck.bearer.forms import MAX_BODY
from coatcheck.bearer.gate import C, Gate, Needs
from coatcheck.bearer.http import Answer, Asked, Refused, fitting, from_scope, from_wsgi, is_awaiting
from coatcheck.core.stepping import run_now
from coatcheck.errors import OutsideRequest

if TYPE_CHECKING:
    from coatcheck.tokens import AsyncTokens, BoundTokenVerifier, Tokens, TokenVerifier

__all__ = ["Bearer", "set_cookies", "token_endpoints"]

_KEY = "_coatcheck_claims"
F = TypeVar("F", bound=Callable[..., Any])


class Bearer(Generic[C]):
    """Who may pass with an access token. A view that it guards is exempt from Django's CSRF check where no cookie counts: nobody
    else's page can send the header.

    tokens   Tokens for sync views, AsyncTokens for async ones; a TokenVerifier, which has only the public keys, for both
    cookies  TokenCookies, where browsers may bring the token in a cookie
    realm    what the challenge calls this part of the site; the tokens' audience, if it is left out
    url      where clients find the application, "https://api.example", for tokens that are bound to keys (dpop=)
    listen   for sync views: have the store tell this process of logins that end, from its first request on

    Raises ConfigurationError or WrongFace.
    """

    def __init__(
        self,
        tokens: "Tokens[C] | AsyncTokens[C] | TokenVerifier[C] | BoundTokenVerifier[C]",
        *,
        cookies: TokenCookies | None = None,
        realm: str | None = None,
        url: str | None = None,
        listen: bool = False,
    ) -> None:
        awaits = is_awaiting(getattr(tokens, "authenticate", None))
        self._tokens = tokens
        self.gate: Gate[C] = Gate(tokens, awaits=awaits, cookies=cookies, realm=realm, url=url, listen=listen)

    def requires(self, *scopes: str, recent: str | timedelta | None = None) -> Callable[[F], F]:
        """Let nobody into a view without a token that has all these scopes, and whose user logged in within `recent`.

        401 with RFC 6750's challenge without a good token, 403 without the scopes, 503 if the store must be asked and is away.
        Raises WrongFace for a view that does not fit the tokens.
        """
        needs = Needs(scopes, recent)

        def guarded(view: F) -> F:
            fitting(self._tokens, awaits=is_awaiting(view))
            passing = self._awaiting(view, needs) if is_awaiting(view) else self._blocking(view, needs)
            return cast(F, csrf_exempt(passing) if self.gate.cookies is None else passing)

        return guarded

    def claims(self, request: HttpRequest) -> C:
        """The claims of whoever was let in. Raises OutsideRequest where nobody was asked for a token."""
        claims: C | None = getattr(request, _KEY, None)
        if claims is None:
            raise OutsideRequest("no token was asked for here: put @bearer.requires() on the view")
        return claims

    def _blocking(self, view: Any, needs: Needs) -> Any:
        @wraps(view)
        def passing(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            asked = _asked(request)
            try:
                setattr(request, _KEY, run_now(self.gate.admit(asked, needs)))
            except Refused as refused:
                return _response(refused.answer)
            return self._marked(asked, view(request, *args, **kwargs))

        return passing

    def _awaiting(self, view: Any, needs: Needs) -> Any:
        @wraps(view)
        async def passing(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            asked = _asked(request)
            try:
                setattr(request, _KEY, await self.gate.admit(asked, needs))
            except Refused as refused:
                return _response(refused.answer)
            return self._marked(asked, await view(request, *args, **kwargs))

        return passing

    def _marked(self, asked: Asked, response: HttpResponseBase) -> HttpResponseBase:
        self.gate.mark(asked, response.headers, lambda name: patch_vary_headers(response, [name]))
        return response


def token_endpoints(tokens: Any, **options: Any) -> Any:
    """The endpoints as one view: `path("auth/<path:endpoint>", token_endpoints(tokens))`. Takes what `coatcheck.bearer.desk.Desk`
    takes. With Tokens it is a sync view, with AsyncTokens an async one. Raises ConfigurationError or WrongFace.
    """
    awaits = is_awaiting(getattr(tokens, "authenticate", None))
    desk = Desk(tokens, awaits=awaits, **options)

    def blocking(request: HttpRequest, endpoint: str) -> HttpResponse:
        asked = _asked(request, f"/{endpoint}")
        return _response(run_now(desk.answer(asked, _body(request, desk, asked))))

    async def awaiting(request: HttpRequest, endpoint: str) -> HttpResponse:
        asked = _asked(request, f"/{endpoint}")
        return _response(await desk.answer(asked, _body(request, desk, asked)))

    return csrf_exempt(
        awaiting if awaits else blocking
    )  # they bring credentials of their own, or Desk asks whose page it was


def set_cookies(response: HttpResponseBase, cookies: Iterable[str]) -> None:
    """Put Set-Cookie values, `TokenCookies.set(pair)` or `.clear()`, into a response, as Django keeps them."""
    for cookie in cookies:
        response.cookies.load(cookie)


def _asked(request: HttpRequest, path: str | None = None) -> Asked:
    asked = from_scope(request.scope) if isinstance(request, ASGIRequest) else from_wsgi(request.META)
    return asked if path is None else asked._replace(path=path)


def _body(request: HttpRequest, desk: Desk, asked: Asked) -> bytes | None:
    if not desk.wants_body(asked):
        return b""
    length = asked.one("content-length")
    if not length.isdigit() or len(length) > 9 or int(length) > MAX_BODY:
        return None if length else b""
    return request.body


def _response(answer: Answer) -> HttpResponse:
    response = HttpResponse(answer.body, status=answer.status)
    del response.headers["Content-Type"]
    set_cookies(response, (value for name, value in answer.headers if name == "Set-Cookie"))
    for name, value in answer.headers:
        if name != "Set-Cookie":
            response.headers[name] = value
    return response
