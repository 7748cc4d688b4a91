"""What `django.core.signing` signs, verified without Django: an application that came from it need not keep it installed.

    [.]base64(data) : base62(seconds) : base64(HMAC-SHA256)        "." where the data are compressed

The key of the HMAC is SHA-256 of the salt, "signer" and SECRET_KEY, as in Django's `salted_hmac`.
"""

import binascii
import hmac
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from coatcheck.adoption._timed import Signed
from coatcheck.core.adoption import Refused

__all__ = ["DjangoSigner", "unpacked"]

_BASE62: Final = {
    letter: value
    for value, letter in enumerate("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
}


class DjangoSigner:
    """Knows what one of these keys signed under this salt."""

    def __init__(self, keys: Sequence[bytes], salt: str) -> None:
        self._keys = [sha256(salt.encode() + b"signer" + key).digest() for key in keys]

    def opened(self, text: str) -> Signed | None:
        """What was signed, and when; None if it is not genuine."""
        signed, colon, mac = text.rpartition(":")
        if not colon or not mac.isascii() or not any(self._is_by(key, signed, mac) for key in self._keys):
            return None
        value, colon, at = signed.rpartition(":")
        return Signed(value.encode(), _seconds(at), text) if colon and _is_time(at) else None

    @staticmethod
    def _is_by(key: bytes, signed: str, mac: str) -> bool:
        ours = urlsafe_b64encode(hmac.digest(key, signed.encode(), "sha256")).rstrip(b"=")
        return hmac.compare_digest(ours, mac.encode())

    def __repr__(self) -> str:
        return "<DjangoSigner>"


def unpacked(value: bytes) -> bytes | Refused:
    """The data in what was signed."""
    packed = value.startswith(b".")
    text = value[packed:]
    try:
        data = urlsafe_b64decode(text + b"=" * (-len(text) % 4))
        return zlib.decompress(data) if packed else data
    except (binascii.Error, ValueError, zlib.error):
        return Refused("what it holds is not base64 of what Django writes")


def _is_time(text: str) -> bool:
    return 0 < len(text) <= 11 and all(letter in _BASE62 for letter in text)


def _seconds(text: str) -> float:
    total = 0
    for letter in text:
        total = total * 62 + _BASE62[letter]
    return float(total)
