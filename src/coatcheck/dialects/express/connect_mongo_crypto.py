"""connect-mongo's two encryptions of a stored session: `crypto: {…}`, which is kruptein's, and `createWebCryptoAdapter`.

Octets in, text out, and back; nothing here knows of MongoDB (wire formats 1.3, "Encryption"). What is encrypted is the session's
JSON text.
Both formats are taken as they are, with what they are worth:

- **kruptein** derives a key from the secret for every record, since each record has its own salt: 15,000 rounds of PBKDF2, some
  8 ms of a core (41 with scrypt), for every write and for every read of a record that this process has not seen lately; an event
  loop stands still meanwhile. The keys of the last `KEPT` records are kept in memory, so that a session that is read again and
  again is derived once. Node derives at every read.
- **Web Crypto** has one salt for all records, so its key is derived once, when the adapter is made: 310,000 rounds, some 70 ms at
  start-up, and a few microseconds after. It is the one to take.
- AES-GCM notices a changed record. AES-CBC of Web Crypto does not, and kruptein with a cipher that is not GCM authenticates the
  ciphertext only, not the IV, so that whoever can write to the database can change the first 16 octets of a session unnoticed.
- Neither binds a record to its session id: whoever can write to the database can put one session in another's place.
"""

import hashlib
import hmac
import json
import os
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, Literal, NamedTuple, NoReturn

from coatcheck.dialects.express.plain import load
from coatcheck.errors import ConfigurationError, CorruptRecord

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.padding import PKCS7
except ImportError as error:
    raise ConfigurationError(
        f'crypto= needs a library that is not installed ({error}): pip install "coatcheck[encryption]"'
    ) from error

__all__ = ["Kruptein", "WebCrypto"]

Encoding = Literal["base64", "base64url", "hex"]
Random = Callable[[int], bytes]

KEPT: Final = 1024
"""Keys of kruptein's records that are remembered."""
_ROUNDS: Final = 15_000
_SALT, _TAG, _BLOCK = 128, 16, 16
_SCRYPT: Final = {"n": 16_384, "r": 8, "p": 1, "maxmem": 64 * 2**20}
"""What Node's scryptSync takes when it is told nothing."""
_ALGORITHMS: Final = tuple(f"aes-{bits}-{mode}" for bits in (256, 192, 128) for mode in ("gcm", "cbc", "ctr"))
_HASHES: Final = ("sha512", "sha384", "sha256")
_SEQUENCE, _OCTETS = 0x30, 0x04
_UNREADABLE: Final = (ValueError, IndexError, InvalidTag)


class Kruptein:
    """connect-mongo's option `crypto: {secret, algorithm, hashing, encodeas, use_scrypt}`, by kruptein 3.

    `secret`: as there. `algorithm`: "aes-256-gcm" and its like. `hashing`: "sha512", "sha384" or "sha256". `encodeas`: "base64",
    "base64url" or "hex" (connect-mongo's default is base64, whatever its README says). `use_scrypt`: derive keys by scrypt.
    `key_size`, `iv_size` and `at_size` do nothing there, and are not here. `random` makes salts; another is for tests only.

    Raises ConfigurationError for an option that is none.
    """

    def __init__(
        self,
        *,
        secret: str,
        algorithm: str = "aes-256-gcm",
        hashing: str = "sha512",
        encodeas: Encoding = "base64",
        use_scrypt: bool = False,
        random: Random = os.urandom,
    ) -> None:
        if type(secret) is not str or not secret:
            raise ConfigurationError("Kruptein(secret=…): give the secret of connect-mongo's crypto, a str")
        _one_of("Kruptein(algorithm)", algorithm, _ALGORITHMS)
        _one_of("Kruptein(hashing)", hashing, _HASHES)
        _one_of("Kruptein(encodeas)", encodeas, _ENCODINGS)
        _, bits, self._mode = algorithm.split("-")
        self._hashing, self._code, self._random = hashing, _ENCODINGS[encodeas], random
        size, key = int(bits) // 8, secret.encode()

        def derive(salt: bytes) -> bytes:
            if use_scrypt:
                return hashlib.scrypt(key, salt=salt, dklen=size, **_SCRYPT)
            return hashlib.pbkdf2_hmac(hashing, key, salt, _ROUNDS, size)

        self._key = lru_cache(KEPT)(derive)

    def __repr__(self) -> str:
        """Without the secret."""
        return "<Kruptein>"

    def encrypt(self, text: bytes) -> str:
        """What is stored for a session's JSON text: a new salt, a new key."""
        plain = json.dumps(text.decode(), ensure_ascii=False).encode()  # the text is encoded a second time
        if self._mode != "gcm":
            return self._seal(plain, self._random(_SALT), self._random(_BLOCK))
        aad = self._digest(self._random(_SALT), plain)
        return self._seal(plain, self._random(_SALT), self._random(12), aad)

    def decrypt(self, stored: str) -> bytes:
        """The JSON text again. Raises CorruptRecord for what this secret and these options did not make."""
        try:
            return _unwrapped(self._open(stored))
        except (*_UNREADABLE, CorruptRecord):
            _refuse("Kruptein")

    def _seal(self, plain: bytes, salt: bytes, iv: bytes, aad: bytes = b"") -> str:
        key, (encode, decode) = self._key(salt), self._code
        more: tuple[bytes, ...] = ()
        if self._mode == "gcm":
            sealed = AESGCM(key).encrypt(iv, plain, decode(aad.decode()))
            sealed, more = sealed[:-_TAG], (sealed[-_TAG:], aad)
        else:
            sealed = _encrypt(self._mode, key, iv, plain)
        body = encode(sealed).encode()
        return encode(_der((body, self._digest(key, body), iv, salt, *more)))

    def _open(self, stored: str) -> bytes:
        decode = self._code.decode
        body, digest, iv, salt, *more = _parts(decode(stored))
        key = self._key(salt)
        if not hmac.compare_digest(self._digest(key, body), digest):
            raise ValueError("another secret, or changed since")
        sealed = decode(body.decode("ascii"))
        if self._mode != "gcm":
            return _decrypt(self._mode, key, iv, sealed)
        tag, aad = more
        if len(tag) != _TAG:
            raise ValueError("a tag cut short")
        return AESGCM(key).decrypt(iv, sealed + tag, decode(aad.decode("ascii")))

    def _digest(self, key: bytes, message: bytes) -> bytes:
        return self._code.encode(hmac.digest(key, message, self._hashing)).encode()


class WebCrypto:
    """connect-mongo's `createWebCryptoAdapter({secret, ivLength, encoding, algorithm, salt, iterations})`.

    `secret`, `salt`: text or bytes, as there. `iv_length`: octets; 12 for AES-GCM, 16 for AES-CBC if left out. `encoding`:
    "base64", "base64url" or "hex". `algorithm`: "AES-GCM", or "AES-CBC", which does not notice that a record was
    changed. `iterations` of PBKDF2 for the key, which is derived here and now. `random` makes IVs; another is for tests only.

    Raises ConfigurationError for an option that is none.
    """

    def __init__(
        self,
        *,
        secret: str | bytes,
        iv_length: int | None = None,
        encoding: Encoding = "base64",
        algorithm: Literal["AES-GCM", "AES-CBC"] = "AES-GCM",
        salt: str | bytes = "connect-mongo:webcrypto-default-salt",
        iterations: int = 310_000,
        random: Random = os.urandom,
    ) -> None:
        if type(secret) not in (str, bytes) or not secret:
            raise ConfigurationError(
                "WebCrypto(secret=…): give the secret of createWebCryptoAdapter, a str or bytes"
            )
        _one_of("WebCrypto(encoding)", encoding, _ENCODINGS)
        _one_of("WebCrypto(algorithm)", algorithm, ("AES-GCM", "AES-CBC"))
        self._gcm, self._code, self._random = algorithm == "AES-GCM", _ENCODINGS[encoding], random
        self._iv_length = _checked_iv(iv_length, self._gcm)
        if type(iterations) is not int or iterations < 1:
            raise ConfigurationError(f"WebCrypto(iterations={iterations!r}): give a whole number from 1")
        self._key = hashlib.pbkdf2_hmac("sha256", _octets(secret), _octets(salt), iterations, 32)

    def __repr__(self) -> str:
        """Without the secret."""
        return "<WebCrypto>"

    def encrypt(self, text: bytes) -> str:
        """What is stored for a session's JSON text."""
        iv = self._random(self._iv_length)
        sealed = AESGCM(self._key).encrypt(iv, text, None) if self._gcm else self._cbc(iv, text)
        return self._code.encode(iv + sealed)

    def decrypt(self, stored: str) -> bytes:
        """The JSON text again. Raises CorruptRecord for what this secret and these options did not make."""
        try:
            octets = self._code.decode(stored)
            iv, sealed = octets[: self._iv_length], octets[self._iv_length :]
            if self._gcm:
                return _unwrapped(AESGCM(self._key).decrypt(iv, sealed, None))
            return _unwrapped(_decrypt("cbc", self._key, iv, sealed))
        except (*_UNREADABLE, CorruptRecord):
            _refuse("WebCrypto")

    def _cbc(self, iv: bytes, text: bytes) -> bytes:
        return _encrypt("cbc", self._key, iv, text)


# ----------------------------------------------------------------------------------------------------------- the text inside


def _unwrapped(plain: bytes) -> bytes:
    """The session's JSON text, of what was encrypted: that text, or (kruptein) that text as a JSON string."""
    inside = load(plain)
    return inside.encode() if isinstance(inside, str) else plain


def _refuse(name: str) -> NoReturn:
    """One error for all that can be wrong, which says nothing of what is inside."""
    raise CorruptRecord(
        f"crypto={name}(secret=…): what is stored was not encrypted with this secret and these options, or was changed since"
    ) from None


# ------------------------------------------------------------------------------------------------------------------- ciphers


def _cipher(mode: str, key: bytes, iv: bytes) -> "Cipher[modes.CBC | modes.CTR]":
    return Cipher(algorithms.AES(key), modes.CBC(iv) if mode == "cbc" else modes.CTR(iv))


def _encrypt(mode: str, key: bytes, iv: bytes, plain: bytes) -> bytes:
    if mode == "cbc":
        padder = PKCS7(_BLOCK * 8).padder()
        plain = padder.update(plain) + padder.finalize()
    encryptor = _cipher(mode, key, iv).encryptor()
    return encryptor.update(plain) + encryptor.finalize()


def _decrypt(mode: str, key: bytes, iv: bytes, sealed: bytes) -> bytes:
    decryptor = _cipher(mode, key, iv).decryptor()
    plain = decryptor.update(sealed) + decryptor.finalize()
    if mode != "cbc":
        return plain
    unpadder = PKCS7(_BLOCK * 8).unpadder()
    return unpadder.update(plain) + unpadder.finalize()


# --------------------------------------------------------------------------------------------------------------------- DER


def _der(parts: Sequence[bytes]) -> bytes:
    """A SEQUENCE of OCTET STRINGs (X.690)."""
    return _element(_SEQUENCE, b"".join(_element(_OCTETS, part) for part in parts))


def _element(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(length))) + length + content


def _parts(der: bytes) -> list[bytes]:
    """The OCTET STRINGs in a SEQUENCE. Raises ValueError or IndexError for anything else."""
    content, after = _content(der, _SEQUENCE)
    parts = []
    while content:
        part, content = _content(content, _OCTETS)
        parts.append(part)
    if after:
        raise ValueError("more than one element")
    return parts


def _content(der: bytes, tag: int) -> tuple[bytes, bytes]:
    """What is in the first element, and what comes after it."""
    size, start = der[1], 2
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(der[2:start])
    end = start + size
    if der[0] != tag or len(der) < end:
        raise ValueError("not this element, or not all of it")
    return der[start:end], der[end:]


# ------------------------------------------------------------------------------------------------------------------ options


class _Code(NamedTuple):
    encode: Callable[[bytes], str]
    decode: Callable[[str], bytes]


def _from_base64url(text: str) -> bytes:
    return b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


_ENCODINGS: Final[dict[str, _Code]] = {
    "base64": _Code(lambda octets: b64encode(octets).decode(), lambda text: b64decode(text, validate=True)),
    "base64url": _Code(lambda octets: urlsafe_b64encode(octets).decode().rstrip("="), _from_base64url),
    "hex": _Code(bytes.hex, bytes.fromhex),
}


def _one_of(setting: str, value: object, known: Sequence[str] | dict[str, _Code]) -> None:
    if value not in known:
        raise ConfigurationError(f"{setting}: {value!r} is none of {', '.join(known)}")


def _checked_iv(length: int | None, gcm: bool) -> int:
    if length is None:
        return 12 if gcm else _BLOCK
    if type(length) is not int or not (8 <= length <= 128 if gcm else length == _BLOCK):
        raise ConfigurationError(
            f"WebCrypto(iv_length={length!r}): 8 to 128 for AES-GCM (12 is what it is made for), 16 for AES-CBC"
        )
    return length


def _octets(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value
