"""How long to wait for a store, how often to ask again, and when to stop asking: one setting for every store. Pure."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from coatcheck.core.policy import seconds
from coatcheck.errors import ConfigurationError

__all__ = ["Outage"]

RETRIES: Final = 10
"""At most: each may take `connect_timeout`, and a request waits for all of them."""


@dataclass(frozen=True, kw_only=True)
class Outage:
    """What a store that is opened by URL does when its server is slow or away. Times are seconds or timedeltas.

    A client of your own keeps its own time-outs; `break_after` and `break_for` count for it too.
    """

    connect_timeout: float | timedelta = 1.0
    """For a connection to be made, TLS and login included."""
    command_timeout: float | timedelta = 0.5
    """For a command to be answered; then the command is not known to have been carried out (`ReplyLost`)."""
    retries: int = 1
    """How often a command that never left is sent again, over a new connection."""
    break_after: int = 5
    """After so many failures in a row nothing is sent any more: requests fail at once and do not pile up."""
    break_for: float | timedelta = 2.0
    """For so long; then one command tries, and if it is answered all go on."""

    def __post_init__(self) -> None:
        for name in ("connect_timeout", "command_timeout", "break_for"):
            object.__setattr__(self, name, seconds(getattr(self, name), setting=f"Outage.{name}"))
        for name, least, most in (("retries", 0, RETRIES), ("break_after", 1, 1_000_000)):
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise ConfigurationError(
                    f"Outage.{name}={value!r}: give a whole number from {least} to {most}"
                )
