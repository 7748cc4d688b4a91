"""Compact JWS: what is accepted, and everything that is not, whoever signed it (checklist 129-145, 152, 158, 159)."""

import base64
import codecs
import json
import random
import subprocess
import sys
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from coatcheck import ConfigurationError, InvalidToken
from coatcheck.core.signing import Hmac
from coatcheck.tokens import Key, KeyRing, base64url, jws

NOW = 1_800_000_000.0
SECRET = bytes(range(64))
HMAC = Key._of("HS256", SECRET, "k1")
RING = KeyRing([HMAC])
ALL = (
    "HS256",
    "HS384",
    "HS512",
    "ES256",
    "ES384",
    "Ed25519",
    "EdDSA",
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
)


def b64(data: bytes | str) -> str:
    return base64.urlsafe_b64encode(data.encode() if isinstance(data, str) else data).rstrip(b"=").decode()


def mac(text: str) -> str:
    return b64(Hmac(SECRET).digest(text.encode()))


def forged(header: Any, payload: bytes = b"{}") -> str:
    """Genuinely signed, whatever it says."""
    head = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    text = f"{b64(head)}.{b64(payload)}"
    return f"{text}.{mac(text)}"


def why(token: Any, ring: KeyRing = RING, **terms: Any) -> str:
    with pytest.raises(InvalidToken) as caught:
        jws.verify(token, ring, now=NOW, **terms)
    assert len(str(token)) < 9 or str(token)[:40] not in str(caught.value)
    return caught.value.reason


@pytest.fixture(scope="module")
def keys() -> dict[str, Key]:
    return {alg: Key.generate(alg, kid=alg) for alg in ALL}


@pytest.mark.parametrize("alg", ALL)
def test_what_a_key_signs_it_verifies(alg: str, keys: dict[str, Key]) -> None:
    ring = KeyRing([keys[alg]])
    token = jws.sign(keys[alg], b'{"sub":"42"}', typ="JWT", header={"cty": "x"})
    payload, header = jws.verify(token, ring, now=NOW)
    assert (payload, header.typ, header.key.kid) == (b'{"sub":"42"}', "jwt", alg)
    assert jws.verify(token, ring, now=NOW).payload == payload  # by the remembered header
    head, body, signature = token.split(".")
    other = "A" if signature[0] != "A" else "B"
    assert why(f"{head}.{body}.{other}{signature[1:]}", ring) == "signature"
    assert why(f"{head}.{b64('{}')}.{signature}", ring) == "signature"


@pytest.mark.parametrize("alg", [alg for alg in ALL if not alg.startswith("HS")])
def test_the_public_half_verifies_and_does_not_sign(alg: str, keys: dict[str, Key]) -> None:
    token, public = jws.sign(keys[alg], b"x"), keys[alg].public()
    assert jws.verify(token, KeyRing([public]), now=NOW).payload == b"x"
    with pytest.raises(RuntimeError, match="only verifies"):
        jws.sign(public, b"x")


def test_either_name_of_ed25519_is_read(keys: dict[str, Key]) -> None:
    old = Key._of("EdDSA", keys["Ed25519"].material, "Ed25519")
    for writer, reader in ((old, keys["Ed25519"]), (keys["Ed25519"], old)):
        assert jws.verify(jws.sign(writer, b"x"), KeyRing([reader]), now=NOW).payload == b"x"


# ---- 129-131: the algorithm is the key's


@pytest.mark.parametrize(
    "alg", ["none", "None", "NONE", "nOnE", "", None, "hs256", "HS256 ", ["HS256"], 1, "HS384", "ES256"]
)
def test_no_other_algorithm(alg: Any) -> None:
    assert why(forged({"alg": alg, "kid": "k1"})) == "algorithm"
    head = b64(json.dumps({"alg": alg, "kid": "k1"}))
    assert why(f"{head}.{b64('{}')}.") == "malformed"


def test_an_absent_algorithm() -> None:
    assert why(forged({"kid": "k1"})) == "algorithm"


@pytest.mark.parametrize("encoding", ["PEM", "DER"])
@pytest.mark.parametrize("tail", [b"", b"\n"])
def test_a_public_key_is_no_secret(encoding: str, tail: bytes, keys: dict[str, Key]) -> None:
    """Algorithm confusion: HS256 under the public key that everybody has."""
    public: Any = keys["RS256"].public().material
    known = (
        public.public_bytes(
            getattr(serialization.Encoding, encoding), serialization.PublicFormat.SubjectPublicKeyInfo
        ).strip()
        + tail
    )
    text = f"{b64(json.dumps({'alg': 'HS256', 'kid': 'RS256'}))}.{b64('{}')}"
    token = f"{text}.{b64(Hmac(known).digest(text.encode()))}"
    assert why(token, KeyRing([keys["RS256"].public()])) == "algorithm"


def test_one_rsa_key_is_for_one_algorithm(keys: dict[str, Key]) -> None:
    twin = Key._of("PS256", keys["RS256"].material, "RS256")
    assert why(jws.sign(twin, b"{}"), KeyRing([keys["RS256"]])) == "algorithm"
    head = b64(json.dumps({"alg": "RS256", "kid": "RS256"}))
    text = f"{head}.{b64('{}')}"
    token = f"{text}.{b64(twin.primitive.sign(text.encode()))}"
    assert why(token, KeyRing([keys["RS256"]])) == "signature"


# ---- 136, 137: the key is ours


@pytest.mark.parametrize("kid", ["../../dev/null", "' OR 1--", "|ls", "x" * 4000, "", "K1", "k1 "])
def test_the_key_id_is_a_name_and_nothing_else(kid: str) -> None:
    assert why(forged({"alg": "HS256", "kid": kid})) == "unknown_key"


@pytest.mark.parametrize("kid", [1, None, ["k1"], {"k": 1}, True])
def test_a_key_id_that_is_no_text(kid: Any) -> None:
    assert why(forged({"alg": "HS256", "kid": kid})) == "malformed"


def test_without_a_key_id_there_must_be_one_candidate() -> None:
    token = forged({"alg": "HS256"})
    assert jws.verify(token, RING, now=NOW).payload == b"{}"
    two = KeyRing([HMAC, Key._of("HS256", bytes(64), "k2")])
    assert why(token, two) == "unknown_key"


def test_an_embedded_key_is_not_used(keys: dict[str, Key]) -> None:
    """Authlib CVE-2026-27962."""
    mine, theirs = keys["ES256"], Key.generate("ES256", kid="ES256")
    token = jws.sign(
        theirs,
        b"{}",
        header={"jwk": theirs.jwk(), "jku": "https://evil.example/jwks", "x5u": "https://evil.example"},
    )
    assert why(token, KeyRing([mine])) == "signature"


_OPENS_NOTHING = """
import sys
from coatcheck.tokens import Key, KeyRing, jws
from coatcheck.errors import InvalidToken
ring, theirs = KeyRing([Key.generate("ES256", kid="k")]), Key.generate("ES256", kid="../../etc/passwd")
header = {"jku": "http://127.0.0.1:9/jwks", "x5u": "file:///etc/passwd"}
tokens = [jws.sign(theirs, b"{}", header=header), jws.sign(Key.generate("ES256", kid="k"), b"{}", header=header)]
jws.verify(jws.sign(ring.signer, b"{}"), ring, now=0.0)
seen = []
sys.addaudithook(lambda event, args: seen.append(event) if event.startswith(("open", "socket.", "os.")) else None)
for token in tokens:
    try:
        jws.verify(token, ring, now=0.0)
    except InvalidToken:
        continue
    sys.exit("accepted")
sys.exit(str(seen) if seen else 0)
"""


def test_no_file_and_no_network_is_touched() -> None:
    """Audit hooks stay for the life of a process, so this one has its own."""
    done = subprocess.run(
        [sys.executable, "-c", _OPENS_NOTHING], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


# ---- 139, 140, 155: what changes the meaning of a token


@pytest.mark.parametrize(
    "more",
    [
        {"crit": []}, {"crit": ["exp"]}, {"crit": ["b64"], "b64": False}, {"crit": "exp"}, {"crit": None}, {"crit": ["alg"]},
        {"b64": False}, {"b64": True}, {"zip": "DEF"}, {"enc": "A256GCM"},
    ],
)  # fmt: skip
def test_headers_that_change_the_meaning(more: dict[str, Any]) -> None:
    assert why(forged({"alg": "HS256", "kid": "k1", **more})) == "header"
    with pytest.raises(ConfigurationError, match="cannot be set"):
        jws.sign(HMAC, b"{}", header=more)


def test_alg_and_kid_are_not_the_callers_to_say() -> None:
    with pytest.raises(ConfigurationError, match="alg, kid cannot be set"):
        jws.sign(HMAC, b"{}", header={"alg": "none", "kid": "other"})


# ---- 141, 143: JSON that says one thing


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"none","alg":"HS256","kid":"k1"}',
        b'{"alg":"HS256","alg":"none","kid":"k1"}',
        b'{"alg":"HS256","kid":"k1","\\u006bid":"k1"}',
        b'{"alg":"HS256","kid":"k1","x":{"a":1,"a":2}}',
        codecs.BOM_UTF8 + b'{"alg":"HS256","kid":"k1"}',
        '{"alg":"HS256","kid":"k1"}'.encode("utf-16"),
        '{"alg":"HS256","kid":"k1"}'.encode("utf-16-le"),
        '{"alg":"HS256","kid":"k1"}'.encode("utf-32"),
        b'{"alg":"HS256","kid":"k1\xff"}',
        b'["HS256"]', b"1", b"null", b'"HS256"', b"", b"{", b'{"alg":"HS256","kid":"k1"} {}',
        b'{"alg":"HS256","kid":"k1","n":NaN}',
        b'{"alg":"HS256","kid":"k1","n":1e400}', b'{"alg":"HS256","kid":"k1","n":' + b"[" * 3000 + b"]" * 3000 + b"}",
    ],
)  # fmt: skip
def test_a_header_that_is_no_plain_object(header: bytes) -> None:
    assert why(forged(header)) == "malformed"


def test_space_and_order_are_free() -> None:
    token = forged(b' { "kid" : "k1" , "alg" : "HS256" } ')
    assert jws.verify(token, RING, now=NOW).payload == b"{}"


# ---- 142, 144, 152: the form


GOOD = forged({"alg": "HS256", "kid": "k1"}, b'{"sub":"4"}')


@pytest.mark.parametrize(
    "token",
    [
        "", ".", "..", "a.b", "a.b.c.d", GOOD + ".", "." + GOOD, GOOD + "=", GOOD + "==", GOOD + "\n", " " + GOOD, GOOD + " ",
        GOOD.replace(".", ".\n", 1), GOOD.replace(".", "..", 1), GOOD + "\x00", "\ufeff" + GOOD, GOOD + "é",
        json.dumps({"payload": "e30", "signatures": []}), ".".join("abcde"), GOOD.encode(), None, 7, ["a"],
    ],
)  # fmt: skip
def test_what_is_no_compact_token(token: Any) -> None:
    assert why(token) == "malformed"


def test_spare_bits_and_lengths_have_one_spelling() -> None:
    """The last character of the signature has spellings that decode alike: only the one of zero bits is ours."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(GOOD[-1])
    twins = [GOOD[:-1] + alphabet[last ^ bits] for bits in (1, 2, 3)]
    decoded = {base64.urlsafe_b64decode(twin.rpartition(".")[2] + "=") for twin in twins}
    assert decoded == {base64.urlsafe_b64decode(GOOD.rpartition(".")[2] + "=")}
    assert {why(twin) for twin in twins} == {"malformed"}
    assert why(GOOD[:-3]) in ("malformed", "signature")
    for data in (b"", b"a", b"ab", b"abc", bytes(range(256))):
        assert base64url.decode(base64url.encode(data)) == data


def test_a_huge_token_is_refused_at_once() -> None:
    head = b64(json.dumps({"alg": "HS256", "kid": "k1", "pad": "x" * 10_000_000}))
    text = f"{head}.{b64('{}')}"
    token = f"{text}.{mac(text)}"
    began = time.process_time()
    assert why(token) == "too_large"
    assert (
        time.process_time() - began < 0.05
    )  # looking at its length takes microseconds, decoding it half a second
    assert (
        jws.verify(token, RING, now=NOW, max_length=20_000_000).payload == b"{}"
    )  # that is why, and no other reason


def test_whatever_is_passed_only_invalid_token_is_raised() -> None:
    """Every octet of a genuine token replaced by every other of a sample, and pieces cut out."""
    chance = random.Random(6)
    for at in range(len(GOOD)):
        for other in chance.sample([chr(code) for code in range(1, 256)], 12):
            if other != GOOD[at]:
                assert why(GOOD[:at] + other + GOOD[at + 1 :])
        assert why(GOOD[:at] + GOOD[at + 1 :])


# ---- 158: ECDSA


def test_a_der_signature_is_none_here(keys: dict[str, Key]) -> None:
    private: Any = keys["ES256"].material
    text = f"{b64(json.dumps({'alg': 'ES256', 'kid': 'ES256'}))}.{b64('{}')}"
    der = private.sign(text.encode(), ec.ECDSA(hashes.SHA256()))
    assert why(f"{text}.{b64(der)}", KeyRing([keys["ES256"]])) == "signature"


def test_zeros_sign_nothing(keys: dict[str, Key]) -> None:
    """CVE-2022-21449."""
    text = f"{b64(json.dumps({'alg': 'ES256', 'kid': 'ES256'}))}.{b64('{}')}"
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    for signature in (
        bytes(64),
        order.to_bytes(32, "big") * 2,
        bytes(63),
        bytes(65),
        b"",
        bytes(31) + b"\1" + bytes(32),
    ):
        assert why(f"{text}.{b64(signature) or 'AA'}", KeyRing([keys["ES256"]])) == "signature"


# ---- the memory of headers


def test_only_genuine_headers_are_remembered() -> None:
    ring = KeyRing([HMAC])
    for number in range(200):
        text = f"{b64(json.dumps({'alg': 'HS256', 'kid': 'k1', 'n': number}))}.{b64('{}')}"
        assert why(f"{text}.{b64(bytes(32))}", ring) == "signature"
    assert not ring.seen
    for number in range(200):
        jws.verify(forged({"alg": "HS256", "kid": "k1", "n": number}), ring, now=NOW)
    assert 0 < len(ring.seen) <= 64


def test_a_retired_key_ends_though_its_header_is_remembered() -> None:
    ring = KeyRing([HMAC.until(NOW)])
    token = forged({"alg": "HS256", "kid": "k1"})
    assert jws.verify(token, ring, now=NOW - 1).payload == b"{}"
    assert why(token, ring) == "unknown_key"


def test_foreign_rsa_signatures_of_another_length(keys: dict[str, Key]) -> None:
    other = rsa.generate_private_key(65537, 2048)
    text = f"{b64(json.dumps({'alg': 'RS256', 'kid': 'RS256'}))}.{b64('{}')}"
    assert (
        why(
            f"{text}.{b64(Key._of('RS256', other, 'x').primitive.sign(text.encode()))}",
            KeyRing([keys["RS256"]]),
        )
        == "signature"
    )
