"""Sessions shared with Node, for any ASGI 3 application: `scope["session"]`.

The session is stored before the headers of the response leave, where express-session does that at its end: a browser never has a
response whose session is not stored yet. What a streamed body changes afterwards is stored at its end.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from coatcheck import visit
from coatcheck.arrivals import of_scope, target_of_scope
from coatcheck.core.ports import Checks
from coatcheck.dialects.express import visits
from coatcheck.dialects.express.faces import AsyncExpressSession
from coatcheck.dialects.express.flow import Flow
from coatcheck.dialects.express.session import Phase
from coatcheck.errors import StoreError
from coatcheck.flows import shielded

__all__ = ["AsgiSessions"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]
PATIENCE: Final = 10.0
"""Seconds an application's start is held up at most by a store that does not answer."""
_STARTS: Final = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
_ENDS: Final = frozenset(
    {"http.response.body", "http.response.pathsend", "websocket.close", "websocket.http.response.body"}
)


class AsgiSessions:
    """The middleware that `ExpressSessions.asgi` makes."""

    def __init__(
        self, app: App, opens: Callable[[], Flow], *, scope_key: str, close: Callable[[], Awaitable[None]]
    ) -> None:
        self.app, self.flow, self._key = app, opens(), scope_key
        self._opens, self._close = opens, close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            self.flow = self._opens()
            await self.app(scope, receive, self._at_both_ends(send))
            return
        arrival = of_scope(scope)
        mounted = isinstance(
            scope.get(self._key), AsyncExpressSession
        )  # under itself: one session a request (1.1)
        if mounted or not visits.covers(self.flow, arrival, target_of_scope(scope)):
            await self.app(scope, receive, send)
            return
        session = visits.arrive(self.flow, AsyncExpressSession, arrival)
        passage = _Passage(self, session, scope, receive, send)
        try:
            await self.flow.open(session, visits.named(self.flow, arrival.cookies), session._new_cookie)
        except StoreError as error:
            await passage.refuse(error)
            return
        scope[self._key] = session
        try:
            await self.app(scope, passage.receive, passage.send)
            await passage.finish()
        except visit.REFUSED as error:
            await passage.refuse(error)
        except Exception:
            if passage.is_left:  # what the application makes of that is no failure
                await passage.finish()
            raise
        finally:
            session._phase = Phase.DONE

    def _at_both_ends(self, send: Send) -> Send:
        """When the application has started, say it if the store cannot be reached; when it has ended, close that."""

        async def sent(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                await self._ask()
            elif message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                await self._close()
            await send(message)

        return sent

    async def _ask(self) -> None:
        store = self.flow.store
        if isinstance(store, Checks):
            try:
                async with asyncio.timeout(PATIENCE):
                    await store.check()
            except (StoreError, TimeoutError) as error:
                self.flow.failed(error)


class _Passage:
    """One request on its way through: its session, and how far the response is."""

    def __init__(
        self,
        middleware: AsgiSessions,
        session: AsyncExpressSession,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self._flow, self._key = middleware.flow, middleware._key
        self._session, self._scope, self._receive, self._send = session, scope, receive, send
        self._is_kept = True
        self.is_left = False
        """Whether the client has gone. (Of HTTP, a server says so where something is sent: ASGI 2.4.)"""

    async def receive(self) -> Message:
        """Take note that the client of a WebSocket has gone: nothing that is sent tells of that."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self.is_left = True
        return message

    async def send(self, message: Message) -> None:
        """Store before the headers leave, and again before the end of the body."""
        kind, session = message["type"], self._session
        if kind in _STARTS and session._phase is Phase.OPEN:
            message = self._dressed(message, sends=await self._commit())
            session._phase = Phase.STREAMING
        elif kind in _ENDS and not message.get("more_body"):
            if kind == "websocket.close" and session._phase is Phase.OPEN and session._entry is not None:
                await self._commit()  # refused: there are no headers for a cookie
            await self.finish()
            session._phase = Phase.DONE
        try:
            await self._send(message)
        except OSError:
            self.is_left = True
            raise

    async def finish(self) -> None:
        """The response has ended, or the application has, because its client is gone."""
        if self._is_kept and self._session._phase is Phase.STREAMING:
            await self._commit_rest()

    async def _commit(self) -> bool:
        self._is_kept = visits.is_there(self._session, self._scope.get(self._key), f"scope[{self._key!r}]")
        if not self._is_kept:
            await shielded(self._flow.unset(self._session))
            return False
        return await shielded(self._flow.commit(self._session))

    async def _commit_rest(self) -> None:
        if visits.is_there(self._session, self._scope.get(self._key), f"scope[{self._key!r}]"):
            await shielded(self._flow.commit_rest(self._session))
        else:
            await shielded(self._flow.unset(self._session))

    def _dressed(self, message: Message, *, sends: bool) -> Message:
        """The message, with what must be said about the session: another one, since a cache inside may keep the first."""
        headers = [(name, value) for name, value in message.get("headers") or ()]
        told = {name: _joined(headers, name) for name in (b"vary", b"cache-control")}
        said = visits.say(
            self._session, self._flow, sends=sends, vary=told[b"vary"], cache_control=told[b"cache-control"]
        )
        for name, value in ((b"vary", said.vary), (b"cache-control", said.cache_control)):
            if value is not None:
                headers = [item for item in headers if item[0].lower() != name] + [
                    (name, value.encode("latin-1"))
                ]
        if said.set_cookie is not None:
            headers.append((b"set-cookie", said.set_cookie.encode("latin-1")))
        return {**message, "headers": headers}

    async def refuse(self, error: Exception) -> None:
        """Answer in the application's place, if nothing has left; else let the server know."""
        if isinstance(error, StoreError):
            self._flow.failed(error)
        kind = {"http": "http", "websocket": "websocket.http"}[self._scope["type"]]
        can_answer = kind == "http" or "websocket.http.response" in self._scope.get("extensions", ())
        if self._session._phase is not Phase.OPEN or not isinstance(error, visit.REFUSED) or not can_answer:
            raise error
        refusal = visit.answer_to(error)
        headers = [(name.encode("ascii"), value.encode("ascii")) for name, value in refusal.headers]
        await self._send({"type": f"{kind}.response.start", "status": refusal.status, "headers": headers})
        await self._send({"type": f"{kind}.response.body", "body": refusal.body})


def _joined(headers: list[tuple[bytes, bytes]], name: bytes) -> str | None:
    found = [value.decode("latin-1") for field, value in headers if field.lower() == name]
    return ", ".join(found) if found else None
