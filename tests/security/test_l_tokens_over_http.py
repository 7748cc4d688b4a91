"""Sections K and L of the security checklist as far as they speak of requests: challenges, endpoints, cookies, sockets."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coatcheck.bearer import TokenCookies
from coatcheck.bearer.gate import Needs
from coatcheck.tokens import Key, KeyRing
from coatcheck.tokens.jws import sign
from tests.bearer.rig import FACES, FORM, KEY, World
from tests.bearer.test_desk import PAGE, as_header, knows
from tests.canaries import CANARIES

ROOT = Path(__file__).parents[2]
COOKIES = TokenCookies(path="/auth", trusted_origins=["https://app.example"])


@pytest.fixture(params=FACES)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    made = World(request.param)
    yield made
    made.blocking.close()


def bearer(token: str) -> tuple[str, str]:
    return "authorization", f"Bearer {token}"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/token", b'{"grant_type":"refresh_token","client_id":"web","refresh_token":{"$ne":null}}'),
        ("/revoke", b'{"client_id":"web","token":{"$gt":""}}'),
        ("/introspect", b'{"token":{"$gt":""}}'),
    ],
)
def test_line_114_operators_of_a_database_in_json_are_a_bad_request_of_the_token_endpoints(
    world: World, path: str, body: bytes
) -> None:
    desk = world.desk(client_auth=knows, resource_servers=["orders-api"])
    got = desk.send("POST", path, ("content-type", "application/json"), body=body)
    assert (got.status, got.json) == (400, {"error": "invalid_request"})
    odd = desk.send(
        "POST",
        path,
        ("content-type", FORM),
        body=b"client_id=web&grant_type=refresh_token&refresh_token[$ne]=",
    )
    assert odd.status in (400, 401)
    assert world.store.told() == []


def test_line_118_a_token_whose_revocation_cannot_be_asked_for_is_answered_503(world: World) -> None:
    pair = world.issue()
    world.store.down = True
    assert world.gate().enter(bearer(pair.access_token)).status == 503
    for path, fields in (
        ("/token", {"grant_type": "refresh_token", "refresh_token": pair.refresh_token}),
        ("/revoke", {"token": pair.refresh_token}),
        ("/introspect", {"token": pair.access_token}),
    ):
        desk = world.desk(client_auth=knows, resource_servers=["orders-api"])
        client = (
            {"client_id": "orders-api", "client_secret": "another"}
            if path == "/introspect"
            else {"client_id": "web"}
        )
        assert desk.post(path, {**fields, **client}).status == 503
    world.store.down = False
    assert world.gate().enter(bearer(pair.access_token)).sub == "ada"


def forged(world: World) -> dict[str, str]:
    """Reason -> a token that is refused for it."""
    other = World(world.face, keys=KeyRing([Key.generate("ES256", kid="k1")])).issue()
    ended = world.issue()
    world.sync.revoke(ended.refresh_token)
    return {
        "malformed": "x",
        "too_large": "x" * 9000,
        "signature": other.access_token,
        "unknown_key": World(world.face, keys=KeyRing([Key.generate("ES256", kid="k2")]))
        .issue()
        .access_token,
        "issuer": World(world.face, issuer="https://evil.example").issue().access_token,
        "audience": World(world.face, audience="other").issue().access_token,
        "type": sign(KEY, b"{}", typ="JWT"),
        "claims": sign(KEY, b'{"sub":1}', typ="at+jwt"),
        "revoked": ended.access_token,
    }


def test_line_160_every_bad_token_is_answered_alike_and_the_log_knows_why(world: World) -> None:
    door, tokens = world.gate(), forged(world)
    world.events.clear()
    answers = {
        (got.status, tuple(got.headers), got.body) for got in (door.enter(bearer(t)) for t in tokens.values())
    }
    assert len(answers) == 1
    assert world.reasons() == list(tokens)
    assert [
        line for line in CANARIES.lines for token in tokens.values() if len(token) > 40 and token in line
    ] == []


@pytest.mark.parametrize(
    "field", ["Bearer", "Bearer  ", "Bearer é", "Bearer \x00", "bearer,", "Bearer a,Bearer b", "bearer\t"]
)
def test_line_161_a_malformed_authorization_is_401(world: World, field: str) -> None:
    assert world.gate().enter(("authorization", field)).status == 401


def test_line_161_two_authorizations_are_401(world: World) -> None:
    token = world.issue().access_token
    assert world.gate().enter(bearer(token), bearer(token)).status == 401
    assert world.gate().enter(bearer(token), ("authorization", "Basic YTpi")).status == 401


def test_line_162_a_token_anywhere_but_in_the_header_counts_for_nothing(world: World) -> None:
    token = world.issue().access_token
    for headers in (
        [("x-access-token", token)],
        [("cookie", f"access_token={token}; Authorization=Bearer {token}; __Host-access={token}")],
        [("content-type", FORM), ("referer", f"https://x.example/?access_token={token}")],
    ):
        assert world.gate().enter(*headers, path=f"/?access_token={token}").status == 401


def test_line_164_another_client_or_a_wider_scope_gets_nothing(world: World) -> None:
    desk = world.desk(public_clients=["web", "app"])
    pair = world.issue(scope="a", client_id="app")
    fields = {"grant_type": "refresh_token", "refresh_token": pair.refresh_token}
    assert desk.post("/token", {**fields, "client_id": "app", "scope": "a b"}).json == {
        "error": "invalid_scope"
    }
    assert desk.post("/token", {**fields, "client_id": "web"}).json == {"error": "invalid_grant"}


def test_line_170_an_outage_during_a_refresh_uses_nothing_up(world: World) -> None:
    pair, desk = world.issue(), world.desk()
    fields = {"grant_type": "refresh_token", "refresh_token": pair.refresh_token, "client_id": "web"}
    world.store.down = True
    assert [desk.post("/token", fields).status for _ in range(5)] == [503] * 5
    world.store.down = False
    assert desk.post("/token", fields).status == 200


def test_line_174_revocation_answers_200_for_what_it_does_not_know(world: World) -> None:
    for token in ("x", "a.b.c", "A" * 24 + "." + "B" * 44 + "." + "C" * 44):
        assert world.desk().post("/revoke", token=token, client_id="web").status == 200


def test_line_174_revocation_is_bound_to_the_client_and_takes_both_kinds(world: World) -> None:
    desk, pair = world.desk(public_clients=["web", "app"]), world.issue(client_id="app")
    assert desk.post("/revoke", token=pair.refresh_token, client_id="web").status == 400
    assert world.gate().enter(bearer(pair.access_token)).sub == "ada"
    assert desk.post("/revoke", token=pair.refresh_token, client_id="app").status == 200
    assert world.gate().enter(bearer(pair.access_token)).status == 401
    refused = desk.post(
        "/token", grant_type="refresh_token", refresh_token=pair.refresh_token, client_id="app"
    )
    assert refused.json == {"error": "invalid_grant"}


def test_line_179_a_fresh_token_of_an_old_login_is_not_a_recent_login(world: World) -> None:
    pair = world.issue()
    world.time.now += 3600
    fresh = world.sync.refresh(pair.refresh_token)
    got = world.gate().enter(bearer(fresh.access_token), needs=Needs(recent="10m"))
    assert (got.status, got.json["error"]) == (401, "insufficient_user_authentication")


STORAGE = re.compile(r"\b(localStorage|sessionStorage|indexedDB|document\.cookie|caches\.open)\b")
SHOWN = [*(ROOT / "examples").rglob("*"), *(ROOT / "demo").rglob("*")]
CODE = [
    path
    for path in SHOWN
    if path.suffix in (".py", ".js", ".mjs", ".html", ".ts") and "node_modules" not in path.parts
]


def test_line_187_no_example_keeps_a_token_where_scripts_read_it() -> None:
    assert len([path for path in CODE if path.suffix in (".js", ".html")]) > 5
    assert [path.name for path in CODE if STORAGE.search(path.read_text())] == []
    blocks = [
        (page.name, block)
        for page in (ROOT / "docs").rglob("*.md")
        for block in re.findall(
            r"^```(?:js|javascript|html|python)\n(.*?)^```", page.read_text(), re.M | re.S
        )
    ]
    assert [page for page, block in blocks if STORAGE.search(block)] == []


def test_line_187_the_cookies_of_a_browser_are_read_by_no_script(world: World) -> None:
    cookies = COOKIES.set(world.issue())
    for cookie in cookies:
        assert cookie.startswith(("__Host-", "__Secure-"))
        assert {"HttpOnly", "Secure", "SameSite=Strict"} <= set(cookie.split("; "))
    got = world.desk(cookies=COOKIES).post(
        "/token", {"grant_type": "refresh_token", "client_id": "web"}, as_header(cookies), PAGE
    )
    assert "token" not in " ".join(got.json).replace("token_type", "")


def test_line_200_refresh_and_revocation_are_limited_before_anything_is_looked_up(world: World) -> None:
    calls: list[Any] = []

    def limit(attempt: Any) -> float | None:
        calls.append(attempt.peer)
        return 30.0 if len(calls) > 10 else None

    desk = world.desk(rate_limit=limit)
    statuses = [
        desk.post("/token", grant_type="refresh_token", client_id="web", refresh_token=f"guess-{n}").status
        for n in range(500)
    ]
    assert (statuses.count(400), statuses.count(429)) == (10, 490)
    assert desk.post("/revoke", token="x", client_id="web").status == 429
    assert world.store.told() == []
