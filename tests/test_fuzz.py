"""Most of a minute of `make fuzz` in every test run, with a new seed each time; a failure prints the seed and the case.

Made cases, then octets: by hypothesis, which shrinks what it finds, and by atheris, which is led by the code it reaches.
"""

import random
import secrets
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz import cookies, guided, linear, stored
from fuzz.__main__ import TARGETS, run
from fuzz.octets import OCTETS, Octets

SECONDS = 45.0
MADE = 15.0
SEEDS = guided.SEEDS

PIECES = st.sampled_from(
    [
        *cookies.ATOMS,
        *stored.ATOMS[:30],
        *(b"\n", b"s", b"10.0.0.1", b"__Host-session=", b"eyJhbGciOiJIUzI1NiIsImtpZCI6ImsifQ."),
    ]
)
ANY = st.one_of(
    st.binary(max_size=400), st.lists(st.one_of(PIECES, st.binary(max_size=8)), max_size=30).map(b"".join)
)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_every_promise_holds(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    seed = secrets.randbits(32)
    print(f"again with: python -m fuzz --only {name} --seed {seed}")
    done = run(TARGETS[name], random.Random(f"{seed}/{name}"), MADE / len(TARGETS))
    with capsys.disabled():
        print(f"\n{name}: {done:,} cases, every promise held")
    assert done > 0


@pytest.mark.parametrize("name", sorted(OCTETS))
def test_no_octets_break_a_promise(name: str) -> None:
    @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(data=ANY)
    def holds(data: bytes) -> None:
        OCTETS[name].check(data)

    holds()


@pytest.mark.parametrize("name", sorted(OCTETS))
def test_no_octets_that_reach_further_do(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = secrets.randbits(31)
    print(f"again with: python -m fuzz --only {name} --seed {seed}")
    came = guided.run(name, (SECONDS - MADE) / len(OCTETS), tmp_path, seed=seed)
    with capsys.disabled():
        print(f"\n{name}: {came.executions:,} executions, {came.edges} branches, {came.features} features")
    assert came.finding == ""
    assert came.executions > 100
    assert came.edges > 10


@pytest.mark.parametrize("name", sorted(OCTETS))
def test_every_reader_takes_time_in_proportion(name: str) -> None:
    grown = linear.measure(name)
    assert grown.ratio <= linear.LIMIT, grown


@pytest.mark.parametrize("name", sorted(OCTETS))
def test_the_seeds_hold_and_are_there(name: str) -> None:
    """What once led into a new place, or was a finding: checked one by one, whatever else there is time for."""
    seeds = sorted((SEEDS / name).iterdir())
    assert len(seeds) >= 3
    for seed in seeds:
        OCTETS[name].check(seed.read_bytes())


# ------------------------------------------------------------------------------------------------------- the machinery


@dataclass
class Broken:
    """A target that breaks its promise at its third case."""

    cases: int = 0

    def generate(self, rng: random.Random) -> int:
        self.cases += 1
        return self.cases

    def check(self, case: int) -> None:
        assert case < 3


def test_a_broken_promise_is_found_and_the_case_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AssertionError):
        run(Broken(), random.Random(1), 60)
    assert "case 2: 3" in capsys.readouterr().err


def test_a_reader_that_is_quadratic_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def quadratic(data: bytes) -> None:
        for at in range(0, len(data), 50):
            data.find(b"x", at)

    monkeypatch.setitem(OCTETS, "slow", Octets(quadratic, {"a": lambda n: b"a" * n}, size=60_000))
    assert linear.measure("slow").ratio > linear.LIMIT


def test_the_guide_sees_a_broken_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that raises what is not documented ends the run, with the input kept."""
    (tmp_path / "sitecustomize.py").write_text(PLANTED)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(guided.__file__).parents[1]}")
    came = guided.run("tickets", 20, tmp_path, seed=1)
    assert "KeyError" in came.finding
    assert list(tmp_path.glob("tickets-crash-*"))


PLANTED = """
import coatcheck.core.signing as signing
real = signing.KeyRing.verify
def verify(self, text, mac):
    if text[:1] == "k":
        raise KeyError(text)
    return real(self, text, mac)
signing.KeyRing.verify = verify
"""
