"""Section N of the security checklist, line 204: what a scrape shows, and that it does not grow with people."""

import re

from prometheus_client import CollectorRegistry, generate_latest

from coatcheck import Options, SessionManager
from coatcheck.core.events import EVENTS
from coatcheck.stores.memory import MemoryStore
from coatcheck.telemetry import COMMANDS, OUTCOMES, Observed
from coatcheck.telemetry.prometheus import Prometheus


def series(registry: CollectorRegistry) -> set[str]:
    """Every series of a scrape, with its labels."""
    text = generate_latest(registry).decode()
    return {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}


def test_line_204_ten_thousand_users_make_no_more_series_than_one() -> None:
    registry = CollectorRegistry()
    telemetry = Prometheus(registry=registry)
    sessions = SessionManager(Observed(MemoryStore(), telemetry), options=Options(on_event=telemetry))

    def visit(user: int) -> None:
        session = sessions.session()
        session.login(f"user-{user}@example.org")
        sessions.commit(session)
        if user % 100 == 0:
            sessions.of(f"user-{user}@example.org").end_all()
            sessions.find(f"handle-{user}")

    visit(0)
    first = series(registry)
    for user in range(10_000):
        visit(user)
    assert series(registry) == first
    assert registry.get_sample_value("coatcheck_events_total", {"event": "login"}) == 10_001
    assert (
        registry.get_sample_value(
            "coatcheck_store_command_seconds_count", {"command": "admit", "outcome": "saved"}
        )
        == 10_001
    )
    assert not any("user-" in one or "handle" in one or "@" in one for one in first)


def test_line_204_every_label_is_one_of_those_in_the_code() -> None:
    registry = CollectorRegistry()
    telemetry = Prometheus(registry=registry)
    for command in COMMANDS:
        for outcome in OUTCOMES:
            telemetry.ended(None, command, outcome, 0.001)
    labels = {name: set[str]() for name in ("event", "command", "outcome", "le")}
    for one in series(registry):
        for name, value in re.findall(r'(\w+)="([^"]*)"', one):
            labels[name].add(value)
    assert labels.keys() == {"event", "command", "outcome", "le"}
    assert labels["event"] == set(EVENTS)
    assert (labels["command"], labels["outcome"]) == (set(COMMANDS), set(OUTCOMES))
