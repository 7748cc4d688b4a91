"""Section G of the security checklist: what caches may keep. Each test is named after its line."""

from functools import partial
from urllib.parse import quote

import pytest

from coatcheck.core.origin import Arrival
from coatcheck.exchange import PATHS
from tests.security.conftest import Make
from tests.security.pages import LOOKS, Boom
from tests.security.rig import Browser, Response, Site


def visitor(site: Site, user: str = "ada") -> Browser:
    """Somebody who is logged in, with something in the session."""
    browser = site.browser()
    browser.post(f"/login?user={user}")
    browser.post(f"/set?v={user}")
    return browser


# ------------------------------------------------------------------------------------------------------------- line 85

SHARED = [
    "public, s-maxage=31536000", "max-age=3600", "s-maxage=60", "public, immutable, max-age=31536000", "no-cache",
    "must-revalidate", 'private="set-cookie", max-age=60', 'public, private="x-user", s-maxage=60',
    'x="no-store, private", public', 'x="a, private, b"', "x-private, public", "no-storex, max-age=1", "no_store",
    "public;private",
]  # fmt: skip
PRIVATE = [
    "no-store",
    "private",
    "private, max-age=60",
    "Private",
    "max-age=60,private",
    "no-cache, NO-STORE, must-revalidate",
]


@pytest.mark.parametrize("said", SHARED)
def test_line_85_a_response_that_sets_our_cookie_is_not_stored_whatever_the_application_said(
    site: Site, said: str
) -> None:
    response = site.get(f"/cached?write&cc={quote(said)}")
    assert len(response.cookies) == 1
    assert response.all("cache-control") == ["no-store"]


@pytest.mark.parametrize("said", PRIVATE)
def test_line_85_what_the_application_said_stays_if_it_is_strict_enough(site: Site, said: str) -> None:
    response = site.get(f"/cached?write&cc={quote(said)}")
    assert (len(response.cookies), response.all("cache-control")) == (1, [said])


@pytest.mark.parametrize("target", ["/login?user=ada", "/logout", "/elevate", "/login?user=ada&remember"])
def test_line_85_every_kind_of_set_cookie_does_that(site: Site, target: str) -> None:
    response = visitor(site).post(target)
    assert (len(response.cookies), response.cache) == (1, "no-store")


def test_line_85_the_operator_hears_once_a_path_that_a_public_page_was_kept_from_caches(site: Site) -> None:
    for said in ("no-cache", "max-age=0", "must-revalidate", "private, max-age=60", "x-public"):
        site.get(f"/cached?write&cc={quote(said)}")
    site.get(f"/cached?look=0&cc={quote('public, max-age=60')}")  # no cookie of ours: it is public
    assert site.heard("cache.overridden") == []
    for said in ("public, s-maxage=31536000", "max-age=60", "s-maxage=1"):
        site.get(f"/cached?write&cc={quote(said)}")
    (event,) = site.heard("cache.overridden")
    assert event.detail.startswith("/cached: Cache-Control: public, s-maxage=31536000 became no-store")


def test_line_85_what_is_told_of_caches_is_bounded(site: Site) -> None:
    arrival = Arrival("https", host=b"shop.example")
    for number in range(PATHS + 50):
        session = site.admin.session()
        session._describe = partial(arrival._replace, path=f"/{number}")
        site.exchange._overridden(session, "public", 0.0)
    assert len(site.heard("cache.overridden")) == PATHS


class SharedCache:
    """A cache between visitors and site that keeps whatever RFC 9111 section 3 lets it, and then some."""

    def __init__(self, site: Site) -> None:
        self.site, self.kept = site, dict[tuple[str, bytes], Response]()

    def get(self, target: str, cookie: bytes = b"") -> Response:
        for key in ((target, b"*"), (target, cookie)):
            if key in self.kept:
                return self.kept[key]
        response = self.site.get(target, cookie)
        words = {word.strip().lower() for word in response.cache.split(",")}
        if not words & {"no-store", "private"}:
            self.kept[target, cookie if "cookie" in response.vary else b"*"] = response
        return response


def test_line_85_a_shared_cache_hands_nobody_somebody_elses_page_or_cookie(site: Site) -> None:
    cache = SharedCache(site)
    ada, eve = visitor(site), visitor(site, "eve")
    aggressive = "cc=" + quote("public, max-age=31536000")
    for target in (
        f"/cached?write&{aggressive}",
        f"/cached?{aggressive}",
        "/read",
        "/me",
        "/pub",
        f"/cached?look=0&{aggressive}",
    ):
        for browser in (None, ada, eve, None, eve, ada):
            cookie = browser.cookie if browser else b""
            response = cache.get(target, cookie)
            assert browser is None or response.text in (site.get(target, cookie).text, "cached")
        anonymous = [cache.get(target).cookie for _ in range(3)]
        assert len(set(anonymous)) == 3 or set(anonymous) == {b""}
    assert ("/pub", b"*") in cache.kept  # it does keep what is public
    # A session that moves its deadline, and nothing else, is somebody's page all the same.
    site.time += 3600
    renewed = cache.get(f"/cached?{aggressive}&again", ada.cookie)
    assert len(renewed.cookies) == 1
    assert cache.get(f"/cached?{aggressive}&again", eve.cookie).cookies != renewed.cookies


# ------------------------------------------------------------------------------------------------------ lines 86 to 88


@pytest.mark.parametrize("look", LOOKS)
def test_line_86_every_way_to_look_says_vary(site: Site, look: str) -> None:
    stranger, ada = site.browser(), visitor(site)
    site.expected = (KeyError,)
    for browser in (stranger, ada):
        response = browser.get(f"/look/{look}")
        if response.status == 200:
            assert "cookie" in response.vary
    assert ada.jar == {} or "cookie" in ada.get("/me").vary


@pytest.mark.parametrize(
    "target", ["GET /me", "POST /wrong", "POST /touch", "POST /logout", "GET /sessions", "POST /take"]
)
def test_line_86_so_does_every_page_that_depends_on_who_it_is(site: Site, target: str) -> None:
    method, path = target.split(" ")
    for browser in (site.browser(), visitor(site)):
        assert "cookie" in browser.send(method, path).vary


def test_line_86_a_session_that_is_only_refreshed_says_vary(make: Make) -> None:
    """`rolling` sends the cookie although nobody looked."""
    site = make(rolling=True)
    response = visitor(site).get("/pub")
    assert (len(response.cookies), response.vary, response.cache) == (1, {"cookie"}, "no-store")


def test_line_87_an_untouched_session_costs_nothing_and_says_nothing(site: Site) -> None:
    ada = visitor(site)
    site.store.told()
    for cookie in (b"", b"other=1", b"__Host-session=garbage"):
        response = site.get("/pub", cookie)
        assert (response.headers, site.store.told()) == ([], [])
    assert ada.get("/pub").headers == []
    # Under ASGI a session whose cookie came is loaded beforehand, since a handler could not wait for it.
    assert site.store.told() == (["load"] if site.face == "asgi" else [])


VARIES = {
    "Accept": {"accept", "cookie"}, "Accept, Accept-Language": {"accept", "accept-language", "cookie"}, "*": {"*"},
    "Cookie": {"cookie"}, "accept, COOKIE": {"accept", "cookie"}, "X-Cookie": {"x-cookie", "cookie"},
    "Accept, *": {"accept", "*"},
}  # fmt: skip


@pytest.mark.parametrize(("said", "expected"), VARIES.items(), ids=VARIES)
def test_line_88_vary_is_added_to_and_never_replaced(site: Site, said: str, expected: set[str]) -> None:
    for more in ("", "&write"):
        response = site.get(f"/cached?vary={quote(said)}{more}")
        assert response.vary == expected
        assert ", ".join(response.all("vary")).lower().count("cookie") <= 1 + said.lower().count("x-cookie")


# ------------------------------------------------------------------------------------------------------------- line 90


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("GET /error", 500),
        ("POST /redirect", 303),
        ("GET /not-modified", 304),
        ("HEAD /look/increment", 200),
        ("GET /stream", 200),
    ],
)
def test_line_90_every_kind_of_response_obeys(site: Site, target: str, status: int) -> None:
    method, path = target.split(" ")
    response = site.send(method, path)
    assert (response.status, len(response.cookies), response.cache, response.vary) == (
        status,
        1,
        "no-store",
        {"cookie"},
    )
    again = site.send(method, path, response.cookie)
    assert (again.status, again.cookies, again.cache, again.vary) == (status, [], "private", {"cookie"})
    if method == "HEAD":
        assert response.body == b""


def test_line_90_a_page_with_something_of_the_session_is_private(site: Site) -> None:
    ada = visitor(site)
    assert (ada.get("/read").cache, site.get("/read").cache) == ("private", "")
    # An application that allows more has looked at it, and says so; Vary stays.
    public = ada.get("/cached?cc=public")
    assert (public.cache, public.vary) == ("public", {"cookie"})


def test_line_90_a_new_session_in_the_middle_of_a_stream_is_an_error_not_a_loss(site: Site) -> None:
    response = site.get("/late")
    assert (response.text, response.cookies, site.rows()) == ("one TooLate", [], 0)


def test_line_90_a_request_that_fails_keeps_nothing_and_says_nothing(site: Site) -> None:
    site.expected = (Boom,)
    ada = visitor(site)
    assert (ada.post("/boom").headers, ada.get("/read").text) == ([], "ada")
