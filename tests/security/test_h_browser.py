"""Sections C and H of the checklist as a real Chromium sees them: two origins over HTTPS, and who can do what to whom.

One browser plays all that the run at hand needs. Most of it is `slow`; what remains is one attacker with all their tricks.
"""

from typing import Any

import pytest

from tests.browser.driving import driven

FEW = ["attacks: shop from blog", "own pages", "the default cookie"]
MORE = [
    "attacks: shop from evil", "attacks: none from evil", "attacks: bare from blog", "attacks: naked from evil",
    "attacks: naked-lax from blog", "login of a stranger", "same site", "single page application", "identity provider",
    "subdomains", "prefixes", "the jar after a logout",
]  # fmt: skip
TRICKS = ("form", "json", "file", "login", "logout")


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Scenario -> what came of it."""
    return driven(tmp_path_factory.mktemp("few"), FEW)


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same of the slow ones."""
    return driven(tmp_path_factory.mktemp("more"), MORE)


def assert_unharmed(attack: dict[str, Any]) -> None:
    assert "error" not in attack, attack["error"]
    assert {attack[trick] for trick in TRICKS} == {403}
    assert (attack["socket"], attack["done"], attack["user"], attack["own"]) == ("refused", [], "ada", 200)


def test_line_91_a_sibling_host_does_nothing_in_a_visitors_name_in_chromium(seen: dict[str, Any]) -> None:
    """SameSite=Lax lets a sibling's requests carry the cookie: nothing but the check stands in between."""
    assert_unharmed(seen["attacks: shop from blog"])


def test_line_28_chromium_keeps_the_default_cookie_as_it_is_meant(seen: dict[str, Any]) -> None:
    expected = {"name": "__Host-session", "domain": "shop.example", "path": "/", "expires": -1}
    assert seen["the default cookie"] == {
        "cookie": {**expected, "httpOnly": True, "secure": True, "sameSite": "Lax"},
        "more": 0,
    }


def test_line_103_a_websocket_is_opened_by_our_own_pages_only(seen: dict[str, Any]) -> None:
    """Chromium sends no Fetch Metadata with a handshake: without `trusted_origins` there is no proof, and no socket."""
    assert seen["own pages"] == {
        "shop.example": {"login": 200, "form": 200, "socket": "ada"},
        "bare.example": {"login": 200, "form": 200, "socket": "refused"},
    }


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["shop from evil", "none from evil", "bare from blog"])
def test_line_92_chromiums_fetch_metadata_needs_no_configuration(more: dict[str, Any], attack: str) -> None:
    assert_unharmed(more[f"attacks: {attack}"])


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["naked from evil", "naked-lax from blog"])
def test_the_attacks_have_teeth(more: dict[str, Any], attack: str) -> None:
    """The same tricks on a site without protection."""
    robbed = more[f"attacks: {attack}"]
    assert {robbed[trick] for trick in TRICKS} == {200}
    assert (robbed["done"][:3], robbed["user"], robbed["socket"] == "refused") == (["ada"] * 3, None, False)


@pytest.mark.slow
def test_line_102_another_site_signs_nobody_in_in_chromium(more: dict[str, Any]) -> None:
    assert more["login of a stranger"] == {"status": 403, "user": None, "cookies": [""]}


@pytest.mark.slow
def test_same_site_says_which_cookies_travel(more: dict[str, Any]) -> None:
    """By a link from another site, typed, and in a frame of another site (whose third-party cookies Chromium blocks here)."""
    lax, strict, none = (more["same site"][f"{name}.example"] for name in ("shop", "strict", "none"))
    assert lax == {"followed": "ada", "typed": "ada", "framed": None}
    assert strict == {"followed": None, "typed": "ada", "framed": None}
    assert (none["followed"], none["typed"]) == ("ada", "ada")


@pytest.mark.slow
def test_an_application_across_origins(more: dict[str, Any]) -> None:
    spa = more["single page application"]
    assert (spa["before"], spa["login"], spa["transfer"], spa["state"]["user"]) == (200, 200, 200, "ada")
    assert (spa["evil"], spa["partition"]) == ("TypeError", None)
    assert [name for name, _ in spa["cookies"]] == ["__Host-session"]
    assert "spa.example" in spa["cookies"][0][1]


@pytest.mark.slow
def test_an_identity_provider_that_posts_a_form_back(more: dict[str, Any]) -> None:
    saml = more["identity provider"]
    assert (saml["evil"]["status"], saml["wrong"]["status"], saml["right"]["status"], saml["after"]) == (
        403,
        400,
        200,
        "ada",
    )
    assert saml["right"]["text"].startswith('{"user":"ada"')
    assert saml["again"]["status"] == 400


@pytest.mark.slow
def test_hosts_that_share_a_cookie(more: dict[str, Any]) -> None:
    family = more["subdomains"]
    assert (family["status"], family["sister"], family["names"]) == (
        200,
        "ada",
        ["__Secure-session .family.example"],
    )
    assert (family["after"]["user"], family["after"]["done"]) == (
        "ada",
        ["ada"],
    )  # the trusted sister's; c's logout is refused


@pytest.mark.slow
def test_line_30_chromium_keeps_prefixed_cookies_from_scripts_and_siblings(more: dict[str, Any]) -> None:
    prefixes = more["prefixes"]
    assert prefixes["kept"] == ["__Host-Http-h", "__Host-a", "__Host-script", "__Http-f"]
    assert prefixes["tossed"] == [*prefixes["kept"], "plain"]
    (named,) = prefixes["named"]
    assert (named["name"], named["secure"], named["httpOnly"]) == ("__Host-Http-session", True, True)


@pytest.mark.slow
def test_line_34_chromiums_jar_is_empty_after_a_logout(more: dict[str, Any]) -> None:
    jar = more["the jar after a logout"]
    assert {host: place["left"] for host, place in jar.items()} == dict.fromkeys(jar, 0)
    held = {host: place["held"] for host, place in jar.items() if "held" in place}
    assert held["path.example"] == ["__Secure-session /app path.example"]
    assert held["www.both.example"] == ["__Secure-session /app/ .both.example"]
    assert len(held) == 7
