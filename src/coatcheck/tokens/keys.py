"""Keys that sign and verify tokens, each bound to one algorithm; and the ring of them that makes a rotation uneventful.

    ring = KeyRing([Key.generate("ES256")])
    ring = KeyRing.from_env("JWT_KEYS")          # a JWK set, a PEM, or a secret for HMAC

The first key with a private half signs, all of them verify. To rotate: append the next key, so that whoever fetches the JWKS
knows it; then move it to the front; then give the old one an end (`Key.until`), after which it verifies nothing any more.
"""

import json
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol, Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from coatcheck.core.secret import check_secret
from coatcheck.errors import ConfigurationError, UsageError
from coatcheck.tokens import base64url
from coatcheck.tokens.algorithms import ALGORITHMS, Material, Primitive, primitive
from coatcheck.tokens.jwk import material, only_algorithm, public_members, thumbprint

__all__ = ["Key", "KeyRing", "Keys"]

_MAX_KID: Final = 256


@dataclass(frozen=True, eq=False)
class Key:
    """One key for one algorithm. Make it with `generate`, `from_secret`, `from_pem` or `from_jwk`."""

    alg: str
    """HS256, HS384, HS512, ES256, ES384, Ed25519, EdDSA, RS256, PS256 (RS and PS also with 384 and 512)."""
    kid: str
    """Its name in tokens and key sets; made of the key itself where none is given (RFC 7638)."""
    can_sign: bool
    ends_at: float | None = None
    """Seconds since the epoch after which it verifies nothing; None: never."""
    material: Material = field(repr=False, kw_only=True)
    primitive: Primitive = field(repr=False, kw_only=True)

    @classmethod
    def _of(cls, alg: str, key: Material, kid: str | None) -> Self:
        made = primitive(alg, key)
        name = _derived(key) if kid is None else kid
        given: object = name
        if not isinstance(given, str) or not 0 < len(given) <= _MAX_KID:
            raise ConfigurationError(f"kid={given!r}: give a text of 1 to {_MAX_KID} characters")
        return cls(
            alg,
            name,
            isinstance(key, bytes) or hasattr(key, "private_numbers") or _is_edwards(key),
            material=key,
            primitive=made,
        )

    @classmethod
    def generate(cls, alg: str = "ES256", *, kid: str | None = None) -> Self:
        """A new key from the system's random source. ES256 is known to every verifier; Ed25519 is as short.

        Raises ConfigurationError for an algorithm that is not one of ours.
        """
        return cls._of(alg, _new(alg), kid)

    @classmethod
    def from_secret(cls, secret: str | bytes, *, alg: str = "HS256", kid: str | None = None) -> Self:
        """A shared secret for HMAC: text as it is, in UTF-8. Raises WeakSecret if it is short or guessable."""
        if alg not in ("HS256", "HS384", "HS512"):
            raise ConfigurationError(f"alg={alg!r}: a shared secret is for HS256, HS384 or HS512")
        return cls._of(alg, check_secret(secret, setting="the token secret"), kid)

    @classmethod
    def from_pem(
        cls, pem: str | bytes, *, alg: str, kid: str | None = None, password: bytes | None = None
    ) -> Self:
        """A private key (PKCS #8, PKCS #1, SEC 1) or public key (SPKI) in PEM. Raises ConfigurationError if it is none."""
        data = pem.encode("utf-8") if isinstance(pem, str) else pem
        try:
            if b"PRIVATE KEY-----" in data:
                key: Any = serialization.load_pem_private_key(data, password)
            else:
                key = serialization.load_pem_public_key(data)
        except (ValueError, TypeError) as error:
            raise ConfigurationError(
                "this PEM holds no key that can be read: give a private or public key (not a certificate), and its password"
            ) from error
        return cls._of(alg, key, kid)

    @classmethod
    def from_jwk(cls, jwk: Mapping[str, Any], *, alg: str | None = None) -> Self:
        """A key from a JWK (RFC 7517). `alg` is needed where the JWK names none and its kind leaves a choice (RSA, shared
        secrets), and must not contradict it.

        Raises ConfigurationError or WeakSecret for a key that is malformed, weak, or not for signatures.
        """
        named = jwk.get("alg", alg) or only_algorithm(jwk)
        if named is None:
            raise ConfigurationError("JWK: it names no alg: say which one this key is for, alg=…")
        if alg is not None and named != alg:
            raise ConfigurationError(f"JWK: its alg is {named!r}, not {alg!r}: one key is for one algorithm")
        key = cls._of(str(named), material(jwk), jwk.get("kid"))
        ends_at = jwk.get("exp")
        if ends_at is None:
            return key
        if isinstance(ends_at, bool) or not isinstance(ends_at, int | float):
            raise ConfigurationError("JWK: exp, when the key ends, is in seconds since the epoch")
        return key.until(ends_at)

    def until(self, ends_at: float) -> Self:
        """The same key, retired: it verifies until then (seconds since the epoch), and signs nothing any more."""
        return replace(self, ends_at=float(ends_at), can_sign=False)

    def public(self) -> Self:
        """The half that may be given away. Raises ConfigurationError for a shared secret, which has none."""
        public_members(self.material)
        key: Any = self.material
        half: Material = key.public_key() if hasattr(key, "public_key") else key
        return replace(self, can_sign=False, material=half, primitive=primitive(self.alg, half))

    def jwk(self) -> dict[str, Any]:
        """The public half as a JWK. Raises ConfigurationError for a shared secret."""
        return {**public_members(self.material), "kid": self.kid, "alg": self.alg, "use": "sig"}

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not to be pickled: it would be written down")


def _is_edwards(key: Material) -> bool:
    return isinstance(key, ed25519.Ed25519PrivateKey)


def _derived(key: Material) -> str:
    if isinstance(key, bytes):  # not RFC 7638's: that is a plain hash of the secret
        return base64url.encode(sha256(b"coatcheck kid" + sha256(key).digest()).digest()[:12])
    return thumbprint(public_members(key))


def _new(alg: str) -> Material:
    if alg in ("HS256", "HS384", "HS512"):
        return secrets.token_bytes(64)
    if alg in ("ES256", "ES384"):
        return ec.generate_private_key(ec.SECP256R1() if alg == "ES256" else ec.SECP384R1())
    if alg in ("Ed25519", "EdDSA"):
        return ed25519.Ed25519PrivateKey.generate()
    if alg in ALGORITHMS:
        return rsa.generate_private_key(65537, 3072)
    raise ConfigurationError(f"alg={alg!r}: give one of {', '.join(ALGORITHMS)}")


class Keys(Protocol):
    """Where keys come from: a KeyRing, a file that is read again (`KeyFile`), or another service (`RemoteKeys`)."""

    def at(self, now: float) -> "KeyRing":
        """The keys at `now`, in seconds since the epoch. Does not wait for anything."""
        ...

    def missed(self, now: float) -> None:
        """Take note that a token names a key that is not among them."""
        ...


class KeyRing:
    """Keys by their names. The first that can sign signs, all verify.

    Raises ConfigurationError for two keys of one name, and for shared secrets beside public keys: whoever may verify with the one
    must not be able to sign with the other (checklist 135).
    """

    __slots__ = ("_by_kid", "_signer", "seen")

    def __init__(self, keys: Iterable[Key]) -> None:
        given = list(keys)
        if not given or not all(isinstance(key, Key) for key in given):
            raise ConfigurationError("KeyRing(…): give a list of Key, at least one")
        self._by_kid = {key.kid: key for key in given}
        if len(self._by_kid) != len(given):
            raise ConfigurationError("KeyRing(…): two keys have the same kid; a token could mean either")
        if len({isinstance(key.material, bytes) for key in given}) > 1:
            raise ConfigurationError(
                "KeyRing(…): shared secrets (HS…) and key pairs in one ring: keep them apart, one ring for each"
            )
        self._signer = next((key for key in given if key.can_sign), None)
        self.seen: dict[str, Any] = {}
        """Headers of genuine tokens, read once: `jws` keeps them here."""

    @classmethod
    def from_jwks(cls, jwks: Mapping[str, Any] | str | bytes) -> Self:
        """The keys of a JWK set, or of one JWK; parsed, or as JSON."""
        found = _parsed(jwks) if isinstance(jwks, str | bytes) else jwks
        keys = found.get("keys") if "keys" in found else [found]
        if not isinstance(keys, list) or not all(isinstance(jwk, Mapping) for jwk in keys):
            raise ConfigurationError('JWKS: give {"keys": […]} (RFC 7517 section 5)')
        return cls(Key.from_jwk(jwk) for jwk in keys)

    @classmethod
    def from_env(cls, name: str, *, alg: str | None = None) -> Self:
        """The keys in an environment variable: a JWK or JWK set, a PEM (then `alg` says what for), or a secret for HMAC.

        Raises ConfigurationError if it is not set.
        """
        text = os.environ.get(name, "").strip()
        if not text:
            raise ConfigurationError(
                f"{name} is not set: put a JWK set, a PEM or a secret into it; `coatcheck secret` prints one"
            )
        return cls._from_text(text, alg, name)

    @classmethod
    def from_file(cls, path: str | Path, *, alg: str | None = None) -> Self:
        """The same from a file. Raises ConfigurationError if it cannot be read."""
        try:
            text = Path(path).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{path}: this file of keys cannot be read ({error})") from error
        return cls._from_text(text, alg, str(path))

    @classmethod
    def _from_text(cls, text: str, alg: str | None, where: str) -> Self:
        if text.startswith("{"):
            return cls.from_jwks(text)
        if text.startswith("-----BEGIN"):
            if alg is None:
                raise ConfigurationError(
                    f"{where} holds a PEM, which does not say what it is for: give alg=, such as 'ES256'"
                )
            return cls([Key.from_pem(text, alg=alg)])
        return cls([Key.from_secret(text, alg=alg or "HS256")])

    @property
    def signer(self) -> Key:
        """The key that signs. Raises UsageError if this ring only verifies."""
        if self._signer is None:
            raise UsageError("none of these keys can sign: the ring holds public or retired keys only")
        return self._signer

    def find(self, kid: str | None) -> Key | None:
        """The key of this name; without a name the only one there is (checklist 136)."""
        if kid is None:
            return next(iter(self._by_kid.values())) if len(self._by_kid) == 1 else None
        return self._by_kid.get(kid)

    def at(self, now: float) -> "KeyRing":
        """Itself: so that one that never changes and one that is read again are used alike."""
        return self

    def missed(self, now: float) -> None:
        """A token names a key that is not here: there are no others."""

    def public(self) -> Self:
        """The public halves, for services that only verify."""
        return type(self)(key.public() for key in self._by_kid.values())

    def jwks(self, *, now: float | None = None) -> dict[str, Any]:
        """The JWK set to publish: public halves, without those that have ended by `now`."""
        keys = (
            key for key in self._by_kid.values() if now is None or key.ends_at is None or key.ends_at > now
        )
        return {"keys": [key.jwk() for key in keys]}

    def __len__(self) -> int:
        return len(self._by_kid)

    def __repr__(self) -> str:
        return f"<KeyRing of {', '.join(self._by_kid)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key ring is not to be pickled: it would write the keys down")


def _parsed(text: str | bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigurationError("JWKS: this is no JSON") from error
    if not isinstance(found, dict):
        raise ConfigurationError('JWKS: give {"keys": […]} (RFC 7517 section 5)')
    return found
