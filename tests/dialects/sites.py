"""A site in the express dialect, on either face, whose handler is a function of the session."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from coatcheck import Clock, Event
from coatcheck.dialects.express import ExpressSessions, MemoryStore, express_sessions

__all__ = ["NOW", "Answer", "Site"]

NOW = 1_800_000_000.0
Handler = Callable[[Any], Any]


@dataclass
class Answer:
    """What a site answered, and what its handler returned."""

    status: int
    headers: list[tuple[str, str]]
    result: Any = None
    set_cookies: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.set_cookies = [value for name, value in self.headers if name.lower() == "set-cookie"]

    @property
    def cookie(self) -> str:
        """What the browser sends from here on."""
        return self.set_cookies[-1].partition(";")[0]

    def header(self, name: str) -> str | None:
        """A header field, joined."""
        found = [value for field_, value in self.headers if field_.lower() == name]
        return ", ".join(found) if found else None


class Site:
    """One application on one face."""

    def __init__(self, face: str, *, store: Any = None, twice: bool = False, **options: Any) -> None:
        self.face, self.now, self.events = face, NOW, list[Event]()
        self.store = store if store is not None else MemoryStore()
        options = {
            "secret": "keyboard cat",
            "clock": Clock(lambda: self.now),
            "on_event": self.events.append,
            **options,
        }
        self.sessions: ExpressSessions = express_sessions(self.store, **options)
        self.place: Any = None
        self._handlers: tuple[Handler, ...] = ()
        self._headers: Sequence[tuple[str, str]] = ()
        self._result: Any = None
        app: Any = self._asgi if face == "asgi" else self._wsgi
        for _ in range(1 + twice):
            app = self.sessions.asgi(app) if face == "asgi" else self.sessions.wsgi(app)
        self._app = app

    def heard(self) -> list[str]:
        """The names of events since last asked."""
        names: list[str] = [event.name for event in self.events]
        self.events.clear()
        return names

    def act(self, session: Any, verb: str, *given: Any) -> Any:
        """A verb that needs the store, which is awaited on one of the faces. The stores of these tests never wait."""
        done = getattr(session, verb)(*given)
        if not inspect.isawaitable(done):
            return done
        try:
            done.__await__().send(None)
        except StopIteration as end:
            return end.value
        raise AssertionError("it waited")

    def get(
        self, handler: Handler, *, cookie: str = "", path: str = "/", headers: Sequence[tuple[str, str]] = ()
    ) -> Answer:
        """One request; `headers` are the handler's own, of its response."""
        return self._ask((handler,), cookie, path, headers)

    def stream(self, before: Handler, after: Handler, *, cookie: str = "") -> Answer:
        """One that changes the session before, and after, the headers have left."""
        return self._ask((before, after), cookie, "/", ())

    def _ask(
        self, handlers: tuple[Handler, ...], cookie: str, path: str, headers: Sequence[tuple[str, str]]
    ) -> Answer:
        outer = self._handlers, self._headers, self._result
        self._handlers, self._headers, self._result = handlers, headers, None
        try:
            told = (
                self._through_asgi(cookie, path) if self.face == "asgi" else self._through_wsgi(cookie, path)
            )
            return Answer(*told, self._result)
        finally:
            self._handlers, self._headers, self._result = outer

    def _through_asgi(self, cookie: str, path: str) -> tuple[int, list[tuple[str, str]]]:
        messages: list[Any] = []
        headers = [(b"host", b"localhost")] + ([(b"cookie", cookie.encode())] if cookie else [])
        scope = {
            "type": "http", "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers,
            "client": ("127.0.0.1", 1),
        }  # fmt: skip

        async def send(message: Any) -> None:
            messages.append(message)

        _to_its_end(self._app(scope, None, send))
        told = [(name.decode(), value.decode("latin-1")) for name, value in messages[0]["headers"]]
        return messages[0]["status"], told

    async def _asgi(self, scope: Any, receive: Any, send: Any) -> None:
        self.place, handlers, headers = scope, self._handlers, self._headers
        session = scope.get("session")
        self._result = handlers[0](session)
        raw = [(name.encode(), value.encode()) for name, value in headers]
        result = self._result
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        for handler in handlers[1:]:
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            handler(session)
        await send({"type": "http.response.body", "body": b""})
        self._result = result

    def _through_wsgi(self, cookie: str, path: str) -> tuple[int, list[tuple[str, str]]]:
        told: list[Any] = []
        environ = {
            "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": "", "wsgi.url_scheme": "http",
            "HTTP_HOST": "localhost", "wsgi.input": BytesIO(), "REMOTE_ADDR": "127.0.0.1",
            **({"HTTP_COOKIE": cookie} if cookie else {}),
        }  # fmt: skip
        body = self._app(
            environ, lambda status, headers, exc_info=None: told.append((int(status[:3]), headers))
        )
        b"".join(body)
        if hasattr(body, "close"):
            body.close()
        return told[-1][0], list(told[-1][1])

    def _wsgi(self, environ: Any, start_response: Any) -> Any:
        self.place, handlers = environ, self._handlers
        session = environ.get("coatcheck.session")
        self._result = handlers[0](session)
        start_response("200 OK", list(self._headers))
        return self._rest(session, handlers[1:])

    def _rest(self, session: Any, handlers: tuple[Handler, ...]) -> Any:
        for handler in handlers:
            yield b"x"
            handler(session)
        yield b""


def _to_its_end(flow: Any) -> None:
    """Run a coroutine that never waits, also within another."""
    try:
        flow.send(None)
    except StopIteration:
        return
    raise AssertionError("it waited")
