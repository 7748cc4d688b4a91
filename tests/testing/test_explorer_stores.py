"""The production stores under the explorer, each command a step: no order of concurrent requests breaks a rule on any of them.

By default: pairs on the model of the Redis scripts and on SQLite, a sample on real servers. In the slow run: all of it.
"""

from collections.abc import Iterator

import pytest

from coatcheck.errors import UsageError
from coatcheck.stores._mongo_commands import Phrases
from coatcheck.testing.explorer import (
    CORE,
    HAPPENINGS,
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
from coatcheck.testing.explorer.__main__ import main, opened, run, sample
from coatcheck.testing.explorer.redis import model
from coatcheck.testing.explorer.requests import Fault
from servers import Server
from servers.postgres import psql
from servers.redis import cli

Capture = pytest.CaptureFixture[str]
WHAT_HAPPENS = pytest.mark.parametrize(
    "happening", HAPPENINGS, ids=lambda h: "-".join(type(x).__name__ for x in h)
)
SEED = 1
LONG = ("change_password", "login_twice", "login_limited", "login_other")


def core(scenarios: Iterator[Scenario]) -> Iterator[Scenario]:
    return (s for s in scenarios if all(name in CORE for name, _ in s.requests))


def is_long(scenario: Scenario) -> bool:
    return all(name in LONG for name, _ in scenario.requests)


def clean(report: Report) -> None:
    assert report.scenarios > 0
    assert [str(violation) for violation in report.violations] == []


def go(store: str, name: str, scenarios: Iterator[Scenario], capsys: Capture) -> None:
    with capsys.disabled(), opened(store) as make:
        print()
        clean(run(f"{store.partition(':')[0]}: {name}", scenarios, make))


# ---------------------------------------------------------------------------------------------- the model of the scripts


def test_pairs_on_the_model(capsys: Capture) -> None:
    """All of them, but those of two series of steps that are more than half of the whole: of these, some."""
    go("redis-model", "all pairs but the longest", (s for s in pairs(((),)) if not is_long(s)), capsys)
    longest = (s for s in pairs(((),)) if is_long(s))
    go("redis-model", "the longest pairs, some", sample(longest, every=10, seed=SEED), capsys)


@pytest.mark.slow
def test_all_pairs_on_the_model(capsys: Capture) -> None:
    go("redis-model", "all pairs", pairs(((),)), capsys)


@WHAT_HAPPENS
def test_pairs_on_the_model_when_something_happens(happening: tuple[Happening, ...], capsys: Capture) -> None:
    name = " and ".join(map(str, happening))
    go(
        "redis-model",
        f"core pairs with {name}",
        sample(core(pairs((happening,))), every=8, seed=SEED),
        capsys,
    )


@pytest.mark.slow
@WHAT_HAPPENS
def test_core_pairs_on_the_model_when_something_happens(
    happening: tuple[Happening, ...], capsys: Capture
) -> None:
    go(
        "redis-model",
        f"core pairs with {' and '.join(map(str, happening))}",
        core(pairs((happening,))),
        capsys,
    )


@pytest.mark.slow
def test_triples_on_the_model(capsys: Capture) -> None:
    go("redis-model", "every tenth triple", sample(triples(), every=10), capsys)


def test_a_command_lost_three_times_is_never_applied_twice() -> None:
    """A login by itself, each of its commands lost up to three times: then `Uncertain`, and a 503."""
    kinds = (Fault.REPLY_LOST, Fault.COMMAND_LOST)
    errors: set[object] = set()
    for start in ("no cookie", "anonymous", "logged in"):
        for name in ("login", "login_limited", "change_password", "end_all"):
            lost = (Faults(kinds), Faults(kinds), Faults(kinds))
            scenario = Scenario(start, ((name, VICTIM),), lost)
            report = explore(World(model), scenario, outcomes=True)
            clean(report)
            for outcome in report.outcomes:
                errors.update(error for error, *_ in outcome[1])
    assert "Uncertain" in errors


def test_merging_hides_nothing_on_the_model(capsys: Capture) -> None:
    schedules = 0
    for scenario in sample(pairs(((),)), every=61):
        merged = explore(World(model), scenario, outcomes=True)
        if merged.schedules > 300:
            continue
        each = exhaust(lambda: World(model), scenario)
        assert {v.rule for v in merged.violations} == {v.rule for v in each.violations}
        assert (merged.outcomes, merged.schedules) == (each.outcomes, each.schedules), str(scenario)
        schedules += each.schedules
    with capsys.disabled():
        print(f"\nredis-model: merged == exhaustive, {schedules:,} schedules executed one by one")
    assert schedules > 1000


def test_no_two_moments_alike_shows_nothing_new_on_the_model() -> None:
    for scenario in sample(core(pairs(((),))), every=29):
        merged = explore(World(model), scenario, outcomes=True)
        ticking = explore(World(model, every_step=True), scenario, outcomes=True)
        assert ticking.violations == []
        assert merged.outcomes == ticking.outcomes, str(scenario)


# ---------------------------------------------------------------------------------------------------------- real ones


def test_core_pairs_on_sqlite(capsys: Capture) -> None:
    go("sqlite", "all core pairs", core(pairs(((),))), capsys)


@pytest.mark.slow
def test_all_pairs_on_sqlite(capsys: Capture) -> None:
    go("sqlite", "all pairs", pairs(((),)), capsys)


@pytest.mark.slow
@WHAT_HAPPENS
def test_core_pairs_on_sqlite_when_something_happens(
    happening: tuple[Happening, ...], capsys: Capture
) -> None:
    go("sqlite", f"core pairs with {' and '.join(map(str, happening))}", core(pairs((happening,))), capsys)


@pytest.mark.slow
def test_triples_on_sqlite(capsys: Capture) -> None:
    go("sqlite", "every tenth triple", sample(triples(), every=10), capsys)


def test_a_sample_on_redis(redis_server: Server, capsys: Capture) -> None:
    go(redis_server.url, "a sample of pairs", sample(pairs(((),)), every=40, seed=SEED), capsys)


@pytest.mark.slow
def test_all_pairs_on_redis(redis_server: Server, capsys: Capture) -> None:
    go(redis_server.url, "all pairs", pairs(((),)), capsys)


@pytest.mark.slow
def test_seeded_triples_on_redis(redis_server: Server, capsys: Capture) -> None:
    go(redis_server.url, "a sample of triples", sample(triples(), every=100, seed=SEED), capsys)


def test_a_sample_on_postgres(postgres_server: Server, capsys: Capture) -> None:
    go(postgres_server.url, "a sample of pairs", sample(pairs(((),)), every=40, seed=SEED), capsys)


@pytest.mark.slow
def test_all_pairs_on_postgres(postgres_server: Server, capsys: Capture) -> None:
    go(postgres_server.url, "all pairs", pairs(((),)), capsys)


@pytest.mark.slow
def test_seeded_triples_on_postgres(postgres_server: Server, capsys: Capture) -> None:
    go(postgres_server.url, "a sample of triples", sample(triples(), every=100, seed=SEED), capsys)


def test_a_sample_on_mongo(mongo_server: Server, capsys: Capture) -> None:
    go(mongo_server.url, "a sample of pairs", sample(pairs(((),)), every=80, seed=SEED), capsys)


@pytest.mark.slow
def test_a_larger_sample_on_mongo(mongo_server: Server, capsys: Capture) -> None:
    go(mongo_server.url, "a sample of pairs", sample(pairs(((),)), every=15), capsys)


def test_logins_that_nobody_calls_off_are_caught_on_mongo(
    mongo_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There a fence alone ends no login under way: what does is taken away, and the explorer must notice."""
    scenario = Scenario("anonymous", (("login", VICTIM), ("end_all", VICTIM)))
    with opened(mongo_server.url) as make:
        clean(explore(World(make), scenario))
        monkeypatch.setattr(Phrases, "call_off_all", lambda self, user_id, now: self.probe())
        rules = [violation.rule for violation in explore(World(make), scenario).violations]
    assert any(rule.startswith("20: ") for rule in rules), rules


# -------------------------------------------------------------------------------------------------------- the command


def test_the_command_goes_over_a_store_of_ones_own(capsys: Capture) -> None:
    words = ["--store", "coatcheck.testing.explorer.world:memory", "--only", "pairs", "--every", "200"]
    assert main(words) == 0
    assert "pairs: 23 scenarios" in capsys.readouterr().out


def test_the_command_says_what_it_takes() -> None:
    with pytest.raises(UsageError, match="--store nonsense: give memory, sqlite, redis-model"):
        main(["--store", "nonsense"])
    with pytest.raises(UsageError, match="--only fours: give some of pairs, happenings, triples"):
        main(["--only", "fours"])


def test_nothing_is_left_on_the_servers(redis_server: Server, postgres_server: Server) -> None:
    for url in (redis_server.url, postgres_server.url):
        with opened(url) as make:
            clean(run("a few", sample(pairs(((),)), every=1000), make))
    assert cli(redis_server, "KEYS", "explored*") == ""
    left = "SELECT (SELECT count(*) FROM pg_class WHERE relname LIKE 'explored%'),"
    left += " (SELECT count(*) FROM pg_proc WHERE proname LIKE 'explored%')"
    assert psql(postgres_server, left) == "0|0"
