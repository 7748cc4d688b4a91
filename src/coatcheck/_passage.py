"""One request on its way through the ASGI middleware: what its messages mean for its session, and what they get in return.

When the headers are about to leave, the session is committed, and only then do they go. Where the store has to be waited for, all
that the application did is gone meanwhile, if it can be: a response that comes in one piece is kept until its commit is done, so
the application ends first, and waits for nothing (`Passage._respond`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Generator, MutableMapping
from typing import Any, Final

import msgspec

from coatcheck import visit
from coatcheck._apart import Apart
from coatcheck._event_stream import EventStream, is_event_stream
from coatcheck.arrivals import of_scope
from coatcheck.core.session import BaseSession, CookieAction, Phase
from coatcheck.errors import SessionError, StoreError
from coatcheck.exchange import Arrival, Channel, holds_data
from coatcheck.faces import AsyncSession
from coatcheck.flows import begun, shielded, started
from coatcheck.lifecycle import Committed
from coatcheck.manager import AsyncSessionManager
from coatcheck.vigil import Vigil

__all__ = ["App", "Message", "Passage", "Receive", "Scope", "Send", "Ways", "log_out"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]
"""An application as any framework types it: they agree on what a scope is, and not on what to call it."""

# An enum's member costs 50 ns to look up, a global 2: these are asked for on every request.
_OPEN, _LEAVING, _STREAMING, _DONE = Phase.OPEN, Phase.LEAVING, Phase.STREAMING, Phase.DONE
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
_STARTS: Final = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
_ENDS: Final = frozenset({"http.response.pathsend", "websocket.close", "websocket.http.response.body"})
"""And http.response.body, which has a place of its own."""


class _Taken:
    """What `send` returns for a message that it has taken, and that nobody has to wait for."""

    def __await__(self) -> Generator[Any, Any, None]:
        return iter(())  # type: ignore[return-value]  # awaited by the interpreter, which asks for an iterator only


_TAKEN: Final = _Taken()


class Ways(msgspec.Struct, eq=False):
    """What the requests of one middleware ask for, looked up once."""

    key: str
    """Where in the scope the session is."""
    sessions: AsyncSessionManager
    idle: Callable[[BaseSession, float], bool]
    commit_now: Callable[[BaseSession, float], Coroutine[Any, Any, Committed] | None]
    usual: Callable[[BaseSession, float], Coroutine[Any, Any, Committed] | None] | None
    """None: the store can mostly do it at once."""
    time: Callable[[], float]
    is_kept: Callable[[Scope, AsyncSession[Any], object], bool]
    """Whether the application left its session where it was, now that something is there."""
    no_store: bool
    vigil: Vigil | None
    waits: bool | None
    """Whether the store is waited for; None: it was not yet."""


class Passage(msgspec.Struct, eq=False):
    """One request on its way through: its session, and how far the response is."""

    ways: Ways
    session: AsyncSession[Any]
    scope: Scope
    send_on: Send
    gone: bool = False
    stream: EventStream | None = None
    start: Message | None = None
    """The beginning of the response, which is kept until its end is there."""
    kept: tuple[Coroutine[Any, Any, Committed], Message, Message] | None = None
    """A commit that is to be carried out when the application has ended, and the response that follows it."""
    response: Apart | None = None
    """What sends the response when the commit is done; the application has no part in it any more."""

    def __call__(self) -> Arrival:
        """What there is to know of the request, for whoever asks its session (`_describe`)."""
        return of_scope(self.scope)

    def __repr__(self) -> str:
        """Without the request's headers: the session keeps this (checklist 21)."""
        return "<Passage>"

    def send(self, message: Message) -> Awaitable[None]:
        """Commit before the headers leave, and again before the end of the body.

        No coroutine of its own where nothing has to be waited for: two a request would be a tenth of a read's cost.
        """
        kind, session = message["type"], self.session
        if self.start is not None:
            return self._go_on(message)
        if kind == "http.response.body":
            if not message.get("more_body"):
                if session._phase is not _STREAMING or session._view is not None or session._held:
                    return self._end(message)
                session._phase = _DONE  # `session._still()` and `visit.depart(session)`, two calls less
                session._describe = None
        elif kind in _STARTS:
            if session._phase is _OPEN:
                ways = self.ways
                idle = ways.idle
                # Most requests leave nothing to commit.
                if self.scope.get(ways.key) is not session or not idle(session, session._at):
                    if ways.waits and self._can_leave_first(message):
                        self.start = message
                        return _TAKEN
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

    # ---- a response in one piece

    def _can_leave_first(self, message: Message) -> bool:
        """Whether the application may end before this response begins: it says how long it is, so its end is at hand, and nothing
        but data was changed. Who was to be logged in or out is still at work when it is told that this failed.
        """
        session, headers = self.session, message.get("headers")
        if (
            session._record is None
            or (session._meant and session._acts())
            or session._failure is not None
            or session._given_up
            or session._channel is _PLAIN
            or message["type"] != "http.response.start"
            or type(headers) is not list
            or message.get("trailers")
            or self.scope.get(self.ways.key) is not session
        ):
            return False
        return b"content-length" in [name for name, _ in headers]

    def _go_on(self, message: Message) -> Awaitable[None]:
        """What comes after the beginning that was kept: the end, or more of the response than was to be expected."""
        start, self.start = self.start, None
        assert start is not None
        if message["type"] == "http.response.body" and not message.get("more_body"):
            return self._leave_first(start, message)
        return self._both(start, message, self._commit_due(self.session))

    def _leave_first(self, start: Message, body: Message) -> Awaitable[None]:
        """Have the application go on: nothing of it has to be kept for what is left to be done.

        While it waits in here, each of its coroutines, down from the server, is kept alive. Of 32 requests at once these are more
        objects than the garbage collector's first threshold, and those that it meets count as long-lived: its full collections,
        over all that the process ever imported, were a third of a write on Redis.

        Most applications end with their response: then the middleware's own coroutine does the rest (`leave`), without a task,
        which would be 16,000 instructions. One that goes on has its turn of the event loop, and does not hold up its response.
        """
        ways, session = self.ways, self.session
        usual, time = ways.usual, ways.time
        try:
            flow = None if usual is None else usual(session, time())
            if flow is None:
                return self._leave_begun(start, body)
        except SessionError as error:
            if session._failed(error):
                raise
            return self._both(start, body, None)
        session._phase = _LEAVING
        self.kept = flow, start, body
        asyncio.get_running_loop().call_soon(self._hold_up_no_more)
        return _TAKEN

    def _leave_begun(self, start: Message, body: Message) -> Awaitable[None]:
        """The same with a commit that looks at the session: it is begun before the application goes on."""
        session, commit, time = self.session, self.ways.commit_now, self.ways.time
        flow = commit(session, time())
        rest = None if flow is None else started(flow)
        if rest is None:
            return self._both(start, body, None)
        session._phase = _LEAVING
        self.response = Apart(self._respond(rest, start, body))
        return _TAKEN

    def _hold_up_no_more(self) -> None:
        """A turn of the event loop has passed. The application is still at work: what is left to be done goes on without it."""
        if self.kept is not None:
            kept, self.kept = self.kept, None
            self.response = Apart(self._respond(*kept))

    def _responded(self) -> Awaitable[None] | None:
        """Until the response is sent that was taken from the application; None if none was."""
        if self.kept is None:
            return None if self.response is None else self.response.wait()
        (flow, start, body), self.kept = self.kept, None
        return self._respond(shielded(flow), start, body)

    async def _both(self, start: Message, message: Message, rest: Awaitable[object] | None) -> None:
        if rest is not None:
            await self._begin_after(rest, start)
        else:
            await self.send_on(self._begin(start))
        await self.send(message)

    async def _respond(self, rest: Awaitable[object], start: Message, body: Message) -> None:
        """The rest of the commit, then the response. A refusal is said here, since the application may go on as long as it likes
        with what comes after a response.
        """
        session = self.session
        try:
            await rest
        except SessionError as error:
            if session._failed(error):
                if not isinstance(error, visit.REFUSED):
                    raise
                await self._refuse(error, error)
                return
        start = self._begin(start)
        visit.depart(session)
        await self.send_on(start)
        await self.send_on(body)

    # ---- commit

    def _commit_due(self, session: AsyncSession[Any]) -> Awaitable[object] | None:
        """Commit what there is to commit. None: that is all; else what is to be awaited."""
        if (
            self.scope.get(self.ways.key) is not session
            or session._failure is not None
            or session._given_up
            or session._channel is _PLAIN
        ) and not self._is_due(session):
            return None
        return self._commit()

    def _is_due(self, session: AsyncSession[Any]) -> bool:
        ways, scope = self.ways, self.scope
        present = scope.get(ways.key)
        if present is not session and not ways.is_kept(scope, session, present):
            session._owed = _NO_COOKIE
            visit.depart(session)
            return False
        return visit.is_due(session)

    def _begin(self, message: Message) -> Message:
        """The headers leave. Returns the message to send.

        It is another than the one that came, if anything is added to it: a cache inside of us keeps that, for everybody.
        """
        session = self.session
        owes = session._owed is not _NO_COOKIE or session._more
        if session._accessed or owes:
            message = dict(message)
            headers = message.get("headers")
            if owes or self.ways.no_store or type(headers) is not list:
                self._dress(message)
            else:
                for name, value in headers:
                    if name not in _USUAL and (name != b"content-type" or value not in _NO_STREAM):
                        self._dress(message)
                        break
                else:  # most responses
                    record = session._record
                    private = (record is not None and len(record.data) > 2) or holds_data(session)
                    message["headers"] = headers + (_VARIES_PRIVATE if private else _VARIES)
        if session._phase is _OPEN:
            session._phase = _STREAMING
        session._view = None  # so that whoever looks at it from here on is noticed: `_still`
        return message

    def _dress(self, message: Message) -> None:
        """Put what must be said into the response's headers; hold an event stream to its session."""
        vigil = self.ways.vigil
        if _dress(message, self.session, self.session._owed) and vigil is not None:
            stream = EventStream(self.send_on)
            if stream.hold(vigil, self.session):
                self.stream, self.send_on = stream, stream.send

    def _commit(self) -> Awaitable[object] | None:
        """Commit; None if that is all, else what is to be awaited: the rest, where the store has to be waited for.

        An error page is a response too, and must not run into the same commit again: so a commit that failed is the last.
        """
        session, ways = self.session, self.ways
        commit, time = ways.commit_now, ways.time
        try:
            flow = commit(session, time())
            if flow is None:
                return None
            if ways.waits is not None:
                return shielded(flow) if ways.waits else flow
            rest = begun(flow)
        except SessionError as error:
            if session._failed(error):
                raise
            return None
        if rest is None:
            return None
        ways.waits = True
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
        await log_out(self.ways.sessions, self.session)
        visit.started(self.session)
        await self._commit_rest()

    # ---- the application has ended

    def leave(self) -> Awaitable[None]:
        """The application is done."""
        return self._responded() or self._leave()

    async def _leave(self) -> None:
        if (
            self.start is not None
        ):  # a response without an end: the server will have something to say about it
            start, self.start = self.start, None
            await self.send_on(start)
        if self.stream is not None:
            self.stream.leave()
        if self.session._phase is _OPEN:
            await log_out(self.ways.sessions, self.session)
        else:
            await self._commit_rest()
        visit.depart(self.session)

    async def fail(self, error: BaseException) -> None:
        """The application failed: of all it meant to do, only a logout is carried out. To lose the client is no failure."""
        session = self.session
        if self.kept is not None or self.response is not None:
            await self._fail_after(error)
        started = session._phase is not _OPEN
        if self.stream is not None:
            self.stream.leave()
            if self.stream.explains(error):
                await self.leave()
                return
        if started and self.gone:
            await self.leave()
            raise error
        await log_out(self.ways.sessions, self.session)
        visit.depart(session)
        reason = _behind(error, session._failure)
        if started or not isinstance(reason, visit.REFUSED):
            raise error
        await self._refuse(reason, error)

    async def _fail_after(self, error: BaseException) -> None:
        """It failed in what comes after a response, which is not the response's failure; that may have one of its own."""
        if isinstance(error, Exception):
            try:
                await self.leave()
            except Exception as trouble:
                raise error from trouble
        raise error  # who was cancelled waits for nothing: in a turn of the event loop the rest goes on alone

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
