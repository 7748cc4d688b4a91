"""Wycheproof's vectors, where they are at hand."""

import pytest

from tests.tokens.wycheproof import MISSING, folder

collect_ignore = [] if folder() else ["test_wycheproof.py"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not run; a skipped test would fail the run (conftest.py of the whole)."""
    if collect_ignore:
        terminalreporter.write_line(MISSING, yellow=True)
