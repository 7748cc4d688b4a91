"""Section E of the security checklist, the logins: several factors, step-up, limits. Each test is named after its line."""

import pytest

from tests.security.conftest import Make
from tests.security.pages import VERIFIED
from tests.security.rig import Browser, Site, verifier_of

HOUR = 3600.0


def visitor(site: Site, user: str = "ada") -> Browser:
    """Somebody who is logged in."""
    browser = site.browser()
    browser.post(f"/login?user={user}")
    return browser


def half(site: Site, user: str = "ada") -> Browser:
    """Somebody whose password was right."""
    browser = site.browser()
    browser.post("/set?v=cart")
    browser.post(f"/begin?user={user}")
    return browser


@pytest.mark.parametrize("target", ["/begin", "/complete", "/reauth"])
def test_line_54_each_proof_gives_a_new_id(site: Site, target: str) -> None:
    ada = half(site) if target == "/complete" else visitor(site)
    if target == "/begin":
        ada = site.browser()
        ada.post("/set?v=cart")
    before = ada.cookie
    ada.post(target)
    assert verifier_of(ada.value) != verifier_of(before.decode())
    assert site.get("/read", before).text == "None"
    assert site.get("/me", before).status == 401
    assert site.get("/pending", before).text == "None"


def test_line_56_a_login_that_lacks_a_factor_is_no_login(site: Site) -> None:
    ada = half(site)
    assert ada.get("/me").status == 401
    assert (ada.get("/amr").text, ada.get("/read").text) == ("", "cart")
    assert ada.post("/email").status == 401
    assert site.admin.of("ada").list() == []
    assert {one.status for one in site.together([("GET", "/me", ada.cookie)] * 20)} == {401}
    ada.post("/complete")
    assert (ada.get("/me").text, ada.get("/amr").text, ada.get("/read").text) == ("ada", "pwd otp", "cart")
    assert ada.get("/pending").text == "None"


def test_line_56_it_waits_for_ten_minutes(site: Site) -> None:
    ada, bob = half(site), half(site, "bob")
    site.time += 599
    assert ada.post("/complete").status == 200
    site.time += 1
    assert bob.get("/pending").text == "None"
    assert (bob.post("/complete").status, bob.get("/me").status) == (401, 401)


def test_line_56_it_is_of_this_session_and_no_other(site: Site) -> None:
    """Another browser, the cookie from before, a copy that came too late, a session that was logged out."""
    planted = site.browser()
    planted.post("/set?v=planted")
    victim = site.browser()
    victim.jar.update(planted.jar)
    victim.post("/begin?user=ada")
    assert planted.post("/complete").status == 401
    assert victim.post("/complete").status == 200
    eve = half(site)
    eve.post("/logout")
    assert eve.post("/complete").status == 401


@pytest.mark.parametrize("target", ["/complete", "/complete?untried"])
def test_line_56_one_proof_makes_one_login(site: Site, target: str) -> None:
    """Of two right answers at once to the same pending login, one counts, whether tries are counted or not."""
    ada = half(site)
    answers = site.together([("POST", target + ("=1" if "?" in target else ""), ada.cookie)] * 2)
    assert sorted(len(answer.cookies) for answer in answers) == [0, 1]
    assert len(site.admin.of("ada").list()) == 1


@pytest.mark.parametrize("what", ["user", "everyone"])
def test_line_72_what_ends_all_sessions_ends_a_login_that_lacks_a_factor(site: Site, what: str) -> None:
    """The password is changed between the thief's two factors."""
    thief = half(site)
    site.time += 10
    if what == "user":
        site.admin.of("ada").end_all()
    else:
        site.admin.end_everyone()
        site.time += 5
    site.time += 10
    thief.post("/complete")
    assert thief.get("/me").status == 401
    assert site.admin.of("ada").list() == []
    site.time += 61
    again = half(site)
    again.post("/complete")
    assert again.get("/me").text == "ada"


def test_line_71_everybodys_sessions_end_at_once(make: Make) -> None:
    """In the worker that is told at once, in another within five seconds, whatever the number."""
    site = make()
    other = make(share=site)
    adas = [visitor(site, f"user{number}") for number in range(50)]
    anonymous = site.browser()
    anonymous.post("/set?v=cart")
    assert {other.get("/me", ada.cookie).status for ada in adas} == {200}
    site.store.told()
    site.admin.end_everyone()
    assert len(site.store.told()) <= 6
    site.time += 5
    assert {site.get("/me", ada.cookie).status for ada in adas} == {401}
    assert {other.get("/me", ada.cookie).status for ada in adas} == {401}
    assert anonymous.get("/read").text == "None"
    site.time += 61
    assert visitor(site).get("/me").text == "ada"


def test_line_71_a_login_under_way_does_not_survive_the_end_of_everybodys(site: Site) -> None:
    visitor(site)
    pending, gate = site.held("POST", "/login?user=ada")
    site.time += 1
    site.admin.end_everyone()
    site.time += 5
    gate.open()
    assert pending.result().cookies == []
    assert (site.admin.of("ada").list(), len(site.heard("login.revoked"))) == ([], 1)


def test_line_74_a_step_up_makes_the_proof_new_and_nothing_else_does(site: Site) -> None:
    ada = visitor(site)
    site.time += 601
    assert ada.post("/email").status == 403
    for target in ("/set", "/elevate", "/touch"):
        ada.post(target)
    assert ada.post("/email").status == 403
    ada.post("/reauth")
    assert ada.post("/email").status == 200


def test_line_81_a_strong_method_can_be_asked_for(site: Site) -> None:
    ada, bob = visitor(site), half(site, "bob")
    assert (site.browser().post("/vault").status, bob.post("/vault").status) == (401, 401)
    refused = ada.post("/vault")
    assert (refused.status, refused.text) == (403, "step_up_required")
    ada.post("/reauth?method=otp")
    bob.post("/complete")
    assert (ada.post("/vault").status, bob.post("/vault").status) == (200, 200)
    assert ada.get("/amr").text == "pwd otp"
    ada.post("/login?user=ada")
    assert ada.post("/vault").status == 403


def test_line_74_a_step_up_brings_no_ended_session_back(site: Site) -> None:
    ada = visitor(site)
    pending, gate = site.held("POST", "/reauth", ada.cookie)
    site.time += 1
    site.admin.of("ada").end(ada.handle)
    gate.open()
    assert pending.result().cookies == []
    assert site.admin.of("ada").list() == []


def test_line_199_no_more_codes_are_compared_than_may_be(site: Site) -> None:
    VERIFIED.clear()
    ada = half(site)
    site.together([("POST", "/complete?code=wrong", ada.cookie)] * 20)
    assert len(VERIFIED) == 5
    assert (ada.post("/complete").status, ada.get("/me").status) == (401, 401)
    ada.post("/begin?user=ada")
    assert ada.post("/complete").status == 200


def test_line_40_a_logout_may_clear_what_the_browser_keeps(make: Make) -> None:
    site = make(clear_site_data=True)
    ada = visitor(site)
    assert ada.get("/read").all("clear-site-data") == []
    assert ada.post("/logout").all("clear-site-data") == ['"cache", "cookies", "storage"']
    assert ada.post("/logout").all("clear-site-data") == []
    assert visitor(make()).post("/logout").all("clear-site-data") == []


def test_line_57_no_cache_keeps_a_page_of_a_logged_in_user_if_that_is_asked_for(make: Make) -> None:
    site = make(no_store=True)
    ada, nobody = visitor(site), site.browser()
    nobody.post("/set")
    assert (ada.get("/read").cache, nobody.get("/read").cache) == ("no-store", "private")
    assert (site.get("/pub").cache, ada.get("/pub").cache) == ("", "")
    ada.post("/logout")
    assert ada.get("/read").cache == ""
    assert visitor(make()).get("/read").cache == "private"


def test_line_69_the_user_may_choose_which_session_to_end(make: Make) -> None:
    """The password was right, the limit is reached: the login waits, the user is shown the sessions, and chooses."""
    site = make(max_sessions=1, at_limit="deny")
    phone = visitor(site)
    laptop = half(site)
    refused = laptop.post("/complete?save=1")
    assert (refused.status, refused.text) == (409, "limit")
    assert (laptop.get("/me").status, phone.get("/me").status) == (401, 200)
    assert "ada" in laptop.get("/pending").text
    (device,) = site.admin.of("ada").list()
    site.admin.of("ada").end(device.handle)
    assert laptop.post("/complete?save=1").status == 200
    assert (laptop.get("/me").text, phone.get("/me").status) == ("ada", 401)
