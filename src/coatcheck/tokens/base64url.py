"""Base64url without padding (RFC 7515 section 2), one spelling for each value."""

from binascii import a2b_base64, b2a_base64
from typing import Final

__all__ = ["decode", "encode"]

_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
_FROM_URL: Final = bytes.maketrans(b"-_", b"+/")
_ENDS: Final = {2: frozenset("AQgw"), 3: frozenset("AEIMQUYcgkosw048")}
"""What the last character may be, by length modulo 4: the bits that encode nothing are zero (checklist 142)."""
_PADDING: Final = {0: b"", 2: b"==", 3: b"="}


def encode(data: bytes) -> str:
    """The text of these bytes, without padding."""
    return b2a_base64(data, newline=False).translate(_TO_URL, b"=").decode("ascii")


def decode(text: str) -> bytes:
    """The bytes of a text whose characters are of the alphabet. Raises ValueError for any spelling but the one of `encode`."""
    rest = len(text) & 3
    if rest and (rest == 1 or text[-1] not in _ENDS[rest]):
        raise ValueError("not base64url")
    return a2b_base64(text.encode("ascii").translate(_FROM_URL) + _PADDING[rest])
