"""The endpoints: refresh, revocation, introspection, key set and metadata, in both shells."""

import hmac
from typing import Any
from urllib.parse import quote_plus

import pytest

from coatcheck import ConfigurationError, WrongFace
from coatcheck.bearer import Attempt, TokenCookies, asgi, wsgi
from coatcheck.tokens import Key, KeyRing, TokenVerifier
from tests.bearer.rig import FACES, FORM, ISSUER, KEY, Got, World

SECRETS = {"shop": "s3cret:with/odd chars%", "orders-api": "another"}


def knows(client_id: str, secret: str) -> bool:
    return hmac.compare_digest(SECRETS.get(client_id, ""), secret) and client_id in SECRETS


@pytest.fixture(params=FACES)
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param)


def refresh(world: World, token: str, client: str = "web", **fields: str) -> Got:
    form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": client, **fields}
    return world.desk().post("/token", form)


# --------------------------------------------------------------------------------------------------------- refresh


def test_a_refresh_gives_the_next_pair(world: World) -> None:
    first = world.issue(scope="a b")
    got = refresh(world, first.refresh_token)
    assert got.status == 200
    assert got.json.keys() == {"access_token", "token_type", "expires_in", "refresh_token", "scope"}
    assert (got.header("cache-control"), got.header("pragma")) == ("no-store", "no-cache")
    assert got.header("content-type") == "application/json"
    assert world.sync.verify(got.json["access_token"]).sub == "ada"
    assert refresh(world, got.json["refresh_token"]).status == 200


def test_a_narrower_scope_is_given_and_a_wider_one_is_not(world: World) -> None:
    pair = world.issue(scope="a b")
    narrow = refresh(world, pair.refresh_token, scope="a")
    assert (narrow.status, narrow.json["scope"]) == (200, "a")
    wide = refresh(world, narrow.json["refresh_token"], scope="a b c")
    assert (wide.status, wide.json) == (400, {"error": "invalid_scope"})
    assert refresh(world, narrow.json["refresh_token"], scope="b").json["scope"] == "b"  # nothing was used up


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "é" * 40, "a" * 24 + "." + "b" * 44 + "." + "c" * 44])
def test_what_is_no_refresh_token_of_ours_is_refused_alike(world: World, token: str) -> None:
    got = refresh(world, token)
    error = "invalid_grant" if token else "invalid_request"
    assert (got.status, got.body) == (400, b'{"error":"%s"}' % error.encode())


def test_another_clients_token_is_refused(world: World) -> None:
    pair = world.issue(client_id="app")
    assert refresh(world, pair.refresh_token, client="web").json == {"error": "invalid_grant"}


@pytest.mark.parametrize(
    ("fields", "status", "error"),
    [
        ({"client_id": "web", "refresh_token": "x"}, 400, "invalid_request"),
        ({"client_id": "web", "refresh_token": "x", "grant_type": ""}, 400, "invalid_request"),
        ({"client_id": "web", "refresh_token": "x", "grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"client_id": "web", "grant_type": "refresh_token"}, 400, "invalid_request"),
        ({"refresh_token": "x", "grant_type": "refresh_token"}, 401, "invalid_client"),
        ({"client_id": "who", "refresh_token": "x", "grant_type": "refresh_token"}, 401, "invalid_client"),
        (
            {"client_id": "web", "client_secret": "x", "refresh_token": "x", "grant_type": "refresh_token"},
            401,
            "invalid_client",
        ),
    ],
)
def test_a_wrong_request_says_what_is_wrong(
    world: World, fields: dict[str, str], status: int, error: str
) -> None:
    got = world.desk().post("/token", fields)
    assert (got.status, got.json) == (status, {"error": error})
    assert world.store.told() == []


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b'{"grant_type":"refresh_token","client_id":"web","refresh_token":"x"}'),
        ("text/plain", b"grant_type=refresh_token&client_id=web&refresh_token=x"),
        ("", b"grant_type=refresh_token&client_id=web&refresh_token=x"),
        ("multipart/form-data; boundary=x", b"--x--"),
        (FORM, b"grant_type=refresh_token&client_id=web&refresh_token=x&refresh_token=y"),
        (FORM, b"grant_type=refresh_token&client_id=web&refresh_token=%ff"),
        (FORM, b"grant_type=refresh_token&client_id=web&refresh_token=\xff"),
        (FORM, b"&".join(b"a%d=1" % n for n in range(50))),
        (FORM, b""),
    ],
)
def test_what_is_no_form_is_a_bad_request(world: World, kind: str, body: bytes) -> None:
    got = world.desk().send("POST", "/token", *([("content-type", kind)] if kind else []), body=body)
    assert got.status in (400, 401)
    assert got.json["error"] in ("invalid_request", "invalid_client")
    assert world.store.told() == []


def test_a_charset_beside_the_content_type_is_fine(world: World) -> None:
    pair = world.issue()
    body = f"grant_type=refresh_token&client_id=web&refresh_token={pair.refresh_token}".encode()
    got = world.desk().send("POST", "/token", ("content-type", FORM + "; charset=UTF-8"), body=body)
    assert got.status == 200


def test_a_large_body_is_not_read(world: World) -> None:
    got = world.desk().send("POST", "/token", ("content-type", FORM), body=b"a=" + b"x" * 100_000)
    assert (got.status, got.json) == (413, {"error": "invalid_request"})


def test_half_a_request_is_none(world: World) -> None:
    """The client has gone: what came of its form may mean something else than the whole."""
    pair = world.issue(scope="a b")
    body = f"grant_type=refresh_token&client_id=web&refresh_token={pair.refresh_token}".encode()
    desk = world.desk()
    if world.face == "wsgi":
        got = desk.send("POST", "/token", ("content-type", FORM), body=body, length=str(len(body) + 8))
    else:
        got = desk.send("POST", "/token", ("content-type", FORM), body=body, leaves=True)
    assert got.status == 413
    world.sync.refresh(pair.refresh_token)


@pytest.mark.parametrize("length", ["-1", "1e3", "9" * 400])
def test_a_length_that_is_none_is_refused(length: str) -> None:
    """Under WSGI it is the application that reads it."""
    got = World("wsgi").desk().send("POST", "/token", ("content-type", FORM), body=b"a=1", length=length)
    assert got.status == 413


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "BREW"])
@pytest.mark.parametrize("path", ["/token", "/revoke"])
def test_another_method_is_told_which_one(world: World, method: str, path: str) -> None:
    got = world.desk().send(method, path)
    assert (got.status, got.header("allow")) == (405, "POST")


@pytest.mark.parametrize("path", ["/", "", "/tokens", "/token//", "//token", "/introspect", "/.well-known/x"])
def test_nothing_else_is_there(world: World, path: str) -> None:
    assert world.desk().post(path).status == 404


def test_tokens_in_the_address_count_for_nothing(world: World) -> None:
    pair = world.issue()
    got = world.desk().post(
        f"/token?refresh_token={pair.refresh_token}", grant_type="refresh_token", client_id="web"
    )
    assert got.status in (400, 404)
    world.sync.refresh(pair.refresh_token)  # it is as good as before


def test_an_outage_is_no_refusal_and_uses_nothing_up(world: World) -> None:
    pair = world.issue()
    world.store.down = True
    got = refresh(world, pair.refresh_token)
    assert (got.status, got.json, got.header("retry-after")) == (
        503,
        {"error": "temporarily_unavailable"},
        "5",
    )
    assert "store.down" in [event.name for event in world.events]
    world.store.down = False
    assert refresh(world, pair.refresh_token).status == 200


# --------------------------------------------------------------------------------------------------------- clients


def test_a_confidential_client_proves_who_it_is(world: World) -> None:
    desk = world.desk(public_clients=[], client_auth=knows)
    pair = world.issue(client_id="shop")
    fields = {"grant_type": "refresh_token", "refresh_token": pair.refresh_token}
    secret = SECRETS["shop"]
    assert desk.post("/token", fields, basic=("shop", quote_plus(secret))).status == 200
    assert (
        desk.post("/token", fields, client_id="shop", client_secret=secret).status == 200
    )  # within the grace
    for wrong in (
        {"client_id": "shop"},
        {"client_id": "shop", "client_secret": "no"},
        {"client_secret": secret},
    ):
        got = desk.post("/token", {**fields, **wrong})
        assert (got.status, got.json) == (401, {"error": "invalid_client"})
        assert got.header("www-authenticate") == 'Basic realm="tokens"'
    for name, password in (("shop", "no"), ("", ""), ("orders-api", secret)):
        assert desk.post("/token", fields, basic=(name, password)).status == 401


@pytest.mark.parametrize(
    "field", ["Basic", "Basic ", "Basic !!!", "Basic c2hvcA==", "Basic /w==", "Bearer x", "Digest y"]
)
def test_a_malformed_authorization_is_a_refusal(world: World, field: str) -> None:
    got = world.desk(client_auth=knows).post(
        "/token", {"grant_type": "refresh_token"}, ("authorization", field)
    )
    assert (got.status, got.json) == (401, {"error": "invalid_client"})


def test_two_ways_to_authenticate_at_once_are_refused(world: World) -> None:
    desk = world.desk(client_auth=knows)
    got = desk.post("/token", basic=("shop", "x"), client_secret="x")
    assert (got.status, got.json) == (400, {"error": "invalid_request"})
    assert desk.post("/token", basic=("shop", "x"), client_id="web").status == 400


def test_client_auth_may_be_async_where_it_can_be_awaited() -> None:
    async def asks(client_id: str, secret: str) -> bool:
        return knows(client_id, secret)

    world = World("asgi")
    pair = world.issue(client_id="orders-api")
    desk = world.desk(client_auth=asks)
    fields = {"grant_type": "refresh_token", "refresh_token": pair.refresh_token}
    assert desk.post("/token", fields, basic=("orders-api", "another")).status == 200
    assert desk.post("/token", fields, basic=("orders-api", "wrong")).status == 401
    with pytest.raises(WrongFace, match="client_auth is async"):
        World("wsgi").desk(client_auth=asks)


def test_what_client_auth_says_must_be_true_and_not_merely_truthy(world: World) -> None:
    """A function that returns the client's row, or a coroutine nobody awaited, must let nobody in."""
    desk = world.desk(client_auth=lambda client_id, secret: {"id": client_id})
    assert desk.post("/token", {"grant_type": "refresh_token"}, basic=("shop", "x")).status == 401


# ------------------------------------------------------------------------------------------------------ rate limit


def test_a_rate_limit_is_asked_before_anything_is_looked_up(world: World) -> None:
    seen: list[Attempt] = []

    def limit(attempt: Attempt) -> float | None:
        seen.append(attempt)
        return 1.2 if len(seen) > 1 else None

    desk = world.desk(rate_limit=limit)
    pair = world.issue()
    fields = {"grant_type": "refresh_token", "refresh_token": pair.refresh_token, "client_id": "web"}
    assert desk.post("/token", fields, ("x-forwarded-for", "203.0.113.9")).status == 200
    world.store.told()
    got = desk.post("/token", fields)
    assert (got.status, got.header("retry-after"), got.json) == (429, "2", {"error": "slow_down"})
    assert world.store.told() == []
    assert seen[0] == Attempt("token", "web", "192.0.2.7", "203.0.113.9", "192.0.2.7")
    assert desk.post("/revoke", token="x").status == 429
    assert seen[-1].endpoint == "revoke"


# ------------------------------------------------------------------------------------------------------ revocation


def test_a_refresh_token_is_revoked_and_its_access_tokens_with_it(world: World) -> None:
    pair = world.issue()
    got = world.desk().post("/revoke", token=pair.refresh_token, client_id="web")
    assert (got.status, got.header("cache-control")) == (200, "no-store")
    assert refresh(world, pair.refresh_token).json == {"error": "invalid_grant"}
    door = world.gate()
    assert door.enter(("authorization", f"Bearer {pair.access_token}")).status == 401


def test_an_access_token_is_revoked_with_its_login(world: World) -> None:
    pair, other = world.issue(), world.issue()
    got = world.desk().post(
        "/revoke", token=pair.access_token, token_type_hint="access_token", client_id="web"
    )
    assert got.status == 200
    assert refresh(world, pair.refresh_token).status == 400
    assert refresh(world, other.refresh_token).status == 200


@pytest.mark.parametrize("token", ["x", "a.b.c", "a" * 24 + "." + "b" * 44 + "." + "c" * 44])
def test_an_unknown_token_is_as_good_as_revoked(world: World, token: str) -> None:
    assert world.desk().post("/revoke", token=token, client_id="web").status == 200


def test_another_clients_token_is_not_revoked(world: World) -> None:
    pair = world.issue(client_id="app")
    for token in (pair.refresh_token, pair.access_token):
        got = world.desk().post("/revoke", token=token, client_id="web")
        assert (got.status, got.json) == (400, {"error": "invalid_grant"})
    assert world.desk(public_clients=["app"]).post("/revoke", token="", client_id="app").status == 400
    world.sync.refresh(pair.refresh_token)  # it is as good as before


# --------------------------------------------------------------------------------------------------- introspection


def desk_with_introspection(world: World) -> Any:
    return world.desk(client_auth=knows, resource_servers=["orders-api"])


def test_introspection_says_what_a_token_says(world: World) -> None:
    pair = world.issue(scope="a b", method="otp")
    got = desk_with_introspection(world).post(
        "/introspect", token=pair.access_token, basic=("orders-api", "another")
    )
    assert got.status == 200
    assert got.header("cache-control") == "no-store"
    said = got.json
    assert (said["active"], said["sub"], said["scope"], said["client_id"], said["token_type"], said["amr"]) == (
        True, "ada", "a b", "web", "Bearer", ["otp"],
    )  # fmt: skip
    assert said["exp"] - said["iat"] == 600
    assert "nbf" not in said


def test_introspection_is_for_resource_servers_alone(world: World) -> None:
    pair, desk = world.issue(), desk_with_introspection(world)
    assert desk.post("/introspect", token=pair.access_token, client_id="web").status == 401
    assert desk.post("/introspect", token=pair.access_token).status == 401
    shop = ("shop", quote_plus(SECRETS["shop"]))  # who proves to be another client
    assert desk.post("/introspect", token=pair.access_token, basic=shop).json == {"error": "invalid_client"}
    assert desk.post("/introspect", basic=("orders-api", "another")).json == {"error": "invalid_request"}


def test_what_is_not_active_is_said_to_be_no_more(world: World) -> None:
    pair, desk = world.issue(), desk_with_introspection(world)
    ended = world.issue()
    world.sync.revoke(ended.refresh_token)
    for token in ("x", "a.b.c", ended.access_token, pair.refresh_token):
        got = desk.post("/introspect", token=token, basic=("orders-api", "another"))
        assert (got.status, got.body) == (200, b'{"active":false}')
    world.time.now += 700
    got = desk.post("/introspect", token=pair.access_token, basic=("orders-api", "another"))
    assert got.body == b'{"active":false}'


# ------------------------------------------------------------------------------------------------------- documents


def test_the_key_set_may_be_kept(world: World) -> None:
    got = world.desk().get("/jwks.json")
    assert (got.status, got.header("content-type")) == (200, "application/jwk-set+json")
    assert got.header("cache-control") == "public, max-age=300"
    assert got.json == KeyRing([KEY]).jwks()
    assert "d" not in got.json["keys"][0]
    verifier = TokenVerifier(
        KeyRing.from_jwks(got.body), issuer=ISSUER, audience="api", clock=world.time.clock.time
    )
    assert verifier.verify(world.issue().access_token).sub == "ada"
    tag = got.header("etag")
    assert tag is not None
    for known in (tag, f'"x", W/{tag}'):
        again = world.desk().get("/jwks.json", ("if-none-match", known))
        assert (again.status, again.body, again.header("etag")) == (304, b"", tag)
    assert world.desk().get("/jwks.json", ("if-none-match", '"other"')).status == 200
    head = world.desk().send("HEAD", "/jwks.json")
    assert (head.status, head.body, head.header("etag")) == (200, b"", tag)
    assert world.desk().post("/jwks.json").status == 405


def test_a_retired_key_leaves_the_set(world: World) -> None:
    old = Key.generate("ES256", kid="old").until(world.time.now + 100)
    other = World(world.face, keys=KeyRing([KEY, old]))
    desk = other.desk()
    first = desk.get("/jwks.json")
    assert [key["kid"] for key in first.json["keys"]] == ["k1", "old"]
    other.time.now += 101
    second = desk.get("/jwks.json", ("if-none-match", str(first.header("etag"))))
    assert [key["kid"] for key in second.json["keys"]] == ["k1"]


def test_a_shared_secret_is_never_published(world: World) -> None:
    other = World(world.face, keys=KeyRing([Key.generate("HS256")]))
    assert other.desk(url="https://id.example/auth").get("/jwks.json").status == 404
    assert "jwks_uri" not in other.desk(url="https://id.example/auth").get(METADATA).json


METADATA = "/.well-known/oauth-authorization-server"


def test_the_metadata_says_what_there_is(world: World) -> None:
    assert world.desk().get(METADATA).status == 404
    got = world.desk(url="https://id.example/auth/").get(METADATA)
    assert got.json == {
        "issuer": ISSUER,
        "token_endpoint": "https://id.example/auth/token",
        "revocation_endpoint": "https://id.example/auth/revoke",
        "jwks_uri": "https://id.example/auth/jwks.json",
        "grant_types_supported": ["refresh_token"],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
    }
    more = (
        world.desk(url="https://id.example", client_auth=knows, resource_servers=["orders-api"])
        .get(METADATA)
        .json
    )
    assert more["introspection_endpoint"] == "https://id.example/introspect"
    assert more["introspection_endpoint_auth_methods_supported"] == [
        "client_secret_basic",
        "client_secret_post",
    ]


# ----------------------------------------------------------------------------------------------------- at start-up


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"public_clients": "web"}, "public_clients='web': give a list"),
        ({"public_clients": []}, "no client could use these endpoints"),
        ({"client_auth": "secret"}, "client_auth='secret': give a function"),
        ({"resource_servers": ["x"]}, "resource_servers: they prove who they are by a secret"),
        ({"resource_servers": "x", "client_auth": knows}, "resource_servers='x': give a list"),
        ({"cookies": "yes"}, "cookies='yes': give coatcheck.bearer.TokenCookies"),
        ({"url": "http://id.example"}, "url='http://id.example': give the address"),
        ({"keys_max_age": "soon"}, "keys_max_age"),
    ],
)
def test_a_wrong_setting_is_refused_with_the_fix(world: World, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        world.desk(**options)
    assert says in str(caught.value)


def test_the_wrong_face_is_refused() -> None:
    with pytest.raises(WrongFace, match="AsyncTokens in sync code"):
        wsgi.TokenEndpoints(World("asgi").tokens)
    with pytest.raises(WrongFace, match="Tokens in async code would block"):
        asgi.TokenEndpoints(World("wsgi").tokens)
    with pytest.raises(ConfigurationError, match="a TokenVerifier issues nothing"):
        asgi.TokenEndpoints(World("asgi").tokens.verifier)
    with pytest.raises(ConfigurationError, match="give Tokens, AsyncTokens or a TokenVerifier"):
        asgi.TokenEndpoints(object())


# --------------------------------------------------------------------------------------------------------- cookies

COOKIES = TokenCookies(path="/auth", trusted_origins=["https://app.example"])
PAGE = ("sec-fetch-site", "same-origin")


def jar(cookies: tuple[str, ...] | list[str]) -> dict[str, str]:
    return dict(cookie.partition(";")[0].split("=", 1) for cookie in cookies)


def as_header(cookies: tuple[str, ...] | list[str]) -> tuple[str, str]:
    return "cookie", "; ".join(f"{name}={value}" for name, value in jar(cookies).items())


def test_a_browser_refreshes_by_its_cookie(world: World) -> None:
    desk = world.desk(cookies=COOKIES)
    held = COOKIES.set(world.issue(scope="a"))
    got = desk.post("/token", {"grant_type": "refresh_token", "client_id": "web"}, as_header(held), PAGE)
    assert got.status == 200
    assert got.json == {"token_type": "Bearer", "expires_in": 600, "scope": "a"}
    given = jar(got.all("set-cookie"))
    assert given.keys() == {"__Host-access", "__Secure-refresh"}
    assert given["__Secure-refresh"] != jar(held)["__Secure-refresh"]
    ended = desk.post("/revoke", {"client_id": "web"}, as_header(got.all("set-cookie")), PAGE)
    assert ended.status == 200
    assert all("Max-Age=0" in cookie for cookie in ended.all("set-cookie"))
    again = desk.post("/token", {"grant_type": "refresh_token", "client_id": "web"}, as_header(held), PAGE)
    assert (again.status, again.json, len(again.all("set-cookie"))) == (400, {"error": "invalid_grant"}, 2)


def test_a_page_that_keeps_the_access_token_itself_is_given_it(world: World) -> None:
    cookies = TokenCookies(path="/auth", access=False)
    held = cookies.set(world.issue())
    assert [cookie.partition("=")[0] for cookie in held] == ["__Secure-refresh"]
    got = world.desk(cookies=cookies).post(
        "/token", {"grant_type": "refresh_token", "client_id": "web"}, as_header(held), PAGE
    )
    assert got.json.keys() == {"token_type", "expires_in", "access_token"}
    assert len(got.all("set-cookie")) == 1


@pytest.mark.parametrize("path", ["/token", "/revoke"])
@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")],
        [("sec-fetch-site", "same-site"), ("origin", "https://evil.app.example")],
        [("origin", "null")],
        [("origin", "https://app.example.evil.com")],
        [("origin", "http://app.example")],
        [("origin", "https://app.example"), ("origin", "https://app.example")],
    ],
)
def test_a_foreign_page_does_nothing_with_the_cookie(
    world: World, path: str, headers: list[tuple[str, str]]
) -> None:
    pair = world.issue()
    fields = {"grant_type": "refresh_token", "client_id": "web"}
    world.store.told()
    got = world.desk(cookies=COOKIES).post(path, fields, as_header(COOKIES.set(pair)), *headers)
    assert (got.status, got.json, got.all("set-cookie")) == (403, {"error": "cross_site_request"}, [])
    assert world.store.told() == []


def test_a_listed_origin_may(world: World) -> None:
    held = as_header(COOKIES.set(world.issue()))
    where = [("sec-fetch-site", "same-site"), ("origin", "https://app.example")]
    got = world.desk(cookies=COOKIES).post(
        "/token", {"grant_type": "refresh_token", "client_id": "web"}, held, *where
    )
    assert got.status == 200


def test_a_token_in_the_form_is_answered_in_the_body(world: World) -> None:
    """A phone beside the browser uses the same endpoint."""
    got = world.desk(cookies=COOKIES).post(
        "/token", grant_type="refresh_token", client_id="web", refresh_token=world.issue().refresh_token
    )
    assert "refresh_token" in got.json
    assert got.all("set-cookie") == []


def test_two_different_refresh_cookies_are_none(world: World) -> None:
    held = as_header(COOKIES.set(world.issue()))[1]
    two = ("cookie", held + "; __Secure-refresh=planted")
    fields = {"grant_type": "refresh_token", "client_id": "web"}
    assert world.desk(cookies=COOKIES).post("/token", fields, two, PAGE).json == {"error": "invalid_grant"}
