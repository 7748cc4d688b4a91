"""Sites that adopt, closed when the test is over."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.adoption.rig import Site

MakeSite = Callable[..., Site]


@pytest.fixture
def site_of() -> Iterator[MakeSite]:
    """Makes sites: `site_of(face, store, adopt, **options)`."""
    made: list[Site] = []

    def make(*args: Any, **options: Any) -> Site:
        made.append(Site(*args, **options))
        return made[-1]

    yield make
    for site in made:
        site.close()
