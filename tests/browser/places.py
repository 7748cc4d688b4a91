"""Sites that a real browser visits, by their host names: shops with different cookies, and those who would rob them.

    uvicorn tests.browser.places:app --ssl-keyfile … --ssl-certfile …

All of them are one process; the browser is told that every name is this machine.
"""

from functools import cache
from typing import Any

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute

from coatcheck import CookieSettings
from coatcheck.asgi import CsrfMiddleware, SessionMiddleware, csrf_field, get_session

SECRET = "vQ0m6nTzKxw3Jr8LdYbPfE5sGh1UaC9oXiR2tWqNyZk"

done: dict[str, list[str]] = {}
"""Host -> whose name things were done in."""


async def page(request: Request) -> Response:
    return HTMLResponse("<!doctype html><title>page</title>" + request.query_params.get("html", ""))


async def form(request: Request) -> Response:
    field = csrf_field(request) if "coatcheck.csrf" in request.scope else ""
    return HTMLResponse(
        f'<!doctype html><form method="post" action="/transfer">{field}<button>Send</button></form>'
    )


async def login(request: Request) -> Response:
    session = await get_session(request)
    session.login(request.query_params.get("user", "ada"))
    return RedirectResponse("/state", 303) if "then" in request.query_params else Response("in")


async def logout(request: Request) -> Response:
    (await get_session(request)).logout()
    return Response("out")


async def transfer(request: Request) -> Response:
    session = await get_session(request)
    done.setdefault(str(request.url.hostname), []).append(session.user_id or "nobody")
    return Response("transferred")


async def state(request: Request) -> Response:
    session = await get_session(request)
    cookies = sorted(pair.partition("=")[0].strip() for pair in request.headers.get("cookie", "").split(";"))
    told = {"user": session.user_id, "done": done.get(str(request.url.hostname), []), "cookies": cookies}
    return JSONResponse(told)


async def begin_flow(request: Request) -> Response:
    (await get_session(request, key="flow"))["state"] = "s3cret"
    return Response("begun")


async def assertion(request: Request) -> Response:
    """Where an identity provider's form is posted to."""
    flow = await get_session(request, key="flow")
    session = await get_session(request)
    if flow.pop("state", None) != (await request.form()).get("state"):
        return Response("no such flow", 400)
    session.login("ada", method="saml")
    return RedirectResponse("/state", 303)


async def set_cookie(request: Request) -> Response:
    """Set-Cookie to the letter, for the browser's verdict."""
    response = Response("set")
    for value in request.query_params.getlist("c"):
        response.headers.append("set-cookie", value)
    return response


async def talk(websocket: Any) -> None:
    await websocket.accept()
    session = await get_session(websocket)
    await websocket.send_text(str(session.user_id))
    await websocket.close()


ROUTES = [
    Route("/", page), Route("/form", form), Route("/state", state), Route("/set", set_cookie),
    Route("/login", login, methods=["POST"]), Route("/logout", logout, methods=["POST"]),
    Route("/transfer", transfer, methods=["POST"]), Route("/begin-flow", begin_flow), Route("/acs", assertion, methods=["POST"]),
    WebSocketRoute("/ws", talk),
]  # fmt: skip


def shop(*origins: str, cookie: CookieSettings | None = None, cors: str = "", csrf: bool = True) -> Any:
    """A site with sessions; protected unless it is there to be robbed."""
    app: Any = Starlette(routes=ROUTES)
    if csrf:
        app = CsrfMiddleware(app, trusted_origins=origins)
    flow = CookieSettings(name="__Host-flow", same_site="none")
    app = SessionMiddleware(app, secret=SECRET, scope_key="flow", cookie=flow)
    app = SessionMiddleware(app, secret=SECRET, cookie=cookie or CookieSettings())
    if cors:  # outermost, so that a refusal can be read as well
        app = CORSMiddleware(
            app, [cors], allow_methods=["*"], allow_headers=["X-CSRF-Token"], allow_credentials=True
        )
    return app


def mounted(path: str, cookie: CookieSettings) -> Any:
    """A site whose cookie is for a part of it."""
    app = CsrfMiddleware(Starlette(routes=[Mount(path.rstrip("/"), routes=ROUTES)]))
    return SessionMiddleware(app, secret=SECRET, cookie=cookie)


elsewhere = Starlette(routes=[Route("/", page)])


@cache
def sites(port: str) -> dict[str, Any]:
    """Host -> the site, all on this port."""

    def at(host: str) -> str:
        return f"https://{host}:{port}"

    lax, none = CookieSettings(), CookieSettings(same_site="none")
    family = shop(
        at("a.family.example"), at("b.family.example"), cookie=CookieSettings(domain="family.example")
    )
    partitioned = CookieSettings(same_site="none", partitioned=True)
    return {
        "shop.example": shop(at("shop.example"), at("idp.example")),
        "bare.example": shop(),
        "strict.example": shop(at("strict.example"), cookie=CookieSettings(same_site="strict")),
        "none.example": shop(at("none.example"), cookie=none),
        "api.example": shop(at("spa.example"), cookie=partitioned, cors=at("spa.example")),
        "naked.example": shop(csrf=False, cookie=none),
        "naked-lax.example": shop(csrf=False, cookie=lax),
        "http-only.example": shop(cookie=CookieSettings(name="__Host-Http-session")),
        "a.family.example": family,
        "b.family.example": family,
        "path.example": mounted("/app", CookieSettings(path="/app")),
        "www.both.example": mounted("/app", CookieSettings(path="/app/", domain="both.example")),
    }


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Whoever is asked for."""
    if scope["type"] == "lifespan":
        await elsewhere(scope, receive, send)
        return
    host, _, port = dict(scope["headers"]).get(b"host", b"").decode().partition(":")
    await sites(port).get(host, elsewhere)(scope, receive, send)
