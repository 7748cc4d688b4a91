"""The table: what is stored at the end of a request, and when the cookie is sent. One pure function.

The first row that applies decides. `lifecycle` carries the decision out; where the store answers that another writer
was first, it decides again on what is there now.

    standing   because                                    store            cookie
    ---------  -----------------------------------------  ---------------  ---------------------------------
    detached   login()                                    create           send
    detached   logout() of what had ended before          delete again     -
    detached   anything else                              -                -
    new        login()                                    create           send
    new        changed, or save_uninitialized             create           send
    new        anything else                              -                -
    live       logout()                                   delete           clear, if it was there to delete
    live       login() as another user                    create + delete  send
    live       login(), regenerate()                      replace, rotate  send
    live       the verifier's age                         replace, renew   send
    live       changed, resave, own lifetime, first       replace          send if rolling, again, carried,
               sight of a renewed verifier                                 or persistent and changed
    live       touch(), not seen for Timeouts.touch,      touch            send if rolling, again, carried;
               rolling                                                     not if refused
    live       again                                      -                send
    live       anything else                              -                -

"delete again": it may have been ended by a try that was refused, so that one server alone knows (`durability="replicated"`, a
synchronous standby). A logout that is acknowledged has to be as durable as any other.
"carried": the session is in the cookie itself, so each write of it is one of the cookie.
"again": the request came with the verifier before the last renewal (it gets the same successor once more), or with a
cookie signed by an older key.

After a logout the rows for "new" apply to what the handler set since. Once the headers have left, nothing that sends
a cookie is chosen.
"""

from enum import Enum
from functools import cache
from typing import Final, NamedTuple

from coatcheck.core.session import CookieAction, Standing

__all__ = ["Action", "CookieAction", "Decision", "Situation", "decide"]


class Action(Enum):
    """What to do to the store."""

    NOTHING = "nothing"
    CREATE = "create"
    SWITCH = "switch"
    """A session of its own for another user, then the end of the old one (rule 5)."""
    DELETE = "delete"
    DELETE_AGAIN = "delete again"
    ROTATE = "rotate"
    """Replace with a new verifier and a higher epoch: the old one is worth nothing at once."""
    RENEW = "renew"
    """Replace with a new verifier in the same epoch: requests in flight finish on the old one."""
    REPLACE = "replace"
    TOUCH = "touch"


class Decision(NamedTuple):
    """What to do to the store, and what to tell the browser."""

    action: Action
    cookie: CookieAction


class Situation(NamedTuple):
    """Everything the decision depends on."""

    standing: Standing
    login: bool = False
    other_user: bool = False
    """The login is of another user than the session's."""
    logout: bool = False
    regenerate: bool = False
    changed: bool = False
    """Data, or this session's own lifetime."""
    forced: bool = False
    """resave, `modified = True`, or the first sight of a renewed verifier: write although nothing changed."""
    renewal_due: bool = False
    again: bool = False
    """The browser should get the cookie once more: it came with the verifier before the last renewal, or signed by an
    older key.
    """
    touch: bool = False
    """touch() was called, or is due."""
    persistent: bool = False
    rolling: bool = False
    save_uninitialized: bool = False
    headers_sent: bool = False
    carried: bool = False
    """The session is in the cookie itself."""
    over: bool = False
    """It had been ended before this request came."""


_NOTHING: Final = Decision(Action.NOTHING, CookieAction.NONE)
_CREATE: Final = Decision(Action.CREATE, CookieAction.SEND)
_DELETE_AGAIN: Final = Decision(Action.DELETE_AGAIN, CookieAction.NONE)


@cache  # pure, over a few hundred situations that occur: looking one up halves the cost
def decide(s: Situation) -> Decision:
    """Look the situation up in the table above."""
    if s.standing is not Standing.LIVE:
        if s.headers_sent:
            return _NOTHING
        if s.login or (s.standing is not Standing.DETACHED and (s.changed or s.save_uninitialized)):
            return _CREATE
        return _DELETE_AGAIN if s.logout and s.over else _NOTHING
    if not s.headers_sent:
        if s.logout:
            return Decision(Action.DELETE, CookieAction.CLEAR)
        if s.login and s.other_user:
            return Decision(Action.SWITCH, CookieAction.SEND)
        if s.login or s.regenerate:
            return Decision(Action.ROTATE, CookieAction.SEND)
        if s.renewal_due:
            return Decision(Action.RENEW, CookieAction.SEND)
    again = s.again or s.rolling or s.carried
    if s.changed or s.forced:
        return Decision(Action.REPLACE, _send(again or (s.persistent and s.changed), s))
    if s.touch or s.rolling:
        return Decision(Action.TOUCH, _send(again, s))
    return Decision(Action.NOTHING, _send(s.again, s))


def _send(wanted: bool, s: Situation) -> CookieAction:
    return CookieAction.SEND if wanted and not s.headers_sent else CookieAction.NONE
