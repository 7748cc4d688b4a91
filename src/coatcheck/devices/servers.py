"""The devices page as an application to mount: one shell for ASGI, one for WSGI."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from coatcheck import asgi, wsgi
from coatcheck.asgi import Receive, Scope, Send
from coatcheck.devices.page import LONGEST, Answer, Ask, DevicesPage

__all__ = ["DevicesApp", "DevicesWsgiApp"]


class DevicesApp:
    """The devices page for ASGI: `app.mount("/account/devices", DevicesApp())`, inside coatcheck's middleware.

    `options` are those of `DevicesPage`; `scope_key` is that of the middleware.
    """

    def __init__(self, *, scope_key: str = "session", **options: Any) -> None:
        self._page, self._key = DevicesPage(**options), scope_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the devices page answers HTTP, and no {scope['type']}")
        session = await asgi.get_session(scope, key=self._key)
        answer = await self._page.answer(session, await _ask(scope, receive))
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.headers.items()]
        headers.append((b"content-length", str(len(answer.body)).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else answer.body
        await send({"type": "http.response.body", "body": body})


async def _ask(scope: Scope, receive: Receive) -> Ask:
    root: str = scope.get("root_path", "").rstrip("/")
    path: str = scope["path"]
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        field = name.decode("latin-1")
        # Two of a kind decide nothing: joined, they match no origin and no token.
        headers[field] = (
            value.decode("latin-1")
            if field not in headers
            else f"{headers[field]}, {value.decode('latin-1')}"
        )
    body = b""
    while scope["method"] == "POST":
        message = await receive()
        body = (body + message.get("body", b""))[: LONGEST + 1]
        if not message.get("more_body", False):
            break
    inner = path[len(root) :] if root and path.startswith(root) else path
    return Ask(scope["method"], inner, headers, body, scope.get("query_string", b"").decode("latin-1"), root)


class DevicesWsgiApp:
    """The devices page for WSGI, inside coatcheck's middleware, whose `environ_key` is the same. `options`: of `DevicesPage`."""

    def __init__(self, *, environ_key: str = wsgi.KEY, **options: Any) -> None:
        self._page, self._key = DevicesPage(**options), environ_key

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        session = wsgi.get_session(environ, key=self._key)
        answer: Answer = self._page.answer_now(session, _asked(environ))
        headers = [*answer.headers.items(), ("Content-Length", str(len(answer.body)))]
        start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]


def _asked(environ: WSGIEnvironment) -> Ask:
    headers = {
        name[5:].replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    headers["content-type"] = environ.get("CONTENT_TYPE", "")
    length = environ.get("CONTENT_LENGTH") or "0"
    size = min(int(length), LONGEST + 1) if length.isdigit() else 0
    body = environ["wsgi.input"].read(size) if size else b""
    return Ask(
        environ["REQUEST_METHOD"],
        environ.get("PATH_INFO", ""),
        headers,
        body,
        environ.get("QUERY_STRING", ""),
        environ.get("SCRIPT_NAME", "").rstrip("/"),
    )
