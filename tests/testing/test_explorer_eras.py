"""Everybody's sessions ended while another request is at work: every order of their commands, over the memory store.

Apart from the explorer, whose requests never ask for the present era: here each asks every time (`lag` is 0), so what it knows
is as old as its last question and no older, and an order of commands is all that matters. Histories are replayed from the start.
"""

from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from coatcheck import Options
from coatcheck.commands import Commands
from coatcheck.core.ids import Ticket
from coatcheck.core.record import Record
from coatcheck.core.session import CookieAction
from coatcheck.eras import LAG, Eras
from coatcheck.flows import Clock
from coatcheck.manager import AsyncSessionManager
from coatcheck.stores.memory import MemoryStore
from coatcheck.testing.explorer.database import Command, MemoryDatabase, settle

Patch = pytest.MonkeyPatch
DAWN = 1_700_000_000.0
Handler = Callable[[Any], None]
OPERATIONS: dict[str, Handler] = {
    "read": lambda session: session.get("a"),
    "write": lambda session: session.update(a=2),
    "regenerate": lambda session: session.regenerate(),
    "login": lambda session: session.login("ada"),
    "begin_login": lambda session: session.user_id or session.begin_login("ada"),
    "complete_login": lambda session: session.pending_login and session.complete_login(),
    "reauthenticate": lambda session: session.user_id and session.reauthenticate(),
}
STARTS = ("no cookie", "anonymous", "logged in", "factor pending")


class Room:
    """One run: a store, two processes over it, and what they have sent so far."""

    def __init__(self, start: str, name: str) -> None:
        self.now = DAWN
        self.database = MemoryDatabase(MemoryStore(monotonic=lambda: self.now))
        self.ticket = None if start == "no cookie" else self.made(start)
        self.before = dict(self.database.rows())
        self.now += 60
        self.sent: Ticket | None = None
        self.flows = [self.request(OPERATIONS[name]), self.manager().flows.end_everyone()]
        self.waiting: list[Command | None] = [None, None]
        for index in (0, 1):
            self.go_on(index, None)

    def manager(self) -> AsyncSessionManager:
        clock = Clock(lambda: self.now, lambda: self.now)
        made = AsyncSessionManager(self.database.store(), options=Options(on_event=_nobody), clock=clock)
        made.flows.lifecycle.eras.lag = 0
        return made

    def made(self, start: str) -> Ticket:
        manager = self.manager()
        session = manager.session()
        session["a"] = 1
        if start == "logged in":
            session.login("ada")
        if start == "factor pending":
            session.begin_login("ada")
        settle(manager.flows.commit(session), self.database)
        assert session._record is not None
        return Ticket(session._record.key, session._verifier or "")

    async def request(self, handler: Handler) -> None:
        manager = self.manager()
        session = manager.session(self.ticket)
        if self.ticket is not None:
            await session.load()
        handler(session)
        if await manager.flows.commit(session) is CookieAction.SEND:
            assert session._record is not None
            self.sent = Ticket(session._record.key, session._verifier or "")

    def go_on(self, index: int, reply: Any) -> None:
        try:
            self.waiting[index] = self.flows[index].send(reply)
        except StopIteration:
            self.waiting[index] = None

    def step(self, index: int) -> None:
        """Carry out the command that one of the two waits for. Time passes, by less than clocks may differ."""
        command = self.waiting[index]
        assert command is not None
        reply = self.database.run(command)
        self.now += 0.125
        self.go_on(index, reply)

    def user_of(self, ticket: Ticket | None) -> str | None:
        """Whom this cookie stands for, a while later."""
        self.now += LAG + 61
        manager = self.manager()
        session = manager.session(ticket)
        if ticket is None:
            return None
        settle(session.load(), self.database)
        return session.user_id or (None if session.is_new else "somebody")


def _nobody(event: object) -> None: ...


def orders(start: str, name: str) -> Iterator[tuple[Room, tuple[int, ...]]]:
    """Every order, each in a room of its own, at its end."""
    todo: list[tuple[int, ...]] = [()]
    while todo:
        order = todo.pop()
        room = Room(start, name)
        for index in order:
            room.step(index)
        open_ = [index for index in (0, 1) if room.waiting[index] is not None]
        todo += [(*order, index) for index in open_]
        if not open_:
            yield room, order
        else:
            for flow in room.flows:
                _closed(flow)


def _closed(flow: Coroutine[Any, Any, None]) -> None:
    flow.close()


def broken(start: str, name: str) -> tuple[int, list[tuple[int, ...]]]:
    """How many orders there are, and those after which somebody from before the end is still in, or a login that began before."""
    number, wrong = 0, []
    for room, order in orders(start, name):
        number += 1
        logs_in = room.sent is not None and name in ("login", "complete_login", "reauthenticate")
        if room.user_of(room.ticket) is not None or (logs_in and room.user_of(room.sent) is not None):
            wrong.append(order)
    return number, wrong


@pytest.mark.parametrize("start", STARTS)
def test_nobody_from_before_is_in_afterwards(start: str) -> None:
    counted = {name: broken(start, name) for name in OPERATIONS}
    assert {name: wrong for name, (_, wrong) in counted.items() if wrong} == {}
    assert sum(number for number, _ in counted.values()) > 50


def nobody_is_refused(patch: Patch) -> None:
    patch.setattr(Eras, "refuses", lambda self, began: False)


def nobody_is_over(patch: Patch) -> None:
    patch.setattr(Eras, "is_over", lambda self, record: False)
    patch.setattr(Eras, "_learn", lambda self, found, now: None)


def a_login_is_stamped_at_the_end(patch: Patch) -> None:
    """With the era it is written in, and not with the one it began in; and nobody asks when that was."""
    admit = Commands._admit

    async def fault(self: Commands, by_user: Any, record: Record, *rest: Any) -> Any:
        await self.eras.catch_up(rest[-1])
        return await admit(self, by_user, self.eras.stamped(record), *rest)

    patch.setattr(Commands, "_admit", fault)
    nobody_is_refused(patch)


@pytest.mark.parametrize(
    ("plant", "start", "name"),
    [
        (nobody_is_over, "logged in", "read"),
        (nobody_is_refused, "anonymous", "login"),
        (nobody_is_refused, "factor pending", "complete_login"),
        (a_login_is_stamped_at_the_end, "no cookie", "login"),
    ],
)
def test_a_planted_fault_is_caught(
    plant: Callable[[Patch], None], start: str, name: str, monkeypatch: Patch
) -> None:
    plant(monkeypatch)
    _, wrong = broken(start, name)
    assert wrong
