"""The common front door: keywords of a middleware or extension, checked and sorted into what the rooms below need."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from coatcheck.core.cookies import CookieSettings, lifetime
from coatcheck.core.options import Options
from coatcheck.core.policy import DAY, Timeouts
from coatcheck.core.signing import Secret
from coatcheck.errors import ConfigurationError, WeakSecret
from coatcheck.exchange import Exchange
from coatcheck.manager import Clock

__all__ = ["Configured", "configure"]

_OPTIONS: Final = frozenset(field.name for field in fields(Options))
_OTHERS: Final = frozenset({"cookie", "name", "proxy", "insecure_dev", "clock", "ids"})


@dataclass(frozen=True)
class Configured:
    """What an adapter builds its manager and its exchange from."""

    options: Options
    exchange: Exchange
    clock: Clock
    ids: Any


def configure(secret: Secret | None, keywords: Mapping[str, Any]) -> Configured:
    """Check an adapter's keywords. Raises ConfigurationError at start-up, naming the setting and the fix."""
    _known(keywords)
    if secret is None:
        raise WeakSecret(
            "secret is missing: sign the cookies with secret=os.environ[…]; `coatcheck secret` prints a good one"
        )
    cookie = _cookie(keywords)
    clock = keywords.get("clock") or Clock()
    given = {name: value for name, value in keywords.items() if name in _OPTIONS}
    if given.get("timeouts") is None:
        given["timeouts"] = _timeouts(cookie, clock.time())
    options = Options(**given)
    exchange = Exchange(
        cookie,
        secret,
        proxy=keywords.get("proxy"),
        insecure_dev=bool(keywords.get("insecure_dev", False)),
        on_event=options.on_event,
    )
    return Configured(options, exchange, clock, keywords.get("ids"))


def _known(keywords: Mapping[str, Any]) -> None:
    known = sorted(_OPTIONS | _OTHERS)
    for name in keywords:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise ConfigurationError(f"unknown option {name!r}: {meant}")


def _cookie(keywords: Mapping[str, Any]) -> CookieSettings:
    cookie = keywords.get("cookie")
    if cookie is None:
        cookie = CookieSettings()
    if not isinstance(cookie, CookieSettings):
        raise ConfigurationError(f"cookie={cookie!r}: give coatcheck.CookieSettings(…)")
    name = keywords.get("name")
    return cookie if name is None else replace(cookie, name=name)


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
