"""The ability `ByUser`: the index, the fence, the limit of sessions, and ending by user (PROTOCOL rules 18-24)."""

from itertools import pairwise

from coatcheck.core.ports import FENCED, FULL, GONE, SAVED, TAKEN, TOMBSTONE, ByUser, Changed
from coatcheck.core.record import Record
from coatcheck.testing.rig import IDS, Rig, fail, same, sentence, show

# ----------------------------------------------------------------------------------------------- admit writes


@sentence(needs=ByUser)
async def admit_creates_and_indexes(rig: Rig) -> None:
    """Without `expected` it is a create: the record comes back equal, and its user's list has it."""
    record = await rig.admitted(rig.login(rig.user()))
    await rig.holds(record)
    await _listed(rig, record)


@sentence(needs=ByUser)
async def admit_replaces_and_indexes(rig: Rig) -> None:
    """With `expected` it is a replace: an anonymous session becomes the user's."""
    anonymous = await rig.saved(rig.record())
    record = await rig.admitted(_logged_in(rig, anonymous, rig.user()), over=anonymous)
    await rig.holds(record)
    await _listed(rig, record)


@sentence(needs=ByUser)
async def admit_over_a_live_record_is_taken(rig: Rig) -> None:
    """As create: TAKEN over a live record and over a tombstone; nothing is written or listed."""
    there, user = await rig.saved(rig.record()), rig.user()
    same(await rig.admit(rig.login(user, key=there.key)), TAKEN, "admit over a live record")
    await rig.holds(there)
    await rig.delete(there.key)
    same(await rig.admit(rig.login(user, key=there.key)), TAKEN, "admit over a tombstone")
    await _listed(rig, user=user)


@sentence(needs=ByUser)
async def admit_over_another_version_is_changed(rig: Rig) -> None:
    """As replace: CHANGED; nothing is written or listed."""
    first, user = await rig.saved(rig.record()), rig.user()
    second = await rig.replaced(first)
    outcome = await rig.admit(_logged_in(rig, first, user), over=first)
    if not isinstance(outcome, Changed):
        fail(f"admit over another version: expected Changed, got {show(outcome)}")
    await rig.holds(second)
    await _listed(rig, user=user)


@sentence(needs=ByUser)
async def admit_over_what_is_not_there_is_gone(rig: Rig) -> None:
    """As replace: GONE over nothing, a tombstone and an expired record; nothing is written or listed."""
    never, over, late = (
        rig.record(),
        await rig.saved(rig.record()),
        await rig.saved(rig.record(deadline=rig.now + 1)),
    )
    await rig.delete(over.key)
    rig.now += 1
    user = rig.user()
    for record in (never, over, late):
        outcome = await rig.admit(_logged_in(rig, record, user), over=record)
        same(outcome, GONE, "admit over what is not there")
    await _listed(rig, user=user)


@sentence(needs=ByUser)
async def admit_again_with_the_same_version_is_saved(rig: Rig) -> None:
    """A retry recognises its own write, and a session counts once against the limit."""
    anonymous, user = await rig.saved(rig.record()), rig.user()
    one, two = rig.login(user), _logged_in(rig, anonymous, user)
    for _ in range(2):
        same(await rig.admit(one, limit=2), SAVED, "admit as create")
    for _ in range(2):
        same(await rig.admit(two, over=anonymous, limit=2), SAVED, "admit as replace")
    await rig.holds(one)
    await rig.holds(two)
    same(sorted(await rig.keys_of(user)), sorted([one.key, two.key]), "keys of the user")


@sentence(needs=ByUser)
async def admit_may_shorten_the_life(rig: Rig) -> None:
    """A login sets its session's deadlines anew: a long anonymous lifetime does not pass to the login."""
    anonymous = await rig.saved(rig.record())
    record = _logged_in(rig, anonymous, rig.user(), deadline=rig.now + 10)
    await rig.holds(await rig.admitted(record, over=anonymous))
    rig.now += 10
    await rig.expired(record)


# ------------------------------------------------------------------------------------------------------- lists


@sentence(needs=ByUser)
async def of_user_lists_the_newest_login_first(rig: Rig) -> None:
    """In the order of logging in, not of the writes since."""
    user, records = rig.user(), []
    for _ in range(4):
        records.append(await rig.admitted(rig.login(user)))
        rig.now += 10
    oldest = await rig.replaced(records[0], data=b"busy", seen_at=rig.now)
    same(await rig.keys_of(user), [r.key for r in (*records[:0:-1], oldest)], "keys of the user")


@sentence(needs=ByUser)
async def of_user_lists_what_was_written_since(rig: Rig) -> None:
    """The records are today's, and a session that was kept alive is never missed."""
    user = rig.user()
    first = await rig.admitted(rig.login(user))
    second = await rig.replaced(first, data=b"second", deadline=first.deadline + 500)
    await rig.touch(second, deadline=second.deadline + 500, seen_at=rig.now)
    rig.now = second.deadline + 499
    await _listed(rig, await rig.lives(first.key))


@sentence(needs=ByUser)
async def of_user_lists_live_sessions_only(rig: Rig) -> None:
    """Not the expired, not the ended, not one that is nobody's or somebody else's by now."""
    user, other = rig.user(), rig.user()
    expired = await rig.admitted(rig.login(user, deadline=rig.now + 5))
    ended = await rig.admitted(rig.login(user))
    left = await rig.admitted(rig.login(user))
    passed = await rig.admitted(rig.login(user))
    stays = await rig.admitted(rig.login(user))
    await rig.delete(ended.key)
    await rig.replaced(left, user_id=None, authenticated_at=None, login=None, epoch=2)
    theirs = await rig.admitted(_logged_in(rig, passed, other), over=passed)
    rig.now = expired.deadline
    await _listed(rig, stays)
    await _listed(rig, theirs)


@sentence(needs=ByUser)
async def of_user_stays_right_after_healing(rig: Rig) -> None:
    """Reading heals the index, twice gives the same, and a key that comes back to the user is listed again."""
    user = rig.user()
    first = await rig.admitted(rig.login(user))
    left = await rig.replaced(first, user_id=None, authenticated_at=None, login=None, epoch=2)
    await _listed(rig, user=user)
    await _listed(rig, user=user)
    again = await rig.admitted(_logged_in(rig, left, user), over=left)
    await _listed(rig, again)
    rig.now += TOMBSTONE + 1
    await _listed(rig, again)


@sentence(needs=ByUser)
async def of_user_pages_give_each_session_once(rig: Rig) -> None:
    """No more than `limit` on a page; following the cursor until it is None gives each session exactly once."""
    user = rig.user()
    keys = {(await rig.admitted(rig.login(user))).key for _ in range(7)}
    seen: list[str] = []
    cursor = None
    for _ in range(20):
        page = await rig.of_user(user, cursor=cursor, limit=3)
        if len(page.records) > 3:
            fail(f"of_user(limit=3): a page of {len(page.records)}")
        seen += [record.key for record in page.records]
        cursor = page.cursor
        if cursor is None:
            break
    same(sorted(seen), sorted(keys), "keys on all pages")


@sentence(needs=ByUser)
async def user_ids_are_opaque(rig: Rig) -> None:
    """Empty, long, quoted, padded, of any script; told apart by case, by padding and by composition."""
    mark = IDS.version()
    ids = ["", " ", "0", "x" * 255, "☂" * 200]
    tails = (*"'\"`\\%_*?:/\n\té", "{a}", "[a]", "$x", ";--", "null", "None", "Ann", "ann", "ann ", "e\u0301")
    ids += [f" {mark}", *(mark + tail for tail in tails)]
    for user in ids:
        await rig.end_user(user)
    rows = [(user, await rig.admitted_anew(rig.login(user))) for user in ids]
    for user, record in rows:
        same((await rig.lives(record.key)).user_id, user, "user_id")
        await _listed(rig, record)
    for user, record in rows:
        same(await rig.end_one(user, record.key), True, f"end_one of user {show(user)}")
        await _listed(rig, user=user)


# ------------------------------------------------------------------------------------------------------ ending


@sentence(needs=ByUser)
async def end_user_ends_every_session(rig: Rig) -> None:
    """All of this user's, none of anyone else's; each leaves a tombstone; the count is how many lived."""
    user, other = rig.user(), rig.user()
    mine = [await rig.admitted(rig.login(user)) for _ in range(3)]
    await rig.admitted(rig.login(user, deadline=rig.now + 1))
    theirs, nobodys = await rig.admitted(rig.login(other)), await rig.saved(rig.record())
    rig.now += 1
    same((await rig.end_user(user, token="mine")).count, 3, "how many were ended")
    for record in mine:
        same((await rig.ended(record.key)).token, "mine", "the tombstone's token")
    await _listed(rig, user=user)
    await rig.holds(theirs)
    await rig.holds(nobodys)
    same((await rig.end_user(user)).count, 0, "how many were ended, a second time")


@sentence(needs=ByUser)
async def end_user_keeps_the_one_it_is_told_to(rig: Rig) -> None:
    """`keep`: log out everywhere else."""
    user = rig.user()
    records = [await rig.admitted(rig.login(user)) for _ in range(3)]
    same((await rig.end_user(user, keep=records[1].key)).count, 2, "how many were ended")
    await rig.ended(records[0].key)
    await rig.holds(records[1])
    await rig.ended(records[2].key)
    await _listed(rig, records[1])


@sentence(needs=ByUser)
async def end_user_spares_what_is_not_theirs_any_more(rig: Rig) -> None:
    """A session that the index still names but that is nobody's or somebody else's by now stays."""
    user, other = rig.user(), rig.user()
    one, two = await rig.admitted(rig.login(user)), await rig.admitted(rig.login(user))
    left = await rig.replaced(one, user_id=None, authenticated_at=None, login=None, epoch=2)
    passed = await rig.admitted(_logged_in(rig, two, other), over=two)
    same((await rig.end_user(user)).count, 0, "how many were ended")
    await rig.holds(left)
    await rig.holds(passed)


@sentence(needs=ByUser)
async def end_one_ends_only_the_users_own(rig: Rig) -> None:
    """True for a live session of this user, which leaves a tombstone; False for anyone else's, and it stays."""
    user, other = rig.user(), rig.user()
    mine, theirs = await rig.admitted(rig.login(user)), await rig.admitted(rig.login(other))
    nobodys = await rig.saved(rig.record())
    for record in (theirs, nobodys):
        same(await rig.end_one(user, record.key), False, "end_one of a session that is not theirs")
        await rig.holds(record)
    same(await rig.end_one(user, IDS.locator()), False, "end_one of an unknown key")
    same(await rig.end_one(user, mine.key, token="mine"), True, "end_one of their own")
    same(await rig.end_one(user, mine.key, token="mine"), True, "end_one, a second time, with the same token")
    same(
        await rig.end_one(user, mine.key, token="other"), False, "end_one of a tombstone, with another token"
    )
    same((await rig.ended(mine.key)).token, "mine", "the tombstone's token")
    await _listed(rig, user=user)


@sentence(needs=ByUser)
async def end_one_of_an_expired_session_is_false(rig: Rig) -> None:
    """It was over before; no tombstone is made for it."""
    user = rig.user()
    record = await rig.admitted(rig.login(user))
    rig.now = record.deadline
    same(await rig.end_one(user, record.key), False, "end_one of an expired session")
    await rig.expired(record)


# ------------------------------------------------------------------------------------------------------- fence


@sentence(needs=ByUser)
async def a_login_begun_before_the_fence_is_refused(rig: Rig) -> None:
    """FENCED; nothing is written: a create leaves nothing, a replace the session as it was."""
    user, anonymous = rig.user(), await rig.saved(rig.record())
    await rig.end_user(user)
    record = rig.login(user)
    same(await rig.admit(record, elapsed=5.0), FENCED, "admit of a login begun 5 s ago, before the fence")
    await rig.unknown(record.key)
    late = _logged_in(rig, anonymous, user)
    same(await rig.admit(late, over=anonymous, elapsed=5.0), FENCED, "admit over an anonymous session")
    await rig.holds(anonymous)
    await _listed(rig, user=user)


@sentence(needs=ByUser)
async def a_login_begun_after_the_fence_is_admitted(rig: Rig) -> None:
    """The fence ends what began before it, nothing else; and nobody else's logins."""
    user, other = rig.user(), rig.user()
    await rig.end_user(user)
    await _listed(rig, await rig.admitted_anew(rig.login(user)))
    await _listed(rig, await rig.admitted(rig.login(other), elapsed=5.0))


@sentence(needs=ByUser)
async def the_fence_is_in_the_stores_own_clock(rig: Rig) -> None:
    """A caller whose clock is wrong by hours is neither let past the fence nor kept out by it."""
    user = rig.user()
    await rig.end_user(user)
    rig.now += 7_200
    same(await rig.admit(rig.login(user), elapsed=5.0), FENCED, "admit, the caller's clock two hours ahead")
    rig.now -= 14_400
    same(await rig.admit(rig.login(user), elapsed=5.0), FENCED, "admit, the caller's clock two hours behind")
    await rig.admitted_anew(rig.login(user))


@sentence(needs=ByUser)
async def a_request_passes_its_own_fence(rig: Rig) -> None:
    """`end_all(); login()` in a password change works, by the fence that end_user answered."""
    user = rig.user()
    before = await rig.admitted(rig.login(user))
    fence = (await rig.end_user(user)).fence
    await _listed(rig, await rig.admitted(rig.login(user), elapsed=5.0, own_fence=fence))
    await rig.ended(before.key)


@sentence(needs=ByUser)
async def a_request_does_not_pass_a_later_fence(rig: Rig) -> None:
    """Its own fence is no pass for one that somebody else raised afterwards, in the same tick even."""
    user = rig.user()
    fences = [(await rig.end_user(user)).fence for _ in range(20)]
    if any(later <= earlier for earlier, later in pairwise(fences)):
        fail(f"each fence of a user must be greater than the one before: {fences}")
    for own in fences[:-1]:
        outcome = await rig.admit(rig.login(user), elapsed=5.0, own_fence=own)
        same(outcome, FENCED, "admit with an older fence of its own")
    same(await rig.admit(rig.login(user), elapsed=5.0, own_fence=fences[-1]), SAVED, "admit with the latest")


# ------------------------------------------------------------------------------------------------------- limit


@sentence(needs=ByUser)
async def the_limit_ends_the_oldest_logins(rig: Rig) -> None:
    """At the limit the oldest logins are ended, with a tombstone, whatever was seen last; others' sessions stay."""
    user, records = rig.user(), []
    theirs = await rig.admitted(rig.login(rig.user()))
    for _ in range(4):
        records.append(await rig.admitted(rig.login(user)))
        rig.now += 10
    records[0] = await rig.replaced(records[0], seen_at=rig.now)
    newest = await rig.admitted(rig.login(user), limit=3)
    for record in records[:2]:
        await rig.ended(record.key)
    await _listed(rig, newest, *records[:1:-1])
    await rig.holds(theirs)


@sentence(needs=ByUser)
async def the_limit_refuses_when_told_not_to_evict(rig: Rig) -> None:
    """FULL; nothing is written, nothing is ended."""
    user, anonymous = rig.user(), await rig.saved(rig.record())
    there = [await rig.admitted(rig.login(user), limit=2, evict=False) for _ in range(2)]
    record = rig.login(user)
    same(await rig.admit(record, limit=2, evict=False), FULL, "admit at the limit")
    await rig.unknown(record.key)
    late = _logged_in(rig, anonymous, user)
    same(
        await rig.admit(late, over=anonymous, limit=2, evict=False),
        FULL,
        "admit over a session, at the limit",
    )
    await rig.holds(anonymous)
    same(sorted(await rig.keys_of(user)), sorted(record.key for record in there), "keys of the user")


@sentence(needs=ByUser)
async def the_limit_counts_live_sessions_without_itself(rig: Rig) -> None:
    """A session that logs in again, and those that expired or ended, take no place."""
    user = rig.user()
    await rig.admitted(rig.login(user, deadline=rig.now + 1))
    ended = await rig.admitted(rig.login(user))
    await rig.delete(ended.key)
    rig.now += 1
    one = await rig.admitted(rig.login(user), limit=2, evict=False)
    two = await rig.admitted(rig.login(user), limit=2, evict=False)
    again = await rig.admitted(_logged_in(rig, two, user), over=two, limit=2, evict=False)
    await rig.holds(one)
    await rig.holds(again)


# ----------------------------------------------------------------------------------------------------- helpers


def _logged_in(rig: Rig, record: Record, user: str, **changes: object) -> Record:
    login = rig.login(user)
    fields = {"user_id": user, "authenticated_at": rig.now, "login": login.login, "epoch": record.epoch + 1}
    return rig.after(record, **(fields | changes))


async def _listed(rig: Rig, *records: Record, user: str | None = None) -> None:
    """The list of the first record's user is exactly these, in this order."""
    user = records[0].user_id if records else user
    if user is None:
        raise TypeError("a record of a user, or user=")
    page = await rig.of_user(user)
    same([record.key for record in page.records], [record.key for record in records], "keys of the user")
    for actual, expected in zip(page.records, records, strict=True):
        same(actual, expected, "a record of the user")
