"""The Litestar plugin, among Litestar's other parts.

Litestar's own tests of its sessions (`tests/unit/test_middleware/test_session/` there, and those of `SessionAuth`), with our
plugin in place of its middleware:

run as they are  test_integration, test_set_empty, test_middleware_exclude_pattern, test_middleware_exclude_flag,
                 test_middleware_exclude_custom_key, test_does_not_override_cookies, test_options_request_with_session_auth,
                 test_authentication (of `SessionAuth`), test_session_middleware_not_installed_raises
adapted          test_session_id_correctness, test_keep_session_id: the id is `session.handle`, since the cookie's text opens the
                 session and is shown to nobody; `request.get_session_id()` is None. test_max_age_expires: by `Timeouts`.
                 test_set_empty reads the session through the application, and not through `client.get_session_data()`, which
                 is for Litestar's own backends
do not apply     test_non_default_store, test_set_store_name, test_get_set, test_get_set_multiple…, test_delete…: of Litestar's
                 `Store`; ours has `StoreContract`. test_get_renew_on_access: that is the idle timeout. test_key_validation,
                 test_max_age_validation: of its configuration. test_client_side_backend: of cookies that hold the data
"""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from litestar import (
    Controller,
    Litestar,
    MediaType,
    Request,
    Response,
    Router,
    WebSocket,
    asgi,
    get,
    post,
    route,
    websocket,
    websocket_listener,
)
from litestar.background_tasks import BackgroundTask
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.exceptions import HTTPException, LitestarException, WebSocketDisconnect
from litestar.middleware.session.client_side import CookieBackendConfig
from litestar.middleware.session.server_side import ServerSideSessionConfig
from litestar.openapi.config import OpenAPIConfig
from litestar.response import Redirect, Stream
from litestar.response.sse import ServerSentEvent
from litestar.security.session_auth import SessionAuth
from litestar.static_files import create_static_files_router
from litestar.testing import TestClient
from litestar.types import Empty, Receive, Scope, Send
from pydantic import BaseModel

from coatcheck import (
    ConfigurationError,
    OutsideRequest,
    SessionConflict,
    StoreUnavailable,
    Timeouts,
    TooLate,
    UsageError,
    UserKey,
    WeakSecret,
)
from coatcheck.litestar import (
    AsyncSession,
    CoatCheck,
    CurrentUser,
    RecentLogin,
    Session,
    SessionDep,
    get_session,
    require_login,
)
from coatcheck.testing.clients import login_as
from tests.web.apps import SECRET, Boom
from tests.web.rig import Counted, Ears, Talk, Time, run, websocket_scope

AnyRequest = Request[Any, Any, Any]


class CartStruct(msgspec.Struct):
    items: list[str] = []
    note: str | None = None


@dataclass
class CartData:
    items: list[str]


class CartModel(BaseModel):
    items: list[str]


def make(
    *handlers: Any, plugin: CoatCheck | None = None, options: dict[str, Any] | None = None, **app: Any
) -> Litestar:
    """An application with the plugin; `options` are the plugin's."""
    given = {"secret": SECRET, **(options or {})}
    return Litestar(list(handlers), plugins=[plugin or CoatCheck(**given)], **app)


def browser(app: Litestar, **options: Any) -> TestClient[Litestar]:
    return TestClient(app, raise_server_exceptions=False, **options)


@get("/count")
async def count(session: SessionDep) -> int:
    n: int = session.increment("n")
    return n


@get("/seen")
async def seen(session: SessionDep) -> dict[str, Any]:
    return {"user": session.user_id, **session}


@post("/login", status_code=200)
async def login(session: SessionDep) -> None:
    session.login("ada")


@post("/logout", status_code=200)
async def logout(session: SessionDep) -> None:
    session.logout()


@get("/me")
async def me(current_user: CurrentUser) -> str:
    return current_user


PAGES = (count, seen, login, logout, me)


# ------------------------------------------------------------------------------------------------------ the session itself


def test_a_request_costs_as_many_commands_as_the_design_says() -> None:
    @get("/public")
    async def public() -> None: ...

    store = Counted()
    with browser(make(*PAGES, public, options={"store": store})) as client:
        store.told()
        for path, commands in (
            ("/public", []), ("/count", ["create"]), ("/count", ["load", "replace"]), ("/seen", ["load"]),
        ):  # fmt: skip
            client.get(path)
            assert store.told() == commands


def test_the_session_is_on_the_request_and_a_dependency() -> None:
    @get("/same")
    async def same(request: AnyRequest, session: SessionDep) -> bool:
        there: Any = request.scope["session"]
        return request.session is there is session is await get_session(request)

    with browser(make(same)) as client:
        assert client.get("/same").json() is True


@pytest.mark.parametrize("in_a_thread", [True, False])
def test_a_sync_handler_uses_the_session_like_any_dict(in_a_thread: bool) -> None:
    @get("/", sync_to_thread=in_a_thread)
    def visit(request: AnyRequest) -> int:
        request.session["n"] = request.session.get("n", 0) + 1
        n: int = request.session["n"]
        return n

    with browser(make(visit)) as client:
        assert [client.get("/").json() for _ in range(3)] == [1, 2, 3]


def test_a_typed_session_is_an_object_of_the_schema() -> None:
    @post("/add")
    async def add(request: AnyRequest, session: Session[CartStruct]) -> list[str]:
        session.data.items.append(request.query_params["item"])
        items: list[str] = session.data.items
        return items

    with browser(make(add, options={"schema": CartStruct})) as client:
        assert [client.post("/add", params={"item": item}).json() for item in "ab"] == [["a"], ["a", "b"]]


def test_a_lazy_session_is_loaded_where_it_is_asked_for() -> None:
    @get("/hasty")
    async def hasty(request: AnyRequest) -> Any:
        return request.session.get("n")

    store = Counted()
    with browser(make(*PAGES, hasty, options={"store": store, "lazy": True})) as client:
        client.get("/count")
        store.told()
        assert client.get("/hasty").status_code == 500
        assert store.told() == []
        assert client.get("/seen").json() == {"user": None, "n": 1}
        assert store.told() == ["load"]


def test_a_second_session_has_a_key_and_a_name_of_its_own() -> None:
    @get("/")
    async def both(session: SessionDep, staff: SessionDep) -> list[int]:
        return [session.increment("n"), staff.increment("n", 10)]

    plugins = [CoatCheck(secret=SECRET), CoatCheck(secret=SECRET, scope_key="staff", name="staff")]
    with browser(Litestar([both], plugins=plugins)) as client:
        assert [client.get("/").json() for _ in range(2)] == [[1, 10], [2, 20]]
        assert set(client.cookies) == {"session", "staff"}


def test_an_asgi_application_and_static_files_inside_litestar_have_the_session(tmp_path: Any) -> None:
    @asgi("/inner", is_mount=True, copy_scope=False)
    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        text = str(scope["session"].get("n")).encode()  # type: ignore[union-attr]
        await Response(text, media_type=MediaType.TEXT).to_asgi_response(None, Request(scope))(
            scope, receive, send
        )

    (tmp_path / "style.css").write_text("body {}")
    static = create_static_files_router("/static", directories=[tmp_path])
    store = Counted()
    with browser(make(*PAGES, inner, static, options={"store": store})) as client:
        client.get("/count")
        assert client.get("/inner/").text == "1"
        assert client.get("/static/style.css").headers.get("vary") is None


# ------------------------------------------------------------------------------------------- set_session, clear_session


@post("/set", status_code=200)
async def replace(request: AnyRequest) -> None:
    request.set_session(await request.json())


@post("/clear", status_code=200)
async def clear(request: AnyRequest) -> None:
    request.clear_session()


def test_set_session_replaces_the_data_and_keeps_the_session() -> None:
    @get("/handle")
    async def handle(request: AnyRequest) -> list[Any]:
        return [request.session.handle, request.get_session_id()]  # type: ignore[attr-defined]

    with browser(make(*PAGES, replace, handle)) as client:
        client.post("/set", json={"a": 1, "b": [2]})
        first = client.get("/handle").json()
        cookie = client.cookies["session"]
        client.post("/set", json={"b": [2], "c": 3})
        assert client.get("/seen").json() == {"user": None, "b": [2], "c": 3}
        assert client.get("/handle").json() == first == [first[0], None]
        assert client.cookies["session"] == cookie


def test_clear_session_ends_the_session_and_clears_the_cookie() -> None:
    with browser(make(*PAGES, replace, clear)) as client:
        client.post("/set", json={"a": 1})
        thief = browser(client.app, cookies=dict(client.cookies))
        answer = client.post("/clear")
        assert "Max-Age=0" in answer.headers["set-cookie"]
        assert client.get("/seen").json() == {"user": None}
        assert thief.get("/seen").json() == {"user": None}


@pytest.mark.parametrize("value", [CartStruct(["a"]), CartData(["a"]), CartModel(items=["a"])])
def test_set_session_takes_what_litestar_can_encode(value: Any) -> None:
    @post("/object")
    async def give(request: AnyRequest) -> None:
        request.set_session(value)

    with browser(make(*PAGES, give)) as client:
        assert client.post("/object").status_code == 201
        assert client.get("/seen").json()["items"] == ["a"]


def test_set_session_refuses_what_is_no_dict() -> None:
    @post("/list")
    async def give(request: AnyRequest) -> None:
        request.set_session(["a"])  # type: ignore[arg-type]

    with TestClient(make(give)) as client, pytest.raises(LitestarException) as error:
        client.post("/list")
    assert "give a dict" in str(error.value.__cause__.__cause__)  # type: ignore[union-attr]  # one for each layer


def test_set_session_to_none_means_what_unset_says() -> None:
    @post("/none", status_code=200)
    async def none(request: AnyRequest) -> None:
        request.set_session(None)  # type: ignore[arg-type]

    for unset, left in (("keep", 1), ("destroy", None)):
        with browser(make(*PAGES, none, options={"unset": unset})) as client:
            client.get("/count")
            client.post("/none")
            assert client.get("/seen").json().get("n") == left


def test_with_an_identity_set_session_logs_in_and_the_cookie_changes() -> None:
    with browser(make(*PAGES, replace, clear, options={"identity": UserKey("user_id")})) as client:
        client.post("/set", json={"cart": 1})
        planted = client.cookies["session"]
        client.post("/set", json={"cart": 1, "user_id": "ada"})
        mine = client.cookies["session"]
        assert client.get("/me").text == "ada"
        client.post("/set", json={"cart": 2, "user_id": "ada"})  # who is logged in already
        assert (client.cookies["session"], planted != mine) == (mine, True)
        assert browser(client.app, cookies={"session": planted}).get("/me").status_code == 401
        client.post("/set", json={"cart": 2})
        assert client.get("/seen").json() == {"user": None, "cart": 2}


# --------------------------------------------------------------------------------------------- guards and dependencies


def test_the_current_user_is_401_without_a_login() -> None:
    with browser(make(*PAGES)) as client:
        refused = client.get("/me")
        assert (refused.status_code, refused.headers["vary"], refused.headers["www-authenticate"]) == (
            401,
            "Cookie",
            "APIKey",
        )
        client.post("/login")
        assert client.get("/me").text == "ada"


def test_guards_let_in_who_has_logged_in_recently() -> None:
    @get("/safe", guards=[require_login])
    async def safe() -> None: ...

    @post("/email", guards=[RecentLogin("10m")], status_code=200)
    async def email() -> None: ...

    time = Time()
    with browser(make(*PAGES, safe, email, options={"clock": time.clock})) as client:
        assert client.get("/safe").status_code == client.post("/email").status_code == 401
        client.post("/login")
        time.now += 600
        assert client.get("/safe").status_code == client.post("/email").status_code == 200
        time.now += 1
        refused = client.post("/email")
        assert (refused.status_code, refused.json()["extra"]) == (
            403,
            {"error": "reauth_required", "max_age": 600},
        )
        assert client.get("/safe").status_code == 200


@pytest.mark.parametrize("within", ["", "10", "0m", 600])
def test_a_time_that_cannot_be_read_is_said_at_start_up(within: Any) -> None:
    with pytest.raises(ConfigurationError, match="RecentLogin"):
        RecentLogin(within)


def test_what_is_asked_for_is_never_read_from_the_query() -> None:
    with pytest.raises(Exception, match="current_user"):
        Litestar([me])
    with browser(make(*PAGES)) as client:
        assert client.get("/me", params={"current_user": "ada"}).status_code == 401
        assert client.get("/count", params={"session": "x", "key": "y"}).json() == 1


def test_the_applications_own_dependencies_of_these_names_win() -> None:
    @get("/")
    async def page(session: SessionDep, current_user: CurrentUser) -> list[Any]:
        return [session, current_user]

    own = {"session": Provide(lambda: "a database's", sync_to_thread=False)}
    with browser(
        make(page, dependencies=own | {"current_user": Provide(lambda: "eve", sync_to_thread=False)})
    ) as client:
        assert client.get("/").json() == ["a database's", "eve"]


def test_openapi_shows_the_cookie_where_it_is_asked_for() -> None:
    @get("/safe", guards=[require_login])
    async def safe() -> None: ...

    @get("/public")
    async def public() -> None: ...

    config = OpenAPIConfig(title="Shop", version="1")
    with browser(make(*PAGES, safe, public, openapi_config=config)) as client:
        described = client.get("/schema/openapi.json").json()
    assert described["components"]["securitySchemes"] == {
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": "__Host-session",
            "description": "The session cookie",
        }
    }
    for path, security in (
        ("/count", [{"session": []}]),
        ("/me", [{"session": []}]),
        ("/safe", [{"session": []}]),
        ("/public", None),
    ):
        assert described["paths"][path]["get"].get("security") == security
        assert "parameters" not in described["paths"][path]["get"]
    assert not isinstance(config.components, list)  # it may serve another application too
    with browser(make(count, openapi_config=None)) as client:
        assert client.get("/count").json() == 1


# --------------------------------------------------------------------------------------------------------- exceptions


class Teapot(Exception):
    """What the application has a handler for."""


def say(status: int, text: str) -> Callable[[Any, Any], Response[str]]:
    return lambda request, error: Response(text, status_code=status, media_type=MediaType.TEXT)


@get("/fail/{kind:str}")
async def fail(request: AnyRequest, session: SessionDep) -> None:
    kind = session["k"] = request.path_params["kind"]
    if "logout" in kind:
        session.logout()
    raise {"teapot": Teapot(), "http": HTTPException("no", status_code=418)}.get(kind, Boom())


@pytest.mark.parametrize(
    ("kind", "handlers", "kept"),
    [
        ("boom", {}, None),
        ("boom", {500: say(500, "sorry")}, None),
        ("boom", {Exception: say(500, "sorry")}, None),
        ("teapot", {Teapot: say(418, "teapot")}, "teapot"),
        ("http", {}, "http"),
    ],
)
def test_an_exception_that_is_answered_keeps_what_was_changed_and_another_does_not(
    kind: str, handlers: dict[Any, Any], kept: str | None
) -> None:
    with browser(make(*PAGES, fail, exception_handlers=handlers)) as client:
        client.get("/count")
        assert client.get(f"/fail/{kind}").status_code == (500 if kept is None else 418)
        assert client.get("/seen").json().get("k") == kept


def test_of_a_request_that_fails_the_logout_is_kept_and_the_cookie_cleared() -> None:
    with browser(make(*PAGES, fail)) as client:
        client.post("/login")
        thief = browser(client.app, cookies=dict(client.cookies))
        answer = client.get("/fail/logout")
        assert (answer.status_code, "Max-Age=0" in answer.headers["set-cookie"]) == (500, True)
        assert thief.get("/me").status_code == 401


def test_of_a_request_that_fails_what_set_session_put_there_is_not_kept() -> None:
    @get("/spoil")
    async def spoil(request: AnyRequest) -> None:
        request.set_session({"k": "never"})
        raise Boom

    @get("/leave")
    async def leave(request: AnyRequest) -> None:
        request.clear_session()
        raise Boom

    with browser(make(*PAGES, spoil, leave)) as client:
        client.get("/count")
        assert client.get("/spoil").status_code == 500
        assert client.get("/seen").json() == {"user": None, "n": 1}
        assert client.get("/leave").status_code == 500
        assert client.get("/seen").json() == {"user": None}


def test_without_a_store_a_request_that_needs_it_is_503_and_others_go_on() -> None:
    @get("/public")
    async def public() -> str:
        return "public"

    store, ears = Counted(), Ears()
    with browser(make(*PAGES, public, replace, options={"store": store, "on_event": ears})) as client:
        client.get("/count")
        ears.heard.clear()
        store.down = True
        refused = client.get("/seen")
        assert (refused.status_code, refused.headers["retry-after"], refused.headers["cache-control"]) == (
            503,
            "5",
            "no-store",
        )
        assert "cannot be reached" in refused.text
        assert client.get("/public").text == "public"
        assert client.post("/set", json={"a": 1}).status_code == client.post("/login").status_code == 503
        assert ears.heard == ["store.down"] * 4
        store.down = False
        assert client.get("/seen").json() == {"user": None, "n": 1}


def test_a_first_visit_that_cannot_be_stored_is_503() -> None:
    store = Counted()
    with browser(make(*PAGES, options={"store": store})) as client:
        store.down = True
        answer = client.get("/count")
        assert (answer.status_code, answer.headers.get("set-cookie")) == (503, None)


def test_a_conflict_is_409_where_conflicts_are_to_be_told() -> None:
    @get("/slow/{value:str}")
    async def slow(request: AnyRequest, session: SessionDep) -> None:
        value = session["v"] = request.path_params["value"]
        if value == "mine":
            other = browser(app, cookies={"session": cookies["session"]})
            with suppress(RuntimeError):
                await in_a_thread(lambda: other.get("/slow/theirs"))

    async def in_a_thread(call: Callable[[], object]) -> None:
        from anyio import to_thread

        await to_thread.run_sync(call)

    app = make(*PAGES, slow, options={"on_conflict": "raise"})
    with browser(app) as client:
        cookies = client.cookies
        client.get("/slow/first")
        answer = client.get("/slow/mine")
        assert (answer.status_code, answer.headers["cache-control"]) == (409, "no-store")
        assert client.get("/seen").json()["v"] == "theirs"


def test_the_applications_own_handlers_say_it_in_their_words() -> None:
    handlers: dict[Any, Any] = {StoreUnavailable: say(503, "closed"), SessionConflict: say(409, "again")}
    store = Counted()
    with browser(make(*PAGES, options={"store": store}, exception_handlers=handlers)) as client:
        client.get("/count")
        store.down = True
        assert (client.get("/seen").text, client.get("/seen").status_code) == ("closed", 503)


# ------------------------------------------------------------------------------------- streams, caches, background tasks


def test_what_a_stream_changes_is_kept() -> None:
    @get("/stream")
    async def stream(session: SessionDep) -> Stream:
        session["n"] = 0

        async def body() -> AsyncIterator[str]:
            for _ in range(3):
                yield f"{session.increment('n')} "

        return Stream(body())

    @get("/events")
    async def events(session: SessionDep) -> ServerSentEvent:
        async def body() -> AsyncIterator[str]:
            session["n"] = "told"
            yield "x"

        return ServerSentEvent(body())

    with browser(make(*PAGES, stream, events)) as client:
        assert client.get("/stream").text == "1 2 3 "
        assert client.get("/seen").json()["n"] == 3
        assert "data: x" in client.get("/events").text
        assert client.get("/seen").json()["n"] == "told"


def test_a_cached_response_hands_nobody_anothers_cookie() -> None:
    calls = []

    @get("/cached", cache=60)
    async def cached(session: SessionDep) -> str:
        calls.append(1)
        session["n"] = 1
        return "cached"

    with browser(make(*PAGES, cached)) as client:
        assert "set-cookie" in client.get("/cached").headers
        other = browser(client.app)
        answer = other.get("/cached")
        assert (answer.text, answer.headers.get("set-cookie"), len(calls)) == ("cached", None, 1)
        assert other.get("/seen").json() == {"user": None}


def test_a_background_task_is_told_that_it_comes_too_late() -> None:
    told: list[str] = []

    async def task(session: AsyncSession[Any]) -> None:
        try:
            session["k"] = "late"
        except TooLate as error:
            told.append(str(error))

    @get("/task")
    async def page(session: SessionDep) -> Response[None]:
        session["k"] = "in time"
        return Response(None, background=BackgroundTask(task, session))

    with browser(make(*PAGES, page)) as client:
        client.get("/task")
        assert "change the session before you return" in told[0]
        assert client.get("/seen").json()["k"] == "in time"


def test_hooks_see_the_session() -> None:
    async def before(request: AnyRequest) -> None:
        request.session["before"] = True

    with browser(make(*PAGES, before_request=before)) as client:
        assert client.get("/seen").json() == {"user": None, "before": True}


def test_a_redirect_carries_the_cookie() -> None:
    @get("/go")
    async def go(session: SessionDep) -> Redirect:
        session["went"] = True
        return Redirect("/seen")

    with browser(make(*PAGES, go)) as client:
        assert client.get("/go").json() == {"user": None, "went": True}


# --------------------------------------------------------------------------------------------------------- WebSockets


@websocket("/ws")
async def talk(socket: WebSocket[Any, Any, Any], session: SessionDep) -> None:
    session["knocked"] = True
    await socket.accept()
    socket.session["said"] = await socket.receive_text()
    await socket.send_text(str(session.user_id))
    await socket.close()


def test_a_websocket_has_the_session_of_its_cookie_and_keeps_what_it_changes() -> None:
    with browser(make(*PAGES, talk)) as client:
        client.post("/login")
        with client.websocket_connect("/ws") as socket:
            socket.send_text("hello")
            assert socket.receive_text() == "ada"
        assert client.get("/seen").json() == {"user": "ada", "knocked": True, "said": "hello"}


def test_a_websocket_brings_its_cookie_with_the_handshake() -> None:
    app = make(*PAGES, talk)
    hears = ({"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hello"})
    scope = {name: value for name, value in websocket_scope("/ws").items() if name != "method"}
    told = run(Talk(app, scope, *hears).run())
    assert told.sent[0]["type"] == "websocket.accept"
    name, _, value = told.cookie.partition("=")
    with browser(app, cookies={name: value}) as client:
        assert client.get("/seen").json() == {"user": None, "knocked": True, "said": "hello"}


def test_guards_and_listeners_know_the_session() -> None:
    @websocket_listener("/listen", guards=[require_login])
    async def listen(data: str, socket: WebSocket[Any, Any, Any]) -> str:
        return f"{socket.session.user_id} said {data}"  # type: ignore[attr-defined]  # says dict

    with browser(make(*PAGES, listen)) as client:
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/listen"):
            pass
        client.post("/login")
        with client.websocket_connect("/listen") as socket:
            socket.send_text("hello")
            assert socket.receive_text() == "ada said hello"


def test_of_a_websocket_that_fails_nothing_is_kept() -> None:
    @websocket("/broken")
    async def broken(socket: WebSocket[Any, Any, Any], session: SessionDep) -> None:
        await socket.accept()
        session["k"] = "never"
        raise Boom

    with browser(make(*PAGES, broken)) as client:
        client.get("/count")
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/broken") as socket:
            socket.receive_text()
        assert client.get("/seen").json() == {"user": None, "n": 1}


# ----------------------------------------------------------------------------------------------------------- SessionAuth


@dataclass
class User:
    """What `SessionAuth` makes of a session."""

    name: str


async def user_of(session: dict[str, Any], connection: ASGIConnection[Any, Any, Any, Any]) -> User | None:
    name = session.get("user_id")
    return User(name) if name and name != "nobody" else None


@post("/sign-in", status_code=200)
async def sign_in(request: AnyRequest) -> None:
    request.set_session({"user_id": (await request.json())["name"]})


@post("/sign-out", status_code=200)
async def sign_out(request: AnyRequest) -> None:
    request.clear_session()


@get("/user")
async def user(request: AnyRequest) -> str:
    name: str = request.user.name
    return name


def authenticated(*handlers: Any, **options: Any) -> Litestar:
    plugin = CoatCheck(secret=SECRET, **{"identity": UserKey("user_id"), **options})
    auth = SessionAuth[User, Any](
        session_backend_config=plugin.session_backend_config,
        retrieve_user_handler=user_of,
        exclude=["/sign-in", "/schema", "/seen"],
    )
    return make(sign_in, sign_out, user, seen, *handlers, plugin=plugin, on_app_init=[auth.on_app_init])


def test_session_auth_lets_in_who_has_signed_in() -> None:
    with browser(authenticated()) as client:
        assert client.get("/user").status_code == 401
        client.post("/sign-in", json={"name": "ada"})
        first = client.cookies["session"]
        assert client.get("/user").text == "ada"
        assert client.get("/seen").json() == {"user": "ada", "user_id": "ada"}
        client.post("/sign-in", json={"name": "bob"})
        assert client.get("/user").text == "bob"
        assert browser(client.app, cookies={"session": first}).get("/user").status_code == 401
        assert client.options("/user").status_code == 204
        client.post("/sign-out")
        assert client.get("/user").status_code == 401


def test_session_auth_ends_the_session_of_a_user_who_is_unknown() -> None:
    with browser(authenticated()) as client:
        client.post("/sign-in", json={"name": "nobody"})
        refused = client.get("/user")
        assert (refused.status_code, "Max-Age=0" in refused.headers["set-cookie"]) == (401, True)
        assert client.get("/seen").json() == {"user": None}


def test_session_auth_describes_our_cookie() -> None:
    with browser(authenticated()) as client:
        described = client.get("/schema/openapi.json").json()
    assert described["components"]["securitySchemes"]["sessionCookie"]["name"] == "__Host-session"


def test_behind_session_auth_an_outage_is_503_too() -> None:
    store = Counted()
    with browser(authenticated(store=store)) as client:
        store.down = True
        assert client.post("/sign-in", json={"name": "ada"}).status_code == 503
        store.down = False
        client.post("/sign-in", json={"name": "ada"})
        store.down = True
        assert client.get("/user").status_code == 503


def test_session_auth_costs_as_many_commands_as_a_session_does() -> None:
    store = Counted()
    with browser(authenticated(store=store)) as client:
        client.post("/sign-in", json={"name": "ada"})
        store.told()
        assert client.get("/user").text == "ada"
        assert store.told() == ["load"]


# ---------------------------------------------------------------------------------------------------------- start-up

SERVER_SIDE = ServerSideSessionConfig().middleware


def with_handler(**options: Any) -> Any:
    @get("/", **options)
    async def page() -> None: ...

    return page


def in_a_controller() -> Any:
    class Pages(Controller):
        middleware = (SERVER_SIDE,)

        @get("/")
        async def page(self) -> None: ...

    return Pages


AUTH = SessionAuth[User, Any](session_backend_config=ServerSideSessionConfig(), retrieve_user_handler=user_of)


@pytest.mark.parametrize(
    ("handler", "app", "fix"),
    [
        (with_handler(), {"middleware": [SERVER_SIDE]}, "leave ServerSideSessionConfig"),
        (with_handler(), {"middleware": [CookieBackendConfig(secret=b"x" * 16).middleware]}, "leave ServerSideSessionConfig"),
        (with_handler(middleware=[SERVER_SIDE]), {}, "leave ServerSideSessionConfig"),
        (in_a_controller(), {}, "leave ServerSideSessionConfig"),
        (Router("/", route_handlers=[with_handler()], middleware=[SERVER_SIDE]), {}, "leave ServerSideSessionConfig"),
        (with_handler(), {"on_app_init": [AUTH.on_app_init]}, "session_backend_config=coatcheck.session_backend_config"),
    ],
    ids=["application", "cookies", "handler", "controller", "router", "auth"],
)  # fmt: skip
def test_litestars_own_sessions_beside_ours_are_refused_at_start_up(
    handler: Any, app: dict[str, Any], fix: str
) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(fix)):
        make(handler, **app)


def test_litestars_own_sessions_may_stand_beside_a_session_of_another_key() -> None:
    @get("/")
    async def page(request: AnyRequest, staff: SessionDep) -> list[Any]:
        request.set_session({"own": 1})
        return [type(request.session).__name__, staff.increment("n")]

    options = {"scope_key": "staff", "name": "staff"}
    with browser(make(page, options=options, middleware=[SERVER_SIDE])) as client:
        assert [client.get("/").json() for _ in range(2)] == [["dict", 1], ["dict", 2]]


@pytest.mark.parametrize("second", [{}, {"scope_key": "staff"}, {"name": "staff"}])
def test_the_plugin_installed_twice_is_refused_at_start_up(second: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="scope_key and a name of its own"):
        Litestar([count], plugins=[CoatCheck(secret=SECRET), CoatCheck(secret=SECRET, **second)])


def test_wrong_settings_are_refused_at_start_up() -> None:
    with pytest.raises(WeakSecret):
        CoatCheck()
    with pytest.raises(ConfigurationError, match="did you mean 'timeouts'"):
        CoatCheck(secret=SECRET, timeout=5)
    with pytest.raises(ConfigurationError, match=r"exclude='\('"):
        CoatCheck(secret=SECRET, exclude="(")
    with pytest.raises(ConfigurationError, match="lazy"):
        CoatCheck(secret=SECRET, lazy=True, rolling=True)


def test_without_the_plugin_the_session_says_so() -> None:
    @get("/")
    async def page(request: AnyRequest) -> str:
        with pytest.raises(OutsideRequest) as error:
            await get_session(request)
        return str(error.value)

    with browser(Litestar([page])) as client:
        assert "coatcheck" in client.get("/").text


def test_the_store_is_asked_at_start_up_and_closed_at_the_end(tmp_path: Any) -> None:
    ears = Ears()
    app = make(*PAGES, options={"store": f"sqlite:///{tmp_path}/s.db", "on_event": ears})
    cookies: dict[str, str] = {}
    for n in (1, 2):  # opened again for a second start
        with browser(app, cookies=cookies) as client:
            assert client.get("/count").json() == n
            cookies = dict(client.cookies)
    down = Counted()
    down.down = True
    with browser(make(*PAGES, options={"store": down, "on_event": ears})):
        assert ears.heard[-1] == "store.down"
        ears.heard.clear()
    with browser(make(*PAGES, options={"store": down, "on_event": ears, "startup_check": False})):
        assert ears.heard == []


def test_a_client_of_a_test_is_logged_in_without_a_form() -> None:
    with browser(make(*PAGES)) as client:
        login_as(client, "42", data={"cart": 1})
        assert client.get("/seen").json() == {"user": "42", "cart": 1}


def test_litestars_way_to_write_a_session_into_a_test_client_names_ours() -> None:
    plugin = CoatCheck(secret=SECRET)
    with TestClient(make(plugin=plugin), session_config=plugin.session_backend_config) as client:
        with pytest.raises(UsageError, match="login_as"):
            client.set_session_data({"a": 1})
        with pytest.raises(UsageError, match="login_as"):
            client.get_session_data()


# ------------------------------------------------------------------------------------- Litestar's own tests of its sessions


def test_without_its_middleware_the_session_of_a_request_is_a_500() -> None:
    @get("/test", sync_to_thread=False)
    def handler(request: AnyRequest) -> None:
        assert request.session

    with browser(Litestar([handler])) as client:
        assert client.get("/test").status_code == 500


def test_integration() -> None:
    @route("/session", http_method=["GET", "POST", "DELETE"])
    async def handler(request: AnyRequest) -> dict[str, bool] | None:
        if request.method == "GET":
            return {"has_session": request.session != {}}
        if request.method == "DELETE":
            request.clear_session()
        else:
            request.session["username"] = "moishe"
        return None

    with browser(make(handler)) as client:

        def has_session() -> bool:
            answer: bool = client.get("/session").json()["has_session"]
            return answer

        assert not has_session()
        client.post("/session")
        first = client.cookies["session"]
        assert has_session()
        client.delete("/session")
        assert not has_session()
        client.post("/session")
        assert has_session()
        assert client.cookies["session"] != first


def test_set_empty() -> None:
    @post("/empty")
    async def empty(request: AnyRequest) -> None:
        request.set_session(Empty)

    with browser(make(*PAGES, replace, empty)) as client:
        client.post("/set", json={"foo": "bar"})
        client.post("/empty")
        assert client.get("/seen").json() == {"user": None}


def installed(request: AnyRequest) -> bool:
    return "session" in request.scope


@pytest.mark.parametrize(
    ("options", "opt", "paths"),
    [
        ({"exclude": ["north", "south"]}, {}, {"north": False, "south": False, "west": True}),
        ({"exclude": "^/n"}, {}, {"north": False, "south": True, "west": True}),
        ({}, {"skip_session": True}, {"north": True, "south": False, "west": True}),
        ({"exclude_opt_key": "mine"}, {"mine": True}, {"north": True, "south": False, "west": True}),
        ({"exclude_opt_key": None}, {"skip_session": True}, {"north": True, "south": True, "west": True}),
    ],
)
def test_paths_and_routes_may_be_excluded(
    options: dict[str, Any], opt: dict[str, Any], paths: dict[str, bool]
) -> None:
    handlers = [
        get(f"/{path}", sync_to_thread=False, **(opt if path == "south" else {}))(installed) for path in paths
    ]
    with browser(make(*handlers, options=options)) as client:
        assert {path: client.get(f"/{path}").json() for path in paths} == paths


def test_does_not_override_cookies() -> None:
    @get("/")
    async def index(session: SessionDep) -> Response[str]:
        session["n"] = 1
        return Response("hello", cookies={"foo": "bar"})

    with browser(make(index)) as client:
        assert set(client.get("/").cookies) == {"foo", "session"}


def test_max_age_expires() -> None:
    time = Time()
    options = {"clock": time.clock, "timeouts": Timeouts(idle=60)}
    with browser(make(*PAGES, options=options)) as client:
        client.get("/count")
        time.now += 59
        assert client.get("/seen").json() == {"user": None, "n": 1}
        time.now += 61
        assert client.get("/seen").json() == {"user": None}
