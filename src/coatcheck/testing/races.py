"""Requests of one session that meet: every order of their loads, handlers and commits, over the real code.

What can be lost when two tabs are open is decided by how a handler changes its session. `race` shows it, without threads and
without luck: each order is run once, in memory.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from coatcheck.core.events import Event
from coatcheck.core.ids import Ticket
from coatcheck.core.options import Options
from coatcheck.core.session import CookieAction, UserId
from coatcheck.core.stepping import run_now
from coatcheck.errors import SessionError, UsageError
from coatcheck.faces import AsyncSession, Session
from coatcheck.manager import AsyncSessionManager, SessionManager
from coatcheck.stores.memory import MemoryStore

__all__ = ["Race", "race"]

Request = Callable[[Any], Any]
STEPS: Final = ("loads", "runs", "commits")


@dataclass(frozen=True)
class Race:
    """How one order ended."""

    order: str
    """The steps in their order: "A loads, B loads, A runs, …"."""
    data: dict[str, Any]
    """What the browser's next request sees."""
    user_id: str | None
    answers: tuple[Any, ...]
    """What each request returned, or the SessionError it raised (a SessionConflict, say)."""
    events: tuple[str, ...]
    """What the operator was told, such as "session.conflict"."""


def race(
    *requests: Request,
    data: Mapping[str, Any] | None = None,
    user_id: UserId | None = None,
    options: Options | None = None,
) -> list[Race]:
    """Run two or three requests of one session in every order: 20 for two, 1,680 for three.

    requests  functions that take the session and change it; an `async def` gets an AsyncSession, and may await nothing else
    data      what the session holds before
    user_id   who is logged in, if anybody
    options   the application's, so that `merge=` and `on_conflict=` are raced too

    Returns how each order ended. What a request raises, unless it is a SessionError, comes through with the order as a note.
    """
    if not 2 <= len(requests) <= 3:
        raise UsageError(f"race() takes two or three requests, not {len(requests)}")
    track = _Track(requests, dict(data or {}), user_id, options or Options())
    return [track.run(order) for order in _orders((len(STEPS),) * len(requests))]


def _orders(left: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Every order of so many steps of each request."""
    if not any(left):
        yield ()
    for number, steps in enumerate(left):
        if steps:
            for rest in _orders((*left[:number], steps - 1, *left[number + 1 :])):
                yield number, *rest


@dataclass(frozen=True)
class _Track:
    requests: tuple[Request, ...]
    data: dict[str, Any]
    user_id: UserId | None
    options: Options

    def run(self, order: tuple[int, ...]) -> Race:
        browser = _Browser(self.options)
        browser.begins(self.data, self.user_id)
        runners = [_Runner(browser, request) for request in self.requests]
        taken: list[str] = []
        for number in order:
            taken.append(f"{'ABC'[number]} {STEPS[runners[number].step]}")
            try:
                runners[number].go_on()
            except Exception as error:
                error.add_note(f"in the order: {', '.join(taken)}")
                raise
        session = browser.session()
        answers = tuple(runner.answer for runner in runners)
        return Race(", ".join(taken), dict(session), session.user_id, answers, tuple(browser.events))


class _Browser:
    """One browser, and the server it talks to."""

    def __init__(self, options: Options) -> None:
        self.events: list[str] = []
        store, options = MemoryStore(), replace(options, on_event=self._hear)
        self.blocking, self.awaiting = (
            SessionManager(store, options=options),
            AsyncSessionManager(store, options=options),
        )
        self.ticket: Ticket | None = None

    def _hear(self, event: Event) -> None:
        self.events.append(event.name)

    def begins(self, data: Mapping[str, Any], user_id: UserId | None) -> None:
        """There is a session, even if there is nothing in it."""
        for content in ({"": None}, data):
            session = self.session()
            session.clear()
            session.update(content)
            if user_id is not None:
                session.login(user_id)
            self.hears(session, self.blocking.commit(session))
        self.events.clear()

    def session(self) -> Session[Any]:
        return self.blocking.session(self.ticket)

    def hears(self, session: Session[Any] | AsyncSession[Any], told: CookieAction) -> None:
        if told is CookieAction.CLEAR:
            self.ticket = None
        elif told is CookieAction.SEND and session._record is not None and session._verifier is not None:
            self.ticket = Ticket(session._record.key, session._verifier)


class _Runner:
    """One request on its way."""

    def __init__(self, browser: _Browser, request: Request) -> None:
        self.browser, self.request = browser, request
        self.awaits = inspect.iscoroutinefunction(request)
        self.ticket = browser.ticket
        """Both were sent before either was answered."""
        self.session: Session[Any] | AsyncSession[Any] | None = None
        self.answer: Any = None
        self.step = 0

    def go_on(self) -> None:
        step, self.step = STEPS[self.step], self.step + 1
        if isinstance(self.answer, SessionError):
            return  # it has failed: nothing of it is committed
        try:
            getattr(self, step)()
        except SessionError as error:
            if isinstance(error, UsageError):
                raise
            self.answer = error

    def loads(self) -> None:
        if self.awaits:
            self.session = run_now(self.browser.awaiting.session(self.ticket).load())
        else:
            self.session = self.browser.blocking.session(self.ticket)
        self.session._open()

    def runs(self) -> None:
        answer = self.request(self.session)
        self.answer = run_now(answer) if self.awaits else answer

    def commits(self) -> None:
        if self.awaits:
            session = cast(AsyncSession[Any], self.session)
            told = run_now(self.browser.awaiting.commit(session))
            self.browser.hears(session, told)
        else:
            sync = cast(Session[Any], self.session)
            self.browser.hears(sync, self.browser.blocking.commit(sync))
