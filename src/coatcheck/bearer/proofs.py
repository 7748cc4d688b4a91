"""Proofs of possession over HTTP (DPoP, RFC 9449): which address a proof must be about, and what is told with an answer.

What a proof must be is in `coatcheck.tokens.dpop`, which this is given. The address is never built from the Host header: whoever
got hold of a proof that was made for *their* server would bring it here, and say in Host that this is that server.
"""

from typing import Any
from urllib.parse import urlsplit

from coatcheck.bearer.http import Asked
from coatcheck.core.origin import is_loopback
from coatcheck.errors import ConfigurationError

__all__ = ["Proofs", "proofs_of", "public_url"]


class Proofs:
    """The rules of one application's tokens, at one address.

    dpop  a `coatcheck.tokens.DPoP`
    url   where its clients find the application, or its endpoints
    """

    def __init__(self, dpop: Any, url: str) -> None:
        self.dpop, self._url = dpop, url

    @property
    def algorithms(self) -> tuple[str, ...]:
        """What a proof may be signed with."""
        found: tuple[str, ...] = self.dpop.algorithms
        return found

    def about(self, asked: Asked, path: str) -> dict[str, Any]:
        """What the proof of a request must be about: what `authenticate_bound` and `proven_key` take."""
        return {"proofs": asked.all("dpop"), "method": asked.method, "url": self._url + path}

    def nonce(self) -> tuple[tuple[str, str], ...]:
        """The header that tells the client what to put into its next proof (section 8.2)."""
        nonce = self.dpop.nonce()
        return () if nonce is None else (("DPoP-Nonce", nonce),)


def proofs_of(tokens: Any, url: str | None, *, example: str) -> Proofs | None:
    """The rules that these tokens were made with; None if they have none. Raises ConfigurationError if `url` is missing."""
    dpop = getattr(tokens, "dpop", None)
    if dpop is None:
        return None
    if url is None:
        raise ConfigurationError(
            f"url: these tokens are bound to their client's key (dpop=…), and a proof names the address that it is for: give the"
            f" public one, url={example!r}. The Host header is not believed, since whoever asks writes it"
        )
    return Proofs(dpop, public_url(url, example=example))


def public_url(url: str, *, example: str) -> str:
    """An address, without a slash at its end. Raises ConfigurationError if it is none, or neither HTTPS nor this machine's."""
    given: object = url
    if not isinstance(given, str) or not _is_address(given):
        raise ConfigurationError(f"url={url!r}: give the address as its clients see it, such as {example!r}")
    return given.rstrip("/")


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        is_here = is_loopback(parts.netloc.encode("ascii"))
    except ValueError:  # UnicodeEncodeError is one
        return False
    if not parts.hostname or any(letter in url for letter in "?#@\\ "):
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_here)
