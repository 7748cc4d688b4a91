"""Many at once: threads in blocking mode, tasks in awaiting mode. Every method is atomic."""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from coatcheck.core.ports import GONE, SAVED, ByUser, Changed, Outcome
from coatcheck.core.record import Ended, Record
from coatcheck.testing.rig import Rig, fail, same, sentence, show

WRITERS = 50
Job = Callable[[], Coroutine[Any, Any, Outcome]]


@sentence()
async def of_many_creates_one_is_saved(rig: Rig) -> None:
    """Fifty creates of one key: one SAVED, and its record is the one that is there."""
    key = rig.record().key
    records = [rig.record(key=key, data=b"%d" % n) for n in range(WRITERS)]
    outcomes = await rig.together([partial(rig.create, r) for r in records])
    await rig.holds(_the_saved(records, outcomes))


@sentence()
async def of_many_replaces_over_one_version_one_is_saved(rig: Rig) -> None:
    """Fifty writers of one version: one SAVED, and its record is the one that is there; the others are told CHANGED."""
    first = await rig.saved(rig.record())
    records = [rig.after(first, data=b"%d" % n) for n in range(WRITERS)]
    outcomes = await rig.together([partial(rig.replace, r, over=first) for r in records])
    await rig.holds(_the_saved(records, outcomes))
    for outcome in outcomes:
        if outcome is not SAVED and not isinstance(outcome, Changed):
            fail(f"a replace that lost: expected Changed, got {show(outcome)}")


@sentence()
async def a_hundred_increments_lose_nothing(rig: Rig) -> None:
    """Twenty writers of five increments each, by load, replace, and again when CHANGED: the sum is a hundred."""
    record = await rig.saved(rig.record(data=b"0"))

    async def five_times() -> None:
        for _ in range(5):
            await _increment(rig, record.key)

    await rig.together([five_times] * 20)
    same((await rig.lives(record.key)).data, b"100", "the sum")


@sentence()
async def of_many_deletes_one_is_true(rig: Rig) -> None:
    """Twenty deleters with tokens of their own: one True, and the tombstone is that one's."""
    record = await rig.saved(rig.record())
    tokens = [f"token-{n}" for n in range(20)]
    answers = await rig.together([partial(rig.delete, record.key, token=t) for t in tokens])
    same(answers.count(True), 1, "how many deletes answered True")
    same((await rig.ended(record.key)).token, tokens[answers.index(True)], "the tombstone's token")


@sentence()
async def a_delete_among_writers_stays_deleted(rig: Rig) -> None:
    """Writers that go on until they are told GONE: after the delete none of them brings the session back."""
    record = await rig.saved(rig.record(data=b"0"))

    async def write() -> None:
        # Bounded: where the session comes back, this would have no end.
        for _ in range(200):
            if not await _increment(rig, record.key):
                return

    async def end() -> None:
        for _ in range(20):
            await _increment(rig, record.key)
        same(await rig.delete(record.key), True, "delete")

    # The deleter comes first: where nothing ever suspends, one task runs to its end before the next begins.
    await rig.together([end, *[write] * 10])
    await rig.ended(record.key)


@sentence()
async def of_a_replace_and_a_delete_over_one_version_one_wins(rig: Rig) -> None:
    """Twenty times: exactly one of the two, and what is there is the winner's."""
    for turn in range(20):
        first = await rig.saved(rig.record())
        second = rig.after(first, data=b"second")
        deleted: list[bool] = []

        async def end(first: Record = first, deleted: list[bool] = deleted) -> Outcome:
            deleted.append(await rig.delete(first.key, over=first))
            return SAVED

        jobs: list[Job] = [partial(rig.replace, second, over=first), end]
        # Where nothing ever suspends, the first task wins: each is first in its turn.
        order = 1 if turn % 2 else -1
        replaced, _ = (await rig.together(jobs[::order]))[::order]
        if deleted == [True]:
            same(replaced, GONE, "a replace that lost to a delete")
            await rig.ended(first.key)
        else:
            same(replaced, SAVED, "a replace that won over a delete")
            await rig.holds(second)


@sentence()
async def touches_among_writers_take_nothing_back(rig: Rig) -> None:
    """Touches and writes at once: no write is lost, and no deadline that a touch was told it had moved."""
    record = await rig.saved(rig.record(data=b"0"))
    moved = [record.deadline]

    async def touch() -> None:
        for n in range(1, 20):
            there = await rig.lives(record.key)
            await rig.give_way()
            if await rig.touch(there, deadline=record.deadline + n, seen_at=record.seen_at):
                moved.append(record.deadline + n)

    async def write() -> None:
        for _ in range(5):
            await _increment(rig, record.key)

    await rig.together([write, touch] * 5)
    there = await rig.lives(record.key)
    same(there.data, b"25", "the sum")
    same(there.deadline, max(moved), "the deadline")


@sentence(needs=ByUser)
async def parallel_logins_keep_the_limit(rig: Rig) -> None:
    """Twenty logins of one user at a limit of three: three live, and the list has exactly those."""
    user = rig.user()
    records = [rig.login(user) for _ in range(20)]
    outcomes = await rig.together([partial(rig.admit, r, limit=3) for r in records])
    same(set(outcomes), {SAVED}, "outcomes of admit")
    live = await _live(rig, records)
    same(len(live), 3, "how many live")
    same(sorted(await rig.keys_of(user)), sorted(live), "keys of the user")


@sentence(needs=ByUser)
async def parallel_logins_are_refused_at_the_limit(rig: Rig) -> None:
    """The same without evicting: three SAVED, which are those that live; the others FULL."""
    user = rig.user()
    records = [rig.login(user) for _ in range(20)]
    outcomes = await rig.together([partial(rig.admit, r, limit=3, evict=False) for r in records])
    saved = [record.key for record, outcome in zip(records, outcomes, strict=True) if outcome is SAVED]
    same(len(saved), 3, "how many were SAVED")
    same(sorted(await _live(rig, records)), sorted(saved), "keys that live")


@sentence(needs=ByUser)
async def no_login_begun_before_an_end_user_survives_it(rig: Rig) -> None:
    """Logins in flight while all sessions of their user are ended: each is refused, or written and ended."""
    for _ in range(3):
        user = rig.user()
        records = [rig.login(user) for _ in range(20)]

        async def end(user: str = user) -> Outcome:
            await rig.end_user(user)
            return SAVED

        jobs: list[Job] = [partial(rig.admit, r, elapsed=60.0) for r in records]
        await rig.together([*jobs[:10], end, *jobs[10:]])
        same(await _live(rig, records), [], "keys that live")
        same(await rig.keys_of(user), [], "keys of the user")


@sentence(needs=ByUser)
async def many_logins_are_all_in_the_list(rig: Rig) -> None:
    """The index never misses a session that lives: fifty logins at once, fifty in the list."""
    user = rig.user()
    records = [rig.login(user) for _ in range(WRITERS)]
    await rig.together([partial(rig.admit, r) for r in records])
    same(sorted(await rig.keys_of(user)), sorted(record.key for record in records), "keys of the user")
    same((await rig.end_user(user)).count, WRITERS, "how many were ended")


async def _increment(rig: Rig, key: str) -> bool:
    """Add one to the number in `data`, as often as it takes. False: the session has ended."""
    for _ in range(10_000):
        old = await rig.load(key)
        if not isinstance(old, Record):
            if isinstance(old, Ended):
                return False
            fail("load: expected a record or its tombstone, got None")
        new = rig.after(old, data=b"%d" % (int(old.data) + 1))
        await rig.give_way()
        outcome = await rig.replace(new, over=old)
        if outcome is SAVED:
            return True
        if not (outcome is GONE or isinstance(outcome, Changed)):
            fail(f"replace: got {show(outcome)}")
    fail("10,000 replaces lost to other writers: does anyone ever win?")


async def _live(rig: Rig, records: list[Record]) -> list[str]:
    found = [await rig.load(record.key) for record in records]
    return [record.key for record in found if isinstance(record, Record)]


def _the_saved(records: list[Record], outcomes: list[Outcome]) -> Record:
    saved = [record for record, outcome in zip(records, outcomes, strict=True) if outcome is SAVED]
    same(len(saved), 1, "how many were SAVED")
    return saved[0]
