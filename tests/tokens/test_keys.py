"""Keys and rings: what is accepted as a key, and for what (checklist 129-135, 138)."""

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from coatcheck import ConfigurationError, UsageError, WeakSecret
from coatcheck.tokens import Key, KeyRing, base64url, jws
from coatcheck.tokens.algorithms import primitive

NOW = 1_800_000_000.0
STRONG = "yDq5nXv0bT7mKp2sWf8hLr4cJz6gQa1eUi9oBk3x"


def private_jwk(key: Key) -> dict[str, Any]:
    """A JWK with the private half, as other tools export it."""
    material: Any = key.material
    if isinstance(material, bytes):
        return {"kty": "oct", "k": base64url.encode(material), "alg": key.alg, "kid": key.kid}
    if hasattr(material, "private_bytes_raw"):
        return {**key.jwk(), "d": base64url.encode(material.private_bytes_raw())}
    numbers = material.private_numbers()
    if isinstance(material, ec.EllipticCurvePrivateKey):
        size = material.key_size // 8
        return {**key.jwk(), "d": base64url.encode(numbers.private_value.to_bytes(size, "big"))}
    values = {
        "d": numbers.d,
        "p": numbers.p,
        "q": numbers.q,
        "dp": numbers.dmp1,
        "dq": numbers.dmq1,
        "qi": numbers.iqmp,
    }
    return {**key.jwk(), **{name: number(value) for name, value in values.items()}}


def number(value: int) -> str:
    return base64url.encode(value.to_bytes((value.bit_length() + 7) // 8, "big"))


@pytest.fixture(scope="module", params=["HS256", "ES256", "ES384", "Ed25519", "RS256", "PS256"])
def key(request: pytest.FixtureRequest) -> Key:
    return Key.generate(request.param)


def pem(key: Key, private: bool = True) -> bytes:
    material: Any = key.material
    if private:
        return bytes(material.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ))  # fmt: skip
    return bytes(material.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ))  # fmt: skip


# ---- in and out


def test_a_key_survives_its_jwk(key: Key) -> None:
    again = Key.from_jwk(private_jwk(key))
    assert (again.alg, again.kid, again.can_sign) == (key.alg, key.kid, True)
    token = jws.sign(again, b"x")
    assert jws.verify(token, KeyRing([key]), now=NOW).payload == b"x"


def test_a_key_survives_its_pem(key: Key) -> None:
    if key.alg == "HS256":
        with pytest.raises(ConfigurationError, match="no key that can be read"):
            Key.from_pem("-----BEGIN NOTHING-----", alg="HS256")
        return
    private, public = (
        Key.from_pem(pem(key), alg=key.alg),
        Key.from_pem(pem(key, private=False).decode(), alg=key.alg),
    )
    assert private.kid == public.kid == key.kid  # RFC 7638: the name is made of the public half
    assert (private.can_sign, public.can_sign) == (True, False)
    assert jws.verify(jws.sign(private, b"x"), KeyRing([public]), now=NOW).payload == b"x"


def test_the_thumbprint_of_rfc_7638() -> None:
    """The example of section 3.1."""
    n = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn"
        "64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n"
        "91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    key = Key.from_jwk({"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256"})
    assert key.kid == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_the_ed25519_example_of_rfc_8037() -> None:
    """Appendix A.4: the signature is the very one."""
    key = Key.from_jwk({
        "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": "x",
        "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    })  # fmt: skip
    text = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
    expected = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    assert base64url.encode(key.primitive.sign(text.encode())) == expected
    assert jws.verify(f"{text}.{expected}", KeyRing([key]), now=NOW).payload == b"Example of Ed25519 signing"


def test_a_password_on_a_pem() -> None:
    material: Any = Key.generate("ES256").material
    locked = material.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"open"),
    )
    assert Key.from_pem(locked, alg="ES256", password=b"open").can_sign
    for password in (None, b"wrong"):
        with pytest.raises(ConfigurationError, match="and its password"):
            Key.from_pem(locked, alg="ES256", password=password)


# ---- weak and mixed up


@pytest.mark.parametrize(("alg", "size"), [("HS256", 31), ("HS384", 47), ("HS512", 63), ("HS256", 0)])
def test_a_short_hmac_key(alg: str, size: int) -> None:
    with pytest.raises(WeakSecret, match=f"{alg} needs {size + 1 if size else 32} or more"):
        Key.from_jwk({"kty": "oct", "k": base64url.encode(bytes(size)), "alg": alg})


@pytest.mark.parametrize("secret", ["secret", "changeme" * 8, "", "a" * 64])
def test_a_guessable_secret(secret: str) -> None:
    with pytest.raises(WeakSecret):
        Key.from_secret(secret)
    assert Key.from_secret(STRONG).can_sign


def test_a_secret_is_for_hmac() -> None:
    with pytest.raises(ConfigurationError, match="for HS256, HS384 or HS512"):
        Key.from_secret(STRONG, alg="ES256")


def test_a_small_rsa_key() -> None:
    small = rsa.generate_private_key(65537, 1024)
    with pytest.raises(WeakSecret, match="1024 bits"):
        primitive("RS256", small)


def test_a_roca_key() -> None:
    """A modulus of the shape that the broken chips made: a power of 65537 modulo every small prime."""
    product, power = 1, 1
    for prime in (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157):
        product *= prime
    power = pow(65537, 12345, product)
    modulus = (1 << 2047) + (power - (1 << 2047)) % product
    modulus += product if modulus % 2 == 0 else 0
    with pytest.raises(WeakSecret, match="ROCA"):
        Key.from_jwk({"kty": "RSA", "n": number(modulus), "e": "AQAB", "alg": "RS256"})


@pytest.mark.parametrize("alg", ["HS256", "ES256", "ES384", "Ed25519", "RS256"])
def test_a_key_of_another_kind(alg: str, key: Key) -> None:
    same = {key.alg, "RS256" if key.alg == "PS256" else key.alg}
    if alg not in same:
        with pytest.raises(ConfigurationError, match="no "):
            primitive(alg, key.material)


@pytest.mark.parametrize("alg", ["none", "", "RS1", "ES512", "HS1", "dir"])
def test_an_algorithm_that_is_none_of_ours(alg: str) -> None:
    with pytest.raises(ConfigurationError, match="give one of HS256"):
        Key.generate(alg)


def point() -> dict[str, Any]:
    return {**Key.generate("ES256").jwk()}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"use": "enc"}, "not for signatures"), ({"key_ops": ["encrypt"]}, "not for signatures"), ({"key_ops": []}, "not for"),
        ({"key_ops": "verify"}, "not for"), ({"kty": "oct"}, "member k"), ({"kty": "XX"}, "kty is 'XX'"),
        ({"kty": None}, "kty is None"),
        ({"alg": "ES384"}, "no key on the curve secp384r1"), ({"alg": "RS256"}, "no RSA key"),
        ({"crv": "P-521"}, "crv is 'P-521'"),
        ({"crv": "secp256k1"}, "crv is"), ({"x": "AAAA"}, "member x"), ({"x": 5}, "member x"), ({"y": None}, "member y"),
        ({"x": "é" * 43}, "member x"), ({"kid": ""}, "1 to 256"), ({"kid": 5}, "1 to 256"), ({"kid": "k" * 257}, "1 to 256"),
        ({"exp": "soon"}, "in seconds since the epoch"), ({"exp": True}, "in seconds"),
    ],
)  # fmt: skip
def test_a_jwk_that_is_wrong(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Key.from_jwk({**point(), **change})


def test_a_point_beside_the_curve() -> None:
    jwk = point()
    off = base64url.encode((int.from_bytes(base64url.decode(jwk["y"]), "big") ^ 1).to_bytes(32, "big"))
    with pytest.raises(ConfigurationError, match="no key"):
        Key.from_jwk({**jwk, "y": off})


def test_halves_that_do_not_belong_together() -> None:
    one, other = private_jwk(Key.generate("Ed25519")), Key.generate("Ed25519").jwk()
    with pytest.raises(ConfigurationError, match="not the public half"):
        Key.from_jwk({**one, "x": other["x"]})
    with pytest.raises(ConfigurationError, match="no key"):
        Key.from_jwk({**private_jwk(Key.generate("ES256")), **{name: point()[name] for name in ("x", "y")}})


def test_alg_must_be_said_once() -> None:
    jwk = point()
    del jwk["alg"]
    assert Key.from_jwk(jwk, alg="ES256").alg == "ES256"
    assert Key.from_jwk(jwk).alg == "ES256"  # this curve leaves no choice
    for other in ({"kty": "oct", "k": "A" * 43}, {"kty": "RSA", "n": "AQAB", "e": "AQAB"}):
        with pytest.raises(ConfigurationError, match="names no alg"):
            Key.from_jwk(other)
    with pytest.raises(ConfigurationError, match="one key is for one algorithm"):
        Key.from_jwk(point(), alg="ES384")


# ---- rings


def test_the_first_that_can_sign_signs() -> None:
    old, new = Key.generate(kid="old"), Key.generate(kid="new")
    ring = KeyRing([old.public(), new, old.until(NOW)][1:])
    assert ring.signer.kid == "new"
    token = jws.sign(old, b"x")
    assert jws.verify(token, ring, now=NOW - 1).payload == b"x"
    assert {key["kid"] for key in ring.jwks()["keys"]} == {"new", "old"}
    assert {key["kid"] for key in ring.jwks(now=NOW)["keys"]} == {"new"}
    with pytest.raises(UsageError, match="can sign"):
        _ = ring.public().signer


def test_a_rotation_is_uneventful() -> None:
    """Next, current, retired: no token that is about is refused, and none of the retired key is made."""
    first, second = Key.generate(kid="1"), Key.generate(kid="2")
    phases = [
        KeyRing([first]),
        KeyRing([first, second]),
        KeyRing([second, first]),
        KeyRing([second, first.until(NOW)]),
    ]
    signed = ["1", "1", "2", "2"]
    for at, ring in enumerate(phases):
        assert ring.signer.kid == signed[at]
        for neighbour in phases[max(0, at - 1) : at + 2]:
            assert jws.verify(jws.sign(ring.signer, b"x"), neighbour, now=NOW - 1)


def test_rings_that_are_refused() -> None:
    key = Key.generate(kid="k")
    with pytest.raises(ConfigurationError, match="at least one"):
        KeyRing([])
    with pytest.raises(ConfigurationError, match="list of Key"):
        KeyRing(["key"])  # type: ignore[list-item]
    with pytest.raises(ConfigurationError, match="the same kid"):
        KeyRing([key, Key.generate(kid="k")])
    with pytest.raises(ConfigurationError, match="keep them apart"):
        KeyRing([key, Key.generate("HS256")])


def test_a_published_set_holds_no_private_half(key: Key) -> None:
    if key.alg == "HS256":
        with pytest.raises(ConfigurationError, match="no public half"):
            KeyRing([key]).jwks()
        return
    (published,) = KeyRing([key]).jwks()["keys"]
    assert published.keys() <= {"kty", "crv", "x", "y", "n", "e", "kid", "alg", "use"}
    assert KeyRing.from_jwks(json.dumps({"keys": [published]})).find(key.kid) is not None


@pytest.mark.parametrize("text", ["[]", "{", '{"keys": {}}', '{"keys": [1]}', '"x"'])
def test_a_set_that_is_none(text: str) -> None:
    with pytest.raises(ConfigurationError, match="JWKS"):
        KeyRing.from_jwks(text)


def test_a_set_ends_its_retired_keys() -> None:
    ring = KeyRing.from_jwks(
        {"keys": [private_jwk(Key.generate(kid="new")), {**private_jwk(Key.generate(kid="old")), "exp": NOW}]}
    )
    old = ring.find("old")
    assert old is not None
    assert (old.ends_at, old.can_sign) == (NOW, False)


def test_from_the_environment_and_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    key = Key.generate("ES256")
    texts = {
        json.dumps(private_jwk(key)): None,
        json.dumps({"keys": [private_jwk(key)]}): None,
        pem(key).decode(): "ES256",
    }
    for text, alg in texts.items():
        monkeypatch.setenv("JWT_KEYS", text)
        (tmp_path / "keys").write_text(text)
        for ring in (KeyRing.from_env("JWT_KEYS", alg=alg), KeyRing.from_file(tmp_path / "keys", alg=alg)):
            assert ring.signer.kid == key.kid
    monkeypatch.setenv("JWT_KEYS", STRONG)
    assert KeyRing.from_env("JWT_KEYS").signer.alg == "HS256"
    monkeypatch.setenv("JWT_KEYS", pem(key).decode())
    with pytest.raises(ConfigurationError, match=r"JWT_KEYS holds a PEM.*alg="):
        KeyRing.from_env("JWT_KEYS")
    monkeypatch.delenv("JWT_KEYS")
    with pytest.raises(ConfigurationError, match="JWT_KEYS is not set"):
        KeyRing.from_env("JWT_KEYS")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        KeyRing.from_file(tmp_path / "none")


def test_no_key_shows_itself(key: Key) -> None:
    ring = KeyRing([key])
    secret = base64url.encode(key.material) if isinstance(key.material, bytes) else private_jwk(key)["d"]
    for shown in (repr(key), repr(ring), str(key), str(vars(key)["kid"])):
        assert secret not in shown
        assert "material" not in shown
    for thing in (key, ring):
        with pytest.raises(TypeError, match="not to be pickled"):
            pickle.dumps(thing)
        with pytest.raises(TypeError, match="not to be pickled"):
            copy.deepcopy(thing)
