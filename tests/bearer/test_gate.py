"""Who passes with an access token, and what the others are told (RFC 6750, RFC 9470)."""

from typing import Any

import pytest

from coatcheck import ConfigurationError, WrongFace
from coatcheck.bearer import TokenCookies
from coatcheck.bearer.gate import Gate, Needs
from tests.bearer.rig import FACES, Got, World
from tests.bearer.test_desk import as_header


@pytest.fixture(params=FACES)
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param)


def bearer(token: str) -> tuple[str, str]:
    return "authorization", f"Bearer {token}"


COOKIES = TokenCookies(path="/auth", trusted_origins=["https://app.example"])


def test_a_good_token_passes_and_yields_its_claims(world: World) -> None:
    pair = world.issue(scope="a b")
    claims = world.gate().enter(bearer(pair.access_token), needs=Needs(["a", "b"]))
    assert (claims.sub, claims.scopes) == ("ada", {"a", "b"})


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer  "])
def test_the_name_of_the_scheme_is_read_as_rfc_9110_says(world: World, scheme: str) -> None:
    assert world.gate().enter(("authorization", f"{scheme} {world.issue().access_token}")).sub == "ada"


@pytest.mark.parametrize("headers", [[], [("authorization", "Basic YTpi")], [("cookie", "access_token=x")]])
def test_without_a_token_the_challenge_names_no_error(world: World, headers: list[tuple[str, str]]) -> None:
    """RFC 6750 section 3.1: whoever did not know that one is needed made no mistake."""
    got = world.gate().enter(*headers)
    assert (got.status, got.header("www-authenticate")) == (401, 'Bearer realm="api"')
    assert got.header("cache-control") == "no-store"


BAD = [
    "Bearer", "Bearer ", "Bearer   ", "bearer,", "Bearer,x", "Bearer x y", "Bearer x,Bearer y", "Bearer\tx", "Bearer é",
    "BearerX", "Bearer x", "Bearer a.b.c", "Bearer =", " Bearer x", "Bearer " + "x" * 100_000, "Bearer x\x00",
]  # fmt: skip


@pytest.mark.parametrize("field", BAD, ids=lambda field: repr(field[:20]))
def test_a_bad_token_is_refused_in_one_way(world: World, field: str) -> None:
    got = world.gate().enter(("authorization", field))
    assert refused_alike(got)


@pytest.mark.parametrize("more", [",", " x", ",Bearer x", "\t", "é", "\x00", '"', "==x"])
def test_a_good_token_with_something_behind_it_is_a_bad_one(world: World, more: str) -> None:
    name, field = bearer(world.issue().access_token)
    assert refused_alike(world.gate().enter((name, field + more)))


def refused_alike(got: Got) -> bool:
    return (got.status, got.header("www-authenticate"), got.body) == (
        401,
        'Bearer realm="api", error="invalid_token"',
        b'{"error":"invalid_token"}',
    )


def test_two_headers_are_one_too_many(world: World) -> None:
    token = world.issue().access_token
    assert refused_alike(world.gate().enter(bearer(token), bearer(token)))
    assert world.reasons() == ["two_headers"]


def test_the_reason_is_in_the_log_and_not_in_the_answer(world: World) -> None:
    door, pair = world.gate(), world.issue()
    other = World(world.face, issuer="https://other.example").issue()
    world.sync.revoke(pair.refresh_token)
    world.events.clear()
    for token in (pair.access_token, other.access_token, "a.b.c", "x" * 9000):
        assert refused_alike(door.enter(bearer(token)))
    live = world.issue()
    world.time.now += 700
    assert refused_alike(door.enter(bearer(live.access_token)))
    assert world.reasons() == ["revoked", "issuer", "malformed", "too_large", "expired"]


def test_too_little_scope_is_told_what_is_missing(world: World) -> None:
    got = world.gate(realm="orders").enter(
        bearer(world.issue(scope="a").access_token), needs=Needs(["a", "b:c"])
    )
    assert got.status == 403
    assert (
        got.header("www-authenticate") == 'Bearer realm="orders", error="insufficient_scope", scope="a b:c"'
    )
    assert got.json == {"error": "insufficient_scope", "scope": "a b:c"}
    assert world.reasons() == ["scope"]


def test_a_refresh_does_not_make_a_login_recent(world: World) -> None:
    """Line 179, RFC 9470."""
    pair, door, needs = world.issue(), world.gate(), Needs(recent="10m")
    assert door.enter(bearer(pair.access_token), needs=needs).sub == "ada"
    world.time.now += 601
    fresh = world.sync.refresh(pair.refresh_token)
    got = door.enter(bearer(fresh.access_token), needs=needs)
    challenge = 'Bearer realm="api", error="insufficient_user_authentication", max_age="600"'
    assert (got.status, got.header("www-authenticate")) == (401, challenge)
    assert got.json == {"error": "insufficient_user_authentication", "max_age": 600}
    assert door.enter(bearer(fresh.access_token)).sub == "ada"


def test_an_outage_lets_nobody_in(world: World) -> None:
    token = world.issue().access_token
    world.store.down = True
    got = world.gate().enter(bearer(token))
    assert (got.status, got.header("retry-after")) == (503, "5")
    assert got.header("www-authenticate") is None
    assert [event.name for event in world.events if event.name == "store.down"] == ["store.down"]
    assert refused_alike(world.gate().enter(bearer("a.b.c")))  # which asks nobody


def test_with_a_verifier_alone_the_store_is_not_asked(world: World) -> None:
    pair = world.issue()
    world.sync.revoke(pair.refresh_token)
    world.store.told()
    gate: Gate[Any] = Gate(world.tokens.verifier, awaits=world.face == "asgi")
    world.gate().gate = gate
    door = world.gate()
    door.gate = gate
    assert door.enter(bearer(pair.access_token)).sub == "ada"
    assert world.store.told() == []


# --------------------------------------------------------------------------------------------------------- cookies


def held(world: World) -> tuple[str, str]:
    return as_header(COOKIES.set(world.issue()))


def test_a_cookie_counts_where_it_is_allowed_and_nowhere_else(world: World) -> None:
    cookie = held(world)
    assert world.gate(cookies=COOKIES).enter(cookie).sub == "ada"
    assert world.gate().enter(cookie).status == 401
    without = TokenCookies(path="/auth", access=False)
    assert world.gate(cookies=without).enter(cookie).status == 401


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "PURGE"])
@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ([], False),
        ([("sec-fetch-site", "same-origin")], True),
        ([("sec-fetch-site", "none")], True),
        ([("sec-fetch-site", "same-site")], False),
        ([("sec-fetch-site", "cross-site")], False),
        ([("sec-fetch-site", "nonsense")], False),
        ([("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")], False),
        ([("sec-fetch-site", "same-site"), ("origin", "https://app.example")], True),
        ([("origin", "https://app.example")], True),
        ([("origin", "https://app.example:8443")], False),
        ([("origin", "https://app.example.evil.com")], False),
        ([("origin", "http://app.example")], False),
        ([("origin", "null")], False),
        ([("host", "evil.example"), ("origin", "https://evil.example")], False),
        ([("referer", "https://app.example/")], True),
    ],
)
def test_what_changes_something_must_come_from_our_own_pages(
    world: World, method: str, headers: list[tuple[str, str]], passes: bool
) -> None:
    got = world.gate(cookies=COOKIES).enter(held(world), *headers, method=method)
    assert (
        (got.sub == "ada") if passes else ((got.status, got.json) == (403, {"error": "cross_site_request"}))
    )


def test_a_websocket_by_cookie_must_come_from_our_own_pages(world: World) -> None:
    """Line 103: its handshake says GET."""
    door = world.gate(cookies=COOKIES)
    assert door.enter(held(world), ("origin", "https://evil.example"), is_socket=True).status == 403
    assert door.enter(held(world), is_socket=True).status == 403
    assert door.enter(held(world), ("origin", "https://app.example"), is_socket=True).sub == "ada"


def test_a_header_needs_no_proof_of_where_it_comes_from(world: World) -> None:
    """No foreign page can make a browser send it."""
    where = ("sec-fetch-site", "cross-site")
    token = world.issue().access_token
    assert world.gate(cookies=COOKIES).enter(bearer(token), where, method="POST").sub == "ada"


def test_a_bad_header_is_not_made_good_by_a_cookie(world: World) -> None:
    assert world.gate(cookies=COOKIES).enter(held(world), bearer("x")).status == 401


def test_a_planted_cookie_beside_ours_is_refused(world: World) -> None:
    name, value = held(world)
    assert refused_alike(world.gate(cookies=COOKIES).enter((name, value + "; __Host-access=x")))
    assert world.gate(cookies=COOKIES).enter((name, f"{value}; {value}")).sub == "ada"  # the same twice


def test_how_the_cookies_are_written(world: World) -> None:
    access, refresh = COOKIES.set(world.issue())
    assert access.endswith("; Path=/; " + access.split("; Path=/; ")[1])
    for part in ("Max-Age=600", "Path=/;", "HttpOnly", "Secure", "SameSite=Strict"):
        assert part in access
    for part in (f"Max-Age={14 * 86_400}", "Path=/auth;", "HttpOnly", "Secure", "SameSite=Strict"):
        assert part in refresh
    assert "Domain" not in access + refresh
    lax = TokenCookies(path="/auth", same_site="lax", max_age=None).set(world.issue())
    assert "SameSite=Lax" in lax[0]
    assert "SameSite=Strict" in lax[1]
    assert "Max-Age" not in lax[1]
    plain = TokenCookies(path="/auth", secure=False).set(world.issue())
    assert [cookie.partition("=")[0] for cookie in plain] == ["access", "refresh"]
    assert not any("Secure" in cookie for cookie in plain)
    foreign = TokenCookies(path="/auth", same_site="none").set(world.issue())
    assert all("SameSite=None" in cookie and "Secure" in cookie for cookie in foreign)
    assert [cookie.partition("=")[0] for cookie in COOKIES.clear()] == ["__Host-access", "__Secure-refresh"]


# ----------------------------------------------------------------------------------------------------- at start-up


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: TokenCookies(path="auth"), "path"),
        (lambda: TokenCookies(path="/auth", trusted_origins="https://a.example"), "give a list"),
        (lambda: TokenCookies(path="/auth", trusted_origins=["a.example"]), "the scheme is missing"),
        (
            lambda: TokenCookies(path="/auth", trusted_origins=["https://a.example/"]),
            'write "https://a.example"',
        ),
        (lambda: TokenCookies(path="/auth", trusted_origins=["*"]), "a wildcard"),
        (lambda: TokenCookies(path="/auth", trusted_origins=["null"]), "'null': the scheme is missing"),
        (
            lambda: TokenCookies(path="/auth", same_site="none", secure=False),
            'same_site: "none" needs Secure',
        ),
        (lambda: TokenCookies(path="/auth", secure="auto"), "secure='auto'"),  # type: ignore[arg-type]
        (lambda: TokenCookies(path="/auth", max_age="soon"), "max_age"),
        (lambda: Needs(["a b"]), "scope 'a b': give one word each"),
        (lambda: Needs(['"']), "give one word each"),
        (lambda: Needs(recent=600), "recent=600: give a time with its unit"),  # type: ignore[arg-type]
        (lambda: World("asgi").gate(realm='a"b'), "realm="),
        (lambda: World("asgi").gate(cookies=True), "cookies=True"),
        (lambda: World("asgi").gate(listen=True), "listen=True is for Tokens in sync code"),
    ],
)
def test_a_wrong_setting_is_refused_with_the_fix(make: Any, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert says in str(caught.value)


def test_the_wrong_face_is_refused() -> None:
    with pytest.raises(WrongFace):
        Gate(World("asgi").tokens, awaits=False)
    with pytest.raises(WrongFace):
        Gate(World("wsgi").tokens, awaits=True)


def test_nothing_shows_a_token(world: World) -> None:
    from coatcheck.bearer.forms import Form
    from coatcheck.bearer.http import Answer, Asked

    shown = f"{Asked('GET', (bearer('s3cret'),))!r} {Answer(200, (bearer('s3cret'),), b's3cret')!r} {Form(token='s3cret')!r}"
    assert "s3cret" not in shown
