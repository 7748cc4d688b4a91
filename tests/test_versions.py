"""Frameworks that are too old."""

import os
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from coatcheck import ConfigurationError
from coatcheck._versions import need

ROOT = Path(__file__).resolve().parents[1]


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


@pytest.mark.parametrize("package", ["starlette", "fastapi"])
def test_an_adapter_is_not_imported_over_a_framework_that_is_too_old(package: str, tmp_path: Path) -> None:
    """Its oldest version is the one of the extra; what is installed is what its metadata say."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    ((name, _, oldest),) = (extra.partition(">=") for extra in extras[package])
    old = tmp_path / f"{package}-0.1.dist-info"
    old.mkdir()
    (old / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 0.1\n")
    ran = subprocess.run(
        [sys.executable, "-c", f"import coatcheck.{package}"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT / "src")])},
        capture_output=True,
        text=True,
    )
    assert ran.stderr.rstrip().endswith(
        f"{name} 0.1 is too old for coatcheck, which needs {oldest}: pip install -U '{name}>={oldest}'"
    )
