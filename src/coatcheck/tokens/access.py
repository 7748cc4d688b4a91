"""Access tokens: JWTs after RFC 9068, verified without I/O.

    verifier = TokenVerifier(KeyRing.from_jwks(jwks), issuer="https://id.example", audience="api")
    claims = verifier.verify(bearer)                  # raises InvalidToken(reason=…)

A service that has only the public keys needs nothing but this. Claims of your own are fields of a class of yours:

    class Claims(AccessClaims, frozen=True, kw_only=True):
        roles: list[str] = []
"""

import time
from collections.abc import Callable
from datetime import timedelta
from hmac import compare_digest
from typing import TYPE_CHECKING, Annotated, Any, Final, Generic

import msgspec

from coatcheck.core.policy import duration
from coatcheck.errors import ConfigurationError, InvalidToken
from coatcheck.tokens import jws
from coatcheck.tokens.keys import Keys
from coatcheck.tokens.strict_json import strict_object

__all__ = ["TYPE", "AccessClaims", "Confirmation", "TokenVerifier"]

TYPE: Final = "at+jwt"
"""What the header of an access token calls itself, so that no other kind of token passes for one (RFC 9068 section 2.1)."""
_MAX_LEEWAY: Final = 60.0
_MAX_LIFETIME: Final = 86_400.0
_BOUNDS: Final = msgspec.Meta(ge=0, le=253_402_300_799)
"""Until the year 9999: what is beyond is no time, and overflows somewhere."""
_Time = Annotated[int, _BOUNDS] | Annotated[float, _BOUNDS]


class Confirmation(msgspec.Struct, frozen=True):
    """What a token is bound to (RFC 7800)."""

    jkt: str | None = None
    """The thumbprint of its client's key (RFC 9449 section 6.1)."""


class AccessClaims(msgspec.Struct, frozen=True, kw_only=True):
    """What an access token says (RFC 9068 section 2.2). Times are seconds since the epoch."""

    iss: str
    sub: str
    """The user's id."""
    aud: str | list[str]
    exp: _Time
    iat: _Time
    jti: str
    """The token's own name, for revocation."""
    client_id: str
    nbf: _Time | None = None
    scope: str = ""
    """Words with spaces between them (RFC 6749 section 3.3)."""
    auth_time: _Time | None = None
    """When the user proved who they are: a refresh does not move it (checklist 179)."""
    amr: list[str] = []
    """How: RFC 8176 has names."""
    sid: str | None = None
    """The handle of the session that the token belongs to."""
    cnf: Confirmation | None = None
    """The key that its client must prove to have; such a token is no bearer token."""

    @property
    def scopes(self) -> frozenset[str]:
        """The scope, taken apart."""
        return frozenset(self.scope.split())


if TYPE_CHECKING:
    from typing_extensions import TypeVar

    C = TypeVar("C", bound=AccessClaims, default=AccessClaims)
else:
    from typing import TypeVar

    C = TypeVar("C", bound=AccessClaims)


class TokenVerifier(Generic[C]):
    """Tells whose an access token is.

    keys          the keys that may have signed it: a KeyRing, a KeyFile, or another service's (RemoteKeys)
    issuer        who it must come from; compared as it is (checklist 147)
    audience      who it must be for: this service's own name
    max_lifetime  longest time from iat to exp, as seconds, a timedelta, or "10m": one signed for ten years is refused (178)
    leeway        how wrong a clock may be, at most 60 seconds
    schema        a class of yours with claims of your own, derived from AccessClaims
    clock         tells seconds since the epoch

    Raises ConfigurationError.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        issuer: str,
        audience: str,
        max_lifetime: str | float | timedelta = 3600,
        leeway: str | float | timedelta = 10,
        schema: type[C] = AccessClaims,  # type: ignore[assignment]  # the default of a type variable
        clock: Callable[[], float] = time.time,
    ) -> None:
        for name, value in (("issuer", issuer), ("audience", audience)):
            given: object = value
            if not isinstance(given, str) or not given:
                raise ConfigurationError(f"{name}={value!r}: give a text, the same that the tokens carry")
        kind: object = schema
        if not isinstance(kind, type) or not issubclass(kind, AccessClaims):
            raise ConfigurationError(
                f"schema={schema!r}: give a class derived from coatcheck.tokens.AccessClaims"
            )
        self.keys, self.issuer, self.audience, self.schema, self.clock = keys, issuer, audience, schema, clock
        self.max_lifetime = _within(max_lifetime, "max_lifetime", _MAX_LIFETIME)
        self.leeway = _within(leeway, "leeway", _MAX_LEEWAY)

    def verify(self, token: str) -> C:
        """The claims of an access token of ours. Raises InvalidToken, whatever is passed: its `reason` is for the log; and
        StoreUnavailable if another service's keys are not at hand. One that is bound to a key is refused: whoever brings it has
        to prove that they have that key, too (RFC 9449 section 7.2).
        """
        claims = self.verify_any(token)
        if claims.cnf is not None:
            raise InvalidToken("dpop")
        return claims

    def verify_bound(self, token: str, jkt: str) -> C:
        """The same for a token that is bound to a key, by whoever has proved to have it (`DPoP.check`)."""
        claims = self.verify_any(token)
        bound = None if claims.cnf is None else claims.cnf.jkt
        if bound is None or not compare_digest(bound.encode("utf-8", "surrogatepass"), jkt.encode("ascii")):
            raise InvalidToken("dpop")
        return claims

    def verify_any(self, token: str) -> C:
        """What a genuine token says, whoever brings it: for revocation and introspection, which let nobody in by it."""
        now = self.clock()
        try:
            payload, header = jws.verify(token, self.keys.at(now), now=now)
        except InvalidToken as error:
            if error.reason == "unknown_key":
                self.keys.missed(now)
            raise
        if header.typ != TYPE:
            raise InvalidToken("type")
        try:
            claims = msgspec.convert(strict_object(payload), self.schema)
        except (ValueError, msgspec.ValidationError, RecursionError):
            raise InvalidToken("claims") from None
        self._check_times(claims, now)
        if claims.iss != self.issuer:
            raise InvalidToken("issuer")
        audience = claims.aud
        if audience != self.audience and (type(audience) is str or self.audience not in audience):
            raise InvalidToken("audience")
        if not claims.sub or not claims.jti or not claims.client_id:
            raise InvalidToken("claims")
        return claims

    def _check_times(self, claims: C, now: float) -> None:
        leeway, exp, iat = self.leeway, claims.exp, claims.iat
        if now >= exp + leeway:
            raise InvalidToken("expired")
        if iat > now + leeway or (claims.nbf is not None and claims.nbf > now + leeway):
            raise InvalidToken("not_yet_valid")
        if exp - iat > self.max_lifetime:
            raise InvalidToken("lifetime")


def _within(value: str | float | timedelta, name: str, most: float) -> float:
    given: Any = value
    found = 0.0 if given == 0 and not isinstance(given, bool) else duration(value, setting=name)
    if found > most:
        raise ConfigurationError(f"{name}={value!r}: at most {most:g} seconds")
    return found
