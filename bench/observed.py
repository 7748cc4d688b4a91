"""What it costs to observe a store and to listen to events, and what docs/events.md says of it: `python -m bench.observed`.

In process, microseconds: the minimum of many short rounds, as `bench.steps`.
"""

from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from prometheus_client import CollectorRegistry

from bench.steps import cost
from coatcheck import Event
from coatcheck.core.events import Listener, listening
from coatcheck.core.stepping import run_now
from coatcheck.stores.memory import MemoryStore
from coatcheck.telemetry import Observed
from coatcheck.telemetry.otel import OpenTelemetry
from coatcheck.telemetry.prometheus import Prometheus

EVENT = Event("login", "handle", "user")


def loading(store: Any) -> Callable[[], Any]:
    face = store.blocking()
    return lambda: run_now(face.load("x", now=0.0))


def observers() -> dict[str, Any]:
    sampled_out = TracerProvider(sampler=ALWAYS_OFF)
    return {
        "Prometheus": Prometheus(registry=CollectorRegistry()),
        "OpenTelemetry, no SDK": OpenTelemetry(),
        "OpenTelemetry, metrics": OpenTelemetry(
            meter_provider=MeterProvider([InMemoryMetricReader()]), tracer_provider=sampled_out
        ),
        "OpenTelemetry, metrics and spans": OpenTelemetry(
            meter_provider=MeterProvider([InMemoryMetricReader()]), tracer_provider=TracerProvider()
        ),
    }


def main() -> None:
    bare = cost(loading(MemoryStore()))
    print(f"{'a load from memory, not observed':<40}{bare:8.2f}")
    nobody: Listener = listening([])
    print(f"{'an event that nobody hears':<40}{cost(lambda: nobody(EVENT)):8.2f}")
    for name, observer in observers().items():
        tell = listening([observer])
        print(
            f"{name + ': a command more':<50}{cost(loading(Observed(MemoryStore(), observer))) - bare:8.2f}"
        )
        print(f"{name + ': an event':<50}{cost(lambda tell=tell: tell(EVENT)):8.2f}")  # type: ignore[misc]  # bound at once


if __name__ == "__main__":
    main()
