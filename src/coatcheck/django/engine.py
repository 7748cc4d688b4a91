"""The session engine: SESSION_ENGINE = "coatcheck.django.engine".

A session is met in two ways. `request.session` belongs to a request of our middleware: what it means to do is done when the
response leaves, and its `session_key` is the public handle, which opens nothing. `SessionStore(key)` stands alone, as Django's
test client, its own middleware and scripts make it: it acts at once, and its `session_key` is what a cookie holds: the signed
ticket, a secret.
"""

import re
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeVar

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase, UpdateError
from django.utils.asyncio import async_unsafe
from django.utils.module_loading import import_string

from coatcheck.core.cookies import MAX_AGE
from coatcheck.core.identity import identified
from coatcheck.core.ids import Ticket
from coatcheck.core.ports import Sweeps
from coatcheck.core.record import Lifetime
from coatcheck.core.session import BaseSession, Phase, Standing, UserId
from coatcheck.core.stepping import run_now
from coatcheck.django.home import Home, NoKeys, current
from coatcheck.django.identity import AuthKeys
from coatcheck.errors import SessionGone, StoreError
from coatcheck.exchange import Channel
from coatcheck.faces import Session
from coatcheck.flows import Device, Flows, shielded

__all__ = ["SessionStore"]

T = TypeVar("T")
_LIVE, _NEW, _UNLOADED, _DETACHED = Standing.LIVE, Standing.NEW, Standing.UNLOADED, Standing.DETACHED
_DONE: Final = Phase.DONE
_HANDLE: Final = re.compile(r"[A-Za-z0-9_-]{16,128}")
_CHANNEL: Final = Channel.HTTPS
"""A session that stands alone came no way at all; with one name for both ways, so is its ticket."""

if TYPE_CHECKING:
    _Known = Session[Any]
else:
    _Known = identified(Session, NoKeys())  # which keys, each session says for itself


class SessionStore(_Known, SessionBase):  # type: ignore[misc]  # the stubs say a dict, which Django's is not
    """A session, with everything that Django documents of `request.session`, and everything that `coatcheck.Session` has.

    Every method that needs the store has an awaited form: `aget`, `aset`, `asave` and so on as in Django, and `atake`,
    `areload`, `adestroy`, `adevices`, `aend_device`, `aend_others`, `aend_all`. Loaded at the first look; under ASGI by the
    middleware, so that `request.session[…]` works in async views too.
    """

    _bound = False
    """Whether it belongs to a request of our middleware."""
    _inline = False
    """Whether awaited code may block: under WSGI, where each async view has an event loop to itself."""
    _acted = False
    """Whether something was stored or ended already: Django's middleware asks `modified` to know if the cookie is due."""
    _promised = False
    """Whether a session was asked for: from then on it has a key."""

    def __init__(self, session_key: str | None = None) -> None:
        home = current()
        self._key = session_key
        self._begin(home, (session_key and home.within.opened(session_key, _CHANNEL, home.time())) or None)

    @classmethod
    def _of(cls, home: Home, ticket: Ticket | None) -> "SessionStore":
        """The session of a request, from its cookie."""
        session = cls.__new__(cls)
        session._key, session._bound = None, True
        session._begin(home, ticket)
        return session

    def _begin(self, home: Home, ticket: Ticket | None) -> None:
        BaseSession.__init__(self)
        self._home, self._identity = home, home.identity
        flows = self._flows = home.flows
        self._ticket, self._began = ticket, flows.clock.monotonic()
        if ticket is None:
            self._standing = _NEW

    # ---- sync and async: every verb that acts is one coroutine over the flows of either face

    @property
    def _aflows(self) -> Flows:
        return self._flows if self._inline else self._home.aflows

    def _now(self, flow: Coroutine[Any, Any, T]) -> T:
        try:
            self._may_block()
        except BaseException:
            flow.close()
            raise
        return run_now(flow)

    def _may_block(self) -> None:
        if not self._inline:
            _refuse_in_event_loop()

    def _load(self) -> None:
        self._may_block()
        super()._load()

    def _load_now(self) -> None:
        if self._phase is _DONE:
            self._load()  # a middleware around ours may still look, to log who it was; nothing can change any more
        else:
            super()._load_now()

    async def _aload(self) -> None:
        """Load it, if it is not."""
        if self._standing is not _UNLOADED:
            return
        if self._failure is not None:
            raise self._failure
        try:
            await self._aflows.open(self, self._ticket)
        except StoreError as error:
            if self._failed(error):
                raise

    def _get_session(self, no_load: bool = False) -> Any:
        self._open()
        return self

    _session = property(_get_session)

    async def _aget_session(self, no_load: bool = False) -> Any:
        """What Django's awaited methods go on with: itself, loaded; and a login of another framework, recognised."""
        await self._aload()
        identity = self._identity
        if isinstance(identity, AuthKeys) and identity.is_strange(self):
            await sync_to_async(identity.recognise)(self)
        return self

    # ---- the key

    @property
    def session_key(self) -> str | None:
        """None if nothing is stored. Of `request.session` the public handle, constant through login; of a session that stands
        alone what the cookie holds, which is a secret.
        """
        if self._bound:
            return self._public_key()
        if self._standing is _UNLOADED:
            return self._key
        if self._standing is _LIVE and not self._logout:
            return self._home.within.value(self, _CHANNEL, self._home.time()) or self._key
        return self._named()

    def _public_key(self) -> str | None:
        self._open()
        if self._standing is _LIVE and not self._logout:
            return self.handle
        return self.handle if self._login is not None or self._promised else None

    @property  # type: ignore[misc]  # nobody sets it
    def _session_key(self) -> str | None:
        return self.session_key

    def _named(self) -> str | None:
        """The handle this was made with, which opens nothing, but names what `delete()` ends."""
        key = self._key
        return key if key is not None and self._ticket is None and _HANDLE.fullmatch(key) else None

    def _get_new_session_key(self) -> str:
        return self._new_locator()

    # ---- what Django asks of a session

    @property
    def accessed(self) -> bool:
        """True once anything was read or written: the response then says `Vary: Cookie`."""
        return self._accessed

    @accessed.setter
    def accessed(self, value: bool) -> None:
        self._accessed = value

    @property
    def modified(self) -> bool:
        """True if this request changed something; to set it to True writes regardless. A change stays one, also after False."""
        if self._standing is _UNLOADED or not self._accessed:
            return self._acted
        if self._standing is _DETACHED and self._login is None:
            return False
        meant = (
            self._logout
            or self._login is not None
            or self._begun is not None
            or self._regenerate
            or self._lifetime_set
            or self._kept
        )
        return self._acted or meant or self._cleared or self._has_changes()

    @modified.setter
    def modified(self, value: bool) -> None:
        self._change()
        self._forced = bool(value)
        self._meant |= self._forced

    def is_empty(self) -> bool:
        """True if nothing is stored and nothing is in it."""
        if self._standing is _NEW:
            return not self._accessed or not self._keys()
        return False

    def __bool__(self) -> bool:
        """True, also of an empty session: Django's is, and `if request.session` asks whether there is one."""
        return True

    def has_key(self, key: str) -> bool:
        return key in self

    @cached_property
    def serializer(self) -> Any:
        """For `encode` and `decode` only: what is stored is written by coatcheck."""
        return import_string(settings.SESSION_SERIALIZER)

    async def aset(self, key: str, value: Any) -> None:
        (await self._aget_session())[key] = value

    async def apop(self, key: str, *default: Any, **named: Any) -> Any:
        return (await self._aget_session()).pop(key, *default, **named)

    async def asetdefault(self, key: str, value: Any) -> Any:
        return (await self._aget_session()).setdefault(key, value)

    async def aupdate(self, dict_: Any) -> None:
        (await self._aget_session()).update(dict_)

    # ---- acting

    def load(self) -> dict[str, Any]:
        """What is stored now, in a dict of its own."""
        return dict(self._another())

    async def aload(self) -> dict[str, Any]:
        return dict(await self._another()._aget_session())

    def save(self, must_create: bool = False) -> None:
        """Store it now, also if it is empty. `must_create`: under a new id.

        Raises UpdateError if it was ended meanwhile, and what `coatcheck.Session.save` raises.
        """
        self._open()
        self._now(self._save(self._flows, must_create))

    async def asave(self, must_create: bool = False) -> None:
        await self._aload()
        await self._save(self._aflows, must_create)

    async def _save(self, flows: Flows, must_create: bool) -> None:
        if self._session_is_new():
            self._kept = self._meant = self._promised = True
        elif must_create and self._standing is _LIVE:
            self.regenerate()
        try:
            await shielded(flows.save(self))
        except SessionGone as error:
            raise UpdateError(str(error)) from error
        self._acted = True

    def _session_is_new(self) -> bool:
        self._open()
        return self._standing is not _LIVE

    def create(self) -> None:
        """Store it now, under a new id; `session_key` is its key from here on. What is in it stays."""
        self.save(must_create=True)

    async def acreate(self) -> None:
        await self.asave(must_create=True)

    def cycle_key(self) -> None:
        """A new id for the same session, as Django's `login()` asks for: the old one opens nothing any more."""
        self._open()
        if self._bound:
            self._cycle()
        else:
            self.create()

    async def acycle_key(self) -> None:
        await self._aload()
        if self._bound:
            self._cycle()
        else:
            await self.acreate()

    def _cycle(self) -> None:
        if self._session_is_new():
            self._announce("cycle_key()")
            self._kept = self._meant = self._promised = True
        else:
            self.regenerate()

    def flush(self) -> None:
        """End the session on the server and in the browser, as Django's `logout()` does; what is set then begins a new one."""
        self.logout()
        if not self._bound:
            self._now(self._commit(self._flows))

    async def aflush(self) -> None:
        await self._aload()
        self.logout()
        if not self._bound:
            await self._commit(self._aflows)

    async def _commit(self, flows: Flows) -> None:
        await shielded(flows._commit(self))
        self._acted = True

    def delete(self, session_key: str | None = None) -> None:
        """End this session now, or another one by its key or handle."""
        self._now(self._end(self._flows, session_key))

    async def adelete(self, session_key: str | None = None) -> None:
        await self._end(self._aflows, session_key)

    async def _end(self, flows: Flows, session_key: str | None) -> None:
        key = self._named() if session_key is None else session_key
        if key is not None and _HANDLE.fullmatch(key) and key != self._own_handle():
            await shielded(flows.end(key))
            return
        ending = self if key is None or key in (self._own_handle(), self._key) else SessionStore(key)
        await ending._destroy(flows)

    def _own_handle(self) -> str | None:
        return self._record.key if self._record is not None and self._standing is _LIVE else None

    async def _destroy(self, flows: Flows) -> None:
        if self._standing is _UNLOADED:
            await flows.open(self, self._ticket)
        if self._standing is _LIVE:
            await shielded(flows.destroy(self))
            self._acted = True

    def exists(self, session_key: str | None) -> bool:
        """Whether a session has this key or handle."""
        return self._now(self._find(self._flows, session_key))

    async def aexists(self, session_key: str | None) -> bool:
        return await self._find(self._aflows, session_key)

    async def _find(self, flows: Flows, session_key: str | None) -> bool:
        if not session_key:
            return False
        if _HANDLE.fullmatch(session_key):
            return await flows.find(session_key) is not None
        other = SessionStore(session_key)
        if other._standing is _UNLOADED:
            await flows.open(other, other._ticket)
        return other._standing is _LIVE

    def _another(self) -> "SessionStore":
        """The session of another request of the same browser."""
        ticket = self._ticket
        if self._record is not None and self._verifier is not None:
            ticket = Ticket(self._record.key, self._verifier, self._record.verifier)
        other = SessionStore._of(self._home, ticket)
        other._inline, other._channel = self._inline, self._channel
        return other

    @classmethod
    def clear_expired(cls) -> None:
        """Delete the expired sessions, as `manage.py clearsessions` asks for. Nothing happens where the store does so itself."""
        sessions = current().sessions
        if isinstance(sessions.flows.store, Sweeps):
            while sessions.sweep(1000):
                pass

    @classmethod
    async def aclear_expired(cls) -> None:
        sessions = current().asessions
        if isinstance(sessions.flows.store, Sweeps):
            while await sessions.sweep(1000):
                pass

    # ---- how long it lasts

    def set_expiry(self, value: float | datetime | timedelta | None) -> None:
        """How long this session lasts, in place of what is configured.

        A number: so many seconds without a visit, the browser keeping the cookie when it closes; 0: until the browser closes;
        a datetime or timedelta: until that moment; None: as configured. It never lasts beyond the absolute timeout. A moment
        that has passed ends it.
        """
        now = self._home.time()
        if value is None:
            if self._current_lifetime() is not None:
                self._set_lifetime(None)
            return
        until = _moment(value, now)
        if (until is not None and until <= now) or (
            not isinstance(value, datetime | timedelta) and value < 0
        ):
            self.logout()
        elif until is not None:
            self._set_lifetime(Lifetime(idle=None, persistent=True, until=until))
        elif value == 0:
            self._set_lifetime(Lifetime(idle=None, persistent=False))
        else:
            # A browser keeps no cookie longer; "for ever" is often written as ten years.
            self._set_lifetime(Lifetime(idle=min(float(value), MAX_AGE), persistent=True))  # type: ignore[arg-type]  # no moment

    async def aset_expiry(self, value: float | datetime | timedelta | None) -> None:
        await self._aload()
        self.set_expiry(value)

    def get_session_cookie_age(self) -> int:
        """Seconds without a visit after which a session ends that nothing else was said of."""
        return int(self._home.options.timeouts.idle)  # type: ignore[arg-type]  # seconds by now

    def get_expiry_age(self, **kwargs: Any) -> int:
        """Seconds until it ends, if there is no further visit. `modification`, `expiry`: as in Django."""
        return super().get_expiry_age(**self._expiry(kwargs))

    async def aget_expiry_age(self, **kwargs: Any) -> int:
        await self._aload()
        return self.get_expiry_age(**kwargs)

    def get_expiry_date(self, **kwargs: Any) -> datetime:
        """When it ends, if there is no further visit. `modification`, `expiry`: as in Django."""
        return super().get_expiry_date(**self._expiry(kwargs))

    async def aget_expiry_date(self, **kwargs: Any) -> datetime:
        await self._aload()
        return self.get_expiry_date(**kwargs)

    def _expiry(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """What Django would find under `_session_expiry`."""
        if "expiry" in kwargs:
            return kwargs
        lifetime = self._current_lifetime()
        expiry: float | datetime | None = None
        if lifetime is not None and lifetime.until is not None:
            expiry = datetime.fromtimestamp(lifetime.until, UTC if settings.USE_TZ else None)
        elif lifetime is not None and lifetime.idle is not None:
            expiry = int(lifetime.idle)
        return {**kwargs, "expiry": expiry}

    def get_expire_at_browser_close(self) -> bool:
        """Whether the cookie goes when the browser closes."""
        lifetime = self._current_lifetime()
        return not (self._home.exchange.persistent if lifetime is None else lifetime.persistent)

    async def aget_expire_at_browser_close(self) -> bool:
        await self._aload()
        return self.get_expire_at_browser_close()

    # ---- what only coatcheck's sessions have

    async def areload(self) -> None:
        """`reload()`, awaited."""
        await self._aload()
        await self._aflows.reload(self)

    async def adestroy(self) -> None:
        """`destroy()`, awaited."""
        await self._aload()
        await shielded(self._aflows.destroy(self))

    async def atake(self, key: str, default: Any = None) -> Any:
        """`take()`, awaited."""
        await self._aload()
        return await shielded(self._aflows.take(self, key, default))

    async def atry_factor(self, *, limit: int = 5) -> bool:
        """`try_factor()`, awaited."""
        await self._aload()
        return await shielded(self._aflows.try_factor(self, limit))

    async def adevices(self) -> list[Device]:
        """`devices()`, awaited."""
        await self._aload()
        return await self._aflows.own_devices(self)

    async def aend_device(self, handle: str) -> bool:
        """`end_device()`, awaited."""
        await self._aload()
        return await shielded(self._aflows.end_device(self, handle))

    async def aend_others(self) -> int:
        """`end_others()`, awaited."""
        await self._aload()
        return await shielded(self._aflows.end_all(self, None, others_only=True))

    async def aend_all(self, user_id: UserId | None = None) -> int:
        """`end_all()`, awaited."""
        await self._aload()
        return await shielded(self._aflows.end_all(self, user_id, others_only=False))


@async_unsafe(
    "a session waits for its store here: await the method of this name with an `a` before it, such as asave()"
)
def _refuse_in_event_loop() -> None:
    """Raise SynchronousOnlyOperation where an event loop runs, as Django's models do."""


def _moment(value: object, now: float) -> float | None:
    """Seconds since the epoch at which a session is to end; None if no moment was given."""
    if isinstance(value, timedelta):
        return now + value.total_seconds()
    return value.timestamp() if isinstance(value, datetime) else None
