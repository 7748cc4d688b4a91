"""The tables of the docs are those of the code: every event, every option, every default, and nothing else."""

import logging
import re
from collections.abc import Iterator
from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from coatcheck import CookieSettings, Options, Outage, Timeouts
from coatcheck.asgi import SessionMiddleware
from coatcheck.configure import configure
from coatcheck.core.events import EVENTS
from coatcheck.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[2]
SECRET = "tables-only-Zt3xk0VbX1qv8m2LwP5rYd7NfQ9sHc4G"


def rows(page: str, heading: str) -> Iterator[list[str]]:
    """The cells of the table below a heading of a page, without its first two lines."""
    text = (ROOT / "docs" / page).read_text().partition(f"\n{heading}\n")[2]
    table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert table, f"no table below {heading} in {page}"
    for line in table[0].splitlines()[2:]:
        yield [cell.strip() for cell in line.strip("|").split(" | ")]


def named(page: str, heading: str) -> dict[str, str]:
    """Name -> second cell, of a table whose first cells are names in backquotes; `a`, `b` share a line."""
    return {name: row[1] for row in rows(page, heading) for name in re.findall(r"`(\w[\w.]*)`", row[0])}


def default(owner: Any, name: str) -> str:
    return f"`{getattr(owner, name)!r}`".replace("'", '"')


def test_every_event_is_in_the_table_with_its_level() -> None:
    levels = {name: logging.getLevelName(level) for name, level in EVENTS.items()}
    assert named("events.md", "## All of them") == levels


def test_every_event_is_told_somewhere() -> None:
    """An event that nobody tells is a promise to an operator that nobody keeps."""
    package = ROOT / "src" / "coatcheck"
    files = [
        path for path in package.rglob("*.py") if path.name != "events.py" and "testing" not in path.parts
    ]
    source = "\n".join(path.read_text() for path in files)
    assert [name for name in EVENTS if f'"{name}"' not in source] == []


def known_options() -> set[str]:
    """Every keyword that `configure` knows, as it says itself, and the two that have a place of their own."""
    with pytest.raises(ConfigurationError, match="known: ") as refusal:
        configure(SECRET, {"": 1})
    return {*str(refusal.value).partition("known: ")[2].split(", "), "secret", "store"}


def test_every_option_is_in_the_table() -> None:
    assert set(named("sessions.md", "## Options")) == known_options()


def test_the_defaults_in_the_table_are_those_of_the_code() -> None:
    table, options = named("sessions.md", "## Options"), Options()
    plain = [field.name for field in fields(Options) if field.name not in ("timeouts", "on_event")]
    assert {name: table[name] for name in plain} == {name: default(options, name) for name in plain}
    assert (table["store"], table["insecure_dev"]) == ('`"memory:"`', "`False`")
    assert signature(SessionMiddleware).parameters["store"].default == "memory:"


def test_the_cookies_settings_and_their_defaults_are_those_of_the_code() -> None:
    settings = CookieSettings()
    expected = {field.name: default(settings, field.name) for field in fields(CookieSettings)}
    assert named("sessions.md", "### CookieSettings") == expected


def test_the_timeouts_and_their_defaults_are_those_of_the_code() -> None:
    stated = {name: float(cell) for name, cell in named("sessions.md", "### Timeouts").items()}
    assert stated == Timeouts().in_seconds()._asdict()


def test_a_table_that_is_not_there_is_found_out() -> None:
    with pytest.raises(AssertionError, match="no table"):
        list(rows("index.md", "# coatcheck"))


def test_the_time_outs_in_the_table_are_those_of_the_code() -> None:
    outage = Outage()
    expected = {field.name: default(outage, field.name) for field in fields(Outage)}
    assert named("stores/outages.md", "## How long anybody waits") == expected
