"""Access tokens in aiohttp.

bearer = Bearer(tokens)

@routes.get("/orders")
@bearer.requires("orders:read")
async def orders(request):
    claims = bearer.claims(request)

app.router.add_route("*", "/auth/{endpoint:.*}", token_endpoints(tokens))
app.cleanup_ctx.append(bearer.listening)
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, Generic

from aiohttp import web

from coatcheck.bearer.cookies import TokenCookies
from coatcheck.bearer.desk import Desk
from coatcheck.bearer.forms import MAX_BODY
from coatcheck.bearer.gate import C, Gate, Needs
from coatcheck.bearer.http import Answer, Asked, Refused, from_aiohttp
from coatcheck.errors import OutsideRequest

if TYPE_CHECKING:
    from coatcheck.tokens import AsyncTokens, BoundTokenVerifier, TokenVerifier

__all__ = ["Bearer", "token_endpoints"]


def _key(name: str) -> Any:
    return web.RequestKey(name, object) if hasattr(web, "RequestKey") else name  # since 3.14


_KEY: Final = _key("coatcheck.claims")
_KEPT: Final = _key("coatcheck.bearer")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


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
        self._tokens: Any = tokens
        self.gate: Gate[C] = Gate(tokens, awaits=True, cookies=cookies, realm=realm, url=url)

    def requires(self, *scopes: str, recent: str | timedelta | None = None) -> Callable[[Handler], Handler]:
        """Let nobody into a handler without a token that has all these scopes, and whose user logged in within `recent`.

        401 with RFC 6750's challenge without a good token, 403 without the scopes, 503 if the store must be asked and is away.
        """
        needs = Needs(scopes, recent)

        def guarded(handler: Handler) -> Handler:
            @wraps(handler)
            async def passing(request: web.Request) -> web.StreamResponse:
                asked = _asked(request)
                try:
                    request[_KEY] = await self.gate.admit(asked, needs)
                except Refused as refused:
                    return _response(refused.answer)
                response = await handler(request)
                if not response.prepared:
                    self.gate.mark(asked, response.headers, lambda name: response.headers.add("Vary", name))
                return response

            return passing

        return guarded

    def claims(self, request: web.Request) -> C:
        """The claims of whoever was let in. Raises OutsideRequest where nobody was asked for a token."""
        claims: C | None = request.get(_KEY)
        if claims is None:
            raise OutsideRequest("no token was asked for here: put @bearer.requires() below the route")
        return claims

    async def listening(self, app: web.Application) -> AsyncIterator[None]:
        """For `app.cleanup_ctx`: the store tells this process of logins that end, so that their tokens are refused at once."""
        stop = self._tokens.listen()
        yield
        stop()


def token_endpoints(tokens: Any, **options: Any) -> Handler:
    """The endpoints as one handler: `app.router.add_route("*", "/auth/{endpoint:.*}", token_endpoints(tokens))`. Takes what
    `coatcheck.bearer.desk.Desk` takes. Raises ConfigurationError or WrongFace.
    """
    desk = Desk(tokens, awaits=True, **options)

    async def handler(request: web.Request) -> web.StreamResponse:
        asked = _asked(request)._replace(path="/" + request.match_info["endpoint"])
        body = await _body(request) if desk.wants_body(asked) else b""
        return _response(await desk.answer(asked, body))

    return handler


async def _body(request: web.Request) -> bytes | None:
    body = b""
    async for piece in request.content.iter_any():
        body += piece
        if len(body) > MAX_BODY:
            return None
    return body


def _asked(request: web.Request) -> Asked:
    kept: dict[str, Any] | None = request.get(_KEPT)
    if kept is None:
        kept = request[_KEPT] = {}
    return from_aiohttp(request, kept)


def _response(answer: Answer) -> web.Response:
    response = web.Response(body=answer.body, status=answer.status)
    for name, value in answer.headers:
        response.headers.add(name, value)
    return response
