"""Section I of the security checklist, HTTPS: who is sent on from plain HTTP, where to, and what browsers remember."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from coatcheck import ConfigurationError, Event, Hsts, TrustedProxies
from coatcheck.aiohttp import setup_https
from coatcheck.asgi import HttpsMiddleware as AsgiHttps
from coatcheck.wsgi import HttpsMiddleware as WsgiHttps

Answer = tuple[int, dict[str, str], bytes]
Ask = Callable[..., Answer]
YEAR = "max-age=31536000"


def over_asgi(
    target: bytes = b"/", host: bytes | None = b"shop.example", *, scheme: str = "http", peer: str = "203.0.113.9",
    method: str = "GET", told: dict[str, str] | None = None, own: str | None = None, **options: Any,
) -> Answer:  # fmt: skip
    """One request to an application behind the middleware; `own` is the application's own HSTS header."""
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [] if own is None else [(b"Strict-Transport-Security", own.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"home"})

    async def send(message: Any) -> None:
        sent.append(message)

    path, _, query = target.partition(b"?")
    fields = [(name.lower().encode(), value.encode()) for name, value in (told or {}).items()]
    headers = fields if host is None else [(b"host", host), *fields]
    scope = {"type": "http", "method": method, "scheme": scheme, "path": path.decode("latin-1"), "raw_path": path,
             "query_string": query, "headers": headers, "client": (peer, 1) if peer else None}  # fmt: skip
    asyncio.run(AsgiHttps(app, **options)(scope, None, send))
    return (
        sent[0]["status"],
        {name.decode().lower(): value.decode("latin-1") for name, value in sent[0]["headers"]},
        sent[1]["body"],
    )


def over_wsgi(
    target: bytes = b"/", host: bytes | None = b"shop.example", *, scheme: str = "http", peer: str = "203.0.113.9",
    method: str = "GET", told: dict[str, str] | None = None, own: str | None = None, **options: Any,
) -> Answer:  # fmt: skip
    """The same over WSGI."""
    heads: list[tuple[str, list[tuple[str, str]]]] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [] if own is None else [("Strict-Transport-Security", own)])
        return [b"home"]

    path, _, query = target.partition(b"?")
    environ = {"REQUEST_METHOD": method, "wsgi.url_scheme": scheme, "PATH_INFO": path.decode("latin-1"),
               "QUERY_STRING": query.decode("latin-1"), "REMOTE_ADDR": peer}  # fmt: skip
    environ |= {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in (told or {}).items()}
    environ |= {} if host is None else {"HTTP_HOST": host.decode("latin-1")}
    body = b"".join(WsgiHttps(app, **options)(environ, lambda *head: heads.append(head)))  # type: ignore[arg-type]  # a server's
    status, headers = heads[0]
    return int(status.split()[0]), {name.lower(): value for name, value in headers}, body


async def _nowhere(scope: Any, receive: Any, send: Any) -> None:
    """An application that nobody asks."""


@pytest.fixture(params=[over_asgi, over_wsgi], ids=["asgi", "wsgi"])
def ask(request: pytest.FixtureRequest) -> Ask:
    face: Ask = request.param
    return face


def test_line_39_plain_http_is_sent_on_to_https_and_browsers_remember(ask: Ask) -> None:
    status, headers, _ = ask(b"/a/b?c=d&e=f%20g", b"Shop.Example:80", method="POST")
    assert (status, headers["location"]) == (308, "https://shop.example/a/b?c=d&e=f%20g")
    assert headers["cache-control"] == "no-store"
    assert "strict-transport-security" not in headers  # RFC 6797 section 7.2: never over plain HTTP
    status, headers, body = ask(scheme="https")
    assert (status, headers["strict-transport-security"], body) == (200, YEAR, b"home")
    assert ask(method="HEAD")[2] == b""
    assert ask(scheme="https", own="max-age=7")[1]["strict-transport-security"] == "max-age=7"
    assert "strict-transport-security" not in ask(scheme="https", hsts=None)[1]
    assert ask(redirect=False)[0] == 403
    assert ask(b"/x", port=8443)[1]["location"] == "https://shop.example:8443/x"


def test_line_39_this_very_machine_and_what_is_exempt_go_on(ask: Ask) -> None:
    assert ask(host=b"localhost:8000")[0] == 200
    assert "strict-transport-security" not in ask(host=b"localhost", scheme="https")[1]
    assert ask(host=b"localhost", told={"X-Forwarded-Proto": "http"})[0] != 200  # that came from elsewhere
    status, headers, _ = ask(b"/healthz", exempt=["/healthz"])
    assert (status, "strict-transport-security" in headers) == (200, False)
    for near in (b"/healthz/", b"/healthz/../admin", b"//healthz", b"/Healthz", b"/healthz;x", b"/"):
        assert ask(near, exempt=["/healthz"])[0] == 308


@pytest.mark.parametrize(
    "host",
    [b"a/b?c#", b"evil@shop.example", b"shop.example@evil", b"", None, b"[::1", b"\xff", b"a b", b"shop.example:x",
     b"shop.example:443:1", b"evil\\.example", b"%65vil", b"shop.example\r\nset-cookie: a=b", b".", b"a" * 300],
)  # fmt: skip
def test_line_107_a_malformed_host_leads_nowhere(ask: Ask, host: bytes | None) -> None:
    status, headers, _ = ask(host=host, told={"X-Forwarded-Host": "shop.example"})
    assert (status, "location" in headers) == (400, False)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"shop.example", 308),
        (b"SHOP.example:80", 308),
        (b"a.b.shop.example", 400),
        (b"eu.cdn.example", 308),
        (b"a.eu.cdn.example", 308),
        (b"cdn.example", 400),
        (b"evil.example", 400),
        (b"notshop.example", 400),
        (b"shop.example.evil.example", 400),
        (b"[2001:db8::1]:80", 308),
    ],
)
def test_line_107_a_redirect_leads_to_hosts_of_ours_alone(ask: Ask, host: bytes, status: int) -> None:
    allowed = ["shop.example", "*.cdn.example", "[2001:db8::1]"]
    assert ask(host=host, allowed_hosts=allowed)[0] == status


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"//evil.example/x", "https://shop.example//evil.example/x"),
        (b"/\\evil.example", "https://shop.example/%5Cevil.example"),
        (b"http://evil.example/", "https://shop.example/"),
        (b"*", "https://shop.example/"),
        (b"/a\r\nset-cookie: x=y", "https://shop.example/a%0D%0Aset-cookie:%20x=y"),
        (b"/?a=\r\nb: c", "https://shop.example/?a=%0D%0Ab:%20c"),
        (b"/?a=\xff<script>", "https://shop.example/?a=%FF%3Cscript%3E"),
    ],
)
def test_line_107_no_path_leads_elsewhere_or_makes_a_header(ask: Ask, target: bytes, expected: str) -> None:
    assert ask(target)[1]["location"] == expected


def test_line_106_only_a_trusted_proxy_says_that_the_client_spoke_https(ask: Ask) -> None:
    https, events = {"X-Forwarded-Proto": "https"}, list[Event]()
    assert ask(told=https, on_event=events.append)[0] == 308
    assert [event.name for event in events] == ["proxy.untrusted"]
    assert "proxy=" in events[0].detail
    assert ask(told=https, proxy="10.0.0.0/8")[0] == 308
    assert ask(told=https, proxy="10.0.0.0/8", peer="10.1.2.3")[1]["strict-transport-security"] == YEAR
    assert ask(told={"X-Forwarded-Proto": "http"}, scheme="https", proxy=True)[0] == 308
    assert ask(told={"X-Forwarded-Proto": "http"}, scheme="https")[0] == 200
    standard = {"proxy": TrustedProxies("10.1.2.3", header="forwarded"), "peer": "10.1.2.3"}
    assert ask(told={"Forwarded": "for=1.2.3.4;proto=https"}, **standard)[0] == 200
    assert ask(told={"Forwarded": 'proto=https;x=", proto=http', **https}, **standard)[0] == 308
    assert ask(told=https, proxy="unix", peer="")[0] == 200


def test_line_106_a_loop_is_told_of_once() -> None:
    events = list[Event]()
    middleware = WsgiHttps(lambda environ, start: [], on_event=events.append)
    environ = {
        "REQUEST_METHOD": "GET",
        "wsgi.url_scheme": "http",
        "HTTP_HOST": "a.example",
        "HTTP_X_FORWARDED_PROTO": "https",
    }
    for _ in range(100):
        list(middleware(dict(environ), lambda *_: None))  # type: ignore[arg-type]  # a server's
    assert len(events) == 1


def test_a_websocket_over_plain_http_is_refused() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        sent.append(scope["type"])

    middleware = AsgiHttps(app)
    scope = {"type": "websocket", "scheme": "ws", "path": "/ws", "headers": [(b"host", b"shop.example")]}
    asyncio.run(middleware(scope, None, send))
    asyncio.run(middleware({**scope, "scheme": "wss"}, None, send))
    asyncio.run(middleware({"type": "lifespan"}, None, send))
    assert sent == ["websocket.close", "websocket", "lifespan"]


def test_aiohttp_does_the_same() -> None:
    async def main() -> None:
        async def home(request: web.Request) -> web.Response:
            return web.Response(text="home")

        app = web.Application()
        setup_https(app, proxy="127.0.0.1", exempt=["/healthz"])
        app.router.add_get("/", home)
        app.router.add_get("/healthz", home)
        shop = {"Host": "shop.example"}
        async with TestClient(TestServer(app)) as client:
            plain = await client.get("/a?b=c%20d", headers=shop, allow_redirects=False)
            assert (plain.status, plain.headers["Location"]) == (308, "https://shop.example/a?b=c%20d")
            for path, status in (("/", 200), ("/nowhere", 404)):
                secure = await client.get(path, headers={**shop, "X-Forwarded-Proto": "https"})
                assert (secure.status, secure.headers["Strict-Transport-Security"]) == (status, YEAR)
            assert (await client.get("/healthz", headers=shop)).status == 200

    asyncio.run(main())


@pytest.mark.parametrize(
    ("hsts", "header"),
    [
        (Hsts(), YEAR),
        (Hsts(max_age="5m"), "max-age=300"),
        (Hsts(max_age=0), "max-age=0"),
        (
            Hsts(max_age="730d", include_subdomains=True, preload=True),
            "max-age=63072000; includeSubDomains; preload",
        ),
    ],
)
def test_what_browsers_are_told(hsts: Hsts, header: str) -> None:
    assert hsts.header == header


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Hsts(preload=True), "include_subdomains=True"),
        (lambda: Hsts(preload=True, include_subdomains=True, max_age="364d"), "31536000"),
        (lambda: Hsts(max_age=-1), "positive"),
        (lambda: Hsts(**{"preload": "yes"}), "True or False"),  # type: ignore[arg-type]  # wrong on purpose
        (lambda: AsgiHttps(_nowhere, hsts=True), "coatcheck.Hsts"),
        (lambda: AsgiHttps(_nowhere, allowed_hosts="shop.example"), "a list of names"),
        (lambda: AsgiHttps(_nowhere, allowed_hosts=["https://shop.example"]), "bare name"),
        (lambda: AsgiHttps(_nowhere, allowed_hosts=["*"]), "bare name"),
        (lambda: AsgiHttps(_nowhere, exempt="/healthz"), r"\['/healthz'\]"),
        (lambda: AsgiHttps(_nowhere, exempt=["healthz"]), "begin with /"),
        (lambda: AsgiHttps(_nowhere, port="8443"), "the port"),
        (lambda: AsgiHttps(_nowhere, redirect="false"), "True or False"),
        (lambda: AsgiHttps(_nowhere, proxy="nginx"), "a name is none"),
    ],
)
def test_a_wrong_setting_is_refused_with_the_fix(make: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        make()
