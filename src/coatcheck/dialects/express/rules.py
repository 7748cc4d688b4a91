"""What express-session decides at the end of a request: whether the cookie is sent, and what becomes of the store. Pure.

Semantics 4.5 to 4.7, and 5.3 to 5.4. "Existing": the session's id is the one that the request's cookie named; "new" is any other
(no cookie, an unknown id, regenerated). "Modified": the data, or the id, are others than when the request came.

    cookie      new         if save_uninitialized, or modified
                existing    if rolling; or if it has an expiry and was modified
    store       new         set, if modified, save_uninitialized, or explicitly saved and changed since
                existing    set, if it was changed since it was last read or saved, or with resave; else touch
"""

from enum import Enum
from typing import NamedTuple

__all__ = ["Action", "Situation", "sends", "stores"]


class Action(Enum):
    """What to ask of the store."""

    NOTHING = "nothing"
    SET = "set"
    TOUCH = "touch"


class Situation(NamedTuple):
    """Everything the two decisions depend on."""

    existing: bool
    modified: bool
    saved: bool = False
    """Nothing has changed since it was last saved (or read, without `resave`)."""
    saved_explicitly: bool = False
    """The handler called save()."""
    persistent: bool = False
    """The cookie has an expiry."""
    rolling: bool = False
    save_uninitialized: bool = False


def sends(s: Situation) -> bool:
    """Whether the cookie is sent."""
    if s.existing:
        return s.rolling or (s.persistent and s.modified)
    return s.save_uninitialized or s.modified


def stores(s: Situation) -> Action:
    """What becomes of the store."""
    if not s.existing and not s.save_uninitialized and not s.saved_explicitly:
        return Action.SET if s.modified else Action.NOTHING
    if not s.saved:
        return Action.SET
    return Action.TOUCH if s.existing else Action.NOTHING
