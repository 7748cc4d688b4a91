"""What Django's settings say, as keywords for `configure`."""

from datetime import timedelta
from typing import Any, Final

from django.conf import global_settings, settings
from django.utils.module_loading import import_string

from coatcheck.core.cookies import CookieSettings
from coatcheck.core.policy import DAY, Timeouts
from coatcheck.core.secret import Secret, normalise
from coatcheck.django.identity import AuthKeys
from coatcheck.errors import ConfigurationError

__all__ = ["JSON", "OWN", "is_development", "options_of", "remember_debug"]

JSON: Final = global_settings.SESSION_SERIALIZER
OWN: Final = ("STORE", "SECRET", "LAZY")
"""What COATCHECK may say besides the options of every framework."""
_NAMED: Final = frozenset({"CLOCK", "GENID", "IDENTITY", "ON_EVENT", "SCHEMA"})
"""Options that are objects, and may be given by their dotted path."""
_COOKIE: Final = {
    "SESSION_COOKIE_NAME": "name",
    "SESSION_COOKIE_DOMAIN": "domain",
    "SESSION_COOKIE_PATH": "path",
    "SESSION_COOKIE_SECURE": "secure",
    "SESSION_COOKIE_HTTPONLY": "http_only",
    "SESSION_COOKIE_SAMESITE": "same_site",
}
_debug: bool | None = None


def remember_debug() -> None:
    """Take note of DEBUG while it is the project's own: a test run sets it to False."""
    global _debug
    _debug = bool(settings.DEBUG)


def is_development() -> bool:
    """Whether the project runs with DEBUG, or would if it were not being tested."""
    return bool(settings.DEBUG) if _debug is None else _debug


def options_of() -> tuple[Any, Secret, bool, dict[str, Any]]:
    """The store, the secret, whether sessions are loaded lazily under ASGI, and the keywords of `configure`.

    Raises ConfigurationError or WeakSecret, naming the setting.
    """
    given = _given()
    store, lazy = given.pop("STORE"), given.pop("LAZY", False)
    if not isinstance(lazy, bool):
        raise ConfigurationError(f'COATCHECK["LAZY"]={lazy!r}: give True or False')
    secret = given.pop("SECRET", None)
    keywords = {name.lower(): _object(name, value) for name, value in given.items()}
    keywords.setdefault("insecure_dev", is_development())
    if keywords.get("cookie") is None:
        keywords["cookie"] = _cookie()
    if keywords.get("timeouts") is None:
        keywords["timeouts"] = _timeouts()  # None: what the cookie promises, or the default
    if _set("SESSION_SAVE_EVERY_REQUEST"):
        keywords.setdefault("rolling", True)
    keywords.setdefault("identity", AuthKeys() if _has_users() else None)
    return store, secret or _secret(bool(keywords["insecure_dev"])), lazy, keywords


def _given() -> dict[str, Any]:
    given = getattr(settings, "COATCHECK", None)
    if not isinstance(given, dict):
        raise ConfigurationError(
            'COATCHECK is missing: give a dict, such as COATCHECK = {"STORE": os.environ["REDIS_URL"]}'
        )
    for name in given:
        if not isinstance(name, str) or name != name.upper():
            raise ConfigurationError(f"COATCHECK[{name!r}]: write it in capitals: {str(name).upper()!r}")
    if not given.get("STORE"):
        raise ConfigurationError(
            'COATCHECK["STORE"] is missing: give the URL of a store, such as redis://localhost or sqlite:///sessions.db'
        )
    return dict(given)


def _object(name: str, value: Any) -> Any:
    if name == "ON_EVENT" and isinstance(value, list | tuple):
        return [_object(name, item) for item in value]
    if name not in _NAMED or not isinstance(value, str):
        return value
    try:
        return import_string(value)
    except ImportError as error:
        raise ConfigurationError(f"COATCHECK[{name!r}]: {error}") from error


def _secret(insecure_dev: bool) -> Secret:
    fallbacks = settings.SECRET_KEY_FALLBACKS
    if not isinstance(fallbacks, list | tuple):
        raise ConfigurationError(
            f"SECRET_KEY_FALLBACKS is of type {type(fallbacks).__name__}: give a list of the keys that SECRET_KEY had before"
        )
    first = normalise(settings.SECRET_KEY, setting="SECRET_KEY", insecure_dev=insecure_dev)
    older = (
        normalise(list(fallbacks), setting="SECRET_KEY_FALLBACKS", insecure_dev=insecure_dev)
        if fallbacks
        else ()
    )
    return [*first, *older]


def _set(name: str) -> Any:
    """A setting whose value differs from Django's default; None if nobody set it."""
    value = getattr(settings, name)
    return None if value == getattr(global_settings, name) else value


def _cookie() -> CookieSettings:
    words = {ours: _set(theirs) for theirs, ours in _COOKIE.items()}
    if not settings.SESSION_EXPIRE_AT_BROWSER_CLOSE and _set("SESSION_COOKIE_AGE") is not None:
        words["max_age"] = settings.SESSION_COOKIE_AGE
    try:
        return CookieSettings(**{word: value for word, value in words.items() if value is not None})
    except ConfigurationError as error:
        raise ConfigurationError(f"SESSION_COOKIE_…: {error}") from error


def _timeouts() -> Timeouts | None:
    """SESSION_COOKIE_AGE is how long a session lasts without a visit, whether the browser keeps the cookie or not."""
    age = _set("SESSION_COOKIE_AGE")
    if age is None:
        return None
    if isinstance(age, timedelta):
        age = age.total_seconds()
    try:
        return Timeouts(idle=age, remember=age, absolute=max(age, 30 * DAY))
    except (ConfigurationError, TypeError) as error:
        raise ConfigurationError(
            f"SESSION_COOKIE_AGE={age!r}: give seconds, more than 0 ({error})"
        ) from error


def _has_users() -> bool:
    """Whether this project has django.contrib.auth: without it there is no user model, and nobody to recognise."""
    return any(app.startswith("django.contrib.auth") for app in settings.INSTALLED_APPS)
