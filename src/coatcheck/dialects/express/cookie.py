"""The `cookie` of a session: how long it lives and where its cookie goes, kept with it in the body. Times are milliseconds. Pure.

JavaScript tells an attribute that is undefined, which JSON leaves out, from one that is null. So does this: what is not in
`attributes` is undefined. Keys that nobody here knows are kept when a body is written again.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Final, Literal

from coatcheck.errors import ConfigurationError, CorruptRecord, UsageError

__all__ = ["Cookie", "CookieOptions"]

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PLAIN: Final = re.compile(r"[ -:<-~]*")
_DOMAIN: Final = re.compile(
    r"\.?([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)(\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*",
    re.IGNORECASE | re.ASCII,
)
_ORDER: Final = (
    "originalMaxAge", "partitioned", "priority", "expires", "secure", "httpOnly", "domain", "path", "sameSite",
)  # fmt: skip
"""As Cookie.data has them, and so every body that Node writes."""
_SAME_SITE: Final = {True: "Strict", "strict": "Strict", "lax": "Lax", "none": "None"}
_PRIORITY: Final = {"low": "Low", "medium": "Medium", "high": "High"}
SameSite = bool | Literal["strict", "lax", "none", "auto"]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = 8_640_000_000_000_000
"""The last millisecond of a JavaScript Date."""
_FIRST: Final = -62_135_596_800_000
_LAST: Final = 253_402_300_799_999
"""The years 1 to 9999, which is what Python, HTTP and the databases know: what lives longer, lives until then."""
_FAR: Final = re.compile(r"([+-])\d{6}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
"""As JavaScript writes a Date of another year."""


@dataclass(frozen=True, kw_only=True)
class CookieOptions:
    """express-session's `cookie` option, in Python spelling. `max_age` is in milliseconds, as there."""

    path: str | None = "/"
    """The URL path that the session is for: every path that begins with this text has it (semantics 1.2)."""
    max_age: float | None = None
    """Milliseconds until the cookie expires in the browser, and the session in the store, counted anew with each request that
    touches it. None: the browser forgets the cookie when it closes, the store after its own default."""
    expires: datetime | None = None
    """In place of `max_age`; each new session takes what is left until then, and keeps that as its `max_age` (6.6)."""
    http_only: bool = True
    secure: bool | Literal["auto"] | None = None
    """Send the cookie over HTTPS only; "auto": if the session began there."""
    same_site: SameSite | None = None
    """True means "strict"; "auto": "none" if the session began over HTTPS, else "lax"."""
    domain: str | None = None
    partitioned: bool | None = None
    priority: Literal["low", "medium", "high"] | None = None

    def __post_init__(self) -> None:
        """Refuse at once what express-session would notice with each request's cookie, or never (semantics 2.5, 9.1)."""
        if self.max_age is not None and not _is_number(self.max_age):
            raise ConfigurationError(f"max_age={self.max_age!r}: give milliseconds, or None")
        if self.max_age is not None and self.expires is not None:
            raise ConfigurationError("max_age and expires: give one of them")
        end: object = self.expires
        if end is not None and not (isinstance(end, datetime) and end.utcoffset() is not None):
            raise ConfigurationError(f"expires={end!r}: give a datetime with a time zone")
        for name in ("secure", "partitioned", "http_only"):
            if getattr(self, name) not in (
                (True, False, None, "auto") if name == "secure" else (True, False, None)
            ):
                raise ConfigurationError(f"{name}={getattr(self, name)!r}: give True or False")
        if self.same_site not in (*_SAME_SITE, False, None, "auto"):
            raise ConfigurationError(
                f'same_site={self.same_site!r}: give "strict", "lax", "none", "auto", True or False'
            )
        if self.priority not in (*_PRIORITY, None):
            raise ConfigurationError(f'priority={self.priority!r}: give "low", "medium" or "high"')
        path: object = self.path
        if path is not None and not (isinstance(path, str) and _PLAIN.fullmatch(path)):
            raise ConfigurationError(
                f"path={self.path!r}: give a path such as '/app', without ; and of ASCII"
            )
        domain: object = self.domain
        if domain is not None and not (isinstance(domain, str) and _DOMAIN.fullmatch(domain)):
            raise ConfigurationError(f"domain={self.domain!r}: give a host name such as 'example.com'")

    def begun(self, now: int, *, secure: bool) -> "Cookie":
        """The cookie of a session that begins at `now`, by a request that came over HTTPS if `secure` (semantics 3.3)."""
        given: dict[str, Any] = {"secure": self.secure, "httpOnly": self.http_only, "path": self.path}
        if self.secure == "auto":
            given["secure"] = secure
        given["sameSite"] = ("none" if secure else "lax") if self.same_site == "auto" else self.same_site
        given |= {"domain": self.domain, "partitioned": self.partitioned, "priority": self.priority}
        cookie = Cookie({key: value for key, value in given.items() if value is not None or key == "path"})
        if self.expires is not None:
            cookie.set_expires(_milliseconds(self.expires), now)
        else:
            cookie.set_max_age(self.max_age, now)
        return cookie


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and -_LATEST < value < _LATEST  # type: ignore[operator]  # a number by now


class Cookie:
    """A session's cookie: `session.cookie`. Its lifetime in milliseconds, and where it goes."""

    __slots__ = ("_clock", "attributes", "changed", "expires_at", "extra", "original_max_age")

    def __init__(self, attributes: dict[str, Any]) -> None:
        self.attributes = attributes
        """secure, httpOnly, path, domain, sameSite, partitioned, priority: those that are defined, in JavaScript's spelling."""
        self.original_max_age: float | None = None
        self.expires_at: int | None = None
        """Milliseconds since the epoch; None: when the browser closes."""
        self.extra: dict[str, Any] = {}
        self.changed = False
        """Whether the handler changed it."""
        self._clock: Callable[[], int] | None = None

    @classmethod
    def loaded(cls, body: object) -> "Cookie":
        """From the body of a session (semantics 6.3, 8.3). Raises CorruptRecord for what is no cookie."""
        if type(body) is not dict:
            raise CorruptRecord("the session's body has no cookie")
        cookie = cls(
            {key: body[key] for key in _ORDER if key in body and key not in ("originalMaxAge", "expires")}
        )
        age, expires = body.get("originalMaxAge"), body.get("expires")
        if age is not None and not _is_number(age):
            raise CorruptRecord("originalMaxAge is no number")
        cookie.original_max_age = age
        cookie.expires_at = _read(expires)
        cookie.extra = {key: value for key, value in body.items() if key not in _ORDER}
        return cookie

    def dump(self) -> dict[str, Any]:
        """As it stands in the body: the order is Node's."""
        known = {
            **self.attributes,
            "originalMaxAge": self.original_max_age,
            "expires": None if self.expires_at is None else _iso(self.expires_at),
        }
        return {key: known[key] for key in _ORDER if key in known} | self.extra

    # ---- lifetime

    def set_max_age(self, value: float | None, now: int) -> None:
        """`maxAge = value` at `now` (semantics 6.1)."""
        self.set_expires(None if value is None else int(now + value), now)

    def set_expires(self, at: int | None, now: int) -> None:
        """`expires = at` at `now`, milliseconds since the epoch."""
        at = None if at is None else min(max(at, _FIRST), _LAST)
        self.expires_at, self.original_max_age = at, None if at is None else at - now

    def touch(self, now: int) -> None:
        """Count its lifetime anew from `now` (semantics 6.4)."""
        self.set_max_age(self.original_max_age, now)

    def believe(self, mark: float | None, now: int) -> None:
        """End when the store's own mark says, in seconds since the epoch (None: it does not say), of what lives at `now`.

        A touch leaves the body's end behind, and what is written with that may be over (wire formats 1.6). Less than a second
        apart is the store's rounding.
        """
        if self.expires_at is None:
            return
        if mark is None:
            if self.expires_at <= now:
                self.touch(now)
        elif self.expires_at <= now or mark * 1000 - self.expires_at >= 1000:
            self.expires_at = min(int(mark * 1000), _LAST)

    @property
    def max_age(self) -> float | None:
        """Milliseconds that are left, counting down; None: until the browser closes. Set it to milliseconds or a timedelta."""
        return None if self.expires_at is None else self.expires_at - self._now()

    @max_age.setter
    def max_age(self, value: float | timedelta | None) -> None:
        if isinstance(value, timedelta):
            value = value / timedelta(milliseconds=1)
        if value is not None and not _is_number(value):
            raise UsageError(f"session.cookie.max_age = {value!r}: give milliseconds, a timedelta or None")
        self.set_max_age(value, self._now())
        self.changed = True

    @property
    def expires(self) -> datetime | None:
        """When it expires; None: when the browser closes. Set it to a datetime with a time zone, or None."""
        return None if self.expires_at is None else _EPOCH + timedelta(milliseconds=self.expires_at)

    @expires.setter
    def expires(self, value: datetime | None) -> None:
        given: object = value
        if given is not None and not (isinstance(given, datetime) and given.utcoffset() is not None):
            raise UsageError(f"session.cookie.expires = {value!r}: give a datetime with a time zone, or None")
        self.set_expires(None if value is None else _milliseconds(value), self._now())
        self.changed = True

    def tell_time(self, clock: Callable[[], int]) -> None:
        """Where its properties have the time from."""
        self._clock = clock

    def _now(self) -> int:
        assert self._clock is not None
        return self._clock()

    # ---- where it goes

    def _attribute(self, name: str) -> Any:
        return self.attributes.get(name)

    def _assign(self, name: str, value: Any) -> None:
        if value is not None and (
            type(value) not in (bool, str) or Cookie({name: value}).header("", "") is None
        ):
            said = {"httpOnly": "http_only", "sameSite": "same_site"}.get(name, name)
            raise UsageError(f"session.cookie.{said} = {value!r}: give what CookieOptions({said}=…) takes")
        self.changed = True
        if value is None:
            self.attributes.pop(name, None)
        else:
            self.attributes[name] = value

    @property
    def path(self) -> str | None:
        """The path that the browser sends it for."""
        found: str | None = self._attribute("path")
        return found

    @path.setter
    def path(self, value: str | None) -> None:
        self._assign("path", value)

    @property
    def secure(self) -> bool:
        """Whether it is sent over HTTPS only."""
        return bool(self._attribute("secure"))

    @secure.setter
    def secure(self, value: bool) -> None:
        self._assign("secure", value)

    @property
    def http_only(self) -> bool:
        """Whether scripts in the page cannot read it."""
        return bool(self._attribute("httpOnly"))

    @http_only.setter
    def http_only(self, value: bool) -> None:
        self._assign("httpOnly", value)

    @property
    def same_site(self) -> SameSite | None:
        """Which requests from other sites bring it."""
        found: SameSite | None = self._attribute("sameSite")
        return found

    @same_site.setter
    def same_site(self, value: SameSite | None) -> None:
        self._assign("sameSite", value)

    @property
    def domain(self) -> str | None:
        """The domain that it is for; None: this host alone."""
        found: str | None = self._attribute("domain")
        return found

    @domain.setter
    def domain(self, value: str | None) -> None:
        self._assign("domain", value)

    def __repr__(self) -> str:
        return f"<Cookie {self.dump()}>"

    def header(self, name: str, value: str) -> str | None:
        """The Set-Cookie value; None where an attribute is none, as other writers may leave them (semantics 2.3, 2.5).

        The order is that of Node's package cookie: Domain, Path, Expires, HttpOnly, Secure, Partitioned, Priority, SameSite.
        """
        given = self.attributes.get
        parts = [f"{name}={value}"]
        if domain := given("domain"):
            if not (isinstance(domain, str) and _DOMAIN.fullmatch(domain)):
                return None
            parts.append(f"Domain={domain}")
        if path := given("path"):
            if not (isinstance(path, str) and _PLAIN.fullmatch(path)):
                return None
            parts.append(f"Path={path}")
        if self.expires_at is not None:
            parts.append(f"Expires={_http_date(self.expires_at)}")
        parts += [
            word
            for key, word in (("httpOnly", "HttpOnly"), ("secure", "Secure"), ("partitioned", "Partitioned"))
            if given(key)
        ]
        return _with_words(parts, given("priority"), given("sameSite"))


def _with_words(parts: list[str], priority: object, same_site: object) -> str | None:
    for word, value, known in (("Priority", priority, _PRIORITY), ("SameSite", same_site, _SAME_SITE)):
        if not value:
            continue
        told = _of(known, value)
        if told is None:
            return None
        parts.append(f"{word}={told}")
    return "; ".join(parts)


def _of(known: Mapping[Any, str], value: object) -> str | None:
    if isinstance(value, str):
        return known.get(value.lower())
    return known.get(True) if value is True else None


def _milliseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(milliseconds=1)


def _iso(at: int) -> str:
    """As Date.prototype.toJSON has it."""
    return (_EPOCH + timedelta(milliseconds=at)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _http_date(at: int) -> str:
    """As Date.prototype.toUTCString has it: whole seconds, cut."""
    return format_datetime(_EPOCH + timedelta(seconds=at // 1000), usegmt=True)


def _read(expires: object) -> int | None:
    """Milliseconds since the epoch. Raises CorruptRecord for what is no date."""
    if expires is None or expires is False:
        return None
    if type(expires) is str:
        if far := _FAR.fullmatch(expires):
            return _LAST if far[1] == "+" else _FIRST
        try:
            at = datetime.fromisoformat(expires)
        except ValueError:
            raise CorruptRecord("cookie.expires is no date") from None
        return _milliseconds(at if at.tzinfo else at.replace(tzinfo=UTC))
    raise CorruptRecord("cookie.expires is no date")
