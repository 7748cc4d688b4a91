"""Which secrets are refused (checklist 18, 19, 21), and that random ones are not."""

import base64
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.core.secret import check_secret, normalise, reader
from coatcheck.errors import ConfigurationError, WeakSecret

GOOD = "kY3vQ0pXw7ZrT5uJ1mB9cN4sL8dF2gH6aE0iOoPyUtR"
GOOD_TOO = "Zx8Cv5Bn2Mq9We4Rt7Yu1Io6Pa3Sd0Fg5Hj8Kl2ZcVb"
PUBLIC_PEM = """-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEVs/o5+uQbTjL3chynL4wXgUg2R9
q9UU8I5mEovUf86QZ7kOBIjJwqnzD1omageEHWwHdBO6B+dFabmdT9POxg==
-----END PUBLIC KEY-----
"""

WEAK: list[tuple[Any, str]] = [
    (None, "missing"),
    ("", "missing"),
    (b"", "missing"),
    ("   \n", "missing"),
    (b" " * 64, "missing"),
    ([], "empty list"),
    ((), "empty list"),
    ([None], "missing"),
    ([""], "missing"),
    ([GOOD, ""], "missing"),
    ([GOOD, "changeme"], "well-known"),
    ("secret", "well-known"),
    ("Secret", "well-known"),
    ("changeme", "well-known"),
    ("dev", "well-known"),
    ("temporary_key", "well-known"),
    ("keyboard cat", "well-known"),
    ("\2\1thisismyscretkey\1\2\\e\\y\\y\\h", "well-known"),
    ("CHANGE_ME_TO_A_COMPLEX_RANDOM_SECRET", "well-known"),
    ("YOUR_OWN_RANDOM_GENERATED_SECRET_KEY", "well-known"),
    ("thisISaSECRET_1234", "well-known"),
    ("TEST_NON_DEV_SECRET", "well-known"),
    ("ThisTokenIsNotSoSecretChangeIt", "well-known"),
    ("a-string-secret-at-least-256-bits-long", "well-known"),
    ("your-256-bit-secret-your-256-bit-secret", "well-known"),
    ("09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7", "well-known"),
    ("192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf", "well-known"),
    ("sk-9f73s3ljTXVcMT3Blb3ljTqtsKiGHXVcMT3BlbkFJLK7U", "well-known"),
    ("my super secret key nobody will ever guess", "well-known"),
    ("please-replace-this-before-you-deploy-to-production", "well-known"),
    ("django-insecure-8#v!7x)2k$h0r@q4^z9m&b1c(w5t*y3u_e6", "django-admin startproject"),
    ("a" * 64, "regular"),
    (b"\x00" * 32, "regular"),
    ("ab" * 20, "regular"),
    ("0123456789" * 4, "well-known"),
    ("9081726354" * 4, "regular"),
    ("zK8$qW1!xR5%" * 4, "regular"),
    ("zK8$qW1!xR5%zK8$qW1!xR5%zK8$qW1!xR", "regular"),
    ("ABCDEFGHIJKLMNOPQRSTUVWXYZ-0987654321", "well-known"),
    (bytes(range(40)), "regular"),
    (bytes(range(40, 0, -1)), "regular"),
    ("987654321 fedcba ZYXWVUTS 6543210 poiuy", "regular"),
    (bytes.fromhex("8f1c0be25d7a93e44f60b8d2a7135ce9f08b6a2d41c7953e12d8f6a07b4c9e"), "fewer than 32"),
    (GOOD[:31], "fewer than 32"),
    ("hunter2", "fewer than 32"),
    ("f47ac10b-58cc-4372-a567-0e02b2c3d479", "UUID"),
    ("F47AC10B58CC4372A5670E02B2C3D479", "UUID"),
    ("{f47ac10b-58cc-4372-a567-0e02b2c3d479}", "UUID"),
    ("urn:uuid:f47ac10b-58cc-4372-a567-0e02b2c3d479", "UUID"),
    ("5ebe2294ecd0e0f08eab7690d2a6ee69", "UUID"),
    (PUBLIC_PEM, "key file"),
    (PUBLIC_PEM.encode(), "key file"),
    ("\n" + PUBLIC_PEM, "key file"),
    ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@host", "key file"),
    ("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQDJ3p6rP2oX", "key file"),
    ("ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBB", "key file"),
    ('{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4"}', "key file"),
    ("${SECRET}", "placeholder"),
    ("${SESSION_SECRET:-f3Jq8wZ0rT6yU2pLxN5vB1mK}", "placeholder"),
    ("$SESSION_SECRET", "placeholder"),
    ("$(openssl rand -base64 32)", "placeholder"),
    ("{{ vault_session_secret }}", "placeholder"),
    ("{{.Values.session.secret | b64enc | quote}}", "placeholder"),
    ("<paste 32 random bytes here, base64 encoded>", "placeholder"),
    ("%(ENV_SESSION_SECRET)s", "placeholder"),
    ("%SESSION_SECRET%", "placeholder"),
    ("os.environ['SESSION_SECRET_OF_THE_WEB_APP']", "placeholder"),
    ("process.env.SESSION_SECRET_OF_THE_WEB_APP", "placeholder"),
]
IDS = [ascii(secret)[:30] for secret, _ in WEAK]


@pytest.mark.parametrize(("secret", "reason"), WEAK, ids=IDS)
def test_18_weak_secrets_are_refused_with_the_reason_and_the_fix(secret: Any, reason: str) -> None:
    with pytest.raises(WeakSecret) as caught:
        normalise(secret, setting="SESSION_SECRET")
    message = str(caught.value)
    assert message.startswith("SESSION_SECRET ")
    assert reason in message
    assert "`coatcheck secret`" in message


@pytest.mark.parametrize(("secret", "reason"), WEAK, ids=IDS)
def test_21_the_refusal_never_repeats_the_secret(secret: Any, reason: str) -> None:
    with pytest.raises(WeakSecret) as caught:
        normalise(secret, setting="signing_key")
    message = str(caught.value) + repr(caught.value.__cause__) + repr(caught.value.__context__)
    for one in secret if isinstance(secret, list | tuple) else [secret]:
        text = one.decode("latin-1") if isinstance(one, bytes) else one or ""
        pieces = [text[at : at + 8] for at in range(max(1, len(text) - 7))]
        # "secret" and "dev" are words of ours too: what is longer than a word must not occur.
        assert not [piece for piece in pieces if len(piece) == 8 and piece.strip() and piece in message]


@pytest.mark.parametrize(
    "secret",
    [
        12345,
        1.5,
        True,
        {"a": 1},
        {GOOD},
        pytest.param(object(), id="an object"),
        [[GOOD]],
        bytearray(b"x" * 40),
        [GOOD, 5],
    ],
    ids=ascii,
)
def test_what_can_be_no_secret_at_all_is_refused_by_type(secret: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^secret is of type ") as caught:
        normalise(secret)
    assert GOOD not in str(caught.value)


def test_halves_of_surrogate_pairs_are_bytes_too() -> None:
    """os.environ hands bytes that are not UTF-8 over like this; an encoding error would carry the secret."""
    assert len(check_secret(GOOD + "\udcff")) == len(GOOD) + 3


@pytest.mark.parametrize("secret", [None, "", b"", "  ", [], [""], [None]], ids=ascii)
def test_18_insecure_dev_lets_no_empty_secret_pass(secret: Any) -> None:
    with pytest.raises(WeakSecret):
        normalise(secret, insecure_dev=True)


@pytest.mark.parametrize("secret", ["dev", "changeme", "a" * 64, PUBLIC_PEM])
def test_18_insecure_dev_lets_weak_secrets_pass(secret: str) -> None:
    assert normalise(secret, insecure_dev=True) == (secret.encode(),)


def test_15_one_or_several_in_their_order() -> None:
    assert normalise(GOOD) == normalise(GOOD.encode()) == (GOOD.encode(),)
    assert normalise([GOOD_TOO, GOOD.encode()]) == (GOOD_TOO.encode(), GOOD.encode())
    assert normalise((GOOD, GOOD_TOO, GOOD)) == (GOOD.encode(), GOOD_TOO.encode())


MAKERS: dict[str, Callable[[], str | bytes]] = {
    "coatcheck secret": lambda: secrets.token_urlsafe(48),
    "token_urlsafe()": lambda: secrets.token_urlsafe(),
    "token_hex(), openssl rand -hex 32": lambda: secrets.token_hex(),
    "openssl rand -hex 20": lambda: secrets.token_hex(20),
    "openssl rand -base64 32": lambda: base64.b64encode(secrets.token_bytes(32)).decode(),
    "openssl rand -base64 42": lambda: base64.b64encode(secrets.token_bytes(42)).decode(),
    "os.urandom(32)": lambda: secrets.token_bytes(32),
    "Django": lambda: "".join(
        secrets.choice("abcdefghijklmnopqrstuvwxyz0123456789!@#$%^&*(-_=+)") for _ in range(50)
    ),
    "base32": lambda: base64.b32encode(secrets.token_bytes(32)).decode().lower(),
}


@pytest.mark.parametrize("maker", MAKERS)
def test_random_secrets_of_every_usual_make_are_taken(maker: str) -> None:
    for _ in range(200):
        check_secret(MAKERS[maker]())


@given(st.binary(max_size=100) | st.text(max_size=100))
def test_anything_is_either_taken_or_refused(secret: bytes | str) -> None:
    try:
        found = check_secret(secret)
    except WeakSecret:
        return
    assert len(found) >= 32


def test_20_a_file_is_read_each_time_it_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "secrets"
    path.write_text(f"{GOOD}\n")
    read = reader(path)
    assert normalise(read()) == (GOOD.encode(),)
    path.write_text(f"{GOOD_TOO}\n{GOOD}\n")
    assert normalise(read()) == (GOOD_TOO.encode(), GOOD.encode())


def test_20_a_function_is_its_own_reader() -> None:
    assert reader(lambda: GOOD)() == GOOD
