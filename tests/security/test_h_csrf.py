"""Section H of the security checklist: requests that another site makes in a visitor's name."""

import base64
import hmac
import logging
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from coatcheck import ConfigurationError, CookieSettings
from coatcheck.asgi import CsrfMiddleware
from coatcheck.core.signing import KeyRing, normalise
from coatcheck.security.csrf import NON_BROWSERS, is_genuine, made_token
from coatcheck.security.redirects import safe_next
from coatcheck.wsgi import CsrfMiddleware as WsgiCsrf
from tests.security.conftest import Make, built
from tests.security.forms import APP, EVIL, fields, form, multipart, protected
from tests.security.rig import NAME, SECRET, Browser, Site, forge

PROMISE = f"{NAME}-csrf"
MULTIPART = "multipart/form-data; boundary=XyZ"
SAFE = ("GET", "HEAD", "OPTIONS")
SAME = fields(sec_fetch_site="same-origin")


CELLS = [("asgi", "memory"), ("wsgi", "sqlite")]
"""Each server and each store once: what is decided here is decided before a store is asked."""


@pytest.fixture(params=CELLS, ids="-".join)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """In the place of the room's own, which makes all of the matrix."""
    face, kind = request.param
    yield from built(face, kind, tmp_path)


@pytest.fixture
def shop(make: Make) -> Site:
    """The application, protected, with its own origin configured."""
    return make(within=protected(trusted_origins=[APP]))


@pytest.fixture
def bare(make: Make) -> Site:
    """The application, protected, and nothing configured."""
    return make(within=protected())


def signed_in(site: Site, user: str = "ada") -> Browser:
    browser = site.browser()
    assert browser.post(f"/login?user={user}", headers=SAME).status == 200
    return browser


def token_of(browser: Browser, target: str = "/form") -> str:
    seen = browser.get(target)
    assert (seen.status, len(seen.text)) == (200, 64)
    return seen.text


def verdicts(browser: Browser, *headers: Any, method: str = "POST") -> list[int]:
    return [browser.send(method, "/transfer", headers=one).status for one in headers]


# --------------------------------------------------------------------------------------------------------- the proofs


def test_line_91_a_change_without_proof_is_refused(bare: Site) -> None:
    ada = signed_in(bare)
    refused = ada.post("/transfer")
    assert (refused.status, refused.cookies, refused.cache) == (403, [], "no-store")
    assert verdicts(ada, SAME, []) == [200, 403]
    for method in ("POST", "PUT", "PATCH", "DELETE", "post", "PURGE", "get"):
        assert ada.send(method, "/transfer").status == 403
    assert ada.get("/me").text == "ada"
    told = bare.heard("csrf.refused")[0].detail
    assert (
        told == "POST /transfer: neither Sec-Fetch-Site nor Origin nor Referer, and no token of this session"
    )


SITES = {"same-origin": 200, "none": 200, "same-site": 403, "cross-site": 403, "unheard-of": 403, "": 403}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "GET", "HEAD"])
def test_line_92_fetch_metadata_decides_first(bare: Site, method: str) -> None:
    ada = signed_in(bare)
    for value, status in SITES.items():
        seen = ada.send(
            method, "/transfer" if method == "POST" else "/pub", headers=fields(sec_fetch_site=value)
        )
        expected = 200 if method in SAFE else status
        assert (seen.status == 403) == (expected == 403), (method, value)


def test_line_92_what_is_unknown_is_ignored_and_what_is_foreign_is_final(shop: Site) -> None:
    ada = signed_in(shop)
    token = token_of(ada)
    unknown = fields(sec_fetch_site="unheard-of", origin=APP)
    twice = fields(("sec-fetch-site", "same-origin"), ("sec-fetch-site", "none"), ("x-csrf-token", "x"))
    foreign = [
        fields(sec_fetch_site=site, x_csrf_token=token, referer=f"{APP}/form", **origin)
        for site, origin in product(("cross-site", "same-site"), ({}, {"origin": EVIL}, {"origin": "null"}))
    ]
    assert verdicts(ada, unknown, twice, *foreign) == [200, 403, *[403] * 6]


def test_line_92_a_trusted_origin_may_be_of_another_site_and_a_sibling_only_if_allowed(make: Make) -> None:
    partner = make(within=protected(trusted_origins=["https://partner.example"]))
    ada = signed_in(partner)
    for site, origin, status in (
        ("cross-site", "https://partner.example", 200),
        ("same-site", "https://partner.example", 200),
        ("cross-site", EVIL, 403),
        ("same-site", "https://blog.shop.example", 403),
    ):
        assert verdicts(ada, fields(sec_fetch_site=site, origin=origin)) == [status]
    lenient = signed_in(make(within=protected(same_site=True)))
    assert verdicts(lenient, *(fields(sec_fetch_site=site) for site in ("same-site", "cross-site"))) == [
        200,
        403,
    ]


FOREIGN = [
    "https://shop.example.evil.com", "http://shop.example", "https://shop.example:8443", "null",
    "https://evil.shop.example", "",
    "https://shop.example.", "https://SHOP.example@evil.example", "https://shop.example/", "https://shop.example:443",
    "https://shop.example https://evil.example", "https://shop.example, https://evil.example", "shop.example", "https://",
    "https://shop.example\x00", "https://shop.exam\xadple", "HTTPS://SHOP.EXAMPLE",
]  # fmt: skip


def test_line_93_an_origin_is_ours_to_the_letter_or_not(shop: Site) -> None:
    ada = signed_in(shop)
    assert verdicts(ada, fields(origin=APP)) == [200]
    assert verdicts(ada, *(fields(origin=origin) for origin in FOREIGN)) == [403] * len(FOREIGN)
    token = token_of(ada)
    assert verdicts(ada, *(fields(origin=origin, x_csrf_token=token) for origin in FOREIGN)) == [403] * len(
        FOREIGN
    )


def test_line_93_without_configuration_an_origin_says_nothing_and_a_malformed_one_no(bare: Site) -> None:
    ada = signed_in(bare)
    token = token_of(ada)
    for origin, status in ((APP, 200), ("null", 403), ("", 403), ("shop.example", 403)):
        assert verdicts(ada, fields(origin=origin), fields(origin=origin, x_csrf_token=token)) == [
            403,
            status,
        ]
        assert verdicts(ada, fields(referer=origin, x_csrf_token=token)) == [status]


def test_line_93_two_origins_are_none(shop: Site, bare: Site) -> None:
    for site in (shop, bare):
        ada = signed_in(site)
        for sec in ({}, {"sec_fetch_site": "same-origin"}):
            assert verdicts(ada, fields(("origin", APP), ("origin", APP), **sec)) == [403]
            assert verdicts(ada, fields(("origin", APP), ("origin", EVIL), **sec)) == [403]


REFERERS = [
    "https://shop.example.evil.com/", "http://shop.example/", "https://shop.example:8443/",
    "https://evil.example/?https://shop.example/",
    "https://shop.example@evil.example/", "https://evil.example\\@shop.example/",
    "https://shop.example\\.evil.example/", "about:blank",
    "https://shop.example%2eevil.example/", "//shop.example/", "", "https:shop.example", "https:///shop.example",
    "data:https://shop.example/",
]  # fmt: skip


def test_line_93_the_referer_counts_where_there_is_no_origin(shop: Site) -> None:
    ada = signed_in(shop)
    for good in (APP, f"{APP}/", f"{APP}/a?b#c", f"{APP}:443/x", f"{APP}?x"):
        assert verdicts(ada, fields(referer=good)) == [200], good
    assert verdicts(ada, *(fields(referer=referer) for referer in REFERERS)) == [403] * len(REFERERS)
    assert verdicts(ada, fields(referer=f"{APP}/", origin=EVIL), fields(referer=f"{EVIL}/", origin=APP)) == [
        403,
        200,
    ]


def test_line_93_behind_a_proxy_that_ends_tls_the_origin_is_still_https(make: Make) -> None:
    behind = make(within=protected(trusted_origins=[APP]), proxy="203.0.113.9")
    told: dict[str, Any] = {"scheme": "http"}
    proto = (b"x-forwarded-proto", b"https")
    ada = behind.browser()
    ada.post("/login?user=ada", headers=[proto, *SAME], **told)
    for origin, status in ((APP, 200), ("http://shop.example", 403)):
        assert ada.post("/transfer", headers=[proto, *fields(origin=origin)], **told).status == status


def test_line_94_the_host_of_a_request_proves_nothing(bare: Site, shop: Site) -> None:
    for site in (bare, shop):
        ada = signed_in(site)
        for host in (b"evil.example", b"shop.example", b"evil.example:443", b"localhost"):
            origin = b"https://" + host
            if site is shop and host == b"shop.example":
                continue
            assert ada.post("/transfer", host=host, headers=[(b"origin", origin)]).status == 403
            assert ada.post("/transfer", host=host, headers=[(b"referer", origin + b"/")]).status == 403


def test_line_94_a_developers_own_machine_needs_no_configuration(bare: Site) -> None:
    local: dict[str, Any] = {"scheme": "http", "host": b"localhost:8000"}
    for origin, status in (
        ("http://localhost:8000", 200), ("http://localhost:3000", 403), ("https://localhost:8000", 403),
        (EVIL, 403), ("null", 403), ("http://127.0.0.1:8000", 403),
    ):  # fmt: skip
        assert bare.post("/login?user=ada", headers=fields(origin=origin), **local).status == status
    # No name that resolves to this machine makes it this machine.
    rebound: dict[str, Any] = {"scheme": "http", "host": b"evil.example"}
    assert bare.post("/login?user=ada", headers=fields(origin="http://evil.example"), **rebound).status == 403


# ---------------------------------------------------------------------------------------------------------- the token


def test_line_95_a_token_is_of_one_session_and_one_login(bare: Site) -> None:
    ada, eve = signed_in(bare), signed_in(bare, "eve")
    own, others = token_of(ada), token_of(eve)
    assert verdicts(ada, fields(x_csrf_token=own), fields(x_csrf_token=others)) == [200, 403]
    # Eve's token beside any cookie of hers but the session's, in Ada's browser.
    visitor = bare.browser()
    planted = token_of(visitor)
    ada.jar[PROMISE] = visitor.jar[PROMISE]
    assert verdicts(ada, fields(x_csrf_token=planted), fields(x_csrf_token=own)) == [403, 200]


def test_line_95_a_login_and_a_logout_end_every_token(bare: Site) -> None:
    visitor = bare.browser()
    before = token_of(visitor)
    assert verdicts(visitor, fields(x_csrf_token=before)) == [200]
    visitor.post("/login?user=ada", headers=fields(x_csrf_token=before))
    assert PROMISE not in visitor.jar
    during = token_of(visitor)
    assert verdicts(visitor, fields(x_csrf_token=before), fields(x_csrf_token=during)) == [403, 200]
    visitor.post("/login?user=ada", headers=fields(x_csrf_token=during))
    again = token_of(visitor)
    assert verdicts(visitor, fields(x_csrf_token=during), fields(x_csrf_token=again)) == [403, 200]
    visitor.post("/logout", headers=fields(x_csrf_token=again))
    assert verdicts(visitor, *(fields(x_csrf_token=one) for one in (before, during, again))) == [403] * 3


def test_line_95_a_stored_visitor_keeps_the_token_of_the_page_they_saw_first(bare: Site) -> None:
    """The session that is stored after the form was made takes the place that the form was made for."""
    visitor = bare.browser()
    token = token_of(visitor, "/first")
    assert NAME in visitor.jar
    assert verdicts(visitor, fields(x_csrf_token=token)) == [200]
    later = bare.browser()
    token = token_of(later)
    later.post("/set", headers=fields(x_csrf_token=token))
    assert NAME in later.jar
    assert verdicts(later, fields(x_csrf_token=token), fields(x_csrf_token=token_of(later))) == [200, 200]


def test_line_95_the_page_that_answers_a_login_has_the_logins_token(bare: Site) -> None:
    for before in (None, "ada", "eve"):
        browser = bare.browser() if before is None else signed_in(bare, before)
        token = browser.post("/form?user=ada", headers=SAME).text
        expected = 403 if before == "eve" else 200  # a session of its own: its pages are not made yet
        assert verdicts(browser, fields(x_csrf_token=token)) == [expected]


def test_line_95_what_a_late_request_shows_is_good_for_nothing(bare: Site) -> None:
    """PROTOCOL rule 26: a session that a login has superseded is told nothing of it, and is sent no cookie."""
    visitor = bare.browser()
    before = token_of(visitor, "/first")
    old = visitor.cookie
    visitor.post("/login?user=ada", headers=SAME)
    assert PROMISE.encode() in old
    assert bare.post("/transfer", old, headers=fields(x_csrf_token=before)).status == 403
    bare_old = b"; ".join(pair for pair in old.split(b"; ") if PROMISE.encode() not in pair)
    assert bare.get("/form", bare_old).cookies == []
    late = bare.get("/form", old)
    assert (late.cookies, len(late.text)) == ([], 64)
    assert bare.post("/transfer", old, headers=fields(x_csrf_token=late.text)).status == 403
    assert verdicts(visitor, fields(x_csrf_token=late.text)) == [403]


def test_line_96_the_browsers_own_word_is_no_proof(bare: Site) -> None:
    chosen = "A" * 64
    for name in (PROMISE, "csrf_token", "csrftoken", "XSRF-TOKEN", "__Host-csrf"):
        cookie = f"{name}={chosen}".encode()
        for headers in (fields(x_csrf_token=chosen), fields(x_xsrf_token=chosen), fields(x_csrftoken=chosen)):
            assert bare.post("/transfer", cookie, headers=headers).status == 403
    # A locator that was never promised, with a token that fits it but for the key.
    ring = KeyRing(normalise(SECRET[::-1]), purpose="csrf")
    token = made_token(ring, "session\0" + "L" * 24 + "\x000\0-")
    forged = f"{PROMISE}={'L' * 24}{'M' * 32}".encode()
    assert bare.post("/transfer", forged, headers=fields(x_csrf_token=token)).status == 403
    # The name of somebody else's session is public, and nobody's to promise to himself.
    victim = bare.browser()
    victim.post("/set", headers=SAME)
    stolen = bare.get("/form", f"{PROMISE}={victim.handle}{'M' * 32}".encode()).text
    assert verdicts(victim, fields(x_csrf_token=stolen)) == [403]
    # A genuine promise opens no session, and a genuine session is no promise.
    visitor = bare.browser()
    token_of(visitor)
    assert verdicts(visitor, fields(x_csrf_token=chosen)) == [403]
    assert (
        bare.post(
            "/transfer", f"{PROMISE}={victim.value}".encode(), headers=fields(x_csrf_token=chosen)
        ).status
        == 403
    )
    assert bare.get("/me", f"{NAME}={visitor.jar[PROMISE]}".encode()).status == 401


def test_line_97_a_forms_token_is_not_the_pages_nor_the_other_way_round(make: Make) -> None:
    strict, lenient = make(within=protected(per_form=True)), make(within=protected())
    ada = signed_in(strict)
    own, other = token_of(ada, "/form?form=/transfer"), token_of(ada, "/form?form=/set")
    deletes, implied = token_of(ada, "/form?form=DELETE%20/transfer"), token_of(ada, "/form")
    assert verdicts(ada, *(fields(x_csrf_token=one) for one in (own, other, deletes, implied))) == [
        200,
        403,
        403,
        403,
    ]
    assert ada.send("DELETE", "/transfer", headers=fields(x_csrf_token=own)).status == 403
    assert (
        ada.send("DELETE", "/transfer", headers=fields(x_csrf_token=deletes)).status == 404
    )  # there is no such route
    # The token of the session as a whole, which the keys alone could tell from that of a form.
    eve = signed_in(lenient)
    whole, one = token_of(eve), token_of(eve, "/form?form=/transfer")
    assert verdicts(eve, fields(x_csrf_token=whole), fields(x_csrf_token=one)) == [200, 200]
    assert eve.post("/set", headers=fields(x_csrf_token=one)).status == 403
    flipped = bytes(
        a ^ b for a, b in zip(base64.urlsafe_b64decode(whole), base64.urlsafe_b64decode(one), strict=True)
    )
    assert (
        eve.post("/set", headers=fields(x_csrf_token=base64.urlsafe_b64encode(flipped).decode())).status
        == 403
    )


def test_line_97_where_it_is_strict_the_token_of_the_whole_session_is_none(make: Make) -> None:
    lenient = make(within=protected())
    strict = make(within=protected(per_form=True), share=lenient)
    ada = signed_in(lenient)
    whole = token_of(ada)
    assert strict.post("/transfer", ada.cookie, headers=fields(x_csrf_token=whole)).status == 403
    one = lenient.get("/form?form=/transfer", ada.cookie).text
    assert strict.post("/transfer", ada.cookie, headers=fields(x_csrf_token=one)).status == 200


def test_line_98_a_hundred_pages_have_a_hundred_tokens(bare: Site) -> None:
    ada = signed_in(bare)
    tokens = [token_of(ada) for _ in range(100)]
    assert len(set(tokens)) == 100
    halves = {half for token in tokens for half in (token[:32], token[32:])}
    assert len(halves) == 200
    assert verdicts(ada, *(fields(x_csrf_token=token) for token in tokens)) == [200] * 100


def test_line_99_a_token_comes_in_a_header_or_in_a_form(bare: Site) -> None:
    ada = signed_in(bare)
    token = token_of(ada)
    assert ada.post("/transfer", **form({"to": "eve", "csrf_token": token})).text.startswith("transferred")
    assert ada.post("/transfer", **multipart({"csrf_token": token}, b"x" * 200_000)).text.startswith(
        "transferred 2"
    )
    assert ada.post("/transfer", **multipart({"csrf_token": token}, b"small", last=True)).status == 200
    for target in (
        f"/transfer?csrf_token={token}",
        f"/transfer?csrf={token}",
        f"/transfer?X-CSRF-Token={token}",
    ):
        assert ada.post(target).status == 403
        assert ada.post(target, **form({"to": "eve"})).status == 403
    for name in ("csrf_token", "X-CSRF-Token", "csrf"):
        ada.jar[name] = token
        assert ada.post("/transfer").status == 403


def test_line_99_the_application_gets_the_body_it_was_sent(bare: Site) -> None:
    ada = signed_in(bare)
    token = token_of(ada)
    for sent in (
        form([("csrf_token", token), ("rest", "r" * 300_000)]),
        form([("first", "f" * 1000), ("csrf_token", token)]),
        multipart({"a": "b", "csrf_token": token}, b"u" * 300_000),
    ):
        assert ada.post("/transfer", **sent).text == f"transferred {len(sent['body'])}"


def test_line_99_what_stands_too_far_back_is_not_looked_for(bare: Site) -> None:
    ada = signed_in(bare)
    token = token_of(ada)
    assert ada.post("/transfer", **form([("first", "f" * 70_000), ("csrf_token", token)])).status == 403
    assert ada.post("/transfer", **multipart({"csrf_token": token}, b"u" * 70_000, last=True)).status == 403
    cut = form([("first", "f" * (65_536 - 80)), ("csrf_token", token)])  # the window ends within the token
    assert ada.post("/transfer", **cut).status == 403


def test_line_99_odd_forms_are_refused_and_no_error(bare: Site) -> None:
    ada = signed_in(bare)
    token = token_of(ada)
    odd: list[tuple[str, bytes]] = [
        ("multipart/form-data", b"csrf_token=" + token.encode()),
        ("multipart/form-data; boundary=" + "b" * 71, b"x"),
        (MULTIPART, b"--XyZ\r\n\r\ncsrf_token"),
        (
            MULTIPART,
            b'--XyZ\r\nContent-Disposition: form-data; name="csrf_token"\r\n\r\n' + token.encode(),
        ),
        ("application/x-www-form-urlencoded", b"csrf_token=%ff%fe" + token.encode()),
        ("application/x-www-form-urlencoded", b"csrf_token=x&csrf_token=" + token.encode()),
        ("application/x-www-form-urlencoded; boundary", b"=&&&==;"),
        ("application/x-www-form-urlencoded", b""),
        ("application/json", b'{"csrf_token": "%s"}' % token.encode()),
        ("", b"csrf_token=" + token.encode()),
        ("\xff\xfe", b"\xff" * 100),
    ]
    for kind, body in odd:
        assert ada.post("/transfer", headers=fields(content_type=kind), body=body).status == 403, kind
    for bad in (
        token[:-1],
        token + "A",
        token[:-1] + "=",
        token.swapcase(),
        token[::-1],
        " " + token,
        "\xff" * 64,
        "",
    ):
        assert verdicts(ada, fields(x_csrf_token=bad)) == [403]
    assert verdicts(ada, fields(("x-csrf-token", token), ("x-csrf-token", token))) == [403]


def test_line_100_text_plain_smuggles_nothing(bare: Site) -> None:
    ada = signed_in(bare)
    token = token_of(ada)
    for kind in (
        "text/plain",
        "text/plain; charset=utf-8",
        "TEXT/PLAIN",
        "text/plain;application/x-www-form-urlencoded",
    ):
        for body in (
            b'{"to": "eve"}',
            b"csrf_token=" + token.encode(),
            b'{"csrf_token": "' + token.encode() + b'"}',
        ):
            assert ada.post("/transfer", headers=fields(content_type=kind), body=body).status == 403


# ----------------------------------------------------------------------------------------- methods, logins, handshakes


def test_line_101_no_override_makes_a_change_harmless(bare: Site) -> None:
    ada = signed_in(bare)
    names = ("x-http-method-override", "x-http-method", "x-method-override")
    for name, method in product(names, ("POST", "GET", "HEAD")):
        for word in ("GET", "HEAD", "DELETE", "POST", ""):
            assert ada.send(method, "/pub", headers=fields((name, word))).status == 403
            assert ada.send(method, "/pub", headers=[*fields((name, word)), *SAME]).status != 403
    for query in ("_method=GET", "a=b&_method=DELETE", "%5Fmethod=DELETE", "_method", "_metho%64=PUT"):
        for method in ("POST", "GET"):
            assert ada.send(method, f"/pub?{query}").status == 403, (method, query)
    assert ada.post("/transfer", **form({"_method": "GET"})).status == 403
    assert ada.get("/pub?method=x&my_method=y").status == 200


def test_line_102_another_site_signs_nobody_in(bare: Site) -> None:
    stranger = bare.browser()
    foreign = [
        [], fields(origin=EVIL), fields(origin="null"), fields(sec_fetch_site="cross-site"), fields(referer=f"{EVIL}/"),
        fields(sec_fetch_site="same-site", origin="https://blog.shop.example"),
    ]  # fmt: skip
    for headers in foreign:
        seen = stranger.post("/login?user=eve", headers=headers)
        assert (seen.status, seen.cookies) == (403, [])
    assert bare.rows() == 0


def test_line_102_a_login_form_has_a_token_before_there_is_a_session(bare: Site) -> None:
    visitor, other = bare.browser(), bare.browser()
    token, others = token_of(visitor), token_of(other)
    (line,) = visitor.get("/form").cookies or bare.get("/form").cookies
    assert all(
        word in line for word in (f"{PROMISE}=", "; Path=/", "; HttpOnly", "; Secure", "; SameSite=Lax")
    )
    assert "Domain" not in line
    assert bare.rows() == 0
    assert visitor.post("/login?user=eve", **form({"csrf_token": others})).status == 403
    assert bare.post("/login?user=eve", **form({"csrf_token": token})).status == 403  # without the cookie
    promised = visitor.jar[PROMISE]
    seen = visitor.post("/login?user=ada", **form({"csrf_token": token}))
    assert (seen.status, PROMISE in visitor.jar) == (200, False)
    # The visitor is no more: what was promised to them is not the login's.
    assert (
        bare.post(
            "/transfer",
            f"{PROMISE}={promised}; {NAME}={visitor.value}".encode(),
            headers=fields(x_csrf_token=token),
        ).status
        == 403
    )


def test_line_102_a_client_that_is_no_browser_needs_no_proof(bare: Site) -> None:
    for scheme in ("Bearer x", "bearer x", "DPoP x"):
        assert bare.post("/transfer", headers=fields(authorization=scheme)).status == 200
        ada = signed_in(bare)
        assert verdicts(ada, fields(authorization=scheme)) == [403]  # beside the cookie it proves nothing
        assert (
            bare.post("/transfer", f"{NAME}=junk".encode(), headers=fields(authorization=scheme)).status
            == 403
        )
    for sent_by_browsers in ("Basic YTpi", "Negotiate x", "Digest x", "NTLM x", "Bearer", "Bearer ", ""):
        assert bare.post("/transfer", headers=fields(authorization=sent_by_browsers)).status == 403


# ------------------------------------------------------------------------------------- clients that are no browser, if asked for

JSON = fields(accept="application/json")
A_PAGE = fields(accept="text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
"""What a browser asks for that sends a form."""


@pytest.fixture
def open_shop(make: Make) -> Site:
    """The application, protected, and open to scripts."""
    return make(within=protected(allow_non_browsers=True))


def test_line_91_what_bears_no_mark_of_a_browser_passes_only_where_that_is_asked_for(
    open_shop: Site, bare: Site
) -> None:
    for accept in ([], JSON, fields(accept="*/*"), fields(accept="")):
        script = open_shop.browser()
        assert script.post("/login?user=ada", headers=accept).status == 200
        assert [script.send(method, "/transfer", headers=accept).status for method in ("POST", "DELETE")] == [
            200,
            404,
        ]
        assert script.post("/logout", headers=accept).status == 204
        assert bare.post("/login?user=ada", headers=accept).status == 403


@pytest.mark.parametrize("accept", [[], JSON, A_PAGE], ids=["silent", "json", "page"])
def test_line_102_any_mark_of_a_browser_is_judged_as_ever(open_shop: Site, accept: Any) -> None:
    ada = signed_in(open_shop)
    marks = [
        fields(sec_fetch_site="cross-site"), fields(sec_fetch_site="same-site"), fields(sec_fetch_site="unheard-of"),
        fields(sec_fetch_site=""), fields(("sec-fetch-site", "cross-site"), ("sec-fetch-site", "none")),
        fields(origin=EVIL), fields(origin="null"), fields(origin=""), fields(("origin", EVIL), ("origin", EVIL)),
        fields(referer=f"{EVIL}/"), fields(referer=""), fields(("referer", f"{EVIL}/"), ("referer", f"{EVIL}/")),
    ]  # fmt: skip
    for mark in marks:
        for target in ("/transfer", "/logout", "/login?user=eve"):
            seen = ada.post(target, headers=[*mark, *accept])
            assert (seen.status, seen.cookies) == (403, []), (target, mark)
    assert ada.get("/me").text == "ada"


def test_line_102_a_form_of_an_old_browser_still_needs_a_token(open_shop: Site) -> None:
    """IE 11, and Firefox before 2019, marked nothing; what they asked for, where a form was sent, was a page."""
    visitor = open_shop.browser()
    token = token_of(visitor)
    for accept in (
        A_PAGE,
        fields(accept="TEXT/HTML, */*"),
        fields(("accept", "*/*"), ("accept", "text/html")),
    ):
        assert visitor.post("/login?user=eve", headers=accept).status == 403
        assert visitor.post("/transfer", headers=[*accept, *fields(x_csrf_token=token)]).status == 200


def test_line_101_a_picture_of_an_old_browser_changes_nothing(open_shop: Site) -> None:
    """It asks for no page, so an override in its address would do what it likes."""
    ada = signed_in(open_shop)
    for accept in ([], fields(accept="image/webp,*/*")):
        assert ada.get("/pub?_method=DELETE", headers=accept).status == 403
        assert ada.get("/pub", headers=[*accept, *fields(x_http_method_override="POST")]).status == 403


def test_line_104_that_scripts_pass_is_listed(make: Make) -> None:
    site = make(within=protected(exempt=["/set/*"], allow_non_browsers=True))
    assert site.app.app.exempt == ("/set/*", NON_BROWSERS)


def test_line_102_a_session_that_is_still_to_be_adopted_is_one(make: Make) -> None:
    """The cookie of the library before stands for somebody too."""
    from tests.security.test_n_observability import Old

    site = make(within=protected(), adopt=Old())
    bearer = fields(authorization="Bearer x")
    assert [site.post("/transfer", cookie, headers=bearer).status for cookie in (b"", b"old=good")] == [
        200,
        403,
    ]


def test_line_104_the_answer_says_what_it_depends_on(shop: Site) -> None:
    ada = signed_in(shop)
    for headers in ([], SAME, fields(origin=APP), fields(origin=EVIL)):
        assert {"sec-fetch-site", "origin"} <= ada.post("/transfer", headers=headers).vary
    assert ada.get("/pub").vary == set()
    assert ada.post("/cached?vary=Accept", headers=SAME).status == 404
    merged = shop.send("GET", "/cached?vary=Accept&look=0&_method=x", headers=SAME)
    assert merged.vary == {"accept", "sec-fetch-site", "origin"}
    assert shop.send("GET", "/cached?vary=*&look=0&_method=x", headers=SAME).vary == {"*"}


def test_line_104_what_needs_no_proof_is_listed(make: Make) -> None:
    site = make(within=protected(exempt=["/transfer", "/set/*"]))
    ada = signed_in(site)
    assert verdicts(ada, [], fields(sec_fetch_site="cross-site")) == [200, 200]
    assert [
        ada.post(target).status for target in ("/set", "/settle", "/transfer/x", "/incr", "/set/../incr")
    ] == [403] * 5
    assert ada.post("/set/k").status == 200
    assert site.app.app.exempt == ("/transfer", "/set/*")


# -------------------------------------------------------------------------------------------- what other lines ask of it


def test_line_12_a_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison is `hmac.compare_digest`, and it sees the whole MAC, whichever character is wrong."""
    from coatcheck.core import signing

    ring, seen = KeyRing(normalise(SECRET), purpose="csrf"), list[tuple[str, str]]()
    true = hmac.compare_digest

    def noted(a: str, b: str) -> bool:
        seen.append((a, b))
        return true(a, b)

    monkeypatch.setattr(signing, "compare_digest", noted)
    token = made_token(ring, "whose")
    assert is_genuine(ring, token, "whose", ("", "POST /x"))
    assert not is_genuine(ring, token, "another", ("", "POST /x"))
    assert [len(a) == len(b) == 32 for a, b in seen] == [True] * 4  # a match does not cut the search short


def test_line_17_a_csrf_token_is_nothing_else_and_nothing_else_is_one(bare: Site) -> None:
    ada = signed_in(bare)
    token = token_of(ada)
    assert bare.get("/me", f"{NAME}={token}".encode()).status == 401
    mac = ada.value[-32:]
    for stolen in (mac + mac, base64.urlsafe_b64encode(bytes(24)).decode() + mac):
        assert verdicts(ada, fields(x_csrf_token=stolen)) == [403]
    promised = bare.browser()
    token_of(promised)
    text, signature = promised.jar[PROMISE][:-32], promised.jar[PROMISE][-32:]
    as_token = base64.urlsafe_b64encode(bytes(24)).decode() + signature
    assert bare.post("/transfer", promised.cookie, headers=fields(x_csrf_token=as_token)).status == 403
    assert bare.get("/me", forge(text, "v" * 44, secret=SECRET[::-1])).status == 401


def test_line_54_every_change_of_privilege_gives_another_token(bare: Site) -> None:
    ada = signed_in(bare)
    for change in ("/elevate", "/login?user=ada", "/change-password"):
        before = token_of(ada)
        ada.post(change, headers=SAME)
        assert verdicts(ada, fields(x_csrf_token=before), fields(x_csrf_token=token_of(ada))) == [403, 200]


def test_line_54_a_renewal_by_age_leaves_open_forms_alone(bare: Site) -> None:
    ada = signed_in(bare)
    before, cookie = token_of(ada), ada.value
    bare.time += 2 * 3600
    ada.get("/read")
    assert ada.value != cookie
    assert verdicts(ada, fields(x_csrf_token=before)) == [200]


def test_line_58_a_logout_that_another_site_asks_for_is_refused(bare: Site) -> None:
    ada = signed_in(bare)
    for headers in ([], fields(origin=EVIL), fields(sec_fetch_site="cross-site"), fields(origin="null")):
        assert ada.post("/logout", headers=headers).status == 403
        assert ada.get("/logout", headers=headers).status == 404
    assert ada.get("/me").text == "ada"
    assert [ada.post("/logout", headers=SAME).status for _ in range(2)] == [204, 204]


def test_line_89_a_page_with_a_token_is_in_no_shared_cache(bare: Site) -> None:
    ada, visitor = signed_in(bare), bare.browser()
    for browser in (ada, visitor, visitor):  # with a promise to make, and with one made already
        seen = browser.get("/form")
        assert (seen.cache, "cookie" in seen.vary) == ("no-store", True)
    assert bare.get("/form").text != bare.get("/form").text
    assert visitor.jar.keys() == {PROMISE}
    assert visitor.get("/form").cookies == []


def test_line_118_a_store_that_is_down_neither_lets_in_nor_forgets(bare: Site) -> None:
    ada = signed_in(bare)
    token = token_of(ada)
    bare.store.fail()
    assert verdicts(ada, fields(x_csrf_token=token), [], SAME) == [503, 403, 200]
    bare.store.recover()
    assert verdicts(ada, fields(x_csrf_token=token)) == [200]


@pytest.mark.parametrize(
    "target",
    [
        "//evil", "/\\evil", "\\\\evil", "https:evil", "/%0d%0aSet-Cookie: a=b", "https://evil", "javascript:alert(1)",
        "", " /x", "/x\n",
        "/\t/evil", "\t//evil", "/x\x00", "evil", "./x", "../x", "///evil", "/\\\\evil", "http://shop.example",
        "/a\\..\\b", "/%0A",
        "https://shop.example.evil", "https://shop.example@evil", "https://shop.example\\@evil", "data:text/html,x",
        None, 7, ["/x"],
        "/" + "x" * 2048, "/x\u2028", "/\xa0", "%2f%2fevil", "https://evil/https://shop.example",
    ],
)  # fmt: skip
def test_line_109_next_leads_to_this_site_or_home(target: object) -> None:
    assert safe_next(target) == "/"
    assert safe_next(target, "/account", allowed=[APP]) == "/account"


def test_line_109_and_to_what_is_allowed() -> None:
    for target in ("/", "/orders?page=2#last", "/a//b", "/%2f/evil", "/@evil", "/\u00e4"):
        assert safe_next(target) == target
    assert safe_next(f"{APP}/x", allowed=[APP]) == f"{APP}/x"
    assert safe_next(f"{APP}:8443/x", allowed=[APP]) == "/"
    with pytest.raises(ConfigurationError, match="a wildcard"):
        safe_next("/x", allowed=["https://*.example"])


# --------------------------------------------------------------------------------------------------------- wrong uses


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """An application."""


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"trusted_origins": "https://app.example"},
            'give a list, such as trusted_origins=["https://app.example"]',
        ),
        ({"trusted_origins": ["app.example"]}, 'the scheme is missing: write "https://app.example"'),
        ({"trusted_origins": ["https://app.example/"]}, 'write "https://app.example"'),
        ({"trusted_origins": ["https://app.example/login"]}, 'write "https://app.example"'),
        ({"trusted_origins": ["https://App.Example:443"]}, 'write "https://app.example"'),
        ({"trusted_origins": ["https://*.app.example"]}, "a wildcard trusts hosts"),
        ({"trusted_origins": ["*"]}, "a wildcard trusts hosts"),
        ({"trusted_origins": ["http://app.example"]}, 'write "https://app.example"'),
        ({"trusted_origins": ["null"]}, "the scheme is missing"),
        ({"trusted_origins": ["ftp://app.example"]}, "write scheme, host and port only"),
        ({"trusted_origins": ["https://a@app.example"]}, "write scheme, host and port only"),
        ({"trusted_origins": ["https://\xe4pp.example"]}, "write scheme, host and port only"),
        ({"trusted_origins": [None]}, "give text"),
        ({"exempt": "/hooks"}, 'exempt=["/hooks/pay"]'),
        ({"exempt": ["hooks"]}, "give a path as the browser sees it"),
        ({"exempt": ["/hooks*"]}, "give a path as the browser sees it"),
        ({"exempt": ["/*"]}, "leave the middleware out"),
        ({"same_site": "no"}, "give True or False"),
        ({"allow_non_browsers": 1}, "allow_non_browsers=1: give True or False"),
        ({"origins": []}, "unknown option 'origins'"),
    ],
    ids=str,
)
def test_a_wrong_setting_says_what_to_write(options: dict[str, Any], says: str) -> None:
    for kind in (CsrfMiddleware, WsgiCsrf):
        with pytest.raises(ConfigurationError) as failure:
            kind(nothing, **options)  # type: ignore[arg-type]
        assert says in str(failure.value)


def test_loopback_and_trusted_networks_may_speak_plain_http() -> None:
    for origin in (
        "http://localhost:3000",
        "http://127.0.0.1:8000",
        "http://[::1]:8000",
        "http://app.localhost",
    ):
        CsrfMiddleware(nothing, trusted_origins=[origin])
    CsrfMiddleware(nothing, trusted_origins=["http://intranet"], allow_http=True)


def test_without_sessions_around_it_nothing_is_served(make: Make) -> None:
    from coatcheck.asgi import SessionMiddleware
    from coatcheck.wsgi import SessionMiddleware as WsgiSessions

    with pytest.raises(ConfigurationError, match="add CsrfMiddleware first, then SessionMiddleware"):
        CsrfMiddleware(SessionMiddleware(nothing, secret=SECRET))
    with pytest.raises(ConfigurationError, match=r"SessionMiddleware\(CsrfMiddleware\(application"):
        WsgiCsrf(WsgiSessions(lambda environ, start: [], secret=SECRET))
    site = make()
    site.app = protected()(site.face, lambda *_: [])
    site.expected = (ConfigurationError,)
    assert (site.get("/pub").status, site.post("/transfer", headers=SAME).status) == (500, 500)


def test_a_second_session_has_a_promise_of_its_own(make: Make) -> None:
    for name, expected in (
        ("sid", "__Host-sid-csrf"),
        ("__Secure-staff", "__Host-staff-csrf"),
        ("__Host-Http-x", "__Host-x-csrf"),
    ):
        seen = make(within=protected(), name=name).get("/form")
        assert seen.cookies[0].startswith(f"{expected}=")
    across = make(within=protected(), cookie=CookieSettings(same_site="none", partitioned=True)).get("/form")
    assert "; Secure; Partitioned; SameSite=None" in across.cookies[0]


def test_a_token_outlives_a_change_of_the_secret(make: Make) -> None:
    site = make(within=protected())
    ada, visitor = signed_in(site), site.browser()
    tokens = token_of(ada), token_of(visitor)
    later = make(within=protected(), share=site, secret=["N" + SECRET[1:], SECRET])
    for browser, token in zip((ada, visitor), tokens, strict=True):
        assert later.post("/transfer", browser.cookie, headers=fields(x_csrf_token=token)).status == 200


def test_the_operator_hears_why(shop: Site, caplog: pytest.LogCaptureFixture) -> None:
    ada = signed_in(shop)
    with caplog.at_level(logging.WARNING, "coatcheck"):
        verdicts(
            ada,
            fields(origin=EVIL),
            fields(sec_fetch_site="cross-site", origin=EVIL),
            fields(x_csrf_token="x" * 64),
        )
    told = [event.detail.removeprefix("POST /transfer: ") for event in shop.heard("csrf.refused")]
    assert told == [
        f"Origin: '{EVIL}' is not among trusted_origins",
        f"Sec-Fetch-Site: cross-site from '{EVIL}'",
        "neither Sec-Fetch-Site nor Origin nor Referer, and no token of this session",
    ]


def test_line_103_a_handshake_from_another_site_is_never_accepted() -> None:
    import asyncio

    from coatcheck.asgi import SessionMiddleware

    reached, cookie = list[str](), fields(cookie=f"{NAME}=anything")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append("accepted")
        await send({"type": "websocket.accept"})

    def handshake(headers: Any, trusted: list[str], extensions: Any = ()) -> list[str]:
        sent, messages = (
            list[str](),
            [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1006}],
        )
        scope = {
            "type": "websocket", "scheme": "wss", "path": "/ws", "query_string": b"",
            "headers": [(b"host", b"shop.example"), *headers],
            "client": None, "extensions": dict.fromkeys(extensions),
        }  # fmt: skip

        async def receive() -> Any:
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(message["type"])

        guarded = SessionMiddleware(CsrfMiddleware(app, trusted_origins=trusted), secret=SECRET)
        asyncio.run(guarded(scope, receive, send))
        return sent

    accepted = ["websocket.accept"]
    for good in (
        fields(origin=APP),
        fields(origin=APP, sec_fetch_site="same-origin"),
        fields(sec_fetch_site="same-origin"),
        [],
    ):
        assert handshake([*good, *(cookie if good else [])], [APP]) == accepted
    reached.clear()
    for bad in (
        fields(origin=EVIL), fields(origin="null"), fields(origin="http://shop.example"), [], fields(sec_fetch_site="cross-site"),
        fields(sec_fetch_site="same-site", origin="https://blog.shop.example"), fields(("origin", APP), ("origin", APP)),
    ):  # fmt: skip
        assert handshake([*bad, *cookie], [APP]) == ["websocket.close"]
        denial = handshake([*bad, *cookie], [APP], ["websocket.http.response"])
        assert denial == ["websocket.http.response.start", "websocket.http.response.body"]
    for unconfigured in (fields(origin=APP), fields(origin=EVIL)):
        assert handshake([*unconfigured, *cookie], []) == ["websocket.close"]
    assert reached == []
