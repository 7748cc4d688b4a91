"""Flask's own session cookie: tagged JSON, compressed where that pays, signed with the time of signing."""

import binascii
import zlib
from base64 import b64decode, urlsafe_b64decode
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final
from uuid import UUID

from coatcheck.adoption._kind import Kind, document, keys_of, of_json, whole
from coatcheck.adoption._timed import timed
from coatcheck.core.adoption import Claim, Found, Refused
from coatcheck.core.record import Lifetime

__all__ = ["FlaskCookie", "without_permanent"]


@dataclass(frozen=True, kw_only=True)
class FlaskCookie(Kind):
    """The cookies of Flask's `SecureCookieSessionInterface`: what `flask.session` is without an extension. Quart's are the same.

    secret_key   the old application's SECRET_KEY, a str or bytes
    fallbacks    its SECRET_KEY_FALLBACKS
    lifetime     its PERMANENT_SESSION_LIFETIME (default: 31 days, as Flask's): older cookies are not adopted
    user_key     default: `_user_id`, where Flask-Login keeps the user

    And the fields of every kind: `name` (SESSION_COOKIE_NAME), `path`, `domain`, `to_user_id`, `accept`, `until`. Raises
    ConfigurationError.
    """

    secret_key: str | bytes = field(repr=False)
    fallbacks: Any = field(default=(), repr=False)
    lifetime: float | timedelta = 31 * 86_400
    user_key: str | None = "_user_id"
    _signer: Any = field(init=False, repr=False)
    _max_age: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        keys = keys_of(self.kind, self.secret_key, self.fallbacks, setting="secret_key")
        signer = timed(keys, salt=b"cookie-session", key_derivation="hmac")
        object.__setattr__(self, "_signer", signer)
        object.__setattr__(self, "_max_age", whole(self.kind, "lifetime", self.lifetime))

    @classmethod
    def of(cls, app: Any, **fields: Any) -> "FlaskCookie":
        """The cookies that this application set, or sets, by its configuration: SECRET_KEY, SECRET_KEY_FALLBACKS,
        PERMANENT_SESSION_LIFETIME and SESSION_COOKIE_NAME, _DOMAIN, _PATH, _PARTITIONED. `fields` come before it.
        """
        config = app.config
        given = {
            "secret_key": config["SECRET_KEY"],
            "fallbacks": config.get("SECRET_KEY_FALLBACKS") or (),
            "lifetime": config["PERMANENT_SESSION_LIFETIME"],
            "name": config["SESSION_COOKIE_NAME"],
            "domain": config["SESSION_COOKIE_DOMAIN"] or None,
            "path": config["SESSION_COOKIE_PATH"] or config["APPLICATION_ROOT"],
            "partitioned": config.get("SESSION_COOKIE_PARTITIONED", False),
        }
        return cls(**{**given, **fields})

    def claim(self, value: str, now: float) -> Claim | None:
        """What the value of such a cookie says; None if it is not genuine, or too old."""
        signed = self._signer.opened(value, now, self._max_age)
        if signed is None:
            return None
        return Claim(signed.text, _read(signed.value, signed.at, signed.at + self._max_age + 1))


def _read(payload: bytes, at: float, expires_at: float) -> Found | Refused:
    try:
        packed = payload.startswith(b".")
        text = urlsafe_b64decode(payload[packed:] + b"=" * (-len(payload[packed:]) % 4))
        text = zlib.decompress(text) if packed else text
    except (binascii.Error, ValueError, zlib.error):
        return Refused("what it holds is not base64 of what Flask writes")
    data = of_json(text)
    if isinstance(data, Refused):
        return data
    try:
        untagged = document(_untagged(data))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return Refused("it holds a tag whose value is not what the tag says")
    if isinstance(untagged, Refused):
        return untagged
    rest, lifetime = without_permanent(untagged)
    return Found(rest, at, expires_at, lifetime)


def without_permanent(data: dict[str, Any]) -> tuple[dict[str, Any], Lifetime | None]:
    """`session.permanent` is a key of the data in Flask; here it is how long this session lives."""
    rest = {key: value for key, value in data.items() if key != "_permanent"}
    return rest, Lifetime(idle=None, persistent=True) if data.get("_permanent") is True else None


def _untagged(value: Any) -> Any:
    """Flask's `TaggedJSONSerializer`, backwards."""
    if type(value) is list:
        return [_untagged(item) for item in value]
    if type(value) is not dict:
        return value
    plain = {key: _untagged(item) for key, item in value.items()}
    if len(plain) == 1:
        (key,) = plain
        if (make := _TAGS.get(key)) is not None:
            return make(plain[key])
    return plain


def _dict(value: Any) -> Any:
    ((key, item),) = value.items()
    return {key[:-2]: item}


def _markup(value: Any) -> Any:
    try:
        from markupsafe import Markup
    except ImportError:
        return str(value)  # without the package nobody here could tell the difference
    return Markup(value)


def _moment(value: Any) -> datetime:
    return parsedate_to_datetime(value).astimezone(UTC)


_TAGS: Final[dict[str, Callable[[Any], Any]]] = {
    " di": _dict,
    " t": tuple,
    " b": b64decode,
    " m": _markup,
    " u": UUID,
    " d": _moment,
}
