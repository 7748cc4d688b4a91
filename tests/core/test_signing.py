"""Signing and verifying, named by the lines of the security checklist (12, 15 to 17, 19 to 21), and the RFCs' own vectors."""

import hmac
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.core import signing
from coatcheck.core.signing import (
    MAC_CHARS,
    Hmac,
    KeyRing,
    RotatingKeyRing,
    Verified,
    derive_key,
    hkdf,
    key_rings,
)
from coatcheck.errors import BadSignature, ConfigurationError, WeakSecret

NEW = b"kY3vQ0pXw7ZrT5uJ1mB9cN4sL8dF2gH6aE0iOoPyUtR"
OLD = b"Zx8Cv5Bn2Mq9We4Rt7Yu1Io6Pa3Sd0Fg5Hj8Kl2ZcVb"
PURPOSE = "cookie:__Host-session"
TEXT = "AAAAAAAAAAAAAAAAAAAAAA.BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"


def ring(*secrets: bytes, purpose: str = PURPOSE) -> KeyRing:
    return KeyRing(secrets, purpose=purpose)


def other(character: str) -> str:
    return "A" if character != "A" else "B"


# ---------------------------------------------------------------------------------------------------- what a signature is


def test_a_signature_is_192_bits_of_base64url() -> None:
    mac = ring(NEW).sign(TEXT)
    assert len(mac) == MAC_CHARS
    assert set(mac) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_the_signature_is_pinned() -> None:
    """A release that signs otherwise signs everybody out."""
    assert ring(NEW).sign(TEXT) == "n7sBBqYZiYOzighzkR2_Rr6SSjCPgCjo"


def test_what_was_signed_is_verified() -> None:
    assert ring(NEW).verify(TEXT, ring(NEW).sign(TEXT)) is Verified.NEWEST


@given(st.text())
def test_any_text_can_be_signed(text: str) -> None:
    assert ring(NEW).verify(text, ring(NEW).sign(text)) is Verified.NEWEST


@pytest.mark.parametrize("at", range(MAC_CHARS))
def test_no_character_of_the_signature_may_differ(at: int) -> None:
    mac = ring(NEW).sign(TEXT)
    with pytest.raises(BadSignature):
        ring(NEW).verify(TEXT, mac[:at] + other(mac[at]) + mac[at + 1 :])


@pytest.mark.parametrize("at", range(len(TEXT)))
def test_no_character_of_the_text_may_differ(at: int) -> None:
    with pytest.raises(BadSignature):
        ring(NEW).verify(TEXT[:at] + other(TEXT[at]) + TEXT[at + 1 :], ring(NEW).sign(TEXT))


def test_halves_of_surrogate_pairs_are_different_texts() -> None:
    mac = ring(NEW).sign("\ud800")
    for text in ("\ud801", "?", "\ufffd", ""):
        with pytest.raises(BadSignature):
            ring(NEW).verify(text, mac)


GENUINE = ring(NEW).sign(TEXT)
NOT_MACS: list[Any] = [
    None, "", b"", 0, False, True, [], GENUINE.encode(), bytearray(GENUINE.encode()), [GENUINE], type("S", (str,), {})(GENUINE),
    GENUINE[:-1], GENUINE + "A", GENUINE + "=", " " + GENUINE, GENUINE[:24], GENUINE.lower(), GENUINE.swapcase(),
    "é" * MAC_CHARS, "\ud800" * MAC_CHARS, "\x00" * MAC_CHARS, "\uff21" * MAC_CHARS, "=" * MAC_CHARS, "A" * 1_000_000,
]  # fmt: skip


@pytest.mark.parametrize("mac", NOT_MACS, ids=[ascii(mac)[:20] for mac in NOT_MACS])
def test_211_what_is_no_signature_raises_bad_signature_and_nothing_else(mac: Any) -> None:
    with pytest.raises(BadSignature):
        ring(NEW, OLD).verify(TEXT, mac)


@pytest.mark.parametrize("text", [None, "", b"", 0, TEXT.encode(), "é", "\ud800", "\x00"], ids=ascii)
def test_211_what_is_no_signed_text_raises_bad_signature_and_nothing_else(text: Any) -> None:
    with pytest.raises(BadSignature):
        ring(NEW, OLD).verify(text, GENUINE)


def test_211_every_verdict_that_is_returned_is_true() -> None:
    assert all(Verified)


# ---------------------------------------------------------------------------------------------------- checklist 12


def test_12_every_comparison_goes_through_compare_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[str, str]] = []

    def watched(a: str, b: str) -> bool:
        compared.append((a, b))
        return hmac.compare_digest(a, b)

    monkeypatch.setattr(signing, "compare_digest", watched)
    forged = other(GENUINE[0]) + GENUINE[1:]
    with pytest.raises(BadSignature):
        ring(NEW, OLD).verify(TEXT, forged)
    assert compared == [(GENUINE, forged), (ring(OLD).sign(TEXT), forged)]


@pytest.mark.parametrize("says", [True, False])
def test_12_nothing_but_compare_digest_decides(monkeypatch: pytest.MonkeyPatch, says: bool) -> None:
    monkeypatch.setattr(signing, "compare_digest", lambda *_: says)
    if says:
        assert ring(NEW).verify(TEXT, "A" * MAC_CHARS) is Verified.NEWEST
    else:
        with pytest.raises(BadSignature):
            ring(NEW).verify(TEXT, GENUINE)


# ---------------------------------------------------------------------------------------------------- checklist 15, 16


def test_15_the_newest_key_signs_and_all_verify() -> None:
    both, old_cookie = ring(NEW, OLD), ring(OLD).sign(TEXT)
    assert both.sign(TEXT) == ring(NEW).sign(TEXT)
    assert both.verify(TEXT, both.sign(TEXT)) is Verified.NEWEST
    assert both.verify(TEXT, old_cookie) is Verified.OLDER


def test_15_a_third_key_is_older_too() -> None:
    assert ring(NEW, NEW[::-1], OLD).verify(TEXT, ring(OLD).sign(TEXT)) is Verified.OLDER


def test_15_the_order_is_the_users() -> None:
    assert ring(OLD, NEW).verify(TEXT, ring(NEW).sign(TEXT)) is Verified.OLDER


def test_15_a_key_that_was_removed_verifies_nothing() -> None:
    with pytest.raises(BadSignature):
        ring(NEW).verify(TEXT, ring(OLD).sign(TEXT))


@pytest.mark.parametrize("kid", ["unknown", "../x", "k" * 10_240, "0", "1"])
def test_16_nothing_in_the_text_chooses_the_key(monkeypatch: pytest.MonkeyPatch, kid: str) -> None:
    tried: list[str] = []
    monkeypatch.setattr(signing, "compare_digest", lambda a, b: tried.append(a))
    with pytest.raises(BadSignature):
        ring(NEW, OLD).verify(f"{kid}.{TEXT}", GENUINE)
    assert tried == [ring(NEW).sign(f"{kid}.{TEXT}"), ring(OLD).sign(f"{kid}.{TEXT}")]


# ---------------------------------------------------------------------------------------------------- checklist 17

PURPOSES = [
    "cookie:session",
    "cookie:__Host-session",
    "cookie:admin",
    "csrf",
    "refresh token",
    "access token",
    "cookie:",
]


@pytest.mark.parametrize("made", PURPOSES)
@pytest.mark.parametrize("shown", PURPOSES)
def test_17_signed_for_one_purpose_is_nothing_for_another(made: str, shown: str) -> None:
    mac = ring(NEW, purpose=made).sign(TEXT)
    if made == shown:
        assert ring(NEW, purpose=shown).verify(TEXT, mac) is Verified.NEWEST
    else:
        with pytest.raises(BadSignature):
            ring(NEW, purpose=shown).verify(TEXT, mac)


def test_17_the_secret_itself_signs_nothing() -> None:
    assert (
        hmac.digest(NEW, TEXT.encode(), "sha256")[:24]
        != Hmac(derive_key(NEW, PURPOSE)).digest(TEXT.encode())[:24]
    )


def test_17_a_ring_without_a_purpose_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="purpose"):
        ring(NEW, purpose="")


def test_17_each_cookie_name_gets_its_own_key() -> None:
    rings = key_rings(NEW)
    with pytest.raises(BadSignature):
        rings("cookie:b").at(0).verify(TEXT, rings("cookie:a").at(0).sign(TEXT))
    assert rings("cookie:a").at(0).sign(TEXT) == ring(NEW, purpose="cookie:a").sign(TEXT)


# ---------------------------------------------------------------------------------------------------- checklist 19


@pytest.mark.parametrize(
    "secrets",
    [[], [b""], [NEW, b""], (), [None], None, b"", "", NEW, NEW.decode(), [NEW.decode()]],
    ids=ascii,
)
def test_19_never_a_key_ring_over_an_empty_or_missing_secret(secrets: Any) -> None:
    with pytest.raises((ConfigurationError, TypeError)):
        KeyRing(secrets, purpose=PURPOSE)


@pytest.mark.parametrize("secrets", [[], [b""], [NEW, b""]], ids=ascii)
def test_19_an_empty_secret_is_named_as_such(secrets: list[bytes]) -> None:
    with pytest.raises(WeakSecret, match="coatcheck secret"):
        KeyRing(secrets, purpose=PURPOSE)


@pytest.mark.parametrize("gives", [None, "", b"", [], [None], ["x" * 50]], ids=ascii)
def test_19_a_source_that_gives_nothing_is_refused_at_start_up(gives: Any) -> None:
    with pytest.raises(ConfigurationError):
        key_rings(lambda: gives)("cookie:session")


# ---------------------------------------------------------------------------------------------------- checklist 20


def rotating(path: Path, errors: list[Exception] | None = None) -> RotatingKeyRing:
    found = key_rings(path, on_error=None if errors is None else errors.append)("cookie:session")
    assert isinstance(found, RotatingKeyRing)
    return found


def of(*secrets: bytes) -> str:
    return ring(*secrets, purpose="cookie:session").sign(TEXT)


def swap(path: Path, *lines: bytes) -> None:
    path.write_bytes(b"\n".join(lines) + b"\n")


def test_20_a_file_that_was_changed_is_read_within_30_seconds(tmp_path: Path) -> None:
    path = tmp_path / "secrets"
    swap(path, OLD)
    workers = [rotating(path), rotating(path)]
    assert [worker.at(1000.0).sign(TEXT) for worker in workers] == [of(OLD)] * 2
    swap(path, NEW, OLD)
    assert [worker.at(1029.9).sign(TEXT) for worker in workers] == [of(OLD)] * 2
    assert [worker.at(1030.0).sign(TEXT) for worker in workers] == [of(NEW)] * 2
    assert workers[0].at(1031.0).verify(TEXT, of(OLD)) is Verified.OLDER


def test_20_reads_at_most_once_in_30_seconds() -> None:
    reads: list[bytes] = []

    def read() -> bytes:
        reads.append(NEW)
        return NEW

    source = RotatingKeyRing(read, PURPOSE)
    for second in range(1000, 1090):
        source.at(float(second))
    assert len(reads) == 1 + 3  # at start-up, then at 1000, 1030 and 1060


def test_20_a_clock_set_back_does_not_stop_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "secrets"
    swap(path, OLD)
    worker = rotating(path)
    worker.at(10_000.0)
    swap(path, NEW)
    assert worker.at(6400.0).sign(TEXT) == of(NEW)


def test_20_a_clock_that_is_no_number_reads_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "secrets"
    swap(path, NEW)
    assert rotating(path).at(float("nan")).sign(TEXT) == of(NEW)


def remove(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def weaken(path: Path) -> None:
    swap(path, b"changeme")


def weaken_one(path: Path) -> None:
    swap(path, NEW, b"changeme")


@pytest.mark.parametrize("spoil", [remove, empty, weaken, weaken_one])
def test_20_the_last_good_secrets_stay_when_reading_fails(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    path = tmp_path / "secrets"
    errors: list[Exception] = []
    swap(path, OLD)
    worker = rotating(path, errors)
    worker.at(1000.0)
    spoil(path)
    assert worker.at(1030.0).sign(TEXT) == of(OLD)
    assert len(errors) == 1
    assert "changeme" not in str(errors[0])
    swap(path, NEW)
    assert worker.at(1040.0).sign(TEXT) == of(OLD)
    assert worker.at(1060.0).sign(TEXT) == of(NEW)
    assert len(errors) == 1


def test_20_a_failing_source_without_a_listener_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "secrets"
    swap(path, OLD)
    worker = rotating(path)
    path.unlink()
    assert worker.at(1000.0).sign(TEXT) == of(OLD)


def test_20_a_file_that_is_not_there_at_start_up_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        rotating(tmp_path / "secrets")


def test_20_white_space_around_the_lines_of_a_file_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "secrets"
    path.write_bytes(b"\r\n  " + NEW + b"\r\n\r\n" + OLD + b"\t\r\n")
    assert rotating(path).at(0.0).sign(TEXT) == of(NEW)
    assert rotating(path).at(0.0).verify(TEXT, of(OLD)) is Verified.OLDER


@pytest.mark.parametrize(
    "gives", [NEW, NEW.decode(), [NEW, OLD], (NEW.decode(), OLD.decode())], ids=lambda x: type(x).__name__
)
def test_20_a_function_may_give_one_or_several(gives: Any) -> None:
    assert key_rings(lambda: gives)("cookie:session").at(0.0).sign(TEXT) == of(NEW)


def test_a_ring_that_never_changes_can_be_asked_alike() -> None:
    fixed = key_rings([NEW.decode(), OLD.decode()])("cookie:session")
    assert fixed.at(0.0) is fixed
    assert fixed.at(0.0).sign(TEXT) == of(NEW)


# ---------------------------------------------------------------------------------------------------- checklist 21


@pytest.mark.parametrize(
    "thing",
    [ring(NEW, OLD), RotatingKeyRing(lambda: [NEW, OLD], PURPOSE), Hmac(derive_key(NEW, PURPOSE))],
    ids=lambda x: type(x).__name__,
)
def test_21_no_secret_in_repr_str_vars_or_pickles(thing: object) -> None:
    keys = [derive_key(secret, PURPOSE) for secret in (NEW, OLD)]
    shown = (repr(thing) + str(thing) + f"{thing}").encode()
    for secret in (NEW, OLD, *keys):
        assert secret not in shown
        assert repr(secret)[2:-1].encode() not in shown
    assert not hasattr(thing, "__dict__")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError):
            pickle.dumps(thing, protocol)


def test_21_no_secret_and_no_signature_in_exceptions() -> None:
    with pytest.raises(BadSignature) as caught:
        ring(NEW).verify(TEXT, "A" * MAC_CHARS)
    assert GENUINE not in str(caught.value)
    assert TEXT not in str(caught.value)


# ---------------------------------------------------------------------------------------------------- the RFCs' vectors

RFC_4231 = [
    (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    (
        b"Jefe",
        b"what do ya want for nothing?",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    ),
    (b"\xaa" * 20, b"\xdd" * 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    (bytes(range(1, 26)), b"\xcd" * 50, "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
    (
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
    (
        b"\xaa" * 131,
        b"This is a test using a larger than block-size key and a larger than block-size data. "
        b"The key needs to be hashed before being used by the HMAC algorithm.",
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
    ),
]


@pytest.mark.parametrize(("key", "message", "mac"), RFC_4231)
def test_rfc_4231_vectors(key: bytes, message: bytes, mac: str) -> None:
    assert Hmac(key).digest(message).hex() == mac


@given(st.binary(max_size=200), st.binary(max_size=300))
def test_our_hmac_is_the_standard_librarys(key: bytes, message: bytes) -> None:
    ours = Hmac(key)
    for _ in range(2):  # the first use must leave the prepared blocks as they were
        assert ours.digest(message) == hmac.digest(key, message, "sha256")


RFC_5869 = [
    (
        "0b" * 22,
        "000102030405060708090a0b0c",
        "f0f1f2f3f4f5f6f7f8f9",
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        bytes(range(0x00, 0x50)).hex(),
        bytes(range(0x60, 0xB0)).hex(),
        bytes(range(0xB0, 0x100)).hex(),
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
        "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ),
    (
        "0b" * 22,
        "",
        "",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
]


@pytest.mark.parametrize(("secret", "salt", "info", "output"), RFC_5869)
def test_rfc_5869_vectors(secret: str, salt: str, info: str, output: str) -> None:
    found = hkdf(
        bytes.fromhex(secret), salt=bytes.fromhex(salt), info=bytes.fromhex(info), length=len(output) // 2
    )
    assert found.hex() == output


@given(st.binary(min_size=1), st.binary(max_size=80), st.binary(max_size=80), st.integers(1, 255 * 32))
def test_our_hkdf_is_that_of_cryptography(secret: bytes, salt: bytes, info: bytes, length: int) -> None:
    assert hkdf(secret, salt=salt, info=info, length=length) == HKDF(
        hashes.SHA256(), length, salt, info
    ).derive(secret)
