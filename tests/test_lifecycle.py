"""The flows, one by one, over the memory store: with time in the test's hand, answers that get lost and others in between."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from coatcheck import (
    AsyncSessionManager,
    Clock,
    ConfigurationError,
    LoginRefused,
    Options,
    Session,
    SessionConflict,
    SessionGone,
    SessionTooLarge,
    StoreError,
    StoreUnavailable,
    Timeouts,
    Uncertain,
)
from coatcheck import lifecycle as lifecycle_module
from coatcheck.core.ids import Ticket, digest
from coatcheck.core.ports import CHANGED
from coatcheck.core.record import Ended, Record
from coatcheck.core.session import CookieAction, Standing
from coatcheck.errors import CorruptRecord
from coatcheck.stores.memory import MemoryStore
from tests.visits import START, Browser, ByUserVerbs, Line, Server

NONE, SEND, CLEAR = CookieAction.NONE, CookieAction.SEND, CookieAction.CLEAR
HOUR, DAY = 3600.0, 86_400.0


def put(**data: Any) -> Callable[[Session[Any]], None]:
    return lambda session: session.update(data)


def log_in(user: str = "ada", **given: Any) -> Callable[[Session[Any]], None]:
    return lambda session: session.login(user, **given)


def count(session: Session[Any]) -> Any:
    return session.increment("n")


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def visitor(server: Server) -> Browser:
    """Somebody with an anonymous session, `{"n": 0}`."""
    browser = server.browser()
    browser.visit(put(n=0))
    server.events.clear()
    return browser


@pytest.fixture
def ada(server: Server, visitor: Browser) -> Browser:
    """The same, logged in."""
    server.now += 1
    visitor.visit(log_in("ada"))
    server.now += 1
    server.events.clear()
    return visitor


def key_of(browser: Browser) -> str:
    assert browser.ticket is not None
    return browser.ticket.locator


def record_of(browser: Browser) -> Record:
    record = browser.server.stored(key_of(browser))
    assert isinstance(record, Record)
    return record


# ------------------------------------------------------------------------------------------------ the cost of a request


def test_a_request_that_never_touches_its_session_sends_nothing(server: Server, visitor: Browser) -> None:
    with server.commands():
        session = server.sessions.session(visitor.ticket)
        assert server.sessions.commit(session) is NONE


def test_reading_is_one_command_and_writing_is_two(server: Server, visitor: Browser) -> None:
    with server.commands("load"):
        assert visitor.told(dict) is NONE
    with server.commands("load", "replace"):
        assert visitor.told(count) is NONE
    with server.commands("load", "replace"):
        visitor.visit(put(a=1))
    with server.commands("load"):
        visitor.visit(put(a=1))  # the same as before


def test_a_visitor_without_a_cookie_costs_one_command_if_any(server: Server) -> None:
    with server.commands():
        assert server.browser().told(dict) is NONE
    with server.commands("create"):
        assert server.browser().told(put(a=1)) is SEND
    with server.commands("admit"):
        assert server.browser().told(log_in()) is SEND


def test_logging_in_out_and_taking_are_two_commands(server: Server, visitor: Browser) -> None:
    with server.commands("load", "admit"):
        assert visitor.told(log_in()) is SEND
    with server.commands("load", "replace"):
        assert visitor.visit(lambda s: s.take("n")) == 0
    with server.commands("load", "replace"):
        assert visitor.told(lambda s: s.regenerate()) is SEND
    with server.commands("load", "delete"):
        assert visitor.told(lambda s: s.logout()) is CLEAR


# -------------------------------------------------------------------------------------------------------------- opening


def test_an_id_that_was_never_ours_is_not_adopted(server: Server) -> None:
    """DESIGN 5.2: an empty session, under a new id if it is ever stored."""
    eve = Browser(server, Ticket("locator-made-by-somebody", "v" * 44))
    assert eve.told(put(a=1)) is SEND
    assert key_of(eve) != "locator-made-by-somebody"
    assert server.told == ["session.unknown", "session.created"]


def test_a_locator_alone_opens_nothing(server: Server, visitor: Browser) -> None:
    """Rule 1: the handle is public."""
    eve = Browser(server, Ticket(key_of(visitor), "v" * 44))
    assert eve.data == {}
    assert eve.told(put(n="evil")) is SEND
    assert key_of(eve) != key_of(visitor)
    assert visitor.data == {"n": 0}


def test_a_ticket_may_bring_the_digest_of_its_verifier(server: Server, visitor: Browser) -> None:
    """It was worked out when the cookie was verified, so it is not worked out again."""
    assert visitor.ticket is not None
    key, verifier, _ = visitor.ticket
    visitor.ticket = Ticket(key, verifier, digest(verifier))
    assert visitor.data == {"n": 0}
    assert Browser(server, Ticket(key, verifier, digest("v" * 44))).data == {"n": 0}
    assert Browser(server, Ticket(key, "v" * 44, digest("v" * 44))).data == {}


def test_a_lazy_session_without_a_cookie_is_new(server: Server) -> None:
    session = server.sessions.session(Ticket("locator", "verifier"))
    session._ticket = None
    assert (session.is_new, dict(session)) == (True, {})


def test_an_expired_session_is_told_as_expired_where_the_store_knows(
    server: Server, visitor: Browser
) -> None:
    """Once: then the record is gone, and the store knows no more than of an id that was never ours."""
    server.now += DAY - 1
    assert visitor.data == {"n": 0}
    server.now += 1
    assert visitor.data == {}
    assert server.told == ["session.expired"]
    assert visitor.data == {}
    assert server.told == ["session.unknown"]


def test_a_record_that_cannot_be_read_is_no_session_and_no_error(server: Server, visitor: Browser) -> None:
    """Checklist 112."""

    def corrupt() -> None:
        raise CorruptRecord("not a record of ours")

    server.line.meanwhile("load", corrupt)
    before = visitor.ticket
    assert visitor.told(put(a=1)) is SEND
    assert visitor.ticket != before
    assert server.told == ["session.corrupt", "session.created"]


def test_data_that_cannot_be_read_are_no_session_and_no_error(server: Server, visitor: Browser) -> None:
    server.line.store._rows[key_of(visitor)] = _with(record_of(visitor), data=b"[]")
    assert visitor.data == {}
    assert visitor.told(put(a=1)) is SEND
    assert server.told == ["session.corrupt", "session.corrupt", "session.created"]


def _with(record: Record, **changes: Any) -> Record:
    fields = {name: getattr(record, name) for name in Record.__struct_fields__}
    return Record(**(fields | changes))


# ------------------------------------------------------------------------------------------------------------- creating


def test_a_new_session_is_told_of_and_found_again(server: Server) -> None:
    browser = server.browser()
    assert browser.told(put(a=1)) is SEND
    assert server.told == ["session.created"]
    assert browser.data == {"a": 1}
    record = record_of(browser)
    assert (record.created_at, record.deadline, record.ends_at) == (START, START + DAY, START + 30 * DAY)


def test_the_handle_is_the_same_before_and_after_it_is_stored(server: Server) -> None:
    session = server.sessions.session()
    early = session.handle
    session["a"] = 1
    server.sessions.commit(session)
    assert session.handle == early
    assert isinstance(server.stored(early), Record)


@pytest.mark.parametrize(
    "serve", [lambda s: s.clear(), lambda s: s.logout(), lambda s: s.flashes(), lambda s: s.get("a")]
)
def test_nothing_comes_of_nothing(server: Server, serve: Callable[[Session[Any]], Any]) -> None:
    assert server.browser().told(serve) is NONE
    assert server.count() == 0


def test_save_uninitialized_stores_every_visitor() -> None:
    server = Server(save_uninitialized=True)
    browser = server.browser()
    session = server.sessions.session(browser.ticket)
    assert browser.end(session) is SEND
    assert server.count() == 1
    assert browser.told(len) is NONE


def test_a_locator_that_is_taken_is_somebody_elses(server: Server) -> None:
    """A weak genid costs collisions, never a session (checklist 3)."""
    locators = iter(["taken-by-somebody", "taken-by-somebody", "taken-by-somebody", "free-as-a-bird-16"])
    server = Server(genid=lambda: next(locators))
    first, second = server.browser(), server.browser()
    first.visit(put(whose="first"))
    second.visit(put(whose="second"))
    assert (key_of(first), key_of(second)) == ("taken-by-somebody", "free-as-a-bird-16")
    assert (first.data, second.data) == ({"whose": "first"}, {"whose": "second"})


def test_a_genid_that_repeats_itself_for_ever_is_told() -> None:
    server = Server(genid=lambda: "always-the-same-one")
    server.browser().visit(put(a=1))
    with pytest.raises(StoreError, match="genid does not make unique ids"):
        server.browser().visit(put(a=2))


@pytest.mark.parametrize(
    "locator", ["short", "with space in the id", "x" * 129, "ünïcödé-ünïcödé-ünïcödé", "dots.are.not.in.it"]
)
def test_a_genid_that_makes_no_ids_is_told(locator: str) -> None:
    with pytest.raises(ConfigurationError, match="genid must return 16 to 128"):
        Server(genid=lambda: locator).browser().visit(put(a=1))


def test_more_data_than_allowed_is_refused_and_what_was_there_is_kept() -> None:
    server = Server(max_size=30)
    browser = server.browser()
    browser.visit(put(a="x" * 10))
    with pytest.raises(SessionTooLarge, match=r"37 octets, max_size=30"):
        browser.visit(put(a="x" * 29))
    with pytest.raises(SessionTooLarge):
        server.browser().visit(put(a="x" * 100))
    assert browser.data == {"a": "x" * 10}


# ----------------------------------------------------------------------------------------------- many writers at once


def test_changes_of_different_keys_both_survive(server: Server, visitor: Browser) -> None:
    one, other = visitor.begin(), visitor.begin()
    one["a"], other["b"] = 1, 2
    assert (visitor.end(one), visitor.end(other)) == (NONE, NONE)
    assert visitor.data == {"n": 0, "a": 1, "b": 2}
    assert server.told == []


def test_a_hundred_increments_all_count(server: Server, visitor: Browser) -> None:
    requests = [visitor.begin() for _ in range(100)]
    for session in requests:
        session.increment("n")
    for session in requests:
        visitor.end(session)
    assert visitor.data == {"n": 100}


def test_the_same_key_goes_to_the_later_commit_never_silently(server: Server, visitor: Browser) -> None:
    one, other = visitor.begin(), visitor.begin()
    one["n"], other["n"] = 1, 2
    visitor.end(one)
    visitor.end(other)
    assert visitor.data == {"n": 2}
    (event,) = server.events
    assert (event.name, event.handle, event.detail, event.at) == (
        "session.conflict",
        key_of(visitor),
        "n",
        START,
    )


def test_on_conflict_raise() -> None:
    server = Server(on_conflict="raise")
    browser = server.browser()
    browser.visit(put(n=0))
    one, other = browser.begin(), browser.begin()
    one["n"] = 1
    other.update(n=2, m=2)
    browser.end(one)
    with pytest.raises(SessionConflict, match="n; load the page again") as raised:
        browser.end(other)
    assert raised.value.keys == ("n",)
    assert browser.data == {"n": 1}


def test_a_resolver_settles_it() -> None:
    server = Server(merge={"tags": lambda base, theirs, mine: sorted({*theirs, *mine})})
    browser = server.browser()
    browser.visit(put(tags=["a"]))
    one, other = browser.begin(), browser.begin()
    one["tags"], other["tags"] = ["a", "b"], ["a", "c"]
    browser.end(one)
    browser.end(other)
    assert browser.data == {"tags": ["a", "b", "c"]}
    assert server.told == ["session.created"]


def test_an_operation_on_a_key_that_was_deleted_is_dropped_and_told(server: Server, visitor: Browser) -> None:
    """Rule 15."""
    one, other = visitor.begin(), visitor.begin()
    del one["n"]
    other.increment("n")
    visitor.end(one)
    visitor.end(other)
    assert visitor.data == {}
    assert server.told == ["session.dropped"]


def test_where_the_other_did_the_same_a_touch_still_counts(server: Server, visitor: Browser) -> None:
    server.now += 61
    one, other = visitor.begin(), visitor.begin()
    one["n"] = other["n"] = 5
    visitor.end(one)
    server.now += 61
    visitor.end(other)
    assert record_of(visitor).seen_at == server.now
    other["n"] = 6
    visitor.end(other)
    assert visitor.data == {"n": 6}
    assert server.told == []


def test_where_the_other_did_the_same_nothing_is_written_twice(server: Server, visitor: Browser) -> None:
    one, other = visitor.begin(), visitor.begin()
    one["n"] = other["n"] = 5
    visitor.end(one)
    before = record_of(visitor).versions
    assert visitor.end(other) is NONE
    assert record_of(visitor).versions == before
    other["n"] = 6  # and what is changed afterwards is a change of what is there now
    visitor.end(other)
    assert visitor.data == {"n": 6}


def test_a_stampede_ends_in_success(server: Server, visitor: Browser) -> None:
    """Each time somebody else was first."""
    session = visitor.begin()
    session.increment("n")
    server.line.meanwhile("replace", lambda: _count_directly(server, visitor), times=20)
    visitor.end(session)
    assert visitor.data == {"n": 21}


def _count_directly(server: Server, browser: Browser) -> None:
    """Another server's request, which does not come by this line."""
    other = Server(server.line.store)
    other.now, other.ids.made = server.now, server.ids.made + 1000
    server.ids.made += 1
    Browser(other, browser.ticket).visit(count)


def test_a_stampede_without_end_is_given_up(
    server: Server, visitor: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle_module, "ATTEMPTS", 5)

    async def always(_: Any) -> Any:
        return CHANGED

    changes: list[Callable[[Session[Any]], Any]] = [count, lambda s: s.take("n")]
    for change in changes:
        server.line.plans = [("replace", always)] * 6
        with pytest.raises(StoreUnavailable, match="first 5 times in a row"):
            visitor.visit(change)

    async def refused(_: Any) -> Any:
        return False

    server.line.plans = [("delete", refused)] * 6
    with pytest.raises(StoreUnavailable, match="first 5 times in a row"):
        visitor.visit(lambda s: s.logout())


def test_a_store_that_does_not_say_what_is_there_is_asked(server: Server, visitor: Browser) -> None:
    """`CHANGED` without the record, where fetching it would cost another round trip."""

    async def changed(_: Any) -> Any:
        return CHANGED

    server.line.plans.append(("replace", changed))
    with server.commands("load", "replace", "load", "replace"):
        visitor.visit(count)
    assert visitor.data == {"n": 1}


def test_data_that_were_torn_meanwhile_are_no_error(server: Server, visitor: Browser) -> None:
    """Checklist 112: there is nothing to merge with."""

    def tear() -> None:
        record = record_of(visitor)
        server.line.store._rows[record.key] = _with(record, data=b"[]", versions=("torn", *record.versions))

    server.line.meanwhile("replace", tear)
    assert visitor.told(count) is NONE
    assert server.told == ["session.corrupt", "session.gone"]


# ------------------------------------------------------------------------------------------------ what ended stays ended


def test_two_renewals_between_load_and_commit_leave_no_cookie(server: Server, ada: Browser) -> None:
    """The request knows neither successor: its change counts, its browser hears from somebody else."""
    slow, stale = ada.begin(), ada.other()
    for _ in range(2):
        server.now += HOUR
        ada.visit(len)
        ada.visit(len)
    slow["late"] = 1
    slow.touch()
    slow._reissue = True
    stale.end(slow)
    assert stale.ticket != ada.ticket
    assert slow._verifier is None
    assert ada.data == {"n": 0, "late": 1}


def test_a_slow_request_brings_nothing_back_after_a_logout(server: Server, visitor: Browser) -> None:
    """Promise 2: it gets no error, no cookie, and stores nothing."""
    slow = visitor.begin()
    slow["n"] = 99
    stale = visitor.other()
    visitor.visit(lambda s: s.logout())
    assert stale.end(slow) is NONE
    assert dict(slow) == {}
    assert slow.is_new
    assert isinstance(server.stored(key_of(stale)), Ended)
    assert server.told == ["session.ended", "session.gone"]
    slow["n"] = 100
    assert stale.end(slow) is NONE
    assert server.count() == 0


def test_a_late_request_is_detached_for_a_minute_and_then_as_without_a_cookie(
    server: Server, visitor: Browser
) -> None:
    late = visitor.other()
    visitor.visit(lambda s: s.logout())
    server.now += 59
    assert late.begin()._standing is Standing.DETACHED
    assert late.told(put(a=1)) is NONE
    assert server.count() == 0
    server.now += 1
    assert late.told(put(a=1)) is SEND
    assert server.count() == 1


def test_expiry_between_load_and_commit(server: Server, visitor: Browser) -> None:
    for change in (count, put(a=1), lambda s: s.touch(), lambda s: s.regenerate(), lambda s: s.take("n")):
        browser = server.browser()
        browser.visit(put(n=0))
        session = browser.begin()
        server.now += DAY
        change(session)
        assert browser.end(session) is NONE
        assert server.count() == 0


def test_a_login_over_a_session_that_expired_meanwhile_is_a_login(server: Server, visitor: Browser) -> None:
    """Rule 9: a correct password never ends in no session. Only this request's own changes go with it."""
    visitor.visit(put(planted="by an attacker"))
    session = visitor.begin()
    session["mine"] = 1
    session.login("ada")
    server.now += DAY
    assert visitor.end(session) is SEND
    assert (visitor.user, visitor.data) == ("ada", {"mine": 1})


# --------------------------------------------------------------------------------------- login, rotation, other users


def test_a_login_takes_a_new_verifier_and_leaves_nothing_to_the_old_one(
    server: Server, visitor: Browser
) -> None:
    """Rule 2: a planted cookie reads and writes nothing of the victim's session."""
    eve = visitor.other()
    assert visitor.told(log_in()) is SEND
    assert server.told == ["session.rotated", "login"]
    assert key_of(visitor) == key_of(eve)
    assert visitor.ticket != eve.ticket
    assert (visitor.user, visitor.data) == ("ada", {"n": 0})
    assert eve.begin()._standing is Standing.DETACHED
    assert eve.told(put(n="evil")) is NONE
    server.now += 60
    assert eve.told(put(n="evil")) is SEND  # rule 4: as no cookie at all
    assert visitor.data == {"n": 0}
    assert "session.superseded" in server.told
    assert record_of(visitor).epoch == 1


def test_what_was_under_way_when_somebody_logged_in_is_dropped(server: Server, visitor: Browser) -> None:
    """Rule 9: the older one's changes may be an attacker's."""
    for change in (count, put(a=1), lambda s: s.regenerate(), lambda s: s.touch(), lambda s: s.clear()):
        server.now += 1
        browser = server.browser()
        browser.visit(put(n=0))
        slow = browser.begin()
        change(slow)
        stale = browser.other()
        browser.visit(log_in())
        assert stale.end(slow) is NONE
        assert (browser.user, browser.data) == ("ada", {"n": 0})


def test_two_logins_at_once_are_two_sessions(server: Server, visitor: Browser) -> None:
    """Rule 9: each had a correct password."""
    one, other = visitor.begin(), visitor.begin()
    one.login("ada")
    other.login("ada")
    second = visitor.other()
    assert (visitor.end(one), second.end(other)) == (SEND, SEND)
    assert (visitor.user, second.user) == ("ada", "ada")
    assert key_of(visitor) != key_of(second)
    assert second.data == {}


def test_a_login_on_a_detached_session_begins_a_fresh_one(server: Server, visitor: Browser) -> None:
    late = visitor.other()
    visitor.visit(log_in("ada"))

    def serve(session: Session[Any]) -> None:
        session["mine"] = 1
        session.login("ada")

    assert late.told(serve) is SEND
    assert (late.user, late.data) == ("ada", {"mine": 1})
    assert key_of(late) != key_of(visitor)


def test_a_locator_never_changes_its_user(server: Server, ada: Browser) -> None:
    """Rule 5: an attacker plants his own logged-in cookie, and the victim logs in over it."""
    eve = ada.other()
    ada.visit(put(secret="of ada"))
    server.events.clear()

    def serve(session: Session[Any]) -> None:
        session["mine"] = 1
        session.login("bob")

    assert ada.told(serve) is SEND
    assert (ada.user, ada.data) == ("bob", {"mine": 1})
    assert key_of(ada) != key_of(eve)
    assert isinstance(server.stored(key_of(eve)), Ended)
    assert server.told == ["session.created", "login", "session.ended"]
    assert eve.told(count) is NONE


def test_the_same_user_again_keeps_the_session(server: Server, ada: Browser) -> None:
    ada.visit(put(cart=1))
    key = key_of(ada)
    server.now += 100
    ada.visit(log_in("ada", method="otp"))
    assert (key_of(ada), ada.data) == (key, {"n": 0, "cart": 1})
    record = record_of(ada)
    assert record.login is not None
    assert (record.epoch, record.login.method, record.authenticated_at) == (2, "otp", server.now)


def test_the_absolute_timeout_counts_from_the_login(server: Server) -> None:
    """Rule 6."""
    server = Server(timeouts=Timeouts(idle=20 * DAY, absolute=30 * DAY))
    browser = server.browser()
    browser.visit(put(n=0))
    server.now += 15 * DAY
    browser.visit(log_in())
    record = record_of(browser)
    assert (record.ends_at, record.deadline) == (server.now + 30 * DAY, server.now + 20 * DAY)
    server.now += 16 * DAY
    browser.visit(count)
    record = record_of(browser)
    assert record.deadline == record.ends_at == START + 45 * DAY
    server.now += 14 * DAY
    assert browser.data == {}


def test_regenerate_keeps_the_login_and_its_timeout(server: Server, ada: Browser) -> None:
    before, old = record_of(ada), ada.other()
    server.now += 500
    assert ada.told(lambda s: s.regenerate()) is SEND
    after = record_of(ada)
    assert (after.epoch, after.ends_at, after.authenticated_at) == (
        2,
        before.ends_at,
        before.authenticated_at,
    )
    assert old.begin()._standing is Standing.DETACHED
    assert server.told == ["session.rotated"]


def test_only_listed_keys_cross_into_a_login() -> None:
    """Checklist 55."""
    server = Server(login_keeps={"cart"})
    browser = server.browser()
    browser.visit(put(cart=[1], planted=True))

    def serve(session: Session[Any]) -> None:
        session["own"] = 1
        session.increment("visits")
        session.login("ada")

    browser.visit(serve)
    assert browser.data == {"cart": [1], "own": 1, "visits": 1}
    browser.visit(put(more=1))
    browser.visit(log_in("ada"))
    assert browser.data == {"cart": [1], "own": 1, "visits": 1, "more": 1}


def test_remember_me_is_a_longer_and_persistent_session_until_the_next_login(
    server: Server, visitor: Browser
) -> None:
    visitor.visit(log_in(remember=True))
    record = record_of(visitor)
    assert record.lifetime is not None
    assert (record.lifetime.idle, record.lifetime.persistent) == (30 * DAY, True)
    assert visitor.visit(lambda s: s.cookie.max_age) == 30 * DAY
    assert visitor.told(count) is SEND  # the browser is to hear of the new deadline
    server.now += 1
    visitor.visit(log_in("ada"))
    assert record_of(visitor).lifetime is None
    assert record_of(visitor).deadline == server.now + DAY


def test_a_lifetime_of_its_own_may_be_shorter_and_may_be_taken_back(server: Server, visitor: Browser) -> None:
    """Rule 11: deadlines only move forward, unless this request itself changed the lifetime."""

    def lasts(seconds: float | None) -> Callable[[Session[Any]], None]:
        return lambda session: setattr(session.cookie, "max_age", seconds)

    visitor.visit(lasts(60))
    assert record_of(visitor).deadline == START + 60
    assert visitor.told(lasts(60)) is NONE  # as it was
    visitor.visit(lasts(None))
    assert record_of(visitor).deadline == START + DAY
    assert visitor.visit(lambda s: s.cookie.max_age) is None


def test_a_lifetime_given_with_the_login_is_kept(server: Server) -> None:
    browser = server.browser()

    def serve(session: Session[Any]) -> None:
        session.cookie.max_age = 90
        session.login("ada", remember=True)

    browser.visit(serve)
    assert record_of(browser).deadline == START + 90


# --------------------------------------------------------------------------------------------- renewal, to the second


@pytest.fixture
def renewed(server: Server, ada: Browser) -> tuple[Browser, Browser]:
    """(the browser with the new cookie, one whose answer got lost), an hour after the login."""
    late = ada.other()
    server.now += HOUR
    assert ada.told(len) is SEND
    assert server.told == ["session.renewed"]
    assert ada.ticket != late.ticket
    assert key_of(ada) == key_of(late)
    return ada, late


def test_a_login_is_renewed_by_the_age_of_its_verifier(server: Server, ada: Browser) -> None:
    server.now = START + HOUR  # a second before: ada logged in at START + 1
    assert ada.told(len) is NONE
    server.now += 1
    assert ada.told(len) is SEND
    server.now += HOUR - 1
    assert ada.told(len) is NONE
    server.now += 1
    assert ada.told(len) is SEND


def test_anonymous_sessions_are_not_renewed_nor_is_anybody_without_renewal(
    server: Server, visitor: Browser
) -> None:
    server.now += 10 * HOUR
    assert visitor.told(len) is NONE
    server = Server(timeouts=Timeouts(renewal=None))
    browser = server.browser()
    browser.visit(log_in())
    server.now += 10 * HOUR
    assert browser.told(len) is NONE


def test_who_comes_with_the_previous_verifier_gets_the_same_successor_again(
    server: Server, renewed: tuple[Browser, Browser]
) -> None:
    """Rule 3: the answer that was lost costs nothing, however late the next request is."""
    new, late = renewed
    server.now += 20 * HOUR
    for _ in range(2):
        again = late.other()
        assert again.told(len) is SEND
        assert again.ticket == new.ticket
    assert late.other().told(count) is SEND
    assert new.data == {"n": 1}


def test_the_previous_verifier_lasts_ten_seconds_from_the_first_sight_of_the_new(
    server: Server, renewed: tuple[Browser, Browser]
) -> None:
    new, late = renewed
    server.now += 100
    with server.commands("load", "replace"):  # one small write a renewal
        assert new.told(len) is NONE
    with server.commands("load"):
        assert new.told(len) is NONE
    seen = server.now
    server.now = seen + 9.999
    assert late.other().told(count) is SEND
    server.now = seen + 10
    assert late.begin()._standing is Standing.DETACHED
    assert late.told(count) is NONE
    server.now = seen + 69.999
    assert late.told(count) is NONE
    server.now = seen + 70
    assert late.begin()._standing is Standing.NEW
    assert new.data == {"n": 1}


def test_requests_in_flight_finish_over_a_renewal(server: Server, ada: Browser) -> None:
    server.now += HOUR - 1
    flying = [ada.begin() for _ in range(3)]
    late = ada.other()
    server.now += 1
    assert ada.told(count) is SEND
    for number, session in enumerate(flying):
        session[f"k{number}"] = number
        again = late.other()
        assert again.end(session) is SEND
        assert again.ticket == ada.ticket
    assert ada.data == {"n": 1, "k0": 0, "k1": 1, "k2": 2}
    assert server.told.count("session.renewed") == 1


def test_a_second_write_of_the_renewing_request_is_not_the_first_sight(server: Server, ada: Browser) -> None:
    server.now += HOUR
    session = ada.begin()
    session["a"] = 1
    session.save()
    session["a"] = 2
    assert ada.end(session) is SEND
    record = record_of(ada)
    assert record.renewal is not None
    assert record.renewal.seen_at is None


def test_reloading_over_a_renewal_is_not_the_first_sight_either(server: Server, ada: Browser) -> None:
    server.now += HOUR - 1
    slow, late = ada.begin(), ada.other()
    server.now += 1
    ada.visit(len)
    slow.reload()
    slow["a"] = 1
    assert late.end(slow) is SEND
    assert late.ticket == ada.ticket
    record = record_of(ada)
    assert record.renewal is not None
    assert record.renewal.seen_at is None


# ------------------------------------------------------------------------------------------------------------- touching


def test_reading_moves_the_deadline_once_a_minute(server: Server, visitor: Browser) -> None:
    server.now += 59
    with server.commands("load"):
        visitor.visit(len)
    server.now += 1
    with server.commands("load", "touch"):
        assert visitor.told(len) is NONE
    record = record_of(visitor)
    assert (record.seen_at, record.deadline) == (server.now, server.now + DAY)


def test_touch_counts_at_once_and_never_moves_the_version(server: Server, visitor: Browser) -> None:
    before = record_of(visitor)
    server.now += 5
    with server.commands("load", "touch"):
        visitor.visit(lambda s: s.touch())
    after = record_of(visitor)
    assert (after.deadline, after.versions) == (before.deadline + 5, before.versions)


def test_a_touch_that_came_second_is_fine_and_sends_no_cookie() -> None:
    """Rule 11."""
    server = Server(rolling=True)
    browser = server.browser()
    assert browser.told(put(n=0)) is SEND
    assert browser.told(len) is SEND
    one, other = browser.begin(), browser.begin()
    one["n"] = 1
    assert browser.end(one) is SEND
    assert browser.end(other) is NONE


def test_a_touch_does_not_go_past_the_absolute_deadline() -> None:
    server = Server(timeouts=Timeouts(idle=100, absolute=150))
    browser = server.browser()
    browser.visit(put(n=0))
    server.now += 90
    browser.visit(len)
    assert record_of(browser).deadline == START + 150


def test_rolling_and_resave_look_at_every_request() -> None:
    for options, command in (({"rolling": True}, "touch"), ({"resave": True}, "replace")):
        server = Server(**options)
        browser = server.browser()
        browser.visit(put(n=0))
        with server.commands("load", command):
            assert browser.told(len) is (SEND if "rolling" in options else NONE)


def test_resave_never_puts_old_data_back() -> None:
    """Unlike express-session's (express-semantics 5.8)."""
    server = Server(resave=True)
    browser = server.browser()
    browser.visit(put(n=0))
    idle, busy = browser.begin(), browser.begin()
    busy["n"] = 1
    browser.end(busy)
    browser.end(idle)
    assert browser.data == {"n": 1}


def test_modified_writes_regardless(server: Server, visitor: Browser) -> None:
    with server.commands("load", "replace"):
        visitor.visit(lambda s: setattr(s, "modified", True))


# -------------------------------------------------------------------------------------------------------------- logging out


def test_a_logout_ends_the_session_here_and_there(server: Server, ada: Browser) -> None:
    old = ada.other()
    assert ada.told(lambda s: s.logout()) is CLEAR
    assert ada.ticket is None
    assert server.told == ["session.ended"]
    assert isinstance(server.stored(key_of(old)), Ended)


def test_what_is_set_after_a_logout_begins_a_new_session(server: Server, ada: Browser) -> None:
    old = key_of(ada)

    def serve(session: Session[Any]) -> None:
        session["before"] = 1
        session.logout()
        session.flash("Goodbye")

    assert ada.told(serve) is SEND
    assert key_of(ada) != old
    assert (ada.user, ada.data) == (None, {"_flashes": [("message", "Goodbye")]})
    assert isinstance(server.stored(old), Ended)


def test_logging_out_and_in_again_is_a_new_session(server: Server, ada: Browser) -> None:
    old = key_of(ada)

    def serve(session: Session[Any]) -> None:
        session.logout()
        session.login("bob")

    assert ada.told(serve) is SEND
    assert (ada.user, ada.data, key_of(ada) == old) == ("bob", {}, False)


def test_a_logout_over_a_later_change_still_ends_it(server: Server, ada: Browser) -> None:
    """Rule 10: the user is the one it loaded, whatever the epoch."""
    for change in (count, log_in("ada"), lambda s: s.regenerate()):
        server.now += 1
        browser = server.browser()
        browser.visit(log_in("ada"))
        leaving = browser.begin()
        leaving.logout()
        browser.visit(change)
        assert browser.end(leaving) is CLEAR
        assert browser.ticket is None
    assert [event.name for event in server.events].count("session.ended") == 3


def test_an_anonymous_logout_does_not_end_the_login_that_came_first(server: Server, visitor: Browser) -> None:
    """Rule 10: an attacker could do it."""
    leaving = visitor.begin()
    leaving.logout()
    leaving["after"] = 1
    stale = visitor.other()
    visitor.visit(log_in("ada"))
    assert stale.end(leaving) is NONE
    assert (visitor.user, visitor.data) == ("ada", {"n": 0})
    assert server.count() == 1


def test_of_two_logouts_one_clears_the_cookie(server: Server, ada: Browser) -> None:
    one, other = ada.begin(), ada.begin()
    one.logout()
    other.logout()
    assert ada.end(one) is CLEAR
    assert ada.end(other) is NONE


def test_of_a_request_that_failed_only_a_logout_is_kept(server: Server, ada: Browser) -> None:
    session = ada.begin()
    session["n"] = 5
    assert server.sessions.commit(session, only_logout=True) is NONE
    assert ada.data == {"n": 0}

    session = ada.begin()
    session.logout()
    session["after"] = 1
    assert server.sessions.commit(session, only_logout=True) is CLEAR
    assert dict(session) == {}
    assert server.count() == 0

    session = ada.begin()  # detached by now
    session.logout()
    assert server.sessions.commit(session, only_logout=True) is NONE


def test_a_failed_request_whose_logout_came_second_says_nothing(server: Server, ada: Browser) -> None:
    session = ada.begin()
    session.logout()
    ada.other().visit(lambda s: s.logout())
    assert server.sessions.commit(session, only_logout=True) is NONE


# ---------------------------------------------------------------------------------------------------- replies that got lost


@pytest.mark.parametrize("carried_out", [True, False])
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize(
    ("verb", "serve", "expected"),
    [
        ("replace", count, {"n": 1}),
        ("replace", put(n=7), {"n": 7}),
        ("replace", lambda s: s.regenerate(), {"n": 0}),
        ("touch", lambda s: s.touch(), {"n": 0}),
        ("admit", log_in("bob"), {"n": 0}),
        ("replace", lambda s: s.take("n"), {}),
    ],
    ids=["increment", "assign", "regenerate", "touch", "login", "take"],
)
def test_a_command_whose_reply_was_lost_counts_once(
    server: Server,
    visitor: Browser,
    verb: str,
    serve: Any,
    expected: dict[str, Any],
    times: int,
    carried_out: bool,
) -> None:
    """Rule 7: write applied, reply lost, retry; not 6 of 5, not 4 of 5."""
    server.line.loses(verb, carried_out=carried_out, times=times)
    visitor.visit(serve)
    assert visitor.data == expected
    assert server.line.plans == []


@pytest.mark.parametrize("carried_out", [True, False])
@pytest.mark.parametrize("serve", [put(a=1), log_in("bob")])
def test_a_new_session_whose_reply_was_lost_is_there_once(
    server: Server, serve: Any, carried_out: bool
) -> None:
    """Rule 8."""
    browser = server.browser()
    for verb in ("create", "admit"):
        server.line.loses(verb, carried_out=carried_out)
    assert browser.told(serve) is SEND
    assert server.count() == 1
    assert not browser.begin().is_new


@pytest.mark.parametrize("carried_out", [True, False])
def test_a_logout_whose_reply_was_lost_is_one(server: Server, ada: Browser, carried_out: bool) -> None:
    """Rule 8: a tombstone keeps its deleter's token."""
    server.line.loses("delete", carried_out=carried_out)
    assert ada.told(lambda s: s.logout()) is CLEAR
    assert server.count() == 0


@pytest.mark.parametrize(
    ("verb", "serve"),
    [
        ("replace", count),
        ("touch", lambda s: s.touch()),
        ("admit", log_in()),
        ("delete", lambda s: s.logout()),
        ("replace", lambda s: s.take("n")),
    ],
)
def test_a_store_that_never_answers_leaves_it_uncertain(
    server: Server, visitor: Browser, verb: str, serve: Any
) -> None:
    """Never applied again (503)."""
    server.line.loses(verb, times=3)
    with pytest.raises(Uncertain, match="it may have been carried out"):
        visitor.visit(serve)
    assert server.line.plans == []


def test_a_lost_reply_and_another_writer_after_it(server: Server, visitor: Browser) -> None:
    """Our own version is remembered: the first try had been carried out."""
    server.line.loses_then("replace", lambda: _count_directly(server, visitor))
    assert visitor.told(count) is NONE
    assert visitor.data == {"n": 2}


def test_a_lost_command_and_another_writer_after_it(server: Server, visitor: Browser) -> None:
    """Ours is absent and what we expected is remembered: it had not been carried out, so it is tried again on top."""
    server.line.loses("replace", carried_out=False)
    server.line.meanwhile("replace", lambda: _count_directly(server, visitor))
    visitor.visit(count)
    assert visitor.data == {"n": 2}


def test_a_lost_reply_and_more_writers_than_a_record_remembers(server: Server, visitor: Browser) -> None:
    """Rule 7: neither version is remembered any more."""

    def many() -> None:
        for _ in range(17):
            _count_directly(server, visitor)

    server.line.loses_then("replace", many)
    with pytest.raises(Uncertain, match="cannot be told apart"):
        visitor.visit(count)
    assert visitor.data == {"n": 18}


def test_a_lost_reply_and_a_logout_after_it(server: Server, visitor: Browser) -> None:
    elsewhere = Browser(Server(server.line.store), visitor.ticket)
    server.line.loses_then("replace", lambda: elsewhere.visit(lambda s: s.logout()))
    assert visitor.told(count) is NONE
    assert server.told == ["session.gone"]


def test_a_rotation_whose_reply_was_lost_and_that_was_superseded_sends_no_cookie(
    server: Server, ada: Browser
) -> None:
    """Its cookie would take the place of the newer one."""

    def supersede() -> None:
        record = record_of(ada)
        server.line.store._rows[record.key] = _with(
            record, versions=("newer", *record.versions), epoch=record.epoch + 1
        )

    server.line.loses_then("replace", supersede)
    session = ada.begin()
    session.regenerate()
    assert server.sessions.commit(session) is NONE


def test_a_new_session_that_was_ended_before_we_could_ask_again(server: Server) -> None:
    browser = server.browser()

    def end() -> None:
        (key,) = server.line.store._rows
        server.sessions.end(key)

    server.line.loses_then("create", end)
    assert browser.told(put(a=1)) is NONE
    server.line.loses_then("admit", end)
    server.line.store._rows.clear()
    server.line.store._anonymous.clear()
    server.line.store._ended.clear()
    server.now += 1
    assert browser.told(log_in()) is SEND  # a correct password never ends in no session
    assert browser.user == "ada"


@pytest.mark.parametrize("carried_out", [True, False])
def test_revocations_whose_reply_was_lost(server: Server, ada: Browser, carried_out: bool) -> None:
    handle = key_of(ada)
    server.line.loses("end_one", carried_out=carried_out)
    assert server.sessions.of("ada").end(handle) is True
    server.now += 1
    ada.ticket = None
    ada.visit(log_in())
    server.line.loses("end_user", carried_out=carried_out)
    server.sessions.of("ada").end_all()
    assert ada.user is None
    ada.ticket = None
    server.now += 1
    ada.visit(log_in())
    server.line.loses("delete", carried_out=carried_out)
    assert server.sessions.end(key_of(ada)) is True
    assert ada.user is None


# ---------------------------------------------------------------------------------------------------------------- taking


def test_a_value_is_taken_at_most_once(server: Server, visitor: Browser) -> None:
    """Rule 16."""
    visitor.visit(put(state="xyz"))
    requests = [visitor.begin() for _ in range(5)]
    assert [session.take("state", "gone") for session in requests] == ["xyz", *["gone"] * 4]
    for session in requests:
        assert "state" not in session
        assert visitor.end(session) is NONE
    assert visitor.data == {"n": 0}


def test_taking_does_not_disturb_what_else_the_request_does(server: Server, visitor: Browser) -> None:
    visitor.visit(put(state="xyz"))
    one, other = visitor.begin(), visitor.begin()
    one["a"] = 1
    assert one.take("state") == "xyz"
    other["b"] = 2
    visitor.end(other)
    one.increment("n")
    visitor.end(one)
    assert visitor.data == {"n": 1, "a": 1, "b": 2}
    assert server.told == []


def test_taking_over_another_writer(server: Server, visitor: Browser) -> None:
    visitor.visit(put(state="xyz"))
    server.line.meanwhile("replace", lambda: _count_directly(server, visitor))
    session = visitor.begin()
    session["a"] = 1
    assert session.take("state") == "xyz"
    visitor.end(session)
    assert visitor.data == {"n": 1, "a": 1}


def test_taking_what_is_not_there(server: Server, visitor: Browser) -> None:
    with server.commands("load"):
        assert visitor.visit(lambda s: s.take("nothing")) is None
    with server.commands():
        assert server.browser().visit(lambda s: s.take("nothing", 7)) == 7


@pytest.mark.parametrize(
    ("before", "taken"),
    [
        (lambda s: s.clear(), None),
        (lambda s: s.pop("state"), None),
        (lambda s: s.logout(), None),
        (put(state="new"), "new"),
    ],
    ids=["cleared", "deleted", "logged out", "assigned"],
)
def test_taking_gives_what_the_request_itself_would_see(
    server: Server, visitor: Browser, before: Any, taken: Any
) -> None:
    visitor.visit(put(state="xyz"))

    def serve(session: Session[Any]) -> Any:
        before(session)
        return session.take("state")

    assert visitor.visit(serve) == taken
    assert "state" not in visitor.data


def test_taking_what_this_request_has_just_set(server: Server) -> None:
    def serve(session: Session[Any]) -> Any:
        session["state"] = "new"
        return session.take("state")

    browser = server.browser()
    assert browser.told(serve) is NONE


def test_taking_after_a_save(server: Server, visitor: Browser) -> None:
    def serve(session: Session[Any]) -> Any:
        session["state"] = "new"
        session.save()
        return session.take("state")

    assert visitor.visit(serve) == "new"
    assert visitor.data == {"n": 0}


def test_nothing_is_taken_from_a_session_that_ended_or_was_logged_in(
    server: Server, visitor: Browser
) -> None:
    visitor.visit(put(state="xyz"))
    for end in (log_in(), lambda s: s.logout()):
        slow = visitor.begin()
        stale = visitor.other()
        visitor.visit(end)
        assert slow.take("state") is None
        assert dict(slow) == {}
        assert stale.end(slow) is NONE
    leaver = server.browser()
    leaver.visit(put(state="xyz"))
    session = leaver.begin()
    session.login("bob")
    leaver.other().visit(lambda s: s.logout())
    assert session.take("state") is None
    assert leaver.end(session) is SEND
    assert leaver.user == "bob"


# ------------------------------------------------------------------------------------------------- saving and reloading


def test_saving_commits_now_and_what_comes_later_later(server: Server, visitor: Browser) -> None:
    session = visitor.begin()
    session.increment("n")
    session["list"] = [1]
    held = session["list"]
    session.save()
    assert visitor.data == {"n": 1, "list": [1]}
    session.increment("n")
    held.append(2)
    visitor.end(session)
    assert visitor.data == {"n": 2, "list": [1, 2]}


def test_saving_shows_what_was_committed(server: Server, visitor: Browser) -> None:
    session = visitor.begin()
    assert session.increment("n") == 1  # the local estimate
    visitor.visit(lambda s: s.increment("n", 10))
    session.save()
    assert session["n"] == 11


def test_saving_twice_writes_once(server: Server, visitor: Browser) -> None:
    session = visitor.begin()
    session["a"] = 1
    with server.commands("replace"):
        session.save()
        session.save()
        visitor.end(session)


def test_saving_a_new_session_sends_its_cookie_with_the_response(server: Server) -> None:
    browser = server.browser()
    session = browser.begin()
    session["a"] = 1
    session.save()
    assert browser.end(session) is SEND
    assert browser.data == {"a": 1}


def test_saving_a_session_that_ended_raises(server: Server, visitor: Browser) -> None:
    session = visitor.begin()
    session["a"] = 1
    visitor.visit(lambda s: s.logout())
    with pytest.raises(SessionGone, match="its changes were dropped"):
        session.save()


def test_reloading_forgets_and_reads_anew(server: Server, visitor: Browser) -> None:
    session = visitor.begin()
    session["mine"] = 1
    session.login("ada")
    visitor.visit(count)
    session.reload()
    assert (dict(session), session.user_id, session.modified) == ({"n": 1}, None, False)
    session["mine"] = 2
    assert visitor.end(session) is NONE
    assert visitor.data == {"n": 1, "mine": 2}


@pytest.mark.parametrize("end", [log_in(), lambda s: s.logout(), lambda s: s.regenerate()])
def test_what_ended_cannot_be_reloaded(server: Server, visitor: Browser, end: Any) -> None:
    session = visitor.begin()
    visitor.visit(end)
    with pytest.raises(SessionGone):
        session.reload()


def test_what_was_never_stored_cannot_be_reloaded(server: Server) -> None:
    with pytest.raises(SessionGone, match="nothing is stored"):
        server.browser().begin().reload()


def test_destroying_ends_it_now(server: Server, ada: Browser) -> None:
    session = ada.begin()
    session.destroy()
    assert server.count() == 0
    assert ada.end(session) is CLEAR


def test_destroying_what_was_never_stored_is_fine(server: Server) -> None:
    browser = server.browser()
    session = browser.begin()
    session.destroy()
    assert browser.end(session) is NONE
    assert server.count() == 0


# ------------------------------------------------------------------------------------------------------------ by user


def test_a_login_that_began_before_a_revocation_is_refused(server: Server, visitor: Browser) -> None:
    """Rules 20 and 21: the session stays as it was before."""
    session = visitor.begin()
    session.login("ada")
    server.now += 1
    server.sessions.of("ada").end_all()
    server.now += 1
    with pytest.raises(LoginRefused, match="ended meanwhile"):
        session.save()
    assert visitor.end(session) is NONE
    assert (visitor.user, visitor.data) == (None, {"n": 0})
    assert server.told == ["session.ended", "login.revoked"]
    server.now += 1
    visitor.visit(log_in())
    assert visitor.user == "ada"


def test_a_fresh_login_that_is_refused_leaves_nothing(server: Server) -> None:
    browser = server.browser()
    session = browser.begin()
    session.login("ada")
    server.now += 1
    server.sessions.of("ada").end_all()
    server.now += 1
    assert browser.end(session) is NONE
    assert server.count() == 0
    assert server.told == ["session.ended", "login.revoked"]


def test_another_users_login_that_is_refused_leaves_the_session_to_its_user(
    server: Server, ada: Browser
) -> None:
    session = ada.begin()
    session.login("bob")
    server.now += 1
    server.sessions.of("bob").end_all()
    server.now += 1
    assert ada.end(session) is NONE
    assert (ada.user, server.count()) == ("ada", 1)


def test_a_password_change_ends_all_and_logs_in_again(server: Server, ada: Browser) -> None:
    """Rule 20: this request's own revocation does not stop its own login."""
    other = server.browser()
    other.visit(log_in())
    server.now += 1

    def change_password(session: Session[Any]) -> int:
        session["changed"] = True
        ended = session.end_all()
        session.login("ada")
        return ended

    session = ada.begin()
    server.now += 1
    assert change_password(session) == 2
    assert ada.end(session) is SEND
    assert (ada.user, ada.data) == ("ada", {"changed": True})
    assert other.user is None


def test_the_limit_of_sessions_ends_the_oldest() -> None:
    server = Server(max_sessions=2)
    browsers = []
    for _ in range(3):
        server.now += 1
        browsers.append(server.browser())
        browsers[-1].visit(log_in())
    assert [browser.user for browser in browsers] == [None, "ada", "ada"]


def test_the_limit_of_sessions_may_refuse_the_newest() -> None:
    server = Server(max_sessions=1, at_limit="deny")
    first, second = server.browser(), server.browser()
    first.visit(log_in())
    second.visit(put(a=1))
    session = second.begin()
    session.login("ada")
    with pytest.raises(LoginRefused, match="limit of sessions"):
        session.save()
    assert second.end(session) is NONE
    assert (first.user, second.user, second.data) == ("ada", None, {"a": 1})
    assert server.told[-1] == "login.refused"
    first.visit(log_in())  # again, in the same session


def test_a_store_without_an_index_logs_in_too_and_says_what_it_cannot() -> None:
    server = Server(by_user=False)
    browser = server.browser()
    with server.commands("create"):
        browser.visit(log_in())
    with server.commands("load", "replace"):
        browser.visit(log_in())
    assert browser.user == "ada"
    with pytest.raises(ConfigurationError, match="no by-user index"):
        server.sessions.of("ada").end_all()
    with pytest.raises(ConfigurationError, match="no by-user index"):
        server.sessions.of("ada").end("x")


def test_a_limit_of_sessions_needs_a_store_that_can_count_them() -> None:
    with pytest.raises(ConfigurationError, match=r"max_sessions=2: .*by-user index"):
        Server(by_user=False, max_sessions=2)


def test_handles_end_only_what_they_may(server: Server, ada: Browser) -> None:
    """Rule 22."""
    assert server.sessions.of("bob").end(key_of(ada)) is False
    assert ada.user == "ada"
    assert server.told == []
    assert server.sessions.end("nobody-has-this-handle") is False
    assert server.sessions.end(key_of(ada)) is True
    assert ada.user is None


# ------------------------------------------------------------------------------------------------- rule 12: cancellation


def in_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run an async test: pytest itself cannot."""

    def run() -> None:
        asyncio.run(test())

    return run


class Waits(ByUserVerbs):
    """A store that answers when it is let."""

    def __init__(self, line: Line) -> None:
        super().__init__(line)
        self.arrived, self.answer = asyncio.Event(), asyncio.Event()

    async def replace(self, *args: Any, **given: Any) -> Any:
        self.arrived.set()
        await self.answer.wait()
        return await super().replace(*args, **given)


@in_a_loop
async def test_a_commit_goes_on_though_its_request_is_cancelled() -> None:
    server = Server()
    browser = server.browser()
    browser.visit(put(n=0))
    store = Waits(server.line)
    sessions = AsyncSessionManager(
        store, options=Options(), clock=Clock(lambda: server.now, lambda: server.now)
    )

    async def request(save: bool) -> None:
        session = await sessions.session(browser.ticket).load()
        session.increment("n")
        await (session.save() if save else sessions.commit(session))

    for number, save in enumerate((False, True), 1):
        task = asyncio.create_task(request(save))
        await store.arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert browser.data == {"n": number - 1}
        store.answer.set()
        while browser.data != {"n": number}:
            await asyncio.sleep(0)
        store.arrived.clear()
        store.answer.clear()


@in_a_loop
async def test_an_error_behind_the_first_wait_still_arrives() -> None:
    server = Server()
    browser = server.browser()
    browser.visit(put(n=0))
    store = Waits(server.line)
    store.answer.set()
    sessions = AsyncSessionManager(store, clock=Clock(lambda: server.now, lambda: server.now))
    session = await sessions.session(browser.ticket).load()
    session["n"] = 1
    server.line.loses("replace", times=3)
    with pytest.raises(Uncertain):
        await sessions.commit(session)


@in_a_loop
async def test_an_inline_answer_makes_no_task() -> None:
    sessions = AsyncSessionManager(MemoryStore())
    session = sessions.session()
    session["a"] = 1
    before = len(asyncio.all_tasks())
    coroutine = sessions.commit(session)
    with pytest.raises(StopIteration):
        coroutine.send(None)
    assert len(asyncio.all_tasks()) == before


@in_a_loop
async def test_a_commit_that_waits_needs_a_task_only_once_its_request_is_cancelled() -> None:
    server = Server()
    browser = server.browser()
    browser.visit(put(n=0))
    store = Waits(server.line)
    sessions = AsyncSessionManager(store, clock=Clock(lambda: server.now, lambda: server.now))

    async def request() -> None:
        session = await sessions.session(browser.ticket).load()
        session.increment("n")
        await sessions.commit(session)

    before = len(asyncio.all_tasks())
    task = asyncio.create_task(request())
    await store.arrived.wait()
    assert len(asyncio.all_tasks()) == before + 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(asyncio.all_tasks()) == before + 1  # the commit's own, now
    store.answer.set()
    while browser.data != {"n": 1}:
        await asyncio.sleep(0)
