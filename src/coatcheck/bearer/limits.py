"""How often the token endpoints may be asked: by a `RateLimit` of coatcheck.throttling, or by a function of the application's.

Either is asked with the client's address as far as it is known: behind a proxy that is named, not the proxy's (checklist 105).
"""

from collections.abc import Awaitable, Callable
from typing import Any

from coatcheck.bearer.clients import Attempt
from coatcheck.bearer.http import Asked, answered, is_awaiting
from coatcheck.core.origin import Arrival, Proxy, TrustedProxies, origin, trusted_proxies
from coatcheck.errors import ConfigurationError, WrongFace
from coatcheck.throttling import RateLimit

__all__ = ["RateLimitHook", "limiting"]

RateLimitHook = Callable[[Attempt], float | Awaitable[float | None] | None]
Limit = Callable[[Asked, str | None], Awaitable[float | None]]


def limiting(given: object, proxy: Proxy, flows: Any, *, awaits: bool) -> Limit | None:
    """What is asked before a request is looked at: with it, and the client it says it is of. Raises ConfigurationError."""
    proxies = trusted_proxies(proxy)
    if given is None:
        return None
    hook = _counting(given, flows, awaits=awaits) if isinstance(given, RateLimit) else given
    if not callable(hook):
        raise ConfigurationError(
            f"rate_limit={given!r}: give coatcheck.throttling.RateLimit(…), or a function of the attempt"
        )
    if not awaits and is_awaiting(hook):
        raise WrongFace(
            "rate_limit is async, and a WSGI application cannot wait for it: give a plain function"
        )

    async def limit(asked: Asked, client_id: str | None) -> float | None:
        forwarded = ", ".join(asked.all("x-forwarded-for"))
        attempt = Attempt(asked.endpoint[1:], client_id, asked.peer, forwarded, _address(asked, proxies))
        seconds: float | None = await answered(hook(attempt))
        return seconds

    return limit


def _counting(limit: RateLimit, flows: Any, *, awaits: bool) -> RateLimitHook:
    """In the sessions' store, if the limit has none of its own."""
    if not limit.is_by_address:
        raise ConfigurationError(
            "rate_limit: nobody is logged in at these endpoints, so give RateLimit(…) by='address', or a function of the attempt"
        )
    if awaits:
        return lambda attempt: limit.await_turn(attempt.address, flows=flows)
    return lambda attempt: limit.wait(attempt.address, flows=flows)


def _address(asked: Asked, proxies: TrustedProxies | None) -> str:
    def field(name: str) -> bytes:
        return ", ".join(asked.all(name)).encode("latin-1", "replace")

    return origin(
        Arrival(
            "http",
            peer=asked.peer,
            forwarded_proto=field("x-forwarded-proto"),
            forwarded_for=field("x-forwarded-for"),
            forwarded=field("forwarded"),
        ),
        proxies,
    ).address
