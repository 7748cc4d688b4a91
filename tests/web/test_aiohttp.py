"""The aiohttp adapter, through aiohttp's own test client, and in the words of aiohttp_session.

aiohttp_session's own tests (`tests/` there), with our `setup` in place of its middleware and a storage:

run as they are  test_http_exception: test_exceptions. test_get_session: test_get_stored_session, test_get_new_session,
                 test_session_is_not_stored. test_*_storage: test_create_new_session, test_load_existing_session,
                 test_change_session, test_clear_cookie_on_session_invalidation, test_dont_save_not_requested_session,
                 test_create_cookie_in_handler, test_create_new_session_if_key_doesnt_exists…, test_session_dict: test_operations
adapted          test_load_bad_session: what is stored and is no session is a new session, with an event. test_set_ttl…: by the
                 injected clock. test_invalidate, test_session_dict: a session is made by a request, not by hand, and after
                 invalidate() it is another one. test__repr__: ours shows no data. test_path_domain: by `CookieSettings`.
                 test_stream_response, test_prepared_response_type: there the session of a prepared response is lost, or a
                 RuntimeError; ours is kept
do not apply     test_storage_returns_not_session…, test_get_new_session_bad_return, test_abstract_storage: of storages of one's
                 own. test_encrypted_cookie_storage, test_nacl_storage: of cookies that hold the data. set_new_identity: refused,
                 and said so. test_bad_response_type: aiohttp itself refuses such a response
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp_session
import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestClient, TestServer

from coatcheck import (
    ConfigurationError,
    CookieSettings,
    OutsideRequest,
    Timeouts,
    TooLate,
    UsageError,
    UserKey,
    WeakSecret,
)
from coatcheck.aiohttp import AiohttpSession, get_session, new_session, setup
from coatcheck.stores.memory import MemoryStore
from coatcheck.testing.clients import login_as
from tests.web.apps import SECRET, Boom
from tests.web.rig import Counted, Ears, Time, run

Client = TestClient[web.Request, web.Application]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make(pages: dict[str, Handler] | None = None, **options: Any) -> web.Application:
    """An application with these pages besides the usual ones; `options` are those of `setup`."""
    app = web.Application()
    setup(app, **{"store": Counted(), "secret": SECRET, **options})
    for path, page in {**PAGES, **(pages or {})}.items():
        app.router.add_route("*", path, page)
    return app


def visiting(app: web.Application, visit: Callable[[Client], Awaitable[None]]) -> None:
    """Run this visit of a client of the application."""

    async def main() -> None:
        async with TestClient(TestServer(app)) as client:
            await visit(client)

    run(main())


async def text(client: Client, path: str, **headers: str) -> str:
    async with client.get(
        path, headers={name.replace("_", "-"): value for name, value in headers.items()}
    ) as response:
        return await response.text()


async def status(client: Client, path: str) -> int:
    async with client.get(path) as response:
        return response.status


def cookie(client: Client) -> str:
    (morsel,) = list(client.session.cookie_jar)
    return f"{morsel.key}={morsel.value}"


async def public(request: web.Request) -> web.Response:
    return web.Response(text="public")


async def count(request: web.Request) -> web.Response:
    session = await get_session(request)
    return web.Response(text=str(session.increment("n")))


async def seen(request: web.Request) -> web.Response:
    session = await get_session(request)
    return web.json_response({"user": session.user_id, **session})


async def login(request: web.Request) -> web.Response:
    (await get_session(request)).login("ada")
    return web.Response()


async def logout(request: web.Request) -> web.Response:
    (await get_session(request)).logout()
    return web.Response()


PAGES: dict[str, Handler] = {
    "/public": public,
    "/count": count,
    "/seen": seen,
    "/login": login,
    "/logout": logout,
}


# ------------------------------------------------------------------------------------------------------ the session itself


def test_a_request_costs_as_many_commands_as_the_design_says() -> None:
    store = Counted()

    async def visit(client: Client) -> None:
        store.told()
        for path, commands in (
            ("/public", []), ("/count", ["create"]), ("/public", []), ("/count", ["load", "replace"]), ("/seen", ["load"]),
        ):  # fmt: skip
            await text(client, path)
            assert store.told() == commands

    visiting(make(store=store), visit)


def test_an_option_that_looks_at_every_session_looks_at_those_that_nobody_asks_for() -> None:
    async def visit(client: Client) -> None:
        await text(client, "/count")
        async with client.get("/public") as response:
            assert "session=" in response.headers["Set-Cookie"]

    visiting(make(rolling=True), visit)


def test_with_an_identity_a_key_stands_for_the_login() -> None:
    async def sign_in(request: web.Request) -> web.Response:
        session = await get_session(request)
        session["user"] = 42
        return web.Response()

    async def visit(client: Client) -> None:
        await text(client, "/count")
        before = cookie(client)
        await text(client, "/in")
        assert cookie(client) != before
        assert await text(client, "/seen") == '{"user": 42, "n": 1}'

    visiting(make({"/in": sign_in}, identity=UserKey("user", from_user_id=int)), visit)


def test_an_http_exception_is_an_answer_and_keeps_what_was_changed() -> None:
    async def save(request: web.Request) -> web.Response:
        (await get_session(request))["message"] = "works"
        raise web.HTTPFound("/seen")

    async def visit(client: Client) -> None:
        assert await text(client, "/save") == '{"user": null, "message": "works"}'

    visiting(make({"/save": save}), visit)


def test_of_a_request_that_fails_nothing_but_the_logout_is_kept() -> None:
    async def fail(request: web.Request) -> web.Response:
        (await get_session(request))["k"] = "never"
        raise Boom

    async def leave(request: web.Request) -> web.Response:
        (await get_session(request)).logout()
        raise Boom

    async def visit(client: Client) -> None:
        await text(client, "/login")
        thief = cookie(client)
        assert await status(client, "/fail") == 500
        assert await text(client, "/seen") == '{"user": "ada"}'
        async with client.get("/leave") as response:
            assert (response.status, "Max-Age=0" in response.headers["Set-Cookie"]) == (500, True)
        assert await text(client, "/seen", cookie=thief) == '{"user": null}'

    visiting(make({"/fail": fail, "/leave": leave}), visit)


# -------------------------------------------------------------------------------------------------------------- bad days


def test_without_a_store_a_request_that_needs_it_is_503_and_others_go_on() -> None:
    store, ears = Counted(), Ears()

    async def visit(client: Client) -> None:
        await text(client, "/count")
        ears.heard.clear()
        store.down = True
        async with client.get("/seen") as refused:
            said = (refused.status, refused.headers["Retry-After"], refused.headers["Cache-Control"])
            assert said == (503, "5", "no-store")
            assert "cannot be reached" in await refused.text()
        assert (await text(client, "/public"), ears.heard) == ("public", ["store.down"])
        client.session.cookie_jar.clear()
        async with client.get("/count") as response:
            assert (response.status, response.headers.get("Set-Cookie")) == (503, None)

    visiting(make(store=store, on_event=ears), visit)


def test_a_middleware_around_ours_may_say_it_in_its_own_words() -> None:
    store = Counted()

    @web.middleware
    async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            return web.Response(text=f"{error.status} {type(error.__cause__).__name__}", status=error.status)

    app = web.Application(middlewares=[errors])
    setup(app, store=store, secret=SECRET)
    app.router.add_get("/count", count)

    async def visit(client: Client) -> None:
        store.down = True
        assert await text(client, "/count") == "503 StoreUnavailable"

    visiting(app, visit)


def test_a_conflict_is_409_where_conflicts_are_to_be_told() -> None:
    async def slow(request: web.Request) -> web.Response:
        session = await get_session(request)
        session["v"] = request.query["v"]
        if "wait" in request.query:
            await text(client_of[0], "/slow?v=theirs", cookie=request.headers["Cookie"])
        return web.Response()

    client_of: list[Client] = []

    async def visit(client: Client) -> None:
        client_of.append(client)
        await text(client, "/slow?v=first")
        async with client.get("/slow?v=mine&wait=1") as response:
            assert (response.status, response.headers["Cache-Control"]) == (409, "no-store")
        assert await text(client, "/seen") == '{"user": null, "v": "theirs"}'

    visiting(make({"/slow": slow}, on_conflict="raise"), visit)


# ------------------------------------------------------------------------------------------- responses of all kinds


async def stream(request: web.Request) -> web.StreamResponse:
    session = await get_session(request)
    session["state"] = "begun"
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"begun ")
    session["state"] = "ended"
    for act in (session.regenerate, session.logout, lambda: session.login("eve")):
        with pytest.raises(TooLate):
            act()
    await response.write(b"ended")
    return response


def test_a_stream_is_committed_before_its_headers_leave_and_again_at_its_end() -> None:
    store = Counted()

    async def visit(client: Client) -> None:
        store.told()
        assert await text(client, "/stream") == "begun ended"
        assert store.told() == ["create", "replace"]
        assert await text(client, "/seen") == '{"user": null, "state": "ended"}'

    visiting(make({"/stream": stream}, store=store), visit)


def test_a_stream_that_cannot_be_committed_is_a_503_that_can_be_read() -> None:
    store = Counted()

    async def visit(client: Client) -> None:
        store.down = True
        for _ in range(2):  # on the same connection
            async with client.get("/stream") as response:
                assert (response.status, "cannot be reached" in await response.text()) == (503, True)

    visiting(make({"/stream": stream}, store=store), visit)


def test_a_stream_that_fails_keeps_what_was_committed_before_its_headers() -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        session = await get_session(request)
        session["state"] = "begun"
        response = web.StreamResponse()
        await response.prepare(request)
        session["state"] = "never"
        raise Boom

    async def visit(client: Client) -> None:
        with pytest.raises(Exception, match=r"payload|disconnected|Connection"):  # noqa: PT012
            async with client.get("/broken") as response:
                client.session.cookie_jar.update_cookies(response.cookies, client.make_url("/"))
                await response.read()
        assert await text(client, "/seen") == '{"user": null, "state": "begun"}'

    visiting(make({"/broken": broken}), visit)


def test_a_response_prepared_by_its_handler_carries_the_cookie() -> None:
    async def prepared(request: web.Request) -> web.StreamResponse:
        (await get_session(request))["k"] = 1
        response = web.Response(text="prepared")
        await response.prepare(request)
        return response

    async def visit(client: Client) -> None:
        assert await text(client, "/prepared") == "prepared"
        assert await text(client, "/seen") == '{"user": null, "k": 1}'

    visiting(make({"/prepared": prepared}), visit)


def test_a_file_carries_the_cookie(tmp_path: Any) -> None:
    (tmp_path / "style.css").write_text("body {}")

    async def file(request: web.Request) -> web.StreamResponse:
        (await get_session(request))["k"] = 1
        return web.FileResponse(tmp_path / "style.css")

    async def visit(client: Client) -> None:
        assert await text(client, "/file") == "body {}"
        assert await text(client, "/seen") == '{"user": null, "k": 1}'

    visiting(make({"/file": file}), visit)


def test_a_body_that_is_made_while_it_is_sent_and_a_task_come_too_late() -> None:
    told: list[str] = []
    tasks: list[asyncio.Task[None]] = []

    async def late(session: AiohttpSession) -> None:
        try:
            session["k"] = "late"
        except TooLate as error:
            told.append(str(error))

    async def page(request: web.Request) -> web.Response:
        session = await get_session(request)
        session["k"] = "in time"

        async def body() -> AsyncIterator[bytes]:
            await late(session)
            tasks.append(asyncio.create_task(late(session)))
            yield b"body"

        return web.Response(body=body())

    async def visit(client: Client) -> None:
        assert await text(client, "/page") == "body"
        await tasks[0]
        assert ["change the session before you return" in error for error in told] == [True, True]
        assert await text(client, "/seen") == '{"user": null, "k": "in time"}'

    visiting(make({"/page": page}), visit)


def test_what_the_application_says_of_caches_is_kept_where_it_is_safe() -> None:
    async def cached(request: web.Request) -> web.Response:
        (await get_session(request)).increment("n")
        return web.Response(
            headers=[("Cache-Control", "public"), ("Vary", "Accept"), ("Vary", "Accept-Language")]
        )

    async def visit(client: Client) -> None:
        for cache in ("no-store", "public"):
            async with client.get("/cached") as response:
                assert response.headers.getall("Cache-Control") == [cache]
                assert response.headers.getall("Vary") == ["Accept, Accept-Language, Cookie"]

    visiting(make({"/cached": cached}), visit)


# ------------------------------------------------------------------------------------------------------------ WebSockets


async def talk(request: web.Request) -> web.StreamResponse:
    session = await get_session(request)
    session["state"] = "handshake"
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        session["said"] = message.data
        await socket.send_str(str(session.user_id))
    return socket


def test_a_websocket_brings_its_cookie_with_the_handshake_and_keeps_what_it_changes() -> None:
    async def visit(client: Client) -> None:
        async with client.ws_connect("/ws") as socket:
            await socket.send_str("hello")
            assert await socket.receive_str() == "None"
            assert await text(client, "/seen") == '{"user": null, "state": "handshake"}'
        while "said" not in (
            now := await text(client, "/seen")
        ):  # until the server has heard that it was closed
            pass
        assert now == '{"user": null, "state": "handshake", "said": "hello"}'

    visiting(make({"/ws": talk}), visit)


async def listen(request: web.Request) -> web.StreamResponse:
    session = await get_session(request)
    socket = web.WebSocketResponse()
    if session.user_id is None:
        raise web.HTTPUnauthorized
    await socket.prepare(request)
    await socket.send_str("listening")
    async for message in socket:
        await socket.send_str(f"heard {message.data}")
    return socket


def test_a_websocket_is_closed_when_its_session_is_over_and_no_other() -> None:
    async def visit(client: Client) -> None:
        sockets = []
        for _ in range(2):
            client.session.cookie_jar.clear()
            await text(client, "/login")
            sockets.append(await client.ws_connect("/listen"))
            assert await sockets[-1].receive_str() == "listening"
        await text(client, "/logout")
        closed = await sockets[1].receive()
        assert (closed.type, closed.data, closed.extra) == (WSMsgType.CLOSE, 1008, "the session is over")
        await sockets[0].send_str("still")
        assert await sockets[0].receive_str() == "heard still"
        await sockets[0].close()

    visiting(make({"/listen": listen}, store=MemoryStore()), visit)


def test_a_websocket_may_outlive_its_session() -> None:
    async def visit(client: Client) -> None:
        await text(client, "/login")
        async with client.ws_connect("/listen") as socket:
            await socket.receive_str()
            await text(client, "/logout")
            await socket.send_str("still")
            assert await socket.receive_str() == "heard still"

    visiting(make({"/listen": listen}, store=MemoryStore(), close_websockets=False), visit)


# ---------------------------------------------------------------------------------- middlewares, and applications in others


def test_a_middleware_inside_ours_uses_the_session() -> None:
    @web.middleware
    async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
        session = await get_session(request)
        session.increment("gate")
        return await handler(request)

    app = make()
    app.middlewares.append(gate)

    async def visit(client: Client) -> None:
        assert await text(client, "/seen") == '{"user": null, "gate": 1}'

    visiting(app, visit)


def test_a_middleware_around_ours_is_told_of_the_order() -> None:
    told: list[str] = []

    @web.middleware
    async def hasty(request: web.Request, handler: Handler) -> web.StreamResponse:
        with pytest.raises(OutsideRequest) as error:
            await get_session(request)
        told.append(str(error.value))
        return await handler(request)

    app = web.Application(middlewares=[hasty])
    setup(app, secret=SECRET)
    app.router.add_get("/public", public)

    async def visit(client: Client) -> None:
        await text(client, "/public")
        assert "must come before the middlewares that use the session" in told[0]

    visiting(app, visit)


def test_what_a_middleware_around_ours_changes_afterwards_is_kept_too() -> None:
    @web.middleware
    async def after(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        (await get_session(request))["after"] = True
        return response

    app = web.Application(middlewares=[after])
    setup(app, secret=SECRET)
    app.router.add_get("/count", count)
    app.router.add_get("/seen", seen)

    async def visit(client: Client) -> None:
        async with client.get("/count") as response:
            assert len(response.headers.getall("Set-Cookie")) == 1
        assert await text(client, "/seen") == '{"user": null, "n": 1, "after": true}'

    visiting(app, visit)


def test_behind_a_middleware_that_replaces_the_request_the_cookie_leaves_all_the_same() -> None:
    """As aiohttp_remotes does, to say what a proxy has forwarded."""

    @web.middleware
    async def forwarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await handler(request.clone(scheme="https", remote="203.0.113.9"))

    app = web.Application(middlewares=[forwarded])
    setup(app, secret=SECRET)
    app.router.add_get("/count", count)

    async def visit(client: Client) -> None:
        async with client.get("/count") as response:
            (line,) = response.headers.getall("Set-Cookie")
            assert re.match(r"__Host-session=[^;]+; Path=/; HttpOnly; Secure; SameSite=Lax$", line)

    visiting(app, visit)


def test_an_application_inside_another_has_its_session() -> None:
    shop, admin = make(), web.Application()
    admin.router.add_get("/count", count)
    shop.add_subapp("/admin", admin)

    async def visit(client: Client) -> None:
        assert [await text(client, path) for path in ("/count", "/admin/count")] == ["1", "2"]

    visiting(shop, visit)


def test_an_application_inside_another_may_have_a_session_of_its_own() -> None:
    async def both(request: web.Request) -> web.Response:
        session, staff = await get_session(request), await get_session(request, key="staff")
        return web.json_response([session.increment("n"), staff.increment("n", 10)])

    shop, admin = make(), web.Application()
    setup(admin, secret=SECRET, key="staff", name="staff")
    admin.router.add_get("/both", both)
    shop.add_subapp("/admin", admin)

    async def visit(client: Client) -> None:
        await text(client, "/count")
        assert [await text(client, "/admin/both") for _ in range(2)] == ["[2, 10]", "[3, 20]"]
        assert {morsel.key for morsel in client.session.cookie_jar} == {"session", "staff"}

    visiting(shop, visit)


def test_the_same_session_in_an_application_and_one_inside_it_is_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shop, admin = make(), make()
    shop.add_subapp("/admin", admin)

    async def visit(client: Client) -> None:
        assert await status(client, "/admin/public") == 500
        assert "leave it out of the inner one" in caplog.text

    visiting(shop, visit)


# ------------------------------------------------------------------------------------------------------------- start-up


def test_wrong_settings_are_refused_at_once() -> None:
    with pytest.raises(WeakSecret):
        setup(web.Application())
    with pytest.raises(ConfigurationError, match="did you mean 'timeouts'"):
        setup(web.Application(), secret=SECRET, timeout=5)


@pytest.mark.parametrize("second", [{}, {"key": "staff"}, {"name": "staff"}])
def test_set_up_twice_is_refused(second: dict[str, Any]) -> None:
    app = make()
    with pytest.raises(ConfigurationError, match="a key and a name of its own"):
        setup(app, secret=SECRET, **second)


def test_aiohttp_session_beside_us_is_refused_when_the_application_starts() -> None:
    app = make()
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())

    with pytest.raises(ConfigurationError, match=r"leave aiohttp_session\.setup\(app, …\) out"):
        run(TestServer(app).start_server())


def test_without_setup_the_session_says_so() -> None:
    async def page(request: web.Request) -> web.Response:
        with pytest.raises(OutsideRequest) as error:
            await get_session(request)
        return web.Response(text=str(error.value))

    app = web.Application()
    app.router.add_get("/", page)

    async def visit(client: Client) -> None:
        assert "coatcheck.aiohttp.setup(app" in await text(client, "/")

    visiting(app, visit)


def test_the_store_is_asked_at_start_up_and_closed_at_the_end(tmp_path: Any) -> None:
    ears, url = Ears(), f"sqlite:///{tmp_path}/s.db"
    app = web.Application()
    sessions = setup(app, store=url, secret=SECRET, on_event=ears)
    app.router.add_get("/count", count)

    async def visit(client: Client) -> None:
        assert await text(client, "/count") == "1"
        assert not sessions._closed

    visiting(app, visit)
    assert sessions._closed
    assert ears.heard == ["session.created"]

    async def nothing(client: Client) -> None: ...

    down = Counted()
    down.down = True
    visiting(make(store=down, on_event=ears), nothing)
    visiting(make(store=down, on_event=ears, startup_check=False), nothing)
    assert ears.heard == ["session.created", "store.down"]


def test_a_client_of_a_test_is_logged_in_without_a_form() -> None:
    async def visit(client: Client) -> None:
        login_as(client, "42", data={"cart": 1})
        assert await text(client, "/seen") == '{"user": "42", "cart": 1}'

    visiting(make(store=MemoryStore()), visit)


# ------------------------------------------------------------------------------------------------ in aiohttp_session's words

theirs = pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")
"""It keeps its session in a request under a text, which aiohttp has warned of since 3.14."""


def test_whoever_does_not_use_its_words_is_not_warned_of_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiohttp warns once a process of each key that is text: of ours, the first visitor's request failed with it."""
    monkeypatch.setattr(web.BaseRequest, "_seen_str_keys", set(), raising=False)

    async def visit(client: Client) -> None:
        assert await text(client, "/seen") == '{"user": null}'

    visiting(make(), visit)


@theirs
def test_get_session_of_aiohttp_session_returns_ours() -> None:
    async def page(request: web.Request) -> web.Response:
        session = await aiohttp_session.get_session(request)
        ours: Any = await get_session(request)
        assert session is ours is await aiohttp_session.get_session(request)
        assert isinstance(session, aiohttp_session.Session)
        session["a"] = session.get("a", 0) + 1
        return web.Response(text=str(session["a"]))

    async def visit(client: Client) -> None:
        assert [await text(client, "/page") for _ in range(3)] == ["1", "2", "3"]

    visiting(make({"/page": page}), visit)
    visiting(make({"/page": page}, identity=UserKey("user")), visit)


@pytest.mark.parametrize("new", [aiohttp_session.new_session, new_session])
@theirs
def test_a_new_session_takes_the_place_of_the_old_one(new: Callable[[web.Request], Awaitable[Any]]) -> None:
    async def renew(request: web.Request) -> web.Response:
        session = await new(request)
        assert (dict(session), session.new, session.identity, session.empty) == ({}, True, None, True)
        session["n"] = 10
        return web.Response()

    async def visit(client: Client) -> None:
        await text(client, "/renew")  # where there is none yet
        assert await text(client, "/count") == "11"
        await text(client, "/login")
        old = cookie(client)
        await text(client, "/renew")
        assert cookie(client) != old
        assert await text(client, "/seen") == '{"user": null, "n": 10}'
        client.session.cookie_jar.clear()
        assert await text(client, "/seen", cookie=old) == '{"user": null}'

    visiting(make({"/renew": renew}), visit)


def test_the_words_of_its_session() -> None:
    time = Time()

    async def fresh(request: web.Request) -> web.Response:
        session = await get_session(request)
        assert (session.new, session.identity, session.empty, session.max_age) == (True, None, True, None)
        assert session.created == int(time.now)
        assert session == {}
        session["a"] = 1
        assert (session.new, session.empty) == (True, False)
        return web.Response(text=session.handle)

    async def stored(request: web.Request) -> web.Response:
        session = await get_session(request)
        assert (session.new, session.empty, session.created) == (False, False, int(time.now - 10))
        assert session == {"a": 1}
        return web.Response(text=session.identity)

    async def visit(client: Client) -> None:
        handle = await text(client, "/fresh")
        time.now += 10
        assert await text(client, "/stored") == handle

    visiting(make({"/fresh": fresh, "/stored": stored}, clock=time.clock), visit)


def test_invalidate_clears_the_cookie_and_ends_the_session() -> None:
    async def invalidate(request: web.Request) -> web.Response:
        session = await get_session(request)
        session.invalidate()
        assert (session.new, session == {}) == (True, True)
        return web.Response()

    async def visit(client: Client) -> None:
        await text(client, "/count")
        old = cookie(client)
        async with client.get("/invalidate") as response:
            morsel = response.cookies["session"]
            assert (morsel["path"], morsel["max-age"]) == ("/", "0")
        assert await text(client, "/seen", cookie=old) == '{"user": null}'

    visiting(make({"/invalidate": invalidate}), visit)


def test_changed_writes_the_session_whatever_changed() -> None:
    async def change(request: web.Request) -> web.Response:
        (await get_session(request)).changed()
        return web.Response()

    store = Counted()

    async def visit(client: Client) -> None:
        await text(client, "/count")
        store.told()
        await text(client, "/change")
        assert store.told() == ["load", "replace"]

    visiting(make({"/change": change}, store=store), visit)


def test_an_identity_of_ones_own_is_refused() -> None:
    async def page(request: web.Request) -> web.Response:
        with pytest.raises(UsageError, match="ids are made by coatcheck"):
            (await get_session(request)).set_new_identity("mine")
        return web.Response()

    async def visit(client: Client) -> None:
        assert await status(client, "/page") == 200

    visiting(make({"/page": page}), visit)


def test_max_age_is_kept_with_the_session() -> None:
    time = Time()

    async def short(request: web.Request) -> web.Response:
        session = await get_session(request)
        session.max_age = 10
        session["a"] = 1
        return web.Response(text=str(session.max_age))

    async def visit(client: Client) -> None:
        async with client.get("/short") as response:
            assert response.cookies["session"]["max-age"] == "10"
            assert await response.text() == "10.0"
        mine = cookie(client)
        time.now += 9
        assert await text(client, "/seen", cookie=mine) == '{"user": null, "a": 1}'
        time.now += 30
        assert await text(client, "/seen", cookie=mine) == '{"user": null}'

    visiting(make({"/short": short}, clock=time.clock), visit)


def test_the_timeout_of_all_sessions() -> None:
    time = Time()

    async def visit(client: Client) -> None:
        await text(client, "/count")
        time.now += 59
        assert await text(client, "/count") == "2"
        time.now += 61
        assert await text(client, "/count") == "1"

    visiting(make(clock=time.clock, timeouts=Timeouts(idle=60)), visit)


def test_path_and_domain() -> None:
    async def visit(client: Client) -> None:
        async with client.get("/count", headers={"Host": "localhost"}) as response:
            assert "; Path=/count" in response.headers["Set-Cookie"]

    visiting(make(cookie=CookieSettings(path="/count")), visit)


def test_a_cookie_that_is_not_ours_is_none() -> None:
    async def visit(client: Client) -> None:
        assert await text(client, "/count", cookie="session=invalid_key") == "1"

    visiting(make(), visit)
