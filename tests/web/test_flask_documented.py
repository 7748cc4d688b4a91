"""What Flask documents of its sessions, over ours; and Flask's own tests of them.

Flask's test suite (3.1.3, without tests/test_cli.py) was run with our sessions in place of Flask's: of the 431 tests that pass
with Flask's own, 423 pass. Adapted here, since what they expect is decided otherwise:

- test_basic: test_session_path, test_session_using_application_root, test_session_using_session_settings and
  test_session_refresh_vary talk plain HTTP to example.com, where there is no session here: over HTTPS they hold. The clearing
  cookie names no SameSite.
- test_basic: test_session_using_samesite_attribute: a wrong value is refused when the application starts, and SameSite is Lax,
  not absent, where nothing is said.
- test_basic: test_session_expiration: Flask's 31 days are cut to the absolute timeout of 30.
- test_basic: test_session_cookie_setting: the cookie of a permanent session is sent again when the deadline moves, once a minute
  at most, not with every response.
- test_basic: test_session_accessed: after the response nothing is left to be saved, so `modified` is False.

As they are, among others: test_session_interface.py; the session tests of test_testing.py, test_reqctx.py, test_helpers.py and
test_async.py; of test_basic.py flash, session_stored_last, session_special_types, missing_session, secret_key_fallbacks,
session_vary_cookie, session_transaction. test_json_tag.py tests Flask's serializer, which is not asked here: the types it knows
are below. Flask-WTF's suite (1.3.0) passes but for test_same_origin, which expects one session over HTTP and HTTPS.
"""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from asgiref.wsgi import WsgiToAsgi
from flask import (
    Blueprint,
    Flask,
    Response,
    copy_current_request_context,
    flash,
    get_flashed_messages,
    request,
    session,
    stream_with_context,
)
from flask.sessions import SecureCookieSessionInterface
from flask_session import Session as FlaskSessionExtension
from markupsafe import Markup
from starlette.testclient import TestClient
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from coatcheck import ConfigurationError, TooLate
from coatcheck.flask import CoatCheck
from tests.web.apps import SECRET
from tests.web.rig import Counted

SITE = "https://www.example.com"


def make(config: dict[str, Any] | None = None, **options: Any) -> Flask:
    app = Flask(__name__)
    app.config.update({"SECRET_KEY": SECRET, **(config or {})})
    CoatCheck(app, **options)
    app.add_url_rule("/set/<value>", view_func=set_)
    app.add_url_rule("/get", view_func=get)
    app.add_url_rule("/clear", view_func=clear)
    return app


def set_(value: str) -> str:
    session["value"] = value
    return "set"


def get() -> str:
    return str(session.get("value"))


def clear() -> str:
    session.pop("value", None)
    return "cleared"


# --------------------------------------------------------------------------------------------- Flask's tests, adapted


@pytest.mark.parametrize(
    ("config", "base", "path"),
    [
        ({"APPLICATION_ROOT": "/foo"}, f"{SITE}/foo", "/foo"),
        ({"APPLICATION_ROOT": "/foo", "SESSION_COOKIE_PATH": "/"}, f"{SITE}/foo", "/"),
        ({"SESSION_COOKIE_PATH": "/bar"}, f"{SITE}/bar", "/bar"),
    ],
)
def test_the_path_of_the_cookie(config: dict[str, Any], base: str, path: str) -> None:
    """test_session_path, test_session_using_application_root."""
    seen = make(config).test_client().get("/set/1", base_url=base)
    assert f"; Path={path};" in seen.headers["Set-Cookie"]


def test_all_settings_of_the_cookie_also_when_it_is_cleared() -> None:
    """test_session_using_session_settings."""
    app = make(
        {
            "SESSION_COOKIE_DOMAIN": ".example.com",
            "SESSION_COOKIE_HTTPONLY": False,
            "SESSION_COOKIE_SECURE": True,
            "SESSION_COOKIE_PARTITIONED": True,
            "SESSION_COOKIE_SAMESITE": "Strict",
        }
    )
    app.add_url_rule("/logout", view_func=lambda: session.logout() or "bye")  # type: ignore[attr-defined]  # ours has more
    client = app.test_client()
    cookie = client.get("/set/1", base_url=SITE).headers["Set-Cookie"]
    for part in ("Domain=example.com", "Path=/", "Secure", "Partitioned", "SameSite=Strict"):
        assert f"; {part}" in cookie
    assert "HttpOnly" not in cookie
    cleared = client.get("/logout", base_url=SITE).headers["Set-Cookie"]
    for part in ("Domain=example.com", "Path=/", "Secure", "Max-Age=0"):
        assert f"; {part}" in cleared


@pytest.mark.parametrize(("given", "said"), [("Strict", "Strict"), ("Lax", "Lax"), (None, "Lax")])
def test_same_site(given: str | None, said: str) -> None:
    """test_session_using_samesite_attribute."""
    cookie = make({"SESSION_COOKIE_SAMESITE": given}).test_client().get("/set/1").headers["Set-Cookie"]
    assert cookie.endswith(f"SameSite={said}")
    with pytest.raises(ConfigurationError, match="same_site"):
        make({"SESSION_COOKIE_SAMESITE": "invalid"})


def test_a_test_may_look_at_the_session_and_take_its_messages() -> None:
    """test_session_accessed, and flashing as Flask's manual tests it."""
    app = make({"TESTING": True})

    @app.get("/flash")
    def leave() -> str:
        flash("Saved", "success")
        return ""

    with app.test_client() as client:
        assert client.get("/set/42").text == "set"
        assert (session["value"], session.modified, session.new) == ("42", False, False)
        client.get("/flash")
        assert get_flashed_messages(with_categories=True) == [("success", "Saved")]
        assert get_flashed_messages() == ["Saved"]
        session["value"] = "for this test only"
        client.get("/get")
        assert session["value"] == "42"


def test_messages_are_filtered_by_category() -> None:
    """test_extended_flashing."""
    app = make()

    @app.get("/flash")
    def leave() -> str:
        flash("Hello World")
        flash("Hello World", "error")
        flash(Markup("<em>Testing</em>"), "warning")
        return ""

    app.add_url_rule("/all", "all", view_func=lambda: get_flashed_messages(with_categories=True))
    app.add_url_rule(
        "/some", "some", view_func=lambda: get_flashed_messages(category_filter=["error", "warning"])
    )
    client = app.test_client()
    client.get("/flash")
    assert client.get("/all").json == [
        ["message", "Hello World"],
        ["error", "Hello World"],
        ["warning", "<em>Testing</em>"],
    ]
    client.get("/flash")
    assert client.get("/some").json == ["Hello World", "<em>Testing</em>"]


# --------------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    "value",
    [
        (1, 2, 3),
        ("a", ("b", [("c",)])),
        b"\xff",
        Markup("<html>"),
        UUID("d5f7ba22-5b4d-4a8c-9c4e-9b9b5f3e5a10"),
        datetime(2026, 11, 25, 18, 30, 5, tzinfo=UTC),
        {" t": ("one key",)},
        {" b": 1},
        {"nested": [{"t": (Markup("x"), b"y")}, {"": None}]},
        [],
        {},
        (),
    ],
    ids=repr,
)
def test_the_types_of_flasks_serializer_come_back_as_they_were(value: Any) -> None:
    """test_session_special_types, and the types of test_json_tag.py."""
    client = make().test_client()
    with client.session_transaction() as transaction:
        transaction["value"] = value
    with client.session_transaction() as transaction:
        found = transaction["value"]
        assert (found, type(found)) == (value, type(value))


def test_a_session_is_a_dict_in_every_way() -> None:
    app = make()

    @app.get("/dict")
    def everything() -> str:
        session.update({"a": 1}, b=2)
        assert session.setdefault("c", []) == []
        session["c"].append(3)
        assert session.pop("a") == 1
        assert session.pop("a", "gone") == "gone"
        assert dict(session) == {"b": 2, "c": [3]}
        return ""

    client = app.test_client()
    client.get("/dict")
    with client.session_transaction() as transaction:
        assert dict(transaction) == {"b": 2, "c": [3]}
        transaction.clear()
    with client.session_transaction() as transaction:
        assert (dict(transaction), bool(transaction)) == ({}, False)


# ------------------------------------------------------------------------------------------------ where it is used


def test_what_changes_after_the_view_is_kept_and_a_teardown_may_read() -> None:
    """test_session_stored_last, and what Flask's manual calls deferred callbacks."""
    app, found = make(), list[Any]()

    @app.after_request
    def last(response: Response) -> Response:
        session["value"] = f"{session.get('value', '')}."
        return response

    @app.teardown_request
    def over(error: BaseException | None) -> None:
        found.append(session.get("value"))
        with pytest.raises(TooLate, match="the response has ended"):
            session["value"] = "lost"

    client = app.test_client()
    client.get("/set/1")
    assert (client.get("/get").text, found) == ("1.", ["1.", "1.."])


def test_a_teardown_may_be_the_first_to_look() -> None:
    store, found = Counted(), list[Any]()
    app = make(store=store)
    app.add_url_rule("/pub", view_func=lambda: "public")
    app.teardown_request(lambda error: found.append(session.get("value")))
    client = app.test_client()
    client.get("/set/1")
    seen = client.get("/pub")
    assert (found, store.told()[-1], "Vary" in seen.headers) == (["1", "1"], "load", False)


def test_blueprints_share_the_session() -> None:
    outer, inner = Blueprint("outer", __name__, url_prefix="/outer"), Blueprint("inner", __name__)

    @inner.before_request
    def count() -> None:
        session["n"] = session.get("n", 0) + 1

    inner.add_url_rule("/n", view_func=lambda: str(session["n"]))
    outer.register_blueprint(inner, url_prefix="/inner")
    app = make()
    app.register_blueprint(outer)
    client = app.test_client()
    assert [client.get("/outer/inner/n").text for _ in range(2)] == ["1", "2"]


def test_applications_side_by_side_have_each_their_own() -> None:
    both = DispatcherMiddleware(make(), {"/b": make({"SESSION_COOKIE_NAME": "b"})})
    client = Client(both)
    client.get("/set/a")
    client.get("/b/set/b")
    assert (client.get("/get").text, client.get("/b/get").text) == ("a", "b")


def test_a_session_transaction_with_a_domain_over_https() -> None:
    client = make({"SESSION_COOKIE_DOMAIN": "example.com"}).test_client()
    with client.session_transaction(base_url=SITE) as transaction:
        transaction["value"] = 1
    assert client.get("/get", base_url="https://shop.example.com").text == "1"
    assert client.get("/get").text == "None"


def test_a_thread_with_the_request_shares_its_session_until_the_response() -> None:
    app, gate, late = make(), threading.Event(), list[str]()

    @app.get("/threads")
    def threads() -> str:
        @copy_current_request_context
        def in_time() -> None:
            session["value"] = "from a thread"

        @copy_current_request_context
        def too_late() -> None:
            gate.wait(60)
            late.append(session["value"])
            try:
                session["value"] = "lost"
            except TooLate as error:
                late.append(str(error))

        first = threading.Thread(target=in_time)
        first.start()
        first.join()
        second = threading.Thread(target=too_late)
        second.start()
        app.extensions["thread"] = second
        return "ok"

    client = app.test_client()
    client.get("/threads")
    gate.set()
    app.extensions["thread"].join()
    assert late == [
        "from a thread",
        "the response has ended: this change would be lost; change the session before you return",
    ]
    assert client.get("/get").text == "from a thread"


def test_an_async_view_has_the_session() -> None:
    app = make()

    @app.get("/async")
    async def count() -> str:
        session["n"] = session.get("n", 0) + 1
        return str(session["n"])

    @app.before_request
    async def seen() -> None:
        session["path"] = request.path

    client = app.test_client()
    assert [client.get("/async").text for _ in range(3)] == ["1", "2", "3"]
    with client.session_transaction() as transaction:
        assert transaction["path"] == "/async"


@pytest.mark.parametrize("store", ["memory:", "sqlite:///{}/s.db"])
def test_flask_under_an_asgi_server(store: str, tmp_path: Any) -> None:
    app = make(store=store.format(tmp_path))

    @app.get("/stream")
    def stream() -> Response:
        session["value"] = "0"

        def body() -> Iterator[str]:
            for number in range(3):
                session["value"] = str(number)
                yield session["value"]

        return Response(stream_with_context(body()))

    client = TestClient(WsgiToAsgi(app))  # type: ignore[no-untyped-call]  # has no types
    assert client.get("/set/1").text == "set"
    assert client.get("/get").text == "1"
    assert (client.get("/stream").text, client.get("/get").text) == ("012", "2")
    app.extensions["coatcheck"].close()


# ------------------------------------------------------------------------------------------------------- bad input


def test_outside_a_request_flask_says_so() -> None:
    make()
    with pytest.raises(RuntimeError, match="outside of request context"):
        session["value"] = 1


def test_twice_is_once_too_often() -> None:
    app = make()
    with pytest.raises(ConfigurationError, match=r"CoatCheck\(app\) was called twice"):
        CoatCheck(app)


def test_another_extension_that_was_there_first_is_named(tmp_path: Any) -> None:
    app = Flask(__name__)
    app.config["SECRET_KEY"] = SECRET
    app.session_interface = SecureCookieSessionInterface()
    with pytest.raises(ConfigurationError, match=r"is flask\.sessions\.SecureCookieSessionInterface already"):
        CoatCheck(app)


def test_an_extension_that_was_installed_over_ours_is_named_at_the_first_request() -> None:
    from redis import Redis

    app = make({"SESSION_TYPE": "redis", "SESSION_REDIS": Redis(port=1), "TESTING": True})
    FlaskSessionExtension(app)
    app.add_url_rule("/pub", view_func=lambda: "public")
    with pytest.raises(ConfigurationError, match=r"replaced by flask_session\.redis.* remove one"):
        app.test_client().get("/pub")


def test_the_look_for_others_is_taken_once() -> None:
    app = make()
    app.before_request(lambda: None)
    assert len(app.before_request_funcs[None]) == 2
    app.test_client().get("/get")
    assert len(app.before_request_funcs[None]) == 1
