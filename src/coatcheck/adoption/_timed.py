"""Values signed by itsdangerous with the time of signing: what Starlette, Flask, Flask-Session and starsessions do."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from coatcheck.core.adoption import MARGIN
from coatcheck.errors import ConfigurationError

__all__ = ["Signed", "plain", "timed"]


class Signed(NamedTuple):
    """What was signed, and when, in seconds since the epoch."""

    value: bytes
    at: float
    text: str
    """The whole, in its one spelling. A signature can be spelled in several ways that all verify (spare bits of base64, octets
    that decoders pass over): to whoever must know a used cookie again they are one."""

    def __repr__(self) -> str:
        return "<Signed>"


class _Timed:
    """Knows genuine values. Whether one is too old is judged by the clock that the caller goes by, not by itsdangerous's own."""

    def __init__(self, signer: Any) -> None:
        self._signer = signer

    def opened(self, text: str, now: float, max_age: int | None) -> Signed | None:
        """What was signed; None if it is not genuine, or older than `max_age` whole seconds. From the future it may be by what
        clocks differ.
        """
        try:
            value, at = self._signer.unsign(text, return_timestamp=True)
        except _errors():
            return None
        signed_at = at.timestamp()
        if max_age is not None and not -MARGIN <= int(now) - signed_at <= max_age:
            return None
        signed, _, mac = text.rpartition(".")
        encoding = _itsdangerous().encoding
        spelled = encoding.base64_encode(encoding.base64_decode(mac)).decode("ascii")
        return Signed(value, signed_at, f"{signed}.{spelled}")

    def __repr__(self) -> str:
        return "<signer>"


class _Plain:
    """The same without a time."""

    def __init__(self, signer: Any) -> None:
        self._signer = signer

    def opened(self, text: str) -> str | None:
        """What was signed; None if it is not genuine."""
        try:
            return str(self._signer.unsign(text).decode("ascii"))
        except _errors():  # UnicodeDecodeError is a ValueError
            return None

    def __repr__(self) -> str:
        return "<signer>"


def timed(keys: Sequence[bytes], **settings: Any) -> _Timed:
    """Verifies what `itsdangerous.TimestampSigner` signs with any of these keys, the newest first."""
    return _Timed(_itsdangerous().TimestampSigner(_oldest_first(keys), **settings))


def plain(keys: Sequence[bytes], **settings: Any) -> _Plain:
    """Verifies what `itsdangerous.Signer` signs with any of these keys, the newest first."""
    return _Plain(_itsdangerous().Signer(_oldest_first(keys), **settings))


def _oldest_first(keys: Sequence[bytes]) -> list[bytes]:
    return list(reversed(keys))


def _errors() -> tuple[type[Exception], ...]:
    return (_itsdangerous().BadData, ValueError, OverflowError)


def _itsdangerous() -> Any:
    try:
        import itsdangerous
    except ImportError as error:
        raise ConfigurationError(
            'these old cookies are signed by itsdangerous, which is not installed: pip install "coatcheck[adopt]"'
        ) from error
    return itsdangerous
