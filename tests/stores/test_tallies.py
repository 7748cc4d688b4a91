"""Counters on every store: the contract of `coatcheck.core.ports.Tallies`, on both faces, on real servers."""

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

import pytest

from coatcheck.core.counters import Counters
from coatcheck.core.ports import NO_TALLY, SetsUp, Sweeps, Tallies, Tally
from coatcheck.core.stepping import run_now
from coatcheck.manager import AsyncSessionManager, SessionManager
from coatcheck.stores import open_store
from tests.patience import PATIENT
from tests.stores.tally_places import KINDS, url_of

T = TypeVar("T")
NOW = 1_700_000_000.0


class Bench(NamedTuple):
    """One face of a store, and how to run what it answers."""

    tallies: Any
    run: Callable[[Coroutine[Any, Any, Any]], Any]
    at_once: Callable[[list[Callable[[], Coroutine[Any, Any, Any]]]], list[Any]]


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    url = url_of(request.param, tmp_path, request)
    with SessionManager(url, outage=PATIENT) as sessions:
        sessions.setup()
    return url


@pytest.fixture(params=["blocking", "awaiting"])
def bench(request: pytest.FixtureRequest, url: str) -> Iterator[Bench]:
    backend: Any = open_store(url, outage=PATIENT)
    if request.param == "blocking":
        with ThreadPoolExecutor(8) as threads:
            yield Bench(
                backend.blocking(),
                run_now,
                lambda calls: list(threads.map(lambda call: run_now(call()), calls)),
            )
        if hasattr(backend, "close"):
            backend.close()
        return
    with asyncio.Runner() as runner:

        async def gather(calls: list[Callable[[], Coroutine[Any, Any, Any]]]) -> list[Any]:
            return await asyncio.gather(*(call() for call in calls))

        async def face() -> Any:
            return backend.awaiting()

        yield Bench(runner.run(face()), runner.run, lambda calls: runner.run(gather(calls)))
        close = getattr(backend, "aclose", None) or getattr(backend, "close", None)
        if close is not None:
            closing = close()
            if inspect.isawaitable(closing):
                runner.run(_awaited(closing))


async def _awaited(something: Any) -> Any:
    return await something


def key() -> str:
    return f"test:{uuid4()}"


def test_counts_until_its_window_is_over(bench: Bench) -> None:
    assert isinstance(bench.tallies, Tallies)
    run, tallies, here = bench.run, bench.tallies, key()
    assert run(tallies.tallied(here, now=NOW)) == NO_TALLY
    assert run(tallies.tally(here, window=60, now=NOW)) == Tally(1, NOW + 60)
    assert run(tallies.tally(here, window=60, now=NOW + 59.5)) == Tally(2, NOW + 60)
    assert run(tallies.tallied(here, now=NOW + 59.5)) == Tally(2, NOW + 60)
    assert run(tallies.tallied(here, now=NOW + 60)) == NO_TALLY
    assert run(tallies.tally(here, window=30, now=NOW + 60)) == Tally(1, NOW + 90)


def test_amounts_and_their_floor(bench: Bench) -> None:
    run, tallies, here = bench.run, bench.tallies, key()
    assert run(tallies.tally(here, window=60, now=NOW, amount=5)).total == 5
    assert run(tallies.tally(here, window=60, now=NOW, amount=-2)).total == 3
    assert run(tallies.tally(here, window=60, now=NOW, amount=-9)).total == 0
    assert run(tallies.tally(key(), window=60, now=NOW, amount=-1)).total == 0


def test_a_window_is_prolonged_where_asked_for_and_never_shortened(bench: Bench) -> None:
    run, tallies, here = bench.run, bench.tallies, key()
    run(tallies.tally(here, window=60, now=NOW))
    assert run(tallies.tally(here, window=60, now=NOW + 30, prolong=True)) == Tally(2, NOW + 90)
    assert run(tallies.tally(here, window=10, now=NOW + 30, prolong=True)) == Tally(3, NOW + 90)
    assert run(tallies.tally(here, window=60, now=NOW + 95, prolong=True)) == Tally(1, NOW + 155)


def test_is_forgotten_where_asked_for(bench: Bench) -> None:
    run, tallies, here, other = bench.run, bench.tallies, key(), key()
    for each in (here, other):
        run(tallies.tally(each, window=60, now=NOW))
    run(tallies.end_tally(here))
    run(tallies.end_tally(here))
    assert run(tallies.tallied(here, now=NOW)) == NO_TALLY
    assert run(tallies.tallied(other, now=NOW)).total == 1


def test_of_many_at_once_each_counts_once(bench: Bench) -> None:
    here = key()
    counted = bench.at_once([lambda: bench.tallies.tally(here, window=60, now=NOW)] * 60)
    assert sorted(tally.total for tally in counted) == list(range(1, 61))
    assert {tally.until for tally in counted} == {NOW + 60}


def test_who_comes_late_with_an_earlier_time_is_counted_with_the_rest(bench: Bench) -> None:
    """Requests are not carried out in the order in which they looked at the clock."""
    here = key()
    times = [NOW + 0.001 * ((number * 7) % 40) for number in range(40)]
    bench.at_once([lambda now=now: bench.tallies.tally(here, window=60, now=now) for now in times])  # type: ignore[misc]
    assert bench.run(bench.tallies.tallied(here, now=NOW + 1)).total == 40


def test_sessions_know_nothing_of_counters(url: str) -> None:
    async def look() -> None:
        async with AsyncSessionManager(url, outage=PATIENT) as sessions:
            before = await sessions.count()
            await sessions.flows.store.tally(key(), window=60, now=NOW)  # type: ignore[attr-defined]
            assert await sessions.count() == before

    asyncio.run(look())


def test_a_sweep_takes_what_is_over_and_leaves_the_rest(bench: Bench) -> None:
    run, tallies, here, there = bench.run, bench.tallies, key(), key()
    sweeping: object = tallies
    assert isinstance(sweeping, Sweeps)
    run(tallies.tally(here, window=60, now=NOW))
    run(tallies.tally(there, window=600, now=NOW))
    run(tallies.sweep(now=NOW + 100))
    assert run(tallies.tallied(there, now=NOW + 100)).total == 1
    if not hasattr(tallies, "_run"):  # Redis collects by itself
        assert run(tallies.tallied(here, now=NOW)) == NO_TALLY


def test_a_file_from_before_there_were_counters_is_given_them(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "old.db"
    open_store(f"sqlite:///{path}").blocking()
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE tally")
    db.close()
    store: Any = open_store(f"sqlite:///{path}").blocking()
    assert run_now(store.tally("a", window=60, now=NOW)).total == 1


def test_setup_can_be_said_again(bench: Bench) -> None:
    if isinstance(bench.tallies, SetsUp):
        bench.run(bench.tallies.setup())
        bench.run(bench.tallies.setup())


# ------------------------------------------------------------------------------------------------------------ memory


def test_memory_is_bounded_and_a_flood_pushes_out_itself() -> None:
    counters = Counters(1000)
    for _ in range(50):
        counters.add("blocked", window=60, now=NOW)
    for number in range(20_000):
        counters.add(f"flood:{number}", window=60, now=NOW)
        assert len(counters) <= 1000
    assert counters.look("blocked", now=NOW).total == 50


def test_memory_takes_what_is_over_first() -> None:
    counters = Counters(10)
    for number in range(9):
        counters.add(f"old:{number}", window=1, now=NOW, amount=100)
    counters.add("young", window=60, now=NOW)
    counters.add("new", window=60, now=NOW + 2)
    assert counters.look("young", now=NOW + 2).total == 1
    assert len(counters) == 2
