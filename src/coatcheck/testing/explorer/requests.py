"""A request as a value: what it was told so far, and the command it waits for.

Theory of operation. A coroutine cannot be copied, but between two suspensions it depends on nothing except the replies
it was given and the clock it read. So a request's state *is* that history. `State` keeps the histories of one request
as a tree: to go on from a state, the coroutine that waits there is resumed, or made anew and given its history again.
Every history is run once, however many schedules share it. Ids are counted per request ("r1.v3" is the third that
request 1 drew), so that the same history gives the same ids in every order.
"""

from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping
from copy import copy
from enum import Enum
from typing import Any, Final

import msgspec

from coatcheck.core.events import Event
from coatcheck.core.ids import Ticket, digest
from coatcheck.core.record import Record
from coatcheck.core.session import CookieAction, Standing
from coatcheck.errors import ReplyLost, SessionError, StoreUnavailable
from coatcheck.faces import AsyncSession
from coatcheck.flows import Clock
from coatcheck.manager import AsyncSessionManager
from coatcheck.testing.explorer.database import Command, frozen, suspend

__all__ = ["DELIVER", "LEAVE", "Change", "Fault", "Handler", "Moment", "Operation", "State", "Trace", "first"]

LEAVE: Final = Command("leaves")
"""The browser sends the request, with the cookie its jar holds at this moment."""
DELIVER: Final = Command("arrives")
"""The response with its Set-Cookie reaches the jar."""

Change = tuple[Any, ...]
"""What a handler did to the data, in its own words: ("set", key, value), ("in", key, inner key, value), ("inc", key),
("append", key, value), ("del", key), ("clear",)."""


class Fault(Enum):
    """What can happen to a command."""

    REPLY_LOST = "reply lost"
    """It was carried out, and no answer came."""
    COMMAND_LOST = "command lost"
    """It never arrived, and no answer came."""
    OUTAGE = "outage"
    """The store cannot be reached, and the driver knows that nothing was sent."""


class Trace(msgspec.Struct):
    """What can be told of one request, for the oracles. Every field is a value, so a shallow copy is a snapshot."""

    me: str
    ticket: Ticket | None = None
    left_at: float = 0.0
    now: float = 0.0
    """The clock as it last read it. What the store does for a request is judged by this."""
    standing: Standing | None = None
    """What the handler found; None: it did not get that far."""
    found: Record | None = None
    """What was there when it came."""
    loaded: Record | None = None
    """What it last loaded or saved."""
    user: str | None = None
    """Whose session the handler found."""
    changes: tuple[Change, ...] = ()
    """What was done since `base`."""
    base: Mapping[str, Any] = {}
    unit: int = 0
    """Ids from here on were drawn for the write under way."""
    ids: int = 0
    epoch: int | None = None
    events: tuple[Event, ...] = ()
    told: int = 0
    """How many events came before the write under way."""
    taken: tuple[Any, ...] = ()
    seen: Mapping[str, Any] | None = None
    """What the handler read, where it read everything."""
    listed: frozenset[str] | None = None
    login: str | None = None
    goes_on: bool = False
    """The login is the second factor of one that was pending."""
    begun: bool = False
    """It proved a first factor."""
    logout: bool = False
    may_shorten: bool = False
    fence: float | None = None
    """The last fence that it raised itself, ..."""
    ended_all: tuple[str, str | None] | None = None
    """... whose it was, and the key of the one session that was spared."""
    error: str | None = None
    action: CookieAction = CookieAction.NONE
    sent: Ticket | None = None
    sent_epoch: int = 0
    owed: bool = False
    """It was decided by an earlier `save()`, not by the commit at the end."""
    finished: bool = False

    def drew(self, version: str) -> bool:
        """Whether this request drew that id."""
        return version.startswith(self.me + ".")

    def drew_for_this_write(self, version: str) -> bool:
        return self.drew(version) and int(version.rpartition(".v")[2]) >= self.unit

    def was_told(self, name: str) -> bool:
        """Whether this event came of the write under way."""
        return any(event.name == name for event in self.events[self.told :])


class Moment:
    """The clock, the ids and the event listener of whichever request is running now."""

    def __init__(self) -> None:
        self.wall = self.mono = 0.0
        self.asked = False
        self.trace = Trace("nobody")

    def clock(self) -> Clock:
        return Clock(self._time, self._monotonic)

    def _time(self) -> float:
        self.asked = True
        self.trace.now = self.wall
        return self.wall

    def _monotonic(self) -> float:
        self.asked = True
        return self.mono

    def locator(self) -> str:
        return self._next("l")

    def verifier(self) -> str:
        return self._next("f")

    def version(self) -> str:
        return self._next("v")

    def _next(self, kind: str) -> str:
        trace = self.trace
        trace.ids += 1
        return f"{trace.me}.{kind}{trace.ids}"

    def hear(self, event: Event) -> None:
        self.trace.events += (event,)


class Handler:
    """What an application does with its session, written down in its own words as it does it."""

    def __init__(
        self, manager: AsyncSessionManager, session: AsyncSession[Any], trace: Trace, user: str
    ) -> None:
        self.flows, self.session, self.trace, self.user = manager.flows, session, trace, user

    def begin(self) -> None:
        """A write begins here: what the session holds now is what later changes are changes of."""
        trace, record = self.trace, self.session._record
        trace.unit, trace.told, trace.changes = trace.ids + 1, len(trace.events), ()
        trace.base = {} if record is None else msgspec.json.decode(record.data)
        trace.epoch = None if record is None else record.epoch
        trace.loaded, trace.login, trace.logout, trace.may_shorten = record, None, False, False
        trace.goes_on = trace.begun = False

    def did(self, *change: Any) -> None:
        self.trace.changes += (change,)

    def set(self, key: str, value: Any) -> None:
        self.session[key] = value
        self.did("set", key, value)

    def set_in(self, key: str, inner: str, value: Any) -> None:
        if key in self.session:
            self.session[key][inner] = value
            self.did("in", key, inner, value)

    def increment(self, key: str) -> None:
        self.session.increment(key)
        self.did("inc", key)

    def append(self, key: str, value: Any) -> None:
        self.session.apply(key, lambda queue: [*queue, value], default=[])
        self.did("append", key, value)

    def delete(self, key: str) -> None:
        if key in self.session:
            del self.session[key]
            self.did("del", key)

    def clear(self) -> None:
        self.session.clear()
        self.did("clear")

    def read(self) -> None:
        self.trace.seen = dict(self.session)

    def login(self, user: str | None = None) -> None:
        user = user or self.user
        self.session.login(user)
        self.trace.login = user
        self.set("who", f"{user}'s own")

    def begin_login(self) -> None:
        if self.session.user_id is None:
            self.session.begin_login(self.user)
            self.trace.begun = True

    def complete_login(self) -> None:
        pending = self.session.pending_login
        if pending is not None:
            self.session.complete_login()
            self.trace.login, self.trace.goes_on = pending.user_id, True
            self.set("who", f"{pending.user_id}'s own")

    def logout(self) -> None:
        self.session.logout()
        self.trace.logout = True
        self.did("clear")

    def shorten(self) -> None:
        self.session.cookie.max_age = 600
        self.trace.may_shorten = True

    async def take(self, key: str) -> None:
        """One compare-and-set of its own, in the midst of whatever else this request changes."""
        trace = self.trace
        changes, trace.changes, trace.unit = trace.changes, (("del", key),), trace.ids + 1
        value = await self.flows.take(self.session, key, None)
        trace.changes, trace.unit = changes, trace.ids + 1
        trace.base = {name: value for name, value in trace.base.items() if name != key}
        if value is not None:
            trace.taken += (value,)

    async def save(self) -> None:
        await self.flows.save(self.session)
        self.begin()

    async def reload(self) -> None:
        await self.flows.reload(self.session)
        self.begin()

    async def end_all(self, user: str | None = None, *, others_only: bool = False) -> None:
        session, whose = self.session, user or self.trace.user or ""
        await self.flows.end_all(session, user, others_only=others_only)
        self.trace.fence = session._own_fence
        self.trace.ended_all = (whose, session.handle if others_only else None)

    async def list(self, user: str) -> None:
        self.trace.listed = frozenset(device.handle for device in await self.flows.devices(user))


class Operation(msgspec.Struct, frozen=True):
    """What one request does. `ends` says whose sessions it may end beside: "own", "user", "others", "handle", "oldest"."""

    name: str
    run: Callable[[Handler], Awaitable[None]]
    ends: frozenset[str] = frozenset()
    login: bool = False
    """It may log somebody in."""
    limit: int | None = None
    fails: bool = False
    """The handler raises at its end: of all it did only a logout is kept."""
    lists: bool = False
    """It lists alice's sessions."""


async def _serve(
    manager: AsyncSessionManager, operation: Operation, trace: Trace, user: str, clock: Clock
) -> None:
    trace.ticket = ticket = await suspend(LEAVE)
    trace.left_at = clock.time()
    session = manager.session(ticket)
    handler = Handler(manager, session, trace, user)
    action = CookieAction.NONE
    try:
        if ticket is not None:
            await session.load()
        handler.begin()
        trace.standing, trace.found = session._standing, session._record
        trace.user = session._record.user_id if session._record is not None else None
        try:
            await operation.run(handler)
            fails = operation.fails
        except StoreUnavailable:
            raise
        except SessionError as error:
            trace.error, fails = type(error).__name__, True
        owed, session._owed = session._owed, CookieAction.NONE
        action = await manager.flows.commit(session, only_logout=fails)
        if action is CookieAction.NONE and owed is not CookieAction.NONE:
            action, trace.owed = owed, True  # as flows.commit() answers
    except SessionError as error:
        trace.error = type(error).__name__
    if action is CookieAction.SEND and session._record is not None and session._verifier is not None:
        trace.sent = Ticket(session._record.key, session._verifier, digest(session._verifier))
        trace.sent_epoch = session._record.epoch
    elif action is CookieAction.SEND:
        action = CookieAction.NONE  # as in exchange.py: there is nothing to send
    trace.action, trace.finished = action, True
    if action is not CookieAction.NONE:
        await suspend(DELIVER)


Start = Callable[[Trace], Coroutine[Any, Any, None]]


class State:
    """One request after one history. `pending`: the command it waits for; None: it is over."""

    __slots__ = ("_children", "_log", "_moment", "_start", "_timed", "_waiting", "pending", "trace")

    def __init__(self, start: Start, moment: Moment, log: tuple[tuple[Any, float, float], ...]) -> None:
        self._start, self._moment, self._log = start, moment, log
        self._children: dict[Hashable, State] = {}
        self._timed: dict[Hashable, bool] = {}
        self._waiting: tuple[Coroutine[Any, Any, None], Trace] | None = None
        self.pending: Command | None = None
        self.trace = Trace("nobody")

    def resume(self, reply: Any, wall: float, mono: float) -> "State":
        """The state after this reply, at this time. A request that does not look at the clock does not depend on it."""
        key = frozen(reply)
        timed = self._timed.get(key)
        if timed is not None:
            known = self._children.get((key, wall, mono) if timed else key)
            if known is not None:
                return known
        child = State(self._start, self._moment, (*self._log, (reply, wall, mono)))
        flow, trace = self._take()
        asked = child._advance(flow, trace, reply, wall, mono)
        self._timed[key] = asked
        self._children[(key, wall, mono) if asked else key] = child
        return child

    def _take(self) -> tuple[Coroutine[Any, Any, None], Trace]:
        """The coroutine that waits here, or one like it."""
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            return waiting
        trace = Trace(self.trace.me)
        flow = self._start(trace)
        self._moment.trace = trace
        flow.send(None)
        for reply, wall, mono in self._log:
            self._moment.wall, self._moment.mono = wall, mono
            _give(flow, reply)
        return flow, trace

    def _advance(
        self, flow: Coroutine[Any, Any, None], trace: Trace, reply: Any, wall: float, mono: float
    ) -> bool:
        moment = self._moment
        moment.trace, moment.wall, moment.mono, moment.asked = trace, wall, mono, False
        try:
            self.pending = _give(flow, reply)
            self._waiting = flow, trace
        except StopIteration:
            self.pending = None
        self.trace = copy(trace)
        return moment.asked


def _give(flow: Coroutine[Any, Any, None], reply: Any) -> Command:
    if not isinstance(reply, Fault):
        return flow.send(reply)  # type: ignore[no-any-return]  # coroutines yield Any
    if reply is Fault.OUTAGE:
        return flow.throw(StoreUnavailable("the store cannot be reached"))  # type: ignore[no-any-return]
    return flow.throw(ReplyLost("the command was sent, and no answer came"))  # type: ignore[no-any-return]


def first(manager: AsyncSessionManager, operation: Operation, me: str, user: str, moment: Moment) -> State:
    """A request that has not left yet."""
    state = State(lambda trace: _serve(manager, operation, trace, user, moment.clock()), moment, ())
    trace = Trace(me)
    flow = state._start(trace)
    state.pending = flow.send(None)
    state._waiting, state.trace = (flow, trace), copy(trace)
    return state
