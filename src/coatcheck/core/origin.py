"""Where a request came from: which scheme, which address. Decided once, for cookies, redirects, limits and device lists.

Whoever connects to us may write `X-Forwarded-*` and `Forwarded` as they please. They count from a proxy that was named, and then
the list is read from its end: the last entry was written by the proxy that is connected to us, the one before by the proxy
which *that* entry names, if it is one of ours as well. The first entry that names no proxy of ours is the client; what
stands before it the client has written (checklist 105, 106; RFC 7239 section 8.1).
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import zip_longest
from typing import Final, Literal, NamedTuple, get_args

from coatcheck.errors import ConfigurationError

__all__ = [
    "Arrival",
    "Origin",
    "Proxy",
    "TrustedProxies",
    "is_forwarded",
    "is_loopback",
    "network_of",
    "origin",
    "trusted_proxies",
]

Header = Literal["x-forwarded", "forwarded"]
_PAIR: Final = re.compile(r'([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=(?:"([^"\\]*)"|([!#$%&\'*+.^_`|~0-9A-Za-z-]+))')
"""A forwarded-pair (RFC 7239 section 4). What is escaped in a quoted string is no address, so it is not read."""
_LONGEST: Final = 2048
"""Octets of forwarded fields that are read: a hundred hops. A longer one is not believed."""


class Arrival(NamedTuple):
    """What an adapter knows of its request. Header values are as they came, bytes."""

    scheme: str
    cookies: bytes = b""
    """The Cookie field; several, as HTTP/2 splits them, joined by "; " (RFC 9113 section 8.2.3)."""
    host: bytes = b""
    path: str = "/"
    """As the browser sees it, with the prefix under which an application is mounted."""
    peer: str = ""
    """The address at the other end of the connection; empty on a Unix socket."""
    forwarded_proto: bytes = b""
    forwarded_for: bytes = b""
    user_agent: bytes = b""
    forwarded: bytes = b""
    """The standard's field (RFC 7239), several joined by ", ". Believed instead of the other two, where that was asked for."""

    def __repr__(self) -> str:
        """Without the cookies: a session keeps its arrival, and error reporters print what they find (checklist 21)."""
        return f"<Arrival {self.scheme} {self.host!r} {self.path!r}>"


class Origin(NamedTuple):
    """How the client spoke to the outermost proxy that is believed, or to us."""

    scheme: str
    """In lower case: "https", "http", "wss" or "ws"; whatever else somebody trusted said."""
    address: str
    """The client's IP address in its shortest spelling; empty if nobody trusted knows it."""


class TrustedProxies:
    """The proxies in front of the application, and in which header fields they say who came.

    addresses  addresses and networks ("10.0.0.5", "10.0.0.0/8", "2001:db8::/32"), or "unix" for connections over a Unix socket
    header     "x-forwarded": X-Forwarded-For and -Proto, which nearly every proxy writes. "forwarded": RFC 7239's Forwarded alone

    Only one of the two is ever read, since a proxy that writes one passes the other on as the client sent it. Raises
    ConfigurationError for what is no address, for a network that is everybody, and for one with bits beyond its length.
    """

    def __init__(self, *addresses: str, header: Header = "x-forwarded") -> None:
        if header not in get_args(Header):
            raise ConfigurationError(
                f"TrustedProxies(header={header!r}): give {' or '.join(map(repr, get_args(Header)))}"
            )
        if not addresses:
            raise ConfigurationError("TrustedProxies(): give the addresses of your proxies")
        self.header = header
        self._shown = addresses
        self._unix, self._anybody = "unix" in addresses, False
        networks = tuple(_network(address) for address in addresses if address != "unix")

        @lru_cache(maxsize=1024)
        def within(text: str) -> bool:
            address = _address(text)
            return address is not None and any(address in network for network in networks)

        self.has: Callable[[str], bool] = within
        """Whether an address that a header names is one of our proxies."""

    @classmethod
    def anybody(cls) -> "TrustedProxies":
        """What `proxy=True` means: whoever is connected to us is the one proxy, and its own entry the one that counts."""
        proxies = cls("unix")
        proxies._anybody, proxies._shown = True, ()
        return proxies

    def __repr__(self) -> str:
        if self._anybody:
            return "TrustedProxies.anybody()"
        return f"TrustedProxies({', '.join(map(repr, self._shown))}, header={self.header!r})"

    def believes(self, peer: str) -> bool:
        """Whether what this peer says of others is to be believed."""
        return self._anybody or (self.has(peer) if peer else self._unix)


Proxy = bool | str | Iterable[str] | TrustedProxies | None
"""What the option `proxy` takes."""


def trusted_proxies(proxy: Proxy) -> TrustedProxies | None:
    """What the option `proxy` says; None: nobody is trusted. Raises ConfigurationError, naming the fix."""
    if proxy is None or proxy is False:
        return None
    if proxy is True:
        return TrustedProxies.anybody()
    if isinstance(proxy, TrustedProxies):
        return proxy
    try:
        addresses = (proxy,) if isinstance(proxy, str) else tuple(proxy)
    except TypeError as error:
        raise _no_address(proxy, error) from error
    if not addresses:
        raise ConfigurationError(f"proxy={proxy!r}: give the addresses of your proxies, or leave it out")
    return TrustedProxies(*addresses)


def is_forwarded(arrival: Arrival) -> bool:
    """Whether the request says of itself that it came through a proxy. Then it did not come from this very machine."""
    return bool(arrival.forwarded_proto or arrival.forwarded)


def origin(arrival: Arrival, proxies: TrustedProxies | None) -> Origin:
    """Which scheme and address the client used, as far as those say who are believed."""
    scheme, peer = arrival.scheme, arrival.peer
    if proxies is None or not proxies.believes(peer):
        return Origin(scheme, _shortest(peer))
    for said_scheme, address in _hops(arrival, proxies.header):
        scheme, peer = said_scheme or scheme, peer if address is None else address
        if not proxies.has(peer):
            break
    return Origin(scheme, _shortest(peer))


def _hops(arrival: Arrival, header: Header) -> Iterator[tuple[str, str | None]]:
    """(scheme, address) as each proxy saw them, ours first; "" and None where one said nothing of it."""
    if header == "forwarded":
        return _standard(arrival.forwarded)
    return _usual(arrival.forwarded_for, arrival.forwarded_proto)


def _usual(forwarded_for: bytes, forwarded_proto: bytes) -> Iterator[tuple[str, str | None]]:
    """X-Forwarded-For and -Proto. A proxy adds to the first; most overwrite the second or pass it on: a single scheme is
    everybody's, and of several the last ones belong to the last addresses.
    """
    if len(forwarded_for) + len(forwarded_proto) > _LONGEST:
        return iter([("", "")])
    addresses, schemes = _items(forwarded_for), [item.lower() for item in _items(forwarded_proto)]
    first = schemes[0] if schemes else ""
    if not addresses:
        return iter([(schemes[-1] if schemes else "", None)])
    hops = zip_longest(reversed(addresses), reversed(schemes[-len(addresses) :]), fillvalue=first)
    return ((scheme, _node(address)) for address, scheme in hops)


def _items(field: bytes) -> list[str]:
    return [item.strip() for item in field.decode("latin-1").split(",")] if field else []


def _standard(forwarded: bytes) -> Iterator[tuple[str, str | None]]:
    """Forwarded (RFC 7239). A field that breaks its grammar is not believed at all: who came is then not known, and the scheme
    is plain http. A client may have left a quote open, to swallow what the proxy added.
    """
    if not forwarded:
        return iter([("", None)])
    elements = _elements(forwarded.decode("latin-1")) if len(forwarded) <= _LONGEST else None
    if elements is None:
        return iter([("http", "")])
    return (
        (element.get("proto", "").lower(), _node(element["for"]) if "for" in element else None)
        for element in reversed(elements)
    )


def _elements(text: str) -> list[dict[str, str]] | None:
    elements: list[dict[str, str]] = [{}]
    at = 0
    while True:
        at = _past_blanks(text, at)
        pair = _PAIR.match(text, at)
        if pair is None:
            return None
        name = pair[1].lower()
        if name in elements[-1]:  # "MUST NOT occur more than once"
            return None
        elements[-1][name] = pair[3] if pair[2] is None else pair[2]
        at = _past_blanks(text, pair.end())
        if at == len(text):
            return elements
        if text[at] == ",":
            elements.append({})
        elif text[at] != ";":
            return None
        at += 1


def _past_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t":
        at += 1
    return at


def _node(text: str) -> str:
    """The address in an entry, without its port: "203.0.113.5:4711" (Azure), "[2001:db8::1]:80". "unknown" and hidden names are
    none.
    """
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return text


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An IPv4 address that a socket of both families shows as "::ffff:10.0.0.5" is an IPv4 address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


@lru_cache(maxsize=1024)
def _shortest(text: str) -> str:
    address = _address(text)
    return "" if address is None else str(address)


def network_of(address: str) -> str:
    """The network of an address (/24, /48), which tells a place and not a person; empty for what is no address."""
    found = _address(address)
    if found is None:
        return ""
    bits = 24 if found.version == 4 else 48
    return str(ipaddress.ip_network((int(found) if found.version == 4 else found.packed, bits), strict=False))


def _network(text: object) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        if not isinstance(text, str):
            raise ValueError(f"{text!r} is no text")
        network = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError as error:
        raise _no_address(text, error) from error
    if network.prefixlen == 0:
        raise ConfigurationError(
            f"proxy={text!r} is everybody: whoever connects could then write who they are. Give your proxies' addresses, or"
            " True where nobody but the proxy can connect"
        )
    if "/" in text and str(network.network_address) != str(ipaddress.ip_address(text.split("/")[0].strip())):
        raise ConfigurationError(
            f"proxy={text!r}: give the network, {str(network)!r}, or the one address, {text.split('/')[0]!r}"
        )
    return network


def _no_address(given: object, error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"proxy={given!r}: give addresses or networks, such as '10.0.0.0/8', 'unix' for a Unix socket, or True; a name is none,"
        f" since whoever answers for it would be believed ({error})"
    )


@lru_cache(maxsize=1024)
def is_loopback(host: bytes) -> bool:
    """Whether a Host header names this very machine: loopback addresses, localhost (RFC 6761 section 6.3), and what
    test clients use.

    A browser that says so talks to its own machine. Whoever forges it gets a cookie without Secure for themselves,
    nobody else's.
    """
    name = host.decode("latin-1").strip().lower()
    name = name[1 : name.find("]")] if name.startswith("[") else name.partition(":")[0]
    if name in ("localhost", "testserver", "testserver.local", "test") or name.endswith(
        (".localhost", ".test")
    ):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
