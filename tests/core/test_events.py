"""Events and those who hear them."""

import json
import logging
from functools import partial
from typing import Any, get_args

import pytest

from coatcheck import ConfigurationError, Event, Options
from coatcheck.core.events import EVENTS, EventName, Listeners, listening, log, log_json

EVIL = "x\r\n2027-01-15 INFO root logged in\x1b[31m\u2028\x85\x7f"


def test_every_name_has_a_level_and_the_type_knows_it() -> None:
    assert set(get_args(EventName)) == set(EVENTS)


def test_a_json_line_is_one_line_of_printable_ascii(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "coatcheck")
    log_json(Event("login", "handle", EVIL, EVIL, 1_800_000_000.5))
    log_json(Event("store.down"))
    first, second = (record.getMessage() for record in caplog.records)
    assert first.isascii()
    assert first.isprintable()
    told = {"event": "login", "at": "2027-01-15T08:00:00.500+00:00", "handle": "handle"}
    assert json.loads(first) == {**told, "user_id": EVIL, "detail": EVIL}
    assert json.loads(second).keys() == {"event", "at"}
    assert [record.levelno for record in caplog.records] == [logging.INFO, logging.ERROR]


def test_nothing_is_written_below_the_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "coatcheck")
    for listener in (log, log_json):
        listener(Event("session.created"))
    assert caplog.records == []


def test_each_listener_is_told_whatever_the_others_do(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Event] = []

    def broken(event: Event) -> None:
        raise ValueError(event.user_id)

    tell = Options(on_event=[broken, heard.append]).tell
    for _ in range(1000):
        tell(Event("login", "handle", EVIL))
    assert len(heard) == 1000
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 4  # the 1st, 10th, 100th and 1000th
    assert "broken" in said[0]
    assert "test_events.py:" in said[0]
    assert "(1000 times so far)" in said[3]
    assert all(line.isprintable() for line in said)


def test_what_is_no_exception_goes_through() -> None:
    def stop(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Options(on_event=stop).tell(Event("login"))


class Deaf:
    async def __call__(self, event: Event) -> None:
        """Nobody would await this."""


async def deaf(event: Event) -> None:
    """Nor this."""


@pytest.mark.parametrize(
    ("on_event", "said"),
    [
        (None, "give a function"),
        ("log", "give a function"),
        ([log, None], "None: give a function"),
        (deaf, "deaf, which is async"),
        ([log, Deaf()], "Deaf, which is async"),
        (partial(deaf), "which is async"),
    ],
)
def test_what_cannot_listen_is_refused(on_event: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Options(on_event=on_event)


def test_listeners_are_made_once() -> None:
    made = listening([log, log_json])
    assert listening(made) is made
    assert repr(made) == "Listeners(log, log_json)"
    assert isinstance(Options().on_event, Listeners)
    Options(on_event=[]).tell(Event("login"))
