"""Sessions that another library made, and what of them is ours to go on with. Pure.

A browser comes with the cookie of the library that was here before, and with none of ours. What that cookie names is adopted
once: it becomes a session of ours, and the old one ends. Everything is derived from the old cookie, by hashes, so that two
requests that come with it at once arrive at the same session:

- the **ticket** of the session: its locator, and the verifier that the old cookie is worth. The session is made as if it had been
  renewed a moment ago (PROTOCOL rule 3), the old cookie being the verifier before: it goes on opening the session until ten
  seconds after the browser was first seen with ours, and whoever comes with it is given the very same cookie of ours again. So a
  response that is lost on its way logs nobody out, and a login, logout or rotation ends the old cookie at once (rules 2, 4).
- the **marker**: a record that nobody can open, and that outlives the session. As long as the old cookie could be genuine, its
  marker says that it has been used.

No secret goes into the hashes. Whoever can work the verifier out knows the old cookie, and with it is let in as it was before;
and one that is to be believed as *our* cookie would have to be signed. So an exchanged secret adopts nothing twice.
"""

import base64
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from hashlib import sha384
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

from coatcheck.core import cookies
from coatcheck.core.cookies import CookieSettings
from coatcheck.core.ids import LOCATOR_BYTES, VERIFIER_BYTES, Ticket, Verifier
from coatcheck.core.record import Lifetime
from coatcheck.core.session import UserId

__all__ = [
    "DAY",
    "MARGIN",
    "Archive",
    "Claim",
    "Found",
    "OldSessions",
    "Olds",
    "Refused",
    "revocation_key",
]

DAY: Final = 86_400.0
MARGIN: Final = 60.0
"""Seconds by which the clocks of the old servers may differ from ours: a cookie counts as older, a marker is kept longer."""
LONGEST: Final = 400 * DAY
"""No browser keeps a cookie longer (RFC 6265bis section 5.6): for how long a used one is remembered whose end nobody knows."""


class Found(NamedTuple):
    """An old session that can be read."""

    data: Mapping[str, Any]
    issued_at: float | None = None
    """When its cookie was signed, or it began, in seconds since the epoch; None: nobody knows."""
    expires_at: float | None = None
    """When the old library would not accept it any more; None: nobody knows."""
    lifetime: Lifetime | None = None
    """How long this one session was to live, if it said so itself."""


class Refused(NamedTuple):
    """An old session that is not adopted, and why: for the operator, without a secret."""

    reason: str


class Claim(NamedTuple):
    """What a genuine old cookie says."""

    key: str
    """What names the session; a secret."""
    found: Found | Refused | None = None
    """The session, where the cookie carries it; None: it is kept elsewhere."""

    def __repr__(self) -> str:
        return "<Claim>"

    def ticket(self, kind: str) -> Ticket:
        """Where the adopted session lies, and what the old cookie is worth there."""
        verifier = _derived("verifier", kind, self.key, VERIFIER_BYTES)
        return Ticket(_derived("session", kind, self.key, LOCATOR_BYTES), Verifier(verifier))

    def marker(self, kind: str) -> str:
        """Where it is written down that this cookie has been used."""
        return _derived("marker", kind, self.key, LOCATOR_BYTES)


def revocation_key(user_id: str) -> str:
    """Where it is written down when all sessions of a user were ended."""
    return _derived("revocation", "", user_id, LOCATOR_BYTES)


def _derived(purpose: str, kind: str, key: str, size: int) -> str:
    text = f"coatcheck adoption\0{purpose}\0{kind}\0{key}"
    mac = sha384(text.encode("utf-8", "surrogatepass")).digest()
    return base64.urlsafe_b64encode(mac[:size]).decode("ascii")


class Archive(Protocol):
    """Where old sessions are kept, as one face reaches it: a blocking one never suspends."""

    async def fetch(self, key: str, now: float) -> Found | Refused | None:
        """The session; None if there is none. Raises StoreUnavailable."""
        ...

    async def end(self, key: str) -> None:
        """End it; nothing happens if it is gone. Raises StoreUnavailable."""
        ...

    async def close(self) -> None:
        """Close what was opened for this."""
        ...


@runtime_checkable
class OldSessions(Protocol):
    """One kind of old sessions: how to know its cookie, and where the rest is."""

    @property
    def kind(self) -> str:
        """What it is called, in events; the same name for the same kind of cookie."""

    @property
    def cookie(self) -> CookieSettings:
        """The old cookie's name, path and domain: to find it, and to clear it."""

    @property
    def until(self) -> datetime | None:
        """From this moment on nothing is adopted any more."""

    @property
    def user_key(self) -> str | None:
        """The key of the old data that says who is logged in."""

    @property
    def to_user_id(self) -> Callable[[Any], UserId] | None:
        """What makes the user id of what is there."""

    @property
    def accept(self) -> Callable[[Mapping[str, Any]], bool | Awaitable[bool]] | None:
        """Has the last word about a session: True if it is still good."""

    def claim(self, value: str, now: float) -> Claim | None:
        """What the value of such a cookie says; None if it is not genuine, or too old."""

    def blocking(self) -> Archive | None:
        """The archive for sync code; None if the cookie is all there is."""

    def awaiting(self) -> Archive | None:
        """The archive for event loops; None if the cookie is all there is."""


class Olds:
    """All the kinds of old sessions that one application adopts."""

    def __init__(self, kinds: Sequence[OldSessions]) -> None:
        self.kinds = tuple(kinds)
        self._names = tuple({(kind.cookie.name or "").encode("ascii") for kind in self.kinds})

    def blocking(self) -> list[Archive | None]:
        """The archive of each kind, for sync code."""
        return [kind.blocking() for kind in self.kinds]

    def awaiting(self) -> list[Archive | None]:
        """The archive of each kind, for event loops."""
        return [kind.awaiting() for kind in self.kinds]

    def are_present(self, header: bytes) -> bool:
        """Whether a Cookie header may hold an old cookie, genuine or not."""
        return any(name + b"=" in header and cookies.find_in(header, name) for name in self._names)

    def recognise(self, value: bytes, now: float) -> bool:
        """Whether this is the genuine cookie of an old session."""
        return any(_until(kind, now) and _claim(kind, value, now) is not None for kind in self.kinds)

    def claims(self, header: bytes, now: float) -> Iterator[tuple[int, OldSessions, Claim | None]]:
        """The genuine old cookies among the request's, by the number of their kind. A claim of None: there are several different
        ones of a kind, and nobody can know which was planted (checklist 41).
        """
        for number, kind in enumerate(self.kinds):
            if not _until(kind, now):
                continue
            values = cookies.find_in(header, (kind.cookie.name or "").encode("ascii"))
            genuine = {c.key: c for value in values if (c := _claim(kind, value, now)) is not None}
            if genuine:
                yield number, kind, next(iter(genuine.values())) if len(genuine) == 1 else None

    def kept_until(self, kind: OldSessions, found: Found | None, now: float) -> float:
        """How long it has to be remembered that such a cookie was used: as long as it might be accepted."""
        ends = [now + LONGEST]
        if kind.until is not None:
            ends.append(kind.until.timestamp())
        if found is not None and found.expires_at is not None:
            ends.append(found.expires_at)
        return max(min(ends), now) + MARGIN

    def revocations_kept_until(self, now: float) -> float:
        """How long it has to be remembered that a user's sessions were ended: until nothing older can come."""
        return max(self.kept_until(kind, None, now) for kind in self.kinds)


def _until(kind: OldSessions, now: float) -> bool:
    return kind.until is None or now < kind.until.timestamp()


def _claim(kind: OldSessions, value: bytes, now: float) -> Claim | None:
    if not value.isascii() or len(value) > cookies.MAX_COOKIE:
        return None
    return kind.claim(value.decode("ascii").strip('"'), now)
