"""Section C of the security checklist: the cookie we send. Each test is named after its line."""

from datetime import timedelta
from typing import Any, cast

import pytest

from coatcheck import ConfigurationError, CookieSettings, CookieTooLarge
from coatcheck.core.cookies import MAX_AGE, MAX_ATTRIBUTE, MAX_COOKIE
from tests.canaries import CANARIES
from tests.security.conftest import Make
from tests.security.pages import Boom
from tests.security.rig import NAME, Response, Site, verifier_of


def attributes(line: str) -> dict[str, str]:
    """What a Set-Cookie field says beside name and value, names in lower case."""
    parts = (part.strip().partition("=") for part in line.split(";")[1:])
    return {name.lower(): value for name, _, value in parts}


# ------------------------------------------------------------------------------------------------------ lines 28 to 30


def test_line_28_the_default_cookie_has_every_protection(site: Site) -> None:
    for target in ("/set", "/login?user=ada", "/incr"):
        (line,) = site.post(target).cookies
        pair, _, rest = line.partition("; ")
        assert pair.startswith("__Host-session=")
        assert sorted(rest.split("; ")) == ["HttpOnly", "Path=/", "SameSite=Lax", "Secure"]


CONTRADICTIONS: dict[str, dict[str, Any]] = {
    "__Host- and a domain": {"name": "__Host-x", "domain": "shop.example"},
    "__Host- and a path": {"name": "__Host-x", "path": "/app"},
    "__Host- without Secure": {"name": "__Host-x", "secure": False},
    "__HOST- and a path": {"name": "__HOST-x", "path": "/app"},
    "__host- without Secure": {"name": "__host-x", "secure": False},
    "__Secure- without Secure": {"name": "__Secure-x", "secure": False},
    "__SECURE- without Secure": {"name": "__SECURE-x", "secure": False},
    "SameSite=None without Secure": {"same_site": "none", "secure": False},
    "Partitioned without Secure": {"partitioned": True, "secure": False},
    "__Http- readable": {"name": "__Http-x", "http_only": False},
    "__Host-Http- readable": {"name": "__Host-Http-x", "http_only": False},
    "__host-http- readable": {"name": "__host-http-x", "http_only": False},
}


@pytest.mark.parametrize("settings", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_line_29_settings_that_contradict_each_other_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"CookieSettings\.\w+: .*: "):
        CookieSettings(**settings)


def test_line_29_a_name_given_beside_the_cookie_is_checked_as_well(make: Make) -> None:
    with pytest.raises(ConfigurationError, match="__Host-"):
        make(name="__Host-x", cookie=CookieSettings(path="/app"))


def test_line_30_the_prefix_against_scripts_can_be_chosen(make: Make) -> None:
    site = make(cookie=CookieSettings(name="__Host-Http-session"))
    response = site.post("/login?user=ada")
    assert response.cookie.startswith(b"__Host-Http-session=")
    assert {"httponly", "secure", "path"} <= attributes(response.cookies[0]).keys()
    assert site.get("/me", response.cookie).text == "ada"


# ------------------------------------------------------------------------------------------------------ lines 31 to 35


def test_line_31_a_cookie_that_browsers_would_drop_is_an_error_and_never_sent(make: Make) -> None:
    length = len(make().post("/set").value)
    fits = make(cookie=CookieSettings(name="s" * (MAX_COOKIE - length)))
    response = fits.post("/set")
    assert len(response.cookie) - len("=") == MAX_COOKIE == 4096
    assert fits.get("/read", response.cookie).text == "v"
    over = make(cookie=CookieSettings(name="s" * (MAX_COOKIE - length + 1)))
    over.expected = (CookieTooLarge,)
    refused = over.post("/set")
    assert (refused.status, refused.headers) == (500, [])


def test_line_31_no_attribute_is_longer_than_browsers_read() -> None:
    CookieSettings(path="/" + "p" * (MAX_ATTRIBUTE - 1))
    too_long: list[dict[str, Any]] = [
        {"path": "/" + "p" * MAX_ATTRIBUTE},
        {"domain": "d" * (MAX_ATTRIBUTE + 1)},
    ]
    for settings in too_long:
        with pytest.raises(ConfigurationError, match="1024"):
            CookieSettings(**settings)


def test_line_33_the_cookie_lives_as_long_as_the_session_and_never_beyond_400_days(make: Make) -> None:
    for too_long in (timedelta(days=3650), timedelta(days=401), MAX_AGE + 1):
        with pytest.raises(ConfigurationError):
            CookieSettings(max_age=too_long)
    site = make(cookie=CookieSettings(max_age=timedelta(days=400)))
    response = site.post("/login?user=ada")
    assert attributes(response.cookies[0])["max-age"] == str(400 * 86_400)
    site.time += 400 * 86_400 - 1
    assert site.get("/me", response.cookie).status == 200


def test_line_33_max_age_is_what_the_server_has_left(site: Site) -> None:
    day = 86_400
    ada = site.browser()
    assert max_age(ada.post("/login?user=ada&remember")) == 30 * day
    site.time += 10 * day
    assert max_age(ada.post("/set")) == 20 * day  # the absolute timeout is nearer than the idle one
    site.time += 20 * day - 1
    assert ada.get("/me").status == 200
    site.time += 1
    assert ada.get("/me").status == 401
    own = site.browser()
    assert max_age(own.post("/own?max_age=100.9")) == 100


def max_age(response: Response) -> int:
    """Max-Age of the one cookie of a response."""
    (line,) = response.cookies
    return int(attributes(line)["max-age"])


SCOPES: dict[str, dict[str, Any]] = {
    "default": {},
    "a path": {"path": "/account"},
    "a domain": {"domain": "shop.example"},
    "both": {"path": "/account", "domain": "shop.example"},
    "partitioned": {"partitioned": True, "same_site": "none"},
    "strict, readable": {"same_site": "strict", "http_only": False},
}


@pytest.mark.parametrize("settings", SCOPES.values(), ids=SCOPES)
def test_line_34_a_deletion_has_the_name_and_the_scope_of_what_it_deletes(
    make: Make, settings: dict[str, Any]
) -> None:
    site = make(cookie=CookieSettings(**settings))
    site.mount = settings.get("path", "")
    made = site.post(f"{site.mount}/login?user=ada")
    gone = site.post(f"{site.mount}/logout", made.cookie)
    (set_line,), (clear_line,) = made.cookies, gone.cookies
    assert clear_line.partition("=")[0] == set_line.partition("=")[0]
    after = attributes(clear_line)
    assert (after.pop("max-age"), after.pop("expires")) == ("0", "Thu, 01 Jan 1970 00:00:00 GMT")
    assert after == attributes(set_line)


@pytest.mark.parametrize("field", ["name", "path", "domain"])
@pytest.mark.parametrize("bad", ["\r", "\n", "\r\nX-Evil: 1", ";", ",", "\x00", "\x7f", "é", " ", "\t"])
def test_line_35_no_setting_can_carry_another_header(field: str, bad: str) -> None:
    good = {"name": "x", "path": "/x", "domain": "shop.example"}[field]
    for value in (bad, good + bad, good + bad + good, good + "\n"):
        with pytest.raises(ValueError, match="CookieSettings"):
            CookieSettings(**cast("dict[str, Any]", {field: value}))


@pytest.mark.parametrize(
    "bad", ["\r\nSet-Cookie: a=b", "; Domain=evil.example", "a" * 16 + "\n", "", "é" * 16, "a" * 129]
)
def test_line_35_no_id_of_your_own_can_either(make: Make, bad: str) -> None:
    site = make(genid=lambda: bad)
    site.expected = (ConfigurationError,)
    response = site.post("/set")
    assert (response.status, response.headers, site.rows()) == (500, [], 0)


# ------------------------------------------------------------------------------------------------------ lines 36 to 39


def test_line_36_one_set_cookie_however_much_happened(site: Site) -> None:
    ada = site.browser()
    for _ in range(2):
        response = ada.post("/everything")
        assert (response.status, len(response.cookies)) == (200, 1)
        assert ada.get("/me").text == "ada"
    ada.post("/logout")
    assert [len(ada.post(target).cookies) for target in ("/login?user=ada", "/elevate", "/logout")] == [
        1,
        1,
        1,
    ]


def test_line_36_a_handler_that_fails_sends_none(site: Site) -> None:
    site.expected = (Boom,)
    ada = site.browser()
    assert ada.post("/boom").headers == []
    ada.post("/login?user=ada")
    before = ada.cookie
    assert ada.post("/boom").headers == []
    assert (ada.get("/read").text, ada.cookie) == ("None", before)


def test_line_37_the_secret_leaves_in_set_cookie_and_nowhere_else(site: Site) -> None:
    """The rig looks at every response of every test here; this one asks for what an error page could print."""
    ada = site.browser()
    ada.post("/login?user=ada")
    ada.post("/everything")
    pages = [
        ada.get("/id"),
        ada.get("/sessions"),
        ada.get("/error"),
        ada.post("/redirect"),
        ada.get("/stream"),
    ]
    secret = verifier_of(ada.value)
    for page in pages:
        rest = [(name, value) for name, value in page.headers if name.lower() != "set-cookie"]
        assert secret not in page.text + repr(rest)
        assert ada.value[-32:] not in page.text + repr(rest)
    assert ada.handle in pages[0].text
    CANARIES.issued(ada.value)
    assert CANARIES.found_in(f"<p>{ada.value}</p>") == [secret]  # the look itself can see


def test_line_38_the_cookie_goes_with_the_browser_unless_asked_to_stay(site: Site) -> None:
    for target in ("/set", "/login?user=ada"):
        assert not {"max-age", "expires"} & attributes(site.post(target).cookies[0]).keys()
    stays = attributes(site.post("/login?user=ada&remember").cookies[0])
    assert {"max-age", "expires"} <= stays.keys()


FORWARDED = [
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-host", b"shop.example"),
    (b"forwarded", b"proto=https"),
]


@pytest.mark.parametrize("headers", [[], FORWARDED[:1], FORWARDED])
@pytest.mark.parametrize(
    "host", [b"shop.example", b"203.0.113.5", b"", b"localhost.shop.example", b"127.0.0.1.evil.example"]
)
def test_line_39_over_plain_http_there_is_no_cookie_and_the_operator_hears_why(
    site: Site, headers: list[tuple[bytes, bytes]], host: bytes
) -> None:
    response = site.post("/login?user=ada", scheme="http", host=host, headers=headers)
    assert (response.status, response.cookies, site.rows()) == (200, [], 0)
    (event,) = site.heard("cookie.insecure")
    assert ("proxy=" in event.detail) == bool(headers)


def test_line_39_a_cookie_that_must_be_secure_is_not_sent_without(make: Make) -> None:
    site = make(cookie=CookieSettings(secure=True))
    assert site.post("/login?user=ada", scheme="http", host=b"localhost").cookies == []
    assert site.heard("cookie.insecure")


def test_line_39_only_a_trusted_proxy_says_that_the_browser_spoke_https(make: Make) -> None:
    site = make(proxy="10.0.0.0/8")
    for peer, sent in (("10.1.2.3", True), ("203.0.113.9", False), ("not-an-address", False)):
        response = site.post("/login?user=ada", scheme="http", headers=FORWARDED[:1], peer=peer)
        assert [line.startswith(NAME) for line in response.cookies] == [True] * sent
        assert all("Secure" in line for line in response.cookies)
