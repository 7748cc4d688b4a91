"""Access tokens: every claim that is missing, wrong or late is refused (checklist 145-151, 160, 178-180)."""

import json
from datetime import timedelta
from typing import Any

import pytest

from coatcheck import ConfigurationError, InvalidToken
from coatcheck.core.signing import Hmac
from coatcheck.tokens import AccessClaims, Key, KeyRing, TokenVerifier, base64url, jws

NOW = 1_800_000_000.0
SECRET = bytes(range(32))
KEY = Key._of("HS256", SECRET, "k1")
RING = KeyRing([KEY])
GOOD: dict[str, Any] = {
    "iss": "https://id.example", "sub": "42", "aud": "api", "exp": NOW + 600, "iat": NOW, "jti": "j1", "client_id": "web",
}  # fmt: skip


def verifier(**terms: Any) -> TokenVerifier[Any]:
    return TokenVerifier(
        RING, **{"issuer": "https://id.example", "audience": "api", "clock": lambda: NOW, **terms}
    )


def token(claims: Any, typ: str | None = "at+jwt") -> str:
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return jws.sign(KEY, payload, typ=typ)


def why(claims: Any, typ: str | None = "at+jwt", **terms: Any) -> str:
    with pytest.raises(InvalidToken) as caught:
        verifier(**terms).verify(token(claims, typ))
    return caught.value.reason


def test_a_good_token() -> None:
    more = {
        "scope": "orders:read orders:write",
        "auth_time": NOW - 5,
        "amr": ["pwd"],
        "sid": "handle",
        "nbf": NOW,
        "unknown": 1,
    }
    claims = verifier().verify(token({**GOOD, **more}))
    assert (claims.sub, claims.scopes, claims.sid) == ("42", {"orders:read", "orders:write"}, "handle")
    assert verifier().verify(token({**GOOD, "aud": ["other", "api"]})).sub == "42"
    assert verifier().verify(token(GOOD, "application/at+jwt")).sub == "42"
    assert verifier().verify(token(GOOD, "AT+JWT")).sub == "42"


@pytest.mark.parametrize("name", list(GOOD))
def test_each_claim_of_rfc_9068_is_required(name: str) -> None:
    assert why({key: value for key, value in GOOD.items() if key != name}) == "claims"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"exp": NOW - 10}, "expired"), ({"exp": str(NOW + 5)}, "claims"), ({"exp": True}, "claims"), ({"exp": None}, "claims"),
        ({"iat": NOW + 11}, "not_yet_valid"), ({"nbf": NOW + 11}, "not_yet_valid"), ({"nbf": "x"}, "claims"),
        ({"iat": "1"}, "claims"), ({"exp": -1}, "claims"), ({"iat": -1}, "claims"),
        ({"exp": NOW + 3601}, "lifetime"), ({"exp": NOW + 315_360_000}, "lifetime"), ({"iat": NOW - 3001}, "lifetime"),
        ({"iss": "https://id.example/"}, "issuer"), ({"iss": "https://id.exampl"}, "issuer"),
        ({"iss": "HTTPS://ID.EXAMPLE"}, "issuer"),
        ({"iss": ["https://id.example"]}, "claims"), ({"iss": ""}, "issuer"),
        ({"aud": "api.evil"}, "audience"), ({"aud": "ap"}, "audience"), ({"aud": ["x"]}, "audience"), ({"aud": []}, "audience"),
        ({"aud": {"api": 1}}, "claims"), ({"aud": None}, "claims"), ({"aud": ["xapi", "api "]}, "audience"),
        ({"sub": 42}, "claims"), ({"sub": ""}, "claims"), ({"sub": None}, "claims"),
        ({"jti": ""}, "claims"), ({"client_id": ""}, "claims"),
        ({"scope": ["a"]}, "claims"), ({"amr": "pwd"}, "claims"),
    ],
)  # fmt: skip
def test_a_claim_that_is_wrong(change: dict[str, Any], reason: str) -> None:
    assert why({**GOOD, **change}) == reason


@pytest.mark.parametrize(
    "typ",
    [
        None,
        "JWT",
        "refresh",
        "at+jwtx",
        "xat+jwt",
        "application/application/at+jwt",
        "at+jwt ",
        "id_token+jwt",
    ],
)
def test_another_kind_of_token(typ: str | None) -> None:
    """next-auth CVE-2023-48309: a state token is no session."""
    assert why(GOOD, typ) == "type"


@pytest.mark.parametrize(
    "payload",
    [
        b'{"sub":"a","sub":"admin",' + json.dumps({k: v for k, v in GOOD.items() if k != "sub"}).encode()[1:],
        b'{"sub":"a","s\\u0075b":"admin",' + json.dumps({k: v for k, v in GOOD.items() if k != "sub"}).encode()[1:],
        json.dumps(GOOD).encode("utf-16-le"), b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), b"", b"null", b"[]", b"1", b'"x"',
        json.dumps({**GOOD, "deep": 0}).encode().replace(b'"deep": 0', b'"deep": ' + b"[" * 2000 + b"]" * 2000),
        json.dumps({**GOOD, "exp": 0}).encode().replace(b'"exp": 0', b'"exp": ' + b"9" * 4000),
        json.dumps({**GOOD, "exp": 0}).encode().replace(b'"exp": 0', b'"exp": 1e400'),
        json.dumps({**GOOD, "exp": 0}).encode().replace(b'"exp": 0', b'"exp": NaN'),
        json.dumps({**GOOD, "exp": 0}).encode().replace(b'"exp": 0', b'"exp": Infinity'),
    ],
)  # fmt: skip
def test_a_payload_that_is_no_plain_object(payload: bytes) -> None:
    assert why(payload) in ("claims", "lifetime")


def test_another_members_twin_is_found_wherever_it_is() -> None:
    assert why(json.dumps(GOOD).encode()[:-1] + b',"x":[{"a":1,"a":2}]}') == "claims"


def test_leeway_and_lifetime_have_limits() -> None:
    assert verifier(leeway=60).verify(token({**GOOD, "exp": NOW - 59})).sub == "42"
    assert verifier(leeway=0).verify(token({**GOOD, "exp": NOW + 1})).sub == "42"
    assert why({**GOOD, "exp": NOW}, leeway=0) == "expired"
    assert verifier(max_lifetime="2h").verify(token({**GOOD, "exp": NOW + 7200})).sub == "42"
    assert verifier(max_lifetime=timedelta(hours=2)).verify(token({**GOOD, "exp": NOW + 7200})).sub == "42"
    for terms in (
        {"leeway": 61},
        {"leeway": "2m"},
        {"leeway": -1},
        {"max_lifetime": 86_401},
        {"max_lifetime": 0.0 - 1},
    ):
        with pytest.raises(ConfigurationError, match=next(iter(terms))):
            verifier(**terms)
    with pytest.raises(
        ConfigurationError, match=r"max_lifetime='ten minutes': give a number and s, m, h or d"
    ):
        verifier(max_lifetime="ten minutes")


@pytest.mark.parametrize(
    ("setting", "value"),
    [("issuer", ""), ("issuer", None), ("audience", ""), ("audience", ["api"]), ("schema", dict)],
)
def test_bad_settings(setting: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=setting):
        verifier(**{setting: value})


class Mine(AccessClaims, frozen=True, kw_only=True):
    roles: tuple[str, ...] = ()
    tenant: int


def test_claims_of_your_own() -> None:
    mine = verifier(schema=Mine).verify(token({**GOOD, "roles": ["editor"], "tenant": 7}))
    assert isinstance(mine, Mine)
    assert (mine.roles, mine.tenant) == (("editor",), 7)
    assert why(GOOD, schema=Mine) == "claims"
    assert why({**GOOD, "tenant": "7"}, schema=Mine) == "claims"


def test_keys_are_kept_apart_by_kind() -> None:
    """A token of another kind, typed anew, is not signed by the key of this one (checklist 150)."""
    refresh = Key._of("HS256", bytes(32), "refresh")
    with pytest.raises(InvalidToken) as caught:
        verifier().verify(jws.sign(refresh, json.dumps(GOOD).encode(), typ="at+jwt"))
    assert caught.value.reason == "unknown_key"


def test_a_refusal_says_the_reason_and_nothing_of_the_token() -> None:
    for bad in (token({**GOOD, "exp": NOW - 99}), "x.y.z", token(GOOD)[:-4] + "AAAA"):
        with pytest.raises(InvalidToken) as caught:
            verifier().verify(bad)
        error: BaseException | None = caught.value
        while error is not None:
            assert bad not in str(error)
            assert "id.example" not in str(error)
            error = error.__cause__


def test_five_parts_are_not_three() -> None:
    """A JWE where a JWS belongs: json-jwt CVE-2023-51774."""
    head = base64url.encode(b'{"alg":"dir","enc":"A256GCM"}')
    with pytest.raises(InvalidToken) as caught:
        verifier().verify(
            f"{head}..{base64url.encode(bytes(12))}.{base64url.encode(b'x')}.{base64url.encode(bytes(16))}"
        )
    assert caught.value.reason == "malformed"


def test_a_signature_over_other_claims_of_the_same_length() -> None:
    """fast-jwt GHSA-rp9m-7r4c-75qg: nothing is remembered by what a token says."""
    good = token(GOOD)
    head, body, signature = good.split(".")
    other = base64url.encode(base64url.decode(body).replace(b'"42"', b'"43"'))
    for _ in range(2):
        assert verifier().verify(good).sub == "42"
        with pytest.raises(InvalidToken):
            verifier().verify(f"{head}.{other}.{signature}")
    assert Hmac(SECRET).digest(f"{head}.{body}".encode()) == base64url.decode(signature)
