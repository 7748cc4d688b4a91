"""Access tokens in Flask.

bearer = Bearer(tokens)

@app.get("/orders")
@bearer.requires("orders:read")
def orders():
    claims = bearer.claims()
"""

from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from flask import Response, current_app, g, has_request_context, make_response, request

from coatcheck.bearer.cookies import TokenCookies
from coatcheck.bearer.gate import C, Gate, Needs
from coatcheck.bearer.http import Asked, Refused, from_wsgi
from coatcheck.core.stepping import run_now
from coatcheck.errors import OutsideRequest

if TYPE_CHECKING:
    from coatcheck.tokens import BoundTokenVerifier, Tokens, TokenVerifier

__all__ = ["Bearer"]

F = TypeVar("F", bound=Callable[..., Any])


class Bearer(Generic[C]):
    """Who may pass with an access token.

    tokens   Tokens; or a TokenVerifier in a service that has only the public keys
    cookies  TokenCookies, where browsers may bring the token in a cookie
    realm    what the challenge calls this part of the site; the tokens' audience, if it is left out
    url      where clients find the application, "https://api.example", for tokens that are bound to keys (dpop=)
    listen   have the store tell this process of logins that end, from its first request on: their tokens are then refused without
             asking. Each worker has its own

    Raises ConfigurationError or WrongFace.
    """

    def __init__(
        self,
        tokens: "Tokens[C] | TokenVerifier[C] | BoundTokenVerifier[C]",
        *,
        cookies: TokenCookies | None = None,
        realm: str | None = None,
        url: str | None = None,
        listen: bool = False,
    ) -> None:
        self.gate: Gate[C] = Gate(tokens, awaits=False, cookies=cookies, realm=realm, url=url, listen=listen)

    def requires(self, *scopes: str, recent: str | timedelta | None = None) -> Callable[[F], F]:
        """Let nobody into a view without a token that has all these scopes, and whose user logged in within `recent`.

        401 with RFC 6750's challenge without a good token, 403 without the scopes, 503 if the store must be asked and is away.
        """
        needs = Needs(scopes, recent)

        def guarded(view: F) -> F:
            @wraps(view)
            def passing(*args: Any, **kwargs: Any) -> Any:
                asked = from_wsgi(request.environ)
                try:
                    g._coatcheck_claims = run_now(self.gate.admit(asked, needs))
                except Refused as refused:
                    answer = refused.answer
                    return Response(answer.body, answer.status, headers=list(answer.headers))
                found = current_app.ensure_sync(view)(*args, **kwargs)
                return self._marked(asked, make_response(found)) if self.gate.marks(asked) else found

            return cast(F, passing)

        return guarded

    def _marked(self, asked: Asked, response: Response) -> Response:
        self.gate.mark(asked, response.headers, response.vary.add)
        return response

    def claims(self) -> C:
        """The claims of whoever was let in. Raises OutsideRequest where nobody was asked for a token."""
        claims: C | None = g.get("_coatcheck_claims") if has_request_context() else None
        if claims is None:
            raise OutsideRequest("no token was asked for here: put @bearer.requires() below the route")
        return claims
