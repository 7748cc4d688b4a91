"""Tokens of PyJWT, joserfc and npm's jose verify here, ours verify there; what they let pass is refused here."""

import base64
import functools
import json
import subprocess
from pathlib import Path
from typing import Any

import jwt
import pytest
from joserfc import jws as theirs
from joserfc.jwk import import_key

from coatcheck import InvalidToken, WeakSecret
from coatcheck.core.signing import Hmac
from coatcheck.tokens import Key, KeyRing, TokenVerifier, base64url, jws
from coatcheck.tokens.jwk import public_members, thumbprint
from tests.tokens.test_keys import private_jwk

NOW = 1_800_000_000.0
ALL = (
    "HS256",
    "HS384",
    "HS512",
    "ES256",
    "ES384",
    "EdDSA",
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
)
CLAIMS: dict[str, Any] = {
    "iss": "i", "sub": "42", "aud": "a", "exp": NOW + 600, "iat": NOW, "jti": "j", "client_id": "c", "name": "Zoë ♥",
}  # fmt: skip


@functools.cache
def made(alg: str) -> Key:
    """A key for this algorithm. All of RSA have the same numbers, which take a while to find."""
    if alg[:2] in ("RS", "PS") and alg != "RS256":
        return Key._of(alg, made("RS256").material, "k1")
    return Key.generate(alg, kid="k1")


@pytest.fixture(scope="module", params=ALL)
def key(request: pytest.FixtureRequest) -> Key:
    return made(request.param)


def public(key: Key) -> Any:
    return key.material if isinstance(key.material, bytes) else key.public().material


def verifier(key: Key) -> TokenVerifier[Any]:
    return TokenVerifier(KeyRing([key]), issuer="i", audience="a", clock=lambda: NOW)


def test_pyjwt_reads_ours(key: Key) -> None:
    token = jws.sign(key, json.dumps(CLAIMS).encode(), typ="at+jwt")
    options: Any = {"verify_exp": False, "verify_iat": False}
    found = jwt.decode(token, public(key), algorithms=[key.alg], audience="a", issuer="i", options=options)
    assert found == CLAIMS


def test_we_read_pyjwts(key: Key) -> None:
    token = jwt.encode(CLAIMS, key.material, algorithm=key.alg, headers={"kid": "k1", "typ": "at+jwt"})  # type: ignore[arg-type]
    assert verifier(key).verify(token).sub == "42"


def named_anew(key: Key) -> Key:
    """joserfc warns of the name EdDSA, which RFC 9864 has retired; PyJWT knows no other."""
    return Key._of("Ed25519", key.material, key.kid) if key.alg == "EdDSA" else key


def test_joserfc_reads_ours(key: Key) -> None:
    key = named_anew(key)
    token = jws.sign(key, b"payload")
    found = theirs.deserialize_compact(token, import_key(private_jwk(key)), algorithms=[key.alg])
    assert found.payload == b"payload"


def test_we_read_joserfcs(key: Key) -> None:
    key = named_anew(key)
    header = {"alg": key.alg, "kid": "k1", "typ": "application/at+jwt"}
    token = theirs.serialize_compact(
        header, json.dumps(CLAIMS).encode(), import_key(private_jwk(key)), algorithms=[key.alg]
    )
    assert verifier(key).verify(token).sub == "42"


def test_each_reads_the_others_key_sets(key: Key) -> None:
    exported = import_key(private_jwk(key)).as_dict(private=True)
    again = KeyRing.from_jwks({"keys": [{**exported, "alg": key.alg, "kid": "k1"}]})
    assert jws.verify(jws.sign(key, b"x"), again, now=NOW).payload == b"x"
    if not key.alg.startswith("HS"):
        published = jwt.PyJWKSet.from_dict(KeyRing([key]).jwks())
        assert published["k1"].key_id == "k1"


# ---- npm's jose

ROOM = Path(__file__).parent / "node"


def jose(*asked: dict[str, Any]) -> list[Any]:
    """What the package says to each of these, in one run of Node (`node/jose.mjs`)."""
    installed = subprocess.run(
        ["bash", ROOM.parents[2] / "scripts" / "node"], capture_output=True, text=True, timeout=300
    )
    assert installed.returncode == 0, installed.stdout + installed.stderr
    done = subprocess.run(
        ["node", ROOM / "jose.mjs"], input=json.dumps(asked), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    answers: list[Any] = json.loads(done.stdout)
    return answers


def published(key: Key) -> dict[str, Any]:
    """What jose is given to verify with: the published set, or the shared secret."""
    return {"keys": [private_jwk(key)]} if key.alg.startswith("HS") else KeyRing([key]).jwks()


def test_jose_reads_ours_and_we_read_joses() -> None:
    """Every algorithm, both ways; EdDSA under both of its names."""
    keys = [*map(made, ALL), named_anew(made("EdDSA"))]
    terms = {"issuer": "i", "audience": "a", "now": NOW}
    ours = [
        {
            "do": "verify", "alg": key.alg, "jwks": published(key), **terms,
            "token": jws.sign(key, json.dumps(CLAIMS).encode(), typ="at+jwt"),
        }
        for key in keys
    ]  # fmt: skip
    theirs = [
        {
            "do": "sign", "alg": key.alg, "jwk": private_jwk(key), "claims": CLAIMS,
            "header": {"kid": "k1", "typ": "at+jwt"},
        }
        for key in keys
    ]  # fmt: skip
    public_halves = [key for key in keys if not key.alg.startswith("HS")]
    names = [{"do": "thumbprint", "jwk": key.jwk()} for key in public_halves]
    answers = jose(*ours, *theirs, *names)
    assert answers[: len(keys)] == [CLAIMS] * len(keys)
    for key, token in zip(keys, answers[len(keys) : 2 * len(keys)], strict=True):
        assert verifier(key).verify(token).sub == "42", key.alg
    assert answers[2 * len(keys) :] == [thumbprint(public_members(key.material)) for key in public_halves]


# ---- the probe of what libraries leave open (the table of the checklist's section 2)

SECRET = bytes(range(32))
RING = KeyRing([Key._of("HS256", SECRET, "k1")])


def forged(header: bytes, payload: bytes) -> str:
    head, body = (base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (header, payload))
    text = f"{head}.{body}"
    return f"{text}.{base64.urlsafe_b64encode(Hmac(SECRET).digest(text.encode())).rstrip(b'=').decode()}"


HEAD = b'{"alg":"HS256","kid":"k1","typ":"at+jwt"}'
GOOD = json.dumps(CLAIMS).encode()
without_exp = json.dumps({name: value for name, value in CLAIMS.items() if name != "exp"}).encode()
PROBES = {
    "duplicate alg": forged(b'{"alg":"none","alg":"HS256","kid":"k1","typ":"at+jwt"}', GOOD),
    "duplicate sub": forged(HEAD, b'{"sub":"admin",' + GOOD[1:]),
    "UTF-16 payload": forged(HEAD, json.dumps(CLAIMS).encode("utf-16")),
    "UTF-8 BOM": forged(HEAD, b"\xef\xbb\xbf" + GOOD),
    "no exp": forged(HEAD, without_exp),
    "exp as a text": forged(HEAD, json.dumps({**CLAIMS, "exp": "1900000000"}).encode()),
    "a trailing =": forged(HEAD, GOOD) + "=",
    "10 MB header": forged(
        json.dumps({"alg": "HS256", "kid": "k1", "typ": "at+jwt", "x": "x" * 10_000_000}).encode(), GOOD
    ),
    "crit: []": forged(b'{"alg":"HS256","kid":"k1","typ":"at+jwt","crit":[]}', GOOD),
    "an aud nobody expects": forged(HEAD, json.dumps({**CLAIMS, "aud": "other"}).encode()),
    "4,000 digits of exp": forged(HEAD, without_exp[:-1] + b',"exp":' + b"9" * 4000 + b"}"),
    "none": forged(b'{"alg":"none","kid":"k1","typ":"at+jwt"}', GOOD).rpartition(".")[0] + ".",
    "nOnE": forged(b'{"alg":"nOnE","kid":"k1","typ":"at+jwt"}', GOOD),
    "hs256": forged(b'{"alg":"hs256","kid":"k1","typ":"at+jwt"}', GOOD),
    "an unknown crit": forged(b'{"alg":"HS256","kid":"k1","typ":"at+jwt","crit":["x"],"x":1}', GOOD),
    "b64: false": forged(b'{"alg":"HS256","kid":"k1","typ":"at+jwt","b64":false}', GOOD),
    "an embedded key": forged(
        b'{"alg":"HS256","typ":"at+jwt","kid":"other","jwk":{"kty":"oct","k":"AAECAwQFBgcICQoLDA0ODw"}}', GOOD
    ),
    "deep nesting": forged(HEAD, GOOD[:-1] + b',"x":' + b"[" * 2000 + b"]" * 2000 + b"}"),
    "NaN": forged(HEAD, without_exp[:-1] + b',"exp":NaN}'),
}


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_is_refused(name: str) -> None:
    ours = TokenVerifier(RING, issuer="i", audience="a", clock=lambda: NOW)
    assert ours.verify(forged(HEAD, GOOD)).sub == "42"  # the same without the fault
    with pytest.raises(InvalidToken):
        ours.verify(PROBES[name])


@pytest.mark.parametrize("secret", [b"", b"6bytes"])
def test_a_probe_with_a_short_key_is_refused_when_it_is_loaded(secret: bytes) -> None:
    with pytest.raises(WeakSecret):
        Key._of("HS256", secret, "k1")
    with pytest.raises(WeakSecret):
        KeyRing.from_jwks({"keys": [{"kty": "oct", "alg": "HS256", "k": base64url.encode(secret)}]})
