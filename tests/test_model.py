"""What browsers and a server should see, as a model in plain Python, beside the memory store and an SQLite file.

Requests come one after the other, from browsers that keep their cookies, copy each other's, or come back with old ones; time
passes in between. After every step all three must agree. The model knows no versions, no merging and no I/O: only the rules.
"""

import copy
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from coatcheck import Session
from coatcheck.core.session import CookieAction
from coatcheck.core.stepping import run_now
from coatcheck.stores.memory import MemoryStore
from coatcheck.stores.sqlite import SQLiteStore
from tests.visits import START, Server

NONE, SEND, CLEAR = CookieAction.NONE, CookieAction.SEND, CookieAction.CLEAR
IDLE, ABSOLUTE, RENEWAL, TOUCH = 86_400.0, 30 * 86_400.0, 3600.0, 60.0
REMEMBERED = 30 * 86_400.0
OVERLAP, DETACHED = 10.0, 60.0
USERS = ("ada", "bob")
KEYS = ("a", "b", "n")

# --------------------------------------------------------------------------------------------------------- the model


@dataclass
class Row:
    """One session as the server should know it. `good` is the verifier of the newest cookie."""

    data: dict[str, Any]
    good: int
    created: float
    seen: float
    deadline: float
    ends: float
    user: str | None = None
    persistent: bool = False
    remembered: bool = False
    ended: float | None = None
    rotated: float | None = None
    previous: int | None = None
    renewed: float | None = None
    first_seen: float | None = None

    @property
    def idle(self) -> float:
        return REMEMBERED if self.persistent else IDLE

    def is_seen(self, now: float) -> None:
        self.seen, self.deadline = now, min(now + self.idle, self.ends)


@dataclass
class Visit:
    """One request, from the model's side."""

    row: Row | None
    standing: str
    on_previous: bool = False
    data: dict[str, Any] = field(default_factory=dict)
    own: dict[str, Any] = field(default_factory=dict)
    """What this request set itself: all that may go into a session of its own."""
    login: str | None = None
    remember: bool = False
    logout: bool = False
    regenerate: bool = False
    touch: bool = False
    accessed: bool = True
    fence: float | None = None
    cleared: bool = False
    deleted: set[str] = field(default_factory=set)


class Model:
    """The server. A cookie is (row number, verifier number)."""

    def __init__(self) -> None:
        self.now = START
        self.rows: list[Row] = []
        self.fences: dict[str, float] = {}
        self.verifiers = 0

    def verifier(self) -> int:
        self.verifiers += 1
        return self.verifiers

    def lives(self, row: Row) -> bool:
        return row.ended is None and self.now < row.deadline

    # -- a request

    def open(self, cookie: tuple[int, int] | None) -> Visit:
        if cookie is None:
            return Visit(None, "new")
        row = self.rows[cookie[0]]
        if row.ended is not None:
            return Visit(None, "detached" if self.now < row.ended + DETACHED else "new")
        if not self.lives(row):
            return Visit(None, "new")
        if cookie[1] == row.good:
            return Visit(row, "live", data=copy.deepcopy(row.data))
        until = None if row.first_seen is None else row.first_seen + OVERLAP
        if cookie[1] == row.previous and (until is None or self.now < until):
            return Visit(row, "live", on_previous=True, data=copy.deepcopy(row.data))
        late = [row.rotated] if row.rotated is not None else []
        if row.renewed is not None:
            late.append(row.renewed if until is None else until)
        return Visit(None, "detached" if late and self.now < max(late) + DETACHED else "new")

    def commit(self, visit: Visit) -> tuple[CookieAction, tuple[int, int] | None]:
        """What the browser is told, and its new cookie."""
        row = visit.row
        if row is None:
            wanted = visit.login is not None or (visit.standing == "new" and bool(visit.own))
            return self.create(visit) if wanted else (NONE, None)
        if not visit.accessed or row.ended is not None:
            return (NONE, None) if visit.login is None else self.create(visit)
        if visit.logout:
            row.ended = self.now
            return self.create(visit) if visit.login or visit.own else (CLEAR, None)
        if visit.login is not None and self.fenced(visit):
            return NONE, None
        if visit.login is not None and row.user not in (None, visit.login):
            made = self.create(visit)
            row.ended = self.now
            return made
        return self.write(visit, row)

    def write(self, visit: Visit, row: Row) -> tuple[CookieAction, tuple[int, int] | None]:
        changed = visit.data != row.data or visit.cleared
        sees = not visit.on_previous and row.renewed is not None and row.first_seen is None
        age = self.now - max(row.rotated or row.created, row.renewed or 0)
        if visit.login is not None or visit.regenerate:
            row.good, row.rotated = self.verifier(), self.now
            row.previous = row.renewed = row.first_seen = None
            if visit.login is not None:
                self.log_in(visit, row)
            told = SEND
        elif row.user is not None and not visit.on_previous and age >= RENEWAL:
            row.previous, row.good = row.good, self.verifier()
            row.renewed, row.first_seen = self.now, None
            told = SEND
        elif changed or sees:
            row.first_seen = self.now if sees else row.first_seen
            told = SEND if visit.on_previous or (row.persistent and changed) else NONE
        elif visit.touch or self.now - row.seen >= TOUCH:
            told = SEND if visit.on_previous else NONE
        else:
            return (SEND if visit.on_previous else NONE), (self.rows.index(row), row.good)
        row.data = visit.data
        row.is_seen(self.now)
        return told, (self.rows.index(row), row.good)

    def log_in(self, visit: Visit, row: Row) -> None:
        row.user, row.ends = visit.login, self.now + ABSOLUTE
        row.persistent = visit.remember
        row.is_seen(self.now)

    def create(self, visit: Visit) -> tuple[CookieAction, tuple[int, int] | None]:
        if visit.login is not None and self.fenced(visit):
            return NONE, None
        now = self.now
        row = Row(copy.deepcopy(visit.own), self.verifier(), now, now, now + IDLE, now + ABSOLUTE)
        self.rows.append(row)
        if visit.login is not None:
            self.log_in(visit, row)
        return SEND, (len(self.rows) - 1, row.good)

    def fenced(self, visit: Visit) -> bool:
        """A request that began in the moment of a revocation counts as begun before it; its own does not count."""
        fence = self.fences.get(visit.login or "")
        return fence is not None and fence >= self.now and fence != visit.fence

    def end_all(self, user: str, *, keep: Row | None = None) -> int:
        mine = [row for row in self.rows if row.user == user and self.lives(row) and row is not keep]
        for row in mine:
            row.ended = self.now
        self.fences[user] = self.now
        return len(mine)


# ------------------------------------------------------------------------------------- what a request does, both ways


@dataclass(frozen=True)
class Act:
    """One thing a handler does: to a session, and to the model's visit."""

    name: str
    key: str = ""
    value: Any = None

    def really(self, s: Session[Any]) -> Any:
        match self.name:
            case "set":
                s[self.key] = self.value
            case "nest":
                s.setdefault("dict", {})[self.key] = self.value
            case "delete":
                return s.pop(self.key, "missing")
            case "clear":
                s.clear()
            case "count":
                return s.increment("n")
            case "login":
                s.login(self.key)
            case "remember":
                s.login(self.key, remember=True)
            case "take":
                return s.take(self.key, "missing")
            case "end all":
                return s.end_all(self.key)
            case _:
                getattr(s, self.name)()
        return None


def imagined(act: Act, visit: Visit, model: Model) -> Any:
    """The same in the model. A change of a container or a number that was there is a change of the whole session's only."""
    data, own, key, value = visit.data, visit.own, act.key, act.value
    match act.name:
        case "set":
            data[key] = own[key] = value
        case "nest":
            data["dict"] = data.get("dict", {}) | {key: value}
            before = visit.row.data.get("dict", {}) if visit.row and not visit.cleared else {}
            fresh = {k: v for k, v in data["dict"].items() if k not in before or before[k] != v}
            own["dict"] = fresh
        case "delete":
            own.pop(key, None)
            visit.deleted |= {key} & data.keys()
            return data.pop(key, "missing")
        case "clear":
            data.clear()
            own.clear()
            visit.cleared = visit.row is not None
        case "count":
            counted = data.get("n", 0) + 1
            if "n" in own or "n" not in data:
                own["n"] = counted
            data["n"] = counted
            return counted
        case "login" | "remember":
            visit.login, visit.remember = key, act.name == "remember"
        case "logout":
            imagined(Act("clear"), visit, model)
            visit.login, visit.logout, visit.regenerate = None, True, False
        case "end all":
            ended = model.end_all(key)
            visit.fence = model.now
            return ended
        case "take":
            return _taken(key, visit, model)
        case _:
            setattr(visit, act.name, True)
    return None


def _taken(key: str, visit: Visit, model: Model) -> Any:
    row = visit.row
    stored = row is not None and row.ended is None and key in row.data
    replaced = visit.cleared or key in visit.deleted  # what is stored is nothing to this request any more
    if stored and row is not None and not replaced and visit.data.get(key, row) == row.data[key]:
        row.data = {name: value for name, value in row.data.items() if name != key}
        row.is_seen(model.now)
    visit.own.pop(key, None)
    return visit.data.pop(key, "missing")


# ---------------------------------------------------------------------------------------------------------- the machine

VALUES = st.integers(0, 3) | st.sampled_from(["x", None, [1], {"k": 1}])
ACTS = st.one_of(
    st.builds(Act, st.just("set"), st.sampled_from(("a", "b")), VALUES),
    st.builds(Act, st.just("nest"), st.sampled_from(KEYS), st.integers(0, 2)),
    st.builds(Act, st.just("delete"), st.sampled_from(KEYS)),
    st.builds(Act, st.sampled_from(("clear", "count", "touch", "regenerate", "logout"))),
    st.builds(Act, st.sampled_from(("login", "remember")), st.sampled_from(USERS)),
)
BROWSERS = st.integers(0, 2)
# A request takes a second: the round numbers are met to the second, and missed by one.
LATER = st.sampled_from(
    [0, 0, 0, 8, 9, 10, 58, 59, 60, 3598, 3599, 3600, 43_200, 86_398, 86_399, 20 * 86_400]
)


class Agreement(RuleBasedStateMachine):
    """Three browsers, two stores, one model."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.file = SQLiteStore(Path(self.folder.name) / "sessions.db", monotonic=lambda: self.model.now)
        self.model = Model()
        self.servers = [
            Server(MemoryStore(monotonic=lambda: self.model.now)),
            Server(self.file.blocking()),
        ]
        self.browsers = [[server.browser() for _ in range(3)] for server in self.servers]
        self.cookies: list[tuple[int, int] | None] = [None, None, None]
        self.old: list[tuple[tuple[int, int] | None, list[Any]]] = []
        self.passes(1)

    def teardown(self) -> None:
        self.file.close()
        self.folder.cleanup()

    def passes(self, seconds: float) -> None:
        self.model.now += seconds
        for server in self.servers:
            server.now = self.model.now

    @rule(browser=BROWSERS, after=LATER, acts=st.lists(ACTS, max_size=3))
    def request(self, browser: int, after: float, acts: list[Act]) -> None:
        self.passes(after)
        self.serve(browser, acts)

    @rule(browser=BROWSERS, user=st.sampled_from(USERS))
    def log_in(self, browser: int, user: str) -> None:
        self.serve(browser, [Act("login", user)])

    @rule(
        browser=BROWSERS,
        key=st.sampled_from(KEYS),
        before=st.lists(ACTS.filter(lambda act: act.name == "set"), max_size=1),
    )
    def take(self, browser: int, key: str, before: list[Act]) -> None:
        self.serve(browser, [*before, Act("take", key)])

    @rule(browser=BROWSERS, user=st.sampled_from(USERS))
    def change_the_password(self, browser: int, user: str) -> None:
        self.serve(browser, [Act("end all", user), Act("set", "a", "changed"), Act("login", user)])

    @rule(browser=BROWSERS)
    def come_without_looking_at_the_session(self, browser: int) -> None:
        for server, browsers in zip(self.servers, self.browsers, strict=True):
            with server.commands():
                assert browsers[browser].end(server.sessions.session(browsers[browser].ticket)) is NONE

    @rule(user=st.sampled_from(USERS), keep=st.none() | BROWSERS)
    def an_administrator_ends_all(self, user: str, keep: int | None) -> None:
        kept = None if keep is None else self.cookies[keep]
        expected = self.model.end_all(user, keep=None if kept is None else self.model.rows[kept[0]])
        for server, browsers in zip(self.servers, self.browsers, strict=True):
            ticket = None if keep is None else browsers[keep].ticket
            ended = server.sessions.of(user).end_all(keep=ticket.locator if ticket else None)
            assert ended == expected
        self.passes(1)

    @rule(browser=BROWSERS, other=BROWSERS)
    def copy_a_cookie(self, browser: int, other: int) -> None:
        """An attacker's, planted; or a backup of the browser's profile."""
        self.cookies[browser] = self.cookies[other]
        for browsers in self.browsers:
            browsers[browser].ticket = browsers[other].ticket

    @precondition(lambda self: self.old)
    @rule(browser=BROWSERS, back=st.integers(1, 4), after=LATER, acts=st.lists(ACTS, max_size=1))
    def come_back(self, browser: int, back: int, after: float, acts: list[Act]) -> None:
        self.with_an_old_cookie(browser, back, after, acts)

    def with_an_old_cookie(self, browser: int, back: int, after: float, acts: list[Act]) -> None:
        """Its answer got lost, or it was overtaken."""
        self.cookies[browser], tickets = self.old[-min(back, len(self.old))]
        for browsers, ticket in zip(self.browsers, tickets, strict=True):
            browsers[browser].ticket = ticket
        self.passes(after)
        self.serve(browser, acts)

    @rule(browser=BROWSERS, seen=st.booleans(), after=LATER, acts=st.lists(ACTS, max_size=1))
    def miss_the_answer_of_a_renewal(self, browser: int, seen: bool, after: float, acts: list[Act]) -> None:
        self.serve(browser, [Act("login", "ada")])
        self.passes(3599)
        for _ in range(1 + seen):
            self.serve(browser, [])
        self.with_an_old_cookie(browser, 1, after, acts)

    @rule(browser=BROWSERS)
    def forget_the_cookie(self, browser: int) -> None:
        self.cookies[browser] = None
        for browsers in self.browsers:
            browsers[browser].ticket = None

    @rule()
    def sweep(self) -> None:
        for server in self.servers:
            run_now(server.line.store.sweep(now=server.now))

    def serve(self, number: int, acts: list[Act]) -> None:
        held = self.cookies[number], [browsers[number].ticket for browsers in self.browsers]
        visit = self.model.open(self.cookies[number])
        sessions = [browsers[number].begin() for browsers in self.browsers]
        for session in sessions:
            assert (session._standing.value, session._on_previous) == (visit.standing, visit.on_previous)
            assert dict(session) == visit.data
            assert session.user_id == (visit.row.user if visit.row else None)
        for act in acts:
            expected = imagined(act, visit, self.model)
            assert [act.really(session) for session in sessions] == [expected, expected], act
        for session in sessions:
            assert dict(session) == visit.data
        told, cookie = self.model.commit(visit)
        assert [b[number].end(s) for b, s in zip(self.browsers, sessions, strict=True)] == [told, told]
        if told is not NONE:
            self.cookies[number] = cookie
            self.old += [held] if held[0] is not None else []
        self.passes(1)

    @invariant()
    def both_stores_agree_to_the_letter(self) -> None:
        tickets = [[browser.ticket for browser in browsers] for browsers in self.browsers]
        assert tickets[0] == tickets[1]

    @invariant()
    def everybody_knows_how_many_there_are_and_whose(self) -> None:
        alive = [row for row in self.model.rows if self.model.lives(row)]
        for server in self.servers:
            assert server.count() == len(alive)
            for user in USERS:
                devices = server.sessions.of(user).list()
                assert len(devices) == len([row for row in alive if row.user == user])
                ends = sorted(device.expires_at.timestamp() for device in devices)
                assert ends == sorted(row.deadline for row in alive if row.user == user)


TestAgreement = Agreement.TestCase
TestAgreement.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


FAULTS: dict[str, dict[str, Any]] = {
    "a session lives a second longer": {"IDLE": IDLE + 1},
    "what ended is known to be late for a second longer": {"DETACHED": DETACHED + 1},
    "a login is renewed a second later": {"RENEWAL": RENEWAL + 1},
    "the previous verifier is good for no second": {"OVERLAP": 0.0},
    "reading moves the deadline each time": {"TOUCH": 0.0},
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_model_that_is_wrong_is_found_out(fault: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Agreement with anything would prove nothing."""
    for name, value in fault.items():
        monkeypatch.setitem(globals(), name, value)
    quick = settings(
        TestAgreement.settings, max_examples=400, phases=[Phase.generate], database=None, derandomize=True
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Agreement, settings=quick)
