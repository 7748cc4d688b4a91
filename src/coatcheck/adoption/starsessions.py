"""starsessions: JSON in Redis under the id in the cookie, or signed in the cookie itself (its `CookieStore`)."""

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from coatcheck.adoption import _redis
from coatcheck.adoption._kind import Kind, keys_of, of_json, whole
from coatcheck.adoption._timed import timed
from coatcheck.adoption.starlette import in_base64
from coatcheck.core.adoption import Archive, Claim, Found, Refused
from coatcheck.core.outage import Outage

__all__ = ["StarsessionsCookie", "StarsessionsInRedis"]

_SID: Final = re.compile(r"[0-9a-f]{32}")
_LONGEST: Final = 3600 * 24 * 30 * 12
"""What starsessions takes for the lifetime of a signed cookie that has none."""


@dataclass(frozen=True, kw_only=True)
class StarsessionsInRedis(Kind):
    """The sessions of `starsessions.stores.redis.RedisStore`.

    server   a URL, or the application's own client of redis-py, of the face that is to use it
    prefix   the store's, a text
    outage   when to stop asking, of a server given as a URL

    And the fields of every kind: `name` (cookie_name), `path`, `domain`, `user_key`, `to_user_id`, `accept`, `until`. Only ids
    that starsessions makes are believed: 32 hexadecimal digits.
    """

    server: Any = field(repr=False)
    prefix: str = "starsessions."
    outage: Outage = field(default_factory=Outage)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.prefix, str):
            raise self._wrong("prefix", self.prefix, "give the text that its keys begin with")

    def claim(self, value: str, now: float) -> Claim | None:
        """The id that the cookie is; None if it cannot be one of starsessions'."""
        return Claim(value) if _SID.fullmatch(value) else None

    def blocking(self) -> Archive:
        """The Redis, for sync code."""
        return _redis.archive(self._place(), _Format(), awaiting=False)

    def awaiting(self) -> Archive:
        """The Redis, for event loops."""
        return _redis.archive(self._place(), _Format(), awaiting=True)

    def _place(self) -> _redis.Place:
        return _redis.Place(self.server, self.prefix, self.outage)


@dataclass(frozen=True, kw_only=True)
class StarsessionsCookie(Kind):
    """The cookies of `starsessions.CookieStore`.

    secret_key   the store's
    fallbacks    secrets it had before
    lifetime     the old middleware's, in seconds; 0: until the browser closes

    And the fields of every kind: `name` (cookie_name), `path`, `domain`, `user_key`, `to_user_id`, `accept`, `until`.
    """

    secret_key: Any = field(repr=False)
    fallbacks: Any = field(default=(), repr=False)
    lifetime: float | timedelta = 0
    _signer: Any = field(init=False, repr=False)
    _max_age: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        key = self.secret_key if isinstance(self.secret_key, bytes | None) else str(self.secret_key)
        keys = keys_of(self.kind, key, self.fallbacks, setting="secret_key")
        object.__setattr__(self, "_signer", timed(keys))
        none = self.lifetime in (0, timedelta(0))
        object.__setattr__(
            self, "_max_age", _LONGEST if none else whole(self.kind, "lifetime", self.lifetime)
        )

    def claim(self, value: str, now: float) -> Claim | None:
        """What the value of such a cookie says; None if it is not genuine, or too old."""
        signed = self._signer.opened(value, now, self._max_age)
        if signed is None:
            return None
        found = in_base64(signed.value, signed.at, signed.at + self._max_age + 1)
        return Claim(signed.text, found if isinstance(found, Refused) else _without_metadata(found))


class _Format(_redis.Format):
    def read(self, value: bytes) -> Found | Refused:
        data = of_json(value)
        return data if isinstance(data, Refused) else _without_metadata(Found(data))


def _without_metadata(found: Found) -> Found:
    """What starsessions keeps about a session among its data: when it began counts as when it was issued."""
    rest = {key: value for key, value in found.data.items() if key != "__metadata__"}
    about = found.data.get("__metadata__")
    created = about.get("created") if isinstance(about, dict) else None
    if isinstance(created, int | float) and not isinstance(created, bool):
        return found._replace(data=rest, issued_at=float(created))
    return found._replace(data=rest)
