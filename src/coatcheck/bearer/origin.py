"""Whether a request that brings a cookie was made by a page of ours (checklist 91-94). The one place where that is decided.

Browsers say so themselves (Fetch Metadata), or name the page's origin. A page of another origin is ours if it is listed.
"""

import re
from collections.abc import Iterable

from coatcheck.bearer.http import Asked
from coatcheck.errors import ConfigurationError

__all__ = ["is_ours", "origins"]

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_ORIGIN = re.compile(r"https?://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")
_USUAL = {"http://": ":80", "https://": ":443"}


def origins(given: Iterable[str]) -> frozenset[str]:
    """Origins as browsers write them. Raises ConfigurationError for what is none."""
    if isinstance(given, str):
        raise ConfigurationError(f"trusted_origins={given!r}: give a list, such as [{given!r}]")
    return frozenset(map(_origin, given))


def _origin(text: object) -> str:
    origin = text.lower() if isinstance(text, str) else ""
    if not _ORIGIN.fullmatch(origin):
        raise ConfigurationError(
            f"trusted_origins: {text!r} is no origin: give scheme and host, and a port if it is not the usual one, such as"
            " 'https://app.example'"
        )
    usual = next(port for scheme, port in _USUAL.items() if origin.startswith(scheme))
    return origin.removesuffix(usual)


def is_ours(asked: Asked, trusted: frozenset[str]) -> bool:
    """Whether a request may do what its cookie allows. `trusted` are the other origins whose pages may.

    A request that changes nothing passes: whether a foreign page may read the answer is for CORS. What says nothing about where
    it comes from does not pass.
    """
    if asked.method in _SAFE and not asked.is_socket:
        return True
    if asked.all("sec-fetch-site") in (["same-origin"], ["none"]):
        return True
    return asked.one("origin") in trusted
