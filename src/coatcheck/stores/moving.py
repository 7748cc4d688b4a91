"""Two stores as one, while sessions move from one to the other and requests go on: `Moving(new, old)`.

A move is made in three deploys, each of which may be a rolling one, and each is safe beside the one before and the one after:

    1  Moving(new, old, carry=False)  sessions stay in the old store, and begin there. What somebody has carried is found.
    2  Moving(new, old)               sessions begin in the new store; those of the old one are carried on first sight
    3  new                            once `coatcheck migrate --move` has carried the rest and says that nothing is left

A process that knows only the old store beside one of step 2 is what step 1 is for: it finds no session that was carried, and what
it ends there (all sessions of a user, say) does not end in the new store. So no process may use the old store alone once another
carries; nothing here could make up for that.

How one session is carried, and why nothing forks, is lost or comes back: `_carry`. What becomes of each verb: `_moving_faces`.
"""

import time
from collections.abc import Callable
from typing import Any, cast

from coatcheck.core.ids import RandomIds
from coatcheck.core.outage import Outage
from coatcheck.core.ports import (
    Backend,
    Carries,
    Remembers,
    Store,
)
from coatcheck.core.record import Ended, Expired, Record
from coatcheck.errors import ConfigurationError
from coatcheck.stores import hide_password, open_store
from coatcheck.stores._carry import copied_from
from coatcheck.stores._moving_faces import Carrying, MovingSessions, Waiting

__all__ = ["Moving", "MovingSessions"]

Found = Record | Ended | Expired | None


class Moving:
    """The store `new`, and behind it `old`, from which sessions are moving.

    new     a store, or its URL
    old     a store, or its URL
    carry   False in the first of two deploys: sessions stay in the old store, and what others carry is found
    outage  for stores that are given as a URL
    tokens, monotonic  where versions and seconds come from; tests inject their own

    Raises ConfigurationError for what cannot work.
    """

    def __init__(
        self,
        new: str | Backend | Store,
        old: str | Backend | Store,
        *,
        carry: bool = True,
        outage: Outage | None = None,
        tokens: Callable[[], str] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if type(carry) is not bool:
            raise ConfigurationError(f"Moving(carry={carry!r}): give True or False")
        if new is old or (isinstance(new, str) and new == old):
            raise ConfigurationError(
                "Moving(new, old): these are the same store; give the one to move to, and the one to leave"
            )
        if isinstance(new, Moving) or isinstance(old, Moving):
            raise ConfigurationError("Moving(Moving(…)): finish one move before the next")
        self._owned = [place for place in (new, old) if isinstance(place, str)]
        self._shown = " from ".join(hide_password(p) if isinstance(p, str) else repr(p) for p in (new, old))
        opened = [open_store(p, outage=outage) if isinstance(p, str) else p for p in (new, old)]
        self._mine = [
            store for store, given in zip(opened, (new, old), strict=True) if isinstance(given, str)
        ]
        self._new, self._old = opened
        self._copies = copied_from(old)
        self._carry, self._monotonic = carry, monotonic
        self._tokens = tokens or RandomIds().version
        self._faces: dict[str, MovingSessions] = {}

    def __repr__(self) -> str:
        return f"<Moving to {self._shown}>"

    def blocking(self) -> "MovingSessions":
        """The store whose methods never suspend: for the sync face."""
        return self._face("blocking")

    def awaiting(self) -> "MovingSessions":
        """The store for event loops."""
        return self._face("awaiting")

    def _face(self, name: str) -> "MovingSessions":
        face = self._faces.get(name)
        if face is None:
            new, old = (
                _usable(getattr(p, name)() if hasattr(p, name) else p) for p in (self._new, self._old)
            )
            kind = Carrying if self._carry else Waiting
            face = self._faces[name] = kind(
                new, old, tokens=self._tokens, monotonic=self._monotonic, copies=self._copies
            )
        return face

    def close(self) -> None:
        """Close the stores that were opened from a URL."""
        for store in self._mine:
            if hasattr(store, "close"):
                store.close()

    async def aclose(self) -> None:
        """The same, for what event loops opened."""
        for store in self._mine:
            if hasattr(store, "aclose"):
                await store.aclose()
            elif hasattr(store, "close"):
                store.close()


def _usable(store: Any) -> Store:
    if isinstance(store, Carries):
        raise ConfigurationError(
            "Moving: sessions in cookies are in no store that they could be moved from or to; change the store, and their users"
            " log in again"
        )
    if isinstance(store, Remembers):
        raise ConfigurationError(
            "Moving(LayeredStore(…)): put the cache around both: LayeredStore(Moving(new, old))"
        )
    return cast(Store, store)
