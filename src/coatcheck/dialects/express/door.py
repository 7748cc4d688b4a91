"""The front door: `express_sessions(store=…, secret=…)`, and what an application does with it."""

from collections.abc import Callable, MutableMapping
from dataclasses import fields
from functools import partial
from types import TracebackType
from typing import Any, Final, Self
from wsgiref.types import WSGIApplication

from coatcheck.core.outage import Outage
from coatcheck.core.ports import Checks
from coatcheck.core.spelling import meant
from coatcheck.core.stepping import run_now
from coatcheck.dialects.express.asgi import App, AsgiSessions
from coatcheck.dialects.express.cookie import CookieOptions
from coatcheck.dialects.express.faces import AsyncExpressSession, ExpressSession
from coatcheck.dialects.express.flow import Flow
from coatcheck.dialects.express.manager import AsyncExpressManager, ExpressManager
from coatcheck.dialects.express.memory import MemoryStore
from coatcheck.dialects.express.options import Options
from coatcheck.dialects.express.ports import Backend
from coatcheck.dialects.express.stores import open_store
from coatcheck.dialects.express.wsgi import KEY, WsgiSessions
from coatcheck.errors import ConfigurationError, OutsideRequest, StoreError, WeakSecret

__all__ = ["ExpressSessions", "express_sessions", "get_session"]

_KNOWN: Final = frozenset(one.name for one in fields(Options))
_GROUPS: Final = {"cookie=CookieOptions": frozenset(one.name for one in fields(CookieOptions))}


class ExpressSessions:
    """The sessions of an Express application: middleware for ours, and a manager for work outside a request."""

    def __init__(
        self, backend: Backend, options: Options, *, opens: Callable[[], Backend] | None = None
    ) -> None:
        """`opens` opens the store once more, if it is ours to open and to close."""
        self._backend, self.options, self._opens = backend, options, opens
        self._is_closed = False

    def asgi(self, app: App, *, scope_key: str = "session") -> AsgiSessions:
        """An ASGI application with these sessions: `scope["session"]`, which is `request.session` in Starlette and FastAPI.

        Raises WrongFace for a store around a blocking client of your own.
        """
        return AsgiSessions(app, self._open_flow, scope_key=scope_key, close=self.aclose)

    def _open_flow(self) -> Flow:
        """The flows of event loops, over a store opened anew if it was closed: a test client starts an application repeatedly."""
        if self._is_closed and self._opens is not None:
            self._backend, self._is_closed = self._opens(), False
        return Flow(self._backend.awaiting(), self.options)

    def wsgi(self, app: WSGIApplication, *, environ_key: str = KEY) -> WsgiSessions:
        """A WSGI application with these sessions: `environ["coatcheck.session"]`.

        Raises WrongFace for a store around an awaiting client of your own.
        """
        flow = Flow(self._backend.blocking(), self.options)
        self._announce(flow)
        return WsgiSessions(app, flow, environ_key=environ_key)

    def _announce(self, flow: Flow) -> None:
        """Say it if the store cannot be reached: over a connection of its own, closed at once, since servers fork later."""
        if self._opens is None or isinstance(self._backend, MemoryStore):
            return
        asking: Any = self._opens()
        try:
            store = asking.blocking()
            if isinstance(store, Checks):
                run_now(store.check())
        except StoreError as error:
            flow.failed(error)
        finally:
            asking.close()

    def blocking(self) -> ExpressManager:
        """Sessions outside a request, in sync code."""
        return ExpressManager(Flow(self._backend.blocking(), self.options))

    def awaiting(self) -> AsyncExpressManager:
        """Sessions outside a request, in async code."""
        return AsyncExpressManager(Flow(self._backend.awaiting(), self.options))

    def close(self) -> None:
        """Close what sync code opened from a URL; a store that was handed in is its owner's to close."""
        if self._opens is not None and hasattr(self._backend, "close"):
            self._backend.close()

    async def aclose(self) -> None:
        """Close what event loops opened from a URL."""
        if self._opens is not None and hasattr(self._backend, "aclose"):
            self._is_closed = True
            await self._backend.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def express_sessions(
    store: Any = "memory:", *, outage: Outage | None = None, **options: Any
) -> ExpressSessions:
    """The sessions of an Express application, as express-session and its store keep them.

    store    a URL: `redis:` (connect-redis), `mongodb:` (connect-mongo), `postgresql:` (connect-pg-simple), `mysql:`, `mariadb:`,
             `sqlite:` (connect-session-sequelize), `memory:` (MemoryStore); or one of their stores with options of its own
    outage   what a store that is opened from a URL does when its server is slow or away
    options  express-session's, in Python spelling, with times in milliseconds: `secret`, `name`, `cookie`, `genid`, `resave`,
             `save_uninitialized`, `rolling`, `unset`, `proxy`; and ours: `merge`, `on_event`, `clock`

    Raises ConfigurationError or WeakSecret.
    """
    if isinstance(store, str):
        opens = partial(open_store, store, outage)
        return ExpressSessions(opens(), _options(options), opens=opens)
    if outage is not None:
        raise ConfigurationError(
            "outage=Outage(…) is for a store that is given as a URL: give it to the store itself"
        )
    if not hasattr(store, "blocking") or isinstance(store, type):
        kind = (store if isinstance(store, type) else type(store)).__name__
        raise ConfigurationError(
            f"store=…: {kind} is no store: give a URL, or a store such as ConnectRedis(…)"
        )
    return ExpressSessions(store, _options(options))


def _options(given: dict[str, Any]) -> Options:
    """Raises ConfigurationError for an option nobody knows, with the one that was meant."""
    for name in given:
        if name not in _KNOWN:
            raise ConfigurationError(f"unknown option {name!r}: {meant(name, _KNOWN, _GROUPS)}")
    if not given.get("secret"):
        raise WeakSecret("secret is missing: give the secret of the Express application, or its list of them")
    return Options(**given)


def get_session(where: Any) -> Any:
    """The session of a request, ASGI scope or WSGI environ. Raises OutsideRequest if there is none."""
    place = getattr(where, "scope", None) or getattr(where, "environ", None) or where
    if isinstance(place, MutableMapping):
        for key in ("session", KEY):
            if isinstance(place.get(key), (ExpressSession, AsyncExpressSession)):
                return place[key]
    raise OutsideRequest(
        "there is no session here: put sessions.asgi or sessions.wsgi around the application; or its path is not one that"
        " begins with the cookie's"
    )
