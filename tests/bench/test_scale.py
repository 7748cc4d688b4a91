"""The scale bench tells a store whose cost grows from one whose cost does not."""

import asyncio
import random

import pytest

from bench.scale import Stored, at_size, fill, grow, growth, key_of, table
from coatcheck.core.ports import CHANGED, SAVED, EndedAll, Outcome, Page, Terms
from coatcheck.core.record import Ended, Record


class Toy:
    """A dict of records with just enough of the contract; with ``scans`` it looks a user up by reading everything."""

    def __init__(self, *, scans: bool) -> None:
        self.records: dict[str, Record] = {}
        self.by_user: dict[str, dict[str, None]] = {}
        self.scans = scans

    async def load(self, key: str, *, now: float) -> Record | Ended | None:
        return self.records.get(key)

    async def create(self, record: Record, *, now: float) -> Outcome:
        return await self.admit(record, expected=None, terms=Terms(), now=now)

    async def admit(self, record: Record, *, expected: str | None, terms: Terms, now: float) -> Outcome:
        self.records[record.key] = record
        self.by_user.setdefault(str(record.user_id), {})[record.key] = None
        return SAVED

    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        if self.records[record.key].version != expected:
            return CHANGED
        self.records[record.key] = record
        return SAVED

    async def touch(self, key: str, *, deadline: float, seen_at: float, expected: str, now: float) -> bool:
        return False

    async def delete(self, key: str, *, now: float, token: str, expected: str | None = None) -> bool:
        return self.records.pop(key, None) is not None

    async def of_user(self, user_id: str, *, now: float, cursor: str | None = None, limit: int = 100) -> Page:
        if self.scans:
            return Page([record for record in self.records.values() if record.user_id == user_id])
        return Page([self.records[key] for key in self.by_user[user_id]])

    async def end_user(self, user_id: str, *, keep: str | None, now: float, token: str) -> EndedAll:
        return EndedAll(0, now)

    async def end_one(self, user_id: str, key: str, *, now: float, token: str) -> bool:
        self.by_user[user_id].pop(key)
        return await self.delete(key, now=now, token=token)


def measured(store: Stored) -> dict[int, dict[str, float]]:
    return asyncio.run(grow(store, [100, 3_000], lambda line: None))


def test_a_flat_store_is_flat_and_a_scan_is_seen() -> None:
    flat, scanning = (growth(measured(Toy(scans=scans)), "list by user") for scans in (False, True))
    assert scanning > 3 * flat


def test_the_counted_sessions_are_all_there_after_a_size_has_been_measured() -> None:
    store = Toy(scans=False)
    measured(store)
    assert set(store.records) == {key_of(number) for number in range(3_000)}


def test_a_verb_that_did_not_do_its_work_is_not_timed() -> None:
    async def with_one_missing() -> None:
        store = Toy(scans=False)
        await fill(store, range(10))
        del store.records[key_of(3)]
        await at_size(store, 10, random.Random(1))

    with pytest.raises(RuntimeError, match="load of session 3: None"):
        asyncio.run(with_one_missing())


def test_table_shows_every_size_and_the_growth() -> None:
    verbs = ("load", "commit", "list by user", "revoke")
    text = table("memory", {1_000: dict.fromkeys(verbs, 2.0), 10_000: dict.fromkeys(verbs, 3.0)})
    assert "10,000" in text
    assert text.count("1.50x") == 4
