"""What the explorer found in the production code when it first looked: each scenario failed once, and must not again."""

import pytest

from coatcheck.testing.explorer import VICTIM, Drop, Faults, Fence, Pass, Scenario, World, explore
from coatcheck.testing.explorer.redis import model
from coatcheck.testing.explorer.requests import Fault

LOST = Faults((Fault.REPLY_LOST, Fault.COMMAND_LOST))


def _of_one_browser(start: str, *names: str) -> Scenario:
    return Scenario(start, tuple((name, VICTIM) for name in names))


FOUND = {
    # `elapsed` was taken when the commit began, so what passed on the way to the store made the login younger than the fence.
    "a login on its way while all sessions are ended": _of_one_browser("no cookie", "login", "end_all"),
    # A renewal whose reply was lost, then a login: asked again, the store said SAVED, and the old cookie replaced the login's.
    "a renewal repeated after a login": _of_one_browser("renewal due", "increment", "login")._replace(
        happenings=(LOST,)
    ),
    # The second write of the very request that renewed counted as the first sight of the new verifier: 10 s later the
    # old one was dead.
    "a renewal and another write, the answer lost": _of_one_browser("renewal due", "read", "save")._replace(
        happenings=(Drop(), Pass(11))
    ),
    # A take that found the session gone left the request live: it sent the cookie of a session that had passed to a login.
    "a take from a session that has gone": _of_one_browser("renewal due", "set_a", "take")._replace(
        happenings=(Fence("alice"),)
    ),
    # A login refused after a save() took the saved rotation's cookie with it: the session lived, and no browser could open it.
    "a login refused after a save": _of_one_browser("renewal due", "login_twice", "end_others"),
    # A login that loses its session begins one of its own: what the handler had set, to the very value that was there,
    # was not in it.
    "a login that begins anew with what it set": _of_one_browser("logged in", "regenerate", "login"),
    "a password change with what it set": _of_one_browser("logged in", "change_password", "read"),
    # A logout without a session stored an empty one, and its cookie took the place of a login's.
    "a logout of nobody while another logs in": Scenario(
        "no cookie", (("regenerate", VICTIM), ("login", VICTIM), ("logout", VICTIM))
    ),
    # A save() whose merge came to nothing but a touch kept the old base: the next write brought back what a clear() had removed.
    "a save that only touches, after a clear": _of_one_browser("anonymous", "clear", "save")._replace(
        happenings=(Pass(61),)
    ),
    # A usual write repeated after a logout had ended the session: the cookie that an earlier save() owed was sent all the same.
    "a write repeated after a logout, with a cookie owed": _of_one_browser(
        "anonymous", "logout", "regenerate_and_save"
    )._replace(happenings=(LOST,)),
    # A reload after another request's renewal took it for the first sight of the new verifier.
    "a reload after a renewal": _of_one_browser("renewal due", "set_a", "reload")._replace(
        happenings=(Drop(), Pass(11))
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_stays_mended(name: str) -> None:
    report = explore(World(), FOUND[name])
    assert report.schedules > 1
    assert [str(violation) for violation in report.violations] == []


FOUND_ON_REDIS = {
    # The record is written, and the store cannot be reached to confirm it: told as "nothing was sent", so nobody tried again, and
    # the browser held the cookie of a session that had passed to a login whose cookie nobody had.
    "an outage between a login's record and its confirmation": _of_one_browser(
        "anonymous", "login", "read"
    )._replace(happenings=(Faults((Fault.OUTAGE,)),)),
    # The same while those are ended for whom the limit leaves no place.
    "an outage while the limit is kept": _of_one_browser(
        "logged in", "login_limited", "login_limited"
    )._replace(happenings=(Faults((Fault.OUTAGE,)),)),
    # A record past its deadline, revived by a write under way before it could be deleted: the load answered that it was over.
    "a write that is quicker than the end of a session": _of_one_browser(
        "anonymous", "set_a", "read"
    )._replace(happenings=(Pass(86_397),)),
}


@pytest.mark.parametrize("name", FOUND_ON_REDIS)
def test_what_was_found_on_redis_stays_mended(name: str) -> None:
    report = explore(World(model), FOUND_ON_REDIS[name])
    assert report.schedules > 1
    assert [str(violation) for violation in report.violations] == []
