"""The FastAPI dependencies: the session, who is logged in, and since when."""

from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
import pytest
from fastapi import Depends, FastAPI, HTTPException, WebSocket
from fastapi.testclient import TestClient
from pydantic import BaseModel

from coatcheck import ConfigurationError
from coatcheck.fastapi import (
    CurrentUser,
    RecentLogin,
    Session,
    SessionDep,
    SessionMiddleware,
    get_session,
    require_session,
)
from tests.web.apps import SECRET
from tests.web.rig import Counted, Time


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
        {"type": "apiKey", "in": "cookie", "name": "__Host-session", "description": "The session cookie"},
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
    Typed = Annotated[Session[CartStruct], Depends(get_session)]

    @app.post("/add")
    async def add(item: str, session: Typed) -> list[str]:
        session.data.items.append(item)
        session["unknown"] = "kept"
        return session.data.items

    @app.post("/note")
    async def note(text: str, session: Typed) -> str:
        session.data.note = text
        return type(session.data).__name__

    @app.get("/")
    async def raw(session: SessionDep) -> dict[str, Any]:
        return dict(session)

    browser = TestClient(app)
    assert [browser.post("/add", params={"item": item}).json() for item in "ab"] == [["a"], ["a", "b"]]
    assert browser.post("/note", params={"text": "soon"}).json() == schema.__name__
    assert browser.get("/").json() == {"items": ["a", "b"], "note": "soon", "unknown": "kept"}
