"""The value of express-session's cookie: `s:` + id + `.` + signature, percent-encoded (semantics 1.4, 2.1). Pure."""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from coatcheck.errors import ConfigurationError, WeakSecret

__all__ = ["Secrets", "find"]

_UNESCAPED: Final = "-_.!~*'()"
"""What encodeURIComponent leaves as it is, beside letters and digits."""
_LONGEST: Final = 4096
"""No browser sends a longer cookie (RFC 6265bis section 5.6), so neither is one of ours."""


class Secrets:
    """The secrets of the Express application: the first signs, all verify."""

    def __init__(self, secret: str | bytes | Sequence[str | bytes]) -> None:
        """Raises WeakSecret for none, and ConfigurationError for what is no secret."""
        given = [secret] if isinstance(secret, (str, bytes)) else secret
        if not isinstance(given, Sequence):
            raise ConfigurationError(
                "secret=…: give the secret of the Express application as text, or several in a list"
            )
        if not given:
            raise WeakSecret("secret=[]: give at least one secret: the first signs, all verify")
        self._keys = tuple(_key(one) for one in given)

    def __repr__(self) -> str:
        return f"<{len(self._keys)} secrets>"

    def sign(self, sid: str) -> str:
        """The cookie's value for an id, as it stands in the header."""
        return quote(f"s:{sid}.{_mac(self._keys[0], sid)}", safe=_UNESCAPED)

    def verify(self, value: bytes) -> str | None:
        """The id in a cookie's value; None for anything that none of the secrets has signed."""
        text = _unescaped(value)
        if text is None or not text.startswith("s:"):
            return None
        sid, dot, _ = text[2:].rpartition(".")
        if not dot or not sid:
            return None
        signed = text[2:].encode("utf-8")
        matches = [hmac.compare_digest(f"{sid}.{_mac(key, sid)}".encode(), signed) for key in self._keys]
        return sid if any(matches) else None


def _key(secret: object) -> bytes:
    if not isinstance(secret, (str, bytes)):
        raise ConfigurationError(f"secret=…: a {type(secret).__name__} is no secret: give text or bytes")
    if not secret:
        raise WeakSecret(
            "secret='': with an empty secret anybody can sign: give the one of the Express application"
        )
    return secret.encode("utf-8") if isinstance(secret, str) else secret


def _mac(key: bytes, sid: str) -> str:
    """cookie-signature's: base64 of HMAC-SHA-256, of the standard alphabet, without padding."""
    mac = hmac.digest(key, sid.encode("utf-8"), hashlib.sha256)
    return base64.b64encode(mac).decode("ascii").rstrip("=")


def _unescaped(value: bytes) -> str | None:
    """decodeURIComponent, or the value as it is where that would throw. None for what cannot be ours."""
    if len(value) > _LONGEST:
        return None
    raw = unquote_to_bytes(value) if _is_escaped(value) else value
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _is_escaped(value: bytes) -> bool:
    """Whether every % begins an escape: JavaScript leaves the whole value alone if one does not."""
    parts = value.split(b"%")[1:]
    return bool(parts) and all(len(part) >= 2 and _is_hex(part[:2]) for part in parts)


def _is_hex(pair: bytes) -> bool:
    return all(octet in b"0123456789abcdefABCDEF" for octet in pair)


def find(header: bytes, name: bytes) -> bytes | None:
    """The value of the first cookie of this name (semantics 1.4); one pair of quotes around it is taken off."""
    for pair in header.split(b";"):
        key, equals, value = pair.partition(b"=")
        if equals and key.strip(b" \t") == name:
            value = value.strip(b" \t")
            return value[1:-1] if len(value) > 1 and value[:1] == value[-1:] == b'"' else value
    return None
