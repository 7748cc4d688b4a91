"""What was answered about the way in: TLS, the redirect to it, HSTS, hosts and forwarded headers, clocks, other sites."""

import re
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from coatcheck.tools.doctor.browser import Answer
from coatcheck.tools.doctor.report import CannotLook, Check, Finding
from coatcheck.tools.doctor.tour import EVIL, Evidence

__all__ = ["CROSSING"]

DAYS: Final = 14
"""A certificate that ends sooner was not renewed by what should have renewed it: most do so a month before."""
HALF_A_YEAR: Final = 15_768_000
"""Seconds of HSTS that ASVS 3.4.1 asks for are a year; half of one is where we begin to speak of it as there."""
SKEW: Final = 60.0
_EVIL_HOST: Final = urlsplit(EVIL).netloc


def the_site_is_encrypted(seen: Evidence) -> Iterator[Finding]:
    """The site is served over HTTPS"""
    if seen.plan.site.is_https:
        return
    host = seen.plan.site.parts.hostname or ""
    if _is_loopback(host):
        raise CannotLook("an https:// URL; plain HTTP on this machine is for development")
    yield Finding(
        39,
        "high",
        "the site is served over plain HTTP",
        seen.plan.site.origin,
        "serve it over HTTPS: everything else here is worth nothing without",
    )


def the_certificate_lasts(seen: Evidence) -> Iterator[Finding]:
    """The certificate is good for two weeks at least"""
    if not seen.plan.site.is_https:
        raise CannotLook("an https:// URL")
    if seen.days_left is not None and seen.days_left < DAYS:
        yield Finding(
            39,
            "medium",
            "the certificate ends soon",
            f"{seen.days_left:.0f} days left",
            "renew it, and look why that was not done by itself",
        )


def plain_http_leads_to_https(seen: Evidence) -> Iterator[Finding]:
    """Plain HTTP leads to HTTPS"""
    if not seen.plan.site.is_https or seen.plan.http is None:
        raise CannotLook("an https:// URL, and --http-url where the port is not 443")
    answer = seen.plain
    if answer is None:
        return  # nobody answers there
    where = next(iter(answer.all("location")), "")
    if answer.status not in (301, 302, 307, 308) or not where.lower().startswith("https://"):
        yield Finding(
            39,
            "high",
            "plain HTTP is answered",
            f"GET {answer.url}: {answer.status}{', to ' + where if where else ''}",
            "answer it with 308 and the https:// URL, or not at all",
        )
    elif answer.cookies:
        yield Finding(
            39,
            "medium",
            "a cookie is set over plain HTTP",
            f"GET {answer.url} sets {answer.cookies[0].name}",
            "redirect before anything else",
        )


def browsers_remember_https(seen: Evidence) -> Iterator[Finding]:
    """Browsers are told to stay with HTTPS"""
    if not seen.plan.site.is_https:
        raise CannotLook("an https:// URL")
    said = ", ".join(seen.front.all("strict-transport-security"))
    found = re.search(r"max-age\s*=\s*\"?(\d+)", said, re.IGNORECASE)
    seconds = int(found[1]) if found else 0
    if seconds < HALF_A_YEAR:
        yield Finding(
            39,
            "medium",
            "browsers are not told to stay with HTTPS",
            f"Strict-Transport-Security: {said}" if said else "no Strict-Transport-Security",
            "Strict-Transport-Security: max-age=31536000; includeSubDomains",
        )


def clocks_agree(seen: Evidence) -> Iterator[Finding]:
    """The server's clock is right"""
    said = seen.front.all("date")
    try:
        theirs = parsedate_to_datetime(said[0]).timestamp()
    except (IndexError, ValueError, TypeError) as error:
        raise CannotLook("a Date header") from error
    off = max(seen.asked_at - theirs - 1, theirs - seen.answered_at)
    if off > SKEW:
        yield Finding(
            68,
            "low",
            "the server's clock differs from this machine's",
            f"Date: {said[0]}, {off:.0f} s off",
            "run an NTP client on both; sessions end when the server's clock says so",
        )


def hosts_decide_nothing(seen: Evidence) -> Iterator[Finding]:
    """A foreign Host decides nothing"""
    if seen.host is not None:
        yield from _believed(
            seen.host, "Host", 107, "answer only hosts you know (TrustedHostMiddleware, ALLOWED_HOSTS)"
        )


def forwarded_headers_decide_nothing(seen: Evidence) -> Iterator[Finding]:
    """Forwarded headers of anybody decide nothing"""
    assert seen.forwarded is not None
    yield from _believed(
        seen.forwarded,
        "X-Forwarded-Host",
        105,
        "have the proxy set, not pass on, X-Forwarded-… and Forwarded",
    )
    lied, true = seen.lied, seen.login
    if lied is not None and true is not None:
        open_ = [cookie for cookie in lied.sets(seen.cookie) if "secure" not in cookie.attributes]
        if open_ and not any("secure" not in cookie.attributes for cookie in true.sets(seen.cookie)):
            yield Finding(
                106,
                "high",
                "anybody can take Secure off the session cookie",
                "with X-Forwarded-Proto: http in the request, Set-Cookie has no Secure",
                "have the proxy set X-Forwarded-Proto, and trust it from the proxy's address only",
            )


def _believed(answer: Answer, header: str, line: int, fix: str) -> Iterator[Finding]:
    for where in answer.all("location"):
        if urlsplit(where).netloc == _EVIL_HOST:
            seen = f"{header}: {_EVIL_HOST} is answered by Location: {where}"
            yield Finding(line, "high", f"{header} decides where visitors are sent", seen, fix)
            return
    for cookie in answer.cookies:
        if _EVIL_HOST in cookie.attributes.get("domain", "") or "evil" in cookie.attributes.get("path", ""):
            seen = f"{header}: {_EVIL_HOST} gives {cookie.name} a scope of its own"
            yield Finding(
                108, "high", f"{header} decides who gets the cookie", seen, "never make Domain of a request"
            )
            return
    if _EVIL_HOST.encode() in answer.body:
        seen = f"{header}: {_EVIL_HOST} appears in the page"
        yield Finding(line, "low", f"{header} gets into pages", seen, fix)


def other_sites_cannot_log_in(seen: Evidence) -> Iterator[Finding]:
    """Another site cannot log a visitor in"""
    if seen.cross_login is None:
        raise CannotLook("--login-url, with --form and --password-env")
    member, cookies = seen.cross_member, seen.cross_login.sets(seen.cookie)
    # Without a private page a cookie, or a redirect as after a login, is what can be seen.
    came_in = seen.opens(member) if member is not None else bool(cookies)
    if came_in and seen.cross_login.status < 400:
        yield Finding(
            102,
            "high",
            "another site can log a visitor in, as whom it likes",
            f"POST {seen.cross_login.path} from {EVIL}: {seen.cross_login.status}, and the cookie opens pages",
            "refuse cross-site requests before the password is looked at: CsrfMiddleware",
        )


def other_sites_cannot_log_out(seen: Evidence) -> Iterator[Finding]:
    """Another site cannot log a visitor out"""
    if seen.cross_logout is None or not seen.is_in:
        raise CannotLook("--logout-url and --private-url, and a login")
    tries = (
        ("POST", seen.cross_logout, seen.after_cross_logout),
        ("GET", seen.get_logout, seen.after_get_logout),
    )
    for verb, answer, after in tries:
        # The session is over on the server, or the browser is told to forget its cookie: the visitor is out either way.
        forgotten = answer is not None and any(
            c.name == seen.cookie and c.is_deletion for c in answer.cookies
        )
        if forgotten or (after is not None and not seen.opens(after)):
            fix = (
                "refuse cross-site requests: CsrfMiddleware"
                if verb == "POST"
                else "let POST alone log out: a picture on any page can make a GET"
            )
            path = seen.cross_logout.path
            what = f"{verb} {path} from {EVIL} ended the session"
            yield Finding(58, "medium", "another site can log a visitor out", what, fix)
            return


CROSSING: Final[tuple[Check, ...]] = (
    the_site_is_encrypted,
    the_certificate_lasts,
    plain_http_leads_to_https,
    browsers_remember_https,
    clocks_agree,
    hosts_decide_nothing,
    forwarded_headers_decide_nothing,
    other_sites_cannot_log_in,
    other_sites_cannot_log_out,
)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
