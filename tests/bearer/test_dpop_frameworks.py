"""Tokens that are bound to a key, in every framework on a real server: proofs by npm's jose, requests as bytes (RFC 9449)."""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from time import time
from typing import Any

import pytest

from coatcheck.tokens import Key
from tests.bearer.sites import FRAMEWORKS
from tests.bearer.test_frameworks import Client, private_jwk
from tests.tokens.test_dpop import ath, bare, proof
from tests.tokens.test_interop import jose
from tests.tokens.test_keys import private_jwk as private
from tests.web import servers
from tests.web.servers import Seen

URL = "https://api.example"
MINE, THEIRS = Key.generate("ES256"), Key.generate("ES256")
ALGS = "ES256 ES384 Ed25519 EdDSA RS256 PS256"


@pytest.fixture(scope="module", params=FRAMEWORKS)
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    name: str = request.param
    env = {"JWT_KEYS": private_jwk(), "STORE": "memory:", "URL": URL}
    serve: Any = {
        "flask": servers.gunicorn, "django_sync": servers.gunicorn, "aiohttp": servers.aiohttp
    }.get(name, servers.uvicorn)  # fmt: skip
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp(name)
        server = stack.enter_context(
            serve(f"tests.bearer.sites:{name}", folder=folder, env={**os.environ, **env})
        )
        yield Client(name, server)
    said = server.log.read_text()
    assert "Traceback" not in said, said
    assert "Warning" not in said, said


def by_jose(*about: dict[str, Any]) -> list[str]:
    """Proofs of `MINE`, by npm's jose."""
    header = {"typ": "dpop+jwt", "jwk": bare(MINE)}
    return jose(
        *(
            {
                "do": "sign", "alg": "ES256", "jwk": private(MINE), "header": header,
                "claims": {"jti": os.urandom(9).hex(), "iat": int(time()), **claims},
            }
            for claims in about
        )
    )  # fmt: skip


def signed(key: Any = MINE, **claims: Any) -> str:
    return "DPoP: " + proof(key, iat=int(time()), jti=os.urandom(9).hex(), **claims)


def nonce_of(seen: Seen) -> str:
    (nonce,) = seen.all("dpop-nonce")
    return nonce


def test_a_client_with_a_key_from_login_to_refresh(client: Client) -> None:
    # It logs in, is told the nonce, comes again.
    target = "/login?user=ada&scope=orders:read"
    seen = client.ask("POST", target, signed(htm="POST", htu=f"{URL}/login"))
    assert (seen.status, json.loads(seen.body)) == (400, {"error": "use_dpop_nonce"})
    nonce = nonce_of(seen)
    (first,) = by_jose({"htm": "POST", "htu": f"{URL}/login", "nonce": nonce})
    pair = json.loads(client.ask("POST", target, f"DPoP: {first}").body)
    access, refresh = pair["access_token"], pair["refresh_token"]

    # It asks for what is its own.
    (good, renewal) = by_jose(
        {"htm": "GET", "htu": f"{URL}/orders", "nonce": nonce, "ath": ath(access)},
        {"htm": "POST", "htu": f"{URL}/auth/token", "nonce": nonce},
    )
    bound = f"Authorization: DPoP {access}"
    seen = client.orders(bound, f"DPoP: {good}")
    assert (seen.status, json.loads(seen.body)) == (200, {"user": "ada"})
    if client.framework != "litestar":
        assert nonce_of(seen)
        assert seen.all("cache-control") == ["no-store"]

    # Nobody else does, and all are told the same; but for the nonce, which everybody may know.
    about = {"htu": f"{URL}/orders", "nonce": nonce, "ath": ath(access)}
    tries: list[list[str]] = [
        [bound],
        [bound, f"DPoP: {good}"],
        [bound, signed(**about), signed(**about)],
        [bound, signed(THEIRS, **about)],
        [bound, signed(htm="POST", **about)],
        [bound, signed(**{**about, "htu": "https://evil.example/orders"})],
        [bound, signed(**{**about, "htu": f"{URL}/email"})],
        [bound, signed(**{**about, "ath": ath("x")})],
        [bound[:-4] + "AAAA", signed(**{**about, "ath": ath(access[:-4] + "AAAA")})],
        ["Authorization: DPoP", signed(**about)],
        ["Authorization: DPoP é", signed(**about)],
    ]
    told: set[Any] = {
        (s.status, s.body, *s.all("www-authenticate")) for s in (client.orders(*fields) for fields in tries)
    }
    assert len(told) == 1
    status, body, challenge = told.pop()
    assert (status, challenge) == (401, f'DPoP realm="api", algs="{ALGS}", error="invalid_token"')
    assert b"invalid_token" in body
    seen = client.orders(f"Authorization: Bearer {access}", signed(**about))
    both = f'Bearer realm="api", error="invalid_token", DPoP realm="api", algs="{ALGS}"'
    assert (seen.status, seen.all("www-authenticate")) == (401, [both])
    seen = client.orders(bound, signed(**{**about, "nonce": None}))
    assert (seen.status, seen.all("www-authenticate")) == (
        401, [f'DPoP realm="api", algs="{ALGS}", error="use_dpop_nonce"'],
    )  # fmt: skip
    assert nonce_of(seen)
    seen = client.orders()
    assert seen.all("www-authenticate") == [f'Bearer realm="api", DPoP realm="api", algs="{ALGS}"']

    # It refreshes.
    form = {"grant_type": "refresh_token", "client_id": "web", "refresh_token": refresh}
    seen = client.post("/auth/token", **form)
    assert (seen.status, json.loads(seen.body)) == (400, {"error": "invalid_dpop_proof"})
    seen = client.post("/auth/token", f"DPoP: {renewal}", **form)
    assert (seen.status, json.loads(seen.body)["token_type"]) == (200, "DPoP")
    assert nonce_of(seen)
    fresh = json.loads(seen.body)
    form["refresh_token"] = fresh["refresh_token"]
    stolen = signed(THEIRS, htm="POST", htu=f"{URL}/auth/token", nonce=nonce)
    seen = client.post("/auth/token", stolen, **form)
    assert (seen.status, json.loads(seen.body)) == (400, {"error": "invalid_grant"})


def test_line_181_a_host_that_the_client_wrote_decides_nothing(client: Client) -> None:
    """Whoever was sent a proof for their own server brings it here, and says that this is that server."""
    nonce = nonce_of(client.ask("GET", "/orders"))
    login = signed(htm="POST", htu=f"{URL}/login", nonce=nonce)
    access = json.loads(client.ask("POST", "/login?user=ada&scope=orders:read", login).body)["access_token"]
    stolen = signed(htu="https://evil.example/orders", nonce=nonce, ath=ath(access))
    fields = [f"Authorization: DPoP {access}", stolen, "Connection: close"]
    more = ["X-Forwarded-Host: evil.example", "Forwarded: host=evil.example;proto=https"]
    for target in ("/orders", "https://evil.example/orders"):
        lines = [f"GET {target} HTTP/1.1", "Host: evil.example", *fields, *more, "", ""]
        seen = servers.exchange(client.server, "\r\n".join(lines).encode())
        assert seen.status in (400, 401, 404)
    assert client.orders(fields[0], signed(htu=f"{URL}/orders", nonce=nonce, ath=ath(access))).status == 200


def test_one_request_may_be_asked_twice(client: Client) -> None:
    """FastAPI's route has two dependencies that ask: the proof, which is good once, is used once."""
    nonce = nonce_of(client.ask("GET", "/orders"))
    login = signed(htm="POST", htu=f"{URL}/login", nonce=nonce)
    access = json.loads(client.ask("POST", "/login?user=ada&scope=orders:read", login).body)["access_token"]
    good = signed(htu=f"{URL}/email", nonce=nonce, ath=ath(access))
    bound = f"Authorization: DPoP {access}"
    assert client.ask("GET", "/email", bound, good).status == 200
    assert client.ask("GET", "/email", bound, good).status == 401


def test_the_metadata_says_what_proofs_may_be_signed_with(client: Client) -> None:
    seen = client.ask("GET", "/auth/.well-known/oauth-authorization-server")
    assert json.loads(seen.body)["dpop_signing_alg_values_supported"] == ALGS.split()
