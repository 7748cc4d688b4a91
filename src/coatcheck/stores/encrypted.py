"""Encryption at rest, over any store: `Encrypted("redis://…", secret=[NEW, OLD])`.

A record is sealed on its way down and opened on its way up (`security/encryption.py`), in this process: no further round trip,
and the store below never sees a key. What a store has to look at stays as it is; everything else is in the envelope.

    in clear   the key, which names the row; the versions, which it compares; `user_id`, its index; deadline, seen_at and ends_at,
               by which it expires; created_at and authenticated_at, by which it orders lists
    sealed     the data, the verifier's hash, the login (method, address, user agent), epoch, rotation, renewal, lifetime, era, a
               pending login; and the times of creation, of the login and of the absolute end once more, since what is sealed is
               what counts
    bound      key, version and user id: an envelope opens in its own row only, as the version it was written as, for its user

`deadline` and `seen_at` are moved by `touch`, one command that reads nothing, so they cannot be sealed or bound: whoever writes
to the database can prolong a session, up to its sealed end. Nor does a seal say that a row is the newest: to put back a whole row
as it was is beyond this, as it is beyond every encryption at rest.

What does not open is `CorruptRecord`, as any row that is none of ours: event `session.corrupt`, and nobody gets in.
"""

import logging
from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any, Final, cast

import msgspec
from msgspec.structs import replace as changed

from coatcheck.core.outage import Outage
from coatcheck.core.ports import (
    SAVED,
    Backend,
    ByUser,
    Carries,
    Changed,
    Outcome,
    Page,
    Remembers,
    Resealed,
    Store,
    Terms,
    Walks,
)
from coatcheck.core.record import (
    VERSIONS_KEPT,
    Ended,
    Expired,
    Lifetime,
    Login,
    PendingLogin,
    Record,
    Renewal,
)
from coatcheck.core.signing import Secret
from coatcheck.errors import BadSignature, ConfigurationError, CorruptRecord
from coatcheck.security.encryption import Envelopes, bind, envelopes
from coatcheck.stores import hide_password, open_store
from coatcheck.stores._through import pass_through

__all__ = ["PURPOSE", "Encrypted", "EncryptedSessions"]

_logger: Final = logging.getLogger("coatcheck")

PURPOSE: Final = "records at rest"
_PLAIN: Final = (b"{",)
"""How the data of a record begin that was never sealed."""


class _Sealed(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What is in an envelope. An older release ignores what a newer one appends."""

    data: bytes
    verifier: bytes
    created_at: float
    ends_at: float
    authenticated_at: float | None
    epoch: int
    rotated_at: float | None
    login: Login | None
    renewal: Renewal | None
    lifetime: Lifetime | None
    era: int = 0
    pending: PendingLogin | None = None


_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder(_Sealed).decode


class Encrypted:
    """The store `below`, holding envelopes in place of sessions.

    below            a store, or its URL
    secret           the secret, or several: the first seals, all open; a file or a function that gives them is read again. Not
                     the one that signs the cookies: whoever learns one of the two should not have both
    allow_plaintext  read records that were never sealed, too: while encryption is being switched on, and not longer
    outage           for a store that is given as a URL
    insecure_dev     let a weak secret pass, on a developer's own machine

    Raises ConfigurationError or WeakSecret.
    """

    def __init__(
        self,
        below: str | Backend | Store,
        *,
        secret: Secret | None = None,
        allow_plaintext: bool = False,
        outage: Outage | None = None,
        insecure_dev: bool = False,
    ) -> None:
        if secret is None:
            raise ConfigurationError(
                "Encrypted(secret=…) is missing: give it a secret of its own, which `coatcheck secret` prints"
            )
        if type(allow_plaintext) is not bool:
            raise ConfigurationError(f"Encrypted(allow_plaintext={allow_plaintext!r}): give True or False")
        if outage is not None and not isinstance(below, str):
            raise ConfigurationError("Encrypted(outage=…) is for a store that is given as a URL")
        if isinstance(below, Encrypted):
            raise ConfigurationError(
                "Encrypted(Encrypted(…)): once is enough; to change the secret give both, secret=[NEW, OLD]"
            )
        self._at = envelopes(secret, purpose=PURPOSE, insecure_dev=insecure_dev, on_error=_keep_secret)
        self._allow_plaintext = allow_plaintext
        self._owns = isinstance(below, str)
        self._shown = hide_password(below) if isinstance(below, str) else repr(below)
        self._below: Any = open_store(below, outage=outage) if isinstance(below, str) else below
        self._faces: dict[str, EncryptedSessions] = {}

    def __repr__(self) -> str:
        return f"<Encrypted over {self._shown}>"

    def blocking(self) -> "EncryptedSessions":
        """The store whose methods never suspend: for the sync face."""
        return self._face("blocking")

    def awaiting(self) -> "EncryptedSessions":
        """The store for event loops."""
        return self._face("awaiting")

    def _face(self, name: str) -> "EncryptedSessions":
        face = self._faces.get(name)
        if face is None:
            below = getattr(self._below, name)() if hasattr(self._below, name) else self._below
            if isinstance(below, Carries):
                raise ConfigurationError(
                    "Encrypted(CookieStore(…)): what is in the cookie is encrypted as it is; for the store behind it say"
                    ' CookieStore(revocation="epoch", store=Encrypted(…))'
                )
            if getattr(below, "moves", False):
                raise ConfigurationError(
                    "Encrypted(Moving(new, old)): each of the two has its own encryption, or none: Moving(Encrypted(…), …)"
                )
            face = self._faces[name] = EncryptedSessions(
                cast(Store, below), self._at, allow_plaintext=self._allow_plaintext
            )
        return face

    def close(self) -> None:
        """Close a store that was opened from a URL; one that was handed in is its owner's."""
        if self._owns and hasattr(self._below, "close"):
            self._below.close()

    async def aclose(self) -> None:
        """The same, for what event loops opened."""
        if self._owns and hasattr(self._below, "aclose"):
            await self._below.aclose()
        else:
            self.close()


class EncryptedSessions:
    """What `Encrypted` hands to a face. It has the abilities that the store below has."""

    def __init__(self, below: Store, at: Callable[[float], Envelopes], *, allow_plaintext: bool) -> None:
        self._below, self._at, self._allow_plaintext = below, at, allow_plaintext
        self.touch, self.delete = below.touch, below.delete
        pass_through(self, below)
        if isinstance(below, Remembers):
            self.load_anew = _Remembered(self, below).load_anew
        if isinstance(below, Walks):
            self.reseal = _Resealing(self, below, below).reseal
        if isinstance(below, ByUser):
            users = _Users(self, below)
            self.admit, self.of_user = users.admit, users.of_user
            self.end_user, self.end_one = below.end_user, below.end_one

    async def load(self, key: str, *, now: float) -> Record | Ended | Expired | None:
        return self.opened(await self._below.load(key, now=now), now)

    async def create(self, record: Record, *, now: float) -> Outcome:
        return await self._below.create(self.sealed(record, now), now=now)

    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        sealed = self.sealed(record, now)
        outcome = await self._below.replace(sealed, expected=expected, now=now, may_shorten=may_shorten)
        return outcome if outcome is SAVED else self.outcome(outcome, now)

    # -------------------------------------------------------------------------------------------------- envelopes

    def sealed(self, record: Record, now: float) -> Record:
        """The record as the store below is to keep it."""
        contents = _pack((
            record.data, record.verifier, record.created_at, record.ends_at, record.authenticated_at, record.epoch,
            record.rotated_at, record.login, record.renewal, record.lifetime, record.era, record.pending,
        ))  # fmt: skip
        envelope = self._at(now).seal(contents, bound=_bound(record))
        return changed(
            record,
            data=envelope,
            verifier=b"",
            epoch=0,
            rotated_at=None,
            login=None,
            renewal=None,
            lifetime=None,
            era=0,
            pending=None,
        )

    def opened(self, found: Record | Ended | Expired | None, now: float) -> Record | Ended | Expired | None:
        """What the store below had, opened. Raises CorruptRecord for what we never sealed, or not for this row."""
        if type(found) is not Record:
            return found
        if self._is_allowed_plain(found):
            return found
        try:
            inside = _unpack(self._at(now).open(found.data, bound=_bound(found)).plaintext)
        except (BadSignature, msgspec.MsgspecError) as error:
            raise CorruptRecord(_why(found)) from error
        ends_at = inside.ends_at
        deadline = min(found.deadline, ends_at)
        if not isfinite(ends_at):
            raise CorruptRecord(_why(found))
        if deadline <= now:
            # The row says otherwise of itself, and the seal has the last word.
            return Expired.of(found.key, found.user_id, deadline, ends_at)
        return Record(
            found.key, found.versions, inside.verifier, inside.data, inside.created_at, found.seen_at, deadline, ends_at,
            inside.epoch, inside.rotated_at, found.user_id, inside.authenticated_at, inside.login, inside.renewal,
            inside.lifetime, found.format, inside.era, inside.pending,
        )  # fmt: skip

    def outcome(self, outcome: Outcome, now: float) -> Outcome:
        """What became of a write, with the record that was there opened."""
        if not isinstance(outcome, Changed) or outcome.current is None:
            return outcome
        current = self.opened(outcome.current, now)
        return Changed(current if type(current) is Record else None)

    def is_newest(self, found: Record, now: float) -> bool:
        """Whether this row needs no resealing."""
        return self._at(now).is_newest(found.data)

    def _is_allowed_plain(self, found: Record) -> bool:
        return self._allow_plaintext and found.data.startswith(_PLAIN) and found.verifier != b""


class _Users:
    """The verbs of `ByUser` that carry records."""

    def __init__(self, sealing: EncryptedSessions, below: ByUser) -> None:
        self._sealing, self._below = sealing, below

    async def admit(self, record: Record, *, expected: str | None, terms: Terms, now: float) -> Outcome:
        """Write a record that begins a login: see `coatcheck.core.ports.ByUser`."""
        sealed = self._sealing.sealed(record, now)
        outcome = await self._below.admit(sealed, expected=expected, terms=terms, now=now)
        return outcome if outcome is SAVED else self._sealing.outcome(outcome, now)

    async def of_user(self, user_id: str, *, now: float, cursor: str | None = None, limit: int = 100) -> Page:
        """The live sessions of a user, newest login first."""
        page = await self._below.of_user(user_id, now=now, cursor=cursor, limit=limit)
        return Page(_readable(self._sealing, page.records, now), page.cursor)


class _Remembered:
    """The ability `Remembers`."""

    def __init__(self, sealing: EncryptedSessions, below: Remembers) -> None:
        self._sealing, self._below = sealing, below

    async def load_anew(self, key: str, *, now: float) -> Record | Ended | Expired | None:
        """What `load` answers when nothing is remembered."""
        return self._sealing.opened(await self._below.load_anew(key, now=now), now)


class _Resealing:
    """The ability `Reseals`."""

    def __init__(self, sealing: EncryptedSessions, below: Store, walks: Walks) -> None:
        self._sealing, self._below, self._walks = sealing, below, walks

    async def reseal(
        self, *, now: float, version: Callable[[], str], cursor: object = None, limit: int = 1000
    ) -> Resealed:
        """Seal some records with the newest key: see `coatcheck.core.ports.Reseals`."""
        step = await self._walks.walk(cursor=cursor, limit=limit)
        done = [await self._one(key, version, now) for key in step.keys]
        return Resealed(len(done), done.count(True), done.count(None), step.cursor)

    async def _one(self, key: str, version: Callable[[], str], now: float) -> bool | None:
        """Whether a record was sealed anew; None: it is there and cannot be read.

        Over what was read, and only that: where another writer was first, the record has the newest seal already, and what has
        ended is not there to be written over.
        """
        try:
            found = await self._below.load(key, now=now)
            if type(found) is not Record or self._sealing.is_newest(found, now):
                return False
            record = self._sealing.opened(found, now)
        except CorruptRecord:
            return None
        if type(record) is not Record:
            return False
        following = changed(record, versions=(version(), *record.versions[: VERSIONS_KEPT - 1]))
        outcome = await self._sealing.replace(following, expected=record.versions[0], now=now)
        return outcome is SAVED


def _readable(sealing: EncryptedSessions, records: Sequence[Record], now: float) -> list[Record]:
    """The records that open. One that does not opens nothing, and must not take the list with it."""
    found = []
    for record in records:
        try:
            opened = sealing.opened(record, now)
        except CorruptRecord:
            continue
        if type(opened) is Record:
            found.append(opened)
    return found


def _keep_secret(error: Exception) -> None:
    _logger.error("reading the secret of Encrypted(…) again failed, the last good one stays: %s", error)


def _bound(record: Record) -> bytes:
    """What an envelope is bound to: its row, the version it was written as, and whose it is."""
    user_id = record.user_id
    user = ("",) if user_id is None else ("user", user_id)
    return bind("record 1", record.key, record.versions[0], *user)


def _why(found: Record) -> str:
    if found.data.startswith(_PLAIN):
        return (
            f"what is stored for session {found.key} is not encrypted: while encryption is being switched on, say"
            " Encrypted(…, allow_plaintext=True)"
        )
    return f"what is stored for session {found.key} was not sealed with these secrets for this place"
