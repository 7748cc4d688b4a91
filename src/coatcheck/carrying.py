"""Sessions that travel in the cookie itself: sealed, cut into as many cookies as it takes, and put together again.

The text is one envelope (`security/encryption.py`) in base64url, under a key derived for the cookie's name. It is cut into
pieces, each a cookie that browsers keep; the first says how many:

    __Host-session=3.AQx…    __Host-session.1=…    __Host-session.2=…

One seal covers all, so a piece that is missing, of another response, or in another's place spoils the whole: no session
(checklist 32). A response that needs fewer deletes the others that the browser sent.
"""

import binascii
from collections.abc import Callable
from typing import Final

from coatcheck.core import cookies
from coatcheck.core.cookies import MAX_AGE, MAX_COOKIE, CookieSettings, Writer
from coatcheck.core.events import EventName
from coatcheck.core.ids import Ticket, Verifier
from coatcheck.core.record import Record
from coatcheck.core.signing import Secret
from coatcheck.errors import BadSignature, ConfigurationError
from coatcheck.security.encryption import Envelopes, bind, envelopes
from coatcheck.stores.cookie import Carried, packed, unpacked

__all__ = ["MOST_PIECES", "Carrier", "carrier_of"]

MOST_PIECES: Final = 9
"""Their number is one digit."""
_LONGEST: Final = MAX_COOKIE - 3 - len(str(MAX_AGE))
"""Octets of a whole Set-Cookie field. Browsers of today count name and value; those before (RFC 6265 section 6.1), and much that
is between server and browser, the attributes too, and some stop at 4093."""
_MARK: Final = 2
"""The digit and a dot, before the first piece."""
_NOBODY: Final = Verifier("-")
"""In place of a verifier: to bring the sealed text is the proof."""
_TO_URL, _FROM_URL = bytes.maketrans(b"+/", b"-_"), bytes.maketrans(b"-_", b"+/")

Found = tuple[Ticket, bool]
"""A ticket, and whether an older key had sealed it."""


class Carrier:
    """Reads and writes the sessions of one cookie name.

    `at` gives the keys at a time, `octets` is how long the text may be. Raises ConfigurationError for a name so long that it does
    not fit into `MOST_PIECES` cookies.
    """

    def __init__(
        self,
        settings: CookieSettings,
        name: str,
        *,
        secure: bool,
        at: Callable[[float], Envelopes],
        octets: int,
    ) -> None:
        names = [name, *(f"{name}.{number}" for number in range(1, MOST_PIECES))]
        self._writers = [Writer(settings, each, secure=secure) for each in names]
        self._room = _LONGEST - _MARK - len(self._writers[-1].clear())
        if self._room * MOST_PIECES < octets:
            raise ConfigurationError(
                f"CookieStore(octets={octets}) does not fit into {MOST_PIECES} cookies of so long a name"
            )
        self._names = [each.encode("ascii") for each in names]
        self._at, self._bound = at, bind(name)

    # ---- the request

    def read(self, header: bytes, now: float) -> tuple[Found | None, EventName | None]:
        """The session in a request's cookies, and the event to tell of, if any.

        Of several first pieces the one that opens counts, as with any cookie of ours, and one that is over only where no other
        does; a later piece that comes twice, and not alike, spoils all.
        """
        values = cookies.find_in(header, self._names[0])
        if not values:
            return None, None
        texts = {self._text(value, header) for value in values}
        genuine = [found for text in texts if text and (found := self._open(text, now)) is not None]
        if len(genuine) > 1:
            genuine = [found for found in genuine if not _is_over(found, now)] or genuine
        if len(genuine) == 1:
            return genuine[0], None
        return None, "cookie.duplicate" if genuine else "cookie.forged"

    def _text(self, first: bytes, header: bytes) -> bytes | None:
        """The pieces put together; None if they are not all there."""
        count, dot, piece = first[:1], first[1:_MARK], first[_MARK:]
        if not (count.isdigit() and count != b"0" and dot == b"."):
            return None
        pieces = [piece]
        for name in self._names[1 : int(count)]:
            found = set(cookies.find_in(header, name))
            if len(found) != 1:
                return None
            pieces += found
        return b"".join(pieces)

    def opened(self, value: bytes, now: float) -> Found | None:
        """The session in one text with its mark."""
        return self._open(value[_MARK:], now)

    def _open(self, text: bytes, now: float) -> Found | None:
        """Nothing is looked at before the seal has held (checklist 13). Whether it is over is for the store to say."""
        try:
            envelope = binascii.a2b_base64(
                text.translate(_FROM_URL) + b"=" * (-len(text) % 4), strict_mode=True
            )
            if _encoded(envelope) != text:
                return None  # another spelling of the same
            opened = self._at(now).open(envelope, bound=self._bound)
        except (BadSignature, ValueError):
            return None
        record = unpacked(opened.plaintext)
        if record is None:
            return None
        return Ticket(Carried.of(record.key, record), _NOBODY, record.verifier), opened.older

    # ---- the response

    def text(self, record: Record, now: float) -> bytes:
        """The record, sealed."""
        return _encoded(self._at(now).seal(packed(record), bound=self._bound))

    def whole(self, record: Record, now: float) -> str:
        """The text with its mark, for who takes it in one."""
        return "1." + self.text(record, now).decode("ascii")

    def set(self, record: Record, header: bytes, *, max_age: float | None, now: float) -> tuple[str, ...]:
        """The Set-Cookie values that store it, and delete what a longer one before has left."""
        text, room = self.text(record, now), self._room
        pieces = [text[at : at + room] for at in range(0, len(text), room)]
        pieces[0] = b"%d." % len(pieces) + pieces[0]
        sets = [
            writer.set(piece, max_age=max_age, now=now)
            for writer, piece in zip(self._writers, pieces, strict=False)
        ]
        return (*(value.decode("ascii") for value in sets), *self._clears(header, len(pieces)))

    def clear(self, header: bytes) -> tuple[str, ...]:
        """The Set-Cookie values that delete it."""
        return (self._writers[0].clear().decode("ascii"), *self._clears(header, 1))

    def _clears(self, header: bytes, first: int) -> list[str]:
        """Delete the pieces from `first` on that the browser has."""
        return [
            self._writers[number].clear().decode("ascii")
            for number in range(first, MOST_PIECES)
            if cookies.find_in(header, self._names[number])
        ]


def carrier_of(
    settings: CookieSettings,
    name: str,
    secret: Secret,
    octets: int,
    *,
    secure: bool,
    insecure_dev: bool = False,
    on_error: Callable[[Exception], None] | None = None,
) -> Carrier:
    """The carrier of a cookie's name. Its keys are for that name: what is sealed for one opens as no other (checklist 17)."""
    at = envelopes(secret, purpose=f"session in cookie:{name}", insecure_dev=insecure_dev, on_error=on_error)
    return Carrier(settings, name, secure=secure, at=at, octets=octets)


def _is_over(found: Found, now: float) -> bool:
    key = found[0].locator
    return type(key) is Carried and key.record is not None and key.record.deadline <= now


def _encoded(envelope: bytes) -> bytes:
    return binascii.b2a_base64(envelope, newline=False).translate(_TO_URL).rstrip(b"=")
