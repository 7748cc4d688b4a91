"""Session ids: locator, verifier, and what is derived from them (PROTOCOL rules 1-3).

The **locator** names the record for its whole life and opens nothing: it is the public handle. The **verifier** proves
possession; the record holds only its SHA-256. Sizes are multiples of three bytes, so that every base64url text of the right
length is canonical: there are no padding and no spare bits to gate (checklist 48).
"""

import base64
import hashlib
import hmac
import os
import secrets
from itertools import count
from time import monotonic_ns
from typing import Final, NamedTuple, Protocol

__all__ = [
    "LOCATOR_CHARS",
    "VERIFIER_CHARS",
    "IdSource",
    "RandomIds",
    "Ticket",
    "Verifier",
    "digest",
    "successor",
]

LOCATOR_BYTES, VERIFIER_BYTES = 18, 33
LOCATOR_CHARS, VERIFIER_CHARS = 24, 44


class Verifier(str):
    """A verifier, as text that does not show itself: error reporters print every frame's locals by `repr` (checklist 21, 201)."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<verifier>"


class Ticket(NamedTuple):
    """What a verified cookie carries. Its repr shows the locator only."""

    locator: str
    verifier: str
    proof: bytes | None = None
    """The verifier's digest, where it has been worked out already."""

    def __repr__(self) -> str:
        return f"<Ticket {self.locator}>"


class IdSource(Protocol):
    """Where ids come from; tests inject their own (an injectable RNG is part of the checklist's rig)."""

    def locator(self) -> str: ...
    def verifier(self) -> str: ...
    def version(self) -> str: ...


class RandomIds:
    """Ids from the operating system's CSPRNG, asked anew each time: nothing to share or re-seed across `fork()`."""

    def locator(self) -> str:
        """24 characters, 144 random bits (ASVS 7.2.3 asks for 128)."""
        return secrets.token_urlsafe(LOCATOR_BYTES)

    def verifier(self) -> str:
        """44 characters, 264 random bits."""
        return Verifier(secrets.token_urlsafe(VERIFIER_BYTES))

    def version(self) -> str:
        """16 characters, as good as unique among the writers of one record; not a secret.

        Every write makes one, so it is no system call: `os.urandom` alone was a tenth of a write under load. Counted from a
        random start of this process; the tick tells clones of a virtual machine apart, which share the start and the count.
        """
        return hex(next(_numbers) + monotonic_ns())[2:]


_STEP: Final = 1 << 34
"""Nanoseconds between two counts, 17 seconds: more than two threads lie apart, so they never arrive at the same sum. 2**28 counts
later a version is a character longer, which does no harm."""
_numbers = count()


def _begin() -> None:
    """Versions begin anew, at a place of this process's own."""
    global _numbers
    _numbers = count(1 << 63 | int.from_bytes(os.urandom(8), "big") >> 2, _STEP)


_begin()
os.register_at_fork(after_in_child=_begin)


def digest(verifier: str) -> bytes:
    """What a record holds of a verifier. No salt and no stretching: the input has 264 random bits (checklist 8)."""
    return hashlib.sha256(verifier.encode("ascii")).digest()


def successor(verifier: str, nonce: str) -> str:
    """The verifier that follows this one in a renewal.

    Whoever comes with the previous verifier gets the same successor again (rule 3) without anything secret being stored: the
    record keeps the nonce, and only a holder of the previous verifier can turn it into the next. HMAC-SHA-384 cut to 264 bits.
    """
    mac = hmac.digest(verifier.encode("ascii"), b"coatcheck successor " + nonce.encode("ascii"), "sha384")
    return Verifier(base64.urlsafe_b64encode(mac[:VERIFIER_BYTES]).decode("ascii"))
