"""The checker sees what it is there to see: a history with each kind of damage planted, beside the same one without."""

from collections.abc import Callable

import pytest

from tests.faults.checker import (
    ACKNOWLEDGED,
    IN_DOUBT,
    LATE,
    REFUSED,
    Asked,
    Checker,
    Outcome,
    Report,
    Shown,
    key_of,
)

S, T = "ada-0.0", "bob-0.0"
KEY, OTHER = key_of(S, 0), key_of(S, 1)


def at(
    began: float, outcome: Outcome = ACKNOWLEDGED, *, who: str = "ada-0", ended: float | None = None
) -> Asked:
    status = {ACKNOWLEDGED: 200, REFUSED: 503, IN_DOUBT: 503}[outcome]
    return Asked(who, began, began + 0.5 if ended is None else ended, outcome, status)


def begun() -> Checker:
    """Two users are logged in; ada has written KEY and counted once."""
    checker = Checker()
    checker.login(S, "ada", at(0))
    checker.login(T, "bob", at(0, who="bob-0"))
    checker.wrote(S, KEY, at(1), Shown("ada", frozenset({KEY})))
    checker.counted(S, at(2), Shown("ada", frozenset({KEY}), 1))
    return checker


ALL = Shown("ada", frozenset({KEY}), 1)


def ended(checker: Checker, shown: Shown) -> Report:
    checker.found(S, shown)
    checker.found(T, Shown("bob"))
    return checker.report()


def damage(report: Report) -> dict[str, int]:
    names = ("lost", "logged_out", "undone", "mixed", "stale", "invented")
    return {name: getattr(report, name) for name in names if getattr(report, name)}


def test_where_nothing_is_wrong_nothing_is_found() -> None:
    checker = begun()
    checker.read(S, at(3), ALL)
    report = ended(checker, ALL)
    assert damage(report) == {}
    assert (report.acknowledged, report.refused, report.in_doubt, report.errors) == (5, 0, 0, {})


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (Shown("ada", frozenset(), 1), {"lost": 1}),
        (Shown("ada", frozenset({KEY}), 0), {"lost": 1}),
        (Shown("ada", frozenset(), 0), {"lost": 2}),
        (Shown(None), {"logged_out": 1, "lost": 2}),
        (Shown("ada", frozenset({KEY}), 2), {"invented": 1}),
        (Shown("bob", frozenset({KEY}), 1), {"mixed": 1}),
        (Shown("ada", frozenset({KEY, key_of(T, 0)}), 1), {"mixed": 1}),
        (Shown(None, frozenset({KEY})), {"mixed": 1}),
    ],
)
def test_what_is_there_at_the_end(shown: Shown, expected: dict[str, int]) -> None:
    report = ended(begun(), shown)
    assert damage(report) == expected
    assert report.examples


def test_what_is_in_doubt_may_be_there_once_or_not() -> None:
    for shown in (ALL, Shown("ada", frozenset({KEY, OTHER}), 2)):
        checker = begun()
        checker.wrote(S, OTHER, at(3, IN_DOUBT))
        checker.counted(S, at(3, IN_DOUBT))
        assert damage(ended(checker, shown)) == {}
    checker = begun()
    checker.counted(S, at(3, IN_DOUBT))
    assert damage(ended(checker, Shown("ada", frozenset({KEY}), 3))) == {"invented": 1}


def test_what_was_refused_may_not_be_there() -> None:
    checker = begun()
    checker.wrote(S, OTHER, at(3, REFUSED))
    checker.counted(S, at(3, REFUSED))
    assert damage(ended(checker, Shown("ada", frozenset({KEY, OTHER}), 2))) == {"invented": 2}


def test_answers_meanwhile_that_lack_what_was_acknowledged_before() -> None:
    checker = begun()
    checker.read(S, at(3), Shown("ada", frozenset({KEY}), 0))
    checker.read(S, at(4), Shown("ada", frozenset(), 1))
    checker.read(S, at(5), Shown(None))
    checker.read(S, at(0.9, ended=6), Shown("ada"))  # was asked before any of it
    assert damage(ended(checker, ALL)) == {"stale": 3}


def test_what_a_session_lacked_when_it_ended_is_lost_too() -> None:
    for shown, expected in (
        (Shown("ada", frozenset(), 0), {"stale": 1, "lost": 2}),
        (Shown(None), {"stale": 1, "lost": 2, "logged_out": 1}),
    ):
        checker = begun()
        checker.read(S, at(2.6), shown)
        log_out(checker)
        assert damage(ended(checker, Shown(None))) == expected
        checker = begun()
        checker.read(S, at(2.6), shown)
        checker.read(S, at(2.8), ALL)  # it has come back
        log_out(checker)
        assert damage(ended(checker, Shown(None))) == {"stale": 1}


def test_answers_meanwhile_that_show_what_is_anothers() -> None:
    checker = begun()
    checker.read(S, at(3), Shown("bob"))
    checker.wrote(S, OTHER, at(4), Shown("ada", frozenset({KEY, OTHER, key_of(T, 3)}), 1))
    checker.wrote(S, key_of(S, 2), at(5), Shown(None, frozenset({key_of(S, 2), KEY})))
    checker.login("ada-0.1", "ada", at(6), Shown("bob"))
    report = checker.report()
    assert report.mixed == 4


# ----------------------------------------------------------------------------------------------------- logins and ends


def log_out(checker: Checker, outcome: Outcome = ACKNOWLEDGED) -> None:
    checker.logout_begins(S)
    checker.read(S, at(3), Shown(None))  # on its way together with the logout
    checker.logout(S, at(3, outcome))


def end_all(checker: Checker, outcome: Outcome = ACKNOWLEDGED) -> None:
    checker.end_all_begins("ada")
    checker.read(S, at(3), Shown(None))
    checker.end_all("ada", at(3, outcome, who="ada-1"))


ENDS = pytest.mark.parametrize("end", [log_out, end_all])


@ENDS
def test_an_end_that_was_acknowledged_stays_one(end: Callable[..., None]) -> None:
    checker = begun()
    end(checker)
    checker.read(S, at(4), Shown(None))
    assert damage(ended(checker, Shown(None))) == {}


@ENDS
def test_an_end_that_is_undone_is_seen_once_each(end: Callable[..., None]) -> None:
    checker = begun()
    end(checker)
    assert damage(ended(checker, ALL)) == {"undone": 1}
    checker = begun()
    end(checker)
    checker.read(S, at(4), ALL)
    checker.read(S, at(5), ALL)
    assert damage(ended(checker, Shown(None))) == {"undone": 1}


@ENDS
def test_an_end_after_one_in_doubt_is_told_apart(end: Callable[..., None]) -> None:
    checker = begun()
    checker.logout_begins(S)
    checker.logout(S, at(2.6, IN_DOUBT, ended=2.8))
    end(checker)
    report = ended(checker, ALL)
    assert (report.undone, report.undone_again) == (1, 1)
    checker = begun()
    end(checker)
    assert ended(checker, ALL).undone_again == 0


@ENDS
def test_an_answer_that_was_asked_for_before_the_end_was_acknowledged_shows_what_it_likes(
    end: Callable[..., None],
) -> None:
    checker = begun()
    end(checker)
    checker.read(S, at(3.4, ended=9), ALL)
    assert damage(ended(checker, Shown(None))) == {}


@ENDS
def test_an_end_in_doubt_leaves_both_open_and_loses_nothing(end: Callable[..., None]) -> None:
    for shown in (Shown(None), ALL):
        checker = begun()
        end(checker, IN_DOUBT)
        checker.read(S, at(4), shown)
        assert damage(ended(checker, shown)) == {}
    checker = begun()
    end(checker, IN_DOUBT)
    assert damage(ended(checker, Shown("ada", frozenset(), 1))) == {"lost": 1}


@ENDS
def test_a_refused_end_ends_nothing(end: Callable[..., None]) -> None:
    checker = begun()
    end(checker, REFUSED)
    checker.read(S, at(4), Shown(None))
    assert damage(ended(checker, Shown(None))) == {"stale": 1, "logged_out": 1, "lost": 2}


def test_an_end_of_all_is_for_this_user_and_for_logins_before_it() -> None:
    checker = begun()
    end_all(checker)
    checker.login("ada-0.1", "ada", at(4))
    checker.found("ada-0.1", Shown(None))
    checker.found(T, Shown(None))
    assert damage(checker.report()) == {"logged_out": 2}


def test_a_login_that_was_under_way_when_all_were_ended_may_be_ended_or_not() -> None:
    for shown in (Shown("ada"), Shown(None)):
        for is_later in (False, True):  # which of the two was answered first
            checker = begun()
            checker.end_all_begins("ada")
            if not is_later:
                checker.login("ada-1.0", "ada", at(2.9, ended=3.2, who="ada-1"))
            checker.end_all("ada", at(3))
            if is_later:
                checker.login("ada-1.0", "ada", at(2.9, ended=3.7, who="ada-1"))
            checker.found("ada-1.0", shown)
            assert damage(checker.report()) == {}


def test_an_end_of_all_that_is_in_doubt_may_still_catch_later_logins_for_a_while() -> None:
    checker = begun()
    end_all(checker, IN_DOUBT)
    checker.login("soon", "ada", at(5))
    checker.login("late", "ada", at(5 + LATE))
    checker.found("soon", Shown(None))
    checker.found("late", Shown(None))
    assert damage(checker.report()) == {"logged_out": 1}


def test_a_login_that_is_answered_without_a_cookie_needs_an_end_of_all_to_blame() -> None:
    refused = Asked("ada-1", 3.2, 3.4, REFUSED, 200)
    checker = begun()
    end_all(checker)
    checker.login("ada-1.0", "ada", refused)
    assert damage(checker.report()) == {}
    checker = begun()
    checker.login("ada-1.0", "ada", refused)
    assert damage(checker.report()) == {"stale": 1}
    assert "ada-1.0" not in checker.sessions()


def test_a_write_that_was_answered_to_nobody_is_not_this_sessions() -> None:
    checker = begun()
    log_out(checker, IN_DOUBT)
    checker.wrote(S, OTHER, at(4), Shown(None, frozenset({OTHER})))
    assert damage(ended(checker, ALL)) == {}


# -------------------------------------------------------------------------------------------------------- availability


def test_the_time_without_success_is_the_unluckiest_browsers() -> None:
    checker = begun()
    for began in range(3, 10):
        checker.read(T, at(began, who="bob-0"), Shown("bob"))
    checker.read(S, at(5, REFUSED), Shown(None))
    checker.read(S, at(6, IN_DOUBT, ended=8), Shown(None))
    checker.read(S, at(9), ALL)
    report = checker.report(until=10)
    assert report.unavailable == 7  # ada, from 2.5 to 9.5; bob waited 2 seconds at most
    assert (report.refusals, report.slowest_refusal) == (2, 2)
    assert checker.report(until=20).unavailable == 10.5


def test_recovery_is_the_last_browsers_first_success() -> None:
    checker = begun()
    assert checker.recovered(3) == float("inf")
    checker.read(T, at(3.5, who="bob-0"), Shown("bob"))
    assert checker.recovered(3) == float("inf")
    checker.read(S, at(7), ALL)
    checker.read(S, at(8), ALL)
    assert checker.recovered(3) == 4.5


def test_answers_that_are_neither_are_counted_by_their_status() -> None:
    checker = begun()
    for status in (500, 500, 0):
        checker.read(S, Asked("ada-0", 3, 4, IN_DOUBT, status), Shown(None))
    report = checker.report()
    assert report.errors == {500: 2, 0: 1}
    assert "others {500: 2, 0: 1}" in report.line()
