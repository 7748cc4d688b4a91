"""What a sensitive act asks of a login: that it is recent, or that it was made by a strong method. Framework-free.

A framework's own file turns the `Refused` into its own kind of answer; what is asked, and what the answer says, is here, once
(ASVS 7.5.3, checklist 74 and 81).
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from coatcheck.core import policy
from coatcheck.errors import ConfigurationError
from coatcheck.faces import AsyncSession, Session

__all__ = [
    "NOT_LOGGED_IN",
    "Needs",
    "Refused",
    "by_method",
    "decorators",
    "duration",
    "proved_within",
    "recent",
]

Served = Session[Any] | AsyncSession[Any]
V = TypeVar("V", bound=Callable[..., Any])


class Decorator(Protocol):
    """What puts a guard before a view, and leaves its type as it is."""

    def __call__(self, view: V, /) -> V: ...


class RecentLogin(Protocol):
    """`recent_login` of a framework."""

    def __call__(self, within: str | timedelta) -> Decorator: ...


class RequireMethod(Protocol):
    """`require_method` of a framework."""

    def __call__(self, *methods: str) -> Decorator: ...


class Refused(NamedTuple):
    """The answer in place of the act: what to send as JSON, for a person's page to act on."""

    status: int
    detail: Mapping[str, Any]


NOT_LOGGED_IN: Final = Refused(401, {"error": "login_required"})


class Needs(NamedTuple):
    """What is asked: a login proved within this time, by one of these methods."""

    within: timedelta | None = None
    methods: tuple[str, ...] = ()

    def refusal(self, session: Served) -> Refused | None:
        """Why this session will not do; None: it will. The session is loaded."""
        if session.user_id is None:
            return NOT_LOGGED_IN
        if self.within is not None and not proved_within(session, self.within):
            return Refused(403, {"error": "reauth_required", "max_age": int(self.within.total_seconds())})
        if self.methods and not set(self.methods) & set(session.amr):
            return Refused(403, {"error": "step_up_required", "methods": list(self.methods)})
        return None


def recent(within: str | timedelta) -> Needs:
    """A login proved within this time. Raises ConfigurationError for a time that cannot be read."""
    return Needs(within=duration(within))


def by_method(*methods: str) -> Needs:
    """A login by one of these methods at least. Raises ConfigurationError for none."""
    if not methods or not all(type(method) is str and method for method in methods):
        raise ConfigurationError(
            f'RequireMethod{methods!r}: give one or several names that login(method=…) was given, such as "otp", "hwk"'
        )
    return Needs(methods=methods)


def duration(within: str | timedelta) -> timedelta:
    """How recent a login must be. Raises ConfigurationError for a time that cannot be read, and for a number without a unit."""
    given: object = within
    if not isinstance(given, str | timedelta):
        raise ConfigurationError(
            f"RecentLogin({given!r}): give a time with its unit, such as '10m', or a timedelta"
        )
    return timedelta(seconds=policy.duration(given, setting="RecentLogin"))


def proved_within(session: Served, limit: timedelta) -> bool:
    """Whether the user has proved within this time who they are, and nothing has cast doubt on it since."""
    proved = session.authenticated_at
    return proved is not None and datetime.fromtimestamp(session._flows.clock.time(), UTC) - proved <= limit


def decorators(needing: Callable[[Needs], Decorator]) -> tuple[RecentLogin, RequireMethod]:
    """`recent_login` and `require_method` of a framework, whose `needing` puts what is asked before a view."""

    def recent_login(within: str | timedelta) -> Decorator:
        """A decorator for sensitive acts (ASVS 7.5.3): who the user is must have been proved within this time, "10m", say.

        Otherwise the view is not called: 401 without a login, 403 with `{"error": "reauth_required"}` as JSON if it was longer
        ago, or only remembered. Raises ConfigurationError at start-up for a time it cannot read.
        """
        return needing(recent(within))

    def require_method(*methods: str) -> Decorator:
        """A decorator: the login was made, or made stronger since, by one of these methods, such as "otp" or "hwk".

        Otherwise the view is not called: 401 without a login, 403 with `{"error": "step_up_required"}` as JSON.
        """
        return needing(by_method(*methods))

    return recent_login, require_method
