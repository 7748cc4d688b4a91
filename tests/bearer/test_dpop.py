"""Tokens that are bound to their client's key, at the gate, at the endpoints, at a login (RFC 9449 sections 5, 7 and 8)."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from coatcheck import ConfigurationError, UsageError, WrongFace
from coatcheck.bearer import LoginProof, TokenCookies, wsgi
from coatcheck.bearer.gate import Gate, Needs
from coatcheck.bearer.http import Asked, from_scope, from_wsgi
from coatcheck.core.stepping import run_now
from coatcheck.throttling import RateLimit
from coatcheck.tokens import BoundTokenVerifier, DPoP, Key, KeyRing, Tokens, TokenVerifier
from tests.bearer.rig import FACES, ISSUER, KEY, Desk, Door, Got, World
from tests.tokens.test_dpop import ath, jkt, proof

SECRET = "VZ0Yt7a8mXq2Lr5uKc1pWn4sHe9dGj3b"
URL, AUTH = "https://api.example/v1", "https://id.example/auth"
MINE, THEIRS = Key.generate("ES256"), Key.generate("ES256")
ALGS = "ES256 ES384 Ed25519 EdDSA RS256 PS256"


class Bound(World):
    """Tokens with rules for proofs, with or without nonces."""

    def __init__(self, face: str, secret: str | None = None) -> None:
        self.dpop = DPoP(secret=secret, clock=lambda: self.time.now)
        super().__init__(face, dpop=self.dpop)
        self.pair = self.issue(jkt=jkt(MINE), scope="a")

    def door(self, **options: Any) -> Door:
        return self.gate(url=URL, **options)

    def counter(self, **options: Any) -> Desk:
        return self.desk(url=AUTH, **options)

    def proof(self, key: Key = MINE, **claims: Any) -> tuple[str, str]:
        """A proof for GET /orders with the token at hand."""
        said = {"iat": self.time.now, "htu": f"{URL}/orders", "ath": ath(self.pair.access_token), **claims}
        return "dpop", proof(key, **said)

    def token_proof(self, key: Key = MINE, **claims: Any) -> tuple[str, str]:
        """A proof for POST /token."""
        said = {"iat": self.time.now, "htm": "POST", "htu": f"{AUTH}/token", **claims}
        return "dpop", proof(key, **said)

    @property
    def bound(self) -> tuple[str, str]:
        return "authorization", f"DPoP {self.pair.access_token}"

    def enter(self, *headers: tuple[str, str], **about: Any) -> Any:
        return self.door().enter(self.bound, *headers, **{"target": "/orders", **about})

    def form(self, **fields: str) -> dict[str, str]:
        return {
            "grant_type": "refresh_token", "client_id": "web", "refresh_token": self.pair.refresh_token, **fields
        }  # fmt: skip


@pytest.fixture(params=FACES)
def world(request: pytest.FixtureRequest) -> Bound:
    return Bound(request.param)


@pytest.fixture(params=FACES)
def strict(request: pytest.FixtureRequest) -> Bound:
    """With nonces."""
    return Bound(request.param, SECRET)


def refused_alike(got: Got) -> bool:
    return (got.status, got.header("www-authenticate"), got.body) == (
        401,
        f'DPoP realm="api", algs="{ALGS}", error="invalid_token"',
        b'{"error":"invalid_token"}',
    )


# -------------------------------------------------------------------------------------------------------- the gate


@pytest.mark.parametrize("scheme", ["DPoP", "dpop", "DPOP "])
def test_a_bound_token_with_its_proof_passes(world: Bound, scheme: str) -> None:
    header = ("authorization", f"{scheme} {world.pair.access_token}")
    claims = world.door().enter(header, world.proof(), target="/orders", needs=Needs(["a"]))
    assert (claims.sub, claims.cnf.jkt) == ("ada", jkt(MINE))
    assert world.reasons() == []


def bad(world: Bound) -> dict[str, list[tuple[str, str]]]:
    """Reason -> the headers that come with the token."""
    return {
        "none": [],
        "empty": [("dpop", "")],
        "two": [world.proof(), world.proof()],
        "two_in_one": [("dpop", f"{world.proof()[1]}, {world.proof()[1]}")],
        "key": [world.proof(THEIRS)],
        "method": [world.proof(htm="POST")],
        "path": [world.proof(htu=f"{URL}/other")],
        "host": [world.proof(htu="https://evil.example/v1/orders")],
        "scheme": [world.proof(htu="http://api.example/v1/orders")],
        "prefix": [world.proof(htu="https://api.example/orders")],
        "stale": [world.proof(iat=world.time.now - 61)],
        "ahead": [world.proof(iat=world.time.now + 6)],
        "ath": [world.proof(ath=ath("x"))],
        "no_ath": [world.proof(ath=None)],
    }


@pytest.mark.parametrize("why", bad(Bound("wsgi")))
def test_line_181_a_bad_proof_over_http_is_refused_in_one_way(world: Bound, why: str) -> None:
    assert refused_alike(world.enter(*bad(world)[why]))
    assert len(world.reasons()) == 1


def test_a_bad_token_with_a_good_proof_is_refused_in_the_same_way(world: Bound) -> None:
    bearer = world.issue().access_token
    world.sync.revoke(world.pair.refresh_token)
    assert refused_alike(world.enter(world.proof()))
    for token in ("a.b.c", bearer, "x" * 9000):
        header = ("authorization", f"DPoP {token}")
        assert refused_alike(world.door().enter(header, world.proof(ath=ath(token)), target="/orders"))
    for field in ("DPoP", "DPoP ", "dpop,", "DPoP x y", "DPoP é"):
        assert refused_alike(world.door().enter(("authorization", field), world.proof(), target="/orders"))


def test_a_proof_is_good_once_but_for_one_request_that_is_asked_twice(world: Bound) -> None:
    once, request = world.proof(), dict[str, Any]()
    for _ in range(2):
        assert world.enter(once, kept=request).sub == "ada"
    assert refused_alike(world.enter(once, kept={}))
    assert refused_alike(world.enter(once))
    assert refused_alike(world.enter(world.proof(THEIRS), kept=request))
    assert world.reasons() == ["dpop_replayed", "dpop_replayed", "dpop"]


def test_what_a_request_proved_to_one_issuers_gate_counts_for_no_other(world: Bound) -> None:
    other = World(world.face, dpop=world.dpop, issuer="https://other.example")
    request, once = dict[str, Any](), world.proof()
    assert world.enter(once, kept=request).sub == "ada"
    got = other.gate(url=URL).enter(world.bound, once, target="/orders", kept=request)
    assert refused_alike(got)


def test_a_bearer_token_passes_still_and_the_challenge_names_both_schemes(world: Bound) -> None:
    door = world.door()
    assert door.enter(("authorization", f"Bearer {world.issue().access_token}")).sub == "ada"
    got = door.enter()
    assert got.header("www-authenticate") == f'Bearer realm="api", DPoP realm="api", algs="{ALGS}"'
    assert got.json == {"error": "invalid_token"}
    got = door.enter(("authorization", f"Bearer {world.pair.access_token}"), world.proof(), target="/orders")
    assert got.header("www-authenticate") == (
        f'Bearer realm="api", error="invalid_token", DPoP realm="api", algs="{ALGS}"'
    )


def test_too_little_scope_is_told_in_the_scheme_that_came(world: Bound) -> None:
    got = world.enter(world.proof(), needs=Needs(["b"]))
    challenge = f'DPoP realm="api", algs="{ALGS}", error="insufficient_scope", scope="b"'
    assert (got.status, got.header("www-authenticate")) == (403, challenge)
    world.time.now += 61
    got = world.enter(world.proof(), needs=Needs(recent="1m"))
    assert got.header("www-authenticate").startswith('DPoP realm="api"')
    assert got.header("dpop-nonce") is None


def test_two_authorizations_are_refused(world: Bound) -> None:
    got = world.enter(("authorization", f"Bearer {world.issue().access_token}"), world.proof())
    assert (got.status, got.json) == (401, {"error": "invalid_token"})


def test_a_cookie_beside_a_bad_proof_lets_nobody_in(world: Bound) -> None:
    cookies = TokenCookies(path="/auth")
    access = cookies.set(world.issue())[0].partition(";")[0]
    assert refused_alike(world.door(cookies=cookies).enter(world.bound, ("cookie", access), target="/orders"))


def test_an_outage_lets_nobody_in_by_a_proof(world: Bound) -> None:
    world.store.down = True
    assert world.enter(world.proof()).status == 503


def test_a_nonce_is_asked_for_and_told(strict: Bound) -> None:
    got = strict.enter(strict.proof())
    challenge = f'DPoP realm="api", algs="{ALGS}", error="use_dpop_nonce"'
    assert (got.status, got.header("www-authenticate")) == (401, challenge)
    assert got.json == {"error": "use_dpop_nonce"}
    nonce = got.header("dpop-nonce")
    assert nonce == strict.dpop.nonce()
    assert strict.enter(strict.proof(nonce=nonce)).sub == "ada"
    strict.time.now += 121
    stale = strict.enter(strict.proof(nonce=nonce))
    assert (stale.json, stale.header("dpop-nonce")) == ({"error": "use_dpop_nonce"}, strict.dpop.nonce())
    assert strict.door().enter().header("dpop-nonce") == strict.dpop.nonce()
    assert refused_alike(strict.enter(strict.proof(THEIRS, nonce=strict.dpop.nonce())))


def test_a_good_answer_tells_the_next_nonce_and_is_not_cached(strict: Bound) -> None:
    gate, headers = strict.door().gate, dict[str, str]()
    with_proof = Asked("GET", (strict.bound, strict.proof()))
    assert gate.marks(with_proof)
    gate.mark(with_proof, headers, lambda name: None)
    assert headers == {"Cache-Control": "no-store", "DPoP-Nonce": strict.dpop.nonce()}
    assert not gate.marks(Asked("GET", (("authorization", "Bearer x"),)))


def test_a_service_that_has_only_the_public_keys(world: Bound) -> None:
    keys = KeyRing.from_jwks(KeyRing([KEY]).jwks())
    rules = DPoP(replays="memory", clock=lambda: world.time.now)
    public = TokenVerifier(keys, issuer=ISSUER, audience="api", clock=lambda: world.time.now)
    verifier = BoundTokenVerifier(public, rules)
    gate: Gate[Any] = Gate(verifier, awaits=world.face == "asgi", url=URL)
    door, once = Door(gate, world.face), world.proof()
    assert door.enter(world.bound, once, target="/orders").sub == "ada"
    assert refused_alike(door.enter(world.bound, once, target="/orders"))
    assert door.enter(("authorization", f"Bearer {world.issue().access_token}")).sub == "ada"
    assert door.enter(("authorization", f"Bearer {world.pair.access_token}")).status == 401


def test_line_182_a_bound_token_that_comes_as_a_bearer_token_is_401_whatever_the_gate_knows(
    world: Bound,
) -> None:
    header = ("authorization", f"Bearer {world.pair.access_token}")
    plain = World(world.face)  # the same keys, and no rules for proofs
    verifier = TokenVerifier(KeyRing([KEY]), issuer=ISSUER, audience="api", clock=lambda: world.time.now)
    alone: Gate[Any] = Gate(verifier, awaits=world.face == "asgi")
    for door in (world.door(), plain.gate(), Door(alone, world.face)):
        for proofs in ([], [world.proof()]):
            got = door.enter(header, *proofs, target="/orders")
            assert (got.status, got.json) == (401, {"error": "invalid_token"})


# --------------------------------------------------------------------------------------------- the address of a request

TARGETS = [
    ("/a%2Fb", "/a%2Fb"),
    ("/a b", "/a%20b"),
    ("/a?x=1", "/a"),
    ("/a#b", "/a%23b"),
    ("/ü", "/%C3%BC"),
    ("//evil.example/a", "//evil.example/a"),
    ("/a@b", "/a@b"),
]


@pytest.mark.parametrize(("sent", "target"), TARGETS)
def test_the_path_is_read_as_the_client_spelt_it(sent: str, target: str) -> None:
    scope = {"type": "http", "method": "GET", "path": "/x", "headers": [], "raw_path": sent.encode()}
    assert from_scope(scope).target == target
    for name in ("RAW_URI", "REQUEST_URI"):
        environ = {"REQUEST_METHOD": "GET", "wsgi.url_scheme": "http", name: sent.encode().decode("latin-1")}
        assert from_wsgi(environ).target == target


@pytest.mark.parametrize("sent", [".evil.example/a", "@evil.example/a", ":8443/a", "https://evil.example/a"])
def test_a_target_that_is_no_path_does_not_become_a_part_of_the_host(sent: str) -> None:
    scope = {"type": "http", "method": "GET", "path": "/x", "headers": [], "raw_path": sent.encode()}
    assert from_scope(scope).target.startswith("/")
    environ = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "/m", "PATH_INFO": "/x y", "RAW_URI": sent}
    assert from_wsgi(environ).target == "/m/x%20y"


# --------------------------------------------------------------------------------------------------- the endpoints


def test_a_refresh_asks_for_the_key_it_is_bound_to(world: Bound) -> None:
    desk = world.counter()
    got = desk.post("/token", world.form(), world.token_proof())
    assert (got.status, got.json["token_type"]) == (200, "DPoP")
    world.pair = SimpleNamespace(**got.json)  # type: ignore[assignment]  # as its client sees it
    assert desk.post("/token", world.form()).json == {"error": "invalid_dpop_proof"}
    assert world.reasons() == ["refresh: dpop"]
    assert desk.post("/token", world.form(), world.token_proof()).status == 200  # nothing was used up


@pytest.mark.parametrize("key", [MINE, THEIRS], ids=["mine", "theirs"])
def test_a_refresh_with_a_bad_proof(world: Bound, key: Key) -> None:
    desk = world.counter()
    for proofs in (
        [("dpop", "x")],
        [world.token_proof(key), world.token_proof(key)],
        [world.token_proof(key, htu="https://evil.example/auth/token")],
        [world.token_proof(key, iat=world.time.now - 100)],
        [world.token_proof(key, htm="GET")],
    ):
        got = desk.post("/token", world.form(), *proofs)
        assert (got.status, got.json) == (400, {"error": "invalid_dpop_proof"})
    once = world.token_proof()
    assert desk.post("/token", world.form(), once).status == 200
    assert desk.post("/token", world.form(), once).json == {"error": "invalid_dpop_proof"}


def test_line_183_a_refresh_over_http_with_another_key_ends_the_login(world: Bound) -> None:
    desk = world.counter()
    assert desk.post("/token", world.form(), world.token_proof(THEIRS)).json == {"error": "invalid_grant"}
    assert desk.post("/token", world.form(), world.token_proof()).json == {"error": "invalid_grant"}
    assert world.enter(world.proof()).status == 401


def test_a_nonce_at_the_token_endpoint(strict: Bound) -> None:
    desk = strict.counter()
    got = desk.post("/token", strict.form(), strict.token_proof())
    assert (got.status, got.json) == (400, {"error": "use_dpop_nonce"})
    nonce = got.header("dpop-nonce")
    assert nonce == strict.dpop.nonce()
    got = desk.post("/token", strict.form(), strict.token_proof(nonce=nonce))
    assert (got.status, got.header("dpop-nonce"), got.header("cache-control")) == (200, nonce, "no-store")


def test_a_cookie_is_not_taken_away_for_want_of_a_proof(world: Bound) -> None:
    cookies = TokenCookies(path="/auth", access=False)
    brought = ("cookie", cookies.set(world.pair)[0].partition(";")[0])
    fields, ours = {"grant_type": "refresh_token", "client_id": "web"}, ("sec-fetch-site", "same-origin")
    got = world.counter(cookies=cookies).post("/token", fields, brought, ours)
    assert (got.json, got.all("set-cookie")) == ({"error": "invalid_dpop_proof"}, [])
    got = world.counter(cookies=cookies).post("/token", fields, brought, ours, world.token_proof())
    assert (got.status, got.json["token_type"], len(got.all("set-cookie"))) == (200, "DPoP", 1)


def test_metadata(world: Bound) -> None:
    got = world.counter().get("/.well-known/oauth-authorization-server")
    assert got.json["dpop_signing_alg_values_supported"] == ALGS.split()
    got = World(world.face).desk(url=AUTH).get("/.well-known/oauth-authorization-server")
    assert "dpop_signing_alg_values_supported" not in got.json


# -------------------------------------------------------------------------------------------------------- at a login


def asked(*headers: tuple[str, str]) -> dict[str, Any]:
    """An ASGI scope."""
    fields = [(name.encode(), value.encode()) for name, value in headers]
    return {"type": "http", "method": "POST", "path": "/login", "headers": fields}


def check(world: Bound, request: Any, **options: Any) -> Any:
    login = LoginProof(world.tokens, url="https://id.example/login", **options)
    return login.check(request) if world.face == "wsgi" else run_now(login.acheck(request))


def login_proof(world: Bound, **claims: Any) -> tuple[str, str]:
    about = {"htm": "POST", "htu": "https://id.example/login", "iat": world.time.now, **claims}
    return "dpop", proof(MINE, **about)


def test_a_login_proves_its_key(strict: Bound) -> None:
    proven = check(strict, asked(login_proof(strict)))
    assert (proven.jkt, proven.refusal.status) == (None, 400)
    assert proven.refusal.body == b'{"error":"use_dpop_nonce"}'
    nonce = proven.refusal.header("dpop-nonce")
    proven = check(strict, asked(login_proof(strict, nonce=nonce)))
    assert (proven.jkt, proven.refusal, proven.headers) == (jkt(MINE), None, (("DPoP-Nonce", nonce),))
    assert strict.reasons() == ["login: use_dpop_nonce"]


def test_a_login_without_a_proof(world: Bound) -> None:
    assert check(world, asked()) == (None, None, ())
    refusal = check(world, asked(), required=True).refusal
    assert (refusal.status, refusal.body) == (400, b'{"error":"invalid_dpop_proof"}')
    twice = check(world, asked(login_proof(world), login_proof(world))).refusal
    assert twice.body == b'{"error":"invalid_dpop_proof"}'
    world.store.down = True
    assert check(world, asked(login_proof(world))).refusal.status == 503


# ------------------------------------------------------------------------------------------------------ rate limits


def test_line_200_guessed_refresh_tokens_cost_one_count_each_and_then_429(world: Bound) -> None:
    desk = world.counter(rate_limit=RateLimit("3/minute"))
    world.store.told()
    statuses = [desk.post("/token", world.form(refresh_token="x")).status for _ in range(5)]
    assert statuses == [400, 400, 400, 429, 429]
    assert world.store.told() == ["tally"] * 5
    got = desk.post("/revoke", client_id="web", token="x")
    assert (got.status, got.header("retry-after")) == (429, "60")
    assert [event.name for event in world.events if event.name == "request.throttled"] == [
        "request.throttled"
    ] * 3
    world.time.now += 61
    assert desk.post("/revoke", client_id="web", token="x").status == 200


def test_line_200_behind_a_proxy_the_limit_counts_the_client_and_not_whom_it_says_it_is(world: Bound) -> None:
    def statuses(desk: Desk, *forwarded: str) -> list[int]:
        return [
            desk.post("/revoke", {"client_id": "web", "token": "x"}, ("x-forwarded-for", said)).status
            for said in forwarded
        ]

    behind = world.counter(rate_limit=RateLimit("1/minute", name="b"), proxy="192.0.2.7")
    assert statuses(behind, "198.51.100.1", "198.51.100.2", "6.6.6.6, 198.51.100.1") == [200, 200, 429]
    direct = world.counter(rate_limit=RateLimit("1/minute", name="d"))
    assert statuses(direct, "198.51.100.1", "198.51.100.2") == [200, 429]


def test_a_limit_with_a_store_of_its_own_and_a_function_of_ones_own(world: Bound) -> None:
    desk = world.counter(rate_limit=RateLimit("1/minute", store="memory:"))
    assert [desk.post("/revoke", client_id="web", token="x").status for _ in range(2)] == [200, 429]
    seen: list[str] = []
    desk = world.counter(rate_limit=lambda attempt: seen.append(attempt.address), proxy=True)
    desk.post("/revoke", {"client_id": "web", "token": "x"}, ("x-forwarded-for", "::ffff:198.51.100.9"))
    assert seen == ["198.51.100.9"]


def test_when_the_counters_are_away(world: Bound) -> None:
    desk = world.counter(rate_limit=RateLimit("1/minute", when_down="refuse"))
    world.store.down = True
    assert desk.post("/revoke", client_id="web", token="x").status == 503


# ------------------------------------------------------------------------------------------------------ at start-up


def bound_tokens() -> Tokens:
    return Bound("wsgi").sync


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda: Gate(bound_tokens(), awaits=False),
            "url='https://api.example'. The Host header is not believed",
        ),
        (lambda: Gate(World("wsgi").sync, awaits=False, url=URL), "give Tokens(…, dpop=DPoP()) too"),
        (
            lambda: Gate(bound_tokens(), awaits=False, url="api.example"),
            "give the address as its clients see it",
        ),
        (
            lambda: Gate(bound_tokens(), awaits=False, url="http://api.example"),
            "such as 'https://api.example'",
        ),
        (lambda: Gate(bound_tokens(), awaits=False, url="http://localhost.evil"), "give the address"),
        (lambda: Gate(bound_tokens(), awaits=False, url="https://x@api.example"), "give the address"),
        (lambda: Gate(bound_tokens(), awaits=False, url="https://"), "give the address"),
        (lambda: wsgi.TokenEndpoints(bound_tokens()), "url='https://id.example/auth'"),
        (lambda: LoginProof(World("wsgi").sync, url=URL), "give Tokens(…, dpop=DPoP(…))"),
        (
            lambda: wsgi.TokenEndpoints(World("wsgi").sync, rate_limit=RateLimit("1/minute", by="user")),
            "by='address'",
        ),
        (lambda: wsgi.TokenEndpoints(World("wsgi").sync, rate_limit="1/minute"), "RateLimit(…)"),
        (lambda: wsgi.TokenEndpoints(World("wsgi").sync, proxy="nginx"), "give addresses or networks"),
    ],
)
def test_a_wrong_setting_is_refused_with_the_fix(make: Callable[[], object], says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert says in str(caught.value)


def test_the_wrong_face_and_what_is_no_request() -> None:
    sync, later = Bound("wsgi"), Bound("asgi")
    with pytest.raises(WrongFace):
        LoginProof(later.tokens, url=URL).check(asked())
    with pytest.raises(WrongFace):
        run_now(LoginProof(sync.tokens, url=URL).acheck(asked()))
    with pytest.raises(UsageError, match="str is no request"):
        LoginProof(sync.tokens, url=URL).check("POST")
