"""express-session's options in Python spelling, checked when they are given (semantics 9). Times are milliseconds, as there."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

from coatcheck.core.events import Listener, listening, log
from coatcheck.core.merge import Resolver
from coatcheck.core.origin import Arrival, Proxy, TrustedProxies, origin, trusted_proxies
from coatcheck.dialects.express.cookie import CookieOptions
from coatcheck.dialects.express.signed import Secrets
from coatcheck.errors import ConfigurationError
from coatcheck.flows import Clock

__all__ = ["Options", "uid"]

_NAME: Final = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
"""What a cookie's name consists of: a token of RFC 9110 section 5.6.2."""
_SECURE: Final = ("https", "wss")


def uid() -> str:
    """An id as express-session makes them: 24 random bytes, base64url (semantics 2.2)."""
    return secrets.token_urlsafe(24)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `express_sessions` takes beside the store."""

    secret: str | bytes | Sequence[str | bytes] = field(repr=False)
    """The Express application's secret, or several: the first signs, all verify."""
    name: str = "connect.sid"
    """The cookie's name."""
    cookie: CookieOptions | Callable[[Arrival], CookieOptions] = field(default_factory=CookieOptions)
    """The cookie of sessions that begin here, or a function of the request that gives it."""
    genid: Callable[[], str] = uid
    """Makes ids. They are all that protects a session: at least 128 random bits."""
    resave: bool = False
    """Write at the end of every request, changed or not."""
    save_uninitialized: bool = False
    """Store a new session, and send its cookie, though nothing was put into it."""
    rolling: bool = False
    """Send the cookie on every response."""
    unset: Literal["keep", "destroy"] = "keep"
    """What setting the request's session to None means: keep what is stored, or destroy it."""
    proxy: Proxy = None
    """Whose X-Forwarded-Proto says how a request came: True (anybody's, as in Express), or the proxies' addresses."""
    merge: Mapping[str, Resolver] = field(default_factory=dict)
    """Key -> (base, theirs, mine) -> value: settles two changes of the same key."""
    on_event: Listener | Sequence[Listener] = log
    """Told of every event: docs/events.md has them."""
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        name: object = self.name
        if not isinstance(name, str) or not name or not _NAME.issuperset(name):
            raise ConfigurationError(f"name={name!r}: give a cookie name, such as 'connect.sid'")
        for flag in ("resave", "save_uninitialized", "rolling"):
            if not isinstance(getattr(self, flag), bool):
                raise ConfigurationError(f"{flag}={getattr(self, flag)!r}: give True or False")
        if self.unset not in ("keep", "destroy"):
            raise ConfigurationError(f"unset={self.unset!r}: give 'keep' or 'destroy'")
        if not callable(self.genid):
            raise ConfigurationError(f"genid={self.genid!r}: give a function that makes ids")
        if not isinstance(self.cookie, CookieOptions) and not callable(self.cookie):
            raise ConfigurationError(
                f"cookie={self.cookie!r}: give CookieOptions(…), or a function that returns one"
            )
        if not isinstance(self.clock, Clock):
            raise ConfigurationError(f"clock={self.clock!r}: give coatcheck.Clock(time=…)")
        object.__setattr__(self, "_secrets", Secrets(self.secret))
        object.__setattr__(self, "_proxies", trusted_proxies(self.proxy))
        object.__setattr__(self, "on_event", listening(self.on_event))

    @property
    def secrets(self) -> Secrets:
        """What signs and verifies."""
        return cast(Secrets, self._secrets)  # type: ignore[attr-defined]  # set above; not a setting

    @property
    def tell(self) -> Listener:
        """Tells all that `on_event` names, and never raises."""
        return cast(Listener, self.on_event)

    def cookie_for(self, arrival: Arrival) -> CookieOptions:
        """The cookie that a session begun by this request gets. Raises ConfigurationError if the function returns none."""
        if isinstance(self.cookie, CookieOptions):
            return self.cookie
        made: object = self.cookie(arrival)
        if not isinstance(made, CookieOptions):
            raise ConfigurationError(
                f"cookie=…: the function returned a {type(made).__name__}: let it return CookieOptions(…)"
            )
        return made

    def new_id(self) -> str:
        """A fresh id. Raises ConfigurationError for what `genid` should not return."""
        sid: Any = self.genid()
        if not isinstance(sid, str) or not sid:
            raise ConfigurationError(
                "genid must return a text that is not empty; leave it out for a good default"
            )
        return sid

    def is_secure(self, arrival: Arrival) -> bool:
        """Whether a request came over HTTPS (semantics 3.1)."""
        if arrival.scheme in _SECURE:
            return True
        if (
            self.proxy is True
        ):  # the client's own claim, if it comes through a proxy that adds to what is there: as in Express
            return arrival.forwarded_proto.partition(b",")[0].strip().lower() == b"https"
        proxies: TrustedProxies | None = self._proxies  # type: ignore[attr-defined]  # set above; not a setting
        return proxies is not None and origin(arrival, proxies).scheme in _SECURE
