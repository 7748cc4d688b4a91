"""The table of `decide`, row by row, and what must hold in every situation there can be."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from coatcheck.core import drafts
from coatcheck.core.decide import Action, Decision, Situation, decide
from coatcheck.core.options import Options
from coatcheck.core.policy import Timeouts
from coatcheck.core.record import Lifetime
from coatcheck.core.session import CookieAction, Phase, Standing
from coatcheck.lifecycle import Lifecycle, _Draft
from coatcheck.stores.memory import MemoryStore
from tests.core.sessions import NOW, Plain, live, new

NONE, SEND, CLEAR = CookieAction.NONE, CookieAction.SEND, CookieAction.CLEAR
NEW, LIVE, DETACHED = Standing.NEW, Standing.LIVE, Standing.DETACHED
FLAGS = tuple(name for name in Situation._fields if name != "standing")

ROWS: list[tuple[str, Situation, Action, CookieAction]] = [
    ("detached, login()", Situation(DETACHED, login=True), Action.CREATE, SEND),
    (
        "detached, anything else",
        Situation(DETACHED, changed=True, save_uninitialized=True),
        Action.NOTHING,
        NONE,
    ),
    (
        "detached, logout() of what had ended",
        Situation(DETACHED, logout=True, over=True, changed=True),
        Action.DELETE_AGAIN,
        NONE,
    ),
    ("detached, logout() of nothing", Situation(DETACHED, logout=True), Action.NOTHING, NONE),
    ("new, login()", Situation(NEW, login=True), Action.CREATE, SEND),
    ("new, changed", Situation(NEW, changed=True), Action.CREATE, SEND),
    ("new, save_uninitialized", Situation(NEW, save_uninitialized=True), Action.CREATE, SEND),
    ("new, anything else", Situation(NEW, touch=True, rolling=True, regenerate=True), Action.NOTHING, NONE),
    ("live, logout()", Situation(LIVE, logout=True), Action.DELETE, CLEAR),
    ("live, logout() then login()", Situation(LIVE, logout=True, login=True), Action.DELETE, CLEAR),
    ("live, login() as another", Situation(LIVE, login=True, other_user=True), Action.SWITCH, SEND),
    ("live, login()", Situation(LIVE, login=True), Action.ROTATE, SEND),
    ("live, regenerate()", Situation(LIVE, regenerate=True), Action.ROTATE, SEND),
    ("live, the verifier's age", Situation(LIVE, renewal_due=True), Action.RENEW, SEND),
    (
        "live, the verifier's age, changed",
        Situation(LIVE, renewal_due=True, changed=True),
        Action.RENEW,
        SEND,
    ),
    ("live, changed", Situation(LIVE, changed=True), Action.REPLACE, NONE),
    ("live, changed and rolling", Situation(LIVE, changed=True, rolling=True), Action.REPLACE, SEND),
    ("live, changed, again", Situation(LIVE, changed=True, again=True), Action.REPLACE, SEND),
    ("live, changed, persistent", Situation(LIVE, changed=True, persistent=True), Action.REPLACE, SEND),
    ("live, resave or first sight", Situation(LIVE, forced=True), Action.REPLACE, NONE),
    ("live, resave, persistent", Situation(LIVE, forced=True, persistent=True), Action.REPLACE, NONE),
    ("live, touch", Situation(LIVE, touch=True), Action.TOUCH, NONE),
    ("live, touch, persistent", Situation(LIVE, touch=True, persistent=True), Action.TOUCH, NONE),
    ("live, touch, again", Situation(LIVE, touch=True, again=True), Action.TOUCH, SEND),
    ("live, rolling", Situation(LIVE, rolling=True), Action.TOUCH, SEND),
    ("live, again", Situation(LIVE, again=True), Action.NOTHING, SEND),
    ("live, anything else", Situation(LIVE, persistent=True, save_uninitialized=True), Action.NOTHING, NONE),
]


@pytest.mark.parametrize(
    ("situation", "action", "cookie"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_the_table(situation: Situation, action: Action, cookie: CookieAction) -> None:
    assert decide(situation) == Decision(action, cookie)


@pytest.mark.parametrize("situation", [row[1] for row in ROWS], ids=[row[0] for row in ROWS])
def test_the_table_once_the_headers_have_left(situation: Situation) -> None:
    """Data may still be written; nothing that would have to be announced is done."""
    decided = decide(situation._replace(headers_sent=True))
    assert decided.cookie is NONE
    assert decided.action in (Action.NOTHING, Action.REPLACE, Action.TOUCH)


def situations() -> Iterator[Situation]:
    """Every one there can be, 131,072, and then some that cannot."""
    for standing in Standing:
        for flags in product((False, True), repeat=len(FLAGS)):
            yield Situation(standing, *flags)


def test_what_holds_in_every_situation() -> None:
    work = decide.__wrapped__  # not through the cache: 131,072 entries nobody asks for again
    for s in situations():
        action, cookie = work(s)
        if s.headers_sent:
            assert cookie is NONE, s
            assert action in (Action.NOTHING, Action.REPLACE, Action.TOUCH), s
        if s.standing is not LIVE:
            assert action in (Action.NOTHING, Action.CREATE, Action.DELETE_AGAIN), s
        if s.standing is DETACHED and not s.login:
            assert action in (Action.NOTHING, Action.DELETE_AGAIN), s
            assert cookie is NONE, s  # rule 4
        if action is Action.DELETE_AGAIN:
            assert s.logout, s
            assert s.over, s
        if action in (Action.CREATE, Action.SWITCH, Action.ROTATE, Action.RENEW):
            assert cookie is SEND, s  # a new secret that the browser does not hear of ends its session
        assert (cookie is CLEAR) == (action is Action.DELETE), s
        if action is Action.DELETE:
            assert s.logout, s
        if s.logout and s.standing is LIVE and not s.headers_sent:
            assert action is Action.DELETE, s  # whatever else the request meant
        if s.login and s.other_user and s.standing is LIVE and not s.headers_sent and not s.logout:
            assert action is Action.SWITCH, s  # rule 5
        if s.changed and s.standing is LIVE:
            assert action not in (Action.NOTHING, Action.TOUCH), s  # no change is forgotten
        if s.changed and s.standing is NEW and not s.headers_sent:
            assert action is Action.CREATE, s
        if action is Action.NOTHING and cookie is SEND:
            assert s.again, s


# ----------------------------------------------------------------------- the short ways of lifecycle agree with it


def lifecycles() -> Iterator[Lifecycle]:
    for resave, save_uninitialized, rolling in product((False, True), repeat=3):
        options = Options(resave=resave, save_uninitialized=save_uninitialized, rolling=rolling)
        yield Lifecycle(MemoryStore(), options)
    yield Lifecycle(MemoryStore(), Options(timeouts=Timeouts(renewal=None)))


def sessions(base: Plain) -> Iterator[Plain]:
    """This session, after requests that did all kinds of things, and came in all kinds of ways."""
    kinds: dict[str, tuple[Any, ...]] = {
        "changed": (False, True),
        "login": (None, "42", "43"),
        "meant": ("", "logout", "regenerate", "touch", "modified", "cookie"),
        "on_previous": (False, True),
        "reissue": (False, True),
        "phase": (Phase.OPEN, Phase.STREAMING),
    }
    for changed, login, meant, on_previous, reissue, phase in product(*kinds.values()):
        session = Plain()
        session._standing, session._record = base._standing, base._record
        session._open()
        if changed:
            session["a"] = "changed"
        if login:
            session.login(login)
        if meant == "modified":
            session.modified = True
        elif meant == "cookie":
            session.cookie.max_age = 90
        elif meant:
            getattr(session, meant)()
        session._on_previous, session._reissue, session._phase = on_previous, reissue, phase
        session._meant |= on_previous or reissue  # as whoever finds these out notes it
        yield session


def stored() -> Iterator[Plain]:
    """Sessions of all ages and kinds, as loaded."""
    yield new()
    detached = Plain()
    detached._standing = DETACHED
    yield detached
    kinds: dict[str, tuple[Any, ...]] = {
        "user": (None, "42"),
        "seen": (0.0, 59.0, 61.0),
        "age": (0.0, 3599.0, 3601.0),
        "lifetime": (None, Lifetime(90.0, persistent=True), Lifetime(None, persistent=False)),
        "renewal": ("none", "unseen", "seen"),
    }
    for user, seen, age, lifetime, renewal in product(*kinds.values()):
        if seen > age:
            continue
        session = live({"a": 1}, user_id=user, seen_at=NOW - seen, created_at=NOW - age, lifetime=lifetime)
        assert session._record is not None
        if renewal != "none":
            session._record, _ = drafts.renewed(session._record, "v" * 44, "nonce", NOW - age)
        if renewal == "seen":
            session._record = drafts.seen(session._record, NOW - seen)
        yield session


def requests() -> Iterator[Plain]:
    for base in stored():
        yield from sessions(base)


def test_idle_is_told_only_where_the_table_says_nothing() -> None:
    idle, rules = 0, list(lifecycles())
    for session in requests():
        parts = session._changes().sets
        draft = _Draft(session._record, parts, bool(parts))
        for lifecycle in rules:
            if lifecycle.rules.idle(session, NOW):
                idle += 1
                decided = decide(
                    lifecycle.rules.situation(session, draft.record, draft.parts, draft.changed, NOW)
                )
                assert decided == Decision(Action.NOTHING, NONE), (session, session._record)
    assert idle > 100


def test_the_usual_write_is_told_only_where_the_table_says_so() -> None:
    usual, rules = 0, list(lifecycles())
    for session in requests():
        record, parts = session._record, session._assigned_parts()
        if record is None:
            continue
        for lifecycle in rules:
            if not session._meant and lifecycle.rules.is_usual(record, NOW):
                assert (parts is not None) == session.modified
                if parts is not None:
                    usual += 1
                    decided = decide(lifecycle.rules.situation(session, record, parts, True, NOW))
                    assert decided == Decision(Action.REPLACE, NONE)
    assert usual > 100


def test_a_request_that_does_not_touch_its_session_is_idle_unless_the_options_ask() -> None:
    for lifecycle in lifecycles():
        for session in stored():
            options = lifecycle.options
            asked = options.resave or options.save_uninitialized or options.rolling
            assert lifecycle.rules.idle(session, NOW) is not asked


def test_a_reading_request_is_idle_wherever_the_table_says_nothing() -> None:
    for lifecycle in lifecycles():
        for session in stored():
            session._open()
            draft = _Draft(session._record, session._base or {}, False)
            nothing = decide(
                lifecycle.rules.situation(session, draft.record, draft.parts, draft.changed, NOW)
            ) == Decision(Action.NOTHING, NONE)
            if session._record is not None and not lifecycle.rules.every_request:
                assert lifecycle.rules.idle(session, NOW) is nothing
