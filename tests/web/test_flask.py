"""The Flask extension, through Flask's own client."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from wsgiref.util import FileWrapper

import pytest
from flask import (
    Flask,
    Response,
    abort,
    flash,
    get_flashed_messages,
    render_template_string,
    request,
    send_file,
    session,
    stream_with_context,
)
from flask.testing import FlaskClient

from coatcheck import (
    ConfigurationError,
    CookieSettings,
    SessionConflict,
    StoreUnavailable,
    Timeouts,
    TooLate,
    WeakSecret,
)
from coatcheck.flask import CoatCheck, get_session
from tests.web.paths import SECRET
from tests.web.rig import Counted, Ears, Time

OLD_SECRET = "oJ5yR1uWq8ZbN3xT7cVfK9sLdM2gHpA4eXiU6wBnYtE"


def make(config: dict[str, Any] | None = None, **options: Any) -> Flask:
    """An application that counts, with sessions; `config` goes on top of a good SECRET_KEY."""
    app = Flask(__name__)
    app.config.update({"SECRET_KEY": SECRET, **(config or {})})
    CoatCheck(app, **options)

    @app.get("/pub")
    def pub() -> str:
        return "public"

    @app.get("/")
    def count() -> str:
        session["n"] = session.get("n", 0) + 1
        return str(session["n"])

    @app.get("/read")
    def read() -> str:
        return str(session.get("n"))

    return app


def set_cookie(client: FlaskClient, path: str = "/", base_url: str = "http://localhost") -> str:
    """The one Set-Cookie of the response, or ""."""
    found = client.get(path, base_url=base_url).headers.getlist("Set-Cookie")
    assert len(found) < 2
    return found[0] if found else ""


# ---------------------------------------------------------------------------------------------------- configuration


def test_the_environment_is_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("FLASK_SECRET_KEY", SECRET)
    monkeypatch.setenv("FLASK_SESSION_STORE", f"sqlite:///{tmp_path}/sessions.db")
    first, second = Flask("first"), Flask("second")
    for app in (first, second):
        app.config.from_prefixed_env()
        CoatCheck().init_app(app)
        app.add_url_rule("/", view_func=lambda: str(session.increment("n")))  # type: ignore[attr-defined]  # ours has more
    browser = first.test_client()
    assert browser.get("/").text == "1"
    other = second.test_client()
    cookie = browser.get_cookie("session")
    assert cookie is not None
    other.set_cookie("session", cookie.value)
    assert other.get("/").text == "2"
    for app in (first, second):
        app.extensions["coatcheck"].close()


@pytest.mark.parametrize("key", [None, "", "dev", "changeme", 12345])
def test_a_weak_key_is_refused_by_the_name_it_has_in_flask(key: Any) -> None:
    with pytest.raises(ConfigurationError, match="SECRET_KEY"):
        make({"SECRET_KEY": key})
    with pytest.raises(WeakSecret, match="SECRET_KEY_FALLBACKS"):
        make({"SECRET_KEY_FALLBACKS": ["dev"]})


def test_a_weak_key_will_do_on_a_developers_machine_who_says_so() -> None:
    assert make({"SECRET_KEY": "dev"}, insecure_dev=True).test_client().get("/").text == "1"


def test_the_first_key_signs_and_the_fallbacks_verify() -> None:
    store = Counted()
    old = make({"SECRET_KEY": OLD_SECRET}, store=store).test_client()
    old.get("/")
    cookie = old.get_cookie("session")
    assert cookie is not None
    both = make({"SECRET_KEY_FALLBACKS": [OLD_SECRET]}, store=store).test_client()
    both.set_cookie("session", cookie.value)
    assert both.get("/read").text == "1"
    signed_anew = both.get_cookie("session")
    assert signed_anew is not None
    assert signed_anew.value != cookie.value
    newest = make(store=store).test_client()
    newest.set_cookie("session", signed_anew.value)
    assert newest.get("/read").text == "1"


def test_fallbacks_are_a_list() -> None:
    with pytest.raises(ConfigurationError, match="SECRET_KEY_FALLBACKS"):
        make({"SECRET_KEY_FALLBACKS": OLD_SECRET})


def test_flasks_defaults_do_not_weaken_the_cookie() -> None:
    client = make().test_client()
    secure = set_cookie(client, base_url="https://shop.example")
    assert secure.startswith("__Host-session=")
    assert secure.endswith("; Path=/; HttpOnly; Secure; SameSite=Lax")
    assert set_cookie(client, base_url="http://shop.example") == ""
    assert set_cookie(client).startswith("session=")


def test_what_is_set_in_flasks_words_is_done() -> None:
    words = {
        "SESSION_COOKIE_NAME": "sid", "SESSION_COOKIE_DOMAIN": "example.com", "SESSION_COOKIE_PATH": "/app",
        "SESSION_COOKIE_HTTPONLY": False, "SESSION_COOKIE_SECURE": True, "SESSION_COOKIE_SAMESITE": "Strict",
        "SESSION_COOKIE_PARTITIONED": True,
    }  # fmt: skip
    app = make(words)
    app.add_url_rule("/app/count", view_func=app.view_functions["count"])
    cookie = set_cookie(app.test_client(), "/app/count", "https://www.example.com")
    assert cookie.partition("; ")[2] == "Domain=example.com; Path=/app; Secure; Partitioned; SameSite=Strict"
    assert cookie.startswith("sid=")


def test_the_application_root_is_the_path() -> None:
    app = make({"APPLICATION_ROOT": "/shop"})
    cookie = app.test_client().get("/", base_url="https://localhost/shop").headers["Set-Cookie"]
    assert cookie.startswith("__Secure-session=")
    assert "; Path=/shop;" in cookie


def test_what_is_given_in_code_counts_more_than_the_configuration() -> None:
    cookie = CookieSettings(name="mine")
    client = make({"SESSION_COOKIE_NAME": "theirs"}, cookie=cookie, secret=OLD_SECRET).test_client()
    assert set_cookie(client).startswith("mine=")


@pytest.mark.parametrize(
    "words",
    [
        {"SESSION_COOKIE_SAMESITE": "sometimes"},
        {"SESSION_COOKIE_NAME": "__Host-x", "SESSION_COOKIE_PATH": "/a"},
    ],
)
def test_a_contradiction_is_said_when_the_application_starts(words: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="SESSION_COOKIE_"):
        make(words)
    with pytest.raises(ConfigurationError, match="did you mean 'rolling'"):
        make(rollin=True)


# ---------------------------------------------------------------------------------------------- flask.session, as always


def test_a_request_costs_as_many_commands_as_the_design_says() -> None:
    store = Counted()
    client = make(store=store).test_client()
    client.get("/pub")
    assert store.told() == []
    client.get("/")
    assert store.told() == ["create"]
    client.get("/")
    assert store.told() == ["load", "replace"]
    client.get("/read")
    assert store.told() == ["load"]
    untouched = client.get("/pub")
    assert (store.told(), "Vary" in untouched.headers, "Cache-Control" in untouched.headers) == (
        [],
        False,
        False,
    )


def test_the_words_of_a_flask_session() -> None:
    app = make()
    said: list[tuple[bool, ...]] = []

    @app.get("/words")
    def words() -> str:
        said.append((session.new, session.modified, session.permanent))
        session["list"] = [*session.get("list", []), 1]
        session["list"].append(2)
        said.append((session.new, session.modified, session.accessed))
        return str(session["list"])

    client = app.test_client()
    assert [client.get("/words").text for _ in range(2)] == ["[1, 2]", "[1, 2, 1, 2]"]
    assert said == [(True, False, False), (True, True, True), (False, False, False), (False, True, True)]


def test_a_permanent_session_outlives_the_browser_and_is_sent_again_as_it_lives_on() -> None:
    time = Time()
    config = {"PERMANENT_SESSION_LIFETIME": timedelta(days=2)}
    app = make(config, clock=time.clock, store=Counted())

    @app.get("/keep")
    def keep() -> str:
        session.permanent = True
        session.setdefault("n", 7)
        return str(session.permanent)

    client = app.test_client()
    assert "Max-Age=172800;" in set_cookie(client, "/keep")
    assert set_cookie(client, "/keep") == ""
    for _ in range(3):
        time.now += 86_400
        assert "Max-Age=172800;" in set_cookie(client, "/read")
        assert client.get("/keep").text == "True"
    time.now += 2 * 86_400 + 1
    assert client.get("/read").text == "None"


def test_a_permanent_session_is_not_sent_again_where_the_configuration_says_so() -> None:
    time = Time()
    app = make({"SESSION_REFRESH_EACH_REQUEST": False}, clock=time.clock)

    @app.get("/keep/<int:on>")
    def keep(on: int) -> str:
        session.permanent = bool(on)
        session["n"] = on
        return ""

    client = app.test_client()
    assert "Max-Age=2592000;" in set_cookie(client, "/keep/1")  # Flask's 31 days, within our absolute 30
    time.now += 3_600
    assert set_cookie(client, "/read") == ""
    assert "Max-Age" not in set_cookie(client, "/keep/0")


@pytest.mark.parametrize("permanent", [False, True])
def test_to_say_on_every_request_how_long_it_lasts_costs_no_write(permanent: bool) -> None:
    store = Counted()
    app = make(store=store)

    @app.before_request
    def always() -> None:
        if request.path == "/read":
            session.permanent = permanent

    client = app.test_client()
    client.get("/")
    told = []
    for _ in range(2):
        store.told()
        assert client.get("/read").text == "1"
        told.append(store.told())
    assert told == [["load", "replace"] if permanent else ["load"], ["load"]]


def test_a_lifetime_that_is_set_is_everybodys_idle_timeout() -> None:
    time = Time()
    client = make({"PERMANENT_SESSION_LIFETIME": 600}, clock=time.clock).test_client()
    client.get("/")
    time.now += 599
    assert client.get("/read").text == "1"
    time.now += 601
    assert client.get("/read").text == "None"
    with pytest.raises(ConfigurationError, match="PERMANENT_SESSION_LIFETIME"):
        make({"PERMANENT_SESSION_LIFETIME": 0})
    assert (
        make({"PERMANENT_SESSION_LIFETIME": 0}, timeouts=Timeouts(idle=60)).test_client().get("/").text == "1"
    )


def test_flask_shows_its_flash_messages_once() -> None:
    app = make()

    @app.get("/flash")
    def leave() -> str:
        flash("Saved", "success")
        flash("Twice")
        return ""

    @app.get("/flashed")
    def show() -> str:
        return render_template_string(
            "{{ get_flashed_messages(with_categories=True) }}", now=get_flashed_messages
        )

    client = app.test_client()
    client.get("/flash")
    pages = [client.get("/flashed").text for _ in range(2)]
    assert pages == ["[(&#39;success&#39;, &#39;Saved&#39;), (&#39;message&#39;, &#39;Twice&#39;)]", "[]"]


def test_a_session_transaction_of_the_test_client_works() -> None:
    client = make().test_client()
    with client.session_transaction() as transaction:
        transaction["n"] = 41
    assert client.get("/").text == "42"
    with client.session_transaction() as transaction:
        assert transaction["n"] == 42
        transaction.login("ada")  # type: ignore[attr-defined]  # ours has more
    with client.session_transaction() as transaction:
        assert (transaction.user_id, transaction["n"]) == ("ada", 42)  # type: ignore[attr-defined]


def test_the_session_is_where_wsgi_code_looks_for_it_too() -> None:
    app = make()

    @app.get("/environ")
    def environ() -> str:
        get_session(request.environ)["n"] = 5
        return str(session["n"])

    assert app.test_client().get("/environ").text == "5"


def test_two_extensions_of_one_object_serve_two_applications() -> None:
    coatcheck = CoatCheck()
    clients = []
    for key in (SECRET, OLD_SECRET):
        app = Flask("app")
        app.config["SECRET_KEY"] = key
        coatcheck.init_app(app)
        app.add_url_rule("/", view_func=lambda: str(session.increment("n")))  # type: ignore[attr-defined]
        clients.append(app.test_client())
    assert [client.get("/").text for client in clients] == ["1", "1"]


# ------------------------------------------------------------------------------------------------------------ errors


def test_an_outage_is_503_for_whoever_needs_the_session_and_told_once() -> None:
    store, ears = Counted(), Ears()
    client = make(store=store, on_event=ears).test_client()
    client.get("/")
    store.down = True
    ears.heard.clear()
    seen = client.get("/")
    assert (seen.status_code, seen.headers["Retry-After"], seen.headers["Cache-Control"]) == (
        503,
        "5",
        "no-store",
    )
    assert ("Set-Cookie" in seen.headers, ears.heard) == (False, ["store.down"])
    assert client.get("/pub").text == "public"


def test_an_outage_at_commit_is_503_and_can_be_said_in_your_words() -> None:
    store = Counted()
    store.down = True
    assert make(store=store).test_client().get("/").status_code == 503
    app = make(store=store)

    @app.errorhandler(StoreUnavailable)
    def sorry(error: StoreUnavailable) -> tuple[str, int]:
        return "we are sorry", 503

    seen = app.test_client().get("/")
    assert (seen.status_code, seen.text, "Set-Cookie" in seen.headers) == (503, "we are sorry", False)


def test_a_body_that_is_not_sent_because_of_an_outage_is_closed() -> None:
    store, closed = Counted(), []

    class Body(list[str]):
        def close(self) -> None:
            closed.append("closed")

    app = make(store=store)

    @app.get("/closing")
    def closing() -> Response:
        session["n"] = 1
        return Response(Body(["never"]))

    store.down = True
    seen = app.test_client().get("/closing")
    assert (seen.status_code, "never" in seen.text) == (503, False)
    seen.close()
    assert closed == ["closed"]


def test_a_handler_that_was_there_first_stays() -> None:
    app = Flask("app")
    app.config["SECRET_KEY"] = SECRET
    app.register_error_handler(StoreUnavailable, lambda error: ("mine", 503))
    store = Counted()
    store.down = True
    CoatCheck(app, store=store)
    app.add_url_rule("/", view_func=lambda: str(session.increment("n")))  # type: ignore[attr-defined]
    assert app.test_client().get("/").text == "mine"


@pytest.mark.parametrize("own_words", [False, True])
@pytest.mark.parametrize("how", ["at the end", "by save()"])
def test_a_conflict_is_409_where_it_is_asked_for(how: str, own_words: bool) -> None:
    store = Counted()
    app = make(store=store, on_conflict="raise")
    if own_words:
        app.register_error_handler(SessionConflict, lambda error: (", ".join(error.keys), 409))
    other = make(store=store).test_client()

    @app.get("/wait")
    def wait() -> str:
        session["n"] = 10
        other.get("/")
        if how == "by save()":
            session.save()  # type: ignore[attr-defined]
        return ""

    client = app.test_client()
    client.get("/")
    cookie = client.get_cookie("session")
    assert cookie is not None
    other.set_cookie("session", cookie.value)
    seen = client.get("/wait")
    assert (seen.status_code, seen.text == "n") == (409, own_words)
    assert client.get("/read").text == "2"


@pytest.mark.parametrize("testing", [False, True])
def test_of_a_request_that_fails_only_a_logout_is_kept(testing: bool) -> None:
    app = make({"TESTING": testing})

    @app.get("/fail/<how>")
    def fail(how: str) -> str:
        session["n"] = "lost"
        if how == "logout":
            session.logout()  # type: ignore[attr-defined]
        raise ZeroDivisionError

    def visit(path: str) -> None:
        if testing:  # Flask then raises on, and never gives the session back
            with pytest.raises(ZeroDivisionError):
                client.get(path)
        else:
            assert client.get(path).status_code == 500

    client = app.test_client()
    client.get("/")
    visit("/fail/simply")
    assert client.get("/read").text == "1"
    cookie = client.get_cookie("session")
    assert cookie is not None
    visit("/fail/logout")
    thief = app.test_client()
    thief.set_cookie("session", cookie.value)
    assert thief.get("/read").text == "None"
    assert (client.get_cookie("session") is None) is not testing


def test_an_error_page_may_use_the_session() -> None:
    app = make()

    @app.errorhandler(500)
    def sorry(error: Exception) -> tuple[str, int]:
        session["shown"] = session.get("shown", 0) + 1
        return f"sorry, you were at {session['n']}", 500

    @app.get("/fail")
    def fail() -> str:
        raise ZeroDivisionError

    @app.get("/missing")
    def missing() -> str:
        session["n"] = "looked for it"
        abort(404)

    client = app.test_client()
    client.get("/")
    assert client.get("/fail").text == "sorry, you were at 1"
    assert client.get("/missing").status_code == 404
    assert client.get("/read").text == "looked for it"  # that was an answer, not a failure


# ----------------------------------------------------------------------------------------------------------- streams


def test_a_stream_keeps_what_it_changes() -> None:
    app = make()
    late: list[str] = []

    @app.get("/stream")
    def stream() -> Response:
        session["n"] = 0

        def body() -> Iterator[str]:
            for _ in range(3):
                session["n"] += 1
                yield str(session["n"])
            with pytest.raises(TooLate):
                session.login("ada")  # type: ignore[attr-defined]
            late.append("too late")

        return Response(stream_with_context(body()))

    client = app.test_client()
    seen = client.get("/stream")
    assert (seen.text, late, client.get("/read").text) == ("123", ["too late"], "3")


def test_a_stream_that_nobody_reads_to_its_end_keeps_what_it_changed() -> None:
    app, closed = make(), []

    @app.get("/stream")
    def stream() -> Response:
        session["n"] = 0

        def body() -> Iterator[str]:
            while True:
                session["n"] += 1
                yield "."

        response = Response(stream_with_context(body()))
        response.call_on_close(lambda: closed.append("closed"))
        return response

    client = app.test_client()
    seen = client.get("/stream", buffered=False)
    assert [next(seen.response) for _ in range(2)] == [b".", b"."]  # type: ignore[call-overload]
    seen.close()
    assert (client.get("/read").text, closed) == ("2", ["closed"])
    assert client.head("/stream").status_code == 200
    assert client.get("/read").text == "0"


def test_a_stream_that_fails_keeps_what_it_had_before() -> None:
    app = make()

    @app.get("/stream")
    def stream() -> Response:
        session["n"] = "before"

        def body() -> Iterator[str]:
            yield "."
            session["n"] = "after"
            raise ZeroDivisionError

        return Response(stream_with_context(body()))

    client = app.test_client()
    seen = client.get("/stream")
    with pytest.raises(ZeroDivisionError):
        seen.get_data()
    assert client.get("/read").text == "before"


def test_a_file_is_sent_as_a_file(tmp_path: Any) -> None:
    file = tmp_path / "file.txt"
    file.write_text("contents")
    app = make()

    @app.get("/file")
    def download() -> Response:
        session["n"] = "downloaded"
        return send_file(file)

    client = app.test_client()
    seen = client.get("/file")
    assert (seen.data, seen.headers["Cache-Control"]) == (b"contents", "no-store")
    seen.close()
    assert client.get("/read").text == "downloaded"
    environ = {
        **client.application.test_request_context("/file").request.environ,
        "wsgi.file_wrapper": FileWrapper,
    }
    body = app.wsgi_app(environ, lambda status, headers, exc_info=None: lambda data: None)
    assert isinstance(body, FileWrapper)  # a server then sends the file without Python
    body.close()
