"""Which servers will do, and how those that keep sessions should be set up: judgements of what a server says of itself."""

import logging
import re
from collections.abc import Sequence
from typing import Any, Final

from redis.exceptions import NoPermissionError, ResponseError

from coatcheck.errors import StoreError

__all__ = ["HELLO", "insist", "warn_of_eviction"]

_logger: Final = logging.getLogger("coatcheck")

OLDEST: Final = (6, 2)
"""ZADD GT, which the index needs, came with Redis 6.2."""
HELLO: Final = b"*1\r\n$5\r\nHELLO\r\n"


def insist(greeting: Any, name: str) -> None:
    """Raise StoreError if the server is too old. What its ACL keeps it from telling is taken for good."""
    if isinstance(greeting, NoPermissionError):
        return
    version = _version(greeting)
    if version < OLDEST:
        said = ".".join(map(str, version)) or "older than 6.0"
        raise StoreError(f"{name} is Redis {said}: coatcheck needs Redis 6.2 or newer, or Valkey")


def _version(greeting: Any) -> tuple[int, ...]:
    if isinstance(greeting, ResponseError):
        return ()
    pairs = greeting if isinstance(greeting, dict) else dict(zip(greeting[::2], greeting[1::2], strict=False))
    return tuple(int(number) for number in re.findall(rb"\d+", pairs.get(b"version", b""))[:2])


def warn_of_eviction(name: str, infos: Sequence[Any]) -> bool:
    """Log a warning if a server may throw sessions away when its memory is full. Returns whether it did.

    All keys of ours have a time-to-live, so a `volatile-` policy evicts them like an `allkeys-` one: people are logged out, and a
    fence that is evicted lets an older login past.
    """
    policies = {m for info in infos for m in re.findall(rb"maxmemory_policy:([a-z-]+)", info or b"")} - {
        b"noeviction"
    }
    for policy in policies:
        _logger.warning(
            "%s has maxmemory-policy %s: when its memory is full it logs people out, and forgets who was logged out by force; "
            "set maxmemory-policy noeviction, or give sessions a server of their own",
            name,
            policy.decode(),
        )
    return bool(policies)
