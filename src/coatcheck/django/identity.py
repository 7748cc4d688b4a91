"""Django's keys of a login, as views of the one login that every framework shares.

`_auth_user_id` is `session.user_id`, so `django.contrib.auth` logs in and out for every application on the store. Django also
keeps by which backend the user logged in, and a hash of the password, so that a changed password ends the sessions it was used
for. A login made in another framework has neither: both are worked out from the user's row when Django first meets it, and kept
until the next login.
"""

from collections.abc import Callable
from typing import Any, Final

from django.conf import settings
from django.contrib.auth import (
    BACKEND_SESSION_KEY,
    HASH_SESSION_KEY,
    SESSION_KEY,
    get_user_model,
    load_backend,
)
from django.core.exceptions import ValidationError

from coatcheck.core.merge import MISSING
from coatcheck.core.session import OF_LOGIN, BaseSession, Phase, UserId
from coatcheck.core.tracked import Tracked

__all__ = ["AuthKeys"]

_KNOWN: Final = OF_LOGIN + "django"
"""Where the session keeps what Django says of this login, and no other."""
_UNSAID: Final[dict[str, str]] = {}


class AuthKeys:
    """The three keys that `django.contrib.auth` keeps a login under.

    to_pk       makes the user's primary key, as text, of the user id that all frameworks share; None: no user of this project.
                By default the user id is the primary key
    to_user_id  makes the user id of the primary key
    method      what `session.login()` records as the way the user logged in

    A user id that is no primary key, or that no user of an authentication backend has, is nobody here: `request.user` is
    anonymous, and nothing fails.
    """

    def __init__(
        self,
        *,
        to_pk: Callable[[str], str | None] | None = None,
        to_user_id: Callable[[str], UserId] | None = None,
        method: str = "pwd",
    ) -> None:
        self.keys = frozenset({SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY})
        self._to_pk, self._to_user_id, self._method = to_pk, to_user_id, method

    def read(self, session: BaseSession, key: str) -> Any:
        user_id = session.user_id
        if user_id is None:
            return MISSING
        known = Tracked.get(session, _KNOWN)
        if known is None:
            if key == SESSION_KEY:
                return self._pk(user_id)
            known = self._recognise(session, user_id)
        return known.get(key, MISSING)

    def write(self, session: BaseSession, key: str, value: Any) -> None:
        if key == SESSION_KEY:
            pk = str(value)
            session.login(pk if self._to_user_id is None else self._to_user_id(pk), method=self._method)
            Tracked.__setitem__(session, _KNOWN, {SESSION_KEY: pk})
        elif session.user_id is not None:  # without a login there is nothing to say it of
            known = Tracked.get(session, _KNOWN) or self._recognise(session, session.user_id)
            Tracked.__setitem__(session, _KNOWN, {**known, key: value})

    def remove(self, session: BaseSession, key: str) -> None:
        if key == SESSION_KEY:
            session._sign_out()
            return
        known = Tracked.get(session, _KNOWN) or {}
        Tracked.__setitem__(session, _KNOWN, {name: value for name, value in known.items() if name != key})

    def is_strange(self, session: BaseSession) -> bool:
        """Whether somebody is logged in here whom Django has not met yet: to recognise them takes a query."""
        user_id = session.user_id
        return (
            user_id is not None and Tracked.get(session, _KNOWN) is None and not _is_nobody(session, user_id)
        )

    def recognise(self, session: BaseSession) -> None:
        """Work out what Django would have kept of this login, from the user's row. Queries the database."""
        if session.user_id is not None:
            self._recognise(session, session.user_id)

    def _recognise(self, session: BaseSession, user_id: str) -> dict[str, str]:
        pk = MISSING if _is_nobody(session, user_id) else self._pk(user_id)
        found = None if pk is MISSING else _find(pk)
        if found is None:
            session._nobody = user_id  # type: ignore[attr-defined]  # asked once a request
            return _UNSAID
        backend, user = found
        has_hash = hasattr(user, "get_session_auth_hash")
        known = {
            SESSION_KEY: pk,
            BACKEND_SESSION_KEY: backend,
            HASH_SESSION_KEY: user.get_session_auth_hash() if has_hash else "",
        }
        if session._phase is Phase.OPEN:
            Tracked.__setitem__(session, _KNOWN, known)
        return known

    def _pk(self, user_id: str) -> Any:
        """The user id as the text of a primary key, or MISSING."""
        pk = user_id if self._to_pk is None else self._to_pk(user_id)
        if pk is None:
            return MISSING
        try:
            spelled = str(get_user_model()._meta.pk.to_python(pk))
        except (ValidationError, ValueError, TypeError):
            return MISSING
        # "007" or a digit of another script would be read as the number of somebody else.
        return pk if spelled == pk else MISSING


def _is_nobody(session: BaseSession, user_id: str) -> bool:
    """Whether this request has already found that no user has this id."""
    return bool(getattr(session, "_nobody", None) == user_id)


def _find(pk: str) -> tuple[str, Any] | None:
    """The user with this primary key, and the first authentication backend that knows them."""
    key = get_user_model()._meta.pk.to_python(pk)
    for path in settings.AUTHENTICATION_BACKENDS:
        get_user = getattr(load_backend(path), "get_user", None)
        user = None if get_user is None else get_user(key)
        if user is not None:
            return path, user
    return None
