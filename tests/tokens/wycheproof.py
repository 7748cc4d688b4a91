"""Where the test vectors of project Wycheproof are: not in this repository, since they are not ours to keep a copy of.

`$WYCHEPROOF` names the folder; without it, the one beside the checkout is looked at. In CI they have to be there. A newcomer's
run goes without these tests, and says so in one line.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

BESIDE = Path(__file__).parents[3] / "shared" / "vectors" / "wycheproof"
FILE = "json_web_signature_test.json"
MISSING = "Wycheproof's test vectors are not at hand: tests/tokens/test_wycheproof.py was not run; set WYCHEPROOF to their folder"


def folder() -> Path | None:
    """Where the vectors are; None if they are not at hand. Raises AssertionError in CI."""
    for place in (os.environ.get("WYCHEPROOF"), BESIDE):
        if place and (Path(place) / FILE).is_file():
            return Path(place)
    if os.environ.get("CI"):
        raise AssertionError(MISSING)
    return None


def groups(name: str = FILE) -> list[dict[str, Any]]:
    """The groups of one file."""
    where = folder()
    assert where is not None, MISSING
    found: list[dict[str, Any]] = json.loads((where / name).read_text("utf-8"))["testGroups"]
    return found


def cases(name: str = FILE) -> list[Any]:
    """(group, test) for pytest, with the file's own numbers."""
    return [
        pytest.param(group, test, id=f"tc{test['tcId']}") for group in groups(name) for test in group["tests"]
    ]
