"""Flask-Session in Redis: the cookie is a key, what lies there is MessagePack or JSON. A pickle is known, and never read."""

import re
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from coatcheck.adoption import _redis
from coatcheck.adoption._kind import Kind, document, keys_of, of_json
from coatcheck.adoption._timed import plain
from coatcheck.adoption.flask import without_permanent
from coatcheck.core.adoption import Archive, Claim, Found, Refused
from coatcheck.core.outage import Outage

__all__ = ["FlaskSessionInRedis"]

_SID: Final = re.compile(r"[A-Za-z0-9_-]{20,512}")


@dataclass(frozen=True, kw_only=True)
class FlaskSessionInRedis(Kind):
    """The sessions of Flask-Session with `SESSION_TYPE = "redis"`; Quart-Session's are alike.

    server       a URL, or the application's own client of redis-py (SESSION_REDIS), of the face that is to use it
    key_prefix   SESSION_KEY_PREFIX
    secret_key   SECRET_KEY, if SESSION_USE_SIGNER was on: only signed ids are believed then
    fallbacks    secrets it had before
    outage       when to stop asking, of a server given as a URL
    user_key     default: `_user_id`, where Flask-Login keeps the user

    And the fields of every kind: `name` (SESSION_COOKIE_NAME), `path`, `domain`, `to_user_id`, `accept`, `until`.

    Versions before 0.6 pickled. What is pickled is not adopted (event `adoption.refused`): a pickle can run any code.
    """

    server: Any = field(repr=False)
    key_prefix: str = "session:"
    secret_key: str | bytes | None = field(default=None, repr=False)
    fallbacks: Any = field(default=(), repr=False)
    outage: Outage = field(default_factory=Outage)
    user_key: str | None = "_user_id"
    _signer: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        signer = None
        if self.secret_key is not None:
            keys = keys_of(self.kind, self.secret_key, self.fallbacks, setting="secret_key")
            signer = plain(keys, salt="flask-session", key_derivation="hmac")
        object.__setattr__(self, "_signer", signer)

    def claim(self, value: str, now: float) -> Claim | None:
        """The id that the cookie is; None if it cannot be one of Flask-Session's."""
        sid = value if self._signer is None else self._signer.opened(value)
        return Claim(sid) if sid is not None and _SID.fullmatch(sid) else None

    def blocking(self) -> Archive:
        """The Redis, for sync code."""
        return _redis.archive(self._place(), _Format(), awaiting=False)

    def awaiting(self) -> Archive:
        """The Redis, for event loops."""
        return _redis.archive(self._place(), _Format(), awaiting=True)

    def _place(self) -> _redis.Place:
        return _redis.Place(self.server, self.key_prefix, self.outage)


class _Format(_redis.Format):
    def read(self, value: bytes) -> Found | Refused:
        try:
            data = document(msgspec.msgpack.decode(value))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            data = of_json(value)
        if isinstance(data, Refused):
            return data
        rest, lifetime = without_permanent(data)
        return Found(rest, lifetime=lifetime)
