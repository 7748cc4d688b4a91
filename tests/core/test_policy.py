"""Durations and timeouts: what is refused, and what NIST asks for."""

import math
from datetime import timedelta
from typing import Any

import pytest

from coatcheck.core.policy import DAY, Timeouts, seconds
from coatcheck.errors import ConfigurationError

NAMES = ("idle", "absolute", "remember", "renewal", "touch")


@pytest.mark.parametrize("value", [1, 0.5, 90 * DAY, timedelta(days=3650)])
def test_a_duration_is_seconds_or_a_timedelta(value: Any) -> None:
    given = seconds(value, setting="x")
    assert given == (value.total_seconds() if isinstance(value, timedelta) else value)
    assert type(given) is float


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        math.nan,
        math.inf,
        -math.inf,
        timedelta(0),
        timedelta(seconds=-1),
        True,
        False,
        "3600",
        "1h",
        None,
        [],
    ],
)
def test_what_is_no_duration_is_refused_by_the_name_of_its_setting(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^Timeouts\.idle="):
        Timeouts(idle=value)


@pytest.mark.parametrize(
    ("value", "instead"), [(86_400_000, "86400"), (30 * 86_400_000, "2592000|2.592e\\+06")]
)
@pytest.mark.parametrize("name", NAMES)
def test_milliseconds_are_refused_with_the_seconds_they_mean(name: str, value: int, instead: str) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"Timeouts\.{name}={value} looks like milliseconds.*: ({instead})"
    ):
        Timeouts(**{name: value})


def test_a_timedelta_may_be_as_long_as_it_likes() -> None:
    """It says its unit, so it cannot be milliseconds by mistake."""
    assert Timeouts(absolute=timedelta(days=10_000)).in_seconds().absolute == 864_000_000


def test_the_defaults() -> None:
    assert Timeouts().in_seconds() == (DAY, 30 * DAY, 30 * DAY, 3600, 60)
    assert Timeouts(renewal=None).in_seconds().renewal is None


def test_the_deadline_moves_in_steps_of_at_most_a_quarter_of_the_idle_timeout() -> None:
    """Else those who are still there would be logged out between two steps."""
    assert Timeouts(idle=60).in_seconds().touch == 15
    assert Timeouts(idle=60, touch=5).in_seconds().touch == 5


@pytest.mark.parametrize(
    ("preset", "idle", "absolute"),
    [(Timeouts.aal1(), 30 * DAY, 30 * DAY), (Timeouts.aal2(), 3600, DAY), (Timeouts.aal3(), 900, DAY / 2)],
    ids=["aal1", "aal2", "aal3"],
)
def test_the_presets_of_nist(preset: Timeouts, idle: float, absolute: float) -> None:
    """SP 800-63B-4 sections 2.1.3, 2.2.3 and 2.3.3; remember-me is no way around them."""
    times = preset.in_seconds()
    assert (times.idle, times.absolute) == (idle, absolute)
    assert times.remember <= max(times.idle, 30 * DAY if preset == Timeouts.aal1() else 0)
    assert times.touch <= times.idle / 4
    assert times.renewal is not None
    assert times.renewal <= times.absolute


def test_timeouts_cannot_be_changed_and_compare_by_value() -> None:
    with pytest.raises(AttributeError):
        Timeouts().idle = 5  # type: ignore[misc]  # the point
    assert Timeouts(idle=60) == Timeouts(idle=timedelta(minutes=1))
