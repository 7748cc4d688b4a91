"""Section N of the security checklist, line 212: which versions we ask for, what we are made of, what we make known."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from coatcheck._versions import numbers
from coatcheck.tools.doctor.packages import MENDED

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SECURITY = (ROOT / "SECURITY.md").read_text()
NEED = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?>=([0-9.]+)")
OURS = {"pyjwt", "cryptography", "redis"}
"""Those that the checklist names: what verifies and keeps."""


def floors(needs: list[str]) -> dict[str, str]:
    """Package -> the least version that is asked for. A need without one is an error."""
    found = {}
    for need in needs:
        match = NEED.match(need)
        assert match is not None, f"{need} has no least version"
        found[match[1]] = match[2]
    return found


def groups() -> dict[str, dict[str, str]]:
    project = PYPROJECT["project"]
    return {"(none)": floors(project["dependencies"])} | {
        extra: floors(needs) for extra, needs in project["optional-dependencies"].items()
    }


def test_line_212_every_package_has_a_least_version_that_was_mended() -> None:
    named = [
        text for group in PYPROJECT["dependency-groups"].values() for text in group if isinstance(text, str)
    ]
    asked = [*groups().values(), floors(named)]
    for known in asked:
        for name in OURS & known.keys():
            assert numbers(known[name]) >= numbers(MENDED[name][0]), name
    assert set().union(*asked) >= OURS


def test_line_212_the_page_names_the_least_versions() -> None:
    table = dict(re.findall(r"^\| `?([^|`]+?)`? \| ([^|]+) \|$", SECURITY, re.MULTILINE))
    for extra, known in groups().items():
        assert table[extra] == ", ".join(f"{name} {least}" for name, least in known.items())


def test_line_212_no_pinned_version_is_below_what_we_ask_for() -> None:
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )
    pinned = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    for known in groups().values():
        for name, least in known.items():
            assert numbers(pinned.get(name.lower(), least)) >= numbers(least), name
    for name, (least, _) in MENDED.items():
        assert numbers(pinned.get(name, least)) >= numbers(least), name


def test_line_212_a_bill_of_materials_lists_what_the_extras_install() -> None:
    made = subprocess.run([sys.executable, ROOT / "scripts" / "sbom"], capture_output=True, check=True)
    document = json.loads(made.stdout)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    parts = {part["name"]: part for part in document["components"]}
    wanted = {name.lower().replace("_", "-") for known in groups().values() for name in known}
    assert wanted <= parts.keys()
    assert {part["purl"] for part in parts.values()} == {
        f"pkg:pypi/{p['name']}@{p['version']}" for p in parts.values()
    }
    assert "pytest" not in parts


def test_line_212_the_page_says_how_a_weakness_is_reported_and_made_known() -> None:
    for words in ("Report a vulnerability", "security\nadvisory", "CVE", "pip-audit", "scripts/sbom"):
        assert words in SECURITY
