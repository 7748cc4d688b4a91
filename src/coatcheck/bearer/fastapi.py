"""Access tokens in FastAPI: a dependency that yields their claims, and shows their scopes in OpenAPI.

bearer = Bearer(tokens)

@app.get("/orders")
async def orders(claims: Annotated[AccessClaims, Security(bearer, scopes=["orders:read"])]): ...
"""

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic

from fastapi import Depends, HTTPException, Response, WebSocketException
from fastapi.openapi.models import HTTPBearer
from fastapi.requests import HTTPConnection
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase

from coatcheck.bearer.cookies import TokenCookies
from coatcheck.bearer.gate import C, Gate, Needs
from coatcheck.bearer.http import Answer, Refused, from_scope
from coatcheck.bearer.sockets import POLICY_VIOLATION, can_answer, tell

if TYPE_CHECKING:
    from coatcheck.tokens import AsyncTokens, BoundTokenVerifier, TokenVerifier

__all__ = ["Bearer"]


class Bearer(SecurityBase, Generic[C]):
    """`Security(bearer, scopes=[…])` or `Depends(bearer)`: the claims of the access token that a request brings.

    tokens       AsyncTokens; or a TokenVerifier in a service that has only the public keys
    cookies      TokenCookies, where browsers may bring the token in a cookie
    realm        what the challenge calls this part of the site; the tokens' audience, if it is left out
    url          where clients find the application, "https://api.example", for tokens that are bound to keys (dpop=)
    scheme_name  what OpenAPI calls it

    401 with RFC 6750's challenge without a good token, 403 without the scopes, 503 if the store must be asked and is away; the
    handshake of a WebSocket is refused. Raises ConfigurationError or WrongFace.
    """

    def __init__(
        self,
        tokens: "AsyncTokens[C] | TokenVerifier[C] | BoundTokenVerifier[C]",
        *,
        cookies: TokenCookies | None = None,
        realm: str | None = None,
        url: str | None = None,
        scheme_name: str = "bearer",
    ) -> None:
        self.gate: Gate[C] = Gate(tokens, awaits=True, cookies=cookies, realm=realm, url=url)
        self.model = HTTPBearer(bearerFormat="JWT")
        self.scheme_name = scheme_name
        self._needs: dict[tuple[str, ...], Needs] = {}

    async def __call__(
        self,
        connection: HTTPConnection,
        scopes: SecurityScopes,
        response: Response = None,  # type: ignore[assignment]  # a WebSocket has none
    ) -> C:
        asked_for = tuple(scopes.scopes)
        needs = self._needs.get(asked_for)
        if needs is None:
            needs = self._needs[asked_for] = Needs(asked_for)
        return await self._admit(connection, needs, response)

    def recent(self, within: str | timedelta) -> Any:
        """A dependency for sensitive acts: the user must have logged in within this time, "10m" or a timedelta. A refresh does
        not count (checklist 179). 401 with RFC 9470's challenge otherwise. Raises ConfigurationError.
        """
        needs = Needs(recent=within)

        async def recent(
            connection: HTTPConnection,
            response: Response = None,  # type: ignore[assignment]  # a WebSocket has none
        ) -> C:
            return await self._admit(connection, needs, response)

        return Depends(recent)

    async def _admit(self, connection: HTTPConnection, needs: Needs, response: Response | None) -> C:
        asked = from_scope(connection.scope)
        try:
            claims = await self.gate.admit(asked, needs)
            tell(connection.scope, claims)
        except Refused as refused:
            raise _refusal(connection, refused) from None
        if response is not None:
            self.gate.mark(asked, response.headers, response.headers.add_vary_header)
        return claims


def _refusal(connection: HTTPConnection, refused: Refused) -> HTTPException | WebSocketException:
    if connection.scope["type"] == "websocket" and not can_answer(connection.scope):
        return WebSocketException(POLICY_VIOLATION)
    answer: Answer = refused.answer
    return HTTPException(answer.status, refused.detail, answer.own_headers())
