"""What decides how sessions live, checked when it is made: express-session's words where they mean something here."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from inspect import iscoroutinefunction
from typing import Any, Literal, cast

from coatcheck.core.adoption import Olds, OldSessions
from coatcheck.core.clients import NewDevice
from coatcheck.core.events import Listener, listening, log
from coatcheck.core.identity import Identity
from coatcheck.core.merge import Resolver
from coatcheck.core.policy import Timeouts, duration
from coatcheck.core.rates import Rate, rate
from coatcheck.core.typed import Schema
from coatcheck.errors import ConfigurationError

__all__ = ["Options"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """The rules of a session's life, for every store and framework alike."""

    timeouts: Timeouts = field(default_factory=Timeouts)
    resave: bool = False
    """Write at the end of every request, changed or not; still over the version that was loaded, so old data never
    comes back.
    """
    save_uninitialized: bool = False
    """Store a new session though nothing was put into it. Every visit of every robot then costs a record."""
    rolling: bool = False
    """Send the cookie, and move the deadline, on every response."""
    unset: Literal["keep", "destroy"] = "keep"
    """What setting the request's session to None means: keep what is stored, or end it."""
    genid: Callable[[], str] | None = None
    """Makes the locator: 16 to 128 of `A-Za-z0-9_-`. The verifier stays ours, so a weak one costs collisions, never a
    login.
    """
    schema: type[Any] | None = None
    """A msgspec Struct, dataclass or pydantic model for `session.data`."""
    merge: Mapping[str, Resolver] = field(default_factory=dict)
    """Key -> (base, theirs, mine) -> value: settles two changes of the same key."""
    on_conflict: Literal["later", "raise"] = "later"
    """Two assignments to the same value: the later commit wins (event session.conflict), or SessionConflict (HTTP
    409).
    """
    login_keeps: Collection[str] | None = None
    """Keys that an anonymous session may carry into a login (checklist 55); None: all of them."""
    max_sessions: int | None = None
    """At most so many sessions of one user."""
    at_limit: Literal["evict_oldest", "deny"] = "evict_oldest"
    keep_client: Literal["network", "full", "nothing"] = "network"
    """What a login keeps of where it came from, for device lists: the browser and the address cut to its network, the whole
    address, or neither. Anonymous sessions keep neither.
    """
    forget_client: str | float | timedelta | None = None
    """So long after the login, browser and address are no longer shown, and are gone with the next write. "7d", or seconds."""
    client_change: Literal["tell", "reauthenticate", "logout"] = "tell"
    """When a session comes from another browser or network than its login: event client.changed; nothing is proved until
    `session.reauthenticate()`; or the session ends. The last two look at every request.
    """
    on_new_device: Callable[[NewDevice], object] | None = None
    """Called after a login from a browser or network that no other session of the user has: to write to them. A login then
    costs a look at their sessions.
    """
    ends_by: datetime | None = None
    """No session lives beyond this moment, which has a time zone. `CookieSettings(expires=…)` sets it."""
    max_created: str | Rate | None = None
    """Anonymous sessions that may be begun from one address in a time, such as "300/hour" (checklist 123); more is HTTP 429.
    None: as many as there are. It costs a command for each session that is begun, and none for any other request.
    """
    max_strange: str | Rate | None = None
    """Forged and unknown ids that may come from one address in a time, such as "60/minute"; requests with more of them that use
    their session get HTTP 429. Counted in each process by itself.
    """
    max_size: int = 1_000_000
    """Octets of encoded data one session may hold (checklist 124)."""
    on_event: Listener | Sequence[Listener] = log
    """Told of every event: a function, or several. docs/events.md has the events."""
    identity: Identity | None = None
    """Keys that stand for the login, such as `UserKey("user")`: where the application, or its framework, keeps it under."""
    adopt: OldSessions | Sequence[OldSessions] | None = None
    """Sessions of the library that was here before, to go on with: one kind or several, of `coatcheck.adoption`."""
    on_store_error: Literal["fail", "anonymous"] = "fail"
    """When the store cannot be reached: HTTP 503, or go on without a session. docs/stores/outages.md has the small print."""

    def __post_init__(self) -> None:
        if not isinstance(self.timeouts, Timeouts):
            raise ConfigurationError(
                f"timeouts={self.timeouts!r}: give coatcheck.Timeouts(idle=…, absolute=…)"
            )
        for name in ("resave", "save_uninitialized", "rolling"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigurationError(f"{name}={getattr(self, name)!r}: give True or False")
        _one_of("unset", self.unset, ("keep", "destroy"))
        _one_of("on_conflict", self.on_conflict, ("later", "raise"))
        _one_of("at_limit", self.at_limit, ("evict_oldest", "deny"))
        _one_of("on_store_error", self.on_store_error, ("fail", "anonymous"))
        _one_of("keep_client", self.keep_client, ("network", "full", "nothing"))
        _one_of("client_change", self.client_change, ("tell", "reauthenticate", "logout"))
        if self.client_change != "tell" and self.keep_client == "nothing":
            raise ConfigurationError(
                f"client_change={self.client_change!r} compares what keep_client='nothing' does not keep: give one of them"
            )
        if iscoroutinefunction(self.on_new_device):
            raise ConfigurationError(
                "on_new_device is `async def`: give a plain function that hands the NewDevice to your mail queue"
            )
        for name in ("genid", "on_new_device"):
            if getattr(self, name) is not None and not callable(getattr(self, name)):
                raise ConfigurationError(f"{name}={getattr(self, name)!r}: give a function")
        if not _are_functions(self.merge):
            raise ConfigurationError(
                f"merge={self.merge!r}: give a dict of keys and functions (base, theirs, mine)"
            )
        if self.login_keeps is not None and not _is_keys(self.login_keeps):
            raise ConfigurationError(
                f"login_keeps={self.login_keeps!r}: give a collection of keys, such as {{'cart'}}"
            )
        if self.identity is not None and not isinstance(self.identity, Identity):
            raise ConfigurationError(
                f"identity={self.identity!r}: give coatcheck.UserKey(…), or an object with keys, read, write and remove"
            )
        end: object = self.ends_by
        if end is not None and not (isinstance(end, datetime) and end.utcoffset() is not None):
            raise ConfigurationError(f"ends_by={end!r}: give a datetime with a time zone, such as tzinfo=UTC")
        for name in ("max_sessions", "max_size"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ConfigurationError(f"{name}={value!r}: give a whole number from 1")
        for name in ("max_created", "max_strange"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, rate(getattr(self, name), setting=name))
        forget = self.forget_client
        object.__setattr__(
            self, "_forget", None if forget is None else duration(forget, setting="forget_client")
        )
        object.__setattr__(self, "_schema", None if self.schema is None else Schema(self.schema))
        object.__setattr__(self, "_olds", _olds(self.adopt))
        object.__setattr__(self, "on_event", listening(self.on_event))

    @property
    def typed(self) -> Schema | None:
        return self._schema  # type: ignore[attr-defined, no-any-return]  # set above; not a setting

    @property
    def tell(self) -> Listener:
        """Tells all that `on_event` names, and never raises."""
        return cast(Listener, self.on_event)  # made one above

    @property
    def forget_client_after(self) -> float | None:
        """`forget_client` in seconds."""
        return self._forget  # type: ignore[attr-defined, no-any-return]  # set above; not a setting

    @property
    def olds(self) -> Olds | None:
        """What is adopted; None: nothing."""
        return self._olds  # type: ignore[attr-defined, no-any-return]  # set above; not a setting


def _olds(adopt: object) -> Olds | None:
    if adopt is None or adopt == [] or adopt == ():
        return None
    kinds: list[Any] = list(adopt) if isinstance(adopt, Sequence) and not isinstance(adopt, str) else [adopt]
    for kind in kinds:
        if isinstance(kind, type) or not isinstance(kind, OldSessions):
            what = kind.__name__ if isinstance(kind, type) else repr(kind)
            raise ConfigurationError(
                f"adopt={what}: give one of coatcheck.adoption, such as FlaskCookie(secret_key=…), or a list of them"
            )
    return Olds(kinds)


def _are_functions(value: object) -> bool:
    return isinstance(value, Mapping) and all(map(callable, value.values()))


def _is_keys(value: object) -> bool:
    return (
        isinstance(value, Collection)
        and not isinstance(value, str)
        and all(type(key) is str for key in value)
    )


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigurationError(f"{name}={value!r}: give one of {', '.join(map(repr, allowed))}")
