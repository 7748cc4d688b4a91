"""An application whose sessions are in cookies, for a real browser: `uvicorn tests.web.cookie_app:app`."""

from typing import Any
from urllib.parse import parse_qsl

from coatcheck.asgi import SessionMiddleware
from coatcheck.stores.cookie import CookieStore
from coatcheck.stores.memory import MemoryStore
from tests.web.paths import SECRET


async def pages(scope: Any, receive: Any, send: Any) -> None:
    """`/put?note=4500`, `/login`, `/logout`; each tells whose session it is, and how long its note."""
    if scope["type"] != "http":
        return
    session, query = scope["session"], dict(parse_qsl(scope["query_string"].decode()))
    if scope["path"] == "/put":
        session["note"] = "x" * int(query["note"])
    elif scope["path"] == "/login":
        session.login("ada")
    elif scope["path"] == "/logout":
        session.logout()
    text = f"{session.user_id} {len(session.get('note', ''))}"
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


app = SessionMiddleware(
    pages, store=CookieStore(revocation="epoch", store=MemoryStore(), octets=16_000), secret=SECRET
)
