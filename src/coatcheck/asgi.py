"""Sessions for any ASGI 3 application: `scope["session"]`, over HTTP and WebSockets.

The order of things: read our cookie; load the session if a genuine one came; run the application; when it starts its response,
commit, and only then let the headers go. So a browser never sees a response whose session is not saved, and nothing of a
streaming response is held back but its headers.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from coatcheck.configure import configure
from coatcheck.core.events import Event
from coatcheck.core.ports import Backend, Store
from coatcheck.core.session import BaseSession, CookieAction, Phase, Standing
from coatcheck.core.signing import Secret
from coatcheck.errors import (
    ConfigurationError,
    OutsideRequest,
    SessionConflict,
    StoreError,
    StoreUnavailable,
    UsageError,
)
from coatcheck.exchange import Arrival, Channel, Exchange
from coatcheck.manager import AsyncSession, AsyncSessionManager

__all__ = ["SessionMiddleware", "get_session"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_UNAVAILABLE: Final = (503, b"The session store cannot be reached. Please try again in a moment.\n")
_CONFLICT: Final = (409, b"Another request changed the same session first. Please load the page again.\n")


class SessionMiddleware:
    """A session for every HTTP request and WebSocket: `scope["session"]`.

    app         the ASGI application
    store       a URL or a store (default: in memory, for development)
    secret      the signing secret, or several: the first signs, all verify
    scope_key   where in the scope the session is; a second middleware with another key and `name` gives a second session
    lazy        do not load until `await get_session(…)`, even if a genuine cookie came
    options     the fields of `coatcheck.Options`, and `cookie`, `name`, `proxy`, `insecure_dev`

    Raises ConfigurationError, WeakSecret or WrongFace when it is built. A request whose store cannot be reached is answered 503, a
    conflict under on_conflict="raise" 409; other requests go on.
    """

    def __init__(
        self,
        app: App,
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
            store, options=configured.options, clock=configured.clock, ids=configured.ids
        )
        self.exchange: Exchange = configured.exchange
        self._key = scope_key
        self._every_request = self.sessions.flows.lifecycle.every_request
        if lazy and self._every_request:
            raise ConfigurationError(
                "lazy=True with resave, rolling or save_uninitialized: these look at every session; leave lazy out"
            )
        self._lazy = lazy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind != "http" and kind != "websocket":
            await self.app(scope, receive, send)
            return
        outer = scope.get(self._key)
        if isinstance(outer, AsyncSession) and outer._exchange is self.exchange:
            await self.app(scope, receive, send)  # mounted under itself: one session a request
            return
        visit = _Visit(self, scope, send)
        await visit.arrive()
        scope[self._key] = visit.session
        try:
            await self.app(scope, receive, visit.send)
        except (StoreUnavailable, SessionConflict) as error:
            await visit.fail(error)
        except BaseException:
            await visit.abandon()
            raise
        else:
            await visit.leave()


class _Visit:
    """One request on its way through: its session, and how far the response is."""

    __slots__ = (
        "_channel",
        "_exchange",
        "_middleware",
        "_now",
        "_scope",
        "_send",
        "_started",
        "_streams",
        "session",
    )

    def __init__(self, middleware: SessionMiddleware, scope: Scope, send: Send) -> None:
        self._middleware, self._exchange = middleware, middleware.exchange
        self._scope, self._send = scope, send
        self._started = self._streams = False
        self._now = middleware.sessions.flows.clock.time()

    async def arrive(self) -> None:
        """Read the cookie, and load the session if a genuine one came."""
        middleware, exchange = self._middleware, self._exchange
        arrival = _arrival(self._scope)
        self._channel = channel = exchange.channel(arrival)
        ticket, reissue = exchange.ticket(arrival, channel, self._now)
        self.session = session = middleware.sessions.session(ticket)
        session._exchange, session._arrival = exchange, arrival
        if reissue:
            session._reissue = True
        if not exchange.covers(arrival.path):
            session._standing = Standing.UNLOADED
            session._failure = OutsideRequest(
                f"the session's cookie is limited to path={exchange.settings.path!r}: there is no session at {arrival.path!r}"
            )
        elif channel is Channel.PLAIN:
            session._standing = Standing.DETACHED
        elif ticket is not None and not middleware._lazy:
            try:
                await session._flows.lifecycle.open(session, ticket, self._now)
            except StoreError as error:
                session._failure = error

    async def send(self, message: Message) -> None:
        """Commit before the headers leave, and again before the last of a streamed body."""
        kind = message["type"]
        if (
            kind == "http.response.start"
            or kind == "websocket.accept"
            or kind == "websocket.http.response.start"
        ):
            if not self._started:
                await self._commit(message)
        elif kind == "http.response.body":
            if message.get("more_body", False):
                self._streams = True
            elif self._streams:
                await self._commit_rest()
        await self._send(message)

    async def _commit(self, message: Message) -> None:
        cookie = CookieAction.NONE
        if self._still_there():
            session = self.session
            if self._channel is Channel.PLAIN:
                self._complain()
            elif session._failure is None and (session._accessed or self._middleware._every_request):
                cookie = await self._middleware.sessions.commit(session)
            self._dress(message, cookie)
            session._phase = Phase.STREAMING
        self._started = True

    def _still_there(self) -> bool:
        """Whether the application left its session in place; setting it to None means what `unset` says."""
        present = self._scope.get(self._middleware._key, None)
        if present is self.session or isinstance(present, BaseSession):
            return True
        if present is not None:
            raise UsageError(
                f"scope[{self._middleware._key!r}] was replaced by a {type(present).__name__}: change its keys instead"
            )
        if self._middleware.sessions.flows.options.unset == "destroy" and self.session._failure is None:
            self.session.logout()
            return True
        return False

    def _complain(self) -> None:
        session = self.session
        if session._login is not None or (session._accessed and session._has_changes()):
            assert session._arrival is not None
            self._exchange.refuse(session._arrival, self._now)

    def _dress(self, message: Message, cookie: CookieAction) -> None:
        """Put what the exchange says into the response's headers."""
        session = self.session
        if cookie is CookieAction.NONE and not session._accessed:
            return
        headers: list[tuple[bytes, bytes]] = list(message.get("headers") or ())
        vary, cache = _find(headers, b"vary"), _find(headers, b"cache-control")
        reply = self._exchange.reply(
            session, cookie, self._channel, vary=vary, cache_control=cache, now=self._now
        )
        if reply.vary is not None:
            headers = [item for item in headers if item[0].lower() != b"vary"] if vary else headers
            headers.append((b"vary", reply.vary.encode("latin-1")))
        if reply.cache_control is not None:
            headers = [item for item in headers if item[0].lower() != b"cache-control"] if cache else headers
            headers.append((b"cache-control", reply.cache_control.encode("latin-1")))
        if reply.set_cookie is not None:
            headers.append((b"set-cookie", reply.set_cookie.encode("latin-1")))
        message["headers"] = headers

    async def _commit_rest(self) -> None:
        """What changed while the body was streamed: data only, the browser cannot be told anything more."""
        session = self.session
        if (
            session._accessed
            and self._channel is not Channel.PLAIN
            and session._failure is None
            and session._has_changes()
        ):
            await self._middleware.sessions.commit(session)

    async def leave(self) -> None:
        """The application is done."""
        if self._started and self._scope["type"] == "websocket":
            await self._commit_rest()
        self.session._phase = Phase.DONE

    async def fail(self, error: StoreUnavailable | SessionConflict) -> None:
        """Answer in the application's place: never an anonymous page, never a cookie."""
        self.session._phase = Phase.DONE
        self._middleware.sessions.flows.options.on_event(
            Event(
                "store.down" if isinstance(error, StoreUnavailable) else "session.conflict",
                detail=str(error),
                at=self._now,
            )
        )
        if self._started or self._scope["type"] != "http":
            raise error
        status, body = _UNAVAILABLE if isinstance(error, StoreUnavailable) else _CONFLICT
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        if status == 503:
            headers.append((b"retry-after", b"5"))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    async def abandon(self) -> None:
        """The application failed: of all it meant to do, only a logout is carried out."""
        session = self.session
        session._phase = Phase.OPEN if not self._started else session._phase
        if session._logout and not self._started and self._channel is not Channel.PLAIN:
            await self._middleware.sessions.commit(session, only_logout=True)
        session._phase = Phase.DONE


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
    cookies: list[bytes] = []
    host = proto = forwarded = agent = b""
    for name, value in scope["headers"]:
        if name == b"cookie":
            cookies.append(value)
        elif name == b"host":
            host = value
        elif name == b"user-agent":
            agent = value
        elif name == b"x-forwarded-proto":
            proto = value
        elif name == b"x-forwarded-for":
            forwarded = b", ".join((forwarded, value)) if forwarded else value
    client = scope.get("client")
    return Arrival(
        scope.get("scheme", "http"),
        cookies,
        host,
        scope.get("path", "/"),
        client[0] if client else "",
        proto,
        forwarded,
        agent,
    )


def _find(headers: list[tuple[bytes, bytes]], name: bytes) -> str | None:
    found = [value for header, value in headers if header.lower() == name]
    return b", ".join(found).decode("latin-1") if found else None
