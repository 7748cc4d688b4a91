"""One object for what many logins have in common: the memory store keeps it once, not once a session.

A browser's name is a string of 120 octets, made anew for each request, and there are few of them among many sessions. The table
is bounded, so strangers who make names up cannot fill it: full, it is begun anew. The sessions that are there keep what they
have; who logs in afterwards shares with those that come later.
"""

from typing import Final

from msgspec.structs import replace as changed

from coatcheck.core.record import Login, Record

__all__ = ["Sharing"]

BROWSERS: Final = 1_024
"""Names in the table at most."""
LONGEST: Final = 256
"""Characters of a name that is put there, which is what a request's name is cut to: less than half a megabyte altogether."""


class Sharing:
    """The table of browsers' names. The caller holds the store's lock."""

    __slots__ = ("_browsers",)

    def __init__(self) -> None:
        self._browsers: dict[str, str] = {}

    def spared(self, record: Record, newest: Record | None) -> Record:
        """An equal record, whose user id and login are those that are kept already; `newest` is a session of the same user."""
        login = record.login
        if login is None:
            return record
        if newest is None:
            return changed(record, login=self._of_browser(login))
        if newest.login != login:  # another browser of theirs, or from somewhere else
            return changed(record, user_id=newest.user_id, login=self._of_browser(login))
        return changed(record, user_id=newest.user_id, login=newest.login)

    def _of_browser(self, login: Login) -> Login:
        if len(login.user_agent) > LONGEST:
            return login
        if len(self._browsers) >= BROWSERS:
            self._browsers.clear()
        return changed(login, user_agent=self._browsers.setdefault(login.user_agent, login.user_agent))
