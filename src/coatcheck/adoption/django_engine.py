"""Django's sessions through the engine that made them: `db`, `cache`, `cached_db`, or one of your own. Inside Django only.

A cache of Django's is Django's to read: it unpickles what it wrote, as it always did. Nothing is unpickled here.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from coatcheck.adoption._kind import Kind
from coatcheck.adoption.django import without_expiry
from coatcheck.core.adoption import Archive, Claim, Found, Refused
from coatcheck.errors import ConfigurationError, StoreUnavailable

__all__ = ["DjangoEngine"]

_KEY: Final = re.compile(r"[A-Za-z0-9]{8,64}")
_HASH: Final = "_auth_user_hash"


@dataclass(frozen=True, kw_only=True)
class DjangoEngine(Kind):
    """The sessions of the SESSION_ENGINE that was there before.

    engine       its module: `"django.contrib.sessions.backends.cached_db"`. For `signed_cookies` take `DjangoCookie`
    name         SESSION_COOKIE_NAME (default: `sessionid`)
    user_key     default: `_auth_user_id`
    check_user   whether somebody logged in must still be a user, active, and with the password the session was begun under, as
                 `django.contrib.auth` demands (default: True)

    And the fields of every kind: `path`, `domain`, `to_user_id`, `accept`, `until`.
    """

    engine: str
    name: str = "sessionid"
    user_key: str | None = "_auth_user_id"
    check_user: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        engine: object = self.engine
        if not isinstance(engine, str) or "." not in engine:
            raise self._wrong("engine", self.engine, "give the module that SESSION_ENGINE named")
        if self.engine.endswith(".signed_cookies"):
            raise self._wrong(
                "engine", self.engine, "its sessions are in the cookie: give DjangoCookie(secret_key=…)"
            )

    def claim(self, value: str, now: float) -> Claim | None:
        """The key that the cookie is; None if it cannot be one of Django's."""
        return Claim(value) if _KEY.fullmatch(value) else None

    def blocking(self) -> Archive:
        """The engine, for sync code."""
        return _Engine(self, awaiting=False)

    def awaiting(self) -> Archive:
        """The engine, for event loops."""
        return _Engine(self, awaiting=True)

    def opened(self, key: str) -> Any:
        """The engine's own session of this key, not loaded yet. Looked up late: settings may not be there before."""
        try:
            return import_module(self.engine).SessionStore(key)
        except (ImportError, AttributeError) as error:
            raise ConfigurationError(f"DjangoEngine(engine={self.engine!r}): {error}") from error


class _Engine:
    """The archive of one face: Django's sync API never suspends, its async API has the same names with an `a` before them."""

    def __init__(self, kind: DjangoEngine, *, awaiting: bool) -> None:
        self._kind, self._is_awaiting = kind, awaiting

    async def fetch(self, key: str, now: float) -> Found | Refused | None:
        """The session; None if there is none. Raises StoreUnavailable."""
        data = await self._ask(self._kind.opened(key), "load")
        if not data:  # what an engine answers if there is no such session
            return None
        found = without_expiry(data, now)
        if not self._kind.check_user or _HASH not in data:
            return found
        return _judged(found, await self._ask(_users().filter(pk=data.get("_auth_user_id")), "first"))

    async def end(self, key: str) -> None:
        """Delete it."""
        await self._ask(self._kind.opened(key), "delete", key)

    async def close(self) -> None:
        """Django's connections are Django's."""

    async def _ask(self, whom: Any, verb: str, *args: str) -> Any:
        try:
            if self._is_awaiting:
                return await getattr(whom, f"a{verb}")(*args)
            return getattr(whom, verb)(*args)
        except Exception as error:
            raise StoreUnavailable(
                f"the old sessions of {self._kind.engine} cannot be reached: {type(error).__name__}: {error}"
            ) from error


def _users() -> Any:
    from django.contrib.auth import get_user_model

    return get_user_model()._default_manager


def _judged(found: Found, user: Any) -> Found | Refused:
    """What `django.contrib.auth.get_user` would have made of it: no user, or another password by now, is no login."""
    from django.utils.crypto import constant_time_compare

    if user is None or not getattr(user, "is_active", True):
        return Refused("there is no such user any more, or not an active one")
    given = str(found.data[_HASH])
    fallbacks: Callable[[], Any] = getattr(user, "get_session_auth_fallback_hash", tuple)
    hashes = [user.get_session_auth_hash(), *fallbacks()]
    if not any(constant_time_compare(given, one) for one in hashes):
        return Refused("the user's password was changed since")
    return found
