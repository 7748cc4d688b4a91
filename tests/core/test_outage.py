"""One setting for every store: how long to wait, how often to ask again, and when to stop asking."""

from dataclasses import FrozenInstanceError
from datetime import timedelta
from typing import Any

import pytest

from coatcheck import Outage
from coatcheck.errors import ConfigurationError


def test_the_defaults() -> None:
    outage = Outage()
    assert (outage.connect_timeout, outage.command_timeout, outage.retries) == (1.0, 0.5, 1)
    assert (outage.break_after, outage.break_for) == (5, 2.0)


def test_times_are_seconds_or_timedeltas_and_seconds_in_the_end() -> None:
    outage = Outage(
        connect_timeout=3, command_timeout=timedelta(milliseconds=250), break_for=timedelta(minutes=1)
    )
    times = (outage.connect_timeout, outage.command_timeout, outage.break_for)
    assert times == (3.0, 0.25, 60.0)
    assert {type(value) for value in times} == {float}


@pytest.mark.parametrize("name", ["connect_timeout", "command_timeout", "break_for"])
@pytest.mark.parametrize(
    "value", [0, -1, float("nan"), float("inf"), True, "1", None, 86_400_000, timedelta(0)]
)
def test_what_is_no_duration_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"Outage\.{name}="):
        Outage(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("retries", -1), ("retries", 11), ("retries", 1.0), ("retries", True), ("break_after", 0), ("break_after", "5")],
)  # fmt: skip
def test_what_is_no_count_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"Outage\.{name}=.*give a whole number from"):
        Outage(**{name: value})


def test_never_to_retry_and_to_break_at_once_are_settings() -> None:
    assert Outage(retries=0, break_after=1).retries == 0


def test_it_is_a_value() -> None:
    assert Outage() == Outage(connect_timeout=timedelta(seconds=1))
    with pytest.raises(FrozenInstanceError):
        Outage().retries = 2  # type: ignore[misc]  # that it cannot be is the test
