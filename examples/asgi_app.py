"""ASGI without a framework: log in, count, see where you are logged in, end one of these logins, log out.

SESSION_SECRET=$(coatcheck secret) uvicorn examples.asgi_app:app
"""

import os
from urllib.parse import parse_qsl

from coatcheck.asgi import Receive, Scope, Send, SessionMiddleware
from examples import pages


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    status, text = await act(scope, await form(receive))
    body = text.encode() if status != 303 else b""
    headers = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    headers += [(name.encode(), value.encode()) for name, value in pages.PRIVATE.items()]
    if status == 303:
        headers.append((b"location", text.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def act(scope: Scope, form: dict[str, str]) -> tuple[int, str]:
    session = scope["session"]
    match scope["method"], scope["path"]:
        case "GET", "/":
            return 200, pages.home(session.user_id, session.get("count", 0))
        case "POST", "/login":
            if not pages.is_right(form.get("user", ""), form.get("password", "")):
                return 401, pages.WRONG
            session.login(form["user"])
        case "POST", "/count":
            session.increment("count")
        case "POST", "/logout":
            session.logout()
        case _, "/devices" | "/devices/end" if session.user_id is None:
            return 401, "Log in first."
        case "GET", "/devices":
            return 200, pages.devices(await session.devices(), session.handle)
        case "POST", "/devices/end":
            await session.end_device(form.get("handle", ""))
            return 303, "/devices"
        case _:
            return 404, "Not found."
    return 303, "/"


async def form(receive: Receive) -> dict[str, str]:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return dict(parse_qsl(body.decode()))


store = os.environ.get("SESSION_STORE", "sqlite:///sessions.db")
app = SessionMiddleware(answer, store=store, secret=os.environ["SESSION_SECRET"])
