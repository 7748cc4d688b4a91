"""Whether a store's server answers: the circuit breaker, and the news of it.

A store's client asks `admit` before a command leaves, and says how it went: `worked` or `failed`. What comes of it is the same
for every server: `StoreUnavailable` at once while the circuit is broken, one command let through when it is time to try again,
and one line in the log (and one call of `on_connection`) when the server is first reached, lost, and back.

Counters are plain attributes, changed without a lock: two threads that count a failure as one do no harm. But each attribute that
may be taken away meanwhile is looked at once.
"""

import logging
import time
from collections.abc import Callable
from typing import Final, Literal, cast

import msgspec

from coatcheck.core.outage import Outage
from coatcheck.errors import StoreUnavailable

__all__ = ["ConnectionEvent", "Health"]

_logger: Final = logging.getLogger("coatcheck")


class ConnectionEvent(msgspec.Struct, frozen=True):
    """News of a store's connection. `store` is its URL without the password."""

    state: Literal["connected", "lost", "restored"]
    store: str
    detail: str = ""


class Health:
    """How the server behind one client is doing.

    `name` is its URL as it may be shown; `on_connection` is called with the news, and must be quick; `monotonic` tells seconds.
    """

    def __init__(
        self,
        name: str,
        outage: Outage,
        *,
        on_connection: Callable[[ConnectionEvent], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._outage = outage
        self._break_after, self._break_for = outage.break_after, cast(float, outage.break_for)
        self._listener = on_connection
        self._monotonic = monotonic
        self._failures = 0
        self._broken_until: float | None = None
        self._state: Literal["connected", "lost", "restored"] | None = None
        self.well = False
        """True while the last command was answered: then a client may leave out `admit` and `worked`."""

    def of(self, name: str) -> "Health":
        """The same for one of several servers behind one store: each is away or back by itself."""
        return Health(name, self._outage, on_connection=self._listener, monotonic=self._monotonic)

    @property
    def is_broken(self) -> bool:
        """The circuit is: so many commands in a row were not answered that old connections are not to be trusted either."""
        return self._broken_until is not None

    def admit(self) -> None:
        """Raise StoreUnavailable while nothing should be sent; the first to come afterwards may try."""
        broken_until = self._broken_until
        if broken_until is None:
            return
        now = self._monotonic()
        if now < broken_until:
            raise StoreUnavailable(
                f"{self._name} did not answer {self._failures} times in a row: nothing is sent for"
                f" {broken_until - now:.1f} s"
            )
        self._broken_until = now + self._break_for  # the others wait for how this one fares

    def worked(self) -> None:
        """A command was answered, if only by an error of the server's."""
        if self.well:
            return
        self.well, self._failures, self._broken_until = True, 0, None
        self._tell("connected" if self._state is None else "restored")

    def failed(self, error: BaseException) -> None:
        """The server could not be reached, or did not answer in time."""
        first = self.well or self._state is None
        self.well = False
        self._failures += 1
        if self._failures >= self._break_after:
            self._broken_until = self._monotonic() + self._break_for
        if first:
            self._tell("lost", f"{type(error).__name__}: {error}")

    def _tell(self, state: Literal["connected", "lost", "restored"], detail: str = "") -> None:
        self._state = state
        level = logging.ERROR if state == "lost" else logging.INFO
        detail = detail if detail.isprintable() else repr(detail)
        _logger.log(level, "store %s %s%s", self._name, state, detail and f": {detail}")
        if self._listener is None:
            return
        try:
            self._listener(ConnectionEvent(state, self._name, detail))
        except Exception:
            # A command was carried out, or has an error of its own to tell: neither may be lost to a listener's mistake.
            _logger.exception("on_connection=… raised, when it was told that the store was %s", state)
