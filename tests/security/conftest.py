"""The matrix, and everything that is logged."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.security.rig import MATRIX, Site


@pytest.fixture(autouse=True)
def everything_is_logged(canaries: None) -> Iterator[None]:
    """By everybody, at DEBUG: the canaries (tests/conftest.py) look at all of it."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.DEBUG)
    yield
    root.setLevel(level)


Make = Callable[..., Site]


@pytest.fixture(params=MATRIX, ids="-".join)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Make sites of one cell of the matrix: `make(timeouts=…)`. `share=other` puts a second worker over the same store."""
    face, kind = request.param
    yield from built(face, kind, tmp_path)


def built(face: str, kind: str, tmp_path: Path) -> Iterator[Make]:
    """What makes sites of one cell, and closes them in the end."""
    sites: list[Site] = []

    def build(**options: Any) -> Site:
        site = Site(face, kind, tmp_path / f"{len(sites)}.db", **options)
        sites.append(site)
        return site

    yield build
    for site in reversed(sites):
        site.close()


@pytest.fixture
def site(make: Make) -> Site:
    """The application with every setting at its default."""
    return make()
