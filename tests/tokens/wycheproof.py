"""Project Wycheproof's test vectors: where they are, and what runs each kind of file.

They are not in this repository, since they are not ours to keep a copy of. `$WYCHEPROOF` names their folder, or one file; without
it, the folder beside the checkout is looked at. Whatever lies there and concerns signatures is run, by its group's `type`. In CI
they have to be there. A newcomer's run goes without these tests, and says so in one line.

The runners themselves are tried on vectors of our own in the same format (`tests/data/vectors`, made by `make_vectors.py`).
"""

import fnmatch
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coatcheck import ConfigurationError, InvalidToken
from coatcheck.core.signing import Hmac
from coatcheck.tokens import Key, KeyRing, base64url, jws
from coatcheck.tokens.algorithms import primitive

BESIDE = Path(__file__).parents[3] / "shared" / "vectors" / "wycheproof"
GOLDEN = Path(__file__).parents[1] / "data" / "vectors"
FILE = "json_web_signature_test.json"
OURS = (
    "json_web_signature_test.json", "json_web_key_test.json", "json_web_crypto_test.json",
    "ecdsa_secp256r1_sha256_p1363_test.json", "ecdsa_secp384r1_sha384_p1363_test.json",
    "ed25519_test.json", "eddsa_test.json",
    "hmac_sha256_test.json", "hmac_sha384_test.json", "hmac_sha512_test.json",
    "rsa_signature_*_sha256_test.json", "rsa_signature_*_sha384_test.json", "rsa_signature_*_sha512_test.json",
    "rsa_pss_*_sha256_mgf1_*_test.json", "rsa_pss_*_sha384_mgf1_*_test.json", "rsa_pss_*_sha512_mgf1_*_test.json",
)  # fmt: skip
"""The files that concern what we do. The rest of the project is about what we do not do."""
MISSING = "Wycheproof's test vectors are not at hand: tests/tokens/test_wycheproof.py was not run; set WYCHEPROOF to their folder"
LABELLED_WRONGLY = {
    FILE: {346: False, 347: False, 350: False, 351: False, 372: False, 373: False, 367: True, 370: True}
}
"""346, 347, 350 and 351 are called valid under a key of another algorithm (or of one that does not exist); 372 and 373 are called
valid with a character that base64url has not; 367 and 370 are called invalid and are, byte for byte, 357, which is valid.
"""

Group = dict[str, Any]
Vector = dict[str, Any]


def files() -> list[Path]:
    """The files at hand that concern us. Raises AssertionError in CI if there is none."""
    for place in (os.environ.get("WYCHEPROOF"), BESIDE):
        found = _files(Path(place)) if place else []
        if found:
            return found
    if os.environ.get("CI"):
        raise AssertionError(MISSING)
    return []


def _files(place: Path) -> list[Path]:
    if place.is_file():
        assert concerns_us(place), f"{place.name}: no runner for this file"
        return [place]
    return [path for path in sorted(place.rglob("*_test.json")) if concerns_us(path)]


def concerns_us(path: Path) -> bool:
    return any(fnmatch.fnmatch(path.name, name) for name in OURS)


def groups(path: Path) -> list[Group]:
    """The groups of one file, each with what the file says of all of them."""
    found = json.loads(path.read_text("utf-8"))
    return [
        {**group, "algorithm": found.get("algorithm", ""), "file": path.name} for group in found["testGroups"]
    ]


def cases(paths: list[Path]) -> list[Any]:
    """(group, vector) for pytest, with the files' own numbers."""
    return [
        pytest.param(group, vector, id=f"{path.name.removesuffix('_test.json')}-tc{vector['tcId']}")
        for path in paths
        for group in groups(path)
        for vector in group["tests"]
    ]


def expected(group: Group, vector: Vector) -> bool:
    """Whether it is to be accepted. What is "acceptable" is not: a signature has one spelling here."""
    wrong = LABELLED_WRONGLY.get(group["file"], {})
    if vector["tcId"] in wrong:
        return wrong[vector["tcId"]]
    if "jwe" in vector or not _is_of_a_profile(group):
        return False
    return bool(vector["result"] == "valid")


def _is_of_a_profile(group: Group) -> bool:
    """RFC 7518 section 3.5 fixes the salt of PS256 at the length of the hash, which also makes the mask."""
    if "sLen" not in group:
        return True
    return bool(group["mgfSha"] == group["sha"] and 8 * group["sLen"] == int(group["sha"].rpartition("-")[2]))


def accepts(group: Group, vector: Vector) -> bool:
    """What we say to one vector."""
    return RUNNERS[group["type"]](group, vector)


def _json_web(group: Group, vector: Vector) -> bool:
    """A token under a JWK or a set of them. Nothing but our own exceptions may come of either."""
    try:
        ring = KeyRing.from_jwks(group.get("public") or group["private"])
        jws.verify(vector["jws"] if "jws" in vector else vector["jwe"], ring, now=0.0)
    except (ConfigurationError, InvalidToken):
        return False
    return True


def _raw(alg: str, key: Key, vector: Vector) -> bool:
    message, signature = bytes.fromhex(vector["msg"]), bytes.fromhex(vector["sig"])
    # Through the token's door, too: whatever the signature is made of, it is refused in order, since it is not this text's.
    head = base64url.encode(json.dumps({"alg": alg, "kid": key.kid}).encode())
    with pytest.raises(InvalidToken):
        jws.verify(
            f"{head}.{base64url.encode(message)}.{base64url.encode(signature)}", KeyRing([key]), now=0.0
        )
    return key.primitive.verify(message, signature)


def _ecdsa(group: Group, vector: Vector) -> bool:
    alg = {"SHA-256": "ES256", "SHA-384": "ES384"}[group["sha"]]
    return _raw(alg, Key.from_pem(group["publicKeyPem"], alg=alg, kid="k"), vector)


def _eddsa(group: Group, vector: Vector) -> bool:
    return _raw("Ed25519", Key.from_pem(group["publicKeyPem"], alg="Ed25519", kid="k"), vector)


def _rsa(family: str) -> Callable[[Group, Vector], bool]:
    def run(group: Group, vector: Vector) -> bool:
        alg = f"{family}{group['sha'].rpartition('-')[2]}"
        return _raw(alg, Key.from_pem(group["publicKeyPem"], alg=alg, kid="k"), vector)

    return run


def _hmac(group: Group, vector: Vector) -> bool:
    """RFC 7518 section 3.2 knows neither short keys nor shortened tags: for those the function below is tried."""
    bits = int(group["algorithm"].removeprefix("HMACSHA"))
    key, message, tag = (bytes.fromhex(vector[name]) for name in ("key", "msg", "tag"))
    if 8 * len(key) < bits:
        with pytest.raises(ConfigurationError):
            primitive(f"HS{bits}", key)
    elif group["tagSize"] == bits:
        return primitive(f"HS{bits}", key).verify(message, tag)
    else:
        assert not primitive(f"HS{bits}", key).verify(message, tag), "a shortened tag"
    return Hmac(key, getattr(hashlib, f"sha{bits}")).digest(message)[: group["tagSize"] // 8] == tag


RUNNERS: dict[str, Callable[[Group, Vector], bool]] = {
    "JsonWebSignature": _json_web,
    "JsonWebKey": _json_web,
    "JsonWebCrypto": _json_web,
    "EcdsaP1363Verify": _ecdsa,
    "EddsaVerify": _eddsa,
    "MacTest": _hmac,
    "RsassaPkcs1Verify": _rsa("RS"),
    "RsassaPssVerify": _rsa("PS"),
}
