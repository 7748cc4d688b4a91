"""What was answered about the session: its cookie, what caches may keep, and its life from login to logout."""

import hmac
from collections.abc import Iterator
from typing import Final

from coatcheck.core.cookies import MAX_AGE
from coatcheck.tools.doctor.browser import Answer, Cookie
from coatcheck.tools.doctor.report import CannotLook, Check, Finding
from coatcheck.tools.doctor.tour import Evidence

__all__ = ["HOLDING"]

_SHORTEST: Final = 22
"""Characters of 128 random bits in base64."""
_LOGIN: Final = "--login-url, with --form and --password-env"
_PRIVATE: Final = "--private-url, a page that only opens after the login"


def the_login_works(seen: Evidence) -> Iterator[Finding]:
    """The login works"""
    _need_login(seen)
    return
    yield


def the_cookie_is_protected(seen: Evidence) -> Iterator[Finding]:
    """The cookie is HttpOnly, Secure and SameSite"""
    cookie = _set(seen)
    flags = [("httponly", "HttpOnly", "high", "scripts can read it")]
    if seen.plan.site.is_https:
        flags.append(("secure", "Secure", "high", "it travels over plain HTTP too"))
    for word, flag, severity, what in flags:
        if word not in cookie.attributes:
            yield Finding(
                28,
                "high" if severity == "high" else "medium",
                f"the session cookie is not {flag}: {what}",
                f"Set-Cookie: {cookie.name}=…; {_shown(cookie)}",
                f"add {flag}",
            )
    same_site = cookie.attributes.get("samesite", "").lower()
    if same_site not in ("lax", "strict"):
        yield Finding(
            28,
            "medium",
            "requests of other sites carry the session cookie",
            f"Set-Cookie: {cookie.name}=…; {_shown(cookie)}",
            "add SameSite=Lax",
        )


def the_cookie_stays_here(seen: Evidence) -> Iterator[Finding]:
    """The cookie's name and scope keep other hosts away"""
    cookie = _set(seen)
    if domain := cookie.attributes.get("domain"):
        yield Finding(
            28,
            "low",
            "every host below the domain gets the session cookie",
            f"Domain={domain}",
            "leave Domain out, unless those hosts are all yours",
        )
    if seen.plan.site.is_https and not cookie.name.lower().startswith(("__host-", "__secure-")):
        yield Finding(
            28,
            "low",
            "the cookie's name has no prefix",
            f"{cookie.name}: a sibling host, or plain HTTP, can plant one",
            f"call it __Host-{cookie.name}",
        )


def the_cookie_does_not_stay_for_ever(seen: Evidence) -> Iterator[Finding]:
    """The cookie does not outlive what browsers keep"""
    age = _set(seen).attributes.get("max-age", "0")
    if age.lstrip("-").isdigit() and int(age) > MAX_AGE:
        yield Finding(
            33,
            "low",
            "the cookie claims to live longer than browsers keep any",
            f"Max-Age={age}",
            "400 days at most; and let the server end the session sooner",
        )


def one_cookie_a_response(seen: Evidence) -> Iterator[Finding]:
    """The cookie is set once a response"""
    _set(seen)
    for answer in seen.sets:
        if len(answer.sets(seen.cookie)) > 1:
            yield Finding(
                36,
                "low",
                "one response sets the session cookie twice",
                f"{answer.path}: {len(answer.sets(seen.cookie))} Set-Cookie fields of one name",
                "set it once, when everything has been decided",
            )
            return


def the_secret_is_long(seen: Evidence) -> Iterator[Finding]:
    """The cookie cannot be guessed"""
    value = seen.value
    if value is None:
        raise CannotLook(_LOGIN)
    if len(value) < _SHORTEST:
        yield Finding(
            1,
            "high",
            "the session cookie is short enough to be guessed",
            f"{len(value)} characters; 128 random bits take {_SHORTEST}",
            "make ids with secrets.token_urlsafe(32)",
        )


def the_secret_stays_in_its_cookie(seen: Evidence) -> Iterator[Finding]:
    """The cookie's value is nowhere else"""
    if seen.value is None or len(seen.value) < _SHORTEST:
        raise CannotLook(_LOGIN)
    for answer in (seen.login, seen.member, seen.again):
        if answer is None:
            continue
        secret = next((cookie.value for cookie in answer.sets(seen.cookie)), seen.value)
        others = " ".join(value for name, value in answer.headers if name != "set-cookie")
        if secret.encode() in answer.body or secret in others:
            yield Finding(
                37,
                "high",
                "the session cookie's value is shown",
                f"it is in the answer of {answer.path}, where scripts, caches and logs see it",
                "take it out: what a page needs to name a session is its public handle",
            )
            return


def what_sets_the_cookie_is_not_stored(seen: Evidence) -> Iterator[Finding]:
    """No cache stores a response with the cookie"""
    _set(seen)
    for answer in seen.sets:
        if not answer.words("cache-control") & {"no-store", "private"}:
            yield Finding(
                85,
                "high",
                "a shared cache may store a response that sets the session cookie",
                f"{answer.path}: Cache-Control: {', '.join(answer.all('cache-control')) or '(none)'}",
                "Cache-Control: no-store on every response with Set-Cookie",
            )
            return


def members_pages_stay_out_of_shared_caches(seen: Evidence) -> Iterator[Finding]:
    """No cache hands a member's page to somebody else"""
    if seen.member is None or not seen.is_in:
        raise CannotLook(f"{_PRIVATE}, and a login")
    words = seen.member.words("cache-control")
    if not words & {"private", "no-store"}:
        yield Finding(
            90,
            "high",
            "a shared cache may store a member's page",
            f"{seen.member.path}: Cache-Control: {', '.join(seen.member.all('cache-control')) or '(none)'}",
            "Cache-Control: private, or no-store",
        )
    if not seen.member.words("vary") & {"cookie", "*"} and "no-store" not in words:
        yield Finding(
            86,
            "medium",
            "caches are not told that a member's page depends on the cookie",
            f"{seen.member.path}: Vary: {', '.join(seen.member.all('vary')) or '(none)'}",
            "Vary: Cookie on every response made with the session",
        )


def public_pages_are_left_alone(seen: Evidence) -> Iterator[Finding]:
    """Public pages have no session"""
    answer = seen.public
    if answer is None:
        raise CannotLook("--public-url, a page or file without a session")
    if answer.cookies:
        yield Finding(
            87,
            "medium",
            "a public page sets a cookie",
            f"{answer.path} sets {answer.cookies[0].name}",
            "look at the session only where it is needed: no cache can keep this, or it keeps the cookie too",
        )
    elif "cookie" in answer.words("vary"):
        yield Finding(
            87,
            "low",
            "a public page says that it depends on the cookie",
            f"{answer.path}: Vary: {', '.join(answer.all('vary'))}",
            "look at the session only where it is needed: a cache keeps one copy for every visitor",
        )


def a_login_changes_the_cookie(seen: Evidence) -> Iterator[Finding]:
    """A login changes the cookie, and the old one opens nothing"""
    login = _need_login(seen)
    assert seen.value is not None
    before = seen.before.get(seen.cookie or "")
    if before is not None and _same(before, seen.value):
        yield Finding(
            53,
            "high",
            "the cookie from before the login is the login's",
            f"POST {login.path} kept the cookie's value: whoever planted it is logged in too",
            "give the session a new id at login: session.login() does",
        )
    elif (
        before is not None and seen.before_again is not None and seen.is_in and seen.opens(seen.before_again)
    ):
        yield Finding(
            53,
            "high",
            "the cookie from before the login is logged in",
            f"GET {seen.before_again.path} with it: {seen.before_again.status}",
            "end the old id at login",
        )


def a_second_login_ends_the_first(seen: Evidence) -> Iterator[Finding]:
    """A second login in one browser ends the cookie of the first"""
    if not seen.is_in or seen.first_again is None or seen.value is None or seen.again_value is None:
        raise CannotLook(f"{_PRIVATE}, and a login")
    if _same(seen.value, seen.again_value):
        # Many sites answer a second login by "you are logged in already": then there is nothing to see.
        raise CannotLook("a site that lets who is logged in log in again")
    if seen.opens(seen.first_again):
        yield Finding(
            53,
            "high",
            "a cookie lives on after a login has replaced it",
            f"GET {seen.first_again.path} with the cookie of the first login: {seen.first_again.status}",
            "end the old id when a login gives a new one",
        )


def no_id_is_adopted(seen: Evidence) -> Iterator[Finding]:
    """An id that the server did not give is not taken"""
    _need_login(seen)
    assert seen.planted is not None
    assert seen.planted_login is not None
    if seen.planted_value is None or _same(seen.planted, seen.planted_value):
        if not seen.planted_login.sets(seen.cookie) and seen.planted_login.status >= 400:
            raise CannotLook("a login that works with a foreign cookie present")
        yield Finding(
            4,
            "high",
            "a made-up id becomes a session",
            "a login with a made-up cookie kept its value",
            "look the id up, and give a new one where it is not known",
        )


def a_logout_ends_the_session(seen: Evidence) -> Iterator[Finding]:
    """A logout ends the session on the server"""
    if seen.logout is None or seen.after_logout is None or not seen.is_in:
        raise CannotLook("--logout-url and --private-url, and a login")
    if seen.opens(seen.after_logout):
        yield Finding(
            57,
            "high",
            "a cookie works after the logout",
            f"POST {seen.logout.path}: {seen.logout.status}; then GET {seen.after_logout.path} with the same cookie:"
            f" {seen.after_logout.status}",
            "end the session on the server: session.logout() does",
        )


HOLDING: Final[tuple[Check, ...]] = (
    the_login_works,
    the_cookie_is_protected,
    the_cookie_stays_here,
    the_cookie_does_not_stay_for_ever,
    one_cookie_a_response,
    the_secret_is_long,
    the_secret_stays_in_its_cookie,
    what_sets_the_cookie_is_not_stored,
    members_pages_stay_out_of_shared_caches,
    public_pages_are_left_alone,
    a_login_changes_the_cookie,
    a_second_login_ends_the_first,
    no_id_is_adopted,
    a_logout_ends_the_session,
)


def _need_login(seen: Evidence) -> Answer:
    if seen.login is None:
        raise CannotLook(_LOGIN)
    if seen.trouble:
        raise CannotLook(f"a login that works: {seen.trouble}")
    return seen.login


def _set(seen: Evidence) -> Cookie:
    """The session's cookie as the site set it."""
    answers: list[Answer] = [seen.login] if seen.login is not None else [seen.front]
    for answer in [*answers, *seen.sets]:
        for cookie in answer.sets(seen.cookie) if seen.cookie else []:
            return cookie
    raise CannotLook(_LOGIN if seen.login is None else "a login that sets a cookie")


def _shown(cookie: Cookie) -> str:
    return "; ".join(f"{name}={value}" if value else name for name, value in cookie.attributes.items())


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
