"""Frameworks that are too old."""

from importlib.metadata import version

import pytest

from coatcheck import ConfigurationError
from coatcheck._versions import need


def test_what_is_new_enough_is_passed_over() -> None:
    for oldest in ("3.0", "3", version("flask")):
        need("flask", oldest)


@pytest.mark.parametrize("oldest", ["99", "99.1", "99.0.1"])
def test_what_is_too_old_is_told_with_the_fix(oldest: str) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"^flask 3.* is too old .* pip install -U 'flask>={oldest}'$"
    ):
        need("flask", oldest)


def test_versions_are_compared_as_numbers() -> None:
    need("flask", "3.0.0rc1")
    with pytest.raises(ConfigurationError):
        need("flask", "10.0b1")
