"""The options: every wrong one is refused when they are made, by its name."""

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from coatcheck.core.events import EVENTS, Event, log
from coatcheck.core.options import Options
from coatcheck.core.policy import Timeouts
from coatcheck.errors import ConfigurationError


class Cart(msgspec.Struct):
    items: list[str] = []


@dataclass
class Needs:
    this: int


def test_the_defaults_are_the_safe_ones() -> None:
    options = Options()
    assert (options.resave, options.save_uninitialized, options.rolling, options.unset) == (
        False,
        False,
        False,
        "keep",
    )
    assert options.timeouts == Timeouts()
    assert options.max_sessions is None
    assert options.typed is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timeouts", 3600),
        ("timeouts", None),
        ("resave", "false"),
        ("resave", 1),
        ("save_uninitialized", None),
        ("rolling", 0),
        ("unset", "delete"),
        ("unset", None),
        ("genid", "abc"),
        ("schema", "Cart"),
        ("schema", dict),
        ("schema", Cart()),
        ("schema", Needs),
        ("merge", ["cart"]),
        ("merge", {"cart": "mine"}),
        ("on_conflict", "first"),
        ("login_keeps", "cart"),
        ("login_keeps", 5),
        ("login_keeps", [5]),
        ("max_sessions", 0),
        ("max_sessions", True),
        ("max_sessions", 2.0),
        ("at_limit", "evict"),
        ("max_size", 0),
        ("max_size", "1MB"),
        ("on_event", "print"),
    ],
)
def test_a_wrong_option_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}="):
        Options(**{name: value})


def test_a_field_without_a_default_is_named() -> None:
    """A new session is empty: every field must be able to begin."""
    with pytest.raises(ConfigurationError, match=r"default.*this"):
        Options(schema=Needs)


def test_right_ones_are_taken() -> None:
    options = Options(
        genid=lambda: "x" * 16,
        schema=Cart,
        merge={"cart": lambda base, theirs, mine: mine},
        login_keeps={"cart"},
        max_sessions=3,
        at_limit="deny",
        on_conflict="raise",
        unset="destroy",
    )
    assert options.typed is not None
    assert options.typed.model is Cart


def test_options_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Options().rolling = True  # type: ignore[misc]  # the point


def test_events_are_logged_on_one_line_whatever_is_in_them(caplog: pytest.LogCaptureFixture) -> None:
    """Checklist 203: what comes from outside is escaped; levels are the table's."""
    with caplog.at_level("DEBUG", logger="coatcheck"):
        for name in EVENTS:
            log(Event(name, handle="h", user_id="eve\nfake line", detail="d"))
    assert [record.levelno for record in caplog.records] == list(EVENTS.values())
    assert all("\n" not in record.getMessage() for record in caplog.records)
    assert "handle=h user='eve\\nfake line' d" in caplog.records[0].getMessage()


def test_events_below_the_level_are_not_made_into_text(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("ERROR", logger="coatcheck"):
        log(Event("session.created"))
    assert caplog.records == []
