"""What all kinds of old sessions are told alike, and check alike."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from coatcheck.core.adoption import Archive, Refused
from coatcheck.core.cookies import CookieSettings
from coatcheck.core.session import UserId
from coatcheck.errors import ConfigurationError

__all__ = ["Kind", "document", "keys_of", "of_json", "whole"]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """The fields of every kind of old sessions.

    name, path, domain, partitioned  the old cookie's, as the old library sets it: to find it, and to clear it in the browser
    user_key    the key of the old data that says who is logged in; the adopted session is then that user's
    to_user_id  makes the user id of what is there; a str, an int or a UUID is one already
    accept      called with the old data; True: adopt it. May be an `async def` in an async application
    until       a datetime with a time zone, from which on nothing is adopted any more
    """

    name: str = "session"
    path: str = "/"
    domain: str | None = None
    partitioned: bool = False
    user_key: str | None = None
    to_user_id: Callable[[Any], UserId] | None = None
    accept: Callable[[Mapping[str, Any]], bool | Awaitable[bool]] | None = None
    until: datetime | None = None
    cookie: CookieSettings = field(init=False, repr=False)

    def __post_init__(self) -> None:
        name: object = self.name
        if not isinstance(name, str) or not name:
            raise self._wrong("name", name, "give the name of the old cookie")
        for word in ("to_user_id", "accept"):
            value = getattr(self, word)
            if value is not None and not callable(value):
                raise self._wrong(word, value, "give a function")
        key: object = self.user_key
        if key is not None and (not isinstance(key, str) or not key):
            raise self._wrong("user_key", key, "give the key that the user is kept under")
        end: object = self.until
        if end is not None and not (isinstance(end, datetime) and end.utcoffset() is not None):
            raise self._wrong("until", end, "give a datetime with a time zone, such as tzinfo=UTC")
        try:
            cookie = CookieSettings(
                name=self.name, path=self.path, domain=self.domain, partitioned=self.partitioned
            )
        except ConfigurationError as error:
            raise ConfigurationError(f"{type(self).__name__}: {error}") from error
        object.__setattr__(self, "cookie", cookie)

    @property
    def kind(self) -> str:
        """What it is called in events."""
        return type(self).__name__

    def blocking(self) -> Archive | None:
        """The archive for sync code; None, since the cookie is all there is."""
        return None

    def awaiting(self) -> Archive | None:
        """The archive for event loops; None, since the cookie is all there is."""
        return None

    def _wrong(self, word: str, value: object, fix: str) -> ConfigurationError:
        return ConfigurationError(f"{type(self).__name__}({word}={value!r}): {fix}")


def keys_of(kind: str, newest: object, older: object, *, setting: str) -> list[bytes]:
    """The keys of the old library, the newest first. Raises ConfigurationError, which never repeats one."""
    if isinstance(older, str | bytes) or not isinstance(older, Sequence):
        raise ConfigurationError(f"{kind}(fallbacks=…): give a list of the keys that {setting} had before")
    given: list[Any] = [newest, *older]
    if not all(isinstance(key, str | bytes) and key for key in given):
        raise ConfigurationError(
            f"{kind}({setting}=…): give the secret that the old cookies were signed with"
        )
    return [key.encode() if isinstance(key, str) else bytes(key) for key in given]


def whole(kind: str, setting: str, value: object) -> int:
    """A lifetime in whole seconds, from seconds or a timedelta. Raises ConfigurationError."""
    total = value.total_seconds() if hasattr(value, "total_seconds") else value
    if isinstance(total, bool) or not isinstance(total, int | float) or not 0 < total < 1e9:
        raise ConfigurationError(f"{kind}({setting}={value!r}): give seconds, more than 0, or a timedelta")
    return int(total)


def of_json(text: bytes | str) -> dict[str, Any] | Refused:
    """The old data, from JSON as Python's `json` writes it. Never raises."""
    try:
        return document(json.loads(text))
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        return Refused(
            "it is pickled, and nothing is ever unpickled here"
            if _is_pickled(text)
            else "what it holds is not JSON"
        )


def document(data: object) -> dict[str, Any] | Refused:
    """A session's data are a dict."""
    return data if isinstance(data, dict) else Refused("what it holds is not a session's data")


def _is_pickled(text: bytes | str) -> bool:
    """A pickle of protocol 2 or later begins with PROTO, and ends with STOP, as all do."""
    return isinstance(text, bytes) and text[:1] in (b"\x80", b"(") and text[-1:] == b"."
