"""What an operator wants to hear of: one fixed shape, no secrets (checklist 201-203)."""

import logging
from collections.abc import Callable
from typing import Final

import msgspec

__all__ = ["EVENTS", "Event", "Listener", "log"]

EVENTS: Final = {
    "session.created": logging.DEBUG,
    "session.rotated": logging.DEBUG,
    "session.renewed": logging.DEBUG,
    "session.ended": logging.INFO,
    "session.unknown": logging.INFO,
    "session.superseded": logging.WARNING,
    "session.corrupt": logging.ERROR,
    "session.conflict": logging.WARNING,
    "session.gone": logging.INFO,
    "session.dropped": logging.WARNING,
    "login": logging.INFO,
    "login.revoked": logging.WARNING,
    "login.refused": logging.WARNING,
    "tokens.issued": logging.DEBUG,
    "tokens.refreshed": logging.DEBUG,
    "tokens.reused": logging.WARNING,
    "session.adopted": logging.INFO,
    "adoption.refused": logging.WARNING,
    "adoption.dropped": logging.WARNING,
    "cookie.forged": logging.WARNING,
    "cookie.duplicate": logging.WARNING,
    "cookie.insecure": logging.ERROR,
    "secret.kept": logging.ERROR,
    "proxy.untrusted": logging.WARNING,
    "store.down": logging.ERROR,
}
"""Every event's name, and the level it is logged at."""

_logger: Final = logging.getLogger("coatcheck")


class Event(msgspec.Struct, frozen=True):
    """Something that happened to a session. `handle` is public: it opens nothing."""

    name: str
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
