"""Cookies: find ours in a request, describe it in settings, write it into a response. Pure: no clock, no I/O.

Reading. A Cookie header is cut at every ";" and nowhere else: RFC 6265bis knows no quoting that would protect one, so
quotes, commas and backslashes are ordinary bytes. A pair is ours if its name is ours byte for byte. What other
cookies hold is never looked at, so nothing malformed among them can hide ours. Everything stays bytes; whether a
candidate is genuine is for its MAC to say.

Writing. Attributes leave in the order of Node's `cookie` package, so that both dialects share this writer:
Max-Age, Domain, Path, Expires, HttpOnly, Secure, Partitioned, Priority, SameSite.

Sources: RFC 6265bis (draft-ietf-httpbis-rfc6265bis), draft-ietf-httpbis-layered-cookies for `__Http-`,
CHIPS for Partitioned; lines 28-35 and 41-52 of the security checklist.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal

from coatcheck.errors import ConfigurationError, CookieTooLarge

__all__ = [
    "LOOPBACK_NAME",
    "MAX_AGE",
    "MAX_ATTRIBUTE",
    "MAX_COOKIE",
    "MAX_HEADER",
    "MOST",
    "SCOPED_NAME",
    "SECURE_NAME",
    "CookieSettings",
    "Writer",
    "build",
    "find",
    "find_in",
    "lifetime",
    "names",
    "whole_seconds",
]

SECURE_NAME = "__Host-session"
"""Our name over HTTPS: the prefix makes browsers refuse it from sibling hosts, from plain HTTP and for a mere path."""

SCOPED_NAME = "__Secure-session"
"""Our name over HTTPS when a path or domain is set, which `__Host-` forbids."""

LOOPBACK_NAME = "session"
"""Our name over plain HTTP on the loopback interface, where no prefix can be used."""

MAX_HEADER = 64 * 1024
"""Octets of Cookie header (several fields joined) beyond which it is not read. Checklist 46."""

MOST = 8
"""Candidates of our name that are worth a MAC each. Checklist 42."""

MAX_COOKIE = 4096
"""Octets of name and value together; browsers ignore a longer Set-Cookie. RFC 6265bis section 5.6."""

MAX_ATTRIBUTE = 1024
"""Octets of one attribute's value; browsers ignore a longer attribute. RFC 6265bis section 5.6."""

MAX_AGE = 400 * 86_400
"""Seconds a browser keeps a cookie at most, whatever it was told. RFC 6265bis section 5.5."""

_LOOKS_LIKE_MILLISECONDS = 86_400_000
_SAME_SITE = ("lax", "strict", "none", "auto")

# RFC 9110 section 5.6.2. Anchored with \Z, since $ would let a trailing newline in.
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
# Browsers match a path literally and trim spaces from its end: a path with spaces in it would never match.
_PATH = re.compile(r"/[!-+\--:<-~]*\Z")
_DOMAIN = re.compile(r"\.?[0-9A-Za-z_-]+(\.[0-9A-Za-z_-]+)*\Z")
# cookie-octet, RFC 6265bis section 4.1.1: visible US-ASCII without DQUOTE, comma, semicolon and backslash.
_COOKIE_OCTETS = bytes(octet for octet in range(0x21, 0x7F) if octet not in b'",;\\')

_DAYS = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")


# --- reading -----------------------------------------------------------------------------------------------------------


def find(headers: Iterable[bytes], name: bytes, *, most: int = MOST) -> list[bytes]:
    """Return the raw values of every cookie called exactly `name`, in the order they came.

    `headers` are the values of the request's Cookie fields: usually one, several where HTTP/2 has split it (then they
    count as one, joined by "; ": RFC 9113 section 8.2.3). `name` is a token, compared byte for byte, nothing
    decoded. Values are trimmed of SP and HTAB and otherwise untouched, quotes included.

    Returns [] if there is none, if there are more than `most` (someone is tossing cookies), or if the header is
    longer than MAX_HEADER. Never raises. Linear in the length of the header. Checklist 41-48, 52.
    """
    # join() hands a single bytes object back as it is, without copying.
    return find_in(b"; ".join(headers), name, most=most)


def find_in(header: bytes, name: bytes, *, most: int = MOST) -> list[bytes]:
    """Do what `find` does, for a request with a single Cookie field: the hot path."""
    if len(header) > MAX_HEADER:
        return []
    needle = name + b"="
    pieces = header.split(needle, 2)
    if len(pieces) == 1:
        return []
    if len(pieces) == 2:  # our name occurs once: nearly every request of a visitor who has a session
        before, after = pieces
        if not before or before[-2:] == b"; ":
            return [after.split(b";", 1)[0].strip(b" \t")]
    return _find_all(header, needle, most)


def _find_all(header: bytes, needle: bytes, most: int) -> list[bytes]:
    found: list[bytes] = []
    low = 0  # where the pairs not yet looked at begin: no octet is passed twice, whatever the header holds
    while (at := header.find(needle, low)) >= 0:
        value = at + len(needle)
        end = header.find(b";", value)
        if end < 0:
            end = len(header)
        if not header[low:at].rpartition(b";")[2].strip(b" \t"):  # nothing before it in its pair
            found.append(header[value:end].strip(b" \t"))
            if len(found) > most:
                return []
        low = end + 1
    return found


# --- settings ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CookieSettings:
    """How our cookie is sent. The defaults are the safe ones; a contradiction is refused here, at start-up.

    name         None picks `__Host-session` over HTTPS (`__Secure-session` with a path or domain), `session` on loopback HTTP
    path         the part of the site that gets the cookie; not a security boundary
    domain       None: this host only. A domain shares the cookie with every host below it
    secure       "auto": Secure whenever the request came over HTTPS; True: always; False: never
    http_only    keep the cookie from scripts
    same_site    "lax", "strict", "none", "auto" ("none" over HTTPS, else "lax"), True ("strict"), False (no attribute)
    max_age      seconds or timedelta, at most 400 days; None: gone when the browser closes
    expires      a fixed end instead of max_age, with a time zone
    partitioned  one jar for each top-level site (CHIPS)
    priority     "low", "medium" or "high": which cookies Chromium evicts first; None: no attribute

    Raises ConfigurationError. Checklist 28, 29, 31, 33, 35.
    """

    name: str | None = None
    path: str = "/"
    domain: str | None = None
    secure: bool | Literal["auto"] = "auto"
    http_only: bool = True
    same_site: Literal["lax", "strict", "none", "auto"] | bool = "lax"
    max_age: int | timedelta | None = None
    expires: datetime | None = None
    partitioned: bool = False
    priority: Literal["low", "medium", "high"] | None = None

    def __post_init__(self) -> None:
        self._normalise()
        _check_flag("http_only", self.http_only)
        _check_flag("partitioned", self.partitioned)
        _check_path(self.path)
        _check_domain(self.domain)
        _check_end(self.max_age, self.expires)
        _check_origin(self)
        if self.name is not None:
            _check_name(self, self.name)

    def _normalise(self) -> None:
        put = object.__setattr__  # the way a frozen dataclass sets its own fields
        if not isinstance(self.secure, bool):
            put(self, "secure", _word("secure", self.secure, ("auto",), "True, False"))
        if not isinstance(self.same_site, bool):
            put(self, "same_site", _word("same_site", self.same_site, _SAME_SITE, "False (no attribute)"))
        elif self.same_site:
            put(self, "same_site", "strict")
        if self.priority is not None:
            put(self, "priority", _word("priority", self.priority, ("low", "medium", "high"), "None"))


def names(settings: CookieSettings) -> tuple[str, str]:
    """Return our cookie's name over HTTPS and its name over plain HTTP on the loopback interface.

    A name the user gave serves for both. Otherwise they differ, so that what plain HTTP could plant is never read over
    HTTPS; with secure=False there is no such line to draw, and both are `session`.
    """
    if settings.name is not None:
        return settings.name, settings.name
    if settings.secure is False:
        return LOOPBACK_NAME, LOOPBACK_NAME
    scoped = settings.path != "/" or settings.domain is not None
    return (SCOPED_NAME if scoped else SECURE_NAME), LOOPBACK_NAME


def lifetime(settings: CookieSettings, *, now: float) -> int | None:
    """Return for how many whole seconds from `now` (seconds since the epoch) the settings let a cookie live.

    None is a browser-session cookie. A fixed `expires` counts down, to 0 and from MAX_AGE at most.
    """
    if settings.max_age is not None:
        return _in_seconds(settings.max_age)
    if settings.expires is None:
        return None
    return _clamped(settings.expires.timestamp() - now)


def whole_seconds(max_age: object) -> int:
    """Return a lifetime given as whole seconds or timedelta, in whole seconds: 1 to MAX_AGE.

    Raises ConfigurationError for anything else: bool, float, text, milliseconds. Checklist 33.
    """
    if not isinstance(max_age, int | timedelta) or isinstance(max_age, bool):
        fix = "use whole seconds, a timedelta, or None for a browser session"
        raise _wrong("max_age", f"{_short(max_age)} is no lifetime", fix)
    given, seconds = _short(max_age), _in_seconds(max_age)
    _refuse_if(
        seconds < 1, "max_age", f"{given} is over at once", "use 1 or more, or None for a browser session"
    )
    milliseconds = isinstance(max_age, int) and seconds >= _LOOKS_LIKE_MILLISECONDS
    fix = f"use seconds ({seconds // 1000:_}) or timedelta"
    _refuse_if(milliseconds, "max_age", f"{given} looks like milliseconds", fix)
    _refuse_if(
        seconds > MAX_AGE, "max_age", f"{given} is more than browsers keep", f"use 400 days ({MAX_AGE:_})"
    )
    return seconds


def _in_seconds(max_age: int | timedelta) -> int:
    return max_age // timedelta(seconds=1) if isinstance(max_age, timedelta) else max_age


def _check_flag(setting: str, value: object) -> None:
    if not isinstance(value, bool):
        raise _wrong(setting, f"{_short(value)} is neither yes nor no", "use True or False")


def _check_path(path: object) -> None:
    if not isinstance(path, str) or not _PATH.match(path):
        fix = 'start it with "/" and keep to visible ASCII without ";" and "," (percent-encode the rest)'
        raise _wrong("path", f"{_short(path)} is not a path a browser would match", fix)
    _check_length("path", path)


def _check_domain(domain: object) -> None:
    if domain is None:
        return
    if not isinstance(domain, str) or not _DOMAIN.match(domain):
        fix = 'use a bare host name such as "example.com" (international names in their "xn--" form), or None for this host only'
        raise _wrong("domain", f"{_short(domain)} is not a host name", fix)
    _check_length("domain", domain)


def _check_length(setting: str, value: str) -> None:
    problem = f"{len(value)} octets are more than browsers accept"
    _refuse_if(len(value) > MAX_ATTRIBUTE, setting, problem, f"use at most {MAX_ATTRIBUTE}")


def _check_end(max_age: object, expires: object) -> None:
    if max_age is not None:
        whole_seconds(max_age)
    if expires is None:
        return
    _refuse_if(max_age is not None, "expires", "a fixed end and max_age cannot both hold", "give one of them")
    naive = not isinstance(expires, datetime) or expires.utcoffset() is None
    fix = "use datetime(..., tzinfo=timezone.utc)"
    _refuse_if(naive, "expires", f"{_short(expires)} is not a datetime with a time zone", fix)


def _check_origin(settings: CookieSettings) -> None:
    """Refuse what browsers take from secure origins only, if the cookie is never Secure."""
    never, cross_site = settings.secure is False, settings.same_site == "none"
    _refuse_if(
        never and cross_site, "same_site", '"none" needs Secure', 'use secure="auto", or same_site="lax"'
    )
    partitioned, fix = settings.partitioned, 'use secure="auto", or partitioned=False'
    _refuse_if(never and partitioned, "partitioned", "it needs Secure", fix)


def _check_name(settings: CookieSettings, name: object) -> None:
    """Refuse a name that is no token, or whose prefix promises what the settings do not keep."""
    if not isinstance(name, str) or not _TOKEN.match(name):
        raise _wrong("name", f"{_short(name)} is not a token", "use letters, digits, '-', '_' and '.'")
    insecure = _needs_secure(name) and settings.secure is False
    readable = _needs_http_only(name) and not settings.http_only
    host, prefix = _needs_host(name), f"the prefix of {_short(name)}"
    domain, path = settings.domain is not None, settings.path != "/"
    _refuse_if(insecure, "secure", f"{prefix} needs Secure", 'use secure="auto", or no prefix')
    _refuse_if(readable, "http_only", f"{prefix} needs HttpOnly", "use http_only=True, or no prefix")
    _refuse_if(host and domain, "domain", f"{prefix} forbids Domain", "use domain=None, or __Secure-")
    _refuse_if(host and path, "path", f"{prefix} needs Path=/", 'use path="/", or __Secure-')


# Browsers compare prefixes without regard to case, so that a server that does so cannot be fooled.


def _needs_host(name: str) -> bool:
    return name.lower().startswith("__host-")


def _needs_http_only(name: str) -> bool:
    return name.lower().startswith(("__http-", "__host-http-"))


def _needs_secure(name: str) -> bool:
    return name.lower().startswith(("__host-", "__secure-", "__http-"))


def _word(setting: str, value: object, allowed: tuple[str, ...], others: str) -> str:
    if isinstance(value, str) and value.lower() in allowed:
        return value.lower()
    choices = ", ".join(f'"{word}"' for word in allowed)
    raise _wrong(setting, f"{_short(value)} means nothing", f"use {choices}, {others}")


def _refuse_if(broken: bool, setting: str, problem: str, fix: str) -> None:
    if broken:
        raise _wrong(setting, problem, fix)


def _wrong(setting: str, problem: str, fix: str) -> ConfigurationError:
    return ConfigurationError(f"CookieSettings.{setting}: {problem}: {fix}")


def _short(value: object) -> str:
    text = ascii(value)  # ascii(): a message must not carry control characters into a log
    return text if len(text) <= 60 else f"{text[:56]}..."


# --- writing -----------------------------------------------------------------------------------------------------------


class Writer:
    """Set-Cookie values for one name, compiled once: `set` is a check and a concatenation.

    `secure` says whether the requests it answers came over HTTPS. Over plain HTTP a cookie is sent without Partitioned,
    and SameSite=None becomes Lax, since both need a secure origin; Secure itself stays if the settings insist on it
    (checklist 39).

    Raises ConfigurationError if `name` and the settings contradict each other.
    """

    __slots__ = ("_attributes", "_clear", "_head", "_needs_https", "_room", "_start", "_tail", "name")

    def __init__(self, settings: CookieSettings, name: str, *, secure: bool) -> None:
        _check_name(settings, name)
        self.name = name
        self._start = name.encode("ascii") + b"="
        self._room = MAX_COOKIE - len(name)
        self._head = _scope(settings)
        self._tail = _flags(settings, secure=secure)
        self._attributes = self._head + self._tail
        self._needs_https = _needs_secure(name) and not _sends_secure(settings, secure=secure)
        self._clear = self._persistent(b"", max_age=0, expires=0)

    def __repr__(self) -> str:
        return f"<Writer {self.name}{self._attributes.decode('ascii')}>"

    def set(self, value: bytes, *, max_age: float | None, now: float) -> bytes:
        """Return the Set-Cookie value that stores `value`.

        `max_age` is what is left of the session in seconds (rounded down, at most MAX_AGE), or None for a cookie that ends
        with the browser; `now` is in seconds since the epoch and only read for Expires.

        Raises CookieTooLarge if browsers would drop it, ValueError if `value` is not made of cookie-octets (RFC 6265bis
        section 4.1.1; neither repeats the value), and ConfigurationError if the name's prefix needs HTTPS here.
        """
        self._check(value)
        if max_age is None:
            return self._start + value + self._attributes
        left = min(max(max_age, 0), MAX_AGE)
        return self._persistent(value, max_age=int(left), expires=int(now + left))

    def clear(self) -> bytes:
        """Return the Set-Cookie value that deletes the cookie: same name, Path, Domain, Secure, Partitioned. Checklist 34."""
        return self._clear

    def _persistent(self, value: bytes, *, max_age: int | None, expires: int | None) -> bytes:
        age = b"" if max_age is None else b"; Max-Age=%d" % max_age
        end = b"" if expires is None else b"; Expires=" + _imf_fixdate(expires)
        return b"".join((self._start, value, age, self._head, end, self._tail))

    def _check(self, value: bytes) -> None:
        if len(value) > self._room:
            size = len(self.name) + len(value)
            raise CookieTooLarge(
                f"{size} octets of name and value: browsers drop a cookie of more than {MAX_COOKIE}"
            )
        if value.translate(None, _COOKIE_OCTETS):
            raise ValueError(
                "a cookie's value is made of cookie-octets (RFC 6265bis section 4.1.1): use base64url"
            )
        if self._needs_https:
            fix = "serve over HTTPS, or leave the name to us (it is then `session` on loopback)"
            raise _wrong("name", f"the prefix of {_short(self.name)} cannot be used over plain HTTP", fix)


def build(
    settings: CookieSettings,
    name: str,
    value: bytes,
    *,
    secure: bool,
    max_age: int | None,
    expires: float | None = None,
) -> bytes:
    """Return one Set-Cookie value, uncompiled: Max-Age and Expires are sent as given, each if it is not None.

    `max_age` is in seconds, `expires` in seconds since the epoch. Everything else, errors too, is as in `Writer.set`.
    """
    writer = Writer(settings, name, secure=secure)
    writer._check(value)
    age = None if max_age is None else _clamped(max_age)
    return writer._persistent(value, max_age=age, expires=None if expires is None else int(expires))


def _scope(settings: CookieSettings) -> bytes:
    domain = "" if settings.domain is None else f"; Domain={settings.domain}"
    return f"{domain}; Path={settings.path}".encode("ascii")


def _flags(settings: CookieSettings, *, secure: bool) -> bytes:
    https = secure and settings.secure is not False
    same_site = _same_site(settings, https=https)
    flags = (
        "HttpOnly" if settings.http_only else "",
        "Secure" if _sends_secure(settings, secure=secure) else "",
        "Partitioned" if settings.partitioned and https else "",
        f"Priority={settings.priority.capitalize()}" if settings.priority else "",
        f"SameSite={same_site.capitalize()}" if same_site else "",
    )
    return "".join(f"; {flag}" for flag in flags if flag).encode("ascii")


def _sends_secure(settings: CookieSettings, *, secure: bool) -> bool:
    return secure if settings.secure == "auto" else settings.secure


def _same_site(settings: CookieSettings, *, https: bool) -> str:
    if settings.same_site in ("auto", "none"):
        return "none" if https else "lax"
    return settings.same_site if isinstance(settings.same_site, str) else ""


def _clamped(seconds: float) -> int:
    return int(min(max(seconds, 0), MAX_AGE))


@lru_cache(maxsize=64)  # all cookies of one second end in the same second
def _imf_fixdate(second: int) -> bytes:
    """Return an IMF-fixdate (RFC 9110 section 5.6.7). Not strftime, which would speak the server's language."""
    t = datetime.fromtimestamp(second, UTC)
    day, month = _DAYS[t.weekday()], _MONTHS[t.month - 1]
    return b"%b, %02d %b %04d %02d:%02d:%02d GMT" % (day, t.day, month, t.year, t.hour, t.minute, t.second)
