"""Access tokens in Litestar: a guard that asks for them, and a dependency that yields their claims.

bearer = Bearer(tokens)

@get("/orders", guards=[bearer.requires("orders:read")])
async def orders(claims: NamedDependency[AccessClaims]) -> ...: ...

Litestar([orders], dependencies={"claims": bearer.dependency}, lifespan=[listening(tokens)])
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic

from litestar.connection import ASGIConnection, Request, WebSocket
from litestar.di import Provide
from litestar.exceptions import HTTPException, WebSocketException
from litestar.handlers import BaseRouteHandler

from coatcheck.bearer.cookies import TokenCookies
from coatcheck.bearer.gate import C, Gate, Needs
from coatcheck.bearer.http import Refused, from_scope
from coatcheck.bearer.sockets import POLICY_VIOLATION, tell
from coatcheck.errors import OutsideRequest

if TYPE_CHECKING:
    from coatcheck.tokens import AsyncTokens, BoundTokenVerifier, TokenVerifier

__all__ = ["Bearer"]

_KEY = "coatcheck.claims"
Connection = ASGIConnection[Any, Any, Any, Any]


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
        self.dependency = Provide(self._yielded)
        """What yields the claims to a handler that a guard of ours let somebody into."""

    def requires(
        self, *scopes: str, recent: str | timedelta | None = None
    ) -> Callable[[Connection, BaseRouteHandler], Awaitable[None]]:
        """A guard: let nobody in without a token that has all these scopes, and whose user logged in within `recent`.

        401 with RFC 6750's challenge without a good token, 403 without the scopes, 503 if the store must be asked and is away.
        """
        needs = Needs(scopes, recent)

        async def guard(connection: Connection, _: BaseRouteHandler) -> None:
            try:
                claims = await self.gate.admit(from_scope(connection.scope), needs)
                connection.scope["state"][_KEY] = claims
                tell(connection.scope, claims)
            except Refused as refused:
                raise _refusal(connection, refused) from None

        return guard

    def claims(self, connection: Connection) -> C:
        """The claims of whoever was let in. Raises OutsideRequest where nobody was asked for a token."""
        claims: C | None = connection.scope["state"].get(_KEY)
        if claims is None:
            raise OutsideRequest("no token was asked for here: guards=[bearer.requires()]")
        return claims

    async def _yielded(self, request: Request[Any, Any, Any]) -> Any:
        return self.claims(request)


def _refusal(connection: Connection, refused: Refused) -> Exception:
    if isinstance(connection, WebSocket):
        return WebSocketException(code=POLICY_VIOLATION, detail="the token is not accepted")
    answer, detail = refused.answer, refused.detail
    return HTTPException(
        status_code=answer.status, detail=str(detail["error"]), headers=answer.own_headers(), extra=detail
    )
