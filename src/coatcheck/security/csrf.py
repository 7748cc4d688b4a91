"""Cross-site request forgery: which requests that change something are believed to come from our own pages. Pure.

The proofs, in the order they are asked for (OWASP CSRF Prevention Cheat Sheet; checklist 91-104):

1.  Fetch Metadata. `Sec-Fetch-Site` is written by the browser and out of reach of scripts, needs no configuration and no session.
2.  `Origin`, then `Referer`, against configured origins. The `Host` of the request is never what they are compared with (94): it
    is as much the sender's word as they are. With one exception, for development: a page of `http://localhost:8000` may call
    `Host: localhost:8000`, over plain HTTP, since nobody else can be that host.
3.  A token that only a page of ours can show: HMAC over who the session is, masked anew for each page.

No proof is a refusal, also for a visitor without a session: signing a victim in to the attacker's account is a forgery too
(102). What is let through unproved is what no browser sends on its own: a bearer token, with no cookie of ours beside it. An
application that scripts are to use with a cookie jar, as they use its JSON, can let those through as well: `allow_non_browsers`.
"""

import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from coatcheck.core.signing import MAC_CHARS, KeyRing
from coatcheck.errors import BadSignature, ConfigurationError
from coatcheck.security.origins import check_origins, origin_of

__all__ = [
    "NON_BROWSERS",
    "OVERRIDES",
    "SAFE",
    "Asked",
    "Finding",
    "Rules",
    "Verdict",
    "form_name",
    "is_genuine",
    "made_token",
]

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that change nothing (RFC 9110 section 9.2.1), compared with regard to case, as servers do."""
OVERRIDES: Final = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
"""Headers that ask for another method than the request's own."""
_OURS: Final = frozenset({"same-origin", "none"})
_FOREIGN: Final = frozenset({"cross-site", "same-site"})
_UNSENT: Final = frozenset({"bearer", "dpop"})
"""Schemes of `Authorization` that a browser never adds by itself. Basic, Digest and Negotiate it does."""
NON_BROWSERS: Final = "every path, for what is no browser (allow_non_browsers)"
"""What `allow_non_browsers` exempts, as an inventory says it."""


class Verdict(Enum):
    """What the headers prove."""

    SAFE = "safe"
    """Nothing is changed by it, so nothing has to be proved."""
    PROVED = "proved"
    TOKEN = "token"
    """They prove nothing: a token has to."""
    REFUSED = "refused"


class Finding(NamedTuple):
    """A verdict, and why: for the operator's log."""

    verdict: Verdict
    reason: str = ""


class Asked(NamedTuple):
    """What there is to know of a request. Of headers, every field of that name, as text."""

    method: str
    path: str
    """As the browser sees it, decoded."""
    query: str = ""
    site: Sequence[str] = ()
    """Sec-Fetch-Site."""
    origin: Sequence[str] = ()
    referer: Sequence[str] = ()
    authorization: Sequence[str] = ()
    accept: Sequence[str] = ()
    overrides: bool = False
    """Whether a header asks for another method than the request's own."""
    has_cookie: bool = False
    """Whether a cookie of ours came, genuine or not."""
    loopback: str | None = None
    """The origin of the application itself, where plain HTTP came over the loopback interface."""
    websocket: bool = False


_PATH: Final = re.compile(r"/[^*?]*(?:/\*)?")
_SAFE: Final = Finding(Verdict.SAFE)


class Rules:
    """The rules under one configuration.

    trusted_origins  whose pages may send requests that change something: the application's own origins, for browsers without
                     Fetch Metadata, and other sites that you share it with
    exempt           paths that need no proof, since what calls them is no browser: "/hooks/pay", or "/hooks/*" for all below
    same_site        believe `Sec-Fetch-Site: same-site` too: every host of your domain, whoever runs it
    per_form         accept a token only at the form that it was made for
    allow_http       allow plain http origins besides those of this machine
    allow_non_browsers
                     let pass what bears no mark of a browser: no `Sec-Fetch-Site`, `Origin` or `Referer`, and no `Accept` of HTML

    Raises ConfigurationError.
    """

    def __init__(
        self,
        *,
        trusted_origins: Iterable[str] = (),
        exempt: Iterable[str] = (),
        same_site: bool = False,
        per_form: bool = False,
        allow_http: bool = False,
        allow_non_browsers: bool = False,
    ) -> None:
        for name, value in (
            ("same_site", same_site),
            ("per_form", per_form),
            ("allow_http", allow_http),
            ("allow_non_browsers", allow_non_browsers),
        ):
            if not isinstance(value, bool):
                raise ConfigurationError(f"{name}={value!r}: give True or False")
        self.trusted = check_origins(trusted_origins, setting="trusted_origins", allow_http=allow_http)
        self.exempt = _paths(exempt)
        self.same_site, self.per_form = same_site, per_form
        self.allow_non_browsers = allow_non_browsers

    @property
    def unproved(self) -> tuple[str, ...]:
        """Everything that passes without a proof: for an inventory (checklist 104)."""
        return (*self.exempt, NON_BROWSERS) if self.allow_non_browsers else self.exempt

    def judge(self, asked: Asked) -> Finding:
        """What the headers of this request prove."""
        if not _changes_something(asked):
            return _SAFE
        if self.is_exempt(asked.path):
            return Finding(Verdict.PROVED, "exempt")
        if not asked.has_cookie and _is_no_browser(asked):
            return Finding(Verdict.PROVED, "no cookie of ours")
        if len(asked.origin) > 1 or any("," in origin for origin in asked.origin):
            return Finding(Verdict.REFUSED, "several Origin headers")
        site = asked.site[0].strip() if len(asked.site) == 1 else ""
        if site in _OURS:
            return Finding(Verdict.PROVED, f"Sec-Fetch-Site: {site}")
        if site in _FOREIGN:
            return self._from_elsewhere(site, asked)
        return self._by_origin(asked)

    def is_exempt(self, path: str) -> bool:
        """Whether this path needs no proof."""
        if path in self.exempt:
            return True
        if "/../" in f"{path}/":
            return False  # who knows where that leads
        return any(rule.endswith("/*") and path.startswith(rule[:-1]) for rule in self.exempt)

    def _from_elsewhere(self, site: str, asked: Asked) -> Finding:
        if asked.origin and asked.origin[0] in self.trusted:
            return Finding(Verdict.PROVED, "trusted origin")
        if site == "same-site" and self.same_site:
            return Finding(Verdict.PROVED, "same site")
        named = f" from {asked.origin[0][:100]!r}" if asked.origin else ""
        return Finding(Verdict.REFUSED, f"Sec-Fetch-Site: {site}{named}")

    def _by_origin(self, asked: Asked) -> Finding:
        if asked.origin:
            return self._compared("Origin", asked.origin[0], asked.origin[0], asked.loopback)
        if len(asked.referer) == 1:
            origin = origin_of(asked.referer[0])
            return self._compared("Referer", origin, asked.referer[0], asked.loopback)
        if self.allow_non_browsers and _is_unmarked(asked):
            return Finding(Verdict.PROVED, "no mark of a browser")
        return Finding(Verdict.TOKEN, "neither Sec-Fetch-Site nor Origin nor Referer")

    def _compared(self, field: str, origin: str | None, shown: str, loopback: str | None) -> Finding:
        if origin in self.trusted or (loopback is not None and origin == loopback):
            return Finding(Verdict.PROVED, f"trusted {field}")
        reason = f"{field}: {shown[:100]!r} is not among trusted_origins"
        if origin_of(shown) is None or self.trusted or loopback is not None:
            return Finding(Verdict.REFUSED, reason)
        return Finding(Verdict.TOKEN, reason)


def _changes_something(asked: Asked) -> bool:
    """An override counts as a change whatever it names, and whatever method is left of it: whoever carries it out may stand
    outside of us or inside (checklist 101).
    """
    if asked.websocket or asked.method not in SAFE or asked.overrides:
        return True
    return any(unquote(pair.partition("=")[0]) == "_method" for pair in asked.query.split("&"))


def _is_no_browser(asked: Asked) -> bool:
    """Whether no browser would have sent this on its own: nobody's cookie, and nobody's session to be had by it."""
    if asked.websocket and not (asked.origin or asked.site):
        return True
    if len(asked.authorization) != 1:
        return False
    scheme, _, credentials = asked.authorization[0].partition(" ")
    return scheme.lower() in _UNSENT and bool(credentials.strip())


def _is_unmarked(asked: Asked) -> bool:
    """Whether nothing here says that a browser sent it. Go's `http.CrossOriginProtection` asks for the first two headers alone:
    browsers since 2020 put one of them on everything that is neither GET nor HEAD. Ones from before put neither on a form that
    another site sends; but what a form leads to is a page, so they ask for HTML. A picture, which asks for none, can only be a
    GET: so GET is never let through here, whatever method it says that it stands for.
    """
    if asked.method in SAFE or asked.site or asked.origin or asked.referer:
        return False
    return not any("text/html" in accepted.lower() for accepted in asked.accept)


def _paths(given: Iterable[str]) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ConfigurationError(f'exempt={given!r}: give a list of paths, such as exempt=["/hooks/pay"]')
    paths = tuple(given)
    listed: tuple[object, ...] = paths
    for path in listed:
        if path == "/*":
            raise ConfigurationError('exempt: "/*" would protect nothing: leave the middleware out instead')
        if not isinstance(path, str) or not _PATH.fullmatch(path):
            raise ConfigurationError(
                f'exempt: {path!r}: give a path as the browser sees it, "/hooks/pay", or "/hooks/*" for all below'
            )
    return paths


# ------------------------------------------------------------------------------------------------------------- tokens

_MASK: Final = MAC_CHARS * 3 // 4
"""Octets of a MAC, and of the mask that hides it."""
_TOKEN: Final = re.compile(f"[A-Za-z0-9_-]{{{2 * MAC_CHARS}}}")


def form_name(form: str) -> str:
    """The form that a token is made for: a method and a path as the browser sees it. A path alone is POST's."""
    method, space, target = form.partition(" ")
    if not space:
        method, target = "POST", form
    if not target.startswith("/"):
        raise ConfigurationError(
            f'form={form!r}: give the path that the form is sent to, "/transfer" or "DELETE /item/7"'
        )
    return f"{method.upper()} {unquote(urlsplit(target).path)}"


def made_token(ring: KeyRing, whose: str, form: str = "") -> str:
    """A token for pages of `whose` session: 64 characters, others each time (BREACH, checklist 98).

    With `form`, the token of that form alone. Neither can be made from the other (97): they are MACs over different texts.
    """
    mac = urlsafe_b64decode(ring.sign(_text(whose, form)))
    mask = secrets.token_bytes(_MASK)
    return urlsafe_b64encode(mask + _xor(mac, mask)).decode("ascii")


def is_genuine(ring: KeyRing, token: str, whose: str, forms: Sequence[str] = ("",)) -> bool:
    """Whether we made this token for that session, and for one of these forms. Constant in time; never raises."""
    if _TOKEN.fullmatch(token) is None:
        return False
    masked = urlsafe_b64decode(token)
    mac = urlsafe_b64encode(_xor(masked[_MASK:], masked[:_MASK])).decode("ascii")
    found = False
    for form in forms:
        try:
            ring.verify(_text(whose, form), mac)
        except BadSignature:
            continue
        found = True
    return found


def _text(whose: str, form: str) -> str:
    """One text for one meaning: nothing of ours before the last part can hold a NUL."""
    return f"{whose}\0{form}"


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=False))
