"""The WSGI middleware: everything PEP 3333 lets an application do with start_response and its body."""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest
from werkzeug.test import Client

from coatcheck import (
    ConfigurationError,
    CookieSettings,
    OutsideRequest,
    SessionTooLarge,
    StoreUnavailable,
    TooLate,
    UsageError,
)
from coatcheck.wsgi import SessionMiddleware, get_session
from tests.web.paths import SECRET
from tests.web.rig import Counted, Ears, Time

OLD_SECRET = "oJ5yR1uWq8ZbN3xT7cVfK9sLdM2gHpA4eXiU6wBnYtE"


class Asked:
    """One request to a WSGI application, as a server makes it, and what came of it."""

    def __init__(self, app: WSGIApplication, path: str = "/", **environ: Any) -> None:
        self.environ: WSGIEnvironment = {"SCRIPT_NAME": "", "PATH_INFO": path}
        self.environ |= {"HTTP_HOST": "localhost", "REMOTE_ADDR": "127.0.0.1", **environ}
        setup_testing_defaults(self.environ)
        self.events: list[str] = []
        self.status, self.headers, self.body = "", list[tuple[str, str]](), b""
        self._left = False
        self.iterable = app(self.environ, self._start_response)

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        if exc_info is not None and self._left:
            raise exc_info[1]
        assert exc_info is not None or not self.status
        self.status, self.headers = status, list(headers)
        self.events.append("start")
        return self._write

    def _write(self, data: bytes) -> None:
        self.events.append("write")
        self._left = self._left or bool(data)
        self.body += data

    def read(self, pieces: int | None = None) -> "Asked":
        """Take so many pieces (None: all), then close, as a server does."""
        try:
            for number, piece in enumerate(self.iterable, 1):
                assert self.status, "a body before start_response"
                self._write(piece)
                if number == pieces:
                    break
        finally:
            getattr(self.iterable, "close", lambda: None)()
        return self

    def all(self, name: str) -> list[str]:
        """The values of a header."""
        return [value for header, value in self.headers if header.lower() == name]

    @property
    def cookie(self) -> str:
        """The Cookie header of a browser after this response."""
        return "; ".join(line.partition(";")[0] for line in self.all("set-cookie") if "Max-Age=0" not in line)


def sessions(app: WSGIApplication, **options: Any) -> SessionMiddleware:
    return SessionMiddleware(app, **{"store": Counted(), "secret": SECRET, **options})


def told(middleware: SessionMiddleware) -> list[str]:
    """The commands that the middleware's store was sent since last asked."""
    store: Any = middleware.sessions._backend
    return store.told()


def ask(app: WSGIApplication, path: str = "/", cookie: str = "", **environ: Any) -> Asked:
    """A whole request, with this Cookie header."""
    return Asked(app, path, **({"HTTP_COOKIE": cookie} if cookie else {}), **environ).read()


def page(handle: Callable[[Any], object]) -> WSGIApplication:
    """An application that answers with what `handle` makes of the session."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        text = str(handle(environ["coatcheck.session"]))
        start_response("200 OK", [])
        return [text.encode()]

    return app


def count(session: Any) -> str:
    return str(session.increment("n"))


def look(session: Any) -> str:
    return str(session.get("n"))


# ---------------------------------------------------------------------------------------------------------- commands


def test_a_request_costs_as_many_commands_as_the_design_says() -> None:
    store = Counted()
    cookie = ask(sessions(page(count), store=store)).cookie
    assert store.told() == ["create"]
    ask(sessions(page(count), store=store), cookie=cookie)
    assert store.told() == ["load", "replace"]
    assert ask(sessions(page(look), store=store), cookie=cookie).body == b"2"
    assert store.told() == ["load"]
    untouched = ask(sessions(page(lambda session: "public"), store=store), cookie=cookie)
    assert (untouched.headers, store.told()) == ([], [])


def test_an_option_that_looks_at_every_session_loads_it_too() -> None:
    time, store = Time(), Counted()
    options = {"store": store, "rolling": True, "clock": time.clock, "cookie": CookieSettings(max_age=100)}
    cookie = ask(sessions(page(count), **options)).cookie
    time.now += 90
    seen = ask(sessions(page(lambda session: "public"), **options), cookie=cookie)
    assert (seen.cookie, seen.all("vary"), seen.all("cache-control")) == (cookie, ["Cookie"], ["no-store"])
    time.now += 90
    assert ask(sessions(page(look), **options), cookie=cookie).body == b"1"
    store.down = True
    assert ask(sessions(page(lambda session: "public"), **options), cookie=cookie).body == b"public"


def test_a_cookie_signed_with_an_older_secret_comes_back_under_the_newest() -> None:
    store = Counted()
    cookie = ask(sessions(page(count), store=store, secret=OLD_SECRET)).cookie
    again = ask(sessions(page(look), store=store, secret=[SECRET, OLD_SECRET]), cookie=cookie)
    assert (again.body, bool(again.cookie), again.cookie == cookie) == (b"1", True, False)
    assert ask(sessions(page(look), store=store), cookie=again.cookie).body == b"1"


# ------------------------------------------------------------------------------------------- start_response, and body


def test_it_keeps_to_pep_3333_towards_both_sides() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["coatcheck.session"].increment("n")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return iter([b"a", b"b"])

    middleware = sessions(validator(app))
    seen = Asked(validator(middleware), REQUEST_METHOD="GET", QUERY_STRING="").read()
    assert (seen.body, seen.all("content-type"), len(seen.all("set-cookie"))) == (b"ab", ["text/plain"], 1)


def test_the_session_is_saved_before_the_server_is_told_anything() -> None:
    store = Counted()
    seen: list[list[str]] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["coatcheck.session"].increment("n")
        assert store.told() == []
        start_response("200 OK", [])
        seen.append(store.told())
        return [b""]

    ask(sessions(app, store=store))
    assert seen == [["create"]]


def test_an_application_that_starts_late_is_committed_late() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        session = environ["coatcheck.session"]
        session.increment("n")
        start_response("200 OK", [])
        yield b"first "
        session.increment("n")
        yield b"second"

    store = Counted()
    middleware = sessions(app, store=store)
    request = Asked(middleware)
    assert (request.status, store.told()) == ("", [])
    seen = request.read()
    assert (seen.body, store.told()) == (b"first second", ["create", "replace"])
    assert ask(sessions(page(look), store=store), cookie=seen.cookie).body == b"2"


@pytest.mark.parametrize("pieces", [1, 2, None])
def test_what_a_body_changes_is_committed_once_at_its_end_or_when_it_is_closed(pieces: int | None) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        session = environ["coatcheck.session"]
        session["n"] = 0
        start_response("200 OK", [])

        def body() -> Iterator[bytes]:
            try:
                for _ in range(3):
                    session["n"] += 1
                    yield b"."
            finally:
                if pieces is not None:
                    session["n"] += 10

        return body()

    store = Counted()
    seen = Asked(sessions(app, store=store)).read(pieces)
    assert store.told() == ["create", "replace"]
    expected = 3 if pieces is None else pieces + 10
    assert ask(sessions(page(look), store=store), cookie=seen.cookie).body == str(expected).encode()


def test_after_the_end_of_the_body_a_change_raises() -> None:
    held: list[Any] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        held.append(environ["coatcheck.session"])
        held[-1]["n"] = 1
        start_response("200 OK", [])
        return [b""] if environ["PATH_INFO"] == "/list" else iter([b""])

    for path in ("/list", "/iterator"):
        ask(sessions(app), path)
        assert held[-1]["n"] == 1
        with pytest.raises(TooLate):
            held[-1]["n"] = 2


def test_data_changed_between_start_response_and_return_is_kept() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["coatcheck.session"]["n"] = 1
        start_response("200 OK", [])
        environ["coatcheck.session"]["n"] = 2
        return [b""]

    store = Counted()
    cookie = ask(sessions(app, store=store)).cookie
    assert ask(sessions(page(look), store=store), cookie=cookie).body == b"2"


def test_the_write_callable_works() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["coatcheck.session"]["n"] = 1
        write = start_response("200 OK", [])
        write(b"written ")
        environ["coatcheck.session"]["n"] = 2
        return [b"returned"]

    store = Counted()
    seen = ask(sessions(app, store=store))
    assert (seen.body, seen.events) == (b"written returned", ["start", "write", "write"])
    assert ask(sessions(page(look), store=store), cookie=seen.cookie).body == b"2"


def test_a_list_and_a_file_reach_the_server_as_they_are(tmp_path: Any) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"contents")
    made: list[Iterable[bytes]] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["coatcheck.session"]["n"] = 1
        start_response("200 OK", [])
        made.append(
            [b"list"] if environ["PATH_INFO"] == "/list" else environ["wsgi.file_wrapper"](file.open("rb"))
        )
        return made[-1]

    for path, body in (("/list", b"list"), ("/file", b"contents")):
        request = Asked(sessions(app), path, **{"wsgi.file_wrapper": FileWrapper})
        assert request.iterable is made[-1]
        assert (request.read().body, len(request.all("set-cookie"))) == (body, 1)


def test_a_body_is_closed_once_whatever_happens() -> None:
    closed: list[str] = []

    class Body:
        def __init__(self, fails: bool) -> None:
            self.fails = fails

        def __iter__(self) -> Iterator[bytes]:
            yield b"."
            if self.fails:
                raise ZeroDivisionError

        def close(self) -> None:
            closed.append("closed")

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        return Body(environ["PATH_INFO"] == "/fail")

    ask(sessions(app))
    with pytest.raises(ZeroDivisionError):
        ask(sessions(app), "/fail")
    assert closed == ["closed"] * 2


def test_an_error_page_by_exc_info_says_what_was_committed() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["coatcheck.session"]["n"] = 1
        start_response("200 OK", [])
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            start_response("500 Oops", [("Vary", "Accept")], sys.exc_info())
        return [b"oops"]

    store = Counted()
    seen = ask(sessions(app, store=store))
    assert (seen.status, seen.all("vary"), store.told()) == ("500 Oops", ["Accept, Cookie"], ["create"])
    assert ask(sessions(page(look), store=store), cookie=seen.cookie).body == b"1"


# ------------------------------------------------------------------------------------------------------------ errors


def test_a_failure_before_or_after_the_start_keeps_nothing_but_a_logout_from_before() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        session = environ["coatcheck.session"]
        session["n"] = "lost"
        if environ["PATH_INFO"] == "/logout":
            session.logout()
        if environ["PATH_INFO"] == "/late":
            session.update(n="kept")
            start_response("200 OK", [])
            session["n"] = "lost"
            yield b"."
        raise ZeroDivisionError

    store = Counted()
    reader = sessions(page(look), store=store)
    cookie = ask(sessions(page(count), store=store)).cookie
    for path, left in (("/", b"1"), ("/late", b"kept"), ("/logout", b"None")):
        with pytest.raises(ZeroDivisionError):
            ask(sessions(app, store=store), path, cookie)
        assert ask(reader, cookie=cookie).body == left


def test_an_outage_is_503_for_whoever_needs_the_session_and_told_once() -> None:
    store, ears = Counted(), Ears()
    middleware = sessions(page(count), store=store, on_event=ears)
    cookie = ask(middleware).cookie
    store.down = True
    ears.heard.clear()
    seen = ask(middleware, cookie=cookie)
    assert (seen.status, seen.all("retry-after"), seen.cookie) == ("503 Service Unavailable", ["5"], "")
    assert (ears.heard, store.told()[-1:]) == (["store.down"], ["load"])
    assert ask(sessions(page(lambda session: "public"), store=store), cookie=cookie).body == b"public"


def test_an_outage_met_by_a_late_starter_is_503_too() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        environ["coatcheck.session"].increment("n")
        start_response("200 OK", [])
        yield b"never"

    store = Counted()
    store.down = True
    seen = ask(sessions(app, store=store))
    assert (seen.status, b"cannot be reached" in seen.body, seen.cookie) == (
        "503 Service Unavailable",
        True,
        "",
    )


def test_an_outage_at_the_end_of_the_body_is_503_if_nothing_was_sent_and_raised_if_something_was() -> None:
    store = Counted()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        session = environ["coatcheck.session"]
        session["n"] = 1
        start_response("200 OK", [])
        session["n"] = 2
        store.down = True
        if environ["PATH_INFO"] == "/list":
            return [b"all"]
        return iter([b"sent"] if environ["PATH_INFO"] == "/sent" else [b""])

    for path in ("/list", "/nothing"):
        store.down = False
        seen = ask(sessions(app, store=store), path)
        assert (seen.status, bool(seen.cookie)) == (
            "503 Service Unavailable",
            True,
        )  # of what is stored, it is told
    store.down = False
    with pytest.raises(StoreUnavailable):
        ask(sessions(app, store=store), "/sent")


def test_a_conflict_is_409_where_it_is_asked_for() -> None:
    store = Counted()
    other = sessions(page(lambda session: session.update(n="theirs")), store=store)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["coatcheck.session"]["n"] = environ["PATH_INFO"]
        if environ["PATH_INFO"] == "/wait":
            ask(other, cookie=environ["HTTP_COOKIE"])
        start_response("200 OK", [])
        return [b""]

    strict = sessions(app, store=store, on_conflict="raise")
    cookie = ask(strict).cookie
    assert ask(strict, "/wait", cookie).status == "409 Conflict"
    assert ask(sessions(app, store=store), "/wait", cookie).status == "200 OK"


def test_an_error_page_is_not_met_by_the_same_error_again() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["coatcheck.session"]["big"] = "x" * 100
        try:
            start_response("200 OK", [])
        except SessionTooLarge:
            start_response("413 Too large", [], sys.exc_info())
        return [b""]

    middleware = sessions(app, max_size=50)
    assert (ask(middleware).status, told(middleware)) == ("413 Too large", [])


# ----------------------------------------------------------------------------------------------------- several, nested


def test_several_sessions_live_side_by_side() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        one, other = get_session(environ), get_session(environ, key="admin")
        one.increment("n")
        if environ["PATH_INFO"] == "/admin":
            other["n"] = "admin"
        text = f"{one.get('n')} {other.get('n')}"
        start_response("200 OK", [])
        return [text.encode()]

    both = sessions(sessions(app, environ_key="admin", name="admin"))
    first = ask(both, "/admin")
    assert sorted(line.partition("=")[0] for line in first.all("set-cookie")) == ["admin", "session"]
    second = ask(both, "/", first.cookie)
    assert (second.body, second.all("set-cookie"), second.all("vary")) == (b"2 admin", [], ["Cookie"])


def test_mounted_under_itself_it_is_one_session() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/deep":
            environ["SCRIPT_NAME"], environ["PATH_INFO"] = "/deep", "/"
            return middleware(environ, start_response)
        return page(count)(environ, start_response)

    middleware = sessions(app)
    first = ask(middleware, "/deep")
    assert len(first.all("set-cookie")) == 1
    assert ask(middleware, "/deep", first.cookie).body == b"2"


@pytest.mark.parametrize(
    ("path", "script", "inside"),
    [
        ("/caf%C3%A9", "", "/caf\xc3\xa9/menu"),
        ("/shop", "/shop", ""),
        ("/shop", "/shop", "/a"),
        ("/shop/", "", "/shop/a"),
    ],
)
def test_outside_its_path_there_is_no_session(path: str, script: str, inside: str) -> None:
    middleware = sessions(page(count), cookie=CookieSettings(path=path))
    cookie = ask(middleware, inside, SCRIPT_NAME=script).cookie
    assert ask(middleware, inside, cookie, SCRIPT_NAME=script).body == b"2"
    for outside in ("/", "/shopping", "/caf"):
        with pytest.raises(OutsideRequest, match="limited to path"):
            ask(middleware, outside, cookie)


@pytest.mark.parametrize(("unset", "after"), [("keep", b"1"), ("destroy", b"None")])
@pytest.mark.parametrize("how", ["none", "delete"])
def test_to_remove_the_session_means_what_unset_says(unset: str, after: bytes, how: str) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["coatcheck.session"]["n"] = 2
        if how == "none":
            environ["coatcheck.session"] = None
        else:
            del environ["coatcheck.session"]
        start_response("200 OK", [])
        return [b""]

    store = Counted()
    cookie = ask(sessions(page(count), store=store)).cookie
    seen = ask(sessions(app, store=store, unset=unset), cookie=cookie)
    assert (bool(seen.all("set-cookie")), seen.all("vary")) == (unset == "destroy", ["Cookie"])
    assert ask(sessions(page(look), store=store), cookie=cookie).body == after


def test_to_put_something_else_in_its_place_is_a_mistake() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["coatcheck.session"] = {}
        start_response("200 OK", [])
        return [b""]

    with pytest.raises(UsageError, match="replaced by a dict"):
        ask(sessions(app))


def test_outside_the_middleware_there_is_no_session() -> None:
    with pytest.raises(OutsideRequest, match="SessionMiddleware"):
        get_session({})


# ------------------------------------------------------------------------------------------------------- the channel


def test_forwarded_headers_count_from_trusted_peers_only() -> None:
    proxied = {"HTTP_HOST": "shop.example", "HTTP_X_FORWARDED_PROTO": "https", "REMOTE_ADDR": "10.0.0.7"}
    trusting = sessions(page(count), proxy="10.0.0.0/8")
    assert ask(trusting, **proxied).cookie.startswith("__Host-session=")
    assert ask(sessions(page(count)), **proxied).cookie == ""
    assert ask(trusting, **{**proxied, "REMOTE_ADDR": "192.0.2.1"}).cookie == ""
    direct = ask(sessions(page(count)), HTTP_HOST="shop.example", **{"wsgi.url_scheme": "https"})
    assert direct.all("set-cookie")[0].endswith("; Path=/; HttpOnly; Secure; SameSite=Lax")


def test_a_device_list_shows_the_network_a_login_came_from() -> None:
    store = Counted()
    middleware = sessions(page(lambda session: session.login("ada")), store=store, proxy="127.0.0.1")
    ask(middleware, HTTP_X_FORWARDED_FOR="evil, 203.0.113.77", HTTP_USER_AGENT="Fire\xe9fox")
    (device,) = middleware.sessions.of("ada").list()
    assert (device.address, device.user_agent) == ("203.0.113.0/24", "Fire\xe9fox")


def test_what_is_wrong_with_the_settings_is_said_when_the_application_starts() -> None:
    for options in ({"secret": None}, {"secret": "changeme"}, {"rollin": True}, {"store": "nosql://x"}):
        with pytest.raises(ConfigurationError):
            sessions(page(count), **options)


def test_a_cookie_that_has_come_before_is_known_and_a_forwarded_request_is_looked_at_anew() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        text = str(environ["coatcheck.session"].increment("n"))
        start_response("200 OK", [])
        return [text.encode()]

    middleware = SessionMiddleware(app, secret=SECRET, proxy=True)
    client = Client(middleware)
    https = {"base_url": "https://shop.example"}
    assert [client.get("/", **https).text for _ in range(3)] == ["1", "2", "3"]
    assert len(middleware.exchange.recent) == 1
    assert (
        client.get("/", headers={"X-Forwarded-Proto": "http"}, **https).text == "1"
    )  # no session over plain HTTP
    assert client.get("/", **https).text == "4"
