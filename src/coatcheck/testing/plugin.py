"""pytest fixtures for applications that use coatcheck. Installed with the package; nothing has to be configured.

    login_as      log a test client in without a password form
    frozen_clock  a clock for `clock=` that stands still until it is told to tick
    race          run two or three requests of one session in every order

No web framework is imported here.
"""

from collections.abc import Callable

import pytest

from coatcheck.testing.clients import login_as as log_client_in
from coatcheck.testing.frozen import FrozenClock
from coatcheck.testing.races import Race
from coatcheck.testing.races import race as run_race

__all__ = ["frozen_clock", "login_as", "race"]


@pytest.fixture
def login_as() -> Callable[..., str]:
    """`login_as(client, "42", age="2h", data={…})`: see `coatcheck.testing.clients.login_as`."""
    return log_client_in


@pytest.fixture
def frozen_clock() -> FrozenClock:
    """Give it to the application as `clock=frozen_clock`, and let time pass with `frozen_clock.tick("2h")`."""
    return FrozenClock()


@pytest.fixture
def race() -> Callable[..., list[Race]]:
    """`race(one_request, another, data={…})`: see `coatcheck.testing.races.race`."""
    return run_race
