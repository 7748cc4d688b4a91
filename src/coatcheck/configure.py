"""The common front door: keywords of a middleware or extension, checked and sorted into what the rooms below need."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from coatcheck.core.cookies import CookieSettings, lifetime
from coatcheck.core.options import Options
from coatcheck.core.outage import Outage
from coatcheck.core.policy import DAY, Timeouts
from coatcheck.core.signing import Secret
from coatcheck.core.spelling import meant
from coatcheck.errors import ConfigurationError, WeakSecret
from coatcheck.exchange import Exchange
from coatcheck.flows import Clock
from coatcheck.stores import carried

__all__ = ["Configured", "configure"]

_OPTIONS: Final = frozenset(field.name for field in fields(Options))
_KNOWN: Final = sorted(
    _OPTIONS
    | {
        "cookie",
        "name",
        "proxy",
        "insecure_dev",
        "clock",
        "ids",
        "outage",
        "startup_check",
        "no_store",
        "clear_site_data",
    }
)
_GROUPS: Final = {
    "cookie=CookieSettings": frozenset(field.name for field in fields(CookieSettings)),
    "timeouts=Timeouts": frozenset(field.name for field in fields(Timeouts)),
    "outage=Outage": frozenset(field.name for field in fields(Outage)),
}


@dataclass(frozen=True)
class Configured:
    """What an adapter builds its manager and its exchange from."""

    options: Options
    exchange: Exchange
    clock: Clock
    ids: Any
    outage: Outage | None = None
    startup_check: bool = True
    """Whether to say at start-up that the store cannot be reached, rather than at the first request."""


def configure(secret: Secret | None, keywords: Mapping[str, Any], store: object = None) -> Configured:
    """Check an adapter's keywords; `store` is where its sessions are, which may be the cookie itself.

    Raises ConfigurationError at start-up, naming the setting and the fix.
    """
    _known(keywords)
    if secret is None:
        raise WeakSecret(
            "secret is missing: sign the cookies with secret=os.environ[…]; `coatcheck secret` prints a good one"
        )
    cookie = _cookie(keywords)
    clock = _clock(keywords)
    given = {name: value for name, value in keywords.items() if name in _OPTIONS}
    if given.get("timeouts") is None:
        given["timeouts"] = _timeouts(cookie, clock.time())
    if cookie.expires is not None:
        given.setdefault("ends_by", cookie.expires)
    options = Options(**given)
    exchange = Exchange(
        cookie,
        secret,
        proxy=keywords.get("proxy"),
        insecure_dev=_flag(keywords, "insecure_dev"),
        on_event=options.tell,
        olds=options.olds,
        max_strange=options.max_strange,  # type: ignore[arg-type]  # read by now
        carried=carried(store),
        no_store=_flag(keywords, "no_store"),
        clear_site_data=_flag(keywords, "clear_site_data"),
    )
    return Configured(
        options,
        exchange,
        clock,
        keywords.get("ids"),
        _outage(keywords),
        _flag(keywords, "startup_check", default=True),
    )


def _known(keywords: Mapping[str, Any]) -> None:
    for name in keywords:
        if name not in _KNOWN:
            raise ConfigurationError(f"unknown option {name!r}: {meant(name, _KNOWN, _GROUPS)}")


def _clock(keywords: Mapping[str, Any]) -> Clock:
    clock = keywords.get("clock")
    if clock is None:
        return Clock()
    if not isinstance(clock, Clock):
        raise ConfigurationError(f"clock={clock!r}: give coatcheck.Clock(time=…, monotonic=…)")
    return clock


def _outage(keywords: Mapping[str, Any]) -> Outage | None:
    outage = keywords.get("outage")
    if outage is not None and not isinstance(outage, Outage):
        raise ConfigurationError(
            f"outage={outage!r}: give coatcheck.Outage(connect_timeout=…, command_timeout=…)"
        )
    return outage


def _flag(keywords: Mapping[str, Any], name: str, *, default: bool = False) -> bool:
    """A text such as "false", from the environment, is true: it must not be taken for a yes."""
    value = keywords.get(name, default)
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name}={value!r}: give True or False")
    return value


def _cookie(keywords: Mapping[str, Any]) -> CookieSettings:
    cookie, name = keywords.get("cookie"), keywords.get("name")
    if cookie is None:
        cookie = CookieSettings()
    if not isinstance(cookie, CookieSettings):
        raise ConfigurationError(f"cookie={cookie!r}: give coatcheck.CookieSettings(…)")
    if name is None:
        return cookie
    if cookie.name is not None and cookie.name != name:
        raise ConfigurationError(f"name={name!r} and CookieSettings(name={cookie.name!r}): give one of them")
    return replace(cookie, name=name)


def _timeouts(cookie: CookieSettings, now: float) -> Timeouts:
    """A cookie with a Max-Age promises the browser a lifetime: without Timeouts of its own, the session keeps that
    promise.
    """
    promised = lifetime(cookie, now=now)
    if promised is None:
        return Timeouts()
    if promised <= 0:
        raise ConfigurationError(
            "CookieSettings.expires has passed: every session would be over before it begins"
        )
    return Timeouts(idle=promised, absolute=max(promised, 30 * DAY), remember=max(promised, 30 * DAY))
