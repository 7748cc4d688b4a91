"""Logout tokens, verified: OpenID Connect Back-Channel Logout 1.0, section 2.6. No I/O, and nothing is ended here.

The signature comes first, by a key that is the provider's and brings its own algorithm (`tokens/jws.py`), so `none` and a public
key used as a shared secret are refused before a claim is read. What tells a logout token from an ID token of the same provider is
in its claims: `events` must be there, and `nonce` must not.
"""

from datetime import timedelta
from typing import Annotated, Any, Final

import msgspec

from coatcheck.core.policy import duration
from coatcheck.errors import ConfigurationError, InvalidToken
from coatcheck.tokens import jws
from coatcheck.tokens.keys import Keys
from coatcheck.tokens.strict_json import strict_object

__all__ = ["EVENT", "LogoutClaims", "LogoutTokenVerifier"]

EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
"""The member of `events` that makes it a logout token (section 2.4)."""
_TYPES: Final = (None, "jwt", "logout+jwt")
"""What its header may call itself: `logout+jwt` is recommended, older providers say nothing much."""
_Time = Annotated[float, msgspec.Meta(ge=0, le=253_402_300_799)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class LogoutClaims(msgspec.Struct, frozen=True, kw_only=True):
    """What a logout token says (section 2.4). Times are seconds since the epoch."""

    iss: str
    aud: str | list[str]
    iat: _Time
    exp: _Time
    jti: _Name
    events: dict[str, Any]
    sub: _Name | None = None
    """The user, as the provider names them."""
    sid: _Name | None = None
    """The session of the provider that has ended; None: all of the user's."""


class LogoutTokenVerifier:
    """Tells what a provider wants ended.

    keys          the provider's: `RemoteKeys(jwks_uri)`
    issuer        who it must come from, as the provider's metadata says it; compared as it is
    client_id     who it must be for: what the provider calls this application
    max_lifetime  longest time from iat to exp
    leeway        how wrong a clock may be, at most 60 seconds

    Raises ConfigurationError.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        issuer: str,
        client_id: str,
        max_lifetime: str | float | timedelta = "1h",
        leeway: str | float | timedelta = 10,
    ) -> None:
        for name, value in (("issuer", issuer), ("client_id", client_id)):
            given: object = value
            if not isinstance(given, str) or not given:
                raise ConfigurationError(
                    f"{name}={value!r}: give a text, the same that the provider's tokens carry"
                )
        if not hasattr(keys, "at"):
            raise ConfigurationError(f"keys={keys!r}: give the provider's keys: RemoteKeys(jwks_uri)")
        self.keys, self.issuer, self.client_id = keys, issuer, client_id
        self.max_lifetime = duration(max_lifetime, setting="max_lifetime")
        self.leeway = duration(leeway, setting="leeway")
        if self.leeway > 60 or self.max_lifetime > 86_400:
            raise ConfigurationError("leeway is at most 60 seconds, max_lifetime a day")

    def verify(self, token: object, now: float) -> LogoutClaims:
        """The claims of a genuine logout token. Whether it came before is for who ends something by it: `Provider`.

        Raises InvalidToken, whatever is passed, and StoreUnavailable if the provider's keys are not at hand.
        """
        claims = self._claims(token, now)
        if claims.iss != self.issuer:
            raise InvalidToken("issuer")
        if not self.is_for_us(claims.aud):
            raise InvalidToken("audience")
        if now >= claims.exp + self.leeway:
            raise InvalidToken("expired")
        if claims.iat > now + self.leeway:
            raise InvalidToken("not_yet_valid")
        if claims.exp - claims.iat > self.max_lifetime:
            raise InvalidToken("lifetime")
        if not isinstance(claims.events.get(EVENT), dict):
            raise InvalidToken("events")
        if claims.sub is None and claims.sid is None:
            raise InvalidToken("claims")
        return claims

    def is_for_us(self, audience: object) -> bool:
        """Whether an `aud` names this application."""
        return audience == self.client_id or (type(audience) is list and self.client_id in audience)

    def _claims(self, token: object, now: float) -> LogoutClaims:
        try:
            payload, header = jws.verify(token, self.keys.at(now), now=now)  # type: ignore[arg-type]  # whatever it is
        except InvalidToken as error:
            if error.reason == "unknown_key":
                self.keys.missed(now)
            raise
        if header.typ not in _TYPES:
            raise InvalidToken("type")
        try:
            members = strict_object(payload)
            claims = msgspec.convert(members, LogoutClaims)
        except (ValueError, msgspec.ValidationError, RecursionError):
            raise InvalidToken("claims") from None
        if "nonce" in members:  # an ID token that somebody passes off as a logout
            raise InvalidToken("nonce")
        return claims
