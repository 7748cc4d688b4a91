"""Section N of the security checklist, line 210: what stays open for long does not outlive its session."""

import http.client
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from tests.web.servers import Server, granian, hypercorn, uvicorn

Serve = Callable[..., AbstractContextManager[Server]]


def ask(
    server: Server, path: str, cookie: str = ""
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET", path, headers={"Host": "localhost", "Cookie": cookie})
    return connection, connection.getresponse()


SERVERS: dict[str, Serve] = {
    "uvicorn": uvicorn,
    "hypercorn": hypercorn,
    "granian": partial(granian, interface="asgi"),
}


@pytest.mark.parametrize("serve", SERVERS.values(), ids=SERVERS)
def test_line_210_an_event_stream_ends_with_its_session(serve: Serve, tmp_path: Path) -> None:
    with serve("tests.web.news_site:app", folder=tmp_path) as server:
        login, response = ask(server, "/login")
        cookie = str(response.headers["Set-Cookie"]).partition(";")[0]
        stream, news = ask(server, "/news", cookie)
        assert news.readline() + news.readline() == b"data: hello\n\n"
        logout, _ = ask(server, "/logout", cookie)
        assert news.read() == b""  # the end, and no time-out
        # The browser's EventSource asks again, and is told for good.
        again, answer = ask(server, "/news", cookie)
        assert answer.status == 204
        for connection in (login, stream, logout, again):
            connection.close()
        log = server.log.read_text()
    assert "Traceback" not in log
