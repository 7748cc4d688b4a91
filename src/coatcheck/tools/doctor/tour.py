"""The requests of a look from outside, made once and in order; what they were answered is the evidence that checks judge.

At most five logins, all with the right password, so that nobody is locked out; one sign-out. Nothing else is changed.
"""

import secrets
import socket
import ssl
import string
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from coatcheck.tools.doctor.browser import Answer, Browser, Site, Unreachable, forms_of

__all__ = ["EVIL", "Evidence", "Plan", "tour"]

EVIL: Final = "https://evil.example"
_EVIL_HOST: Final = "evil.example"
_FOREIGN: Final = {"Origin": EVIL, "Referer": EVIL + "/", "Sec_Fetch_Site": "cross-site"}
_USUAL: Final = (
    "__Host-session",
    "__Secure-session",
    "session",
    "sessionid",
    "connect.sid",
    "sid",
    "PHPSESSID",
)
"""What session cookies are called, the likeliest first."""


@dataclass(frozen=True)
class Plan:
    """What we were told of a site. URLs are absolute; None: nobody said."""

    site: Site
    http: str | None = None
    public: str | None = None
    private: str | None = None
    login: str | None = None
    logout: str | None = None
    fields: dict[str, str] = field(default_factory=dict, repr=False)
    cookie: str | None = None
    is_json: bool = False
    """The login takes JSON."""


@dataclass
class Evidence:
    """What a site answered. None: it was not asked."""

    plan: Plan
    front: Answer
    asked_at: float
    answered_at: float
    days_left: float | None = None
    plain: Answer | None = None
    public: Answer | None = None
    host: Answer | None = None
    forwarded: Answer | None = None
    stranger: Answer | None = None
    """The private page, for who has not logged in."""
    login: Answer | None = None
    before: dict[str, str] = field(default_factory=dict, repr=False)
    """The cookies when the login form was sent."""
    cookie: str | None = None
    """What the session's cookie is called."""
    value: str | None = field(default=None, repr=False)
    member: Answer | None = None
    """The private page after the login."""
    before_again: Answer | None = None
    """The private page with the cookie from before the login."""
    again: Answer | None = None
    """A second login, with the cookie of the first."""
    again_value: str | None = field(default=None, repr=False)
    first_again: Answer | None = None
    """The private page with the cookie of the first login, after the second."""
    lied: Answer | None = None
    """A login that says, falsely, that it came over plain HTTP."""
    planted: str | None = field(default=None, repr=False)
    planted_login: Answer | None = None
    planted_value: str | None = field(default=None, repr=False)
    cross_login: Answer | None = None
    cross_member: Answer | None = None
    cross_logout: Answer | None = None
    after_cross_logout: Answer | None = None
    get_logout: Answer | None = None
    after_get_logout: Answer | None = None
    logout: Answer | None = None
    after_logout: Answer | None = None
    sets: list[Answer] = field(default_factory=list)
    """Every answer that set the session's cookie."""

    @property
    def is_in(self) -> bool:
        """Whether the login worked, as far as can be seen: the private page tells members from strangers."""
        return self.member is not None and self.stranger is not None and self.opens(self.member)

    @property
    def trouble(self) -> str:
        """Why the login cannot be taken for one; "" if it can, or nobody asked for it."""
        if self.login is None:
            return ""
        said = f"POST {self.login.path} was answered {self.login.status}"
        if self.cookie is None or self.value is None:
            return f"the login set no cookie: {said}"
        if self.login.status >= 400:
            return f"the login did not work: {said}"
        if self.member is not None and self.stranger is not None and not self.is_in:
            return (
                f"the login did not open the private page: {said}; GET {self.member.path} {self.member.status} after it,"
                f" {self.stranger.status} without"
            )
        return ""

    def opens(self, answer: Answer) -> bool:
        """Whether a private page let this visitor in, where it does not let strangers in."""
        return self.stranger is not None and _ok(answer) and not _ok(self.stranger)


def _ok(answer: Answer) -> bool:
    return 200 <= answer.status < 300


def tour(plan: Plan) -> Evidence:
    """Ask everything. Raises Unreachable if the start page does not answer."""
    began = time.time()
    front = Browser(plan.site).get(plan.site.url)
    seen = Evidence(plan, front, began, time.time())
    _outside(seen)
    _front_door(seen)
    if plan.login is not None:
        _visit(seen, plan.login)
    return seen


def _outside(seen: Evidence) -> None:
    plan = seen.plan
    if plan.site.is_https:
        seen.days_left = _days_left(plan.site)
    if plan.http is not None:
        try:
            seen.plain = Browser(plan.site).get(plan.http)
        except Unreachable:
            pass  # nobody answers plain HTTP: as good as a redirect
    if plan.public is not None:
        seen.public = Browser(plan.site).get(plan.public)


def _front_door(seen: Evidence) -> None:
    """Lies about where the request is going, and how it came."""
    url = seen.plan.login or seen.plan.site.url
    try:
        seen.host = Browser(seen.plan.site).get(url, Host=_EVIL_HOST)
    except Unreachable:
        pass  # a proxy that hangs up on hosts it does not know
    other = "http" if seen.plan.site.is_https else "https"
    seen.forwarded = Browser(seen.plan.site).get(
        url,
        X_Forwarded_Host=_EVIL_HOST,
        X_Forwarded_Proto=other,
        Forwarded=f"host={_EVIL_HOST};proto={other}",
    )


def _visit(seen: Evidence, login: str) -> None:
    plan, site = seen.plan, seen.plan.site
    if plan.private is not None:
        seen.stranger = Browser(site).get(plan.private)
    browser = Browser(site)
    seen.login, seen.before = _log_in(browser, login, plan)
    seen.cookie = plan.cookie or _session_cookie(seen.login, browser)
    seen.value = browser.cookies.get(seen.cookie or "")
    seen.member = _private(plan, browser.cookies)
    seen.before_again = _private(plan, seen.before)
    first = dict(browser.cookies)
    seen.again, _ = _log_in(browser, login, plan)
    seen.again_value = browser.cookies.get(seen.cookie or "")
    seen.first_again = _private(plan, first)
    if site.is_https:  # a lie about the scheme must not cost the cookie its Secure
        seen.lied, _ = _log_in(Browser(site), login, plan, X_Forwarded_Proto="http")
    _plant(seen, login)
    _cross_site(seen, login, browser)
    _leave(seen, browser)
    answers = (seen.front, seen.login, seen.member, seen.again, seen.planted_login, seen.logout, seen.public)
    seen.sets = [answer for answer in answers if answer is not None and answer.sets(seen.cookie)]


def _log_in(browser: Browser, url: str, plan: Plan, **headers: str) -> tuple[Answer, dict[str, str]]:
    """Fill in the form as a person would, hidden fields and all. Returns the answer, and the cookies that were sent."""
    form = browser.get(url)
    hidden = _hidden(form, url, plan.site)
    before = dict(browser.cookies)
    said = {name: value for name, value in headers.items() if value}
    return _send(browser, plan)(url, {**hidden, **plan.fields}, Referer=url, **said), before


def _send(browser: Browser, plan: Plan) -> Callable[..., Answer]:
    return browser.post_json if plan.is_json else browser.post


def _hidden(page: Answer, url: str, site: Site) -> dict[str, str]:
    """The hidden fields of the form that goes to `url`; of the first that is posted, if none says so."""
    forms = [form for form in forms_of(page) if form.method == "post"]
    there = [form for form in forms if urlsplit(form.action).path in (urlsplit(url).path,)]
    return dict((there or forms)[0].hidden) if forms else {}


def _session_cookie(answer: Answer, browser: Browser) -> str | None:
    """The cookie that the login set, by its usual name, else the one that scripts may not read."""
    held = [name for name in _USUAL if name in browser.cookies]
    hidden = [
        cookie.name for cookie in answer.cookies if "httponly" in cookie.attributes and not cookie.is_deletion
    ]
    return next(iter([*held, *hidden, *browser.cookies]), None)


def _private(plan: Plan, cookies: dict[str, str]) -> Answer | None:
    return None if plan.private is None else Browser(plan.site, cookies).get(plan.private)


def _plant(seen: Evidence, login: str) -> None:
    """Log in with an id that the server never gave, in the shape of its own."""
    if seen.value is None or seen.cookie is None:
        return
    letters = string.ascii_letters + string.digits
    seen.planted = "".join(secrets.choice(letters) if octet.isalnum() else octet for octet in seen.value)
    browser = Browser(seen.plan.site, {seen.cookie: seen.planted})
    seen.planted_login, _ = _log_in(browser, login, seen.plan)
    seen.planted_value = browser.cookies.get(seen.cookie)


def _cross_site(seen: Evidence, login: str, browser: Browser) -> None:
    """What a page of another site can have a visitor's browser send."""
    plan = seen.plan
    victim = Browser(plan.site)
    seen.cross_login = _send(victim, plan)(login, plan.fields, **_FOREIGN)
    seen.cross_member = _private(plan, victim.cookies)
    if plan.logout is not None:
        visitor = Browser(plan.site, browser.cookies)
        seen.cross_logout = visitor.post(plan.logout, {}, **_FOREIGN)
        seen.after_cross_logout = _private(plan, browser.cookies)
        seen.get_logout = Browser(plan.site, browser.cookies).get(plan.logout, Sec_Fetch_Site="cross-site")
        seen.after_get_logout = _private(plan, browser.cookies)


def _leave(seen: Evidence, browser: Browser) -> None:
    plan = seen.plan
    if plan.logout is None:
        return
    member = dict(browser.cookies)
    page = browser.get(plan.site.url)
    seen.logout = browser.post(plan.logout, _hidden(page, plan.logout, plan.site))
    seen.after_logout = _private(plan, member)


def _days_left(site: Site) -> float | None:
    """How long the certificate is good for. Asked for by itself, since a response does not show it."""
    host, port = site.parts.hostname or "", site.parts.port or 443
    try:
        plain = socket.create_connection((host, port), timeout=site.timeout)
        with plain, site.context.wrap_socket(plain, server_hostname=host) as secure:
            shown: Any = secure.getpeercert() or {}
    except OSError:
        return None
    until = shown.get("notAfter")
    return None if until is None else (ssl.cert_time_to_seconds(until) - time.time()) / 86_400
