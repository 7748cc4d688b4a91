"""One request on its way through: what the ASGI and the WSGI middleware do alike, without I/O."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

from coatcheck.core.origin import Arrival
from coatcheck.dialects.express.cookie import Cookie
from coatcheck.dialects.express.flow import Flow
from coatcheck.dialects.express.session import BaseSession
from coatcheck.dialects.express.signed import find
from coatcheck.errors import UsageError
from coatcheck.exchange import kept_from_caches, varied

__all__ = ["Said", "arrive", "covers", "is_there", "named", "say"]

S = TypeVar("S", bound=BaseSession)


class Said(NamedTuple):
    """What to add to the response. None: leave that header as it is."""

    set_cookie: str | None = None
    vary: str | None = None
    cache_control: str | None = None


def covers(flow: Flow, arrival: Arrival, target: bytes) -> bool:
    """Whether there is a session at a path, as it came: a prefix of text, as express-session has it (semantics 1.2)."""
    path = target.partition(b"?")[0] or b"/"
    return path.startswith((flow.options.cookie_for(arrival).path or "/").encode("utf-8"))


def arrive(flow: Flow, make: Callable[[Flow, Callable[[], Cookie]], S], arrival: Arrival) -> S:
    """The session of a request, not looked up yet."""
    session = make(flow, partial(flow.new_cookie, arrival))
    session._secure = flow.options.is_secure(arrival)
    return session


def named(flow: Flow, cookies: bytes) -> str | None:
    """The id in a request's Cookie header, if it is signed by one of the secrets (semantics 1.4)."""
    value = find(cookies, flow.options.name.encode("ascii"))
    return None if value is None else flow.options.secrets.verify(value)


def is_there(session: BaseSession, present: object, place: str) -> bool:
    """Whether the handler left the session in its place; to remove it, or set it to None, means what `unset` says."""
    if present is session:
        return True
    if present is None:
        return False
    raise UsageError(f"{place} was replaced by a {type(present).__name__}: change its keys instead")


def say(
    session: BaseSession, flow: Flow, *, sends: bool, vary: str | None, cache_control: str | None
) -> Said:
    """What the response must say, given its own Vary and Cache-Control."""
    if not sends and not session._accessed:
        return Said()
    line = None
    if sends:
        line = session._cookie.header(flow.options.name, flow.options.secrets.sign(session._sid))
        if line is None:
            flow.tell(
                "session.corrupt", session._sid, "its cookie has an attribute that is none: it was not sent"
            )
    full = (
        session._entry is not None or session._cookie_sid is not None
    )  # also of what was destroyed meanwhile
    return Said(line, varied(vary), kept_from_caches(cache_control, sets=line is not None, full=full))
