"""Web origins (RFC 6454): scheme, host and port, compared exactly. What is configured is held to the one spelling that browsers
send, so that comparing is `in`, and nothing clever stands between an attacker's origin and the answer (checklist 93).
"""

import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

from coatcheck.errors import ConfigurationError

__all__ = ["check_origins", "is_loopback", "origin_of"]

_URL: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?(?P<rest>[/?#].*)?",
    re.DOTALL,
)
"""No user info, no blanks, no backslash, nothing percent-encoded: what browsers read in different ways is no match."""
_PORTS: Final = {"https": "443", "http": "80"}
_LONGEST: Final = 8192
"""Characters of a URL beyond which it is not read."""


def origin_of(url: str) -> str | None:
    """The origin of a URL as browsers spell it; None for what has none, or could be read in more than one way."""
    found = _URL.fullmatch(_lowered(url)) if len(url) <= _LONGEST else None
    if found is None or found["scheme"] not in _PORTS or not found["host"].strip("."):
        return None
    scheme, host, port = found["scheme"], found["host"], found["port"]
    if port is None or port == _PORTS[scheme]:
        return f"{scheme}://{host}"
    return f"{scheme}://{host}:{port}"


def _lowered(url: str) -> str:
    """Scheme and host in lower case, the only part in which case means nothing; beyond ASCII nothing is changed."""
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    head = scheme + separator + host
    return (head.lower() if head.isascii() else head) + slash + path


def is_loopback(origin: str) -> bool:
    """Whether this origin is the machine itself, where plain HTTP crosses no network."""
    host = origin.partition("://")[2]
    host = host[1 : host.find("]")] if host.startswith("[") else host.partition(":")[0]
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def check_origins(given: Iterable[str], *, setting: str, allow_http: bool = False) -> frozenset[str]:
    """The origins of a setting. Raises ConfigurationError, with what to write instead."""
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise ConfigurationError(
            f'{setting}={given!r}: give a list, such as {setting}=["https://app.example"]'
        )
    origins = tuple(given)
    for origin in origins:
        _check(origin, setting, allow_http)
    return frozenset(origins)


def _check(origin: object, setting: str, allow_http: bool) -> None:
    def wrong(fix: str) -> ConfigurationError:
        return ConfigurationError(f"{setting}: {ascii(origin)[:100]}: {fix}")

    if not isinstance(origin, str):
        raise wrong('give text such as "https://app.example"')
    if "*" in origin:
        raise wrong(
            'a wildcard trusts hosts that nobody has looked at: list each origin, as in "https://app.example"'
        )
    if "://" not in origin:
        raise wrong(f'the scheme is missing: write "https://{ascii(origin)[1:-1]}"')
    spelt = origin_of(origin)
    if spelt is None:
        raise wrong(
            'write scheme, host and port only, as in "https://app.example" (international names as "xn--…")'
        )
    if spelt != origin:
        raise wrong(f'browsers send it without path and default port, in lower case: write "{spelt}"')
    if origin.startswith("http://") and not allow_http and not is_loopback(origin):
        raise wrong(
            f'whoever is on the network can speak for a plain http origin: write "https{origin[4:]}"; for a network that you'
            " trust with every password say allow_http=True"
        )
