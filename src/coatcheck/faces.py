"""The session of a request as its handler meets it, sync and async: what needs the store is one line a verb."""

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from coatcheck._eventloop import running_loop
from coatcheck.core.events import Event
from coatcheck.core.ids import Ticket
from coatcheck.core.session import BaseSession, Standing, UserId
from coatcheck.core.stepping import run_now
from coatcheck.core.typed import Schema
from coatcheck.errors import CorruptRecord, StoreError, Throttled, UsageError
from coatcheck.exchange import Arrival, Channel, Exchange
from coatcheck.flows import Device, Flows, shielded
from coatcheck.security.buckets import bucket

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypingTypeVar

    Model = TypingTypeVar("Model", default=Any)
else:
    Model = TypeVar("Model")

__all__ = ["AsyncSession", "Session"]

Verb = TypeVar("Verb", bound=Callable[..., Any])


def _awaited(verb: Verb) -> Verb:
    """Refuse a verb that has to be awaited where nobody can, such as a route that runs in a thread: Python would only warn, and
    the logout would not take place. A session outside a request belongs to no event loop yet.
    """
    name = verb.__name__

    @wraps(verb)
    def call(session: "AsyncSession[Any]", *args: Any, **kwargs: Any) -> Any:
        if session._exchange is not None and running_loop() is None:
            raise UsageError(
                f"session.{name}() has to be awaited, and there is no event loop in this thread: make the route `async def`"
                + session._from_thread.format(name=name)
            )
        return verb(session, *args, **kwargs)

    return cast(Verb, call)


class _Served(BaseSession, Generic[Model]):
    """A session that knows the request it belongs to."""

    _flows: Flows
    _ticket: Ticket | None = None
    _exchange: Exchange | None = None
    _describe: Callable[[], Arrival] | None = None
    _channel: Channel | None = None
    _at = 0.0
    """When the request came, in seconds since the epoch."""

    @property
    def _schema(self) -> Schema | None:
        return self._flows.options.typed

    @property
    def outage(self) -> StoreError | None:
        """Why this session could not be loaded, if the request goes on without it (`on_store_error="anonymous"`): the visitor
        may be logged in, which nobody can tell now. None otherwise.
        """
        self._open()
        return self._outage if self._standing is Standing.DETACHED else None

    def logout(self) -> None:
        """End the session at commit, on the server and in the browser. What is set afterwards begins a new, anonymous
        one. Raises StoreError if `outage` is why the session is empty: it could not be ended.
        """
        outage = self.outage
        if outage is not None:
            raise outage
        super().logout()

    def _may_store(self) -> None:
        outage = self.outage
        if outage is not None and self._login is None:
            raise outage  # what acts now shows its errors
        if self._channel is Channel.PLAIN:
            raise UsageError(
                "nothing is stored over plain HTTP, where no session cookie is sent: serve the application over HTTPS,"
                " or trust the proxy that does (proxy=…)"
            )

    def _is_carried(self) -> bool:
        return self._flows.lifecycle.carrier is not None

    def _new_locator(self) -> str:
        return self._flows.lifecycle.new_locator()

    def _client(self) -> tuple[str, str]:
        keep = self._flows.options.keep_client
        if keep == "nothing" or self._exchange is None or self._describe is None:
            return "", ""
        return self._exchange.client(self._describe(), whole=keep == "full")

    def _place(self) -> str:
        if self._exchange is None or self._describe is None:
            return ""
        return bucket(self._exchange.place(self._describe()))

    def _strange(self, now: float) -> None:
        exchange = self._exchange
        if exchange is None or exchange.strangers is None or self._describe is None:
            return
        try:
            exchange.strike(self._describe(), now)
        except Throttled as error:
            self._shut_out(error)

    def _shut_out(self, error: Throttled) -> None:
        """Whoever uses the session of this request is told so; whoever does not, is not."""
        self._standing, self._failure = Standing.UNLOADED, error

    def _moment(self) -> float:
        return self._flows.clock.time()

    def _cookies(self) -> bytes:
        return self._describe().cookies if self._describe else b""

    def _path(self) -> str:
        return self._describe().path if self._describe else ""

    def _failed(self, error: Exception) -> bool:
        """This request gets no session, or keeps nothing of it, from here on: a store that is down is asked once.

        Returns whether the request fails with it. If not (`on_store_error="anonymous"`), a session that could not be loaded is
        detached, and one that could not be committed is not committed any more. A login, logout or rotation is never
        pretended: where it cannot be carried out, the request fails under either policy.
        """
        if isinstance(error, StoreError):
            if self._outage is None:
                options, clock = self._flows.options, self._flows.clock
                options.tell(Event("store.down", detail=str(error), at=clock.time()))
            if self._goes_on():
                if self._standing is Standing.UNLOADED:
                    self._standing, self._outage = Standing.DETACHED, error
                else:
                    self._failure = error
                return False
        self._failure = error
        return True

    def _goes_on(self) -> bool:
        if self._flows.options.on_store_error != "anonymous":
            return False
        return not self._acts()

    def _acts(self) -> bool:
        """Whether this request means to log in or out, or to change the id: what must not seem done before it is."""
        return self._login is not None or self._begun is not None or self._logout or self._regenerate

    def _corrupted(self, error: CorruptRecord) -> None:
        self._flows.lifecycle.corrupted(self, str(error), self._flows.clock.time())

    if TYPE_CHECKING:

        @property
        def data(self) -> Model: ...


class Session(_Served[Model]):
    """A request's session in sync code. Loads itself on first access."""

    def _load(self) -> None:
        if self._failure is not None:
            raise self._failure
        try:
            run_now(self._flows.open(self, self._ticket))
        except StoreError as error:
            if self._failed(error):
                raise
        if self._standing is Standing.UNLOADED and self._failure is not None:  # shut out: see `_strange`
            raise self._failure

    def save(self) -> None:
        """Commit now. Raises SessionGone, LoginRefused, SessionConflict, StoreError; changes made later are committed
        later.
        """
        run_now(self._flows.save(self))

    def reload(self) -> None:
        """Forget this request's changes and read what is stored now. Raises SessionGone if the session has ended."""
        run_now(self._flows.reload(self))

    def destroy(self) -> None:
        """End the session now, on the server; the response clears the cookie."""
        run_now(self._flows.destroy(self))

    def take(self, key: str, default: Any = None) -> Any:
        """Remove a one-time value and return it: of all requests that try, at most one gets it."""
        return run_now(self._flows.take(self, key, default))

    def try_factor(self, *, limit: int = 5) -> bool:
        """Count one try of the pending login's next factor, now: before the code is compared. False: none is pending, or it was
        tried `limit` times, by however many requests at once; ask for the first factor again.
        """
        return run_now(self._flows.try_factor(self, limit))

    def devices(self) -> list[Device]:
        """The sessions of this user, newest login first; this one has the same `handle`. Raises UsageError without a
        login.
        """
        return run_now(self._flows.own_devices(self))

    def end_device(self, handle: str) -> bool:
        """End one of this user's sessions, now. Returns whether it was there; another user's is not."""
        return run_now(self._flows.end_device(self, handle))

    def end_others(self) -> int:
        """End every other session of this user, now. Returns how many."""
        return run_now(self._flows.end_all(self, None, others_only=True))

    def end_all(self, user_id: UserId | None = None) -> int:
        """End every session of this user (or of `user_id`), this one too; `login()` afterwards begins a new one.
        Returns how many.
        """
        return run_now(self._flows.end_all(self, user_id, others_only=False))


class AsyncSession(_Served[Model]):
    """A request's session in async code: what needs the store is awaited."""

    _from_thread = ", or say `anyio.from_thread.run(session.{name})` in a `def` one"
    """What else helps, where the framework's threads are AnyIO's."""

    def _load(self) -> None:
        if self._failure is not None:
            raise self._failure
        super()._load()

    async def load(self) -> Self:
        """Load a lazy session; does nothing to one that is loaded. Returns the session."""
        if self._standing is Standing.UNLOADED:
            if self._failure is not None:
                raise self._failure
            try:
                await self._flows.open(self, self._ticket)
            except StoreError as error:
                if self._failed(error):
                    raise
        return self

    @_awaited
    async def save(self) -> None:
        """Commit now. Raises SessionGone, LoginRefused, SessionConflict, StoreError; changes made later are committed
        later.
        """
        await shielded(self._flows.save(self))

    @_awaited
    async def reload(self) -> None:
        """Forget this request's changes and read what is stored now. Raises SessionGone if the session has ended."""
        await self._flows.reload(self)

    @_awaited
    async def destroy(self) -> None:
        """End the session now, on the server; the response clears the cookie."""
        await shielded(self._flows.destroy(self))

    @_awaited
    async def take(self, key: str, default: Any = None) -> Any:
        """Remove a one-time value and return it: of all requests that try, at most one gets it."""
        return await shielded(self._flows.take(self, key, default))

    @_awaited
    async def try_factor(self, *, limit: int = 5) -> bool:
        """Count one try of the pending login's next factor, now: before the code is compared. False: none is pending, or it was
        tried `limit` times, by however many requests at once; ask for the first factor again.
        """
        return await shielded(self._flows.try_factor(self, limit))

    @_awaited
    async def devices(self) -> list[Device]:
        """The sessions of this user, newest login first; this one has the same `handle`. Raises UsageError without a
        login.
        """
        return await self._flows.own_devices(self)

    @_awaited
    async def end_device(self, handle: str) -> bool:
        """End one of this user's sessions, now. Returns whether it was there; another user's is not."""
        return await shielded(self._flows.end_device(self, handle))

    @_awaited
    async def end_others(self) -> int:
        """End every other session of this user, now. Returns how many."""
        return await shielded(self._flows.end_all(self, None, others_only=True))

    @_awaited
    async def end_all(self, user_id: UserId | None = None) -> int:
        """End every session of this user (or of `user_id`), this one too; `login()` afterwards begins a new one.
        Returns how many.
        """
        return await shielded(self._flows.end_all(self, user_id, others_only=False))
