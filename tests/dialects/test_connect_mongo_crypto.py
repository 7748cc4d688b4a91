"""connect-mongo's encryptions: its golden vectors, octet for octet; the real adapters, both ways; what is not theirs to open."""

import json
import subprocess
from base64 import b64decode, b64encode
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from coatcheck.dialects.express.connect_mongo_crypto import Kruptein, WebCrypto, _der
from coatcheck.errors import ConfigurationError, CorruptRecord
from tests.dialects.node import ROOM

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "connect_mongo.json").read_text("utf-8"))
SECRET: str = VECTORS["secret"]
TEXT = '{"cookie":{"originalMaxAge":null,"expires":null,"path":"/"},"who":"Zoë ☃ \\u2028 𝄞 \\\\ \\" \\n"}'.encode()
FEW = 1_000
"""Rounds for keys in tests that are not about their number."""
Crypto = Kruptein | WebCrypto


def stored(name: str) -> str:
    """What the package stored for the session of the vectors."""
    text: str = VECTORS["updates"][name][1]["$set"]["session"]
    return text


def says(text: bytes) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(text)
    return said


# --------------------------------------------------------------------------------------------------------- golden vectors


@cache
def golden(name: str) -> Crypto:
    return Kruptein(secret=SECRET) if name.startswith("kruptein") else WebCrypto(secret=SECRET)


@pytest.mark.parametrize("name", ["kruptein", "kruptein_nostr", "web", "web_nostr"])
def test_what_the_package_stored_is_read(name: str) -> None:
    body = says(golden(name).decrypt(stored(name)))
    assert (body["views"], body["who"], body["cookie"]["originalMaxAge"]) == (1, "Zoë ☃", 600_000)


@pytest.mark.parametrize("name", ["web", "web_nostr"])
def test_web_crypto_is_written_octet_for_octet(name: str) -> None:
    iv = b64decode(stored(name))[:12]
    drawn: list[int] = []

    def random(size: int) -> bytes:
        drawn.append(size)
        return iv

    text = golden(name).decrypt(stored(name))
    assert WebCrypto(secret=SECRET, random=random).encrypt(text) == stored(name)
    assert drawn == [12]


@pytest.mark.parametrize("name", ["kruptein", "kruptein_nostr"])
def test_kruptein_is_written_octet_for_octet(name: str) -> None:
    """With the salt, the IV and the AAD of the vector: the AAD is a digest under 128 octets that are thrown away."""
    _, _, iv, salt, _, aad = elements(stored(name))
    pieces = iter([bytes(128), salt, iv])
    kruptein = Kruptein(secret=SECRET, random=lambda size: next(pieces))
    digest = kruptein._digest
    kruptein._digest = lambda key, message: aad if key == bytes(128) else digest(key, message)  # type: ignore[method-assign]
    assert kruptein.encrypt(kruptein.decrypt(stored(name))) == stored(name)


def elements(text: str) -> list[bytes]:
    """The octet strings of what kruptein stored: no field here is longer than 64 KiB."""
    der, at, parts = b64decode(text), 4, []
    while at < len(der):
        assert der[at] == 0x04
        size, start = der[at + 1], at + 2
        if size > 0x80:
            start += size - 0x80
            size = int.from_bytes(der[at + 2 : start])
        parts.append(der[start : start + size])
        at = start + size
    return parts


# -------------------------------------------------------------------------------------------------------------- live

KRUPTEIN: list[dict[str, Any]] = [
    {},
    {"encodeas": "hex"},
    {"encodeas": "base64url"},
    {"hashing": "sha256", "algorithm": "aes-128-gcm"},
    {"hashing": "sha384", "algorithm": "aes-192-gcm"},
    {"algorithm": "aes-256-cbc"},
    {"algorithm": "aes-128-cbc", "encodeas": "hex"},
    {"algorithm": "aes-256-ctr"},
    {"use_scrypt": True},
    {"key_size": 16, "iv_size": 8, "at_size": 12},  # which do nothing there
]
WEB: list[dict[str, Any]] = [
    {"iterations": FEW, "algorithm": algorithm, "encoding": encoding}
    for algorithm in ("AES-GCM", "AES-CBC")
    for encoding in ("base64", "base64url", "hex")
] + [{}, {"iterations": FEW, "salt": "pepper", "ivLength": 16}]
PYTHON = {"ivLength": "iv_length"}
IGNORED = {"key_size", "iv_size", "at_size"}
COMBINATIONS = [("kruptein", options) for options in KRUPTEIN] + [("web", options) for options in WEB]


@cache
def made(index: int, secret: str = SECRET) -> Crypto:
    kind, options = COMBINATIONS[index]
    ours = {PYTHON.get(name, name): value for name, value in options.items() if name not in IGNORED}
    return (Kruptein if kind == "kruptein" else WebCrypto)(secret=secret, **ours)


def by_node(jobs: list[list[Any]]) -> list[tuple[str | None, str | None]]:
    """What the real adapters answer, and what went wrong."""
    done = subprocess.run(
        ["node", ROOM / "connect_mongo_crypto.mjs"], cwd=ROOM, input=json.dumps(jobs),
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return [(answer, wrong) for answer, wrong in json.loads(done.stdout)]


@pytest.fixture(scope="module")
def live() -> list[dict[str, Any]]:
    """For each combination: what Node made of TEXT, and what it read in what we made; under our secret and another."""
    jobs: list[list[Any]] = []
    for index, (kind, options) in enumerate(COMBINATIONS):
        node = {"secret": SECRET, **options}
        jobs += [
            [kind, node, "encrypt", TEXT.decode()],
            [kind, node, "decrypt", made(index).encrypt(TEXT)],
            [kind, node, "decrypt", made(index, "another").encrypt(TEXT)],
        ]
    answers = by_node(jobs)
    return [
        {"theirs": answers[at][0], "ours": answers[at + 1][0], "wrong": answers[at + 2]}
        for at in range(0, len(answers), 3)
    ]


@pytest.mark.parametrize("index", range(len(COMBINATIONS)), ids=lambda index: str(COMBINATIONS[index]))
def test_the_real_adapters_both_ways(index: int, live: list[dict[str, Any]]) -> None:
    answer = live[index]
    assert made(index).decrypt(answer["theirs"]) == TEXT
    ours = answer["ours"]
    assert (json.loads(ours) if ours.startswith('"') else ours) == TEXT.decode()
    with pytest.raises(CorruptRecord, match=r"crypto=\w+\(secret=…\)"):
        made(index, "another").decrypt(answer["theirs"])
    if COMBINATIONS[index][1].get("algorithm") != "AES-CBC":  # which may open anything
        assert answer["wrong"][1] is not None


# ------------------------------------------------------------------------------------------------------- what is not theirs


@pytest.fixture(scope="module", params=["kruptein", "web"])
def crypto(request: pytest.FixtureRequest) -> Crypto:
    kruptein = request.param == "kruptein"
    return Kruptein(secret=SECRET) if kruptein else WebCrypto(secret=SECRET, iterations=FEW)


@pytest.mark.parametrize("index", range(0, len(COMBINATIONS), 3))
def test_another_secret_opens_nothing_and_says_nothing(index: int) -> None:
    with pytest.raises(CorruptRecord) as refused:
        made(index, "another").decrypt(made(index).encrypt(TEXT))
    said = f"{refused.value} {refused.value!r} {refused.value.__cause__}"
    for secret in ("another", SECRET, "Zoë", "originalMaxAge"):
        assert secret not in said
    assert refused.value.__suppress_context__


def test_every_octet_counts(crypto: Crypto) -> None:
    """Of what GCM and HMAC protect: all of it. One salt for all, or a key would have to be derived for each."""
    octets = bytearray(b64decode(crypto.encrypt(TEXT)))
    for at in range(0, len(octets), 7):
        changed = octets[:at] + bytes([octets[at] ^ 1]) + octets[at + 1 :]
        with pytest.raises(CorruptRecord):
            crypto.decrypt(b64encode(changed).decode())
    for size in range(0, len(octets), 31):
        with pytest.raises(CorruptRecord):
            crypto.decrypt(b64encode(octets[:size]).decode())


def test_a_tag_may_not_be_cut_short() -> None:
    kruptein = Kruptein(secret=SECRET)
    *others, tag, aad = elements(kruptein.encrypt(TEXT))
    assert kruptein.decrypt(b64encode(_der([*others, tag, aad])).decode()) == TEXT
    for parts in ([*others, tag[:4], aad], others, [*others, tag], [*others, tag, aad, b""]):
        with pytest.raises(CorruptRecord):
            kruptein.decrypt(b64encode(_der(parts)).decode())


@pytest.mark.parametrize(
    "text", ["", "{}", "é", "MA==", "MIA=", "MIR/////", "MIL//w==", "!!!!", "\0", "AAAA" * 100]
)
def test_what_is_no_ciphertext_is_refused(text: str, crypto: Crypto) -> None:
    with pytest.raises(CorruptRecord):
        crypto.decrypt(text)


def test_no_record_is_like_another(crypto: Crypto) -> None:
    assert crypto.encrypt(TEXT) != crypto.encrypt(TEXT)


def test_a_key_is_derived_once_for_each_salt() -> None:
    kruptein = Kruptein(secret=SECRET)
    once = kruptein.encrypt(TEXT)
    for _ in range(3):
        kruptein.decrypt(once)
    assert kruptein._key.cache_info().misses == 1  # (an AAD takes no key)


def test_nothing_secret_is_shown(crypto: Crypto) -> None:
    assert SECRET not in repr(crypto)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Kruptein, {"secret": ""}, "secret"),
        (Kruptein, {"secret": b"squirrel"}, "secret"),
        (Kruptein, {"algorithm": "aes-256-ecb"}, "algorithm"),
        (Kruptein, {"algorithm": "aes-256-ccm"}, "algorithm"),
        (Kruptein, {"hashing": "md5"}, "hashing"),
        (Kruptein, {"encodeas": "binary"}, "encodeas"),
        (WebCrypto, {"secret": ""}, "secret"),
        (WebCrypto, {"secret": None}, "secret"),
        (WebCrypto, {"encoding": "utf8"}, "encoding"),
        (WebCrypto, {"algorithm": "AES-CTR"}, "algorithm"),
        (WebCrypto, {"algorithm": "AES-CBC", "iv_length": 12}, "iv_length"),
        (WebCrypto, {"iv_length": 4}, "iv_length"),
        (WebCrypto, {"iterations": 0}, "iterations"),
    ],
)
def test_a_wrong_option_is_named(kind: type[Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        kind(**{"secret": SECRET} | options)
