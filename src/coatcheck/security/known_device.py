"""The proof that a browser has logged in to an account before: what a device cookie holds (OWASP "device cookies").

It opens nothing: it only has its attempts counted apart from those of strangers. A cookie holds one proof for each of the last
few accounts of a browser, newest first; a proof names no account, and is signed together with the one it is for.
"""

from secrets import token_urlsafe
from typing import Final, NamedTuple

from coatcheck.core.signing import MAC_CHARS, KeyRing
from coatcheck.errors import BadSignature

__all__ = ["Device", "find", "renew"]

ACCOUNTS: Final = 4
"""Of how many accounts a browser is known; a household shares one, hardly more."""
NONCE: Final = 22
TIME: Final = 10
PROOF: Final = NONCE + TIME + MAC_CHARS
LONGEST: Final = (PROOF + 1) * 2 * ACCOUNTS


class Device(NamedTuple):
    """A device of one account."""

    name: str
    since: float
    """When the proof was given out, in whole seconds since the epoch."""


def find(value: bytes, account: str, ring: KeyRing, *, now: float, lasts: float) -> Device | None:
    """The device that a cookie's value proves to be, for this account; None for anything else."""
    for proof in _proofs(value):
        device = _device(proof, account, ring)
        if device is not None:
            # One from the future was signed by us, and a clock was set back; it must not last any longer for that.
            return device if -lasts < now - device.since < lasts else None
    return None


def renew(value: bytes, account: str, ring: KeyRing, *, known: Device | None, now: float) -> str:
    """The value for the cookie after a login to this account: its proof first, then those of other accounts."""
    name = token_urlsafe(16) if known is None else known.name
    since = f"{int(now):0{TIME}d}"
    proof = name + since + ring.sign(_signed(name, since, account))
    others = [other for other in _proofs(value) if _device(other, account, ring) is None]
    return ".".join([proof, *others[: ACCOUNTS - 1]])


def _proofs(value: bytes) -> list[str]:
    if len(value) > LONGEST or not value.isascii():
        return []
    return [proof for proof in value.decode("ascii").split(".") if len(proof) == PROOF]


def _device(proof: str, account: str, ring: KeyRing) -> Device | None:
    name, since, mac = proof[:NONCE], proof[NONCE : NONCE + TIME], proof[NONCE + TIME :]
    try:
        ring.verify(_signed(name, since, account), mac)
    except BadSignature:
        return None
    return Device(name, float(since))


def _signed(name: str, since: str, account: str) -> str:
    return f"{account}.{name}.{since}"
