"""The Quart extension, through Quart's own client.

Of Quart's own tests of sessions, the ones that are about its cookie or about any session are here, in other words:

tests/test_sessions.py
  open_session, save_session          adapted: what one response sets, the next request's open_session reads; the cookie has the
                                      attributes of the configuration. The data are not in the cookie, so two sessions are
                                      compared and not two cookies
  no_modification, no_access          adapted: a session that was only read, or not even looked at, sets no cookie, and the second
                                      says no Vary
tests/test_app.py
  app_session, app_session_websocket, app_session_websocket_return
                                      adapted: these watch a mock being called; here the session that is opened is kept
tests/test_testing.py
  cookie_jar, session_transactions, with_usage
                                      as they are, but for the secret key: "secret" is refused as too weak
tests/test_helpers.py
  flash, flash_category, flash_category_filter
                                      as they are
tests/test_exceptions.py, test_asgi.py and the others say nothing of sessions.
Not run: that a session changed in a WebSocket is logged as lost (`save_session` without a response): ours is kept.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any
from uuid import UUID

import flask
import pytest
from flask import Flask
from markupsafe import Markup
from quart import (
    Quart,
    Response,
    abort,
    copy_current_request_context,
    flash,
    get_flashed_messages,
    jsonify,
    render_template_string,
    request,
    session,
    stream_with_context,
    websocket,
)
from quart.sessions import SessionInterface
from quart.testing import WebsocketResponseError
from quart.testing.app import LifespanError
from quart.testing.connections import WebsocketDisconnectError
from werkzeug.wrappers import Response as WerkzeugResponse

from coatcheck import (
    ConfigurationError,
    CookieSettings,
    OutsideRequest,
    SessionConflict,
    StoreUnavailable,
    Timeouts,
    TooLate,
    UsageError,
    UserKey,
    WeakSecret,
)
from coatcheck.flask import CoatCheck as FlaskCoatCheck
from coatcheck.quart import CoatCheck, QuartSession, get_session
from tests.web.paths import SECRET
from tests.web.rig import Counted, Ears, Talk, Time, http_scope, websocket_scope
from tests.web.servers import Seen

OLD_SECRET = "oJ5yR1uWq8ZbN3xT7cVfK9sLdM2gHpA4eXiU6wBnYtE"


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test: pytest itself cannot."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


def make(config: dict[str, Any] | None = None, **options: Any) -> Quart:
    """An application that counts, with sessions; `config` goes on top of a good SECRET_KEY."""
    app = Quart(__name__)
    app.config.update({"SECRET_KEY": SECRET, **(config or {})})
    CoatCheck(app, **options)

    @app.get("/pub")
    async def pub() -> str:
        return "public"

    @app.get("/")
    async def count() -> str:
        session["n"] = session.get("n", 0) + 1
        return str(session["n"])

    @app.get("/read")
    async def read() -> str:
        return str(session.get("n"))

    return app


class Visitor:
    """A visitor with Quart's test client; answers in the shape of `servers.Seen`."""

    def __init__(self, app: Quart, like: "Visitor | None" = None) -> None:
        self.app, self.client = app, app.test_client()
        for cookie in like.jar if like else ():
            self.jar.set_cookie(cookie)

    @property
    def jar(self) -> Any:
        """The cookies."""
        return self.client.cookie_jar

    async def get(self, path: str, scheme: str = "http", **options: Any) -> Seen:
        """Ask for a page."""
        response: Any = await self.client.get(path, scheme=scheme, **options)
        body = await response.get_data(as_text=False)
        return Seen(
            response.status_code, tuple((name.lower(), value) for name, value in response.headers), body
        )

    async def text(self, path: str, **options: Any) -> str:
        """The text of a page."""
        return (await self.get(path, **options)).text

    async def set_cookie(self, path: str = "/", scheme: str = "http", **options: Any) -> str:
        """The one Set-Cookie of the response, or ""."""
        found = (await self.get(path, scheme, **options)).all("set-cookie")
        assert len(found) < 2
        return found[0] if found else ""


def ours() -> QuartSession:
    """`quart.session`, with all it has."""
    return session._get_current_object()  # type: ignore[attr-defined]  # the object behind the proxy


# ---------------------------------------------------------------------------------------------------- configuration


@in_a_loop
async def test_the_environment_is_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("QUART_SECRET_KEY", SECRET)
    monkeypatch.setenv("QUART_SESSION_STORE", f"sqlite:///{tmp_path}/sessions.db")
    apps = [Quart("first"), Quart("second")]

    async def count() -> str:
        return str(ours().increment("n"))

    for app in apps:
        app.config.from_prefixed_env()
        CoatCheck().init_app(app)
        app.add_url_rule("/", view_func=count)
    browser = Visitor(apps[0])
    assert await browser.text("/") == "1"
    assert await Visitor(apps[1], like=browser).text("/") == "2"
    for app in apps:
        await app.extensions["coatcheck"].close()


@pytest.mark.parametrize("key", [None, "", "dev", "changeme", 12345])
def test_a_weak_key_is_refused_by_the_name_it_has_in_quart(key: Any) -> None:
    with pytest.raises(ConfigurationError, match="SECRET_KEY"):
        make({"SECRET_KEY": key})
    with pytest.raises(WeakSecret, match="SECRET_KEY_FALLBACKS"):
        make({"SECRET_KEY_FALLBACKS": ["dev"]})


@in_a_loop
async def test_the_first_key_signs_and_the_fallbacks_verify() -> None:
    store = Counted()
    old = Visitor(make({"SECRET_KEY": OLD_SECRET}, store=store))
    await old.get("/")
    both = Visitor(make({"SECRET_KEY_FALLBACKS": [OLD_SECRET]}, store=store), like=old)
    seen = await both.get("/read")
    assert (seen.text, len(seen.all("set-cookie"))) == ("1", 1)
    newest = make(store=store)
    assert await Visitor(newest, like=both).text("/read") == "1"
    assert await Visitor(newest, like=old).text("/read") == "None"


@in_a_loop
async def test_quarts_defaults_do_not_weaken_the_cookie() -> None:
    visitor = Visitor(make())
    secure = await visitor.set_cookie(scheme="https", headers={"host": "shop.example"})
    assert secure.startswith("__Host-session=")
    assert secure.endswith("; Path=/; HttpOnly; Secure; SameSite=Lax")
    assert await Visitor(make()).set_cookie(headers={"host": "shop.example"}) == ""
    assert (await Visitor(make()).set_cookie()).startswith("session=")


@in_a_loop
async def test_a_session_over_plain_http_is_refused_and_told_of_once() -> None:
    ears = Ears()
    app = make(on_event=ears)

    @app.get("/login")
    async def login() -> str:
        ours().login("ada")
        return ""

    assert await Visitor(app).set_cookie("/login", headers={"host": "shop.example"}) == ""
    assert ears.heard == ["cookie.insecure"]


@in_a_loop
async def test_what_is_set_in_quarts_words_is_done() -> None:
    words = {
        "SESSION_COOKIE_NAME": "sid", "SESSION_COOKIE_DOMAIN": "example.com", "SESSION_COOKIE_PATH": "/app",
        "SESSION_COOKIE_HTTPONLY": False, "SESSION_COOKIE_SECURE": True, "SESSION_COOKIE_SAMESITE": "Strict",
        "SESSION_COOKIE_PARTITIONED": True,
    }  # fmt: skip
    app = make(words)
    app.add_url_rule("/app/count", view_func=app.view_functions["count"])
    cookie = await Visitor(app).set_cookie("/app/count", "https", headers={"host": "www.example.com"})
    assert cookie.partition("; ")[2] == "Domain=example.com; Path=/app; Secure; Partitioned; SameSite=Strict"
    assert cookie.startswith("sid=")


@in_a_loop
async def test_what_is_given_in_code_counts_more_than_the_configuration() -> None:
    app = make({"SESSION_COOKIE_NAME": "theirs"}, cookie=CookieSettings(name="mine"), secret=OLD_SECRET)
    assert (await Visitor(app).set_cookie()).startswith("mine=")


def test_a_contradiction_is_said_when_the_application_starts() -> None:
    with pytest.raises(ConfigurationError, match="SESSION_COOKIE_"):
        make({"SESSION_COOKIE_SAMESITE": "sometimes"})
    with pytest.raises(ConfigurationError, match="did you mean 'rolling'"):
        make(rollin=True)
    with pytest.raises(ConfigurationError, match="lazy"):
        make(lazy=True, rolling=True)
    with pytest.raises(ConfigurationError, match="PERMANENT_SESSION_LIFETIME"):
        make({"PERMANENT_SESSION_LIFETIME": 0})


def test_the_extension_twice_in_one_application_is_once_too_often() -> None:
    with pytest.raises(ConfigurationError, match="twice"):
        CoatCheck(make())


def test_another_kind_of_application_is_sent_to_its_own_extension() -> None:
    with pytest.raises(ConfigurationError, match=r"use coatcheck\.flask"):
        CoatCheck(Flask("app"))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="give the Quart object itself"):
        CoatCheck(make().asgi_app)  # type: ignore[arg-type]


class Another(SessionInterface):
    """Another extension's."""


def test_another_extension_was_there_first() -> None:
    app = Quart("app")
    app.session_interface = Another()  # type: ignore[assignment]
    with pytest.raises(ConfigurationError, match=r"Another already: remove"):
        CoatCheck(app, secret=SECRET)


@in_a_loop
async def test_another_extension_over_ours_is_said_when_the_application_starts() -> None:
    app = make()
    app.session_interface = Another()  # type: ignore[assignment]
    with pytest.raises(LifespanError, match=r"replaced by .*Another after"):
        async with app.test_app():
            pass


@in_a_loop
async def test_two_applications_of_one_extension_object_know_nothing_of_each_other() -> None:
    coatcheck, visitors = CoatCheck(), []
    for key in (SECRET, OLD_SECRET):
        app = Quart("app")
        app.config["SECRET_KEY"] = key
        coatcheck.init_app(app)

        @app.get("/")
        async def count() -> str:
            return str(ours().increment("n"))

        visitors.append(Visitor(app))
    assert [await visitor.text("/") for visitor in visitors] == ["1", "1"]


# ---------------------------------------------------------------------------------------------- quart.session, as always


@in_a_loop
async def test_a_request_costs_as_many_commands_as_the_design_says() -> None:
    store = Counted()
    visitor = Visitor(make(store=store))
    told = []
    for path in ("/pub", "/read", "/", "/", "/read"):
        await visitor.get(path)
        told.append(store.told())
    assert told == [[], [], ["create"], ["load", "replace"], ["load"]]
    untouched = await visitor.get("/pub")
    assert (store.told(), untouched.all("vary"), untouched.all("cache-control")) == (["load"], [], [])


@in_a_loop
async def test_a_lazy_session_is_loaded_where_it_is_awaited() -> None:
    store = Counted()
    app = make(store=store, lazy=True)

    @app.get("/lazy")
    async def page() -> str:
        loaded = await get_session()
        assert loaded is ours()
        return str(ours().increment("n"))

    visitor = Visitor(app)
    assert [await visitor.text("/lazy") for _ in range(2)] == ["1", "2"]
    store.told()
    assert await visitor.text("/pub") == "public"
    assert store.told() == []
    assert (await visitor.get("/read")).status == 500
    async with visitor.client.session_transaction() as transaction:
        assert transaction["n"] == 2


@in_a_loop
async def test_the_words_of_a_quart_session() -> None:
    app = make()
    said: list[tuple[bool, ...]] = []

    @app.get("/words")
    async def words() -> str:
        said.append((session.new, session.modified, session.permanent))
        session["list"] = [*session.get("list", []), 1]
        session["list"].append(2)
        said.append((session.new, session.modified, session.accessed))
        return str(session["list"])

    visitor = Visitor(app)
    assert [await visitor.text("/words") for _ in range(2)] == ["[1, 2]", "[1, 2, 1, 2]"]
    assert said == [(True, False, False), (True, True, True), (False, False, False), (False, True, True)]


@in_a_loop
async def test_a_value_comes_back_equal_and_of_the_same_type() -> None:
    values = {
        "at": datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "id": UUID(int=7), "price": Decimal("1.20"), "raw": b"\0\xff",
        "pair": (1, "two"), "tags": {"a"}, "html": Markup("<b>x</b>"),
    }  # fmt: skip
    app = make()

    @app.get("/keep")
    async def keep() -> str:
        session.update(values)
        return ""

    @app.get("/show")
    async def show() -> str:
        kept = {key: session[key] for key in values}
        assert kept == values
        return str([type(kept[key]) is type(values[key]) for key in values])

    visitor = Visitor(app)
    await visitor.get("/keep")
    assert await visitor.text("/show") == str([True] * len(values))


@in_a_loop
async def test_a_permanent_session_outlives_the_browser_and_is_sent_again_as_it_lives_on() -> None:
    time = Time()
    app = make({"PERMANENT_SESSION_LIFETIME": timedelta(days=2)}, clock=time.clock)

    @app.get("/keep")
    async def keep() -> str:
        session.permanent = True
        session.setdefault("n", 7)
        return str(session.permanent)

    visitor = Visitor(app)
    assert "Max-Age=172800;" in await visitor.set_cookie("/keep")
    assert await visitor.set_cookie("/keep") == ""
    for _ in range(3):
        time.now += 86_400
        assert "Max-Age=172800;" in await visitor.set_cookie("/read")
        assert await visitor.text("/keep") == "True"
    time.now += 2 * 86_400 + 1
    assert await visitor.text("/read") == "None"


@in_a_loop
async def test_a_permanent_session_is_not_sent_again_where_the_configuration_says_so() -> None:
    time = Time()
    app = make({"SESSION_REFRESH_EACH_REQUEST": False}, clock=time.clock)

    @app.get("/keep")
    async def keep() -> str:
        session.permanent = True
        session["n"] = 1
        return ""

    visitor = Visitor(app)
    assert "Max-Age=2592000;" in await visitor.set_cookie("/keep")
    time.now += 3_600
    assert await visitor.set_cookie("/read") == ""


@in_a_loop
async def test_a_lifetime_that_is_set_is_everybodys_idle_timeout() -> None:
    time = Time()
    visitor = Visitor(make({"PERMANENT_SESSION_LIFETIME": 600}, clock=time.clock))
    await visitor.get("/")
    time.now += 599
    assert await visitor.text("/read") == "1"
    time.now += 601
    assert await visitor.text("/read") == "None"
    unset = make({"PERMANENT_SESSION_LIFETIME": 0}, timeouts=Timeouts(idle=60))
    assert await Visitor(unset).text("/") == "1"


@in_a_loop
async def test_quart_shows_its_flash_messages_once() -> None:
    app = make()

    @app.get("/flash")
    async def leave() -> str:
        await flash("Saved", "success")
        await flash("Twice")
        return ""

    @app.get("/flashed")
    async def show() -> str:
        return await render_template_string("{{ get_flashed_messages(with_categories=True) }}")

    visitor = Visitor(app)
    await visitor.get("/flash")
    pages = [await visitor.text("/flashed") for _ in range(2)]
    assert pages == ["[(&#39;success&#39;, &#39;Saved&#39;), (&#39;message&#39;, &#39;Twice&#39;)]", "[]"]


@in_a_loop
async def test_flash_messages_by_category_within_one_request() -> None:
    app = make()
    async with app.test_request_context("/"):
        await flash("bar", "error")
        await flash("foo", "info")
        for _ in range(2):
            assert get_flashed_messages(with_categories=True) == [("error", "bar"), ("info", "foo")]
            assert get_flashed_messages(category_filter=["error"]) == ["bar"]


@in_a_loop
async def test_the_clients_cookie_jar_holds_ours_beside_others() -> None:
    app = make()

    @app.get("/jar")
    async def jar() -> Response:
        foo, bar = session.get("foo"), request.cookies.get("bar")
        session["foo"] = "bar"
        response = jsonify({"foo": foo, "bar": bar})
        response.set_cookie("bar", "foo")
        return response

    client = app.test_client()
    seen = [await (await client.get("/jar")).get_json() for _ in range(2)]
    assert seen == [{"foo": None, "bar": None}, {"foo": "bar", "bar": "foo"}]


@in_a_loop
async def test_a_session_transaction_of_the_test_client_works() -> None:
    app = make()
    visitor = Visitor(app)
    async with visitor.client.session_transaction() as transaction:
        assert len(transaction) == 0
        transaction["n"] = 41
        assert len(transaction) == 1
    assert await visitor.text("/") == "42"
    async with visitor.client.session_transaction() as transaction:
        assert transaction["n"] == 42
        transaction.login("ada")  # type: ignore[attr-defined]  # ours has more
    stale = Visitor(app, like=visitor)
    async with visitor.client.session_transaction() as transaction:
        assert (transaction.user_id, transaction["n"]) == ("ada", 42)  # type: ignore[attr-defined]
        transaction.logout()  # type: ignore[attr-defined]
    assert [await somebody.text("/read") for somebody in (visitor, stale)] == ["None", "None"]
    with pytest.raises(TooLate):
        transaction["n"] = 1


@in_a_loop
async def test_a_session_transaction_says_what_failed() -> None:
    store = Counted()
    visitor = Visitor(make(store=store))
    await visitor.get("/")
    store.down = True
    with pytest.raises(StoreUnavailable):
        async with visitor.client.session_transaction() as transaction:
            transaction.get("n")
    with pytest.raises(StoreUnavailable):
        async with Visitor(visitor.app).client.session_transaction() as transaction:
            transaction["n"] = 1


@in_a_loop
async def test_a_test_that_keeps_the_context_sees_the_session_after_the_response() -> None:
    app = make()

    @app.get("/flash")
    async def leave() -> str:
        await flash("Saved")
        return ""

    async with app.test_client() as client:
        await client.get("/")
        assert (request.method, session["n"]) == ("GET", 1)
        await client.get("/flash")
        assert [get_flashed_messages(), get_flashed_messages()] == [["Saved"], ["Saved"]]
        session["n"] = "a test's own"
    assert await (await client.get("/read")).get_data(as_text=True) == "1"


@in_a_loop
async def test_what_a_response_sets_the_next_open_session_reads() -> None:
    app = make()
    interface: Any = app.session_interface
    async with app.test_request_context("/"):
        session["something"] = "else"
        kept = dict(session)
        response: Any = await app.process_response(Response(""))
    assert response.headers["Vary"] == "Cookie"
    cookie, _, attributes = response.headers["Set-Cookie"].partition("; ")
    assert attributes == "Path=/; HttpOnly; SameSite=Lax"
    async with app.test_request_context("/", headers={"Cookie": cookie}):
        opened = await interface.open_session(app, request)
        assert dict(opened) == dict(session) == kept
        response = await app.process_response(Response(""))
    assert ("Set-Cookie" in response.headers, response.headers["Vary"]) == (False, "Cookie")
    async with app.test_request_context("/", headers={"Cookie": cookie}):
        response = await app.process_response(Response(""))
    assert ("Set-Cookie" in response.headers, "Vary" in response.headers) == (False, False)


@in_a_loop
async def test_the_session_is_where_asgi_code_looks_for_it_too() -> None:
    app = make()

    @app.get("/scope")
    async def scope() -> str:
        found: Any = request.scope
        found["session"]["n"] = 5
        return str(session["n"])

    assert await Visitor(app).text("/scope") == "5"


@in_a_loop
async def test_a_key_may_stand_for_the_login() -> None:
    app = make(identity=UserKey("user", from_user_id=int))

    @app.get("/login")
    async def login() -> str:
        session["user"] = 42
        return ""

    @app.get("/who")
    async def who() -> str:
        assert isinstance(ours(), QuartSession)
        return f"{session.get('user')!r} {ours().user_id!r}"

    visitor = Visitor(app)
    await visitor.get("/")
    planted = Visitor(app, like=visitor)
    await visitor.get("/login")
    assert await visitor.text("/who") == "42 '42'"
    assert await planted.text("/who") == "None None"


@in_a_loop
async def test_an_application_of_flasks_with_the_same_configuration_shares_its_sessions() -> None:
    store = Counted()
    flask_app = Flask("shop")
    flask_app.config["SECRET_KEY"] = SECRET
    FlaskCoatCheck(flask_app, store=store)
    flask_app.add_url_rule("/who", view_func=lambda: str(flask.session.user_id))  # type: ignore[attr-defined]

    @flask_app.get("/login")
    def login() -> str:
        flask.session["n"] = 7
        flask.session.login("ada")  # type: ignore[attr-defined]  # ours has more
        return ""

    browser = flask_app.test_client()
    browser.get("/login")
    cookie = browser.get_cookie("session")
    assert cookie is not None
    app = make(store=store)

    @app.get("/leave")
    async def leave() -> str:
        user = ours().user_id
        ours().logout()
        return str(user)

    visitor = Visitor(app)
    visitor.client.set_cookie("localhost", "session", cookie.value)
    assert [await visitor.text(path) for path in ("/read", "/leave", "/read")] == ["7", "ada", "None"]
    assert browser.get("/who").text == "None"


@in_a_loop
async def test_parallel_requests_lose_nothing() -> None:
    app = make()
    arrived, gate = [], asyncio.Event()

    @app.get("/add/<key>")
    async def add(key: str) -> str:
        session[key] = "kept"
        ours().increment("n")
        arrived.append(key)
        if len(arrived) == 20:
            gate.set()
        await gate.wait()
        return ""

    visitor = Visitor(app)
    await visitor.get("/")
    keys = [f"k{number}" for number in range(20)]
    seen = await asyncio.gather(*(Visitor(app, like=visitor).get(f"/add/{key}") for key in keys))
    assert {response.status for response in seen} == {200}
    async with visitor.client.session_transaction() as transaction:
        assert (transaction["n"], [transaction[key] for key in keys]) == (21, ["kept"] * 20)


class Waiting(Counted):
    """A store that has to be waited for, and that holds `held` back until the gate is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.held, self.arrived, self.gate = "", asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        command = super().__getattr__(name)
        if not iscoroutinefunction(command):
            return command

        async def waiting(*args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(0)
            if name == self.held:
                self.arrived.set()
                await self.gate.wait()
            return await command(*args, **kwargs)

        return waiting


@in_a_loop
async def test_a_client_that_leaves_while_its_session_is_committed_stops_nothing() -> None:
    store = Waiting()
    visitor = Visitor(make(store=store))
    await visitor.get("/")
    store.held = "replace"
    async with visitor.client.request("/") as connection:
        await connection.send_complete()
        await store.arrived.wait()
        await connection.disconnect()
    store.held = ""
    assert await visitor.text("/read") == "1"
    store.gate.set()
    for _ in range(10):  # turns of the event loop, for what is left to do
        await asyncio.sleep(0)
    assert await visitor.text("/read") == "2"


@in_a_loop
async def test_a_websocket_waits_for_a_store_that_has_to_be_waited_for() -> None:
    store = Waiting()
    app = with_sockets(store=store)
    talk = await shake(app, "/echo", {"type": "websocket.receive", "text": "told"})
    assert await read(app, talk.cookie) == "told"
    async with Visitor(app).client.session_transaction() as transaction:
        transaction["n"] = 1


@in_a_loop
async def test_a_session_that_was_ended_from_another_device_is_over() -> None:
    app = make()

    @app.get("/login")
    async def login() -> str:
        ours().login("ada")
        return ""

    @app.get("/elsewhere")
    async def elsewhere() -> str:
        return str(await ours().end_others())

    phone, laptop = Visitor(app), Visitor(app)
    for visitor in (phone, laptop):
        await visitor.get("/login")
        await visitor.get("/")
    assert await phone.text("/elsewhere") == "1"
    assert [await visitor.text("/read") for visitor in (phone, laptop)] == ["1", "None"]


# ------------------------------------------------------------------------------------------------------- sync views


@in_a_loop
async def test_a_sync_view_uses_its_session_as_always() -> None:
    app = make()

    @app.get("/sync")
    def sync() -> str:
        session["n"] = session.get("n", 0) + 1
        return str(session["n"])

    visitor = Visitor(app)
    assert [await visitor.text("/sync") for _ in range(2)] == ["1", "2"]


@pytest.mark.parametrize("verb", ["save", "reload", "destroy", "devices", "end_others", "end_all"])
@in_a_loop
async def test_a_sync_view_is_told_that_it_cannot_wait_for_the_store(verb: str) -> None:
    app = make()

    @app.get("/sync")
    def sync() -> str:
        session["n"] = 1
        with pytest.raises(UsageError, match=rf"session\.{verb}\(\) has to be awaited.* `async def`$"):
            getattr(session, verb)()
        return "said"

    assert await Visitor(app).text("/sync") == "said"


@in_a_loop
async def test_a_sync_view_and_a_lazy_session_do_not_go_together() -> None:
    app = make(lazy=True)

    @app.get("/sync")
    def sync() -> str:
        with pytest.raises(UsageError, match=r"leave lazy=True out"):
            session.get("n")
        return "said"

    visitor = Visitor(app)
    async with visitor.client.session_transaction() as transaction:
        transaction["n"] = 1
    assert await visitor.text("/sync") == "said"


# ------------------------------------------------------------------------------------------------------------ errors


@in_a_loop
async def test_an_outage_is_503_for_whoever_needs_the_session_and_told_once() -> None:
    store, ears = Counted(), Ears()
    visitor = Visitor(make(store=store, on_event=ears))
    await visitor.get("/")
    store.down = True
    ears.heard.clear()
    seen = await visitor.get("/")
    assert (seen.status, seen.all("retry-after"), seen.all("cache-control")) == (503, ["5"], ["no-store"])
    assert (seen.all("set-cookie"), ears.heard) == ([], ["store.down"])
    assert await visitor.text("/pub") == "public"


@in_a_loop
async def test_an_outage_at_commit_is_503_and_can_be_said_in_your_words() -> None:
    store = Counted()
    store.down = True
    plain = await Visitor(make(store=store)).get("/")
    assert (plain.status, plain.all("retry-after"), plain.all("set-cookie")) == (503, ["5"], [])
    app = make(store=store)

    @app.errorhandler(StoreUnavailable)
    async def sorry(error: StoreUnavailable) -> tuple[str, int]:
        return "we are sorry", 503

    seen = await Visitor(app).get("/")
    assert (seen.status, seen.text, seen.all("set-cookie")) == (503, "we are sorry", [])


@in_a_loop
async def test_a_handler_that_was_there_first_stays() -> None:
    app, store = Quart("app"), Counted()
    app.config["SECRET_KEY"] = SECRET
    store.down = True

    @app.errorhandler(StoreUnavailable)
    async def mine(error: StoreUnavailable) -> tuple[str, int]:
        return "mine", 503

    CoatCheck(app, store=store)

    @app.get("/")
    async def count() -> str:
        return str(ours().increment("n"))

    assert await Visitor(app).text("/") == "mine"


@in_a_loop
async def test_a_request_may_go_on_without_a_store_where_that_is_wanted() -> None:
    store = Counted()
    visitor = Visitor(make(store=store, on_store_error="anonymous"))
    await visitor.get("/")
    store.down = True
    assert [await visitor.text("/read"), await Visitor(visitor.app).text("/")] == ["None", "1"]


@pytest.mark.parametrize("own_words", [False, True])
@pytest.mark.parametrize("how", ["at the end", "by save()", "of a page of Werkzeug's"])
@in_a_loop
async def test_a_conflict_is_409_where_it_is_asked_for(how: str, own_words: bool) -> None:
    store = Counted()
    app = make(store=store, on_conflict="raise")
    if own_words:

        @app.errorhandler(SessionConflict)
        async def conflict(error: SessionConflict) -> tuple[str, int]:
            return ", ".join(error.keys), 409

    visitor, other = Visitor(app), Visitor(make(store=store))

    @app.get("/wait")
    async def wait() -> str | WerkzeugResponse:
        session["n"] = 10
        await other.get("/")
        if how == "by save()":
            await ours().save()
        return WerkzeugResponse("never sent") if how == "of a page of Werkzeug's" else "never sent"

    await visitor.get("/")
    other = Visitor(other.app, like=visitor)
    seen = await visitor.get("/wait")
    assert (seen.status, seen.text == "n", "never" in seen.text) == (409, own_words, False)
    assert seen.all("content-length") == [str(len(seen.body))]
    assert await visitor.text("/read") == "2"


@pytest.mark.parametrize("config", [{}, {"TESTING": True}, {"PROPAGATE_EXCEPTIONS": True}])
@in_a_loop
async def test_of_a_request_that_fails_only_a_logout_is_kept(config: dict[str, Any]) -> None:
    app = make(config)

    @app.get("/fail/<how>")
    async def fail(how: str) -> str:
        session["n"] = "lost"
        if how == "logout":
            ours().logout()
        raise ZeroDivisionError

    async def visit(path: str) -> None:
        if "PROPAGATE_EXCEPTIONS" in config:
            with pytest.raises(ZeroDivisionError):
                await visitor.get(path)
        else:
            assert (await visitor.get(path)).status == 500

    visitor = Visitor(app)
    await visitor.get("/")
    await visit("/fail/simply")
    assert await visitor.text("/read") == "1"
    thief = Visitor(app, like=visitor)
    await visit("/fail/logout")
    assert await thief.text("/read") == "None"
    assert (len(visitor.jar) == 0) is ("PROPAGATE_EXCEPTIONS" not in config)


@in_a_loop
async def test_an_error_page_may_use_the_session() -> None:
    app = make()

    @app.errorhandler(500)
    async def sorry(error: Exception) -> tuple[str, int]:
        session["shown"] = session.get("shown", 0) + 1
        return f"sorry, you were at {session['n']}", 500

    @app.get("/fail")
    async def fail() -> str:
        raise ZeroDivisionError

    @app.get("/missing")
    async def missing() -> str:
        session["n"] = "looked for it"
        abort(404)

    visitor = Visitor(app)
    await visitor.get("/")
    assert await visitor.text("/fail") == "sorry, you were at 1"
    assert (await visitor.get("/missing")).status == 404
    assert await visitor.text("/read") == "looked for it"  # that was an answer, not a failure
    async with visitor.client.session_transaction() as transaction:
        assert "shown" not in transaction


@in_a_loop
async def test_an_error_page_that_logs_out_does_so() -> None:
    app = make()

    @app.errorhandler(500)
    async def sorry(error: Exception) -> tuple[str, int]:
        ours().logout()
        return "logged out", 500

    @app.get("/fail")
    async def fail() -> str:
        raise ZeroDivisionError

    visitor = Visitor(app)
    await visitor.get("/")
    thief = Visitor(app, like=visitor)
    seen = await visitor.get("/fail")
    assert (seen.text, "Max-Age=0" in seen.all("set-cookie")[0]) == ("logged out", True)
    assert await thief.text("/read") == "None"


@in_a_loop
async def test_what_is_changed_after_the_view_is_kept_while_the_headers_have_not_left() -> None:
    app = make()

    @app.after_request
    async def after(response: Response) -> Response:
        session["after"] = "kept"
        return response

    @app.teardown_request
    async def teardown(error: BaseException | None) -> None:
        if request.path == "/":
            session["teardown"] = "kept"

    visitor = Visitor(app)
    await visitor.get("/")
    async with visitor.client.session_transaction() as transaction:
        assert dict(transaction) == {"n": 1, "after": "kept", "teardown": "kept"}


# ----------------------------------------------------------------------------------------------- streams, background


@in_a_loop
async def test_a_stream_keeps_what_it_changes() -> None:
    app = make()
    late: list[str] = []

    @app.get("/stream")
    async def stream() -> Response:
        session["n"] = 0

        @stream_with_context
        async def body() -> AsyncIterator[str]:
            for _ in range(3):
                session["n"] += 1
                yield str(session["n"])
            with pytest.raises(TooLate):
                ours().login("ada")
            late.append("too late")

        return Response(body())

    visitor = Visitor(app)
    assert (await visitor.text("/stream"), late, await visitor.text("/read")) == ("123", ["too late"], "3")


@in_a_loop
async def test_a_stream_whose_client_leaves_keeps_what_it_changed() -> None:
    app = make()

    @app.get("/stream")
    async def stream() -> Response:
        session["n"] = 0

        @stream_with_context
        async def body() -> AsyncIterator[str]:
            while True:
                session["n"] += 1
                yield "."
                await asyncio.sleep(0)

        return Response(body())

    visitor = Visitor(app)
    await visitor.get("/")
    async with visitor.client.request("/stream") as connection:
        await connection.send_complete()
        assert [await connection.receive() for _ in range(2)] == [b".", b"."]
        await connection.disconnect()
    assert int(await visitor.text("/read")) >= 2


@in_a_loop
async def test_a_stream_that_fails_keeps_what_it_had_before() -> None:
    app = make()

    @app.get("/stream")
    async def stream() -> Response:
        session["n"] = "before"

        @stream_with_context
        async def body() -> AsyncIterator[str]:
            yield "."
            session["n"] = "after"
            raise ZeroDivisionError

        return Response(body())

    visitor = Visitor(app)
    await visitor.get("/")
    with pytest.raises(ZeroDivisionError):
        await visitor.get("/stream")
    assert await visitor.text("/read") == "before"


@in_a_loop
async def test_a_background_task_comes_after_the_response() -> None:
    app, said = make(), list[str]()
    answered = asyncio.Event()

    @app.get("/task")
    async def task() -> str:
        session["n"] = "before"

        @copy_current_request_context
        async def later() -> None:
            await answered.wait()
            with pytest.raises(TooLate, match="before you return"):
                session["n"] = "after"
            said.append(f"read {session['n']}")

        app.add_background_task(later)
        return ""

    visitor = Visitor(app)
    async with app.test_app():
        await visitor.get("/task")
        answered.set()
    assert said == ["read before"]
    assert await visitor.text("/read") == "before"


@in_a_loop
async def test_a_background_task_uses_the_manager() -> None:
    app, said = make(store=Counted()), list[object]()
    answered = asyncio.Event()

    @app.get("/leave")
    async def leave() -> str:
        ours().login("ada")
        app.add_background_task(clean, "ada")
        return ""

    async def clean(user: str) -> None:
        await answered.wait()
        with pytest.raises(TooLate, match="before you return"):
            session["n"] = 1
        said.append(await app.extensions["coatcheck"].of(user).end_all())

    visitor = Visitor(app)
    async with app.test_app():
        await visitor.get("/leave")
        answered.set()
    assert said == [1]
    assert await visitor.text("/read") == "None"


@in_a_loop
async def test_tasks_of_one_request_share_its_session() -> None:
    app = make()

    @app.get("/share")
    async def share() -> str:
        @copy_current_request_context
        async def part() -> None:
            ours().increment("n")

        await asyncio.gather(*(part() for _ in range(5)))
        return str(session["n"])

    visitor = Visitor(app)
    assert [await visitor.text("/share"), await visitor.text("/read")] == ["5", "5"]


@in_a_loop
async def test_an_application_that_starts_again_opens_its_store_again(tmp_path: Any) -> None:
    app = make(store=f"sqlite:///{tmp_path}/sessions.db")
    visitor = Visitor(app)
    for expected in ("1", "2"):
        async with app.test_app():
            assert await visitor.text("/") == expected


# -------------------------------------------------------------------------------------------------------- WebSockets


def with_sockets(**options: Any) -> Quart:
    """An application with a WebSocket of each kind."""
    app = make(**options)

    @app.websocket("/echo")
    async def echo() -> None:
        session["n"] = "handshake"
        await websocket.accept()
        session["n"] = await websocket.receive()
        await websocket.send(session["n"])

    @app.websocket("/implicit")
    async def implicit() -> None:
        session["n"] = "implicit"
        await websocket.send("accepted by sending")
        with pytest.raises(TooLate):
            ours().login("ada")

    @app.websocket("/refused")
    async def refused() -> None:
        session["n"] = "refused"
        abort(401)

    @app.websocket("/answered")
    async def answered() -> str:
        session["n"] = "answered"
        return "no WebSocket for you"

    @app.websocket("/left")
    async def left() -> None:
        session["n"] = "left"

    @app.websocket("/fails")
    async def fails() -> None:
        await websocket.accept()
        session["n"] = "lost"
        await websocket.receive()
        raise ZeroDivisionError

    @app.websocket("/listens")
    async def listens() -> None:
        while True:
            session["n"] = await websocket.receive()
            await websocket.send("heard")

    return app


def cookie_of(visitor: Visitor) -> str:
    """The visitor's Cookie header."""
    return "; ".join(f"{cookie.name}={cookie.value}" for cookie in visitor.jar)


async def shake(
    app: Quart, path: str, *hears: dict[str, Any], extensions: bool = True, cookie: str = ""
) -> Talk:
    scope = websocket_scope(path, **({"cookie": cookie} if cookie else {}))
    if extensions:
        scope["extensions"] = {"websocket.http.response": {}}
    return await Talk(app, scope, {"type": "websocket.connect"}, *hears).run()


async def read(app: Quart, cookie: str) -> str:
    talk = await Talk(app, http_scope("/read", cookie=cookie), {"type": "http.request"}).run()
    return talk.body.decode()


@in_a_loop
async def test_a_websocket_gets_its_cookie_with_the_handshake_and_keeps_what_it_changed() -> None:
    app = with_sockets()
    talk = await shake(app, "/echo", {"type": "websocket.receive", "text": "told"})
    assert [message["type"] for message in talk.sent] == [
        "websocket.accept",
        "websocket.send",
        "websocket.close",
    ]
    assert talk.cookie.startswith("session=")
    assert await read(app, talk.cookie) == "told"
    implicit = await shake(app, "/implicit")
    assert await read(app, implicit.cookie) == "implicit"


@in_a_loop
async def test_a_websocket_through_quarts_client_shares_the_session_of_its_pages() -> None:
    app = with_sockets()
    visitor = Visitor(app)
    await visitor.get("/")
    async with visitor.client.websocket("/echo") as connection:
        await connection.send("told")
        assert await connection.receive() == "told"
    assert await visitor.text("/read") == "told"


@in_a_loop
async def test_a_websocket_whose_client_leaves_keeps_what_it_changed() -> None:
    app = with_sockets()
    visitor = Visitor(app)
    await visitor.get("/")
    async with visitor.client.websocket("/listens") as connection:
        await connection.send("one")
        await connection.receive()
        assert await visitor.text("/read") == "1"
    assert await visitor.text("/read") == "one"


@pytest.mark.parametrize(("path", "status"), [("/refused", 401), ("/answered", 200)])
@in_a_loop
async def test_a_handshake_that_is_answered_with_a_page_brings_its_cookie(path: str, status: int) -> None:
    app = with_sockets()
    talk = await shake(app, path)
    assert (talk.sent[0]["type"], talk.status) == ("websocket.http.response.start", status)
    assert await read(app, talk.cookie) == path[1:]
    with pytest.raises(WebsocketResponseError):
        async with app.test_client().websocket(path) as connection:
            await connection.receive()


@in_a_loop
async def test_a_handshake_that_is_simply_refused_begins_no_session() -> None:
    store = Counted()
    app = with_sockets(store=store)
    refused, left = await shake(app, "/refused", extensions=False), await shake(app, "/left")
    assert [message["type"] for message in refused.sent] == ["websocket.close"]
    assert (left.sent, store.told()) == ([], [])  # Quart says nothing: the server then refuses


@pytest.mark.parametrize("config", [{}, {"TESTING": True}])
@in_a_loop
async def test_of_a_websocket_that_fails_nothing_is_kept(config: dict[str, Any]) -> None:
    app = with_sockets(config=config)
    visitor = Visitor(app)
    await visitor.get("/")
    await shake(app, "/fails", {"type": "websocket.receive", "text": "go"}, cookie=cookie_of(visitor))
    assert await visitor.text("/read") == "1"


@in_a_loop
async def test_an_outage_refuses_the_handshake_with_503_where_the_server_can_say_so() -> None:
    store = Counted()
    app = with_sockets(store=store)
    visitor = Visitor(app)
    await visitor.get("/")
    cookie = cookie_of(visitor)
    store.down = True
    for path in ("/echo", "/answered"):
        talk = await shake(app, path, {"type": "websocket.receive", "text": "x"}, cookie=cookie)
        assert (talk.status, talk.all(b"retry-after")) == (503, ["5"])
    without = await shake(app, "/echo", extensions=False)
    assert [message["type"] for message in without.sent] == ["websocket.close"]


@in_a_loop
async def test_a_conflict_at_the_handshake_refuses_it() -> None:
    store = Counted()
    app = with_sockets(store=store, on_conflict="raise")
    other = Visitor(make(store=store))
    await other.get("/")

    @app.websocket("/late")
    async def late() -> None:
        session["n"] = 10
        await other.get("/")
        await websocket.accept()

    talk = await shake(app, "/late", cookie=cookie_of(other))
    # Quart takes a handshake for accepted before it is sent, and then has no page to send in its place.
    assert [message["type"] for message in talk.sent] == ["websocket.close"]
    assert await other.text("/read") == "2"


@in_a_loop
async def test_a_lazy_session_is_loaded_in_a_websocket_too() -> None:
    app = make(lazy=True)

    @app.websocket("/lazy")
    async def lazy() -> None:
        loaded = await get_session()
        await websocket.send(str(loaded["n"]))

    visitor = Visitor(app)
    async with visitor.client.session_transaction() as transaction:
        transaction["n"] = 7
    async with visitor.client.websocket("/lazy") as connection:
        assert await connection.receive() == "7"


async def drained(connection: Any) -> None:
    """Receive until it is closed, which raises."""
    while True:
        await connection.receive()


@pytest.mark.parametrize("path", ["/chat", "/push"])
@in_a_loop
async def test_a_websocket_is_closed_when_its_session_is_over(path: str) -> None:
    app, left = make(), asyncio.Event()

    @app.get("/login")
    async def login() -> str:
        ours().login("ada")
        return ""

    @app.get("/logout")
    async def logout() -> str:
        ours().logout()
        return ""

    @app.websocket("/chat")
    async def chat() -> None:
        while True:
            await websocket.receive()
            await websocket.send(f"{ours().user_id}: hello")

    @app.websocket("/push")
    async def push() -> None:
        try:
            while True:
                await websocket.send(f"{ours().user_id}: hello")
                await asyncio.sleep(0)
        except OSError:
            left.set()
            raise

    visitor = Visitor(app)
    await visitor.get("/login")
    async with visitor.client.websocket(path) as connection:
        await connection.send("hello")
        assert await connection.receive() == "ada: hello"
        await Visitor(app, like=visitor).get("/logout")
        with pytest.raises(WebsocketDisconnectError) as closed:
            await drained(connection)
        if path == "/push":
            await left.wait()
    assert closed.value.args == (1008,)


# --------------------------------------------------------------------------------------------------------- no session


@in_a_loop
async def test_where_there_is_no_session_that_is_said() -> None:
    with pytest.raises(OutsideRequest, match=r"CoatCheck\(app\)"):
        await get_session()
    without = Quart("without")
    without.secret_key = SECRET

    @without.get("/")
    async def page() -> str:
        with pytest.raises(OutsideRequest, match=r"CoatCheck\(app\)"):
            await get_session()
        return "said"

    assert await Visitor(without).text("/") == "said"


@in_a_loop
async def test_outside_the_cookies_path_there_is_no_session() -> None:
    app = make(cookie=CookieSettings(path="/app"))
    said: list[str] = []

    async def page() -> str:
        session["n"] = 1
        return ""

    app.add_url_rule("/other", view_func=page)

    @app.errorhandler(OutsideRequest)
    async def outside(error: OutsideRequest) -> str:
        said.append(str(error))
        return ""

    assert await Visitor(app).set_cookie("/other") == ""
    assert "limited to path='/app'" in said[0]
