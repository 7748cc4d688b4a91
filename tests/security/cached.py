"""An application to be put behind a shared cache, as ASGI and as WSGI, with our headers and, planted, without them.

Every page says whose it is, so that whoever is handed another's knows.
"""

import secrets
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from coatcheck.asgi import SessionMiddleware as AsgiSessions
from coatcheck.wsgi import SessionMiddleware as WsgiSessions

SECRET = "u3Jq8Zt1pXv5LrWc7KdYb2HnMs9GfEa4QwTzRxCoViB"
OPTIONS: dict[str, Any] = {"secret": SECRET, "proxy": "127.0.0.1/32"}
PUBLIC = "public, max-age=600, s-maxage=600"

Reply = tuple[int, str, str]
"""Status, Cache-Control of the application's own ("" for none), text."""


def page(path: str, query: dict[str, list[str]], session: Any) -> Reply:
    """What is answered."""
    if path == "/pub":
        return 200, query.get("cc", [""])[0], "for everybody"
    if path == "/login":
        session.login(query["user"][0])
        return 200, query.get("cc", [""])[0], whose(session)
    if path == "/logout":
        session.logout()
        return 200, PUBLIC, "bye"
    if path == "/me":
        return 200, query.get("cc", [""])[0], whose(session)
    if path == "/write":
        session["n"] = session.get("n", 0) + 1
        return 200, PUBLIC, whose(session)
    if path == "/form":
        token = session.setdefault("token", secrets.token_urlsafe(12))
        return 200, PUBLIC, f"token {token}"
    if path == "/away":
        session["n"] = 1
        return 302, PUBLIC, whose(session)
    if path == "/missing":
        return 404, PUBLIC, whose(session)
    raise LookupError(path)


def whose(session: Any) -> str:
    """Whose page this is."""
    return f"page of {session.user_id or 'nobody'}"


def _headers(reply: Reply) -> list[tuple[str, str]]:
    fields = [("Content-Type", "text/plain"), ("Content-Length", str(len(reply[2])))]
    return [*fields, ("Cache-Control", reply[1])] if reply[1] else fields


async def _asgi_pages(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    reply = page(scope["path"], parse_qs(scope["query_string"].decode()), scope["session"])
    headers = [(name.lower().encode(), value.encode()) for name, value in _headers(reply)]
    await send({"type": "http.response.start", "status": reply[0], "headers": headers})
    await send({"type": "http.response.body", "body": reply[2].encode()})


def _wsgi_pages(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    reply = page(environ["PATH_INFO"], parse_qs(environ["QUERY_STRING"]), environ["coatcheck.session"])
    start_response(f"{reply[0]} -", _headers(reply))
    return [reply[2].encode()]


asgi = AsgiSessions(_asgi_pages, **OPTIONS)
wsgi = WsgiSessions(_wsgi_pages, **OPTIONS)

# ------------------------------------------------------------------------------------------------- the planted fault


def _without_ours(headers: list[tuple[Any, Any]], said: str) -> list[tuple[Any, Any]]:
    """Without what we added: the application's Cache-Control as it was, and no Vary."""
    kept = [(name, value) for name, value in headers if _text(name) not in ("vary", "cache-control")]
    make = str.encode if headers and isinstance(headers[0][0], bytes) else str
    return [*kept, (make("cache-control"), make(said))] if said else kept


def _text(name: Any) -> str:
    return (name.decode() if isinstance(name, bytes) else name).lower()


def _said(path: str, query: str) -> str:
    """The Cache-Control that the application gives this page."""
    given = parse_qs(query).get("cc", [""])[0]
    return given if path in ("/pub", "/login", "/me") else PUBLIC


async def asgi_bare(scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
    """The same, with our headers taken away again."""

    async def bare(message: Any) -> None:
        if message["type"] == "http.response.start":
            said = _said(scope["path"], scope["query_string"].decode())
            message = {**message, "headers": _without_ours(list(message["headers"]), said)}
        await send(message)

    await asgi(scope, receive, bare)


def wsgi_bare(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Likewise."""
    said = _said(environ["PATH_INFO"], environ["QUERY_STRING"])

    def bare(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
        return start_response(status, _without_ours(headers, said), *more)

    return wsgi(environ, bare)
