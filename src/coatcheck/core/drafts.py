"""What a record becomes: the pure half of every write. Each function takes a record and returns the next one."""

import hmac
from typing import Final, NamedTuple

from msgspec.structs import replace

from coatcheck.core import ids
from coatcheck.core.record import VERSIONS_KEPT, Lifetime, Login, Record, Renewal
from coatcheck.core.session import Standing

__all__ = [
    "DETACHED_FOR",
    "OVERLAP",
    "Holding",
    "first",
    "following",
    "holding",
    "logged_in",
    "renewed",
    "rotated",
    "seen",
]

OVERLAP: Final = 10.0
"""Seconds for which the previous verifier goes on after its successor was first seen (rule 3)."""
_OLDER_KEPT: Final = VERSIONS_KEPT - 1
DETACHED_FOR: Final = 60.0
"""Seconds for which a superseded verifier is known to be late, and gets a detached session (rule 4)."""


class Holding(NamedTuple):
    """What a verifier is worth to a record."""

    standing: Standing
    verifier: str | None = None
    """What the browser should hold: the one it came with, or its successor."""
    on_previous: bool = False


_DETACHED: Final = Holding(Standing.DETACHED)
_STRANGER: Final = Holding(Standing.NEW)


def holding(record: Record, verifier: str, now: float) -> Holding:
    """Does this verifier open this record? Its own does, and for a while the one before a renewal (rules 1, 3, 4)."""
    proof = ids.digest(verifier)
    if hmac.compare_digest(proof, record.verifier):
        return Holding(Standing.LIVE, verifier)
    renewal = record.renewal
    superseded = record.rotated_at
    if renewal is not None:
        good_until = None if renewal.seen_at is None else renewal.seen_at + OVERLAP
        if hmac.compare_digest(proof, renewal.previous) and (good_until is None or now < good_until):
            return Holding(Standing.LIVE, ids.successor(verifier, renewal.nonce), on_previous=True)
        superseded = max(superseded or 0.0, renewal.at if good_until is None else good_until)
    return _DETACHED if superseded is not None and now < superseded + DETACHED_FOR else _STRANGER


def first(
    key: str,
    version: str,
    verifier: str,
    data: bytes,
    now: float,
    *,
    idle: float,
    ends_at: float,
    lifetime: Lifetime | None,
) -> Record:
    """The first record of a session."""
    return Record(
        key,
        (version,),
        ids.digest(verifier),
        data,
        now,
        now,
        min(now + idle, ends_at),
        ends_at,
        lifetime=lifetime,
    )


def following(
    record: Record, version: str, data: bytes, now: float, idle: float, lifetime: Lifetime | None
) -> Record:
    """The same session with other data, seen now."""
    deadline, ends_at = now + idle, record.ends_at
    return replace(
        record,
        versions=(version,) + record.versions[:_OLDER_KEPT],  # noqa: RUF005  # half the cost of a list on the way
        data=data,
        seen_at=now,
        deadline=deadline if deadline < ends_at else ends_at,
        lifetime=lifetime,
    )


def rotated(record: Record, verifier: str, now: float) -> Record:
    """A new verifier and a higher epoch: whatever opened the session before opens nothing (rule 2)."""
    return replace(
        record, verifier=ids.digest(verifier), epoch=record.epoch + 1, rotated_at=now, renewal=None
    )


def renewed(record: Record, verifier: str, nonce: str, now: float) -> tuple[Record, str]:
    """A new verifier in the same epoch, and what it is: requests in flight finish on the one before (rule 3)."""
    following_verifier = ids.successor(verifier, nonce)
    renewal = Renewal(previous=record.verifier, nonce=nonce, at=now)
    return replace(record, verifier=ids.digest(following_verifier), renewal=renewal), following_verifier


def seen(record: Record, now: float) -> Record:
    """The renewed verifier has arrived: the one before has only seconds left."""
    return record if record.renewal is None else replace(record, renewal=replace(record.renewal, seen_at=now))


def logged_in(
    record: Record,
    user_id: str,
    login: Login,
    now: float,
    *,
    idle: float,
    ends_at: float,
    lifetime: Lifetime | None,
) -> Record:
    """The session of a user who has just proved who they are: both timeouts begin anew (rule 6)."""
    return replace(
        record,
        user_id=user_id,
        login=login,
        authenticated_at=now,
        pending=None,
        ends_at=ends_at,
        deadline=min(now + idle, ends_at),
        lifetime=lifetime,
    )
