"""Compact JWS (RFC 7515 section 7.1): sign a payload, and give the payload of a token that one of our keys signed.

Exact and small. Everything that has gone wrong in other libraries is refused before it can matter: the key is chosen by its name
and brings its algorithm with it, so a token chooses neither; nothing is decoded before its size and alphabet are known, and no
claim is read before the signature is verified (RFC 8725bis; checklist 129-145).
"""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from coatcheck.errors import ConfigurationError, InvalidToken
from coatcheck.tokens import base64url
from coatcheck.tokens.algorithms import ALGORITHMS
from coatcheck.tokens.keys import Key, KeyRing
from coatcheck.tokens.strict_json import strict_object

__all__ = [
    "MAX_LENGTH",
    "REFUSED",
    "Header",
    "Verified",
    "prefix",
    "sign",
    "sign_under",
    "taken_apart",
    "verify",
]

MAX_LENGTH: Final = 8192
"""Characters a token may have: what servers accept of a header field (checklist 144)."""
_COMPACT: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)\.([A-Za-z0-9_-]+)")
REFUSED: Final = ("crit", "b64", "zip", "enc")
"""Header members that change what a token means: we understand none, and RFC 7515 section 4.1.11 lets nobody ignore `crit`."""
_HEADERS_KEPT: Final = 64


class Header(NamedTuple):
    """What a token's header says, as far as it is believed."""

    key: Key
    typ: str | None
    """In lower case, without `application/` (RFC 7515 section 4.1.9)."""


class Verified(NamedTuple):
    """A genuine token."""

    payload: bytes
    header: Header


def sign(key: Key, payload: bytes, *, typ: str | None = None, header: Mapping[str, Any] | None = None) -> str:
    """A token over this payload. `header` is for members that a profile asks for; alg, kid and typ are ours to say.

    Raises UsageError if the key only verifies, ConfigurationError for a header that this module itself would refuse.
    """
    return sign_under(prefix(key, typ=typ, header=header), key, payload)


def prefix(key: Key, *, typ: str | None = None, header: Mapping[str, Any] | None = None) -> str:
    """The first part of a token, with its dot: the same for every token of a key, so it is worth keeping."""
    more = dict(header or {})
    if wrong := {"alg", "kid", "typ", *REFUSED} & more.keys():
        raise ConfigurationError(f"header: {', '.join(sorted(wrong))} cannot be set")
    members = {"alg": key.alg, "kid": key.kid, **({} if typ is None else {"typ": typ}), **more}
    return base64url.encode(msgspec.json.encode(members)) + "."


def sign_under(start: str, key: Key, payload: bytes) -> str:
    """A token that begins with this `prefix`."""
    text = start + base64url.encode(payload)
    return f"{text}.{base64url.encode(key.primitive.sign(text.encode('ascii')))}"


def verify(token: str, ring: KeyRing, *, now: float, max_length: int = MAX_LENGTH) -> Verified:
    """The payload and header of a token that a key of the ring signed. `now` is in seconds since the epoch.

    Raises InvalidToken, and nothing else whatever is passed.
    """
    head, body, mac = taken_apart(token, max_length)
    header = ring.seen.get(head)
    known = header is not None
    if header is None:
        header = _header(head, ring)
    key = header.key
    if key.ends_at is not None and now >= key.ends_at:
        raise InvalidToken("unknown_key")
    try:
        signature, payload = base64url.decode(mac), base64url.decode(body)
    except ValueError:
        raise InvalidToken("malformed") from None
    if not key.primitive.verify(token[: -len(mac) - 1].encode("ascii"), signature):
        raise InvalidToken("signature")
    if not known:
        _remember(ring, head, header)
    return Verified(payload, header)


def taken_apart(token: object, max_length: int) -> tuple[str | Any, ...]:
    """The three parts of a token, of the alphabet of base64url, and not decoded yet. Raises InvalidToken."""
    if type(token) is not str:
        raise InvalidToken("malformed")
    if len(token) > max_length:
        raise InvalidToken("too_large")
    parts = _COMPACT.fullmatch(token)
    if parts is None:
        raise InvalidToken("malformed")
    return parts.groups()


def _header(text: str, ring: KeyRing) -> Header:
    try:
        members = strict_object(base64url.decode(text))
    except ValueError:
        raise InvalidToken("malformed") from None
    if any(name in members for name in REFUSED):
        raise InvalidToken("header")
    kid, typ = members.get("kid"), members.get("typ")
    if ("kid" in members and type(kid) is not str) or ("typ" in members and type(typ) is not str):
        raise InvalidToken("malformed")
    key = ring.find(kid)
    if key is None:
        raise InvalidToken("unknown_key")
    alg = members.get("alg")
    if type(alg) is not str or alg not in ALGORITHMS[key.alg].names:
        raise InvalidToken("algorithm")
    return Header(key, None if typ is None else typ.lower().removeprefix("application/"))


def _remember(ring: KeyRing, text: str, header: Header) -> None:
    """Only headers of genuine tokens are kept, so nobody else can fill the memory; ours are one a key and type."""
    if len(ring.seen) >= _HEADERS_KEPT:
        ring.seen.clear()
    ring.seen[text] = header
