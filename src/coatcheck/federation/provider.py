"""One OpenID Connect provider: logins that its sessions bound, and the end of both.

Theory of operation. A login keeps the provider's `sid`. A logout token names a `sid`, or a user (`sub`), or both; its `jti` is
counted in the store before anything is ended, so of the same token twice one counts, whichever process it comes to. If ending
fails, the count is taken back, so that the provider may send it again.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from inspect import isawaitable, iscoroutine
from typing import Any, Final

from coatcheck.bearer.http import answered, is_awaiting
from coatcheck.core.events import Event, EventName
from coatcheck.core.policy import duration
from coatcheck.core.ports import Tallies
from coatcheck.core.session import BaseSession, UserId, user_text
from coatcheck.core.stepping import run_now
from coatcheck.errors import ConfigurationError, InvalidToken, LoginRefused, StoreError, UsageError, WrongFace
from coatcheck.faces import AsyncSession, Session
from coatcheck.federation.logout_token import LogoutClaims, LogoutTokenVerifier
from coatcheck.flows import Flows, shielded
from coatcheck.tokens.keys import Keys

__all__ = ["Provider", "Served", "UserOf"]

Served = Session[Any] | AsyncSession[Any]
UserOf = Callable[[Mapping[str, Any]], UserId | Awaitable[UserId | None] | None]
_METHOD: Final = "federated"
"""How the user of a login proved who they are, where the provider does not say."""


class Provider:
    """One provider, as this application trusts it.

    keys          its keys: `RemoteKeys(jwks_uri)`. Call their `refresh()` when your application starts: a logout token that comes
                  before they are there is refused
    issuer        what it calls itself
    client_id     what it calls this application
    user_of       your id of the user whom claims with `iss` and `sub`, or only a `sid`, are about; None: nobody's. By default the
                  `sub`; with more than one provider, or users of your own beside, give one: a `sub` is unique to its provider
    max_age       how old the user's proof may be when a session begins here; then the provider has to say `auth_time`
    lasts         how long a session of the provider lasts: one here ends so long after `auth_time`
    max_lifetime  longest time from iat to exp of a logout token
    leeway        how wrong a clock may be, at most 60 seconds

    Raises ConfigurationError. Checklist 77, 82, 83.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        issuer: str,
        client_id: str,
        user_of: UserOf | None = None,
        max_age: str | float | timedelta | None = None,
        lasts: str | float | timedelta | None = None,
        max_lifetime: str | float | timedelta = "1h",
        leeway: str | float | timedelta = 10,
    ) -> None:
        self.verifier = LogoutTokenVerifier(
            keys, issuer=issuer, client_id=client_id, max_lifetime=max_lifetime, leeway=leeway
        )
        if user_of is not None and not callable(user_of):
            raise ConfigurationError(
                f"user_of={user_of!r}: give a function from claims to your id of the user"
            )
        self._user_of: UserOf = user_of or _sub
        self._max_age = None if max_age is None else duration(max_age, setting="max_age")
        self._lasts = None if lasts is None else duration(lasts, setting="lasts")

    def __repr__(self) -> str:
        return f"<Provider {self.verifier.issuer!r}>"

    # ---- a login

    def log_in(
        self,
        session: BaseSession,
        claims: Mapping[str, Any],
        *,
        user_id: UserId | None = None,
        remember: bool = False,
        ends_by: float | datetime | None = None,
    ) -> None:
        """Make this the session of the user of an ID token, which your client library has VERIFIED: these are its claims.

        `user_id` is your id of the user, where `user_of` has to wait for it or they have just registered. `ends_by` is when the
        provider's session ends, if you know; else `lasts` says. Raises LoginRefused, and nobody is logged in: `reason` is
        "auth_time" if the proof is older than `max_age`, or nobody knows how old (send the user back with `max_age` or
        `prompt=login`), "ended" if the provider's session is over, "claims" if the token is another's or about nobody here.
        """
        now = session._moment()
        user = self._user(claims) if user_id is None else user_text(user_id)
        if (
            user is None
            or claims.get("iss") != self.verifier.issuer
            or not self.verifier.is_for_us(claims.get("aud"))
        ):
            raise LoginRefused(
                "the claims are not of an ID token of this provider, for us, about a user of ours", "claims"
            )
        proved = self._proved(claims, now)
        sid = claims.get("sid")
        session.login(
            user,
            method=_methods(claims.get("amr")),
            remember=remember,
            auth_time=proved,
            provider_session=sid if isinstance(sid, str) else "",
            ends_by=self._ends_by(proved, now) if ends_by is None else ends_by,
        )

    def _user(self, claims: Mapping[str, Any]) -> str | None:
        found = self._user_of(claims)
        if isawaitable(found):
            if iscoroutine(found):
                found.close()
            raise UsageError("user_of is async: await it yourself, and give log_in(…, user_id=…)")
        return None if found is None else user_text(found)

    def _proved(self, claims: Mapping[str, Any], now: float) -> float | None:
        """When the user proved who they are; None if nobody says, and nobody has to."""
        at: Any = claims.get("auth_time")
        if type(at) in (int, float) and 0 <= at <= now + self.verifier.leeway:
            if self._max_age is not None and now - at > self._max_age + self.verifier.leeway:
                raise LoginRefused("the provider's proof of who this is, is older than max_age", "auth_time")
            return min(float(at), now)
        if at is not None or self._max_age is not None:
            raise LoginRefused(
                "the provider does not say when the user proved who they are (auth_time)", "auth_time"
            )
        return None

    def _ends_by(self, proved: float | None, now: float) -> float | None:
        return None if self._lasts is None else (now if proved is None else proved) + self._lasts

    # ---- a logout

    async def log_out(self, session: Served, logout_token: object) -> int:
        """End what a logout token names: the sessions here of that session of the provider, or all of that user. Returns how
        many; 0 if they had ended already, which is well. `session` is that of the provider's own request, for the store it is in.

        Raises InvalidToken for one that is not genuine, or came before (`reason` is for the log), and StoreError.
        """
        flows = getattr(session, "_aflows", session._flows)
        return await shielded(self._log_out(flows, logout_token))

    def log_out_now(self, session: Session[Any], logout_token: object) -> int:
        """The same, in sync code."""
        if is_awaiting(self._user_of):
            raise WrongFace("user_of is async, and sync code cannot wait for it: give a plain function")
        return run_now(self._log_out(session._flows, logout_token))

    async def _log_out(self, flows: Flows, token: object) -> int:
        now = flows.clock.time()
        try:
            claims = self.verifier.verify(token, now)
            user = await self._named(claims)
            return await self._once(flows, claims, user, now)
        except InvalidToken as error:
            _tell(flows, "logout.refused", error.reason)
            raise
        except StoreError as error:
            _tell(flows, "store.down", f"back-channel logout: {error}")
            raise

    async def _named(self, claims: LogoutClaims) -> str | None:
        about = {"iss": claims.iss, "sub": claims.sub, "sid": claims.sid}
        if claims.sub is None and self._user_of is _sub:
            raise InvalidToken("sub")  # a sid alone names a user only to whom it was written down
        found = await answered(
            self._user_of({name: value for name, value in about.items() if value is not None})
        )
        return None if found is None else user_text(found)

    async def _once(self, flows: Flows, claims: LogoutClaims, user: str | None, now: float) -> int:
        """End it, if this token has not ended it before."""
        tallies: Tallies = flows._ability(Tallies, "has counters: they tell a logout token that came before")
        name = sha256(f"{claims.iss} {claims.jti}".encode()).hexdigest()  # no issuer has a space in it
        key = f"logout:{name}"
        window = max(1.0, claims.exp + self.verifier.leeway - now)
        if (await tallies.tally(key, window=window, now=now)).total > 1:
            raise InvalidToken("replayed")
        try:
            return 0 if user is None else await self._end(flows, user, claims.sid)
        except StoreError:
            await tallies.end_tally(key)  # nothing came of it: the provider may try again
            raise

    async def _end(self, flows: Flows, user: str, sid: str | None) -> int:
        if sid is None:
            return (await flows.end_user(user, None)).count
        ended = 0
        for device in await flows.devices(user):
            if device.provider_session == sid:
                ended += await flows.end_one(user, device.handle)
        return ended


def _sub(claims: Mapping[str, Any]) -> str | None:
    sub = claims.get("sub")
    return sub if isinstance(sub, str) and sub else None


def _methods(amr: object) -> tuple[str, ...]:
    """The methods that the provider names, as far as they are names."""
    given = amr if isinstance(amr, list | tuple) else ()
    return tuple(name for name in given if isinstance(name, str) and 0 < len(name) <= 64) or (_METHOD,)


def _tell(flows: Flows, name: EventName, detail: str) -> None:
    flows.options.tell(Event(name, detail=detail, at=flows.clock.time()))
