"""An observed store is the store it was, and tells of each command."""

import asyncio
import inspect
import logging
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from prometheus_client import CollectorRegistry

from coatcheck import (
    AsyncSessionManager,
    ConfigurationError,
    Event,
    Options,
    Outage,
    SessionManager,
    StoreUnavailable,
)
from coatcheck.asgi import SessionMiddleware
from coatcheck.core import ports
from coatcheck.core.stepping import run_now
from coatcheck.stores.layered import LayeredStore
from coatcheck.stores.memory import MemoryStore
from coatcheck.stores.sqlite import SQLiteStore
from coatcheck.telemetry import COMMANDS, OUTCOMES, Observed
from coatcheck.telemetry.otel import OpenTelemetry
from coatcheck.telemetry.prometheus import Prometheus
from coatcheck.testing import Sentence, StoreContract
from tests.web.rig import Counted

ABILITIES = (
    ports.ByUser, ports.Sweeps, ports.Counts, ports.Checks, ports.Watches, ports.SetsUp, ports.Remembers, ports.NeverWaits,
    ports.Tallies, ports.Walks, ports.Reseals, ports.TellsTime,
)  # fmt: skip


class Notes:
    """An observer that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.seconds: list[float] = []

    def began(self, command: str) -> str:
        return command

    def ended(self, began: str, command: str, outcome: str, seconds: float) -> None:
        assert began == command in COMMANDS
        assert outcome in OUTCOMES
        self.told.append((command, outcome))
        self.seconds.append(seconds)


class Broken:
    """An observer that fails at all it is told."""

    def began(self, command: str) -> None:
        raise ValueError("x\r\ny")

    ended: Any = began


@pytest.mark.parametrize("sentence", StoreContract.sentences())
def test_the_contract_holds(sentence: Sentence) -> None:
    StoreContract(lambda: Observed(MemoryStore(), Notes())).run(sentence)


def test_it_has_the_abilities_of_the_store_inside_and_no_other(tmp_path: Path) -> None:
    for inside in (MemoryStore(), SQLiteStore(tmp_path / "a.db"), LayeredStore(MemoryStore())):
        face, bare = Observed(inside, Notes()).blocking(), inside.blocking()
        assert [isinstance(face, ability) for ability in ABILITIES] == [
            isinstance(bare, ability) for ability in ABILITIES
        ]
        if isinstance(inside, SQLiteStore):
            inside.close()


def test_every_command_of_the_contract_is_observed() -> None:
    protocols = [value for value in vars(ports).values() if getattr(value, "_is_protocol", False)]
    asked = {
        name
        for protocol in protocols
        for name, method in vars(protocol).items()
        if inspect.iscoroutinefunction(method)
    }
    assert set(COMMANDS) == asked


def test_what_is_asked_and_how_it_ended() -> None:
    notes, ticks = Notes(), iter(range(1000))
    sessions = SessionManager(Observed(MemoryStore(), notes, monotonic=lambda: next(ticks)))
    session = sessions.session()
    session.login("ada")
    sessions.commit(session)
    assert sessions.find("nobody") is None
    assert sessions.of("ada").end_all() == 1
    assert sessions.find(str(session.handle)) is None
    era = ("load", "absent")  # asked for first of all, and not again for five seconds
    assert notes.told == [era, ("admit", "saved"), ("load", "absent"), ("end_user", "ok"), ("load", "ended")]
    assert notes.seconds == [1.0] * 5


def test_how_it_failed() -> None:
    notes, store = Notes(), Counted()
    sessions = SessionManager(Observed(store, notes))
    store.down = True
    with pytest.raises(StoreUnavailable):
        sessions.find("x")
    store.down = False
    face: Any = Observed(store, notes).blocking()
    with pytest.raises(TypeError):
        run_now(face.load())
    assert notes.told == [("load", "unavailable"), ("load", "error")]


def test_who_stops_waiting_is_told_as_well() -> None:
    notes = Notes()

    class Slow(MemoryStore):
        async def load(self, key: str, *, now: float) -> Any:
            await asyncio.Event().wait()

    async def main() -> None:
        face = Observed(Slow(), notes).awaiting()
        task = asyncio.ensure_future(face.load("x", now=0.0))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert notes.told == [("load", "cancelled")]


def test_an_observer_that_fails_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    sessions = SessionManager(Observed(MemoryStore(), Broken()))
    for _ in range(3):
        assert sessions.find("x") is None
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage().isprintable()


def test_a_url_is_opened_and_closed(tmp_path: Path) -> None:
    observed = Observed(f"sqlite:///{tmp_path}/a.db", Notes())
    with SessionManager(observed) as sessions:
        assert sessions.count() == 0
    observed.close()
    asyncio.run(observed.aclose())
    assert "Observed" in repr(observed)
    assert "load" in repr(observed.blocking())


def test_what_is_wrong_is_said_at_once() -> None:
    for wrong in (None, log_like):
        with pytest.raises(ConfigurationError, match="give what observes"):
            Observed("memory:", wrong)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ConfigurationError, match="given as a URL"):
        Observed(MemoryStore(), Notes(), outage=Outage())
    registry = CollectorRegistry()
    Prometheus(registry=registry)
    with pytest.raises(ConfigurationError, match="share it"):
        Prometheus(registry=registry)


def log_like(event: Event) -> None:
    """A listener, which observes nothing."""


def test_opentelemetry_hears_of_events_commands_and_outages() -> None:
    reader, spans = InMemoryMetricReader(), InMemorySpanExporter()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    meters = MeterProvider([reader])
    telemetry = OpenTelemetry(meter_provider=meters, tracer_provider=tracers)
    store = Counted()
    app = AsyncSessionManager(Observed(store, telemetry), options=Options(on_event=telemetry))

    async def main() -> None:
        with tracers.get_tracer("test").start_as_current_span("request"):
            session = app.session()
            session.login("ada")
            await app.commit(session)
            store.down = True
            with pytest.raises(StoreUnavailable):
                await app.find("x")

    asyncio.run(main())
    found = {span.name: span for span in spans.get_finished_spans()}
    assert set(found) == {"coatcheck.store admit", "coatcheck.store load", "request"}
    assert {span.context.trace_id for span in found.values()} == {found["request"].context.trace_id}
    assert [event.name for event in found["request"].events] == ["session.created", "login"]
    assert found["coatcheck.store load"].status.status_code is StatusCode.ERROR
    told = "".join(span.to_json() for span in found.values())
    assert "ada" not in told
    data: Any = reader.get_metrics_data()
    metrics = {
        metric.name: metric.data.data_points for metric in data.resource_metrics[0].scope_metrics[0].metrics
    }
    assert {(p.attributes["event"], p.value) for p in metrics["coatcheck.events"]} == {
        ("session.created", 1),
        ("login", 1),
    }
    assert {
        (p.attributes["command"], p.attributes["outcome"], p.count)
        for p in metrics["coatcheck.store.duration"]
    } == {
        ("load", "absent", 1),  # the era
        ("admit", "saved", 1),
        ("load", "unavailable", 1),
    }
    meters.shutdown()
    tracers.shutdown()


def test_a_middleware_takes_both() -> None:
    telemetry = Prometheus(registry=CollectorRegistry())

    async def app(scope: Any, receive: Any, send: Any) -> None:
        """Never asked."""

    made = SessionMiddleware(
        app,
        store=Observed("memory:", telemetry),
        on_event=[telemetry],
        secret="telemetry-only-Zt3xk0VbX1qv8m2LwP5rY",
    )
    assert "Prometheus" in repr(made.exchange.on_event)
