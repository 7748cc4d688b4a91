"""Sessions for any ASGI 3 application: `scope["session"]`, over HTTP and WebSockets.

The order of things: read our cookie; load the session if a genuine one came; run the application; when it starts its response,
commit, and only then let the headers go. So a browser never sees a response whose session is not saved, and nothing of a
streaming response is held back but its headers.

A WebSocket goes on when its handshake is done, and an event stream for as long as it likes: they are closed when their session is
over (`vigil.py`).
"""

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from functools import partial
from typing import Any, Final

import msgspec

from coatcheck import startup, visit
from coatcheck._csrf.asgi import SESSIONS, CsrfMiddleware, csrf_field, csrf_token
from coatcheck._event_stream import EventStream, is_event_stream
from coatcheck._https_asgi import HttpsMiddleware
from coatcheck.arrivals import of_scope
from coatcheck.configure import configure
from coatcheck.core.ports import Backend, NeverWaits, Store
from coatcheck.core.session import CookieAction, Phase, Standing
from coatcheck.core.signing import Secret
from coatcheck.errors import (
    ConfigurationError,
    OutsideRequest,
    SessionError,
    StoreError,
)
from coatcheck.exchange import Arrival, Channel, Exchange, holds_data
from coatcheck.faces import AsyncSession
from coatcheck.flows import begun, shielded
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

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]
"""An application as any framework types it: they agree on what a scope is, and not on what to call it."""

# An enum's member costs 50 ns to look up, a global 2: these are asked for on every request.
_OPEN, _STREAMING, _DONE, _UNLOADED = Phase.OPEN, Phase.STREAMING, Phase.DONE, Standing.UNLOADED
_PLAIN: Final = Channel.PLAIN
_NO_COOKIE: Final = CookieAction.NONE
_VARY: Final = (b"vary", b"Cookie")
_PRIVATE: Final = (b"cache-control", b"private")
_VARIES: Final = [_VARY]
_VARIES_PRIVATE: Final = [_VARY, _PRIVATE]

_OURS: Final = frozenset({b"vary", b"cache-control"})
_USUAL: Final = frozenset({
    b"content-length", b"content-encoding", b"date", b"etag", b"last-modified", b"location", b"server", b"set-cookie",
})  # fmt: skip
"""Fields of most responses: one look tells that they are none of ours."""
_NO_STREAM: Final = frozenset({
    b"text/html; charset=utf-8", b"text/plain; charset=utf-8", b"application/json",
})  # fmt: skip
"""Values of Content-Type of most responses: one look tells that they are no event streams."""
_TOLD: Final = frozenset({b"cookie", b"host", b"x-forwarded-proto", b"forwarded"})
"""Fields of a request that decide what its cookie is worth."""
_BEFORE_2_4: Final = frozenset({"2.0", "2.1", "2.2", "2.3"})
"""Versions of the specification in which a server says nothing when the client has gone."""
_UNKNOWN: Final[dict[str, str]] = {}
_STARTS: Final = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
_ENDS: Final = frozenset({"http.response.pathsend", "websocket.close", "websocket.http.response.body"})
"""And http.response.body, which has a place of its own."""


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
        self._session_of = _arriving(self.exchange, self.sessions, lazy=self._lazy)
        self._open, self._idle = flows.lifecycle.open, flows.lifecycle.rules.idle
        self._no_store = self.exchange.no_store
        self._commit_now, self._time = flows.lifecycle.commit_now, flows.clock.time
        self._every_request = flows.lifecycle.rules.every_request
        self._waits: bool | None = False if isinstance(flows.store, NeverWaits) else None
        """Whether the store is waited for; None: it was not yet."""

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
        session._describe = passage = _Passage(self, session, scope, send)
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
            if session._phase is not _DONE:
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


class _Passage(msgspec.Struct, eq=False):
    """One request on its way through: its session, and how far the response is."""

    middleware: SessionMiddleware
    session: AsyncSession[Any]
    scope: Scope
    send_on: Send
    gone: bool = False
    stream: EventStream | None = None

    def __call__(self) -> Arrival:
        """What there is to know of the request, for whoever asks its session (`_describe`)."""
        return of_scope(self.scope)

    def __repr__(self) -> str:
        """Without the request's headers: the session keeps this (checklist 21)."""
        return "<_Passage>"

    def send(self, message: Message) -> Awaitable[None]:
        """Commit before the headers leave, and again before the end of the body.

        No coroutine of its own where nothing has to be waited for: two a request would be a tenth of a read's cost.
        """
        kind, session = message["type"], self.session
        if kind == "http.response.body":
            if not message.get("more_body"):
                if session._phase is not _STREAMING or session._view is not None or session._held:
                    return self._end(message)
                session._phase = _DONE  # `session._still()` and `visit.depart(session)`, two calls less
                session._describe = None
        elif kind in _STARTS:
            if session._phase is _OPEN:
                middleware = self.middleware
                idle = middleware._idle
                # Most requests leave nothing to commit.
                if self.scope.get(middleware._key) is not session or not idle(session, session._at):
                    rest = self._commit_due(session)
                    if rest is not None:
                        return self._begin_after(rest, message)
                message = self._begin(message)
        elif kind in _ENDS and not message.get("more_body"):
            return self._end(message)
        send_on = self.send_on
        return send_on(message)

    async def _begin_after(self, rest: Awaitable[object], message: Message) -> None:
        try:
            await rest
        except SessionError as error:
            if self.session._failed(error):
                raise
        await self.send_on(self._begin(message))

    async def _end(self, message: Message) -> None:
        await self._finish()
        await self.send_on(message)

    async def guarded(self, message: Message) -> None:
        """Send, and take note of OSError: the ASGI specification's way to say that the client has gone (since 2.4)."""
        try:
            await self.send(message)
        except OSError:
            self.gone = True
            raise

    def lost(self) -> None:
        """The client has gone, or nothing goes to it any more: what the application makes of that is no failure."""
        self.gone = True

    async def close(self, code: int, reason: str) -> None:
        """Close a WebSocket in the application's place."""
        await self.send_on({"type": "websocket.close", "code": code, "reason": reason})

    def _commit_due(self, session: AsyncSession[Any]) -> Awaitable[object] | None:
        """Commit what there is to commit. None: that is all; else what is to be awaited."""
        middleware = self.middleware
        if (
            self.scope.get(middleware._key) is not session
            or session._failure is not None
            or session._given_up
            or session._channel is _PLAIN
        ) and not self._is_due(session):
            return None
        return self._commit()

    def _is_due(self, session: AsyncSession[Any]) -> bool:
        middleware, scope = self.middleware, self.scope
        present = scope.get(middleware._key)
        if present is not session and not middleware._is_kept(scope, session, present):
            session._owed = _NO_COOKIE
            visit.depart(session)
            return False
        return visit.is_due(session)

    def _begin(self, message: Message) -> Message:
        """The headers leave. Returns the message to send.

        It is another than the one that came, if anything is added to it: a cache inside of us keeps that, for everybody.
        """
        session, middleware = self.session, self.middleware
        cookie, headers = session._owed, message.get("headers")
        if session._accessed or cookie is not _NO_COOKIE or session._more:
            message = dict(message)
            is_stream = False
            if cookie is not _NO_COOKIE or session._more or middleware._no_store or type(headers) is not list:
                is_stream = _dress(message, session, cookie)
            else:
                for name, value in headers:
                    if name not in _USUAL and (name != b"content-type" or value not in _NO_STREAM):
                        is_stream = _dress(message, session, cookie)
                        break
                else:  # most responses
                    record = session._record
                    private = (record is not None and len(record.data) > 2) or holds_data(session)
                    message["headers"] = headers + (_VARIES_PRIVATE if private else _VARIES)
            if is_stream and middleware._vigil is not None:
                self._hold(middleware._vigil)
        if session._phase is _OPEN:
            session._phase = _STREAMING
        session._view = None  # so that whoever looks at it from here on is noticed: `_still`
        return message

    def _hold(self, vigil: Vigil) -> None:
        """Hold an event stream to its session."""
        stream = EventStream(self.send_on)
        if stream.hold(vigil, self.session):
            self.stream, self.send_on = stream, stream.send

    def _commit(self) -> Awaitable[object] | None:
        """Commit; None if that is all, else what is to be awaited: the rest, where the store has to be waited for.

        An error page is a response too, and must not run into the same commit again: so a commit that failed is the last.
        """
        session, middleware = self.session, self.middleware
        commit, time = middleware._commit_now, middleware._time
        try:
            flow = commit(session, time())
            if flow is None:
                return None
            if middleware._waits is not None:
                return shielded(flow) if middleware._waits else flow
            rest = begun(flow)
        except SessionError as error:
            if session._failed(error):
                raise
            return None
        if rest is None:
            return None
        middleware._waits = True
        return rest

    async def _commit_rest(self) -> None:
        if visit.is_due_again(self.session) and (rest := self._commit()) is not None:
            try:
                await rest
            except SessionError as error:
                if self.session._failed(error):
                    raise

    async def _finish(self) -> None:
        if self.session._phase is not _OPEN:
            await self._commit_rest()
        elif self.scope["type"] == "websocket":
            await self._reject()
        visit.depart(self.session)

    async def _reject(self) -> None:
        """A WebSocket is closed before it was accepted: the browser gets no headers of ours, so no cookie either."""
        await log_out(self.middleware.sessions, self.session)
        visit.started(self.session)
        await self._commit_rest()

    async def leave(self) -> None:
        """The application is done."""
        if self.stream is not None:
            self.stream.leave()
        if self.session._phase is _OPEN:
            await log_out(self.middleware.sessions, self.session)
        else:
            await self._commit_rest()
        visit.depart(self.session)

    async def fail(self, error: BaseException) -> None:
        """The application failed: of all it meant to do, only a logout is carried out. To lose the client is no failure."""
        session = self.session
        started = session._phase is not _OPEN
        if self.stream is not None:
            self.stream.leave()
            if self.stream.explains(error):
                await self.leave()
                return
        if started and self.gone:
            await self.leave()
            raise error
        await log_out(self.middleware.sessions, self.session)
        visit.depart(session)
        reason = _behind(error, session._failure)
        if started or not isinstance(reason, visit.REFUSED):
            raise error
        await self._refuse(reason, error)

    async def _refuse(self, reason: visit.Refused, error: BaseException) -> None:
        refusal = visit.refuse(self.session, reason)
        prefix = "http"
        if self.scope["type"] == "websocket":
            if "websocket.http.response" not in self.scope.get("extensions", ()):
                raise error
            prefix = "websocket.http"
        headers = [(name.encode("ascii"), value.encode("ascii")) for name, value in refusal.headers]
        message = {"type": f"{prefix}.response.start", "status": refusal.status, "headers": headers}
        if self.session._owed is not _NO_COOKIE:
            # An earlier save() may have changed the id: without the new cookie the browser would be logged out.
            _dress(message, self.session, self.session._owed)
        await self.send_on(message)
        await self.send_on({"type": f"{prefix}.response.body", "body": refusal.body})


async def log_out(sessions: AsyncSessionManager, session: AsyncSession[Any]) -> None:
    """Carry out the logout of a request that failed. An outage is told, and not raised in place of what went wrong first."""
    if visit.wants_logout(session):
        try:
            await sessions.commit(session, only_logout=True)
        except StoreError as error:
            session._failed(error)


def _behind(error: BaseException, failure: Exception | None) -> BaseException:
    """The failure of the session, if that is what came up as this error. Starlette wraps one for which there is a handler, but
    which came too late for it; Litestar wraps each in every layer that it passes.
    """
    cause: BaseException | None = error
    while cause is not None and cause is not failure:
        cause = cause.__cause__
    return cause or error


def _dress(message: Message, session: AsyncSession[Any], cookie: CookieAction) -> bool:
    """Put what must be said into the response's headers: into a new list, since a response object may be sent twice. Returns
    whether it is an event stream.
    """
    headers: Collection[tuple[bytes, bytes]] = message.get("headers") or ()
    if type(headers) is not list:
        headers = list(headers)  # the specification allows what can be gone through only once
    exchange = session._exchange
    if cookie is _NO_COOKIE and not session._more and not (exchange is not None and exchange.no_store):
        for name, _ in headers:
            if name not in _USUAL and name.lower() in _OURS:
                break
        else:
            message["headers"] = headers + (_VARIES_PRIVATE if holds_data(session) else _VARIES)
            return is_event_stream(headers)
    vary: bytes | None = None
    cache: bytes | None = None
    for name, value in headers:
        if name.lower() == b"vary":
            vary = value if vary is None else vary + b", " + value
        elif name.lower() == b"cache-control":
            cache = value if cache is None else cache + b", " + value
    reply = visit.reply(
        session,
        cookie,
        vary=None if vary is None else vary.decode("latin-1"),
        cache_control=None if cache is None else cache.decode("latin-1"),
    )
    headers = list(headers)
    if vary is not None and reply.vary is not None:
        headers = [item for item in headers if item[0].lower() != b"vary"]
    if cache is not None and reply.cache_control is not None:
        headers = [item for item in headers if item[0].lower() != b"cache-control"]
    if reply.vary is not None:
        headers.append((b"vary", reply.vary.encode("latin-1")))
    if reply.cache_control is not None:
        headers.append((b"cache-control", reply.cache_control.encode("latin-1")))
    if reply.more:
        told = {name.lower().encode("latin-1"): value.encode("latin-1") for name, value in reply.more}
        headers = [item for item in headers if item[0].lower() not in told]
        headers += told.items()
    headers += ((b"set-cookie", value.encode("latin-1")) for value in reply.set_cookies)
    message["headers"] = headers
    return is_event_stream(headers)


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
