"""The command line, run as a user runs it."""

import re
import subprocess
import sys
from importlib.metadata import entry_points, version

import pytest
from click.testing import CliRunner

from coatcheck.core.secret import check_secret
from coatcheck.tools.cli import main


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_secret_prints_one_line_that_our_own_check_takes() -> None:
    output = run("secret")
    assert re.fullmatch(r"[A-Za-z0-9_-]{43,}\n", output)
    check_secret(output.strip())


def test_secret_is_another_one_every_time() -> None:
    assert len({run("secret") for _ in range(50)}) == 50


def test_version() -> None:
    assert run("--version").strip().endswith(version("coatcheck"))


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_names_the_commands(arguments: list[str]) -> None:
    output = CliRunner().invoke(main, arguments).output
    assert "secret" in output
    assert "Usage:" in output


def test_an_unknown_command_is_an_error() -> None:
    result = CliRunner().invoke(main, ["cecret"])
    assert result.exit_code == 2
    assert "No such command" in result.output


def test_as_a_module() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "coatcheck.tools.cli", "secret"], check=True, capture_output=True, text=True
    )
    check_secret(found.stdout.strip())
    assert found.stderr == ""


def test_the_command_is_installed() -> None:
    (command,) = entry_points(group="console_scripts", name="coatcheck")
    assert command.load() is main
