"""The signature algorithms (RFC 7518 section 3, RFC 8037, RFC 9864): for each, what it takes to sign and to verify.

One class a family over `cryptography` and `hmac`; a table of names at the end. No other algorithm exists here, so there is none
to be talked into: `none` is a name like any other that is not in the table.
"""

import hashlib
from collections.abc import Callable
from hmac import compare_digest
from typing import Any, Final, NamedTuple, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from coatcheck.core.signing import Hmac
from coatcheck.errors import ConfigurationError, UsageError, WeakSecret

__all__ = ["ALGORITHMS", "Algorithm", "Material", "Primitive", "primitive"]

Material = (
    bytes
    | ec.EllipticCurvePrivateKey
    | ec.EllipticCurvePublicKey
    | ed25519.Ed25519PrivateKey
    | ed25519.Ed25519PublicKey
    | rsa.RSAPrivateKey
    | rsa.RSAPublicKey
)
"""A key as `cryptography` knows it; bytes are for HMAC."""


class Primitive(Protocol):
    """One key under one algorithm."""

    def sign(self, message: bytes) -> bytes:
        """The signature. Raises UsageError without a private key."""

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether this is a signature of the message, whatever its length."""


class Algorithm(NamedTuple):
    """What a name of RFC 7518 stands for."""

    family: Callable[..., Primitive]
    settings: tuple[Any, ...]
    names: frozenset[str]
    """Which names a token's header may call it by: EdDSA is Ed25519 by its old name."""


class _Hmac:
    def __init__(self, key: Material, name: str, size: int) -> None:
        if not isinstance(key, bytes):
            raise ConfigurationError(f"this is no key for HS{8 * size}: give {size} random bytes or more")
        if len(key) < size:
            raise WeakSecret(
                f"an HMAC key of {len(key)} bytes: HS{8 * size} needs {size} or more (RFC 7518 section 3.2); "
                "run `coatcheck secret` and use what it prints"
            )
        self.sign = Hmac(key, getattr(hashlib, name)).digest

    def verify(self, message: bytes, signature: bytes) -> bool:
        return compare_digest(self.sign(message), signature)


class _Ecdsa:
    """Signatures are r and s, each as long as the curve's order (RFC 7518 section 3.4), not the DER of other protocols."""

    def __init__(
        self, key: Material, curve: type[ec.EllipticCurve], digest: hashes.HashAlgorithm, size: int
    ) -> None:
        if not isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey) or not isinstance(
            key.curve, curve
        ):
            raise ConfigurationError(f"this is no key on the curve {curve.name}")
        self._private = key if isinstance(key, ec.EllipticCurvePrivateKey) else None
        public = key.public_key() if isinstance(key, ec.EllipticCurvePrivateKey) else key
        self._verify, self._how, self._size = public.verify, ec.ECDSA(digest), size

    def sign(self, message: bytes) -> bytes:
        if self._private is None:
            raise _no_private_key()
        r, s = decode_dss_signature(self._private.sign(message, self._how))
        return r.to_bytes(self._size, "big") + s.to_bytes(self._size, "big")

    def verify(self, message: bytes, signature: bytes) -> bool:
        size = self._size
        if len(signature) != 2 * size:
            return False
        r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
        try:
            self._verify(encode_dss_signature(r, s), message, self._how)
        except InvalidSignature:
            return False
        return True


class _Ed25519:
    def __init__(self, key: Material) -> None:
        if not isinstance(key, ed25519.Ed25519PrivateKey | ed25519.Ed25519PublicKey):
            raise ConfigurationError("this is no Ed25519 key")
        self._private = key if isinstance(key, ed25519.Ed25519PrivateKey) else None
        self._verify = (key.public_key() if isinstance(key, ed25519.Ed25519PrivateKey) else key).verify

    def sign(self, message: bytes) -> bytes:
        if self._private is None:
            raise _no_private_key()
        return self._private.sign(message)

    def verify(self, message: bytes, signature: bytes) -> bool:
        try:
            self._verify(signature, message)
        except InvalidSignature:
            return False
        return True


class _Rsa:
    def __init__(self, key: Material, digest: hashes.HashAlgorithm, pad: padding.AsymmetricPadding) -> None:
        if not isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey):
            raise ConfigurationError("this is no RSA key")
        self._private = key if isinstance(key, rsa.RSAPrivateKey) else None
        public = key.public_key() if isinstance(key, rsa.RSAPrivateKey) else key
        _check_rsa(public.public_numbers())
        self._verify, self._digest, self._pad = public.verify, digest, pad

    def sign(self, message: bytes) -> bytes:
        if self._private is None:
            raise _no_private_key()
        return self._private.sign(message, self._pad, self._digest)

    def verify(self, message: bytes, signature: bytes) -> bool:
        try:
            self._verify(signature, message, self._pad, self._digest)
        except InvalidSignature:
            return False
        return True


def _no_private_key() -> UsageError:
    return UsageError("this key only verifies: sign with the private key it belongs to")


def _check_rsa(numbers: rsa.RSAPublicNumbers) -> None:
    if numbers.n.bit_length() < 2048:
        raise WeakSecret(
            f"an RSA key of {numbers.n.bit_length()} bits: 2048 or more are needed (RFC 7518 section 3.3)"
        )
    if numbers.e < 3 or numbers.e % 2 == 0:
        raise WeakSecret(f"an RSA key with the exponent {numbers.e}: make a new one")
    if all(numbers.n % prime in residues for prime, residues in _ROCA.items()):
        raise WeakSecret(
            "an RSA key of a chip whose keys can be computed (ROCA, CVE-2017-15361): make a new one"
        )


def _powers(base: int, prime: int) -> frozenset[int]:
    return frozenset(pow(base, exponent, prime) for exponent in range(prime - 1))


_ROCA: Final = {
    prime: _powers(65537, prime)
    for prime in (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157)
}
"""Small primes -> what the moduli of the broken chips are modulo these: powers of 65537 (Nemec et al. 2017, section 2.2)."""


def _hmac(bits: int) -> Algorithm:
    return Algorithm(_Hmac, (f"sha{bits}", bits // 8), frozenset({f"HS{bits}"}))


def _ecdsa(name: str, curve: type[ec.EllipticCurve], digest: hashes.HashAlgorithm, size: int) -> Algorithm:
    return Algorithm(_Ecdsa, (curve, digest, size), frozenset({name}))


def _rsa(name: str, digest: hashes.HashAlgorithm, pad: padding.AsymmetricPadding) -> Algorithm:
    return Algorithm(_Rsa, (digest, pad), frozenset({name}))


def _pss(name: str, digest: hashes.HashAlgorithm) -> Algorithm:
    return _rsa(name, digest, padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH))


_EDDSA: Final = Algorithm(_Ed25519, (), frozenset({"EdDSA", "Ed25519"}))

ALGORITHMS: Final[dict[str, Algorithm]] = {
    "HS256": _hmac(256),
    "HS384": _hmac(384),
    "HS512": _hmac(512),
    "ES256": _ecdsa("ES256", ec.SECP256R1, hashes.SHA256(), 32),
    "ES384": _ecdsa("ES384", ec.SECP384R1, hashes.SHA384(), 48),
    "Ed25519": _EDDSA,
    "EdDSA": _EDDSA,
    "RS256": _rsa("RS256", hashes.SHA256(), padding.PKCS1v15()),
    "RS384": _rsa("RS384", hashes.SHA384(), padding.PKCS1v15()),
    "RS512": _rsa("RS512", hashes.SHA512(), padding.PKCS1v15()),
    "PS256": _pss("PS256", hashes.SHA256()),
    "PS384": _pss("PS384", hashes.SHA384()),
    "PS512": _pss("PS512", hashes.SHA512()),
}
"""By the name that goes into a token's header. RS384, RS512, PS384 and PS512 are here for the keys of others."""


def primitive(algorithm: str, key: Material) -> Primitive:
    """This key under this algorithm. Raises ConfigurationError or WeakSecret for a key that does not belong to it."""
    found = ALGORITHMS.get(algorithm)
    if found is None:
        raise ConfigurationError(f"alg={algorithm!r}: give one of {', '.join(ALGORITHMS)}")
    return found.family(key, *found.settings)
