"""A session of the express dialect as its handler meets it, sync and async: what needs the store is one line a verb."""

from collections.abc import Callable

from coatcheck.core.session import UserId
from coatcheck.core.stepping import run_now
from coatcheck.dialects.express.cookie import Cookie
from coatcheck.dialects.express.flow import Flow
from coatcheck.dialects.express.session import BaseSession
from coatcheck.flows import shielded

__all__ = ["AsyncExpressSession", "ExpressSession"]


class _Served(BaseSession):
    """A session that knows its flows."""

    def __init__(self, flow: Flow, cookie: Callable[[], Cookie]) -> None:
        """`cookie` makes the one that a session gets which begins here."""
        self._flow, self._new_cookie = flow, cookie
        super().__init__(flow.now)


class ExpressSession(_Served):
    """A request's session in sync code."""

    def save(self) -> None:
        """Store it now. Raises SessionGone if it was destroyed meanwhile, StoreError; later changes are stored later."""
        run_now(self._flow.save(self))

    def reload(self) -> None:
        """Read it again, data and cookie. Raises SessionGone if nothing is stored of it."""
        run_now(self._flow.reload(self))

    def regenerate(self) -> None:
        """Destroy what is stored, now, and begin anew: an empty session with another id."""
        run_now(self._flow.regenerate(self, self._new_cookie))

    def destroy(self) -> None:
        """Destroy what is stored, now. The session is over; its cookie opens nothing any more."""
        run_now(self._flow.destroy(self))

    def login(self, user_id: UserId) -> None:
        """Begin anew as the session of this user, where Passport looks: `passport.user`, an int or text."""
        passport = self._passport(user_id)
        self.regenerate()
        self["passport"] = passport

    def logout(self) -> None:
        """Destroy what is stored, now, and begin anew, as Passport does."""
        self.regenerate()


class AsyncExpressSession(_Served):
    """A request's session in async code: what needs the store is awaited."""

    async def save(self) -> None:
        """Store it now. Raises SessionGone if it was destroyed meanwhile, StoreError; later changes are stored later."""
        await shielded(self._flow.save(self))

    async def reload(self) -> None:
        """Read it again, data and cookie. Raises SessionGone if nothing is stored of it."""
        await self._flow.reload(self)

    async def regenerate(self) -> None:
        """Destroy what is stored, now, and begin anew: an empty session with another id."""
        await shielded(self._flow.regenerate(self, self._new_cookie))

    async def destroy(self) -> None:
        """Destroy what is stored, now. The session is over; its cookie opens nothing any more."""
        await shielded(self._flow.destroy(self))

    async def login(self, user_id: UserId) -> None:
        """Begin anew as the session of this user, where Passport looks: `passport.user`, an int or text."""
        passport = self._passport(user_id)
        await self.regenerate()
        self["passport"] = passport

    async def logout(self) -> None:
        """Destroy what is stored, now, and begin anew, as Passport does."""
        await self.regenerate()
