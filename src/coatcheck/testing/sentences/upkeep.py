"""The abilities `Sweeps`, `Counts` and `Checks`."""

from coatcheck.core.ports import TOMBSTONE, Checks, Counts, Sweeps
from coatcheck.testing.rig import Rig, fail, same, sentence


@sentence(needs=Sweeps)
async def sweep_deletes_the_expired_only(rig: Rig) -> None:
    """How many went is answered; what lives stays, and a tombstone for its minute."""
    await _swept(rig)
    late = [await rig.saved(rig.record(deadline=rig.now + 5 + n)) for n in range(5)]
    alive, over = await rig.saved(rig.record()), await rig.saved(rig.record())
    rig.now += 10
    await rig.delete(over.key)
    same(await _swept(rig), 5, "how many were swept")
    same(await _swept(rig), 0, "how many were swept, a second time")
    for record in late:
        await rig.expired(record)
    await rig.holds(alive)
    await rig.ended(over.key)


@sentence(needs=Sweeps)
async def sweep_keeps_to_its_limit(rig: Rig) -> None:
    """No more than `limit` records at once, so that a sweep never holds up the requests."""
    await _swept(rig)
    for _ in range(7):
        await rig.saved(rig.record(deadline=rig.now + 1))
    rig.now += 1
    for expected in (3, 3, 1, 0):
        same(await rig.sweep(limit=3), expected, "sweep(limit=3)")


@sentence(needs=Sweeps)
async def sweep_takes_old_tombstones_along(rig: Rig) -> None:
    """They are no records and do not count, and their keys are free afterwards."""
    await _swept(rig)
    record = await rig.saved(rig.record())
    await rig.delete(record.key)
    rig.now += TOMBSTONE
    same(await _swept(rig), 0, "how many records were swept")
    await rig.holds(await rig.saved(rig.record(key=record.key)))


@sentence(needs=Sweeps)
async def what_was_swept_is_for_good(rig: Rig) -> None:
    """A clock that steps back does not bring it back."""
    record = await rig.saved(rig.record())
    rig.now = record.deadline
    await _swept(rig)
    rig.now -= 30
    await rig.expired(record)


@sentence(needs=Counts)
async def count_is_how_many_live(rig: Rig) -> None:
    """Neither the expired nor the ended, swept or not."""
    before = await rig.count()
    records = [await rig.saved(rig.record()) for _ in range(3)]
    await rig.saved(rig.record(deadline=rig.now + 1))
    same(await rig.count(), before + 4, "count")
    await rig.delete(records[0].key)
    rig.now += 1
    same(await rig.count(), before + 2, "count after one ended and one expired")


@sentence(needs=Checks)
async def check_of_a_store_that_works_is_quiet(rig: Rig) -> None:
    """It returns, and nothing is stored by it for anyone to see."""
    await rig.checks.check()
    await rig.checks.check()


async def _swept(rig: Rig) -> int:
    """Sweep until nothing is left to sweep."""
    total = 0
    for _ in range(1_000):
        swept = await rig.sweep()
        total += swept
        if not swept:
            return total
    fail("sweep does not come to an end")
