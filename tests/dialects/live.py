"""An application in our dialect over a real store, told by each request what to do, as `app.mjs` is: on either face."""

import asyncio
import inspect
from collections.abc import Sequence
from io import BytesIO
from typing import Any, Self

from coatcheck.core.stepping import run_now
from coatcheck.dialects.express import Cookie, express_sessions
from tests.dialects.node import Answer, Op

__all__ = ["PythonApp", "acted"]


class PythonApp:
    """Asked as `NodeApp` is: `run(*ops, cookie=…)`."""

    def __init__(self, face: str, store: Any, **options: Any) -> None:
        self._face = face
        self._store, self._sessions = store, express_sessions(store, **options)
        self._ops: Sequence[Op] = ()
        self._body: Any = None
        self._loop = asyncio.Runner()
        self._app: Any = (
            self._sessions.asgi(self._asgi) if face == "asgi" else self._sessions.wsgi(self._wsgi)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run(self._store.aclose())
        self._loop.close()
        self._store.close()

    def run(self, *ops: Op, cookie: str = "") -> Answer:
        """One request."""
        self._ops = ops
        status, headers = (
            self._loop.run(self._through_asgi(cookie)) if self._face == "asgi" else self._through_wsgi(cookie)
        )
        cookies = tuple(value for name, value in headers if name.lower() == "set-cookie")
        return Answer(status, cookies, self._body, headers)

    async def _through_asgi(self, cookie: str) -> tuple[int, list[tuple[str, str]]]:
        messages: list[Any] = []
        scope = {
            "type": "http", "scheme": "http", "path": "/", "raw_path": b"/", "query_string": b"", "client": ("127.0.0.1", 1),
            "headers": [(b"cookie", cookie.encode())] if cookie else [],
        }  # fmt: skip

        async def send(message: Any) -> None:
            messages.append(message)

        await self._app(scope, None, send)
        return messages[0]["status"], [
            (name.decode(), value.decode()) for name, value in messages[0]["headers"]
        ]

    async def _asgi(self, scope: Any, receive: Any, send: Any) -> None:
        await self._act(scope["session"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def _through_wsgi(self, cookie: str) -> tuple[int, list[tuple[str, str]]]:
        told: list[Any] = []
        environ = {
            "REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.url_scheme": "http", "wsgi.input": BytesIO(),
            **({"HTTP_COOKIE": cookie} if cookie else {}),
        }  # fmt: skip
        b"".join(
            self._app(environ, lambda status, headers, exc_info=None: told.append((int(status[:3]), headers)))
        )
        return told[-1][0], told[-1][1]

    def _wsgi(self, environ: Any, start_response: Any) -> list[bytes]:
        run_now(self._act(environ["coatcheck.session"]))
        start_response("200 OK", [])
        return []

    async def _act(self, session: Any) -> None:
        results = [await acted(session, name, given) for name, *given in self._ops]
        gone = session._is_destroyed
        cookie: Cookie = session.cookie
        data = None if gone else {**session, "cookie": cookie.dump()}
        self._body = {"has": not gone, "id": session.id, "data": data, "results": results}


async def acted(session: Any, name: str, given: list[Any]) -> Any:
    """One operation of a handler: what app.mjs does under this name."""
    match name:
        case "set":
            path, value = given
            place = session
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
        case "get":
            return session.get(given[0])
        case "delete":
            del session[given[0][0]]
        case "expires_in_store":
            flow = session._flow
            entry = await flow.store.get(session._sid, now=flow.options.clock.time())
            return None if entry is None else entry.expires
        case "maxAge":
            session.cookie.max_age = given[0]
        case _:
            done = getattr(session, name)(*given)
            return await done if inspect.isawaitable(done) else done
    return None
