"""The rules of the house that conftest.py keeps."""

import signal
import threading

import pytest

from conftest import PATIENCE


def test_a_test_that_hangs_is_given_up_where_it_waits() -> None:
    left = signal.alarm(0)
    assert 0 < left <= PATIENCE
    with pytest.raises(TimeoutError, match="this test hangs"):
        signal.raise_signal(signal.SIGALRM)


@pytest.mark.slow
def test_a_slow_one_may_take_its_time() -> None:
    assert signal.alarm(0) == 0


def test_no_thread_is_traced_for_coverage() -> None:
    assert threading.gettrace() is None  # of many that begin at once one would die of it: conftest.py
