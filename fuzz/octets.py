"""Targets of nothing but octets: what a network, a browser or a stolen database hands to each of our readers.

`check(data)` raises if a promise is broken; a documented exception is none. `families` are inputs of any length that have made
readers slow, for the proof that ours take time in proportion (checklist 46, 207, 208).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from coatcheck.core.cookies import CookieSettings, find
from coatcheck.core.ids import VERIFIER_CHARS
from coatcheck.dialects.express.ports import Entry
from coatcheck.dialects.express.session import BaseSession
from coatcheck.dialects.express.signed import Secrets
from coatcheck.dialects.express.signed import find as find_first
from coatcheck.errors import BadSignature, CorruptRecord, InvalidToken
from coatcheck.exchange import Arrival, Channel, Exchange
from coatcheck.security.csrf import Asked, Rules, Verdict, is_genuine
from coatcheck.security.encryption import envelopes as envelopes_of
from coatcheck.security.origins import origin_of
from coatcheck.stores._redis_record import decoded
from coatcheck.tokens import jws
from coatcheck.tokens.access import TokenVerifier
from coatcheck.tokens.keys import Key, KeyRing
from fuzz import cookies, sealed, stored

__all__ = ["OCTETS", "Octets"]

SECRET: Final = "u3Jq8Zt1pXv5LrWc7KdYb2HnMs9GfEa4QwTzRxCoViB"
NOW: Final = 1_800_000_000.0


@dataclass(frozen=True)
class Octets:
    """One reader: what is checked, inputs by length that should take time in proportion, and the length it is measured at."""

    check: Callable[[bytes], None]
    families: Mapping[str, Callable[[int], bytes]] = field(default_factory=dict)
    size: int = 16_000


# ------------------------------------------------------------------------------------------------------------ cookies


def cookie_reader(data: bytes) -> None:
    """Finds what an obvious reader finds, under a usual name and under a nasty one."""
    for name in (b"sid", b"__Host-session"):
        cookies.check_header(cookies.Header([data], name), find)
    cookies.check_header(cookies.Header(data.split(b"\n"), b"sid"), find)


def _many(piece: bytes, before: bytes = b"", after: bytes = b"") -> Callable[[int], bytes]:
    return lambda n: before + piece * (n // len(piece)) + after


_COOKIES: Final = {
    "backslashes": _many(b"\\", b'sid="'),
    "our name": _many(b"sid=;"),
    "near our name": _many(b"xsid="),
    "empty pairs": _many(b"; "),
    "spaces": _many(b" ", b"sid=", b"x"),
    "quotes": _many(b'"', b"sid="),
}

# ------------------------------------------------------------------------------------------------------------ headers

_PLAIN: Final = Exchange(CookieSettings(), SECRET, on_event=lambda event: None)
_BEHIND: Final = Exchange(CookieSettings(), SECRET, proxy="10.0.0.0/8", on_event=lambda event: None)


def headers(data: bytes) -> None:
    """A request's headers, one a line: read, and worth nothing but what is true of them."""
    fields = [*data.split(b"\n", 6), *[b""] * 7][:7]
    scheme = "https" if fields[0][:1] == b"s" else "http"
    arrival = Arrival(
        scheme,
        cookies=fields[0],
        host=fields[1],
        path=fields[2].decode("latin-1"),
        peer=fields[3].decode("latin-1"),
        forwarded_proto=fields[4],
        forwarded_for=fields[5],
        user_agent=fields[6],
    )
    for exchange in (_PLAIN, _BEHIND):
        _, ticket, reissue = exchange.read(arrival, NOW)
        assert ticket is None
        assert reissue is False
        address, agent = exchange.client(arrival)
        assert address == "" or "/" in address
        assert len(agent) <= 256
    assert (_PLAIN.channel(arrival) is Channel.HTTPS) == (scheme == "https")
    assert isinstance(_BEHIND.covers(arrival.path), bool)


_HEADERS: Final = {
    "forwarded for": _many(b"10.0.0.1,", b"\n\n\n10.0.0.1\n\n"),
    "forwarded proto": _many(b",", b"\n\n\n10.0.0.1\n"),
    "host": _many(b"a.", b"\n"),
    "brackets": _many(b"[", b"\n"),
    "cookies": _many(b"__Host-session=;", b"s;"),
    "user agent": _many(b"a", b"\n\n\n\n\n\n"),
}

# ------------------------------------------------------------------------------------------------------------ tickets

_RING: Final = _PLAIN.keys("fuzz").at(NOW)
_GENUINE: Final = f"{'L' * 24}.{'v' * VERIFIER_CHARS}"
_MAC: Final = _RING.sign(_GENUINE)


def tickets(data: bytes) -> None:
    """A cookie's value, and a signed text: refused by BadSignature alone, unless it is the one we signed."""
    text = data.decode("utf-8", "surrogateescape")
    assert _PLAIN.opened(text, Channel.HTTPS, NOW) is None
    signed, mac = text[:-32], text[-32:]
    try:
        _RING.verify(signed, mac)
    except BadSignature:
        return
    assert (signed, mac) == (_GENUINE, _MAC)


_TICKETS: Final = {"letters": _many(b"A"), "dots": _many(b"."), "no ascii": _many(b"\xc3\xa9")}

# ------------------------------------------------------------------------------------------------------------- records


def records(data: bytes) -> None:
    """A row of Redis, and the data in a row: read, or refused as corrupt."""
    stored.check(stored.Case(data))
    try:
        decoded("key", data, NOW)
    except CorruptRecord:
        pass


_RECORDS: Final = {
    "brackets": _many(b"[", b'{"k":'),
    "braces": _many(b'{"a":', b'{"k":'),
    "digits": _many(b"9", b'{"k":', b"}"),
    "backslashes": _many(b"\\\\", b'{"k":"', b'"}'),
    "numbers": _many(b"1,", b'{"k":[', b"1]}"),
    "keys": lambda n: b"{" + b",".join(b'"%d":1' % number for number in range(n // 8)) + b"}",
    "same key": lambda n: b"{" + b",".join([b'"a":1'] * (n // 6)) + b"}",
    "tags": _many(b'{"$tuple":[1]},', b'{"k":[', b"1]}"),
}

# -------------------------------------------------------------------------------------------------------------- tokens

_KEY: Final = Key.from_secret(SECRET, kid="k")
_VERIFIER: Final = TokenVerifier(
    KeyRing([_KEY]), issuer="https://id.example", audience="api", clock=lambda: NOW
)


def tokens(data: bytes) -> None:
    """A bearer token as it comes, and one whose claims are this but whose signature is ours: InvalidToken, and nothing else."""
    for token in (data.decode("utf-8", "surrogateescape"), jws.sign(_KEY, data[:6000], typ="at+jwt")):
        try:
            claims = _VERIFIER.verify(token)
        except InvalidToken:
            continue
        assert claims.iss == "https://id.example"
        assert "api" in claims.aud


_TOKENS: Final = {
    "letters": _many(b"A"),
    "dots": _many(b"."),
    "one dot": _many(b"A", b"A."),
    "brackets": _many(b"["),
    "digits": _many(b"9", b'{"exp":', b"}"),
    "backslashes": _many(b"\\\\", b'{"sub":"', b'"}'),
}

# -------------------------------------------------------------------------------------------- cross-site requests, envelopes

_ORIGIN: Final = "https://app.example"
_RULES: Final = Rules(trusted_origins=[_ORIGIN], exempt=["/hooks/*"])
_FORMS: Final = _PLAIN.keys("csrf").at(NOW)


def csrf(data: bytes) -> None:
    """A request's own words, one a line: believed for one of the four reasons there are; and no token is genuine."""
    path, query, site, origin, referer, credentials, token = (
        field.decode("latin-1") for field in [*data.split(b"\n", 6), *[b""] * 7][:7]
    )
    asked = Asked("POST", path, query, [site], [origin], [referer], [credentials], has_cookie=path[:1] != "~")
    if _RULES.judge(asked).verdict is Verdict.PROVED:
        bearer = path[:1] == "~" and credentials.partition(" ")[0].lower() in ("bearer", "dpop")
        ours = site.strip() in ("same-origin", "none") or _ORIGIN in (origin, origin_of(referer))
        assert ours or bearer or path.startswith("/hooks/")
    assert not is_genuine(_FORMS, token, "locator.1.ada")


_CSRF: Final = {
    "path": _many(b"/.."),
    "query": _many(b"_%6Dethod=&", b"/\n"),
    "origin": _many(b"https://", b"/\n\n\n"),
    "referer": _many(b"a", b"/\n\n\n\nhttps://"),
    "token": _many(b"A", b"/\n\n\n\n\n\n"),
}


_ENVELOPES: Final = envelopes_of(SECRET, purpose="fuzz")


def envelopes(data: bytes) -> None:
    """A Cookie field and a row, none of which was ever sealed: no session, and nothing but the documented refusal."""
    assert sealed.carrier().read(data, NOW)[0] is None
    try:
        _ENVELOPES(NOW).open(data, bound=b"row")
    except BadSignature:
        return
    raise AssertionError("an envelope that we never sealed was opened")


_SEALED: Final = {
    "our name": _many(b"__Host-session=;"),
    "pieces": lambda n: b"; ".join(b"__Host-session-%d=AAAA" % at for at in range(n // 24)),
    "letters": _many(b"A", b"__Host-session="),
}

# ------------------------------------------------------------------------------------------------------------ Node's sessions

_NODE: Final = Secrets([SECRET, "another"])


def node_cookies(data: bytes) -> None:
    """A Cookie header for express-session: an id only where somebody with the secret has signed it."""
    value = find_first(data, b"connect.sid")
    sid = None if value is None else _NODE.verify(value)
    if sid is not None:
        assert _NODE.verify(_NODE.sign(sid).encode("ascii")) == sid


def _renamed(make: Callable[[int], bytes]) -> Callable[[int], bytes]:
    return lambda n: make(n).replace(b"sid=", b"connect.sid=")


def node_bodies(data: bytes) -> None:
    """A body of express-session's, as any writer may leave it: a session, or CorruptRecord; and what is read can be written."""
    session = _resumed(data)
    if session is None:
        return
    again = _resumed(session._text())
    assert again is not None
    assert dict(again) == dict(session)
    header = session.cookie.header("connect.sid", "value")
    assert header is None or not set("\r\n") & set(header)


def _resumed(body: bytes) -> BaseSession | None:
    session = BaseSession(lambda: int(NOW * 1000))
    try:
        session._resume("sid", Entry(body), resave=False)
    except CorruptRecord:
        return None
    return session


_BODIES: Final = {
    "levels": _many(b"[", b'{"cookie":{},"a":'),
    "keys": lambda n: b'{"cookie":{}' + b"".join(b',"k%d":1' % number for number in range(n // 8)) + b"}",
    "digits": _many(b"9", b'{"cookie":{},"a":0.', b"}"),
    "escapes": _many(b"\\ud800", b'{"cookie":{},"a":"', b'"}'),
}


OCTETS: Final[dict[str, Octets]] = {
    "cookie-reader": Octets(cookie_reader, _COOKIES),
    "headers": Octets(headers, _HEADERS),
    "tickets": Octets(tickets, _TICKETS),
    "records": Octets(records, _RECORDS, size=12_000),
    "tokens": Octets(tokens, _TOKENS, size=3_000),
    "csrf": Octets(csrf, _CSRF),
    "envelopes": Octets(envelopes, _SEALED),
    "node-cookies": Octets(node_cookies, {name: _renamed(make) for name, make in _COOKIES.items()}),
    "node-bodies": Octets(node_bodies, _BODIES, size=8_000),
}
"""Every reader of ours that takes octets from outside."""
