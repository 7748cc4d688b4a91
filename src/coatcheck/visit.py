"""One request on its way through an adapter: what ASGI, WSGI and Flask do alike, without a framework and without I/O.

An adapter calls `arrive` when the request comes. When the response starts it asks `is_due`, commits if so, and lets
`reply` say what the headers need. At the end of the body it asks `is_due_again`. Then `depart`. The state of all this
lives in the session.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

from coatcheck.core.events import Event
from coatcheck.core.ids import Ticket
from coatcheck.core.session import BaseSession, CookieAction, Phase, Standing
from coatcheck.errors import (
    OutsideRequest,
    PasswordTooLong,
    SessionConflict,
    StoreUnavailable,
    Throttled,
    UsageError,
)
from coatcheck.exchange import Arrival, Channel, Exchange, Reply
from coatcheck.faces import AsyncSession, Session

__all__ = [
    "REFUSED",
    "Refusal",
    "Refused",
    "answer_to",
    "arrive",
    "depart",
    "is_due",
    "is_due_again",
    "is_kept",
    "refuse",
    "reply",
    "started",
    "wants_logout",
]

Served = Session[Any] | AsyncSession[Any]
S = TypeVar("S", bound=Served)

# An enum's member costs 50 ns to look up, a global 2.
_PLAIN, _DONE = Channel.PLAIN, Phase.DONE

Refused = StoreUnavailable | SessionConflict | Throttled | PasswordTooLong
REFUSED: Final = (StoreUnavailable, SessionConflict, Throttled, PasswordTooLong)
"""What an adapter answers in the application's place."""


class Refusal(NamedTuple):
    """The answer in the application's place: never an anonymous page, never a cookie (checklist 117)."""

    status: int
    reason: str
    body: bytes
    headers: tuple[tuple[str, str], ...]


def _refusal(status: int, reason: str, text: str, *more: tuple[str, str]) -> Refusal:
    body = text.encode("ascii")
    plain = ("content-type", "text/plain; charset=utf-8")
    headers = (plain, ("content-length", str(len(body))), ("cache-control", "no-store"), *more)
    return Refusal(status, reason, body, headers)


_UNAVAILABLE: Final = _refusal(
    503,
    "Service Unavailable",
    "The session store cannot be reached. Please try again in a moment.\n",
    ("retry-after", "5"),
)
_CONFLICT: Final = _refusal(
    409, "Conflict", "Another request changed the same session first. Please load the page again.\n"
)
_TOO_LONG: Final = _refusal(400, "Bad Request", "The password is too long.\n")


def arrive(
    make: Callable[[Ticket | None], S], exchange: Exchange, describe: Callable[[], Arrival], now: float
) -> S:
    """The session of a request, not loaded yet.

    `make` makes one from a cookie's ticket, `describe` tells what there is to know of the request, `now` is in
    seconds since the epoch.
    """
    arrival = describe()
    refused: Throttled | None = None
    try:
        channel, ticket, reissue = exchange.read(arrival, now)
    except Throttled as error:
        channel, ticket, reissue, refused = exchange.channel(arrival), None, False, error
    session = make(ticket)
    session._exchange, session._describe, session._channel, session._at = exchange, describe, channel, now
    if reissue:
        session._reissue = session._meant = True
    olds = exchange.olds
    if olds is not None and ticket is None and olds.are_present(arrival.cookies):
        session._standing = Standing.UNLOADED  # there may be a session to adopt
    if channel is Channel.PLAIN:
        session._standing = Standing.DETACHED
    if refused is not None:
        session._shut_out(refused)
    if not exchange.covers(arrival.path):
        session._standing = Standing.UNLOADED
        session._failure = OutsideRequest(
            f"the session's cookie is limited to path={exchange.settings.path!r}: there is no session at {arrival.path!r}"
        )
    return session


def is_kept(session: Served, present: object, place: str) -> bool:
    """Whether the application left its session in place; to remove it, or set it to None, means what `unset` says.

    `present` is what is there now, `place` how the user would write it. Raises UsageError for anything else.
    """
    if present is session or isinstance(present, BaseSession):
        return True
    if present is not None:
        raise UsageError(
            f"{place} was replaced by a {type(present).__name__}: change its keys instead, and remove any other session"
            " middleware that stands inside ours"
        )
    if session._flows.options.unset == "destroy" and session._failure is None:
        session.logout()
        return True
    return False


def is_due(session: Served) -> bool:
    """Whether there is something to commit before the headers leave."""
    if session._flows.rules.idle(session, session._at):
        return False
    if session._failure is not None or session._given_up:
        return False
    if session._channel is _PLAIN:
        _complain(session)
        return False
    return True


def _complain(session: Served) -> None:
    if (
        session._login is not None
        or session._begun is not None
        or (session._accessed and session._has_changes())
    ):
        assert session._exchange is not None
        assert session._describe is not None
        session._exchange.refuse(session._describe(), session._at)


def reply(session: Served, cookie: CookieAction, *, vary: str | None, cache_control: str | None) -> Reply:
    """What the response must say, given its own Vary and Cache-Control."""
    assert session._exchange is not None
    assert session._channel is not None
    return session._exchange.reply(
        session, cookie, session._channel, vary=vary, cache_control=cache_control, now=session._at
    )


def started(session: Served) -> None:
    """The headers leave now: data may still change, the browser can be told nothing any more."""
    session._phase = Phase.STREAMING


def is_due_again(session: Served) -> bool:
    """Whether data changed since the headers left."""
    return (
        session._accessed
        and session._phase is Phase.STREAMING
        and session._failure is None
        and not session._given_up
        and session._channel is not Channel.PLAIN
        and session._has_changes()
    )


def wants_logout(session: Served) -> bool:
    """Whether a request that failed had logged out: of all it meant to do, only that is carried out."""
    return (
        session._logout
        and session._phase is Phase.OPEN
        and session._failure is None
        and session._channel is not Channel.PLAIN
    )


def _throttled(error: Throttled, more: tuple[tuple[str, str], ...]) -> Refusal:
    """The same for whoever is blocked, and whatever account it is about (checklist 194, 195)."""
    said = tuple(item for item in more if item[0] != "Set-Cookie")
    text = "Too many attempts. Please try again later.\n"
    return _refusal(429, "Too Many Requests", text, ("retry-after", str(error.retry_after)), *said)


def depart(session: Served) -> None:
    """The response has ended: from here on every change raises.

    What describes the request holds the request, which holds the session: a cycle, left to the garbage collector
    unless it is cut.
    """
    session._phase, session._describe = _DONE, None


def refuse(session: Served, error: Refused) -> Refusal:
    """The answer to a request that could not have its session."""
    more, session._more = session._more, ()
    depart(session)
    is_told = error is session._failure or error is session._outage
    if isinstance(error, StoreUnavailable) and not is_told:
        flows = session._flows
        flows.options.tell(Event("store.down", detail=str(error), at=flows.clock.time()))
    return answer_to(error, more)


def answer_to(error: Refused, more: tuple[tuple[str, str], ...] = ()) -> Refusal:
    """What is said to the client in the application's place; `more` are further fields that it would have said."""
    if isinstance(error, SessionConflict):
        return _CONFLICT
    if isinstance(error, PasswordTooLong):
        return _TOO_LONG
    if isinstance(error, Throttled):
        return _throttled(error, more)
    return _UNAVAILABLE
