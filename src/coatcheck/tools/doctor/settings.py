"""What the sessions of an application are told to do: secret, cookie, timeouts, proxy, rules. Nothing is asked over a network."""

from collections.abc import Iterator
from typing import Final

from coatcheck.core.cookies import CookieSettings
from coatcheck.core.policy import DAY, Seconds, Timeouts
from coatcheck.core.signing import RotatingKeyRing
from coatcheck.exchange import Arrival, Channel
from coatcheck.tools.doctor.inspection import Inspected
from coatcheck.tools.doctor.report import Check, Finding

__all__ = ["SECRET", "SETTINGS"]

_LEVELS: Final = {"AAL3": Timeouts.aal3, "AAL2": Timeouts.aal2, "AAL1": Timeouts.aal1}
_STRANGERS: Final = ("198.51.100.7", "2001:db8::7")
"""Addresses that are nobody's (RFC 5737, RFC 3849): whoever trusts both as a proxy trusts everybody."""


def secret_is_strong(app: Inspected) -> Iterator[Finding]:
    """Weak secrets are refused"""
    if app.exchange.insecure_dev:
        yield Finding(
            18,
            "high",
            "insecure_dev lets a weak secret pass",
            "insecure_dev=True: whoever guesses the secret signs any cookie",
            "remove insecure_dev in production, and set secret to what `coatcheck secret` prints",
        )


def secret_can_be_changed(app: Inspected) -> Iterator[Finding]:
    """The secret can be changed without signing anybody out"""
    ring = app.exchange.keys("doctor")
    if isinstance(ring, RotatingKeyRing) or len(ring._keys) > 1:
        return
    yield Finding(
        15,
        "note",
        "there is one secret",
        "one secret, given as text",
        "to change it and sign nobody out, give [new, old]; or a Path, which is read again while running",
    )


def cookie_is_kept_from_scripts(app: Inspected) -> Iterator[Finding]:
    """The cookie is HttpOnly"""
    if not _cookie(app).http_only:
        yield Finding(
            28,
            "high",
            "scripts can read the session cookie",
            "CookieSettings(http_only=False)",
            "remove http_only=False: one injected script would take every session it meets",
        )


def cookie_is_secure(app: Inspected) -> Iterator[Finding]:
    """The cookie never travels in the clear"""
    if _cookie(app).secure is False:
        yield Finding(
            39,
            "high",
            "the session cookie is sent over plain HTTP",
            "CookieSettings(secure=False)",
            'remove secure=False ("auto" allows plain HTTP on the loopback interface, for development)',
        )


def cookie_has_a_prefix(app: Inspected) -> Iterator[Finding]:
    """The cookie's name keeps other hosts from planting it"""
    settings = _cookie(app)
    name = next(iter(sorted(app.exchange.names - {"session"})), "session")
    if settings.secure is False or name.lower().startswith(("__host-", "__secure-")):
        return
    if settings.domain is None and settings.path == "/":
        fix = f"leave name out, or call it __Host-{name}"
    else:
        fix = f"leave name out, or call it __Secure-{name}"
    yield Finding(
        28, "low", "the cookie's name has no prefix", f"name={name!r}: a sibling host can plant one", fix
    )


def cookie_stays_on_this_host(app: Inspected) -> Iterator[Finding]:
    """The cookie stays on this host"""
    domain = _cookie(app).domain
    if domain is not None:
        yield Finding(
            28,
            "low",
            "every host below the domain gets the session cookie",
            f"CookieSettings(domain={domain!r})",
            "leave domain out, unless those hosts are all yours, and as well kept as this one",
        )


def cookie_is_same_site(app: Inspected) -> Iterator[Finding]:
    """Other sites' requests come without the cookie"""
    if _cookie(app).same_site in ("none", False):
        yield Finding(
            92,
            "medium",
            "requests of other sites carry the session cookie",
            f"CookieSettings(same_site={_cookie(app).same_site!r})",
            'use "lax"; where the application must be framed or called by other sites, see that CSRF is refused',
        )


def timeouts_meet_a_level(app: Inspected) -> Iterator[Finding]:
    """Sessions end in time"""
    ours = app.options.timeouts.in_seconds()
    level = next((name for name, preset in _LEVELS.items() if _within(ours, preset().in_seconds())), None)
    if level is None:
        yield Finding(
            67,
            "medium",
            "sessions live longer than the least strict level of NIST SP 800-63B-4 allows",
            f"idle {_days(ours.idle)}, absolute {_days(ours.absolute)}, remember {_days(ours.remember)}",
            "Timeouts.aal1() is 30 days; write down why, if it must be more (ASVS 7.1.1), and --ignore 67",
        )


def long_sessions_are_renewed(app: Inspected) -> Iterator[Finding]:
    """A stolen cookie is renewed away"""
    if app.options.timeouts.renewal is None:
        yield Finding(
            10,
            "low",
            "cookies are never renewed",
            "Timeouts(renewal=None): a stolen cookie works until its session ends",
            "leave renewal out (an hour)",
        )


def nobody_is_trusted_as_a_proxy(app: Inspected) -> Iterator[Finding]:
    """Forwarded headers count from the proxy alone"""
    trusted = [
        peer
        for peer in _STRANGERS
        if app.exchange.channel(Arrival("http", host=b"app.example", peer=peer, forwarded_proto=b"https"))
        is Channel.HTTPS
    ]
    if trusted:
        yield Finding(
            105,
            "medium",
            "anybody is believed to be the proxy",
            f"X-Forwarded-Proto of {trusted[0]}, an address that is nobody's, was believed",
            'name the proxy: proxy="10.0.0.0/8"; True is for where nobody but the proxy can connect (then --ignore 105)',
        )


def nothing_crosses_a_login_unasked(app: Inspected) -> Iterator[Finding]:
    """What crosses into a login is listed"""
    if app.options.login_keeps is None:
        yield Finding(
            55,
            "note",
            "everything in an anonymous session crosses into the login",
            "login_keeps is not set: whoever plants an anonymous session has chosen what the user begins with",
            'list the keys that may: login_keeps=("cart",), or () for none',
        )


def an_outage_lets_nobody_in(app: Inspected) -> Iterator[Finding]:
    """An outage of the store is told from a stranger"""
    if app.options.on_store_error == "anonymous":
        yield Finding(
            117,
            "note",
            "while the store is away, users look like strangers",
            'on_store_error="anonymous"',
            'see that no page takes "no session" for a permission; "fail" answers 503',
        )


def strangers_cost_nothing(app: Inspected) -> Iterator[Finding]:
    """Visitors without anything to keep cost no record"""
    if app.options.save_uninitialized:
        yield Finding(
            123,
            "low",
            "every visit of every robot is stored",
            "save_uninitialized=True",
            "leave it out: a session is stored when something is put into it",
        )


def debug_is_off(app: Inspected) -> Iterator[Finding]:
    """Debug mode is off"""
    if app.debug:
        yield Finding(
            37,
            "high",
            "the application runs in debug mode",
            "debug is True: error pages show the code and its values",
            "turn debug off where anybody else can reach it",
        )


def cross_site_requests_are_refused(app: Inspected) -> Iterator[Finding]:
    """Something refuses cross-site requests"""
    if "csrf" not in app.provides:
        yield Finding(
            91,
            "high",
            "nothing that refuses cross-site requests was found",
            "no middleware or extension says that it provides csrf",
            'add CsrfMiddleware; one of your own is known by its class attribute coatcheck_provides = "csrf"',
        )


def logins_are_throttled(app: Inspected) -> Iterator[Finding]:
    """Something throttles logins"""
    if "throttle" not in app.provides:
        yield Finding(
            188,
            "medium",
            "nothing that limits wrong passwords was found",
            "no object says that it provides throttle",
            'add LoginThrottle; one of your own is known by its class attribute coatcheck_provides = "throttle"',
        )


def https_is_asked_for(app: Inspected) -> Iterator[Finding]:
    """Browsers are told to use HTTPS"""
    if "https" not in app.provides:
        yield Finding(
            39,
            "note",
            "nothing that sends browsers to HTTPS was found",
            "no middleware says that it provides https",
            "if the proxy in front does it, all is well: `coatcheck doctor https://…` looks from outside",
        )


SECRET: Final[tuple[Check, ...]] = (secret_is_strong, secret_can_be_changed)
"""What can be said of a secret alone."""

SETTINGS: Final[tuple[Check, ...]] = (
    *SECRET,
    cookie_is_kept_from_scripts,
    cookie_is_secure,
    cookie_has_a_prefix,
    cookie_stays_on_this_host,
    cookie_is_same_site,
    timeouts_meet_a_level,
    long_sessions_are_renewed,
    nobody_is_trusted_as_a_proxy,
    nothing_crosses_a_login_unasked,
    an_outage_lets_nobody_in,
    strangers_cost_nothing,
    debug_is_off,
    cross_site_requests_are_refused,
    logins_are_throttled,
    https_is_asked_for,
)


def _cookie(app: Inspected) -> CookieSettings:
    return app.exchange.settings


def _within(ours: Seconds, preset: Seconds) -> bool:
    return all(getattr(ours, name) <= getattr(preset, name) for name in ("idle", "absolute", "remember"))


def _days(length: float) -> str:
    return f"{length / DAY:g} d" if length >= DAY else f"{length / 3600:g} h"
