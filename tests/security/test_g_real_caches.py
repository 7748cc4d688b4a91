"""Lines 85 to 89 behind a real shared cache: nginx, told to keep all it may, before uvicorn and before gunicorn.

One story is told to every pair: three visitors ask for the same pages in turn. `leaks` says what anybody was handed that was
somebody else's; it must say so of the same application without our headers.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from servers.nginx import nginx
from servers.running import free_port
from tests.security.cached import PUBLIC
from tests.web.servers import Browser, Seen, Server, gunicorn, uvicorn

KINDS = ("asgi", "wsgi")
PUBLIC_CC = f"cc={quote(PUBLIC)}"
PAGES = ["/me?", f"/me?{PUBLIC_CC}", "/write?", "/away?", "/missing?", "/form?", f"/pub?{PUBLIC_CC}", "/pub?"]


@dataclass
class Cached:
    """An application behind a cache."""

    server: Server
    folder: Path
    given: dict[str, Browser] = field(default_factory=dict)
    """Every cookie and token that was handed out, and to which browser first."""
    wrong: list[str] = field(default_factory=list)
    """What was handed to somebody whose it was not."""

    def browser(self, host: str) -> Browser:
        """A visitor. Each test has a host of its own, and so a part of the cache."""
        return Browser(self.server, host=host)

    def visit(self, who: str, browser: Browser, path: str) -> Seen:
        """Ask for a page, and look whose it is."""
        seen = browser.visit(path)
        for line in seen.all("set-cookie"):
            if "Max-Age=0" not in line:
                self._give(line.partition(";")[0], browser, f"cookie at {path}")
        if seen.text.startswith("token "):
            self._give(seen.text, browser, "token")
        if seen.text.startswith("page of ") and seen.text != f"page of {who}":
            self.wrong.append(f"{who} was given a {seen.text} at {path}")
        return seen

    def _give(self, value: str, browser: Browser, what: str) -> None:
        if self.given.setdefault(value, browser) is not browser:
            self.wrong.append(f"somebody was given somebody else's {what}")

    @property
    def cookies(self) -> list[str]:
        """Every session cookie that was handed out, name and value."""
        return [value for value in self.given if value.startswith("__Host-session=")]

    def kept(self) -> bytes:
        """Everything that the cache has on disk."""
        return b"".join(file.read_bytes() for file in (self.folder / "cache").rglob("*") if file.is_file())


# As eager as people make it: what says nothing is kept for ten minutes, redirects and errors too, and a Set-Cookie keeps nothing
# from being stored, as it does unless it is told. TLS ends here, as far as the application hears.
EAGER = """
    proxy_cache_path {folder}/cache keys_zone=shared:1m;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{behind};
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-Proto https;
            proxy_cache shared;
            proxy_cache_key $host$request_uri;
            proxy_cache_valid any 10m;
            proxy_ignore_headers Set-Cookie;
            add_header X-Cache $upstream_cache_status always;
        }}
    }}
"""


@contextmanager
def behind_nginx(kind: str, name: str, folder: Path) -> Iterator[Cached]:
    serve: Any = {"asgi": uvicorn, "wsgi": gunicorn}[kind]
    options = ["--no-proxy-headers", "--lifespan", "off"] if kind == "asgi" else []
    room, port = folder / "nginx", free_port()
    _let_workers_in(folder)
    with serve(f"tests.security.cached:{name}", folder=folder, options=options) as server:
        settings = EAGER.format(folder=room, port=port, behind=server.port)
        with nginx(room, settings, port) as cache:
            yield Cached(Server(port, cache.pid, room / "server.log"), room)


def _let_workers_in(folder: Path) -> None:
    """nginx, started by root, keeps its cache as nobody, and pytest's folders are their owner's."""
    for room in (folder, *folder.parents):
        if os.geteuid() == 0 and room.stat().st_uid == 0 and room != Path("/"):
            room.chmod(room.stat().st_mode | 0o011)


@pytest.fixture(scope="module", params=KINDS)
def cached(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cached]:
    """The application as it is."""
    with behind_nginx(request.param, request.param, tmp_path_factory.mktemp("cached")) as cached:
        yield cached


def story(cached: Cached) -> list[str]:
    """Three visitors, every page, in turns; then others come first, since a cache remembers who did."""
    visitors = {who: cached.browser("story.example") for who in ("ada", "eve", "nobody")}
    for who in ("ada", "eve"):
        cached.visit(who, visitors[who], f"/login?user={who}&{PUBLIC_CC}")
    for turn in (("ada", "eve", "nobody"), ("nobody", "eve", "ada")):
        for path in PAGES:
            for who in turn:
                cached.visit(who, visitors[who], f"{path}&first={turn[0]}")
                # Somebody who has never been here, and so brings no cookie: whom a cache is quickest to serve.
                cached.visit("nobody", cached.browser("story.example"), f"{path}&first={turn[0]}")
    # A logout is answered for one browser, and its page from before it is nobody's.
    cached.visit("ada", visitors["ada"], "/logout")
    cached.visit("nobody", visitors["ada"], f"/me?{PUBLIC_CC}&first=ada")
    return cached.wrong


def test_line_85_a_real_shared_cache_hands_nobody_somebody_elses_page_or_cookie(cached: Cached) -> None:
    assert story(cached) == []
    kept = cached.kept()
    assert len(cached.cookies) > 4
    assert [cookie for cookie in cached.cookies if cookie.encode() in kept] == []
    assert b"for everybody" in kept


@pytest.mark.parametrize("kind", KINDS)
def test_line_85_the_story_sees_a_cache_that_mixes_visitors_up(kind: str, tmp_path: Path) -> None:
    """The planted fault: the same application, our headers taken away."""
    with behind_nginx(kind, f"{kind}_bare", tmp_path) as bare:
        wrong = "\n".join(story(bare))
        assert "was given a page of ada at /me" in wrong
        assert "somebody else's cookie at /write" in wrong
        assert "somebody else's token" in wrong
        assert [cookie for cookie in bare.cookies if cookie.encode() in bare.kept()] != []


def test_line_87_a_real_shared_cache_keeps_what_is_public_for_everybody(cached: Cached) -> None:
    ada = cached.browser("public.example")
    cached.visit("ada", ada, "/login?user=ada")
    for path in ("/pub", f"/pub?{PUBLIC_CC}"):
        seen = [ada.visit(path), cached.browser("public.example").visit(path), ada.visit(path)]
        assert [answer.all("x-cache") for answer in seen] == [["MISS"], ["HIT"], ["HIT"]]
        assert [answer.all("set-cookie") + answer.all("vary") for answer in seen] == [[], [], []]
    private = [ada.visit("/me") for _ in range(3)]
    assert [(answer.text, answer.all("x-cache")) for answer in private] == [("page of ada", ["MISS"])] * 3
    assert b"KEY: public.example/me" not in cached.kept()


def test_line_89_a_token_in_a_page_is_never_one_that_a_cache_kept(cached: Cached) -> None:
    """Strangers get a token each, though the application calls the page public."""
    visitors = [cached.browser("form.example") for _ in range(4)]
    tokens = [cached.visit("nobody", browser, "/form").text for browser in visitors]
    assert len(set(tokens)) == 4
    assert [browser.visit("/form").text for browser in visitors] == tokens
    kept = cached.kept()
    # To whom a page was shown that its application calls public, it may be kept for; and for nobody else: it varies.
    assert all(cached.browser("form.example").visit("/form").text not in tokens for _ in range(2))
    assert [browser for browser in visitors if next(iter(browser.cookies.values())).encode() in kept] == []
