"""Proof of possession: every check of RFC 9449 section 4.3, and what tokens do with it (checklist 168, 181-184)."""

import asyncio
import base64
import hashlib
import json
import threading
from typing import Any

import pytest

from coatcheck import (
    AsyncSessionManager,
    ConfigurationError,
    InvalidToken,
    Options,
    SessionManager,
    StoreUnavailable,
)
from coatcheck.bearer.desk import Desk
from coatcheck.bearer.http import Asked
from coatcheck.core.stepping import run_now
from coatcheck.stores.memory import MemoryStore
from coatcheck.tokens import AsyncTokens, BoundTokenVerifier, DPoP, Key, KeyRing, Tokens, TokenVerifier, jws
from coatcheck.tokens.dpop import MemoryReplays, StoreReplays
from coatcheck.tokens.jwk import public_members, thumbprint
from tests.tokens.test_interop import jose, made, named_anew
from tests.tokens.test_keys import private_jwk
from tests.web.rig import START, Ears, Time

URL = "https://api.example/orders"
SECRET = "VZ0Yt7a8mXq2Lr5uKc1pWn4sHe9dGj3b"
MINE, THEIRS = Key.generate("ES256"), Key.generate("ES256")
SIGNER = KeyRing([Key.generate("HS256")])


def jkt(key: Key) -> str:
    return thumbprint(public_members(key.material))


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def ath(token: str) -> str:
    return b64(hashlib.sha256(token.encode()).digest())


_count = iter(range(10**9))


def proof(key: Key = MINE, *, header: dict[str, Any] | None = None, raw: Any = None, **claims: Any) -> str:
    """A proof; None takes a claim or member out."""
    head = {"typ": "dpop+jwt", "alg": key.alg, "jwk": bare(key), **(header or {})}
    said = {"jti": f"j{next(_count)}", "htm": "GET", "htu": URL, "iat": START, **claims}
    text = ".".join(
        b64(json.dumps({name: value for name, value in part.items() if value is not None}).encode())
        for part in (head, said)
    )
    signer = raw or key.primitive
    return f"{text}.{b64(signer.sign(text.encode()))}"


def bare(key: Key) -> dict[str, Any]:
    return {name: value for name, value in key.jwk().items() if name not in ("kid", "alg", "use")}


class Bench:
    def __init__(self, store: Any = "memory:", **rules: Any) -> None:
        self.time, self.ears = Time(), Ears()
        self.dpop = DPoP(clock=self.time.clock.time, **rules)
        self.sessions = SessionManager(store, options=Options(on_event=self.ears), clock=self.time.clock)
        self.tokens: Tokens = Tokens(self.sessions, keys=SIGNER, issuer="i", audience="a", dpop=self.dpop)
        self.pair = self.tokens.issue("ada", jkt=jkt(MINE))

    def let_in(self, *proofs: str, token: str | None = None, method: str = "GET", url: str = URL) -> Any:
        token = token or self.pair.access_token
        return self.tokens.authenticate_bound(token, proofs, method=method, url=url)

    def why(self, *proofs: str, **terms: Any) -> str:
        with pytest.raises(InvalidToken) as caught:
            self.let_in(*proofs, **terms)
        return caught.value.reason

    def good(self, **claims: Any) -> str:
        return proof(iat=self.time.now, ath=ath(self.pair.access_token), **claims)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_token_and_its_proof(bench: Bench) -> None:
    assert bench.pair.token_type == "DPoP"
    claims = bench.let_in(bench.good())
    assert (claims.sub, claims.cnf.jkt) == ("ada", jkt(MINE))


@pytest.mark.parametrize("alg", ["ES256", "ES384", "EdDSA", "RS256", "PS256"])
def test_with_keys_of_every_kind(bench: Bench, alg: str) -> None:
    key = made(alg)
    pair = bench.tokens.issue("ada", jkt=jkt(key))
    assert bench.let_in(proof(key, ath=ath(pair.access_token)), token=pair.access_token).sub == "ada"


def test_proofs_by_npms_jose(bench: Bench) -> None:
    keys = [named_anew(made(alg)) for alg in ("ES256", "ES384", "EdDSA", "RS256", "PS256")]
    pairs = [bench.tokens.issue("ada", jkt=jkt(key)) for key in keys]
    proofs = jose(
        *(
            {
                "do": "sign", "alg": key.alg, "jwk": private_jwk(key),
                "header": {"typ": "dpop+jwt", "jwk": bare(key)},
                "claims": {"jti": key.alg, "htm": "GET", "htu": URL, "iat": START, "ath": ath(pair.access_token)},
            }
            for key, pair in zip(keys, pairs, strict=True)
        )
    )  # fmt: skip
    for pair, one in zip(pairs, proofs, strict=True):
        assert bench.let_in(one, token=pair.access_token).sub == "ada"


def test_a_bound_token_is_no_bearer_token(bench: Bench) -> None:
    for check in (bench.tokens.verify, bench.tokens.authenticate, bench.tokens.verifier.verify):
        with pytest.raises(InvalidToken) as caught:
            check(bench.pair.access_token)
        assert caught.value.reason == "dpop"
    assert bench.tokens.inspect(bench.pair.access_token).sub == "ada"
    bearer = bench.tokens.issue("ada")
    assert bench.why(proof(ath=ath(bearer.access_token)), token=bearer.access_token) == "dpop"


def test_a_token_that_is_bound_in_another_way_is_no_bearer_token_either() -> None:
    claims = {
        "iss": "i", "sub": "ada", "aud": "a", "exp": START + 60, "iat": START, "jti": "j", "client_id": "c",
        "cnf": {"x5t#S256": "AA"},
    }  # fmt: skip
    token = jws.sign(SIGNER.signer, json.dumps(claims).encode(), typ="at+jwt")
    verifier = TokenVerifier(SIGNER, issuer="i", audience="a", clock=lambda: START)
    with pytest.raises(InvalidToken):
        verifier.verify(token)
    with pytest.raises(InvalidToken):
        verifier.verify_bound(token, jkt(MINE))


SHORT = made("HS256")
PRIVATE = {**bare(MINE), "d": private_jwk(MINE)["d"]}
HEADERS: dict[str, Any] = {
    "typ": {"typ": "JWT"},
    "no typ": {"typ": None},
    "typ is no text": {"typ": 7},
    "none": {"alg": "none"},
    "nOnE": {"alg": "nOnE"},
    "no alg": {"alg": None},
    "alg is no text": {"alg": ["ES256"]},
    "another alg": {"alg": "ES384"},
    "a symmetric alg": {"alg": "HS256"},
    "a private key": {"jwk": PRIVATE},
    "a shared secret": {"jwk": {"kty": "oct", "k": "A" * 43}},
    "no key": {"jwk": None},
    "a key that is no object": {"jwk": "x"},
    "another key": {"jwk": bare(THEIRS)},
    "beside the curve": {"jwk": {**bare(MINE), "y": bare(THEIRS)["y"]}},
    "half a point": {"jwk": {"kty": "EC", "crv": "P-256", "x": bare(MINE)["x"]}},
    "an unknown curve": {"jwk": {**bare(MINE), "crv": "P-999"}},
    "kty is no text": {"jwk": {**bare(MINE), "kty": ["EC"]}},
    "crit": {"crit": ["b64"], "b64": False},
    "zip": {"zip": "DEF"},
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_is_refused(bench: Bench, name: str) -> None:
    good = bench.good()
    assert bench.why(proof(header=HEADERS[name], ath=ath(bench.pair.access_token))) == "dpop"
    assert bench.let_in(good).sub == "ada"


CLAIMS: dict[str, Any] = {
    "no jti": {"jti": None}, "an empty jti": {"jti": ""}, "a long jti": {"jti": "x" * 257}, "jti is no text": {"jti": 7},
    "no htm": {"htm": None}, "another method": {"htm": "POST"}, "the method in small letters": {"htm": "get"},
    "no htu": {"htu": None}, "another host": {"htu": "https://evil.example/orders"},
    "another scheme": {"htu": "http://api.example/orders"}, "another path": {"htu": "https://api.example/orders/"},
    "another port": {"htu": "https://api.example:8443/orders"}, "a user": {"htu": "https://api.example@evil.example/orders"},
    "no URL": {"htu": "orders"}, "a port that cannot be": {"htu": "https://api.example:99999/orders"},
    "a broken escape": {"htu": "https://api.example/%zz"}, "a broken address": {"htu": "https://[::1/orders"},
    "no iat": {"iat": None}, "iat is a text": {"iat": "1800000000"}, "too old": {"iat": START - 60},
    "not yet": {"iat": START + 6}, "NaN": {"iat": float("nan")}, "for ever": {"iat": 1e300},
    "no ath": {"ath": None}, "another token": {"ath": ath("x")}, "ath is no text": {"ath": 7}, "ath of no ASCII": {"ath": "é"},
}  # fmt: skip


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_that_is_refused(bench: Bench, name: str) -> None:
    assert bench.why(proof(**{"ath": ath(bench.pair.access_token), **CLAIMS[name]})) == "dpop"


def test_what_is_no_proof(bench: Bench) -> None:
    good = bench.good()
    assert bench.why() == "dpop"  # none
    assert bench.why(good, bench.good()) == "dpop"  # two
    head, body, mac = good.split(".")
    other = proof(THEIRS, ath=ath(bench.pair.access_token))
    for text in (
        "", "a.b.c", f"{head}.{body}", f"{head}.{body}.{mac}=", f"{head}.{body}.{mac}.{mac}", None, 7, "x" * 5000,
        f"{head}.{body}.{other.split('.')[2]}", f"{head}.{body}.", good.replace(head, b64(b'{"alg":"ES256","alg":"none"}')),
    ):  # fmt: skip
        with pytest.raises(InvalidToken):
            bench.let_in(text)  # type: ignore[arg-type]
    assert bench.let_in(good).sub == "ada"


def test_a_proof_of_another_key(bench: Bench) -> None:
    assert bench.why(proof(THEIRS, ath=ath(bench.pair.access_token))) == "dpop"


@pytest.mark.parametrize(
    ("htu", "url"),
    [
        ("https://api.example/orders?x=1#f", URL),
        (URL, URL + "?x=1"),
        ("HTTPS://API.Example:443/orders", URL),
        ("https://api.example", "https://api.example/"),
        ("https://api.example/%7eada/%2f", "https://api.example/~ada/%2F"),
    ],
)
def test_urls_are_compared_without_query_and_in_one_spelling(bench: Bench, htu: str, url: str) -> None:
    assert bench.let_in(bench.good(htu=htu), url=url).sub == "ada"


def test_a_proof_is_good_once_and_not_for_long(bench: Bench) -> None:
    good = bench.good()
    assert bench.let_in(good).sub == "ada"
    assert bench.why(good) == "dpop_replayed"
    assert bench.why(bench.good(jti="same")[:-4] + "AAAA") == "dpop"  # one that is none uses nothing up
    assert bench.let_in(bench.good(jti="same")).sub == "ada"
    assert bench.why(bench.good(jti="same")) == "dpop_replayed"
    late = bench.good()
    bench.time.now += 60
    assert bench.why(late) == "dpop"
    assert bench.why(good) == "dpop"


def test_a_proof_from_a_clock_ahead_is_remembered_until_it_is_too_old(bench: Bench) -> None:
    ahead = proof(iat=START + 5, ath=ath(bench.pair.access_token))
    assert bench.let_in(ahead).sub == "ada"
    for _ in range(13):
        bench.time.now += 5
        assert bench.why(ahead) in ("dpop_replayed", "dpop")


@pytest.mark.parametrize("kind", ["memory", "store", "sqlite"])
def test_of_two_uses_at_once_one_is_first(kind: str, tmp_path: Any) -> None:
    if kind == "memory":
        replays: Any = MemoryReplays()
    else:
        url = "memory:" if kind == "store" else f"sqlite:///{tmp_path}/s.db"
        replays = StoreReplays(SessionManager(url).flows.store)
    answers, start = list[bool](), threading.Barrier(8)

    def use() -> None:
        start.wait()
        for n in range(20):
            answers.append(run_now(replays.first(f"{'u' * 43}{n}", now=START, until=START + 60)))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (answers.count(True), len(answers)) == (20, 160)


def test_the_memory_of_proofs_is_bounded_and_what_is_full_lets_nobody_in() -> None:
    replays = MemoryReplays(limit=3)
    for n in range(3):
        assert run_now(replays.first(f"u{n}", now=START, until=START + 60 + n))
    with pytest.raises(InvalidToken, match="busy"):
        run_now(replays.first("u3", now=START, until=START + 60))
    assert run_now(replays.first("u3", now=START + 61, until=START + 120))
    assert len(replays) == 2


def test_a_store_that_is_away_lets_nobody_in() -> None:
    class Down(MemoryStore):
        async def create(self, *_: Any, **__: Any) -> Any:
            raise StoreUnavailable("no route to the store")

    bench = Bench(Down())
    with pytest.raises(StoreUnavailable):
        bench.let_in(bench.good())


# ---- nonces


def test_a_nonce_must_be_of_now_or_just_before() -> None:
    bench = Bench(secret=SECRET)
    nonce = bench.dpop.nonce()
    assert bench.dpop.wants_nonces
    assert nonce is not None
    for wrong in (None, "", "x", nonce[:-1], 7 * "é", nonce[:-1] + ("A" if nonce[-1] != "A" else "B")):
        assert bench.why(bench.good(nonce=wrong)) == "use_dpop_nonce"
    assert bench.let_in(bench.good(nonce=nonce)).sub == "ada"
    bench.time.now += 60
    following = bench.dpop.nonce()
    assert following != nonce
    assert bench.let_in(bench.good(nonce=nonce)).sub == "ada"
    assert bench.let_in(bench.good(nonce=following)).sub == "ada"
    bench.time.now += 60
    assert bench.why(bench.good(nonce=nonce)) == "use_dpop_nonce"


def test_every_process_knows_every_nonce_and_another_application_none() -> None:
    one, other = Bench(secret=SECRET), Bench(secret=SECRET)
    assert one.let_in(one.good(nonce=other.dpop.nonce())).sub == "ada"
    assert one.why(one.good(nonce=Bench(secret=SECRET[::-1]).dpop.nonce())) == "use_dpop_nonce"
    assert DPoP().nonce() is None


def test_two_hundred_at_once_get_their_own_results() -> None:
    """Nonce challenges, all under way together, never mix two users up (checklist 184)."""

    async def main() -> None:
        time = Time()
        dpop = DPoP(secret=SECRET, clock=time.clock.time)
        tokens: AsyncTokens = AsyncTokens(
            AsyncSessionManager("memory:", clock=time.clock), keys=SIGNER, issuer="i", audience="a", dpop=dpop
        )

        async def user(n: int) -> None:
            key = Key.generate("Ed25519")
            pair = await tokens.issue(f"u{n}", jkt=jkt(key))
            nonce = None
            for _ in range(2):
                one = proof(key, ath=ath(pair.access_token), nonce=nonce)
                try:
                    claims = await tokens.authenticate_bound(pair.access_token, [one], method="GET", url=URL)
                except InvalidToken as error:
                    assert error.reason == "use_dpop_nonce"  # noqa: PT017
                    nonce = dpop.nonce()
                    await asyncio.sleep(0)
                else:
                    assert claims.sub == f"u{n}"
                    return
            raise AssertionError(n)

        await asyncio.gather(*map(user, range(200)))

    asyncio.run(main())


# ---- refresh tokens


def test_the_key_of_a_client_that_asks_for_tokens(bench: Bench) -> None:
    asked = {"method": "POST", "url": "https://id.example/token"}
    one = proof(htm="POST", htu=asked["url"])
    assert bench.tokens.proven_key([one], **asked) == jkt(MINE)
    with pytest.raises(InvalidToken, match="replayed"):
        bench.tokens.proven_key([one], **asked)


def refused(bench: Bench, token: str, **terms: Any) -> str:
    with pytest.raises(InvalidToken) as caught:
        bench.tokens.refresh(token, **terms)
    return caught.value.reason


def test_a_refresh_token_is_bound_to_the_key(bench: Bench) -> None:
    first = bench.pair
    second = bench.tokens.refresh(first.refresh_token, jkt=jkt(MINE))
    assert second.token_type == "DPoP"
    assert bench.let_in(proof(ath=ath(second.access_token)), token=second.access_token).sub == "ada"
    assert refused(bench, second.refresh_token) == "dpop"  # a client that forgot its proof loses nothing
    third = bench.tokens.refresh(second.refresh_token, jkt=jkt(MINE))
    assert refused(bench, third.refresh_token, jkt=jkt(THEIRS)) == "reused"
    assert refused(bench, third.refresh_token, jkt=jkt(MINE)) == "revoked"
    assert bench.ears.heard.count("tokens.reused") == 1


@pytest.mark.parametrize("key", [jkt(THEIRS), None], ids=["another", "none"])
def test_the_grace_window_is_not_for_another_key(bench: Bench, key: str | None) -> None:
    second = bench.tokens.refresh(bench.pair.refresh_token, jkt=jkt(MINE))
    bench.time.now += 1
    again = bench.tokens.refresh(bench.pair.refresh_token, jkt=jkt(MINE))
    assert again.refresh_token == second.refresh_token
    if key is None:
        assert refused(bench, bench.pair.refresh_token) == "dpop"
        return
    assert refused(bench, bench.pair.refresh_token, jkt=key) == "reused"
    assert refused(bench, second.refresh_token, jkt=jkt(MINE)) == "revoked"


def test_a_stolen_old_token_without_a_proof_ends_the_family(bench: Bench) -> None:
    second = bench.tokens.refresh(bench.pair.refresh_token, jkt=jkt(MINE))
    bench.time.now += 11
    assert refused(bench, bench.pair.refresh_token) == "reused"
    assert refused(bench, second.refresh_token, jkt=jkt(MINE)) == "revoked"


def test_a_bearer_family_has_no_use_for_a_key(bench: Bench) -> None:
    pair = bench.tokens.issue("ada")
    assert bench.tokens.refresh(pair.refresh_token, jkt=jkt(MINE)).token_type == "Bearer"


# ---- a service with the public keys only


def test_a_service_that_only_verifies() -> None:
    keys = KeyRing([Key.generate("ES256")])
    time = Time()
    tokens: Tokens = Tokens(
        SessionManager("memory:", clock=time.clock), keys=keys, issuer="i", audience="a", dpop=DPoP()
    )
    pair = tokens.issue("ada", jkt=jkt(MINE))
    verifier = TokenVerifier(keys.public(), issuer="i", audience="a", clock=time.clock.time)
    bound = BoundTokenVerifier(verifier, DPoP(replays="memory", clock=time.clock.time))
    one = proof(ath=ath(pair.access_token))
    assert bound.verify(pair.access_token, [one], method="GET", url=URL).sub == "ada"
    with pytest.raises(InvalidToken, match="replayed"):
        bound.verify(pair.access_token, [one], method="GET", url=URL)
    with pytest.raises(ConfigurationError, match="no store here"):
        BoundTokenVerifier(verifier, DPoP())


@pytest.mark.parametrize(
    ("terms", "said"),
    [({"window": 301}, "five minutes"), ({"leeway": 61}, "one minute"), ({"replays": "redis"}, "'store', 'memory'")],
)  # fmt: skip
def test_bad_settings(terms: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        DPoP(**terms)
    with pytest.raises(ConfigurationError, match="dpop="):
        Bench().tokens.__class__(
            SessionManager("memory:"), keys=SIGNER, issuer="i", audience="a", dpop=True  # type: ignore[arg-type]
        )  # fmt: skip
    with pytest.raises(ConfigurationError, match="dpop=DPoP"):
        Tokens(SessionManager("memory:"), keys=SIGNER, issuer="i", audience="a").proven_key(
            [], method="GET", url=URL
        )


def test_the_endpoints_know_bound_tokens(bench: Bench) -> None:
    """Introspection says what it is, and whoever holds one may revoke it: neither lets anybody in by it."""
    desk = Desk(
        bench.tokens,
        awaits=False,
        client_auth=lambda _id, secret: secret == "s" * 40,
        resource_servers=["api"],
        url="https://api.example/auth",
    )
    asked = Asked("POST", (("content-type", "application/x-www-form-urlencoded"),), "/introspect")
    form = f"client_id=api&client_secret={'s' * 40}&token={bench.pair.access_token}".encode()
    said = json.loads(run_now(desk.answer(asked, form)).body)
    assert (said["active"], said["token_type"], said["cnf"]) == (True, "DPoP", {"jkt": jkt(MINE)})
