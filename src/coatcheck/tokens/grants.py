"""Issue, refresh, revoke: the order of the I/O, over one store, written once for sync and async.

A token login is a session: made by `admit` like a login of a browser, so it is listed, limited, fenced and ended with the others.
A refresh is one `load` and one `replace` over the version that was read; of a hundred at once one writes, and the others find
what it wrote and hand out the same successor.
"""

import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, NoReturn

import msgspec

from coatcheck.commands import Commands
from coatcheck.core import drafts
from coatcheck.core.events import Event, EventName, Listener
from coatcheck.core.ids import IdSource
from coatcheck.core.ports import FENCED, FULL, SAVED, TAKEN, Changed, Terms
from coatcheck.core.record import Lifetime, Login, Record
from coatcheck.eras import Eras
from coatcheck.errors import InvalidToken, LoginRefused, StoreUnavailable
from coatcheck.tokens import family as families
from coatcheck.tokens import jws
from coatcheck.tokens.access import TYPE
from coatcheck.tokens.family import Family, Worth
from coatcheck.tokens.keys import Keys

__all__ = ["Grants", "Pair", "Times"]

ATTEMPTS: Final = 1000


_REFUSALS: Final[dict[object, str]] = {
    FENCED: "this user's sessions were all ended meanwhile",
    FULL: "this user has as many sessions as the limit allows",
}


class Pair(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a client gets (RFC 6749 section 5.1); `msgspec.json.encode(pair)` is the response's body."""

    access_token: str
    expires_in: int
    """Seconds for which the access token is good."""
    refresh_token: str
    scope: str = ""
    token_type: str = msgspec.field(default_factory=lambda: "Bearer")
    """Made by a function, since a plain default is left out, and RFC 6749 section 5.1 wants this one."""

    def __repr__(self) -> str:
        return f"<Pair scope={self.scope!r} expires_in={self.expires_in}>"


class Times(NamedTuple):
    """Lifetimes in seconds."""

    access: float = 600.0
    refresh: float = 30 * 86_400.0
    """How long a family lives, whatever is refreshed."""
    idle: float = 14 * 86_400.0
    """How long it lives without a refresh."""
    grace: float = 10.0
    """For how long the token before the present one may be presented again; 0: not at all (strict)."""


class Grants:
    """The flows over one store, under one issuer's name and keys."""

    def __init__(
        self,
        store: Any,
        eras: Eras,
        *,
        keys: Keys,
        issuer: str,
        audience: str,
        times: Times,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        source: IdSource,
        limit: int | None = None,
        evict: bool = True,
        on_event: Listener,
    ) -> None:
        self._commands = Commands(store, eras)
        self._keys, self._issuer, self._audience, self.times = keys, issuer, audience, times
        self._clock, self._monotonic, self._ids, self._on_event = clock, monotonic, source, on_event
        self._limit, self._evict = limit, evict
        self._prefixes = dict[str, str]()

    async def issue(self, user_id: str, family: Family, login: Login) -> Pair:
        """Begin a family. Raises LoginRefused if the user's sessions were ended meanwhile, or there are too many."""
        now, began, times = self._clock(), self._monotonic(), self.times
        part = self._ids.verifier()
        family = msgspec.structs.replace(family, current=families.digest(part), rotated_at=now)
        terms = Terms(stopwatch=lambda: self._monotonic() - began, limit=self._limit, evict=self._evict)
        for _ in range(ATTEMPTS):
            secret, lifetime = self._ids.verifier(), Lifetime(idle=times.idle, persistent=True)
            ends_at = now + times.refresh
            record = drafts.first(
                self._ids.locator(), self._ids.version(), secret, families.encoded(family), now,
                idle=times.idle, ends_at=ends_at, lifetime=lifetime,
            )  # fmt: skip
            record = drafts.logged_in(
                record, user_id, login, now, idle=times.idle, ends_at=ends_at, lifetime=lifetime
            )
            record = await self._commands.begun_now(record, now)
            outcome = await self._commands.insert(record, terms, now)
            if outcome is SAVED:
                self._tell("tokens.issued", record, now)
                return self._pair(record, family, secret, part, now)
            if outcome is not TAKEN:
                raise LoginRefused(
                    f"no tokens for this login: {_REFUSALS.get(outcome, 'it was ended meanwhile')}"
                )
        raise StoreUnavailable("no free session id was found")

    async def refresh(
        self,
        token: str,
        *,
        client_id: str | None = None,
        scope: str | None = None,
        claims: Mapping[str, Any] | None = None,
        jkt: str | None = None,
    ) -> Pair:
        """The next pair. Raises InvalidToken, and has used nothing up then; but a token that is used twice ends its family."""
        presented, now, times = families.parse(token), self._clock(), self.times
        for _ in range(ATTEMPTS):
            record, family = await self._family(presented, now)
            worth = families.worth(record, family, presented, now, times.grace)
            if worth is Worth.FOREIGN:
                raise InvalidToken("unknown")
            if worth is Worth.REUSED or _is_anothers(family, client_id, jkt):
                await self._reused(record, now)
            if family.jkt and jkt is None:
                raise InvalidToken("dpop")
            granted = _narrowed(family, scope)
            if worth is Worth.AGAIN:
                return self._pair(record, granted, presented.secret, families.again(family, presented), now)
            following, part = families.rotated(family, presented.part, self._ids.locator(), now)
            if claims is not None:
                following = msgspec.structs.replace(following, claims=dict(claims))
            record = drafts.following(
                record, self._ids.version(), families.encoded(following), now,
                idle=times.idle, lifetime=record.lifetime,
            )  # fmt: skip
            outcome, _lasts = await self._commands.write(record, record.versions[1], None, False, now)
            if outcome is SAVED:
                self._tell("tokens.refreshed", record, now)
                return self._pair(record, _narrowed(following, scope), presented.secret, part, now)
            if not isinstance(outcome, Changed):
                raise InvalidToken("revoked")
        raise StoreUnavailable(f"another writer was first {ATTEMPTS} times in a row; try again later")

    def ask_anew(self) -> None:
        """Everyone's sessions were ended just now."""
        self._commands.eras.doubt()

    async def lives(self, handle: str, user_id: str, jti: str) -> bool:
        """Whether the session of an access token is still its user's, and the token was not revoked by itself."""
        found = await self._commands.session(handle, self._clock())
        if not isinstance(found, Record) or found.user_id != user_id:
            return False
        family = families.family_of(found)
        return family is None or jti not in family.revoked

    async def revoke_access(self, handle: str, user_id: str, jti: str, until: float) -> bool:
        """Revoke one access token, until it would have expired anyway; the login goes on. Returns whether it was good."""
        for _ in range(ATTEMPTS):
            now = self._clock()
            record = await self._commands.session(handle, now)
            family = families.family_of(record) if isinstance(record, Record) else None
            if not isinstance(record, Record) or family is None or record.user_id != user_id:
                return False
            if jti in family.revoked:
                await self._announce(jti, now)  # the first time it may not have come to that
                return False
            smaller = families.without(family, jti, until, now)
            if smaller is None:
                return await self._end(record, now)
            following = drafts.following(
                record, self._ids.version(), families.encoded(smaller), record.seen_at,
                idle=record.deadline - record.seen_at, lifetime=record.lifetime,
            )  # fmt: skip
            outcome, _lasts = await self._commands.write(following, record.versions[0], None, False, now)
            if outcome is SAVED:
                await self._announce(jti, now)
                self._tell("tokens.revoked", record, now)
                return True
        raise StoreUnavailable(f"another writer was first {ATTEMPTS} times in a row; try again later")

    async def _announce(self, jti: str, now: float) -> None:
        """Have the store tell everybody who watches: of the end of a session that had this name."""
        bell = Record(jti, (self._ids.version(),), b"", b"{}", now, now, now + 60, now + 60)
        await self._commands.insert(bell, None, now)
        await self._commands.delete(jti, now, self._ids.version(), None)

    async def revoke(self, token: str, *, client_id: str | None = None) -> bool:
        """End the family of a refresh token (RFC 7009). Returns whether there was one; whoever asks need not know.

        Raises InvalidToken if it is another client's: nothing is ended then.
        """
        try:
            presented, now = families.parse(token), self._clock()
            record, family = await self._family(presented, now)
        except InvalidToken:
            return False
        if families.worth(record, family, presented, now, self.times.grace) is Worth.FOREIGN:
            return False
        if client_id is not None and client_id != family.client_id:
            raise InvalidToken("client")
        return await self._end(record, now)

    async def _family(self, presented: families.Presented, now: float) -> tuple[Record, Family]:
        found = await self._commands.session(presented.locator, now)
        if not isinstance(found, Record):
            raise InvalidToken("revoked" if found is not None else "unknown")
        family = families.family_of(found)
        if family is None or found.user_id is None:
            raise InvalidToken("unknown")
        return found, family

    async def _reused(self, record: Record, now: float) -> NoReturn:
        await self._end(record, now)
        self._tell("tokens.reused", record, now)
        raise InvalidToken("reused")

    async def _end(self, record: Record, now: float) -> bool:
        return await self._commands.delete(record.key, now, self._ids.version(), None)

    def _pair(self, record: Record, family: Family, secret: str, part: str, now: float) -> Pair:
        return Pair(
            self._access(record, family, now),
            int(self.times.access),
            f"{record.key}.{secret!s}.{part!s}",
            family.scope,
            "DPoP" if family.jkt else "Bearer",
        )

    def _access(self, record: Record, family: Family, now: float) -> str:
        key = self._keys.at(now).signer
        start = self._prefixes.get(key.kid)
        if start is None:
            start = self._prefixes[key.kid] = jws.prefix(key, typ=TYPE)
        claims = {
            **family.claims,
            "iss": self._issuer, "sub": record.user_id, "aud": family.audience or self._audience,
            "exp": int(now + self.times.access), "iat": int(now), "jti": secrets.token_urlsafe(12),
            "client_id": family.client_id, "sid": record.key,
        }  # fmt: skip
        if family.scope:
            claims["scope"] = family.scope
        if record.proved_at is not None:
            claims["auth_time"] = int(record.proved_at)
        if family.amr:
            claims["amr"] = family.amr
        if family.jkt:
            claims["cnf"] = {"jkt": family.jkt}
        return jws.sign_under(start, key, msgspec.json.encode(claims))

    def _tell(self, name: EventName, record: Record, now: float) -> None:
        self._on_event(Event(name, record.key, record.user_id, "", now))


def _is_anothers(family: Family, client_id: str | None, jkt: str | None) -> bool:
    """Whether a refresh token comes from somebody else than it was given to (checklist 164, 168, 183)."""
    return (client_id is not None and client_id != family.client_id) or (
        bool(family.jkt) and jkt is not None and jkt != family.jkt
    )


def _narrowed(family: Family, scope: str | None) -> Family:
    """The family with the scope of this one request. Raises InvalidToken for more than was granted (RFC 6749 section 6)."""
    if scope is None:
        return family
    if not set(scope.split()) <= set(family.scope.split()):
        raise InvalidToken("scope")
    return msgspec.structs.replace(family, scope=scope)
