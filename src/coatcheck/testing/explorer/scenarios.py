"""Where scenarios start, and which of them there are.

Starts are made by the code under test, with nobody in between: what a browser's jar holds, and two more sessions of the victim on
other devices.
"""

from collections.abc import Iterable, Iterator
from itertools import combinations_with_replacement, product
from typing import Any, Final

from coatcheck.core.ids import Ticket
from coatcheck.core.session import CookieAction
from coatcheck.testing.explorer.database import Database, settle
from coatcheck.testing.explorer.operations import CORE, FACTORS, OPERATIONS
from coatcheck.testing.explorer.requests import Fault, Trace
from coatcheck.testing.explorer.world import (
    ATTACKER,
    DAWN,
    VICTIM,
    Drop,
    Faults,
    Fence,
    Happening,
    Node,
    Pass,
    Scenario,
    Skew,
    World,
)

__all__ = ["HAPPENINGS", "STARTS", "begin", "pairs", "triples"]

DATA: Final[dict[str, Any]] = {
    "a": "at first",
    "b": "at first",
    "n": 5,
    "d": {"x": "at first", "y": 1},
    "once": "token",
    "log": [],
}
STARTS: Final = (
    "no cookie",
    "anonymous",
    "logged in",
    "renewal due",
    "planted",
    "planted login",
    "factor pending",
)
"""`planted`: the attacker holds the anonymous cookie that the victim's browser carries. `planted login`: it opens the attacker's
own session. `factor pending`: the victim's password was right, and a second factor is asked for."""

# Of the two days one is past the deadlines that stood at the start, and not past those that requests at work are about to write.
HAPPENINGS: Final[tuple[tuple[Happening, ...], ...]] = (
    (Faults((Fault.REPLY_LOST, Fault.COMMAND_LOST)),),
    (Faults((Fault.OUTAGE,)),),
    (Drop(), Pass(11)),
    (Pass(61),),
    (Pass(86_397),),
    (Pass(86_401),),
    (Skew(-5),),
    (Skew(5),),
    (Fence("alice"),),
)


def begin(world: World, scenario: Scenario) -> Node:
    """The first node of a scenario."""
    return world.begin(scenario, lambda world: _start(world, scenario.start))


def _start(world: World, name: str) -> Node:
    world.moment.wall, world.moment.mono = DAWN, 1000.0
    database = world.empty()
    _session(world, database, "s1", "alice")
    _session(world, database, "s2", "alice")
    planted = name == "planted login"
    users = {"logged in": "alice", "renewal due": "alice", "planted login": "mallory"}
    factor = "alice" if name == "factor pending" else None
    ticket = None if name == "no cookie" else _session(world, database, "s3", users.get(name), factor)
    later = 3700.0 if name == "renewal due" else 5.0
    jars = ((VICTIM, ticket), (ATTACKER, ticket if planted or name == "planted" else None))
    return Node(database, (), jars, DAWN + later, 1000.0 + later, (), frozenset(database.rows()), ())


def _session(
    world: World, database: Database, me: str, user: str | None, factor: str | None = None
) -> Ticket:
    """A session with something in it: stored as an anonymous one and, for a user, logged in by a second request."""
    world.moment.trace = Trace(me)
    ticket = _request(world, database, None, None, factor)
    return ticket if user is None else _request(world, database, ticket, user)


def _request(
    world: World, database: Database, ticket: Ticket | None, user: str | None, factor: str | None = None
) -> Ticket:
    manager = world.manager()
    session = manager.session(ticket)
    if ticket is not None:
        settle(session.load(), database)
    session.update(DATA if user is None else {})
    if factor is not None:
        session.begin_login(factor)
    if user is not None:
        session.login(user)
        session["who"] = f"{user}'s own"
    action = settle(manager.flows.commit(session), database)
    assert action is CookieAction.SEND
    assert session._record is not None
    assert session._verifier is not None
    return Ticket(session._record.key, session._verifier)


def pairs(
    happenings: tuple[tuple[Happening, ...], ...] = ((), *HAPPENINGS),
    *,
    operations: Iterable[str] = tuple(OPERATIONS),
) -> Iterator[Scenario]:
    """Every two of these operations, from every start, with each of these happenings."""
    names = list(operations)
    for happening, start in product(happenings, STARTS):
        for first, second in _meetings(names, start, 2):
            yield Scenario(start, (first, second), happening)


def triples(happenings: tuple[tuple[Happening, ...], ...] = ((),)) -> Iterator[Scenario]:
    """Every three core operations, from every start."""
    for happening, start in product(happenings, STARTS):
        for meeting in _meetings(list(CORE), start, 3):
            yield Scenario(start, meeting, happening)


def _meetings(names: list[str], start: str, number: int) -> Iterator[tuple[tuple[str, str], ...]]:
    """Who meets whom: of one browser every combination; where an attacker is about, one request is theirs."""
    if start.startswith("planted"):
        for mine in combinations_with_replacement(names, number - 1):
            for theirs in names:
                yield (*((name, VICTIM) for name in mine), (theirs, ATTACKER))
    else:
        for meeting in combinations_with_replacement(names, number):
            # To every other operation a session with a pending login is an anonymous one.
            if start != "factor pending" or not FACTORS.isdisjoint(meeting):
                yield tuple((name, VICTIM) for name in meeting)
