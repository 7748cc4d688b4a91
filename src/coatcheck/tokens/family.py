"""Refresh tokens: what one is made of, and what a presented one is worth to its family. Pure.

A **family** is one login through tokens: a session record like any other, whose data say what it was granted. A refresh token is
the record's locator, the family's own secret, and a part that changes at every refresh:

    3pW…(24)  .  kQz…(44)  .  vE1…(44)

The record holds nothing but digests. Whoever brings the family's secret once held a genuine token of it; so if the changing part
is not the present one, it is an old one, and somebody uses it twice: the thief or the user, and the family ends (RFC 9700 section
4.14.2). The part that follows is derived from the one before and a nonce in the record, so two tabs that refresh at the same time
get the same successor, which is stored nowhere.
"""

import re
from enum import Enum
from hashlib import sha256
from hmac import compare_digest
from typing import Any, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from coatcheck.core import ids
from coatcheck.core.record import Record
from coatcheck.errors import CorruptRecord, InvalidToken
from coatcheck.tokens import base64url

__all__ = [
    "Family",
    "Presented",
    "Worth",
    "again",
    "digest",
    "encoded",
    "family_of",
    "parse",
    "rotated",
    "without",
    "worth",
]

KEY: Final = "_tokens"
"""Where a record's data keep the family: no session of a browser has it."""
_REVOKED_KEPT: Final = 64
"""How many access tokens of one login may be revoked within the life of one. No client has as many."""
_SHAPE: Final = re.compile(r"([A-Za-z0-9_-]{16,128})\.([A-Za-z0-9_-]{44})\.([A-Za-z0-9_-]{44})")


class Presented(NamedTuple):
    """A refresh token, taken apart."""

    locator: str
    secret: str
    part: str

    def __repr__(self) -> str:
        return f"<refresh token of {self.locator}>"


class Family(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What a token login was granted, and which of its refresh tokens is the present one."""

    client_id: str
    current: str
    """The digest of the part that the present token ends with."""
    scope: str = ""
    audience: str = ""
    amr: tuple[str, ...] = ()
    claims: dict[str, Any] = {}
    previous: str = ""
    """The same of the token before."""
    nonce: str = ""
    """With the part before, and only with it, this yields the present one: `ids.successor`."""
    rotated_at: float = 0.0
    generation: int = 0
    jkt: str = ""
    """The thumbprint of the key that its tokens are bound to (RFC 9449 section 5)."""
    revoked: dict[str, float] = {}
    """Access tokens that were revoked by themselves: `jti` -> when that need not be remembered any more."""


class Worth(Enum):
    """What a presented token is worth."""

    CURRENT = "current"
    AGAIN = "again"
    """The one before, a moment ago: a second tab, or a reply that was lost. It gets the same successor."""
    REUSED = "reused"
    """An older one. Either a thief has it, or the thief was first."""
    FOREIGN = "foreign"
    """It never belonged to this family: nothing may happen to the family for it."""


def parse(token: object) -> Presented:
    """The parts of a refresh token. Raises InvalidToken for what cannot be one."""
    found = _SHAPE.fullmatch(token) if type(token) is str else None
    if found is None:
        raise InvalidToken("malformed")
    locator, secret, part = found.groups()
    return Presented(locator, ids.Verifier(secret), ids.Verifier(part))


def digest(part: str) -> str:
    """What a family keeps of a part: it has 264 random bits, so no salt and no stretching."""
    return base64url.encode(sha256(part.encode("ascii")).digest())


def worth(record: Record, family: Family, token: Presented, now: float, grace: float) -> Worth:
    """What a token is worth. `grace` is in seconds: for how long the one before the present one may come again; 0: never."""
    if not compare_digest(ids.digest(token.secret), record.verifier):
        return Worth.FOREIGN
    presented = digest(token.part)
    if compare_digest(presented, family.current):
        return Worth.CURRENT
    if compare_digest(presented, family.previous) and now - family.rotated_at < grace:
        return Worth.AGAIN
    return Worth.REUSED


def rotated(family: Family, part: str, nonce: str, now: float) -> tuple[Family, str]:
    """The family after a refresh, and the part that its next token ends with."""
    following = ids.successor(part, nonce)
    return (
        replace(
            family,
            current=digest(following),
            previous=digest(part),
            nonce=nonce,
            rotated_at=now,
            generation=family.generation + 1,
        ),
        following,
    )


def without(family: Family, jti: str, until: float, now: float) -> Family | None:
    """The family after one of its access tokens was revoked; None if there are too many to remember."""
    kept = {name: end for name, end in family.revoked.items() if end > now}
    kept[jti] = until
    return replace(family, revoked=kept) if len(kept) <= _REVOKED_KEPT else None


def again(family: Family, token: Presented) -> str:
    """What the present token ends with, from the one before it: nobody else can tell."""
    return ids.successor(token.part, family.nonce)


def encoded(family: Family) -> bytes:
    """The family as a session's data."""
    return msgspec.json.encode({KEY: family})


class _Data(msgspec.Struct, rename={"family": KEY}):
    family: Family


def family_of(record: Record) -> Family | None:
    """The family that a record's data hold; None for a session of a browser. Raises CorruptRecord for what is neither."""
    if not record.data.startswith(_PREFIX):
        return None
    try:
        return msgspec.json.decode(record.data, type=_Data).family
    except (msgspec.DecodeError, RecursionError) as error:
        raise CorruptRecord(f"{record.key}: what it says of its tokens cannot be read") from error


_PREFIX: Final = b'{"_tokens":'
