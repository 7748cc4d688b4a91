"""What a monitoring system is told: events by their name, and every store command with its outcome and how long it took.

    telemetry = Prometheus()                                            # or OpenTelemetry()
    SessionMiddleware(app, store=Observed(url, telemetry), on_event=[log, telemetry], …)

Labels are names of events, commands and outcomes, all of which are listed in the code: never a user, a handle or an address, so
there are as many series after ten thousand users as after the first (checklist 204).
"""

from coatcheck.core.events import log, log_json
from coatcheck.telemetry.observed import COMMANDS, OUTCOMES, Observed, Observer

__all__ = ["COMMANDS", "OUTCOMES", "Observed", "Observer", "log", "log_json"]
