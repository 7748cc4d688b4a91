"""A site to look at from outside: `/<fault>/…`, the same application with one thing done badly; `/well/` does nothing badly.

Served by a real uvicorn. Faults of headers are done to the answers of a good application; faults of the session's
life are those of one that keeps its sessions as people do in their first week.
"""

import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from html import escape
from typing import Any
from urllib.parse import parse_qs

from coatcheck.core.cookies import CookieSettings
from coatcheck.starlette import SessionMiddleware

SECRET = "u3Jq8Zt1pXv5LrWc7KdYb2HnMs9GfEa4QwTzRxCoViB"
PASSWORD = "open-sesame-9"
HSTS = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")

App = Callable[[Any, Any, Any], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


async def _read(receive: Any, fault: str = "") -> dict[str, str]:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if fault == "json":
        return dict(json.loads(body)) if body.startswith(b"{") else {}
    return {name: values[0] for name, values in parse_qs(body.decode()).items()}


async def _send(send: Any, status: int, text: str, *headers: tuple[bytes, bytes]) -> None:
    fields = [(b"content-type", b"text/html"), *headers]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": text.encode()})


def _foreign(scope: Any) -> bool:
    said = dict(scope["headers"])
    return said.get(b"sec-fetch-site", b"same-origin") not in (b"same-origin", b"none")


FORM = '<form method="post" action="{0}"><input type="hidden" name="state" value="42"></form>'


async def pages(scope: Any, receive: Any, send: Any) -> None:
    """The good one: sessions of coatcheck's."""
    fault, path, session = scope["fault"], scope["path"], scope["session"]
    if scope["method"] == "POST" and _foreign(scope) and fault != "csrf":
        await _send(send, 403, "from another site")
    elif path == "/login" and scope["method"] == "POST":
        said = await _read(receive, fault)
        if said.get("password") != PASSWORD or (said.get("state") != "42" and fault != "csrf"):
            await _send(send, 401, "wrong")
            return
        session.login(said["user"])
        await _send(send, 200, "welcome")
    elif path == "/logout" and (scope["method"] == "POST" or fault == "get-logout"):
        session.logout()
        await _send(send, 200, "bye")
    elif path == "/me":
        user = session.user_id
        await _send(send, 200 if user else 401, escape(user or "who?"))
    elif path == "/login":
        session["seen"] = True
        await _send(send, 200, FORM.format("login"))
    elif path == "/public":
        if fault == "public-session":
            session["seen"] = True
        elif fault == "public-look":
            session.get("seen")
        await _send(send, 200, "hello, world")
    else:
        await _send(send, 200, FORM.format("logout"))


class Naive:
    """Sessions as in a first week: a dict, and an id that is whatever the cookie says."""

    def __init__(self) -> None:
        self.users: dict[str, str | None] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        fault, path = scope["fault"], scope["path"]
        found = re.search(r"__Host-session=([^;]+)", dict(scope["headers"]).get(b"cookie", b"").decode())
        key = found[1] if found else ""
        headers: Headers = [(b"cache-control", b"no-store"), (b"vary", b"Cookie")]
        if scope["method"] == "POST" and _foreign(scope):
            await _send(send, 403, "from another site")
            return
        if path == "/login" and scope["method"] == "POST":
            said = await _read(receive)
            keep = fault in ("fixed", "adopts") and (key in self.users or fault == "adopts")
            new = key if keep and key else secrets.token_urlsafe(8 if fault == "short" else 32)
            if fault not in ("old-lives", "old-becomes"):
                self.users.pop(key, None)
            elif fault == "old-becomes":
                self.users[key] = said["user"]
            self.users[new] = said["user"]
            headers.append((b"set-cookie", _naive_cookie(new)))
            await _send(send, 200, "welcome", *headers)
        elif path == "/logout" and scope["method"] == "POST":
            if fault != "logout-only-clears":
                self.users.pop(key, None)
            headers.append((b"set-cookie", _naive_cookie("") + b"; Max-Age=0"))
            await _send(send, 200, "bye", *headers)
        elif path == "/me":
            user = self.users.get(key)
            await _send(send, 200 if user else 401, user or "who?", *headers)
        elif path == "/login":
            if key not in self.users:
                key = key if fault == "adopts" and key else secrets.token_urlsafe(32)
                self.users[key] = None
                headers.append((b"set-cookie", _naive_cookie(key)))
            await _send(send, 200, FORM.format("login"), *headers)
        else:
            await _send(send, 200, FORM.format("logout"))


def _naive_cookie(value: str) -> bytes:
    return f"__Host-session={value}; Path=/; Secure; HttpOnly; SameSite=Lax".encode()


NAIVE = {"fixed", "adopts", "short", "old-lives", "old-becomes", "logout-only-clears", "naive"}


def _spoil(fault: str, headers: Headers, scope: Any) -> Headers:
    """One thing done badly to the headers of a good answer."""
    said = dict(scope["headers"])
    spoilt: Headers = []
    for name, value in headers:
        if name == b"set-cookie":
            value = _spoil_cookie(fault, value, said)
            if fault == "twice":
                spoilt.append((name, value))
        if name == b"cache-control" and fault == "stored" and value == b"no-store":
            value = b"public, max-age=60"
        if name == b"cache-control" and fault == "member-stored" and value == b"private":
            value = b"public, max-age=60"
        if not (name == b"vary" and fault == "no-vary"):
            spoilt.append((name, value))
    if fault == "host" and said.get(b"host", b"").startswith(b"evil"):
        spoilt.append((b"location", b"https://" + said[b"host"] + b"/"))
    if fault == "forwarded" and b"x-forwarded-host" in said:
        spoilt.append((b"location", b"https://" + said[b"x-forwarded-host"] + b"/"))
    at = time.time() + (3600 if fault == "clock" else 0)
    spoilt.append((b"date", formatdate(at, usegmt=True).encode()))
    return spoilt if fault == "no-hsts" else [*spoilt, HSTS]


def _spoil_cookie(fault: str, value: bytes, said: dict[bytes, bytes]) -> bytes:
    for word, attribute in (("script", b"HttpOnly"), ("insecure", b"Secure"), ("no-site", b"SameSite=Lax")):
        if fault == word:
            value = value.replace(b"; " + attribute, b"")
    if fault == "unsecured" and said.get(b"x-forwarded-proto") == b"http":
        value = value.replace(b"; Secure", b"")
    if fault == "domain":
        value += b"; Domain=localhost"
    if fault == "host-domain" and said.get(b"host", b"").startswith(b"evil"):
        value += b"; Domain=" + said[b"host"]
    if fault == "for-ever":
        value += b"; Max-Age=99999999"
    return value


def _with_body(fault: str, body: bytes, start: dict[str, Any], scope: Any) -> bytes:
    if fault == "shown":
        for name, value in start["headers"]:
            if name == b"set-cookie":
                body += value.partition(b";")[0].partition(b"=")[2]
    host = dict(scope["headers"]).get(b"host", b"")
    return body + (host if fault == "host-in-page" else b"")


_GOOD = SessionMiddleware(pages, secret=SECRET, cookie=CookieSettings())
_UNNAMED = SessionMiddleware(pages, secret=SECRET, name="session_id")
_NAIVE = Naive()


async def app(scope: Any, receive: Any, send: Any) -> None:
    """`/<fault>/path` is `path` with that fault."""
    if scope["type"] != "http":
        return
    _, fault, path = scope["path"].split("/", 2)
    started: dict[str, Any] = {}

    async def spoiling(message: Any) -> None:
        if message["type"] == "http.response.start":
            started.update(message)
            started["headers"] = _spoil(fault, list(message["headers"]), scope)
            return
        if started:
            await send(dict(started))
        body = (
            _with_body(fault, message.get("body", b""), started, scope)
            if started
            else message.get("body", b"")
        )
        started.clear()
        await send({**message, "body": body})

    inner = _NAIVE if fault in NAIVE else _UNNAMED if fault == "no-prefix" else _GOOD
    await inner({**scope, "fault": fault, "path": f"/{path}"}, receive, spoiling)


async def plain(scope: Any, receive: Any, send: Any) -> None:
    """What is said over plain HTTP: `/redirect`, `/cookie` (on the way), `/served`."""
    if scope["type"] != "http":
        return
    there = (b"location", b"https://localhost/")
    if scope["path"] == "/served":
        await _send(send, 200, "hello")
    elif scope["path"] == "/cookie":
        await _send(send, 308, "", there, (b"set-cookie", b"session=1"))
    else:
        await _send(send, 308, "", there)
