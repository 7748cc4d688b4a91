"""The FastAPI dependencies: the session, who is logged in, and since when; and whatever else FastAPI lets stand around them."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import anyio.from_thread
import msgspec
import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, HTTPException, Request, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.testclient import TestClient
from pydantic import BaseModel
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.sessions import SessionMiddleware as StarlettesOwn
from starlette.websockets import WebSocketDisconnect

from coatcheck import ConfigurationError, CookieSettings, OutsideRequest, TooLate, UsageError
from coatcheck.fastapi import (
    AsyncSession,
    CurrentUser,
    RecentLogin,
    Session,
    SessionDep,
    SessionMiddleware,
    get_session,
    require_session,
)
from tests.web.paths import SECRET
from tests.web.rig import Counted, Talk, Time, run, websocket_scope


class CartStruct(msgspec.Struct):
    """A typed session, in each of the three ways to write one."""

    items: list[str] = []
    note: str = ""


@dataclass
class CartDataclass:
    items: list[str] = field(default_factory=list)
    note: str = ""


class CartModel(BaseModel):
    items: list[str] = []
    note: str = ""


def shop(**options: Any) -> FastAPI:
    """An application with a login."""
    app = FastAPI()
    app.add_middleware(SessionMiddleware, **{"secret": SECRET, **options})

    @app.get("/")
    async def home(session: SessionDep) -> dict[str, int]:
        return {"visits": session.increment("visits")}

    @app.get("/sync")
    def sync(session: SessionDep) -> dict[str, int]:
        return {"visits": session.increment("visits")}

    @app.post("/login")
    async def login(session: SessionDep, user: int = 42) -> None:
        session.login(user)

    @app.post("/remembered")
    async def remembered(session: SessionDep) -> None:
        session.login(42, method="remembered")

    @app.get("/me")
    async def me(user: CurrentUser) -> dict[str, str]:
        return {"user": user}

    @app.post("/email", dependencies=[RecentLogin("10m")])
    async def email() -> str:
        return "changed"

    @app.get("/stored", dependencies=[Depends(require_session)])
    async def stored() -> str:
        return "there"

    @app.get("/teapot")
    async def teapot(session: SessionDep) -> None:
        session.increment("visits")
        raise HTTPException(418)

    @app.websocket("/ws")
    async def ws(websocket: WebSocket, session: SessionDep, user: CurrentUser) -> None:
        await websocket.accept()
        await websocket.send_json([user, session.increment("visits")])
        await websocket.receive_text()

    return app


@pytest.mark.parametrize("lazy", [False, True])
def test_the_dependency_works_in_async_and_sync_routes_eager_and_lazy(lazy: bool) -> None:
    store = Counted()
    browser = TestClient(shop(lazy=lazy, store=store))
    assert [browser.get(page).json() for page in ("/", "/sync", "/")] == [{"visits": n} for n in (1, 2, 3)]
    assert store.told() == ["create", "load", "replace", "load", "replace"]


def test_the_current_user_is_401_without_a_login() -> None:
    browser = TestClient(shop())
    refused = browser.get("/me")
    assert (refused.status_code, refused.headers["vary"], "set-cookie" in refused.headers) == (
        401,
        "Cookie",
        False,
    )
    browser.post("/login")
    assert browser.get("/me").json() == {"user": "42"}


def test_a_stored_session_can_be_asked_for() -> None:
    browser = TestClient(shop())
    assert browser.get("/stored").status_code == 401
    browser.get("/")
    assert browser.get("/stored").json() == "there"


def test_a_recent_login_is_asked_for_again_when_it_is_no_longer_recent() -> None:
    time = Time()
    browser = TestClient(shop(clock=time.clock))
    assert browser.post("/email").status_code == 401
    browser.post("/login")
    time.now += 600
    assert browser.post("/email").json() == "changed"
    time.now += 1
    refused = browser.post("/email")
    assert (refused.status_code, refused.json()["detail"]["error"]) == (403, "reauth_required")
    browser.post("/login")
    assert browser.post("/email").json() == "changed"
    browser.post("/remembered")
    assert (browser.get("/me").status_code, browser.post("/email").status_code) == (200, 403)


@pytest.mark.parametrize("within", ["", "10", "0m", "10 m", "ten minutes", 600])
def test_a_time_that_cannot_be_read_is_said_at_start_up(within: Any) -> None:
    with pytest.raises(ConfigurationError, match="RecentLogin"):
        RecentLogin(within)


def test_an_http_exception_is_an_answer_and_keeps_what_was_changed() -> None:
    browser = TestClient(shop())
    assert browser.get("/teapot").status_code == 418
    assert browser.get("/").json() == {"visits": 2}


def test_openapi_shows_the_cookie_where_it_is_asked_for() -> None:
    described = TestClient(shop()).get("/openapi.json").json()
    (scheme,) = described["components"]["securitySchemes"].items()
    assert scheme == (
        "session",
        {
            "type": "apiKey",
            "in": "cookie",
            "name": "__Host-session",
            "description": "The session cookie; over plain HTTP on localhost `session`",
        },
    )
    for path, method in (("/", "get"), ("/me", "get"), ("/email", "post"), ("/stored", "get")):
        assert described["paths"][path][method]["security"] == [{"session": []}]
        assert "parameters" not in described["paths"][path][method]


def test_a_websocket_route_knows_the_user() -> None:
    browser = TestClient(shop())
    browser.post("/login")
    cookie = {"cookie": f"session={browser.cookies['session']}"}
    with browser.websocket_connect("/ws", headers=cookie) as socket:
        assert socket.receive_json() == ["42", 1]
        socket.send_text("")
    assert browser.get("/").json() == {"visits": 2}


@pytest.mark.parametrize("schema", [CartStruct, CartDataclass, CartModel])
def test_a_typed_session_is_an_object_of_the_schema(schema: type[Any]) -> None:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, secret=SECRET, schema=schema)

    @app.post("/add")
    async def add(item: str, session: Session[CartStruct]) -> list[str]:
        session.data.items.append(item)
        session["unknown"] = "kept"
        return session.data.items

    @app.post("/note")
    def note(text: str, session: Annotated[AsyncSession[CartStruct], Depends(get_session)]) -> str:
        session.data.note = text
        return type(session.data).__name__

    @app.get("/")
    async def raw(session: Session) -> dict[str, Any]:
        return dict(session)

    browser = TestClient(app)
    assert [browser.post("/add", params={"item": item}).json() for item in "ab"] == [["a"], ["a", "b"]]
    assert browser.post("/note", params={"text": "soon"}).json() == schema.__name__
    assert browser.get("/").json() == {"items": ["a", "b"], "note": "soon", "unknown": "kept"}


# ------------------------------------------------------------------------------------------------------------ OpenAPI


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"name": "sid"}, "sid"),
        ({"session_cookie": "sid"}, "sid"),
        ({"cookie": CookieSettings(path="/app")}, "__Secure-session"),
        ({"cookie": CookieSettings(secure=False)}, "session"),
        ({}, "__Host-session"),
    ],
)
@pytest.mark.parametrize("at", ["start-up", "first request"])
def test_openapi_calls_the_cookie_by_its_name(options: dict[str, Any], name: str, at: str) -> None:
    app = shop(**options)
    browser = TestClient(app)
    if at == "start-up":
        with browser:
            described = app.openapi()
    else:
        app.openapi()  # FastAPI keeps what it made once
        described = browser.get("/openapi.json").json()
    assert described["components"]["securitySchemes"]["session"]["name"] == name
    assert browser.get("/openapi.json").json() == described == app.openapi()


def test_openapi_without_any_session_in_it_stays_as_it_is() -> None:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, secret=SECRET, name="sid")
    assert TestClient(app).get("/openapi.json").json() == FastAPI().openapi()


# --------------------------------------------------------------------------------------------------------- where it is


def test_routers_and_mounted_applications_share_the_session_and_only_they_load_it() -> None:
    store = Counted()
    app, router, inner = FastAPI(), APIRouter(prefix="/api"), FastAPI()
    app.add_middleware(SessionMiddleware, secret=SECRET, store=store, lazy=True)

    @router.get("/count")
    def counted(session: SessionDep) -> int:
        return int(session.increment("n"))

    @inner.get("/count", dependencies=[Depends(require_session)])
    async def inside(session: SessionDep) -> int:
        return int(session.increment("n"))

    @app.get("/public")
    def public() -> str:
        return "public"

    app.include_router(router)
    app.mount("/inner", inner)
    browser = TestClient(app)
    assert (browser.get("/inner/count").status_code, browser.get("/api/count").json()) == (401, 1)
    assert store.told() == ["create"]
    assert [browser.get(page).json() for page in ("/inner/count", "/public", "/api/count")] == [
        2,
        "public",
        3,
    ]
    assert store.told() == ["load", "replace"] * 2
    assert "vary" not in browser.get("/public").headers


def test_a_stream_and_its_generator_may_use_the_session() -> None:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, secret=SECRET)

    @app.get("/")
    async def stream(session: SessionDep) -> StreamingResponse:
        session["begun"] = True

        async def body() -> AsyncIterator[str]:
            yield "a"
            session["during"] = True
            yield "b"

        return StreamingResponse(body())

    @app.get("/read")
    async def read(session: SessionDep) -> dict[str, Any]:
        return dict(session)

    browser = TestClient(app)
    assert browser.get("/").text == "ab"
    assert browser.get("/read").json() == {"begun": True, "during": True}


def test_what_a_dependency_with_yield_does_after_the_route_is_kept_or_refused() -> None:
    """FastAPI runs it before the response leaves (until 0.117) or after it: either way nothing is lost in silence."""
    refused: list[bool] = []

    async def visit(session: SessionDep) -> AsyncIterator[int]:
        yield int(session.increment("n"))
        try:
            session["after"] = session.get("after", 0) + 1
        except TooLate:
            refused.append(True)

    app = FastAPI()
    app.add_middleware(SessionMiddleware, secret=SECRET)

    @app.get("/")
    async def home(session: SessionDep, n: Annotated[int, Depends(visit)]) -> list[Any]:
        return [n, session.get("after")]

    browser = TestClient(app)
    assert browser.get("/").json() == [1, None]
    assert browser.get("/").json() == [2, None if refused else 1]


def test_a_background_task_hears_that_it_is_too_late_and_what_to_do() -> None:
    heard: list[str] = []
    app = FastAPI()
    app.add_middleware(SessionMiddleware, secret=SECRET)

    def later(session: AsyncSession[Any]) -> None:
        heard.append(str(session["n"]))
        with pytest.raises(TooLate, match="change the session before you return"):
            session["n"] = 2
        with pytest.raises(TooLate, match="before you return"):
            session.login("ada")

    @app.get("/")
    async def home(session: SessionDep, tasks: BackgroundTasks) -> None:
        session["n"] = 1
        tasks.add_task(later, session)

    TestClient(app).get("/")
    assert heard == ["1"]


def test_an_exception_handler_sees_the_session_and_its_answer_keeps_it() -> None:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, secret=SECRET)

    @app.exception_handler(LookupError)
    async def sorry(request: Request, error: Exception) -> JSONResponse:
        session: Any = await get_session(request)
        return JSONResponse({"n": session.increment("n")}, 418)

    @app.get("/")
    async def home(session: SessionDep) -> None:
        session.increment("n")
        raise LookupError

    browser = TestClient(app)
    assert [browser.get("/").json() for _ in range(2)] == [{"n": 2}, {"n": 4}]


def test_it_stands_among_other_middlewares_on_either_side() -> None:
    class Stamp(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Any:
            response = await call_next(request)
            response.headers["x-passed"] = response.headers.get("x-passed", "") + "x"
            return response

    app = FastAPI()

    @app.get("/")
    async def home(session: SessionDep) -> dict[str, Any]:
        return {"n": session.increment("n"), "pad": "x" * 2000}

    app.add_middleware(GZipMiddleware, minimum_size=100)
    app.add_middleware(Stamp)
    app.add_middleware(SessionMiddleware, secret=SECRET)
    app.add_middleware(Stamp)
    app.add_middleware(
        CORSMiddleware, allow_origins=["https://front.example"], allow_credentials=True, allow_methods=["*"]
    )
    browser = TestClient(app)
    origin = {"origin": "https://front.example"}
    asked = browser.options("/", headers={**origin, "access-control-request-method": "GET"})
    assert (asked.status_code, "set-cookie" in asked.headers, "vary" in asked.headers) == (200, False, True)
    answers = [browser.get("/", headers=origin) for _ in range(2)]
    assert [answer.json()["n"] for answer in answers] == [1, 2]
    for answer in answers:
        assert (answer.headers["content-encoding"], answer.headers["x-passed"]) == ("gzip", "xx")
        vary = {field.strip().lower() for field in answer.headers["vary"].split(",")}
        assert {"cookie", "accept-encoding", "origin"} <= vary


# ---------------------------------------------------------------------------------------------------------- WebSockets


@pytest.mark.parametrize("needs", ["user", "recent", "stored"])
@pytest.mark.parametrize("says_why", [True, False])
def test_a_websocket_without_what_it_needs_is_refused_before_it_opens(needs: str, says_why: bool) -> None:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, secret=SECRET)

    async def current(user: CurrentUser) -> None:
        raise AssertionError(user)

    needed = {"user": Depends(current), "recent": RecentLogin("10m"), "stored": Depends(require_session)}

    @app.websocket("/ws", dependencies=[needed[needs]])
    async def ws(websocket: WebSocket) -> None:
        raise AssertionError

    scope = websocket_scope("/ws")
    if says_why:
        scope["extensions"] = {"websocket.http.response": {}}
    talk = run(Talk(app, scope, {"type": "websocket.connect"}).run())
    if says_why:
        assert (talk.sent[0]["type"], talk.status) == ("websocket.http.response.start", 401)
    else:
        assert [(message["type"], message["code"]) for message in talk.sent] == [("websocket.close", 1008)]


def test_a_websocket_route_ends_with_its_session() -> None:
    app, left = FastAPI(), list[int]()
    app.add_middleware(SessionMiddleware, secret=SECRET)

    @app.post("/{act}")
    async def act(act: str, session: SessionDep) -> None:
        session.login("ada") if act == "login" else session.logout()

    @app.websocket("/ws")
    async def ws(websocket: WebSocket, user: CurrentUser) -> None:
        await websocket.accept()
        try:
            await websocket.receive_text()
        except WebSocketDisconnect as gone:
            left.append(gone.code)

    with TestClient(app) as browser:
        browser.post("/login")
        cookie = {"cookie": f"session={browser.cookies['session']}"}
        with browser.websocket_connect("/ws", headers=cookie) as socket:
            browser.post("/logout")
            with pytest.raises(WebSocketDisconnect) as closed:
                socket.receive_text()
        assert (closed.value.code, left) == (1008, [1008])


# ------------------------------------------------------------------------------------------------------------ bad input


def test_without_the_middleware_a_dependency_says_what_to_add() -> None:
    app = FastAPI()

    @app.get("/")
    async def home(session: SessionDep) -> None: ...

    with pytest.raises(OutsideRequest, match="add coatcheck's SessionMiddleware"):
        TestClient(app).get("/")


def test_another_session_middleware_is_told_apart() -> None:
    app = FastAPI()
    app.add_middleware(StarlettesOwn, secret_key=SECRET)

    @app.get("/")
    async def home(session: SessionDep) -> None: ...

    with pytest.raises(OutsideRequest, match="another session middleware"):
        TestClient(app).get("/")


@pytest.mark.parametrize("key", ["session", "other"])
def test_the_middleware_twice_is_refused(key: str) -> None:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, secret=SECRET)
    app.add_middleware(SessionMiddleware, secret=SECRET, scope_key=key)
    with pytest.raises(ConfigurationError, match="two SessionMiddlewares"):
        TestClient(app).get("/")


def test_a_def_route_cannot_await_and_is_told_how_it_can() -> None:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, secret=SECRET)

    @app.get("/forgotten")
    def forgotten(session: SessionDep) -> None:
        with pytest.raises(UsageError, match=r"anyio\.from_thread\.run\(session\.destroy\)"):
            session.destroy()  # type: ignore[unused-coroutine]  # that is the mistake

    @app.get("/save")
    def save(session: SessionDep) -> int:
        session.increment("n")
        anyio.from_thread.run(session.save)
        return int(session["n"])

    browser = TestClient(app)
    assert browser.get("/forgotten").status_code == 200
    assert [browser.get("/save").json() for _ in range(2)] == [1, 2]


def test_a_lazy_session_that_nobody_waited_for_says_how_to() -> None:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, secret=SECRET, lazy=True)

    @app.get("/")
    def hasty(request: Request) -> int:
        session: Any = request.session
        return int(session.increment("n"))

    @app.get("/first")
    def first(session: SessionDep) -> int:
        return int(session.increment("n"))

    browser = TestClient(app)
    assert browser.get("/first").json() == 1
    with pytest.raises(UsageError, match=r"await get_session\(request\)"):
        browser.get("/")
