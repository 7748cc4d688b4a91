"""Visitors of a server without a web framework: sessions opened by a ticket, committed, and what the browser then holds.

The store is the memory store behind a line that can be disturbed: answers get lost, others write in between. Time stands still
until a test moves it; ids are counted, so that a test can name them.
"""

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from coatcheck import Clock, Event, Options, Session, SessionManager
from coatcheck.core.ids import Ticket
from coatcheck.core.ports import ByUser, EndedAll, Outcome, Page, Store, Terms
from coatcheck.core.record import Ended, Record
from coatcheck.core.session import CookieAction
from coatcheck.core.stepping import run_now
from coatcheck.eras import ERA_KEY
from coatcheck.errors import ReplyLost
from coatcheck.stores.memory import MemoryStore

START = 1_800_000_000.0
T = TypeVar("T")
Serve = Callable[[Session[Any]], T]
Call = Callable[[], Coroutine[Any, Any, Any]]


class CountedIds:
    """Ids of the right length, one after the other."""

    def __init__(self) -> None:
        self.made = 0

    def _next(self, kind: str, length: int) -> str:
        self.made += 1
        return f"{kind}{self.made:0{length - len(kind)}}"

    def locator(self) -> str:
        return self._next("locator-", 24)

    def verifier(self) -> str:
        return self._next("verifier-", 44)

    def version(self) -> str:
        return self._next("version-", 16)


class Line:
    """The way to a store, with what happens on it. Plans are carried out one by one, each at the next command of its name."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.calls: list[str] = []
        self.plans: list[tuple[str, Callable[[Call], Coroutine[Any, Any, Any]]]] = []

    async def send(self, verb: str, *args: Any, **given: Any) -> Any:
        if args and args[0] == ERA_KEY:  # now and then, and no part of a request (test_eras)
            return await getattr(self.store, verb)(*args, **given)
        self.calls.append(verb)

        async def call() -> Any:
            return await getattr(self.store, verb)(*args, **given)

        for index, (name, plan) in enumerate(self.plans):
            if name == verb:
                del self.plans[index]
                return await plan(call)
        return await call()

    def loses(self, verb: str, *, carried_out: bool = True, times: int = 1) -> None:
        """The next replies to this command get lost."""

        async def lose(call: Call) -> Any:
            if carried_out:
                await call()
            raise ReplyLost("the line went dead")

        self.plans += [(verb, lose)] * times

    def meanwhile(self, verb: str, do: Callable[[], Any], *, times: int = 1) -> None:
        """Something happens just before the next such command arrives."""

        async def first(call: Call) -> Any:
            do()
            return await call()

        self.plans += [(verb, first)] * times

    def loses_then(self, verb: str, do: Callable[[], Any]) -> None:
        """The next such command is carried out, then something else happens, and its reply is lost."""

        async def lose(call: Call) -> Any:
            await call()
            do()
            raise ReplyLost("the line went dead")

        self.plans.append((verb, lose))


class Verbs:
    """A store at the other end of a line: the five verbs that every store has."""

    def __init__(self, line: Line) -> None:
        self.line = line

    async def load(self, key: str, *, now: float) -> Record | Ended | None:
        return await self.line.send("load", key, now=now)

    async def create(self, record: Record, *, now: float) -> Outcome:
        return await self.line.send("create", record, now=now)

    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        return await self.line.send("replace", record, expected=expected, now=now, may_shorten=may_shorten)

    async def touch(self, key: str, *, deadline: float, seen_at: float, expected: str, now: float) -> bool:
        given = {"deadline": deadline, "seen_at": seen_at, "expected": expected, "now": now}
        return await self.line.send("touch", key, **given)

    async def delete(self, key: str, *, now: float, token: str, expected: str | None = None) -> bool:
        return await self.line.send("delete", key, now=now, token=token, expected=expected)


class ByUserVerbs(Verbs):
    """The same of a store that knows its users, too."""

    async def admit(self, record: Record, *, expected: str | None, terms: Terms, now: float) -> Outcome:
        return await self.line.send("admit", record, expected=expected, terms=terms, now=now)

    async def of_user(self, user_id: str, *, now: float, cursor: str | None = None, limit: int = 100) -> Page:
        return await self.line.send("of_user", user_id, now=now, cursor=cursor, limit=limit)

    async def end_user(self, user_id: str, *, keep: str | None, now: float, token: str) -> EndedAll:
        return await self.line.send("end_user", user_id, keep=keep, now=now, token=token)

    async def end_one(self, user_id: str, key: str, *, now: float, token: str) -> bool:
        return await self.line.send("end_one", user_id, key, now=now, token=token)


class Server:
    """One store, one set of options, one clock."""

    def __init__(self, store: Any = None, *, by_user: bool = True, **options: Any) -> None:
        self.now = START
        self.events: list[Event] = []
        self.ids = CountedIds()
        self.line = Line(MemoryStore(monotonic=lambda: self.now) if store is None else store)
        self.store: Store = ByUserVerbs(self.line) if by_user else Verbs(self.line)
        assert isinstance(self.store, ByUser) is by_user
        options.setdefault("on_event", self.events.append)
        clock = Clock(time=lambda: self.now, monotonic=lambda: self.now)
        self.sessions = SessionManager(self.store, options=Options(**options), clock=clock, ids=self.ids)

    def browser(self) -> "Browser":
        return Browser(self)

    def stored(self, key: str) -> Record | Ended | None:
        """What is really there, without the line."""
        return run_now(self.line.store.load(key, now=self.now))

    def count(self) -> int:
        """How many sessions live."""
        return run_now(self.line.store.count(now=self.now))

    @property
    def told(self) -> list[str]:
        """The names of all events since one last asked."""
        names: list[str] = [event.name for event in self.events]
        self.events.clear()
        return names

    @contextmanager
    def commands(self, *expected: str) -> Iterator[None]:
        """Insist on which commands were sent."""
        self.line.calls.clear()
        yield
        assert tuple(self.line.calls) == expected


class Browser:
    """Holds a ticket, and comes with it."""

    def __init__(self, server: Server, ticket: Ticket | None = None) -> None:
        self.server, self.ticket = server, ticket

    def other(self) -> "Browser":
        """Another one with the very same cookie."""
        return Browser(self.server, self.ticket)

    def begin(self) -> Session[Any]:
        """A request has arrived, and its session was loaded."""
        session = self.server.sessions.session(self.ticket)
        session._open()
        return session

    def end(self, session: Session[Any]) -> CookieAction:
        """The response leaves and arrives."""
        told = self.server.sessions.commit(session)
        if told is CookieAction.CLEAR:
            self.ticket = None
        elif told is CookieAction.SEND and session._record is not None and session._verifier is not None:
            self.ticket = Ticket(session._record.key, session._verifier)
        return told

    def visit(self, serve: Serve[T]) -> T:
        """One request from beginning to end; returns what the handler did."""
        session = self.begin()
        answer = serve(session)
        self.end(session)
        return answer

    def told(self, serve: Serve[Any] = len) -> CookieAction:
        """One request from beginning to end; returns what the browser was told."""
        session = self.begin()
        serve(session)
        return self.end(session)

    @property
    def data(self) -> dict[str, Any]:
        """What the next request would see; it changes nothing."""
        return dict(self.begin())

    @property
    def user(self) -> str | None:
        return self.begin().user_id
