"""The house rules of every test run: nothing is skipped, and nothing hangs.

A skip hides a missing server or a missing package behind a green line. A run with a skipped test fails, and says which. A test
that hangs fails too, by its name and with the place where it waits, and the others go on.
"""

import signal
from collections.abc import Generator
from types import FrameType

import pytest

PATIENCE = 300
"""Seconds after which a test hangs. Slow ones may take longer (pyproject.toml ends a run that stands still)."""

pytest_plugins = ["coatcheck.testing.plugin"]
"""Ours, by its module and from here: as the installed plugin it would be imported before coverage starts (pyproject.toml)."""


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that skipped something and would otherwise have passed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and reporter.stats.get("skipped") and session.exitstatus == pytest.ExitCode.OK:
        reporter.write_line("a skipped test counts as a failure: install what it needs", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _give_up(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"this test hangs: it has taken more than {PATIENCE} seconds")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Raise in a test that hangs, where it waits. What waits beyond reach of a signal is faulthandler's to end."""
    if item.get_closest_marker("slow") is not None:
        return (yield)
    before = signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(PATIENCE)
    try:
        return (yield)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
