"""The five verbs: load, create, replace, touch, delete; versions, expiry, tombstones and retries."""

import msgspec

from coatcheck.core.ports import GONE, SAVED, TAKEN, TOMBSTONE, Changed, Outcome
from coatcheck.core.record import VERSIONS_KEPT, Ended, Lifetime, Login, PendingLogin, Record, Renewal
from coatcheck.testing.rig import IDS, Rig, fail, same, sentence, show

# ------------------------------------------------------------------------------------------------- what is kept


@sentence()
async def load_of_an_unknown_key_is_none(rig: Rig) -> None:
    """Absence is a value."""
    await rig.unknown(IDS.locator())


@sentence()
async def what_was_created_comes_back_equal(rig: Rig) -> None:
    """Every field comes back as it was written, floats to the last bit."""
    await rig.holds(await rig.saved(rig.record()))
    await rig.holds(await rig.saved(_full(rig)))


@sentence()
async def what_was_replaced_comes_back_equal(rig: Rig) -> None:
    """Every field comes back as it was written, also where it was something else before."""
    plain = await rig.saved(rig.record())
    # No time moves back here: that is another sentence.
    full = msgspec.structs.replace(_full(rig), key=plain.key, versions=(IDS.version(), plain.version))
    same(await rig.replace(full, over=plain), SAVED, "replace")
    await rig.holds(full)
    bare = rig.record(
        key=plain.key, versions=(IDS.version(), full.version), deadline=full.deadline, seen_at=full.seen_at
    )
    same(await rig.replace(bare, over=full), SAVED, "replace")
    await rig.holds(bare)


@sentence()
async def data_is_bytes_of_any_kind(rig: Rig) -> None:
    """Data is opaque: empty, not UTF-8, with NUL, and as long as a megabyte."""
    for data in (b"", b"\x00", bytes(range(256)), "Größe ☂ 漢字 🧥".encode(), b"\r\n'\"\\", b"x" * 1_000_000):
        record = await rig.saved(rig.record(data=data, verifier=bytes(32)))
        await rig.holds(record)
        await rig.holds(await rig.replaced(record, data=data + b"more"))


@sentence()
async def keys_are_case_sensitive_and_opaque(rig: Rig) -> None:
    """Keys that differ in case only are different; punctuation means nothing."""
    base = IDS.version()
    keys = [base + tail for tail in (*"-_.:~{}%*'\"/?;", "Ab", "aB", "ab")]
    records = [await rig.saved(rig.record(key=key, data=key.encode())) for key in keys]
    for record in records:
        await rig.holds(record)


@sentence()
async def sessions_do_not_touch_each_other(rig: Rig) -> None:
    """A write, a touch and a delete concern one key only."""
    one, other = await rig.saved(rig.record()), await rig.saved(rig.record())
    two = await rig.replaced(one, data=b"2")
    await rig.touch(two, deadline=rig.now + 2_000, seen_at=rig.now)
    await rig.delete(one.key)
    await rig.holds(other)


def _full(rig: Rig) -> Record:
    now = rig.now + 0.123456789
    return rig.record(
        versions=tuple(IDS.version() for _ in range(VERSIONS_KEPT)),
        data=b'{"cart":["\xe2\x98\x82"]}',
        created_at=now - 50.000001,
        seen_at=now,
        deadline=now + 1_000 + 1 / 3,
        ends_at=now + 10_000 / 7,
        epoch=7,
        rotated_at=now - 1.1,
        user_id=rig.user("Zoë 'O\"Neil ☂"),
        authenticated_at=now - 2.2,
        login=Login("webauthn", True, "Mozilla/5.0 (Ünïcödé; 漢字)", "2001:db8::1", ("webauthn", "otp")),
        renewal=Renewal(bytes(range(32)), "nonce", now - 3.3, now - 0.1),
        lifetime=Lifetime(123.25, True, 1_900_000_000.5),
        era=1_800_000_000,
        pending=PendingLogin("Zoë\U0001f9e5", ("pwd", "sms"), True, 1_700_000_000.25, 3),
        format=2,
    )


# ------------------------------------------------------------------------------------------------------- create


@sentence()
async def create_over_a_live_record_is_taken(rig: Rig) -> None:
    """TAKEN, and what is there stays."""
    there = await rig.saved(rig.record())
    same(await rig.create(rig.record(key=there.key, data=b"usurper")), TAKEN, "create over a live record")
    await rig.holds(there)


@sentence()
async def create_over_a_tombstone_is_taken(rig: Rig) -> None:
    """TAKEN for as long as the tombstone stands; afterwards the key is free."""
    there = await rig.saved(rig.record())
    same(await rig.delete(there.key), True, "delete")
    same(await rig.create(rig.record(key=there.key)), TAKEN, "create over a tombstone")
    same(await rig.create(there), TAKEN, "create over the tombstone of its own version")
    rig.now += TOMBSTONE
    await rig.holds(await rig.saved(rig.record(key=there.key)))


@sentence()
async def create_over_an_expired_record_is_saved(rig: Rig) -> None:
    """Past its deadline a record is not there."""
    there = await rig.saved(rig.record())
    rig.now = there.deadline
    await rig.holds(await rig.saved(rig.record(key=there.key, data=b"new")))


@sentence()
async def create_again_with_the_same_version_is_saved(rig: Rig) -> None:
    """A retry whose first reply was lost recognises its own write."""
    record = await rig.saved(rig.record())
    same(await rig.create(record), SAVED, "create, a second time")
    await rig.holds(record)


@sentence()
async def create_again_does_not_undo_a_later_write(rig: Rig) -> None:
    """The retry is recognised by any remembered version, and nothing is written."""
    record = await rig.saved(rig.record())
    later = await rig.replaced(record, data=b"later")
    same(await rig.create(record), SAVED, "create, a second time, after a later write")
    await rig.holds(later)


# ------------------------------------------------------------------------------------------------------ replace


@sentence()
async def replace_over_the_expected_version_is_saved(rig: Rig) -> None:
    """SAVED, again and again, each over the one before."""
    record = await rig.saved(rig.record())
    for n in range(VERSIONS_KEPT + 4):
        record = await rig.replaced(record, data=b"%d" % n)
        await rig.holds(record)


@sentence()
async def replace_over_another_version_is_changed(rig: Rig) -> None:
    """CHANGED, with the record that is there if the store has it at hand; nothing is written."""
    first = await rig.saved(rig.record())
    second = await rig.replaced(first, data=b"second")
    _changed(await rig.replace(rig.after(first, data=b"late"), over=first), second)
    _changed(await rig.replace(rig.after(first, data=b"never"), over=rig.record()), second)
    await rig.holds(second)


@sentence()
async def replace_over_nothing_is_gone(rig: Rig) -> None:
    """GONE; nothing is written for a session that is not there: replace is no upsert."""
    record = rig.record()
    same(await rig.replace(rig.after(record), over=record), GONE, "replace over nothing")
    await rig.unknown(record.key)


@sentence()
async def replace_over_a_tombstone_is_gone(rig: Rig) -> None:
    """A logout stays a logout."""
    record = await rig.saved(rig.record())
    same(await rig.delete(record.key), True, "delete")
    same(await rig.replace(rig.after(record), over=record), GONE, "replace over a tombstone")
    await rig.ended(record.key)


@sentence()
async def replace_over_an_expired_record_is_gone(rig: Rig) -> None:
    """At the deadline the session is gone, for writers too, and writing does not bring it back."""
    record = await rig.saved(rig.record())
    rig.now = record.deadline
    late = rig.after(record, seen_at=rig.now, deadline=rig.now + 1_000)
    same(await rig.replace(late, over=record), GONE, "replace over an expired record")
    await rig.expired(record)


@sentence()
async def replace_again_with_the_same_version_is_saved(rig: Rig) -> None:
    """A retry whose first reply was lost recognises its own write."""
    first = await rig.saved(rig.record())
    second = await rig.replaced(first, data=b"second")
    same(await rig.replace(second, over=first), SAVED, "replace, a second time")
    await rig.holds(second)


@sentence()
async def replace_again_does_not_undo_a_later_write(rig: Rig) -> None:
    """The retry is recognised as long as its version is remembered, and nothing is written."""
    first = await rig.saved(rig.record())
    mine = last = await rig.replaced(first, data=b"mine")
    for n in range(VERSIONS_KEPT - 1):
        last = await rig.replaced(last, data=b"later %d" % n)
        same(await rig.replace(mine, over=first), SAVED, f"replace, a second time, {n + 1} writes later")
        await rig.holds(last)
    last = await rig.replaced(last, data=b"one too many")
    _changed(await rig.replace(mine, over=first), last)
    await rig.holds(last)


@sentence()
async def replace_extends_the_life(rig: Rig) -> None:
    """The new deadline counts: the record is there past the old one, and not past the new."""
    first = await rig.saved(rig.record())
    second = await rig.replaced(first, deadline=first.deadline + 500)
    rig.now = first.deadline + 499
    await rig.holds(second)
    rig.now = second.deadline
    await rig.expired(second)


@sentence()
async def replace_never_moves_times_back(rig: Rig) -> None:
    """A slow writer that read before a touch takes neither the deadline nor seen_at back."""
    first = await rig.saved(rig.record())
    deadline, seen_at = first.deadline + 300, first.seen_at + 300
    same(await rig.touch(first, deadline=deadline, seen_at=seen_at), True, "touch")
    slow = rig.after(first, data=b"slow")
    same(await rig.replace(slow, over=first), SAVED, "replace after a touch: touching moves no version")
    await rig.holds(msgspec.structs.replace(slow, deadline=deadline, seen_at=seen_at))
    rig.now = deadline - 1
    await rig.lives(first.key)


@sentence()
async def replace_never_keeps_a_deadline_past_the_absolute_one(rig: Rig) -> None:
    """Where the deadline that is there is later than the new record's ends_at, ends_at counts."""
    first = await rig.saved(rig.record())
    sooner = rig.after(first, deadline=rig.now + 100, ends_at=rig.now + 200)
    same(await rig.replace(sooner, over=first), SAVED, "replace")
    await rig.holds(msgspec.structs.replace(sooner, deadline=rig.now + 200))
    rig.now += 200
    await rig.expired(msgspec.structs.replace(sooner, deadline=sooner.ends_at))


@sentence()
async def replace_may_shorten_when_told_so(rig: Rig) -> None:
    """`may_shorten`: this request changed the lifetime itself; its deadline is written as it is."""
    first = await rig.saved(rig.record())
    short = rig.after(first, deadline=rig.now + 10)
    same(await rig.replace(short, over=first, may_shorten=True), SAVED, "replace with may_shorten")
    await rig.holds(short)
    rig.now += 10
    await rig.expired(short)


def _changed(outcome: Outcome, there: Record) -> None:
    if not isinstance(outcome, Changed):
        fail(f"replace over another version: expected Changed, got {show(outcome)}")
    if outcome.current is not None:
        same(outcome.current, there, "the record in Changed")


# -------------------------------------------------------------------------------------------------------- touch


@sentence()
async def touch_moves_times_and_no_version(rig: Rig) -> None:
    """The deadline and seen_at move forward; everything else stays, the version above all."""
    record = await rig.saved(rig.record())
    deadline, seen_at = record.deadline + 60.25, record.seen_at + 60.25
    same(await rig.touch(record, deadline=deadline, seen_at=seen_at), True, "touch")
    await rig.holds(msgspec.structs.replace(record, deadline=deadline, seen_at=seen_at))
    rig.now = deadline - 0.5
    await rig.lives(record.key)
    rig.now = deadline
    await rig.expired(msgspec.structs.replace(record, deadline=deadline))


@sentence()
async def touch_only_moves_forward(rig: Rig) -> None:
    """Each time by itself; True or False is all one."""
    record = await rig.saved(rig.record())
    await rig.touch(record, deadline=record.deadline - 10, seen_at=record.seen_at - 10)
    await rig.holds(record)
    await rig.touch(record, deadline=record.deadline - 10, seen_at=record.seen_at + 5)
    await rig.holds(msgspec.structs.replace(record, seen_at=record.seen_at + 5))


@sentence()
async def touch_never_passes_the_absolute_deadline(rig: Rig) -> None:
    """Nothing extends ends_at (ASVS 7.3.2)."""
    record = await rig.saved(rig.record(ends_at=rig.now + 1_500))
    await rig.touch(record, deadline=rig.now + 9_999, seen_at=rig.now)
    rig.now = record.ends_at
    await rig.expired(msgspec.structs.replace(record, deadline=record.ends_at))


@sentence()
async def touch_over_another_version_is_refused(rig: Rig) -> None:
    """False, and nothing moves."""
    first = await rig.saved(rig.record())
    second = await rig.replaced(first)
    moved = await rig.touch(first, deadline=rig.now + 5_000, seen_at=rig.now + 1)
    same(moved, False, "touch over a version that was replaced")
    await rig.holds(second)


@sentence()
async def touch_over_nothing_is_refused(rig: Rig) -> None:
    """False over nothing, a tombstone and an expired record, and none of them comes to life."""
    never, over, late = (
        rig.record(),
        await rig.saved(rig.record()),
        await rig.saved(rig.record(deadline=rig.now + 5)),
    )
    await rig.delete(over.key)
    rig.now += 5
    for record in (never, over, late):
        touched = await rig.touch(record, deadline=rig.now + 1_000, seen_at=rig.now)
        same(touched, False, "touch of what is not there")
    await rig.unknown(never.key)
    await rig.ended(over.key)
    await rig.expired(late)


# ------------------------------------------------------------------------------------------------------- delete


@sentence()
async def delete_leaves_a_tombstone(rig: Rig) -> None:
    """`Ended` with the deleter's token and time, for sixty seconds, then nothing."""
    record = await rig.saved(rig.record())
    same(await rig.delete(record.key, token="mine"), True, "delete of a live record")
    same(await rig.load(record.key), Ended(record.key, "mine", rig.now), "load")
    rig.now += TOMBSTONE - 0.5
    await rig.ended(record.key)
    rig.now += 0.5
    await rig.unknown(record.key)


@sentence()
async def a_tombstone_outlasts_the_deadline(rig: Rig) -> None:
    """The minute counts from the delete, even where the session would have expired sooner."""
    record = await rig.saved(rig.record(deadline=rig.now + 1))
    same(await rig.delete(record.key), True, "delete")
    rig.now += TOMBSTONE - 1
    await rig.ended(record.key)


@sentence()
async def delete_of_nothing_is_false(rig: Rig) -> None:
    """False for what is unknown or expired, and no tombstone for it."""
    unknown, late = IDS.locator(), await rig.saved(rig.record())
    same(await rig.delete(unknown), False, "delete of an unknown key")
    await rig.unknown(unknown)
    rig.now = late.deadline
    same(await rig.delete(late.key), False, "delete of an expired record")
    await rig.expired(late)


@sentence()
async def delete_again_with_the_same_token_is_true(rig: Rig) -> None:
    """A retry whose first reply was lost recognises its own tombstone; another deleter is told False."""
    record = await rig.saved(rig.record())
    same(await rig.delete(record.key, token="mine"), True, "delete")
    same(await rig.delete(record.key, token="mine"), True, "delete, a second time, with the same token")
    same(await rig.delete(record.key, token="other"), False, "delete of a tombstone, with another token")
    same((await rig.ended(record.key)).token, "mine", "the tombstone's token")


@sentence()
async def delete_with_expected_deletes_that_version_only(rig: Rig) -> None:
    """False where it was changed meanwhile, though the older version is remembered; then the record stays."""
    first = await rig.saved(rig.record())
    second = await rig.replaced(first)
    same(await rig.delete(first.key, over=first), False, "delete over a version that was replaced")
    await rig.holds(second)
    same(
        await rig.delete(first.key, token="mine", over=second), True, "delete over the version that is there"
    )
    same(await rig.delete(first.key, token="mine", over=second), True, "the same delete, a second time")
    await rig.ended(first.key)


# ------------------------------------------------------------------------------------------------------- expiry


@sentence()
async def a_record_is_gone_at_its_deadline(rig: Rig) -> None:
    """There until just before, gone at it. `now` decides, no other clock."""
    record = await rig.saved(rig.record())
    rig.now = record.deadline - 0.001
    await rig.holds(record)
    rig.now = record.deadline
    await rig.expired(record)


@sentence()
async def load_may_tell_what_is_expired_from_what_is_not_there(rig: Rig) -> None:
    """None always does. `Expired` says whose it was and which deadline came first, and is said of nothing else."""
    idle, absolute = (
        rig.record(user_id=rig.user()),
        rig.record(deadline=rig.now + 1_200, ends_at=rig.now + 1_200),
    )
    for record in (idle, absolute):
        await rig.saved(record)
    deleted, never = await rig.saved(rig.record()), rig.record()
    await rig.delete(deleted.key)
    rig.now = max(idle.deadline, absolute.deadline)
    await rig.expired(idle)
    await rig.expired(absolute)
    await rig.unknown(deleted.key)
    await rig.unknown(never.key)


@sentence()
async def load_of_an_expired_record_is_for_good(rig: Rig) -> None:
    """Once answered that it is past its deadline, a clock that steps back does not bring it back."""
    record = await rig.saved(rig.record())
    rig.now = record.deadline + 5
    await rig.expired(record)
    rig.now -= 30
    await rig.expired(record)
    same(await rig.replace(rig.after(record), over=record), GONE, "replace, the clock having stepped back")


@sentence()
async def replace_of_an_expired_record_is_for_good(rig: Rig) -> None:
    """GONE stays gone when the clock steps back."""
    record = await rig.saved(rig.record())
    rig.now = record.deadline + 5
    same(await rig.replace(rig.after(record), over=record), GONE, "replace over an expired record")
    rig.now -= 30
    await rig.expired(record)


@sentence()
async def a_clock_behind_the_writers_does_no_harm(rig: Rig) -> None:
    """A server whose clock is behind reads and writes what a server ahead of it wrote."""
    record = await rig.saved(rig.record())
    rig.now -= 120
    await rig.holds(record)
    second = await rig.replaced(record, data=b"from behind")
    await rig.holds(second)
    same(await rig.delete(record.key), True, "delete")
    rig.now -= 5
    await rig.ended(record.key)
