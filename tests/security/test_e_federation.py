"""Section E of the security checklist, logins by a provider: they end when its sessions do (ASVS 7.1.3, 7.6.1)."""

import base64
import hmac
import json
from typing import Any

import pytest

from coatcheck import (
    ConfigurationError,
    LoginRefused,
    Options,
    SessionManager,
    Timeouts,
    UsageError,
    WrongFace,
)
from coatcheck.errors import InvalidToken
from coatcheck.federation import LogoutTokenVerifier, LogoutWsgiApp, Provider
from coatcheck.federation.logout_token import EVENT
from coatcheck.stores.cookie import CookieStore
from coatcheck.tokens import Key, KeyRing, RemoteKeys
from coatcheck.tokens.jws import sign
from tests.security.conftest import Make
from tests.security.federated import (
    CLIENT,
    FORGER,
    GONE,
    ISSUER,
    KEY,
    federated,
    log_in,
    logout_token,
    notify,
    provider,
)
from tests.security.forms import form
from tests.security.rig import NOON, Site


@pytest.fixture
def shop(make: Make) -> Site:
    return make(within=federated())


def refusals(site: Site) -> list[str]:
    """Why logouts were refused, as the operator heard it."""
    return [event.detail for event in site.heard("logout.refused")]


# --------------------------------------------------------------------------------------------------------------- line 83


def test_line_83_a_logout_token_ends_the_session_that_came_of_its_sid(shop: Site) -> None:
    (ada, _), (phone, _), (bob, _) = (log_in(shop), log_in(shop, sid="s2"), log_in(shop, sub="bob"))
    own = shop.browser()
    own.post("/login?user=ada")
    answer = notify(shop, logout_token())
    assert (answer.status, answer.body, answer.cache, answer.cookies) == (200, b"", "no-store", [])
    assert [one.get("/me").status for one in (ada, phone, bob, own)] == [401, 200, 200, 200]


def test_line_83_one_without_a_sid_ends_all_sessions_of_its_user(shop: Site) -> None:
    (ada, _), (phone, _), (bob, _) = (log_in(shop), log_in(shop, sid="s2"), log_in(shop, sub="bob"))
    assert notify(shop, logout_token(sid=GONE)).status == 200
    assert [one.get("/me").status for one in (ada, phone, bob)] == [401, 401, 200]


def test_line_83_a_login_under_way_does_not_survive_the_end_of_all_of_its_user(make: Make) -> None:
    shop = make(within=federated())
    pending, gate = shop.held("POST", "/login?user=ada")
    shop.time += 1
    assert notify(shop, logout_token(sid=GONE, now=shop.time.now)).status == 200
    gate.open()
    assert (pending.result().cookies, shop.admin.of("ada").list()) == ([], [])


def test_line_83_a_logout_token_counts_once(make: Make) -> None:
    """In whichever worker it comes again, and as long as it has not expired."""
    known = provider()
    shop = make(within=federated(known))
    other = make(share=shop, within=federated(known))
    token = logout_token(exp=int(NOON) + 3600)
    assert notify(shop, token).status == 200
    ada, _ = log_in(shop)
    shop.time += 3000
    assert [notify(site, token).status for site in (shop, other)] == [400, 400]
    assert ada.get("/me").status == 200
    assert (refusals(shop), refusals(other)) == (["replayed"], ["replayed"])
    shop.time += 611
    assert notify(shop, token).status == 400
    assert refusals(shop) == ["replayed", "expired"]


def test_line_83_what_had_ended_already_is_well(shop: Site) -> None:
    ada, _ = log_in(shop)
    ada.post("/logout")
    assert notify(shop, logout_token()).status == 200
    assert notify(shop, logout_token(sub="nobody")).status == 200


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("nonce", {"nonce": "n"}),
    ("nonce", {"nonce": None}),
    ("audience", {"aud": "another"}),
    ("audience", {"aud": ["another"]}),
    ("audience", {"aud": "shops"}),
    ("issuer", {"iss": "https://id.example/"}),
    ("signature", {"key": FORGER}),
    ("unknown_key", {"key": Key.generate("ES256", kid="p2")}),
    ("type", {"typ": "at+jwt"}),
    ("events", {"events": {}}),
    ("events", {"events": {EVENT: True}}),
    ("claims", {"events": GONE}),
    ("claims", {"events": [EVENT]}),
    ("claims", {"sub": GONE, "sid": GONE}),
    ("sub", {"sub": GONE}),
    ("claims", {"sid": 7}),
    ("claims", {"sub": ""}),
    ("claims", {"jti": GONE}),
    ("claims", {"jti": {"$ne": ""}}),
    ("claims", {"exp": GONE}),
    ("claims", {"iat": GONE}),
    ("claims", {"iat": "1800000000"}),
    ("expired", {"iat": int(NOON) - 500, "exp": int(NOON) - 10}),
    ("not_yet_valid", {"iat": int(NOON) + 11}),
    ("lifetime", {"exp": int(NOON) + 3601}),
]


@pytest.mark.parametrize(
    ("reason", "how"), REFUSED, ids=[f"{reason} {number}" for number, (reason, _) in enumerate(REFUSED)]
)
def test_line_83_what_is_no_logout_token_of_the_provider_for_us_ends_nothing(
    shop: Site, reason: str, how: dict[str, Any]
) -> None:
    ada, _ = log_in(shop)
    answer = notify(shop, logout_token(**how))
    assert (answer.status, answer.body, answer.cache) == (400, b'{"error":"invalid_request"}', "no-store")
    assert (ada.get("/me").status, refusals(shop)) == (200, [reason])


def test_line_83_no_token_is_believed_unsigned_or_by_a_public_key_as_a_secret(shop: Site) -> None:
    ada, _ = log_in(shop)
    head, body, mac = logout_token().split(".")

    def told(**members: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(members).encode()).rstrip(b"=").decode()

    public = json.dumps(KeyRing([KEY.public()]).jwks()).encode()
    start = f"{told(alg='HS256', kid='p1', typ='logout+jwt')}.{body}"
    signed = base64.urlsafe_b64encode(hmac.digest(public, start.encode(), "sha256")).rstrip(b"=").decode()
    forged = f"{start}.{signed}"
    for token in (
        f"{told(alg='none', kid='p1')}.{body}.",
        f"{told(alg='none', kid='p1')}.{body}.{mac}",
        f"{told(alg='None')}.{body}.AA",
        f"{head}.{body}.",
        f"{head}.{told(sub='ada')}.{mac}",
        forged,
        "",
        "a.b.c",
        "x" * 20_000,
        "\U0001f9e5",
    ):
        assert notify(shop, token).status in (400, 413), token
    assert ada.get("/me").status == 200


def test_line_83_an_id_token_is_no_logout_token(shop: Site) -> None:
    ada, _ = log_in(shop)
    for more in ({}, {"nonce": "n"}):
        claims = {
            "iss": ISSUER,
            "aud": CLIENT,
            "sub": "ada",
            "sid": "s1",
            "iat": int(NOON),
            "exp": int(NOON) + 60,
            **more,
        }
        assert notify(shop, sign(KEY, json.dumps(claims).encode(), typ="JWT")).status == 400
    assert ada.get("/me").status == 200


def test_line_83_only_a_form_that_is_posted_is_read(shop: Site) -> None:
    ada, _ = log_in(shop)
    token = logout_token()
    assert shop.get(f"/oidc/logout?logout_token={token}").status == 405
    assert shop.post(f"/oidc/logout?logout_token={token}").status == 400
    as_json = [(b"content-type", b"application/json")]
    assert notify(shop, token, headers=as_json).status == 400
    assert (
        notify(shop, token, body=json.dumps({"logout_token": token}).encode(), headers=as_json).status == 400
    )
    twice = form([("logout_token", token), ("logout_token", token)])
    assert shop.post("/oidc/logout", **twice).status == 400
    assert ada.get("/me").status == 200
    assert notify(shop, token).status == 200


def test_line_83_where_the_store_is_down_nothing_is_claimed_and_it_may_be_sent_again(shop: Site) -> None:
    ada, _ = log_in(shop)
    token = logout_token()
    shop.store.fail("end_one", "delete")
    failed = notify(shop, token)
    assert (failed.status, failed.body) == (400, b'{"error":"logout_failed"}')
    shop.store.fail("tally")
    assert notify(shop, token).status == 400
    shop.store.recover()
    assert ada.get("/me").status == 200
    assert notify(shop, token).status == 200
    assert ada.get("/me").status == 401


def test_line_83_a_sid_alone_is_enough_for_who_wrote_down_whose_it_is(make: Make) -> None:
    known = provider(user_of=lambda claims: {"s1": "ada"}.get(claims.get("sid", "")))
    shop = make(within=federated(known))
    (ada, _), (other, told) = log_in(shop), log_in(shop, sid="s9")
    assert (told.status, told.text, other.get("/me").status) == (401, "claims", 401)
    assert notify(shop, logout_token(sub=GONE)).status == 200
    assert ada.get("/me").status == 401
    assert notify(shop, logout_token(sub=GONE, sid="s9")).status == 200


def test_line_83_a_provider_whose_keys_are_not_there_yet_ends_nothing(make: Make) -> None:
    """Nor does anybody wait for them."""

    class Away:
        def at(self, now: float) -> KeyRing:
            return RemoteKeys("https://id.example/jwks.json", monotonic=lambda: 0.0, on_error=print).at(now)

        def missed(self, now: float) -> None: ...

    away = Away()
    RemoteKeys._start, start = (lambda self: None), RemoteKeys._start  # type: ignore[method-assign]
    try:
        shop = make(within=federated(Provider(away, issuer=ISSUER, client_id=CLIENT)))
        ada, _ = log_in(shop)
        assert notify(shop, logout_token()).status == 400
        assert (ada.get("/me").status, len(shop.heard("store.down"))) == (200, 1)
    finally:
        RemoteKeys._start = start  # type: ignore[method-assign]


# --------------------------------------------------------------------------------------------------------------- line 82


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"auth_time": NOON - 609}, 200),
        ({"auth_time": NOON - 611}, 401),
        ({"auth_time": GONE}, 401),
        ({"auth_time": NOON + 60}, 401),
        ({"auth_time": str(int(NOON))}, 401),
        ({"auth_time": True}, 401),
        ({"auth_time": float("nan")}, 401),
    ],
    ids=str,
)
def test_line_82_a_proof_older_than_max_age_makes_no_session(
    make: Make, claims: dict[str, Any], status: int
) -> None:
    shop = make(within=federated(provider(max_age="10m")))
    ada, told = log_in(shop, **claims)
    assert (told.status, told.text) == (status, "" if status == 200 else "auth_time")
    assert ada.get("/me").status == status
    assert len(shop.admin.of("ada").list()) == (status == 200)


@pytest.mark.parametrize(
    "claims", [{"iss": "https://evil.example"}, {"aud": "another"}, {"aud": GONE}, {"sub": GONE}], ids=str
)
def test_line_82_claims_of_another_provider_or_for_another_application_make_no_session(
    shop: Site, claims: dict[str, Any]
) -> None:
    ada, told = log_in(shop, **claims)
    assert (told.status, told.text, ada.get("/me").status) == (401, "claims", 401)


def test_line_82_a_session_ends_with_that_of_the_provider(make: Make) -> None:
    """However often it is used, and after a step-up too."""
    shop = make(within=federated(provider(lasts="8h")))
    ada, _ = log_in(shop, auth_time=NOON - 3600)
    for _ in range(6):
        shop.time += 3600
        assert ada.post("/set").status == 200
        assert ada.get("/me").status == 200
    ada.post("/reauth")
    shop.time += 3590
    assert ada.get("/me").status == 200
    shop.time += 20
    assert ada.get("/me").status == 401
    late, told = log_in(shop, auth_time=NOON - 3600)
    assert (told.status, told.text, late.get("/me").status) == (401, "ended", 401)


def test_line_82_a_login_by_single_sign_on_is_as_old_as_its_proof(make: Make) -> None:
    """A sensitive act asks again, though the session here has just begun."""
    shop = make(within=federated())
    (fresh, _), (old, _) = log_in(shop), log_in(shop, auth_time=NOON - 3600)
    assert [one.post("/email").status for one in (fresh, old)] == [200, 403]


# --------------------------------------------------------------------------------------------------------------- line 77


def test_line_77_a_session_says_which_of_the_providers_it_came_of(shop: Site) -> None:
    log_in(shop, amr=["pwd", "otp", 7, ""])
    own = shop.browser()
    own.post("/login?user=ada")
    listed = {device.provider_session: device.amr for device in shop.admin.of("ada").list()}
    assert listed == {"s1": ("pwd", "otp"), "": ("pwd",)}
    log_in(shop, sub="bob", sid=7)
    assert [(device.provider_session, device.amr) for device in shop.admin.of("bob").list()] == [
        ("", ("federated",))
    ]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"issuer": ""}, "issuer"),
        ({"client_id": None}, "client_id"),
        ({"keys": "https://id.example/jwks.json"}, "RemoteKeys"),
        ({"leeway": 61}, "leeway"),
        ({"max_lifetime": "2d"}, "max_lifetime"),
        ({"max_age": "soon"}, "max_age"),
        ({"lasts": -1}, "lasts"),
        ({"user_of": "sub"}, "user_of"),
    ],
    ids=str,
)
def test_line_77_what_cannot_be_is_refused_at_start_up(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Provider(**{"keys": KeyRing([KEY]), "issuer": ISSUER, "client_id": CLIENT, **wrong})


async def _later(claims: object) -> str:
    return "ada"


def test_line_77_a_mapping_that_waits_is_for_async_code() -> None:
    known = provider(user_of=_later)
    with pytest.raises(WrongFace, match="user_of"):
        LogoutWsgiApp(known)
    session = SessionManager("memory:").session()
    with pytest.raises(WrongFace, match="user_of"):
        known.log_out_now(session, logout_token())
    with pytest.raises(UsageError, match="user_id="):
        known.log_in(session, {"iss": ISSUER, "aud": CLIENT, "sub": "x"})
    known.log_in(session, {"iss": ISSUER, "aud": CLIENT, "sub": "x"}, user_id="ada")
    assert session.user_id == "ada"


def test_line_77_a_store_that_knows_no_users_says_so() -> None:
    session = SessionManager(
        CookieStore(revocation="none"), options=Options(timeouts=Timeouts(idle=900, absolute=3600))
    ).session()
    with pytest.raises((ConfigurationError, UsageError)):
        provider().log_out_now(session, logout_token(now=session._moment()))


def test_line_77_the_verifier_serves_by_itself() -> None:
    verifier = LogoutTokenVerifier(KeyRing([KEY]), issuer=ISSUER, client_id=CLIENT)
    assert verifier.verify(logout_token(aud=["x", CLIENT], typ=None), NOON).sid == "s1"
    for odd in (None, 7, b"a.b.c", ["a"]):
        with pytest.raises(InvalidToken):
            verifier.verify(odd, NOON)
    with pytest.raises(LoginRefused):
        provider().log_in(SessionManager("memory:").session(), {})
