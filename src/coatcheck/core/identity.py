"""One login, spelled in a framework's own words: keys of the session's data that stand for `session.user_id`. Pure.

Flask-Login keeps the user under `_user_id`, Django under `_auth_user_id`, an application of its own making under `user`. With an
identity such a key is a view of the one login that every framework shares: to read it is to read `user_id`, to assign it is
`login()`, to delete it is `logout()`. It is never stored among the data, so it cannot say anything else than the record does.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

from coatcheck.core.merge import MISSING
from coatcheck.core.session import OF_LOGIN, BaseSession, UserId
from coatcheck.errors import ConfigurationError, UsageError

__all__ = ["Carries", "Identity", "UserKey", "identified", "identity_of"]

S = TypeVar("S", bound=BaseSession)


@runtime_checkable
class Identity(Protocol):
    """The keys a framework knows a login by, and what reading, assigning and deleting one comes to."""

    @property
    def keys(self) -> Collection[str]:
        """The keys it speaks for. They are never stored."""

    def read(self, session: BaseSession, key: str) -> Any:
        """What is under the key, or `MISSING`."""

    def write(self, session: BaseSession, key: str, value: Any) -> None:
        """What assigning it means."""

    def remove(self, session: BaseSession, key: str) -> None:
        """What deleting it means; asked only if something is there."""


@runtime_checkable
class Carries(Protocol):
    """An identity that knows more of a login than who it is, and keeps that when a session of the framework's own is adopted."""

    def carried(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """What to store of the old session's data, under keys that begin with `OF_LOGIN`."""


class UserKey:
    """`session[key]` is the login.

    key         the key that the application, or its framework, keeps the user under
    to_user_id  makes the user id of what is assigned; a str, an int or a UUID is one already
    from_user_id  makes what is read of the user id, which is text: `int` where the application expects a number
    method      what `session.login()` records as the way the user logged in

    Assigning the user who is logged in already changes nothing, since some write it on every request; whoever proved anew who
    they are says `session.login(…)`. Deleting it logs out and keeps the other keys, in a session of their own.
    """

    __slots__ = ("_from", "_method", "_to", "key", "keys")

    def __init__(
        self,
        key: str,
        *,
        to_user_id: Callable[[Any], UserId] | None = None,
        from_user_id: Callable[[str], Any] | None = None,
        method: str = "pwd",
    ) -> None:
        name: object = key
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"UserKey({key!r}): give the key that the user is kept under")
        for name, function in (("to_user_id", to_user_id), ("from_user_id", from_user_id)):
            if function is not None and not callable(function):
                raise ConfigurationError(f"UserKey({name}={function!r}): give a function")
        self.key, self.keys, self._method = key, frozenset({key}), method
        self._to, self._from = to_user_id, from_user_id

    def read(self, session: BaseSession, key: str) -> Any:
        user_id = session.user_id
        if user_id is None:
            return MISSING
        return user_id if self._from is None else self._from(user_id)

    def user_id_of(self, value: Any) -> UserId:
        """The user id that is meant by assigning this."""
        user_id: UserId = value if self._to is None else self._to(value)
        return user_id

    def write(self, session: BaseSession, key: str, value: Any) -> None:
        user_id = self.user_id_of(value)
        if session.user_id is None or str(user_id) != session.user_id:
            session.login(user_id, method=self._method)

    def remove(self, session: BaseSession, key: str) -> None:
        session._sign_out()


class _Identified(BaseSession):
    """A session some of whose keys are views of its login."""

    _identity: Identity

    def get(self, key: str, default: Any = None) -> Any:
        if key not in self._identity.keys:
            return super().get(key, default)
        value = self._identity.read(self, key)
        return default if value is MISSING else value

    def __contains__(self, key: object) -> bool:
        if key not in self._identity.keys:
            return super().__contains__(key)
        return self._identity.read(self, str(key)) is not MISSING

    def _keys(self) -> list[str]:
        mine = self._identity.keys
        stored = [key for key in super()._keys() if key not in mine and not key.startswith(OF_LOGIN)]
        return [*(key for key in mine if key in self), *stored]

    def __setitem__(self, key: str, value: Any) -> None:
        if key in self._identity.keys:
            self._identity.write(self, key, value)
        else:
            super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        if key not in self._identity.keys:
            super().__delitem__(key)
        elif key not in self:
            raise KeyError(key)
        else:
            self._identity.remove(self, key)

    def apply(self, key: str, function: Callable[[Any], Any], *, default: Any = MISSING) -> Any:
        """As always; not for a key that stands for the login. Raises UsageError."""
        if key in self._identity.keys:
            raise UsageError(
                f"apply({key!r}): this key stands for the login: assign it, or call session.login()"
            )
        return super().apply(key, function, default=default)

    def clear(self) -> None:
        """Remove everything, the login too: where it is a key among others, that is how people log out."""
        if self.user_id is None:
            super().clear()
        else:
            self.logout()


def identity_of(session: BaseSession) -> Identity | None:
    """What says which of this session's keys stand for the login; None: none does."""
    return session._identity if isinstance(session, _Identified) else None


def identified(kind: type[S], identity: Identity | None) -> type[S]:
    """The same kind of session, whose login has these keys too."""
    if identity is None:
        return kind
    made = type(kind.__name__, (_Identified, kind), {"_identity": identity, "__module__": kind.__module__})
    return cast(type[S], made)
