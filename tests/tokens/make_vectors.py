"""Vectors of our own in Wycheproof's formats, made by `cryptography` and the standard library alone.

`python -m tests.tokens.make_vectors`. Small: enough that each runner is seen to run, to accept and to refuse. Each time it is
called keys and signatures are new ones.
"""

import base64
import hmac
import json
import secrets
from collections.abc import Iterator
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.tokens.wycheproof import GOLDEN

MESSAGE = b"the quick brown fox"
SOURCE = {"name": "coatcheck", "version": "1"}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int, size: int | None = None) -> str:
    return b64(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


def pem(key: Any) -> str:
    form, spki = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return str(key.public_key().public_bytes(form, spki).decode())


def write(name: str, schema: str, groups: list[dict[str, Any]], algorithm: str | None = None) -> None:
    count = 0
    for group in groups:
        for vector in group["tests"]:
            count += 1
            vector.update(tcId=count, flags=[])
    head = {} if algorithm is None else {"algorithm": algorithm}
    whole = {
        **head, "header": ["made by tests/tokens/make_vectors.py"], "notes": {}, "numberOfTests": count, "schema": schema,
        "testGroups": groups,
    }  # fmt: skip
    GOLDEN.mkdir(parents=True, exist_ok=True)
    (GOLDEN / name).write_text(json.dumps(whole, indent=1) + "\n")


def signatures(signature: bytes, **more: bytes) -> list[dict[str, Any]]:
    """The good one, what is not it, and more that is not."""
    flipped = bytes([signature[0], signature[1] ^ 1, *signature[2:]])
    wrong = {"flipped": flipped, "cut": signature[:-1], "longer": signature + b"\0", "empty": b"", **more}
    found = [{"comment": "good", "msg": MESSAGE.hex(), "sig": signature.hex(), "result": "valid"}]
    found += [
        {"comment": name, "msg": MESSAGE.hex(), "sig": sig.hex(), "result": "invalid"}
        for name, sig in wrong.items()
    ]
    return [*found, {"comment": "other", "msg": b"x".hex(), "sig": signature.hex(), "result": "invalid"}]


def ecdsa() -> None:
    for curve, digest, size, order, name in (
        (ec.SECP256R1(), hashes.SHA256(), 32, P256, "ecdsa_secp256r1_sha256_p1363"),
        (ec.SECP384R1(), hashes.SHA384(), 48, P384, "ecdsa_secp384r1_sha384_p1363"),
    ):
        key: Any = ec.generate_private_key(curve)
        der = key.sign(MESSAGE, ec.ECDSA(digest))
        r, s = decode_dss_signature(der)
        pair = [
            part.to_bytes(size, "big") for part in (r, s, s + order if (s + order) >> (8 * size) == 0 else 0)
        ]
        tests = signatures(
            pair[0] + pair[1], der=der, zero=bytes(2 * size), r_is_zero=bytes(size) + pair[1],
            s_is_zero=pair[0] + bytes(size), s_plus_n=pair[0] + pair[2], padded=b"\0" + pair[0] + b"\0" + pair[1],
        )  # fmt: skip
        group = {
            "type": "EcdsaP1363Verify", "source": SOURCE, "publicKeyPem": pem(key), "sha": f"SHA-{8 * size}", "tests": tests
        }  # fmt: skip
        write(f"{name}_test.json", "ecdsa_p1363_verify_schema_v1.json", [group], "ECDSA")


P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P384 = int("F" * 48 + "C7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973", 16)
L25519 = 2**252 + 27742317777372353535851937790883648493


def eddsa() -> None:
    key: Any = ed25519.Ed25519PrivateKey.generate()
    signature = key.sign(MESSAGE)
    malleable = (int.from_bytes(signature[32:], "little") + L25519).to_bytes(32, "little")
    tests = signatures(signature, malleable=signature[:32] + malleable, zero=bytes(64))
    group = {"type": "EddsaVerify", "source": SOURCE, "publicKeyPem": pem(key), "tests": tests}
    write("ed25519_test.json", "eddsa_verify_schema_v1.json", [group], "EDDSA")


def rsas() -> None:
    key: Any = rsa.generate_private_key(65537, 2048)
    for bits in (256, 384, 512):
        digest: Any = getattr(hashes, f"SHA{bits}")()
        tests = signatures(key.sign(MESSAGE, padding.PKCS1v15(), digest))
        bare = {"comment": "no NULL", "msg": MESSAGE.hex(), "sig": without_null(key, bits).hex()}
        tests.append({**bare, "result": "acceptable"})
        common = {"source": SOURCE, "publicKeyPem": pem(key), "keySize": 2048, "sha": f"SHA-{bits}"}
        group = {"type": "RsassaPkcs1Verify", **common, "tests": tests}
        write(f"rsa_signature_2048_sha{bits}_test.json", "rsassa_pkcs1_verify_schema_v1.json", [group])
        for salt in (bits // 8, 0):
            signature = key.sign(MESSAGE, padding.PSS(padding.MGF1(digest), salt), digest)
            pss = {"type": "RsassaPssVerify", **common, "mgf": "MGF1", "mgfSha": f"SHA-{bits}", "sLen": salt}
            write(
                f"rsa_pss_2048_sha{bits}_mgf1_{salt}_test.json",
                "rsassa_pss_verify_schema_v1.json",
                [{**pss, "tests": signatures(signature)}],
            )


def without_null(key: Any, bits: int) -> bytes:
    """A PKCS #1 signature whose AlgorithmIdentifier lacks its NULL parameter."""
    digest = hashes.Hash(getattr(hashes, f"SHA{bits}")())
    digest.update(MESSAGE)
    hashed = digest.finalize()
    oid = bytes.fromhex("0609608648016503040200")[:-1] + bytes([{256: 1, 384: 2, 512: 3}[bits]])
    body = bytes([0x30, len(oid)]) + oid + bytes([4, len(hashed)]) + hashed
    info = bytes([0x30, len(body)]) + body
    numbers = key.private_numbers()
    text = b"\0\1" + b"\xff" * (256 - 3 - len(info)) + b"\0" + info
    return pow(int.from_bytes(text, "big"), numbers.d, numbers.public_numbers.n).to_bytes(256, "big")


def hmacs() -> None:
    for bits in (256, 384, 512):
        groups = [
            {"type": "MacTest", "source": SOURCE, "keySize": size, "tagSize": tag, "tests": list(tags(size, tag, bits))}
            for size, tag in ((bits, bits), (128, bits), (bits, 128))
        ]  # fmt: skip
        write(f"hmac_sha{bits}_test.json", "mac_test_schema_v1.json", groups, f"HMACSHA{bits}")


def tags(key_bits: int, tag_bits: int, bits: int) -> Iterator[dict[str, Any]]:
    key = secrets.token_bytes(key_bits // 8)
    tag = hmac.digest(key, MESSAGE, f"sha{bits}")[: tag_bits // 8]
    for name, value in (("good", tag), ("flipped", bytes([tag[0] ^ 1]) + tag[1:]), ("zero", bytes(len(tag)))):
        result = "valid" if name == "good" else "invalid"
        yield {
            "comment": name, "key": key.hex(), "msg": MESSAGE.hex(), "tag": value.hex(), "result": result
        }  # fmt: skip


# ------------------------------------------------------------------------------------------------------ JWKs and sets


def token(alg: str, key: Any, kid: str | None = "k") -> str:
    head = {"alg": alg} if kid is None else {"alg": alg, "kid": kid}
    text = f"{b64(json.dumps(head).encode())}.{b64(MESSAGE)}"
    return f"{text}.{b64(signed(alg, key, text.encode()))}"


def signed(alg: str, key: Any, text: bytes) -> bytes:
    if isinstance(key, bytes):
        return hmac.digest(key, text, f"sha{alg[2:]}")
    if isinstance(key, ec.EllipticCurvePrivateKey):
        r, s = decode_dss_signature(key.sign(text, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return bytes(key.sign(text, padding.PKCS1v15(), hashes.SHA256()))


def jwk(alg: str, key: Any, kid: str | None = "k", **more: Any) -> dict[str, Any]:
    name = {} if kid is None else {"kid": kid}
    if isinstance(key, bytes):
        return {"kty": "oct", "alg": alg, "k": b64(key), **name, **more}
    public = key.public_key().public_numbers()
    if isinstance(key, ec.EllipticCurvePrivateKey):
        point = {"x": number(public.x, 32), "y": number(public.y, 32)}
        return {"kty": "EC", "crv": "P-256", "alg": alg, **point, **name, **more}
    return {"kty": "RSA", "alg": alg, "n": number(public.n), "e": number(public.e), **name, **more}


def roca() -> rsa.RSAPrivateKey:
    """A key as the broken chips made them: its primes are powers of 65537 modulo the product of the small primes."""
    product = 1
    for prime in [n for n in range(2, 170) if all(n % d for d in range(2, n))]:
        product *= prime
    while True:
        p, q = (_roca_prime(product) for _ in range(2))
        try:
            d = pow(65537, -1, (p - 1) * (q - 1))
            pair = rsa.RSAPublicNumbers(65537, p * q)
            return rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), pair).private_key()
        except ValueError:
            continue


def _roca_prime(product: int) -> int:
    while True:
        base = pow(65537, secrets.randbelow(2**40), product)
        found = (
            secrets.randbits(1024 - product.bit_length()) | 3 << (1022 - product.bit_length())
        ) * product + base
        if found.bit_length() == 1024 and pow(2, found - 1, found) == 1:
            return found


def keys() -> None:
    curve, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    shared, short = secrets.token_bytes(32), secrets.token_bytes(16)
    small, broken = rsa.generate_private_key(65537, 1024), roca()
    good = token("ES256", curve)
    y = curve.public_key().public_numbers().y
    sets = {
        "good": ([jwk("ES256", curve)], good, True),
        "two keys": ([jwk("ES256", curve), jwk("ES256", other, "o")], good, True),
        "two keys, no kid in the token": ([jwk("ES256", curve), jwk("ES256", other, "o")], token("ES256", curve, None), False),
        "a shared secret beside a key pair": ([jwk("HS256", shared), jwk("ES256", curve, "o")], token("HS256", shared), False),
        "the same kid twice": ([jwk("ES256", curve), jwk("ES256", other)], good, False),
        "ROCA": ([jwk("RS256", broken)], token("RS256", broken), False),
        "RSA of 1024 bits": ([jwk("RS256", small)], token("RS256", small), False),
        "a short secret": ([jwk("HS256", short)], token("HS256", short), False),
        "no secret": ([jwk("HS256", b"")], token("HS256", b""), False),
        "for encryption": ([jwk("ES256", curve, use="enc")], good, False),
        "an unknown use": ([jwk("ES256", curve, use="xyz")], good, False),
        "for wrapping": ([jwk("ES256", curve, key_ops=["wrapKey"])], good, False),
        "another alg": ([jwk("ES384", curve)], good, False),
        "beside the curve": ([jwk("ES256", curve) | {"y": number(y ^ 1, 32)}], good, False),
        "no point": ([{k: v for k, v in jwk("ES256", curve).items() if k != "y"}], good, False),
        "no keys": ([], good, False),
    }  # fmt: skip
    groups = [
        {
            "type": "JsonWebKey", "source": SOURCE, "comment": name, "public": {"keys": keys}, "private": {"keys": keys},
            "tests": [{"comment": name, "jws": text, "result": "valid" if good else "invalid"}],
        }
        for name, (keys, text, good) in sets.items()
    ]  # fmt: skip
    write("json_web_key_test.json", "json_web_key_schema_v1.json", groups)
    mixed = [
        {"comment": "good", "jws": good, "result": "valid"},
        {"comment": "JSON serialisation", "jws": {"payload": "Zm9v", "signatures": []}, "result": "invalid"},
        {"comment": "encrypted: not offered", "jwe": "a.b.c.d.e", "pt": "666f6f", "result": "valid"},
    ]
    group = {
        "type": "JsonWebCrypto",
        "source": SOURCE,
        "comment": "mixed",
        "private": jwk("ES256", curve),
        "tests": mixed,
    }
    write("json_web_crypto_test.json", "json_web_crypto_schema_v1.json", [group])
    tests = [
        {"comment": "good", "jws": good, "result": "valid"},
        {"comment": "=", "jws": good + "=", "result": "invalid"},
    ]
    group = {
        "type": "JsonWebSignature",
        "source": SOURCE,
        "comment": "es256",
        "private": jwk("ES256", curve),
        "tests": tests,
    }
    write("json_web_signature_test.json", "json_web_signature_schema_v1.json", [group])


if __name__ == "__main__":
    for make in (ecdsa, eddsa, rsas, hmacs, keys):
        make()
