"""Who is asking: the session of a request, whichever framework it is of, and the address it came from."""

from collections.abc import Mapping
from typing import Any, Final, NoReturn

from coatcheck.core.session import BaseSession
from coatcheck.errors import OutsideRequest
from coatcheck.faces import AsyncSession, Session

__all__ = ["Nobody", "Served", "place_of", "session_of"]

Served = Session[Any] | AsyncSession[Any]


class Nobody:
    """In place of a session where there is none: whose store is counted in, whose clock and listeners are used."""

    def __init__(self, flows: Any) -> None:
        self._flows = flows


KEY: Final = "coatcheck.session"
"""Where WSGI, and what is like it, has the session; ASGI has it under "session"."""


def session_of(request: Any) -> Served:
    """The session of a request, not loaded: of a request of any framework, an ASGI scope, a WSGI environ, or a session.

    Raises OutsideRequest if there is none.
    """
    if isinstance(request, BaseSession):
        return request  # type: ignore[return-value]  # every session of a request is one of the two
    for found in (
        _item(getattr(request, "scope", request), "session"),
        _item(getattr(request, "environ", request), KEY),
        _item(getattr(request, "_state", None), KEY),
        getattr(request, "__dict__", {}).get("session"),
    ):
        if isinstance(found, BaseSession):
            return found  # type: ignore[return-value]  # as above
    _nobody(request)


def _item(holder: object, key: str) -> object:
    return holder.get(key) if isinstance(holder, Mapping) else None


def _nobody(request: object) -> NoReturn:
    raise OutsideRequest(
        f"there is no session with this {type(request).__name__}: a limit takes the client's address, and the proxies to believe"
        " about it, from coatcheck's session middleware; install that, around whatever is limited, or hand in the session"
    )


def place_of(session: Served, ipv6_prefix: int) -> str:
    """Where a request came from, as limits count it. Raises OutsideRequest outside of one."""
    exchange, describe = session._exchange, session._describe
    if exchange is None or describe is None:
        _nobody(session)
    return exchange.place(describe(), ipv6_prefix)
