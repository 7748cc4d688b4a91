"""Access tokens in Quart, in requests and in WebSockets.

bearer = Bearer(tokens)

@app.get("/orders")
@bearer.requires("orders:read")
async def orders():
    claims = bearer.claims()
"""

from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from quart import (
    Response,
    current_app,
    g,
    has_request_context,
    has_websocket_context,
    make_response,
    request,
    websocket,
)

from coatcheck.bearer.cookies import TokenCookies
from coatcheck.bearer.gate import C, Gate, Needs
from coatcheck.bearer.http import Refused, from_scope
from coatcheck.bearer.sockets import tell
from coatcheck.errors import OutsideRequest

if TYPE_CHECKING:
    from coatcheck.tokens import AsyncTokens, BoundTokenVerifier, TokenVerifier

__all__ = ["Bearer"]

F = TypeVar("F", bound=Callable[..., Any])


class Bearer(Generic[C]):
    """Who may pass with an access token. `app.while_serving(bearer.listening)` has the store tell of logins that end.

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
        self._tokens: Any = tokens
        self.gate: Gate[C] = Gate(tokens, awaits=True, cookies=cookies, realm=realm, url=url)

    def requires(self, *scopes: str, recent: str | timedelta | None = None) -> Callable[[F], F]:
        """Let nobody into a view without a token that has all these scopes, and whose user logged in within `recent`.

        401 with RFC 6750's challenge without a good token, 403 without the scopes, 503 if the store must be asked and is away;
        the handshake of a WebSocket is answered the same way.
        """
        needs = Needs(scopes, recent)

        def guarded(view: F) -> F:
            @wraps(view)
            async def passing(*args: Any, **kwargs: Any) -> Any:
                here: Any = websocket if has_websocket_context() else request
                asked = from_scope(here.scope)
                try:
                    g._coatcheck_claims = await self.gate.admit(asked, needs)
                    tell(here.scope, g._coatcheck_claims)
                except Refused as refused:
                    answer = refused.answer
                    return Response(answer.body, answer.status, headers=dict(answer.headers))
                found = await current_app.ensure_async(view)(*args, **kwargs)
                if has_websocket_context() or not self.gate.marks(asked):
                    return found
                response = cast(Response, await make_response(found))
                self.gate.mark(asked, response.headers, response.vary.add)
                return response

            return cast(F, passing)

        return guarded

    async def listening(self) -> AsyncGenerator[None, None]:
        """For `app.while_serving`: the store tells this process of logins that end, so that their tokens are refused at once."""
        stop = self._tokens.listen()
        yield
        stop()

    def claims(self) -> C:
        """The claims of whoever was let in. Raises OutsideRequest where nobody was asked for a token."""
        within = has_request_context() or has_websocket_context()
        claims: C | None = g.get("_coatcheck_claims") if within else None
        if claims is None:
            raise OutsideRequest("no token was asked for here: put @bearer.requires() below the route")
        return claims
