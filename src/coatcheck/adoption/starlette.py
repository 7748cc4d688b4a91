"""Starlette's own session cookie: JSON in base64, signed with the time of signing."""

import binascii
from base64 import b64decode
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from coatcheck.adoption._kind import Kind, keys_of, of_json, whole
from coatcheck.adoption._timed import timed
from coatcheck.core.adoption import Claim, Found, Refused

__all__ = ["StarletteCookie"]


@dataclass(frozen=True, kw_only=True)
class StarletteCookie(Kind):
    """The cookies of `starlette.middleware.sessions.SessionMiddleware`, FastAPI's too.

    secret_key   the old middleware's, a str
    fallbacks    secrets it had before, if their cookies are to be adopted too
    max_age      the old middleware's, in seconds (default: 14 days, as Starlette's); None needs `until`

    And the fields of every kind: `name` (Starlette calls it session_cookie), `path`, `domain`, `user_key`, `to_user_id`,
    `accept`, `until`. Raises ConfigurationError.
    """

    secret_key: Any = field(repr=False)
    fallbacks: Any = field(default=(), repr=False)
    max_age: float | timedelta | None = 14 * 86_400
    _signer: Any = field(init=False, repr=False)
    _max_age: int | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        # Starlette's own Secret shows itself as text only when it is asked to.
        key = self.secret_key if isinstance(self.secret_key, bytes | None) else str(self.secret_key)
        keys = keys_of(self.kind, key, self.fallbacks, setting="secret_key")
        object.__setattr__(self, "_signer", timed(keys))
        age = None if self.max_age is None else whole(self.kind, "max_age", self.max_age)
        object.__setattr__(self, "_max_age", age)
        if age is None and self.until is None:
            raise self._wrong(
                "max_age", None, "such cookies never end by themselves: say until when with until="
            )

    def claim(self, value: str, now: float) -> Claim | None:
        """What the value of such a cookie says; None if it is not genuine, or too old."""
        signed = self._signer.opened(value, now, self._max_age)
        if signed is None:
            return None
        expires_at = None if self._max_age is None else signed.at + self._max_age + 1
        return Claim(signed.text, in_base64(signed.value, signed.at, expires_at))


def in_base64(value: bytes, at: float, expires_at: float | None) -> Found | Refused:
    """The session in a signed value."""
    try:
        data = of_json(b64decode(value, validate=True))
    except (binascii.Error, ValueError):
        return Refused("what it holds is not base64")
    return data if isinstance(data, Refused) else Found(data, at, expires_at)
