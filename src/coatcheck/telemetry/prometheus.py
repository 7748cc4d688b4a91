"""Prometheus: `coatcheck_events_total{event}` and `coatcheck_store_command_seconds{command,outcome}`.

pip install "coatcheck[prometheus]"
"""

from typing import Any, Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from coatcheck.core.events import EVENTS, Event
from coatcheck.errors import ConfigurationError

__all__ = ["BUCKETS", "Prometheus"]

BUCKETS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
"""Seconds: from a store in memory to a time-out."""


class Prometheus:
    """Counts events, and times store commands: `on_event=[log, telemetry]` and `Observed(store, telemetry)`.

    registry  where its metrics are kept; the process's own unless given
    buckets   upper bounds of the histogram, in seconds

    Raises ConfigurationError for a second one in the same registry: make one, and share it.
    """

    def __init__(
        self, *, registry: CollectorRegistry = REGISTRY, buckets: tuple[float, ...] = BUCKETS
    ) -> None:
        try:
            events = Counter("coatcheck_events", "What happened to sessions.", ["event"], registry=registry)
            self._commands = Histogram(
                "coatcheck_store_command_seconds", "How long the store took, by command and outcome.",
                ["command", "outcome"], registry=registry, buckets=buckets,
            )  # fmt: skip
        except ValueError as error:
            raise ConfigurationError(
                f"Prometheus(): {error}; make one in a process and share it, or give each a registry of its own"
            ) from error
        # Made now, so that a rate has a zero to begin from.
        self._events = {name: events.labels(name) for name in EVENTS}
        self._timed: dict[tuple[str, str], Any] = {}

    def __call__(self, event: Event) -> None:
        """Count an event."""
        self._events[event.name].inc()

    def began(self, command: str) -> None:
        """A command leaves."""

    def ended(self, began: None, command: str, outcome: str, seconds: float) -> None:
        """It was answered, or failed."""
        timed = self._timed.get((command, outcome))
        if timed is None:
            timed = self._timed[command, outcome] = self._commands.labels(command, outcome)
        timed.observe(seconds)
