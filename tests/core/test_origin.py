"""Where a request came from: what proxies say, and whom to believe."""

from typing import Any

import pytest

from coatcheck import ConfigurationError
from coatcheck.core.origin import Arrival, TrustedProxies, network_of, origin, trusted_proxies

OURS = trusted_proxies(["10.0.0.0/8", "2001:db8:5::/48"])
STANDARD = TrustedProxies("10.0.0.0/8", "2001:db8:5::/48", header="forwarded")


def asked(peer: str = "10.0.0.1", scheme: str = "http", **fields: bytes) -> Arrival:
    return Arrival(scheme, peer=peer, **fields)  # type: ignore[arg-type]  # header fields, all of them bytes


@pytest.mark.parametrize(
    ("forwarded_for", "forwarded_proto", "expected"),
    [
        (b"198.51.100.7", b"https", ("https", "198.51.100.7")),
        (b"6.6.6.6, 198.51.100.7", b"https", ("https", "198.51.100.7")),
        (b"6.6.6.6, 198.51.100.7, 10.9.9.9", b"https", ("https", "198.51.100.7")),
        # The client said https, and the proxy that it spoke http to added what it saw.
        (b"198.51.100.7", b"https, http", ("http", "198.51.100.7")),
        # The outer proxy saw https and the inner one http: what the client spoke counts.
        (b"198.51.100.7, 10.9.9.9", b"https, http", ("https", "198.51.100.7")),
        (b"6.6.6.6, 198.51.100.7, 10.9.9.9", b"wss, https, http", ("https", "198.51.100.7")),
        (b"", b"HTTPS", ("https", "10.0.0.1")),
        (b"", b"https, http", ("http", "10.0.0.1")),
        (b"198.51.100.7", b"", ("http", "198.51.100.7")),
        (b"10.2.2.2, 10.9.9.9", b"https", ("https", "10.2.2.2")),  # from within
        (b"198.51.100.7:4711", b"https", ("https", "198.51.100.7")),
        (b"[2001:DB8::1]:4711", b"https", ("https", "2001:db8::1")),
        (b"::ffff:198.51.100.7", b"https", ("https", "198.51.100.7")),
        (b"unknown", b"https", ("https", "")),
        (b"198.51.100.7, ", b"https", ("https", "")),
        (b"", b"", ("http", "10.0.0.1")),
        (b"1.1.1.1," * 400, b"https", ("http", "")),
    ],
)
def test_the_first_from_the_end_that_is_no_proxy_of_ours(
    forwarded_for: bytes, forwarded_proto: bytes, expected: tuple[str, str]
) -> None:
    arrival = asked(forwarded_for=forwarded_for, forwarded_proto=forwarded_proto)
    assert origin(arrival, OURS) == expected


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        (b"for=198.51.100.7;proto=https", ("https", "198.51.100.7")),
        (b"for=6.6.6.6;proto=wss, for=198.51.100.7;proto=http", ("http", "198.51.100.7")),
        (b"For=198.51.100.7;Proto=HTTPS , for=10.9.9.9;proto=http", ("https", "198.51.100.7")),
        (b'for="[2001:db8::1]:4711"; proto=https;by=10.0.0.1;host="a.example"', ("https", "2001:db8::1")),
        (b"for=_hidden;proto=https", ("https", "")),
        (b"proto=https", ("https", "10.0.0.1")),
        (b"", ("http", "10.0.0.1")),
        # What breaks the grammar swallows nothing: it is all not believed.
        (b'for=6.6.6.6;proto=https;x=", for=198.51.100.7;proto=http', ("http", "")),
        (b"for=6.6.6.6;for=7.7.7.7;proto=https", ("http", "")),
        (b"proto=https,", ("http", "")),
        (b"https", ("http", "")),
        (b"proto=https x", ("http", "")),
        (b"proto=https;" * 300, ("http", "")),
    ],
)
def test_the_standards_field(forwarded: bytes, expected: tuple[str, str]) -> None:
    assert origin(asked(forwarded=forwarded), STANDARD) == expected


def test_only_the_field_that_the_proxy_writes_is_read() -> None:
    """The other one passes through it as the client sent it."""
    both = asked(forwarded=b"for=6.6.6.6;proto=https", forwarded_for=b"198.51.100.7", forwarded_proto=b"http")
    assert origin(both, OURS) == ("http", "198.51.100.7")
    assert origin(both, STANDARD) == ("https", "6.6.6.6")


@pytest.mark.parametrize("peer", ["203.0.113.9", "not-an-address", ""])
def test_from_anybody_else_nothing_counts(peer: str) -> None:
    arrival = asked(peer, forwarded_for=b"6.6.6.6", forwarded_proto=b"https")
    for proxies in (OURS, None, trusted_proxies(False)):
        assert origin(arrival, proxies) == ("http", peer if peer.startswith("203") else "")


def test_a_socket_of_both_families_and_one_without_addresses() -> None:
    told: Any = {"forwarded_for": b"198.51.100.7", "forwarded_proto": b"https"}
    assert origin(asked("::ffff:10.0.0.1", **told), OURS) == ("https", "198.51.100.7")
    assert origin(asked("", **told), trusted_proxies("unix")) == ("https", "198.51.100.7")
    assert origin(asked("127.0.0.1", **told), trusted_proxies("unix")) == ("http", "127.0.0.1")


def test_true_trusts_the_one_that_is_connected_and_nobody_it_names() -> None:
    arrival = asked("192.0.2.1", forwarded_for=b"6.6.6.6, 198.51.100.7", forwarded_proto=b"https, http")
    assert origin(arrival, trusted_proxies(True)) == ("http", "198.51.100.7")
    assert "anybody" in repr(trusted_proxies(True))


@pytest.mark.parametrize(
    ("proxy", "said"),
    [
        ("nginx", "a name is none"),
        ("", "addresses or networks"),
        ((), "leave it out"),
        (17, "addresses or networks"),
        ([None], "addresses or networks"),
        ("0.0.0.0/0", "everybody"),
        (["10.0.0.1", "::/0"], "everybody"),
        ("10.1.2.3/8", r"the network, '10\.0\.0\.0/8', or the one address, '10\.1\.2\.3'"),
        ("10.0.0.0/33", "addresses or networks"),
    ],
)
def test_a_setting_that_would_trust_the_wrong_ones_is_refused(proxy: object, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        trusted_proxies(proxy)  # type: ignore[arg-type]  # wrong on purpose


def test_a_header_nobody_writes_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'x-forwarded' or 'forwarded'"):
        TrustedProxies("10.0.0.1", header="x-real-ip")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ConfigurationError, match="give the addresses"):
        TrustedProxies()
    assert repr(STANDARD) == "TrustedProxies('10.0.0.0/8', '2001:db8:5::/48', header='forwarded')"


def test_a_network_tells_a_place_and_no_person() -> None:
    shown = {"203.0.113.77": "203.0.113.0/24", "::ffff:203.0.113.77": "203.0.113.0/24",
             "2001:db8:aa:bb::77": "2001:db8:aa::/48", "": "", "junk": ""}  # fmt: skip
    assert {address: network_of(address) for address in shown} == shown
