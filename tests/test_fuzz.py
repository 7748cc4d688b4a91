"""A minute of `make fuzz` in every test run, with a new seed each time; a failure prints the seed and the case."""

import random
import secrets
from dataclasses import dataclass

import pytest

from fuzz.__main__ import TARGETS, run

SECONDS = 60.0


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_every_promise_holds(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    seed = secrets.randbits(32)
    print(f"again with: python -m fuzz --only {name} --seed {seed}")
    done = run(TARGETS[name], random.Random(f"{seed}/{name}"), SECONDS / len(TARGETS))
    with capsys.disabled():
        print(f"\n{name}: {done:,} cases, every promise held")
    assert done > 0


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
