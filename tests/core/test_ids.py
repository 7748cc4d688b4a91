"""Locators, verifiers and what follows from them."""

import re
import subprocess
import sys
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from coatcheck.core.ids import LOCATOR_CHARS, VERIFIER_CHARS, RandomIds, Ticket, digest, successor

IDS = RandomIds()
TEXT = re.compile(r"[A-Za-z0-9_-]+")
VERIFIERS = st.text("abcXYZ019_-", min_size=VERIFIER_CHARS, max_size=VERIFIER_CHARS)
NONCES = st.text("0123456789abcdef", min_size=16, max_size=16)


def test_sizes_and_alphabet() -> None:
    """144 and 264 bits: ASVS 7.2.3 asks for 128; no padding, no spare bits (checklist 48)."""
    assert (LOCATOR_CHARS * 6, VERIFIER_CHARS * 6) == (144, 264)
    for make, length in ((IDS.locator, LOCATOR_CHARS), (IDS.verifier, VERIFIER_CHARS), (IDS.version, 16)):
        made = make()
        assert len(made) == length
        assert TEXT.fullmatch(made)


def test_they_are_distinct() -> None:
    for make in (IDS.locator, IDS.verifier, IDS.version):
        assert len({make() for _ in range(5000)}) == 5000


def test_every_bit_varies() -> None:
    """Not random by mistake in only a part of its length: each character takes many values."""
    for make in (IDS.locator, IDS.verifier):
        columns = list(zip(*(make() for _ in range(500)), strict=True))
        assert min(len(set(column)) for column in columns) > 40


def test_a_record_holds_the_plain_digest() -> None:
    assert digest("v" * 44) == sha256(b"v" * 44).digest()


@given(VERIFIERS, NONCES)
def test_the_successor_is_always_the_same_and_looks_like_any_verifier(verifier: str, nonce: str) -> None:
    """Rule 3: who comes with the previous verifier again gets the very same one."""
    follows = successor(verifier, nonce)
    assert follows == successor(verifier, nonce)
    assert len(follows) == VERIFIER_CHARS
    assert TEXT.fullmatch(follows)
    assert follows != verifier


@given(VERIFIERS, VERIFIERS, NONCES, NONCES)
def test_the_successor_depends_on_both(one: str, other: str, nonce: str, another: str) -> None:
    assert (successor(one, nonce) == successor(other, nonce)) == (one == other)
    assert (successor(one, nonce) == successor(one, another)) == (nonce == another)


def test_the_successor_is_for_ever() -> None:
    """Two releases of one deployment must agree on it."""
    assert successor("v" * 44, "0123456789abcdef") == "Eb0d4o-3-UwF5kvaoKpg9ErQKzU5Ebhz4W3kxeq0zpfw"


def test_a_ticket_shows_its_locator_only() -> None:
    assert repr(Ticket("the-locator", "the-verifier", b"proof")) == "<Ticket the-locator>"


def test_no_two_versions_are_the_same_whatever_thread_or_child_makes_them() -> None:
    script = """if True:
        import os, threading
        from coatcheck.core.ids import RandomIds

        made, ids = [], RandomIds()
        threads = [threading.Thread(target=lambda: made.extend(ids.version() for _ in range(5_000))) for _ in range(8)]
        if os.fork() == 0:  # both go on from the same count
            made.extend(ids.version() for _ in range(5_000))
            os.write(1, "".join(f"{version}\\n" for version in made).encode())
            os._exit(0)
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        os.wait()
        print(*made, sep="\\n")
    """
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert len(told) == 45_000
    assert len(set(told)) == 45_000
    assert {len(version) for version in told} == {16}
