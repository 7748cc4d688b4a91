"""Sessions for any ASGI 3 application: `scope["session"]`, over HTTP and WebSockets.

The order of things: read our cookie; load the session if a genuine one came; run the application; when it starts its response,
commit, and only then let the headers go. So a browser never sees a response whose session is not saved, and nothing of a
streaming response is held back but its headers.

A WebSocket goes on when its handshake is done, and an event stream for as long as it likes: they are closed when their session is
over (`vigil.py`).
"""

from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any, Final

from coatcheck import startup, visit
from coatcheck._csrf.asgi import SESSIONS, CsrfMiddleware, csrf_field, csrf_token
from coatcheck._https_asgi import HttpsMiddleware
from coatcheck._passage import App as App  # what others name the types of an application by
from coatcheck._passage import Message as Message
from coatcheck._passage import Passage, Ways
from coatcheck._passage import Receive as Receive
from coatcheck._passage import Scope as Scope
from coatcheck._passage import Send as Send
from coatcheck._passage import log_out as log_out
from coatcheck.arrivals import of_scope
from coatcheck.configure import configure
from coatcheck.core.ports import Backend, NeverWaits, Store
from coatcheck.core.session import Phase, Standing
from coatcheck.core.signing import Secret
from coatcheck.errors import ConfigurationError, OutsideRequest, StoreError
from coatcheck.exchange import Exchange
from coatcheck.faces import AsyncSession
from coatcheck.manager import AsyncSessionManager
from coatcheck.sockets import POLICY_VIOLATION, Socket
from coatcheck.vigil import Vigil

__all__ = [
    "POLICY_VIOLATION",
    "CsrfMiddleware",
    "HttpsMiddleware",
    "SessionMiddleware",
    "csrf_field",
    "csrf_token",
    "get_session",
]

# An enum's member costs 50 ns to look up, a global 2: these are asked for on every request.
_DONE, _UNLOADED = Phase.DONE, Standing.UNLOADED
_TOLD: Final = frozenset({b"cookie", b"host", b"x-forwarded-proto", b"forwarded"})
"""Fields of a request that decide what its cookie is worth."""
_BEFORE_2_4: Final = frozenset({"2.0", "2.1", "2.2", "2.3"})
"""Versions of the specification in which a server says nothing when the client has gone."""
_UNKNOWN: Final[dict[str, str]] = {}


class SessionMiddleware:
    """A session for every HTTP request and WebSocket: `scope["session"]`.

    app         the ASGI application
    store       a URL or a store (default: in memory, for development)
    secret      the signing secret, or several: the first signs, all verify
    scope_key   where in the scope the session is; a second middleware with another key and `name` gives a second session
    lazy        do not load until `await get_session(…)`, even if a genuine cookie came
    close_websockets  close a WebSocket (code 1008), and end an event stream, when the session it was opened with is over
    options     the fields of `coatcheck.Options`, and `cookie`, `name`, `proxy`, `insecure_dev`, `outage`,
                `startup_check`

    Raises ConfigurationError, WeakSecret or WrongFace when it is built. A request that needs a store which cannot be reached is
    answered 503, a conflict under on_conflict="raise" 409; other requests go on.
    """

    kind: type[AsyncSession[Any]] = AsyncSession
    """The class of its sessions, where a framework has one of its own."""

    def __init__(
        self,
        app: App,
        /,
        *,
        store: str | Backend | Store = "memory:",
        secret: Secret | None = None,
        scope_key: str = "session",
        lazy: bool = False,
        close_websockets: bool = True,
        **options: Any,
    ) -> None:
        configured = configure(secret, options, store)
        self.app = app
        self.sessions = AsyncSessionManager(
            store,
            options=configured.options,
            outage=configured.outage,
            clock=configured.clock,
            ids=configured.ids,
            kind=self.kind,
        )
        self.exchange: Exchange = configured.exchange
        self._refuse_twin(app)
        self._startup_check = configured.startup_check
        self._key = scope_key
        self._vigil = Vigil(self.sessions) if close_websockets else None
        self._lazy = lazy
        self._bind()
        if lazy and self._every_request:
            raise ConfigurationError(
                "lazy=True with resave, rolling or save_uninitialized: these look at every session; leave lazy out"
            )

    def _bind(self) -> None:
        """Look up once what every request asks for: now, and when the store was opened again."""
        flows = self.sessions.flows
        lifecycle = flows.lifecycle
        self._session_of = _arriving(self.exchange, self.sessions, lazy=self._lazy)
        self._open, self._every_request = lifecycle.open, lifecycle.rules.every_request
        self._ways = Ways(
            key=self._key,
            sessions=self.sessions,
            idle=lifecycle.rules.idle,
            commit_now=lifecycle.commit_now(),
            usual=None if lifecycle.writes_now else lifecycle.usual,
            time=flows.clock.time,
            is_kept=self._is_kept,
            no_store=self.exchange.no_store,
            vigil=self._vigil,
            waits=False if isinstance(flows.store, NeverWaits) else None,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind != "http" and kind != "websocket":
            if kind == "lifespan":
                scope[SESSIONS] = {*scope.get(SESSIONS, ()), self._key}
                send = startup.Lifespan(
                    self.sessions, send, check=self._startup_check, reopened=self._bind
                ).send
            await self.app(scope, receive, send)
            return
        key = self._key
        if key in scope and self._is_ours(scope[key]):
            await self.app(scope, receive, send)  # mounted under itself: one session a request
            return
        arrive, app = self._session_of, self.app
        session = scope[key] = arrive(scope)
        session._describe = passage = Passage(self._ways, session, scope, send)
        if session._standing is _UNLOADED and session._failure is None and not self._lazy:
            load = self._open
            try:
                await load(session, session._ticket, session._at)
            except StoreError as error:
                session._failed(error)
        try:
            if kind != "http":
                keep = None if self._vigil is None else partial(self._vigil.keep, session)
                socket = Socket(receive, passage.guarded, close=passage.close, keep=keep, lost=passage.lost)
                await socket.run(app, scope)
            elif scope.get("asgi", _UNKNOWN).get("spec_version") in _BEFORE_2_4:
                await app(scope, receive, passage.send)
            else:
                await app(scope, receive, passage.guarded)
        except BaseException as error:
            await passage.fail(error)
        else:
            if session._phase is not _DONE or passage.response is not None:
                await passage.leave()

    def _is_ours(self, outer: object) -> bool:
        """Whether the session that is there already is this middleware's. Raises ConfigurationError if the two would fight."""
        if isinstance(outer, AsyncSession):
            if outer._exchange is not None and outer._exchange is not self.exchange:
                self._refuse_fight(outer._exchange)
            return outer._exchange is self.exchange
        if isinstance(outer, MutableMapping):
            kind = type(outer).__name__
            raise ConfigurationError(
                f"scope[{self._key!r}] is taken by another session middleware, which made a {kind}: remove that one, or give"
                " this one a scope_key of its own"
            )
        return False

    def _refuse_twin(self, app: object) -> None:
        """Look at what is inside, through the middlewares that stand between: as far as they show what they wrap."""
        for _ in range(100):
            if isinstance(app, SessionMiddleware):
                self._refuse_fight(app.exchange)
            app = getattr(app, "app", None)

    def _refuse_fight(self, other: Exchange) -> None:
        shared = self.exchange.names & other.names
        if shared:
            raise ConfigurationError(
                f"two SessionMiddlewares, one inside the other, with the same cookie {min(shared)!r}: remove one, since a mounted"
                " application shares the session around it; or give one a name and a scope_key of its own"
            )

    def _is_kept(self, scope: Scope, session: AsyncSession[Any], present: object) -> bool:
        """Whether the application left its session where it was, now that `present` is there."""
        return visit.is_kept(session, present, f"scope[{self._key!r}]")

    def _arrive(self, scope: Scope) -> AsyncSession[Any]:
        """The session of a request, for a framework that goes its own way from here on."""
        arrive = self._session_of
        session = arrive(scope)
        session._describe = partial(of_scope, scope)
        return session


def _arriving(
    exchange: Exchange, sessions: AsyncSessionManager, *, lazy: bool
) -> Callable[[Scope], AsyncSession[Any]]:
    """What gives a request its session, put together when the application starts. The session is loaded already where that takes
    no coroutine, unless it is to be loaded where it is asked for.
    """
    recent, make, time = exchange.recent.get, sessions.session, sessions.flows.clock.time
    kind, flows, monotonic = sessions._kind, sessions.flows, sessions._monotonic
    find = None if lazy else flows.lifecycle.finds_now()

    def arrive(scope: Scope) -> AsyncSession[Any]:
        cookie = host = b""
        headers = scope["headers"]
        if type(headers) is not list:
            # The specification allows what can be gone through only once, each field too.
            headers = scope["headers"] = [(name, value) for name, value in headers]
        for name, value in headers:
            if name in _TOLD:
                if name == b"cookie" and not cookie:
                    cookie = value
                elif name == b"host" and not host:
                    host = value
                else:
                    break  # forwarded, or a field that came twice
        else:
            # Most requests come with a cookie that has come before: what it is worth takes one look.
            reading = recent((cookie, host, scope["scheme"]))
            if reading is not None:
                session = kind()  # what `make` does, one call less
                session._flows, session._exchange, session._began = flows, exchange, monotonic()
                now = session._at = time()
                session._channel, ticket, reissue = reading
                session._ticket = ticket
                if reissue:
                    session._reissue = session._meant = True
                if find is not None and ticket is not None:
                    find(session, ticket, now)
                return session
        return visit.arrive(make, exchange, partial(of_scope, scope), time())

    return arrive


def get_session(where: Any, *, key: str = "session") -> Awaitable[AsyncSession[Any]]:
    """`await get_session(request)`: the session of a request or scope, loaded if the middleware is lazy.

    Raises OutsideRequest if there is none.
    """
    scope = getattr(where, "scope", where)
    session = scope.get(key) if isinstance(scope, MutableMapping) else None
    if isinstance(session, AsyncSession):
        return session.load()
    if session is not None:
        raise OutsideRequest(
            f"the session here is a {type(session).__name__} of another session middleware: put coatcheck's in its place"
        )
    raise OutsideRequest(
        "there is no session here: add coatcheck's SessionMiddleware to the application, around whatever asks for the session"
        " (in Starlette and FastAPI the middleware that is added last is the outermost)"
    )
