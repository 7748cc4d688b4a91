"""Every framework on a real server, by raw sockets: who passes, what the others are told, and the endpoints beside them."""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from coatcheck.tokens import Key
from tests.bearer.sites import FRAMEWORKS
from tests.web import servers
from tests.web.servers import Seen, Server, exchange


def private_jwk() -> str:
    """A key pair for the site, as it would be in the environment."""
    key: Any = Key.generate("ES256", kid="k1")
    from coatcheck.tokens import base64url

    d = base64url.encode(key.material.private_numbers().private_value.to_bytes(32, "big"))
    return json.dumps({**key.jwk(), "d": d})


class Client:
    """Asks one server, byte for byte."""

    def __init__(self, framework: str, server: Server) -> None:
        self.framework, self.server = framework, server

    def ask(self, method: str, target: str, *fields: str, body: bytes = b"") -> Seen:
        """Send a request with these header lines."""
        length = [f"Content-Length: {len(body)}"] if body or method == "POST" else []
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close", *fields, *length]
        return exchange(self.server, "\r\n".join([*lines, "", ""]).encode("utf-8") + body)

    def post(self, target: str, *fields: str, **form: str) -> Seen:
        """Send a form."""
        kind = "Content-Type: application/x-www-form-urlencoded"
        return self.ask("POST", target, kind, *fields, body=urlencode(form).encode())

    def login(self, user: str = "ada", scope: str = "orders:read") -> dict[str, str]:
        """A pair of tokens."""
        seen = self.ask("POST", f"/login?user={user}&scope={quote(scope)}")
        assert seen.status == 200, seen
        pair: dict[str, str] = json.loads(seen.body)
        return pair

    def browser(self, scope: str = "orders:read") -> dict[str, str]:
        """The cookies of a login in a browser."""
        seen = self.ask("POST", f"/login?user=ada&browser=1&scope={quote(scope)}")
        return jar(seen)

    def orders(self, *fields: str, method: str = "GET") -> Seen:
        """Ask for what needs a scope."""
        return self.ask(method, "/orders", *fields)


def jar(seen: Seen) -> dict[str, str]:
    pairs = (cookie.partition(";")[0].partition("=") for cookie in seen.all("set-cookie"))
    return {name: value.strip('"') for name, _, value in pairs}


def cookie(held: dict[str, str]) -> str:
    return "Cookie: " + "; ".join(f"{name}={value}" for name, value in held.items())


@pytest.fixture(scope="module", params=FRAMEWORKS)
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    name: str = request.param
    folder = tmp_path_factory.mktemp(name)
    env = {"JWT_KEYS": private_jwk(), "STORE": "memory:"}
    serve: Any = {
        "flask": servers.gunicorn, "django_sync": servers.gunicorn, "aiohttp": servers.aiohttp
    }.get(name, servers.uvicorn)  # fmt: skip
    with ExitStack() as stack:
        server = stack.enter_context(
            serve(f"tests.bearer.sites:{name}", folder=folder, env={**os.environ, **env})
        )
        yield Client(name, server)
    said = server.log.read_text()
    assert "Traceback" not in said, said
    assert "Warning" not in said, said


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


def test_a_token_with_the_scope_passes(client: Client) -> None:
    seen = client.orders(bearer(client.login()["access_token"]))
    assert (seen.status, json.loads(seen.body)) == (200, {"user": "ada"})
    assert seen.all("set-cookie") == []


def test_without_a_token(client: Client) -> None:
    seen = client.orders()
    assert (seen.status, seen.all("www-authenticate")) == (401, ['Bearer realm="api"'])


def test_without_the_scope(client: Client) -> None:
    seen = client.orders(bearer(client.login(scope="other")["access_token"]))
    assert (seen.status, seen.all("www-authenticate")) == (
        403, ['Bearer realm="api", error="insufficient_scope", scope="orders:read"'],
    )  # fmt: skip
    assert seen.all("cache-control") == ["no-store"]


FORGED = "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.eyJzdWIiOiJhZGEifQ."


def test_every_refusal_reads_the_same(client: Client) -> None:
    """Lines 160 and 161."""
    token = client.login()["access_token"]
    revoked = client.login()
    assert client.post("/auth/revoke", token=revoked["refresh_token"], client_id="web").status == 200
    fields = [
        ["Authorization: Bearer"],
        ["Authorization: Bearer  "],
        ["Authorization: bearer,"],
        ["Authorization: Bearer é"],
        ["Authorization: Bearer x y"],
        [bearer(FORGED)],
        [bearer(token[:-4] + "AAAA")],
        [bearer(token), bearer(token)],
        [bearer(revoked["access_token"])],
    ]
    told = {
        (seen.status, seen.body, *seen.all("www-authenticate"))
        for seen in (client.orders(*f) for f in fields)
    }
    assert len(told) == 1
    ((status, _, challenge),) = told
    assert (status, challenge) == (401, 'Bearer realm="api", error="invalid_token"')


def test_a_token_in_the_address_or_the_body_counts_for_nothing(client: Client) -> None:
    """Line 162."""
    token = client.login(scope="orders:read orders:write")["access_token"]
    assert client.ask("GET", f"/orders?access_token={token}").status == 401
    assert client.post("/orders", access_token=token).status == 401
    assert client.orders(f"Cookie: access_token={token}; access={token}").status == 401


def test_a_recent_login(client: Client) -> None:
    assert client.ask("GET", "/email", bearer(client.login()["access_token"])).status == 200
    assert client.ask("GET", "/email").status == 401


def test_refresh_and_revoke(client: Client) -> None:
    pair = client.login()
    seen = client.post(
        "/auth/token", grant_type="refresh_token", client_id="web", refresh_token=pair["refresh_token"]
    )
    assert (seen.status, seen.all("cache-control")) == (200, ["no-store"])
    fresh = json.loads(seen.body)
    assert client.orders(bearer(fresh["access_token"])).status == 200
    assert client.post("/auth/revoke", token=fresh["refresh_token"], client_id="web").status == 200
    assert client.orders(bearer(fresh["access_token"])).status == 401
    again = client.post(
        "/auth/token", grant_type="refresh_token", client_id="web", refresh_token=fresh["refresh_token"]
    )
    assert (again.status, json.loads(again.body)) == (400, {"error": "invalid_grant"})


def test_the_endpoints_answer_what_is_no_request_of_theirs(client: Client) -> None:
    """Line 114, wrong methods, large bodies."""
    kind = "Content-Type: application/json"
    seen = client.ask("POST", "/auth/token", kind, body=b'{"refresh_token":{"$ne":null}}')
    assert (seen.status, json.loads(seen.body)) == (400, {"error": "invalid_request"})
    assert client.ask("GET", "/auth/token").status == 405
    assert client.ask("GET", "/auth/nothing").status == 404
    large = client.post("/auth/token", grant_type="x" * 20_000)
    assert large.status == 413


def test_the_key_set(client: Client) -> None:
    seen = client.ask("GET", "/auth/jwks.json")
    assert (seen.status, seen.all("content-type")) == (200, ["application/jwk-set+json"])
    assert [key["kid"] for key in json.loads(seen.body)["keys"]] == ["k1"]
    again = client.ask("GET", "/auth/jwks.json", f"If-None-Match: {seen.all('etag')[0]}")
    assert (again.status, again.body) == (304, b"")


def test_a_browser_with_cookies(client: Client) -> None:
    held = client.browser("orders:read orders:write")
    assert held.keys() == {"__Host-access", "__Secure-refresh"}
    seen = client.orders(cookie(held))
    assert (seen.status, json.loads(seen.body)) == (200, {"user": "ada"})
    if client.framework != "litestar":
        assert "private" in seen.all("cache-control")
        assert "Cookie" in ", ".join(seen.all("vary"))
    ours = "Sec-Fetch-Site: same-origin"
    assert client.orders(cookie(held), ours, method="POST").status == 200
    for foreign in ("Sec-Fetch-Site: cross-site", "Origin: https://evil.example", "X-Nothing: x"):
        assert client.orders(cookie(held), foreign, method="POST").status == 403
    fields = {"grant_type": "refresh_token", "client_id": "web"}
    fresh = client.post("/auth/token", cookie(held), ours, **fields)
    assert (fresh.status, set(jar(fresh))) == (200, {"__Host-access", "__Secure-refresh"})
    assert client.orders(cookie(jar(fresh))).status == 200
    assert client.post("/auth/token", cookie(held), "Origin: https://evil.example", **fields).status == 403
    ended = client.post("/auth/revoke", cookie(jar(fresh)), ours, client_id="web")
    assert [value.partition("=")[0] for value in ended.all("set-cookie")] == [
        "__Host-access",
        "__Secure-refresh",
    ]
    assert client.orders(cookie(jar(fresh))).status == 401


def test_a_page_that_needs_no_token_is_none_of_our_business(client: Client) -> None:
    assert client.ask("POST", "/login?user=bob", bearer("x.y.z")).status == 200
