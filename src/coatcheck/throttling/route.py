"""A limit for any route: `RateLimit("100/minute")`, with the RateLimit header fields (draft-ietf-httpapi-ratelimit-headers)."""

import inspect
import re
from collections.abc import Callable, Sequence
from functools import wraps
from math import ceil
from typing import Any, TypeVar

from coatcheck.core.events import Listener
from coatcheck.core.outage import Outage
from coatcheck.core.ports import Backend, Store, Tally
from coatcheck.core.rates import Rate, rate
from coatcheck.core.stepping import run_now
from coatcheck.errors import ConfigurationError, OutsideRequest, Throttled
from coatcheck.flows import Clock, Flows, shielded
from coatcheck.security.buckets import bucket, place
from coatcheck.throttling.backing import Backing, WhenDown
from coatcheck.throttling.visitor import Nobody, Served, place_of, session_of

__all__ = ["RateLimit"]

View = TypeVar("View", bound=Callable[..., Any])
_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")


class RateLimit:
    """At most so many requests in a time, from each address or of each user; more raise `Throttled` (HTTP 429).

    given      "100/minute", "5 per 10 minutes"
    by         "address"; "user": of the login, or else the address; or a function of the request that returns a text
    name       limits of one name and one rate count together, whichever routes they are on
    store      a URL or a store to count in; if it is left out, the one that the request's session is in
    when_down  if the store cannot be reached: "allow", "refuse" (HTTP 503), or count "local"ly, in this process
    headers    say `RateLimit` and `RateLimit-Policy` in the response

    A decorator of views, sync and async: the request is the first of the arguments that is one. Or call `check(request)`, and
    `await acheck(request)`. Raises ConfigurationError for what cannot be.
    """

    request: Callable[[], Any] | None = None
    """Finds the request, where a framework's views are not handed one."""

    def __init__(
        self,
        given: str | Rate,
        *,
        by: str | Callable[[Any], str] = "address",
        name: str = "default",
        store: str | Backend | Store | None = None,
        when_down: WhenDown = "allow",
        headers: bool = True,
        ipv6_prefix: int = 64,
        outage: Outage | None = None,
        clock: Clock | None = None,
        on_event: Listener | Sequence[Listener] | None = None,
    ) -> None:
        self.rate = rate(given, setting="RateLimit")
        if by not in ("address", "user") and not callable(by):
            raise ConfigurationError(f"by={by!r}: give 'address', 'user', or a function of the request")
        given_name: object = name
        if not isinstance(given_name, str) or not _NAME.fullmatch(given_name):
            raise ConfigurationError(f"name={name!r}: give up to 64 of A-Z a-z 0-9 _ . : / -")
        if type(ipv6_prefix) is not int or not 32 <= ipv6_prefix <= 128:
            raise ConfigurationError(f"ipv6_prefix={ipv6_prefix!r}: give a whole number from 32 to 128")
        self._backing = Backing(store, when_down, outage=outage, clock=clock, on_event=on_event)
        self._by, self._name, self._headers, self._ipv6_prefix = by, name, headers, ipv6_prefix
        self._policy = f'"{name}";q={self.rate.limit};w={ceil(self.rate.window)}'

    def __repr__(self) -> str:
        return f"<RateLimit {self._name} {self.rate}>"

    def check(self, request: Any) -> None:
        """Count a request. Raises Throttled if it is one too many."""
        session = session_of(request)
        run_now(self._check(session, self._whose(request, session), awaits=False))

    async def acheck(self, request: Any) -> None:
        """Count a request. Raises Throttled if it is one too many."""
        session = session_of(request)
        if self._by == "user" and hasattr(session, "load"):
            await session.load()
        await shielded(self._check(session, self._whose(request, session), awaits=True))

    @property
    def is_by_address(self) -> bool:
        """Whether it counts addresses, and so can do without a request."""
        return self._by == "address"

    def wait(self, address: str, *, flows: Flows | None = None) -> int | None:
        """Count a request from an address where there is no session, such as at the token endpoints (`rate_limit=`): the seconds
        to wait, or None to go on. It needs a store of its own, or that of a session manager (`flows`). Raises UsageError without.
        """
        return run_now(self._wait(address, flows, awaits=False))

    async def await_turn(self, address: str, *, flows: Flows | None = None) -> int | None:
        """`wait`, awaited: the answer comes at once, nothing sleeps."""
        return await shielded(self._wait(address, flows, awaits=True))

    async def _wait(self, address: str, flows: Flows | None, *, awaits: bool) -> int | None:
        nobody = None if flows is None else Nobody(flows)
        try:
            await self._check(nobody, place(address, self._ipv6_prefix), awaits=awaits)
        except Throttled as error:
            return error.retry_after
        return None

    async def _check(self, session: Served | Nobody | None, whose: str, *, awaits: bool) -> None:
        now, limit, window = self._backing.now(session), self.rate.limit, self.rate.window
        key = f"rate:{self._name}:{self.rate}:{bucket(whose)}"
        there = await self._backing.count(
            session, awaits=awaits, flow=lambda tallies: tallies.tally(key, window=window, now=now)
        )
        if there is None:
            return
        if self._headers and session is not None and not isinstance(session, Nobody):
            self._announce(session, there, now)
        if there.total > limit:
            error = Throttled(there.until - now)
            self._backing.tell(session, "request.throttled", f"{self._name} for {error.retry_after} s")
            raise error

    def _whose(self, request: Any, session: Served) -> str:
        if callable(self._by):
            return f"own:{self._by(request)}"
        if self._by == "user" and session.user_id is not None:
            return f"user:{session.user_id}"
        return place_of(session, self._ipv6_prefix)

    def _announce(self, session: Served, there: Tally, now: float) -> None:
        left = max(0, self.rate.limit - there.total)
        session._say("RateLimit-Policy", self._policy)
        session._say("RateLimit", f'"{self._name}";r={left};t={max(1, ceil(there.until - now))}')

    # ---- as a decorator

    def __call__(self, view: View) -> View:
        """Limit a view."""
        if inspect.iscoroutinefunction(view):

            @wraps(view)
            async def awaited(*args: Any, **kwargs: Any) -> Any:
                await self.acheck(self._request_in(args, kwargs))
                return await view(*args, **kwargs)

            return awaited  # type: ignore[return-value]  # the same signature

        @wraps(view)
        def called(*args: Any, **kwargs: Any) -> Any:
            self.check(self._request_in(args, kwargs))
            return view(*args, **kwargs)

        return called  # type: ignore[return-value]  # as above

    def _request_in(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.request is not None:
            return self.request()
        for argument in (*args[:2], *kwargs.values()):
            try:
                session_of(argument)
            except OutsideRequest:
                continue
            return argument
        raise OutsideRequest(
            "RateLimit found no request with a session among the view's arguments: install coatcheck's session middleware, and"
            " let the view take the request"
        )
