"""Where the test vectors of project Wycheproof are: not in this repository, since they are not ours to keep a copy of.

`$WYCHEPROOF` names the folder; without it, the one beside the checkout is looked at. In CI they have to be there.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

FOLDERS = (
    os.environ.get("WYCHEPROOF", ""),
    str(Path(__file__).parents[3] / "shared" / "vectors" / "wycheproof"),
    str(Path(__file__).parents[4] / "shared" / "vectors" / "wycheproof"),
)


def vectors(name: str) -> list[dict[str, Any]]:
    """The groups of one file; none if it is not at hand and this is not CI."""
    for folder in FOLDERS:
        path = Path(folder) / name
        if folder and path.is_file():
            groups: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))["testGroups"]
            return groups
    if os.environ.get("CI"):
        raise AssertionError(
            f"{name} is missing: set WYCHEPROOF to the folder of Wycheproof's testvectors_v1"
        )
    return []


def cases(name: str) -> list[Any]:
    """(group, test) for pytest, with the file's own numbers."""
    found = [
        pytest.param(group, test, id=f"tc{test['tcId']}")
        for group in vectors(name)
        for test in group["tests"]
    ]
    return found or [pytest.param({}, {}, id="not-at-hand", marks=pytest.mark.skip(reason=MISSING))]


MISSING = "Wycheproof's vectors are not at hand: set WYCHEPROOF to the folder that holds them"
