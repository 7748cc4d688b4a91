"""What an operator wants to hear of: one fixed shape, no secrets (checklist 201-203).

Events are told in the middle of what happens, so listeners are plain functions: quick, and free to fail. What one raises is
logged and goes no further, since a request must not depend on a counter.
"""

import inspect
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from coatcheck.errors import ConfigurationError

__all__ = ["EVENTS", "Event", "EventName", "Listener", "Listeners", "listening", "log", "log_json"]

EventName = Literal[
    "session.created",
    "session.rotated",
    "session.renewed",
    "session.ended",
    "session.unknown",
    "session.expired",
    "session.superseded",
    "session.corrupt",
    "session.conflict",
    "session.gone",
    "session.dropped",
    "login",
    "login.revoked",
    "login.refused",
    "limiter.down",
    "login.throttled",
    "request.throttled",
    "logout.refused",
    "device.new",
    "client.changed",
    "tokens.issued",
    "tokens.refreshed",
    "tokens.reused",
    "tokens.refused",
    "tokens.revoked",
    "session.adopted",
    "adoption.refused",
    "adoption.dropped",
    "cookie.forged",
    "cookie.duplicate",
    "cookie.insecure",
    "csrf.refused",
    "cache.overridden",
    "secret.kept",
    "proxy.untrusted",
    "store.down",
]
"""Every name, for whoever tells one or asks for one: a type checker finds the misspelt."""

EVENTS: Final[dict[EventName, int]] = {
    "session.created": logging.DEBUG,
    "session.rotated": logging.DEBUG,
    "session.renewed": logging.DEBUG,
    "session.ended": logging.INFO,
    "session.unknown": logging.INFO,
    "session.expired": logging.INFO,
    "session.superseded": logging.WARNING,
    "session.corrupt": logging.ERROR,
    "session.conflict": logging.WARNING,
    "session.gone": logging.INFO,
    "session.dropped": logging.WARNING,
    "login": logging.INFO,
    "login.revoked": logging.WARNING,
    "login.refused": logging.WARNING,
    "login.throttled": logging.WARNING,
    "request.throttled": logging.WARNING,
    "limiter.down": logging.ERROR,
    "logout.refused": logging.WARNING,
    "device.new": logging.INFO,
    "client.changed": logging.INFO,
    "tokens.issued": logging.DEBUG,
    "tokens.refreshed": logging.DEBUG,
    "tokens.reused": logging.WARNING,
    "tokens.refused": logging.INFO,
    "tokens.revoked": logging.INFO,
    "session.adopted": logging.INFO,
    "adoption.refused": logging.WARNING,
    "adoption.dropped": logging.WARNING,
    "cookie.forged": logging.WARNING,
    "cookie.duplicate": logging.WARNING,
    "cookie.insecure": logging.ERROR,
    "cache.overridden": logging.WARNING,
    "csrf.refused": logging.WARNING,
    "secret.kept": logging.ERROR,
    "proxy.untrusted": logging.WARNING,
    "store.down": logging.ERROR,
}
"""Every event's name, and the level it is logged at."""

_logger: Final = logging.getLogger("coatcheck")


class Event(msgspec.Struct, frozen=True):
    """Something that happened to a session. `handle` is public: it opens nothing."""

    name: EventName
    handle: str | None = None
    user_id: str | None = None
    detail: str = ""
    at: float = 0.0


Listener = Callable[[Event], None]


def log(event: Event) -> None:
    """The default listener: one log line an event, everything from outside escaped by repr (checklist 203)."""
    level = EVENTS[event.name]
    if _logger.isEnabledFor(level):
        # A detail may hold a session's keys, or a driver's words: printable text as it is, anything else spelt out.
        detail = event.detail if event.detail.isprintable() else repr(event.detail)
        _logger.log(level, "%s handle=%s user=%r %s", event.name, event.handle, event.user_id, detail)


def log_json(event: Event) -> None:
    """The same as one JSON object a line: `event`, `at` (ISO 8601, UTC), and `handle`, `user_id`, `detail` where there are any.

    Everything but printable ASCII is escaped, so that no value begins a line, or colours a terminal (checklist 203).
    """
    level = EVENTS[event.name]
    if _logger.isEnabledFor(level):
        fields = {"handle": event.handle, "user_id": event.user_id, "detail": event.detail}
        at = datetime.fromtimestamp(event.at, UTC).isoformat(timespec="milliseconds")
        told = {"event": event.name, "at": at, **{name: value for name, value in fields.items() if value}}
        import json  # of those who have plain text logged, nobody needs it

        _logger.log(level, "%s", json.dumps(told, ensure_ascii=True))


class Listeners:
    """Several listeners as one, which never raises: each is told, whatever the others do. `Options` makes it of `on_event`.

    A listener that raises is logged at its 1st, 10th, 100th … failure.
    """

    def __init__(self, listeners: Iterable[Listener]) -> None:
        self._listeners = tuple(listeners)
        self._failures: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"Listeners({', '.join(map(_name, self._listeners))})"

    def __call__(self, event: Event) -> None:
        for place, listener in enumerate(self._listeners):
            try:
                listener(event)
            except Exception as error:
                self._failed(place, event, error)

    def _failed(self, place: int, event: Event, error: Exception) -> None:
        times = self._failures[place] = self._failures.get(place, 0) + 1
        if str(times).strip("0") == "1":
            raised = repr(error) if repr(error).isprintable() else repr(repr(error))
            # One line, without the traceback's: what it raised may hold what somebody outside has written (checklist 203).
            _logger.error(
                "on_event: %s raised %s at %s, when told of %s (%d times so far); the request went on",
                _name(self._listeners[place]), raised, _where(error), event.name, times,
            )  # fmt: skip


def listening(on_event: object) -> Listeners:
    """The listener, or several, that a user gave as one. Raises ConfigurationError for what cannot listen."""
    if isinstance(on_event, Listeners):
        return on_event
    given: list[Any] = [on_event] if callable(on_event) else _several(on_event)
    for listener in given:
        if not callable(listener):
            raise ConfigurationError(f"on_event has {listener!r}: give a function, or a list of functions")
        if inspect.iscoroutinefunction(listener) or inspect.iscoroutinefunction(type(listener).__call__):
            raise ConfigurationError(
                f"on_event has {_name(listener)}, which is async: events are told in the middle of sync and async code alike;"
                " give a plain function that puts the event where a task of yours takes it, such as queue.put_nowait"
            )
    return Listeners(given)


def _several(on_event: object) -> list[Any]:
    if isinstance(on_event, list | tuple):
        return list(on_event)
    raise ConfigurationError(f"on_event={on_event!r}: give a function, or a list of functions")


def _name(listener: object) -> str:
    return getattr(listener, "__qualname__", type(listener).__qualname__)


def _where(error: BaseException) -> str:
    """The innermost place in the listener, "file:line"."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
