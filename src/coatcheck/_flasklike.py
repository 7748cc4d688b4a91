"""What Flask and Quart share: the keys of their configuration, the words of their session, the headers of Werkzeug.

Quart took all of it over from Flask, down to the defaults. No framework is imported here.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Final, Protocol

from coatcheck import visit
from coatcheck.core.cookies import CookieSettings
from coatcheck.core.policy import DAY, Timeouts
from coatcheck.core.record import Lifetime
from coatcheck.core.secret import Secret, normalise
from coatcheck.core.session import BaseSession, CookieAction
from coatcheck.errors import ConfigurationError
from coatcheck.faces import AsyncSession, Session
from coatcheck.flows import Flows

__all__ = ["Words", "alone", "dress", "refresh", "settings", "still_alone", "store_of"]

_SAYS: Final = {"SESSION_COOKIE_HTTPONLY": "http_only", "SESSION_COOKIE_PARTITIONED": "partitioned"}
_REFRESH: Final = "SESSION_REFRESH_EACH_REQUEST"


# ---------------------------------------------------------------------------------------------------- configuration


def store_of(config: Mapping[str, Any]) -> Any:
    """The store that SESSION_STORE names: a URL, or an object."""
    return config.get("SESSION_STORE") or "memory:"


def settings(
    config: Mapping[str, Any], defaults: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[Secret, dict[str, Any]]:
    """The secret, and the keywords for `configure`: what was given in code, the rest from the application's configuration.

    config    `app.config`
    defaults  `Flask.default_config`: a setting of that value counts as not set, since nobody can tell it from one that is
    options   the keywords of the extension

    Raises ConfigurationError or WeakSecret, naming the key.
    """
    given = dict(options)
    secret: Secret = given.pop("secret", None) or _secret(config, given)
    if given.get("cookie") is None:
        given["cookie"] = _cookie(config, defaults)
    if given.get("timeouts") is None:
        given["timeouts"] = _timeouts(config, defaults)  # None: what the cookie promises, or the default
    return secret, given


def _secret(config: Mapping[str, Any], options: Mapping[str, Any]) -> Secret:
    fallbacks = config.get("SECRET_KEY_FALLBACKS") or []
    if not isinstance(fallbacks, list | tuple):
        raise ConfigurationError(
            f"SECRET_KEY_FALLBACKS is of type {type(fallbacks).__name__}: give a list of the keys that SECRET_KEY had before"
        )
    insecure_dev = bool(options.get("insecure_dev", False))
    first = normalise(config.get("SECRET_KEY"), setting="SECRET_KEY", insecure_dev=insecure_dev)
    if not fallbacks:
        return list(first)
    older = normalise(list(fallbacks), setting="SECRET_KEY_FALLBACKS", insecure_dev=insecure_dev)
    return [*first, *older]


def _cookie(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> CookieSettings:
    def set_(name: str) -> Any:
        """A setting whose value differs from the framework's default; None if nobody set it."""
        value = config.get(name)
        return None if value == defaults.get(name) else value

    domain = set_("SESSION_COOKIE_DOMAIN") or None  # False, in older manuals
    given: dict[str, Any] = {
        "name": set_("SESSION_COOKIE_NAME"),
        "domain": domain.lstrip(".") if isinstance(domain, str) else domain,  # as Werkzeug does
        "path": set_("SESSION_COOKIE_PATH") or set_("APPLICATION_ROOT"),
        "secure": set_("SESSION_COOKIE_SECURE"),
        "same_site": set_("SESSION_COOKIE_SAMESITE"),
        **{ours: set_(theirs) for theirs, ours in _SAYS.items()},
    }
    try:
        return CookieSettings(**{word: value for word, value in given.items() if value is not None})
    except ConfigurationError as error:
        raise ConfigurationError(f"SESSION_COOKIE_…: {error}") from error


def _timeouts(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> Timeouts | None:
    """Flask refuses a cookie older than PERMANENT_SESSION_LIFETIME, permanent or not: whoever sets it means all sessions."""
    name = "PERMANENT_SESSION_LIFETIME"
    given = config.get(name, defaults.get(name))
    if isinstance(given, int | float) and not isinstance(given, bool):
        given = timedelta(seconds=given)
    if given == defaults.get(name):
        return None
    if not isinstance(given, timedelta) or given <= timedelta(0):
        raise ConfigurationError(f"{name}={given!r}: give seconds or a timedelta, more than 0")
    return Timeouts(idle=given, remember=given, absolute=max(given, timedelta(seconds=30 * DAY)))


# ---------------------------------------------------------------------------------------------- one kind of sessions


def alone(extensions: Mapping[str, Any], present: object, default: object) -> None:
    """Raise ConfigurationError if the application has sessions of another kind, or ours, already.

    present   its `session_interface`
    default   the one that the framework has by itself
    """
    if "coatcheck" in extensions:
        raise ConfigurationError(
            "CoatCheck(app) was called twice for this application: its sessions are there, remove one call"
        )
    if present is not default:
        raise ConfigurationError(
            f"app.session_interface is {_name(present)} already: remove the extension that put it there"
            " (Flask-Session's `Session(app)`, say), or leave CoatCheck out"
        )


def still_alone(present: object, ours: object) -> None:
    """Raise ConfigurationError if another extension was installed over ours."""
    if present is not ours:
        raise ConfigurationError(
            f"app.session_interface was replaced by {_name(present)} after CoatCheck(app): remove one of the two"
        )


def _name(interface: object) -> str:
    return f"{type(interface).__module__}.{type(interface).__qualname__}"


# ------------------------------------------------------------------------------------------------------ the session


class Words(BaseSession):
    """The words of a Flask session beside ours: `permanent`, `new`, `accessed`."""

    _flows: Flows
    _at: float

    @property
    def permanent(self) -> bool:
        """Whether the browser keeps the cookie when it closes: it, and the session, then last for PERMANENT_SESSION_LIFETIME."""
        lifetime = self._current_lifetime()
        return lifetime is not None and lifetime.persistent

    @permanent.setter
    def permanent(self, value: bool) -> None:
        if value != self.permanent:  # it is often set on every request: then nothing changes
            idle = self._flows.options.timeouts.remember if value else None
            self._set_lifetime(Lifetime(idle=idle, persistent=value))  # type: ignore[arg-type]  # seconds by now

    @property
    def new(self) -> bool:
        """True if nothing is stored for this session yet."""
        return self.is_new

    @property
    def accessed(self) -> bool:
        """True once anything was read or written, or the session was looked up: the response then says `Vary: Cookie`."""
        return self._accessed

    @accessed.setter
    def accessed(self, value: bool) -> None:
        self._accessed = value


def refresh(session: Words, config: Mapping[str, Any]) -> None:
    """Before a commit: send a permanent session's cookie again as its deadline moves, if SESSION_REFRESH_EACH_REQUEST is set."""
    record = session._known()
    if record is None or record.lifetime is None or not record.lifetime.persistent:
        return
    overdue = session._at - record.seen_at >= float(session._flows.options.timeouts.touch)  # type: ignore[arg-type]  # as above
    if overdue and config[_REFRESH]:
        session._reissue = session._meant = True  # the browser should hear of it


# ------------------------------------------------------------------------------------------------------ the response


class Headers(Protocol):
    """Werkzeug's `Headers`, as far as we need them."""

    def __iter__(self) -> Iterator[tuple[str, str]]: ...
    def set(self, key: str, value: str, /) -> object: ...
    def add(self, key: str, value: str, /) -> object: ...


def dress(headers: Headers, session: Session[Any] | AsyncSession[Any], cookie: CookieAction) -> None:
    """Put what must be said about the session into the response's headers."""
    if cookie is CookieAction.NONE and not session._accessed and not session._more:
        return
    vary = cache = None
    for name, value in headers:  # one look, where `getlist` and `set` look again and again
        field = name.lower()
        if field == "vary":
            vary = value if vary is None else f"{vary}, {value}"
        elif field == "cache-control":
            cache = value if cache is None else f"{cache}, {value}"
    reply = visit.reply(session, cookie, vary=vary or None, cache_control=cache or None)
    if reply.vary is not None:
        (headers.add if vary is None else headers.set)("Vary", reply.vary)
    if reply.cache_control is not None:
        (headers.add if cache is None else headers.set)("Cache-Control", reply.cache_control)
    for name, value in reply.more:
        headers.set(name, value)
    for value in reply.set_cookies:
        headers.add("Set-Cookie", value)
