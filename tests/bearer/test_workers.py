"""Two workers, forked after the application was made: a login that ends in one is over in the other, for both kinds of token."""

import os
import time
from pathlib import Path
from typing import Any

from tests.bearer.test_frameworks import Client, bearer, private_jwk
from tests.web.servers import gunicorn

AT_MOST = 5.0
"""Seconds to wait for a notice; a busy machine needs a fraction of one."""


def workers_that_say(client: Client, token: str, status: int, expected: int) -> set[str]:
    """The workers that answer this request so, until as many were met as there should be."""
    met: set[str] = set()
    deadline = time.monotonic() + AT_MOST * 4
    while len(met) < expected and time.monotonic() < deadline:
        seen = client.orders(bearer(token))
        worker = seen.all("x-worker")[0]
        (met.add if seen.status == status else met.discard)(worker)
    return met


def test_a_login_that_ends_in_one_worker_is_over_in_the_other(redis_server: Any, tmp_path: Path) -> None:
    env = {**os.environ, "JWT_KEYS": private_jwk(), "STORE": redis_server.url}
    with gunicorn(
        "tests.bearer.sites:flask", folder=tmp_path, env=env, workers=2, options=["--preload"]
    ) as server:
        client = Client("flask", server)
        pair = client.login()
        both = workers_that_say(client, pair["access_token"], 200, 2)
        assert len(both) == 2
        assert client.post("/auth/revoke", token=pair["refresh_token"], client_id="web").status == 200
        assert workers_that_say(client, pair["access_token"], 401, 2) == both
        form = {"grant_type": "refresh_token", "client_id": "web", "refresh_token": pair["refresh_token"]}
        assert [client.post("/auth/token", **form).status for _ in range(6)] == [400] * 6
    assert "Traceback" not in server.log.read_text()
