"""The production code under the explorer: no order of concurrent requests breaks a rule; and the explorer itself is sound."""

from collections.abc import Iterator

import pytest

from coatcheck.testing.explorer import (
    CORE,
    HAPPENINGS,
    OPERATIONS,
    STARTS,
    VICTIM,
    Faults,
    Happening,
    Report,
    Scenario,
    World,
    exhaust,
    explore,
    pairs,
    triples,
)
from coatcheck.testing.explorer.__main__ import run, sample
from coatcheck.testing.explorer.requests import Fault

WHAT_HAPPENS = pytest.mark.parametrize(
    "happening", HAPPENINGS, ids=lambda h: "-".join(type(x).__name__ for x in h)
)


def core(scenarios: Iterator[Scenario]) -> Iterator[Scenario]:
    return (s for s in scenarios if all(name in CORE for name, _ in s.requests))


def clean(report: Report) -> None:
    assert report.schedules >= report.scenarios
    assert [str(violation) for violation in report.violations] == []


# ------------------------------------------------------------------------------------------------- the production code


def test_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print()
        report = run("all pairs", pairs(((),)))
    clean(report)
    assert report.scenarios > len(STARTS) * len(OPERATIONS) ** 2 / 2


@WHAT_HAPPENS
def test_core_pairs_when_something_happens(
    happening: tuple[Happening, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print()
        report = run(f"core pairs with {' and '.join(map(str, happening))}", core(pairs((happening,))))
    clean(report)


def test_triples(capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print()
        report = run("every fourth triple", sample(triples(), every=4))
    clean(report)


def test_a_command_lost_three_times_is_never_applied_twice() -> None:
    """Every operation by itself, each of its commands lost up to three times: then `Uncertain`, and a 503."""
    lost = (Fault.REPLY_LOST, Fault.COMMAND_LOST)
    errors: set[object] = set()
    for start in STARTS:
        for name in OPERATIONS:
            scenario = Scenario(start, ((name, VICTIM),), (Faults(lost), Faults(lost), Faults(lost)))
            report = explore(World(), scenario, outcomes=True)
            clean(report)
            for outcome in report.outcomes:
                errors.update(error for error, *_ in outcome[1])
    assert "Uncertain" in errors


@pytest.mark.slow
@WHAT_HAPPENS
def test_all_pairs_when_something_happens(
    happening: tuple[Happening, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print()
        report = run(f"all pairs with {' and '.join(map(str, happening))}", pairs((happening,)))
    clean(report)


@pytest.mark.slow
def test_all_triples(capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print()
        report = run("all triples", triples())
    clean(report)


# --------------------------------------------------------------------------------------- the explorer: merging is sound


def small(scenario: Scenario) -> bool:
    """Few enough schedules to execute each of them from its beginning."""
    return explore(World(), scenario).schedules <= 400


def same(scenario: Scenario, *, leaps: bool) -> int:
    """Insist that merging worlds hides nothing; how many schedules that took."""
    merged = explore(World(), scenario, outcomes=True)
    each = exhaust(lambda: World(leaps=leaps), scenario)
    assert {v.rule for v in merged.violations} == {v.rule for v in each.violations}
    assert merged.outcomes == each.outcomes, str(scenario)
    if leaps:
        assert merged.schedules == each.schedules
    return each.schedules


def test_merged_is_exhaustive_on_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = [scenario for scenario in sample(pairs(((),)), every=15) if small(scenario)]
    schedules = sum(same(scenario, leaps=True) for scenario in chosen)
    with capsys.disabled():
        print(f"\nmerged == exhaustive: {len(chosen)} pairs, {schedules:,} schedules executed one by one")
    assert len(chosen) > 200


def test_merged_is_exhaustive_when_something_happens() -> None:
    chosen = [s for s in sample(core(pairs(HAPPENINGS[3:])), every=97) if small(s)]
    assert sum(same(scenario, leaps=True) for scenario in chosen) > 1000


def test_leaving_and_loading_in_one_step_hides_nothing() -> None:
    chosen = [scenario for scenario in sample(core(pairs(((),))), every=11) if small(scenario)]
    assert sum(same(scenario, leaps=False) for scenario in chosen) > 1000


def test_no_two_moments_alike_shows_nothing_new() -> None:
    for scenario in sample(core(pairs(((),))), every=7):
        merged, ticking = (
            explore(World(), scenario, outcomes=True),
            explore(World(every_step=True), scenario, outcomes=True),
        )
        assert ticking.violations == []
        assert merged.outcomes == ticking.outcomes, str(scenario)


def test_the_same_every_time() -> None:
    scenario = next(s for s in pairs(((),)) if s.start == "logged in")
    first, second = explore(World(), scenario, outcomes=True), explore(World(), scenario, outcomes=True)
    assert (first.schedules, first.worlds, first.outcomes) == (
        second.schedules,
        second.worlds,
        second.outcomes,
    )
