"""Sections K and L of the security checklist as far as they speak of tokens themselves. tests/tokens/ has them all at length."""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from coatcheck import ConfigurationError, InvalidToken, Notice, SessionManager, StoreUnavailable, WeakSecret
from coatcheck.core.ports import EVERYONE
from coatcheck.core.signing import Hmac
from coatcheck.stores.memory import MemoryStore
from coatcheck.tokens import DPoP, Key, KeyRing, TokenVerifier, base64url, jws
from coatcheck.tokens.feed import RevocationFeed, Standing
from tests.canaries import CANARIES
from tests.tokens import test_dpop as dpop
from tests.tokens import test_feed as feeds
from tests.tokens import test_refresh as refreshing
from tests.tokens.test_interop import CLAIMS, GOOD, HEAD, NOW, RING, forged
from tests.tokens.test_keys import private_jwk
from tests.tokens.test_remote import Issuer, Reader, issuer, reader, set_of
from tests.tokens.test_remote import token as signed_by
from tests.tokens.wycheproof import GOLDEN, accepts, groups
from tests.web.rig import Time

__all__ = ["issuer", "reader"]

VERIFIER = TokenVerifier(RING, issuer="i", audience="a", clock=lambda: NOW)


def why(token: Any, verifier: TokenVerifier[Any] = VERIFIER) -> str:
    with pytest.raises(InvalidToken) as caught:
        verifier.verify(token)
    assert str(caught.value) == f"the token is not accepted: {caught.value.reason}"
    return caught.value.reason


def head(**members: Any) -> bytes:
    return json.dumps({"alg": "HS256", "kid": "k1", "typ": "at+jwt", **members}).encode()


def claims(**changes: Any) -> bytes:
    return json.dumps({name: value for name, value in {**CLAIMS, **changes}.items() if value != ...}).encode()


def under(key: Key) -> TokenVerifier[Any]:
    return TokenVerifier(KeyRing([key]), issuer="i", audience="a", clock=lambda: NOW)


# ------------------------------------------------------------------------------------------------------ K: verification


def test_line_129_a_key_has_one_algorithm_and_a_public_key_is_no_secret() -> None:
    key = Key.generate("ES256", kid="k1").public()
    material: Any = key.material
    for encoding in (serialization.Encoding.PEM, serialization.Encoding.DER):
        known = material.public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
        for secret in (known, known.strip(), known.strip() + b"\n"):
            text = f"{base64url.encode(HEAD)}.{base64url.encode(GOOD)}"
            token = f"{text}.{base64url.encode(Hmac(secret).digest(text.encode()))}"
            assert why(token, under(key)) == "algorithm"


def test_line_130_none_is_refused_in_every_spelling() -> None:
    for alg in ("none", "None", "NONE", "nOnE", ...):
        header = json.dumps({k: v for k, v in {"alg": alg, "kid": "k1"}.items() if v != ...}).encode()
        assert why(forged(header, GOOD)) == "algorithm"
        assert why(forged(header, GOOD).rpartition(".")[0] + ".") == "malformed"


@pytest.mark.parametrize("alg", ["hs256", "HS256 ", ["HS256"], None])
def test_line_131_the_algorithm_is_compared_as_it_is(alg: Any) -> None:
    assert why(forged(head(alg=alg), GOOD)) == "algorithm"


def test_line_132_a_short_hmac_key_is_an_error() -> None:
    for alg, size in (("HS256", 31), ("HS384", 47), ("HS512", 63)):
        for length in (0, 6, size):
            with pytest.raises(WeakSecret):
                Key.from_jwk({"kty": "oct", "alg": alg, "k": base64url.encode(bytes(range(length)))})


def test_line_133_weak_and_broken_keys_are_refused_when_they_are_loaded() -> None:
    refused = {"ROCA", "RSA of 1024 bits", "a short secret", "no secret", "beside the curve", "no point"}
    assert {comment for comment, good in key_sets().items() if not good} >= refused


def test_line_134_what_a_key_is_for_is_honoured() -> None:
    refused = {"for encryption", "an unknown use", "for wrapping", "another alg"}
    assert {comment for comment, good in key_sets().items() if not good} >= refused


def test_line_135_a_key_set_is_unambiguous() -> None:
    refused = {"a shared secret beside a key pair", "the same kid twice", "two keys, no kid in the token"}
    found = key_sets()
    assert {comment for comment, good in found.items() if not good} >= refused
    assert {comment for comment, good in found.items() if good} == {"good", "two keys"}


def key_sets() -> dict[str, bool]:
    """Our own vectors in Wycheproof's format -> whether they are accepted."""
    found = groups(GOLDEN / "json_web_key_test.json")
    return {group["comment"]: accepts(group, group["tests"][0]) for group in found}


@pytest.mark.parametrize("kid", ["../../dev/null", "' OR 1--", "|ls", "x" * 4000, 7, ["k1"], None])
def test_line_136_the_key_id_is_a_dictionarys_key(kid: Any) -> None:
    assert why(forged(head(kid=kid), GOOD)) in ("unknown_key", "malformed")
    two = KeyRing([RING.signer, Key.generate("HS256", kid="k2")])
    unnamed = forged(b'{"alg":"HS256","typ":"at+jwt"}', GOOD)
    assert why(unnamed, TokenVerifier(two, issuer="i", audience="a", clock=lambda: NOW)) == "unknown_key"


def test_line_137_a_key_in_the_token_is_not_used_and_none_is_fetched(issuer: Issuer) -> None:
    mine, theirs = Key.generate("ES256", kid="k1"), Key.generate("ES256", kid="k1")
    header = {"jwk": theirs.jwk(), "jku": issuer.url, "x5u": issuer.url, "x5c": ["MII"]}
    assert why(jws.sign(theirs, GOOD, typ="at+jwt", header=header), under(mine)) == "signature"
    assert issuer.asked == []


def test_line_138_unknown_keys_have_a_set_fetched_once_a_cool_down_and_the_last_good_one_is_kept(
    issuer: Issuer, reader: Reader
) -> None:
    old, stranger = Key.generate("ES256", kid="old"), Key.generate("HS256")
    issuer.body = set_of(old)
    reader.keys.refresh()
    reader.now += 31
    for n in range(1000):
        start = base64url.encode(b'{"alg":"ES256","kid":"k%d"}' % n)
        assert reader.why(jws.sign_under(start + ".", stranger, b"{}")) == "unknown_key"
        reader.settle()
    assert len(issuer.asked) == 2
    issuer.close()
    reader.now += 3600
    assert reader.verifier.verify(signed_by(old)).sub == "42"
    reader.settle()
    assert reader.verifier.verify(signed_by(old)).sub == "42"


@pytest.mark.parametrize("crit", [[], ["x"], ["alg"], ["exp", "exp"], "exp", None, 7])
def test_line_139_critical_headers_are_refused(crit: Any) -> None:
    assert why(forged(head(crit=crit), GOOD)) == "header"


def test_line_140_b64_is_refused_before_anything_is_decoded() -> None:
    assert why(forged(head(b64=False), GOOD)) == "header"
    assert why(forged(head(b64=False, crit=["b64"]), GOOD)) == "header"
    first, _, last = forged(head(b64=False), GOOD).split(".")
    assert why(f"{first}.{'x' * 50_000_000}.{last}") == "too_large"


def test_line_141_a_name_that_occurs_twice_is_refused() -> None:
    assert why(forged(b'{"alg":"none",' + HEAD[1:], GOOD)) == "malformed"
    for twin in (b'{"sub":"admin",', b'{"s\\u0075b":"admin",', b'{"x":{"a":1,"a":2},'):
        assert why(forged(HEAD, twin + GOOD[1:])) == "claims"


def test_line_142_only_the_compact_form_in_one_spelling() -> None:
    good = forged(HEAD, GOOD)
    first, body, last = good.split(".")
    assert VERIFIER.verify(good).sub == "42"
    spare = last[:-1] + next(c for c in "ABCDEFGH" if c != last[-1] and c not in "AEIMQUYcgkosw048")
    for token in (
        good + "=", good + "\n", " " + good, good + ".", f"{good}.{last}", f"{first}.{body}", f"{first}.{body}.{spare}",
        json.dumps({"payload": body, "protected": first, "signature": last}), good.encode(), None, "",
    ):  # fmt: skip
        assert why(token) == "malformed"


def test_line_143_utf_8_and_nothing_else() -> None:
    text = GOOD.decode()
    for payload in (
        b"\xef\xbb\xbf" + GOOD,
        *(text.encode(name) for name in ("utf-16", "utf-16-le", "utf-32")),
    ):
        assert why(forged(HEAD, payload)) == "claims"
    assert why(forged(HEAD, b"[]")) == why(forged(HEAD, b'"x"')) == "claims"


def test_line_144_a_huge_token_is_refused_at_once() -> None:
    token = forged(head(x="x" * 10_000_000), GOOD)
    began = time.process_time()
    assert why(token) == "too_large"
    assert time.process_time() - began < 0.05


def test_line_145_depth_and_numbers_have_limits() -> None:
    rest = claims(exp=...)[:-1]
    for exp in (b"9" * 4000, b"1e400", b"NaN", b"true", b"-1", b"[" * 2000 + b"]" * 2000):
        assert why(forged(HEAD, rest + b',"exp":' + exp + b"}")) == "claims"


def test_line_146_times_are_numbers_and_checked() -> None:
    for changes, reason in (
        ({"exp": ...}, "claims"), ({"exp": "123"}, "claims"), ({"exp": NOW - 10}, "expired"),
        ({"nbf": NOW + 11}, "not_yet_valid"), ({"iat": NOW + 11}, "not_yet_valid"), ({"exp": NOW + 3601}, "lifetime"),
    ):  # fmt: skip
        assert why(forged(HEAD, claims(**changes))) == reason
    with pytest.raises(ConfigurationError, match="leeway"):
        TokenVerifier(RING, issuer="i", audience="a", leeway=61)


@pytest.mark.parametrize("iss", ["", "ii", "I", "i/", " i", ["i"], None])
def test_line_147_the_issuer_is_compared_as_it_is(iss: Any) -> None:
    assert why(forged(HEAD, claims(iss=iss))) in ("issuer", "claims")


@pytest.mark.parametrize("aud", [..., "x", ["x"], "a.evil", "aa", [], "", None])
def test_line_148_the_audience_is_required_and_compared_as_it_is(aud: Any) -> None:
    assert why(forged(HEAD, claims(aud=aud))) in ("audience", "claims")
    assert VERIFIER.verify(forged(HEAD, claims(aud=["x", "a"]))).sub == "42"


@pytest.mark.parametrize("typ", ["JWT", "dpop+jwt", "id+jwt", "rt+jwt", ""])
def test_line_149_another_type_of_token_is_refused(typ: str) -> None:
    assert why(forged(head(typ=typ), GOOD)) == "type"
    assert why(forged(b'{"alg":"HS256","kid":"k1"}', GOOD)) == "type"
    assert VERIFIER.verify(forged(head(typ="application/at+jwt"), GOOD)).sub == "42"


def test_line_150_no_kind_of_token_passes_for_another() -> None:
    bench = refreshing.Bench()
    pair = bench.tokens.issue("ada")
    assert why(pair.refresh_token, bench.tokens.verifier) == "malformed"
    assert bench.why(pair.access_token) == "malformed"


@pytest.mark.parametrize("sub", ["", 7, None, ...])
def test_line_151_the_subject_is_a_text_and_its_login_lives(sub: Any) -> None:
    assert why(forged(HEAD, claims(sub=sub))) == "claims"
    place = feeds.Place()
    token = place.tokens.issue("ada").access_token
    place.sessions.of("ada").end_all()
    assert place.why(token, "authenticate") == "revoked"


def test_line_152_what_is_encrypted_is_no_signed_token() -> None:
    assert (
        why(".".join(base64url.encode(part) for part in (b'{"alg":"dir","enc":"A256GCM"}', *[b"x"] * 4)))
        == "malformed"
    )
    assert why(forged(head(enc="A256GCM"), GOOD)) == "header"


def test_line_153_a_token_within_a_token_is_not_opened() -> None:
    assert why(forged(head(cty="JWT"), forged(HEAD, GOOD).encode())) == "claims"


def test_line_154_encryption_is_not_offered_so_no_count_of_rounds_is_run() -> None:
    header = base64url.encode(b'{"alg":"PBES2-HS256+A128KW","enc":"A128GCM","p2c":2147483647,"p2s":"AAAA"}')
    began = time.process_time()
    assert why(".".join([header, *["AAAA"] * 4])) == "malformed"
    assert why(forged(head(alg="PBES2-HS256+A128KW", p2c=2147483647), GOOD)) == "algorithm"
    assert time.process_time() - began < 0.05


def test_line_155_nothing_is_unpacked() -> None:
    assert why(forged(head(zip="DEF"), GOOD)) == "header"


def test_line_156_a_point_beside_its_curve_is_no_key() -> None:
    one, other = Key.generate("ES256").jwk(), Key.generate("ES256").jwk()
    for jwk in (
        {**one, "y": other["y"]},
        {**one, "x": base64url.encode(bytes(32)), "y": base64url.encode(bytes(32))},
    ):
        with pytest.raises(ConfigurationError):
            Key.from_jwk(jwk)


def test_line_157_every_wrong_rsa_signature_is_refused_alike() -> None:
    """The decryption that could tell paddings apart is not offered."""
    key = Key.generate("RS256", kid="k1")
    text, good = "x.y", key.primitive.sign(b"x.y")
    for wrong in (
        b"",
        b"\0",
        bytes(len(good)),
        good[:-1],
        good + b"\0",
        b"\xff" * len(good),
        bytes([good[0] ^ 1]) + good[1:],
    ):
        assert key.primitive.verify(text.encode(), wrong) is False
    assert key.primitive.verify(text.encode(), good)


def test_line_158_ecdsa_signatures_are_two_numbers_of_fixed_length() -> None:
    for name in ("ecdsa_secp256r1_sha256_p1363_test.json", "ecdsa_secp384r1_sha384_p1363_test.json"):
        (group,) = groups(GOLDEN / name)
        found = {vector["comment"]: accepts(group, vector) for vector in group["tests"]}
        assert {comment for comment, good in found.items() if good} == {"good"}
        assert {
            "der",
            "zero",
            "r_is_zero",
            "s_is_zero",
            "s_plus_n",
            "padded",
            "cut",
            "longer",
        } <= found.keys()


def test_line_159_ed25519_is_written_by_its_own_name_and_read_by_both() -> None:
    new, old = Key.generate("Ed25519", kid="k1"), None
    old = Key._of("EdDSA", new.material, "k1")
    for writer in (new, old):
        assert under(new).verify(jws.sign(writer, GOOD, typ="at+jwt")).sub == "42"
    assert base64url.decode(jws.prefix(new)[:-1]) == b'{"alg":"Ed25519","kid":"k1"}'
    with pytest.raises(ConfigurationError):
        Key.from_jwk({"kty": "OKP", "crv": "Ed448", "x": "AA", "alg": "EdDSA"})


def test_line_163_nothing_that_was_verified_is_remembered() -> None:
    """But for headers of genuine tokens, which are public and end with their key."""
    good = forged(HEAD, GOOD)
    assert VERIFIER.verify(good).sub == "42"
    first, body, last = good.split(".")
    other = base64url.encode(bytes([base64url.decode(last)[0] ^ 1]) + base64url.decode(last)[1:])
    assert why(f"{first}.{body}.{other}") == "signature"
    assert why(f"{first}.{base64url.encode(claims(sub='admin'))}.{last}") == "signature"
    place = feeds.Place()
    place.tokens.listen()
    place.hear(feeds.LISTENING)
    place.a_minute()
    token = place.tokens.issue("ada").access_token
    assert place.tokens.verify(token).sub == "ada"
    place.tokens.revoke_access(token)
    assert place.why(token) == "revoked"
    ended = KeyRing([RING.signer.until(NOW - 1)])
    assert why(good, TokenVerifier(ended, issuer="i", audience="a", clock=lambda: NOW)) == "unknown_key"


# -------------------------------------------------------------------------------------------- L: refresh, revocation, DPoP


def test_line_165_of_fifty_parallel_refreshes_one_makes_the_next_generation(tmp_path: Path) -> None:
    bench = refreshing.Bench(f"sqlite:///{tmp_path}/s.db")
    token, start = bench.tokens.issue("ada").refresh_token, threading.Barrier(50)

    def refresh(_: int) -> str:
        start.wait()
        return bench.tokens.refresh(token).refresh_token

    with ThreadPoolExecutor(50) as pool:
        assert len(set(pool.map(refresh, range(50)))) == 1
    assert bench.ears.heard.count("tokens.refreshed") == 1
    bench.sessions.close()


def test_line_166_an_old_token_ends_its_family_and_is_told_of_without_it() -> None:
    bench = refreshing.Bench()
    first = bench.tokens.issue("ada")
    second = bench.tokens.refresh(first.refresh_token)
    third = bench.tokens.refresh(second.refresh_token)
    assert bench.why(first.refresh_token) == "reused"
    assert bench.why(third.refresh_token) == "revoked"
    assert bench.ears.heard.count("tokens.reused") == 1
    with pytest.raises(InvalidToken):
        bench.tokens.authenticate(third.access_token)
    for pair in (first, second, third):
        assert not any(part in CANARIES.log for part in pair.refresh_token.split(".")[1:])


def test_line_167_the_one_before_gets_the_same_successor_for_ten_seconds_and_not_longer() -> None:
    bench = refreshing.Bench()
    first = bench.tokens.issue("ada")
    second = bench.tokens.refresh(first.refresh_token)
    bench.time.now += 3
    assert bench.tokens.refresh(first.refresh_token).refresh_token == second.refresh_token
    bench.time.now += 8
    assert bench.why(first.refresh_token) == "reused"
    strict = refreshing.Bench(grace=0)
    first = strict.tokens.issue("ada")
    strict.tokens.refresh(first.refresh_token)
    assert strict.why(first.refresh_token) == "reused"


def test_line_168_the_window_is_for_the_same_key_and_client() -> None:
    for terms in ({"jkt": dpop.jkt(dpop.THEIRS)}, {"jkt": dpop.jkt(dpop.MINE), "client_id": "other"}):
        bench = dpop.Bench()
        second = bench.tokens.refresh(bench.pair.refresh_token, jkt=dpop.jkt(dpop.MINE))
        assert dpop.refused(bench, bench.pair.refresh_token, **terms) == "reused"
        assert dpop.refused(bench, second.refresh_token, jkt=dpop.jkt(dpop.MINE)) == "revoked"


def test_line_169_a_client_that_lost_the_answer_asks_again() -> None:
    bench = refreshing.Bench()
    first = bench.tokens.issue("ada")
    lost = bench.tokens.refresh(first.refresh_token)
    bench.time.now += 5
    again = bench.tokens.refresh(first.refresh_token)
    assert again.refresh_token == lost.refresh_token
    assert bench.tokens.refresh(again.refresh_token).expires_in == 600


def test_line_171_a_restart_forgets_no_rotation(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    before = refreshing.Bench(url)
    first = before.tokens.issue("ada")
    second = before.tokens.refresh(first.refresh_token)
    before.sessions.close()
    after = refreshing.Bench(url)
    after.time.now += 11
    assert after.why(first.refresh_token) == "reused"
    assert after.why(second.refresh_token) == "revoked"
    after.sessions.close()


def test_line_172_a_family_ends_idle_or_old() -> None:
    bench = refreshing.Bench()
    idle, used = bench.tokens.issue("ada"), bench.tokens.issue("eve")
    for _ in range(4):
        bench.time.now += 7 * refreshing.DAY
        used = bench.tokens.refresh(used.refresh_token)
    assert bench.why(idle.refresh_token) == "unknown"
    bench.time.now += 2 * refreshing.DAY + 1
    assert bench.why(used.refresh_token) == "unknown"


def test_line_173_a_user_whose_logins_were_ended_refreshes_nothing() -> None:
    bench = refreshing.Bench()
    pair = bench.tokens.issue("ada", client_id="app")
    bench.sessions.of("ada").end_all()
    assert bench.why(pair.refresh_token) == "revoked"


@pytest.mark.parametrize("policy", ["check_store", "fail_closed"])
def test_line_175_past_the_stated_lag_nothing_unsure_is_let_in(policy: Any) -> None:
    """Across processes, and with the feed cut off by a proxy: tests/tokens/test_feed_cut.py, python -m bench.revocation."""
    place = feeds.Place(when_unsure=policy, max_lag=15)
    place.tokens.listen()
    place.hear(feeds.LISTENING)
    place.time.now += 14
    place.hear(feeds.LISTENING)
    token = place.tokens.issue("ada").access_token
    place.sessions.of("ada").end_all()  # and nobody hears of it
    assert place.tokens.verify(token).sub == "ada"
    place.time.now += 15.1
    assert place.why(token) == "unsure"
    assert place.why(token, "authenticate") == {"check_store": "revoked", "fail_closed": "unsure"}[policy]


def test_line_176_revocations_are_kept_as_long_as_they_must_and_their_memory_is_bounded() -> None:
    clock = Time()
    heard = RevocationFeed(
        keep_for=610, max_lag=15, leeway=10, time=clock.clock.time, monotonic=clock.clock.monotonic, room=1000
    )
    heard.hear(Notice("watching", for_good=True))
    heard.hear(Notice("ended", "s"))
    issued = clock.now
    clock.now += 610
    assert heard.standing("s", "j", clock.now) is Standing.REVOKED
    for n in range(100_000):
        heard.hear(Notice("ended", f"s{n}"))
    assert len(heard) <= 1000
    assert heard.standing("s5", "j", issued) is not Standing.LIVE


def test_line_177_when_everyones_sessions_end_the_same_second_is_no_excuse() -> None:
    place = feeds.Place()
    place.tokens.listen()
    place.hear(feeds.LISTENING)
    place.a_minute()
    token = place.tokens.issue("ada").access_token
    place.sessions.of("ada").end_all()
    place.hear(Notice("ended", f"{EVERYONE}1"))
    later = place.tokens.issue("ada").access_token
    assert place.why(token, "authenticate") == "revoked"
    assert place.tokens.authenticate(later).sub == "ada"


def test_line_178_a_token_for_ten_years_is_refused_and_none_is_made() -> None:
    assert why(forged(HEAD, claims(exp=NOW + 315_360_000))) == "lifetime"
    with pytest.raises(ConfigurationError, match="at most an hour"):
        refreshing.Bench(access_ttl="2h")


@pytest.mark.parametrize("name", ["iss", "sub", "aud", "exp", "iat", "jti", "client_id"])
def test_line_180_every_claim_of_rfc_9068_is_required(name: str) -> None:
    assert why(forged(HEAD, claims(**{name: ...}))) == "claims"


@pytest.mark.parametrize("name", [*dpop.HEADERS, *dpop.CLAIMS])
def test_line_181_every_check_of_a_proof(name: str) -> None:
    bench = dpop.Bench()
    said = {"ath": dpop.ath(bench.pair.access_token), **dpop.CLAIMS.get(name, {})}
    assert bench.why(dpop.proof(header=dpop.HEADERS.get(name), **said)) == "dpop"


def test_line_181_two_proofs_another_key_a_replay_and_an_old_nonce() -> None:
    bench = dpop.Bench(secret=dpop.SECRET)
    nonce = bench.dpop.nonce()
    good = bench.good(nonce=nonce)
    assert bench.why(good, bench.good(nonce=nonce)) == bench.why() == "dpop"
    other = dpop.proof(dpop.THEIRS, ath=dpop.ath(bench.pair.access_token), nonce=nonce)
    assert bench.why(other) == "dpop"
    assert bench.let_in(good).sub == "ada"
    assert bench.why(good) == "dpop_replayed"
    bench.time.now += 120
    assert bench.why(bench.good(nonce=nonce)) == bench.why(bench.good()) == "use_dpop_nonce"


def test_line_182_a_bound_token_is_refused_as_a_bearer_token() -> None:
    bench = dpop.Bench()
    checks: list[Callable[[str], Any]] = [
        bench.tokens.verify,
        bench.tokens.authenticate,
        bench.tokens.verifier.verify,
    ]
    for check in checks:
        with pytest.raises(InvalidToken, match="dpop"):
            check(bench.pair.access_token)


def test_line_183_a_refresh_token_is_bound_to_its_clients_key() -> None:
    bench = dpop.Bench()
    assert dpop.refused(bench, bench.pair.refresh_token) == "dpop"
    assert dpop.refused(bench, bench.pair.refresh_token, jkt=dpop.jkt(dpop.THEIRS)) == "reused"


def test_line_184_two_hundred_nonce_challenges_at_once_mix_nobody_up() -> None:
    dpop.test_two_hundred_at_once_get_their_own_results()


def test_line_118_a_store_of_proofs_that_is_away_lets_nobody_in() -> None:
    class Down(MemoryStore):
        async def create(self, *_: Any, **__: Any) -> Any:
            raise StoreUnavailable("no route to the store")

    bench = dpop.Bench(Down())
    with pytest.raises(StoreUnavailable):
        bench.let_in(bench.good())


def test_line_021_no_key_is_shown() -> None:
    secret = "k9Q2mV7xZ4bT1nR8sL5cY0wE3hG6jD2a"
    key = Key.from_secret(secret)
    rules = DPoP(secret=secret)
    shown = f"{key!r} {KeyRing([key])!r} {rules!r} {vars(rules)!r} {SessionManager('memory:')!r}"
    private = Key.generate("ES256")
    shown += f"{private!r} {KeyRing([private])!r}"
    assert secret not in shown
    assert private_jwk(private)["d"] not in shown
