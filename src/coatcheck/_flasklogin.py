"""Flask-Login's keys of the session, as views of the one login that all frameworks share. Flask-Login is not imported.

`login_user()` assigns `_user_id`, `_fresh` and `_id`; `logout_user()` deletes them. A login that another framework made has only
the first, so the others are answered here: the login is fresh if it was a proof (a password, say), and it came from the client
that is asking. What Flask-Login says of a login is kept with it, and gone at the next one, wherever that is made.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from coatcheck.core.identity import UserKey
from coatcheck.core.merge import MISSING
from coatcheck.core.record import REMEMBERED
from coatcheck.core.session import OF_LOGIN, BaseSession, Standing, UserId
from coatcheck.core.tracked import Tracked

__all__ = ["LoginKeys"]

USER, FRESH, CLIENT = "_user_id", "_fresh", "_id"
_STALE: Final = OF_LOGIN + "stale"
"""True where Flask-Login took a login for stale that was a proof: the client's address or agent has changed."""
_CLIENT: Final = OF_LOGIN + "id"
"""The client that logged in, as Flask-Login identifies one."""


class LoginKeys:
    """An identity of Flask-Login's keys. `client` identifies the client that is asking, as the login manager does, or is None.
    Everything else is as for `UserKey`.
    """

    __slots__ = ("_client", "_user", "keys", "method")

    def __init__(
        self,
        client: Callable[[], str | None],
        *,
        to_user_id: Callable[[Any], UserId] | None = None,
        from_user_id: Callable[[str], Any] | None = None,
        method: str = "pwd",
    ) -> None:
        self._user = UserKey(USER, to_user_id=to_user_id, from_user_id=from_user_id, method=method)
        self.keys, self.method, self._client = frozenset({USER, FRESH, CLIENT}), method, client

    def read(self, session: BaseSession, key: str) -> Any:
        if key == USER:
            return self._user.read(session, key)
        if key == CLIENT:
            return self._client_of(session)
        return self._is_fresh(session)

    def _client_of(self, session: BaseSession) -> Any:
        stored = Tracked.get(session, _CLIENT, MISSING)
        if stored is not MISSING or session.user_id is None:
            return stored
        client = self._client()
        return MISSING if client is None else client

    def _is_fresh(self, session: BaseSession) -> Any:
        stale = Tracked.get(session, _STALE, MISSING)
        if stale is not MISSING:
            return not stale
        if session._login is not None:
            return session._login.login.method != REMEMBERED
        return MISSING if session.user_id is None else session.authenticated_at is not None

    def write(self, session: BaseSession, key: str, value: Any) -> None:
        """Every `login_user()` is a login, also of the same user: it proves anew who they are."""
        if key == USER and value is None:  # what Flask-Login takes for nobody
            session.pop(key, None)
        elif key == USER:
            session.login(self._user.user_id_of(value), method=self.method)
        elif key == CLIENT:
            Tracked.__setitem__(session, _CLIENT, value)
        elif value and session.user_id is not None:
            session.login(session.user_id, method=self.method)  # so is `confirm_login()`
        elif session._login is not None:
            self._only_remembered(session, session._login.user_id)
        else:
            Tracked.__setitem__(session, _STALE, not value)

    def carried(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Of a session that is adopted: the client that it was bound to stays the one."""
        return {_CLIENT: data[CLIENT]} if data.get(CLIENT) is not None else {}

    def _only_remembered(self, session: BaseSession, user_id: str) -> None:
        """Flask-Login's own cookie said who it is. Nobody typed a password, and so a late request with that cookie must not undo
        a logout: where the session has just ended, this request alone is answered for the user, and nothing is kept.
        """
        session.login(user_id, method=REMEMBERED)
        client = self._client()
        if client is not None:
            Tracked.__setitem__(session, _CLIENT, client)
        if session._standing is Standing.DETACHED:
            session._login = None

    def remove(self, session: BaseSession, key: str) -> None:
        if key == USER:
            session._sign_out()
        elif key == FRESH and session.user_id is not None:
            Tracked.__setitem__(session, _STALE, True)
        else:
            Tracked.pop(session, _STALE if key == FRESH else _CLIENT, None)
