"""Access tokens in Starlette: a decorator, and a backend for Starlette's own AuthenticationMiddleware.

bearer = Bearer(tokens)

@bearer.requires("orders:read")
async def orders(request):
    claims = bearer.claims(request)
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any, Generic

from starlette.authentication import AuthCredentials, AuthenticationBackend, AuthenticationError, BaseUser
from starlette.requests import HTTPConnection
from starlette.responses import Response

from coatcheck.bearer.cookies import TokenCookies
from coatcheck.bearer.gate import C, Gate, Needs
from coatcheck.bearer.http import Answer, Refused, from_scope, is_awaiting
from coatcheck.errors import ConfigurationError, OutsideRequest

if TYPE_CHECKING:
    from coatcheck.tokens import AsyncTokens, BoundTokenVerifier, TokenVerifier

__all__ = ["Bearer", "BearerBackend", "BearerUser"]

_KEY = "coatcheck.claims"
View = Callable[[Any], Awaitable[Response]]


class Bearer(Generic[C]):
    """Who may pass with an access token.

    tokens   AsyncTokens; or a TokenVerifier in a service that has only the public keys
    cookies  TokenCookies, where browsers may bring the token in a cookie
    realm    what the challenge calls this part of the site; the tokens' audience, if it is left out
    url      where clients find the application, "https://api.example", for tokens that are bound to keys (dpop=)

    Raises ConfigurationError or WrongFace.
    """

    def __init__(
        self,
        tokens: "AsyncTokens[C] | TokenVerifier[C] | BoundTokenVerifier[C]",
        *,
        cookies: TokenCookies | None = None,
        realm: str | None = None,
        url: str | None = None,
    ) -> None:
        self.gate: Gate[C] = Gate(tokens, awaits=True, cookies=cookies, realm=realm, url=url)

    def requires(self, *scopes: str, recent: str | timedelta | None = None) -> Callable[[View], View]:
        """Let nobody into a view without a token that has all these scopes, and whose user logged in within `recent`.

        401 with RFC 6750's challenge without a good token, 403 without the scopes, 503 if the store must be asked and is away.
        """
        needs = Needs(scopes, recent)

        def guarded(view: View) -> View:
            _refuse_sync(view)

            @wraps(view)
            async def passing(request: Any) -> Response:
                asked = from_scope(request.scope)
                try:
                    request.scope[_KEY] = await self.gate.admit(asked, needs)
                except Refused as refused:
                    return _response(refused.answer)
                response = await view(request)
                self.gate.mark(asked, response.headers, response.headers.add_vary_header)
                return response

            return passing

        return guarded

    def claims(self, request: HTTPConnection) -> C:
        """The claims of whoever was let in. Raises OutsideRequest where nobody was asked for a token."""
        claims: C | None = request.scope.get(_KEY)
        if claims is None:
            raise OutsideRequest("no token was asked for here: put @bearer.requires() below the route")
        return claims


def _refuse_sync(view: Any) -> None:
    if not is_awaiting(view):
        raise ConfigurationError(
            f"@bearer.requires() of {getattr(view, '__name__', view)!r}: it is for `async def`; in a class, decorate its methods"
        )


class BearerUser(BaseUser):
    """`request.user`, with the claims of the token."""

    def __init__(self, claims: Any) -> None:
        self.claims = claims

    @property
    def is_authenticated(self) -> bool:
        """True."""
        return True

    @property
    def display_name(self) -> str:
        """The user's id."""
        return str(self.claims.sub)

    @property
    def identity(self) -> str:
        """The user's id."""
        return str(self.claims.sub)


class BearerBackend(AuthenticationBackend):
    """For Starlette's AuthenticationMiddleware and its `@requires("orders:read")`; everyone has the scope `authenticated` too.

        app.add_middleware(AuthenticationMiddleware, backend=backend, on_error=backend.on_error)

    Takes what `Bearer` takes. A request without a token is nobody's; one with a bad token is answered by `on_error`. Starlette's
    `requires` answers 403 where the token is missing or too little, without RFC 6750's challenge: `Bearer.requires` has it.
    """

    def __init__(
        self,
        tokens: Any,
        *,
        cookies: TokenCookies | None = None,
        realm: str | None = None,
        url: str | None = None,
    ) -> None:
        self.gate: Gate[Any] = Gate(tokens, awaits=True, cookies=cookies, realm=realm, url=url)

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        """What Starlette asks. Raises its AuthenticationError."""
        try:
            claims = await self.gate.known(from_scope(conn.scope))
        except Refused as refused:
            raise _NotAuthenticated(refused.answer) from None
        if claims is None:
            return None
        conn.scope[_KEY] = claims
        return AuthCredentials(["authenticated", *sorted(claims.scopes)]), BearerUser(claims)

    def on_error(self, conn: HTTPConnection, error: AuthenticationError) -> Response:
        """The answer to a bad token."""
        if isinstance(error, _NotAuthenticated):
            return _response(error.answer)
        return Response(status_code=400)


class _NotAuthenticated(AuthenticationError):
    def __init__(self, answer: Answer) -> None:
        super().__init__("the token is not accepted")
        self.answer = answer


def _response(answer: Answer) -> Response:
    response = Response(answer.body, answer.status)
    for name, value in answer.headers:
        response.headers[name] = value
    return response
