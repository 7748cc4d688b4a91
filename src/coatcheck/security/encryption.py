"""Envelopes: octets that nobody reads or changes without a secret of ours. AES-256-GCM (NIST SP 800-38D).

    1 version   4 key id   16 salt   12 nonce   ciphertext   16 tag

**Every envelope has a key of its own**: HKDF-Expand (RFC 5869 section 2.3) of the purpose's key and 128 random bits, the salt.
GCM allows 2**32 messages under one key with random nonces (SP 800-38D section 8.3), and nothing at all where a nonce comes twice;
a counter of messages would have to be shared by every process that seals. So no key seals twice, there is nothing to count, and
what would have to collide is 224 random bits (checklist 22, 24).

The key id names a key of the ring, or nothing. Whatever it says, one key is tried, once: an envelope that is none of ours costs
the same whatever is wrong with it, and is refused with one error (checklist 14, 16). The header and what the caller binds are
authenticated too: purpose, cookie name or record key, so that nothing sealed in one place opens in another (17, 126). Nothing is
compressed: the length of a secret beside a visitor's own text would give it away (25).
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, NoReturn

from coatcheck.core.signing import Hmac, Secret, derive_key, key_rings
from coatcheck.errors import BadSignature, ConfigurationError, WeakSecret

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
except ImportError as error:
    raise ConfigurationError(
        f'encryption needs a library that is not installed ({error}): pip install "coatcheck[encryption]"'
    ) from error

__all__ = ["OVERHEAD", "Envelopes", "Opened", "bind", "envelopes"]

_VERSION: Final = b"\x01"
_ID, _SALT, _NONCE, _TAG = 4, 16, 12, 16
_SALT_AT: Final = len(_VERSION) + _ID
_NONCE_AT: Final = _SALT_AT + _SALT
_HEAD: Final = _NONCE_AT + _NONCE
OVERHEAD: Final = _HEAD + _TAG
"""Octets that an envelope has more than what is in it."""


class Opened(NamedTuple):
    """What was in an envelope."""

    plaintext: bytes
    older: bool
    """Sealed with an older key of the ring: seal it again with the newest."""

    def __repr__(self) -> str:
        """Without the contents (checklist 21)."""
        return f"<Opened {len(self.plaintext)} octets{', older' if self.older else ''}>"


class Envelopes:
    """Seals with the first of its keys and opens with all of them; made for one purpose.

    `secrets` have been through `normalise`; `purpose` names what is sealed. Raises WeakSecret without a secret.
    """

    __slots__ = ("_first", "_ids", "_keys")

    def __init__(self, secrets: Sequence[bytes], *, purpose: str) -> None:
        if not secrets or not all(secrets):
            raise WeakSecret("a key ring without a secret: run `coatcheck secret` and use what it prints")
        self._ids = [derive_key(secret, f"{purpose}: key id", _ID) for secret in secrets]
        if len(set(self._ids)) != len(self._ids):
            raise ConfigurationError("two of the secrets have the same key id by chance: choose another one")
        self._keys = {
            id_: Hmac(derive_key(secret, f"{purpose}: sealing"))
            for id_, secret in zip(self._ids, secrets, strict=True)
        }
        self._first = self._keys[self._ids[0]]

    def seal(self, plaintext: bytes, *, bound: bytes) -> bytes:
        """An envelope under the newest key. It opens only where the same `bound` is given."""
        head = b"".join((_VERSION, self._ids[0], os.urandom(_SALT + _NONCE)))
        key = AESGCM(_key_of(self._first, head))
        return head + key.encrypt(head[_NONCE_AT:], plaintext, head + bound)

    def open(self, envelope: bytes, *, bound: bytes) -> Opened:
        """What is in an envelope. Raises BadSignature, and nothing else, for anything that is none of ours."""
        head = envelope[:_HEAD]
        if len(envelope) < OVERHEAD or head[:1] != _VERSION:
            raise BadSignature
        id_ = head[1:_SALT_AT]
        key = AESGCM(_key_of(self._keys.get(id_, self._first), head))
        try:
            plaintext = key.decrypt(head[_NONCE_AT:], envelope[_HEAD:], head + bound)
        except InvalidTag:
            raise BadSignature from None
        return Opened(plaintext, id_ != self._ids[0])

    def is_newest(self, envelope: bytes) -> bool:
        """Whether the envelope says of itself that the newest key sealed it."""
        return envelope[:_SALT_AT] == _VERSION + self._ids[0]

    def at(self, now: float) -> "Envelopes":
        """Itself: so that one that never changes and one whose secrets are read again are used alike."""
        return self

    def __repr__(self) -> str:
        return f"<Envelopes of {len(self._keys)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key ring is not to be pickled: it would write the keys down")


def envelopes(
    secret: Secret,
    *,
    purpose: str,
    insecure_dev: bool = False,
    on_error: Callable[[Exception], None] | None = None,
) -> Callable[[float], Envelopes]:
    """What gives the envelopes of a purpose at a time (seconds since the epoch): a secret in a file is read again.

    Raises WeakSecret or ConfigurationError for a `secret` that is none.
    """
    made: Any = key_rings(secret, insecure_dev=insecure_dev, on_error=on_error, kind=Envelopes)(purpose)
    at: Callable[[float], Envelopes] = made.at
    return at


def bind(*words: str) -> bytes:
    """Words as one value to bind an envelope to. Each goes with its length, so that none can pass for a part of another."""
    encoded = [word.encode("utf-8", "surrogatepass") for word in words]
    return b"".join(len(word).to_bytes(4, "big") + word for word in encoded)


def _key_of(purpose_key: Hmac, head: bytes) -> bytes:
    """HKDF-Expand of 32 octets: T(1) = HMAC(key, info || 0x01)."""
    return purpose_key.digest(b"envelope " + head[_SALT_AT:_NONCE_AT] + b"\x01")
