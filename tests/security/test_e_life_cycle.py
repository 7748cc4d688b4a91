"""Section E of the security checklist: the life of a session. Each test is named after its line."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coatcheck import ConfigurationError, Timeouts
from tests.security.conftest import Make
from tests.security.rig import Browser, Sent, Site, verifier_of

ROOT = Path(__file__).resolve().parents[2]
HOUR, DAY = 3600.0, 86_400.0


def visitor(site: Site, user: str = "ada") -> Browser:
    """Somebody who is logged in."""
    browser = site.browser()
    browser.post(f"/login?user={user}")
    return browser


# ------------------------------------------------------------------------------------------------------ lines 53 to 56


def test_line_53_a_login_gives_a_new_id_and_the_old_one_opens_nothing(site: Site) -> None:
    ada = site.browser()
    ada.post("/set?v=cart")
    before = ada.cookie
    ada.post("/login?user=ada")
    assert verifier_of(ada.value) != verifier_of(before.decode())
    for seconds in (0, 30, 31, 3600):
        site.time += seconds
        replay = site.get("/me", before)
        assert (replay.status, replay.cookies, site.get("/read", before).text) == (401, [], "None")
    assert (ada.get("/me").text, ada.get("/read").text) == ("ada", "cart")


def test_line_53_a_planted_cookie_sees_nothing_of_the_victim(site: Site) -> None:
    eve = site.browser()
    eve.post("/set?v=planted")
    victim = site.browser()
    victim.jar.update(eve.jar)
    victim.post("/login?user=ada")
    assert eve.get("/me").status == 401
    assert eve.post("/set?v=evil").cookies == []
    assert victim.get("/read").text == "planted"
    victim.post("/set?v=hers")
    site.time += 61
    assert eve.get("/read").text == "None"


CHANGES = {
    "re-authentication": ("/login?user=ada", "ada"),
    "privilege, tenant": ("/elevate", "ada"),
    "impersonation": ("/login?user=bob", "bob"),
    "password": ("/change-password", "ada"),
}


@pytest.mark.parametrize(("target", "user"), CHANGES.values(), ids=CHANGES)
def test_line_54_every_change_of_privilege_gives_a_new_id(site: Site, target: str, user: str) -> None:
    ada = visitor(site)
    before = ada.cookie
    ada.post(target)
    assert (ada.cookie != before, ada.get("/me").text) == (True, user)
    assert site.get("/me", before).status == 401
    between = ada.cookie
    site.time += (
        1  # a login begun in the very moment in which all sessions were ended counts as begun before it
    )
    ada.post("/login?user=ada")  # and back
    assert (ada.get("/me").text, site.get("/me", between).status) == ("ada", 401)


def test_line_54_a_second_factor_gives_a_new_id(site: Site) -> None:
    ada = site.browser()
    ada.post("/password?user=ada")
    before = ada.cookie
    ada.post("/mfa")
    assert (ada.get("/me").text, site.get("/me", before).status) == ("ada", 401)
    assert site.post("/mfa", before).status == 401


def test_line_55_what_crosses_into_a_login_can_be_allow_listed(make: Make) -> None:
    site = make(login_keeps=("cart",))
    eve, victim = site.browser(), site.browser()
    for key in ("cart", "is_admin"):
        eve.post(f"/set?k={key}&v=planted")
    victim.jar.update(eve.jar)
    victim.post("/login?user=ada")
    assert [victim.get(f"/read?k={key}").text for key in ("cart", "is_admin")] == ["planted", "None"]


def test_line_55_by_default_all_of_it_crosses_and_another_user_gets_none_of_it(site: Site) -> None:
    ada = site.browser()
    ada.post("/set?k=cart&v=full")
    ada.post("/login?user=ada")
    assert ada.get("/read?k=cart").text == "full"
    ada.post("/login?user=bob")
    assert (ada.get("/me").text, ada.get("/read?k=cart").text) == ("bob", "None")


def test_line_56_nobody_is_logged_in_before_the_second_factor(site: Site) -> None:
    ada = site.browser()
    ada.post("/password?user=ada")
    assert ada.get("/me").status == 401
    pending, gate = site.held("POST", "/mfa", ada.cookie)
    assert {answer.status for answer in site.together([("GET", "/me", ada.cookie)] * 20)} == {401}
    gate.open()
    ada.heed(pending.result())
    assert ada.get("/me").text == "ada"


# ------------------------------------------------------------------------------------------------------ lines 57 to 59


@pytest.mark.parametrize("target", ["/logout", "/destroy"])
def test_line_57_a_logout_ends_the_session_on_the_server(site: Site, target: str) -> None:
    ada = visitor(site)
    kept, handle = ada.cookie, ada.handle
    response = ada.post(target)
    assert (ada.jar, response.cache) == ({}, "no-store")
    for seconds in (0, 61):
        site.time += seconds
        assert site.get("/me", kept).status == 401
    assert not site.is_stored(handle)


def test_line_57_a_logout_counts_though_its_answer_was_lost(site: Site) -> None:
    ada = visitor(site)
    site.expected = (OSError,)
    ada.post("/logout", lost=True)
    assert ada.jar  # the browser knows nothing of it
    assert (ada.get("/me").status, site.is_stored(ada.handle)) == (401, False)


def test_line_58_a_second_logout_is_as_good_as_the_first(site: Site) -> None:
    ada = visitor(site)
    kept = ada.cookie
    assert [site.post("/logout", kept).status for _ in range(3)] == [204, 204, 204]
    assert site.rows() == 0


def test_line_59_a_logout_without_a_session_writes_nothing(site: Site) -> None:
    answers = site.flood(Sent("POST", "/logout") for _ in range(10_000))
    assert [answer for answer in answers if answer.cookies or answer.status != 204] == []
    assert (site.store.told(), site.rows()) == ([], 0)


# ------------------------------------------------------------------------------------------------------ lines 60 and 61


def lapse(site: Site, ada: Browser) -> None:
    site.time += DAY + 1


ENDINGS: dict[str, Callable[[Site, Browser], Any]] = {
    "logout": lambda site, ada: site.post("/logout", ada.cookie),
    "destroy": lambda site, ada: site.post("/destroy", ada.cookie),
    "the user's own list": lambda site, ada: visitor(site).send("DELETE", f"/sessions/{ada.handle}"),
    "an administrator": lambda site, ada: site.admin.end(ada.handle),
    "the user is deleted": lambda site, ada: site.admin.of("ada").end_all(),
    "it expires": lapse,
}
WRITERS = [
    "GET /slow",
    "POST /incr",
    "POST /touch",
    "POST /own?max_age=9000",
    "POST /elevate",
    "POST /note",
    "GET /me",
]


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize("writer", WRITERS)
def test_line_60_a_concurrent_request_does_not_bring_a_logged_out_session_back(
    site: Site, writer: str, ending: Callable[[Site, Browser], Any]
) -> None:
    ada = visitor(site)
    site.time += 61  # so that the request wants to move the deadline, too
    method, target = writer.split(" ")
    pending, gate = site.held(method, target, ada.cookie)
    ending(site, ada)
    gate.open()
    late = pending.result()
    assert (late.status, late.cookies) == (200, [])
    assert site.get("/me", ada.cookie).status == 401
    assert not site.is_stored(ada.handle)
    site.time += 61
    assert site.get("/me", ada.cookie).status == 401
    assert not site.is_stored(ada.handle)


def test_line_60_nor_does_it_log_out_whoever_logged_in_meanwhile(site: Site) -> None:
    ada = visitor(site)
    slow_logout, gate = site.held("POST", "/logout", ada.cookie)
    ada.post("/logout")
    ada.post("/login?user=ada")
    gate.open()
    assert slow_logout.result().cookies == []  # it would delete the newer cookie
    assert ada.get("/me").text == "ada"


def test_line_60_what_was_begun_before_a_login_is_not_written_after_it(site: Site) -> None:
    """The request of a planted cookie, still at work when the victim logs in."""
    eve = site.browser()
    eve.post("/set")
    pending, gate = site.held("GET", "/slow?k=is_admin&v=yes", eve.cookie)
    victim = site.browser()
    victim.jar.update(eve.jar)
    victim.post("/login?user=ada")
    gate.open()
    assert pending.result().cookies == []
    assert (victim.get("/read?k=is_admin").text, victim.get("/me").text) == ("None", "ada")
    assert len(site.heard("session.gone")) == 1


def test_line_61_nor_in_another_worker(make: Make) -> None:
    first = make()
    second = make(share=first)
    ada = visitor(first)
    pending, gate = second.held("GET", "/slow", ada.cookie)
    ada.site = first
    kept = ada.cookie
    ada.post("/logout")
    gate.open()
    assert pending.result().cookies == []
    assert [worker.get("/me", kept).status for worker in (first, second)] == [401, 401]
    assert not first.is_stored("anything")
    assert first.rows() == 0


@pytest.mark.parametrize("target", ["/slow", "/read"])
def test_line_61_nor_in_another_process(tmp_path: Path, target: str) -> None:
    site = Site("wsgi", "sqlite", tmp_path / "sessions.db")
    ada = visitor(site)
    kept = ada.cookie
    command = [sys.executable, "-m", "tests.security.worker", str(site.file), target, kept.decode()]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "loaded\n"
        ada.post("/logout")
        other.stdin.write("go on\n")
        other.stdin.flush()
        assert other.stdout.readline() == "200 0\n"
        assert other.wait(30) == 0
    assert (site.get("/me", kept).status, site.rows()) == (401, 0)
    site.close()


# ------------------------------------------------------------------------------------------------------ lines 62 to 64


def test_line_62_two_requests_that_write_different_keys_both_count(site: Site) -> None:
    ada = visitor(site)
    site.together([("POST", f"/set?k={key}&v={key}", ada.cookie) for key in "abcdefgh"])
    assert [ada.get(f"/read?k={key}").text for key in "abcdefgh"] == list("abcdefgh")


def test_line_62_a_hundred_increments_at_once_are_a_hundred(site: Site) -> None:
    ada = visitor(site)
    assert {answer.status for answer in site.together([("POST", "/incr", ada.cookie)] * 100)} == {200}
    assert ada.get("/read?k=n").text == "100"


def test_line_62_of_two_writes_to_one_key_the_later_commit_wins_and_is_told(site: Site) -> None:
    ada = visitor(site)
    early, first = site.held("POST", "/set?v=early", ada.cookie)
    late, second = site.held("POST", "/set?v=late", ada.cookie)
    first.open()
    early.result()
    second.open()
    assert late.result().status == 200
    assert ada.get("/read").text == "late"
    (event,) = site.heard("session.conflict")
    assert (event.handle, event.detail) == (ada.handle, "k")


def test_line_62_or_is_refused_if_that_was_asked_for(make: Make) -> None:
    site = make(on_conflict="raise")
    ada = visitor(site)
    ada.post("/set?v=before")
    early, first = site.held("POST", "/set?v=early", ada.cookie)
    late, second = site.held("POST", "/set?v=late", ada.cookie)
    first.open()
    early.result()
    second.open()
    refused = late.result()
    assert (refused.status, refused.cookies) == (409, [])
    assert ada.get("/read").text == "early"


def test_line_63_reading_never_writes_data(site: Site) -> None:
    ada = visitor(site)
    site.store.told()
    for _ in range(1_000):
        site.time += 1
        assert ada.get("/read").status == 200
    told = site.store.told()
    assert told.count("load") == 1_000
    assert set(told) == {"load", "touch"}
    assert told.count("touch") <= 1_000 / 60 + 1


def test_line_64_a_one_time_value_is_taken_once(site: Site) -> None:
    ada = visitor(site)
    for _ in range(3):
        ada.post("/note?v=once")
        taken = [answer.text for answer in site.together([("POST", "/take", ada.cookie)] * 50)]
        assert sorted(taken) == ["None"] * 49 + ["once"]
    assert ada.get("/read?k=note").text == "None"


# ------------------------------------------------------------------------------------------------------ lines 65 to 68


def test_line_65_the_idle_timeout_needs_no_sweep(site: Site) -> None:
    ada = visitor(site)
    site.time += DAY - 1
    assert ada.get("/me").status == 200
    site.time += DAY + 1
    assert ada.get("/me").status == 401
    assert not {"sweep", "count"} & set(site.store.told())


def test_line_66_the_absolute_timeout_is_not_extended_by_anything_but_a_login(make: Make) -> None:
    site = make(timeouts=Timeouts(idle=HOUR, absolute=10 * HOUR))
    ada = visitor(site)
    made = site.admin.find(ada.handle)
    assert made is not None
    busy = ["/set", "/touch", "/elevate", "/incr", "/own?max_age=3600"]
    for step in range(19):
        site.time += HOUR / 2
        assert ada.post(busy[step % len(busy)]).status == 200
        assert ada.get("/me").status == 200
        found = site.admin.find(ada.handle)
        assert found is not None
        assert (found.created_at, found.authenticated_at) == (made.created_at, made.authenticated_at)
    site.time += HOUR / 2 - 1
    assert ada.get("/me").status == 200
    site.time += 2
    assert ada.get("/me").status == 401


def test_line_66_a_login_begins_both_timeouts_anew(make: Make) -> None:
    site = make(timeouts=Timeouts(idle=HOUR, absolute=10 * HOUR))
    ada = visitor(site)
    for _ in range(19):
        site.time += HOUR / 2
        ada.get("/me")
    ada.post("/login?user=ada")
    for _ in range(19):
        site.time += HOUR / 2
        assert ada.get("/me").status == 200
    site.time += HOUR / 2 + 1
    assert ada.get("/me").status == 401


PRESETS = {
    "AAL1": (Timeouts.aal1(), 30 * DAY, 30 * DAY),
    "AAL2": (Timeouts.aal2(), HOUR, DAY),
    "AAL3": (Timeouts.aal3(), HOUR / 4, DAY / 2),
}


@pytest.mark.parametrize(("timeouts", "idle", "absolute"), PRESETS.values(), ids=PRESETS)
def test_line_67_the_presets_end_sessions_when_their_source_says(
    make: Make, timeouts: Timeouts, idle: float, absolute: float
) -> None:
    site = make(timeouts=timeouts)
    idler = visitor(site)
    site.time += idle - 1
    assert idler.get("/me").status == 200
    lazy = visitor(site)
    site.time += idle
    assert lazy.get("/me").status == 401
    for target in ("/login?user=ada", "/login?user=ada&remember"):
        busy = site.browser()
        busy.post(target)
        for _ in range(int(absolute / (idle / 2)) - 1):
            site.time += idle / 2
            assert busy.get("/me").status == 200
        site.time += idle / 2
        assert busy.get("/me").status == 401


@pytest.mark.parametrize(
    "max_age", ["nan", "inf", "-inf", "-1", "0", "9223372036854775808", "86400000", "1e400"]
)
def test_line_68_an_absurd_lifetime_is_refused(site: Site, max_age: str) -> None:
    site.expected = (ConfigurationError,)
    assert site.post(f"/own?max_age={max_age}").status == 500
    assert site.rows() == 0


ABSURD = {
    "deadline": ["'soon'", "9e999", "-9e999", "9223372036854775807", "-1.0", "1e300", "x'00'"],
    "ends_at": ["'never'", "9e999", "-1.0", "1e300"],
    "seen_at": ["'now'", "9e999", "-9e999", "1e300"],
    "ended_at": ["'then'", "9e999", "0", "1"],
}


@pytest.mark.parametrize(
    ("column", "value"), [(column, value) for column in ABSURD for value in ABSURD[column]]
)
@pytest.mark.parametrize("face", ["asgi", "wsgi"])
def test_line_68_absurd_times_in_a_stored_row_are_no_session_and_no_error(
    tmp_path: Path, face: str, column: str, value: str
) -> None:
    site = Site(face, "sqlite", tmp_path / "sessions.db")
    ada = visitor(site)
    with sqlite3.connect(site.file) as db:
        db.execute(f"UPDATE session SET {column} = {value}")
    db.close()
    in_range = (
        column == "seen_at" and value == "1e300"
    )  # absurd for people, harmless for us: it is only shown
    for target in ("/read", "/has", "/me"):
        assert ada.get(target).status == (401 if target == "/me" and not in_range else 200)
    assert ada.post("/login?user=ada").status == 200
    assert ada.get("/me").text == "ada"
    site.close()


def test_line_68_a_clock_that_steps_back_revives_nothing(site: Site) -> None:
    ada, bob = visitor(site), visitor(site, "bob")
    site.time += HOUR
    bob.post("/logout")
    gone = bob.cookie
    site.time += DAY + 1
    assert ada.get("/me").status == 401
    site.time += -HOUR
    assert ada.get("/me").status == 401
    site.time += -DAY
    assert [ada.get("/me").status, site.get("/me", gone).status] == [401, 401]


# ------------------------------------------------------------------------------------------------------ lines 69 to 74


def test_line_69_a_limit_of_sessions_holds_against_logins_at_once(make: Make) -> None:
    site = make(max_sessions=3)
    answers = site.together([("POST", "/login?user=ada", b"")] * 20)
    live = [answer.cookie for answer in answers if site.get("/me", answer.cookie).status == 200]
    assert (len(live), site.rows()) == (3, 3)
    assert all(answer.cookie for answer in answers)
    assert visitor(site, "bob").get("/me").text == "bob"
    newest = visitor(site)
    assert [site.get("/me", cookie).status for cookie in live].count(200) == 2
    assert newest.get("/me").text == "ada"


def test_line_69_or_refuses_the_login(make: Make) -> None:
    site = make(max_sessions=3, at_limit="deny")
    answers = site.together([("POST", "/login?user=ada", b"")] * 20)
    cookies = [answer.cookie for answer in answers if answer.cookie]
    assert (len(cookies), site.rows(), len(site.heard("login.refused"))) == (3, 3, 17)
    assert [site.get("/me", cookie).text for cookie in cookies] == ["ada"] * 3
    site.post("/logout", cookies[0])
    assert visitor(site).get("/me").text == "ada"


def test_line_70_users_see_their_sessions_and_end_them(site: Site) -> None:
    phone, laptop = site.browser(), site.browser()
    phone.post("/login?user=ada", headers=[(b"user-agent", b"Phone/1")])
    site.time += 60
    laptop.post("/login?user=ada", headers=[(b"user-agent", b"Laptop/2")])
    bob = visitor(site, "bob")
    listed = laptop.get("/sessions").text.splitlines()
    assert [line.split()[0] for line in listed] == ["*", "-"]
    assert [line.split()[1] for line in listed] == [laptop.handle, phone.handle]
    assert "[Laptop/2]" in listed[0]
    assert "2027-01-15 08:00:00 [Phone/1]" in listed[1]
    site.time += 601
    assert laptop.post("/end-others").status == 403
    laptop.post("/login?user=ada")
    assert laptop.post("/end-others").text == "1"
    assert [one.get("/me").status for one in (phone, laptop, bob)] == [401, 200, 200]
    assert len(laptop.get("/sessions").text.splitlines()) == 1


def test_line_71_an_administrator_ends_all_of_a_users_sessions_at_once(site: Site) -> None:
    adas = [visitor(site) for _ in range(50)]
    bob = visitor(site, "bob")
    assert site.admin.of("ada").end_all() == 50
    assert {ada.get("/me").status for ada in adas} == {401}
    assert bob.get("/me").status == 200
    assert site.admin.end(bob.handle)
    assert bob.get("/me").status == 401


def test_line_72_a_login_under_way_does_not_survive_the_end_of_all(site: Site) -> None:
    """The account is disabled while somebody logs in with the right password."""
    ada = visitor(site)
    pending, gate = site.held("POST", "/login?user=ada")
    site.time += 1
    site.admin.of("ada").end_all()
    gate.open()
    assert pending.result().cookies == []
    assert (ada.get("/me").status, site.rows(), len(site.heard("login.revoked"))) == (401, 0, 1)


def test_line_73_a_password_change_ends_the_other_sessions(site: Site) -> None:
    phone, laptop = visitor(site), visitor(site)
    under_way, gate = site.held("POST", "/login?user=ada")
    site.time += 1
    before = laptop.cookie
    assert laptop.post("/change-password").status == 200
    gate.open()
    assert under_way.result().cookies == []
    assert (laptop.get("/me").text, phone.get("/me").status) == ("ada", 401)
    assert (laptop.cookie != before, site.get("/me", before).status) == (True, 401)


def test_line_74_sensitive_acts_need_a_recent_proof_that_only_a_login_renews(site: Site) -> None:
    ada = visitor(site)
    site.time += 600
    assert ada.post("/email").status == 200
    site.time += 1
    for target in ("/elevate", "/set", "/touch"):
        ada.post(target)
    refused = ada.post("/email")
    assert (refused.status, refused.text) == (403, "reauth_required")
    ada.post("/login?user=ada")
    assert ada.post("/email").status == 200
