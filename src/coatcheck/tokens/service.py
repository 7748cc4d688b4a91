"""Tokens as an application meets them: one line a method, sync and async, over the same sessions as the cookies.

    tokens = AsyncTokens(sessions, keys=KeyRing.from_env("JWT_KEYS"), issuer="https://id.example", audience="api")
    pair = await tokens.issue(user.id, scope="orders:read")
    claims = tokens.verify(bearer)                       # no I/O; raises InvalidToken(reason=…)
    pair = await tokens.refresh(pair.refresh_token)      # rotates; a token that is used twice ends its family

`sessions` is an AsyncSessionManager (AsyncTokens) or a SessionManager (Tokens).
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol

from coatcheck.core.ids import RandomIds
from coatcheck.core.policy import duration
from coatcheck.core.ports import EVERYONE, HEARTBEAT, Notice
from coatcheck.core.record import Login
from coatcheck.core.session import UserId, user_text
from coatcheck.core.stepping import run_now
from coatcheck.errors import ConfigurationError, InvalidToken
from coatcheck.tokens.access import AccessClaims, TokenVerifier
from coatcheck.tokens.dpop import DPoP
from coatcheck.tokens.family import Family
from coatcheck.tokens.feed import RevocationFeed, Standing
from coatcheck.tokens.grants import Grants, Pair, Times
from coatcheck.tokens.keys import Keys
from coatcheck.tokens.possession import Possession, Request

__all__ = ["AsyncTokens", "Sessions", "Tokens"]

Duration = str | float | timedelta
if TYPE_CHECKING:
    from typing_extensions import TypeVar

    C = TypeVar("C", bound=AccessClaims, default=AccessClaims)
else:
    from typing import TypeVar

    C = TypeVar("C", bound=AccessClaims)
_OURS = frozenset(
    {"iss", "sub", "aud", "exp", "iat", "nbf", "jti", "client_id", "sid", "scope", "auth_time", "amr", "cnf"}
)


class Sessions(Protocol):
    """What tokens want of a session manager."""

    flows: Any

    def watch(self, tell: Callable[[Notice], None], *, handle: str | None = None) -> Callable[[], None]: ...


class _Service(Generic[C]):
    """Tokens of one issuer for one audience: what both faces are made with."""

    def __init__(
        self,
        sessions: Sessions,
        *,
        keys: Keys,
        issuer: str,
        audience: str,
        access_ttl: Duration = "10m",
        refresh_ttl: Duration = "30d",
        idle_ttl: Duration = "14d",
        grace: Duration = 10,
        leeway: Duration = 10,
        max_lag: Duration = 15,
        when_unsure: Literal["check_store", "fail_closed"] = "check_store",
        dpop: DPoP | None = None,
        schema: type[C] = AccessClaims,  # type: ignore[assignment]  # the default of a type variable
    ) -> None:
        flows = sessions.flows
        times = Times(
            duration(access_ttl, setting="access_ttl"),
            duration(refresh_ttl, setting="refresh_ttl"),
            duration(idle_ttl, setting="idle_ttl"),
            0.0 if grace == 0 else duration(grace, setting="grace"),
        )
        if times.access > 3600:
            raise ConfigurationError(
                f"access_ttl={access_ttl!r}: at most an hour; a refresh is what makes a login last"
            )
        if times.grace > 60:
            raise ConfigurationError(
                f"grace={grace!r}: at most 60 seconds; it is for two tabs, not for a second client"
            )
        self._max_lag, self._when_unsure = duration(max_lag, setting="max_lag"), when_unsure
        if self._max_lag <= HEARTBEAT:
            raise ConfigurationError(
                f"max_lag={max_lag!r}: more than {HEARTBEAT:g} seconds, in which a store may be silent"
            )
        if when_unsure not in ("check_store", "fail_closed"):
            raise ConfigurationError(f"when_unsure={when_unsure!r}: give 'check_store' or 'fail_closed'")
        self._watch, self._clock = sessions.watch, flows.clock
        self.sessions: Any = sessions
        """The manager that the logins are kept by."""
        self._feed: RevocationFeed | None = None
        self.dpop = dpop
        """The rules for proofs of possession, if tokens may be bound to keys."""
        self._possession = None if dpop is None else Possession(dpop, flows.store)
        clock, options = flows.clock, flows.options
        keys.at(clock.time()).signer  # noqa: B018  # raises if none can sign
        self.verifier: TokenVerifier[C] = TokenVerifier(
            keys,
            issuer=issuer,
            audience=audience,
            max_lifetime=times.access,
            leeway=leeway,
            schema=schema,
            clock=clock.time,
        )
        self._grants = Grants(
            flows.store,
            flows.lifecycle.eras,
            keys=keys,
            issuer=issuer,
            audience=audience,
            times=times,
            clock=clock.time,
            monotonic=clock.monotonic,
            source=RandomIds(),
            limit=options.max_sessions,
            evict=options.at_limit == "evict_oldest",
            on_event=options.tell,
        )

    def listen(self) -> Callable[[], None]:
        """Have the store tell of sessions that end; returns what stops it. From here on `verify` refuses their tokens.

        Under asyncio call it on the event loop, at start-up. Raises ConfigurationError if the store does not tell.
        """
        times, clock = self._grants.times, self._clock
        feed = RevocationFeed(
            keep_for=times.access + self.verifier.leeway,
            max_lag=self._max_lag,
            leeway=self.verifier.leeway,
            time=clock.time,
            monotonic=clock.monotonic,
        )

        def hear(notice: Notice) -> None:
            if notice.kind == "ended" and notice.key.startswith(EVERYONE):
                self._grants.ask_anew()
            feed.hear(notice)

        stop = self._watch(hear)
        self._feed = feed
        return stop

    def verify(self, token: str) -> C:
        """The claims of an access token. No I/O. Raises InvalidToken, and nothing else whatever is passed.

        One that is bound to its client's key is refused: `authenticate_bound` lets it in.

        After `listen()` the token of a session that has ended is refused ("revoked"), and so is one that the feed cannot be
        sure of ("unsure"): `authenticate` asks the store about those. Without it a token is good until it expires.
        """
        claims = self.verifier.verify(token)
        if self._feed is not None and not self._is_sure(self._feed, claims):
            raise InvalidToken("unsure")
        return claims

    def _is_sure(self, feed: RevocationFeed, claims: C) -> bool:
        """Whether the feed knows that the token is good. Raises InvalidToken if it knows that it is not."""
        if claims.sid is None:
            raise InvalidToken("claims")
        standing = feed.standing(claims.sid, claims.jti, claims.iat)
        if standing is Standing.REVOKED:
            raise InvalidToken("revoked")
        return standing is Standing.LIVE

    async def _living(self, claims: C) -> C:
        """The claims again, if the login lives. Asks the store where the feed is not sure."""
        feed = self._feed
        if feed is not None and self._is_sure(feed, claims):
            return claims
        if claims.sid is None:
            raise InvalidToken("claims")
        if feed is not None and self._when_unsure == "fail_closed":
            raise InvalidToken("unsure")
        asked_at = self._clock.monotonic()
        if not await self._grants.lives(claims.sid, claims.sub, claims.jti):
            raise InvalidToken("revoked")
        if feed is not None:
            feed.found_live(claims.jti, asked_at)
        return claims

    async def _bound(self, token: str, request: Request) -> C:
        return await self._living(await self._proofs().claims(self.verifier, token, request))

    def _proofs(self) -> Possession:
        if self._possession is None:
            raise ConfigurationError(
                "give Tokens(…, dpop=DPoP()) for tokens that are bound to their client's key"
            )
        return self._possession

    async def _revoke_access(self, token: str) -> bool:
        claims = self.verifier.verify_any(token)
        if claims.sid is None:
            raise InvalidToken("claims")
        until = claims.exp + self.verifier.leeway
        revoked = await self._grants.revoke_access(claims.sid, claims.sub, claims.jti, until)
        if self._feed is not None:
            self._feed.hear(
                Notice("ended", claims.jti)
            )  # here at once, and elsewhere when the store has told
        return revoked


def _family(
    client_id: str,
    scope: str,
    audience: str | None,
    claims: Mapping[str, Any] | None,
    amr: Sequence[str],
    jkt: str | None,
) -> Family:
    if not client_id:
        raise ConfigurationError("client_id: give the name of the client that the tokens are for")
    if wrong := _OURS & (claims or {}).keys():
        raise ConfigurationError(
            f"claims: {', '.join(sorted(wrong))} cannot be set: they are what makes the token good"
        )
    words = " ".join(scope.split())
    return Family(client_id, "", words, audience or "", tuple(amr), dict(claims or {}), jkt=jkt or "")


class Tokens(_Service[C]):
    """Tokens in sync code. `sessions` is a SessionManager.

    keys         a KeyRing, or a KeyFile that is read again; the first key that can sign signs
    issuer       the name of this service in `iss`
    audience     who the tokens are for; a token may say otherwise (`issue(audience=…)`)
    access_ttl   how long an access token is good: seconds, a timedelta, or "10m"; at most an hour
    refresh_ttl  how long a login lives, whatever is refreshed
    idle_ttl     how long it lives without a refresh
    grace        for how long the refresh token before the present one may come again, with the same answer: what two tabs need,
                 or a reply that was lost. 0 is strict (ASVS 10.4.5): such a tab logs its user out
    leeway       how wrong a clock may be
    max_lag      for how long the store may be silent after `listen()`, before nothing is sure any more; 6 seconds or more
    when_unsure  what `authenticate` does then: "check_store", or "fail_closed"
    dpop         the rules for proofs of possession; without, nobody's token is bound to a key
    schema       a class with claims of your own, derived from AccessClaims

    Raises ConfigurationError.
    """

    def issue(
        self,
        user_id: UserId,
        *,
        client_id: str = "web",
        scope: str = "",
        audience: str | None = None,
        claims: Mapping[str, Any] | None = None,
        method: str = "pwd",
        jkt: str | None = None,
        user_agent: str = "",
        address: str = "",
    ) -> Pair:
        """Log a user in by tokens; with `jkt` they are bound to that key of the client (`proven_key`).

        Raises LoginRefused as `session.save()` of a login does.
        """
        family = _family(client_id, scope, audience, claims, (method,), jkt)
        return run_now(self._grants.issue(user_text(user_id), family, _login(method, user_agent, address)))

    def refresh(
        self,
        token: str,
        *,
        client_id: str | None = None,
        scope: str | None = None,
        claims: Mapping[str, Any] | None = None,
        jkt: str | None = None,
    ) -> Pair:
        """The next pair. Raises InvalidToken: its `reason` is for the log, and `invalid_grant` for the client."""
        return run_now(self._grants.refresh(token, client_id=client_id, scope=scope, claims=claims, jkt=jkt))

    def authenticate(self, token: str) -> C:
        """The claims of an access token whose session lives. Asks the store only where the feed is not sure: always, without
        `listen()`. Raises InvalidToken, or StoreError if the store had to be asked and cannot be.
        """
        return run_now(self._living(self.verifier.verify(token)))

    def authenticate_bound(self, token: str, proofs: Sequence[str], *, method: str, url: str) -> C:
        """The same for a token that is bound to its client's key (`Authorization: DPoP …`). `proofs` are the values of the
        request's DPoP fields, `url` is the request's as its client sees it.

        Raises InvalidToken, with the `reason` "use_dpop_nonce" where the client is to come again with `dpop.nonce()`.
        """
        return run_now(self._bound(token, Request(proofs, method, url)))

    def proven_key(self, proofs: Sequence[str], *, method: str, url: str) -> str:
        """The key that a client has who asks for tokens: `jkt` for `issue` and `refresh`. Raises InvalidToken as above."""
        return run_now(self._proofs().key(Request(proofs, method, url)))

    def inspect(self, token: str) -> C:
        """What `authenticate` says, also of a token that is bound to a key: for introspection, which lets nobody in by it."""
        return run_now(self._living(self.verifier.verify_any(token)))

    def revoke_access(self, token: str) -> bool:
        """Revoke one access token, and leave its login alone. Returns whether it was good until now. Raises InvalidToken."""
        return run_now(self._revoke_access(token))

    def revoke(self, token: str, *, client_id: str | None = None) -> bool:
        """End the login that a refresh token belongs to. Returns whether there was one.

        Raises InvalidToken if it is not this client's, where one is named (RFC 7009 section 2.1).
        """
        return run_now(self._grants.revoke(token, client_id=client_id))


class AsyncTokens(_Service[C]):
    """Tokens in async code. `sessions` is an AsyncSessionManager; everything else as described for `Tokens`."""

    async def issue(
        self,
        user_id: UserId,
        *,
        client_id: str = "web",
        scope: str = "",
        audience: str | None = None,
        claims: Mapping[str, Any] | None = None,
        method: str = "pwd",
        jkt: str | None = None,
        user_agent: str = "",
        address: str = "",
    ) -> Pair:
        """Log a user in by tokens; with `jkt` they are bound to that key of the client (`proven_key`).

        Raises LoginRefused as `session.save()` of a login does.
        """
        family = _family(client_id, scope, audience, claims, (method,), jkt)
        return await self._grants.issue(user_text(user_id), family, _login(method, user_agent, address))

    async def refresh(
        self,
        token: str,
        *,
        client_id: str | None = None,
        scope: str | None = None,
        claims: Mapping[str, Any] | None = None,
        jkt: str | None = None,
    ) -> Pair:
        """The next pair. Raises InvalidToken: its `reason` is for the log, and `invalid_grant` for the client."""
        return await self._grants.refresh(token, client_id=client_id, scope=scope, claims=claims, jkt=jkt)

    async def authenticate(self, token: str) -> C:
        """The claims of an access token whose session lives. Asks the store only where the feed is not sure: always, without
        `listen()`. Raises InvalidToken, or StoreError if the store had to be asked and cannot be.
        """
        return await self._living(self.verifier.verify(token))

    async def authenticate_bound(self, token: str, proofs: Sequence[str], *, method: str, url: str) -> C:
        """The same for a token that is bound to its client's key (`Authorization: DPoP …`). `proofs` are the values of the
        request's DPoP fields, `url` is the request's as its client sees it.

        Raises InvalidToken, with the `reason` "use_dpop_nonce" where the client is to come again with `dpop.nonce()`.
        """
        return await self._bound(token, Request(proofs, method, url))

    async def proven_key(self, proofs: Sequence[str], *, method: str, url: str) -> str:
        """The key that a client has who asks for tokens: `jkt` for `issue` and `refresh`. Raises InvalidToken as above."""
        return await self._proofs().key(Request(proofs, method, url))

    async def inspect(self, token: str) -> C:
        """What `authenticate` says, also of a token that is bound to a key: for introspection, which lets nobody in by it."""
        return await self._living(self.verifier.verify_any(token))

    async def revoke_access(self, token: str) -> bool:
        """Revoke one access token, and leave its login alone. Returns whether it was good until now. Raises InvalidToken."""
        return await self._revoke_access(token)

    async def revoke(self, token: str, *, client_id: str | None = None) -> bool:
        """End the login that a refresh token belongs to. Returns whether there was one.

        Raises InvalidToken if it is not this client's, where one is named (RFC 7009 section 2.1).
        """
        return await self._grants.revoke(token, client_id=client_id)


def _login(method: str, user_agent: str, address: str) -> Login:
    return Login(method=method, remember=True, user_agent=user_agent[:256], address=address)
