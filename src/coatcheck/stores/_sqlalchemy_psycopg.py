"""psycopg with a time limit on each command: by itself it waits for an answer for ever."""

import time
from collections.abc import Callable, Generator
from typing import Any, Final

import psycopg

__all__ = ["limited"]

LOOKS: Final = 0.05
"""Seconds between two looks at the clock, while no answer comes."""


def limited(seconds: float) -> Callable[..., Any]:
    """A listener for SQLAlchemy's `do_connect` that makes connections with this limit."""

    class Limited(psycopg.Connection[Any]):
        """A connection that closes itself when an answer takes too long."""

        def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
            """As psycopg's. Raises OperationalError after `seconds`."""
            return super().wait(_bounded(self, gen, seconds), interval=LOOKS)

    def connect(dialect: Any, record: Any, args: Any, options: Any) -> Any:
        return Limited.connect(*args, **options)

    return connect


def _bounded(connection: psycopg.Connection[Any], gen: Any, seconds: float) -> Generator[Any, Any, Any]:
    """What psycopg waits with: it yields what to wait for, and is sent what became ready, or nothing now and then."""
    give_up = time.monotonic() + seconds
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > give_up:
                connection.pgconn.finish()
                raise psycopg.OperationalError("no answer in time")
            wanted = gen.send(ready)
    except StopIteration as done:
        return done.value
