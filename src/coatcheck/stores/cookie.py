"""No session store: each session is in its visitor's own cookie, encrypted. What a server is needed for, a server has to keep.

    CookieStore(revocation="epoch", store="redis://…")     cookie+redis://…
    CookieStore(revocation="none")                         cookie:?revocation=none

Nothing that is only in a cookie can be taken back: whoever has copied it has it. So there are two kinds.

- **epoch**: a small store keeps, for each session, all of its record but the data: who it is, which epoch it is in, until when.
  The cookie counts as long as the store has that session, in that epoch. Logout, "end all", device lists, fences and limits are
  what they are anywhere. One command a request, as ever: a load for a read; for a write of data a touch, which moves the deadline
  and refuses what has ended or passed to another login.
- **none**: nothing at all is kept. A copied cookie works until its absolute timeout, whatever its owner does, so that may be at
  most `LONGEST`; and what needs a server raises UsageError.

How a session comes here and goes back. The exchange opens the cookie (`carrying.py`) and makes the key of a `load` of it: a
`Carried`, a text that brings the record along. The record that is loaded keeps that key, so every later verb of the request
brings it here again, and what is written is left in it. The exchange seals the session's record into the response's cookie.

Of two requests at once the one whose response arrives last wins, with all of its data: nobody can merge what nobody keeps.
"""

from hmac import compare_digest
from math import isfinite
from typing import Any, Final, Literal
from urllib.parse import parse_qsl

import msgspec
from msgspec.structs import replace as changed

from coatcheck.core.options import Options
from coatcheck.core.outage import Outage
from coatcheck.core.ports import (
    GONE,
    SAVED,
    Backend,
    ByUser,
    Carries,
    Changed,
    EndedAll,
    Outcome,
    Remembers,
    Store,
    Terms,
    Walks,
)
from coatcheck.core.record import Ended, Expired, Lifetime, Login, PendingLogin, Record
from coatcheck.errors import ConfigurationError, CookieTooLarge, UsageError
from coatcheck.stores import hide_password, open_store
from coatcheck.stores._through import pass_through

__all__ = ["LONGEST", "MOST_OCTETS", "Carried", "CookieStore", "packed", "unpacked"]

LONGEST: Final = 86_400.0
"""Seconds that a session may last at most where nothing can end it: the absolute timeout with revocation="none"."""
OCTETS: Final = 7_168
"""A Cookie header of 8190 octets is what common servers take (gunicorn, Apache; nginx 8192): this leaves one KiB to others."""
MOST_OCTETS: Final = 32_768
"""Where the servers in between are known to take longer headers."""
HIDDEN: Final = (
    "the cookie store is wrapped in something that hides what it is, so nothing would be kept: give it to the middleware"
    " as it is"
)
_OVERHEAD: Final = 49
"""Octets of an envelope beside what is in it: `security.encryption.OVERHEAD`, which a test holds to be the same."""


class Carried(str):
    """The key of a session that came with the request, and brings it along."""

    __slots__ = ("_plain", "home")
    _plain: Record | None
    """The record under a key that is a text and no more. A record that is kept here under this very key would be a cycle that
    nothing frees: the garbage collector does not look into records."""
    home: str
    """The version of what the server keeps of it, as this request has read or written it."""

    @classmethod
    def of(cls, key: str, record: Record | None = None) -> "Carried":
        """The key of this session."""
        carried = cls(key)
        carried.home, carried.record = "", record
        return carried

    @property
    def record(self) -> Record | None:
        """What the browser holds, or will hold; None: nothing (yet)."""
        return None if self._plain is None else changed(self._plain, key=self)

    @record.setter
    def record(self, record: Record | None) -> None:
        self._plain = None if record is None else changed(record, key=str(self))


class CookieStore:
    """Sessions in their visitors' cookies.

    revocation   "epoch": a session counts while `store` has it. "none", literally: nobody can end a session but its browser
    store        for "epoch": a store or its URL, which keeps everything of a session but the data
    octets       of all cookies of a session together, at most; more raises CookieTooLarge, and what was there before stays
    outage       for a `store` that is given as a URL

    Raises ConfigurationError.
    """

    def __init__(
        self,
        *,
        revocation: Literal["epoch", "none"] | None = None,
        store: str | Backend | Store | None = None,
        octets: int = OCTETS,
        outage: Outage | None = None,
    ) -> None:
        if revocation not in ("epoch", "none"):
            raise ConfigurationError(
                "CookieStore(revocation=…): a cookie that was copied works on after the logout. Give"
                ' revocation="epoch" and a store=… that knows which sessions have ended, or revocation="none" if that is well'
            )
        if (revocation == "epoch") != (store is not None):
            fix = 'give it, such as "redis://…"' if store is None else "leave it out"
            raise ConfigurationError(f'CookieStore(revocation="{revocation}", store=…): {fix}')
        if type(octets) is not int or not 1024 <= octets <= MOST_OCTETS:
            raise ConfigurationError(
                f"CookieStore(octets={octets!r}): give a whole number from 1024 to {MOST_OCTETS}"
            )
        if outage is not None and not isinstance(store, str):
            raise ConfigurationError("CookieStore(outage=…) is for a store that is given as a URL")
        self.revocation, self.octets = revocation, octets
        self._store, self._outage = store, outage
        self._opened: Any = None if isinstance(store, str) else store
        self._faces: dict[str, Alone | Backed] = {}

    carries: Literal[True] = True

    @classmethod
    def from_url(cls, url: str, *, outage: Outage | None = None) -> "CookieStore":
        """The store of `cookie:?revocation=none`, or of `cookie+` and the URL of a store. Raises ConfigurationError."""
        scheme, _, rest = url.partition(":")
        if "+" in scheme:
            return cls(revocation="epoch", store=f"{scheme.partition('+')[2]}:{rest}", outage=outage)
        asked = dict(parse_qsl(rest.lstrip("/?"), keep_blank_values=True))
        if asked != {"revocation": "none"}:
            raise ConfigurationError(
                f'store={url!r}: give "cookie+redis://…", over a store that knows which sessions have ended; or'
                ' "cookie:?revocation=none", where a copied cookie works on after the logout'
            )
        return cls(revocation="none")

    def __repr__(self) -> str:
        if self._store is None:
            return '<CookieStore revocation="none">'
        shown = hide_password(self._store) if isinstance(self._store, str) else repr(self._store)
        return f"<CookieStore over {shown}>"

    def blocking(self) -> "Alone | Backed":
        """For the sync face."""
        return self._face("blocking")

    def awaiting(self) -> "Alone | Backed":
        """For event loops."""
        return self._face("awaiting")

    def _face(self, name: str) -> "Alone | Backed":
        face = self._faces.get(name)
        if face is None:
            face = self._faces[name] = Alone(self.octets) if self._store is None else self._backed(name)
        return face

    def _backed(self, name: str) -> "Backed":
        if self._opened is None:
            self._opened = open_store(str(self._store), outage=self._outage)
        below = getattr(self._opened, name)() if hasattr(self._opened, name) else self._opened
        if isinstance(below, Carries):
            raise ConfigurationError(
                "CookieStore(store=CookieStore(…)): give a store that keeps what it is told, such as redis://…"
            )
        if isinstance(below, Remembers):
            raise ConfigurationError(
                "CookieStore(store=LayeredStore(…)): what ended sessions are known by must not be remembered; give the store"
                " without a cache"
            )
        return Backed(self.octets, below)

    def close(self) -> None:
        """Close a store that was opened from a URL; one that was handed in is its owner's."""
        if isinstance(self._store, str) and hasattr(self._opened, "close"):
            self._opened.close()

    async def aclose(self) -> None:
        """The same, for what event loops opened."""
        if isinstance(self._store, str) and hasattr(self._opened, "aclose"):
            await self._opened.aclose()
        else:
            self.close()


class Alone:
    """`revocation="none"`: the request's own cookie is all there is."""

    never_waits: Literal[True] = True
    carries: Literal[True] = True

    def __init__(self, octets: int) -> None:
        self.octets = octets

    def began(self, locator: str) -> str:
        """The key of a session that begins with this request."""
        return Carried.of(locator)

    def accepts(self, options: Options) -> None:
        """Raise ConfigurationError for options that cannot hold here."""
        _accepts(options)
        absolute = options.timeouts.in_seconds().absolute
        if absolute > LONGEST:
            raise ConfigurationError(
                f'revocation="none": a copied cookie works until the absolute timeout, so that may be at most {LONGEST:g} seconds'
                f" (it is {absolute:g}): give timeouts=Timeouts(idle=…, absolute={LONGEST:g})"
            )

    def lacks(self, what: str) -> UsageError:
        """Why something cannot be done."""
        return UsageError(
            f'sessions in cookies with revocation="none" are known to no server: this needs a store that {what}. Use'
            ' CookieStore(revocation="epoch", store="redis://…"), or a store'
        )

    async def load(self, key: str, *, now: float) -> Record | Ended | Expired | None:
        return _over(key, now) or (key.record if type(key) is Carried else None)

    async def create(self, record: Record, *, now: float) -> Outcome:
        return _left(record, self.octets)

    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        return _left(record, self.octets)

    async def touch(self, key: str, *, deadline: float, seen_at: float, expected: str, now: float) -> bool:
        _touched(key, deadline, seen_at)
        return True

    async def delete(self, key: str, *, now: float, token: str, expected: str | None = None) -> bool:
        if type(key) is not Carried:
            raise self.lacks("can end another's session")
        key.record = None
        return True


class Backed:
    """`revocation="epoch"`: the store `below` has everything of a session but its data. It has the abilities of that store."""

    carries: Literal[True] = True

    def __init__(self, octets: int, below: Store) -> None:
        self.octets, self._below = octets, below
        pass_through(self, below, but=(Walks,))  # the data is not here: there is nothing to go through
        if isinstance(below, ByUser):
            users = _Users(octets, below)
            self.admit, self.end_user, self.end_one = users.admit, users.end_user, users.end_one
            self.of_user = below.of_user

    def began(self, locator: str) -> str:
        """The key of a session that begins with this request."""
        return Carried.of(locator)

    def accepts(self, options: Options) -> None:
        """Raise ConfigurationError for options that cannot hold here."""
        _accepts(options)

    def lacks(self, what: str) -> UsageError:
        """Why something cannot be done."""
        return UsageError(
            f"sessions in cookies: this needs a store that {what}; use one in place of the cookie"
        )

    async def load(self, key: str, *, now: float) -> Record | Ended | Expired | None:
        if (over := _over(key, now)) is not None:
            return over  # an old copy opens nothing, though the server's half was prolonged since
        found = await self._below.load(str(key), now=now)
        return found if type(key) is not Carried else _joined(key, found)

    async def create(self, record: Record, *, now: float) -> Outcome:
        _check(record, self.octets)
        return _kept(record, await self._below.create(_half(record), now=now))

    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        key = record.key
        assert type(key) is Carried
        _check(record, self.octets)
        mine = key.record
        if may_shorten or mine is None or mine.verifier != record.verifier:
            outcome = await self._below.replace(
                _half(record), expected=key.home, now=now, may_shorten=may_shorten
            )
            return _kept(record, outcome)
        # Data alone: the server keeps none. What it has to say is whether this session still is what the request read.
        moved = await self._below.touch(
            str(key), deadline=record.deadline, seen_at=record.seen_at, expected=key.home, now=now
        )
        if moved:
            return _left(record, self.octets)
        found = await self._below.load(str(key), now=now)
        return _theirs(key, Changed(found)) if type(found) is Record else GONE

    async def touch(self, key: str, *, deadline: float, seen_at: float, expected: str, now: float) -> bool:
        if type(key) is Carried:
            expected = key.home
        moved = await self._below.touch(
            str(key), deadline=deadline, seen_at=seen_at, expected=expected, now=now
        )
        if moved:
            _touched(key, deadline, seen_at)
        return moved

    async def delete(self, key: str, *, now: float, token: str, expected: str | None = None) -> bool:
        if type(key) is Carried and expected is not None:
            expected = key.home
        return await self._below.delete(str(key), now=now, token=token, expected=expected)


class _Users:
    """The verbs of `ByUser` that have to do with keys or records."""

    def __init__(self, octets: int, below: ByUser) -> None:
        self.octets, self._below = octets, below

    async def admit(self, record: Record, *, expected: str | None, terms: Terms, now: float) -> Outcome:
        """Write a record that begins a login: see `coatcheck.core.ports.ByUser`."""
        _check(record, self.octets)
        if expected is not None and type(record.key) is Carried:
            expected = record.key.home
        outcome = await self._below.admit(_half(record), expected=expected, terms=terms, now=now)
        return _kept(record, outcome)

    async def end_user(self, user_id: str, *, keep: str | None, now: float, token: str) -> EndedAll:
        """Raise the user's fence, then end every session of theirs but the one with key `keep`."""
        keep = None if keep is None else str(keep)
        return await self._below.end_user(user_id, keep=keep, now=now, token=token)

    async def end_one(self, user_id: str, key: str, *, now: float, token: str) -> bool:
        """End one session, only while it belongs to this user."""
        return await self._below.end_one(user_id, str(key), now=now, token=token)


# ------------------------------------------------------------------------------------------------- the two halves


def _half(record: Record) -> Record:
    """What the server keeps of it."""
    return changed(record, key=str(record.key), data=b"{}")


def _over(key: str, now: float) -> Expired | None:
    """If what the request brought is past its deadline."""
    mine = key.record if type(key) is Carried else None
    if mine is None or mine.deadline > now:
        return None
    return Expired.of(str(key), mine.user_id, mine.deadline, mine.ends_at)


def _joined(key: Carried, found: Record | Ended | Expired | None) -> Record | Ended | Expired | None:
    """The server's half with the data of the request's; alone, if the two are not of the same epoch: the verifier tells."""
    mine = key.record
    if type(found) is not Record:
        return found
    key.home = found.versions[0]
    if mine is None or not compare_digest(mine.verifier, found.verifier):
        return found
    return changed(found, key=key, data=mine.data)


def _theirs(key: str, outcome: Outcome) -> Outcome:
    """What another request wrote first. Of its data nobody knows anything, so those that this one brought stand for them."""
    if type(key) is Carried and isinstance(outcome, Changed) and outcome.current is not None:
        current, mine = outcome.current, key.record
        key.home = current.versions[0]
        if mine is not None and compare_digest(mine.verifier, current.verifier):
            return Changed(changed(current, key=key, data=mine.data))
    return outcome


def _kept(record: Record, outcome: Outcome) -> Outcome:
    """What became of a write to the server's half."""
    key = record.key
    if outcome is SAVED and type(key) is Carried:
        key.record, key.home = record, record.versions[0]
    return _theirs(key, outcome)


def _left(record: Record, octets: int) -> Outcome:
    """Leave the record where the exchange finds it."""
    _check(record, octets)
    if type(record.key) is Carried:
        record.key.record = record
    return SAVED


def _touched(key: str, deadline: float, seen_at: float) -> None:
    if type(key) is Carried and key.record is not None:
        key.record = changed(key.record, deadline=deadline, seen_at=seen_at)


def _accepts(options: Options) -> None:
    for name in ("merge", "adopt"):
        if getattr(options, name):
            raise ConfigurationError(
                f"{name}=… cannot be kept by sessions in cookies: use a store, or leave it out"
            )
    if options.on_conflict != "later":
        raise ConfigurationError(
            f"on_conflict={options.on_conflict!r} cannot be kept by sessions in cookies: nobody sees what another request wrote;"
            " use a store, or leave it out"
        )


# ---------------------------------------------------------------------------------------------------------- its form


class _Inside(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What is in the envelope. An older release ignores what a newer one appends."""

    format: int
    key: str
    version: str
    verifier: bytes
    data: bytes
    created_at: float
    seen_at: float
    deadline: float
    ends_at: float
    epoch: int
    rotated_at: float | None
    user_id: str | None
    authenticated_at: float | None
    login: Login | None
    lifetime: Lifetime | None
    era: int = 0
    pending: PendingLogin | None = None


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Inside).decode


def packed(record: Record) -> bytes:
    """The record as one value. Where a login came from is for lists of devices, which are the server's."""
    login = record.login
    return _encode((
        record.format, str(record.key), record.versions[0], record.verifier, record.data, float(record.created_at),
        float(record.seen_at), float(record.deadline), float(record.ends_at), record.epoch, record.rotated_at, record.user_id,
        record.authenticated_at, None if login is None else changed(login, user_agent="", address=""), record.lifetime,
        record.era, record.pending,
    ))  # fmt: skip


def unpacked(value: bytes) -> Record | None:
    """The record that was packed; None for a value that is none of ours."""
    try:
        found = _decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if not isfinite(found.deadline + found.ends_at + found.seen_at + found.created_at):
        return None
    return Record(
        found.key, (found.version,), found.verifier, found.data, found.created_at, found.seen_at,
        min(found.deadline, found.ends_at), found.ends_at, found.epoch, found.rotated_at, found.user_id,
        found.authenticated_at, found.login, None, found.lifetime, found.format,
        found.era, found.pending,
    )  # fmt: skip


def _check(record: Record, octets: int) -> None:
    """Raise CookieTooLarge before anything is written or sent."""
    if type(record.key) is not Carried:
        raise ConfigurationError(HIDDEN)
    size = -(-(len(packed(record)) + _OVERHEAD) * 4 // 3)
    if size > octets:
        raise CookieTooLarge(
            f"the session takes {size} octets of cookie, and octets={octets}: keep large things in your database and their keys"
            " in the session, or use a store"
        )
