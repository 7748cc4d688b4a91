"""JSON Web Keys (RFC 7517, RFC 7518 section 6, RFC 8037): keys as JSON, in and out, and the thumbprints of RFC 7638."""

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from coatcheck.errors import ConfigurationError
from coatcheck.tokens import base64url
from coatcheck.tokens.algorithms import Material

__all__ = ["material", "only_algorithm", "public_members", "thumbprint"]

_CURVES: Final[dict[str, tuple[type[ec.EllipticCurve], int]]] = {
    "P-256": (ec.SECP256R1, 32),
    "P-384": (ec.SECP384R1, 48),
}


def material(jwk: Mapping[str, Any]) -> Material:
    """The key of a JWK: private if it holds the private half.

    Raises ConfigurationError for one that is malformed, or for something else than signatures (checklist 133, 134).
    """
    _check_purpose(jwk)
    kind = jwk.get("kty")
    read = _READERS.get(kind) if isinstance(kind, str) else None
    if read is None:
        raise ConfigurationError(f"JWK: kty is {kind!r}: give one of {', '.join(_READERS)}")
    try:
        return read(jwk)
    except ConfigurationError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"JWK of kty {kind!r}: its numbers are no key") from error


def only_algorithm(jwk: Mapping[str, Any]) -> str | None:
    """The algorithm of a JWK that names none, where its curve leaves no choice; else None. Large providers name none."""
    kind, curve = jwk.get("kty"), jwk.get("crv")
    if isinstance(kind, str) and isinstance(curve, str):
        return _ONLY.get((kind, curve))
    return None


_ONLY: Final = {("EC", "P-256"): "ES256", ("EC", "P-384"): "ES384", ("OKP", "Ed25519"): "Ed25519"}


def _check_purpose(jwk: Mapping[str, Any]) -> None:
    use, operations = jwk.get("use", "sig"), jwk.get("key_ops", ["verify"])
    if use != "sig":
        raise ConfigurationError(f"JWK: use is {use!r}: this key is not for signatures")
    if not isinstance(operations, list) or not {"sign", "verify"} & set(map(str, operations)):
        raise ConfigurationError(f"JWK: key_ops is {operations!r}: this key is not for signatures")


def _octets(jwk: Mapping[str, Any], name: str, size: int | None = None) -> bytes:
    text = jwk.get(name)
    if not isinstance(text, str) or not text.isascii():
        raise ConfigurationError(f"JWK: the member {name} is missing or no text")
    data = base64url.decode(text)
    if base64url.encode(data) != text or (size is not None and len(data) != size):
        raise ConfigurationError(f"JWK: the member {name} is not spelled as RFC 7518 section 6 says")
    return data


def _number(jwk: Mapping[str, Any], name: str, size: int | None = None) -> int:
    return int.from_bytes(_octets(jwk, name, size), "big")


def _symmetric(jwk: Mapping[str, Any]) -> bytes:
    return _octets(jwk, "k")


def _on_curve(jwk: Mapping[str, Any]) -> Material:
    curve, size = _CURVES.get(str(jwk.get("crv")), (None, 0))
    if curve is None:
        raise ConfigurationError(f"JWK: crv is {jwk.get('crv')!r}: give one of {', '.join(_CURVES)}")
    # The point is checked to lie on the curve, where an attacker's choice would give the private key away (checklist 156).
    public = ec.EllipticCurvePublicNumbers(_number(jwk, "x", size), _number(jwk, "y", size), curve())
    if "d" not in jwk:
        return public.public_key()
    return ec.EllipticCurvePrivateNumbers(_number(jwk, "d", size), public).private_key()


def _edwards(jwk: Mapping[str, Any]) -> Material:
    if jwk.get("crv") != "Ed25519":
        raise ConfigurationError(f"JWK: crv is {jwk.get('crv')!r}: of kty OKP only Ed25519 signs here")
    public = _octets(jwk, "x", 32)
    if "d" not in jwk:
        return ed25519.Ed25519PublicKey.from_public_bytes(public)
    private = ed25519.Ed25519PrivateKey.from_private_bytes(_octets(jwk, "d", 32))
    if private.public_key().public_bytes_raw() != public:
        raise ConfigurationError("JWK: x is not the public half of d")
    return private


def _rivest(jwk: Mapping[str, Any]) -> Material:
    public = rsa.RSAPublicNumbers(_number(jwk, "e"), _number(jwk, "n"))
    if "d" not in jwk:
        return public.public_key()
    if "oth" in jwk:
        raise ConfigurationError("JWK: an RSA key of more than two primes (oth)")
    d, p, q, dp, dq, qi = (_number(jwk, name) for name in ("d", "p", "q", "dp", "dq", "qi"))
    return rsa.RSAPrivateNumbers(p, q, d, dp, dq, qi, public).private_key()


_READERS: Final[dict[str, Callable[[Mapping[str, Any]], Material]]] = {
    "oct": _symmetric,
    "EC": _on_curve,
    "OKP": _edwards,
    "RSA": _rivest,
}


def public_members(key: Material) -> dict[str, str]:
    """The public half, as the members that RFC 7638 section 3.2 hashes. Raises ConfigurationError for a shared secret."""
    if isinstance(key, bytes):
        raise ConfigurationError("a key for HMAC has no public half: use ES256 or Ed25519 to publish one")
    public = key.public_key() if hasattr(key, "public_key") else key
    if isinstance(public, ed25519.Ed25519PublicKey):
        return {"crv": "Ed25519", "kty": "OKP", "x": base64url.encode(public.public_bytes_raw())}
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        return {"e": _minimal(numbers.e), "kty": "RSA", "n": _minimal(numbers.n)}
    point = public.public_numbers()
    name, size = next(
        (name, size) for name, (curve, size) in _CURVES.items() if isinstance(public.curve, curve)
    )
    x, y = (base64url.encode(number.to_bytes(size, "big")) for number in (point.x, point.y))
    return {"crv": name, "kty": "EC", "x": x, "y": y}


def _minimal(number: int) -> str:
    return base64url.encode(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def thumbprint(members: Mapping[str, str]) -> str:
    """The name that a key gives itself (RFC 7638): the hash of its required members."""
    text = json.dumps(dict(sorted(members.items())), separators=(",", ":"))
    return base64url.encode(sha256(text.encode("utf-8")).digest())
