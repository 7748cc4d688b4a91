"""The scale bench tells a store whose cost grows from one whose cost does not."""

import asyncio
import io
import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import scale_docs
from bench.pages import END
from bench.plot import Axis, Line, Panel, svg
from bench.progress import bar, picture
from bench.scale import (
    VERBS,
    Measured,
    Rounds,
    Took,
    as_json,
    failures,
    fill,
    growth,
    key_of,
    measured,
    rounds_of,
    table,
    timed,
)
from bench.sites import STORES, Stored
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

    async def sweep(self, *, now: float, limit: int = 1000) -> int:
        return 0

    async def end_user(self, user_id: str, *, keep: str | None, now: float, token: str) -> EndedAll:
        return EndedAll(0, now)

    async def end_one(self, user_id: str, key: str, *, now: float, token: str) -> bool:
        self.by_user[user_id].pop(key)
        return await self.delete(key, now=now, token=token)


SIZES = (100, 3_000)


async def times(make: Callable[[int], Stored]) -> Rounds:
    """A store for each size, filled, and what was timed."""
    stores = {size: make(size) for size in SIZES}
    for size, store in stores.items():
        await fill(store, range(size))
    return await rounds_of(stores, batch=25)


def test_a_flat_store_is_flat_and_a_scan_is_seen() -> None:
    flat = asyncio.run(times(lambda size: Toy(scans=False)))
    scanning = asyncio.run(times(lambda size: Toy(scans=True)))
    assert growth(scanning, "list by user", 3_000) > 3 * growth(flat, "list by user", 3_000)
    assert any("list by user" in line for line in failures("toy", scanning))


@pytest.mark.parametrize("name", STORES)
def test_a_store_of_ours_does_all_that_is_timed_and_has_every_session_afterwards(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.scale.ROUNDS", 1)
    monkeypatch.setattr("bench.scale.BATCH", 25)
    kept: dict[int, Stored] = {}

    async def looking_on(stores: dict[int, Stored], **how: object) -> Rounds:
        rounds = await rounds_of(stores, batch=25)
        for size, store in stores.items():
            await all_there(store, size)
        kept.update(stores)
        return rounds

    monkeypatch.setattr("bench.scale.rounds_of", looking_on)
    found = asyncio.run(measured(name, STORES[name], (100, 300), tmp_path))
    assert set(kept) == {100, 300}
    assert all(set(costs) == {100, 300} and set(costs[100]) == set(VERBS) for costs in found.rounds)
    assert set(found.fill_seconds) == set(found.octets) == {100, 300}
    assert all(rate > 0 for rate in found.swept_a_second.values())
    if name != "memory":  # of which a hundred sessions may fit into what the process had
        assert all(octets > 300 for at in found.octets.values() for octets in at.values())


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


def test_the_percentile_is_what_one_call_in_a_hundred_exceeds() -> None:
    ticks = iter(tick for number in range(200) for tick in (0.0, (number + 1) * 1e-6))

    async def nothing(store: Stored, number: int) -> None:
        pass

    took = asyncio.run(timed(nothing, Toy(scans=False), range(200), lambda: next(ticks)))
    assert (round(took.p50, 3), round(took.p99, 3)) == (100.5, 198.0)


def even(p50: float, p99: float | None = None) -> dict[str, Took]:
    """Every verb takes so long."""
    return dict.fromkeys(VERBS, Took(p50, p50 if p99 is None else p99))


def test_only_what_grew_beyond_the_tolerance_failed_and_it_says_how_much() -> None:
    costs = {1_000: even(2.0), 10_000: {**even(5.9), "end": Took(8.0, 9.0)}, 100_000: even(2.0)}
    (line,) = failures("memory", [costs])
    assert line.startswith("memory: FAILED, end (p50) costs 4.0 times as much with 10,000 sessions")
    (line,) = failures("memory", [{1_000: even(2.0), 10_000: {**even(2.0), "load": Took(2.0, 11.0)}}])
    assert line.startswith("memory: FAILED, load (p99) costs 5.5 times as much")
    assert failures("memory", [{1_000: costs[1_000]}]) == []


def test_a_ratio_is_taken_within_a_round_so_a_busy_neighbour_makes_no_growth() -> None:
    calm = {1_000: even(1.0), 10_000: even(1.5)}
    busy = {1_000: even(10.0), 10_000: even(15.0)}
    assert growth([calm, busy, busy], "load", 10_000) == 1.5


def some(clock: str = "wall clock") -> Measured:
    """What may have been measured."""
    return Measured(
        clock,
        [{1_000: even(2.0, 4.0), 10_000: even(3.0, 8.0)}],
        {1_000: {"file": 700.4}, 10_000: {"file": 650.0}},
        {1_000: 0.5, 10_000: 4.0},
        {1_000: 90_000.0, 10_000: 80_000.0},
    )


def test_table_shows_every_size_and_the_ratio_to_the_smallest() -> None:
    text = table("memory", some())
    assert "10,000" in text
    assert text.count("1.00x") == 8
    assert text.count("1.50x") == text.count("2.00x") == 4
    assert text.splitlines()[-2].split() == ["filled,", "logins", "a", "second", "2,000", "2,500"]


def results() -> dict[str, object]:
    return {
        "machine": {"cores": 2, "cpu": "A", "system": "L", "python": "3", "load_average_at_start": 0.5},
        "versions": {"postgres": "15.1"},
        "stores": {"redis": as_json(some()), "sqlite": as_json(some("CPU time"))},
    }


def test_the_page_gets_its_tables_and_keeps_its_prose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, plot = tmp_path / "scale.md", tmp_path / "scale.svg"
    page.write_text(f"before\n{scale_docs.BEGIN}old\n{END}after\n")
    monkeypatch.setattr(scale_docs, "PAGE", page)
    monkeypatch.setattr(scale_docs, "PLOT", plot)
    monkeypatch.setattr(scale_docs, "FIGURES", tmp_path / "scale.json")
    for _ in range(2):
        scale_docs.write(results())
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| load | 2.0 (4.0) | 3.0 (8.0) |" in text
    assert "**Redis** (wall clock)" in text
    assert "**SQLite** (CPU time)" in text
    assert ElementTree.fromstring(plot.read_text()).tag.endswith("svg")


def test_page_and_plot_are_of_the_same_run() -> None:
    committed = json.loads(scale_docs.FIGURES.read_text())
    assert scale_docs.tables(committed) in scale_docs.PAGE.read_text()
    assert scale_docs.plot(committed) == scale_docs.PLOT.read_text()
    assert {"redis", "postgres"} <= set(committed["stores"])
    assert all("1000000" in committed["stores"][name]["sizes"] for name in ("redis", "postgres"))


def test_the_plot_names_its_axes_and_lines_and_escapes_what_it_is_given() -> None:
    panel = Panel(
        "a & b", [Line("load", [(1_000, 2.0), (10_000, 3.0)]), Line("end", [(1_000, 20.0)], dashed=True)]
    )
    root = ElementTree.fromstring(svg([panel], x="sessions", y="us", note="n", title="t"))
    words = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert {"a & b", "load", "end", "sessions", "us", "n", "1,000", "10,000", "1", "100"} <= set(words)


def test_an_axis_reaches_to_whole_powers_of_ten() -> None:
    axis = Axis.over([2.0, 90.0], 0.0, 100.0)
    assert list(axis.powers()) == [0, 1, 2]
    assert [axis.at(value) for value in (1.0, 10.0, 100.0)] == [0.0, 50.0, 100.0]
    assert list(Axis.over([10.0], 0.0, 1.0).powers()) == [1, 2]


def test_the_bar_hands_everything_on_and_tells_every_tenth() -> None:
    out = io.StringIO()
    assert list(bar(range(40), 40, "filling", to=out)) == list(range(40))
    lines = out.getvalue().splitlines()
    assert len(lines) == 10
    assert "[###                           ]  10%" in lines[0]
    assert "100%" in lines[-1]
    assert "30 s left" in picture(1, 4, "x", 10.0)
