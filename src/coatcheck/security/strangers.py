"""Who keeps on coming with ids that are none of ours: counted by address, in this process (no store is asked about a forgery)."""

import threading

from coatcheck.core.counters import Counters
from coatcheck.core.rates import Rate
from coatcheck.errors import Throttled
from coatcheck.security.buckets import bucket

__all__ = ["Strangers"]


class Strangers:
    """At most so many forged or unknown ids from one place in a time. Thread-safe."""

    def __init__(self, rate: Rate) -> None:
        self._rate, self._counters, self._lock = rate, Counters(), threading.Lock()

    def __repr__(self) -> str:
        return f"<Strangers {self._rate}>"

    def strike(self, place: str, now: float) -> None:
        """One more. Raises Throttled if it is one too many."""
        with self._lock:
            there = self._counters.add(bucket(place), window=self._rate.window, now=now)
        if there.total > self._rate.limit:
            raise Throttled(there.until - now)
