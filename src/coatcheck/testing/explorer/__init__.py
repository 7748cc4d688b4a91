"""The interleaving explorer: every order in which concurrent requests can meet, over the production code.

PROTOCOL rules 29 and 30. As a library:

    from coatcheck.testing.explorer import VICTIM, Scenario, World, explore

    scenario = Scenario("anonymous", (("increment", VICTIM), ("login", VICTIM)))
    print(*explore(World(), scenario).violations, sep="\\n")

`python -m coatcheck.testing.explorer` goes through all pairs and triples, over any store (`--help`). The parts:

    database    what requests share: a store that stops at every command; this is what a store of one's own needs
    requests    a request as a value: the replies it has seen
    operations  what handlers do
    world       one moment of it all, and what may happen next
    scenarios   from where, who, and what may go wrong
    oracles     what must hold, in words of its own
    scheduler   every order, equal worlds merged

and databases: `database` has memory's, `redis` that of Redis, over `redis_model` (the scripts once more) or `redis_server` (a
real one), `tables` what `sqlite` and `postgres` have in common, `mongo` its own. They are imported by whoever wants them: each
needs its driver.
"""

from coatcheck.testing.explorer.database import Command, Database, Provisional, suspend, suspending
from coatcheck.testing.explorer.operations import BY_USER, CORE, OPERATIONS
from coatcheck.testing.explorer.scenarios import HAPPENINGS, STARTS, pairs, triples
from coatcheck.testing.explorer.scheduler import Report, Violation, exhaust, explore, survey
from coatcheck.testing.explorer.world import (
    ATTACKER,
    VICTIM,
    Drop,
    Faults,
    Fence,
    Happening,
    Pass,
    Scenario,
    Skew,
    World,
)

__all__ = [
    "ATTACKER",
    "BY_USER",
    "CORE",
    "HAPPENINGS",
    "OPERATIONS",
    "STARTS",
    "VICTIM",
    "Command",
    "Database",
    "Drop",
    "Faults",
    "Fence",
    "Happening",
    "Pass",
    "Provisional",
    "Report",
    "Scenario",
    "Skew",
    "Violation",
    "World",
    "exhaust",
    "explore",
    "pairs",
    "survey",
    "suspend",
    "suspending",
    "triples",
]
