"""The Starlette middleware: a drop-in for Starlette's own, among Starlette's other parts."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.authentication import (
    AuthCredentials,
    AuthenticationBackend,
    BaseUser,
    SimpleUser,
    requires,
)
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.sessions import SessionMiddleware as StarlettesOwn
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from coatcheck import (
    ConfigurationError,
    CookieSettings,
    OutsideRequest,
    SessionConflict,
    StoreUnavailable,
    TooLate,
    UsageError,
    UserKey,
)
from coatcheck.core.stepping import run_now
from coatcheck.starlette import SessionMiddleware, get_session
from coatcheck.stores.memory import MemoryStore
from tests.web.paths import SECRET
from tests.web.rig import Counted

Page = Callable[[Request], Awaitable[Response]]


def client(
    *routes: Any, base_url: str = "http://testserver", middleware: Any = (), **options: Any
) -> TestClient:
    """A client of an application with sessions and these routes; `middleware` goes between the two."""
    app = Starlette(routes=list(routes), middleware=[*middleware])
    app.add_middleware(SessionMiddleware, **{"secret": SECRET, **options})
    return TestClient(app, base_url=base_url)


async def count(request: Request) -> Response:
    session: Any = request.session
    return JSONResponse({"n": session.increment("n")})


async def visits_of_starlettes_manual(request: Request) -> Response:
    request.session["visits"] = request.session.get("visits", 0) + 1
    request.session.setdefault("list", []).append(request.session["visits"])
    return JSONResponse(dict(request.session))


class Between(BaseHTTPMiddleware):
    """Reads and writes the session on the way in and looks at it on the way out, as people do."""

    async def dispatch(
        self, request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        request.session["way in"] = True
        response = await call_next(request)
        response.headers["x-seen"] = str(request.session["n"])
        return response


def test_it_takes_the_words_of_starlettes_own() -> None:
    app = Starlette(routes=[Route("/", visits_of_starlettes_manual)])
    app.add_middleware(
        SessionMiddleware, SECRET, "sid", 3600, same_site="strict", https_only=True, domain="example.com"
    )
    browser = TestClient(app, base_url="https://www.example.com")
    first = browser.get("/")
    (cookie,) = first.headers.get_list("set-cookie")
    name, _, rest = cookie.partition("=")
    attributes = rest.split("; ")[1:]
    assert (name, "Max-Age=3600" in attributes) == ("sid", True)
    assert {"Domain=example.com", "Path=/", "HttpOnly", "Secure", "SameSite=Strict"} < set(attributes)
    assert json.loads(browser.get("/").text) == {"visits": 2, "list": [1, 2]}


def test_both_spellings_of_one_setting_are_one_too_many() -> None:
    for options in ({"secret_key": SECRET}, {"max_age": 60, "cookie": CookieSettings()}):
        with pytest.raises(ConfigurationError):
            client(**options).get("/")


def test_https_has_its_own_name_and_secure() -> None:
    (cookie,) = (
        client(Route("/", count), base_url="https://testserver").get("/").headers.get_list("set-cookie")
    )
    assert cookie.startswith("__Host-session=")
    assert cookie.endswith("; Path=/; HttpOnly; Secure; SameSite=Lax")


def test_a_base_http_middleware_may_stand_between() -> None:
    browser = client(Route("/", count), middleware=[Middleware(Between)])
    assert [browser.get("/").headers["x-seen"] for _ in range(3)] == ["1", "2", "3"]


def test_a_store_that_is_down_is_503_through_a_base_http_middleware_too() -> None:
    store = Counted()
    browser = client(Route("/", count), middleware=[Middleware(Between)], store=store)
    browser.get("/")
    store.down = True
    assert browser.get("/").status_code == 503


def test_a_base_http_middleware_may_stand_outside() -> None:
    class Outside(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Response:
            response: Response = await call_next(request)
            response.headers["x-cookie"] = response.headers.get("set-cookie", "").partition("=")[0]
            return response

    app = Starlette(routes=[Route("/", count)])
    app.add_middleware(SessionMiddleware, secret=SECRET)
    app.add_middleware(Outside)
    browser = TestClient(app)
    assert [browser.get("/").headers["x-cookie"] for _ in range(2)] == ["session", ""]


def test_a_background_task_hears_that_it_is_too_late() -> None:
    heard: list[str] = []

    async def page(request: Request) -> Response:
        request.session["n"] = 1

        async def later() -> None:
            heard.append(str(request.session["n"]))
            with pytest.raises(TooLate):
                request.session["n"] = 2
            heard.append("too late")

        return PlainTextResponse("", background=BackgroundTask(later))

    client(Route("/", page)).get("/")
    assert heard == ["1", "too late"]


def test_a_stream_keeps_its_changes_and_a_broken_one_only_those_from_before() -> None:
    async def page(request: Request) -> Response:
        request.session["before"] = True

        async def body() -> AsyncIterator[str]:
            yield "."
            request.session["during"] = True
            if "fail" in request.query_params:
                raise ZeroDivisionError
            yield "."

        return StreamingResponse(body())

    async def read(request: Request) -> Response:
        return JSONResponse(dict(request.session))

    for query, kept in (("", {"before": True, "during": True}), ("?fail", {"before": True})):
        app = Starlette(routes=[Route("/", page), Route("/read", read)])
        app.add_middleware(SessionMiddleware, secret=SECRET)
        browser = TestClient(app, raise_server_exceptions=False)
        cookie = {"cookie": browser.get(f"/{query}").headers["set-cookie"].partition(";")[0]}
        assert browser.get("/read", headers=cookie).json() == kept


def test_an_error_that_the_application_handles_is_no_failure() -> None:
    async def page(request: Request) -> Response:
        request.session["n"] = "kept"
        raise LookupError

    async def sorry(request: Request, error: Exception) -> Response:
        return PlainTextResponse(str(request.session["n"]), 418)

    async def read(request: Request) -> Response:
        return PlainTextResponse(str(request.session.get("n")))

    app = Starlette(routes=[Route("/", page), Route("/read", read)], exception_handlers={LookupError: sorry})
    app.add_middleware(SessionMiddleware, secret=SECRET)
    browser = TestClient(app)
    assert (browser.get("/").text, browser.get("/read").text) == ("kept", "kept")


def test_an_outage_can_be_said_in_the_applications_own_words() -> None:
    async def sorry(request: Request, error: Exception) -> Response:
        return PlainTextResponse("we are sorry", 503)

    store = Counted()
    app = Starlette(
        routes=[Route("/", count)], exception_handlers={StoreUnavailable: sorry, SessionConflict: sorry}
    )
    app.add_middleware(SessionMiddleware, secret=SECRET, store=store)
    browser = TestClient(app)
    browser.get("/")
    store.down = True
    assert (browser.get("/").status_code, browser.get("/").text) == (503, "we are sorry")


def test_a_commit_that_fails_is_503_though_the_application_handles_such_errors() -> None:
    store = Counted()

    async def page(request: Request) -> Response:
        request.session["n"] = 1
        store.down = True
        return PlainTextResponse("saved")

    async def sorry(request: Request, error: Exception) -> Response:
        return PlainTextResponse("we are sorry", 418)

    app = Starlette(routes=[Route("/", page)], exception_handlers={StoreUnavailable: sorry})
    app.add_middleware(SessionMiddleware, secret=SECRET, store=store)
    assert TestClient(app).get("/").status_code == 503  # Starlette has no way to let a handler answer so late


def test_a_mounted_application_shares_the_session_and_may_have_one_of_its_own() -> None:
    async def both(request: Request) -> Response:
        cart: Any = request.scope["cart"]
        session: Any = request.session
        return JSONResponse([session.increment("n"), cart.increment("n")])

    shop = Starlette(routes=[Route("/", both)])
    shop.add_middleware(
        SessionMiddleware, secret=SECRET, scope_key="cart", cookie=CookieSettings(name="cart", path="/shop")
    )
    browser = client(Route("/", count), Mount("/shop", shop))
    assert browser.get("/").json() == {"n": 1}
    first = browser.get("/shop/")
    assert (first.json(), [line.partition("=")[0] for line in first.headers.get_list("set-cookie")]) == (
        [2, 1],
        ["cart"],
    )
    assert "Path=/shop" in first.headers["set-cookie"]
    assert browser.get("/shop/").json() == [3, 2]
    assert browser.get("/").json() == {"n": 4}


def test_a_websocket_has_the_session_of_the_pages() -> None:
    async def echo(websocket: WebSocket) -> None:
        session = await get_session(websocket)
        session.increment("n")
        await websocket.accept()
        while True:
            await websocket.receive_text()
            await websocket.send_json(session.increment("n"))

    browser = client(Route("/", count), WebSocketRoute("/ws", echo), store=Counted())
    assert browser.get("/").json() == {"n": 1}
    cookie = {"cookie": f"session={browser.cookies['session']}"}
    with suppress(WebSocketDisconnect), browser.websocket_connect("/ws", headers=cookie) as socket:
        for n in (3, 4):
            socket.send_text("")
            assert socket.receive_json() == n
    assert browser.get("/").json() == {"n": 5}


def test_a_lazy_session_is_loaded_by_get_session() -> None:
    async def page(request: Request) -> Response:
        session = await get_session(request)
        return JSONResponse({"n": session.increment("n")})

    store = Counted()
    browser = client(
        Route("/", page), Route("/pub", lambda request: PlainTextResponse("")), store=store, lazy=True
    )
    browser.get("/")
    store.told()
    browser.get("/pub")
    assert store.told() == []
    assert (browser.get("/").json(), store.told()) == ({"n": 2}, ["load", "replace"])


def test_save_over_plain_http_leaves_no_record_that_nobody_has_a_ticket_for() -> None:
    store = MemoryStore()

    async def page(request: Request) -> PlainTextResponse:
        session = await get_session(request)
        session.login("ada")
        with pytest.raises(UsageError, match="plain HTTP"):
            await session.save()
        return PlainTextResponse("")

    app = Starlette(routes=[Route("/", page)])
    app.add_middleware(SessionMiddleware, secret=SECRET, store=store)
    assert TestClient(app, base_url="http://app.example").get("/").status_code == 200
    assert run_now(store.count(now=0.0)) == 0


def test_an_outage_after_save_still_hands_over_the_new_cookie() -> None:
    """What save() committed is committed: a browser that kept the old cookie would be logged out."""
    store = Counted()

    async def login(request: Request) -> PlainTextResponse:
        session = await get_session(request)
        session.login("ada")
        await session.save()
        session["late"] = 1
        store.down = True
        return PlainTextResponse("")

    async def me(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str((await get_session(request)).user_id))

    app = Starlette(routes=[Route("/login", login), Route("/me", me)])
    app.add_middleware(SessionMiddleware, secret=SECRET, store=store)
    client = TestClient(app)
    assert client.get("/login").status_code == 503
    store.down = False
    assert client.get("/me").text == "ada"


def test_without_a_proxy_the_servers_own_tls_counts() -> None:
    async def page(request: Request) -> PlainTextResponse:
        (await get_session(request))["a"] = 1
        return PlainTextResponse("")

    app = Starlette(routes=[Route("/", page)])
    app.add_middleware(SessionMiddleware, secret=SECRET, proxy=False)
    over_tls = TestClient(app, base_url="https://app.example").get("/")
    assert over_tls.headers["set-cookie"].startswith("__Host-session=")
    said_to_be = TestClient(app, base_url="http://app.example").get(
        "/", headers={"X-Forwarded-Proto": "https"}
    )
    assert "set-cookie" not in said_to_be.headers


# ------------------------------------------------------------------------------------- Starlette's authentication


class FromSession(AuthenticationBackend):
    """Whoever the session says, asked in the way that is asked for."""

    def __init__(self, ask: Callable[[HTTPConnection], Awaitable[str | None]]) -> None:
        self._ask = ask

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        user_id = await self._ask(conn)
        return None if user_id is None else (AuthCredentials(["authenticated"]), SimpleUser(user_id))


async def by_user_id(conn: HTTPConnection) -> str | None:
    return (await get_session(conn)).user_id


async def by_key(conn: HTTPConnection) -> str | None:
    return conn.session.get("user")


@requires("authenticated")
async def who(request: Request) -> Response:
    return PlainTextResponse(request.user.display_name)


async def sign_in(request: Request) -> Response:
    session: Any = request.session
    if "by_key" in request.query_params:
        session["user"] = "ada"
    else:
        session.login("ada")
    return PlainTextResponse("welcome")


async def sign_out(request: Request) -> Response:
    session: Any = request.session
    session.logout()
    return PlainTextResponse("bye")


AUTH_ROUTES = [Route("/who", who), Route("/in", sign_in), Route("/out", sign_out)]


@pytest.mark.parametrize(
    ("ask", "options"),
    [
        (by_user_id, {}),
        (by_user_id, {"lazy": True}),
        (by_key, {}),
        (by_key, {"identity": UserKey("user")}),
    ],
)
def test_starlettes_authentication_reads_the_session(ask: Any, options: dict[str, Any]) -> None:
    guard = Middleware(AuthenticationMiddleware, backend=FromSession(ask))
    browser = client(*AUTH_ROUTES, middleware=[guard], **options)
    assert browser.get("/who").status_code == 403
    browser.get("/in" if ask is by_user_id else "/in?by_key")
    assert browser.get("/who").text == "ada"
    browser.get("/out")
    assert browser.get("/who").status_code == 403


def test_authentication_around_the_sessions_says_what_to_change() -> None:
    app = Starlette(routes=[Route("/who", who)])
    app.add_middleware(SessionMiddleware, secret=SECRET)
    app.add_middleware(AuthenticationMiddleware, backend=FromSession(by_user_id))
    with pytest.raises(
        OutsideRequest, match=r"around whatever asks for the session .* added last is the outermost"
    ):
        TestClient(app).get("/who")


# ------------------------------------------------------------------------------------------------- one of them too many


@pytest.mark.parametrize("between", [[], [Middleware(Between)]])
def test_the_middleware_twice_is_refused_when_the_application_starts(between: list[Any]) -> None:
    app = Starlette(middleware=between)
    app.add_middleware(SessionMiddleware, secret=SECRET)
    app.user_middleware += [Middleware(SessionMiddleware, secret=SECRET)]
    with pytest.raises(ConfigurationError, match="two SessionMiddlewares"), TestClient(app):
        pass


def test_a_mounted_application_with_the_same_middleware_says_what_to_change() -> None:
    inner = Starlette(routes=[Route("/", count)])
    inner.add_middleware(SessionMiddleware, secret=SECRET)
    browser = client(Mount("/inner", inner))
    with pytest.raises(ConfigurationError, match="a mounted application shares the session"):
        browser.get("/inner/")


@pytest.mark.parametrize("outermost", [True, False])
def test_starlettes_own_middleware_beside_ours_is_refused(outermost: bool) -> None:
    own = Middleware(StarlettesOwn, secret_key=SECRET)
    app = Starlette(routes=[Route("/", visits_of_starlettes_manual)], middleware=[] if outermost else [own])
    app.add_middleware(SessionMiddleware, secret=SECRET)
    if outermost:
        app.add_middleware(StarlettesOwn, secret_key=SECRET)
    with pytest.raises((ConfigurationError, UsageError), match=r"another session middleware|other session"):
        TestClient(app).get("/")


def test_a_websocket_handler_hears_that_its_session_is_over() -> None:
    left: list[int] = []

    async def chat(websocket: WebSocket) -> None:
        assert await by_user_id(websocket) == "ada"
        await websocket.accept()
        try:
            async for text in websocket.iter_text():
                await websocket.send_text(text)
            await websocket.send_text("the client has gone")
        except WebSocketDisconnect as gone:
            left.append(gone.code)

    with client(*AUTH_ROUTES, WebSocketRoute("/ws", chat)) as browser:
        browser.get("/in")
        cookie = {"cookie": f"session={browser.cookies['session']}"}
        with browser.websocket_connect("/ws", headers=cookie) as socket:
            socket.send_text("hello")
            assert socket.receive_text() == "hello"
            browser.get("/out")
            with pytest.raises(WebSocketDisconnect) as closed:
                socket.receive_text()
    assert (closed.value.code, closed.value.reason, left) == (1008, "the session is over", [1006])
