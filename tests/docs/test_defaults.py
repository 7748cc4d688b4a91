"""The timeouts that docs/security.md states are those of the code (checklist 75, ASVS 7.1.1)."""

from pathlib import Path

import pytest

from coatcheck import Options
from coatcheck.core.policy import Timeouts

PAGE = Path(__file__).resolve().parents[2] / "docs" / "security.md"
PRESETS = (Timeouts(), Timeouts.aal1(), Timeouts.aal2(), Timeouts.aal3())


def stated(setting: str) -> list[float]:
    """The numbers in the row of the page's table that begins with this setting."""
    (row,) = (line for line in PAGE.read_text().splitlines() if line.startswith(f"| `{setting}` |"))
    return [float(cell) for cell in row.strip("|").split("|")[1:-1]]


@pytest.mark.parametrize("setting", ["idle", "absolute", "remember"])
def test_075_the_page_states_the_timeouts_of_the_code(setting: str) -> None:
    assert stated(setting) == [getattr(preset, setting) for preset in PRESETS]


@pytest.mark.parametrize("option", ["max_sessions", "at_limit"])
def test_076_the_page_states_the_policy_of_concurrent_sessions(option: str) -> None:
    page = (PAGE.parent / "logins.md").read_text()
    (row,) = (line for line in page.splitlines() if line.startswith(f"| `{option}` |"))
    default = f"{getattr(Options(), option)!r}".replace("'", '"')
    assert row.split("|")[2].strip() == f"`{default}`"
