"""Django's sessions without Django: those it signs into the cookie, and those in its table.

For an application that came from Django, or runs beside it. Inside Django, `DjangoEngine` serves every engine, the caches' too.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from coatcheck.adoption._django_signing import DjangoSigner, unpacked
from coatcheck.adoption._kind import Kind, keys_of, of_json, whole
from coatcheck.core.adoption import Archive, Claim, Found, Refused
from coatcheck.core.outage import Outage
from coatcheck.core.record import Lifetime
from coatcheck.errors import ConfigurationError

__all__ = ["DjangoCookie", "DjangoTable", "without_expiry"]

KEY: Final = re.compile(r"[a-z0-9]{32}")
_TABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}(\.[A-Za-z_][A-Za-z0-9_]{0,62})?")


@dataclass(frozen=True, kw_only=True)
class DjangoCookie(Kind):
    """The cookies of `SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"`.

    secret_key   SECRET_KEY
    fallbacks    SECRET_KEY_FALLBACKS
    cookie_age   SESSION_COOKIE_AGE (default: 14 days, as Django's): older cookies are not adopted
    name         SESSION_COOKIE_NAME (default: `sessionid`)
    user_key     default: `_auth_user_id`

    And the fields of every kind: `path`, `domain`, `to_user_id`, `accept`, `until`. A password that was changed ends a session in
    Django by `_auth_user_hash`, which nobody can check without Django's user: where that matters, `accept=` should.
    """

    secret_key: str | bytes = field(repr=False)
    fallbacks: Any = field(default=(), repr=False)
    cookie_age: float | timedelta = 14 * 86_400
    name: str = "sessionid"
    user_key: str | None = "_auth_user_id"
    _signer: DjangoSigner = field(init=False, repr=False)
    _max_age: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        keys = keys_of(self.kind, self.secret_key, self.fallbacks, setting="secret_key")
        signer = DjangoSigner(keys, "django.contrib.sessions.backends.signed_cookies")
        object.__setattr__(self, "_signer", signer)
        object.__setattr__(self, "_max_age", whole(self.kind, "cookie_age", self.cookie_age))

    def claim(self, value: str, now: float) -> Claim | None:
        """What the value of such a cookie says; None if it is not genuine, or too old."""
        signed = self._signer.opened(value)
        if signed is None or now - signed.at > self._max_age:
            return None
        found = _read(signed.value, now)
        if isinstance(found, Found):
            found = found._replace(issued_at=signed.at, expires_at=signed.at + self._max_age)
        return Claim(signed.text, found)


@dataclass(frozen=True, kw_only=True)
class DjangoTable(Kind):
    """The rows of `django_session`: what the engines `db` and `cached_db` write. Through SQLAlchemy.

    database     a URL of SQLAlchemy's, or the application's own Engine or AsyncEngine, of the face that is to use it
    secret_key   SECRET_KEY
    fallbacks    SECRET_KEY_FALLBACKS
    table        the table's name, with its schema if need be: `"django_session"`
    outage       when to stop asking, of a database given as a URL
    name         SESSION_COOKIE_NAME (default: `sessionid`)
    user_key     default: `_auth_user_id`

    And the fields of every kind: `path`, `domain`, `to_user_id`, `accept`, `until`. Times are taken for UTC, which Django writes
    unless USE_TZ is False. As for `DjangoCookie`, a changed password is `accept=`'s affair. With `cached_db` the row goes, and
    what is in the cache stays until it expires: only Django could read it.
    """

    database: Any = field(repr=False)
    secret_key: str | bytes = field(repr=False)
    fallbacks: Any = field(default=(), repr=False)
    table: str = "django_session"
    outage: Outage = field(default_factory=Outage)
    name: str = "sessionid"
    user_key: str | None = "_auth_user_id"
    _signer: DjangoSigner = field(init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        name: object = self.table
        if not isinstance(name, str) or not _TABLE.fullmatch(name):
            raise self._wrong("table", name, "give the name of a table")
        keys = keys_of(self.kind, self.secret_key, self.fallbacks, setting="secret_key")
        object.__setattr__(self, "_signer", DjangoSigner(keys, "django.contrib.sessions.SessionStore"))

    def claim(self, value: str, now: float) -> Claim | None:
        """The key that the cookie is; None if it cannot be one of Django's."""
        return Claim(value) if KEY.fullmatch(value) else None

    def blocking(self) -> Archive:
        """The table, for sync code."""
        return self._archive(awaiting=False)

    def awaiting(self) -> Archive:
        """The table, for event loops."""
        return self._archive(awaiting=True)

    def _archive(self, *, awaiting: bool) -> Archive:
        try:
            from coatcheck.adoption._django_table import Rows
        except ImportError as error:
            raise ConfigurationError(
                'old sessions in a database need SQLAlchemy: pip install "coatcheck[sqlalchemy]"'
            ) from error
        return Rows(self.database, self.table, self.outage, self._read_row, awaiting=awaiting)

    def _read_row(self, text: str, expires: object, now: float) -> Found | Refused | None:
        ends = _moment(expires)
        if ends <= now:
            return None
        signed = self._signer.opened(text)
        if signed is None:
            return Refused("its row is not signed with secret_key, nor with one of the fallbacks")
        found = _read(signed.value, now)
        return found if isinstance(found, Refused) else found._replace(issued_at=signed.at, expires_at=ends)


def _read(value: bytes, now: float) -> Found | Refused:
    text = unpacked(value)
    data = text if isinstance(text, Refused) else of_json(text)
    return data if isinstance(data, Refused) else without_expiry(data, now)


def without_expiry(data: Mapping[str, Any], now: float) -> Found:
    """`session.set_expiry(…)` is a key of the data in Django; here it is how long this session lives."""
    rest = {key: value for key, value in data.items() if key != "_session_expiry"}
    return Found(rest, lifetime=_lifetime(data.get("_session_expiry"), now))


def _lifetime(expiry: object, now: float) -> Lifetime | None:
    """Seconds of inactivity; 0: until the browser closes; a moment, as text; None: as all sessions."""
    if isinstance(expiry, str):
        expiry = _moment(expiry) - now
    if isinstance(expiry, bool) or not isinstance(expiry, int | float):
        return None
    return Lifetime(idle=None, persistent=False) if expiry <= 0 else Lifetime(float(expiry), persistent=True)


def _moment(value: object) -> float:
    """A moment as databases hand it over: with a time zone, or in UTC, or (SQLite) as text. What cannot be read is over."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        assert isinstance(moment, datetime)
    except (ValueError, AssertionError):
        return 0.0
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
