"""A real nginx in front of real servers, with the configuration of docs/https.md: TLS ends there, and the application knows."""

import http.client
import json
import re
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from servers.nginx import nginx
from servers.running import binary, free_port, listens
from tests.web.servers import Server, gunicorn, uvicorn

PAGE = Path(__file__).resolve().parents[2] / "docs" / "https.md"
CLIENT = "127.0.0.2"
"""Where visitors come from: another address than nginx's own."""
WAYS: dict[str, tuple[Any, str, dict[str, str], list[str]]] = {
    "uvicorn-proxy=": (uvicorn, "asgi", {"PROXY": "127.0.0.1"}, ["--no-proxy-headers"]),
    "uvicorn-proxy-headers": (uvicorn, "asgi", {}, ["--proxy-headers", "--forwarded-allow-ips", "127.0.0.1"]),
    "uvicorn-both": (uvicorn, "asgi", {"PROXY": "127.0.0.1"}, ["--proxy-headers"]),
    "gunicorn-proxy=": (gunicorn, "wsgi", {"PROXY": "127.0.0.1"}, ["--forwarded-allow-ips", "10.0.0.1"]),
}


class Site:
    """An nginx and what is behind it."""

    def __init__(self, plain: int, secure: int) -> None:
        self.plain, self.secure = plain, secure

    def ask(
        self, path: str = "/", *, tls: bool = True, told: Mapping[str, str] = {}
    ) -> http.client.HTTPResponse:
        where: Any = {"host": "127.0.0.1", "source_address": (CLIENT, 0), "timeout": 30}
        if tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                port=self.secure, context=context, **where
            )
        else:
            connection = http.client.HTTPConnection(port=self.plain, **where)
        headers = {"Host": "shop.example", **told}
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        response.page = response.read()  # type: ignore[attr-defined]  # for the test
        connection.close()
        return response


def documented(app: Server, plain: int, secure: int, folder: Path) -> str:
    """The configuration of the page, with this test's ports and files in place of those of a real site."""
    (block,) = re.findall(r"^```nginx\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    changes = {
        "listen 80;": f"listen 127.0.0.1:{plain};",
        "listen 443 ssl;": f"listen 127.0.0.1:{secure} ssl;",
        "127.0.0.1:8000": f"127.0.0.1:{app.port}",
        "/etc/ssl/shop.example": f"{folder}/shop.example",
    }
    for old, new in changes.items():
        assert old in block
        block = block.replace(old, new)
    return block


@pytest.fixture(params=WAYS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    server, name, env, options = WAYS[request.param]
    plain, secure = free_port(), free_port()
    openssl = [binary("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
               "-days", "1", "-subj", "/CN=shop.example", "-keyout", f"{tmp_path}/shop.example.key",
               "-out", f"{tmp_path}/shop.example.pem"]  # fmt: skip
    subprocess.run(openssl, check=True, capture_output=True)
    with ExitStack() as stack:
        env = {**env, "HTTPS_PORT": str(secure)}
        app = stack.enter_context(
            server(f"tests.web.secure_site:{name}", folder=tmp_path, env=env, options=options)
        )
        stack.enter_context(nginx(tmp_path / "nginx", documented(app, plain, secure, tmp_path), plain))
        yield Site(plain, secure)


def test_tls_ends_at_nginx_and_the_application_knows(site: Site) -> None:
    # Plain HTTP is sent on, whatever the client says of itself.
    for told in (
        {},
        {"X-Forwarded-Proto": "https", "Forwarded": "proto=https", "X-Forwarded-For": "127.0.0.1"},
    ):
        response = site.ask("/a?b=c", tls=False, told=told)
        assert response.status == 308
        assert response.headers["Location"] == f"https://shop.example:{site.secure}/a?b=c"
        assert response.headers["Set-Cookie"] is None
    # Over TLS there is a session, and browsers are told to stay.
    for told in ({}, {"X-Forwarded-Proto": "http", "Forwarded": "for=6.6.6.6", "X-Forwarded-For": "6.6.6.6"}):
        response = site.ask(told=told)
        assert response.status == 200
        assert response.headers["Set-Cookie"].startswith("__Host-session=")
        assert response.headers["Strict-Transport-Security"] == "max-age=31536000"
        assert json.loads(response.page) == {"address": CLIENT, "channel": "https"}  # type: ignore[attr-defined]  # as above


def test_nothing_of_it_is_left(tmp_path: Path) -> None:
    """Killed, nginx leaves its worker behind, which goes on answering."""
    port = free_port()
    with nginx(tmp_path / "nginx", f"server {{ listen 127.0.0.1:{port}; }}", port) as server:
        assert listens(server.port)
    assert not listens(port)
