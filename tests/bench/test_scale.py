"""The scale bench tells a store whose cost grows from one whose cost does not."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.scale import STORES, VERBS, Rounds, Stored, failures, fill, growth, key_of, rounds_of, table
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


SIZES = (100, 3_000)


async def measured(make: Callable[[int], Stored]) -> tuple[dict[int, Stored], Rounds]:
    """A store for each size, filled, and what was timed."""
    stores = {size: make(size) for size in SIZES}
    for size, store in stores.items():
        await fill(store, range(size))
    return stores, await rounds_of(stores, batch=25)


def test_a_flat_store_is_flat_and_a_scan_is_seen() -> None:
    _, flat = asyncio.run(measured(lambda size: Toy(scans=False)))
    _, scanning = asyncio.run(measured(lambda size: Toy(scans=True)))
    assert growth(scanning, "list by user", 3_000) > 3 * growth(flat, "list by user", 3_000)
    assert any("list by user" in line for line in failures("toy", scanning))


@pytest.mark.parametrize("name", STORES)
def test_a_store_of_ours_does_all_that_is_timed_and_has_every_session_afterwards(
    name: str, tmp_path: Path
) -> None:
    stores, rounds = asyncio.run(measured(lambda size: STORES[name](tmp_path / str(size), 2 * size)))
    assert all(set(costs) == set(SIZES) and set(costs[100]) == set(VERBS) for costs in rounds)
    for size, store in stores.items():
        asyncio.run(all_there(store, size))


async def all_there(store: Stored, size: int) -> None:
    for number in range(size):
        found = await store.load(key_of(number), now=1_800_000_100.0)
        assert isinstance(found, Record), number


def test_a_verb_that_did_not_do_its_work_is_not_timed() -> None:
    async def with_one_missing() -> None:
        store = Toy(scans=False)
        await fill(store, range(10))
        del store.records[key_of(3)]
        await rounds_of({10: store}, batch=100)

    with pytest.raises(RuntimeError, match="load of session 3: None"):
        asyncio.run(with_one_missing())


def test_only_what_grew_beyond_the_tolerance_failed_and_it_says_how_much() -> None:
    costs = {
        1_000: dict.fromkeys(VERBS, 2.0),
        10_000: {**dict.fromkeys(VERBS, 5.9), "revoke": 8.0},
        100_000: dict.fromkeys(VERBS, 2.0),
    }
    (line,) = failures("memory", [costs])
    assert line.startswith("memory: FAILED, revoke costs 4.0 times as much with 10,000 sessions")
    assert failures("memory", [{1_000: costs[1_000]}]) == []


def test_a_ratio_is_taken_within_a_round_so_a_busy_neighbour_makes_no_growth() -> None:
    calm = {1_000: dict.fromkeys(VERBS, 1.0), 10_000: dict.fromkeys(VERBS, 1.5)}
    busy = {1_000: dict.fromkeys(VERBS, 10.0), 10_000: dict.fromkeys(VERBS, 15.0)}
    assert growth([calm, busy, busy], "load", 10_000) == 1.5


def test_table_shows_every_size_and_the_ratio_to_the_smallest() -> None:
    text = table("memory", [{1_000: dict.fromkeys(VERBS, 2.0), 10_000: dict.fromkeys(VERBS, 3.0)}])
    assert "10,000" in text
    assert text.count("1.00x") == text.count("1.50x") == 4
