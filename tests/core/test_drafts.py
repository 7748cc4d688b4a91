"""What a record becomes, write by write: the clockwork of verifiers, epochs and deadlines."""

import pytest

from coatcheck.core import drafts, ids
from coatcheck.core.drafts import DETACHED_FOR, OVERLAP, Holding
from coatcheck.core.record import VERSIONS_KEPT, Lifetime, Login, Record
from coatcheck.core.session import Standing
from tests.core.sessions import NOW
from tests.core.sessions import record as some_record

OLD, OTHER = "o" * 44, "x" * 44
STRANGER = Holding(Standing.NEW)
DETACHED = Holding(Standing.DETACHED)


def record(**fields: object) -> Record:
    return some_record({"a": 1}, verifier=ids.digest(OLD), **fields)


def test_the_first_record() -> None:
    first = drafts.first(
        "key", "version", OLD, b"{}", NOW, idle=60, ends_at=NOW + 600, lifetime=Lifetime(60, persistent=True)
    )
    assert (first.key, first.versions, first.data) == ("key", ("version",), b"{}")
    assert first.verifier == ids.digest(OLD)
    assert (first.created_at, first.seen_at, first.deadline, first.ends_at) == (NOW, NOW, NOW + 60, NOW + 600)
    assert first.lifetime == Lifetime(60, persistent=True)
    assert (first.epoch, first.user_id, first.renewal) == (0, None, None)
    assert (
        drafts.first("k", "v", OLD, b"{}", NOW, idle=900, ends_at=NOW + 600, lifetime=None).deadline
        == NOW + 600
    )


def test_what_follows_keeps_everything_but_data_versions_and_deadline() -> None:
    before = record(epoch=3, rotated_at=NOW, user_id="42", authenticated_at=NOW, login=Login())
    after = drafts.following(before, "version-2", b'{"a":2}', NOW + 100, idle=60, lifetime=None)
    changed = {"versions", "data", "seen_at", "deadline"}
    for field in Record.__struct_fields__:
        assert (getattr(after, field) == getattr(before, field)) == (field not in changed), field
    assert (after.versions, after.seen_at, after.deadline) == (
        ("version-2", "version-1"),
        NOW + 100,
        NOW + 160,
    )


def test_the_absolute_deadline_bounds_the_idle_one() -> None:
    assert (
        drafts.following(record(ends_at=NOW + 50), "v", b"{}", NOW, idle=60, lifetime=None).deadline
        == NOW + 50
    )


def test_a_record_remembers_its_last_sixteen_writers() -> None:
    """Rule 7: so that a retry after a lost reply recognises its own write."""
    written = record()
    for number in range(100):
        written = drafts.following(written, f"v{number}", b"{}", NOW, idle=60, lifetime=None)
    assert written.versions == tuple(f"v{number}" for number in range(99, 99 - VERSIONS_KEPT, -1))
    assert VERSIONS_KEPT == 16


# --------------------------------------------------------------------------------------------- what a verifier is worth


def test_its_own_verifier_opens_a_record() -> None:
    assert drafts.holding(record(), OLD, NOW) == Holding(Standing.LIVE, OLD)


def test_no_other_does() -> None:
    assert drafts.holding(record(), OTHER, NOW) == STRANGER


@pytest.mark.parametrize(
    ("after", "holding"),
    [(0, DETACHED), (DETACHED_FOR - 1, DETACHED), (DETACHED_FOR, STRANGER), (3600, STRANGER)],
)
def test_rotation_ends_the_old_verifier_at_once(after: float, holding: Holding) -> None:
    """Rules 2 and 4: detached for a minute, then worth nothing."""
    rotated = drafts.rotated(record(epoch=1), OTHER, NOW)
    assert (rotated.epoch, rotated.rotated_at, rotated.renewal) == (2, NOW, None)
    assert drafts.holding(rotated, OLD, NOW + after) == holding
    assert drafts.holding(rotated, OTHER, NOW + after).standing is Standing.LIVE


def test_renewal_keeps_the_previous_verifier_until_the_new_one_was_seen() -> None:
    """Rule 3, to the second: an answer that was lost costs nothing, however late the next request comes."""
    renewed, successor = drafts.renewed(record(), OLD, "nonce", NOW)
    assert renewed.epoch == 0
    assert drafts.holding(renewed, successor, NOW) == Holding(Standing.LIVE, successor)
    same_again = Holding(Standing.LIVE, successor, on_previous=True)
    assert drafts.holding(renewed, OLD, NOW + 86_000) == same_again

    seen = drafts.seen(renewed, NOW + 1000)
    assert drafts.holding(seen, OLD, NOW + 1000) == same_again
    assert drafts.holding(seen, OLD, NOW + 1000 + OVERLAP - 0.001) == same_again
    assert drafts.holding(seen, OLD, NOW + 1000 + OVERLAP) == DETACHED
    assert drafts.holding(seen, OLD, NOW + 1000 + OVERLAP + DETACHED_FOR - 0.001) == DETACHED
    assert drafts.holding(seen, OLD, NOW + 1000 + OVERLAP + DETACHED_FOR) == STRANGER
    assert (OVERLAP, DETACHED_FOR) == (10, 60)


def test_a_verifier_from_before_the_previous_one_is_late_or_a_stranger() -> None:
    renewed, successor = drafts.renewed(record(), OLD, "nonce", NOW)
    again, _ = drafts.renewed(drafts.seen(renewed, NOW + 1), successor, "nonce 2", NOW + 3600)
    assert drafts.holding(again, OLD, NOW + 3600) == DETACHED
    assert drafts.holding(again, OLD, NOW + 3660) == STRANGER


def test_a_rotation_after_a_renewal_forgets_the_previous_verifier() -> None:
    """Rule 2: login, logout and change of privilege keep no old verifier."""
    renewed, successor = drafts.renewed(record(), OLD, "nonce", NOW)
    rotated = drafts.rotated(renewed, OTHER, NOW + 1)
    for verifier in (OLD, successor):
        assert drafts.holding(rotated, verifier, NOW + 1) == DETACHED


def test_only_a_renewed_verifier_can_be_seen_for_the_first_time() -> None:
    assert drafts.seen(record(), NOW) == record()


def test_a_login_begins_both_timeouts_anew() -> None:
    """Rule 6: the absolute one counts from the login."""
    before = record(created_at=NOW - 5000, ends_at=NOW + 10, deadline=NOW + 10)
    login, lifetime = Login("otp", remember=True), Lifetime(90, persistent=True)
    after = drafts.logged_in(before, "42", login, NOW, idle=60, ends_at=NOW + 600, lifetime=lifetime)
    assert (after.user_id, after.login, after.authenticated_at, after.lifetime) == (
        "42",
        login,
        NOW,
        lifetime,
    )
    assert (after.deadline, after.ends_at, after.created_at) == (NOW + 60, NOW + 600, NOW - 5000)
    assert (
        drafts.logged_in(before, "42", login, NOW, idle=900, ends_at=NOW + 600, lifetime=None).deadline
        == NOW + 600
    )


def test_a_record_shows_neither_verifier_nor_data() -> None:
    assert repr(record(user_id="42")) == "<Record locator-of-what-is-stored of '42', 7 bytes>"
    assert record().version == "version-1"
