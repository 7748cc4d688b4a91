"""The same small API in every framework, for real servers: `uvicorn tests.bearer.sites:fastapi`.

POST /login?user=…&scope=…   a pair of tokens, as JSON; with &browser=1 in cookies
GET  /orders   orders:read   POST /orders   orders:write   GET /email   a recent login
/auth/…        the endpoints

With URL in the environment, where clients find it, tokens are bound to the key of whoever logs in with a proof (DPoP).
"""

import os
from typing import Annotated, Any

from coatcheck import AsyncSessionManager, SessionManager
from coatcheck.bearer import LoginProof, Proven, TokenCookies, asgi, wsgi
from coatcheck.tokens import AccessClaims, AsyncTokens, DPoP, KeyRing, Tokens

COOKIES = TokenCookies(path="/auth", trusted_origins=["https://app.example"])
URL = os.environ.get("URL")
CLIENTS: dict[str, Any] = {"public_clients": ["web"], "cookies": COOKIES, "url": URL and f"{URL}/auth"}
FRAMEWORKS = ("fastapi", "starlette", "quart", "litestar", "aiohttp", "flask", "django_sync", "django_async")


def about() -> dict[str, Any]:
    """What both faces are made with."""
    keys = KeyRing.from_env("JWT_KEYS")
    dpop = DPoP(secret="VZ0Yt7a8mXq2Lr5uKc1pWn4sHe9dGj3b") if URL else None
    return {"keys": keys, "issuer": "https://id.example", "audience": "api", "dpop": dpop}


async def aproven(tokens: AsyncTokens, request: Any) -> Proven:
    """What an async login proves."""
    return await LoginProof(tokens, url=f"{URL}/login").acheck(request) if URL else Proven()


def sproven(tokens: Tokens, request: Any) -> Proven:
    """What a sync login proves."""
    return LoginProof(tokens, url=f"{URL}/login").check(request) if URL else Proven()


def async_tokens() -> AsyncTokens:
    """The tokens of an async application."""
    return AsyncTokens(AsyncSessionManager(os.environ["STORE"]), **about())


def sync_tokens() -> Tokens:
    """The tokens of a sync application."""
    return Tokens(SessionManager(os.environ["STORE"]), **about())


def given(pair: Any, browser: bool) -> tuple[Any, tuple[str, ...]]:
    """What a login answers, and its Set-Cookie values."""
    if browser:
        return COOKIES.shown(pair), COOKIES.set(pair)
    return {"access_token": pair.access_token, "refresh_token": pair.refresh_token}, ()


def __getattr__(name: str) -> Any:
    if name not in FRAMEWORKS:
        raise AttributeError(name)
    made = globals()[name] = globals()[f"_{name}"]()  # once: a server asks more often
    return made


def _fastapi() -> Any:
    from fastapi import FastAPI, Request, Response, Security, WebSocket

    from coatcheck.fastapi import Bearer

    tokens = async_tokens()
    bearer = Bearer(tokens, cookies=COOKIES, url=URL)
    app = FastAPI(lifespan=asgi.listening(tokens))

    @app.post("/login")
    async def login(
        request: Request, response: Response, user: str, scope: str = "", browser: bool = False
    ) -> Any:
        proven = await aproven(tokens, request)
        if proven.refusal is not None:
            answer = proven.refusal
            return Response(answer.body, answer.status, dict(answer.headers))
        body, cookies = given(await tokens.issue(user, scope=scope, jkt=proven.jkt), browser)
        for cookie in cookies:
            response.headers.append("Set-Cookie", cookie)
        return body

    @app.get("/orders")
    async def orders(claims: Annotated[AccessClaims, Security(bearer, scopes=["orders:read"])]) -> Any:
        return {"user": claims.sub}

    @app.post("/orders")
    async def order(claims: Annotated[AccessClaims, Security(bearer, scopes=["orders:write"])]) -> Any:
        return {"user": claims.sub}

    @app.get("/email", dependencies=[bearer.recent("10m")])
    async def email(claims: Annotated[AccessClaims, Security(bearer)]) -> Any:
        return {"user": claims.sub}

    @app.websocket("/ws")
    async def talk(websocket: WebSocket, claims: Annotated[AccessClaims, Security(bearer)]) -> None:
        await websocket.accept()
        await websocket.send_text(claims.sub)
        await websocket.receive_text()

    app.mount("/auth", asgi.TokenEndpoints(tokens, **CLIENTS))
    return app


def _starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Mount, Route

    from coatcheck.starlette import Bearer

    tokens = async_tokens()
    bearer = Bearer(tokens, cookies=COOKIES, url=URL)

    async def login(request: Request) -> Response:
        query = request.query_params
        proven = await aproven(tokens, request)
        if proven.refusal is not None:
            answer = proven.refusal
            return Response(answer.body, answer.status, dict(answer.headers))
        pair = await tokens.issue(query["user"], scope=query.get("scope", ""), jkt=proven.jkt)
        body, cookies = given(pair, "browser" in query)
        response = JSONResponse(body)
        for cookie in cookies:
            response.headers.append("Set-Cookie", cookie)
        return response

    async def who(request: Request) -> Response:
        return JSONResponse({"user": bearer.claims(request).sub})

    routes = [
        Route("/login", login, methods=["POST"]),
        Route("/orders", bearer.requires("orders:read")(who)),
        Route("/orders", bearer.requires("orders:write")(who), methods=["POST"]),
        Route("/email", bearer.requires(recent="10m")(who)),
        Mount("/auth", asgi.TokenEndpoints(tokens, **CLIENTS)),
    ]
    return Starlette(routes=routes, lifespan=asgi.listening(tokens))


def _quart() -> Any:
    from quart import Quart, Response, make_response, request

    from coatcheck.quart import Bearer

    tokens = async_tokens()
    bearer = Bearer(tokens, cookies=COOKIES, url=URL)
    app = Quart(__name__)
    app.while_serving(bearer.listening)

    @app.post("/login")
    async def login() -> Any:
        proven = await aproven(tokens, request)
        if proven.refusal is not None:
            answer = proven.refusal
            return Response(answer.body, answer.status, dict(answer.headers))
        query = request.args
        pair = await tokens.issue(query["user"], scope=query.get("scope", ""), jkt=proven.jkt)
        body, cookies = given(pair, "browser" in request.args)
        response: Any = await make_response(body)
        for cookie in cookies:
            response.headers.add("Set-Cookie", cookie)
        return response

    @app.get("/orders")
    @bearer.requires("orders:read")
    async def orders() -> Any:
        return {"user": bearer.claims().sub}

    @app.post("/orders")
    @bearer.requires("orders:write")
    async def order() -> Any:
        return {"user": bearer.claims().sub}

    @app.get("/email")
    @bearer.requires(recent="10m")
    async def email() -> Any:
        return {"user": bearer.claims().sub}

    return _mounted(app, asgi.TokenEndpoints(tokens, **CLIENTS))


def _mounted(app: Any, endpoints: Any) -> Any:
    async def both(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/auth/"):
            await endpoints({**scope, "root_path": "/auth"}, receive, send)
        else:
            await app(scope, receive, send)

    return both


def _litestar() -> Any:
    from litestar import Litestar, Request, Response, get, post
    from litestar import asgi as mount
    from litestar.di import NamedDependency
    from litestar.params import Parameter

    from coatcheck.litestar import Bearer

    tokens = async_tokens()
    bearer = Bearer(tokens, cookies=COOKIES, url=URL)
    endpoints = asgi.TokenEndpoints(tokens, **CLIENTS)

    @post("/login", status_code=200)
    async def login(
        request: Request[Any, Any, Any],
        user: str,
        wanted: Annotated[str, Parameter(query="scope")] = "",
        browser: bool = False,
    ) -> Response[Any]:
        proven = await aproven(tokens, request)
        if proven.refusal is not None:
            answer = proven.refusal
            return Response(answer.body, status_code=answer.status, headers=dict(answer.headers))
        body, cookies = given(await tokens.issue(user, scope=wanted, jkt=proven.jkt), browser)
        response = Response(body)
        for cookie in cookies:
            name, _, rest = cookie.partition("=")
            value, _, flags = rest.partition("; ")
            path = flags.partition("Path=")[2].partition(";")[0]
            response.set_cookie(name, value, path=path, httponly=True, secure=True, samesite="strict")
        return response

    @get("/orders", guards=[bearer.requires("orders:read")])
    async def orders(claims: NamedDependency[AccessClaims]) -> dict[str, str]:
        return {"user": claims.sub}

    @post("/orders", guards=[bearer.requires("orders:write")], status_code=200)
    async def order(claims: NamedDependency[AccessClaims]) -> dict[str, str]:
        return {"user": claims.sub}

    @get("/email", guards=[bearer.requires(recent="10m")])
    async def email(claims: NamedDependency[AccessClaims]) -> dict[str, str]:
        return {"user": claims.sub}

    @mount("/auth", is_mount=True, copy_scope=True)
    async def auth(scope: Any, receive: Any, send: Any) -> None:
        await endpoints(scope, receive, send)

    return Litestar(
        [login, orders, order, email, auth],
        dependencies={"claims": bearer.dependency},
        lifespan=[asgi.listening(tokens)],
        logging_config=None,
    )


def _aiohttp() -> Any:
    from aiohttp import web

    from coatcheck.aiohttp import Bearer, token_endpoints

    tokens = async_tokens()
    bearer = Bearer(tokens, cookies=COOKIES, url=URL)

    async def login(request: web.Request) -> web.Response:
        proven = await aproven(tokens, request)
        if proven.refusal is not None:
            answer = proven.refusal
            return web.Response(body=answer.body, status=answer.status, headers=dict(answer.headers))
        query = request.query
        pair = await tokens.issue(query["user"], scope=query.get("scope", ""), jkt=proven.jkt)
        body, cookies = given(pair, "browser" in request.query)
        response = web.json_response(body)
        for cookie in cookies:
            response.headers.add("Set-Cookie", cookie)
        return response

    async def who(request: web.Request) -> web.StreamResponse:
        return web.json_response({"user": bearer.claims(request).sub})

    app = web.Application()
    app.router.add_post("/login", login)
    app.router.add_get("/orders", bearer.requires("orders:read")(who))
    app.router.add_post("/orders", bearer.requires("orders:write")(who))
    app.router.add_get("/email", bearer.requires(recent="10m")(who))
    app.router.add_route("*", "/auth/{endpoint:.*}", token_endpoints(tokens, **CLIENTS))
    app.cleanup_ctx.append(bearer.listening)
    return app


def _flask() -> Any:
    from flask import Flask, Response, jsonify, request
    from werkzeug.middleware.dispatcher import DispatcherMiddleware

    from coatcheck.flask import Bearer

    tokens = sync_tokens()
    bearer = Bearer(tokens, cookies=COOKIES, url=URL, listen=True)
    app = Flask(__name__)

    @app.after_request
    def named(response: Any) -> Any:
        response.headers["X-Worker"] = str(os.getpid())
        return response

    @app.post("/login")
    def login() -> Any:
        proven = sproven(tokens, request)
        if proven.refusal is not None:
            answer = proven.refusal
            return Response(answer.body, answer.status, dict(answer.headers))
        query = request.args
        pair = tokens.issue(query["user"], scope=query.get("scope", ""), jkt=proven.jkt)
        body, cookies = given(pair, "browser" in request.args)
        response = jsonify(body)
        for cookie in cookies:
            response.headers.add("Set-Cookie", cookie)
        return response

    @app.get("/orders")
    @bearer.requires("orders:read")
    def orders() -> Any:
        return {"user": bearer.claims().sub}

    @app.post("/orders")
    @bearer.requires("orders:write")
    async def order() -> Any:
        return {"user": bearer.claims().sub}

    @app.get("/email")
    @bearer.requires(recent="10m")
    def email() -> Any:
        return {"user": bearer.claims().sub}

    app.wsgi_app = DispatcherMiddleware(  # type: ignore[method-assign]  # as Flask's manual says
        app.wsgi_app, {"/auth": wsgi.TokenEndpoints(tokens, **CLIENTS)}
    )
    return app


def _django_sync() -> Any:
    tokens = sync_tokens()
    _django(tokens)
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


def _django_async() -> Any:
    _django(async_tokens())
    from django.core.asgi import get_asgi_application

    return get_asgi_application()


urlpatterns: list[Any] = []


def _django(tokens: Any) -> None:
    from django.conf import settings

    middleware = ["django.middleware.csrf.CsrfViewMiddleware"]
    settings.configure(
        ROOT_URLCONF=__name__, SECRET_KEY="x" * 50, ALLOWED_HOSTS=["*"], DEBUG=False, MIDDLEWARE=middleware
    )
    import django

    django.setup()
    from django.http import HttpRequest, HttpResponse, JsonResponse
    from django.urls import path
    from django.views.decorators.csrf import csrf_exempt

    from coatcheck.bearer.django import Bearer, set_cookies, token_endpoints
    from coatcheck.bearer.http import is_awaiting

    bearer = Bearer(tokens, cookies=COOKIES, url=URL, listen=not is_awaiting(tokens.authenticate))

    def refused(proven: Proven) -> HttpResponse:
        assert proven.refusal is not None
        status, headers, body = proven.refusal
        return HttpResponse(body, status=status, headers=dict(headers))

    def answer(pair: Any, request: HttpRequest) -> HttpResponse:
        body, cookies = given(pair, "browser" in request.GET)
        response = JsonResponse(body)
        set_cookies(response, cookies)
        return response

    if is_awaiting(tokens.authenticate):

        async def alogin(request: HttpRequest) -> HttpResponse:
            proven, query = await aproven(tokens, request), request.GET
            if proven.refusal is not None:
                return refused(proven)
            pair = await tokens.issue(query["user"], scope=query.get("scope", ""), jkt=proven.jkt)
            return answer(pair, request)

        async def awho(request: HttpRequest) -> HttpResponse:
            return JsonResponse({"user": bearer.claims(request).sub})

        login, who = alogin, awho
    else:

        def slogin(request: HttpRequest) -> HttpResponse:
            proven, query = sproven(tokens, request), request.GET
            if proven.refusal is not None:
                return refused(proven)
            pair = tokens.issue(query["user"], scope=query.get("scope", ""), jkt=proven.jkt)
            return answer(pair, request)

        def swho(request: HttpRequest) -> HttpResponse:
            return JsonResponse({"user": bearer.claims(request).sub})

        login, who = slogin, swho  # type: ignore[assignment]  # the other kind of view

    reads, writes = bearer.requires("orders:read")(who), bearer.requires("orders:write")(who)

    if is_awaiting(tokens.authenticate):

        async def aorders(request: HttpRequest) -> Any:
            return await (writes if request.method == "POST" else reads)(request)

        orders: Any = aorders
    else:

        def sorders(request: HttpRequest) -> Any:
            return (writes if request.method == "POST" else reads)(request)

        orders = sorders
    urlpatterns[:] = [
        path("login", csrf_exempt(login)),
        path("orders", csrf_exempt(orders)),
        path("email", bearer.requires(recent="10m")(who)),
        path("auth/<path:endpoint>", token_endpoints(tokens, **CLIENTS)),
    ]
