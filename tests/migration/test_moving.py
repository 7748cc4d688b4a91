"""Two stores as one: the contract, every order of requests that meet while sessions move, and what cannot be."""

from typing import Any

import pytest

from coatcheck.stores.memory import MemoryStore
from coatcheck.stores.moving import Moving
from coatcheck.testing import Sentence, StoreContract
from coatcheck.testing.explorer import HAPPENINGS, Happening, Report, Scenario, explore, pairs
from coatcheck.testing.explorer.world import memory
from tests.migration.explored import MovingWorld

BOTH = pytest.mark.parametrize("carry", [True, False], ids=["carrying", "waiting"])


@BOTH
@pytest.mark.parametrize("sentence", StoreContract.sentences())
def test_contract(sentence: Sentence, carry: bool) -> None:
    StoreContract(lambda: Moving(MemoryStore(), MemoryStore(), carry=carry)).run(sentence)
