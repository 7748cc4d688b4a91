"""The interleaving explorer: every order in which concurrent requests can meet, over the production code.

PROTOCOL rules 29 and 30. As a library:

    from coatcheck.testing.explorer import VICTIM, Scenario, World, explore

    scenario = Scenario("anonymous", (("increment", VICTIM), ("login", VICTIM)))
    print(*explore(World(), scenario).violations, sep="\\n")

`python -m coatcheck.testing.explorer` goes through all pairs and triples. The parts:

    database    what requests share: a store that stops at every command
    requests    a request as a value: the replies it has seen
    operations  what handlers do
    world       one moment of it all, and what may happen next
    scenarios   from where, who, and what may go wrong
    oracles     what must hold, in words of its own
    scheduler   every order, equal worlds merged
"""

from coatcheck.testing.explorer.operations import CORE, OPERATIONS
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
    "CORE",
    "HAPPENINGS",
    "OPERATIONS",
    "STARTS",
    "VICTIM",
    "Drop",
    "Faults",
    "Fence",
    "Happening",
    "Pass",
    "Report",
    "Scenario",
    "Skew",
    "Violation",
    "World",
    "exhaust",
    "explore",
    "pairs",
    "survey",
    "triples",
]
