"""The house rule of every test run: nothing is skipped.

A skip hides a missing server or a missing package behind a green line. A run with a skipped test fails, and says which.
"""

import pytest

pytest_plugins = ["coatcheck.testing.plugin"]
"""Ours, by its module and from here: as the installed plugin it would be imported before coverage starts (pyproject.toml)."""


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that skipped something and would otherwise have passed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and reporter.stats.get("skipped") and session.exitstatus == pytest.ExitCode.OK:
        reporter.write_line("a skipped test counts as a failure: install what it needs", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
