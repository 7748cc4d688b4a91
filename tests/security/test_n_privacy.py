"""Section N of the security checklist, privacy: what is kept of a client, and what its change means. Named after their lines."""

import json
from typing import Any

import pytest

from coatcheck import ConfigurationError, Options, Timeouts
from coatcheck.core.clients import NewDevice, changes, described
from coatcheck.core.record import Login
from coatcheck.core.stepping import run_now
from tests.security.conftest import Make
from tests.security.rig import Browser, Site

FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:{0}) Gecko/20100101 Firefox/{0}"
SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
    " Version/18.5 Mobile/15E148 Safari/604.1"
)
DAY = 86_400.0


def by(agent: str) -> list[tuple[bytes, bytes]]:
    return [(b"user-agent", agent.encode())]


def visitor(site: Site, agent: str = FIREFOX.format(140), user: str = "ada", **more: Any) -> Browser:
    browser = site.browser()
    browser.post(f"/login?user={user}", headers=by(agent), **more)
    return browser


def kept(site: Site, browser: Browser) -> Any:
    """What the store has of this login."""
    record: Any = run_now(site.admin.flows.store.load(browser.handle, now=site.time.now))
    return record.login


def test_line_205_what_is_kept_of_a_client_can_be_less_or_more(make: Make) -> None:
    for keep, address, agent in (
        ("network", "203.0.113.0/24", FIREFOX.format(140)),
        ("full", "203.0.113.9", FIREFOX.format(140)),
        ("nothing", "", ""),
    ):
        site = make(keep_client=keep)
        visitor(site)
        (device,) = site.admin.of("ada").list()
        assert (device.address, device.user_agent) == (address, agent)


def test_line_205_an_anonymous_session_keeps_nothing_of_its_client(site: Site) -> None:
    browser = site.browser()
    browser.post("/set", headers=by(SAFARI))
    browser.post("/begin", headers=by(SAFARI))
    assert "iPhone" not in str(site.dump())


def test_line_205_it_is_forgotten_after_a_while(make: Make) -> None:
    site = make(forget_client="7d", timeouts=Timeouts(idle=20 * DAY))
    ada = visitor(site)
    site.time += 7 * DAY - 1
    assert site.admin.of("ada").list()[0].browser == "Firefox on Windows"
    site.time += 1
    (device,) = site.admin.of("ada").list()
    assert (device.browser, device.user_agent, device.address) == ("", "", "")
    assert kept(site, ada).user_agent != ""
    ada.get("/read", headers=by(FIREFOX.format(140)))
    assert (kept(site, ada).user_agent, kept(site, ada).address) == ("", "")


def test_line_205_a_user_gets_all_that_is_kept_and_it_can_be_erased(site: Site) -> None:
    ada = visitor(site)
    ada.post("/set?v=cart")
    visitor(site, user="bob")
    export = json.loads(json.dumps(site.admin.of("ada").export()))
    (session,) = export["sessions"]
    assert (export["user_id"], session["data"], session["method"]) == ("ada", {"k": "cart"}, "pwd")
    assert (session["browser"], session["address"]) == ("Firefox on Windows", "203.0.113.0/24")
    assert ada.value[-76:-32] not in str(export)
    site.admin.of("ada").end_all()
    assert site.admin.of("ada").export()["sessions"] == []
    assert len(site.admin.of("bob").export()["sessions"]) == 1


def test_line_206_a_change_of_client_is_told_once_and_logs_nobody_out(site: Site) -> None:
    ada = visitor(site)
    site.time += 61
    assert ada.get("/me", headers=by(FIREFOX.format(141))).status == 200
    assert site.heard("client.changed") == []
    for _ in range(3):
        site.time += 61
        assert ada.get("/me", headers=by(SAFARI), peer="198.51.100.7").status == 200
    (event,) = site.heard("client.changed")
    assert (event.user_id, event.detail, event.handle) == ("ada", "network, browser", ada.handle)
    (device,) = site.admin.of("ada").list()
    assert (device.browser, device.address) == ("Safari on iPhone", "198.51.100.0/24")


def test_line_206_a_strict_application_asks_for_a_new_proof(make: Make) -> None:
    site = make(client_change="reauthenticate")
    ada = visitor(site)
    here, there = {"headers": by(FIREFOX.format(140))}, {"headers": by(SAFARI)}
    assert ada.post("/email", **here).status == 200
    assert (ada.get("/me", **there).status, ada.post("/email", **there).status) == (200, 401)
    assert ada.get("/amr", **there).text == ""
    assert ada.post("/email", **here).status == 200
    ada.post("/reauth", **there)
    assert (ada.post("/email", **there).status, ada.get("/amr", **there).text) == (200, "pwd")
    assert ada.post("/email", **here).status == 401
    assert {event.detail for event in site.heard("client.changed")} == {"browser"}


def test_line_206_or_ends_the_session(make: Make) -> None:
    site = make(client_change="logout")
    ada = visitor(site)
    assert ada.get("/me", headers=by(FIREFOX.format(150))).status == 200
    assert ada.get("/me", headers=by(FIREFOX.format(140)), peer="198.51.100.7").status == 401
    assert ada.get("/me", headers=by(FIREFOX.format(140))).status == 401
    assert [event.name for event in site.events if event.name in ("client.changed", "session.ended")] == [
        "client.changed",
        "session.ended",
    ]


def test_line_206_a_login_from_a_new_device_is_told(make: Make) -> None:
    told: list[NewDevice] = []
    site = make(on_new_device=told.append)
    visitor(site)
    assert (len(told), told[0].user_id, told[0].browser) == (1, "ada", "Firefox on Windows")
    visitor(site, FIREFOX.format(141))
    assert len(told) == 1
    phone = visitor(site, SAFARI)
    visitor(site, peer="198.51.100.7")
    assert [(one.browser, one.address) for one in told[1:]] == [
        ("Safari on iPhone", "203.0.113.0/24"),
        ("Firefox on Windows", "198.51.100.0/24"),
    ]
    assert told[1].handle == phone.handle
    phone.post("/reauth", headers=by(SAFARI), peer="192.0.2.1")
    assert len(told) == 3
    assert [event.user_id for event in site.heard("device.new")] == ["ada"] * 3


def test_a_letter_that_cannot_be_written_fails_no_login(make: Make) -> None:
    def fail(device: NewDevice) -> None:
        raise OSError("no mail server")

    site = make(on_new_device=fail)
    assert visitor(site).get("/me").status == 200


async def _letter(device: NewDevice) -> None: ...


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"keep_client": "all"}, "keep_client"),
        ({"client_change": "ask"}, "client_change"),
        ({"client_change": "logout", "keep_client": "nothing"}, "does not keep"),
        ({"on_new_device": _letter}, "async def"),
        ({"on_new_device": 1}, "give a function"),
        ({"forget_client": "soon"}, "forget_client"),
    ],
)
def test_settings_that_cannot_be_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Options(**options)


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        (FIREFOX.format(140), "Firefox on Windows"),
        (SAFARI, "Safari on iPhone"),
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36", "Chrome on Linux"),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/140.0 Safari/537.36 Edg/140.0", "Edge on Windows"),
        ("Mozilla/5.0 (Linux; Android 15) Chrome/140.0 Mobile Safari/537.36", "Chrome on Android"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/18.5 Safari/605.1.15", "Safari on macOS"),
        ("curl/8.9.1", "curl"),
        ("<script>alert(1)</script>", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_browsers_in_words(agent: str, words: str) -> None:
    assert described(agent) == words


def test_an_unknown_client_has_not_changed() -> None:
    assert changes(Login(), "203.0.113.0/24", SAFARI) == ()
    assert changes(Login(user_agent=SAFARI, address="203.0.113.0/24"), "", "") == ()
    assert changes(Login(user_agent="x", address=""), "", "y") == ("browser",)
