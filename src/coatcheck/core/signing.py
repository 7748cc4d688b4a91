"""Sign a text and verify it, with keys that can be changed while cookies signed by the old ones are still about.

HMAC-SHA256 (RFC 2104), shortened to 192 bits (its section 5 allows half or more). The secrets never sign: for every purpose a key
of its own is derived from each (HKDF, RFC 5869), with the cookie's name in the purpose, so that nothing signed for one purpose or
cookie is accepted for another (checklist 17). A text carries no key id, so nothing a client sends can choose the key (16).
"""

import hmac
from binascii import b2a_base64
from collections.abc import Callable, Sequence
from enum import Enum
from hashlib import sha256
from hmac import compare_digest
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from coatcheck.core.secret import Secret, Secrets, check_secret, normalise, reader
from coatcheck.errors import BadSignature, ConfigurationError, WeakSecret

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = [
    "MAC_CHARS",
    "REREAD_EVERY",
    "KeyRing",
    "RotatingKeyRing",
    "Secret",
    "Verified",
    "check_secret",
    "derive_key",
    "key_rings",
    "normalise",
]

MAC_BYTES: Final = 24
MAC_CHARS: Final = 32
"""Characters of a signature: 24 bytes are exactly 32 of base64url, so there is one spelling of each."""

REREAD_EVERY: Final = 30.0
"""Seconds between two readings of a secret from a file or function (checklist 20)."""

_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
_INNER, _OUTER = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))


class Verified(Enum):
    """Which key a genuine text was signed with. Both members are true; what is not genuine raises (checklist 211)."""

    NEWEST = "newest"
    OLDER = "older"
    """Genuine, and to be signed again with the newest key."""


_NEWEST, _OLDER = Verified.NEWEST, Verified.OLDER


class KeyRing:
    """Signs with the first of its keys and verifies with all of them; made for one purpose.

    `secrets` have been through `normalise`; `purpose` names what is signed, and for a cookie its name: `cookie:__Host-session`.
    Raises WeakSecret if there is no secret or an empty one (checklist 19).
    """

    __slots__ = ("_keys",)

    def __init__(self, secrets: Sequence[bytes], *, purpose: str) -> None:
        if not all(type(secret) is bytes for secret in secrets):
            raise ConfigurationError(
                "a key ring takes a list of bytes: pass your secret through normalise() first"
            )
        if not secrets or not all(secrets):
            raise WeakSecret(
                "a key ring without a secret: run `coatcheck secret` and set secret to what it prints"
            )
        self._keys = tuple(Hmac(derive_key(secret, purpose)) for secret in secrets)

    def sign(self, text: str) -> str:
        """The signature of `text` under the newest key: 32 characters, A-Z a-z 0-9 - _."""
        return _mac(self._keys[0], text.encode("utf-8", "surrogatepass"))

    def verify(self, text: str, mac: str) -> Verified:
        """Which key signed `text`. Raises BadSignature, and nothing else whatever is passed, if none of ours did.

        Constant in time but for which key fits: only the length and the alphabet, which are public, are looked at before.
        """
        if type(text) is not str or type(mac) is not str or len(mac) != MAC_CHARS or not mac.isascii():
            raise BadSignature
        message = text.encode("utf-8", "surrogatepass")
        for key in self._keys:
            if compare_digest(_mac(key, message), mac):
                return _NEWEST if key is self._keys[0] else _OLDER
        raise BadSignature

    def at(self, now: float) -> "KeyRing":
        """Itself: so that one that never changes and a RotatingKeyRing are used alike."""
        return self

    def __repr__(self) -> str:
        return f"<KeyRing of {len(self._keys)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key ring is not to be pickled: it would write the keys down")


class RotatingKeyRing:
    """The KeyRing of secrets that are read again while the program runs, so that changing them needs no restart (checklist 20).

    `read` returns one secret or several, `every` is in seconds. Read at once, so that a weak secret is refused at start-up;
    later, when reading fails or gives a weak secret, the last good ones stay and `on_error` is told why. `kind` makes the ring,
    where the keys are for something else than to sign.
    """

    __slots__ = ("_every", "_insecure_dev", "_kind", "_on_error", "_purpose", "_read", "_read_at", "_ring")

    def __init__(
        self,
        read: Callable[[], Secrets],
        purpose: str,
        every: float = REREAD_EVERY,
        *,
        on_error: Callable[[Exception], None] | None = None,
        insecure_dev: bool = False,
        kind: Callable[..., Any] = KeyRing,
    ) -> None:
        self._read, self._purpose, self._every, self._kind = read, purpose, every, kind
        self._on_error, self._insecure_dev = on_error, insecure_dev
        self._read_at = nan
        self._ring = self._fresh()

    def at(self, now: float) -> KeyRing:
        """The keys at `now` (seconds since the epoch)."""
        # Written so that NaN, and a clock that was set back, read again. Two threads that both do so do no harm.
        if not self._read_at <= now < self._read_at + self._every:
            self._read_at = now
            try:
                self._ring = self._fresh()
            except Exception as error:
                if self._on_error is not None:
                    self._on_error(error)
        return self._ring

    def _fresh(self) -> KeyRing:
        secrets = normalise(self._read(), insecure_dev=self._insecure_dev)
        return self._kind(secrets, purpose=self._purpose)  # type: ignore[no-any-return]  # what `kind` makes

    def __repr__(self) -> str:
        return f"<RotatingKeyRing every {self._every:g} s>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key ring is not to be pickled: it would write the keys down")


def key_rings(
    secret: Secret,
    *,
    insecure_dev: bool = False,
    on_error: Callable[[Exception], None] | None = None,
    kind: Callable[..., Any] = KeyRing,
) -> Callable[[str], KeyRing | RotatingKeyRing]:
    """What makes the key ring of a purpose, from whatever the user gave as `secret`. It, or this, raises WeakSecret
    or ConfigurationError. `kind` makes a ring of `(secrets, purpose=…)`, where the keys are for something else than to sign.

    A function that holds the secret and not an object: it shows nothing of it, however it is printed.
    """
    if isinstance(secret, Path) or callable(secret):
        read = reader(secret)
        return lambda purpose: RotatingKeyRing(
            read, purpose, on_error=on_error, insecure_dev=insecure_dev, kind=kind
        )
    secrets = normalise(secret, insecure_dev=insecure_dev)
    return lambda purpose: kind(secrets, purpose=purpose)


def derive_key(secret: bytes, purpose: str, length: int = 32) -> bytes:
    """The key for one purpose, `length` bytes. Two purposes' keys tell nothing about each other or the secret."""
    if not purpose:
        raise ConfigurationError("a key needs a purpose: name what it is for, such as cookie:__Host-session")
    return hkdf(secret, salt=b"coatcheck v1", info=purpose.encode(), length=length)


def hkdf(secret: bytes, *, salt: bytes, info: bytes, length: int) -> bytes:
    """HKDF-SHA256 (RFC 5869 section 2). `length` is at most 8160 bytes."""
    extracted = hmac.digest(salt or bytes(32), secret, "sha256")
    block, output = b"", b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.digest(extracted, block + info + bytes([counter]), "sha256")
        output += block
    return output[:length]


class Hmac:
    """HMAC-SHA2 under one key, with both key blocks hashed beforehand (RFC 2104 section 4).

    1.8 us a verification in all; with `hmac.new(...).copy()` 2.5, with `hmac.digest` 3.2 (OpenSSL 3.0 looks the algorithm up
    every time).
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes, hashed: Callable[[bytes], "_Hash"] = sha256) -> None:
        """`hashed` is sha256, sha384 or sha512 of hashlib."""
        size = hashed(b"").block_size
        block = (hashed(key).digest() if len(key) > size else key).ljust(size, b"\0")
        self._inner, self._outer = hashed(block.translate(_INNER)), hashed(block.translate(_OUTER))

    def digest(self, message: bytes) -> bytes:
        """The MAC, as long as the hash."""
        inner = self._inner.copy()
        inner.update(message)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()


def _mac(key: Hmac, message: bytes) -> str:
    return b2a_base64(key.digest(message)[:MAC_BYTES], newline=False).translate(_URL_SAFE).decode("ascii")
