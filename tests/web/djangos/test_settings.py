"""What Django's settings mean to us, and what is refused at start-up: system checks, and the middleware itself."""

import sys
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.http import HttpResponse
from django.test import Client, RequestFactory, override_settings
from django.views.debug import get_default_exception_reporter_filter, get_exception_reporter_filter

from coatcheck import CookieSettings, Timeouts
from coatcheck.django import SessionMiddleware, sessions
from coatcheck.django import options as django_options
from coatcheck.django.checks import check
from coatcheck.django.engine import SessionStore
from coatcheck.django.home import current, forget
from coatcheck.stores.memory import MemoryStore
from coatcheck.stores.sqlalchemy import SQLAlchemyStore
from tests.web.apps import SECRET, DownStore
from tests.web.djangos.site import make_django
from tests.web.rig import Ears, Time
from tests.web.visitors import WsgiVisitor

OURS = "coatcheck.django.SessionMiddleware"
THEIRS = "django.contrib.sessions.middleware.SessionMiddleware"
AUTH = "django.contrib.auth.middleware.AuthenticationMiddleware"
MEMORY = {"STORE": "memory:"}


def ids() -> list[str]:
    """The ids of what is wrong."""
    return [problem.id or "" for problem in check()]


# ------------------------------------------------------------------------------------------------------------ checks


def test_this_project_has_only_its_memory_store_against_it() -> None:
    assert ids() == ["coatcheck.W003"]
    with override_settings(COATCHECK={"STORE": DownStore()}):
        assert ids() == []


def test_the_checks_are_run_with_djangos_own_and_the_admins_are_content() -> None:
    assert [problem.id for problem in run_checks()] == ["coatcheck.W003"]


@pytest.mark.parametrize(
    ("given", "problem", "says"),
    [
        (None, "E001", "COATCHECK is missing"),
        ([], "E001", "COATCHECK is missing"),
        ({}, "E001", 'COATCHECK["STORE"] is missing'),
        ({"STORE": ""}, "E001", 'COATCHECK["STORE"] is missing'),
        ({**MEMORY, "TIMEOUT": 3}, "E002", "timeouts"),
        ({**MEMORY, "MAX_AGE": 3}, "E002", "CookieSettings"),
        ({"store": "memory:"}, "E002", "STORE"),
        ({**MEMORY, "LAZY": "yes"}, "E002", "LAZY"),
        ({**MEMORY, "IDENTITY": "no.such.thing"}, "E002", "IDENTITY"),
        ({**MEMORY, "IDENTITY": object()}, "E002", "identity"),
        ({**MEMORY, "SECRET": "changeme", "INSECURE_DEV": False}, "E002", "secret"),
        ({"STORE": "gopher://localhost"}, "E002", "gopher"),
        ({"STORE": "redis://:hunter2@localhost:x"}, "E002", ""),
    ],
)
def test_what_is_wrong_with_the_options_is_said(given: Any, problem: str, says: str) -> None:
    with override_settings(COATCHECK=given):
        (found,) = check()
        assert found.id == f"coatcheck.{problem}"
        assert says in found.msg
        assert "hunter2" not in found.msg
        with pytest.raises(ImproperlyConfigured, match=f"coatcheck.{problem}"):
            SessionMiddleware(lambda request: HttpResponse())


@pytest.mark.parametrize(
    "words",
    [
        {"SECRET_KEY": "changeme"},
        {"SECRET_KEY": "django-insecure-" + SECRET},
        {"SECRET_KEY_FALLBACKS": ["dev"]},
        {"SECRET_KEY_FALLBACKS": SECRET},
        {"SESSION_COOKIE_AGE": 0},
        {"SESSION_COOKIE_AGE": "3600"},
        {"SESSION_COOKIE_AGE": 86_400_000},
        {"SESSION_COOKIE_NAME": "a b"},
        {"SESSION_COOKIE_SAMESITE": "Sometimes"},
        {"SESSION_COOKIE_PATH": "app"},
    ],
)
def test_what_is_wrong_with_djangos_own_settings_is_said_in_their_words(words: dict[str, Any]) -> None:
    with override_settings(**words):
        (found,) = check()
    assert found.id == "coatcheck.E002"
    assert next(iter(words)).removesuffix("_FALLBACKS").rpartition("_")[0] in found.msg
    assert "changeme" not in found.msg


@pytest.mark.parametrize(
    ("middleware", "problems"),
    [
        ([OURS, AUTH], []),
        ([AUTH, OURS], ["E004"]),
        (["django.contrib.messages.middleware.MessageMiddleware", OURS], ["E004"]),
        ([OURS, THEIRS, AUTH], ["E003"]),
        ([OURS, OURS, AUTH], ["E005"]),
        ([THEIRS, AUTH], ["W001"]),
        ([], ["W001"]),
        (["django.middleware.csrf.CsrfViewMiddleware", OURS], []),
    ],
)
def test_the_order_of_the_middleware(middleware: list[str], problems: list[str]) -> None:
    with override_settings(MIDDLEWARE=middleware, COATCHECK={"STORE": DownStore()}):
        assert ids() == [f"coatcheck.{problem}" for problem in problems]
        if any(problem.startswith("E") for problem in problems):
            with pytest.raises(ImproperlyConfigured, match=r"coatcheck\.E"):
                SessionMiddleware(lambda request: HttpResponse())


def test_csrf_tokens_in_the_session_need_it_first() -> None:
    middleware = ["django.middleware.csrf.CsrfViewMiddleware", OURS]
    with override_settings(MIDDLEWARE=middleware, CSRF_USE_SESSIONS=True, COATCHECK={"STORE": DownStore()}):
        assert ids() == ["coatcheck.E004"]


def test_the_middleware_without_the_engine() -> None:
    engine = "django.contrib.sessions.backends.db"
    with override_settings(SESSION_ENGINE=engine, COATCHECK={"STORE": DownStore()}):
        assert ids() == ["coatcheck.W002"]


def test_a_serializer_of_somebody_elses_is_refused() -> None:
    name = "django.core.serializers.pickle.PickleSerializer"
    with override_settings(SESSION_SERIALIZER=name, COATCHECK={"STORE": DownStore()}):
        (found,) = check()
    assert (found.id, "pickle" in found.msg) == ("coatcheck.E006", True)


def test_an_old_django_is_told_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(django, "VERSION", (4, 2, 11, "final", 0))
    problems = [problem for problem in check() if problem.id == "coatcheck.E007"]
    assert problems
    assert "5.2" in str(problems[0].hint)


def test_a_project_as_startproject_makes_it_runs_in_development(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(django_options, "_debug", True)
    with override_settings(SECRET_KEY="django-insecure-" + SECRET):
        assert ids() == []


# ---------------------------------------------------------------------------------------------------------- settings


def cookie_of(where: str = "http://localhost/", **words: Any) -> str:
    """The cookie that a server of this project sends."""
    with override_settings(**words):
        visitor = WsgiVisitor(make_django(MemoryStore()), where.rpartition("/")[0])
        return "".join(visitor.visit("/set?v=1").all("set-cookie"))


def test_djangos_defaults_do_not_weaken_the_cookie() -> None:
    secure = cookie_of("https://shop.example/")
    assert secure.startswith("__Host-session=")
    assert secure.endswith("; Path=/; HttpOnly; Secure; SameSite=Lax")
    assert cookie_of("http://shop.example/") == ""
    assert cookie_of().startswith("session=")


def test_what_is_set_in_djangos_words_is_done() -> None:
    words = {
        "SESSION_COOKIE_NAME": "sid", "SESSION_COOKIE_DOMAIN": "shop.example", "SESSION_COOKIE_HTTPONLY": False,
        "SESSION_COOKIE_SECURE": True, "SESSION_COOKIE_SAMESITE": "Strict", "SESSION_COOKIE_AGE": 3600,
    }  # fmt: skip
    cookie = cookie_of("https://shop.example/", **words)
    assert cookie.startswith("sid=")
    assert "; Max-Age=3600; Domain=shop.example; Path=/; Expires=" in cookie
    assert cookie.endswith("GMT; Secure; SameSite=Strict")


def test_packages_that_read_the_cookie_themselves_find_it_under_the_name_that_is_set() -> None:
    """As Channels does: `SessionStore(cookies[settings.SESSION_COOKIE_NAME])`."""
    store = MemoryStore()
    with override_settings(SESSION_COOKIE_NAME="mine", COATCHECK={"STORE": store}):
        visitor = WsgiVisitor(make_django(store))
        visitor.visit("/set?v=1")
        session: Any = SessionStore(visitor.cookies["mine"])
        assert session["k"] == "1"
        session["k"] = "2"
        session.save()
        assert visitor.visit("/read").text == "2"


def test_the_age_of_the_cookie_is_the_idle_timeout() -> None:
    with override_settings(SESSION_COOKIE_AGE=60 * 86_400):
        timeouts = current().options.timeouts
        assert (timeouts.idle, timeouts.absolute, timeouts.remember) == (60 * 86_400,) * 3
        assert SessionStore().get_expiry_age() == 60 * 86_400
    with override_settings(COATCHECK={**MEMORY, "TIMEOUTS": Timeouts(idle=60)}, SESSION_COOKIE_AGE=3600):
        assert SessionStore().get_expiry_age() == 60


def test_a_cookie_of_our_settings_comes_before_djangos() -> None:
    with override_settings(
        COATCHECK={**MEMORY, "COOKIE": CookieSettings(name="mine")}, SESSION_COOKIE_PATH="/x"
    ):
        assert current().exchange.settings == CookieSettings(name="mine")


def test_save_every_request_moves_the_end_and_sends_the_cookie() -> None:
    client = Client()
    with override_settings(SESSION_SAVE_EVERY_REQUEST=True):
        client.get("/scenario/set?v=1")
        assert "sessionid" in client.get("/scenario/pub").cookies
    assert "sessionid" not in client.get("/scenario/pub").cookies


def test_options_that_are_objects_may_be_named() -> None:
    ears = Ears()
    sys.modules["ears_of_the_test"] = type(sys)("ears_of_the_test")
    sys.modules["ears_of_the_test"].ears = ears  # type: ignore[attr-defined]  # a module for the test
    with override_settings(COATCHECK={**MEMORY, "ON_EVENT": "ears_of_the_test.ears"}):
        session: Any = SessionStore()
        session.login("ada")
        session.save()
    assert "login" in ears.heard
    heard: list[Any] = []
    with override_settings(COATCHECK={**MEMORY, "ON_EVENT": ["ears_of_the_test.ears", heard.append]}):
        session = SessionStore()
        session.login("ada")
        session.save()
    assert ears.heard.count("login") == 2
    assert "login" in [event.name for event in heard]


def test_behind_a_proxy_the_scheme_is_djangos() -> None:
    header = ("HTTP_X_FORWARDED_PROTO", "https")
    with override_settings(SECURE_PROXY_SSL_HEADER=header):
        visitor = WsgiVisitor(make_django(MemoryStore()), "http://shop.example")
        assert visitor.visit("/set?v=1", X_Forwarded_Proto="https").all("set-cookie")[0].startswith("__Host-")
        assert visitor.visit("/set?v=1", X_Forwarded_Proto="http").all("set-cookie") == []


def test_the_store_survives_a_changed_setting_that_is_not_about_it() -> None:
    session = SessionStore()
    session["k"] = 1
    session.save()
    with override_settings(SESSION_COOKIE_AGE=60):
        assert SessionStore(session.session_key).load() == {"k": 1}
    with override_settings(COATCHECK={"STORE": MemoryStore()}):
        assert SessionStore(session.session_key).load() == {}
    assert current().sessions.count() in (0, 1)


def test_migrate_makes_the_stores_tables(tmp_path: Path) -> None:
    store = SQLAlchemyStore.from_url(f"sqlalchemy+sqlite:///{tmp_path}/sessions.db")
    with override_settings(COATCHECK={"STORE": store}):
        call_command("migrate", run_syncdb=True, verbosity=0)
        assert sessions().count() == 0
    store.close()


def test_secrets_are_in_no_repr() -> None:
    session: Any = SessionStore()
    session["k"] = "private"
    session.save()
    secret = session.session_key.partition(".")[2]
    for thing in (session, current(), current().exchange, session._ticket, session._record):
        assert secret not in repr(thing)
        assert "private" not in repr(session)
    assert settings.SECRET_KEY not in repr(current().__dict__)


def test_error_reports_show_no_cookie_of_ours() -> None:
    reported: list[str] = []

    def report(request: Any) -> HttpResponse:
        filtered = get_exception_reporter_filter(request)
        reported.append(f"{filtered.get_safe_cookies(request)} {filtered.get_safe_request_meta(request)}")
        return HttpResponse()

    cookies = ("session=topsecret", "__Host-session=topsecret", "sessionid=topsecret", "theme=dark")
    request: Any = RequestFactory().get("/", headers={"Cookie": "; ".join(cookies)})
    SessionMiddleware(report)(request)
    assert "topsecret" not in reported[0]
    assert "'theme': 'dark'" in reported[0]
    with override_settings(DEFAULT_EXCEPTION_REPORTER_FILTER=f"{__name__}.Silent"):
        usual: Any = get_default_exception_reporter_filter
        usual.cache_clear()
        try:
            again: Any = RequestFactory().get("/")
            SessionMiddleware(lambda request: HttpResponse())(again)
            assert isinstance(again.exception_reporter_filter, Silent)
        finally:
            usual.cache_clear()


class Silent:
    """A filter of the project's own."""


def test_installed_twice_there_is_one_session_a_request() -> None:
    request: Any = RequestFactory().get("/")
    seen = []

    def view(request: Any) -> HttpResponse:
        request.session["k"] = 1
        seen.append(request.session)
        return HttpResponse()

    inner: Any = SessionMiddleware(view)
    response: Any = SessionMiddleware(inner)(request)
    assert seen == [request.session]
    assert "sessionid" in response.cookies


def test_time_comes_from_the_clock() -> None:
    time = Time()
    with override_settings(COATCHECK={**MEMORY, "CLOCK": time.clock}):
        session: Any = SessionStore()
        session["k"] = 1
        session.save()
        assert session.created_at.timestamp() == time.now


def test_a_project_without_users_has_logins_all_the_same() -> None:
    """Without django.contrib.auth there is no user model to ask: `session.login()` ended in ImproperlyConfigured."""
    apps = [app for app in settings.INSTALLED_APPS if app == "coatcheck.django"]
    with override_settings(INSTALLED_APPS=apps, AUTH_USER_MODEL="nowhere.Nobody"):
        forget()
        session = SessionStore()
        session.login("ada")
        session.save()
        assert (session.user_id, list(session.keys())) == ("ada", [])
    forget()
