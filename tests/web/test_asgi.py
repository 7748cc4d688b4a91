"""The ASGI middleware, message by message."""

import asyncio
from typing import Any

import pytest

from coatcheck import (
    ConfigurationError,
    CookieSettings,
    OutsideRequest,
    SessionConflict,
    SessionTooLarge,
    StoreUnavailable,
    TooLate,
    UsageError,
)
from coatcheck.asgi import App, Message, Receive, Scope, Send, SessionMiddleware, get_session
from tests.web.apps import SECRET, asgi_pages
from tests.web.rig import Counted, Ears, Talk, Time, http_scope, page, run, websocket_scope

OLD_SECRET = "oJ5yR1uWq8ZbN3xT7cVfK9sLdM2gHpA4eXiU6wBnYtE"
START = {"type": "http.response.start", "status": 200, "headers": []}
END = {"type": "http.response.body", "body": b""}


def sessions(app: App, **options: Any) -> SessionMiddleware:
    return SessionMiddleware(app, **{"store": Counted(), "secret": SECRET, **options})


def told(middleware: SessionMiddleware) -> list[str]:
    """The commands that the middleware's store was sent since last asked."""
    store: Any = middleware.sessions._backend
    return store.told()


def talk(app: App, scope: Scope | None = None, *hears: dict[str, Any]) -> Talk:
    return run(Talk(app, scope or http_scope(), *hears).run())


def count(session: Any) -> str:
    return str(session.increment("n"))


def look(session: Any) -> str:
    return str(session.get("n"))


class Quiet:
    """An application whose pages are swapped between two requests."""

    def __init__(self, handle: Any = None) -> None:
        self.handle = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await page(self.handle)(scope, receive, send)


# ---------------------------------------------------------------------------------------------------------- commands


def test_a_request_costs_as_many_commands_as_the_design_says() -> None:
    app = Quiet(lambda session: "public")
    middleware = sessions(app)
    talk(middleware)
    assert told(middleware) == []
    app.handle = count
    cookie = talk(middleware).cookie
    assert told(middleware) == ["create"]
    talk(middleware, http_scope(cookie=cookie))
    assert told(middleware) == ["load", "replace"]
    app.handle = look
    assert talk(middleware, http_scope(cookie=cookie)).body == b"2"
    assert told(middleware) == ["load"]


def test_what_a_session_keeps_of_its_request_shows_no_cookie() -> None:
    """Error reporters print every frame's locals, and what they hold (checklist 21)."""
    app = Quiet(count)
    middleware = sessions(app)
    cookie = talk(middleware).cookie
    app.handle = lambda session: repr(vars(session))
    shown = talk(middleware, http_scope(cookie=cookie)).body.decode()
    assert "_describe" in shown
    assert str(cookie)[-32:] not in shown


def test_a_requests_headers_may_be_what_can_be_gone_through_only_once() -> None:
    """As Falcon's test client gives them; the specification says "iterable"."""
    seen = list[Any]()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(dict(scope["headers"]))
        await page(count)(scope, receive, send)

    middleware = sessions(app)
    cookie = talk(middleware).cookie
    for headers in (
        [(b"host", b"localhost"), (b"cookie", cookie.encode())],
        [(b"cookie", cookie.encode())] * 2,
    ):
        scope = {**http_scope(), "headers": map(iter, [*headers, (b"host", b"localhost")])}
        talk(middleware, scope)
        assert seen.pop()[b"cookie"] == cookie.encode()
    assert talk(middleware, http_scope(cookie=cookie)).body == b"4"


def test_a_lazy_session_is_loaded_where_it_is_awaited() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/wait":
            session = await get_session(scope)
            session.increment("n")
        elif scope["path"] == "/hasty":
            scope["session"].get("n")
        await page(lambda session: "")(scope, receive, send)

    middleware = sessions(app, lazy=True)
    cookie = talk(middleware, http_scope("/wait")).cookie
    assert told(middleware) == ["create"]
    talk(middleware, http_scope(cookie=cookie))
    assert told(middleware) == []
    talk(middleware, http_scope("/wait", cookie=cookie))
    assert told(middleware) == ["load", "replace"]
    with pytest.raises(UsageError, match="await get_session"):
        talk(middleware, http_scope("/hasty", cookie=cookie))


def test_lazy_and_an_option_that_looks_at_every_session_contradict_each_other() -> None:
    with pytest.raises(ConfigurationError, match="lazy"):
        sessions(page(count), lazy=True, rolling=True)


def test_a_cookie_signed_with_an_older_secret_comes_back_under_the_newest() -> None:
    store = Counted()
    cookie = talk(sessions(page(count), store=store, secret=OLD_SECRET)).cookie
    both = sessions(page(look), store=store, secret=[SECRET, OLD_SECRET])
    again = talk(both, http_scope(cookie=cookie))
    assert (again.body, again.cookie == cookie, bool(again.cookie)) == (b"1", False, True)
    newest = sessions(page(look), store=store)
    assert talk(newest, http_scope(cookie=again.cookie)).body == b"1"
    assert talk(newest, http_scope(cookie=cookie)).body == b"None"


# ------------------------------------------------------------------------------------------------- order of messages


def test_the_headers_of_a_stream_do_not_wait_for_its_first_piece() -> None:
    gate = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["session"]["seen"] = True
        await send({**START, "headers": [(b"content-type", b"text/event-stream")]})
        await gate.wait()
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await send(END)

    async def main() -> Talk:
        conversation = Talk(sessions(app), http_scope())
        left = asyncio.Event()

        async def on_send(message: Message) -> None:
            left.set()

        conversation.on_send = on_send
        task = asyncio.create_task(conversation.run())
        await left.wait()
        assert [len(conversation.all(b"set-cookie")), len(conversation.sent)] == [1, 1]
        gate.set()
        return await task

    assert run(main()).body == b"data: 1\n\n"


def test_the_session_is_saved_before_the_browser_hears_of_it() -> None:
    middleware = sessions(page(count))
    seen = []

    async def on_send(message: Message) -> None:
        seen.append(told(middleware))

    conversation = Talk(middleware, http_scope())
    conversation.on_send = on_send
    run(conversation.run())
    assert seen == [["create"], []]


def test_a_change_between_the_headers_and_a_body_in_one_piece_is_kept() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["session"].setdefault("n", 0)
        scope["session"].setdefault("list", [])
        await send(dict(START))
        if scope["path"] == "/again":
            scope["session"]["n"] += 1
            scope["session"]["list"].append("inside")
        await send(dict(END))

    store = Counted()
    cookie = talk(sessions(app, store=store)).cookie
    talk(sessions(app, store=store), http_scope("/again", cookie=cookie))
    reader = sessions(page(lambda session: f"{session['n']} {session['list']}"), store=store)
    assert talk(reader, http_scope(cookie=cookie)).body == b"1 ['inside']"


def test_after_the_response_a_change_raises() -> None:
    late: list[type[Exception]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        session = scope["session"]
        session["n"] = 1
        await send(dict(START))
        await send(dict(END))
        try:
            session["n"] = 2
        except TooLate as error:
            late.append(type(error))
        assert session["n"] == 1

    talk(sessions(app))
    assert late == [TooLate]


def test_what_a_stream_changed_is_kept_when_the_client_goes_away() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["session"]["n"] = 1
        await send(dict(START))
        while True:
            scope["session"]["n"] += 1
            await send({"type": "http.response.body", "body": b".", "more_body": True})

    store = Counted()
    conversation = Talk(sessions(app, store=store), http_scope())

    async def gone(message: Message) -> None:
        if len(conversation.sent) == 3:
            raise OSError("the client has gone")

    conversation.on_send = gone
    with pytest.raises(OSError, match="gone"):
        run(conversation.run())
    assert talk(sessions(page(look), store=store), http_scope(cookie=conversation.cookie)).body == b"4"


def test_a_handler_that_is_cancelled_keeps_nothing_but_its_logout() -> None:
    app = Quiet(lambda session: session.update(n=1) or "")
    middleware = sessions(app)
    cookie = talk(middleware).cookie

    async def stuck(scope: Scope, receive: Receive, send: Send) -> None:
        scope["session"]["n"] = 2
        if scope["path"] == "/logout":
            scope["session"].logout()
        await asyncio.Event().wait()

    async def cancel(path: str) -> None:
        task = asyncio.create_task(Talk(middleware, http_scope(path, cookie=cookie)).run())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    middleware.app = stuck
    run(cancel("/"))
    middleware.app = page(look)
    assert talk(middleware, http_scope(cookie=cookie)).body == b"1"
    middleware.app = stuck
    run(cancel("/logout"))
    middleware.app = page(look)
    assert talk(middleware, http_scope(cookie=cookie)).body == b"None"


def test_an_application_that_never_answers_keeps_nothing() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["session"]["n"] = 1

    middleware = sessions(app)
    talk(middleware)
    assert told(middleware) == []


def test_the_lifespan_is_passed_on() -> None:
    heard = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        heard.append(scope["type"])

    talk(sessions(app), {"type": "lifespan"})
    assert heard == ["lifespan"]


# ------------------------------------------------------------------------------------------------------------ errors


def test_an_outage_is_503_for_whoever_needs_the_session_and_told_once() -> None:
    store, ears = Counted(), Ears()
    app = Quiet(count)
    middleware = sessions(app, store=store, on_event=ears)
    cookie = talk(middleware).cookie
    store.down = True
    ears.heard.clear()
    seen = talk(middleware, http_scope(cookie=cookie))
    assert (seen.status, seen.all(b"retry-after"), seen.all(b"cache-control")) == (503, ["5"], ["no-store"])
    assert (seen.cookie, ears.heard) == ("", ["store.down"])
    app.handle = lambda session: "public"
    assert talk(middleware, http_scope(cookie=cookie)).body == b"public"
    assert ears.heard == ["store.down"] * 2


def test_the_store_goes_down_between_load_and_commit() -> None:
    store = Counted()

    def handle(session: Any) -> str:
        store.down = session.increment("n") == 2
        return ""

    middleware = sessions(page(handle), store=store)
    cookie = talk(middleware).cookie
    assert talk(middleware, http_scope(cookie=cookie)).status == 503


def conflict_app(store: Counted) -> tuple[App, App]:
    """An application that waits while somebody else assigns the same key, and that somebody."""
    other = sessions(page(lambda session: session.update(n="theirs") or ""), store=store)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["session"]["n"] = scope["path"]
        if scope["path"] == "/wait":
            await Talk(other, http_scope(cookie=dict(scope["headers"])[b"cookie"].decode())).run()
        await page(lambda session: "")(scope, receive, send)

    return app, other


def test_a_conflict_is_409_where_it_is_asked_for() -> None:
    store, ears = Counted(), Ears()
    app, _ = conflict_app(store)
    strict = sessions(app, store=store, on_conflict="raise", on_event=ears)
    cookie = talk(strict).cookie
    seen = talk(strict, http_scope("/wait", cookie=cookie))
    assert (seen.status, seen.cookie, ears.heard.count("session.conflict")) == (409, "", 1)
    later = sessions(app, store=store)
    assert talk(later, http_scope("/wait", cookie=cookie)).status == 200


def test_an_error_page_is_not_met_by_the_same_error_again() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await page(lambda session: session.update(big="x" * 100) or "")(scope, receive, send)
        except SessionTooLarge:
            await page(lambda session: "too much")(scope, receive, send)

    middleware = sessions(app, max_size=50)
    assert talk(middleware).body == b"too much"
    assert told(middleware) == []


def test_an_error_of_the_application_is_raised_as_it_is_though_the_store_is_down() -> None:
    store = Counted()

    def handle(session: Any) -> str:
        if session.increment("n") == 1:
            return ""
        session.logout()
        store.down = True
        raise ZeroDivisionError

    middleware = sessions(page(handle), store=store)
    cookie = talk(middleware).cookie
    with pytest.raises(ZeroDivisionError):
        talk(middleware, http_scope(cookie=cookie))


# ----------------------------------------------------------------------------------------------------- several, nested


def test_several_sessions_live_side_by_side() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["session"].increment("n")
        if scope["path"] == "/admin":
            scope["admin"]["n"] = "admin"
        text = f"{scope['session'].get('n')} {scope['admin'].get('n')}"
        await page(lambda session: text)(scope, receive, send)

    inner = sessions(app, scope_key="admin", name="admin")
    both = sessions(inner)
    first = talk(both, http_scope("/admin"))
    assert sorted(line.partition("=")[0] for line in first.all(b"set-cookie")) == ["admin", "session"]
    second = talk(both, http_scope(cookie=first.cookie))
    assert (second.body, second.all(b"set-cookie"), second.all(b"vary")) == (b"2 admin", [], ["Cookie"])
    session, admin = first.cookie.split("; ")[1], first.cookie.split("; ")[0]
    swapped = f"session={admin.partition('=')[2]}; admin={session.partition('=')[2]}"
    assert talk(both, http_scope(cookie=swapped)).body == b"1 None"  # the name is part of what is signed


def test_mounted_under_itself_it_is_one_session() -> None:
    middleware = sessions(page(count))
    inner = middleware.app

    async def again(scope: Scope, receive: Receive, send: Send) -> None:
        outer = scope["session"]
        if scope["path"] == "/deep":
            scope["path"] = "/"
            await middleware(scope, receive, send)
        else:
            await inner(scope, receive, send)
        assert scope["session"] is outer

    middleware.app = again
    first = talk(middleware, http_scope("/deep"))
    assert len(first.all(b"set-cookie")) == 1
    assert talk(middleware, http_scope("/deep", cookie=first.cookie)).body == b"2"


@pytest.mark.parametrize(
    ("path", "inside"),
    [("/caf%C3%A9", "/café/menu"), ("/shop", "/shop"), ("/shop", "/shop/a"), ("/shop/", "/shop/a")],
)
def test_outside_its_path_there_is_no_session(path: str, inside: str) -> None:
    app = Quiet(count)
    middleware = sessions(app, cookie=CookieSettings(path=path))
    cookie = talk(middleware, http_scope(inside)).cookie
    assert talk(middleware, http_scope(inside, cookie=cookie)).body == b"2"
    told(middleware)
    for outside in ("/", "/shopping", "/caf"):
        with pytest.raises(OutsideRequest, match="limited to path"):
            talk(middleware, http_scope(outside, cookie=cookie))
    app.handle = lambda session: "public"
    seen = talk(middleware, http_scope("/", cookie=cookie))
    assert (seen.body, seen.all(b"vary"), told(middleware)) == (b"public", [], [])


@pytest.mark.parametrize(("unset", "after"), [("keep", b"1"), ("destroy", b"None")])
@pytest.mark.parametrize("how", ["none", "delete"])
def test_to_remove_the_session_means_what_unset_says(unset: str, after: bytes, how: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["session"]["n"] = 2
        if how == "none":
            scope["session"] = None
        else:
            del scope["session"]
        await send(dict(START))
        await send(dict(END))

    store = Counted()
    cookie = talk(sessions(page(count), store=store)).cookie
    seen = talk(sessions(app, store=store, unset=unset), http_scope(cookie=cookie))
    assert bool(seen.all(b"set-cookie")) == (unset == "destroy")
    assert seen.all(b"vary") == ["Cookie"]
    assert talk(sessions(page(look), store=store), http_scope(cookie=cookie)).body == after


def test_to_put_something_else_in_its_place_is_a_mistake() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["session"] = {"n": 1}
        await send(dict(START))

    with pytest.raises(UsageError, match="replaced by a dict"):
        talk(sessions(app))


def test_outside_the_middleware_there_is_no_session() -> None:
    with pytest.raises(OutsideRequest, match="add coatcheck's SessionMiddleware"):
        get_session(http_scope())


# ---------------------------------------------------------------------------------------------------------- WebSocket

CONNECT = {"type": "websocket.connect"}
HELLO = {"type": "websocket.receive", "text": "hello"}
GONE = {"type": "websocket.disconnect", "code": 1001}


def test_a_websocket_gets_its_cookie_with_the_handshake_and_keeps_what_it_changed() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        session = scope["session"]
        session["n"] = 1
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            session["n"] += 1
        with pytest.raises(TooLate):
            session.login("ada")
        raise RuntimeError("the client has gone, says Starlette")

    store = Counted()
    conversation = Talk(sessions(app, store=store), websocket_scope(), CONNECT, HELLO, HELLO, GONE)
    with pytest.raises(RuntimeError):
        run(conversation.run())
    reader = sessions(page(look), store=store)
    assert talk(reader, http_scope(cookie=conversation.cookie)).body == b"3"


def test_a_websocket_that_the_server_closes_keeps_what_it_changed() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["session"]["n"] = 1
        await send({"type": "websocket.accept"})
        scope["session"]["n"] = 2
        await send({"type": "websocket.close", "code": 1000})
        with pytest.raises(TooLate):
            scope["session"]["n"] = 3

    store = Counted()
    cookie = talk(sessions(app, store=store), websocket_scope(), CONNECT).cookie
    assert talk(sessions(page(look), store=store), http_scope(cookie=cookie)).body == b"2"


def test_a_websocket_that_is_refused_keeps_data_and_a_logout_and_begins_nothing() -> None:
    def refusing(change: Any) -> App:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            change(scope["session"])
            await send({"type": "websocket.close", "code": 1008})

        return app

    store = Counted()
    cookie = talk(sessions(page(count), store=store)).cookie
    reader = sessions(page(look), store=store)
    talk(sessions(refusing(count), store=store), websocket_scope(cookie=cookie))
    assert talk(reader, http_scope(cookie=cookie)).body == b"2"
    store.told()
    talk(sessions(refusing(count), store=store), websocket_scope())
    assert store.told() == []
    talk(sessions(refusing(lambda session: session.logout()), store=store), websocket_scope(cookie=cookie))
    assert store.told() == ["load", "delete"]


def test_an_outage_refuses_the_handshake_with_503_where_the_server_can_say_so() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["session"].increment("n")
        await send({"type": "websocket.accept"})

    store = Counted()
    store.down = True
    scope = websocket_scope()
    scope["extensions"] = {"websocket.http.response": {}}
    seen = talk(sessions(app, store=store), scope)
    assert (seen.sent[0]["type"], seen.status) == ("websocket.http.response.start", 503)
    with pytest.raises(StoreUnavailable):
        talk(sessions(app, store=store), websocket_scope())


# ------------------------------------------------------------------------------------------------------- configuration


def test_what_is_wrong_with_the_settings_is_said_when_the_application_starts() -> None:
    for options in ({"secret": None}, {"secret": "changeme"}, {"rollin": True}, {"store": "nosql://x"}):
        with pytest.raises(ConfigurationError):
            sessions(asgi_pages, **options)


def test_a_rolling_session_is_sent_again_by_every_response() -> None:
    time = Time()
    app = Quiet(count)
    middleware = sessions(app, rolling=True, clock=time.clock, cookie=CookieSettings(max_age=100))
    cookie = talk(middleware).cookie
    app.handle = lambda session: "public"
    for _ in range(3):
        time.now += 90
        seen = talk(middleware, http_scope(cookie=cookie))
        assert (seen.cookie, "Max-Age=100" in seen.all(b"set-cookie")[0]) == (cookie, True)
        assert (seen.all(b"vary"), seen.all(b"cache-control")) == (["Cookie"], ["no-store"])


def test_a_conflict_that_a_framework_wrapped_is_409_all_the_same() -> None:
    store = Counted()
    inner, _ = conflict_app(store)

    async def starlette(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await inner(scope, receive, send)
        except SessionConflict as error:
            raise RuntimeError("Caught handled exception, but response already started.") from error

    strict = sessions(starlette, store=store, on_conflict="raise")
    cookie = talk(strict).cookie
    assert talk(strict, http_scope("/wait", cookie=cookie)).status == 409


def test_a_cache_inside_the_middleware_keeps_nothing_of_a_visitors_session() -> None:
    kept: list[Message] = []

    async def cached(scope: Scope, receive: Receive, send: Send) -> None:
        async def keeping(message: Message) -> None:
            kept.append(message)
            await send(message)

        if kept:
            for message in list(kept):
                await send(message)
        else:
            await page(count)(scope, receive, keeping)

    middleware = sessions(cached)
    assert talk(middleware).cookie
    assert [item for message in kept for item in message.get("headers", ())] == []
    assert talk(middleware).cookie == ""
