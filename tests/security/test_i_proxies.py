"""Section I of the security checklist: whom to believe about scheme, host and address. Each test is named after its line."""

import pytest

from coatcheck import ConfigurationError, TrustedProxies
from tests.security.conftest import Make
from tests.security.rig import NAME, Site

PROXIES = ("10.0.0.0/8", "2001:db8:5::/48")


def address_of(site: Site, peer: str, forwarded: bytes) -> str:
    """Where the device list says that a login came from."""
    ada = site.browser()
    ada.post("/login?user=ada", peer=peer, headers=[(b"x-forwarded-for", forwarded)])
    device = site.admin.find(ada.handle)
    assert device is not None
    return device.address


def test_line_105_only_a_trusted_proxy_says_who_the_client_is(make: Make) -> None:
    site = make(proxy=PROXIES)
    for random in (b"1.2.3.4", b"4.3.2.1", b"8.8.8.8, 9.9.9.9", b"", b"junk"):
        assert address_of(site, "203.0.113.9", random) == "203.0.113.0/24"
    # From the right: the first that is no proxy of ours. What stands before it, the client has written.
    assert address_of(site, "10.1.2.3", b"6.6.6.6, 198.51.100.7") == "198.51.100.0/24"
    assert address_of(site, "10.1.2.3", b"6.6.6.6, 198.51.100.7, 10.9.9.9") == "198.51.100.0/24"
    assert address_of(site, "2001:db8:5::1", b"198.51.100.7") == "198.51.100.0/24"
    assert address_of(make(), "10.1.2.3", b"198.51.100.7") == "10.1.2.0/24"


def test_line_105_the_standards_header_is_read_where_the_proxy_writes_it_and_the_other_is_not(
    make: Make,
) -> None:
    site = make(proxy=TrustedProxies(*PROXIES, header="forwarded"))

    def told(*fields: tuple[bytes, bytes], peer: str = "10.1.2.3") -> tuple[bool, str]:
        ada = site.browser()
        kept = bool(ada.post("/login?user=ada", scheme="http", peer=peer, headers=list(fields)).cookies)
        device = site.admin.find(ada.handle) if kept else None
        return kept, "" if device is None else device.address

    assert told((b"forwarded", b"for=6.6.6.6;proto=http, for=198.51.100.7;proto=https")) == (
        True,
        "198.51.100.0/24",
    )
    assert (
        told((b"forwarded", b"for=6.6.6.6;proto=https"), (b"forwarded", b"for=198.51.100.7;proto=http"))[0]
        is False
    )
    assert told((b"forwarded", b'for=6.6.6.6;proto=https;x=", for=198.51.100.7;proto=http'))[0] is False
    assert told((b"forwarded", b"for=198.51.100.7;proto=https"), peer="203.0.113.9")[0] is False
    assert told((b"x-forwarded-proto", b"https"), (b"x-forwarded-for", b"6.6.6.6"))[0] is False


@pytest.mark.parametrize("proxy", ["0.0.0.0/0", ["::/0"], "nginx", "10.1.2.3/8", "", []])
def test_line_105_a_setting_that_trusts_the_wrong_ones_is_refused(make: Make, proxy: object) -> None:
    with pytest.raises(ConfigurationError, match="proxy="):
        make(proxy=proxy)


@pytest.mark.parametrize("said", [b"http", b"https", b"HTTPS", b"https, http", b"wss", b"junk", b""])
def test_line_106_a_scheme_from_anybody_else_changes_nothing(site: Site, said: bytes) -> None:
    told = [(b"x-forwarded-proto", said), (b"forwarded", b"proto=" + said), (b"x-forwarded-ssl", b"on")]
    (line,) = site.post("/set", headers=told).cookies
    assert line.startswith(NAME)
    assert "Secure" in line
    assert site.post("/set", scheme="http", headers=told).cookies == []


@pytest.mark.parametrize(
    "host",
    [
        b"a/b?c#",
        b"evil@shop.example",
        b"",
        b"shop.example:443",
        b"[::1",
        b"\xff",
        b"localhost",
        b"127.0.0.1",
        b"a b",
    ],
)
def test_line_107_no_host_decides_anything_over_https(site: Site, host: bytes) -> None:
    elsewhere = [(b"x-forwarded-host", b"localhost"), (b"x-original-host", b"localhost")]
    (line,) = site.post("/login?user=ada", host=host, headers=elsewhere).cookies
    assert (line.startswith(NAME), "Secure" in line) == (True, True)


LOOPBACK = [
    b"localhost",
    b"localhost:8000",
    b"127.0.0.1",
    b"127.9.9.9:80",
    b"[::1]",
    b"[::1]:8000",
    b"app.localhost",
    b"LOCALHOST",
]
ELSEWHERE = [
    b"localhost.evil.example",
    b"127.0.0.1.evil.example",
    b"notlocalhost",
    b"0.0.0.0",
    b"10.0.0.1",
    b"[::2]",
    b"128.0.0.1",
    b"a/localhost",
]


@pytest.mark.parametrize("host", [*LOOPBACK, *ELSEWHERE])
def test_line_107_plain_http_is_loopback_by_the_name_alone(site: Site, host: bytes) -> None:
    local = host in LOOPBACK
    response = site.post("/set", scheme="http", host=host, headers=[(b"x-forwarded-host", b"localhost")])
    assert [line.partition("=")[0] for line in response.cookies] == ["session"] * local
    # Something that was forwarded did not come from this machine.
    ada = site.post("/login?user=ada", scheme="http", host=b"localhost").cookie
    assert site.get("/me", ada, scheme="http", host=b"localhost").status == 200
    for field in ((b"x-forwarded-proto", b"http"), (b"forwarded", b"for=1.2.3.4")):
        assert site.post("/set", scheme="http", host=host, headers=[field]).cookies == []
        assert site.get("/me", ada, scheme="http", host=host, headers=[field]).status == 401


@pytest.mark.parametrize(
    "host", [b"evil.shop.example", b"shop.example", b"localhost", b"a;Domain=evil.example"]
)
def test_line_108_no_domain_is_made_of_the_host(site: Site, host: bytes) -> None:
    for scheme in ("http", "https"):
        for line in site.post("/set", scheme=scheme, host=host).cookies:
            assert "domain" not in line.lower()
