"""A provider of logins as an application meets it: its key, its claims, its logout tokens, and the endpoint for those."""

import json
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, Final
from urllib.parse import parse_qs, quote

from coatcheck import LoginRefused
from coatcheck.asgi import get_session
from coatcheck.federation import LogoutApp, LogoutWsgiApp, Provider
from coatcheck.federation.logout_token import EVENT
from coatcheck.tokens import Key, KeyRing
from coatcheck.tokens.jws import sign
from coatcheck.wsgi import get_session as get_session_now
from tests.security.forms import form
from tests.security.rig import NOON, Browser, Response, Site

__all__ = [
    "CLIENT",
    "FORGER",
    "GONE",
    "ISSUER",
    "KEY",
    "federated",
    "log_in",
    "logout_token",
    "notify",
    "provider",
]

ISSUER: Final = "https://id.example"
CLIENT: Final = "shop"
KEY: Final = Key.generate("ES256", kid="p1")
FORGER: Final = Key.generate("ES256", kid="p1")


class _Gone:
    """A claim that is left out. Named in the ids of tests, so it says the same in every process."""

    def __repr__(self) -> str:
        return "GONE"


GONE: Final = _Gone()
_NUMBERS: Final = count()


def provider(**options: Any) -> Provider:
    """What the application knows of it."""
    return Provider(KeyRing([KEY.public()]), issuer=ISSUER, client_id=CLIENT, **options)


def federated(known: Provider | None = None) -> Callable[[str, Any], Any]:
    """`make(within=federated())`: /oidc/logout is the endpoint, /callback?claims=… logs in by an ID token that was verified."""
    known = known or provider()

    def within(face: str, pages: Any) -> Any:
        return _asgi(known, pages) if face == "asgi" else _wsgi(known, pages)

    return within


def _logged_in(known: Provider, session: Any, query: str) -> tuple[int, str]:
    try:
        known.log_in(session, json.loads(parse_qs(query)["claims"][0]))
    except LoginRefused as refused:
        return 401, refused.reason
    return 200, ""


def _asgi(known: Provider, pages: Any) -> Any:
    endpoint = LogoutApp(known)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/oidc/logout":
            await endpoint(scope, receive, send)
        elif scope["path"] == "/callback":
            status, reason = _logged_in(known, await get_session(scope), scope["query_string"].decode())
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": reason.encode()})
        else:
            await pages(scope, receive, send)

    return app


def _wsgi(known: Provider, pages: Any) -> Any:
    endpoint = LogoutWsgiApp(known)

    def app(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/oidc/logout":
            return endpoint(environ, start_response)
        if environ["PATH_INFO"] == "/callback":
            status, reason = _logged_in(known, get_session_now(environ), environ["QUERY_STRING"])
            start_response(f"{status} Whatever", [])
            return [reason.encode()]
        return pages(environ, start_response)

    return app


def log_in(site: Site, *, browser: Browser | None = None, **claims: Any) -> tuple[Browser, Response]:
    """Somebody comes back from the provider, with an ID token that says this."""
    browser = browser or site.browser()
    told = {"iss": ISSUER, "aud": CLIENT, "sub": "ada", "sid": "s1", "auth_time": site.time.now, **claims}
    text = json.dumps({name: value for name, value in told.items() if value is not GONE})
    return browser, browser.post(f"/callback?claims={quote(text)}")


def logout_token(*, key: Key = KEY, now: float = NOON, typ: str | None = "logout+jwt", **claims: Any) -> str:
    """A logout token; `claim=GONE` leaves one out."""
    told: Mapping[str, Any] = {
        "iss": ISSUER, "aud": CLIENT, "iat": int(now), "exp": int(now) + 120, "jti": f"j{next(_NUMBERS)}", "sub": "ada",
        "sid": "s1", "events": {EVENT: {}}, **claims,
    }  # fmt: skip
    payload = {name: value for name, value in told.items() if value is not GONE}
    return sign(key, json.dumps(payload).encode(), typ=typ)


def notify(site: Site, token: str, **more: Any) -> Response:
    """The provider sends it."""
    return site.post("/oidc/logout", **{**form({"logout_token": token}), **more})
