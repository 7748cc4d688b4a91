"""Sessions for any ASGI 3 application: `scope["session"]`, over HTTP and WebSockets.

The order of things: read our cookie; load the session if a genuine one came; run the application; when it starts its response,
commit, and only then let the headers go. So a browser never sees a response whose session is not saved, and nothing of a
streaming response is held back but its headers.
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from functools import partial
from typing import Any, Final

from coatcheck import startup, visit
from coatcheck.configure import configure
from coatcheck.core.ports import Backend, Store
from coatcheck.core.session import CookieAction, Phase, Standing
from coatcheck.core.signing import Secret
from coatcheck.errors import (
    ConfigurationError,
    OutsideRequest,
    SessionConflict,
    SessionError,
    StoreError,
    StoreUnavailable,
)
from coatcheck.exchange import Arrival, Exchange, holds_data
from coatcheck.faces import AsyncSession
from coatcheck.flows import shielded
from coatcheck.manager import AsyncSessionManager

__all__ = ["SessionMiddleware", "get_session"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# An enum's member costs 50 ns to look up, a global 2: these are asked for on every request.
_OPEN, _STREAMING, _DONE, _UNLOADED = Phase.OPEN, Phase.STREAMING, Phase.DONE, Standing.UNLOADED
_NO_COOKIE: Final = CookieAction.NONE
_VARY: Final = (b"vary", b"Cookie")
_PRIVATE: Final = (b"cache-control", b"private")

_STARTS: Final = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
_ENDS: Final = frozenset({
    "http.response.body", "http.response.pathsend", "websocket.close", "websocket.http.response.body",
})  # fmt: skip


class SessionMiddleware:
    """A session for every HTTP request and WebSocket: `scope["session"]`.

    app         the ASGI application
    store       a URL or a store (default: in memory, for development)
    secret      the signing secret, or several: the first signs, all verify
    scope_key   where in the scope the session is; a second middleware with another key and `name` gives a second session
    lazy        do not load until `await get_session(…)`, even if a genuine cookie came
    options     the fields of `coatcheck.Options`, and `cookie`, `name`, `proxy`, `insecure_dev`, `outage`,
                `startup_check`

    Raises ConfigurationError, WeakSecret or WrongFace when it is built. A request that needs a store which cannot be reached is
    answered 503, a conflict under on_conflict="raise" 409; other requests go on.
    """

    def __init__(
        self,
        app: App,
        /,
        *,
        store: str | Backend | Store = "memory:",
        secret: Secret | None = None,
        scope_key: str = "session",
        lazy: bool = False,
        **options: Any,
    ) -> None:
        configured = configure(secret, options)
        self.app = app
        self.sessions = AsyncSessionManager(
            store,
            options=configured.options,
            outage=configured.outage,
            clock=configured.clock,
            ids=configured.ids,
        )
        self.exchange: Exchange = configured.exchange
        self._startup_check = configured.startup_check
        self._key = scope_key
        self._bind()
        if lazy and self._every_request:
            raise ConfigurationError(
                "lazy=True with resave, rolling or save_uninitialized: these look at every session; leave lazy out"
            )
        self._lazy = lazy

    def _bind(self) -> None:
        """Look up once what every request asks for: now, and when the store was opened again."""
        self._every_request = self.sessions.flows.lifecycle.rules.every_request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind != "http" and kind != "websocket":
            if kind == "lifespan":
                send = startup.Lifespan(
                    self.sessions, send, check=self._startup_check, reopened=self._bind
                ).send
            await self.app(scope, receive, send)
            return
        outer = scope.get(self._key)
        if isinstance(outer, AsyncSession) and outer._exchange is self.exchange:
            await self.app(scope, receive, send)  # mounted under itself: one session a request
            return
        session = self._arrive(scope)
        passage = _Passage(self, session, scope, receive, send)
        if session._standing is _UNLOADED and session._failure is None and not self._lazy:
            try:
                await session._flows.lifecycle.open(session, session._ticket, session._at)
            except StoreError as error:
                session._failed(error)
        scope[self._key] = session
        try:
            await self.app(scope, passage.receive if kind == "websocket" else receive, passage.send)
        except BaseException as error:
            await passage.fail(error)
        else:
            if session._phase is not _DONE:
                await passage.leave()

    def _arrive(self, scope: Scope) -> AsyncSession[Any]:
        sessions, exchange, headers = self.sessions, self.exchange, scope["headers"]
        now = sessions.flows.clock.time()
        found = dict(headers)
        if len(found) == len(headers) and b"x-forwarded-proto" not in found and not exchange.scoped:
            # Most requests come with a cookie that has come before: what it is worth takes one look.
            key = (found.get(b"cookie", b""), found.get(b"host", b""), scope.get("scheme", "http"))
            reading = exchange.recent.get(key)
            if reading is not None:
                session = sessions.session(reading.ticket)
                session._exchange, session._channel, session._at = exchange, reading.channel, now
                session._describe, session._reissue = partial(_arrival, scope), reading.reissue
                return session
        return visit.arrive(sessions.session, exchange, partial(_arrival, scope), now)


class _Passage:
    """One request on its way through: its session, and how far the response is."""

    __slots__ = ("_gone", "_middleware", "_receive", "_scope", "_send", "_started", "session")

    def __init__(
        self,
        middleware: SessionMiddleware,
        session: AsyncSession[Any],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self._middleware, self._scope, self._receive, self._send = middleware, scope, receive, send
        self._started = self._gone = False
        self.session = session

    async def send(self, message: Message) -> None:
        """Commit before the headers leave, and again before the end of the body."""
        kind = message["type"]
        if kind in _STARTS:
            if not self._started:
                cookie = await self._commit() if self._is_due() else self.session._owed
                self._begin(message, cookie)
        elif kind in _ENDS and not message.get("more_body", False):
            if kind != "http.response.body" or not self._started or not self.session._still():
                await self._finish()
            else:
                visit.depart(self.session)
        try:
            await self._send(message)
        except OSError:  # the ASGI specification's way to say that the client has gone
            self._gone = True
            raise

    async def receive(self) -> Message:
        """Take note that a WebSocket's client has left: what the application raises when it hears of that is no failure."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self._gone = True
        return message

    def _is_due(self) -> bool:
        session, key = self.session, self._middleware._key
        present = self._scope.get(key)
        if present is not session and not visit.is_kept(session, present, f"scope[{key!r}]"):
            session._owed = _NO_COOKIE
            visit.depart(session)
            return False
        return visit.is_due(session)

    def _begin(self, message: Message, cookie: CookieAction) -> None:
        """The headers leave."""
        session = self.session
        if cookie is not _NO_COOKIE or session._accessed:
            _dress(message, session, cookie)
        if session._phase is _OPEN:
            session._phase = _STREAMING
        self._started = True

    async def _commit(self) -> CookieAction:
        session = self.session
        try:
            await shielded(session._flows._commit(session))
        except SessionError as error:
            # An error page is a response too: it must not run into the same commit again.
            if session._failed(error):
                raise
        return session._owed

    async def _commit_rest(self) -> None:
        if visit.is_due_again(self.session):
            await self._commit()

    async def _finish(self) -> None:
        if self._started:
            await self._commit_rest()
        elif self._scope["type"] == "websocket":
            await self._reject()
        visit.depart(self.session)

    async def _reject(self) -> None:
        """A WebSocket is closed before it was accepted: the browser gets no headers of ours, so no cookie either."""
        await self._log_out()
        visit.started(self.session)
        await self._commit_rest()

    async def leave(self) -> None:
        """The application is done."""
        if not self._started:
            await self._log_out()
        elif self.session._phase is not Phase.DONE:
            await self._commit_rest()
        visit.depart(self.session)

    async def fail(self, error: BaseException) -> None:
        """The application failed: of all it meant to do, only a logout is carried out. To lose the client is no failure."""
        session = self.session
        if self._started and self._gone:
            await self.leave()
            raise error
        await self._log_out()
        visit.depart(session)
        # Starlette wraps an error for which the application has a handler, but which came too late for it.
        reason = error.__cause__ if error.__cause__ is session._failure is not None else error
        if self._started or not isinstance(reason, visit.REFUSED):
            raise error
        await self._refuse(reason, error)

    async def _log_out(self) -> None:
        if visit.wants_logout(self.session):
            try:
                await self._middleware.sessions.commit(self.session, only_logout=True)
            except StoreError as error:
                self.session._failed(error)  # told, and not raised in place of what went wrong first

    async def _refuse(self, reason: StoreUnavailable | SessionConflict, error: BaseException) -> None:
        refusal = visit.refuse(self.session, reason)
        prefix = "http"
        if self._scope["type"] == "websocket":
            if "websocket.http.response" not in self._scope.get("extensions", ()):
                raise error
            prefix = "websocket.http"
        headers = [(name.encode("ascii"), value.encode("ascii")) for name, value in refusal.headers]
        message = {"type": f"{prefix}.response.start", "status": refusal.status, "headers": headers}
        if self.session._owed is not _NO_COOKIE:
            # An earlier save() may have changed the id: without the new cookie the browser would be logged out.
            _dress(message, self.session, self.session._owed)
        await self._send(message)
        await self._send({"type": f"{prefix}.response.body", "body": refusal.body})


def _dress(message: Message, session: AsyncSession[Any], cookie: CookieAction) -> None:
    """Put what must be said into the response's headers: into a new list, since a response object may be sent twice."""
    headers: Iterable[tuple[bytes, bytes]] = message.get("headers") or ()
    vary: bytes | None = None
    cache: bytes | None = None
    for name, value in headers:
        if len(name) == 4 and name.lower() == b"vary":  # the length first: it spares most headers the rest
            vary = value if vary is None else vary + b", " + value
        elif len(name) == 13 and name.lower() == b"cache-control":
            cache = value if cache is None else cache + b", " + value
    if cookie is _NO_COOKIE and vary is None and cache is None:
        full = holds_data(session)
        message["headers"] = [*headers, _VARY, _PRIVATE] if full else [*headers, _VARY]
        return
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
    if reply.set_cookie is not None:
        headers.append((b"set-cookie", reply.set_cookie.encode("latin-1")))
    message["headers"] = headers


def get_session(where: Any, *, key: str = "session") -> Awaitable[AsyncSession[Any]]:
    """`await get_session(request)`: the session of a request or scope, loaded if the middleware is lazy.

    Raises OutsideRequest if there is none.
    """
    scope = getattr(where, "scope", where)
    session = scope.get(key) if isinstance(scope, MutableMapping) else None
    if not isinstance(session, AsyncSession):
        raise OutsideRequest("there is no session here: add coatcheck's SessionMiddleware to the application")
    return session.load()


def _arrival(scope: Scope) -> Arrival:
    headers = scope["headers"]
    found = dict(headers)
    if len(found) != len(headers):  # a field that comes twice counts as one, joined
        for name, joint in ((b"cookie", b"; "), (b"x-forwarded-for", b", ")):
            found[name] = joint.join(value for field, value in headers if field == name)
    get, client = found.get, scope.get("client")
    return Arrival(
        scope.get("scheme", "http"),
        get(b"cookie", b""),
        get(b"host", b""),
        scope.get("path", "/"),
        client[0] if client else "",
        get(b"x-forwarded-proto", b""),
        get(b"x-forwarded-for", b""),
        get(b"user-agent", b""),
    )
