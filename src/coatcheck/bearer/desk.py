"""The endpoints: refresh (RFC 6749 section 6), revocation (RFC 7009), introspection (RFC 7662), the key set (RFC 7517) and the
metadata (RFC 8414), as one function from a request to an answer. `asgi.py` and `wsgi.py` beside this are its two shells.
"""

from collections.abc import Awaitable, Callable, Collection
from hashlib import sha256
from typing import Any, Final

import msgspec

from coatcheck.bearer import forms
from coatcheck.bearer.clients import Client, ClientAuth, Clients, claimed
from coatcheck.bearer.cookies import TokenCookies
from coatcheck.bearer.forms import Form
from coatcheck.bearer.http import (
    UNAVAILABLE,
    Answer,
    Asked,
    Refused,
    answered,
    fitting,
    is_awaiting,
    json_answer,
)
from coatcheck.bearer.limits import RateLimitHook, limiting
from coatcheck.bearer.login import proven_key, unproven
from coatcheck.bearer.proofs import proofs_of, public_url
from coatcheck.core.events import Event, EventName
from coatcheck.core.origin import Proxy
from coatcheck.core.policy import duration
from coatcheck.errors import ConfigurationError, InvalidToken, StoreUnavailable, WrongFace
from coatcheck.throttling import RateLimit

__all__ = ["Desk"]

Flow = Callable[[Asked, Form], Awaitable[Answer]]
_KEYS: Final = "/jwks.json"
_METADATA: Final = "/.well-known/oauth-authorization-server"
_EXAMPLE: Final = "https://id.example/auth"
_PUBLIC: Final = ("Access-Control-Allow-Origin", "*")


class Desk:
    """The endpoints over one application's tokens.

    /token       POST: the next pair of tokens for a refresh token
    /revoke      POST: end the login that a refresh token or an access token belongs to
    /introspect  POST: what an access token says, if its login lives; for `resource_servers`
    /jwks.json   GET: the public keys; not there if the tokens are signed with a shared secret
    /.well-known/oauth-authorization-server  GET: what there is; if `url` is given

    tokens            `Tokens` or `AsyncTokens`
    public_clients    client ids that need no secret: applications in browsers and on phones
    client_auth       `client_auth(client_id, secret)`: whether that is the secret of a confidential client; sync or async
    resource_servers  ids of the confidential clients that may introspect; nobody, unless they are named
    cookies           the cookies in which a browser keeps its tokens; then a request may come without a refresh token in its form
    rate_limit        a `coatcheck.throttling.RateLimit`, which counts addresses; or `rate_limit(attempt)`: seconds to wait, or
                      None to go on; sync or async. Asked before anything is looked up
    proxy             the proxies in front, which say whose address it is, as for the sessions
    url               where these endpoints are, as others see it: "https://id.example/auth". Required for tokens with `dpop=`
    keys_max_age      for how long others may keep the key set
    awaits            whether the shell is async

    Raises ConfigurationError or WrongFace.
    """

    def __init__(
        self,
        tokens: Any,
        *,
        awaits: bool,
        public_clients: Collection[str] = ("web",),
        client_auth: ClientAuth | None = None,
        resource_servers: Collection[str] = (),
        cookies: TokenCookies | None = None,
        rate_limit: RateLimit | RateLimitHook | None = None,
        proxy: Proxy = None,
        url: str | None = None,
        keys_max_age: str | float = "5m",
    ) -> None:
        self._tokens = fitting(tokens, awaits=awaits)
        if not hasattr(tokens, "refresh"):
            raise ConfigurationError("a TokenVerifier issues nothing: give Tokens or AsyncTokens")
        if cookies is not None and not isinstance(cookies, TokenCookies):
            raise ConfigurationError(f"cookies={cookies!r}: give coatcheck.bearer.TokenCookies(…)")
        if not awaits and is_awaiting(client_auth):
            raise WrongFace(
                "client_auth is async, and a WSGI application cannot wait for it: give a plain function"
            )
        self._clients = Clients(public_clients, client_auth)
        self._resource_servers = _servers(resource_servers, client_auth)
        self._cookies = cookies
        self._limit = limiting(rate_limit, proxy, tokens.sessions.flows, awaits=awaits)
        self._proofs = proofs_of(tokens, url, example=_EXAMPLE)
        self._keys_age = int(duration(keys_max_age, setting="keys_max_age"))
        self._flows: dict[str, Flow] = {"/token": self._token, "/revoke": self._revoke}
        if self._resource_servers:
            self._flows["/introspect"] = self._introspect
        self._documents: dict[str, Callable[[], Answer]] = {}
        self._describe(url)

    def wants_body(self, asked: Asked) -> bool:
        """Whether it is worth reading the request's body: at most `forms.MAX_BODY` octets of it."""
        return asked.method == "POST" and asked.endpoint in self._flows

    async def answer(self, asked: Asked, body: bytes | None) -> Answer:
        """The answer to a request; `body` is None if it was too large. Raises only what the application's own hooks raise, and a
        StoreError that is no outage.
        """
        answer = await self._answer(asked, body)
        if self._proofs is None or asked.endpoint != "/token":
            return answer
        return answer.plus(*self._proofs.nonce())

    async def _answer(self, asked: Asked, body: bytes | None) -> Answer:
        try:
            if asked.endpoint in self._documents:
                return self._document(asked)
            flow = self._flows.get(asked.endpoint)
            if flow is None:
                return json_answer(404, {"error": "not_found"})
            if asked.method != "POST":
                return json_answer(405, {"error": "invalid_request"}, ("Allow", "POST"))
            form = forms.read(asked, body)
            await self._wait_your_turn(asked, form)
            return await flow(asked, form)
        except Refused as refused:
            return refused.answer
        except StoreUnavailable as error:
            self._tell("store.down", str(error))
            return UNAVAILABLE

    async def _wait_your_turn(self, asked: Asked, form: Form) -> None:
        if self._limit is None:
            return
        seconds = await self._limit(asked, claimed(asked, form)[0])
        if seconds is not None:
            raise forms.refusal(429, "slow_down", ("Retry-After", str(max(1, int(-(-seconds // 1))))))

    # ---- refresh

    async def _token(self, asked: Asked, form: Form) -> Answer:
        client = await self._clients.authenticate(asked, form)
        if "grant_type" not in form:
            raise forms.refusal(400, "invalid_request")
        if form["grant_type"] != "refresh_token":
            raise forms.refusal(400, "unsupported_grant_type")
        token, cookies = self._presented(asked, form, "refresh_token")
        jkt = await self._proven(asked)
        try:
            pair = await answered(
                self._tokens.refresh(token, client_id=client.id, scope=form.get("scope"), jkt=jkt)
            )
        except InvalidToken as error:
            return self._not_refreshed(error.reason, cookies)
        if cookies is None:
            return json_answer(200, pair)
        return json_answer(200, cookies.shown(pair), *_set(cookies.set(pair)))

    async def _proven(self, asked: Asked) -> str | None:
        """The key that the client proves to have; None if it proves nothing, which is for the refresh to judge."""
        if self._proofs is None or not asked.all("dpop"):
            return None
        try:
            return await proven_key(self._tokens, self._proofs, asked, asked.endpoint)
        except InvalidToken as error:
            self._tell("tokens.refused", f"refresh: {error.reason}")
            raise Refused(unproven(error.reason)) from None

    def _not_refreshed(self, reason: str, cookies: TokenCookies | None) -> Answer:
        self._tell("tokens.refused", f"refresh: {reason}")
        if reason == "scope":
            return forms.oauth_error(400, "invalid_scope")
        if reason == "dpop":
            return unproven(reason)  # the token is good still, for whoever has its key
        gone = () if cookies is None else _set(cookies.clear())
        return forms.oauth_error(400, "invalid_grant", *gone)

    def _presented(self, asked: Asked, form: Form, name: str) -> tuple[str, TokenCookies | None]:
        """The token that a request is about, and the cookies if it came in one: then only our own pages may have sent it."""
        if name in form:
            return form[name], None
        token = None if self._cookies is None else self._cookies.refresh_of(asked)
        if token is None or self._cookies is None:
            raise forms.refusal(400, "invalid_request")
        if not self._cookies.allow(asked):
            self._tell("tokens.refused", "refresh: cross_site")
            raise forms.refusal(403, "cross_site_request")
        return token, self._cookies

    # ---- revocation

    async def _revoke(self, asked: Asked, form: Form) -> Answer:
        client = await self._clients.authenticate(asked, form)
        token, cookies = self._presented(asked, form, "token")
        try:
            if not await answered(self._tokens.revoke(token, client_id=client.id)):
                await self._end_login_of(token, client)
        except InvalidToken as error:
            self._tell("tokens.refused", f"revoke: {error.reason}")
            return forms.oauth_error(400, "invalid_grant")
        return json_answer(200, {}, *(() if cookies is None else _set(cookies.clear())))

    async def _end_login_of(self, token: str, client: Client) -> None:
        """Of an access token too: its whole login ends, or else it would be refreshed (RFC 7009 section 2.1)."""
        try:
            claims = self._tokens.verifier.verify_any(token)
        except InvalidToken:
            return  # unknown, or over already: that is what was asked for (section 2.2)
        if claims.client_id != client.id:
            raise InvalidToken("client")
        if claims.sid is not None:
            await answered(self._tokens.sessions.end(claims.sid))

    # ---- introspection

    async def _introspect(self, asked: Asked, form: Form) -> Answer:
        client = await self._clients.authenticate(asked, form)
        if not client.confidential or client.id not in self._resource_servers:
            raise forms.refusal(401, "invalid_client", ("WWW-Authenticate", 'Basic realm="tokens"'))
        if "token" not in form:
            raise forms.refusal(400, "invalid_request")
        try:
            claims = await answered(self._tokens.inspect(form["token"]))
        except InvalidToken as error:
            self._tell("tokens.refused", f"introspect: {error.reason}")
            return json_answer(200, {"active": False})
        said = {
            name: value for name, value in msgspec.to_builtins(claims).items() if value not in (None, "", [])
        }
        kind = "Bearer" if claims.cnf is None else "DPoP"
        return json_answer(200, {**said, "active": True, "token_type": kind})

    # ---- documents

    def _describe(self, url: str | None) -> None:
        keys = self._tokens.verifier.keys
        try:
            keys.jwks()
            self._documents[_KEYS] = self._key_set
        except ConfigurationError:
            pass  # a shared secret is not to be published
        if url is None:
            return
        found = self._metadata(public_url(url, example=_EXAMPLE))
        metadata = _public(msgspec.json.encode(found), "application/json", self._keys_age)
        self._documents[_METADATA] = lambda: metadata

    def _key_set(self) -> Answer:
        verifier = self._tokens.verifier
        body = msgspec.json.encode(verifier.keys.jwks(now=verifier.clock()))
        return _public(body, "application/jwk-set+json", self._keys_age)

    def _metadata(self, url: str) -> dict[str, Any]:
        found: dict[str, Any] = {
            "issuer": self._tokens.verifier.issuer,
            "token_endpoint": f"{url}/token",
            "revocation_endpoint": f"{url}/revoke",
            "grant_types_supported": ["refresh_token"],
            "response_types_supported": [],
            "token_endpoint_auth_methods_supported": self._clients.methods,
            "revocation_endpoint_auth_methods_supported": self._clients.methods,
        }
        if _KEYS in self._documents:
            found["jwks_uri"] = url + _KEYS
        if self._proofs is not None:
            found["dpop_signing_alg_values_supported"] = list(self._proofs.algorithms)
        if self._resource_servers:
            secret = [method for method in self._clients.methods if method != "none"]
            found["introspection_endpoint"] = f"{url}/introspect"
            found["introspection_endpoint_auth_methods_supported"] = secret
        return found

    def _document(self, asked: Asked) -> Answer:
        if asked.method not in ("GET", "HEAD"):
            return json_answer(405, {"error": "invalid_request"}, ("Allow", "GET, HEAD"))
        found = self._documents[asked.endpoint]()
        tag = found.header("etag")
        if tag in [known.strip().removeprefix("W/") for known in asked.one("if-none-match").split(",")]:
            return Answer(304, tuple(header for header in found.headers if header[0] != "Content-Type"))
        return found

    def _tell(self, name: EventName, detail: str) -> None:
        flows = self._tokens.sessions.flows
        flows.options.tell(Event(name, detail=detail, at=flows.clock.time()))


def _servers(given: Collection[str], auth: ClientAuth | None) -> frozenset[str]:
    if isinstance(given, str):
        raise ConfigurationError(f"resource_servers={given!r}: give a list of client ids")
    if given and auth is None:
        raise ConfigurationError(
            "resource_servers: they prove who they are by a secret: give client_auth=… too"
        )
    return frozenset(given)


def _set(cookies: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple(("Set-Cookie", cookie) for cookie in cookies)


def _public(body: bytes, kind: str, max_age: int) -> Answer:
    tag = f'"{sha256(body).hexdigest()[:32]}"'
    cache = ("Cache-Control", f"public, max-age={max_age}")
    return Answer(200, (("Content-Type", kind), cache, ("ETag", tag), _PUBLIC), body)
