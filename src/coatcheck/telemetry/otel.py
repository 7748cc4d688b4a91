"""OpenTelemetry: a counter of events, a histogram of store commands, and a span around each command.

    pip install "coatcheck[otel]"

Only the API is used: which SDK, exporter and sampling there are is the application's choice; without any, all of this does
nothing.
"""

from typing import Final

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider

from coatcheck.core.events import Event

__all__ = ["OpenTelemetry"]

_SCOPE: Final = "coatcheck"
_FAILED: Final = frozenset({"unavailable", "corrupt", "error"})
_BOUNDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class OpenTelemetry:
    """`coatcheck.events` {event}, `coatcheck.store.duration` {command, outcome} in seconds, and spans `coatcheck.store load`, …:
    `on_event=[log, telemetry]` and `Observed(store, telemetry)`.

    An event that happens inside a span is an event of that span too, by its name alone.

    meter_provider, tracer_provider  those of the process unless given
    """

    def __init__(
        self, *, meter_provider: MeterProvider | None = None, tracer_provider: TracerProvider | None = None
    ) -> None:
        meter = metrics.get_meter(_SCOPE, meter_provider=meter_provider)
        self._tracer = trace.get_tracer(_SCOPE, tracer_provider=tracer_provider)
        self._events = meter.create_counter(
            "coatcheck.events", unit="{event}", description="What happened to sessions."
        )
        self._commands = meter.create_histogram(
            "coatcheck.store.duration", unit="s", description="How long the store took.",
            explicit_bucket_boundaries_advisory=_BOUNDS,
        )  # fmt: skip

    def __call__(self, event: Event) -> None:
        """Count an event, and note it in the span that is under way."""
        self._events.add(1, {"event": event.name})
        span = trace.get_current_span()
        if span.is_recording():
            span.add_event(event.name)

    def began(self, command: str) -> Span:
        """A command leaves: a span below the current one.

        It does not become the current one itself: a commit may begin in one task and end in another (`flows.begun`), and their
        contexts are not the same.
        """
        return self._tracer.start_span(f"coatcheck.store {command}", kind=SpanKind.CLIENT)

    def ended(self, began: Span | None, command: str, outcome: str, seconds: float) -> None:
        """It was answered, or failed."""
        if began is not None:
            began.set_attribute("coatcheck.outcome", outcome)
            if outcome in _FAILED:
                began.set_status(Status(StatusCode.ERROR, outcome))
            began.end()
        self._commands.record(seconds, {"command": command, "outcome": outcome})
