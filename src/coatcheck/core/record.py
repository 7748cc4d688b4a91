"""The frozen row that a store keeps for one session.

A store sees records, never sessions. Everything here is a value: to change a record is to write another one over the
version that was read (PROTOCOL rule 7). Times are seconds since the epoch, as floats.

Nothing here can be part of a cycle, so the garbage collector is told not to look (`gc=False`): a memory store of many
sessions would be walked through at every full collection.
"""

from typing import Final, Literal

import msgspec

__all__ = [
    "PENDING_FOR",
    "REMEMBERED",
    "Ended",
    "Expired",
    "Lifetime",
    "Login",
    "PendingLogin",
    "Record",
    "Renewal",
]

REMEMBERED: Final = "remembered"
"""The method of a login that proves nothing: a cookie for "remember me" said who it is. Nobody typed a password."""

PENDING_FOR: Final = 600.0
"""Seconds for which a login may wait for its next factor."""

VERSIONS_KEPT = 16
"""How many writers' tokens a record remembers, so that a retry after a lost reply recognises its own write (rule 7)."""


class Login(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """How the user of this session was authenticated, and from where (shown in device lists)."""

    method: str = "pwd"
    remember: bool = False
    user_agent: str = ""
    address: str = ""
    amr: tuple[str, ...] = ()
    """Every method, where there were several (RFC 8176): `method` is the first."""
    auth_time: float | None = None
    """When the user proved who they are, where that was elsewhere and earlier: at a provider. None: at this login."""
    provider_session: str = ""
    """The session of the provider that this login came from: `sid` of OpenID Connect."""
    ends_by: float | None = None
    """When that ends: no later does this one, also after a step-up."""

    @property
    def methods(self) -> tuple[str, ...]:
        """How the user proved who they are; nothing for a login that was only remembered."""
        return self.amr or (() if self.method == REMEMBERED else (self.method,))


class PendingLogin(msgspec.Struct, frozen=True, gc=False):
    """A login that lacks a factor (checklist 56): of a type and in a place of its own, so that nothing can take it for one."""

    user_id: str
    methods: tuple[str, ...]
    remember: bool
    at: float
    """When it began, in seconds since the epoch."""
    tries: int = 0
    """How many second factors were tried: `try_factor()`."""

    def __repr__(self) -> str:
        return f"<PendingLogin of {self.user_id!r} by {self.methods}>"


class Lifetime(msgspec.Struct, frozen=True, gc=False):
    """This session's own lifetime, in place of the configured one: `session.cookie.max_age`, or remember-me."""

    idle: float | None
    """Idle timeout in seconds; None: the configured one."""
    persistent: bool
    """Whether the browser keeps the cookie when it closes (Max-Age is sent)."""
    until: float | None = None
    """In place of an idle timeout: when it ends, seen or not, but not after the absolute timeout."""


class Renewal(msgspec.Struct, frozen=True, gc=False):
    """What a renewal by age leaves behind, so that requests in flight can finish on the previous verifier (rule 3)."""

    previous: bytes
    """SHA-256 of the verifier before."""
    nonce: str
    """With the previous verifier, and only with it, this yields the successor: `ids.successor`."""
    at: float
    seen_at: float | None = None
    """When the successor was first seen; from then the previous verifier has only seconds to live."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """One stored session. `versions[0]` is the version that `replace(expected=…)` compares."""

    key: str
    versions: tuple[str, ...]
    verifier: bytes
    data: bytes
    created_at: float
    seen_at: float
    deadline: float
    """The idle deadline, never later than `ends_at`. At or after it the session is gone."""
    ends_at: float
    """The absolute deadline."""
    epoch: int = 0
    """Raised by login, logout and change of privilege; a request of an older epoch has its changes dropped."""
    rotated_at: float | None = None
    """When the epoch was last raised: verifiers from before are detached for a minute, then worth nothing."""
    user_id: str | None = None
    authenticated_at: float | None = None
    login: Login | None = None
    renewal: Renewal | None = None
    lifetime: Lifetime | None = None
    format: int = 1
    era: int = 0
    """The era the session began in, or was last logged in; the next one ends everybody's sessions (`coatcheck.eras`)."""

    pending: PendingLogin | None = None

    @property
    def version(self) -> str:
        return self.versions[0]

    @property
    def proved_at(self) -> float | None:
        """When the user last proved who they are; None also for a login that was only remembered."""
        login = self.login
        if login is None or self.authenticated_at is None:
            return self.authenticated_at
        if login.method == REMEMBERED:
            return None
        return (
            self.authenticated_at if login.auth_time is None else min(login.auth_time, self.authenticated_at)
        )

    def __repr__(self) -> str:
        return f"<Record {self.key} of {self.user_id!r}, {len(self.data)} bytes>"


class Ended(msgspec.Struct, frozen=True, gc=False):
    """A tombstone: this session was ended less than a minute ago, so a request that still carries it is late, not unknown."""

    key: str
    token: str
    """The deleter's own token: a retried delete recognises itself (rule 8)."""
    at: float


class Expired(msgspec.Struct, frozen=True, gc=False):
    """What a store may say in place of nothing, while it still has what is over: for whoever is told of events. It opens nothing,
    and is treated as nothing is.
    """

    key: str
    user_id: str | None = None
    why: Literal["idle", "absolute"] = "idle"
    """Which deadline came first."""

    @classmethod
    def of(cls, key: str, user_id: object, deadline: object, ends_at: object) -> "Expired":
        """From what a store has, of which nothing is relied upon: it may be anything that somebody wrote there."""
        over = type(deadline) is float and type(ends_at) is float and deadline >= ends_at
        return cls(key, user_id if type(user_id) is str else None, "absolute" if over else "idle")
