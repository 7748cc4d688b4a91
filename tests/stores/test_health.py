"""The circuit breaker every store with a server shares, with time in the test's hand."""

import logging
import threading
from typing import Any

import pytest

from coatcheck import Outage, StoreUnavailable
from coatcheck.stores._health import ConnectionEvent, Health

NAME = "redis://:***@cache:6379/0"


class Ward:
    """A health, a clock to move, and what was told."""

    def __init__(self, **outage: Any) -> None:
        self.now = 100.0
        self.news: list[ConnectionEvent] = []
        self.health = Health(
            NAME, Outage(**outage), on_connection=self.news.append, monotonic=lambda: self.now
        )

    def fail(self, times: int = 1) -> None:
        for _ in range(times):
            self.health.failed(TimeoutError("no answer"))

    def is_admitted(self) -> bool:
        try:
            self.health.admit()
        except StoreUnavailable:
            return False
        return True

    @property
    def states(self) -> list[str]:
        return [event.state for event in self.news]


def test_nothing_is_refused_before_so_many_failures_in_a_row() -> None:
    ward = Ward(break_after=3)
    ward.fail(2)
    assert ward.is_admitted()
    ward.health.worked()
    ward.fail(2)  # counted anew
    assert ward.is_admitted()
    ward.fail()
    assert not ward.is_admitted()


def test_while_the_circuit_is_broken_everybody_fails_at_once_and_is_told_why() -> None:
    ward = Ward(break_after=2, break_for=4)
    ward.fail(2)
    ward.now += 1.5
    with pytest.raises(StoreUnavailable) as refused:
        ward.health.admit()
    assert str(refused.value) == f"{NAME} did not answer 2 times in a row: nothing is sent for 2.5 s"


def test_afterwards_one_command_tries_and_the_others_wait_for_it() -> None:
    ward = Ward(break_after=1, break_for=2)
    ward.fail()
    ward.now += 2
    assert [ward.is_admitted() for _ in range(5)] == [True, False, False, False, False]
    ward.health.worked()
    assert [ward.is_admitted() for _ in range(5)] == [True] * 5


def test_if_the_one_fails_the_circuit_stays_broken() -> None:
    ward = Ward(break_after=3, break_for=2)
    ward.fail(3)
    ward.now += 2
    assert ward.is_admitted()
    ward.now += 1
    ward.fail()
    ward.now += 1.9
    assert not ward.is_admitted()
    ward.now += 0.1
    assert ward.is_admitted()


def test_if_the_one_is_never_heard_of_again_another_tries_in_its_turn() -> None:
    """Its request may have been cancelled: that must not break the circuit for good."""
    ward = Ward(break_after=1, break_for=2)
    ward.fail()
    for _ in range(3):
        ward.now += 2
        assert [ward.is_admitted(), ward.is_admitted()] == [True, False]


def test_well_is_what_lets_a_client_leave_the_rest_out() -> None:
    ward = Ward(break_after=2)
    assert not ward.health.well
    ward.health.worked()
    assert ward.health.well
    ward.fail()
    assert not ward.health.well
    ward.health.worked()
    assert ward.health.well


# ------------------------------------------------------------------------------------------------------------- the news


def test_the_news_is_told_when_it_is_news() -> None:
    ward = Ward()
    for _ in range(3):
        ward.health.worked()
    ward.fail(7)
    for _ in range(3):
        ward.health.worked()
    assert ward.states == ["connected", "lost", "restored"]
    assert {event.store for event in ward.news} == {NAME}
    assert ward.news[1].detail == "TimeoutError: no answer"


def test_a_server_that_was_never_there_is_lost_once_and_then_restored() -> None:
    ward = Ward(break_after=2)
    ward.fail(4)
    ward.health.worked()
    assert ward.states == ["lost", "restored"]


def test_the_news_is_in_the_log_at_its_level_and_on_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "coatcheck")
    health = Health(NAME, Outage())
    health.worked()
    health.failed(OSError("two\nlines"))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", f"store {NAME} connected"),
        ("ERROR", f"store {NAME} lost: 'OSError: two\\nlines'"),
    ]


def test_a_listener_that_raises_takes_no_commands_outcome_with_it(caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: ConnectionEvent) -> None:
        raise RuntimeError("a bug of the application's")

    health = Health(NAME, Outage(), on_connection=broken)
    health.worked()
    health.failed(OSError("gone"))
    assert caplog.text.count("on_connection=… raised") == 2


# -------------------------------------------------------------------------------------------------------------- threads


class Fickle(Health):
    """A circuit that another thread closes between any two looks at it."""

    looks = 0

    @property
    def _broken_until(self) -> float | None:
        self.looks += 1
        return 1e12 if self.looks % 2 else None

    @_broken_until.setter
    def _broken_until(self, value: float | None) -> None: ...


def test_a_circuit_that_is_closed_by_another_thread_meanwhile_is_no_type_error() -> None:
    with pytest.raises(StoreUnavailable):
        Fickle(NAME, Outage()).admit()


def test_threads_that_fail_and_work_at_once_raise_nothing_but_ours() -> None:
    ward, wrong = Ward(break_after=2, break_for=0.001), list[BaseException]()

    def work(seed: int) -> None:
        for turn in range(2_000):
            try:
                ward.health.admit()
            except StoreUnavailable:
                ward.now += 0.001
            except BaseException as error:
                wrong.append(error)
            if (turn + seed) % 3:
                ward.health.failed(OSError())
            else:
                ward.health.worked()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    ward.health.worked()
    assert ward.is_admitted()
